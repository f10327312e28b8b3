use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, Container, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
            TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AdditionalMetadata;
use crate::schema;

/// How a control plane runs in this cluster and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("!(has(self.ingress) && has(self.gateway))", "using both ingress and gateway is not supported"),
])))]
pub struct ControlPlane {
    /// The pods.
    #[serde(default)]
    pub deployment: DeploymentSpec,
    /// The Service in front of the pods.
    pub service: ServiceSpec,
    /// An Ingress in front of the Service. It has to pass TLS through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// Routes of the Gateway API in front of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySpec>,
}

/// The pods of a control plane.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// Where the images of Kubernetes come from.
    #[serde(default)]
    pub registry_settings: RegistrySettings,
    /// How many pods. 0 puts the control plane to sleep: its objects stay, nothing runs.
    #[serde(default = "default_replicas")]
    pub replicas: i32,
    /// Labels of the nodes that the pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// How pods are replaced. By default all new ones come up before an old one goes.
    #[serde(default = "default_strategy")]
    pub strategy: DeploymentStrategy,
    /// Taints of nodes that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Scheduling rules of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over the nodes. Without a label selector, over this control plane's pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Requests and limits of each component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ControlPlaneComponentsResources>,
    /// Further flags of each component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<ControlPlaneExtraArgs>,
    /// Labels and annotations added to the Deployment.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub additional_metadata: AdditionalMetadata,
    /// Labels and annotations added to the pods.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub pod_additional_metadata: AdditionalMetadata,
    /// Init containers that run before the operator's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_init_containers: Vec<Container>,
    /// Containers that run beside Kubernetes' own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_containers: Vec<Container>,
    /// Volumes added to the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_volumes: Vec<Volume>,
    /// Where the additional volumes are mounted in each component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_volume_mounts: Option<AdditionalVolumeMounts>,
    /// How the components' probes differ from the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<ControlPlaneProbes>,
    /// The ServiceAccount of the pods, in the control plane's namespace.
    #[serde(default = "default_service_account_name")]
    pub service_account_name: String,
    /// Whether the ServiceAccount's token is mounted into the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// Security settings of each component's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_security_contexts: Option<ContainerSecurityContexts>,
    /// Security settings of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
}

fn default_replicas() -> i32 {
    2
}

fn default_service_account_name() -> String {
    "default".into()
}

fn default_strategy() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::String("100%".into())),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

impl Default for DeploymentSpec {
    fn default() -> Self {
        Self {
            registry_settings: RegistrySettings::default(),
            replicas: default_replicas(),
            node_selector: BTreeMap::new(),
            runtime_class_name: None,
            strategy: default_strategy(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            resources: None,
            extra_args: None,
            additional_metadata: AdditionalMetadata::default(),
            pod_additional_metadata: AdditionalMetadata::default(),
            additional_init_containers: Vec::new(),
            additional_containers: Vec::new(),
            additional_volumes: Vec::new(),
            additional_volume_mounts: None,
            probes: None,
            service_account_name: default_service_account_name(),
            automount_service_account_token: None,
            container_security_contexts: None,
            pod_security_context: None,
        }
    }
}

/// Where the images of Kubernetes come from: `<registry>/<image>:<version><tagSuffix>`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySettings {
    /// What stands before the image names.
    #[serde(default = "default_registry")]
    pub registry: String,
    /// What is added to the version in the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_suffix: Option<String>,
    /// Image name of the API server.
    #[serde(default = "default_api_server_image")]
    pub api_server_image: String,
    /// Image name of the controller manager.
    #[serde(default = "default_controller_manager_image")]
    pub controller_manager_image: String,
    /// Image name of the scheduler.
    #[serde(default = "default_scheduler_image")]
    pub scheduler_image: String,
}

fn default_registry() -> String {
    "registry.k8s.io".into()
}

fn default_api_server_image() -> String {
    "kube-apiserver".into()
}

fn default_controller_manager_image() -> String {
    "kube-controller-manager".into()
}

fn default_scheduler_image() -> String {
    "kube-scheduler".into()
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            registry: default_registry(),
            tag_suffix: None,
            api_server_image: default_api_server_image(),
            controller_manager_image: default_controller_manager_image(),
            scheduler_image: default_scheduler_image(),
        }
    }
}

/// Requests and limits of each component.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneComponentsResources {
    /// The API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ResourceRequirements>,
    /// The controller manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<ResourceRequirements>,
    /// The scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<ResourceRequirements>,
    /// The translator in front of an SQL or NATS store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kine: Option<ResourceRequirements>,
}

/// Further flags of each component, as `--flag=value`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneExtraArgs {
    /// The API server. Flags that the operator manages keep the operator's value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_server: Vec<String>,
    /// The controller manager.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controller_manager: Vec<String>,
    /// The scheduler. Flags that the operator manages keep the operator's value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduler: Vec<String>,
    /// The translator in front of an SQL or NATS store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kine: Vec<String>,
}

/// Where additional volumes are mounted in each component.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalVolumeMounts {
    /// The API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_server: Vec<VolumeMount>,
    /// The controller manager.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controller_manager: Vec<VolumeMount>,
    /// The scheduler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduler: Vec<VolumeMount>,
}

/// Probes for all components, and for single ones; the latter win field by field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneProbes {
    /// Restarts a container, in every component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeSpec>,
    /// Takes a container out of the Service, in every component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ProbeSpec>,
    /// Gives a container time to start, in every component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeSpec>,
    /// The API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ProbeSet>,
    /// The controller manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<ProbeSet>,
    /// The scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<ProbeSet>,
}

/// Probes of one component.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSet {
    /// Restarts the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeSpec>,
    /// Takes the container out of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ProbeSpec>,
    /// Gives the container time to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeSpec>,
}

/// How often and how patiently a container is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// Seconds before the first question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds to wait for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub timeout_seconds: Option<i32>,
    /// Seconds between questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub period_seconds: Option<i32>,
    /// Good answers in a row after which the container counts as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub success_threshold: Option<i32>,
    /// Bad answers in a row after which the container counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub failure_threshold: Option<i32>,
}

/// Security settings of each component's container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSecurityContexts {
    /// The API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<SecurityContext>,
    /// The controller manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<SecurityContext>,
    /// The scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SecurityContext>,
}

/// The Service in front of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// How the Service is reached. With NodePort, `networkProfile.port` has to lie in this cluster's node port range
    /// and `networkProfile.address` has to be given.
    pub service_type: ServiceType,
    /// Labels and annotations added to the Service.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub additional_metadata: AdditionalMetadata,
    /// Further ports of the Service, for additional containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_ports: Vec<AdditionalPort>,
    /// Whether a load balancer also gets node ports; yes if absent. Only with LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// One more port of the Service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalPort {
    /// Name of the port, unique in the Service.
    pub name: String,
    /// Port of the Service.
    pub port: i32,
    /// Port of the pods, as a number or by name.
    pub target_port: IntOrString,
    /// Protocol of the port.
    #[serde(default = "default_protocol")]
    #[schemars(extend("enum" = json!(["TCP", "UDP", "SCTP"])))]
    pub protocol: String,
    /// What is spoken on the port, for load balancers that want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

fn default_protocol() -> String {
    "TCP".into()
}

/// An Ingress in front of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Labels and annotations added to the Ingress.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub additional_metadata: AdditionalMetadata,
    /// The IngressClass; the cluster's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_class_name: Option<String>,
    /// The name under which the API server is reached, with a port if it is not `networkProfile.port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// Routes of the Gateway API in front of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Labels and annotations added to the routes.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub additional_metadata: AdditionalMetadata,
    /// The Gateways that the routes attach to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// The name under which the API server is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "minLength" = 1,
        "maxLength" = 253,
        "pattern" = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ))]
    pub hostname: Option<String>,
}

/// A Gateway, or one listener of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group of the parent.
    #[serde(default = "default_parent_group")]
    #[schemars(extend("maxLength" = 253, "pattern" = format!("^$|{}", schema::SUBDOMAIN_PATTERN)))]
    pub group: String,
    /// Kind of the parent.
    #[serde(default = "default_parent_kind")]
    #[schemars(extend("minLength" = 1, "maxLength" = 63, "pattern" = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub kind: String,
    /// Name of the parent.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
    /// Namespace of the parent; the route's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub namespace: Option<String>,
    /// Port of the parent's listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub port: Option<i32>,
    /// Name of one listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 253, "pattern" = schema::SUBDOMAIN_PATTERN))]
    pub section_name: Option<String>,
}

fn default_parent_group() -> String {
    "gateway.networking.k8s.io".into()
}

fn default_parent_kind() -> String {
    "Gateway".into()
}

impl Default for ParentReference {
    fn default() -> Self {
        Self {
            group: default_parent_group(),
            kind: default_parent_kind(),
            name: String::new(),
            namespace: None,
            port: None,
            section_name: None,
        }
    }
}
