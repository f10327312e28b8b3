//! Where the tenant's `kubernetes` Service leads.
//!
//! Kept by us instead of by kube-apiserver (`--endpoint-reconciler-type=none`): replicas advertise one address, that of
//! the Service in the admin cluster, and each replica that stops would take it out of the list for all of them.

use std::net::IpAddr;

use serde_json::json;

use super::Inputs;
use super::object::{Kind, Object};

pub(super) fn objects(inputs: &Inputs<'_>) -> Vec<Object> {
    let Some((address, port)) = inputs.advertise else {
        return Vec::new();
    };
    let family = match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    vec![
        Object::new(
            Kind::Endpoints,
            Some("default"),
            "kubernetes",
            json!({
                // The slice below is the real one; without this the controller-manager would mirror a second.
                "metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
                "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
            }),
        ),
        Object::new(
            Kind::EndpointSlice,
            Some("default"),
            "kubernetes",
            json!({
                "metadata": {"labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": family,
                "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
                "ports": ports,
            }),
        ),
    ]
}
