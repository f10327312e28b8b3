use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Makes a kubeconfig for each of a set of control planes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "kamaji.clastix.io",
    version = "v1alpha1",
    kind = "KubeconfigGenerator",
    plural = "kubeconfiggenerators",
    singular = "kubeconfiggenerator",
    shortname = "kc",
    category = "kamaji",
    doc = "Makes a kubeconfig for each of a set of control planes.",
    status = "KubeconfigGeneratorStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigGeneratorSpec {
    /// The namespaces to look in; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The control planes in those namespaces; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_control_plane_selector: Option<LabelSelector>,
    /// Groups of the kubeconfigs' user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<CompoundValue>,
    /// Name of the kubeconfigs' user.
    pub user: CompoundValue,
    /// Which kubeconfig of a control plane's administrator the endpoint is taken from.
    #[serde(default = "default_control_plane_endpoint_from")]
    pub control_plane_endpoint_from: String,
}

fn default_control_plane_endpoint_from() -> String {
    "admin.svc".into()
}

/// A text, or the place in the TenantControlPlane where it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[(
    "(has(self.stringValue) && self.stringValue != '') != (has(self.fromDefinition) && self.fromDefinition != '')",
    "Either stringValue or fromDefinition must be set, but not both.",
)])))]
pub struct CompoundValue {
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// The place, as names joined by dots, for instance `metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_definition: Option<String>,
}

/// What a generator has made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigGeneratorStatus {
    /// How many control planes it applies to.
    #[schemars(schema_with = "count")]
    pub resources: i64,
    /// For how many of them there is a kubeconfig.
    #[schemars(schema_with = "count")]
    pub available_resources: i64,
    /// What went wrong, one line per control plane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<KubeconfigGeneratorError>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "integer", "default": 0})
}

/// Why a control plane has no kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigGeneratorError {
    /// The control plane, as `namespace/name`.
    pub resource: String,
    /// What went wrong.
    pub message: String,
}
