//! What the hook of custom quotas is asked about: what their sources name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use tenancy::quota::custom::{Asked, Kinds, Reach, Scaled};

use crate::configurations::{cel_list, cel_string};
use crate::counted::Extent;
use crate::rule::Scope;

/// Namespaces without which no replica of ours starts: their quotas are counted, but nothing there waits for us.
const ORGANS: [&str; 2] = ["kube-system", "kube-node-lease"];
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What these quotas count, except in our own namespace.
pub(crate) fn of_custom_quotas(reach: &Reach, own_namespace: &str) -> Extent {
    let namespaces = LabelSelector {
        match_expressions: Some(
            reach
                .namespaces
                .match_expressions
                .iter()
                .flatten()
                .cloned()
                .chain([not_here(own_namespace)])
                .collect(),
        ),
        match_labels: None,
    };
    let conditions = vec![
        condition("counted-by-a-quota", counted(reach)),
        condition("ignore-status", statuses(reach)),
    ];
    Extent {
        rules: rules(reach),
        namespaces,
        conditions,
    }
}

fn not_here(own_namespace: &str) -> LabelSelectorRequirement {
    let names: BTreeSet<&str> = ORGANS.into_iter().chain([own_namespace]).collect();
    LabelSelectorRequirement {
        key: NAME_LABEL.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(names.into_iter().map(str::to_owned).collect()),
    }
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition {
        name: name.to_owned(),
        expression,
    }
}

/// Groups and versions; the kinds are left to a condition, since a registration names resources, and a source kinds.
///
/// A version that is named is what we are sent, whichever the request is in.
fn rules(reach: &Reach) -> Vec<RuleWithOperations> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kinds in reach.kinds.keys() {
        versions.entry(&kinds.group).or_default().insert(&kinds.version);
    }
    let scope = if reach.is_cluster_wide {
        Scope::Any
    } else {
        Scope::Namespaced
    };
    let rule = |(group, versions): (&str, BTreeSet<&str>)| RuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(if versions.contains("*") {
            vec!["*".to_owned()]
        } else {
            versions.into_iter().map(str::to_owned).collect()
        }),
        operations: Some(["CREATE", "UPDATE", "DELETE"].map(str::to_owned).to_vec()),
        resources: Some(vec!["*/*".to_owned()]),
        scope: Some(scope.as_str().to_owned()),
    };
    versions.into_iter().map(rule).collect()
}

/// CEL: a source names the kind, and its quota is about the namespace.
fn counted(reach: &Reach) -> String {
    let of_kinds = reach.kinds.iter().map(|(kinds, asked)| (asked, clause(kinds)));
    let of_scales = reach.scales.iter().map(|(scaled, asked)| (asked, scale(scaled)));
    one_of(of_kinds.chain(of_scales))
}

/// CEL: it is no status, or a source reads it. Those of nodes are left to the next count: a node whose reports wait is one
/// that is lost.
fn statuses(reach: &Reach) -> String {
    let is_no_status = "!has(request.subResource) || request.subResource != \"status\"";
    if reach.statuses.is_empty() {
        return is_no_status.to_owned();
    }
    let is_node = "request.resource.group == \"\" && request.resource.resource == \"nodes\"";
    let is_read = one_of(reach.statuses.iter().map(|(kinds, asked)| (asked, clause(kinds))));
    format!("{is_no_status} || (!({is_node}) && ({is_read}))")
}

/// CEL: one of these holds where it is asked about. What is asked about in the same namespaces shares their list.
fn one_of<'a>(clauses: impl Iterator<Item = (&'a Asked, String)>) -> String {
    let mut by_place: BTreeMap<&Asked, BTreeSet<String>> = BTreeMap::new();
    for (asked, clause) in clauses {
        by_place.entry(asked).or_default().insert(clause);
    }
    let of_place = |(asked, clauses): (&Asked, BTreeSet<String>)| {
        let clauses: Vec<String> = clauses.into_iter().collect();
        let clauses = clauses.join(" || ");
        match asked {
            Asked::Everywhere => clauses,
            Asked::In(namespaces) => {
                let namespaces: Vec<&String> = namespaces.iter().collect();
                // A request about what is in no namespace has no such field.
                let is_there = format!(
                    "has(request.namespace) && request.namespace in {}",
                    cel_list(&namespaces)
                );
                format!("({is_there} && ({clauses}))")
            }
        }
    };
    let places: Vec<String> = by_place.into_iter().map(of_place).collect();
    places.join(" || ")
}

/// A Scale is of a kind of its own; what is scaled is said by the resource.
fn scale(scaled: &Scaled) -> String {
    format!(
        "(request.kind.kind == \"Scale\" && request.resource.group == {} && request.resource.resource == {})",
        cel_string(scaled.group),
        cel_string(scaled.resource)
    )
}

fn clause(kinds: &Kinds) -> String {
    let mut parts = Vec::new();
    if kinds.group != "*" {
        parts.push(format!("request.kind.group == {}", cel_string(&kinds.group)));
    }
    if kinds.kind != "*" {
        parts.push(format!("request.kind.kind == {}", cel_string(&kinds.kind)));
    }
    if parts.is_empty() {
        return "true".to_owned();
    }
    format!("({})", parts.join(" && "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenancy::quota::custom::reach;

    use super::*;

    fn extent(namespaced: &[Value], global: &[Value]) -> Extent {
        let read = |(namespace, sources): (&str, &Value)| json!({"metadata": {"name": "q", "namespace": namespace}, "spec": {"limit": "1", "sources": sources}});
        let namespaced: Vec<_> = namespaced
            .iter()
            .map(|sources| serde_json::from_value(read(("web", sources))).expect("a quota"))
            .collect();
        let global: Vec<_> = global
            .iter()
            .map(|sources| serde_json::from_value(read(("", sources))).expect("a quota"))
            .collect();
        of_custom_quotas(&reach(&namespaced, &global).expect("sources"), "cotenant-system")
    }

    fn expressions(extent: &Extent) -> Vec<&str> {
        extent.conditions.iter().map(|it| it.expression.as_str()).collect()
    }

    #[test]
    fn a_quota_of_a_namespace_is_asked_about_its_kinds_there() {
        let pods = json!([{"apiVersion": "v1", "kind": "Pod", "op": "count"}]);
        let disks = json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "path": ".status.capacity.storage"}]);
        let extent = extent(&[pods, disks], &[]);
        assert_eq!(
            serde_json::to_value(&extent.rules).expect("JSON"),
            json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["*/*"], "scope": "Namespaced"}])
        );
        assert_eq!(
            serde_json::to_value(&extent.namespaces).expect("JSON"),
            json!({"matchExpressions": [
                {"key": NAME_LABEL, "operator": "In", "values": ["web"]},
                {"key": NAME_LABEL, "operator": "NotIn", "values": ["cotenant-system", "kube-node-lease", "kube-system"]}]})
        );
        assert_eq!(
            expressions(&extent),
            [
                "(has(request.namespace) && request.namespace in [\"web\"] && ((request.kind.group == \"\" && request.kind.kind == \"PersistentVolumeClaim\") || \
              (request.kind.group == \"\" && request.kind.kind == \"Pod\")))",
                "!has(request.subResource) || request.subResource != \"status\" || \
              (!(request.resource.group == \"\" && request.resource.resource == \"nodes\") && \
              ((has(request.namespace) && request.namespace in [\"web\"] && ((request.kind.group == \"\" && request.kind.kind == \"PersistentVolumeClaim\")))))"
            ]
        );
    }

    #[test]
    fn one_of_the_cluster_is_asked_about_its_kinds_anywhere_and_statuses_are_left_alone() {
        let backups = json!([
            {"apiVersion": "velero.io/v1", "kind": "Backup", "op": "count"},
            {"apiVersion": "velero.io", "kind": "Restore", "op": "count"}]);
        let extent = extent(&[], &[backups]);
        assert_eq!(
            serde_json::to_value(&extent.rules).expect("JSON"),
            json!([{"apiGroups": ["velero.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["*/*"], "scope": "*"}])
        );
        assert_eq!(
            expressions(&extent),
            [
                "(request.kind.group == \"velero.io\" && request.kind.kind == \"Backup\") || \
              (request.kind.group == \"velero.io\" && request.kind.kind == \"Restore\")",
                "!has(request.subResource) || request.subResource != \"status\""
            ]
        );
    }

    #[test]
    fn a_source_that_reads_replicas_is_asked_about_scales() {
        let replicas = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "path": ".spec.replicas"}]);
        assert_eq!(
            expressions(&extent(&[replicas], &[])),
            [
                "(has(request.namespace) && request.namespace in [\"web\"] && ((request.kind.group == \"apps\" && request.kind.kind == \"Deployment\") || \
              (request.kind.kind == \"Scale\" && request.resource.group == \"apps\" && request.resource.resource == \"deployments\")))",
                "!has(request.subResource) || request.subResource != \"status\""
            ]
        );
    }

    #[test]
    fn a_source_about_everything_is_asked_about_everything() {
        let extent = extent(&[], &[json!([{"apiVersion": "*", "kind": "*", "op": "count"}])]);
        assert_eq!(expressions(&extent)[0], "true");
    }
}
