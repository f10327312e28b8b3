//! Routes of the Gateway API in front of a control plane's Service, and what their status says.
//!
//! The kinds are somebody else's and may not be there. Of them only what is read or written here is known.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{
    AccessPoint, ControlPlaneGatewayStatus, GatewaySpec as Wanted, ParentReference, RouteParentStatus, RouteReference,
    TenantControlPlane,
};
use kube::{CustomResource, ResourceExt};
use serde::{Deserialize, Serialize};
use tenancy::control_plane::hostname::PublicName;
use tenancy::control_plane::konnectivity::shares_port;

use super::identity;

/// Value of the component label.
pub const COMPONENT: &str = "gateway-route";
/// API group of the kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The version in which they are read and written.
pub const VERSION: &str = "v1";
/// Most of what a route's status may say of its parents.
const MOST_PARENTS: usize = 32;

/// TLSRoute: connections for a name, which pass through.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "TLSRoute",
    plural = "tlsroutes",
    root = "TlsRoute",
    status = "RouteStatus",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// The Gateways that the route attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// The names.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Where connections go.
    #[serde(default)]
    pub rules: Vec<TlsRouteRule>,
}

/// One rule of a route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteRule {
    /// The Services.
    #[serde(default)]
    pub backend_refs: Vec<BackendReference>,
}

/// A port of a Service in the route's namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct BackendReference {
    /// Name of the Service.
    pub name: String,
    /// The port; other routes may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// What is said of a route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RouteStatus {
    /// By each parent.
    #[serde(default)]
    pub parents: Vec<RouteParentStatus>,
}

/// Gateway: where connections arrive.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "Gateway",
    plural = "gateways",
    status = "GatewayStatus",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct GatewaySpec {
    /// Its ports.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// A port of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Listener {
    /// Name, once per Gateway.
    pub name: String,
    /// The port.
    pub port: i32,
    /// `TLS` where connections can pass through.
    #[serde(default)]
    pub protocol: String,
}

/// What is said of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct GatewayStatus {
    /// Of its phases.
    #[serde(default)]
    pub conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
}

/// Listener of the Gateways that takes agents of the tunnel.
const TUNNEL_LISTENER: &str = "konnectivity-server";

/// The name of the tunnel's route.
pub fn tunnel_name(tcp_name: &str) -> String {
    format!("{tcp_name}-konnectivity")
}

/// Renders the route of a control plane that asks for one under this name.
pub fn route(tcp: &TenantControlPlane, name: &PublicName) -> Option<TlsRoute> {
    let wanted = tcp.spec.control_plane.gateway.as_ref()?;
    let parents = wanted.parent_refs.clone();
    Some(rendered(
        tcp,
        wanted,
        &tcp.name_any(),
        parents,
        (name, tcp.spec.network_profile.port),
    ))
}

/// Renders the route of its tunnel, if it has one with a port of its own: through the same Gateways, by a listener that has the tunnel's port.
pub fn tunnel_route(tcp: &TenantControlPlane, name: &PublicName) -> Option<TlsRoute> {
    let wanted = tcp.spec.control_plane.gateway.as_ref().filter(|_| !shares_port(tcp))?;
    let port = tcp.spec.addons.konnectivity.as_ref()?.server.port;
    let parents = wanted.parent_refs.iter().map(|parent| ParentReference {
        port: Some(port),
        section_name: Some(TUNNEL_LISTENER.to_owned()),
        ..parent.clone()
    });
    // Listeners of one Gateway are one here.
    let mut distinct: Vec<ParentReference> = Vec::new();
    for parent in parents {
        if !distinct.contains(&parent) {
            distinct.push(parent);
        }
    }
    Some(rendered(
        tcp,
        wanted,
        &tunnel_name(&tcp.name_any()),
        distinct,
        (name, port),
    ))
}

fn rendered(
    tcp: &TenantControlPlane,
    wanted: &Wanted,
    route_name: &str,
    parent_refs: Vec<ParentReference>,
    (name, port): (&PublicName, i32),
) -> TlsRoute {
    let mut metadata = identity::metadata(tcp, route_name, COMPONENT);
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    for (key, value) in &wanted.additional_metadata.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata.annotations =
        Some(wanted.additional_metadata.annotations.clone()).filter(|annotations| !annotations.is_empty());
    TlsRoute {
        metadata,
        spec: TlsRouteSpec {
            parent_refs,
            hostnames: vec![name.host.clone()],
            rules: vec![TlsRouteRule {
                backend_refs: vec![BackendReference {
                    name: tcp.name_any(),
                    port: Some(port),
                }],
            }],
        },
        status: None,
    }
}

/// What the control plane's status says of its route. `gateway` finds a Gateway by namespace and name; it is asked only for
/// those that have accepted the route, so that nobody reads others through it.
pub fn reported<G: std::ops::Deref<Target = Gateway>>(
    route: &TlsRoute,
    gateway: impl Fn(&str, &str) -> Option<G>,
) -> ControlPlaneGatewayStatus {
    let parents: Vec<RouteParentStatus> = route
        .status
        .iter()
        .flat_map(|status| &status.parents)
        .cloned()
        .collect();
    let host = route.spec.hostnames.first().map(String::as_str).unwrap_or_default();
    let own_namespace = route.namespace().unwrap_or_default();
    let mut access_points: Vec<AccessPoint> = Vec::new();
    for parent in parents.iter().filter(|parent| accepts(route, parent)) {
        let reference = &parent.parent_ref;
        let namespace = reference.namespace.as_deref().unwrap_or(&own_namespace);
        let Some(gateway) = gateway(namespace, &reference.name).filter(|gateway| is_programmed(gateway)) else {
            continue;
        };
        for listener in gateway
            .spec
            .listeners
            .iter()
            .filter(|listener| serves(reference, listener))
        {
            let point = AccessPoint {
                type_: "Hostname".to_owned(),
                value: format!("https://{host}:{}", listener.port),
                port: listener.port,
                urls: Vec::new(),
            };
            if !access_points.contains(&point) {
                access_points.push(point);
            }
        }
    }
    ControlPlaneGatewayStatus {
        parents: parents.into_iter().take(MOST_PARENTS).collect(),
        route_ref: Some(RouteReference { name: route.name_any() }),
        access_points,
    }
}

/// Why nobody routes to the control plane, if nobody does.
pub fn unattached(route: &TlsRoute) -> Option<String> {
    let parents = || route.status.iter().flat_map(|status| &status.parents);
    if parents().any(|parent| accepts(route, parent)) {
        return None;
    }
    let refusal = parents()
        .flat_map(|parent| &parent.conditions)
        .find(|condition| condition.status == "False");
    Some(match refusal {
        Some(refusal) => format!(
            "no Gateway has accepted the TLSRoute: {}: {}",
            refusal.reason, refusal.message
        ),
        None => "no Gateway has accepted the TLSRoute yet".to_owned(),
    })
}

/// Whether a parent that the route names has accepted it as it now is.
fn accepts(route: &TlsRoute, parent: &RouteParentStatus) -> bool {
    let accepted = parent.conditions.iter().any(|condition| {
        let current = condition.observed_generation.unwrap_or(0) >= route.metadata.generation.unwrap_or(0);
        condition.type_ == "Accepted" && condition.status == "True" && current
    });
    let mut named = route.spec.parent_refs.iter();
    accepted && named.any(|named| is_same(route, named, &parent.parent_ref))
}

/// Whoever answers may write out the namespace that is meant where none is written.
fn is_same(route: &TlsRoute, one: &ParentReference, other: &ParentReference) -> bool {
    let complete = |reference: &ParentReference| ParentReference {
        namespace: reference.namespace.clone().or_else(|| route.namespace()),
        ..reference.clone()
    };
    complete(one) == complete(other)
}

fn is_programmed(gateway: &Gateway) -> bool {
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Programmed" && condition.status == "True")
}

fn serves(reference: &ParentReference, listener: &Listener) -> bool {
    let named = reference
        .section_name
        .as_ref()
        .is_none_or(|section| *section == listener.name);
    let at_port = reference.port.is_none_or(|port| port == listener.port);
    named && at_port && listener.protocol == "TLS"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenancy::control_plane::hostname;

    use super::*;
    use crate::desired::tests::tcp;

    fn asked() -> TenantControlPlane {
        let mut tcp = tcp();
        tcp.spec.control_plane.gateway = serde_json::from_value(json!({
            "hostname": "oil.example", "parentRefs": [{"name": "front", "namespace": "edge", "sectionName": "api"}],
            "additionalMetadata": {"labels": {"team": "oil"}},
        }))
        .unwrap();
        tcp
    }

    fn rendered() -> TlsRoute {
        let tcp = asked();
        route(&tcp, &hostname::public(&tcp).unwrap().unwrap()).unwrap()
    }

    fn status(parent: &Value, accepted: &str, generation: i64) -> RouteStatus {
        serde_json::from_value(
            json!({"parents": [{"parentRef": parent, "controllerName": "example/gateway", "conditions": [{
                "type": "Accepted", "status": accepted, "reason": "NotAllowedByListeners", "message": "not here",
                "observedGeneration": generation, "lastTransitionTime": "2026-11-20T12:00:00Z",
            }]}]}),
        )
        .unwrap()
    }

    #[test]
    fn connections_for_the_name_go_to_the_service() {
        let spec = serde_json::to_value(rendered().spec).unwrap();
        assert_eq!(
            spec,
            json!({
                "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front",
                    "namespace": "edge", "sectionName": "api"}],
                "hostnames": ["oil.example"],
                "rules": [{"backendRefs": [{"name": "demo", "port": tcp().spec.network_profile.port}]}],
            })
        );
        assert_eq!(rendered().labels()["team"], "oil");
    }

    #[test]
    fn agents_of_the_tunnel_come_in_by_a_listener_of_their_own() {
        let mut tcp = asked();
        let name = hostname::public(&tcp).unwrap().unwrap();
        assert_eq!(tunnel_route(&tcp, &name), None);
        tcp.spec.addons.konnectivity = Some(serde_json::from_value(json!({"server": {"port": 8132}})).unwrap());
        let second = json!({"name": "front", "namespace": "edge", "sectionName": "other"});
        let gateway = tcp.spec.control_plane.gateway.as_mut().unwrap();
        gateway.parent_refs.push(serde_json::from_value(second).unwrap());
        let route = tunnel_route(&tcp, &name).unwrap();
        assert_eq!(route.name_any(), "demo-konnectivity");
        assert_eq!(
            serde_json::to_value(route.spec).unwrap(),
            json!({
                "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front",
                    "namespace": "edge", "sectionName": "konnectivity-server", "port": 8132}],
                "hostnames": ["oil.example"],
                "rules": [{"backendRefs": [{"name": "demo", "port": 8132}]}],
            })
        );
        tcp.spec.network_profile.port = 8132;
        assert_eq!(tunnel_route(&tcp, &name), None, "they share the API server's");
    }

    #[test]
    fn the_ports_of_gateways_that_have_accepted_the_route_are_told_and_no_others() {
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "front"},
            "spec": {"gatewayClassName": "a", "listeners": [
                {"name": "api", "port": 443, "protocol": "TLS"}, {"name": "web", "port": 80, "protocol": "HTTP"},
                {"name": "other", "port": 8443, "protocol": "TLS"},
            ]},
            "status": {"conditions": [{"type": "Programmed", "status": "True", "reason": "a", "message": "",
                "lastTransitionTime": "2026-11-20T12:00:00Z"}]},
        }))
        .unwrap();
        let ours = json!({"name": "front", "namespace": "edge", "sectionName": "api"});
        let not_ours = json!({"name": "front", "sectionName": "api"});
        let foreign = json!({"name": "secret", "namespace": "kube-system"});
        for (parent, accepted, seen, programmed, expected) in [
            (&ours, "True", 2, true, vec![("https://oil.example:443", 443)]),
            (&ours, "True", 2, false, vec![]),
            (&ours, "True", 1, true, vec![]),
            (&ours, "False", 2, true, vec![]),
            (&not_ours, "True", 2, true, vec![]),
            (&foreign, "True", 2, true, vec![]),
        ] {
            let mut route = rendered();
            route.metadata.generation = Some(2);
            route.status = Some(status(parent, accepted, seen));
            let mut gateway = gateway.clone();
            if !programmed {
                gateway.status = None;
            }
            let reported = reported(&route, |namespace, name| {
                assert_eq!((namespace, name), ("edge", "front"), "asked for without right");
                Some(&gateway)
            });
            let points: Vec<_> = reported
                .access_points
                .iter()
                .map(|point| (point.value.as_str(), point.port))
                .collect();
            assert_eq!(points, expected, "{parent} {accepted} {seen} {programmed}");
            assert_eq!(reported.parents.len(), 1);
        }
    }

    #[test]
    fn a_route_that_nobody_takes_says_why() {
        let mut route = rendered();
        assert_eq!(unattached(&route).unwrap(), "no Gateway has accepted the TLSRoute yet");
        let ours = json!({"name": "front", "namespace": "edge", "sectionName": "api"});
        route.status = Some(status(&ours, "False", 0));
        assert_eq!(
            unattached(&route).unwrap(),
            "no Gateway has accepted the TLSRoute: NotAllowedByListeners: not here"
        );
        route.status = Some(status(&ours, "True", 0));
        assert_eq!(unattached(&route), None);
    }
}
