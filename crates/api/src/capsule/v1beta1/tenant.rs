//! What `v1beta2` has as well and says the same way is taken from there.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capsule::v1beta2::{
    AllowedList, HostnameCollisionScope, ImagePullPolicy, LimitRanges, Metadata, NetworkPolicies, ProxyOperation,
    ResourceQuotas, RoleBindingSpec, ServiceOptions, UserSpec, count,
};

/// A team that shares this cluster. Deprecated: use `v1beta2`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta1",
    kind = "Tenant",
    plural = "tenants",
    singular = "tenant",
    shortname = "tnt",
    storage = false,
    doc = "A team that shares this cluster. Deprecated: use `v1beta2`.",
    status = "TenantStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
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
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// Who owns the tenant. Their ClusterRoles are in annotations.
    pub owners: Vec<Owner>,
    /// RoleBindings to keep in every namespace of the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_role_bindings: Vec<RoleBindingSpec>,
    /// Labels of the nodes that the tenant's pods run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// How many namespaces there may be, and what they carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_options: Option<NamespaceOptions>,
    /// StorageClasses that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<AllowedList>,
    /// PriorityClasses that pods may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_classes: Option<AllowedList>,
    /// Ingresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_options: Option<IngressOptions>,
    /// Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_options: Option<ServiceOptions>,
    /// Image registries that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_registries: Option<AllowedList>,
    /// Pull policies that containers may have.
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
}

/// An owner of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The subject.
    #[serde(flatten)]
    pub user: UserSpec,
    /// Cluster-scoped objects that the owner may reach through the tenant proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_settings: Vec<ProxySetting>,
}

/// What an owner may do with one kind of cluster-scoped object, through the tenant proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySetting {
    /// The kind of object.
    pub kind: ProxyKind,
    /// What may be done.
    pub operations: Vec<ProxyOperation>,
}

/// Kinds that the tenant proxy filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProxyKind {
    Nodes,
    StorageClasses,
    IngressClasses,
    PriorityClasses,
}

/// How many namespaces a tenant may have, and what they carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceOptions {
    /// How many namespaces the tenant may have. Any number, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub quota: Option<i32>,
    /// Labels and annotations of every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_metadata: Option<Metadata>,
}

/// Ingresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressOptions {
    /// IngressClasses that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_classes: Option<AllowedList>,
    /// Hostnames that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_hostnames: Option<AllowedList>,
    /// Among which Ingresses the same hostname and path may be there only once.
    #[serde(default)]
    pub hostname_collision_scope: HostnameCollisionScope,
}

/// What is known of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["size", "state"]))]
pub struct TenantStatus {
    /// Whether the tenant may be used.
    #[serde(default)]
    pub state: TenantState,
    /// How many namespaces the tenant has.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = null))]
    pub size: i64,
    /// Names of the tenant's namespaces, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// Whether a tenant may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TenantState {
    /// Frozen: its users may look and not change.
    Cordoned,
    /// In use, or being deleted.
    #[default]
    Active,
}
