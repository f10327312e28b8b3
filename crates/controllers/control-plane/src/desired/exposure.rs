//! Where a control plane is reached: its address, its endpoint, and the names its certificate must answer to.

use std::net::IpAddr;

use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::ResourceExt;
use pki::San;
use serde::Serialize;
use tenancy::control_plane::hostname::{self, PublicName};

use super::Waiting;
use crate::admin_network::node_addresses;

/// Where a control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// Name that clients use instead of the address, with the port that goes with it.
    pub public_name: Option<PublicName>,
    /// Address of the Service, or of what stands in front of it.
    pub address: String,
    /// Address that the API server tells others.
    pub advertise_address: String,
    /// Port of the API server, everywhere.
    pub port: i32,
    /// Names and addresses from Services that the user has put in front of the pods, in order.
    pub further_names: Vec<String>,
}

impl Exposure {
    /// `host:port` of `status.controlPlaneEndpoint`.
    pub fn endpoint(&self) -> String {
        self.named().unwrap_or_else(|| host_port(&self.address, self.port))
    }

    /// `host:port` that nodes and people are told.
    pub fn public(&self) -> String {
        self.named()
            .unwrap_or_else(|| host_port(&self.advertise_address, self.port))
    }

    /// URL of the API server in kubeconfigs for people and nodes.
    pub fn server(&self) -> String {
        format!("https://{}", self.public())
    }

    fn named(&self) -> Option<String> {
        let name = self.public_name.as_ref()?;
        Some(host_port(&name.host, name.port))
    }
}

/// The name that the spec asks for, if it asks for one.
///
/// # Errors
/// What is wrong with it.
pub fn public_name(tcp: &TenantControlPlane) -> Result<Option<PublicName>, Waiting> {
    hostname::public(tcp).map_err(|denial| Waiting::exposed(denial.reason, denial.message))
}

/// Finds the address: the one that the spec gives, else the Service's own.
///
/// # Errors
/// When there is none yet, or never will be, with the sentence that says what to do.
pub fn address(tcp: &TenantControlPlane, service: Option<&Service>) -> Result<String, Waiting> {
    let profile = &tcp.spec.network_profile;
    if let Some(address) = profile.address.as_deref().filter(|address| !address.is_empty()) {
        return Ok(unbracketed(address).to_owned());
    }
    let namespaced = format!("{}/{}", tcp.namespace().unwrap_or_default(), tcp.name_any());
    match tcp.spec.control_plane.service.service_type {
        ServiceType::ClusterIP => service
            .and_then(|service| service.spec.as_ref()?.cluster_ip.clone())
            .filter(|address| !address.is_empty() && address != "None")
            .ok_or_else(|| Waiting::address(format!("the Service {namespaced} has no cluster IP yet"))),
        ServiceType::NodePort => Err(Waiting::address(
            "a control plane of Service type NodePort needs spec.networkProfile.address: the address of a node, or of \
             what forwards to the nodes"
                .to_owned(),
        )),
        ServiceType::LoadBalancer => {
            let ingress = service.and_then(|service| {
                service
                    .status
                    .as_ref()?
                    .load_balancer
                    .as_ref()?
                    .ingress
                    .as_ref()?
                    .first()
            });
            match ingress {
                Some(ingress) if ingress.ip.as_deref().is_some_and(|address| !address.is_empty()) => {
                    Ok(ingress.ip.clone().unwrap_or_default())
                }
                Some(ingress) if ingress.hostname.is_some() => Err(Waiting::address(
                    "hostname not supported for LoadBalancer ingress: use static IP instead".to_owned(),
                )),
                _ => Err(Waiting::address(format!(
                    "the load balancer of the Service {namespaced} has no address yet"
                ))),
            }
        }
    }
}

/// The whole exposure, once the address is known.
pub fn exposure<'a>(
    tcp: &TenantControlPlane,
    address: String,
    services: impl IntoIterator<Item = &'a Service>,
    nodes: &[&Node],
) -> Exposure {
    let profile = &tcp.spec.network_profile;
    let advertise = profile
        .advertise_address
        .as_deref()
        .filter(|address| !address.is_empty());
    Exposure {
        // What is wrong with it is said before anything depends on it.
        public_name: hostname::public(tcp).unwrap_or_default(),
        advertise_address: advertise.unwrap_or(&address).to_owned(),
        port: profile.port,
        further_names: further_names(tcp, services, nodes),
        address,
    }
}

/// Names and addresses under which Services of the user's own making reach the pods.
///
/// A NodePort Service is reached at every Node, a load balancer at what its status says. Only objects that the admin
/// cluster's own components write are read, and a name once in the certificate is not taken out again.
fn further_names<'a>(
    tcp: &TenantControlPlane,
    services: impl IntoIterator<Item = &'a Service>,
    nodes: &[&Node],
) -> Vec<String> {
    let mut names = Vec::new();
    for service in services {
        if !fronts(tcp, service) {
            continue;
        }
        let spec = service.spec.as_ref();
        let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
        if kind == "NodePort" || kind == "LoadBalancer" {
            names.extend(nodes.iter().flat_map(|node| node_addresses(node)).map(str::to_owned));
        }
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        for ingress in status.and_then(|status| status.ingress.as_ref()).into_iter().flatten() {
            names.extend(ingress.ip.iter().chain(&ingress.hostname).cloned());
        }
        names.extend(spec.iter().flat_map(|spec| spec.external_ips.iter().flatten()).cloned());
    }
    names.sort();
    names.dedup();
    names
}

/// Whether a Service that is not ours selects the pods of this control plane.
fn fronts(tcp: &TenantControlPlane, service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selected = selector.and_then(|selector| selector.get(api::kamaji::names::NAME_LABEL));
    service.metadata.namespace == tcp.metadata.namespace
        && service.metadata.name != tcp.metadata.name
        && selected == tcp.metadata.name.as_ref()
}

/// Everything that the API server's certificate answers to: kubeadm's names, the Service's, the endpoint, the user's.
pub fn server_names(tcp: &TenantControlPlane, exposure: &Exposure, service_cidrs: &[String]) -> Vec<San> {
    let (name, namespace) = (tcp.name_any(), tcp.namespace().unwrap_or_default());
    let profile = &tcp.spec.network_profile;
    let mut names: Vec<String> = vec![
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{}", profile.cluster_domain),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        name.clone(),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        exposure.address.clone(),
        exposure.advertise_address.clone(),
    ];
    names.extend(exposure.public_name.iter().map(|name| name.host.clone()));
    names.extend(first_address(service_cidrs).map(|address| address.to_string()));
    names.extend(profile.cert_sans.iter().cloned());
    names.extend(exposure.further_names.iter().cloned());
    // What no certificate can carry was refused at admission; what came past it must not stop the control plane.
    let mut sans: Vec<San> = names.iter().filter_map(|name| San::parse(name).ok()).collect();
    sans.sort();
    sans.dedup();
    sans
}

/// The address of the `kubernetes` Service in the tenant: the first of the first range.
pub fn first_address(service_cidrs: &[String]) -> Option<IpAddr> {
    let network: IpNet = service_cidrs.first()?.parse().ok()?;
    network.hosts().next()
}

/// `host:port`, with brackets around IPv6.
pub fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn unbracketed(address: &str) -> &str {
    address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::tests::tcp;

    fn service(value: serde_json::Value) -> Service {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_address_comes_from_the_spec_then_from_the_service() {
        let mut tcp = tcp();
        assert_eq!(address(&tcp, None).unwrap(), "10.99.0.1");
        tcp.spec.network_profile.address = None;
        let refused = address(&tcp, None).unwrap_err();
        assert!(
            refused.message.contains("spec.networkProfile.address"),
            "{}",
            refused.message
        );

        tcp.spec.control_plane.service.service_type = ServiceType::ClusterIP;
        assert!(address(&tcp, None).is_err());
        let found = service(json!({"spec": {"clusterIP": "10.96.72.125"}}));
        assert_eq!(address(&tcp, Some(&found)).unwrap(), "10.96.72.125");

        tcp.spec.control_plane.service.service_type = ServiceType::LoadBalancer;
        assert!(address(&tcp, Some(&found)).is_err());
        let found = service(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.5"}]}}}));
        assert_eq!(address(&tcp, Some(&found)).unwrap(), "192.0.2.5");
        let found = service(json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.test"}]}}}));
        assert_eq!(
            address(&tcp, Some(&found)).unwrap_err().message,
            "hostname not supported for LoadBalancer ingress: use static IP instead"
        );
    }

    #[test]
    fn ipv6_endpoints_are_bracketed() {
        let exposure = Exposure {
            public_name: None,
            address: "2001:db8::1".to_owned(),
            advertise_address: "2001:db8::2".to_owned(),
            port: 6443,
            further_names: Vec::new(),
        };
        assert_eq!(exposure.endpoint(), "[2001:db8::1]:6443");
        assert_eq!(exposure.server(), "https://[2001:db8::2]:6443");
    }

    #[test]
    fn a_name_takes_the_place_of_the_address_and_is_in_the_certificate() {
        let mut tcp = tcp();
        tcp.spec.network_profile.advertise_address = Some("192.0.2.9".to_owned());
        let seen = |tcp: &TenantControlPlane| {
            let exposure = exposure(tcp, "10.99.0.1".to_owned(), [], &[]);
            let names = server_names(tcp, &exposure, &[]);
            let holds = names.contains(&San::parse("oil.example").unwrap());
            (exposure.endpoint(), exposure.server(), holds)
        };
        let port = tcp.spec.network_profile.port;
        let own = (format!("10.99.0.1:{port}"), format!("https://192.0.2.9:{port}"), false);
        assert_eq!(seen(&tcp), own);
        tcp.spec.control_plane.ingress = serde_json::from_value(json!({"hostname": "oil.example:443"})).unwrap();
        let named = ("oil.example:443".to_owned(), "https://oil.example:443".to_owned(), true);
        assert_eq!(seen(&tcp), named);
        tcp.spec.control_plane.ingress = None;
        tcp.spec.control_plane.gateway = serde_json::from_value(json!({"hostname": "oil.example"})).unwrap();
        let named = (
            format!("oil.example:{port}"),
            format!("https://oil.example:{port}"),
            true,
        );
        assert_eq!(seen(&tcp), named);
    }

    #[test]
    fn nodes_become_names_only_through_a_node_port_service_in_front_of_this_control_plane() {
        let tcp = tcp();
        let node: Node = serde_json::from_value(json!({"status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": "node-1"},
        ]}}))
        .unwrap();
        let front = |name: &str, namespace: &str, selected: &str, kind: &str| {
            service(json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"type": kind, "selector": {"kamaji.clastix.io/name": selected}},
            }))
        };
        let names = |services: &[Service]| exposure(&tcp, "10.99.0.1".to_owned(), services, &[&node]).further_names;
        assert_eq!(
            names(&[front("outside", "default", "demo", "NodePort")]),
            ["192.0.2.10", "node-1"]
        );
        for other in [
            front("demo", "default", "demo", "NodePort"),
            front("outside", "elsewhere", "demo", "NodePort"),
            front("outside", "default", "demo-2", "NodePort"),
            front("outside", "default", "demo", "ClusterIP"),
        ] {
            assert_eq!(names(std::slice::from_ref(&other)), Vec::<String>::new(), "{other:?}");
        }
    }
}
