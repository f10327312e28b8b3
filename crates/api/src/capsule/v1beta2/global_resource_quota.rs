//! One ResourceQuota for many namespaces.
//!
//! Required fields of a status have defaults here, because one that an older version wrote must still be readable.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ResourceQuotaSpec,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, LabelSelector},
    },
};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Allocation, count};

/// A ResourceQuota that many namespaces share.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "GlobalResourceQuota",
    plural = "globalresourcequotas",
    singular = "globalresourcequota",
    shortname = "globalquota",
    shortname = "grq",
    doc = "A ResourceQuota that many namespaces share.",
    status = "GlobalResourceQuotaStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Namespaces",
        type_ = "integer",
        json_path = ".status.namespaceCount",
        description = "How many namespaces share it"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether it is counted in all of them"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is wrong"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GlobalResourceQuotaSpec {
    /// What may be used, and what is counted.
    pub quota: ResourceQuotaSpec,
    /// Labels of the namespaces. One of the selectors is enough, and an empty one selects every namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
}

/// What is known of a GlobalResourceQuota.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions", "total"]))]
pub struct GlobalResourceQuotaStatus {
    /// Names of the namespaces that share it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// How many namespaces share it.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = 0))]
    pub namespace_count: i64,
    /// What each namespace uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_usage: BTreeMap<String, NamespaceUsage>,
    /// What all of them may use, what they use, and what is left.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub total: Allocation,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What a namespace uses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceUsage {
    /// By resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Quantity>,
}
