//! The tunnel's end beside the API server: a container in its pods, a port of its Service, and what both read.
//!
//! The API server hands every connection to nodes, pods and Services to the container over a socket that the two share;
//! agents in the tenant cluster dial the container's port and carry it out. So the control plane needs no route to its
//! nodes, only they need one to it.
//!
//! The server knows agents by their tokens, which it has the API server review. It is given the name that a binding in
//! the tenant cluster gives that right to, and no group: `system:masters`, which Kamaji puts into its certificate,
//! would let it do everything.
//!
//! Agents dial a port of their own, or the API server's if the spec gives its number for both. Then all that arrives at
//! the Service goes by a third container, which passes agents on to the tunnel and all others to the API server.

use std::collections::BTreeMap;

use api::kamaji::names::{CHECKSUM_ANNOTATION, LIFECYCLE_KUBECONFIG, LIFECYCLE_X509};
use api::kamaji::v1alpha1::{KonnectivityServerSpec, KonnectivitySpec, ServiceType, TenantControlPlane};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Service, ServicePort,
    TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tenancy::control_plane::konnectivity::{ADMIN_PORT, AGENT_PORT, HEALTH_PORT, PROTOCOL, ROUTER_PORT, shares_port};
use tenancy::control_plane::version;

use super::flags::{Flags, Winner, merged};
use super::secrets::{KubeconfigRecipe, Recipe, SecretRecipe, Signer};
use super::{Hosted, Waiting, identity};
use crate::status::settled;

/// The Secrets, by component.
pub const SECRET_COMPONENTS: [&str; 2] = ["konnectivity-certificate", "konnectivity-kubeconfig"];
/// The ConfigMap, by component.
pub const CONFIG_COMPONENT: &str = "konnectivity-egress-selector-configuration";
/// The user that the server is in the tenant cluster, the binding that gives it its rights, and whom tokens of agents
/// are for.
pub const USER: &str = "system:konnectivity-server";
/// The agents, and their service account.
pub const AGENT: &str = "konnectivity-agent";
/// Namespace of the agents.
pub const AGENT_NAMESPACE: &str = "kube-system";

const NAME: &str = "konnectivity-server";
const ROUTER: &str = "tls-router";
const KUBECONFIG: &str = "konnectivity-server.conf";
const KUBECONFIG_PATH: &str = "/etc/kubernetes/konnectivity-server.conf";
const CONFIGURATION: &str = "egress-selector-configuration.yaml";
const CONFIGURATION_DIRECTORY: &str = "/etc/kubernetes/konnectivity/configurations";
const SOCKET_DIRECTORY: &str = "/run/konnectivity";
const SOCKET: &str = "/run/konnectivity/konnectivity-server.socket";
const PKI: &str = "/etc/kubernetes/pki";
const MODE: i32 = 0o644;

/// The tunnel that a control plane asks for.
fn wanted(tcp: &TenantControlPlane) -> Option<&KonnectivitySpec> {
    tcp.spec.addons.konnectivity.as_ref()
}

/// The Secrets that a control plane has for its tunnel, by component.
pub fn secret_components(tcp: &TenantControlPlane) -> &'static [&'static str] {
    if wanted(tcp).is_some() { &SECRET_COMPONENTS } else { &[] }
}

/// The server's certificate as a client of the tenant's API server, and the kubeconfig that it uses.
pub(super) fn recipes(tcp: &TenantControlPlane) -> Vec<SecretRecipe> {
    if wanted(tcp).is_none() {
        return Vec::new();
    }
    let [certificate, kubeconfig] = SECRET_COMPONENTS;
    let secret = |component: &'static str, lifecycle, recipe| SecretRecipe {
        name: format!("{}-{component}", tcp.name_any()),
        component,
        lifecycle: Some(lifecycle),
        finalizer: None,
        recipe,
    };
    vec![
        secret(
            certificate,
            LIFECYCLE_X509,
            Recipe::Leaf {
                signer: Signer::ControlPlane,
                keys: ("tls.crt", "tls.key"),
                authority_key: None,
                common_name: USER.to_owned(),
                server: false,
                sans: Vec::new(),
            },
        ),
        secret(
            kubeconfig,
            LIFECYCLE_KUBECONFIG,
            Recipe::Kubeconfigs {
                cluster: "kubernetes".to_owned(),
                entries: vec![KubeconfigRecipe {
                    key: KUBECONFIG,
                    server: format!("https://localhost:{}", tcp.spec.network_profile.port),
                    user: USER,
                    groups: &[],
                }],
            },
        ),
    ]
}

/// Name of the ConfigMap.
pub fn config_name(name: &str) -> String {
    format!("{name}-{CONFIG_COMPONENT}")
}

/// What makes the API server use the tunnel for the tenant cluster's network; webhooks, aggregated API servers, nodes
/// and pods are there. The datastore is not.
pub fn egress_selector(tcp: &TenantControlPlane) -> Option<ConfigMap> {
    wanted(tcp)?;
    let configuration = format!(
        "apiVersion: apiserver.k8s.io/v1beta1
egressSelections:
- connection:
    proxyProtocol: GRPC
    transport:
      uds:
        udsName: {SOCKET}
  name: cluster
kind: EgressSelectorConfiguration
"
    );
    let data: BTreeMap<String, String> = [(CONFIGURATION.to_owned(), configuration)].into();
    let mut metadata = identity::metadata(tcp, &config_name(&tcp.name_any()), CONFIG_COMPONENT);
    metadata.annotations = Some([(CHECKSUM_ANNOTATION.to_owned(), identity::checksum(&data))].into());
    Some(ConfigMap {
        metadata,
        data: Some(data),
        ..ConfigMap::default()
    })
}

/// The port of the Service that agents alone dial.
pub(super) fn service_port(tcp: &TenantControlPlane) -> Option<ServicePort> {
    let port = wanted(tcp).filter(|_| !shares_port(tcp))?.server.port;
    let on_nodes = tcp.spec.control_plane.service.service_type == ServiceType::NodePort;
    Some(ServicePort {
        name: Some(NAME.to_owned()),
        port,
        target_port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        node_port: on_nodes.then_some(port),
        app_protocol: None,
    })
}

/// The port of the pod that the Service's port for the API server leads to: the router's, but not before all pods have
/// one. A rollout later on changes nothing about that.
pub fn target_port(tcp: &TenantControlPlane, deployment: Option<&Deployment>, service: Option<&Service>) -> i32 {
    let own = tcp.spec.network_profile.port;
    let with_router = |deployment: &&Deployment| {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        pod.is_some_and(|pod| pod.containers.iter().any(|container| container.name == ROUTER))
    };
    let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_ref());
    let leads_there = ports
        .into_iter()
        .flatten()
        .any(|port| port.port == own && port.target_port == Some(IntOrString::Int(ROUTER_PORT)));
    match deployment.filter(with_router) {
        Some(deployment) if shares_port(tcp) && (leads_there || settled(deployment)) => ROUTER_PORT,
        _ => own,
    }
}

/// What keeps a tunnel from sharing the API server's port.
///
/// # Errors
/// Why the control plane cannot be rendered.
pub(crate) fn check_router(tcp: &TenantControlPlane, own_image: Option<&str>) -> Result<(), Waiting> {
    if !shares_port(tcp) || own_image.is_some() {
        return Ok(());
    }
    Err(Waiting::exposed(
        "ImageMissing",
        "spec.addons.konnectivity.server.port is the API server's own, which takes a container of the operator's image \
         in the control plane's pods; which image that is, the operator is told by its flag --own-image. With another \
         port it is not needed"
            .to_owned(),
    ))
}

/// Tag of upstream's images for a version of Kubernetes: they follow its minor.
pub fn image_tag(version: &str) -> String {
    let minor = version::parse(version).map_or(version::NEWEST.minor, |version| version.minor);
    format!("v0.{minor}.0")
}

/// The flag of the API server that turns the tunnel on.
pub(super) fn api_server_flag(tcp: &TenantControlPlane) -> Option<(&'static str, String)> {
    wanted(tcp).map(|_| {
        (
            "egress-selector-config-file",
            format!("{CONFIGURATION_DIRECTORY}/{CONFIGURATION}"),
        )
    })
}

/// Adds the server's container and volumes, and what the API server needs of them beside its flag.
pub(super) fn add(hosted: &Hosted<'_>, pod: &mut PodSpec) {
    let Some(tunnel) = wanted(hosted.tcp) else { return };
    pod.containers.push(container(hosted, &tunnel.server));
    if shares_port(hosted.tcp) {
        pod.containers.push(router(hosted));
    }
    pod.volumes.get_or_insert_default().extend(volumes(&hosted.name));
    let api_server = pod.containers.iter_mut().find(|one| one.name == "kube-apiserver");
    if let Some(api_server) = api_server {
        api_server.volume_mounts.get_or_insert_default().extend([
            mount("konnectivity-uds", SOCKET_DIRECTORY),
            mount("egress-selector-configuration", CONFIGURATION_DIRECTORY),
        ]);
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// The container that the Service leads to where one port is shared. It holds nothing and may do nothing.
fn router(hosted: &Hosted<'_>) -> Container {
    let local = |port: i32| format!("127.0.0.1:{port}");
    Container {
        name: ROUTER.to_owned(),
        image: hosted.own_image.clone(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec![
            "tls-router".to_owned(),
            format!("--others={}", local(hosted.exposure.port)),
            format!("--port={ROUTER_PORT}"),
            format!("--protocol={PROTOCOL}={}", local(AGENT_PORT)),
        ]),
        ports: Some(vec![port("tls", ROUTER_PORT)]),
        resources: Some(ResourceRequirements::default()),
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(ROUTER_PORT),
                host: None,
            }),
            timeout_seconds: Some(1),
            period_seconds: Some(2),
            success_threshold: Some(1),
            failure_threshold: Some(15),
            ..Probe::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn container(hosted: &Hosted<'_>, server: &KonnectivityServerSpec) -> Container {
    let agent_port = if shares_port(hosted.tcp) {
        AGENT_PORT
    } else {
        server.port
    };
    let pki = |file: &str| format!("{PKI}/{file}");
    let own: Flags = [
        ("admin-port", ADMIN_PORT.to_string()),
        ("agent-namespace", AGENT_NAMESPACE.to_owned()),
        ("agent-port", agent_port.to_string()),
        ("agent-service-account", AGENT.to_owned()),
        ("authentication-audience", USER.to_owned()),
        ("cluster-cert", pki("apiserver.crt")),
        ("cluster-key", pki("apiserver.key")),
        ("health-port", HEALTH_PORT.to_string()),
        ("kubeconfig", KUBECONFIG_PATH.to_owned()),
        ("mode", "grpc".to_owned()),
        // Agents go on dialling until they have met that many servers.
        (
            "server-count",
            hosted.tcp.spec.control_plane.deployment.replicas.max(1).to_string(),
        ),
        ("server-port", "0".to_owned()),
        ("uds-name", SOCKET.to_owned()),
    ]
    .into();
    let version = server.version.clone().filter(|version| !version.is_empty());
    let tag = version.unwrap_or_else(|| image_tag(&hosted.version));
    let read_only = |mount: VolumeMount| VolumeMount {
        read_only: Some(true),
        ..mount
    };
    Container {
        name: NAME.to_owned(),
        image: Some(format!("{}:{tag}", server.image)),
        image_pull_policy: Some("Always".to_owned()),
        command: Some(vec!["/proxy-server".to_owned()]),
        args: Some(merged(&own, &server.extra_args, Winner::Own)),
        ports: Some(vec![
            port("agentport", agent_port),
            port("adminport", ADMIN_PORT),
            port("healthport", HEALTH_PORT),
        ]),
        resources: Some(server.resources.clone().unwrap_or_default()),
        security_context: server.security_context.clone(),
        liveness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/healthz".to_owned()),
                port: IntOrString::Int(HEALTH_PORT),
                scheme: Some("HTTP".to_owned()),
                ..HTTPGetAction::default()
            }),
            initial_delay_seconds: Some(30),
            timeout_seconds: Some(60),
            period_seconds: Some(10),
            success_threshold: Some(1),
            failure_threshold: Some(3),
            ..Probe::default()
        }),
        volume_mounts: Some(vec![
            read_only(mount("etc-kubernetes-pki", PKI)),
            VolumeMount {
                sub_path: Some(KUBECONFIG.to_owned()),
                ..read_only(mount("konnectivity-server-kubeconfig", KUBECONFIG_PATH))
            },
            mount("konnectivity-uds", SOCKET_DIRECTORY),
        ]),
        env: hosted
            .gogc
            .map(|percent| vec![super::deployment::variable("GOGC", percent.to_string())]),
        ..Container::default()
    }
}

fn port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// The volumes of both containers. `name` is the control plane's.
fn volumes(name: &str) -> Vec<Volume> {
    let volume = |name: &str| Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    vec![
        Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: None,
            }),
            ..volume("konnectivity-uds")
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: config_name(name),
                default_mode: Some(MODE),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume("egress-selector-configuration")
        },
        Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(format!("{name}-{}", SECRET_COMPONENTS[1])),
                default_mode: Some(MODE),
                ..SecretVolumeSource::default()
            }),
            ..volume("konnectivity-server-kubeconfig")
        },
    ]
}

/// The Secret whose change rolls the pods, as in [`super::deployment`]: it is mounted as a single file, which a running
/// container never sees anew.
pub(super) fn rolling(tcp: &TenantControlPlane) -> Option<&'static str> {
    wanted(tcp).map(|_| SECRET_COMPONENTS[1])
}

/// Host and port that agents dial. A Gateway passes the tunnel on as it does the API server. An Ingress passes one name on
/// to one port, so agents go by it only where they share that port.
pub fn agent_endpoint(hosted: &Hosted<'_>) -> Option<(String, i32)> {
    let own_port = wanted(hosted.tcp)?.server.port;
    let exposure = &hosted.exposure;
    let gateway = hosted.tcp.spec.control_plane.gateway.is_some();
    Some(match &exposure.public_name {
        Some(name) if shares_port(hosted.tcp) => (name.host.clone(), name.port),
        Some(name) if gateway => (name.host.clone(), own_port),
        _ => (exposure.advertise_address.clone(), own_port),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::exposure;
    use crate::desired::tests::{facts, tcp};

    fn hosted(tcp: &TenantControlPlane) -> Hosted<'_> {
        let address = exposure::address(tcp, None).unwrap();
        let exposure = exposure::exposure(tcp, address, [], &[]);
        Hosted::new(tcp, tcp.spec.kubernetes.version.clone(), exposure, facts(), None)
    }

    #[test]
    fn images_follow_the_minor_of_kubernetes() {
        for (version, tag) in [
            ("v1.36.3", "v0.36.0"),
            ("1.30.14", "v0.30.0"),
            ("v1.35.0-rc.1", "v0.35.0"),
        ] {
            assert_eq!(image_tag(version), tag);
        }
    }

    #[test]
    fn the_port_is_opened_on_nodes_only_where_the_service_is() {
        let mut tcp = tcp();
        assert_eq!(service_port(&tcp), None);
        tcp.spec.addons.konnectivity = Some(KonnectivitySpec::default());
        let port = |tcp: &TenantControlPlane| serde_json::to_value(service_port(tcp)).unwrap();
        let mut expected = json!({"name": "konnectivity-server", "port": 8132, "targetPort": 8132, "protocol": "TCP",
            "nodePort": 8132});
        assert_eq!(port(&tcp), expected);
        tcp.spec.control_plane.service.service_type = ServiceType::ClusterIP;
        expected.as_object_mut().unwrap().remove("nodePort");
        assert_eq!(port(&tcp), expected);
    }

    #[test]
    fn one_port_takes_a_router_and_an_image_for_it() {
        let mut tcp = tcp();
        tcp.spec.addons.konnectivity = Some(KonnectivitySpec::default());
        let own = tcp.spec.network_profile.port;
        assert_eq!(check_router(&tcp, None), Ok(()));
        tcp.spec.addons.konnectivity.as_mut().unwrap().server.port = own;
        assert_eq!(check_router(&tcp, None).unwrap_err().reason, "ImageMissing");
        assert_eq!(check_router(&tcp, Some("cotenant:1")), Ok(()));
        assert_eq!(service_port(&tcp), None);
        let hosted = Hosted {
            own_image: Some("cotenant:1".to_owned()),
            ..hosted(&tcp)
        };
        let mut pod = PodSpec::default();
        add(&hosted, &mut pod);
        let [server, router] = pod.containers.as_slice() else {
            panic!("{:?}", pod.containers)
        };
        assert!(server.args.as_ref().unwrap().contains(&"--agent-port=8132".to_owned()));
        assert_eq!(router.image.as_deref(), Some("cotenant:1"));
        assert_eq!(
            router.args.as_deref().unwrap(),
            [
                "tls-router".to_owned(),
                format!("--others=127.0.0.1:{own}"),
                "--port=8135".to_owned(),
                "--protocol=konnectivity=127.0.0.1:8132".to_owned(),
            ]
        );
    }

    #[test]
    fn the_service_leads_to_the_router_once_all_pods_have_one() {
        let mut tcp = tcp();
        let own = tcp.spec.network_profile.port;
        tcp.spec.addons.konnectivity = Some(KonnectivitySpec::default());
        let mut shared = tcp.clone();
        shared.spec.addons.konnectivity.as_mut().unwrap().server.port = own;
        let deployment = |container: &str, ready: i32| -> Deployment {
            serde_json::from_value(json!({
                "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": container}]}}},
                "status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": ready, "unavailableReplicas": 2 - ready},
            }))
            .unwrap()
        };
        let service = |target: i32| -> Service {
            serde_json::from_value(json!({"spec": {"ports": [{"port": own, "targetPort": target}]}})).unwrap()
        };
        let [without, half, all] = [
            deployment("a", 2),
            deployment("tls-router", 1),
            deployment("tls-router", 2),
        ];
        let [direct, routed] = [service(own), service(8135)];
        for (tcp, deployment, service, expected) in [
            (&shared, None, None, own),
            (&shared, Some(&without), Some(&direct), own),
            (&shared, Some(&half), Some(&direct), own),
            (&shared, Some(&all), Some(&direct), 8135),
            (&shared, Some(&all), None, 8135),
            (&shared, Some(&half), Some(&routed), 8135),
            (&shared, Some(&without), Some(&routed), own),
            (&tcp, Some(&all), Some(&routed), own),
        ] {
            assert_eq!(
                target_port(tcp, deployment, service),
                expected,
                "{deployment:?} {service:?}"
            );
        }
    }

    #[test]
    fn agents_go_by_a_name_where_that_leads_to_their_port() {
        let mut tcp = tcp();
        let own = tcp.spec.network_profile.port;
        let dialled = |tcp: &TenantControlPlane| agent_endpoint(&hosted(tcp));
        assert_eq!(dialled(&tcp), None);
        tcp.spec.addons.konnectivity = Some(KonnectivitySpec::default());
        let by_address = |port| Some(("10.99.0.1".to_owned(), port));
        let by_name = |port| Some(("oil.example".to_owned(), port));
        assert_eq!(dialled(&tcp), by_address(8132));
        let mut shared = tcp.clone();
        shared.spec.addons.konnectivity.as_mut().unwrap().server.port = own;
        assert_eq!(dialled(&shared), by_address(own));
        for tcp in [&mut tcp, &mut shared] {
            tcp.spec.control_plane.ingress = serde_json::from_value(json!({"hostname": "oil.example:443"})).unwrap();
        }
        assert_eq!(dialled(&tcp), by_address(8132));
        assert_eq!(dialled(&shared), by_name(443));
        for tcp in [&mut tcp, &mut shared] {
            tcp.spec.control_plane.ingress = None;
            tcp.spec.control_plane.gateway = serde_json::from_value(json!({"hostname": "oil.example"})).unwrap();
        }
        assert_eq!(dialled(&tcp), by_name(8132));
        assert_eq!(dialled(&shared), by_name(own));
    }
}
