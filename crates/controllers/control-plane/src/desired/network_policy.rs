//! The egress policy of a control plane's pods in the admin cluster.
//!
//! Its pods speak with each other over the loopback interface only, so they need three things: their datastore, DNS,
//! and the tenant's own nodes. See [`AdminNetwork`] for why the last is written as "everything but the admin cluster".
//! Ingress is left open: the API server is there to be reached, and the kubelet has to probe all of them.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde::Serialize;

use super::identity;
use crate::admin_network::AdminNetwork;

/// Value of the component label.
pub const COMPONENT: &str = "network-policy";

/// Something of the admin cluster that a control plane may reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Destination {
    /// An address.
    Address {
        /// Address and prefix length.
        network: String,
        /// TCP port.
        port: u16,
    },
    /// Pods behind a Service, because policies are applied after the Service's address has been replaced.
    Pods {
        /// Namespace of the pods.
        namespace: String,
        /// Labels of the pods.
        labels: BTreeMap<String, String>,
        /// Port of the pods: number or name.
        port: String,
    },
}

/// Pods that answer DNS queries when the admin cluster has no Service to ask.
pub fn default_dns_labels() -> BTreeMap<String, String> {
    [("k8s-app".to_owned(), "kube-dns".to_owned())].into()
}

/// Renders the policy.
pub fn network_policy(
    tcp: &TenantControlPlane,
    admin: &AdminNetwork,
    datastore: &[Destination],
    dns_labels: &BTreeMap<String, String>,
) -> NetworkPolicy {
    let mut egress: Vec<NetworkPolicyEgressRule> = datastore.iter().map(rule).collect();
    egress.push(NetworkPolicyEgressRule {
        to: Some(vec![pods("kube-system", dns_labels)]),
        ports: Some(vec![port("UDP", "53"), port("TCP", "53")]),
    });
    egress.push(NetworkPolicyEgressRule {
        to: Some(vec![
            outside("0.0.0.0/0", admin.ipv4().collect()),
            outside("::/0", admin.ipv6().collect()),
        ]),
        ports: None,
    });
    NetworkPolicy {
        metadata: identity::metadata(tcp, &tcp.name_any(), COMPONENT),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(identity::pod_selector(&tcp.name_any())),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Egress".to_owned()]),
            egress: Some(egress),
            ingress: None,
        }),
    }
}

fn rule(destination: &Destination) -> NetworkPolicyEgressRule {
    let (peer, number) = match destination {
        Destination::Address { network, port } => (outside(network, Vec::new()), port.to_string()),
        Destination::Pods {
            namespace,
            labels,
            port,
        } => (pods(namespace, labels), port.clone()),
    };
    NetworkPolicyEgressRule {
        to: Some(vec![peer]),
        ports: Some(vec![port("TCP", &number)]),
    }
}

fn outside(cidr: &str, except: Vec<String>) -> NetworkPolicyPeer {
    let except = (!except.is_empty()).then_some(except);
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn pods(namespace: &str, labels: &BTreeMap<String, String>) -> NetworkPolicyPeer {
    let selector = |labels| LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    };
    NetworkPolicyPeer {
        namespace_selector: Some(selector(
            [("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())].into(),
        )),
        pod_selector: Some(selector(labels.clone())),
        ip_block: None,
    }
}

fn port(protocol: &str, port: &str) -> NetworkPolicyPort {
    let port = port
        .parse()
        .map_or_else(|_| IntOrString::String(port.to_owned()), IntOrString::Int);
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(port),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_reaches_its_store_dns_and_the_outside_but_not_the_admin_cluster() {
        let mut tcp = TenantControlPlane::new("demo", serde_json::from_value(crate::desired::tests::spec()).unwrap());
        tcp.metadata.namespace = Some("tenants".to_owned());
        tcp.metadata.uid = Some("5b8f4c1e-0000-4000-8000-000000000001".to_owned());
        let admin = AdminNetwork::new(
            [],
            [],
            [],
            &["10.244.0.0/16".parse().unwrap(), "192.0.2.7/32".parse().unwrap()],
        );
        let store = [
            Destination::Address {
                network: "192.0.2.7/32".to_owned(),
                port: 2379,
            },
            Destination::Pods {
                namespace: "cotenant-system".to_owned(),
                labels: [("app".to_owned(), "etcd".to_owned())].into(),
                port: "2379".to_owned(),
            },
        ];
        let policy = network_policy(&tcp, &admin, &store, &default_dns_labels());
        let spec = serde_json::to_value(policy.spec).unwrap();
        assert_eq!(
            spec,
            serde_json::json!({
                "podSelector": {"matchLabels": {"kamaji.clastix.io/name": "demo"}},
                "policyTypes": ["Egress"],
                "egress": [
                    {
                        "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}],
                        "ports": [{"protocol": "TCP", "port": 2379}],
                    },
                    {
                        "to": [{
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cotenant-system"}},
                            "podSelector": {"matchLabels": {"app": "etcd"}},
                        }],
                        "ports": [{"protocol": "TCP", "port": 2379}],
                    },
                    {
                        "to": [{
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                        }],
                        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
                    },
                    {
                        "to": [
                            {"ipBlock": {
                                "cidr": "0.0.0.0/0",
                                "except": ["10.244.0.0/16", "169.254.0.0/16", "192.0.2.7/32"],
                            }},
                            {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128", "fe80::/10"]}},
                        ],
                    },
                ],
            })
        );
    }
}
