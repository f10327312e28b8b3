use k8s_openapi::{
    api::{apps::v1::DeploymentStatus, core::v1::ServiceStatus, networking::v1::IngressStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ParentReference;

/// What is known of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantControlPlaneStatus {
    /// The generation of the spec that was carried out completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the objects are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// The certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// The kubeconfigs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigsStatus>,
    /// kubeadm's configuration.
    #[serde(rename = "kubeadmconfig", default, skip_serializing_if = "Option::is_none")]
    pub kubeadm_config: Option<KubeadmConfigStatus>,
    /// What was set up inside of the tenant cluster for nodes to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeadm_phase: Option<KubeadmPhaseStatus>,
    /// Where the API server is reached, as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<String>,
    /// The objects that make up the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_resources: Option<KubernetesResourcesStatus>,
    /// The add-ons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addons: Option<AddonsStatus>,
    /// What holds, what does not, and why: `Ready`, and one condition per phase of the work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = json!(["type"])))]
    pub conditions: Vec<Condition>,
}

impl TenantControlPlaneStatus {
    /// What the control plane is doing, once that is known.
    pub fn phase(&self) -> Option<Phase> {
        self.kubernetes_resources.as_ref()?.version.as_ref()?.status
    }

    /// The Kubernetes version that runs, once one does.
    pub fn installed_version(&self) -> Option<&str> {
        let version = self.kubernetes_resources.as_ref()?.version.as_ref()?.version.as_deref();
        version.filter(|version| !version.is_empty())
    }
}

/// What a control plane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    Unknown,
    #[default]
    Provisioning,
    CertificateAuthorityRotating,
    Upgrading,
    Migrating,
    Ready,
    NotReady,
    Sleeping,
    WriteLimited,
}

impl Phase {
    /// As the status spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Provisioning => "Provisioning",
            Self::CertificateAuthorityRotating => "CertificateAuthorityRotating",
            Self::Upgrading => "Upgrading",
            Self::Migrating => "Migrating",
            Self::Ready => "Ready",
            Self::NotReady => "NotReady",
            Self::Sleeping => "Sleeping",
            Self::WriteLimited => "WriteLimited",
        }
    }
}

/// A Secret that the operator keeps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Checksum of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// Where the objects are held.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Driver of the DataStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Name of the DataStore in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_store_name: Option<String>,
    /// The Secret with the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<StorageConfigStatus>,
    /// What was set up in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<StorageSetupStatus>,
    /// The Secret with the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretStatus>,
}

/// The Secret with the login.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageConfigStatus {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Checksum of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// What was set up in the store.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSetupStatus {
    /// The database, or the prefix of the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Checksum of the login with which it was set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The certificates of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// The certificate authority of the tenant cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretStatus>,
    /// What the API server shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<SecretStatus>,
    /// How the API server logs in to kubelets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_kubelet_client: Option<SecretStatus>,
    /// The certificate authority of aggregated API servers' callers.
    #[serde(rename = "frontProxyCA", default, skip_serializing_if = "Option::is_none")]
    pub front_proxy_ca: Option<SecretStatus>,
    /// How the API server logs in to aggregated API servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_proxy_client: Option<SecretStatus>,
    /// The key that signs service account tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sa: Option<SecretStatus>,
    /// Not written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdCertificatesStatus>,
}

/// Not written any more.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdCertificatesStatus {
    /// Not written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<SecretStatus>,
    /// Not written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretStatus>,
}

/// The kubeconfigs of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigsStatus {
    /// For administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SecretStatus>,
    /// For the controller manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<SecretStatus>,
    /// For the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SecretStatus>,
}

/// kubeadm's configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeadmConfigStatus {
    /// Name of the ConfigMap.
    #[serde(rename = "configmapName", default, skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
    /// Checksum of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// What was set up inside of the tenant cluster for nodes to join.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeadmPhaseStatus {
    /// What a node that has nothing but a token needs.
    pub bootstrap_token: BootstrapTokenStatus,
}

/// What a node that has nothing but a token needs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapTokenStatus {
    /// Checksum of what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The objects that make up a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesResourcesStatus {
    /// What runs, and what it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionStatus>,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<ControlPlaneDeploymentStatus>,
    /// The Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ControlPlaneServiceStatus>,
    /// The Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<ControlPlaneIngressStatus>,
    /// The routes of the Gateway API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ControlPlaneGatewayStatus>,
}

/// What runs, and what it is doing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The Kubernetes version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the control plane is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Provisioning"))]
    pub status: Option<Phase>,
}

/// The pods of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = conditions_by_type)]
pub struct ControlPlaneDeploymentStatus {
    /// The Deployment's own status.
    #[serde(flatten)]
    pub status: DeploymentStatus,
    /// Label selector of the pods, as text; what the scale subresource reports.
    pub selector: String,
    /// Name of the Deployment.
    pub name: String,
    /// Namespace of the Deployment.
    pub namespace: String,
    /// When the Deployment was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The Service of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = conditions_by_type)]
pub struct ControlPlaneServiceStatus {
    /// The Service's own status.
    #[serde(flatten)]
    pub status: ServiceStatus,
    /// Name of the Service.
    pub name: String,
    /// Namespace of the Service.
    pub namespace: String,
    /// Port of the Service.
    pub port: i32,
}

/// The Ingress of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneIngressStatus {
    /// The Ingress's own status.
    #[serde(flatten)]
    pub status: IngressStatus,
    /// Name of the Ingress.
    pub name: String,
    /// Namespace of the Ingress.
    pub namespace: String,
}

/// A route of the Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneGatewayStatus {
    /// What each parent says of the route.
    #[schemars(extend("maxItems" = 32, "x-kubernetes-list-type" = "atomic"))]
    pub parents: Vec<RouteParentStatus>,
    /// The route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub route_ref: Option<RouteReference>,
    /// Where the route is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_points: Vec<AccessPoint>,
}

/// What a parent says of a route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent.
    pub parent_ref: ParentReference,
    /// Who says it.
    #[schemars(extend("minLength" = 1, "maxLength" = 253, "pattern" = GATEWAY_CONTROLLER_PATTERN))]
    pub controller_name: String,
    /// What is said.
    #[schemars(extend(
        "minItems" = 1,
        "maxItems" = 8,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = json!(["type"])
    ))]
    pub conditions: Vec<Condition>,
}

const GATEWAY_CONTROLLER_PATTERN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$";

const ADDRESS_TYPE_PATTERN: &str = r"^Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$";

/// A route, by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteReference {
    /// Name of the route.
    #[serde(default)]
    pub name: String,
}

/// Where a route is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPoint {
    /// Kind of address.
    #[serde(rename = "type")]
    #[schemars(extend("minLength" = 1, "maxLength" = 253, "pattern" = ADDRESS_TYPE_PATTERN))]
    pub type_: String,
    /// The address.
    pub value: String,
    /// The port.
    pub port: i32,
    /// Address and port as URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// The add-ons of a tenant cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddonsStatus {
    /// The cluster's DNS.
    #[serde(rename = "coreDNS", default, skip_serializing_if = "Option::is_none")]
    pub core_dns: Option<AddonStatus>,
    /// What makes Services work on the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<AddonStatus>,
    /// The tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnectivity: Option<KonnectivityStatus>,
}

/// One add-on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddonStatus {
    /// Whether it is installed.
    pub enabled: bool,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The tunnel.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonnectivityStatus {
    /// Whether it is installed.
    pub enabled: bool,
    /// The ConfigMap that makes the API server use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KonnectivityConfigMapStatus>,
    /// The certificate of the server's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretStatus>,
    /// The kubeconfig of the server's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<SecretStatus>,
    /// The agents' ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sa: Option<ObjectStatus>,
    /// The server's rights in the tenant cluster.
    #[serde(rename = "clusterrolebinding", default, skip_serializing_if = "Option::is_none")]
    pub cluster_role_binding: Option<ObjectStatus>,
    /// The agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<KonnectivityAgentStatus>,
    /// The Service through which agents reach the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ControlPlaneServiceStatus>,
    /// The route through which agents reach the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ControlPlaneGatewayStatus>,
}

/// A ConfigMap that the operator keeps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonnectivityConfigMapStatus {
    /// Name of the ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Checksum of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// An object that the operator keeps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
}

/// The tunnel's agents.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonnectivityAgentStatus {
    /// Name of the DaemonSet or Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the DaemonSet or Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Time>,
    /// Which of the two it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// A flattened status has lost the type name by which [`crate::schema::crd`] finds merge markers.
fn conditions_by_type(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut);
    if let Some(conditions) = properties
        .and_then(|properties| properties.get_mut("conditions"))
        .and_then(serde_json::Value::as_object_mut)
    {
        conditions.insert("x-kubernetes-list-type".into(), json!("map"));
        conditions.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    }
}
