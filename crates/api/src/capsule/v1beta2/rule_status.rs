use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RuleBody;

/// Rules that hold in its namespace. Those of the tenant are in `capsule-managed-rules`, kept by the operator.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "RuleStatus",
    plural = "rulestatuses",
    singular = "rulestatus",
    namespaced,
    doc = "Rules that hold in its namespace. Those of the tenant are in `capsule-managed-rules`, kept by the operator.",
    status = "RuleStatusStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the rules hold"
    ),
    printcolumn(
        name = "Message",
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
#[serde(transparent)]
// A manifest without a spec asks for no rules; the default makes it one that can be read.
#[schemars(transparent, extend("default" = serde_json::json!([])))]
pub struct RuleStatusSpec(pub Vec<RuleBody>);

/// What is known of a RuleStatus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["conditions"]))]
pub struct RuleStatusStatus {
    /// The rules, as they are applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleBody>,
    /// Deprecated: see `rules`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleBody>,
    /// What holds, what does not, and why.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
