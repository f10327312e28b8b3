//! The addresses of the admin cluster that a hosted control plane must not reach.
//!
//! A hosted API server calls whatever its tenant names: a forged Node address, a webhook, an aggregated API. Each is a
//! way into the network that the pod happens to run in. The tenant's own nodes cannot be listed instead, because their
//! addresses are the tenant's word. So the rule is turned round: everything is reachable but what belongs to the admin
//! cluster, and these facts come from objects that only the admin cluster's own components write.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Serialize;

/// Networks nobody in a pod has business with: link-local ones, where clouds serve credentials to whoever asks.
const LINK_LOCAL: [&str; 3] = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128"];

/// What must stay out of reach, aggregated and ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AdminNetwork {
    networks: BTreeSet<IpNet>,
}

impl AdminNetwork {
    /// From the admin cluster's own objects: Nodes, service networks, and the endpoints of its API server (which on a
    /// managed cluster are no Nodes). `additional` are networks the administrator names, such as a pod network that is
    /// not written on the Nodes.
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = &'a Node>,
        service_cidrs: impl IntoIterator<Item = &'a ServiceCIDR>,
        api_servers: impl IntoIterator<Item = &'a EndpointSlice>,
        additional: &[IpNet],
    ) -> Self {
        let mut networks: Vec<IpNet> = additional.to_vec();
        networks.extend(
            LINK_LOCAL
                .iter()
                .map(|network| network.parse::<IpNet>().expect("a constant network")),
        );
        for node in nodes {
            let spec = node.spec.iter();
            let pod_networks = spec.flat_map(|spec| spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten()));
            networks.extend(pod_networks.filter_map(|network| network.parse::<IpNet>().ok()));
            networks.extend(
                node_addresses(node)
                    .filter_map(|address| address.parse().ok())
                    .map(host),
            );
        }
        for service_cidr in service_cidrs {
            let cidrs = service_cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
            networks.extend(cidrs.filter_map(|network| network.parse::<IpNet>().ok()));
        }
        for slice in api_servers {
            let addresses = slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|endpoint| endpoint.addresses.iter());
            networks.extend(addresses.filter_map(|address| address.parse().ok()).map(host));
        }
        let networks: Vec<IpNet> = networks.iter().map(IpNet::trunc).collect();
        Self {
            networks: IpNet::aggregate(&networks).into_iter().collect(),
        }
    }

    /// The IPv4 part, in order.
    pub fn ipv4(&self) -> impl Iterator<Item = String> {
        self.networks
            .iter()
            .filter(|network| matches!(network, IpNet::V4(_)))
            .map(ToString::to_string)
    }

    /// The IPv6 part, in order.
    pub fn ipv6(&self) -> impl Iterator<Item = String> {
        self.networks
            .iter()
            .filter(|network| matches!(network, IpNet::V6(_)))
            .map(ToString::to_string)
    }

    /// Whether an address belongs to the admin cluster.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Every address and name a Node is reached at.
pub fn node_addresses(node: &Node) -> impl Iterator<Item = &str> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.map(|address| address.address.as_str())
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAddress, NodeSpec, NodeStatus};
    use k8s_openapi::api::networking::v1::ServiceCIDRSpec;

    use super::*;

    fn node(pod_cidr: &str, address: &str) -> Node {
        Node {
            spec: Some(NodeSpec {
                pod_cidr: Some(pod_cidr.to_owned()),
                pod_cidrs: Some(vec![pod_cidr.to_owned()]),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                addresses: Some(vec![
                    NodeAddress {
                        address: address.to_owned(),
                        type_: "InternalIP".to_owned(),
                    },
                    NodeAddress {
                        address: "node-1".to_owned(),
                        type_: "Hostname".to_owned(),
                    },
                ]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn nodes_pods_services_and_link_local_addresses_are_out_of_reach_and_neighbours_are_merged() {
        let services = ServiceCIDR {
            spec: Some(ServiceCIDRSpec {
                cidrs: Some(vec!["10.96.0.0/16".to_owned(), "fd00:96::/112".to_owned()]),
            }),
            ..ServiceCIDR::default()
        };
        let network = AdminNetwork::new(
            [
                &node("10.244.0.0/24", "192.0.2.10"),
                &node("10.244.1.0/24", "192.0.2.12"),
            ],
            [&services],
            [],
            &[],
        );
        assert_eq!(
            network.ipv4().collect::<Vec<_>>(),
            [
                "10.96.0.0/16",
                "10.244.0.0/23",
                "169.254.0.0/16",
                "192.0.2.10/32",
                "192.0.2.12/32"
            ]
        );
        assert_eq!(
            network.ipv6().collect::<Vec<_>>(),
            ["fd00:96::/112", "fd00:ec2::254/128", "fe80::/10"]
        );
        assert!(network.contains("10.244.1.7".parse().unwrap()));
        assert!(!network.contains("192.0.2.11".parse().unwrap()));
    }
}
