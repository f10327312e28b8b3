//! A budget that namespaces draw from by claims.
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

use super::{count, reference::NAMESPACE_PATTERN};
use crate::schema;

/// A budget that namespaces draw from by claims.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "ResourcePool",
    plural = "resourcepools",
    singular = "resourcepool",
    shortname = "quotapool",
    doc = "A budget that namespaces draw from by claims.",
    status = "ResourcePoolStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Claims",
        type_ = "integer",
        json_path = ".status.claimCount",
        description = "How many claims are served"
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "integer",
        json_path = ".status.namespaceCount",
        description = "How many namespaces may claim"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every claim was looked at"
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
pub struct ResourcePoolSpec {
    /// The budget, and what it is counted in.
    pub quota: ResourceQuotaSpec,
    /// What every namespace may use without a claim, on top of the budget.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, Quantity>,
    /// Labels of the namespaces that may claim. One of the selectors is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<LabelSelector>,
    /// How claims are served.
    #[serde(default)]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub config: ResourcePoolConfig,
}

/// How claims are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePoolConfig {
    /// Whether a namespace without a claim may use nothing of what the budget names.
    #[serde(default)]
    pub defaults_zero: bool,
    /// Whether claims go with the pool.
    #[serde(default)]
    pub delete_bound_resources: bool,
    /// Whether a claim waits for those before it that want the same.
    #[serde(default)]
    pub ordered_queue: bool,
}

/// What is known of a ResourcePool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions"]))]
pub struct ResourcePoolStatus {
    /// The budget, what is claimed of it, and what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    /// Claims that are served, by namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<ServedClaim>>,
    /// How many claims are served.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = 0))]
    pub claim_count: i64,
    /// How many namespaces may claim.
    #[serde(default)]
    #[schemars(schema_with = "count", extend("default" = 0))]
    pub namespace_count: i64,
    /// Names of the namespaces that may claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// What is claimed and not there, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exhaustions: BTreeMap<String, Exhaustion>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A budget, what is used of it, and what is left, by resource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// The budget.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hard: BTreeMap<String, Quantity>,
    /// What is used; of a pool, what is claimed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Quantity>,
    /// What is left.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub available: BTreeMap<String, Quantity>,
}

/// A claim that is served.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedClaim {
    /// Its name.
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// Its namespace.
    #[schemars(extend("maxLength" = 253, "pattern" = NAMESPACE_PATTERN))]
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// What it has, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Quantity>,
}

/// A resource of which more is claimed than there is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exhaustion {
    /// What is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Quantity>,
    /// What waiting claims want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requesting: Option<Quantity>,
}

/// A part of a ResourcePool for the namespace that it is in.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "ResourcePoolClaim",
    plural = "resourcepoolclaims",
    singular = "resourcepoolclaim",
    namespaced,
    doc = "A part of a ResourcePool for the namespace that it is in.",
    status = "ResourcePoolClaimStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Pool",
        type_ = "string",
        json_path = ".status.pool.name",
        description = "The pool that serves it"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether it may be served"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is wrong"
    ),
    printcolumn(
        name = "Bound",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Bound\")].status",
        description = "Whether what it gives is used"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Bound\")].message",
        description = "What that depends on"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["claim", "pool"]))]
pub struct ResourcePoolClaimSpec {
    /// The pool. If empty, one that has what is claimed is chosen.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub pool: String,
    /// What is claimed, by resource.
    pub claim: BTreeMap<String, Quantity>,
}

/// What is known of a ResourcePoolClaim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions"]))]
pub struct ResourcePoolClaimStatus {
    /// The pool that serves the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolReference>,
    /// What the claim has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    /// Deprecated: see `conditions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A ResourcePool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolReference {
    /// Its name.
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// Its UID.
    pub uid: String,
}
