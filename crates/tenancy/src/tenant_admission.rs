//! What a Tenant object may say.
//!
//! Whoever writes Tenants administers them; the point here is that what is admitted is usable: every pattern, selector and
//! amount is read by the same code that will use it.

use std::collections::BTreeMap;

use api::capsule::{
    names,
    v1beta2::{DefaultAllowedList, Metadata, RoleBindingSpec, Tenant, TenantSpec, UserKind},
};
use k8s_openapi::{
    api::rbac::v1::Subject,
    apimachinery::pkg::{api::resource::Quantity as Wire, apis::meta::v1::LabelSelector},
};
use kube::ResourceExt;

use crate::{
    denial::{Decision, Denial},
    metadata,
    name::{TenantName, is_dns_subdomain, is_label_value, is_qualified_name},
    not_yet,
    pattern::Pattern,
    quantity::Quantity,
    selector::Selector,
    settings::Settings,
    subject,
};

/// Kubernetes keeps names of namespaces that begin so for itself.
const SYSTEM_PREFIX: &str = "kube-";

/// Gives the Tenant the label that selectors find it by.
pub fn mutate(tenant: &Tenant) -> Decision<Tenant> {
    let Some(name) = tenant.metadata.name.as_ref() else {
        return Decision::Allow;
    };
    if tenant.labels().get(names::NAME_LABEL) == Some(name) {
        return Decision::Allow;
    }
    let mut changed = tenant.clone();
    changed.labels_mut().insert(names::NAME_LABEL.to_owned(), name.clone());
    Decision::Change(Box::new(changed), Vec::new())
}

/// Refuses a Tenant that could not be served as it is written.
pub fn validate_create(tenant: &Tenant, settings: &Settings) -> Decision<Tenant> {
    check_name(tenant, settings).and_then(|()| check(tenant, None)).into()
}

/// Refuses a change to a Tenant that could not be served. What was there before and is left as it is, is not looked at
/// again where that would keep an administrator from repairing the rest.
pub fn validate_update(tenant: &Tenant, old: &Tenant) -> Decision<Tenant> {
    // While it ends, finalizers come off and nothing else matters.
    if tenant.metadata.deletion_timestamp.is_some() {
        return Decision::Allow;
    }
    check(tenant, Some(old)).into()
}

/// Refuses the deletion of a Tenant that is protected.
pub fn validate_delete(tenant: &Tenant) -> Decision<Tenant> {
    if !tenant.spec.prevent_deletion {
        return Decision::Allow;
    }
    let message = format!(
        "spec.preventDeletion: tenant is protected and cannot be deleted; set spec.preventDeletion of Tenant {} to false first",
        tenant.name_any()
    );
    Decision::Deny(Denial::new("spec.preventDeletion", "DeletionPrevented", message))
}

fn check_name(tenant: &Tenant, settings: &Settings) -> Result<(), Denial> {
    let (field, name) = ("metadata.name", tenant.name_any());
    // With generateName the API server makes up the rest, which is letters and digits.
    let name = if name.is_empty() {
        tenant
            .metadata
            .generate_name
            .as_deref()
            .unwrap_or_default()
            .trim_end_matches(['-', '.'])
            .to_owned()
    } else {
        name
    };
    TenantName::new(&name).map_err(|error| {
        Denial::new(
            field,
            "NameInvalid",
            format!("{field}: tenant name has forbidden characters: {error}"),
        )
    })?;
    let reserved = |by: &str| {
        let message = format!(
            "{field}: {name:?} is reserved: {by}; choose a name that no namespace of the cluster itself is called or begins with"
        );
        Err(Denial::new(field, "NameReserved", message))
    };
    if name == "default" || name == "kube" || name.starts_with(SYSTEM_PREFIX) {
        return reserved("Kubernetes keeps \"default\" and names that begin with \"kube-\" for itself");
    }
    if name == settings.operator_namespace {
        return reserved("it is the name of the operator's namespace");
    }
    Ok(())
}

fn check(tenant: &Tenant, old: Option<&Tenant>) -> Result<Vec<String>, Denial> {
    let spec = &tenant.spec;
    let before = old.map(|old| &old.spec);
    check_owners(spec)?;
    check_additional_metadata(spec)?;
    check_bindings(spec)?;
    check_patterns(spec, before)?;
    check_selectors(spec)?;
    check_quotas(spec)?;
    check_node_selector(spec)?;
    let mut warnings = not_yet::check(not_yet::TENANT, tenant, old)?;
    warnings.extend(deprecations(spec));
    Ok(warnings)
}

fn check_owners(spec: &TenantSpec) -> Result<(), Denial> {
    for (index, owner) in spec.owners.iter().enumerate() {
        let user = &owner.core.user;
        check_subject(&format!("spec.owners[{index}].name"), user.kind, &user.name)?;
        for (at, role) in owner.core.cluster_roles.iter().enumerate() {
            check_role(&format!("spec.owners[{index}].clusterRoles[{at}]"), role)?;
        }
    }
    Ok(())
}

/// A user, group or ServiceAccount that can be bound.
pub(crate) fn check_subject(field: &str, kind: UserKind, name: &str) -> Result<(), Denial> {
    if name.is_empty() {
        return Err(Denial::new(
            field,
            "OwnerInvalid",
            format!("{field}: a {kind} has to be named"),
        ));
    }
    match (kind, subject::service_account_fault(name)) {
        (UserKind::ServiceAccount, Some(fault)) => Err(Denial::new(
            field,
            "OwnerInvalid",
            format!("{field}: {name:?} is no ServiceAccount: {fault}"),
        )),
        _ => Ok(()),
    }
}

/// The path segment that the API server takes as a name of a role.
fn check_role(field: &str, role: &str) -> Result<(), Denial> {
    if role.is_empty() || role == "." || role == ".." || role.contains(['/', '%']) {
        let message =
            format!("{field}: {role:?} is not the name of a ClusterRole: it cannot be empty or contain '/' or '%'");
        return Err(Denial::new(field, "RoleInvalid", message));
    }
    Ok(())
}

fn check_additional_metadata(spec: &TenantSpec) -> Result<(), Denial> {
    let Some(options) = &spec.namespace_options else {
        return Ok(());
    };
    let field = "spec.namespaceOptions.additionalMetadata";
    if let Some(Metadata { labels, annotations }) = &options.additional_metadata {
        check_metadata(field, labels, annotations)?;
    }
    for (index, entry) in options.additional_metadata_list.iter().enumerate() {
        check_metadata(&format!("{field}List[{index}]"), &entry.labels, &entry.annotations)?;
    }
    Ok(())
}

fn check_metadata(
    field: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<(), Denial> {
    let refuse = |field: String, detail: String| {
        let message = format!("{field}: {detail}");
        Err(Denial::new(field, "ForbiddenMetadata", message))
    };
    for (part, map) in [("labels", labels), ("annotations", annotations)] {
        for (key, value) in map {
            let field = format!("{field}.{part}[{key}]");
            if let Some(template) = metadata::unknown_template(key).or_else(|| metadata::unknown_template(value)) {
                let detail =
                    format!("{template:?} is not a template; known are {{{{ tenant.name }}}} and {{{{ namespace }}}}");
                return refuse(field, detail);
            }
            if !is_qualified_name(&metadata::with_stand_ins(key)) {
                return refuse(field, format!("{key:?} is not the key of a label or annotation"));
            }
            if part == "labels" && !is_label_value(&metadata::with_stand_ins(value)) {
                return refuse(field, format!("{value:?} is not the value of a label"));
            }
            if [names::TENANT_LABEL, names::NAME_LABEL].contains(&key.as_str()) {
                return refuse(
                    field,
                    "it says where a namespace belongs and is kept by the operator; leave it out".into(),
                );
            }
        }
    }
    Ok(())
}

fn check_bindings(spec: &TenantSpec) -> Result<(), Denial> {
    let own = spec.additional_role_bindings.iter().enumerate();
    let own = own.map(|(index, binding)| (format!("spec.additionalRoleBindings[{index}]"), binding));
    let of_rules = spec.rules.iter().enumerate().flat_map(|(index, rule)| {
        let bindings = rule
            .permissions
            .iter()
            .flat_map(|permissions| &permissions.bindings)
            .enumerate();
        bindings.map(move |(at, binding)| (format!("spec.rules[{index}].permissions.bindings[{at}]"), binding))
    });
    for (
        field,
        RoleBindingSpec {
            cluster_role_name,
            subjects,
            ..
        },
    ) in own.chain(of_rules)
    {
        check_role(&format!("{field}.clusterRoleName"), cluster_role_name)?;
        if subjects.is_empty() {
            let field = format!("{field}.subjects");
            return Err(Denial::new(
                field.clone(),
                "SubjectInvalid",
                format!("{field}: somebody has to get the role"),
            ));
        }
        for (at, subject) in subjects.iter().enumerate() {
            check_binding_subject(&format!("{field}.subjects[{at}]"), subject)?;
        }
    }
    Ok(())
}

fn check_binding_subject(field: &str, subject: &Subject) -> Result<(), Denial> {
    let refuse = |part: &str, detail: &str| {
        let field = format!("{field}.{part}");
        let message = format!("{field}: {detail}");
        Err(Denial::new(field, "SubjectInvalid", message))
    };
    match subject.kind.as_str() {
        _ if subject.name.is_empty() => refuse("name", "the subject has to be named"),
        "ServiceAccount" if !is_dns_subdomain(&subject.name) => refuse(
            "name",
            &format!(
                "{:?} is not the name of a ServiceAccount: it has to be a DNS subdomain",
                subject.name
            ),
        ),
        "ServiceAccount" if subject.namespace.as_deref().unwrap_or_default().is_empty() => {
            refuse("namespace", "a ServiceAccount needs its namespace")
        }
        "User" | "Group" | "ServiceAccount" => Ok(()),
        other => refuse(
            "kind",
            &format!("{other:?} is not a kind of subject; it has to be User, Group or ServiceAccount"),
        ),
    }
}

/// Every list of classes with a default that a tenant has, with the path of its field.
fn class_lists(spec: &TenantSpec) -> impl Iterator<Item = (&'static str, &DefaultAllowedList)> {
    let ingress = spec.ingress_options.as_ref();
    let gateway = spec.gateway_options.as_ref();
    let lists = [
        ("spec.storageClasses", spec.storage_classes.as_ref()),
        (
            "spec.ingressOptions.allowedClasses",
            ingress.and_then(|options| options.allowed_classes.as_ref()),
        ),
        (
            "spec.gatewayOptions.allowedClasses",
            gateway.and_then(|options| options.allowed_classes.as_ref()),
        ),
        ("spec.priorityClasses", spec.priority_classes.as_ref()),
        ("spec.runtimeClasses", spec.runtime_classes.as_ref()),
    ];
    lists.into_iter().filter_map(|(field, list)| Some((field, list?)))
}

/// Every pattern of a tenant, with the path of its field.
fn patterns(spec: &TenantSpec) -> Vec<(String, &str)> {
    let mut patterns: Vec<(String, &str)> = Vec::new();
    let ingress = spec.ingress_options.as_ref();
    patterns
        .extend(class_lists(spec).map(|(field, list)| (format!("{field}.allowedRegex"), list.allowed_regex.as_str())));
    let device = spec.device_classes.as_ref().map(|list| list.allowed_regex.as_str());
    patterns.extend(device.map(|pattern| ("spec.deviceClasses.allowedRegex".to_owned(), pattern)));
    let names = [
        ("spec.containerRegistries", spec.container_registries.as_ref()),
        (
            "spec.ingressOptions.allowedHostnames",
            ingress.and_then(|options| options.allowed_hostnames.as_ref()),
        ),
    ];
    for (field, list) in names {
        patterns.extend(list.map(|list| (format!("{field}.allowedRegex"), list.allowed_regex.as_str())));
    }
    let namespaces = spec.namespace_options.as_ref();
    let services = spec.service_options.as_ref();
    let forbidden = [
        (
            "spec.namespaceOptions.forbiddenLabels",
            namespaces.and_then(|options| options.forbidden_labels.as_ref()),
        ),
        (
            "spec.namespaceOptions.forbiddenAnnotations",
            namespaces.and_then(|options| options.forbidden_annotations.as_ref()),
        ),
        (
            "spec.serviceOptions.forbiddenLabels",
            services.and_then(|options| options.forbidden_labels.as_ref()),
        ),
        (
            "spec.serviceOptions.forbiddenAnnotations",
            services.and_then(|options| options.forbidden_annotations.as_ref()),
        ),
    ];
    for (field, list) in forbidden {
        patterns.extend(list.map(|list| (format!("{field}.deniedRegex"), list.denied_regex.as_str())));
    }
    patterns.retain(|(_, pattern)| !pattern.is_empty());
    if let Some(required) = namespaces.and_then(|options| options.required_metadata.as_ref()) {
        for (part, map) in [("labels", &required.labels), ("annotations", &required.annotations)] {
            let required = map.iter().map(|(key, pattern)| {
                (
                    format!("spec.namespaceOptions.requiredMetadata.{part}[{key}]"),
                    pattern.as_str(),
                )
            });
            patterns.extend(required);
        }
    }
    patterns
}

fn check_patterns(spec: &TenantSpec, before: Option<&TenantSpec>) -> Result<(), Denial> {
    let before = before.map(patterns).unwrap_or_default();
    for (field, pattern) in patterns(spec) {
        if before.iter().any(|known| *known == (field.clone(), pattern)) {
            continue;
        }
        if let Err(error) = Pattern::new(pattern) {
            let message = format!(
                "{field}: unable to compile regex {pattern:?}: {error}; it has to be a regular expression in RE2 syntax"
            );
            return Err(Denial::new(field, "PatternInvalid", message));
        }
    }
    Ok(())
}

fn check_selectors(spec: &TenantSpec) -> Result<(), Denial> {
    let mut selectors: Vec<(String, Result<Selector, _>)> = Vec::new();
    selectors.extend(class_lists(spec).map(|(field, list)| {
        (
            field.to_owned(),
            Selector::of(&list.match_labels, &list.match_expressions),
        )
    }));
    if let Some(list) = &spec.device_classes {
        selectors.push((
            "spec.deviceClasses".to_owned(),
            Selector::of(&list.match_labels, &list.match_expressions),
        ));
    }
    let mut add = |field: String, selector: Option<&LabelSelector>| {
        selectors.extend(selector.map(|selector| (field, Selector::new(selector))));
    };
    for (index, selector) in spec
        .permissions
        .iter()
        .flat_map(|permissions| &permissions.match_owners)
        .enumerate()
    {
        add(format!("spec.permissions.matchOwners[{index}]"), Some(selector));
    }
    for (index, entry) in spec
        .namespace_options
        .iter()
        .flat_map(|options| &options.additional_metadata_list)
        .enumerate()
    {
        let field = format!("spec.namespaceOptions.additionalMetadataList[{index}].namespaceSelector");
        add(field, entry.namespace_selector.as_ref());
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        add(
            format!("spec.rules[{index}].namespaceSelector"),
            rule.namespace_selector.as_ref(),
        );
    }
    for (index, policy) in spec
        .network_policies
        .iter()
        .flat_map(|policies| &policies.items)
        .enumerate()
    {
        add(
            format!("spec.networkPolicies.items[{index}].podSelector"),
            policy.pod_selector.as_ref(),
        );
    }
    for (field, selector) in selectors {
        if let Err(error) = selector {
            let message = format!("{field}: the selector cannot be evaluated: {error}");
            return Err(Denial::new(field, "SelectorInvalid", message));
        }
    }
    Ok(())
}

fn check_quotas(spec: &TenantSpec) -> Result<(), Denial> {
    for (index, item) in spec.resource_quotas.iter().flat_map(|quotas| &quotas.items).enumerate() {
        for (resource, amount) in item.hard.iter().flatten() {
            check_amount(&format!("spec.resourceQuotas.items[{index}].hard[{resource}]"), amount)?;
        }
    }
    for (index, range) in spec.limit_ranges.iter().flat_map(|ranges| &ranges.items).enumerate() {
        for (at, limit) in range.limits.iter().enumerate() {
            let maps = [
                ("default", &limit.default),
                ("defaultRequest", &limit.default_request),
                ("max", &limit.max),
                ("min", &limit.min),
                ("maxLimitRequestRatio", &limit.max_limit_request_ratio),
            ];
            for (part, map) in maps {
                for (resource, amount) in map.iter().flatten() {
                    check_amount(
                        &format!("spec.limitRanges.items[{index}].limits[{at}].{part}[{resource}]"),
                        amount,
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn check_amount(field: &str, amount: &Wire) -> Result<(), Denial> {
    let refuse = |detail: String| Err(Denial::new(field, "QuantityInvalid", format!("{field}: {detail}")));
    match Quantity::parse(amount) {
        Ok(amount) if amount.is_negative() => refuse(format!("{amount} is negative; it has to be 0 or more")),
        Ok(_) => Ok(()),
        Err(error) => refuse(error.to_string()),
    }
}

fn check_node_selector(spec: &TenantSpec) -> Result<(), Denial> {
    for (key, value) in &spec.node_selector {
        if !is_qualified_name(key) || !is_label_value(value) {
            let field = format!("spec.nodeSelector[{key}]");
            let message = format!("{field}: {key:?}={value:?} is not a label that a Node can have");
            return Err(Denial::new(field, "NodeSelectorInvalid", message));
        }
    }
    Ok(())
}

/// One row per deprecated field: whether it is used, and what to use instead.
type Deprecation = (&'static str, fn(&TenantSpec) -> bool, &'static str);

static DEPRECATIONS: &[Deprecation] = &[
    (
        "spec.containerRegistries",
        |spec| spec.container_registries.is_some(),
        RULES,
    ),
    (
        "spec.resourceQuotas",
        |spec| {
            spec.resource_quotas
                .as_ref()
                .is_some_and(|quotas| !quotas.items.is_empty())
        },
        RULES,
    ),
    ("spec.serviceOptions", |spec| spec.service_options.is_some(), RULES),
    ("spec.podOptions", |spec| spec.pod_options.is_some(), RULES),
    (
        "spec.limitRanges",
        |spec| {
            spec.limit_ranges
                .as_ref()
                .is_some_and(|ranges| !ranges.items.is_empty())
        },
        REPLICATION,
    ),
    (
        "spec.networkPolicies",
        |spec| {
            spec.network_policies
                .as_ref()
                .is_some_and(|policies| !policies.items.is_empty())
        },
        REPLICATION,
    ),
    (
        "spec.namespaceOptions.additionalMetadata",
        |spec| options(spec, |options| options.additional_metadata.is_some()),
        RULES,
    ),
    (
        "spec.namespaceOptions.additionalMetadataList",
        |spec| options(spec, |options| !options.additional_metadata_list.is_empty()),
        RULES,
    ),
    (
        "spec.namespaceOptions.requiredMetadata",
        |spec| options(spec, |options| options.required_metadata.is_some()),
        RULES,
    ),
    (
        "spec.namespaceOptions.forbiddenLabels",
        |spec| options(spec, |options| options.forbidden_labels.is_some()),
        RULES,
    ),
    (
        "spec.namespaceOptions.forbiddenAnnotations",
        |spec| options(spec, |options| options.forbidden_annotations.is_some()),
        RULES,
    ),
    (
        "spec.storageClasses.allowedRegex",
        |spec| {
            spec.storage_classes
                .as_ref()
                .is_some_and(|list| !list.allowed_regex.is_empty())
        },
        LABELS,
    ),
    (
        "spec.gatewayOptions.allowedClasses.allowedRegex",
        |spec| {
            let list = spec
                .gateway_options
                .as_ref()
                .and_then(|options| options.allowed_classes.as_ref());
            list.is_some_and(|list| !list.allowed_regex.is_empty())
        },
        LABELS,
    ),
    (
        "spec.priorityClasses.allowedRegex",
        |spec| {
            spec.priority_classes
                .as_ref()
                .is_some_and(|list| !list.allowed_regex.is_empty())
        },
        LABELS,
    ),
    (
        "spec.runtimeClasses.allowedRegex",
        |spec| {
            spec.runtime_classes
                .as_ref()
                .is_some_and(|list| !list.allowed_regex.is_empty())
        },
        LABELS,
    ),
];

const RULES: &str = "spec.rules is to replace it";
const REPLICATION: &str = "replicated objects are to replace it";
const LABELS: &str = "select classes by their labels instead";

fn options(spec: &TenantSpec, used: fn(&api::capsule::v1beta2::NamespaceOptions) -> bool) -> bool {
    spec.namespace_options.as_ref().is_some_and(used)
}

fn deprecations(spec: &TenantSpec) -> impl Iterator<Item = String> {
    let used = DEPRECATIONS.iter().filter(|(_, used, _)| used(spec));
    used.map(|(field, _, instead)| format!("{field}: deprecated; it works, and {instead}"))
}

#[cfg(test)]
mod tests {
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
    #[case::what_does_not_work_yet(json!({"imagePullPolicies": ["Always"]}), "spec.imagePullPolicies", "NotYet")]
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
            .with(json!({"storageClasses": {"allowedRegex": "("}, "priorityClasses": {"allowed": ["low"]}}))
            .build();
        let mut new = old.clone();
        new.spec.cordoned = true;
        let Decision::Warn(warnings) = validate_update(&new, &old) else {
            panic!("a warning")
        };
        assert_eq!(warnings.len(), 2, "{warnings:?}");
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
}
