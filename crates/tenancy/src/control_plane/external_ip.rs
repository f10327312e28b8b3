//! Addresses that nodes of the admin cluster answer to for control planes. Whose they may be is said by
//! [`super::deputy`]; here, that two control planes do not get each other's traffic.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};

use crate::denial::Denial;

/// What is wrong with taking an address. `others` are all control planes, with this one or without.
pub fn denials(tcp: &TenantControlPlane, others: &[Arc<TenantControlPlane>]) -> Option<Denial> {
    const FIELD: &str = "spec.networkProfile.address";
    let address = taken(tcp)?;
    let own = ports(tcp);
    let clashes = |other: &Arc<TenantControlPlane>| {
        let itself = (&other.metadata.namespace, &other.metadata.name) == (&tcp.metadata.namespace, &tcp.metadata.name);
        !itself && taken(other) == Some(address) && !own.is_disjoint(&ports(other))
    };
    others.iter().any(clashes).then(|| {
        let message = format!(
            "{FIELD}: {address} is an external IP of another control plane that has one of these ports; choose another \
             address or port"
        );
        Denial::new(FIELD, "AddressTaken", message)
    })
}

/// The external IP of a control plane's Service.
fn taken(tcp: &TenantControlPlane) -> Option<&str> {
    let profile = &tcp.spec.network_profile;
    let balanced = tcp.spec.control_plane.service.service_type == ServiceType::LoadBalancer;
    let address = profile.address.as_deref().filter(|address| !address.is_empty())?;
    (profile.allow_address_as_external_ip && !balanced).then_some(address)
}

/// All ports of a control plane's Service.
fn ports(tcp: &TenantControlPlane) -> BTreeSet<i32> {
    let additional = tcp
        .spec
        .control_plane
        .service
        .additional_ports
        .iter()
        .map(|port| port.port);
    let tunnel = tcp.spec.addons.konnectivity.iter().map(|tunnel| tunnel.server.port);
    additional
        .chain(tunnel)
        .chain([tcp.spec.network_profile.port])
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tcp(name: &str, address: &str, port: i32, external: bool) -> Arc<TenantControlPlane> {
        let tcp = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": name, "namespace": "prod"},
            "spec": {
                "controlPlane": {"service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.36.0"},
                "networkProfile": {"address": address, "port": port, "allowAddressAsExternalIP": external},
            },
        });
        Arc::new(serde_json::from_value(tcp).unwrap())
    }

    #[test]
    fn an_address_and_port_are_one_control_planes() {
        let neighbours = [
            tcp("gas", "192.0.2.7", 6443, true),
            tcp("sun", "192.0.2.8", 6443, false),
        ];
        for (name, address, port, external, expected) in [
            ("oil", "192.0.2.7", 6443, true, true),
            ("oil", "192.0.2.7", 7443, true, false),
            ("oil", "192.0.2.7", 6443, false, false),
            ("oil", "192.0.2.8", 6443, true, false),
            ("oil", "192.0.2.9", 6443, true, false),
            ("gas", "192.0.2.7", 6443, true, false),
        ] {
            let found = denials(&tcp(name, address, port, external), &neighbours);
            assert_eq!(
                found.is_some(),
                expected,
                "{name} {address} {port} {external}: {found:?}"
            );
        }
    }
}
