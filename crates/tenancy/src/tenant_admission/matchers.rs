//! Patterns and selectors: every field that holds one, read as it will be read.

use api::capsule::v1beta2::{DefaultAllowedList, TenantSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{denial::Denial, pattern::Pattern, selector::Selector};

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

pub(super) fn check_patterns(spec: &TenantSpec, before: Option<&TenantSpec>) -> Result<(), Denial> {
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

pub(super) fn check_selectors(spec: &TenantSpec) -> Result<(), Denial> {
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
        let promotions = rule.permissions.iter().flat_map(|permissions| &permissions.promotions);
        for (at, promotion) in promotions.enumerate() {
            add(
                format!("spec.rules[{index}].permissions.promotions[{at}].selector"),
                promotion.selector.as_ref(),
            );
        }
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
