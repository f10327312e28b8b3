//! Addresses that nodes of the admin cluster answer to for control planes. Whose they may be is said by
//! [`super::deputy`]; here, that two control planes do not get each other's traffic.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};

use crate::denial::Denial;

/// Reason of the refusal, and of the condition while another control plane has the address.
pub const TAKEN: &str = "AddressTaken";

/// What is wrong with taking an address. `others` are all control planes, with this one or without.
pub fn denials(tcp: &TenantControlPlane, others: &[Arc<TenantControlPlane>]) -> Option<Denial> {
    rivals(tcp, others).next()?;
    refusal(tcp)
}

/// The same where both are there, as may be when two were admitted at the same moment or past admission: whether another
/// goes before this one. `serves` tells whose Service has the address already. They go first, then who is older, then who
/// has the smaller UID: all replicas and all passes come to the same answer.
pub fn is_anothers(
    tcp: &TenantControlPlane,
    others: &[Arc<TenantControlPlane>],
    serves: impl Fn(&TenantControlPlane) -> bool,
) -> Option<Denial> {
    let rank = |tcp: &TenantControlPlane| {
        let created = tcp.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!serves(tcp), created, tcp.metadata.uid.clone())
    };
    rivals(tcp, others).next()?;
    let own = rank(tcp);
    if rivals(tcp, others).any(|other| rank(other) < own) {
        refusal(tcp)
    } else {
        None
    }
}

fn refusal(tcp: &TenantControlPlane) -> Option<Denial> {
    const FIELD: &str = "spec.networkProfile.address";
    let address = wanted(tcp)?;
    let message = format!(
        "{FIELD}: {address} is an external IP of another control plane that has one of these ports; choose another \
         address or port"
    );
    Some(Denial::new(FIELD, TAKEN, message))
}

/// Other control planes that ask for the same address and one of the same ports.
fn rivals<'a>(
    tcp: &TenantControlPlane,
    others: &'a [Arc<TenantControlPlane>],
) -> impl Iterator<Item = &'a TenantControlPlane> {
    let itself = (tcp.metadata.namespace.clone(), tcp.metadata.name.clone());
    let (address, own) = (wanted(tcp).map(str::to_owned), ports(tcp));
    others.iter().map(AsRef::as_ref).filter(move |other| {
        address.is_some()
            && (&other.metadata.namespace, &other.metadata.name) != (&itself.0, &itself.1)
            && wanted(other) == address.as_deref()
            && !own.is_disjoint(&ports(other))
    })
}

/// The external IP that a control plane asks for.
pub fn wanted(tcp: &TenantControlPlane) -> Option<&str> {
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

    #[test]
    fn of_two_that_ask_for_an_address_one_has_it() {
        let created = |name: &str, time: &str| {
            let mut one = (*tcp(name, "192.0.2.7", 6443, true)).clone();
            one.metadata.creation_timestamp = Some(serde_json::from_value(json!(time)).unwrap());
            one.metadata.uid = Some(name.to_owned());
            Arc::new(one)
        };
        let (older, newer) = (
            created("gas", "2026-01-01T00:00:00Z"),
            created("oil", "2026-01-02T00:00:00Z"),
        );
        let twin = created("sun", "2026-01-02T00:00:00Z");
        let loses = |one: &TenantControlPlane, other: &Arc<TenantControlPlane>, serving: &str| {
            let serves = |tcp: &TenantControlPlane| serving.contains(tcp.metadata.name.as_deref().unwrap());
            is_anothers(one, std::slice::from_ref(other), serves).is_some()
        };
        for (serving, winner) in [("", "gas"), ("gas", "gas"), ("oil", "oil"), ("gas oil", "gas")] {
            assert_eq!(loses(&older, &newer, serving), winner != "gas", "{serving:?} serve");
            assert_eq!(loses(&newer, &older, serving), winner != "oil", "{serving:?} serve");
        }
        assert!(loses(&twin, &newer, "") && !loses(&newer, &twin, ""), "the smaller UID");
        assert!(
            !loses(&newer, &tcp("gas", "192.0.2.7", 7443, true), "gas"),
            "another port"
        );
    }
}
