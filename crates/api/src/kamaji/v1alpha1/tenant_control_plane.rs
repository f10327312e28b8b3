use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Addons, ControlPlane, KubernetesSpec, NetworkProfile, TenantControlPlaneStatus};
use crate::schema;

/// A Kubernetes control plane that runs as pods of this cluster and serves a cluster of its own.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "kamaji.clastix.io",
    version = "v1alpha1",
    kind = "TenantControlPlane",
    plural = "tenantcontrolplanes",
    singular = "tenantcontrolplane",
    shortname = "tcp",
    category = "kamaji",
    namespaced,
    doc = "A Kubernetes control plane that runs as pods of this cluster and serves a cluster of its own.",
    status = "TenantControlPlaneStatus",
    derive = "Default",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.controlPlane.deployment.replicas",
        status_replicas_path = ".status.kubernetesResources.deployment.replicas",
        label_selector_path = ".status.kubernetesResources.deployment.selector"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".spec.kubernetes.version",
        description = "The Kubernetes version asked for"
    ),
    printcolumn(
        name = "Installed Version",
        type_ = "string",
        json_path = ".status.kubernetesResources.version.version",
        description = "The Kubernetes version that runs"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.kubernetesResources.version.status",
        description = "What the control plane is doing"
    ),
    printcolumn(
        name = "Control-Plane endpoint",
        type_ = "string",
        json_path = ".status.controlPlaneEndpoint",
        description = "Where its API server is reached"
    ),
    printcolumn(
        name = "Kubeconfig",
        type_ = "string",
        json_path = ".status.kubeconfig.admin.secretName",
        description = "The Secret with the administrator's kubeconfig"
    ),
    printcolumn(
        name = "Datastore",
        type_ = "string",
        json_path = ".status.storage.dataStoreName",
        description = "The DataStore that holds its objects"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("!has(oldSelf.dataStore) || has(self.dataStore)", "unsetting the dataStore is not supported"),
    ("!has(oldSelf.dataStoreSchema) || has(self.dataStoreSchema)", "unsetting the dataStoreSchema is not supported"),
    ("!has(oldSelf.dataStoreUsername) || has(self.dataStoreUsername)", "unsetting the dataStoreUsername is not supported"),
    (
        "!has(self.networkProfile) || !has(self.networkProfile.loadBalancerSourceRanges) || size(self.networkProfile.loadBalancerSourceRanges) == 0 || self.controlPlane.service.serviceType == 'LoadBalancer'",
        "LoadBalancer source ranges are supported only with LoadBalancer service type",
    ),
    (
        "!has(self.networkProfile) || !has(self.networkProfile.loadBalancerClass) || self.controlPlane.service.serviceType == 'LoadBalancer'",
        "LoadBalancerClass is supported only with LoadBalancer service type",
    ),
    (
        "!has(self.controlPlane.service.allocateLoadBalancerNodePorts) || self.controlPlane.service.serviceType == 'LoadBalancer'",
        "allocateLoadBalancerNodePorts is supported only with LoadBalancer service type",
    ),
    (
        "self.controlPlane.service.serviceType != 'LoadBalancer' || oldSelf.controlPlane.service.serviceType != 'LoadBalancer' || (has(self.networkProfile) && has(self.networkProfile.loadBalancerClass)) == (has(oldSelf.networkProfile) && has(oldSelf.networkProfile.loadBalancerClass))",
        "LoadBalancerClass cannot be set or unset at runtime",
    ),
])))]
pub struct TenantControlPlaneSpec {
    /// Kinds of writes that the tenant cluster refuses, for instance because its datastore is full.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub write_permissions: WritePermissions,
    /// Name of the DataStore that holds the cluster's objects; the operator's default if absent.
    /// Cannot be unset later. Changing it moves the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_store: Option<String>,
    /// Name of the database, or prefix of the keys, within the DataStore. Defaults to the object's UID, which
    /// nobody else can have; a name that equals, contains or begins that of another control plane is refused.
    /// Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[("self == oldSelf", "changing the dataStoreSchema is not supported")])))]
    pub data_store_schema: Option<String>,
    /// Name of the user within the DataStore. Defaults to the object's UID. The store's own administrators and
    /// other control planes' users are refused. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[("self == oldSelf", "changing the dataStoreUsername is not supported")])))]
    pub data_store_username: Option<String>,
    /// Kinds of objects that are held in another DataStore. Only built-in kinds, only etcd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_store_overrides: Vec<DataStoreOverride>,
    /// How the control plane runs in this cluster and how it is reached.
    pub control_plane: ControlPlane,
    /// The Kubernetes that is served.
    pub kubernetes: KubernetesSpec,
    /// Addresses and ranges of the tenant cluster.
    #[serde(default)]
    pub network_profile: NetworkProfile,
    /// What is installed inside of the tenant cluster.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub addons: Addons,
}

/// Kinds of writes that a tenant cluster refuses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WritePermissions {
    /// Refuse to create objects.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub block_creation: bool,
    /// Refuse to change objects.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub block_update: bool,
    /// Refuse to delete objects.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub block_deletion: bool,
}

impl WritePermissions {
    /// Whether anything is refused.
    pub fn limited(&self) -> bool {
        self.block_creation || self.block_update || self.block_deletion
    }
}

/// Where objects of one kind are held instead.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreOverride {
    /// The kind, as the API server's flag spells it: `/events` for the core group, `apps/deployments` for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Name of the DataStore.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_store: String,
}
