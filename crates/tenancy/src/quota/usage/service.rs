//! Services: themselves, and the ports and addresses that are scarce.

use k8s_openapi::api::core::v1::Service;

use super::{Amounts, ONE};
use crate::quantity::Quantity;

/// What a service uses, apart from being an object.
///
/// Ports of nodes are not given out yet when a service is written, so the intent counts: one for each port, unless the
/// service wants none but those that it names.
pub(super) fn usage(service: &Service) -> Amounts {
    let spec = service.spec.as_ref();
    let ports = || spec.into_iter().flat_map(|spec| &spec.ports).flatten();
    let (node_ports, load_balancers) = match spec.and_then(|spec| spec.type_.as_deref()) {
        Some("NodePort") => (ports().count(), Quantity::ZERO),
        Some("LoadBalancer") => {
            let names_its_own = spec.and_then(|spec| spec.allocate_load_balancer_node_ports) == Some(false);
            let given = ports().filter(|port| !names_its_own || port.node_port.is_some_and(|port| port != 0));
            (given.count(), ONE)
        }
        _ => (0, Quantity::ZERO),
    };
    Amounts::from_iter([
        ("services".to_owned(), ONE),
        ("services.nodeports".to_owned(), Quantity::count(node_ports)),
        ("services.loadbalancers".to_owned(), load_balancers),
    ])
}
