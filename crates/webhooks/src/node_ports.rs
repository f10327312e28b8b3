//! Which ports of the nodes are taken, from the process's one watch of Services.
//!
//! A watch is a moment behind. A port that was taken this very moment is refused by the API server itself when the
//! control plane's Service is made, and the control plane says so; what is asked here spares its author that in all other
//! cases.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use runtime::{Index, Shared};
use tenancy::control_plane::network::TakenNodePort;

/// Taken ports. Cheap to clone.
#[derive(Clone)]
pub struct NodePorts {
    services: Shared<Service>,
    by_port: Index<Service, i32>,
}

impl NodePorts {
    /// Follows the watch until it ends.
    pub fn of(services: &Shared<Service>) -> Self {
        Self {
            services: services.clone(),
            by_port: Index::of(services, |service| {
                taken(service).into_iter().map(|taken| taken.port).collect()
            }),
        }
    }

    pub(crate) async fn ready(&self) {
        self.services.ready().await;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.services.is_ready()
    }

    /// Who has this port, for each protocol.
    pub(crate) fn holders(&self, port: i32) -> Vec<TakenNodePort> {
        let services = self.by_port.get(&port);
        let taken = services.iter().flat_map(|service| taken(service));
        taken.filter(|taken| taken.port == port).collect()
    }
}

/// The node ports of a Service. The one for health checks of a load balancer's is among them.
fn taken(service: &Service) -> Vec<TakenNodePort> {
    let spec = service.spec.as_ref();
    let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = ports.map(|port| (port.node_port, port.protocol.as_deref().unwrap_or("TCP")));
    let health = spec.map(|spec| (spec.health_check_node_port, "TCP"));
    ports
        .chain(health)
        .filter_map(|(port, protocol)| {
            Some(TakenNodePort {
                port: port.filter(|port| *port != 0)?,
                protocol: protocol.to_owned(),
                namespace: service.namespace().unwrap_or_default(),
                name: service.name_any(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_holds_the_node_ports_of_its_ports_and_of_its_health_checks() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "front", "namespace": "oil"},
            "spec": {"healthCheckNodePort": 31003, "ports": [
                {"port": 80}, {"port": 81, "nodePort": 0}, {"port": 82, "nodePort": 31001},
                {"port": 53, "nodePort": 31002, "protocol": "UDP"}]}}))
        .unwrap();
        let found: Vec<_> = taken(&service)
            .into_iter()
            .map(|taken| (taken.port, taken.protocol, taken.namespace, taken.name))
            .collect();
        let expected = [(31001, "TCP"), (31002, "UDP"), (31003, "TCP")];
        assert_eq!(
            found,
            expected.map(|(port, protocol)| (port, protocol.to_owned(), "oil".to_owned(), "front".to_owned()))
        );
    }
}
