//! Required fields have defaults here, because a status that an older version wrote must still be readable.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CoreOwner, Metadata, RegistryMatch, count};

/// What is known of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions", "size", "state"]))]
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
    /// The tenant's namespaces, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<Space>,
    /// Everybody who owns the tenant, wherever the ownership comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<CoreOwner>,
    /// ServiceAccounts that have roles by promotion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promotions: Vec<Promotion>,
    /// Classes that the tenant may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<AvailableClasses>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
}

/// Whether a tenant may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TenantState {
    /// Frozen: its users may look and not change.
    Cordoned,
    /// In use.
    #[default]
    Active,
    /// Being deleted, with its namespaces.
    Terminating,
}

/// One namespace of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions", "name"]))]
pub struct Space {
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What holds for it, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// Labels and annotations that are kept on it, remembered so that they can be removed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Rules that hold in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<SpaceEnforcement>,
}

/// Rules that hold in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpaceEnforcement {
    /// Image registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry: Vec<RegistryMatch>,
}

/// A ServiceAccount with roles by promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// The ServiceAccount and its roles.
    #[serde(flatten)]
    pub core: CoreOwner,
    /// The namespaces in which it has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

/// Classes that a tenant may use, by kind, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableClasses {
    /// StorageClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<String>,
    /// PriorityClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priority: Vec<String>,
    /// RuntimeClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime: Vec<String>,
    /// GatewayClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<String>,
    /// DeviceClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device: Vec<String>,
}
