//! Limits that are tried out: what they would refuse passes and is reported.
//!
//! The annotation [`ANNOTATION`] of a Tenant names them by their fields. A refusal says which limit it comes from
//! ([`crate::denial::Denial::limit`]); where the tenant audits that one, the request is decided upon again as if the Tenant did
//! not set it ([`crate::index::View::without_limit`]). So an audited limit is exactly one that is not there, and each of the
//! others decides as it would beside it. No rule knows of any of this.
//!
//! Only what is listed here can be audited: what an administrator sets on a Tenant to keep it small or tidy. Whose a
//! namespace is, what keeps tenants apart, and what keeps our own objects ours is not for anybody to try without.

pub mod report;

use std::collections::BTreeSet;

use api::capsule::v1beta2::{HostnameCollisionScope, Tenant, TenantSpec};
use kube_core::ResourceExt;

use crate::denial::Denial;

/// On a Tenant: which limits are tried out, as fields of its spec, separated by commas. `*` stands for all, and the name of a
/// field with several limits, such as `ingressOptions`, for those; but not for limits that keep tenants apart
/// ([`Limit::keeps_apart`]), which have to be named.
pub const ANNOTATION: &str = "cotenant.dev/audit";

const ALL: &str = "*";

/// A limit that can be audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the field that `Limit::field` names")]
pub enum Limit {
    ContainerRegistries,
    DeviceClasses,
    GatewayClasses,
    ImagePullPolicies,
    WildcardHostnames,
    IngressClasses,
    Hostnames,
    HostnameCollisions,
    NamespaceAnnotations,
    NamespaceLabels,
    NamespaceQuota,
    RequiredMetadata,
    PriorityClasses,
    Rules,
    RuntimeClasses,
    ServiceTypes,
    ExternalIps,
    ServiceAnnotations,
    ServiceLabels,
    StorageClasses,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 20] = [
        Self::ContainerRegistries,
        Self::DeviceClasses,
        Self::GatewayClasses,
        Self::ImagePullPolicies,
        Self::WildcardHostnames,
        Self::IngressClasses,
        Self::Hostnames,
        Self::HostnameCollisions,
        Self::NamespaceAnnotations,
        Self::NamespaceLabels,
        Self::NamespaceQuota,
        Self::RequiredMetadata,
        Self::PriorityClasses,
        Self::Rules,
        Self::RuntimeClasses,
        Self::ServiceTypes,
        Self::ExternalIps,
        Self::ServiceAnnotations,
        Self::ServiceLabels,
        Self::StorageClasses,
    ];

    /// Its field, below `spec` of the Tenant.
    pub const fn field(self) -> &'static str {
        match self {
            Self::ContainerRegistries => "containerRegistries",
            Self::DeviceClasses => "deviceClasses",
            Self::GatewayClasses => "gatewayOptions.allowedClasses",
            Self::ImagePullPolicies => "imagePullPolicies",
            Self::WildcardHostnames => "ingressOptions.allowWildcardHostnames",
            Self::IngressClasses => "ingressOptions.allowedClasses",
            Self::Hostnames => "ingressOptions.allowedHostnames",
            Self::HostnameCollisions => "ingressOptions.hostnameCollisionScope",
            Self::NamespaceAnnotations => "namespaceOptions.forbiddenAnnotations",
            Self::NamespaceLabels => "namespaceOptions.forbiddenLabels",
            Self::NamespaceQuota => "namespaceOptions.quota",
            Self::RequiredMetadata => "namespaceOptions.requiredMetadata",
            Self::PriorityClasses => "priorityClasses",
            Self::Rules => "rules",
            Self::RuntimeClasses => "runtimeClasses",
            Self::ServiceTypes => "serviceOptions.allowedServices",
            Self::ExternalIps => "serviceOptions.externalIPs",
            Self::ServiceAnnotations => "serviceOptions.forbiddenAnnotations",
            Self::ServiceLabels => "serviceOptions.forbiddenLabels",
            Self::StorageClasses => "storageClasses",
        }
    }

    /// Whether other tenants rely on it: without it a tenant takes their hostnames, or addresses of anybody.
    pub const fn keeps_apart(self) -> bool {
        matches!(self, Self::HostnameCollisions | Self::ExternalIps)
    }

    /// Those that a word of the annotation names; none if it is no such word.
    fn named(word: &str) -> impl Iterator<Item = Self> {
        let is_meant = move |limit: &Self| word == limit.field() || (limit.is_in(word) && !limit.keeps_apart());
        Self::ALL.into_iter().filter(is_meant)
    }

    /// Whether a word stands for several limits, of which this is one.
    fn is_in(self, word: &str) -> bool {
        word == ALL || self.field().split_once('.').is_some_and(|(group, _)| group == word)
    }

    /// Whether a Tenant's spec has it.
    fn is_set(self, spec: &TenantSpec) -> bool {
        let mut without = spec.clone();
        self.lift(&mut without);
        without != *spec
    }

    /// Takes the limit out of a Tenant's spec.
    pub(crate) fn lift(self, spec: &mut TenantSpec) {
        let (ingress, service) = (&mut spec.ingress_options, &mut spec.service_options);
        let namespace = &mut spec.namespace_options;
        match self {
            Self::ContainerRegistries => spec.container_registries = None,
            Self::DeviceClasses => spec.device_classes = None,
            Self::GatewayClasses => within(&mut spec.gateway_options, |options| options.allowed_classes = None),
            Self::ImagePullPolicies => spec.image_pull_policies.clear(),
            Self::WildcardHostnames => within(ingress, |options| options.allow_wildcard_hostnames = true),
            Self::IngressClasses => within(ingress, |options| options.allowed_classes = None),
            Self::Hostnames => within(ingress, |options| options.allowed_hostnames = None),
            Self::HostnameCollisions => within(ingress, |options| {
                options.hostname_collision_scope = HostnameCollisionScope::Disabled;
            }),
            Self::NamespaceAnnotations => within(namespace, |options| options.forbidden_annotations = None),
            Self::NamespaceLabels => within(namespace, |options| options.forbidden_labels = None),
            Self::NamespaceQuota => within(namespace, |options| options.quota = None),
            Self::RequiredMetadata => within(namespace, |options| options.required_metadata = None),
            Self::PriorityClasses => spec.priority_classes = None,
            Self::Rules => spec.rules.clear(),
            Self::RuntimeClasses => spec.runtime_classes = None,
            Self::ServiceTypes => within(service, |options| options.allowed_services = None),
            Self::ExternalIps => within(service, |options| options.external_ips = None),
            Self::ServiceAnnotations => within(service, |options| options.forbidden_annotations = None),
            Self::ServiceLabels => within(service, |options| options.forbidden_labels = None),
            Self::StorageClasses => spec.storage_classes = None,
        }
    }
}

fn within<T>(options: &mut Option<T>, change: impl FnOnce(&mut T)) {
    if let Some(options) = options {
        change(options);
    }
}

/// The limits that a tenant audits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited(BTreeSet<Limit>);

impl Audited {
    /// As the annotation says. A word that names no limit audits none: what is not understood stays enforced.
    pub fn of(tenant: &Tenant) -> Self {
        Self(words(tenant).flat_map(Limit::named).collect())
    }

    /// Whether this one is.
    pub fn contains(&self, limit: Limit) -> bool {
        self.0.contains(&limit)
    }
}

fn words(tenant: &Tenant) -> impl Iterator<Item = &str> {
    let said = tenant.annotations().get(ANNOTATION).map(String::as_str);
    let words = said.unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty())
}

/// Refuses words that name no limit. What an update leaves as it is is not looked at again.
///
/// # Errors
/// The first such word, with those that would be right.
pub fn check(tenant: &Tenant, old: Option<&Tenant>) -> Result<(), Denial> {
    if old.is_some_and(|old| old.annotations().get(ANNOTATION) == tenant.annotations().get(ANNOTATION)) {
        return Ok(());
    }
    let Some(word) = words(tenant).find(|word| Limit::named(word).next().is_none()) else {
        return Ok(());
    };
    let field = format!("metadata.annotations[{ANNOTATION}]");
    let right: Vec<_> = Limit::ALL.iter().map(|limit| limit.field()).collect();
    let message = format!(
        "{field}: {word:?} is no limit that can be audited; write \"{ALL}\" for all, or some of these, separated by commas: {}",
        right.join(", ")
    );
    Err(Denial::new(field, "AuditInvalid", message))
}

/// What a word for several limits leaves out, for the author of the Tenant: a sentence for each such limit that is set and not
/// named.
pub fn warnings(tenant: &Tenant) -> Vec<String> {
    let audited = Audited::of(tenant);
    let enforced = |limit: &Limit| {
        let word = words(tenant).find(|word| limit.is_in(word))?;
        let (is_set, field) = (limit.keeps_apart() && limit.is_set(&tenant.spec), limit.field());
        (is_set && !audited.contains(*limit)).then(|| {
            format!(
                "metadata.annotations[{ANNOTATION}]: {field} stays enforced, because it keeps tenants apart; {word:?} does not \
                 stand for it, and who wants to audit it names it"
            )
        })
    };
    Limit::ALL.iter().filter_map(enforced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A Tenant that sets every limit, by the field.
    fn every_limit() -> Value {
        json!({
            "containerRegistries": {"allowed": ["a"]},
            "deviceClasses": {"allowed": ["a"]},
            "gatewayOptions": {"allowedClasses": {"allowed": ["a"]}},
            "imagePullPolicies": ["Always"],
            "ingressOptions": {
                "allowWildcardHostnames": false, "allowedClasses": {"allowed": ["a"]},
                "allowedHostnames": {"allowed": ["a"]}, "hostnameCollisionScope": "Cluster"},
            "namespaceOptions": {
                "forbiddenAnnotations": {"denied": ["a"]}, "forbiddenLabels": {"denied": ["a"]}, "quota": 3,
                "requiredMetadata": {"labels": {"a": "b"}}},
            "priorityClasses": {"allowed": ["a"]},
            "rules": [{"enforce": {"workloads": {"schedulers": [{"exact": ["a"]}]}}}],
            "runtimeClasses": {"allowed": ["a"]},
            "serviceOptions": {
                "allowedServices": {"nodePort": false}, "externalIPs": {"allowed": ["192.0.2.1"]},
                "forbiddenAnnotations": {"denied": ["a"]}, "forbiddenLabels": {"denied": ["a"]}},
            "storageClasses": {"allowed": ["a"]},
        })
    }

    fn with_annotation(said: &str) -> Tenant {
        tenant("oil").annotation(ANNOTATION, said).build()
    }

    #[test]
    fn to_lift_a_limit_changes_its_field_and_no_other() {
        let whole = serde_json::to_value(tenant("oil").with(every_limit()).build().spec).unwrap();
        for limit in Limit::ALL {
            let mut spec = tenant("oil").with(every_limit()).build().spec;
            limit.lift(&mut spec);
            let lifted = serde_json::to_value(&spec).unwrap();
            let pointer = format!("/{}", limit.field().replace('.', "/"));
            assert_ne!(lifted.pointer(&pointer), whole.pointer(&pointer), "{limit:?}");
            let mut restored = lifted;
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = restored.pointer_mut(parent).unwrap();
            match whole.pointer(&pointer) {
                Some(original) => parent[key] = original.clone(),
                // Wildcards are allowed by the field, and not by default.
                None => drop(parent.as_object_mut().unwrap().remove(key)),
            }
            assert_eq!(restored, whole, "{limit:?}");
        }
    }

    #[rstest]
    #[case::nothing("", &[])]
    #[case::one("storageClasses", &[Limit::StorageClasses])]
    #[case::some(" priorityClasses ,, rules", &[Limit::PriorityClasses, Limit::Rules])]
    #[case::a_group("namespaceOptions", &[
        Limit::NamespaceAnnotations, Limit::NamespaceLabels, Limit::NamespaceQuota, Limit::RequiredMetadata])]
    #[case::in_a_group("serviceOptions.externalIPs", &[Limit::ExternalIps])]
    #[case::a_group_without_what_keeps_tenants_apart("ingressOptions", &[
        Limit::WildcardHostnames, Limit::IngressClasses, Limit::Hostnames])]
    #[case::what_keeps_tenants_apart("ingressOptions.hostnameCollisionScope", &[Limit::HostnameCollisions])]
    #[case::what_is_not_understood_stays_enforced("storageclasses, spec.rules", &[])]
    fn the_annotation_names_limits_by_their_fields(#[case] said: &str, #[case] expected: &[Limit]) {
        let audited = Audited::of(&with_annotation(said));
        for limit in Limit::ALL {
            assert_eq!(audited.contains(limit), expected.contains(&limit), "{limit:?}");
        }
    }

    #[test]
    fn what_names_no_limit_is_refused_with_what_would() {
        let wrong = with_annotation("rules, cordoned");
        let denial = check(&wrong, None).unwrap_err();
        assert_eq!(denial.reason, "AuditInvalid");
        let begin = "metadata.annotations[cotenant.dev/audit]: \"cordoned\" is no limit that can be audited; write \"*\" for all, \
                     or some of these, separated by commas: containerRegistries, deviceClasses,";
        assert!(denial.message.starts_with(begin), "{denial}");
        // What was there is no obstacle to the rest.
        assert_eq!(check(&wrong, Some(&wrong)), Ok(()));
        assert!(check(&wrong, Some(&with_annotation("rules"))).is_err());
        assert_eq!(check(&with_annotation("rules, ingressOptions"), None), Ok(()));
    }

    #[test]
    fn what_keeps_tenants_apart_is_audited_by_its_own_name_alone() {
        let apart = [Limit::HostnameCollisions, Limit::ExternalIps];
        for limit in Limit::ALL {
            assert_eq!(
                Audited::of(&with_annotation("*")).contains(limit),
                !apart.contains(&limit),
                "{limit:?}"
            );
        }
        let told = |said: &str, spec: Value| warnings(&tenant("oil").annotation(ANNOTATION, said).with(spec).build());
        assert_eq!(
            told("*", every_limit()),
            [
                "metadata.annotations[cotenant.dev/audit]: ingressOptions.hostnameCollisionScope stays enforced, because it keeps \
                 tenants apart; \"*\" does not stand for it, and who wants to audit it names it",
                "metadata.annotations[cotenant.dev/audit]: serviceOptions.externalIPs stays enforced, because it keeps tenants \
                 apart; \"*\" does not stand for it, and who wants to audit it names it",
            ]
        );
        assert_eq!(told("serviceOptions, rules", every_limit()).len(), 1);
        assert_eq!(told("*, serviceOptions.externalIPs", every_limit()).len(), 1);
        // Who sets no such limit, or asks for nothing of the kind, has nothing to learn.
        assert_eq!(told("*", json!({"imagePullPolicies": ["Always"]})), [""; 0]);
        assert_eq!(told("ingressOptions.allowedClasses, rules", every_limit()), [""; 0]);
    }
}
