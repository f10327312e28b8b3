use api::capsule::v1beta2::TenantRule;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Fault, Scope, Written, check, denial};

fn faults_with(rules: Value, discovery: bool) -> Vec<Fault> {
    let rules: Vec<TenantRule> = serde_json::from_value(rules).unwrap();
    let known = |group: &str, kind: &str| match (group, kind) {
        ("v1", "Pod" | "Service") | ("apps" | "apps/v1", "Deployment") => Some(Scope::Namespaced),
        ("v1", "Node" | "Namespace") => Some(Scope::Cluster),
        _ => None,
    };
    check("oil", rules.iter().map(Written::from), discovery.then_some(&known))
}

fn faults(rules: Value) -> Vec<Fault> {
    faults_with(rules, true)
}

/// The only fault of a rule.
fn fault(rule: Value) -> Option<(String, String)> {
    let mut faults = faults(json!([rule]));
    assert!(faults.len() < 2, "{faults:?}");
    faults.pop().map(|fault| (fault.field, fault.message))
}

fn workloads(workloads: Value) -> Value {
    json!({"enforce": {"workloads": workloads}})
}

fn labels(labels: Value) -> Value {
    json!({"enforce": {"metadata": [{"kinds": ["Pod"], "labels": labels}]}})
}

fn resources(requests: Value, limits: Value) -> Value {
    workloads(json!({"resources": {"requests": requests, "limits": limits}}))
}

#[rstest]
#[case::an_unknown_role(json!({"audience": [{"kind": "Custom", "name": "Friends"}]}), "rules[0].audience[0].name", "use one of CapsuleUser, Administrator, TenantOwner, Controller")]
#[case::a_short_service_account(json!({"audience": [{"kind": "ServiceAccount", "name": "robot"}]}), "rules[0].audience[0].name", "system:serviceaccount:<namespace>:<name>")]
#[case::an_empty_group(json!({"audience": [{"kind": "Group", "name": ""}]}), "rules[0].audience[0].name", "it is empty")]
#[case::the_name_of_a_budget(json!({"quota": [{"name": "Big", "hard": {"cpu": "1"}}]}), "rules[0].quota[0].name", "has to be a DNS label")]
#[case::an_empty_budget(json!({"quota": [{"name": "a"}]}), "rules[0].quota[0].hard", "name at least one resource")]
#[case::a_negative_budget(json!({"quota": [{"name": "a", "hard": {"cpu": "-1"}}]}), "rules[0].quota[0].hard[\"cpu\"]", "-1 is negative")]
#[case::no_budget(json!({"quota": [{"name": "a", "hard": {"cpu": "lots"}}]}), "rules[0].quota[0].hard[\"cpu\"]", "\"lots\" is not a quantity")]
#[case::kinds_without_hostnames(json!({"enforce": {"ingress": {"types": ["Ingress"]}}}), "rules[0].enforce.ingress.hostnames", "together with types")]
#[case::hostnames_without_kinds(json!({"enforce": {"ingress": {"hostnames": [{"exact": ["a"]}]}}}), "rules[0].enforce.ingress.types", "together with hostnames")]
#[case::a_pattern(json!({"enforce": {"ingress": {"types": ["Ingress"], "hostnames": [{"exact": ["a"]}, {"exp": "("}]}}}), "rules[0].enforce.ingress.hostnames[1].exp", "unable to compile the regular expression \"(\": unclosed group")]
#[case::an_empty_expression(workloads(json!({"schedulers": [{}]})), "rules[0].enforce.workloads.schedulers[0]", "at least one of exact or exp must be set")]
#[case::a_registry(workloads(json!({"registries": [{"exp": "["}]})), "rules[0].enforce.workloads.registries[0].exp", "unable to compile")]
#[case::a_pull_policy(workloads(json!({"registries": [{"exact": ["a"], "policy": ["Always", "Sometimes"]}]})), "rules[0].enforce.workloads.registries[0].policy[1]", "\"Sometimes\" is none of Always, IfNotPresent, Never")]
#[case::a_class(workloads(json!({"qosClasses": ["Best"]})), "rules[0].enforce.workloads.qosClasses[0]", "none of Guaranteed, Burstable, BestEffort")]
#[case::an_address(json!({"enforce": {"services": {"loadBalancers": {"cidrs": ["10.0.0.0/8", "10.0.0.0/33"]}}}}), "rules[0].enforce.services.loadBalancers.cidrs[1]", "neither an address nor a range")]
#[case::an_external_name(json!({"enforce": {"services": {"externalNames": {"hostnames": [{"exp": "*"}]}}}}), "rules[0].enforce.services.externalNames.hostnames[0].exp", "unable to compile")]
#[case::ports_backwards(json!({"enforce": {"services": {"nodePorts": {"ports": [{"from": 2, "to": 1}]}}}}), "rules[0].enforce.services.nodePorts.ports[0]", "from 2 must not be greater than to 1")]
#[case::no_ports(json!({"enforce": {"services": {"nodePorts": {"ports": [{"from": 0, "to": 70000}]}}}}), "rules[0].enforce.services.nodePorts.ports[0]", "use 1 to 65535")]
#[case::resources_of_volumes(workloads(json!({"targets": ["pod", "pod/volumes"], "resources": {"requests": {"cpu": {"policy": "Remove"}}}})), "rules[0].enforce.workloads.targets[1]", "pod/volumes has no requests and limits")]
#[case::resources_of_ephemeral_containers(workloads(json!({"targets": ["pod/ephemeralcontainers"], "resources": {"requests": {"cpu": {"policy": "Remove"}}}})), "rules[0].enforce.workloads.targets[0]", "pod/ephemeralcontainers has no requests")]
#[case::storage_of_the_pod(workloads(json!({"targets": ["pod"], "resources": {"limits": {"ephemeral-storage": {"policy": "Remove"}}}})), "rules[0].enforce.workloads.resources.limits[\"ephemeral-storage\"]", "add other targets")]
#[case::no_resources(workloads(json!({"resources": {}})), "rules[0].enforce.workloads.resources", "at least one of requests or limits must be set")]
#[case::a_small_ratio(resources(json!({}), json!({"cpu": {"policy": "Ratio", "value": "900m"}})), "rules[0].enforce.workloads.resources.limits[\"cpu\"].value", "ratio 900m must be at least 1")]
#[case::a_ratio_of_something_else(resources(json!({}), json!({"example.com/gpu": {"policy": "Ratio", "value": "2"}})), "rules[0].enforce.workloads.resources.limits[\"example.com/gpu\"]", "cpu, memory, ephemeral-storage only")]
#[case::a_ratio_without_a_value(resources(json!({}), json!({"cpu": {"policy": "Ratio"}})), "rules[0].enforce.workloads.resources.limits[\"cpu\"].value", "needs a value")]
#[case::a_value_too_many(resources(json!({"cpu": {"policy": "Remove", "value": "1"}}), json!({})), "rules[0].enforce.workloads.resources.requests[\"cpu\"].value", "takes no value")]
#[case::a_value_that_is_none(resources(json!({"cpu": {"policy": "Default", "value": "lots"}}), json!({})), "rules[0].enforce.workloads.resources.requests[\"cpu\"].value", "not a quantity")]
#[case::a_ratio_of_a_removed_request(resources(json!({"cpu": {"policy": "Remove"}}), json!({"cpu": {"policy": "Ratio", "value": "2"}})), "rules[0].enforce.workloads.resources.limits[\"cpu\"]", "policy Ratio follows the request for cpu, which the same rule removes")]
#[case::a_match_of_a_removed_request(resources(json!({"cpu": {"policy": "Remove"}}), json!({"cpu": {"policy": "MatchRequest"}})), "rules[0].enforce.workloads.resources.limits[\"cpu\"]", "policy MatchRequest follows")]
#[case::a_resource(resources(json!({"c p u": {"policy": "Remove"}}), json!({})), "rules[0].enforce.workloads.resources.requests[\"c p u\"]", "not the name of a resource")]
#[case::no_metadata(json!({"enforce": {"metadata": [{"kinds": ["Pod"]}]}}), "rules[0].enforce.metadata[0]", "at least one of labels or annotations must be set")]
#[case::no_kinds(json!({"enforce": {"metadata": [{"kinds": [], "labels": {"a": {}}}]}}), "rules[0].enforce.metadata[0].kinds", "it is empty")]
#[case::an_unknown_kind(json!({"enforce": {"metadata": [{"kinds": ["Pod", "Pood"], "labels": {"a": {}}}]}}), "rules[0].enforce.metadata[0].kinds[1]", "the cluster has no kind \"Pood\" in v1")]
#[case::a_kind_of_another_group(json!({"enforce": {"metadata": [{"kinds": ["Deployment"], "labels": {"a": {}}}]}}), "rules[0].enforce.metadata[0].kinds[0]", "no kind \"Deployment\" in v1")]
#[case::a_kind_of_the_cluster(json!({"enforce": {"metadata": [{"kinds": ["Node"], "labels": {"a": {}}}]}}), "rules[0].enforce.metadata[0].kinds[0]", "are not in namespaces")]
#[case::a_key(labels(json!({"(": {}})), "rules[0].enforce.metadata[0].labels[\"(\"]", "unable to compile the regular expression \"(\"")]
#[case::a_value(labels(json!({"env": {"values": [{"exp": "("}]}})), "rules[0].enforce.metadata[0].labels[\"env\"].values[0].exp", "unable to compile")]
#[case::a_default_for_a_pattern(labels(json!({"e*": {"default": "a"}})), "rules[0].enforce.metadata[0].labels[\"e*\"].default", "write the key in full")]
#[case::a_managed_value_for_a_pattern(labels(json!({"e*": {"managed": "a"}})), "rules[0].enforce.metadata[0].labels[\"e*\"].managed", "write the key in full")]
#[case::a_managed_value_for_any_kind(json!({"enforce": {"metadata": [{"kinds": ["*"], "labels": {"a": {"managed": "x"}}}]}}), "rules[0].enforce.metadata[0].labels[\"a\"].managed", "write kinds and apiGroups without *")]
#[case::a_managed_value_for_any_group(json!({"enforce": {"metadata": [{"kinds": ["Pod"], "apiGroups": ["*"], "annotations": {"a": {"managed": "x"}}}]}}), "rules[0].enforce.metadata[0].annotations[\"a\"].managed", "write kinds and apiGroups without *")]
#[case::a_default_that_no_label_can_have(labels(json!({"env": {"default": "a b"}})), "rules[0].enforce.metadata[0].labels[\"env\"].default", "is not the value of a label")]
fn a_fault_is_told(#[case] rule: Value, #[case] field: &str, #[case] part: &str) {
    let (told, message) = fault(rule).unwrap();
    assert_eq!(told, field);
    assert!(message.contains(part), "{message}");
}

#[rstest]
#[case::nothing(json!({}))]
#[case::roles(json!({"audience": [{"kind": "Custom", "name": "TenantOwner"}, {"kind": "ServiceAccount", "name": "system:serviceaccount:a:b"}]}))]
#[case::a_budget(json!({"quota": [{"name": "big", "hard": {"cpu": "0", "count/pods": "5"}}]}))]
#[case::kinds(json!({"enforce": {"metadata": [{"kinds": ["Pod", "Deployment", "Namespace"], "apiGroups": ["v1", "apps"], "labels": {"a": {"managed": "x"}}}]}}))]
#[case::globs(json!({"enforce": {"metadata": [{"kinds": ["*Route", "X"], "apiGroups": ["gateway.*"], "annotations": {"a/*": {"values": [{"exp": "."}]}, "b": {"default": "a b"}}}]}}))]
#[case::templates(json!({
    "audience": [{"kind": "ServiceAccount", "name": "{{ .namespace.metadata.name }}"}],
    "enforce": {
        "ingress": {"types": ["Ingress"], "hostnames": [{"exp": "^{{ .tenant.metadata.name }}("}]},
        "services": {"loadBalancers": {"cidrs": ["{{ .tenant.cidr }}"]}},
        "metadata": [{"kinds": ["{{ .kind }}"], "labels": {"{{ .x }}": {"default": "{{ .y }}", "managed": "{{ .z }}"}}}],
        "workloads": {"qosClasses": ["{{ .q }}"], "resources": {"limits": {"cpu": {"policy": "Ratio", "value": "{{ .r }}"}}}},
    },
}))]
#[case::resources(resources(
    json!({"cpu": {"policy": "Default", "value": "100m"}}),
    json!({"cpu": {"policy": "Ratio", "value": "1"}, "memory": {"policy": "MatchRequest"}, "example.com/gpu": {"policy": "Preserve"}})
))]
fn what_can_be_used_has_no_fault(#[case] rule: Value) {
    assert_eq!(fault(rule), None);
}

#[test]
fn everything_is_told_and_the_refusal_names_the_first_field() {
    let all = faults(json!([
        {"audience": [{"kind": "Custom", "name": "a"}], "quota": [{"name": "same", "hard": {"cpu": "1"}}]},
        {"quota": [{"name": "same", "hard": {"cpu": "1"}}], "enforce": {"workloads": {"schedulers": [{"exp": "("}]}}},
    ]));
    let fields: Vec<_> = all.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "rules[0].audience[0].name",
            "rules[1].quota[0].name",
            "rules[1].enforce.workloads.schedulers[0].exp"
        ]
    );
    let refusal = denial("spec.rules", &all).unwrap();
    assert_eq!(refusal.field, "spec.rules[0].audience[0].name");
    assert!(
        refusal
            .message
            .starts_with("spec.rules[0].audience[0].name: \"a\" means nobody"),
        "{refusal}"
    );
    assert!(
        refusal
            .message
            .contains("; spec.rules[1].enforce.workloads.schedulers[0].exp: "),
        "{refusal}"
    );
    assert_eq!(denial("spec", &all).unwrap().field, "spec[0].audience[0].name");
    assert_eq!(denial("spec.rules", &[]), None);
}

#[rstest]
#[case::of_the_core(json!({"kinds": ["Pod", "Namespace"]}), None)]
#[case::of_the_core_by_its_name(json!({"kinds": ["Secret"], "apiGroups": ["v1"]}), None)]
#[case::of_a_group_that_may_come(json!({"kinds": ["Pood"], "apiGroups": ["example.com"]}), None)]
#[case::of_several_groups(json!({"kinds": ["Deployment", "Pod"], "apiGroups": ["v1", "apps"]}), None)]
#[case::any(json!({"kinds": ["*"]}), None)]
#[case::said_by_a_template(json!({"kinds": ["{{ .kind }}"]}), None)]
#[case::not_of_the_core(json!({"kinds": ["Pod", "Deployment"]}), Some("rules[0].enforce.metadata[0].kinds[1]"))]
#[case::with_its_group_before_it(json!({"kinds": ["apps/Deployment"], "apiGroups": ["apps"]}), Some("rules[0].enforce.metadata[0].kinds[0]"))]
#[case::in_no_namespace(json!({"kinds": ["Node"], "apiGroups": ["v1"]}), Some("rules[0].enforce.metadata[0].kinds[0]"))]
fn without_discovery_only_kinds_of_the_core_are_known(#[case] policy: Value, #[case] expected: Option<&str>) {
    let mut policy = policy;
    policy["labels"] = json!({"a": {}});
    let found = faults_with(json!([{"enforce": {"metadata": [policy]}}]), false);
    assert!(found.len() < 2, "{found:?}");
    assert_eq!(found.first().map(|fault| fault.field.as_str()), expected);
}

#[test]
fn patterns_are_limited_and_equal_ones_count_once() {
    let schedulers =
        |count: usize| -> Vec<_> { (0..count).map(|number| json!({"exp": format!("^{number}$")})).collect() };
    assert_eq!(faults(json!([workloads(json!({"schedulers": schedulers(500)}))])), []);
    let many = faults(json!([workloads(json!({"schedulers": schedulers(2000)}))]));
    assert_eq!(many.len(), 1);
    assert!(many[0].message.contains("more than 500 different patterns"), "{many:?}");
    let same: Vec<_> = (0..2000).map(|_| json!({"exp": "^a$"})).collect();
    assert_eq!(faults(json!([workloads(json!({"schedulers": same}))])), []);
}

#[test]
fn a_refusal_has_an_end() {
    let broken: Vec<_> = (0..400).map(|number| json!({"exp": format!("({number}")})).collect();
    let all = faults(json!([workloads(json!({"schedulers": broken}))]));
    let refusal = denial("spec.rules", &all).unwrap();
    assert!(refusal.message.ends_with("; and 380 more faults"), "{refusal}");
}
