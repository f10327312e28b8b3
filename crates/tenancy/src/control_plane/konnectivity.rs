//! The tunnel between a control plane and its nodes: ports, images and flags of both ends.
//!
//! The server's end runs in the control plane's pods, so what it may be given is held to the same as the rest of them:
//! its image and security context are [`super::deputy`]'s business. The agents run on the tenant's own nodes, where
//! their author may do what they like; what is refused of theirs is what would not start.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use api::kamaji::v1alpha1::{KonnectivitySpec, ServiceType, TenantControlPlane};

use super::arguments;
use super::network::TakenNodePort;
use crate::denial::Denial;

/// Where the server's end takes agents in its pod when they come by the API server's port.
pub const AGENT_PORT: i32 = 8132;
/// Where the server's end tells about itself, in the pod only.
pub const ADMIN_PORT: i32 = 8133;
/// Where both ends are asked for their health.
pub const HEALTH_PORT: i32 = 8134;
/// Where agents and all others arrive in the pod when they come by one port.
pub const ROUTER_PORT: i32 = 8135;
/// What agents offer (ALPN) and nobody else does, so that one port is enough.
pub const PROTOCOL: &str = "konnectivity";

const SERVER: &str = "spec.addons.konnectivity.server";
const AGENT: &str = "spec.addons.konnectivity.agent";
const PORT: &str = "spec.addons.konnectivity.server.port";

/// Flags of the server that always have the operator's value.
const MANAGED_SERVER_FLAGS: &[&str] = &[
    "--admin-port",
    "--agent-namespace",
    "--agent-port",
    "--agent-service-account",
    "--authentication-audience",
    "--cluster-cert",
    "--cluster-key",
    "--health-port",
    "--kubeconfig",
    "--mode",
    "--server-count",
    "--server-port",
    "--uds-name",
];

/// Whether agents come by the API server's own port: its number is given for both.
pub fn shares_port(tcp: &TenantControlPlane) -> bool {
    let tunnel = tcp.spec.addons.konnectivity.as_ref();
    tunnel.is_some_and(|tunnel| tunnel.server.port == tcp.spec.network_profile.port)
}

/// What would keep the two ends from starting.
pub fn denials(tcp: &TenantControlPlane) -> Vec<Denial> {
    let Some(tunnel) = &tcp.spec.addons.konnectivity else {
        return Vec::new();
    };
    let mut denials = images(tunnel);
    for (field, arguments) in arguments_of(tunnel) {
        let words = arguments.iter().enumerate();
        denials.extend(
            words
                .filter(|(_, argument)| arguments::flag(argument).is_none())
                .map(|(index, argument)| {
                    let field = format!("{field}.extraArgs[{index}]");
                    let message = format!("{field}: {argument:?} is not a flag; write it as --flag=value");
                    Denial::new(field, "FlagInvalid", message)
                }),
        );
    }
    denials.extend(pod_ports(tcp, tunnel));
    denials
}

/// What is wrong with the tunnel's port in the admin cluster. `range` is that cluster's node port range.
pub fn node_ports(tcp: &TenantControlPlane, range: &RangeInclusive<i32>, taken: &[TakenNodePort]) -> Option<Denial> {
    let port = tcp.spec.addons.konnectivity.as_ref()?.server.port;
    let on_nodes = tcp.spec.control_plane.service.service_type == ServiceType::NodePort;
    if !on_nodes || shares_port(tcp) || !(1..=65535).contains(&port) {
        return None;
    }
    if !range.contains(&port) {
        let message = format!(
            "{PORT}: {port} is outside of this cluster's node port range {}-{}, and with service type NodePort the port is opened on the nodes; the range is set by the flag --service-node-port-range of the API server",
            range.start(),
            range.end()
        );
        return Some(Denial::new(PORT, "PortOutOfRange", message));
    }
    let own = |taken: &TakenNodePort| {
        Some(taken.namespace.as_str()) == tcp.metadata.namespace.as_deref()
            && Some(taken.name.as_str()) == tcp.metadata.name.as_deref()
    };
    let mut others = taken.iter().filter(|taken| !own(taken));
    others
        .any(|taken| taken.port == port && taken.protocol == "TCP")
        .then(|| {
            let message = format!("{PORT}: {port} is taken on the nodes by another Service; choose another port");
            Denial::new(PORT, "PortTaken", message)
        })
}

/// Flags that are accepted and do nothing.
pub fn warnings(tcp: &TenantControlPlane) -> Vec<String> {
    let server = tcp
        .spec
        .addons
        .konnectivity
        .iter()
        .flat_map(|tunnel| &tunnel.server.extra_args);
    server
        .enumerate()
        .filter_map(|(index, argument)| {
            let flag = arguments::flag(argument).filter(|flag| MANAGED_SERVER_FLAGS.contains(&flag.as_str()))?;
            Some(format!(
                "{SERVER}.extraArgs[{index}]: {flag} has no effect, because the operator sets it"
            ))
        })
        .collect()
}

fn arguments_of(tunnel: &KonnectivitySpec) -> [(&'static str, &[String]); 2] {
    [(SERVER, &tunnel.server.extra_args), (AGENT, &tunnel.agent.extra_args)]
}

fn images(tunnel: &KonnectivitySpec) -> Vec<Denial> {
    let fits = |text: &str, more: &[char]| {
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
        !text.is_empty() && text.chars().all(|char| plain(char) || more.contains(&char))
    };
    let (server, agent) = (&tunnel.server, &tunnel.agent);
    let mut denials = Vec::new();
    for (end, image, version) in [
        (SERVER, &server.image, server.version.as_deref()),
        (AGENT, &agent.image, agent.version.as_deref()),
    ] {
        if !fits(image, &['/', ':']) {
            let field = format!("{end}.image");
            let message = format!("{field}: {image:?} is not the name of an image; write it without a tag");
            denials.push(Denial::new(field, "ImageInvalid", message));
        }
        // A tag may be followed by a digest.
        if let Some(version) = version.filter(|version| !version.is_empty() && !fits(version, &['@', ':'])) {
            let field = format!("{end}.version");
            let message = format!("{field}: {version:?} is not the tag of an image; write it as v0.36.0");
            denials.push(Denial::new(field, "ImageInvalid", message));
        }
    }
    denials
}

/// All containers of a pod share its ports, and a Service has each only once.
fn pod_ports(tcp: &TenantControlPlane, tunnel: &KonnectivitySpec) -> Vec<Denial> {
    const API_SERVER: &str = "spec.networkProfile.port";
    let (port, api_server) = (tunnel.server.port, tcp.spec.network_profile.port);
    let mut denials = Vec::new();
    if !(1..=65535).contains(&port) {
        let message = format!("{PORT}: {port} is not a port; ports are 1 to 65535");
        denials.push(Denial::new(PORT, "PortInvalid", message));
    }
    // The controller manager and the scheduler listen in the same pod.
    let inside = BTreeSet::from([10257, 10259, ADMIN_PORT, HEALTH_PORT]);
    let mut deny = |field: &str, port: i32, whose: &str| {
        let message = format!("{field}: {port} is taken in the control plane's pod by {whose}; choose another port");
        denials.push(Denial::new(field, "PortTaken", message));
    };
    let shared = port == api_server;
    if !shared && inside.contains(&port) {
        deny(PORT, port, "another part of Kubernetes");
    }
    let of_the_tunnel = matches!(api_server, ADMIN_PORT | HEALTH_PORT);
    if of_the_tunnel || shared && matches!(api_server, AGENT_PORT | ROUTER_PORT) {
        deny(API_SERVER, api_server, "the tunnel's server");
    }
    let additional = tcp.spec.control_plane.service.additional_ports.iter().enumerate();
    for (index, _) in additional.filter(|(_, one)| one.port == port && one.protocol == "TCP") {
        let field = format!("spec.controlPlane.service.additionalPorts[{index}].port");
        let message = format!("{field}: {port} is another port of the Service");
        denials.push(Denial::new(field, "PortTaken", message));
    }
    denials
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, reason = "rows of tables are handed over")]

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(konnectivity: &Value, more: &Value) -> TenantControlPlane {
        let mut spec = json!({
            "addons": {"konnectivity": konnectivity},
            "controlPlane": {"service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.0"},
            "networkProfile": {"port": 6443},
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let mut tcp = TenantControlPlane::new("oil", serde_json::from_value(spec).unwrap());
        tcp.metadata.namespace = Some("tenants".into());
        tcp
    }

    #[rstest]
    #[case::as_it_comes(json!({}), json!({}), None)]
    #[case::all_of_it(
        json!({
            "server": {"port": 8132, "image": "registry.example:5000/a/server", "version": "v0.36.0", "extraArgs": ["--v=4"]},
            "agent": {"image": "b/agent", "version": "v1@sha256:0a", "extraArgs": ["-v=8", "--sync-forever"]},
        }),
        json!({}),
        None
    )]
    #[case::no_port(json!({"server": {"port": 0}}), json!({}), Some(("spec.addons.konnectivity.server.port", "PortInvalid")))]
    #[case::by_the_port_of_the_api_server(json!({"server": {"port": 6443}}), json!({}), None)]
    #[case::by_a_port_that_it_needs_itself(json!({}), json!({"networkProfile": {"port": 8132}}), Some(("spec.networkProfile.port", "PortTaken")))]
    #[case::by_a_port_that_the_router_needs(json!({"server": {"port": 8135}}), json!({"networkProfile": {"port": 8135}}), Some(("spec.networkProfile.port", "PortTaken")))]
    #[case::port_of_the_scheduler(json!({"server": {"port": 10259}}), json!({}), Some(("spec.addons.konnectivity.server.port", "PortTaken")))]
    #[case::port_of_its_own_health(json!({"server": {"port": 8134}}), json!({}), Some(("spec.addons.konnectivity.server.port", "PortTaken")))]
    #[case::the_api_server_on_its_port(json!({}), json!({"networkProfile": {"port": 8133}}), Some(("spec.networkProfile.port", "PortTaken")))]
    #[case::port_of_the_service(
        json!({}),
        json!({"controlPlane": {"service": {"serviceType": "ClusterIP", "additionalPorts": [{"name": "a", "port": 8132, "targetPort": 1}]}}}),
        Some(("spec.controlPlane.service.additionalPorts[0].port", "PortTaken"))
    )]
    #[case::no_image(json!({"server": {"port": 1, "image": ""}}), json!({}), Some(("spec.addons.konnectivity.server.image", "ImageInvalid")))]
    #[case::image_with_a_digest(json!({"agent": {"image": "a@sha256:0"}}), json!({}), Some(("spec.addons.konnectivity.agent.image", "ImageInvalid")))]
    #[case::two_words_for_a_tag(json!({"agent": {"version": "v1 v2"}}), json!({}), Some(("spec.addons.konnectivity.agent.version", "ImageInvalid")))]
    #[case::end_of_flags(json!({"server": {"port": 1, "extraArgs": ["--v=2", "--"]}}), json!({}), Some(("spec.addons.konnectivity.server.extraArgs[1]", "FlagInvalid")))]
    #[case::a_word(json!({"agent": {"extraArgs": ["v=2"]}}), json!({}), Some(("spec.addons.konnectivity.agent.extraArgs[0]", "FlagInvalid")))]
    fn what_would_not_start_is_refused(
        #[case] konnectivity: Value,
        #[case] more: Value,
        #[case] expected: Option<(&str, &str)>,
    ) {
        let denials = denials(&tcp(&konnectivity, &more));
        let found = denials.first().map(|denial| (denial.field.as_str(), denial.reason));
        assert_eq!(found, expected, "{denials:?}");
    }

    #[rstest]
    #[case::free("NodePort", 30100, None)]
    #[case::outside("NodePort", 8132, Some("PortOutOfRange"))]
    #[case::a_neighbours("NodePort", 30101, Some("PortTaken"))]
    #[case::the_neighbours_is_udp("NodePort", 30102, None)]
    #[case::its_own("NodePort", 30103, None)]
    #[case::not_on_nodes("ClusterIP", 8132, None)]
    #[case::the_api_servers("NodePort", 6443, None)]
    fn on_nodes_the_port_is_in_range_and_free(
        #[case] service_type: &str,
        #[case] port: i32,
        #[case] expected: Option<&str>,
    ) {
        let taken = |port, protocol: &str, name: &str| TakenNodePort {
            port,
            protocol: protocol.into(),
            namespace: "tenants".into(),
            name: name.into(),
        };
        let taken = [
            taken(30101, "TCP", "gas"),
            taken(30102, "UDP", "gas"),
            taken(30103, "TCP", "oil"),
        ];
        let tcp = tcp(
            &json!({"server": {"port": port}}),
            &json!({"controlPlane": {"service": {"serviceType": service_type}}}),
        );
        let denial = node_ports(&tcp, &(30000..=32767), &taken);
        assert_eq!(denial.map(|denial| denial.reason), expected);
    }

    #[test]
    fn flags_that_the_operator_sets_are_said_to_have_no_effect() {
        let tcp = tcp(
            &json!({"server": {"port": 8132, "extraArgs": ["--v=2", "--uds_name=/tmp/mine"]}}),
            &json!({}),
        );
        assert_eq!(
            warnings(&tcp),
            ["spec.addons.konnectivity.server.extraArgs[1]: --uds-name has no effect, because the operator sets it"]
        );
        assert_eq!(denials(&tcp), []);
    }
}
