//! Who there is for policies to name: pods with addresses, and the namespaces they are in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::ports::protocol;

/// A pod that policies can select: it has addresses of its own and has not ended.
pub(super) struct Endpoint<'a> {
    namespace: &'a str,
    labels: BTreeMap<String, String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Name, protocol in lower case, number.
    pub(super) ports: Vec<(&'a str, String, i32)>,
}

impl<'a> Endpoint<'a> {
    pub(super) fn of(pod: &'a Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref()?;
        if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let addresses: Vec<IpAddr> = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|address| address.ip.parse().ok())
            .collect();
        if addresses.is_empty() {
            return None;
        }
        // Sidecars are init containers that keep running, and their ports have names as well.
        let ports = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                Some((
                    port.name.as_deref()?,
                    protocol(port.protocol.as_deref()),
                    port.container_port,
                ))
            })
            .collect();
        Some(Self {
            namespace: pod.metadata.namespace.as_deref()?,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses,
            ports,
        })
    }
}

pub(super) struct World<'a> {
    pub(super) endpoints: &'a [Endpoint<'a>],
    pub(super) namespaces: &'a BTreeMap<&'a str, BTreeMap<String, String>>,
}

impl<'a> World<'a> {
    pub(super) fn pods_in(&self, namespace: &str, selector: Option<&LabelSelector>) -> Vec<&'a Endpoint<'a>> {
        self.endpoints
            .iter()
            .filter(|pod| pod.namespace == namespace && selector.is_none_or(|s| selects(s, &pod.labels)))
            .collect()
    }

    /// Pods that a peer names. `own` is the policy's namespace, which a lone pod selector refers to.
    pub(super) fn peers(&self, own: &str, peer: &NetworkPolicyPeer) -> Vec<&'a Endpoint<'a>> {
        if peer.ip_block.is_some() || (peer.namespace_selector.is_none() && peer.pod_selector.is_none()) {
            return Vec::new();
        }
        self.endpoints
            .iter()
            .filter(|pod| match &peer.namespace_selector {
                None => pod.namespace == own,
                Some(selector) => self
                    .namespaces
                    .get(pod.namespace)
                    .is_some_and(|labels| selects(selector, labels)),
            })
            .filter(|pod| {
                peer.pod_selector
                    .as_ref()
                    .is_none_or(|selector| selects(selector, &pod.labels))
            })
            .collect()
    }
}

/// Kubernetes' meaning of a label selector; an operator that does not exist selects nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
