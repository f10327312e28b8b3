//! Labels and annotations of objects: which have to be there, which values they may have, and which are set for tenants.

use std::collections::BTreeMap;

use api::capsule::{
    names,
    v1beta2::{MetadataRule, MetadataValueRule, RuleAction},
};

use super::{
    admission::ObjectType,
    body::DEFAULT_API_GROUP,
    compiled::{Applicable, Held},
    evaluate::evaluate,
    finding::{Findings, Set, Subject},
    matching::{Answer, Expression, KeySelector, glob_matches},
    reach,
};
use crate::{denial::Denial, pattern::Cache, pods};

const LABEL: Set = Set {
    name: "metadata label",
    allowed: "Allowed label values",
    reason: "ForbiddenMetadata",
};
const ANNOTATION: Set = Set {
    name: "metadata annotation",
    allowed: "Allowed annotation values",
    reason: "ForbiddenMetadata",
};

/// The kind that has to be named in full: a rule about everything in a namespace is not about the namespace.
const NAMESPACE_KIND: &str = "Namespace";
/// Value of [`names::MANAGED_BY_LABEL`]: a copy that is kept for a TenantResource, as older versions wrote it.
const MANAGED_BY_RESOURCES: &str = "resources";

/// Keys that the operator, its peer or the cluster keep: rules are not about them.
const KEPT_KEYS: &[&str] = &[
    names::TENANT_LABEL,
    names::PROJECT_TENANT_LABEL,
    names::MANAGED_BY_TENANT,
    names::MANAGED_BY_LABEL,
    names::CREATED_BY_LABEL,
    names::CORDONED_LABEL,
    names::CUSTOM_RESOURCES_LABEL,
    names::OBJECT_NAME_LABEL,
    "projectcapsule.dev/resource-origin",
    "projectcapsule.dev/freeze",
    "projectcapsule.dev/pool",
    "projectcapsule.dev/global-resource-quota",
    "projectcapsule.dev/rule-quota",
    names::NETWORK_POLICY_LABEL,
    names::LIMIT_RANGE_LABEL,
    names::RESOURCE_QUOTA_LABEL,
    names::ROLE_BINDING_LABEL,
    "capsule.clastix.io/resources",
    names::OWNER_PROMOTION_LABEL,
    names::PROMOTION_LABEL,
    names::NAME_LABEL,
    "projectcapsule.dev/aggregate-to-controller",
    "projectcapsule.dev/aggregate-to-controller-instance",
    "projectcapsule.dev/release",
    names::RECONCILE_ANNOTATION,
    names::INGRESS_CLASSES_ANNOTATION,
    names::INGRESS_CLASSES_REGEXP_ANNOTATION,
    names::STORAGE_CLASSES_ANNOTATION,
    names::STORAGE_CLASSES_REGEXP_ANNOTATION,
    names::REGISTRIES_ANNOTATION,
    names::REGISTRIES_REGEXP_ANNOTATION,
    names::FORBIDDEN_LABELS_ANNOTATION,
    names::FORBIDDEN_LABELS_REGEXP_ANNOTATION,
    names::FORBIDDEN_ANNOTATIONS_ANNOTATION,
    names::FORBIDDEN_ANNOTATIONS_REGEXP_ANNOTATION,
    "capsule.clastix.io/protected",
    names::ADMISSION_STATE_ANNOTATION,
    "audit.projectcapsule.dev/request-uid",
    "audit.projectcapsule.dev/username",
    "audit.projectcapsule.dev/rule-set",
    "audit.projectcapsule.dev/rule-action",
    names::NODE_SELECTOR_ANNOTATION,
    pods::VALIDATION_LABEL,
    pods::DEFAULTS_LABEL,
    reach::OBJECT_VALIDATION_LABEL,
    reach::OBJECT_DEFAULTS_LABEL,
];
const KEPT_PREFIXES: &[&str] = &[
    names::OBJECT_QUOTA_ANNOTATION_PREFIX,
    names::OBJECT_USED_ANNOTATION_PREFIX,
    names::QUOTA_HARD_ANNOTATION_PREFIX,
    names::QUOTA_USED_ANNOTATION_PREFIX,
];

type Map = BTreeMap<String, String>;

/// Labels and annotations of the object that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata<'a> {
    pub(super) labels: &'a Map,
    pub(super) annotations: &'a Map,
}

/// What has to be set on an object. Empty if it is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) labels: Map,
    pub(super) annotations: Map,
}

/// One metadata policy of a rule.
#[derive(Clone, Debug)]
pub(super) struct MetadataPolicy {
    kinds: Vec<Box<str>>,
    api_groups: Vec<Box<str>>,
    labels: Vec<KeyPolicy>,
    annotations: Vec<KeyPolicy>,
}

#[derive(Clone, Debug)]
struct KeyPolicy {
    selector: KeySelector,
    required: bool,
    values: Vec<Expression>,
    default: Option<Box<str>>,
    managed: Option<Box<str>>,
}

impl MetadataPolicy {
    pub(super) fn new(source: &MetadataRule, patterns: &mut Cache) -> Self {
        let boxed = |list: &[String]| list.iter().map(|item| item.as_str().into()).collect::<Vec<Box<str>>>();
        let api_groups = match source.api_groups.as_slice() {
            [] => vec![DEFAULT_API_GROUP.into()],
            groups => boxed(groups),
        };
        let mut keys = |map: &BTreeMap<String, MetadataValueRule>| {
            let policies = map.iter().map(|(key, rule)| KeyPolicy {
                selector: KeySelector::new(key, patterns),
                required: rule.required,
                values: rule
                    .values
                    .iter()
                    .map(|value| Expression::of(value, patterns))
                    .collect(),
                default: rule.default.as_deref().map(Into::into),
                managed: rule.managed.as_deref().map(Into::into),
            });
            policies.collect::<Vec<_>>()
        };
        Self {
            labels: keys(&source.labels),
            annotations: keys(&source.annotations),
            kinds: boxed(&source.kinds),
            api_groups,
        }
    }

    /// Whether it is about objects of this type.
    fn is_about(&self, object: &ObjectType<'_>) -> bool {
        let is_namespace = object.kind == NAMESPACE_KIND && object.group.is_empty();
        let kind = |kind: &str| {
            if is_namespace {
                kind == NAMESPACE_KIND
            } else {
                glob_matches(kind, object.kind)
            }
        };
        self.kinds.iter().any(|pattern| kind(pattern))
            && self.api_groups.iter().any(|pattern| is_group(pattern, object))
    }
}

/// Compares with the group alone, unless the pattern speaks of a version.
pub(super) fn is_group(pattern: &str, object: &ObjectType<'_>) -> bool {
    if !pattern.contains('/') && pattern != "v1" {
        return glob_matches(pattern, object.group);
    }
    if object.group.is_empty() {
        glob_matches(pattern, object.version)
    } else {
        glob_matches(pattern, &format!("{}/{}", object.group, object.version))
    }
}

pub(super) fn is_kept(key: &str) -> bool {
    KEPT_KEYS.contains(&key) || KEPT_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether the object is one that is kept for the tenant, and so not the tenant's to label. `keeper` says whether the
/// requester keeps such objects: anybody could write `resources` on theirs, while `controller` is guarded by its own rule
/// in namespaces.
pub(super) fn is_kept_object(labels: &Map, keeper: bool) -> bool {
    match labels.get(names::MANAGED_BY_LABEL).map(String::as_str) {
        Some(names::MANAGED_BY_CONTROLLER) => true,
        Some(MANAGED_BY_RESOURCES) => keeper,
        _ => false,
    }
}

/// One of the two maps of an object.
#[derive(Clone, Copy)]
struct Family {
    set: &'static Set,
    /// Name of the map in `metadata`.
    field: &'static str,
    policies: fn(&MetadataPolicy) -> &[KeyPolicy],
}

const LABELS: Family = Family {
    set: &LABEL,
    field: "labels",
    policies: |policy| &policy.labels,
};
const ANNOTATIONS: Family = Family {
    set: &ANNOTATION,
    field: "annotations",
    policies: |policy| &policy.annotations,
};

/// The policies about one family of an object, in order.
fn policies<'r>(rules: &Applicable<'r>, object: &ObjectType<'_>, family: Family) -> Vec<(Held<'r>, &'r KeyPolicy)> {
    let blocks = rules.blocks.iter();
    let found = blocks.flat_map(|held| held.block.metadata.iter().map(|policy| (*held, policy)));
    let found = found.filter(|(_, policy)| policy.is_about(object));
    found
        .flat_map(|(held, policy)| (family.policies)(policy).iter().map(move |policy| (held, policy)))
        .collect()
}

/// Refuses labels and annotations that the rules do not allow, and, where these are all that the object has, the lack of those
/// that they require.
pub(super) fn validate(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    object: &ObjectType<'_>,
    metadata: Metadata<'_>,
    are_all: bool,
) -> Result<(), Denial> {
    for (family, map) in [(LABELS, metadata.labels), (ANNOTATIONS, metadata.annotations)] {
        let policies = policies(rules, object, family);
        if policies.is_empty() {
            continue;
        }
        if are_all {
            check_required(findings, rules, &policies, family, map)?;
        }
        check_values(findings, rules, &policies, family, map)?;
    }
    Ok(())
}

fn check_required(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    policies: &[(Held<'_>, &KeyPolicy)],
    family: Family,
    map: &Map,
) -> Result<(), Denial> {
    for (held, policy) in policies {
        let key = policy.selector.source();
        if !policy.required || held.block.action != RuleAction::Allow || is_kept(key) || is_present(policy, map) {
            continue;
        }
        let path = format_args!("metadata.{}[{key:?}]", family.field);
        let subject = Subject::at(family.set, key, &path);
        let message = format!(
            "{} {key:?} is required at {path}: set it; {}",
            family.set.name,
            rules.set_by(&[held.block.index])
        );
        findings.refuse(&subject, message)?;
    }
    Ok(())
}

fn is_present(policy: &KeyPolicy, map: &Map) -> bool {
    match &policy.selector {
        KeySelector::Literal(key) => map.contains_key(&**key),
        selector @ KeySelector::Pattern(..) => map.keys().any(|key| selector.answer(key) == Answer::Yes),
    }
}

fn check_values<'r>(
    findings: &mut Findings,
    rules: &Applicable<'r>,
    policies: &[(Held<'r>, &'r KeyPolicy)],
    family: Family,
    map: &Map,
) -> Result<(), Denial> {
    for (key, value) in map {
        if value.is_empty() || is_kept(key) {
            continue;
        }
        let lists = policies.iter().filter_map(|(held, policy)| {
            // A selector that cannot be evaluated may mean any key: it restricts all and frees none.
            let is_clear = match policy.selector.answer(key) {
                Answer::No => return None,
                Answer::Yes => held.is_clear,
                Answer::Unknown(_) => false,
            };
            let held = Held { is_clear, ..*held };
            (!policy.values.is_empty()).then_some((held, policy.values.as_slice()))
        });
        let path = format_args!("metadata.{}[{key:?}]", family.field);
        let subject = Subject::at(family.set, value, &path);
        evaluate(findings, rules, &subject, value.as_str(), lists)?;
    }
    Ok(())
}

/// What the rules set on an object: managed values always, defaults where the key is absent. Of several rules about a key
/// the last one counts.
pub(super) fn settle(rules: &Applicable<'_>, object: &ObjectType<'_>, metadata: Metadata<'_>) -> Settled {
    Settled {
        labels: settle_family(rules, object, LABELS, metadata.labels),
        annotations: settle_family(rules, object, ANNOTATIONS, metadata.annotations),
    }
}

fn settle_family(rules: &Applicable<'_>, object: &ObjectType<'_>, family: Family, map: &Map) -> Map {
    let wanted = wanted(rules, object, family, map).into_iter();
    wanted.map(|(key, (value, _))| (key, value)).collect()
}

/// The values that are to be set, each with the rule that says so.
fn wanted(
    rules: &Applicable<'_>,
    object: &ObjectType<'_>,
    family: Family,
    map: &Map,
) -> BTreeMap<String, (String, usize)> {
    let (mut wanted, mut managed) = (BTreeMap::new(), BTreeMap::new());
    for (held, policy) in policies(rules, object, family) {
        let KeySelector::Literal(key) = &policy.selector else {
            continue;
        };
        if !held.is_clear || is_kept(key) {
            continue;
        }
        if let Some(value) = policy.default.as_deref().filter(|_| !map.contains_key(&**key)) {
            wanted.insert(key.as_ref().to_owned(), (value.to_owned(), held.block.index));
        }
        if let Some(value) = &policy.managed {
            managed.insert(key.as_ref().to_owned(), (value.as_ref().to_owned(), held.block.index));
        }
    }
    wanted.extend(managed);
    wanted.retain(|key, (value, _)| map.get(key) != Some(value));
    wanted
}

/// Refuses a change of what the rules set, for requests that nothing is put back in.
pub(super) fn check_settled(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    object: &ObjectType<'_>,
    now: Metadata<'_>,
    before: Metadata<'_>,
) -> Result<(), Denial> {
    for (family, now, before) in [
        (LABELS, now.labels, before.labels),
        (ANNOTATIONS, now.annotations, before.annotations),
    ] {
        for (key, (value, index)) in wanted(rules, object, family, now) {
            if now.get(&key) == before.get(&key) {
                continue;
            }
            let path = format_args!("metadata.{}[{key:?}]", family.field);
            let subject = Subject::at(family.set, &value, &path);
            let message = format!(
                "{} {key:?} is kept at {value:?} at {path}: leave it as it is; {}",
                family.set.name,
                rules.set_by(&[index])
            );
            findings.refuse(&subject, message)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixtures::{POD, SERVICE, mutate_json, refusal, refused, rules, validate_json};
    use rstest::rstest;
    use serde_json::{Value, json};

    const DEPLOYMENT: ObjectType<'static> = ObjectType {
        group: "apps",
        version: "v1",
        kind: "Deployment",
    };
    const NAMESPACE: ObjectType<'static> = ObjectType {
        kind: "Namespace",
        ..POD
    };

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn labelled(labels: Value) -> Value {
        json!({"metadata": {"name": "x", "labels": labels}})
    }

    fn policy(action: &str, labels: Value) -> Value {
        json!({"action": action, "metadata": [{"kinds": ["Pod"], "labels": labels}]})
    }

    #[rstest]
    #[case::core_by_default(json!({"kinds": ["Pod"]}), POD, true)]
    #[case::another_kind(json!({"kinds": ["Pod"]}), SERVICE, false)]
    #[case::not_in_the_core(json!({"kinds": ["Deployment"]}), DEPLOYMENT, false)]
    #[case::by_group(json!({"kinds": ["Deployment"], "apiGroups": ["apps"]}), DEPLOYMENT, true)]
    #[case::by_group_and_version(json!({"kinds": ["Deployment"], "apiGroups": ["apps/v1"]}), DEPLOYMENT, true)]
    #[case::by_another_version(json!({"kinds": ["Deployment"], "apiGroups": ["apps/v2"]}), DEPLOYMENT, false)]
    #[case::by_any_version(json!({"kinds": ["Deployment"], "apiGroups": ["apps/*"]}), DEPLOYMENT, true)]
    #[case::the_core_is_v1(json!({"kinds": ["Pod"], "apiGroups": ["v1"]}), POD, true)]
    #[case::v1_is_the_core(json!({"kinds": ["Deployment"], "apiGroups": ["v1"]}), DEPLOYMENT, false)]
    #[case::any_group(json!({"kinds": ["Deployment"], "apiGroups": ["*"]}), DEPLOYMENT, true)]
    #[case::any_group_has_the_core(json!({"kinds": ["Pod"], "apiGroups": ["*"]}), POD, true)]
    #[case::globs(json!({"kinds": ["Dep*ment"], "apiGroups": ["a*s"]}), DEPLOYMENT, true)]
    #[case::any_kind(json!({"kinds": ["*"]}), SERVICE, true)]
    #[case::a_namespace_by_its_name(json!({"kinds": ["Namespace"]}), NAMESPACE, true)]
    #[case::a_namespace_is_not_any_kind(json!({"kinds": ["*"]}), NAMESPACE, false)]
    #[case::a_namespace_is_not_a_glob(json!({"kinds": ["Name*"], "apiGroups": ["*"]}), NAMESPACE, false)]
    fn a_policy_is_about(#[case] target: Value, #[case] object: ObjectType<'_>, #[case] expected: bool) {
        let mut policy = target;
        policy["labels"] = json!({"env": {"values": [{"exact": ["bad"]}]}});
        let outcome = validate_json(
            &rules(json!([{"metadata": [policy]}])),
            object,
            &labelled(json!({"env": "bad"})),
        );
        assert_eq!(!outcome.is_allowed(), expected);
    }

    const ENV: Option<&str> = Some("metadata.labels[\"env\"]");

    #[rstest]
    #[case::an_allowed_value(json!([policy("allow", json!({"env": {"values": [{"exact": ["prod"]}]}}))]), json!({"env": "prod"}), None)]
    #[case::another_value(json!([policy("allow", json!({"env": {"values": [{"exact": ["prod"]}]}}))]), json!({"env": "test"}), ENV)]
    #[case::an_empty_value(json!([policy("allow", json!({"env": {"values": [{"exact": ["prod"]}]}}))]), json!({"env": ""}), None)]
    #[case::an_absent_key(json!([policy("allow", json!({"env": {"values": [{"exact": ["prod"]}]}}))]), json!({}), None)]
    #[case::another_key(json!([policy("allow", json!({"env": {"values": [{"exact": ["prod"]}]}}))]), json!({"team": "x"}), None)]
    #[case::a_denied_value(json!([policy("deny", json!({"e*": {"values": [{"exp": "^t"}]}}))]), json!({"env": "test"}), ENV)]
    #[case::all_policies_for_a_key(
        json!([policy("allow", json!({"*": {"values": [{"exp": "."}]}})), policy("deny", json!({"env": {"values": [{"exact": ["test"]}]}}))]),
        json!({"env": "test"}),
        ENV
    )]
    #[case::a_later_policy_for_a_key(
        json!([policy("deny", json!({"*": {"values": [{"exp": "."}]}})), policy("allow", json!({"env": {"values": [{"exact": ["test"]}]}}))]),
        json!({"env": "test"}),
        None
    )]
    #[case::required_and_absent(json!([policy("allow", json!({"env": {"required": true}}))]), json!({}), ENV)]
    #[case::required_and_empty(json!([policy("allow", json!({"env": {"required": true}}))]), json!({"env": ""}), None)]
    #[case::required_by_a_deny_rule(json!([policy("deny", json!({"env": {"required": true}}))]), json!({}), None)]
    #[case::required_by_an_audit_rule(json!([policy("audit", json!({"env": {"required": true}}))]), json!({}), None)]
    #[case::required_by_a_pattern(json!([policy("allow", json!({"(env|stage)": {"required": true}}))]), json!({"stage": "a"}), None)]
    #[case::required_by_a_pattern_and_absent(json!([policy("allow", json!({"e*": {"required": true}}))]), json!({}), Some("metadata.labels[\"e*\"]"))]
    #[case::a_kept_key(json!([policy("allow", json!({"*": {"values": [{"exact": ["x"]}]}}))]), json!({"capsule.clastix.io/tenant": "oil"}), None)]
    #[case::a_key_that_cannot_be_evaluated(json!([policy("deny", json!({"(": {"values": [{"exact": ["x"]}]}}))]), json!({"env": "x"}), ENV)]
    #[case::nor_opened(json!([policy("deny", json!({"*": {"values": [{"exp": "."}]}})), policy("allow", json!({"(": {"values": [{"exp": "."}]}}))]), json!({"env": "x"}), ENV)]
    fn labels_are_held_to(#[case] list: Value, #[case] labels: Value, #[case] expected: Option<&str>) {
        assert_eq!(refused(&validate_json(&rules(list), POD, &labelled(labels))), expected);
    }

    #[test]
    fn annotations_are_held_to_the_same() {
        let list = json!([{"action": "allow", "metadata": [{"kinds": ["Pod"], "annotations": {"note": {"required": true}, "a/*": {"values": [{"exact": ["x"]}]}}}]}]);
        let outcome = validate_json(
            &rules(list.clone()),
            POD,
            &json!({"metadata": {"labels": {"note": "x"}}}),
        );
        assert_eq!(
            refusal(&outcome),
            Some((
                "metadata.annotations[\"note\"]",
                "metadata annotation \"note\" is required at metadata.annotations[\"note\"]: set it; an administrator set \
                 this with spec.rules[0] of the Tenant \"oil\""
            ))
        );
        let object = json!({"metadata": {"annotations": {"note": "", "a/b": "y"}}});
        assert_eq!(
            refused(&validate_json(&rules(list), POD, &object)),
            Some("metadata.annotations[\"a/b\"]")
        );
    }

    #[rstest]
    #[case::kept_by_the_operator("controller", "alice", true)]
    #[case::a_tenant_says_so("resources", "alice", false)]
    #[case::an_administrator_says_so("resources", "root", true)]
    #[case::something_else("me", "root", false)]
    fn objects_that_are_kept_for_the_tenant_are_not_looked_at(
        #[case] managed_by: &str,
        #[case] user: &str,
        #[case] passes: bool,
    ) {
        use crate::rules::{admission, fixtures};
        let rules = rules(json!([policy("allow", json!({"env": {"required": true}}))]));
        let object = labelled(json!({"projectcapsule.dev/managed-by": managed_by}));
        let metadata = fixtures::metadata(&object);
        let outcome = fixtures::as_user(user, |requester| {
            let request = fixtures::create(requester, POD, fixtures::other(&metadata, &object));
            admission::validate(&rules, &request)
        });
        assert_eq!(outcome.is_allowed(), passes);
    }

    #[rstest]
    #[case::a_default_where_the_key_is_absent(json!([policy("allow", json!({"env": {"default": "dev"}}))]), json!({}), &[("env", "dev")])]
    #[case::no_default_where_it_is_there(json!([policy("allow", json!({"env": {"default": "dev"}}))]), json!({"env": ""}), &[])]
    #[case::managed_where_it_is_absent(json!([policy("deny", json!({"env": {"managed": "prod"}}))]), json!({}), &[("env", "prod")])]
    #[case::managed_where_it_is_there(json!([policy("audit", json!({"env": {"managed": "prod"}}))]), json!({"env": "dev"}), &[("env", "prod")])]
    #[case::nothing_to_do(json!([policy("allow", json!({"env": {"managed": "prod"}}))]), json!({"env": "prod"}), &[])]
    #[case::managed_beats_default(json!([policy("allow", json!({"env": {"managed": "prod"}})), policy("allow", json!({"env": {"default": "dev"}}))]), json!({}), &[("env", "prod")])]
    #[case::the_last_default(json!([policy("allow", json!({"env": {"default": "a"}})), policy("allow", json!({"env": {"default": "b"}}))]), json!({}), &[("env", "b")])]
    #[case::the_last_managed(json!([policy("allow", json!({"env": {"managed": "a"}})), policy("allow", json!({"env": {"managed": "b"}}))]), json!({"env": "a"}), &[("env", "b")])]
    #[case::not_for_patterns(json!([policy("allow", json!({"e*": {"managed": "a", "default": "b"}}))]), json!({"env": "x"}), &[])]
    #[case::not_for_kept_keys(json!([policy("allow", json!({"capsule.clastix.io/tenant": {"managed": "gas"}}))]), json!({}), &[])]
    fn defaults_and_managed_values_are_set(
        #[case] list: Value,
        #[case] labels: Value,
        #[case] expected: &[(&str, &str)],
    ) {
        let edits = mutate_json(&rules(list), POD, &labelled(labels));
        assert_eq!(edits.labels, map(expected));
        assert!(edits.annotations.is_empty());
    }

    #[test]
    fn annotations_are_set_too_and_what_is_set_passes() {
        let list = json!([{"action": "allow", "metadata": [{"kinds": ["Namespace"],
            "labels": {"env": {"required": true, "default": "dev", "values": [{"exact": ["dev"]}]}},
            "annotations": {"note": {"managed": "a b"}},
        }]}]);
        let namespace = json!({"metadata": {"name": "oil-one"}});
        let edits = mutate_json(&rules(list.clone()), NAMESPACE, &namespace);
        assert_eq!(edits.annotations, map(&[("note", "a b")]));
        assert!(!validate_json(&rules(list.clone()), NAMESPACE, &namespace).is_allowed());
        let settled = json!({"metadata": {"labels": edits.labels, "annotations": edits.annotations}});
        assert!(validate_json(&rules(list.clone()), NAMESPACE, &settled).is_allowed());
        assert!(mutate_json(&rules(list), NAMESPACE, &settled).is_empty());
    }
}
