//! Labels and annotations that rules keep on what is in a namespace already. On what is created or changed, admission sets them.
//!
//! Here nobody asks for anything, so of rules that look at somebody's requests only those count that look at the
//! operator's, as admission of its own writes would have it.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::v1beta2::{AudienceKind, Metadata, MetadataRule, MetadataValueRule, RuleBody};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    admission::ObjectType,
    body::Body,
    matching::is_literal_key,
    metadata::{is_group, is_kept, is_kept_object},
};

/// Rules that are not carried out to the end yet and that are remembered beside those that hold. More would be made by somebody who
/// changes them without end while a kind cannot be written; labels of the oldest are left then.
const MOST_LEFT: usize = 64;

/// Kinds of object as a rule names them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `v1` for the core group, a group, or group and version.
    pub api_group: String,
    /// Such as `Deployment`.
    pub kind: String,
}

/// The field manager of what a RuleStatus keeps, by the peer's formula.
pub fn field_manager(namespace: &str, name: &str, uid: &str) -> String {
    let digest = Sha256::digest(format!("{namespace}/{name}/{uid}"));
    let hex = digest[..8]
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("projectcapsule.dev/rulestatus-{hex}")
}

/// The kinds whose objects carry something.
pub fn targets(bodies: &[Body]) -> BTreeSet<Target> {
    let policies = policies(bodies).filter(|policy| keeps_anything(policy));
    let pairs = policies.flat_map(|policy| {
        let groups = policy.api_groups.iter();
        groups.flat_map(|group| policy.kinds.iter().map(move |kind| (group, kind)))
    });
    pairs
        .filter(|(group, kind)| !group.contains('*') && !kind.contains('*'))
        .map(|(group, kind)| Target {
            api_group: group.clone(),
            kind: kind.clone(),
        })
        .collect()
}

/// What objects of this type carry. Of several rules about a key the last one counts.
pub fn of(bodies: &[Body], object: &ObjectType<'_>) -> Metadata {
    let mut kept = Metadata::default();
    for policy in policies(bodies) {
        let is_about = policy.kinds.iter().any(|kind| kind == object.kind)
            && policy
                .api_groups
                .iter()
                .any(|group| !group.contains('*') && is_group(group, object));
        if is_about {
            kept.labels.extend(values(&policy.labels));
            kept.annotations.extend(values(&policy.annotations));
        }
    }
    kept
}

/// The merge patch of this very object that makes it carry what is wanted, and no more what was kept before and is not wanted. `None`
/// if nothing differs, and for what is kept for the tenant itself or goes away.
///
/// A value that is neither what was kept nor written by `manager` is somebody's own: the rule never came that far.
pub fn patch(found: &ObjectMeta, manager: &str, before: &Metadata, wanted: &Metadata) -> Option<Value> {
    let none = BTreeMap::new();
    let labels = found.labels.as_ref().unwrap_or(&none);
    if found.deletion_timestamp.is_some() || is_kept_object(labels, false) {
        return None;
    }
    let is_owned = |field: &str, key: &str| {
        let entries = found.managed_fields.iter().flatten();
        let mut ours = entries.filter(|entry| entry.manager.as_deref() == Some(manager));
        ours.any(|entry| {
            let fields = entry.fields_v1.as_ref();
            let fields = fields.and_then(|fields| fields.0.pointer(&format!("/f:metadata/f:{field}")));
            fields.is_some_and(|fields| fields.get(format!("f:{key}")).is_some())
        })
    };
    let mut metadata = Map::new();
    let annotations = found.annotations.as_ref().unwrap_or(&none);
    for (field, found, before, wanted) in [
        ("labels", labels, &before.labels, &wanted.labels),
        ("annotations", annotations, &before.annotations, &wanted.annotations),
    ] {
        let set = wanted.iter().filter(|(key, value)| found.get(*key) != Some(*value));
        let set = set.map(|(key, value)| (key.clone(), json!(value)));
        let is_kept = |key: &String, value: &String| found.get(key) == Some(value) || is_owned(field, key);
        let dropped = before
            .iter()
            .filter(|(key, value)| !wanted.contains_key(*key) && is_kept(key, value))
            .map(|(key, _)| key);
        let changes: Map<_, _> = set.chain(dropped.map(|key| (key.clone(), Value::Null))).collect();
        if !changes.is_empty() {
            metadata.insert(field.to_owned(), Value::Object(changes));
        }
    }
    if metadata.is_empty() {
        return None;
    }
    metadata.insert("uid".to_owned(), json!(found.uid));
    Some(json!({"metadata": metadata}))
}

/// Of the rules that held before, what may still be on objects and the rules of now do not speak of.
pub fn left(before: &[Body], now: &[Body]) -> Vec<RuleBody> {
    let left = policies(before).filter_map(|policy| {
        let of_now = || policies(now).filter(|it| it.kinds == policy.kinds && it.api_groups == policy.api_groups);
        let remaining = |map: &Rules, of: fn(&MetadataRule) -> &Rules| -> Rules {
            let is_known =
                |key: &str| of_now().any(|policy| of(policy).get(key).is_some_and(|rule| rule.managed.is_some()));
            let remaining = values(map).filter(|(key, _)| !is_known(key));
            let rule = |value| MetadataValueRule {
                managed: Some(value),
                ..MetadataValueRule::default()
            };
            remaining.map(|(key, value)| (key, rule(value))).collect()
        };
        let rest = MetadataRule {
            labels: remaining(&policy.labels, |policy| &policy.labels),
            annotations: remaining(&policy.annotations, |policy| &policy.annotations),
            ..policy.clone()
        };
        keeps_anything(&rest).then_some(rest)
    });
    let mut left: Vec<RuleBody> = left
        .map(|policy| {
            let mut body = RuleBody::default();
            body.enforce.get_or_insert_default().metadata.push(policy);
            body
        })
        .collect();
    left.split_off(left.len().saturating_sub(MOST_LEFT))
}

type Rules = BTreeMap<String, MetadataValueRule>;

/// Of the rules that look at nobody in particular, or at the operator.
fn policies(bodies: &[Body]) -> impl Iterator<Item = &MetadataRule> {
    let looks_at_us = |body: &&Body| {
        let mut audience = body.audience.iter();
        body.audience.is_empty() || audience.any(|it| it.kind == AudienceKind::Custom && it.name == "Controller")
    };
    bodies
        .iter()
        .filter(looks_at_us)
        .flat_map(|body| &body.enforce.metadata)
}

fn keeps_anything(policy: &MetadataRule) -> bool {
    values(&policy.labels)
        .chain(values(&policy.annotations))
        .next()
        .is_some()
}

/// Keys and the values that are kept.
fn values(rules: &Rules) -> impl Iterator<Item = (String, String)> {
    let literal = rules.iter().filter(|(key, _)| is_literal_key(key) && !is_kept(key));
    literal.filter_map(|(key, rule)| Some((key.clone(), rule.managed.clone()?)))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use crate::rules::{body::of_status, fixtures::POD};
    use rstest::rstest;

    const DEPLOYMENT: ObjectType<'static> = ObjectType {
        group: "apps",
        version: "v1",
        kind: "Deployment",
    };

    fn bodies(rules: Value) -> Vec<Body> {
        of_status(&serde_json::from_value::<Vec<RuleBody>>(rules).unwrap())
    }

    fn rule(metadata: Value) -> Value {
        json!({"enforce": {"metadata": [metadata]}})
    }

    fn pods(labels: Value) -> Value {
        rule(json!({"kinds": ["Pod"], "labels": labels}))
    }

    #[test]
    fn the_field_manager_is_the_peers() {
        // printf %s oil-one/capsule-managed-rules/1234 | sha256sum | head -c 16
        assert_eq!(
            field_manager("oil-one", "capsule-managed-rules", "1234"),
            "projectcapsule.dev/rulestatus-8b97812b196ebeb0"
        );
    }

    #[test]
    fn kinds_are_those_of_rules_that_keep_something_for_everybody() {
        let found = targets(&bodies(json!([
            pods(json!({"a": {"managed": "1"}})),
            rule(json!({"kinds": ["Deployment", "StatefulSet"], "apiGroups": ["apps"], "annotations": {"a": {"managed": "1"}}})),
            rule(json!({"kinds": ["Job"], "apiGroups": ["batch/v1"], "labels": {"a": {"default": "1"}}})),
            rule(json!({"kinds": ["*"], "labels": {"a": {"managed": "1"}}})),
            {"audience": [{"kind": "User", "name": "alice"}],
             "enforce": {"metadata": [{"kinds": ["Secret"], "labels": {"a": {"managed": "1"}}}]}},
            {"audience": [{"kind": "Custom", "name": "Controller"}],
             "enforce": {"metadata": [{"kinds": ["ConfigMap"], "labels": {"a": {"managed": "1"}}}]}},
        ])));
        let words: Vec<String> = found.iter().map(|it| format!("{} {}", it.api_group, it.kind)).collect();
        assert_eq!(words, ["apps Deployment", "apps StatefulSet", "v1 ConfigMap", "v1 Pod"]);
    }

    #[test]
    fn the_last_rule_about_a_key_counts_and_keys_of_the_operator_do_not() {
        let rules = bodies(json!([
            pods(json!({"a": {"managed": "1"}, "b": {"managed": "1"}, "c": {"default": "1"}})),
            pods(
                json!({"a": {"managed": "2"}, "capsule.clastix.io/tenant": {"managed": "gas"}, "x*": {"managed": "1"}})
            ),
        ]));
        assert_eq!(json!(of(&rules, &POD)), json!({"labels": {"a": "2", "b": "1"}}));
        assert_eq!(of(&rules, &DEPLOYMENT), Metadata::default());
    }

    #[rstest]
    #[case::is_set(json!({}), json!({}), json!({"a": "1"}), json!({"a": "1"}))]
    #[case::is_put_right(json!({"a": "0", "b": "0"}), json!({}), json!({"a": "1"}), json!({"a": "1"}))]
    #[case::stays(json!({"a": "1"}), json!({"a": "0"}), json!({"a": "1"}), Value::Null)]
    #[case::goes(json!({"a": "1", "b": "0"}), json!({"a": "1"}), json!({}), json!({"a": null}))]
    #[case::of_somebodys_own_stays(json!({"a": "mine"}), json!({"a": "1"}), json!({}), Value::Null)]
    #[case::that_our_manager_wrote_goes(json!({"ours": "0"}), json!({"ours": "1"}), json!({}), json!({"ours": null}))]
    #[case::is_gone(json!({"b": "0"}), json!({"a": "1"}), json!({}), Value::Null)]
    #[case::of_the_operators_objects_stays(
        json!({"projectcapsule.dev/managed-by": "controller", "a": "0"}), json!({}), json!({"a": "1"}), Value::Null
    )]
    fn a_label(#[case] found: Value, #[case] before: Value, #[case] wanted: Value, #[case] expected: Value) {
        let metadata = |labels: Value| serde_json::from_value::<Metadata>(json!({"labels": labels})).unwrap();
        let found: ObjectMeta = serde_json::from_value(json!({"uid": "u", "labels": found, "managedFields": [
            {"manager": "us", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:ours": {}}}}}]}))
        .unwrap();
        let patch = patch(&found, "us", &metadata(before), &metadata(wanted.clone()));
        let whole = json!({"metadata": {"uid": "u", "labels": expected}});
        assert_eq!(patch, (!expected.is_null()).then_some(whole));
        // What was patched is not patched again.
        let mut after = json!(found);
        json_patch::merge(&mut after, &patch.map_or(json!({}), |patch| patch["metadata"].clone()));
        let after: ObjectMeta = serde_json::from_value(after).unwrap();
        assert_eq!(
            super::patch(&after, "us", &Metadata::default(), &metadata(wanted)),
            None
        );
    }

    #[test]
    fn what_goes_away_is_left_alone() {
        let found = serde_json::from_value(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})).unwrap();
        let wanted = serde_json::from_value(json!({"labels": {"a": "1"}})).unwrap();
        assert_eq!(patch(&found, "us", &Metadata::default(), &wanted), None);
    }

    #[test]
    fn what_is_left_of_former_rules_is_what_the_rules_of_now_do_not_speak_of() {
        let before = bodies(json!([
            pods(json!({"a": {"managed": "1"}, "b": {"managed": "1"}, "c": {"required": true}})),
            rule(json!({"kinds": ["Service"], "labels": {"a": {"managed": "1"}}})),
        ]));
        let now = bodies(json!([pods(json!({"a": {"managed": "2"}, "b": {"default": "1"}}))]));
        let left = left(&before, &now);
        assert_eq!(
            json!(left),
            json!([
                {"enforce": {"action": "deny", "metadata": [
                    {"kinds": ["Pod"], "apiGroups": ["v1"], "labels": {"b": {"managed": "1", "required": false}}}]}},
                {"enforce": {"action": "deny", "metadata": [
                    {"kinds": ["Service"], "apiGroups": ["v1"], "labels": {"a": {"managed": "1", "required": false}}}]}},
            ])
        );
        assert_eq!(super::left(&now, &now), []);
    }

    #[test]
    fn not_more_than_so_much_is_remembered() {
        let many: Vec<Value> = (0..100)
            .map(|index| {
                let key = format!("key-{index}");
                pods(json!({key: {"managed": "1"}}))
            })
            .collect();
        let left = left(&bodies(json!(many)), &[]);
        assert_eq!(left.len(), 64);
        let last = left.last().unwrap().enforce.as_ref().unwrap();
        assert!(last.metadata[0].labels.contains_key("key-99"), "the oldest are left");
    }
}
