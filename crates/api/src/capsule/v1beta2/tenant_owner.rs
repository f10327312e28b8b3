use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CoreOwner;

/// An owner that tenants select by labels.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "TenantOwner",
    plural = "tenantowners",
    singular = "tenantowner",
    shortname = "to",
    doc = "An owner that tenants select by labels.",
    status = "TenantOwnerStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether its tenants are known"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TenantOwnerSpec {
    /// The subject and the roles that it has in each tenant that selects it.
    #[serde(flatten)]
    pub core: CoreOwner,
    /// Whether the subject is a tenant user too, so that it may create namespaces.
    #[serde(default = "yes")]
    pub aggregate: bool,
}

impl Default for TenantOwnerSpec {
    fn default() -> Self {
        Self {
            core: CoreOwner::default(),
            aggregate: yes(),
        }
    }
}

fn yes() -> bool {
    true
}

/// What is known of a TenantOwner.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantOwnerStatus {
    /// The tenants that the subject owns, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub tenants: Vec<String>,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
