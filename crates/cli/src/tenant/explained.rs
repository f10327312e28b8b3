//! A tenant's plan for people: a few lines for all namespaces that hold the same, instead of the objects of each. Pure.

use std::collections::BTreeMap;

use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use tenant_controller::apply::Object;
use tenant_controller::desired::{Plan, SpacePlan};

use super::effects::subject_typed;
use super::owner::typed;
use super::show::readiness;
use crate::plain::{plain, section};

/// Names of namespaces on one line.
const MOST_NAMES: usize = 12;

/// The plan, with a section for each set of namespaces that hold the same.
pub(crate) fn explained(plan: &Plan) -> String {
    let mut text = String::new();
    section(&mut text, "Owners", &plan.owners, |owner| {
        format!("{}: {}", typed(&owner.user), owner.cluster_roles.join(", "))
    });
    section(&mut text, "Promoted by rules", &plan.promotions, |promotion| {
        let (user, roles) = (typed(&promotion.core.user), promotion.core.cluster_roles.join(", "));
        format!("{user}: {roles} in {}", promotion.targets.join(", "))
    });
    section(&mut text, "Cannot be carried out", &plan.problems, Clone::clone);
    section(&mut text, "Ends with the tenant", &plan.deletions, |(name, _)| {
        format!("Namespace {name}")
    });
    for alike in alike(&plan.spaces) {
        let Some(first) = alike.first() else { continue };
        let mut held = lines(first);
        if held.is_empty() {
            held.push("nothing is kept here".to_owned());
        }
        section(&mut text, &heading(&alike), &held, Clone::clone);
    }
    text
}

/// Whether a tenant is as its spec wants it; if not, why.
pub(crate) fn standing(tenant: &Tenant) -> Result<(), String> {
    let none: &[Condition] = &[];
    let status = tenant.status.as_ref();
    if tenant.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    match readiness(status.map_or(none, |status| &status.conditions)) {
        (false, message) => Err(message),
        (true, _) if status.and_then(|status| status.observed_generation) != tenant.metadata.generation => {
            Err("the operator has not carried out the latest spec yet".to_owned())
        }
        (true, _) => Ok(()),
    }
}

/// Namespaces by what they should hold, but for their own name and UID in it; in the order of the first of each.
fn alike(spaces: &[SpacePlan]) -> Vec<Vec<&SpacePlan>> {
    let mut found: Vec<Vec<&SpacePlan>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for space in spaces {
        let mut held = json!(space);
        // What of it is there already.
        held["patch"] = Value::Null;
        forget(&mut held, &[&space.name, &space.uid]);
        let at = *known.entry(held.to_string()).or_insert(found.len());
        match found.get_mut(at) {
            Some(alike) => alike.push(space),
            None => found.push(vec![space]),
        }
    }
    found
}

/// Empties the texts that are one of these words.
fn forget(value: &mut Value, words: &[&str]) {
    match value {
        Value::String(text) if words.contains(&text.as_str()) => text.clear(),
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, words)),
        Value::Object(fields) => fields.values_mut().for_each(|field| forget(field, words)),
        _ => {}
    }
}

fn heading(alike: &[&SpacePlan]) -> String {
    let names: Vec<&str> = alike.iter().take(MOST_NAMES).map(|space| space.name.as_str()).collect();
    let names = names.join(", ");
    match alike.len() {
        1 => format!("Namespace {names}"),
        count if count > MOST_NAMES => format!("{count} namespaces: {names} and {} more", count - MOST_NAMES),
        count => format!("{count} namespaces: {names}"),
    }
}

fn lines(space: &SpacePlan) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(space.waits_for.as_ref().map(|what| format!("is going away: {what}")));
    if space.cordoned {
        lines.push("is cordoned".to_owned());
    }
    lines.extend(
        space
            .problems
            .iter()
            .map(|problem| format!("cannot be carried out: {problem}")),
    );
    if let Some(managed) = &space.managed {
        lines.extend(managed.labels.iter().map(|(key, value)| format!("label {key}={value}")));
        let annotations = managed.annotations.iter();
        lines.extend(annotations.map(|(key, value)| format!("annotation {key}={value}")));
    }
    lines.extend(space.applies.iter().map(|object| {
        let what = format!("{} {}", object.kind().name(), object.name());
        match object {
            Object::RoleBinding(binding) => format!("{what}: {}", bound(binding, &space.name)),
            Object::ResourceQuota(quota) => format!("{what}: {}", limits(quota)),
            Object::NetworkPolicy(_) | Object::LimitRange(_) | Object::RuleStatus(_) => what,
        }
    }));
    lines.iter().map(|line| plain(line)).collect()
}

fn bound(binding: &RoleBinding, namespace: &str) -> String {
    let subjects = binding.subjects.iter().flatten();
    let subjects: Vec<String> = subjects.map(|subject| subject_typed(subject, namespace)).collect();
    format!("{} for {}", binding.role_ref.name, subjects.join(", "))
}

fn limits(quota: &ResourceQuota) -> String {
    let hard = quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten());
    let hard: Vec<String> = hard.map(|(name, amount)| format!("{name}={}", amount.0)).collect();
    hard.join(" ")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn tenant(status: &Value) -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": "oil", "uid": "u1", "generation": 2},
            "spec": {
                "owners": [{"kind": "User", "name": "alice"}],
                "resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"pods": "20", "requests.cpu": "8"}}]},
                "additionalRoleBindings": [{"clusterRoleName": "view", "subjects": [
                    {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}]}],
                "networkPolicies": {"items": [{"podSelector": {}}]},
                "limitRanges": {"items": [{"limits": [{"type": "Container", "default": {"cpu": "1"}}]}]},
                "namespaceOptions": {"additionalMetadataList": [
                    {"labels": {"env": "prod"}, "namespaceSelector": {"matchLabels": {"stage": "prod"}}}]},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn namespace(name: &str, labels: &Value) -> Namespace {
        let mut namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "uid": format!("uid-{name}"),
            "ownerReferences": [
                {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "u1"}]}}))
            .unwrap();
        namespace.metadata.labels = serde_json::from_value(labels.clone()).unwrap();
        namespace
    }

    #[test]
    fn namespaces_that_hold_the_same_are_told_together() {
        let namespaces = vec![
            namespace("oil-one", &json!({})),
            namespace("oil-shop", &json!({"stage": "prod"})),
            namespace("oil-two", &json!({})),
        ];
        let plan = tenant_controller::explain(&tenant(&json!(null)), None, namespaces, Vec::new(), Vec::new());
        let held = "  NetworkPolicy capsule-oil-0\n\
                    \x20 LimitRange capsule-oil-0\n\
                    \x20 ResourceQuota capsule-oil-0: pods=20 requests.cpu=8\n";
        let text = explained(&plan);
        let (owners, namespaces) = text.split_once("2 namespaces: oil-one, oil-two\n").unwrap();
        assert_eq!(owners, "Owners\n  user:alice: admin, capsule-namespace-deleter\n");
        let (alike, apart) = namespaces.split_once("Namespace oil-shop\n").unwrap();
        let (first, bindings) = alike.split_at(held.len());
        assert_eq!(first, held);
        // Names of bindings are digests.
        let mut bound: Vec<&str> = bindings.lines().map(|line| line.split_once(": ").unwrap().1).collect();
        bound.sort_unstable();
        assert_eq!(
            bound,
            [
                "admin for user:alice",
                "capsule-namespace-deleter for user:alice",
                "view for sa:ci/robot"
            ]
        );
        assert_eq!(apart, format!("  label env=prod\n{alike}"));
    }

    #[test]
    fn many_names_are_cut() {
        let spaces: Vec<SpacePlan> = (10..30)
            .map(|number| SpacePlan {
                name: format!("oil-{number}"),
                ..SpacePlan::default()
            })
            .collect();
        let plan = Plan {
            spaces,
            ..Plan::default()
        };
        assert_eq!(
            explained(&plan),
            "20 namespaces: oil-10, oil-11, oil-12, oil-13, oil-14, oil-15, oil-16, oil-17, oil-18, oil-19, oil-20, oil-21 \
             and 8 more\n  nothing is kept here\n"
        );
    }

    #[test]
    fn a_tenant_is_as_it_is_wanted_once_its_latest_spec_is_carried_out() {
        let status = |ready: &str, generation: i64| {
            tenant(
                &json!({"state": "Active", "size": 0, "observedGeneration": generation, "conditions": [
                {"type": "Ready", "status": ready, "reason": "R", "message": "no such role", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            )
        };
        assert_eq!(standing(&status("True", 2)), Ok(()));
        assert_eq!(standing(&status("False", 2)), Err("no such role".to_owned()));
        assert_eq!(
            standing(&status("True", 1)),
            Err("the operator has not carried out the latest spec yet".to_owned())
        );
        assert_eq!(standing(&tenant(&json!(null))), Err("not reconciled yet".to_owned()));
    }
}
