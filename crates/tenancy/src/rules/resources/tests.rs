use crate::rules::{
    admission::{self, Request},
    fixtures::{POD, as_alice, create, pod, refusal, refused, rules, validate_pod},
};
use rstest::rstest;
use serde_json::{Value, json};

fn resources(action: &str, targets: &[&str], requests: Value, limits: Value) -> Value {
    json!({"action": action, "workloads": {"targets": targets, "resources": {"requests": requests, "limits": limits}}})
}

/// One rule about a request and a limit of CPUs, for containers.
fn cpu(action: &str, request: Value, limit: Value) -> Value {
    let named = |policy: Value| {
        if policy.is_null() {
            json!({})
        } else {
            json!({"cpu": policy})
        }
    };
    resources(action, &["pod/containers"], named(request), named(limit))
}

/// A pod with one container that has these resources.
fn container(resources: Value) -> Value {
    json!({"containers": [{"name": "m", "resources": resources}]})
}

fn settled(list: Value, spec: Value) -> Option<Value> {
    let pod = pod(spec);
    let edits = as_alice(|requester| admission::mutate(&rules(list), &create(requester, POD, (&pod).into())));
    edits.pod.map(|spec| serde_json::to_value(spec).unwrap())
}

#[rstest]
#[case::a_default_request(cpu("allow", json!({"policy": "Default", "value": "100m"}), json!(null)), json!({}), Some(json!({"requests": {"cpu": "100m"}})))]
#[case::a_request_is_kept(cpu("allow", json!({"policy": "Default", "value": "100m"}), json!(null)), json!({"requests": {"cpu": "1"}}), None)]
#[case::the_action_does_not_matter(cpu("deny", json!({"policy": "Default", "value": "100m"}), json!(null)), json!({}), Some(json!({"requests": {"cpu": "100m"}})))]
#[case::preserved(cpu("allow", json!({"policy": "Preserve"}), json!({"policy": "Preserve"})), json!({"limits": {"cpu": "1"}}), None)]
#[case::a_removed_request(cpu("allow", json!({"policy": "Remove"}), json!(null)), json!({"requests": {"cpu": "1", "memory": "1Gi"}}), Some(json!({"requests": {"memory": "1Gi"}})))]
#[case::nothing_to_remove(cpu("allow", json!({"policy": "Remove"}), json!({"policy": "Remove"})), json!({}), None)]
#[case::a_default_limit(cpu("allow", json!(null), json!({"policy": "Default", "value": "2"})), json!({"requests": {"cpu": "1"}}), Some(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})))]
#[case::a_removed_limit(cpu("allow", json!(null), json!({"policy": "Remove"})), json!({"limits": {"cpu": "2"}}), Some(json!({"limits": {}})))]
#[case::the_limit_becomes_the_request(cpu("allow", json!(null), json!({"policy": "MatchRequest"})), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), Some(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}})))]
#[case::the_limit_is_the_request_in_other_words(cpu("allow", json!(null), json!({"policy": "MatchRequest"})), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}}), None)]
#[case::no_request_to_match(cpu("allow", json!(null), json!({"policy": "MatchRequest"})), json!({"limits": {"cpu": "2"}}), None)]
#[case::a_ratio(cpu("allow", json!(null), json!({"policy": "Ratio", "value": "1.5"})), json!({"requests": {"cpu": "333m"}}), Some(json!({"requests": {"cpu": "333m"}, "limits": {"cpu": "499m"}})))]
#[case::a_ratio_leaves_a_limit(cpu("allow", json!(null), json!({"policy": "Ratio", "value": "2"})), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}), None)]
#[case::a_ratio_of_nothing(cpu("allow", json!(null), json!({"policy": "Ratio", "value": "2"})), json!({"requests": {"cpu": "0"}}), None)]
#[case::a_limit_follows_a_default_request(cpu("allow", json!({"policy": "Default", "value": "100m"}), json!({"policy": "Ratio", "value": "2"})), json!({}), Some(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}})))]
#[case::a_default_that_cannot_be_read(cpu("allow", json!({"policy": "Default", "value": "lots"}), json!(null)), json!({}), None)]
fn a_container_is_changed(#[case] rule: Value, #[case] before: Value, #[case] after: Option<Value>) {
    let changed = settled(json!([rule]), container(before));
    assert_eq!(changed.map(|spec| spec["containers"][0]["resources"].clone()), after);
}

#[test]
fn memory_is_rounded_down_to_bytes() {
    let limits = json!({"memory": {"policy": "Ratio", "value": "1500m"}});
    let changed = settled(
        json!([resources("allow", &[], json!({}), limits)]),
        container(json!({"requests": {"memory": "3"}})),
    );
    assert_eq!(changed.unwrap()["containers"][0]["resources"]["limits"]["memory"], "4");
}

#[test]
fn a_later_rule_counts_per_resource() {
    let list = json!([
        resources(
            "allow",
            &[],
            json!({"cpu": {"policy": "Default", "value": "1"}, "memory": {"policy": "Default", "value": "1Gi"}}),
            json!({})
        ),
        resources(
            "deny",
            &[],
            json!({"cpu": {"policy": "Default", "value": "2"}}),
            json!({})
        ),
    ]);
    let changed = settled(list, container(json!({}))).unwrap();
    assert_eq!(
        changed["containers"][0]["resources"]["requests"],
        json!({"cpu": "2", "memory": "1Gi"})
    );
}

#[rstest]
#[case::all_by_default(&[], true, true)]
#[case::containers(&["pod/containers"], false, true)]
#[case::init_containers(&["pod/initcontainers"], true, false)]
#[case::the_pod_alone(&["pod"], false, false)]
fn targets_say_which_containers(#[case] targets: &[&str], #[case] init: bool, #[case] main: bool) {
    let list = json!([resources(
        "allow",
        targets,
        json!({"cpu": {"policy": "Default", "value": "1"}}),
        json!({})
    )]);
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "m"}]});
    let changed = settled(list, spec).unwrap();
    let is_set = |list: &str| changed[list][0]["resources"]["requests"]["cpu"] == "1";
    assert_eq!((is_set("initContainers"), is_set("containers")), (init, main));
}

#[rstest]
#[case::named_it_is_given_some(&["pod"], json!(null), json!({"requests": {"cpu": "1"}}))]
#[case::not_named_it_is_given_none(&[], json!(null), json!(null))]
#[case::not_named_what_it_has_is_completed(&[], json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}))]
fn the_pod_itself_is_changed(#[case] targets: &[&str], #[case] before: Value, #[case] after: Value) {
    let requests =
        json!({"cpu": {"policy": "Default", "value": "1"}, "ephemeral-storage": {"policy": "Default", "value": "1Gi"}});
    let list = json!([resources("allow", targets, requests, json!({}))]);
    let mut spec = container(json!({"requests": {"cpu": "1", "ephemeral-storage": "2Gi"}}));
    // Something that is changed in any case.
    spec["initContainers"] = json!([{"name": "i"}]);
    spec["resources"] = before;
    let changed = settled(list, spec).unwrap();
    assert_eq!(changed["resources"], after);
}

#[test]
fn a_rule_without_targets_is_about_a_pod_that_another_rule_gives_resources() {
    let named = |value: &str| json!({"cpu": {"policy": "Default", "value": value}});
    let list = json!([
        resources("allow", &["pod"], named("1"), json!({})),
        resources("allow", &[], named("2"), json!({})),
    ]);
    let changed = settled(list, container(json!({}))).unwrap();
    assert_eq!(changed["resources"]["requests"], json!({"cpu": "2"}));
}

/// Two containers need 3 CPUs together; the second of the init containers needs 4 beside the sidecar's 1; the sidecar runs
/// on, which makes 4 later and 5 at the start.
#[test]
fn a_pod_with_resources_is_given_the_requests_of_its_containers() {
    let list = json!([resources(
        "allow",
        &["pod/containers"],
        json!({"memory": {"policy": "Default", "value": "1Gi"}}),
        json!({})
    )]);
    let needs = |cpu: &str| json!({"requests": {"cpu": cpu, "hugepages-2Mi": "2Mi", "example.com/gpu": "1"}});
    let spec = json!({
        "resources": {"limits": {"cpu": "8"}},
        "initContainers": [
            {"name": "sidecar", "restartPolicy": "Always", "resources": needs("1")},
            {"name": "i", "resources": needs("4")},
        ],
        "containers": [{"name": "a", "resources": needs("1")}, {"name": "b", "resources": needs("2")}],
    });
    let changed = settled(list, spec).unwrap();
    assert_eq!(
        changed["resources"],
        json!({"limits": {"cpu": "8"}, "requests": {"cpu": "5", "memory": "2Gi"}})
    );
}

#[test]
fn limits_of_a_pod_follow_the_requests_that_it_is_given() {
    let limits = json!({"cpu": {"policy": "MatchRequest"}, "memory": {"policy": "Default", "value": "1Gi"}});
    let list = json!([resources("deny", &["pod"], json!({}), limits)]);
    let mut spec = container(json!({"requests": {"cpu": "1"}}));
    spec["resources"] = json!({});
    let changed = settled(list.clone(), spec).unwrap();
    assert_eq!(
        changed["resources"],
        json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1Gi"}})
    );
    assert!(validate_pod(&rules(list), &pod(changed)).is_allowed());
}

fn ratio(action: &str) -> Value {
    cpu(action, json!(null), json!({"policy": "Ratio", "value": "2"}))
}

fn matching(action: &str) -> Value {
    cpu(action, json!(null), json!({"policy": "MatchRequest"}))
}

const LIMIT: Option<&str> = Some("spec.containers[0].resources.limits[\"cpu\"]");
const REQUEST: Option<&str> = Some("spec.containers[0].resources.requests[\"cpu\"]");

#[rstest]
#[case::within_the_ratio(json!([ratio("deny")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), None)]
#[case::beyond_the_ratio(json!([ratio("deny")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2001m"}}), LIMIT)]
#[case::beyond_the_ratio_of_an_allow_rule(json!([ratio("allow")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}), LIMIT)]
#[case::recorded(json!([ratio("audit")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}), None)]
#[case::no_limit_at_all(json!([ratio("deny")]), json!({"requests": {"cpu": "1"}}), LIMIT)]
#[case::neither(json!([ratio("deny")]), json!({}), None)]
#[case::a_limit_of_nothing(json!([ratio("deny")]), json!({"limits": {"cpu": "1"}}), LIMIT)]
#[case::the_same(json!([matching("deny")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}}), None)]
#[case::not_the_same(json!([matching("deny")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), LIMIT)]
#[case::one_of_the_allow_rules(json!([matching("allow"), ratio("allow")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), None)]
#[case::none_of_the_allow_rules(json!([matching("allow"), ratio("allow")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}), LIMIT)]
#[case::an_allow_rule_does_not_open_a_deny_rule(json!([matching("deny"), ratio("allow")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), LIMIT)]
#[case::preserve_takes_back(json!([matching("deny"), cpu("allow", json!(null), json!({"policy": "Preserve"}))]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "9"}}), None)]
#[case::default_takes_back(json!([matching("deny"), cpu("deny", json!(null), json!({"policy": "Default", "value": "1"}))]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "9"}}), None)]
#[case::only_what_came_before(json!([cpu("allow", json!(null), json!({"policy": "Preserve"})), matching("deny")]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "9"}}), LIMIT)]
#[case::a_removed_limit(json!([cpu("deny", json!(null), json!({"policy": "Remove"}))]), json!({"limits": {"cpu": "1"}}), LIMIT)]
#[case::a_removed_request(json!([cpu("deny", json!({"policy": "Remove"}), json!(null))]), json!({"requests": {"cpu": "1"}}), REQUEST)]
#[case::a_request_that_the_api_server_made_of_the_limit(json!([cpu("deny", json!({"policy": "Remove"}), json!(null))]), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}), None)]
#[case::a_ratio_that_cannot_be_read(json!([cpu("deny", json!(null), json!({"policy": "Ratio", "value": "lots"}))]), json!({}), LIMIT)]
fn a_container_is_held_to(#[case] list: Value, #[case] resources: Value, #[case] expected: Option<&str>) {
    assert_eq!(
        refused(&validate_pod(&rules(list), &pod(container(resources)))),
        expected
    );
}

#[test]
fn a_violation_says_what_would_be_right() {
    let list = json!([{}, ratio("deny")]);
    let outcome = validate_pod(
        &rules(list),
        &pod(container(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}))),
    );
    assert_eq!(
        refusal(&outcome).unwrap().1,
        "workload resource limit \"cpu\" at spec.containers[0].resources.limits[\"cpu\"] violates policy Ratio: limit 4 must \
         not exceed 2 (request 1 x ratio 2); an administrator set this with spec.rules[1] of the Tenant \"oil\""
    );
    assert_eq!(outcome.refusal.unwrap().reason, "ForbiddenPodResources");
}

#[test]
fn init_containers_and_the_pod_are_held_to_the_same() {
    let limits = json!({"cpu": {"policy": "Remove"}, "ephemeral-storage": {"policy": "Remove"}});
    let list = json!([resources("deny", &[], json!({}), limits)]);
    let limited = json!({"limits": {"cpu": "1"}});
    let init = pod(json!({"initContainers": [{"name": "i", "resources": limited}]}));
    assert_eq!(
        refused(&validate_pod(&rules(list.clone()), &init)),
        Some("spec.initContainers[0].resources.limits[\"cpu\"]")
    );
    let whole = pod(json!({"resources": limited}));
    assert_eq!(
        refused(&validate_pod(&rules(list), &whole)),
        Some("spec.resources.limits[\"cpu\"]")
    );
}

#[test]
fn only_new_pods_are_changed_and_a_resize_is_held_to_the_rules() {
    let rules = rules(json!([ratio("deny")]));
    let small = pod(container(json!({"requests": {"cpu": "1"}})));
    let large = pod(container(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}})));
    as_alice(|requester| {
        let update = |subresource| Request {
            subresource,
            old: Some((&small).into()),
            ..create(requester, POD, (&large).into())
        };
        assert_eq!(admission::mutate(&rules, &update("")).pod, None);
        assert!(!admission::validate(&rules, &update("")).is_allowed());
        assert!(!admission::validate(&rules, &update("resize")).is_allowed());
        for other in ["ephemeralcontainers", "status", "binding"] {
            assert!(admission::validate(&rules, &update(other)).is_allowed(), "{other}");
        }
    });
}
