//! The name under which a control plane is reached through an Ingress or the Gateway API.
//!
//! A name belongs to the control plane that had it first, in the whole cluster: whatever stands in front of the Services
//! sends all traffic for a name to one of them. Only one spelling is taken, the one that the DNS compares by, so that two
//! control planes cannot have the same name in two ways; and no wildcard, which would be the neighbours' names too.

use std::net::IpAddr;
use std::sync::Arc;

use api::kamaji::v1alpha1::{GatewaySpec, TenantControlPlane};
use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use super::network::is_dns_name;
use crate::denial::Denial;

/// Where the name of an Ingress stands.
pub const INGRESS: &str = "spec.controlPlane.ingress.hostname";
/// Where the name of the Gateway API's routes stands.
pub const GATEWAY: &str = "spec.controlPlane.gateway.hostname";

/// What a route of the Gateway API may attach to.
const PARENT: (&str, &str) = ("gateway.networking.k8s.io", "Gateway");
/// As many as a route takes.
const MOST_PARENTS: usize = 32;

/// Whether a cluster serves what routes are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayApi {
    /// It does, or nobody has asked.
    #[default]
    Served,
    /// Nothing of the Gateway API's group.
    Absent,
    /// Other kinds or versions of it.
    WithoutRoutes,
}

/// The refusal of routes where there are none, in words that others know.
pub fn unserved(tcp: &TenantControlPlane, served: GatewayApi) -> Option<Denial> {
    const FIELD: &str = "spec.controlPlane.gateway";
    let message = match served {
        GatewayApi::Served => return None,
        GatewayApi::Absent => "the Gateway API is not available in this cluster, cannot use gatewayRoute configuration",
        GatewayApi::WithoutRoutes => "TLSRoute resource is not available in this cluster",
    };
    let wanted = tcp.spec.control_plane.gateway.is_some();
    wanted.then(|| Denial::new(FIELD, "GatewayUnavailable", message))
}

/// What clients call instead of the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicName {
    /// A name in the DNS, in lower case and without the root's dot.
    pub host: String,
    /// 1 to 65535.
    pub port: i32,
    /// The field that says so: [`INGRESS`] or [`GATEWAY`].
    pub field: &'static str,
}

/// The name that a spec asks for, if it asks for one.
///
/// # Errors
/// What is wrong with it.
pub fn public(tcp: &TenantControlPlane) -> Result<Option<PublicName>, Denial> {
    let own_port = tcp.spec.network_profile.port;
    if let Some(ingress) = &tcp.spec.control_plane.ingress {
        let written = ingress.hostname.as_deref().unwrap_or_default();
        let (host, port) = match written.rsplit_once(':') {
            Some((host, port)) => (host, port_of(written, port)?),
            None => (written, own_port),
        };
        return named(INGRESS, host, port).map(Some);
    }
    if let Some(gateway) = &tcp.spec.control_plane.gateway {
        let host = gateway.hostname.as_deref().unwrap_or_default();
        return named(GATEWAY, host, own_port).map(Some);
    }
    Ok(None)
}

fn port_of(written: &str, port: &str) -> Result<i32, Denial> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
    parsed.map(i32::from).ok_or_else(|| {
        let message =
            format!("{INGRESS}: {written:?} has no port from 1 to 65535 after the colon; write it as oil.example:443");
        Denial::new(INGRESS, "HostnameInvalid", message)
    })
}

fn named(field: &'static str, host: &str, port: i32) -> Result<PublicName, Denial> {
    let problem = if host.is_empty() {
        Some("is missing, and nothing is routed without a name".to_owned())
    } else if host.starts_with("*.") {
        Some(format!(
            "{host:?} is a wildcard, which holds the names of others too; give this control plane one name"
        ))
    } else if host.parse::<IpAddr>().is_ok() {
        Some(format!("{host:?} is an address, and requests are told apart by names"))
    } else if !is_dns_name(host) {
        Some(format!(
            "{host:?} is not a name in the DNS; lower-case letters, digits, '-' and dots, as in oil.example"
        ))
    } else {
        None
    };
    match problem {
        Some(problem) => Err(Denial::new(field, "HostnameInvalid", format!("{field}: {problem}"))),
        None => Ok(PublicName {
            host: host.to_owned(),
            port,
            field,
        }),
    }
}

/// What is wrong with what a spec asks for in front of its Service. `others` are all control planes, with this one or
/// without.
pub fn denials(tcp: &TenantControlPlane, others: &[Arc<TenantControlPlane>]) -> Vec<Denial> {
    let mut denials: Vec<Denial> = Vec::new();
    if let Some(gateway) = &tcp.spec.control_plane.gateway {
        denials.extend(parents(gateway));
    }
    match public(tcp) {
        Err(denial) => denials.push(denial),
        Ok(Some(name)) => {
            if rivals(tcp, &name, others.iter().map(AsRef::as_ref)).next().is_some() {
                denials.push(taken(&name));
            }
        }
        Ok(None) => {}
    }
    denials
}

/// The refusal of a name that somebody else has. Not by whom: the author need not know the neighbours.
pub fn taken(name: &PublicName) -> Denial {
    let message = format!(
        "{}: {} is the name of somebody else in this cluster, who had it first; choose another",
        name.field, name.host
    );
    Denial::new(name.field, TAKEN, message)
}

/// Other control planes that ask for the same name.
fn rivals<'a>(
    tcp: &TenantControlPlane,
    name: &PublicName,
    others: impl Iterator<Item = &'a TenantControlPlane>,
) -> impl Iterator<Item = &'a TenantControlPlane> {
    let own = (tcp.metadata.namespace.clone(), tcp.metadata.name.clone());
    others.filter(move |other| {
        let theirs = || public(other).ok().flatten();
        (&other.metadata.namespace, &other.metadata.name) != (&own.0, &own.1)
            && theirs().is_some_and(|theirs| theirs.host == name.host)
    })
}

/// Whether another control plane goes before this one for a name that both ask for, as may be when two were admitted at
/// the same moment or past admission. `serves` tells who has it in front of its Service already. They go first, then who
/// is older, then who has the smaller UID: all replicas and all passes come to the same answer.
pub fn is_anothers<'a>(
    tcp: &TenantControlPlane,
    name: &PublicName,
    others: impl Iterator<Item = &'a TenantControlPlane>,
    serves: impl Fn(&TenantControlPlane) -> bool,
) -> bool {
    let rank = |tcp: &TenantControlPlane| {
        let created = tcp.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!serves(tcp), created, tcp.metadata.uid.clone())
    };
    let own = rank(tcp);
    rivals(tcp, name, others).any(|other| rank(other) < own)
}

/// The hosts by which an Ingress holds a name: the name itself, and the wildcard over its first label, which is all that
/// one stands for there.
pub fn ingress_hosts(name: &str) -> impl Iterator<Item = String> {
    let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
    std::iter::once(name.to_owned()).chain(wildcard)
}

/// Whether a route of the Gateway API with this hostname holds a name. A wildcard stands for one label or more there.
pub fn route_holds(hostname: &str, name: &str) -> bool {
    match hostname.strip_prefix("*.") {
        Some(domain) => name.strip_suffix(domain).is_some_and(|below| below.ends_with('.')),
        None => hostname == name,
    }
}

/// The refusal of an Ingress that asks anew for the name of a control plane in another namespace. One that waits for a name
/// itself keeps nobody from it.
pub fn refused_ingress(
    ingress: &Ingress,
    old: Option<&Ingress>,
    control_planes: &[Arc<TenantControlPlane>],
) -> Option<Denial> {
    let hosts = |ingress: &Ingress| -> Vec<String> {
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        rules.map(|rule| rule.host.clone().unwrap_or_default()).collect()
    };
    let known = old.map(hosts).unwrap_or_default();
    let is_held = |host: &str| {
        control_planes.iter().any(|tcp| {
            tcp.metadata.namespace != ingress.metadata.namespace
                && !waits(tcp)
                && public(tcp).ok().flatten().is_some_and(|name| name.host == host)
        })
    };
    let hosts = hosts(ingress);
    let (index, host) = hosts
        .iter()
        .enumerate()
        .find(|(_, host)| !known.contains(host) && is_held(host))?;
    let field = format!("spec.rules[{index}].host");
    let message =
        format!("{field}: {host} is the name of a control plane of somebody else in this cluster; choose another");
    Some(Denial::new(field, TAKEN, message))
}

/// Reason of refusals, and of the condition while somebody else has the name.
pub const TAKEN: &str = "HostnameTaken";

fn waits(tcp: &TenantControlPlane) -> bool {
    let conditions = tcp.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.reason == TAKEN)
}

fn parents(gateway: &GatewaySpec) -> Vec<Denial> {
    const FIELD: &str = "spec.controlPlane.gateway.parentRefs";
    let mut denials = Vec::new();
    let count = gateway.parent_refs.len();
    if !(1..=MOST_PARENTS).contains(&count) {
        let message = format!(
            "{FIELD}: {count} parents; a route attaches to at least one Gateway, and to {MOST_PARENTS} at most"
        );
        denials.push(Denial::new(FIELD, "ParentsInvalid", message));
    }
    for (index, parent) in gateway.parent_refs.iter().enumerate() {
        if (parent.group.as_str(), parent.kind.as_str()) != PARENT {
            let field = format!("{FIELD}[{index}]");
            let message = format!(
                "{field}: {} of group {:?} is not what control planes are routed through; name a Gateway of group {:?}",
                parent.kind, parent.group, PARENT.0
            );
            denials.push(Denial::new(field, "ParentsInvalid", message));
        }
    }
    denials
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(name: &str, front: &Value) -> TenantControlPlane {
        let mut control_plane = json!({"service": {"serviceType": "ClusterIP"}});
        control_plane
            .as_object_mut()
            .unwrap()
            .extend(front.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": name, "namespace": "prod", "uid": name},
            "spec": {"controlPlane": control_plane, "kubernetes": {"version": "v1.36.0"}, "networkProfile": {"port": 6443}},
        }))
        .unwrap()
    }

    fn ingress(name: &str, hostname: &str) -> TenantControlPlane {
        tcp(name, &json!({"ingress": {"hostname": hostname}}))
    }

    fn gateway(name: &str, hostname: &str) -> TenantControlPlane {
        tcp(
            name,
            &json!({"gateway": {"hostname": hostname, "parentRefs": [{"name": "front"}]}}),
        )
    }

    #[rstest]
    #[case::name("oil.example", Some(("oil.example", 6443)))]
    #[case::with_a_port("oil.example:443", Some(("oil.example", 443)))]
    #[case::single_label("oil", Some(("oil", 6443)))]
    #[case::empty("", None)]
    #[case::only_a_port(":443", None)]
    #[case::port_zero("oil.example:0", None)]
    #[case::port_too_large("oil.example:65536", None)]
    #[case::signed_port("oil.example:+443", None)]
    #[case::port_missing("oil.example:", None)]
    #[case::upper_case("Oil.example", None)]
    #[case::dot_of_the_root("oil.example.", None)]
    #[case::wildcard("*.example", None)]
    #[case::address("192.0.2.1", None)]
    #[case::address_v6("fd00::1", None)]
    #[case::url("https://oil.example", None)]
    #[case::path("oil.example/a", None)]
    #[case::line_break("oil\n.example", None)]
    #[case::label_too_long("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example", None)]
    fn a_control_plane_has_one_name_in_one_spelling(#[case] written: &str, #[case] expected: Option<(&str, i32)>) {
        let found = public(&ingress("oil", written));
        let found = found.as_ref().ok().and_then(Option::as_ref);
        assert_eq!(found.map(|name| (name.host.as_str(), name.port)), expected);
        assert_eq!(denials(&ingress("oil", written), &[]).is_empty(), expected.is_some());
    }

    #[test]
    fn routes_have_the_port_of_the_control_plane_and_gateways_to_attach_to() {
        let name = public(&gateway("oil", "oil.example")).unwrap().unwrap();
        assert_eq!(
            (name.host.as_str(), name.port, name.field),
            ("oil.example", 6443, GATEWAY)
        );
        assert!(public(&gateway("oil", "*.example")).is_err());
        assert_eq!(public(&tcp("oil", &json!({}))), Ok(None));
        let fields = |front: Value| {
            let denials = denials(&tcp("oil", &json!({"gateway": front})), &[]);
            denials
                .into_iter()
                .map(|denial| denial.field.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            fields(json!({"hostname": "oil.example"})),
            ["spec.controlPlane.gateway.parentRefs"]
        );
        assert_eq!(
            fields(
                json!({"hostname": "oil.example", "parentRefs": [{"name": "a"}, {"name": "b", "group": "", "kind": "Service"}]})
            ),
            ["spec.controlPlane.gateway.parentRefs[1]"]
        );
        assert_eq!(fields(json!({"parentRefs": [{"name": "a"}]})), [GATEWAY]);
    }

    #[test]
    fn routes_need_a_cluster_that_has_them() {
        let said = |tcp: &TenantControlPlane, served| unserved(tcp, served).map(|denial| denial.message);
        let (routed, plain) = (gateway("oil", "oil.example"), ingress("gas", "gas.example"));
        assert_eq!(said(&routed, GatewayApi::Served), None);
        assert_eq!(said(&plain, GatewayApi::Absent), None);
        assert_eq!(
            said(&routed, GatewayApi::Absent).unwrap(),
            "the Gateway API is not available in this cluster, cannot use gatewayRoute configuration"
        );
        assert_eq!(
            said(&routed, GatewayApi::WithoutRoutes).unwrap(),
            "TLSRoute resource is not available in this cluster"
        );
    }

    #[test]
    fn a_neighbours_name_is_refused_whatever_it_is_served_with() {
        let neighbours = [
            Arc::new(ingress("gas", "gas.example:443")),
            Arc::new(gateway("sun", "sun.example")),
        ];
        let reasons = |tcp: &TenantControlPlane| {
            let denials = denials(tcp, &neighbours);
            denials
                .into_iter()
                .map(|denial| denial.reason.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(&gateway("oil", "gas.example")), ["HostnameTaken"]);
        assert_eq!(reasons(&ingress("oil", "sun.example:8443")), ["HostnameTaken"]);
        assert!(reasons(&ingress("oil", "oil.example")).is_empty());
        assert!(reasons(&ingress("gas", "gas.example")).is_empty(), "its own");
        let denial = &denials(&ingress("oil", "gas.example"), &neighbours)[0];
        assert!(
            !denial.message.contains("gas\"") && !denial.message.contains("prod"),
            "{}",
            denial.message
        );
    }

    #[test]
    fn of_two_that_ask_for_a_name_one_has_it() {
        let mut older = ingress("gas", "oil.example");
        let mut newer = ingress("oil", "oil.example");
        older.metadata.creation_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        newer.metadata.creation_timestamp = Some(serde_json::from_value(json!("2026-01-02T00:00:00Z")).unwrap());
        let loses = |one: &TenantControlPlane, other: &TenantControlPlane, serving: &str| {
            let name = public(one).unwrap().unwrap();
            let serves = |tcp: &TenantControlPlane| tcp.metadata.name.as_deref() == Some(serving);
            is_anothers(one, &name, [one, other].into_iter(), serves)
        };
        for (serving, winner) in [("", "gas"), ("gas", "gas"), ("oil", "oil")] {
            assert_eq!(loses(&older, &newer, serving), winner != "gas", "{serving:?} serves");
            assert_eq!(loses(&newer, &older, serving), winner != "oil", "{serving:?} serves");
        }
    }

    #[test]
    fn a_wildcard_is_one_label_of_an_ingress_and_any_number_of_a_route() {
        let hosts: Vec<String> = ingress_hosts("a.oil.example").collect();
        assert_eq!(hosts, ["a.oil.example", "*.oil.example"]);
        assert_eq!(ingress_hosts("oil").collect::<Vec<_>>(), ["oil"]);
        for (hostname, expected) in [
            ("a.oil.example", true),
            ("*.oil.example", true),
            ("*.example", true),
            ("*.a.oil.example", false),
            ("*.il.example", false),
            ("oil.example", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(route_holds(hostname, "a.oil.example"), expected, "{hostname}");
        }
    }

    #[test]
    fn an_ingress_is_not_given_the_name_of_somebodys_control_plane() {
        let of = |namespace: &str, hosts: &[&str]| -> Ingress {
            let rules: Vec<_> = hosts.iter().map(|host| json!({"host": host})).collect();
            serde_json::from_value(json!({"metadata": {"namespace": namespace}, "spec": {"rules": rules}})).unwrap()
        };
        let mut waiting = ingress("sun", "sun.example");
        let condition = json!({"type": "Exposed", "status": "False", "reason": TAKEN, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let mut status = api::kamaji::v1alpha1::TenantControlPlaneStatus::default();
        status.conditions.push(serde_json::from_value(condition).unwrap());
        waiting.status = Some(status);
        let control_planes = [Arc::new(ingress("oil", "oil.example:443")), Arc::new(waiting)];
        let refused = |wanted: &Ingress, old: Option<&Ingress>| refused_ingress(wanted, old, &control_planes);
        let wanted = of("shop", &["shop.example", "oil.example"]);
        let denial = refused(&wanted, None).unwrap();
        assert_eq!(denial.field, "spec.rules[1].host");
        assert!(!denial.message.contains("prod"), "{}", denial.message);
        assert_eq!(refused(&of("prod", &["oil.example"]), None), None, "its own namespace");
        assert_eq!(
            refused(&of("shop", &["sun.example", ""]), None),
            None,
            "it is not had yet"
        );
        assert_eq!(refused(&wanted, Some(&wanted)), None, "it had it before");
        assert!(refused(&wanted, Some(&of("shop", &["shop.example"]))).is_some());
    }

    proptest! {
        /// What is taken is what everybody reads the same way: an Ingress and a certificate take it as it is.
        #[test]
        fn whatever_is_written_has_an_answer(text in "\\PC{0,20}") {
            if let Ok(Some(name)) = public(&ingress("oil", &text)) {
                prop_assert!(is_dns_name(&name.host));
                prop_assert!((1..=65535).contains(&name.port));
            }
            let _ = denials(&gateway("oil", &text), &[Arc::new(ingress("gas", &text))]);
        }
    }
}
