use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The Kubernetes that a control plane serves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesSpec {
    /// The version, as `v1.36.0`: it is also the tag of the images. Later it may rise by one minor at a time.
    pub version: String,
    /// How the kubelets of the cluster's nodes are set up.
    #[serde(default)]
    pub kubelet: KubeletSpec,
    /// Admission plugins that the API server runs, in addition to those it always runs.
    #[serde(default = "default_admission_controllers")]
    #[schemars(schema_with = "admission_controllers_schema")]
    pub admission_controllers: Vec<String>,
}

impl Default for KubernetesSpec {
    fn default() -> Self {
        Self {
            version: String::new(),
            kubelet: KubeletSpec::default(),
            admission_controllers: default_admission_controllers(),
        }
    }
}

/// Admission plugins that are run unless the spec names others.
pub const DEFAULT_ADMISSION_CONTROLLERS: &[&str] = &[
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionWebhook",
    "NamespaceLifecycle",
    "PersistentVolumeClaimResize",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionWebhook",
];

/// Admission plugins that the spec may name, those of old Kubernetes versions included.
pub const ADMISSION_CONTROLLERS: &[&str] = &[
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "DenyEscalatingExec",
    "DenyExecOnPrivileged",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NamespaceLifecycle",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PersistentVolumeLabel",
    "PodNodeSelector",
    "PodSecurity",
    "PodSecurityPolicy",
    "PodTolerationRestriction",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "SecurityContextDeny",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionWebhook",
];

fn default_admission_controllers() -> Vec<String> {
    DEFAULT_ADMISSION_CONTROLLERS.iter().map(ToString::to_string).collect()
}

fn admission_controllers_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"type": "string", "enum": ADMISSION_CONTROLLERS},
    })
}

/// How the kubelets of a cluster's nodes are set up.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletSpec {
    /// Changes to the kubelets' configuration, as JSON patch operations.
    #[serde(rename = "configurationJSONPatches", default, skip_serializing_if = "Vec::is_empty")]
    pub configuration_json_patches: Vec<JsonPatch>,
    /// Which of a node's addresses the API server uses to reach its kubelet, best first.
    #[serde(default = "default_preferred_address_types")]
    #[schemars(extend("minItems" = 1, "x-kubernetes-list-type" = "set"))]
    pub preferred_address_types: Vec<AddressType>,
    /// Deprecated: patch `/cgroupDriver` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroupfs: Option<CgroupDriver>,
}

fn default_preferred_address_types() -> Vec<AddressType> {
    vec![AddressType::InternalIP, AddressType::ExternalIP, AddressType::Hostname]
}

impl Default for KubeletSpec {
    fn default() -> Self {
        Self {
            configuration_json_patches: Vec::new(),
            preferred_address_types: default_preferred_address_types(),
            cgroupfs: None,
        }
    }
}

/// A kind of address that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum AddressType {
    Hostname,
    InternalIP,
    ExternalIP,
    InternalDNS,
    ExternalDNS,
}

impl AddressType {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hostname => "Hostname",
            Self::InternalIP => "InternalIP",
            Self::ExternalIP => "ExternalIP",
            Self::InternalDNS => "InternalDNS",
            Self::ExternalDNS => "ExternalDNS",
        }
    }
}

/// Who manages the cgroups of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

impl CgroupDriver {
    /// As the kubelet spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// One operation of a JSON patch (RFC 6902).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonPatch {
    /// What is done.
    #[schemars(extend("enum" = json!(["add", "remove", "replace", "move", "copy", "test"])))]
    pub op: String,
    /// Where, as a JSON pointer.
    pub path: String,
    /// Where from, for `move` and `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The new value, of any type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}
