use k8s_openapi::api::core::v1::{ResourceRequirements, SecurityContext, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::schema;

/// What is installed inside of a tenant cluster. An empty object installs with defaults, absence removes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addons {
    /// The cluster's DNS.
    #[serde(rename = "coreDNS", default, skip_serializing_if = "Option::is_none")]
    pub core_dns: Option<AddonSpec>,
    /// What makes Services work on the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<AddonSpec>,
    /// A tunnel through which the API server reaches nodes, pods and Services that it has no route to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnectivity: Option<KonnectivitySpec>,
}

/// Where an add-on's image comes from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddonSpec {
    /// Repository of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// Tag of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
}

/// Both ends of the tunnel.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonnectivitySpec {
    /// The end beside the API server.
    #[serde(default)]
    pub server: KonnectivityServerSpec,
    /// The end in the tenant cluster.
    #[serde(default)]
    #[schemars(extend("default" = json!({"image": default_agent_image(), "mode": "DaemonSet"})))]
    pub agent: KonnectivityAgentSpec,
}

/// The end of the tunnel beside the API server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KonnectivityServerSpec {
    /// The port that agents dial. If it is that of `networkProfile`, they share it with the API server.
    pub port: i32,
    /// Tag of the image; that of the Kubernetes minor version if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image, without a tag.
    #[serde(default = "default_server_image")]
    pub image: String,
    /// Requests and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Further flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// Security settings of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}

fn default_server_image() -> String {
    "registry.k8s.io/kas-network-proxy/proxy-server".into()
}

impl Default for KonnectivityServerSpec {
    fn default() -> Self {
        Self {
            port: 8132,
            version: None,
            image: default_server_image(),
            resources: None,
            extra_args: Vec::new(),
            security_context: None,
        }
    }
}

/// The end of the tunnel in the tenant cluster.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("x-kubernetes-validations" = schema::rules(&[(
        "!has(self.replicas) || (self.mode == 'DaemonSet' && self.replicas == 0) || (self.mode == 'Deployment' && self.replicas > 0)",
        "replicas must be 0 (or unset) when mode is DaemonSet, and greater than 0 (or unset) when mode is Deployment",
    )]))
)]
pub struct KonnectivityAgentSpec {
    /// The image, without a tag.
    #[serde(default = "default_agent_image")]
    pub image: String,
    /// Tag of the image; that of the Kubernetes minor version if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Taints of nodes that the agents tolerate.
    #[serde(default = "default_agent_tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Further flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// Whether agents use their node's network, for clusters whose pod network needs the tunnel to come up.
    #[serde(default)]
    pub host_network: bool,
    /// One agent per node, or a number of them.
    #[serde(default)]
    pub mode: KonnectivityAgentMode,
    /// How many agents, if they are a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

fn default_agent_image() -> String {
    "registry.k8s.io/kas-network-proxy/proxy-agent".into()
}

fn default_agent_tolerations() -> Vec<Toleration> {
    vec![Toleration {
        key: Some("CriticalAddonsOnly".into()),
        operator: Some("Exists".into()),
        ..Toleration::default()
    }]
}

impl Default for KonnectivityAgentSpec {
    fn default() -> Self {
        Self {
            image: default_agent_image(),
            version: None,
            tolerations: default_agent_tolerations(),
            extra_args: Vec::new(),
            host_network: false,
            mode: KonnectivityAgentMode::default(),
            replicas: None,
        }
    }
}

/// How tunnel agents are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum KonnectivityAgentMode {
    #[default]
    DaemonSet,
    Deployment,
}
