//! Limits on what objects of any kind add up to, in a namespace or across namespaces.
//!
//! Required fields of a status have defaults here, because one that an older version wrote must still be readable.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, LabelSelector, LabelSelectorRequirement},
};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{VersionKind, reference::NAMESPACE_PATTERN};
use crate::schema;

/// A limit on what objects of any kind in its namespace add up to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "CustomQuota",
    plural = "customquotas",
    singular = "customquota",
    shortname = "cq",
    namespaced,
    doc = "A limit on what objects of any kind in its namespace add up to.",
    status = "CustomQuotaStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Limit",
        type_ = "string",
        json_path = ".spec.limit",
        description = "How much there may be"
    ),
    printcolumn(
        name = "Used",
        type_ = "string",
        json_path = ".status.usage.used",
        description = "How much there is"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.usage.available",
        description = "How much is left"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything is counted"
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
#[schemars(extend("required" = ["limit", "options", "sources"]))]
pub struct CustomQuotaSpec {
    /// How much there may be.
    pub limit: Quantity,
    /// What is published about it.
    #[serde(default)]
    pub options: CustomQuotaOptions,
    /// What is counted.
    pub sources: Vec<QuotaSource>,
    /// Labels of the objects that count. One of the selectors is enough; all objects count, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope_selectors: Vec<LabelSelector>,
}

/// A limit on what objects of any kind in many namespaces, or in none, add up to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "GlobalCustomQuota",
    plural = "globalcustomquotas",
    singular = "globalcustomquota",
    shortname = "gcq",
    doc = "A limit on what objects of any kind in many namespaces, or in none, add up to.",
    status = "GlobalCustomQuotaStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Limit",
        type_ = "string",
        json_path = ".spec.limit",
        description = "How much there may be"
    ),
    printcolumn(
        name = "Used",
        type_ = "string",
        json_path = ".status.usage.used",
        description = "How much there is"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.usage.available",
        description = "How much is left"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything is counted"
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
#[schemars(extend("required" = ["limit", "options", "sources"]))]
pub struct GlobalCustomQuotaSpec {
    /// How much there may be.
    pub limit: Quantity,
    /// What is published about it.
    #[serde(default)]
    pub options: CustomQuotaOptions,
    /// What is counted.
    pub sources: Vec<QuotaSource>,
    /// Labels of the objects that count. One of the selectors is enough; all objects count, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope_selectors: Vec<LabelSelector>,
    /// Labels of the namespaces that count. One of the selectors is enough; all namespaces count, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
}

/// What is published about a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomQuotaOptions {
    /// Whether there is a metric for each object that counts.
    #[serde(default)]
    pub emit_metric_per_claim_usage: bool,
}

/// Objects that count, and how much each of them does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[(
    "has(self.op) && self.op == 'count' ? (!has(self.path) || self.path == '') && (!has(self.cel) || self.cel == '') : (has(self.path) && self.path != '') != (has(self.cel) && self.cel != '')",
    "path and cel must be empty when op is 'count'; otherwise exactly one of path or cel must be set and non-empty",
)])))]
pub struct QuotaSource {
    /// Their kind.
    #[serde(flatten)]
    pub kind: VersionKind,
    /// What an object does to the sum.
    #[serde(default)]
    pub op: QuotaOperation,
    /// A JSONPath to the quantities in the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// A CEL expression over `object` that gives a quantity or a list of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 4096))]
    pub cel: String,
    /// Which of the objects. One of the selectors is enough; all objects count, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<SourceSelector>,
}

/// What an object does to the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuotaOperation {
    /// Adds its quantities.
    #[default]
    Add,
    /// Takes its quantities away; the sum does not become negative.
    Sub,
    /// Adds one.
    Count,
}

/// Which objects count: all that is said here has to apply.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SourceSelector {
    /// Labels that the object carries, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that the object's labels meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
    /// JSONPaths that find something true in the object, or comparisons of one with `==` or `!=`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub field_selectors: Vec<String>,
    /// CEL expressions over `object` that are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64), inner(length(min = 1, max = 4096)))]
    pub cel_expressions: Vec<String>,
}

/// What is known of a CustomQuota.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions", "targets"]))]
pub struct CustomQuotaStatus {
    /// What is counted, with the kinds as the API server serves them.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub targets: Vec<QuotaTarget>,
    /// How much there is, and how much is left.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub usage: QuotaUsage,
    /// The objects that count, sorted by namespace, kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<QuotaClaim>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What is known of a GlobalCustomQuota.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions", "targets"]))]
pub struct GlobalCustomQuotaStatus {
    /// Names of the namespaces that count; `*` if all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// What is counted, with the kinds as the API server serves them.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub targets: Vec<QuotaTarget>,
    /// How much there is, and how much is left.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub usage: QuotaUsage,
    /// The objects that count, sorted by namespace, kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<QuotaClaim>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A source of a quota, as it is counted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaTarget {
    /// API group of the objects.
    pub group: String,
    /// API version of the objects, without the group.
    pub version: String,
    /// Kind of the objects.
    pub kind: String,
    /// What an object does to the sum.
    #[serde(default)]
    pub op: QuotaOperation,
    /// A JSONPath to the quantities in the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// A CEL expression over `object` that gives a quantity or a list of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 4096))]
    pub cel: String,
    /// Which of the objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<SourceSelector>,
    /// Whether the objects are in namespaces (`namespace`) or not (`root`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

/// How much there is, and how much is left.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaUsage {
    /// How much there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Quantity>,
    /// How much is left. Never negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Quantity>,
}

/// An object that counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaClaim {
    /// Its API group.
    pub group: String,
    /// Its API version, without the group.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 253, "pattern" = NAMESPACE_PATTERN))]
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// How much it counts.
    pub usage: Quantity,
}
