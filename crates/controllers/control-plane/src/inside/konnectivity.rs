//! The tunnel's agents, and the server's right to have their tokens reviewed.

use std::collections::BTreeMap;

use api::kamaji::names::{COMPONENT_LABEL, NAME_LABEL};
use api::kamaji::v1alpha1::{KonnectivityAgentMode, KonnectivityAgentSpec};
use serde_json::{Value, json};
use tenancy::control_plane::konnectivity::{ADMIN_PORT, HEALTH_PORT, PROTOCOL, shares_port};

use super::Inputs;
use super::object::{Kind, Object, Reference, cluster_role_binding, user};
use crate::desired::Hosted;
use crate::desired::flags::{Flags, Winner, merged};
use crate::desired::konnectivity::{AGENT, AGENT_NAMESPACE, USER, agent_endpoint, image_tag};

const TOKEN: &str = "konnectivity-agent-token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/tokens";

/// What agents depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    /// What the control plane's author says about them.
    pub agent: KonnectivityAgentSpec,
    /// The host that they dial.
    pub host: String,
    /// The port that they dial.
    pub port: i32,
    /// Whether they share it, and have to say that they are agents.
    pub shared: bool,
}

impl Tunnel {
    /// The tunnel that a control plane asks for.
    pub(crate) fn of(hosted: &Hosted<'_>) -> Option<Self> {
        let wanted = hosted.tcp.spec.addons.konnectivity.as_ref()?;
        let (host, port) = agent_endpoint(hosted)?;
        Some(Self {
            agent: wanted.agent.clone(),
            host,
            port,
            shared: shares_port(hosted.tcp),
        })
    }
}

pub(super) fn references() -> Vec<Reference> {
    vec![
        agents(Kind::DaemonSet),
        agents(Kind::Deployment),
        agents(Kind::ServiceAccount),
        Reference::new(Kind::ClusterRoleBinding, None, USER),
    ]
}

fn agents(kind: Kind) -> Reference {
    Reference::new(kind, Some(AGENT_NAMESPACE), AGENT)
}

fn kind(mode: KonnectivityAgentMode) -> Kind {
    match mode {
        KonnectivityAgentMode::DaemonSet => Kind::DaemonSet,
        KonnectivityAgentMode::Deployment => Kind::Deployment,
    }
}

/// The agents of the mode that is not wanted.
pub(super) fn other_mode(tunnel: &Tunnel) -> Reference {
    agents(match tunnel.agent.mode {
        KonnectivityAgentMode::DaemonSet => Kind::Deployment,
        KonnectivityAgentMode::Deployment => Kind::DaemonSet,
    })
}

pub(super) fn objects(inputs: &Inputs<'_>, tunnel: &Tunnel) -> Vec<Object> {
    let labels = |component: &str| json!({NAME_LABEL: inputs.name, COMPONENT_LABEL: component});
    let mut binding = cluster_role_binding(USER, "system:auth-delegator", &[user(USER)]);
    let mut of_binding = labels("konnectivity-clusterrolebinding");
    of_binding["addonmanager.kubernetes.io/mode"] = json!("Reconcile");
    of_binding["kubernetes.io/cluster-service"] = json!("true");
    binding.manifest["metadata"]["labels"] = of_binding;
    let account = json!({"metadata": {"labels": labels("konnectivity-sa")}});
    let mut workload = json!({
        "metadata": {"labels": labels(AGENT)},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": AGENT}},
            "template": {"metadata": {"labels": {"k8s-app": AGENT}}, "spec": pod(inputs, tunnel)},
        },
    });
    // Without a number of ours somebody else may scale them.
    if let (KonnectivityAgentMode::Deployment, Some(replicas)) = (tunnel.agent.mode, tunnel.agent.replicas) {
        workload["spec"]["replicas"] = json!(replicas);
    }
    let in_namespace = |kind, content| Object::new(kind, Some(AGENT_NAMESPACE), AGENT, content).labelled();
    vec![
        binding.labelled(),
        in_namespace(Kind::ServiceAccount, account),
        in_namespace(kind(tunnel.agent.mode), workload),
    ]
}

fn pod(inputs: &Inputs<'_>, tunnel: &Tunnel) -> Value {
    let agent = &tunnel.agent;
    let version = agent.version.clone().filter(|version| !version.is_empty());
    let tag = version.unwrap_or_else(|| image_tag(inputs.version));
    let mut pod = json!({
        "containers": [{
            "name": AGENT,
            "image": format!("{}:{tag}", agent.image),
            "imagePullPolicy": "IfNotPresent",
            "command": ["/proxy-agent"],
            "args": arguments(tunnel),
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": HEALTH_PORT, "scheme": "HTTP"},
                "initialDelaySeconds": 15,
                "timeoutSeconds": 15,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
            "volumeMounts": [{"mountPath": TOKEN_DIRECTORY, "name": TOKEN}],
        }],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": AGENT,
        "volumes": [{
            "name": TOKEN,
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": USER, "expirationSeconds": 3600, "path": TOKEN,
            }}]},
        }],
    });
    if !agent.tolerations.is_empty() {
        pod["tolerations"] = json!(agent.tolerations);
    }
    if agent.host_network {
        pod["hostNetwork"] = json!(true);
    }
    pod
}

/// The author's flags win: the agents run on the author's nodes.
fn arguments(tunnel: &Tunnel) -> Vec<String> {
    let mut own: Flags = BTreeMap::from([
        ("admin-server-port", ADMIN_PORT.to_string()),
        (
            "ca-cert",
            "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".to_owned(),
        ),
        ("health-server-port", HEALTH_PORT.to_string()),
        ("logtostderr", "true".to_owned()),
        ("proxy-server-host", tunnel.host.clone()),
        ("proxy-server-port", tunnel.port.to_string()),
        ("service-account-token-path", format!("{TOKEN_DIRECTORY}/{TOKEN}")),
        // Kamaji's 8 writes several lines for every packet of every connection.
        ("v", "2".to_owned()),
    ]);
    if tunnel.shared {
        own.insert("alpn-proto", PROTOCOL.to_owned());
    }
    merged(&own, &tunnel.agent.extra_args, Winner::Author)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_flags_win_on_the_authors_nodes() {
        let tunnel = Tunnel {
            agent: KonnectivityAgentSpec {
                extra_args: vec!["-v=8".to_owned(), "--proxy_server_host=oil.example".to_owned()],
                ..KonnectivityAgentSpec::default()
            },
            host: "192.0.2.1".to_owned(),
            port: 8132,
            shared: false,
        };
        assert_eq!(
            arguments(&tunnel),
            [
                "--admin-server-port=8133",
                "--ca-cert=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
                "--health-server-port=8134",
                "--logtostderr=true",
                "--proxy_server_host=oil.example",
                "--proxy-server-port=8132",
                "--service-account-token-path=/var/run/secrets/tokens/konnectivity-agent-token",
                "-v=8",
            ]
        );
    }

    #[test]
    fn who_shares_a_port_says_who_it_is() {
        let mut tunnel = Tunnel {
            agent: KonnectivityAgentSpec::default(),
            host: "192.0.2.1".to_owned(),
            port: 6443,
            shared: false,
        };
        let said = |tunnel: &Tunnel| arguments(tunnel).contains(&"--alpn-proto=konnectivity".to_owned());
        assert!(!said(&tunnel));
        tunnel.shared = true;
        assert!(said(&tunnel));
    }
}
