//! The Service in front of a control plane.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::identity;

/// Value of the component label.
pub const COMPONENT: &str = "service";

/// Renders the Service. `address` is the control plane's address as far as it is known, `target` the port of its pods.
pub fn service(tcp: &TenantControlPlane, address: Option<&str>, target: i32) -> Service {
    let wanted = &tcp.spec.control_plane.service;
    let profile = &tcp.spec.network_profile;
    let balanced = wanted.service_type == ServiceType::LoadBalancer;
    let mut metadata = identity::metadata(tcp, &tcp.name_any(), COMPONENT);
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    for (key, value) in &wanted.additional_metadata.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata.annotations =
        Some(wanted.additional_metadata.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let external = address.filter(|_| profile.allow_address_as_external_ip && !balanced);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.service_type.as_str().to_owned()),
            selector: Some(identity::pod_selector(&tcp.name_any())),
            ports: Some(ports(tcp, target)),
            external_ips: external.map(|address| vec![address.to_owned()]),
            allocate_load_balancer_node_ports: balanced
                .then(|| wanted.allocate_load_balancer_node_ports.unwrap_or(true)),
            load_balancer_class: profile.load_balancer_class.clone().filter(|_| balanced),
            load_balancer_source_ranges: Some(profile.load_balancer_source_ranges.clone())
                .filter(|ranges| balanced && !ranges.is_empty()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn ports(tcp: &TenantControlPlane, target: i32) -> Vec<ServicePort> {
    let wanted = &tcp.spec.control_plane.service;
    let port = tcp.spec.network_profile.port;
    let own = ServicePort {
        name: Some("kube-apiserver".to_owned()),
        port,
        target_port: Some(IntOrString::Int(target)),
        protocol: Some("TCP".to_owned()),
        node_port: (wanted.service_type == ServiceType::NodePort).then_some(port),
        app_protocol: None,
    };
    let additional = wanted.additional_ports.iter().map(|additional| ServicePort {
        name: Some(additional.name.clone()),
        port: additional.port,
        target_port: Some(additional.target_port.clone()),
        protocol: Some(additional.protocol.clone()),
        app_protocol: additional.app_protocol.clone(),
        node_port: None,
    });
    std::iter::once(own)
        .chain(super::konnectivity::service_port(tcp))
        .chain(additional)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::tests::tcp;

    fn spec(tcp: &TenantControlPlane, address: Option<&str>) -> serde_json::Value {
        serde_json::to_value(service(tcp, address, tcp.spec.network_profile.port).spec).unwrap()
    }

    #[test]
    fn a_load_balancer_always_says_whether_it_wants_node_ports() {
        let mut tcp = tcp();
        tcp.spec.control_plane.service.service_type = ServiceType::LoadBalancer;
        tcp.spec.network_profile.port = 6443;
        tcp.spec.network_profile.load_balancer_class = Some("example.test/fast".to_owned());
        tcp.spec.network_profile.load_balancer_source_ranges = vec!["192.0.2.0/24".to_owned()];
        tcp.spec.network_profile.allow_address_as_external_ip = true;
        assert_eq!(
            spec(&tcp, Some("192.0.2.1")),
            json!({
                "type": "LoadBalancer",
                "allocateLoadBalancerNodePorts": true,
                "loadBalancerClass": "example.test/fast",
                "loadBalancerSourceRanges": ["192.0.2.0/24"],
                "selector": {"kamaji.clastix.io/name": "demo"},
                "ports": [{"name": "kube-apiserver", "port": 6443, "protocol": "TCP", "targetPort": 6443}],
            })
        );
    }

    #[test]
    fn the_address_becomes_an_external_ip_only_when_asked_for() {
        let mut tcp = tcp();
        tcp.spec.control_plane.service.service_type = ServiceType::ClusterIP;
        assert_eq!(spec(&tcp, Some("192.0.2.1")).get("externalIPs"), None);
        tcp.spec.network_profile.allow_address_as_external_ip = true;
        assert_eq!(spec(&tcp, Some("192.0.2.1"))["externalIPs"], json!(["192.0.2.1"]));
        assert_eq!(spec(&tcp, None).get("externalIPs"), None);
    }
}
