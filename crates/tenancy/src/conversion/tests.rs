use api::capsule::{v1beta1, v1beta2};
use proptest::{collection::vec, option, prelude::*, sample::select};
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::{Error, to_v1beta1, to_v1beta2};

fn newer(object: Value) -> v1beta2::Tenant {
    serde_json::from_value(object).expect("a Tenant of v1beta2")
}

fn older(object: Value) -> v1beta1::Tenant {
    serde_json::from_value(object).expect("a Tenant of v1beta1")
}

fn json_of<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("a Tenant is JSON")
}

fn tenant(annotations: Value, spec: Value) -> v1beta2::Tenant {
    newer(json!({
        "metadata": {"name": "oil", "uid": "1", "generation": 3, "annotations": annotations}, "spec": spec,
    }))
}

fn older_tenant(annotations: Value, spec: Value) -> v1beta1::Tenant {
    let mut object = json!({"metadata": {"name": "oil", "annotations": annotations}, "spec": spec});
    if object["spec"]["owners"].is_null() {
        object["spec"]["owners"] = json!([]);
    }
    older(object)
}

/// What a client of `v1beta1` does: reads the Tenant, changes what it sees, and writes it back.
fn changed(tenant: &v1beta2::Tenant, change: impl FnOnce(&mut Value)) -> v1beta2::Tenant {
    let mut seen = json_of(&to_v1beta1(tenant));
    change(&mut seen);
    to_v1beta2(&older(seen)).expect("the annotation is as it was made")
}

#[test]
fn fields_are_shown_in_fields_and_in_the_known_annotations() {
    let shown = to_v1beta1(&tenant(
        json!({"example.com/note": "a"}),
        json!({
            "owners": [
                {"kind": "User", "name": "alice", "proxySettings": [{"kind": "Nodes", "operations": ["List"]}]},
                {"kind": "Group", "name": "oil", "clusterRoles": ["view", "edit"]},
            ],
            "cordoned": true,
            "preventDeletion": true,
            "nodeSelector": {"pool": "oil"},
            "namespaceOptions": {
                "quota": 3, "additionalMetadata": {"labels": {"a": "b"}},
                "forbiddenLabels": {"denied": ["a", "b"], "deniedRegex": "^c"}, "forbiddenAnnotations": {"denied": ["d"]},
            },
            "storageClasses": {"allowed": ["gold"], "allowedRegex": "^s", "default": "gold", "matchLabels": {"a": "b"}},
            "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "allowWildcardHostnames": true},
        }),
    ));
    let mut annotations = shown.metadata.annotations.expect("annotations");
    annotations
        .remove("cotenant.dev/v1beta2")
        .expect("there is more than v1beta1 can say");
    assert_eq!(
        json_of(&annotations),
        json!({
            "example.com/note": "a",
            "capsule.clastix.io/cordon": "true",
            "capsule.clastix.io/protected": "true",
            "capsule.clastix.io/deny-wildcard": "false",
            "capsule.clastix.io/forbidden-namespace-labels": "a,b",
            "capsule.clastix.io/forbidden-namespace-labels-regexp": "^c",
            "capsule.clastix.io/forbidden-namespace-annotations": "d",
            "clusterrolenames.capsule.clastix.io/0": "admin,capsule-namespace-deleter",
            "clusterrolenames.capsule.clastix.io/1": "view,edit",
        })
    );
    assert_eq!(
        json_of(&shown.spec),
        json!({
            "owners": [
                {"kind": "User", "name": "alice", "proxySettings": [{"kind": "Nodes", "operations": ["List"]}]},
                {"kind": "Group", "name": "oil"},
            ],
            "nodeSelector": {"pool": "oil"},
            "namespaceOptions": {"quota": 3, "additionalMetadata": {"labels": {"a": "b"}}},
            "storageClasses": {"allowed": ["gold"], "allowedRegex": "^s"},
            "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "hostnameCollisionScope": "Disabled"},
        })
    );
}

#[test]
fn a_tenant_that_v1beta1_can_say_carries_nothing() {
    let shown = to_v1beta1(&tenant(
        json!({}),
        json!({"owners": [{"kind": "User", "name": "alice"}]}),
    ));
    assert_eq!(
        json_of(&shown.metadata.annotations),
        json!({
            "capsule.clastix.io/deny-wildcard": "true",
            "clusterrolenames.capsule.clastix.io/0": "admin,capsule-namespace-deleter",
        })
    );
}

#[test]
fn an_older_manifest_says_fields_in_annotations() {
    let said = to_v1beta2(&older_tenant(
        json!({
            "example.com/note": "a",
            "capsule.clastix.io/cordon": "true",
            "capsule.clastix.io/protected": "",
            "capsule.clastix.io/deny-wildcard": "false",
            "capsule.clastix.io/forbidden-namespace-labels": "a, b",
            "capsule.clastix.io/forbidden-namespace-annotations-regexp": "^c,d$",
            "clusterrolenames.capsule.clastix.io/1": "view",
            "clusterrolenames.capsule.clastix.io/user.bob__AT__oil.example": "edit,view",
        }),
        json!({
            "owners": [
                {"kind": "User", "name": "alice"},
                {"kind": "Group", "name": "oil", "proxySettings": [{"kind": "Nodes", "operations": ["List"]}]},
                {"kind": "User", "name": "Bob@Oil.example"},
            ],
            "storageClasses": {"allowed": ["gold"]},
        }),
    ))
    .expect("nothing is carried");
    assert_eq!(
        json_of(&said.metadata.annotations),
        json!({
            "example.com/note": "a",
            "clusterrolenames.capsule.clastix.io/user.bob__AT__oil.example": "edit,view",
        })
    );
    assert_eq!(
        json_of(&said.spec),
        json!({
            "owners": [
                {"kind": "User", "name": "alice", "clusterRoles": ["admin", "capsule-namespace-deleter"]},
                {
                    "kind": "Group", "name": "oil", "clusterRoles": ["view"],
                    "proxySettings": [{"kind": "Nodes", "operations": ["List"]}],
                },
                {"kind": "User", "name": "Bob@Oil.example", "clusterRoles": ["edit", "view"]},
            ],
            "cordoned": true,
            "preventDeletion": true,
            "namespaceOptions": {
                "managedMetadataOnly": false,
                "forbiddenLabels": {"denied": ["a", "b"]}, "forbiddenAnnotations": {"deniedRegex": "^c,d$"},
            },
            "storageClasses": {"allowed": ["gold"]},
            "ingressOptions": {"hostnameCollisionScope": "Disabled", "allowWildcardHostnames": true},
        })
    );
}

#[rstest]
#[case::cordoned("capsule.clastix.io/cordon", "True", "cordoned", json!(true))]
#[case::not_cordoned("capsule.clastix.io/cordon", "false", "cordoned", json!(false))]
#[case::no_truth_value("capsule.clastix.io/cordon", "perhaps", "cordoned", json!(false))]
#[case::protected_by_any_value("capsule.clastix.io/protected", "false", "preventDeletion", json!(true))]
#[case::wildcards_denied("capsule.clastix.io/deny-wildcard", "true", "ingressOptions", json!(null))]
#[case::wildcards_not_allowed_in_clear_words("capsule.clastix.io/deny-wildcard", "no", "ingressOptions", json!(null))]
fn truth_values_are_read_as_go_reads_them(
    #[case] key: &str,
    #[case] value: &str,
    #[case] field: &str,
    #[case] expected: Value,
) {
    let said = to_v1beta2(&older_tenant(json!({key: value}), json!({}))).expect("nothing is carried");
    assert_eq!(json_of(&said.spec)[field], expected);
    assert_eq!(said.metadata.annotations, None);
}

fn rich_spec() -> Value {
    json!({
        "owners": [
            {"kind": "User", "name": "alice", "clusterRoles": ["admin"], "labels": {"a": "b"}},
            {
                "kind": "User", "name": "bob", "clusterRoles": ["view"],
                "proxySettings": [{"kind": "RuntimeClasses", "operations": ["List"]}, {"kind": "Nodes", "operations": ["List"]}],
            },
        ],
        "permissions": {"matchOwners": [{"matchLabels": {"team": "oil"}}], "allowOwnerPromotion": false},
        "data": {"any": ["thing"]},
        "cordoned": false,
        "preventDeletion": false,
        "forceTenantPrefix": true,
        "namespaceOptions": {"quota": 3, "managedMetadataOnly": true, "requiredMetadata": {"labels": {"env": "^prod$"}}},
        "storageClasses": {"allowed": ["gold"], "default": "gold", "matchLabels": {"a": "b"}},
        "runtimeClasses": {"allowed": ["gvisor"]},
        "ingressOptions": {"allowedClasses": {"default": "nginx"}, "hostnameCollisionScope": "Cluster"},
        "podOptions": {"additionalMetadata": {"labels": {"a": "b"}}},
        "rules": [{"enforce": {"action": "deny", "workloads": {"qosClasses": ["BestEffort"]}}}],
    })
}

/// Sets `path` in what the client sees, and `path` in what is stored: nothing else may differ.
#[rstest]
#[case::another_quota("/namespaceOptions/quota", json!(5))]
#[case::another_class("/storageClasses/allowed", json!(["silver"]))]
#[case::another_scope("/ingressOptions/hostnameCollisionScope", json!("Tenant"))]
fn a_change_in_v1beta1_leaves_what_it_cannot_see(#[case] path: &str, #[case] value: Value) {
    let before = tenant(json!({}), rich_spec());
    let after = changed(&before, |seen| {
        *seen["spec"].pointer_mut(path).expect("the field is shown") = value.clone();
    });
    let mut expected = rich_spec();
    *expected.pointer_mut(path).expect("the field is there") = value;
    assert_eq!(json_of(&after.spec), expected);
}

#[test]
fn a_list_of_classes_that_is_removed_is_removed_with_its_selectors() {
    let after = changed(&tenant(json!({}), rich_spec()), |seen| {
        let spec = seen["spec"].as_object_mut().expect("a spec");
        spec.remove("storageClasses");
        spec.remove("ingressOptions");
    });
    assert_eq!(after.spec.storage_classes, None);
    assert_eq!(after.spec.ingress_options, None);
}

#[test]
fn restrictions_of_namespaces_that_cannot_be_seen_stay_when_the_block_is_removed() {
    let after = changed(&tenant(json!({}), rich_spec()), |seen| {
        seen["spec"].as_object_mut().expect("a spec").remove("namespaceOptions");
    });
    assert_eq!(
        json_of(&after.spec.namespace_options),
        json!({"managedMetadataOnly": true, "requiredMetadata": {"labels": {"env": "^prod$"}}})
    );
}

#[test]
fn what_annotations_say_is_changed_by_annotations() {
    let before = tenant(
        json!({}),
        json!({"cordoned": true, "preventDeletion": true, "namespaceOptions": {"forbiddenLabels": {"denied": ["a"]}}}),
    );
    let after = changed(&before, |seen| {
        let annotations = seen["metadata"]["annotations"].as_object_mut().expect("annotations");
        annotations.remove("capsule.clastix.io/cordon");
        annotations.remove("capsule.clastix.io/protected");
        annotations["capsule.clastix.io/forbidden-namespace-labels"] = json!("a,b");
    });
    assert_eq!(
        json_of(&after.spec),
        json!({
            "cordoned": false, "preventDeletion": false,
            "namespaceOptions": {"managedMetadataOnly": false, "forbiddenLabels": {"denied": ["a", "b"]}},
        })
    );
}

fn owners(spec: &v1beta2::TenantSpec) -> Vec<(String, String)> {
    let owners = spec.owners.iter();
    owners
        .map(|owner| (owner.core.user.name.clone(), owner.core.cluster_roles.join(",")))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs.map(|(name, roles)| ((*name).into(), (*roles).into())).collect()
}

const BY_POSITION: &str = "clusterrolenames.capsule.clastix.io/0";
const BY_NAME: &str = "clusterrolenames.capsule.clastix.io/user.alice";

#[rstest]
#[case::nothing(|_: &mut Value| (), &[("alice", "admin"), ("bob", "view")])]
#[case::the_first_owner_leaves(
    |seen: &mut Value| { seen["spec"]["owners"].as_array_mut().unwrap().remove(0); },
    &[("bob", "view")],
)]
#[case::owners_change_places(
    |seen: &mut Value| seen["spec"]["owners"].as_array_mut().unwrap().reverse(),
    &[("bob", "view"), ("alice", "admin")],
)]
#[case::an_owner_comes_first(
    |seen: &mut Value| seen["spec"]["owners"].as_array_mut().unwrap().insert(0, json!({"kind": "User", "name": "carol"})),
    &[("carol", "admin,capsule-namespace-deleter"), ("alice", "admin"), ("bob", "view")],
)]
#[case::an_owner_comes_last_with_roles(
    |seen: &mut Value| {
        seen["spec"]["owners"].as_array_mut().unwrap().push(json!({"kind": "User", "name": "carol"}));
        seen["metadata"]["annotations"]["clusterrolenames.capsule.clastix.io/2"] = json!("edit");
    },
    &[("alice", "admin"), ("bob", "view"), ("carol", "edit")],
)]
#[case::roles_by_position(
    |seen: &mut Value| seen["metadata"]["annotations"][BY_POSITION] = json!("edit, view"),
    &[("alice", "edit,view"), ("bob", "view")],
)]
#[case::roles_by_name(
    |seen: &mut Value| seen["metadata"]["annotations"][BY_NAME] = json!("edit"),
    &[("alice", "edit"), ("bob", "view")],
)]
#[case::no_roles_by_position_any_more(
    |seen: &mut Value| { seen["metadata"]["annotations"].as_object_mut().unwrap().remove(BY_POSITION); },
    &[("alice", "admin,capsule-namespace-deleter"), ("bob", "view")],
)]
fn owners_keep_their_roles_until_an_annotation_says_otherwise(
    #[case] change: fn(&mut Value),
    #[case] expected: &[(&str, &str)],
) {
    let after = changed(&tenant(json!({}), rich_spec()), change);
    assert_eq!(owners(&after.spec), pairs(expected));
}

#[test]
fn roles_that_were_once_given_by_name_follow_what_v1beta2_says() {
    let before = tenant(json!({BY_NAME: "edit"}), rich_spec());
    let shown = to_v1beta1(&before).metadata.annotations.expect("annotations");
    assert_eq!(shown[BY_NAME], "admin");
    assert_eq!(
        owners(&changed(&before, |_| ()).spec),
        pairs(&[("alice", "admin"), ("bob", "view")])
    );
}

#[test]
fn owners_whose_names_differ_in_case_only_do_not_get_each_others_roles() {
    let before = tenant(
        json!({BY_NAME: "view"}),
        json!({"owners": [
            {"kind": "User", "name": "alice", "clusterRoles": ["view"]},
            {"kind": "User", "name": "Alice", "clusterRoles": ["admin"]},
        ]}),
    );
    assert_eq!(
        owners(&changed(&before, |_| ()).spec),
        pairs(&[("alice", "view"), ("Alice", "admin")])
    );
}

#[test]
fn proxy_settings_that_v1beta1_does_not_know_stay_with_their_owner() {
    let kinds = |tenant: &v1beta2::Tenant| json_of(&tenant.spec.owners[1].proxy_settings);
    let before = tenant(json!({}), rich_spec());
    assert_eq!(kinds(&changed(&before, |_| ())), kinds(&before));
    let after = changed(&before, |seen| {
        seen["spec"]["owners"][1]["proxySettings"] = json!([{"kind": "StorageClasses", "operations": ["Update"]}]);
    });
    assert_eq!(
        kinds(&after),
        json!([{"kind": "StorageClasses", "operations": ["Update"]}, {"kind": "RuntimeClasses", "operations": ["List"]}])
    );
}

fn full_status() -> Value {
    let conditions = json!([{
        "type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }]);
    json!({
        "state": "Terminating", "size": 1, "namespaces": ["oil-one"],
        "spaces": [{"name": "oil-one", "uid": "1", "conditions": [], "metadata": {"labels": {"a": "b"}}}],
        "owners": [{"kind": "User", "name": "alice", "clusterRoles": ["admin"]}],
        "promotions": [{"kind": "User", "name": "robot", "clusterRoles": ["view"], "targets": ["oil-one"]}],
        "classes": {"storage": ["gold"]}, "observedGeneration": 3, "conditions": conditions,
    })
}

#[test]
fn a_status_survives_but_for_conditions_of_spaces() {
    let mut object = json!({"metadata": {"name": "oil"}, "spec": {}, "status": full_status()});
    object["status"]["spaces"][0]["conditions"] = object["status"]["conditions"].clone();
    let before = newer(object);
    assert_eq!(
        json_of(&to_v1beta1(&before).status),
        json!({"state": "Active", "size": 1, "namespaces": ["oil-one"]})
    );
    assert_eq!(json_of(&changed(&before, |_| ()).status), full_status());
}

#[test]
fn annotations_of_v1beta2_that_mean_something_in_v1beta1_mean_nothing_on_the_way() {
    let annotations = json!({
        "capsule.clastix.io/cordon": "true", "capsule.clastix.io/forbidden-namespace-labels": "a",
        "clusterrolenames.capsule.clastix.io/0": "cluster-admin",
    });
    let before = tenant(annotations, json!({"owners": [{"kind": "User", "name": "alice"}]}));
    assert_eq!(changed(&before, |_| ()), before);
}

/// The Tenant was read with UID 1 in generation 3.
#[rstest]
#[case::as_it_was_read(json!({"uid": "1", "generation": 3}), false, true)]
#[case::changed_and_counted_up(json!({"uid": "1", "generation": 4}), true, true)]
#[case::deleted_and_counted_up(
    json!({"uid": "1", "generation": 4, "deletionTimestamp": "2026-01-02T03:04:05Z"}), false, true
)]
#[case::a_manifest_without_a_generation(json!({"uid": "1"}), true, true)]
#[case::a_manifest_for_a_new_tenant(json!({}), false, true)]
#[case::a_new_tenant_made_from_it(json!({"uid": "2", "generation": 1}), false, true)]
#[case::changed_in_v1beta2_since(json!({"uid": "1", "generation": 4}), false, false)]
#[case::changed_twice_since(json!({"uid": "1", "generation": 5}), true, false)]
#[case::from_a_later_state(json!({"uid": "1", "generation": 2}), false, false)]
#[case::from_another_tenant(json!({"uid": "2", "generation": 3}), false, false)]
fn what_was_carried_from_an_older_state_is_refused(
    #[case] metadata: Value,
    #[case] is_changed: bool,
    #[case] is_accepted: bool,
) {
    let mut seen = json_of(&to_v1beta1(&tenant(json!({}), rich_spec())));
    let annotations = seen["metadata"]["annotations"].take();
    seen["metadata"] = metadata;
    seen["metadata"]["annotations"] = annotations;
    if is_changed {
        seen["spec"]["namespaceOptions"]["quota"] = json!(7);
    }
    let answer = to_v1beta2(&older(seen));
    assert_eq!(answer.is_ok(), is_accepted, "{answer:?}");
    if let Err(error) = answer {
        assert!(matches!(error, Error::Stale { carried: 3, .. }));
        assert!(error.to_string().contains("read the Tenant again"), "{error}");
    }
}

/// Hooks are asked in `v1beta2`, and what they change is made `v1beta1` again, before the API server counts the generation.
#[test]
fn what_was_carried_within_one_write_is_accepted() {
    let written = newer(json!({"metadata": {"name": "oil"}, "spec": rich_spec()}));
    let mut seen = json_of(&to_v1beta1(&written));
    seen["metadata"]["uid"] = json!("1");
    for generation in [1, 4] {
        seen["metadata"]["generation"] = json!(generation);
        let stored = to_v1beta2(&older(seen.clone())).expect("nobody could read it before");
        assert_eq!(stored.spec, written.spec);
    }
}

#[rstest]
#[case::no_json("rules")]
#[case::another_shape(r#"{"spec": {"rules": "all"}}"#)]
#[case::a_value_that_is_none(r#"{"spec": {"rules": [{"enforce": {"action": "ask"}}]}}"#)]
fn what_was_not_carried_by_us_is_refused(#[case] text: &str) {
    let answer = to_v1beta2(&older_tenant(json!({"cotenant.dev/v1beta2": text}), json!({})));
    let error = answer.expect_err("the annotation is none of ours").to_string();
    assert!(
        error.starts_with("metadata.annotations[cotenant.dev/v1beta2] cannot be read"),
        "{error}"
    );
}

/// The API server refuses more, also in answers to reads.
const LIMIT: usize = 256 * 1024;

fn size(tenant: &v1beta1::Tenant) -> usize {
    let annotations = tenant.metadata.annotations.iter().flatten();
    annotations.map(|(key, value)| key.len() + value.len()).sum()
}

#[test]
fn a_status_that_does_not_fit_is_left_out() {
    let mut before = tenant(json!({}), rich_spec());
    let spaces =
        (0..3000).map(|index| json!({"name": format!("oil-{index}"), "metadata": {"labels": {"a": "b".repeat(60)}}}));
    before.status = serde_json::from_value(json!({"size": 3000, "spaces": spaces.collect::<Vec<_>>()})).unwrap();
    assert!(size(&to_v1beta1(&before)) < LIMIT);
    let after = changed(&before, |_| ());
    assert_eq!(after.spec, before.spec);
    assert_eq!(
        json_of(&after.status),
        json!({"state": "Active", "size": 3000, "conditions": []})
    );
}

#[rstest]
#[case::carried(json!({"data": "a".repeat(300_000)}))]
#[case::in_an_annotation_of_its_own(json!({"namespaceOptions": {"forbiddenLabels": {"deniedRegex": "a".repeat(300_000)}}}))]
fn a_spec_that_does_not_fit_can_be_read_and_not_written(#[case] spec: Value) {
    let shown = to_v1beta1(&tenant(json!({"example.com/note": "a"}), spec));
    assert!(size(&shown) < LIMIT);
    assert_eq!(shown.metadata.annotations.as_ref().unwrap()["example.com/note"], "a");
    assert_eq!(to_v1beta2(&shown), Err(Error::TooLarge));
}

fn text() -> impl Strategy<Value = String> {
    select(vec![
        "a",
        "b",
        "a.b/c",
        "Alice",
        "alice",
        "x@y",
        "with space",
        "a,b",
        "",
        "ü",
        "0",
        "true",
    ])
    .prop_map(str::to_owned)
}

fn texts() -> impl Strategy<Value = Value> {
    vec(text(), 0..4).prop_map(|texts| json!(texts))
}

fn map() -> impl Strategy<Value = Value> {
    vec((text(), text()), 0..3).prop_map(|pairs| {
        pairs
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect()
    })
}

/// An object with some of these fields.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| option::of(value).prop_map(move |value| value.map(|value| (name.to_owned(), value))))
        .collect();
    let object = fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>()));
    object.boxed()
}

fn list(of: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    vec(of, 0..3).prop_map(Value::Array).boxed()
}

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(values).prop_map(|value| json!(value)).boxed()
}

fn with(fixed: BoxedStrategy<Value>, more: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    (fixed, more)
        .prop_map(|(mut fixed, more)| {
            if let (Value::Object(fixed), Value::Object(more)) = (&mut fixed, more) {
                fixed.extend(more);
            }
            fixed
        })
        .boxed()
}

fn user() -> BoxedStrategy<Value> {
    (one_of(&["User", "Group", "ServiceAccount"]), text())
        .prop_map(|(kind, name)| json!({"kind": kind, "name": name}))
        .boxed()
}

fn proxy_settings(kinds: &'static [&'static str]) -> BoxedStrategy<Value> {
    let operations = list(one_of(&["List", "Update", "Delete"]));
    list(
        (one_of(kinds), operations)
            .prop_map(|(kind, operations)| json!({"kind": kind, "operations": operations}))
            .boxed(),
    )
}

fn allowed() -> BoxedStrategy<Value> {
    object(vec![
        ("allowed", texts().boxed()),
        ("allowedRegex", text().prop_map(Value::from).boxed()),
    ])
}

fn classes() -> BoxedStrategy<Value> {
    let more = object(vec![
        ("default", text().prop_map(Value::from).boxed()),
        ("matchLabels", map().boxed()),
    ]);
    with(allowed(), more)
}

fn forbidden() -> BoxedStrategy<Value> {
    object(vec![
        ("denied", texts().boxed()),
        ("deniedRegex", text().prop_map(Value::from).boxed()),
    ])
}

fn metadata() -> BoxedStrategy<Value> {
    object(vec![("labels", map().boxed()), ("annotations", map().boxed())])
}

fn truth() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn common() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    vec![
        ("nodeSelector", map().boxed()),
        ("containerRegistries", allowed()),
        ("imagePullPolicies", list(one_of(&["Always", "Never", "IfNotPresent"]))),
        (
            "serviceOptions",
            object(vec![
                ("forbiddenLabels", forbidden()),
                ("additionalMetadata", metadata()),
            ]),
        ),
        (
            "resourceQuotas",
            object(vec![("scope", one_of(&["Tenant", "Namespace"]))]),
        ),
    ]
}

fn newer_tenants() -> impl Strategy<Value = v1beta2::Tenant> {
    const PROXIED: &[&str] = &["Nodes", "StorageClasses", "RuntimeClasses", "PersistentVolumes"];
    let owner = with(
        user(),
        object(vec![
            ("clusterRoles", texts().boxed()),
            ("labels", map().boxed()),
            ("proxySettings", proxy_settings(PROXIED)),
        ]),
    );
    let rule = object(vec![
        ("audience", list(user())),
        ("enforce", object(vec![("action", one_of(&["allow", "audit"]))])),
    ]);
    let mut fields = common();
    fields.extend([
        ("owners", list(owner)),
        ("permissions", object(vec![("allowOwnerPromotion", truth())])),
        ("data", map().boxed()),
        ("cordoned", truth()),
        ("preventDeletion", truth()),
        ("forceTenantPrefix", truth()),
        (
            "namespaceOptions",
            object(vec![
                ("quota", (1..9).prop_map(|quota: i32| json!(quota)).boxed()),
                ("additionalMetadata", metadata()),
                ("additionalMetadataList", list(metadata())),
                ("managedMetadataOnly", truth()),
                ("requiredMetadata", metadata()),
                ("forbiddenLabels", forbidden()),
                ("forbiddenAnnotations", forbidden()),
            ]),
        ),
        ("storageClasses", classes()),
        ("priorityClasses", classes()),
        ("runtimeClasses", classes()),
        ("deviceClasses", allowed()),
        ("gatewayOptions", object(vec![("allowedClasses", classes())])),
        (
            "ingressOptions",
            object(vec![
                ("allowedClasses", classes()),
                ("allowedHostnames", allowed()),
                ("hostnameCollisionScope", one_of(&["Cluster", "Disabled"])),
                ("allowWildcardHostnames", truth()),
            ]),
        ),
        ("podOptions", object(vec![("additionalMetadata", metadata())])),
        ("rules", list(rule)),
    ]);
    let status = object(vec![
        ("state", one_of(&["Active", "Cordoned", "Terminating"])),
        ("size", (0..3).prop_map(|size: i32| json!(size)).boxed()),
        ("namespaces", texts().boxed()),
        (
            "spaces",
            list(
                text()
                    .prop_map(|name| json!({"name": name, "metadata": {"labels": {"a": "b"}}}))
                    .boxed(),
            ),
        ),
        (
            "observedGeneration",
            (1..4).prop_map(|generation: i32| json!(generation)).boxed(),
        ),
    ]);
    let annotations = object(vec![
        ("example.com/a", text().prop_map(Value::from).boxed()),
        ("capsule.clastix.io/cordon", text().prop_map(Value::from).boxed()),
        (
            "capsule.clastix.io/forbidden-namespace-labels",
            text().prop_map(Value::from).boxed(),
        ),
        (
            "clusterrolenames.capsule.clastix.io/0",
            text().prop_map(Value::from).boxed(),
        ),
    ]);
    (object(fields), option::of(status), annotations).prop_map(|(spec, status, annotations)| {
        let mut object =
            json!({"metadata": {"name": "oil", "uid": "1", "generation": 3}, "spec": spec, "status": status});
        if annotations != json!({}) {
            object["metadata"]["annotations"] = annotations;
        }
        newer(object)
    })
}

fn older_tenants() -> impl Strategy<Value = v1beta1::Tenant> {
    let owner = with(
        user(),
        object(vec![("proxySettings", proxy_settings(&["Nodes", "IngressClasses"]))]),
    );
    let mut fields = common();
    fields.extend([
        ("namespaceOptions", object(vec![("additionalMetadata", metadata())])),
        ("storageClasses", allowed()),
        ("priorityClasses", allowed()),
        (
            "ingressOptions",
            object(vec![("allowedClasses", allowed()), ("allowedHostnames", allowed())]),
        ),
    ]);
    let annotations = object(vec![
        ("example.com/a", text().prop_map(Value::from).boxed()),
        ("capsule.clastix.io/cordon", text().prop_map(Value::from).boxed()),
        ("capsule.clastix.io/protected", text().prop_map(Value::from).boxed()),
        ("capsule.clastix.io/deny-wildcard", text().prop_map(Value::from).boxed()),
        (
            "capsule.clastix.io/forbidden-namespace-labels",
            text().prop_map(Value::from).boxed(),
        ),
        (
            "clusterrolenames.capsule.clastix.io/0",
            text().prop_map(Value::from).boxed(),
        ),
        (
            "clusterrolenames.capsule.clastix.io/user.alice",
            text().prop_map(Value::from).boxed(),
        ),
    ]);
    (object(fields), list(owner), annotations).prop_map(|(mut spec, owners, annotations)| {
        spec["owners"] = owners;
        older_tenant(annotations, spec)
    })
}

proptest! {
    #[test]
    fn a_tenant_that_goes_to_v1beta1_and_back_is_the_same(tenant in newer_tenants()) {
        prop_assert_eq!(to_v1beta2(&to_v1beta1(&tenant)), Ok(tenant));
    }

    #[test]
    fn an_older_tenant_that_is_stored_is_shown_as_it_was_written(tenant in older_tenants()) {
        let stored = to_v1beta2(&tenant).expect("nothing is carried");
        let mut shown = to_v1beta1(&stored);
        // What annotations say needs a block to be stored in.
        if tenant.spec.ingress_options.is_none() {
            shown.spec.ingress_options = None;
        }
        if tenant.spec.namespace_options.is_none() {
            shown.spec.namespace_options = None;
        }
        prop_assert_eq!(&shown.spec, &tenant.spec);
        prop_assert_eq!(&shown.status, &tenant.status);
    }

    #[test]
    fn an_older_tenant_that_is_shown_means_what_it_meant(tenant in older_tenants()) {
        let stored = to_v1beta2(&tenant).expect("nothing is carried");
        let again = to_v1beta2(&to_v1beta1(&stored)).expect("the annotation is as it was made");
        prop_assert_eq!(again.spec, stored.spec);
    }

    #[test]
    fn whatever_the_annotation_says_has_an_answer(text in any::<String>(), generation in any::<i64>()) {
        let carried = json!({"uid": text, "generation": generation, "annotations": {"a": text}}).to_string();
        for annotation in [text, carried] {
            let _ = to_v1beta2(&older_tenant(json!({"cotenant.dev/v1beta2": annotation}), json!({})));
        }
    }
}
