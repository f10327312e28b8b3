//! The two labels that every object in a tenant's namespaces carries, set inside the API server.
//!
//! The peer asks a hook about every write of a tenant for this. A MutatingAdmissionPolicy does it without a call, and
//! without us: `capsule.clastix.io/managed-by` and `projectcapsule.dev/tenant` get the tenant that the namespace's label
//! names, whatever the author wrote there. A mark must never stop an object, so what fails is let through without it.
//!
//! Clusters before 1.36 do not serve the kind; there the labels are missing, but on what the operator keeps.

use k8s_openapi::api::admissionregistration::v1::{
    JSONPatch, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};

use std::collections::BTreeMap;

use api::capsule::names;

use crate::configurations::{CREATED_BY, TENANT_LABEL, cel_string, selector};
use crate::rule::Requirement;

/// Name of the policy and of its binding for most kinds.
pub const TENANT_LABELS: &str = "cotenant-tenant-labels";
const TENANT_LABELS_OF_KEPT_KINDS: &str = "cotenant-tenant-labels-of-kept-kinds";

/// What the operator keeps in tenants' namespaces: group and plural. It carries both labels from the start, and a mutation
/// costs the API server as much as the rest of such a write.
const KEPT: [(&str, &[&str]); 4] = [
    ("", &["limitranges", "resourcequotas"]),
    ("networking.k8s.io", &["networkpolicies"]),
    ("rbac.authorization.k8s.io", &["rolebindings"]),
    ("capsule.clastix.io", &["rulestatuses"]),
];

/// What carries neither label: reports that nobody selects, and ledgers, where the operator writes a mark of its own into one
/// of them.
const UNMARKED: [(&str, &[&str]); 3] = [
    ("", &["events"]),
    ("events.k8s.io", &["events"]),
    ("capsule.clastix.io", &["quantityledgers"]),
];

/// The policy, with its bindings: one for what the operator keeps, without what is marked as kept, and one for all else. A
/// tenant cannot mark anything so: [`crate::policies`] refuses it, and what Kubernetes' own controllers make from tenants'
/// templates is of other kinds.
///
/// There are no match conditions: the API server would convert the object and the request for them, once before the
/// mutation and once more after it. Selectors cost next to nothing.
pub fn policy(owner: Option<&OwnerReference>) -> (MutatingAdmissionPolicy, Vec<MutatingAdmissionPolicyBinding>) {
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(CREATED_BY.0.to_owned(), CREATED_BY.1.to_owned())])),
        owner_references: owner.cloned().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let spec = MutatingAdmissionPolicySpec {
        failure_policy: Some("Ignore".to_owned()),
        match_constraints: Some(MatchResources {
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(selector(&[Requirement::Exists(TENANT_LABEL)])),
            object_selector: Some(LabelSelector::default()),
            resource_rules: Some(vec![written("*", &["*"])]),
            exclude_resource_rules: Some(rules(&UNMARKED)),
        }),
        mutations: Some(vec![Mutation {
            patch_type: "JSONPatch".to_owned(),
            json_patch: Some(JSONPatch {
                expression: Some(patches()),
            }),
            apply_configuration: None,
        }]),
        // Others that run after us would have to change these two labels for a second pass to matter.
        reinvocation_policy: Some("Never".to_owned()),
        ..MutatingAdmissionPolicySpec::default()
    };
    let binding = |name: &str, resources: MatchResources| MutatingAdmissionPolicyBinding {
        metadata: metadata(name),
        spec: Some(MutatingAdmissionPolicyBindingSpec {
            policy_name: Some(TENANT_LABELS.to_owned()),
            match_resources: Some(MatchResources {
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(LabelSelector::default()),
                ..resources
            }),
            ..MutatingAdmissionPolicyBindingSpec::default()
        }),
    };
    let bindings = vec![
        binding(
            TENANT_LABELS,
            MatchResources {
                object_selector: Some(LabelSelector::default()),
                resource_rules: Some(vec![written("*", &["*"])]),
                exclude_resource_rules: Some(rules(&KEPT)),
                ..MatchResources::default()
            },
        ),
        binding(
            TENANT_LABELS_OF_KEPT_KINDS,
            MatchResources {
                object_selector: Some(LabelSelector {
                    match_expressions: Some(vec![LabelSelectorRequirement {
                        key: names::MANAGED_BY_LABEL.to_owned(),
                        operator: "NotIn".to_owned(),
                        values: Some(vec![names::MANAGED_BY_CONTROLLER.to_owned()]),
                    }]),
                    match_labels: None,
                }),
                resource_rules: Some(rules(&KEPT)),
                ..MatchResources::default()
            },
        ),
    ];
    let policy = MutatingAdmissionPolicy {
        metadata: metadata(TENANT_LABELS),
        spec: Some(spec),
    };
    (policy, bindings)
}

fn rules(resources: &[(&str, &[&str])]) -> Vec<NamedRuleWithOperations> {
    let rules = resources.iter();
    rules.map(|(group, plurals)| written(group, plurals)).collect()
}

/// Creates and updates of these.
fn written(group: &str, plurals: &[&str]) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec!["*".to_owned()]),
        operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
        resources: Some(plurals.iter().map(|&plural| plural.to_owned()).collect()),
        scope: Some("Namespaced".to_owned()),
        resource_names: None,
    }
}

/// CEL: both labels with the tenant's name. An object that is matched is taken apart and put together again even if nothing
/// changes, so nothing is asked first. A configuration to merge would cost the same, and leave out objects that do not
/// fit their published schema.
fn patches() -> String {
    let tenant = format!("namespaceObject.metadata.labels[{}]", cel_string(TENANT_LABEL));
    let keys = [names::MANAGED_BY_TENANT, names::PROJECT_TENANT_LABEL];
    let both = keys.map(|key| format!("{}: {tenant}", cel_string(key))).join(", ");
    let each = keys.map(|key| {
        let path = format!("/metadata/labels/{}", key.replace('/', "~1"));
        format!("JSONPatch{{op: \"add\", path: {}, value: {tenant}}}", cel_string(&path))
    });
    format!(
        "has(object.metadata.labels) ? [{}] : [JSONPatch{{op: \"add\", path: \"/metadata/labels\", value: {{{both}}}}}]",
        each.join(", ")
    )
}
