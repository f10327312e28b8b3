use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{LimitRangeSpec, ResourceQuotaSpec},
        networking::v1::NetworkPolicySpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AllowedList, DefaultAllowedList, ForbiddenList, Metadata, Owner, RoleBindingSpec, SelectorAllowedList, TenantRule,
    TenantStatus,
};

/// A team that shares this cluster: who its owners are, which namespaces they may create, and what holds in them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "Tenant",
    plural = "tenants",
    singular = "tenant",
    shortname = "tnt",
    doc = "A team that shares this cluster: who its owners are, which namespaces they may create, and what holds in them.",
    status = "TenantStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Cordoned\")].reason",
        description = "Whether the tenant is frozen"
    ),
    printcolumn(
        name = "Namespace quota",
        type_ = "integer",
        json_path = ".spec.namespaceOptions.quota",
        description = "How many namespaces it may have"
    ),
    printcolumn(
        name = "Namespace count",
        type_ = "integer",
        json_path = ".status.size",
        description = "How many namespaces it has"
    ),
    printcolumn(
        name = "Node selector",
        type_ = "string",
        json_path = ".spec.nodeSelector",
        description = "The nodes that its pods run on"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything it asks for is there"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is missing"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
// A manifest without a spec asks for a tenant without limits and owners; the default makes it one that can be read.
#[schemars(extend("default" = serde_json::json!({})))]
pub struct TenantSpec {
    /// Who owns the tenant: creates its namespaces and administers them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
    /// Further ways to become an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// RoleBindings to keep in every namespace of the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_role_bindings: Vec<RoleBindingSpec>,
    /// Anything, for templates to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// Freezes the tenant: its users may look and not change.
    #[serde(default)]
    pub cordoned: bool,
    /// Refuses the deletion of the tenant.
    #[serde(default)]
    pub prevent_deletion: bool,
    /// Whether names of namespaces have to begin with the tenant's name and `-`. If absent, the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_tenant_prefix: Option<bool>,
    /// Labels of the nodes that the tenant's pods run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// How many namespaces there may be, and what they carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_options: Option<NamespaceOptions>,
    /// StorageClasses that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<DefaultAllowedList>,
    /// PriorityClasses that pods may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_classes: Option<DefaultAllowedList>,
    /// RuntimeClasses that pods may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_classes: Option<DefaultAllowedList>,
    /// DeviceClasses that resource claims may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_classes: Option<SelectorAllowedList>,
    /// Gateways of the Gateway API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_options: Option<GatewayOptions>,
    /// Ingresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_options: Option<IngressOptions>,
    /// Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_options: Option<ServiceOptions>,
    /// Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_options: Option<PodOptions>,
    /// Deprecated: use `rules`. Image registries that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_registries: Option<AllowedList>,
    /// Deprecated: use `rules`. Pull policies that containers may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_policies: Vec<ImagePullPolicy>,
    /// NetworkPolicies to keep in every namespace of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policies: Option<NetworkPolicies>,
    /// LimitRanges to keep in every namespace of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ranges: Option<LimitRanges>,
    /// ResourceQuotas of the tenant or of each of its namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_quotas: Option<ResourceQuotas>,
    /// Rules that may hold in some of the tenant's namespaces only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<TenantRule>,
}

/// Further ways to become an owner of a tenant.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// Labels of TenantOwner objects that own the tenant. One of the selectors is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_owners: Vec<LabelSelector>,
    /// Whether owners may make ServiceAccounts of the tenant owners too.
    #[serde(default = "yes")]
    pub allow_owner_promotion: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self {
            match_owners: Vec::new(),
            allow_owner_promotion: yes(),
        }
    }
}

/// How many namespaces a tenant may have, and what they carry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceOptions {
    /// How many namespaces the tenant may have. Any number, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub quota: Option<i32>,
    /// Deprecated: use `rules`. Labels and annotations of every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_metadata: Option<Metadata>,
    /// Deprecated: use `rules`. Labels and annotations of some namespaces. Of two entries with the same key the first
    /// wins. Keys and values may contain `{{ tenant.name }}` and `{{ namespace }}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_metadata_list: Vec<SelectedMetadata>,
    /// Replaces all labels and annotations of namespaces with those that are kept.
    #[serde(default)]
    pub managed_metadata_only: bool,
    /// Deprecated: use `rules`. Labels and annotations that namespaces must have, with a regular expression for the
    /// value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_metadata: Option<Metadata>,
    /// Deprecated: use `rules`. Labels that owners may not set on namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_labels: Option<ForbiddenList>,
    /// Deprecated: use `rules`. Annotations that owners may not set on namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_annotations: Option<ForbiddenList>,
}

/// Labels and annotations for some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectedMetadata {
    /// The namespaces. All, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Gateways of the Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayOptions {
    /// GatewayClasses that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_classes: Option<DefaultAllowedList>,
}

/// Ingresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressOptions {
    /// IngressClasses that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_classes: Option<DefaultAllowedList>,
    /// Hostnames that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_hostnames: Option<AllowedList>,
    /// Among which Ingresses the same hostname and path may be there only once.
    #[serde(default)]
    pub hostname_collision_scope: HostnameCollisionScope,
    /// Whether hostnames may begin with `*`.
    #[serde(default, skip_serializing_if = "crate::schema::is_default")]
    pub allow_wildcard_hostnames: bool,
}

/// Among which Ingresses the same hostname and path may be there only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HostnameCollisionScope {
    /// Those of all tenants.
    Cluster,
    /// Those of the tenant.
    Tenant,
    /// Those of the namespace.
    Namespace,
    /// None: nothing is checked.
    #[default]
    Disabled,
}

/// Services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOptions {
    /// Deprecated: use `rules`. Labels and annotations of every Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_metadata: Option<Metadata>,
    /// Types of Service that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_services: Option<AllowedServices>,
    /// Addresses that may be external IPs of a Service. Any, if absent.
    #[serde(rename = "externalIPs", default, skip_serializing_if = "Option::is_none")]
    pub external_ips: Option<ExternalIps>,
    /// Labels that Services may not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_labels: Option<ForbiddenList>,
    /// Annotations that Services may not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_annotations: Option<ForbiddenList>,
}

/// Types of Service that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedServices {
    /// Whether type NodePort may be used.
    #[serde(default = "yes")]
    pub node_port: bool,
    /// Whether type ExternalName may be used.
    #[serde(default = "yes")]
    pub external_name: bool,
    /// Whether type LoadBalancer may be used.
    #[serde(default = "yes")]
    pub load_balancer: bool,
}

impl Default for AllowedServices {
    fn default() -> Self {
        Self {
            node_port: yes(),
            external_name: yes(),
            load_balancer: yes(),
        }
    }
}

/// Addresses that may be external IPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalIps {
    /// IPv4 addresses and ranges. An empty list allows none.
    #[schemars(inner(regex(pattern = r"^([0-9]{1,3}.){3}[0-9]{1,3}(/([0-9]|[1-2][0-9]|3[0-2]))?$")))]
    pub allowed: Vec<String>,
}

/// Pods.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Deprecated: use `rules`. Labels and annotations of every pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_metadata: Option<Metadata>,
}

/// When a container's image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    Never,
    IfNotPresent,
}

/// NetworkPolicies to keep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicies {
    /// One entry per NetworkPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<NetworkPolicySpec>,
}

/// LimitRanges to keep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitRanges {
    /// One entry per LimitRange.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<LimitRangeSpec>,
}

/// ResourceQuotas to keep.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotas {
    /// Whether the namespaces share each budget, or each has one of its own.
    #[serde(default)]
    pub scope: QuotaScope,
    /// One entry per ResourceQuota.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ResourceQuotaSpec>,
}

/// Whose budget a quota is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum QuotaScope {
    /// All namespaces of the tenant share it.
    #[default]
    Tenant,
    /// Each namespace has it.
    Namespace,
}

fn yes() -> bool {
    true
}
