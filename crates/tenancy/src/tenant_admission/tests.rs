use super::*;
use crate::fixtures::{settings, tenant};
use rstest::rstest;
use serde_json::{Value, json};

fn refused(spec: Value) -> Option<(String, &'static str)> {
    let tenant = tenant("oil").with(spec).build();
    match validate_create(&tenant, &settings(json!({}))) {
        Decision::Deny(denial) => {
            assert!(denial.message.starts_with(&denial.field), "{}", denial.message);
            Some((denial.field, denial.reason))
        }
        _ => None,
    }
}

#[rstest]
#[case::a_service_account_by_half_its_name(
    json!({"owners": [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "robot"}]}),
    "spec.owners[1].name", "OwnerInvalid"
)]
#[case::a_service_account_in_no_namespace(
    json!({"owners": [{"kind": "ServiceAccount", "name": "system:serviceaccount:Bad_Namespace:robot"}]}),
    "spec.owners[0].name", "OwnerInvalid"
)]
#[case::an_owner_without_a_name(json!({"owners": [{"kind": "User", "name": ""}]}), "spec.owners[0].name", "OwnerInvalid")]
#[case::a_role_that_cannot_be(
    json!({"owners": [{"kind": "User", "name": "a", "clusterRoles": ["admin", "a/b"]}]}),
    "spec.owners[0].clusterRoles[1]", "RoleInvalid"
)]
#[case::a_binding_to_a_bad_service_account(
    json!({"additionalRoleBindings": [{"clusterRoleName": "view", "subjects": [
        {"kind": "ServiceAccount", "name": "Bad Name", "namespace": "a"}]}]}),
    "spec.additionalRoleBindings[0].subjects[0].name", "SubjectInvalid"
)]
#[case::a_binding_to_something_else(
    json!({"rules": [{"permissions": {"bindings": [{"clusterRoleName": "view", "subjects": [
        {"kind": "Robot", "name": "r"}]}]}}]}),
    "spec.rules[0].permissions.bindings[0].subjects[0].kind", "SubjectInvalid"
)]
#[case::a_storage_class_pattern(json!({"storageClasses": {"allowedRegex": "("}}), "spec.storageClasses.allowedRegex", "PatternInvalid")]
#[case::a_hostname_pattern(
    json!({"ingressOptions": {"allowedHostnames": {"allowedRegex": "["}}}),
    "spec.ingressOptions.allowedHostnames.allowedRegex", "PatternInvalid"
)]
#[case::a_forbidden_label_pattern(
    json!({"namespaceOptions": {"forbiddenLabels": {"deniedRegex": "*"}}}),
    "spec.namespaceOptions.forbiddenLabels.deniedRegex", "PatternInvalid"
)]
#[case::a_required_label_pattern(
    json!({"namespaceOptions": {"requiredMetadata": {"labels": {"env": "(prod"}}}}),
    "spec.namespaceOptions.requiredMetadata.labels[env]", "PatternInvalid"
)]
#[case::a_selector(
    json!({"storageClasses": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
    "spec.storageClasses", "SelectorInvalid"
)]
#[case::a_template(
    json!({"namespaceOptions": {"additionalMetadata": {"labels": {"a": "{{ secret }}"}}}}),
    "spec.namespaceOptions.additionalMetadata.labels[a]", "ForbiddenMetadata"
)]
#[case::a_label_value(
    json!({"namespaceOptions": {"additionalMetadataList": [{"labels": {"a": "b c"}}]}}),
    "spec.namespaceOptions.additionalMetadataList[0].labels[a]", "ForbiddenMetadata"
)]
#[case::another_tenants_label(
    json!({"namespaceOptions": {"additionalMetadata": {"labels": {"capsule.clastix.io/tenant": "gas"}}}}),
    "spec.namespaceOptions.additionalMetadata.labels[capsule.clastix.io/tenant]", "ForbiddenMetadata"
)]
#[case::an_amount_that_is_none(
    json!({"resourceQuotas": {"items": [{"hard": {"pods": "many"}}]}}),
    "spec.resourceQuotas.items[0].hard[pods]", "QuantityInvalid"
)]
#[case::a_negative_amount(
    json!({"resourceQuotas": {"items": [{"hard": {"pods": "-1"}}]}}),
    "spec.resourceQuotas.items[0].hard[pods]", "QuantityInvalid"
)]
#[case::an_amount_in_a_limit_range(
    json!({"limitRanges": {"items": [{"limits": [{"type": "Container", "max": {"cpu": "1x"}}]}]}}),
    "spec.limitRanges.items[0].limits[0].max[cpu]", "QuantityInvalid"
)]
#[case::a_node_selector(json!({"nodeSelector": {"a b": "c"}}), "spec.nodeSelector[a b]", "NodeSelectorInvalid")]
#[case::a_node_selector_with_a_comma(json!({"nodeSelector": {"a": "b,c=d"}}), "spec.nodeSelector[a]", "NodeSelectorInvalid")]
#[case::a_label_that_no_pod_can_have(
    json!({"podOptions": {"additionalMetadata": {"labels": {"a": "{{ tenant.name }}"}}}}),
    "spec.podOptions.additionalMetadata.labels[a]", "ForbiddenMetadata"
)]
#[case::an_annotation_that_no_service_can_have(
    json!({"serviceOptions": {"additionalMetadata": {"annotations": {"a b": ""}}}}),
    "spec.serviceOptions.additionalMetadata.annotations[a b]", "ForbiddenMetadata"
)]
#[case::a_promotion_to_a_path(
    json!({"rules": [{"permissions": {"promotions": [{"clusterRoles": ["a/b"]}]}}]}),
    "spec.rules[0].permissions.promotions[0].clusterRoles[0]", "RoleInvalid"
)]
#[case::an_external_ip_that_is_none(
    json!({"serviceOptions": {"externalIPs": {"allowed": ["10.0.0.0/8", "999.0.0.1"]}}}),
    "spec.serviceOptions.externalIPs.allowed[1]",
    "ExternalIPInvalid"
)]
#[case::a_rule_that_cannot_be_carried_out(
    json!({"rules": [{"enforce": {"workloads": {"schedulers": [{"exp": "("}]}}}]}),
    "spec.rules[0].enforce.workloads.schedulers[0].exp", "RuleInvalid"
)]
fn what_cannot_be_served_is_refused(#[case] spec: Value, #[case] field: &str, #[case] reason: &str) {
    assert_eq!(refused(spec), Some((field.to_owned(), reason)));
}

#[rstest]
#[case::nothing(json!({}))]
#[case::owners_of_all_kinds(json!({"owners": [
    {"kind": "User", "name": "oidc:alice@example.com"}, {"kind": "Group", "name": "a/b c"},
    {"kind": "ServiceAccount", "name": "system:serviceaccount:a:b.c"},
]}))]
#[case::templates(json!({"namespaceOptions": {"additionalMetadata": {
    "labels": {"team": "{{ tenant.name }}"}, "annotations": {"{{tenant.name}}/ns": "{{ namespace }} of a tenant"},
}}}))]
fn what_can_be_served_passes(#[case] spec: Value) {
    assert_eq!(refused(spec), None);
}

#[rstest]
#[case("oil", None)]
#[case("oil.gas", None)]
#[case("default", Some("NameReserved"))]
#[case("kube-system", Some("NameReserved"))]
#[case("kube", Some("NameReserved"))]
#[case("cotenant-system", Some("NameReserved"))]
#[case("kubernetes-team", None)]
fn names_are_free_or_reserved(#[case] name: &str, #[case] reason: Option<&str>) {
    let decision = validate_create(&tenant(name).build(), &settings(json!({})));
    assert_eq!(decision.denial().map(|denial| denial.reason), reason);
    let long = validate_create(&tenant(&"a".repeat(64)).build(), &settings(json!({})));
    assert_eq!(long.denial().map(|denial| denial.reason), Some("NameInvalid"));
}

#[test]
fn a_tenant_from_before_can_still_be_changed() {
    let old = tenant("kube-team")
        .with(json!({
            "storageClasses": {"allowedRegex": "("},
            "rules": [
                {"enforce": {"workloads": {"schedulers": [{"exp": "("}]}}},
                {"quota": [{"name": "a", "hard": {"pods": "1"}}]},
            ],
        }))
        .build();
    let mut new = old.clone();
    new.spec.cordoned = true;
    let Decision::Warn(warnings) = validate_update(&new, &old) else {
        panic!("a warning")
    };
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    new.spec.storage_classes.as_mut().unwrap().allowed_regex = "((".into();
    assert_eq!(validate_update(&new, &old).denial().unwrap().reason, "PatternInvalid");
}

#[test]
fn a_protected_tenant_is_not_deleted() {
    assert_eq!(validate_delete(&tenant("oil").build()), Decision::Allow);
    let decision = validate_delete(&tenant("oil").with(json!({"preventDeletion": true})).build());
    assert!(
        decision
            .denial()
            .unwrap()
            .message
            .contains("tenant is protected and cannot be deleted")
    );
}

#[test]
fn a_tenant_that_ends_is_left_alone() {
    let old = tenant("oil")
        .with(json!({"owners": [{"kind": "ServiceAccount", "name": "x"}]}))
        .terminating()
        .build();
    assert_eq!(validate_update(&old, &old), Decision::Allow);
}

#[test]
fn the_name_becomes_a_label_once() {
    let Decision::Change(changed, _) = mutate(&tenant("oil").build()) else {
        panic!("a change")
    };
    assert_eq!(
        changed.labels().get("kubernetes.io/metadata.name").map(String::as_str),
        Some("oil")
    );
    assert_eq!(mutate(&changed), Decision::Allow);
}

#[test]
fn deprecated_fields_are_warned_about_where_they_are_used() {
    let tenant = tenant("oil").with(json!({
        "resourceQuotas": {"scope": "Tenant"},
        "namespaceOptions": {"quota": 3, "forbiddenLabels": {"denied": ["a"]}},
        "storageClasses": {"allowedRegex": "^g"},
    }));
    let Decision::Warn(warnings) = validate_create(&tenant.build(), &settings(json!({}))) else {
        panic!("warnings")
    };
    assert_eq!(
        warnings,
        [
            "spec.namespaceOptions.forbiddenLabels: deprecated; it works, and spec.rules is to replace it",
            "spec.storageClasses.allowedRegex: deprecated; it works, and select classes by their labels instead",
        ]
    );
}
