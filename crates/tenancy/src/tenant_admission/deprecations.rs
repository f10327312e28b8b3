//! Fields that work and have a successor.

use api::capsule::v1beta2::TenantSpec;

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

pub(super) fn deprecations(spec: &TenantSpec) -> impl Iterator<Item = String> {
    let used = DEPRECATIONS.iter().filter(|(_, used, _)| used(spec));
    used.map(|(field, _, instead)| format!("{field}: deprecated; it works, and {instead}"))
}
