//! Objects that are kept in tenants' namespaces: those that a tenant asks for, and those that the cluster gives.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalServiceAccount, ProcessedItem, Replication, ServiceAccountReference, count};

/// Objects to keep in all namespaces of a tenant, asked for in one of them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "TenantResource",
    plural = "tenantresources",
    singular = "tenantresource",
    shortname = "tr",
    namespaced,
    doc = "Objects to keep in all namespaces of a tenant, asked for in one of them.",
    status = "TenantResourceStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Items",
        type_ = "integer",
        json_path = ".status.size",
        description = "How many objects it keeps"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether all of them are there"
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
pub struct TenantResourceSpec {
    /// The objects, and how they are kept.
    #[serde(flatten)]
    pub replication: Replication,
    /// As whom the objects are read and written. As the configuration says, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<LocalServiceAccount>,
}

/// Objects to keep in namespaces of tenants, or once per tenant, or once.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "GlobalTenantResource",
    plural = "globaltenantresources",
    singular = "globaltenantresource",
    shortname = "gtr",
    doc = "Objects to keep in namespaces of tenants, or once per tenant, or once.",
    status = "GlobalTenantResourceStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Items",
        type_ = "integer",
        json_path = ".status.size",
        description = "How many objects it keeps"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether all of them are there"
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
pub struct GlobalTenantResourceSpec {
    /// The objects, and how they are kept.
    #[serde(flatten)]
    pub replication: Replication,
    /// As whom the objects are read and written. As the configuration says, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountReference>,
    /// The tenants. All, if absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_selector: Option<LabelSelector>,
    /// How often the objects are made.
    #[serde(default)]
    pub scope: ReplicationScope,
}

/// How often objects are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ReplicationScope {
    /// In each namespace of each tenant.
    #[default]
    Namespace,
    /// Once for each tenant.
    Tenant,
    /// Once.
    None,
}

/// What is known of a TenantResource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["size"]))]
pub struct TenantResourceStatus {
    /// How many objects are kept.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = null))]
    pub size: i64,
    /// The objects, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processed_items: Vec<ProcessedItem>,
    /// As whom the objects were written. Absent if as the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountReference>,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What is known of a GlobalTenantResource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["size"]))]
pub struct GlobalTenantResourceStatus {
    /// The tenants that are selected, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected_tenants: Vec<String>,
    /// How many objects are kept.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = null))]
    pub size: i64,
    /// The objects, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processed_items: Vec<ProcessedItem>,
    /// As whom the objects were written. Absent if as the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountReference>,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
