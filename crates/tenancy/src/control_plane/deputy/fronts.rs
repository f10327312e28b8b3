//! What stands in front of a control plane's Service, and addresses of the cluster that it may take.
//!
//! Controllers of Ingresses, Gateways and DNS obey annotations, with rights of their own: one that puts text into their
//! configuration, or that names further hostnames, is worth more than the object that carries it.

use std::net::IpAddr;

use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};

use super::{Found, Trust};
use crate::control_plane::hostname;

const EXTERNAL_IP: &str = "spec.networkProfile.allowAddressAsExternalIP";

/// Annotations by which controllers answer to names beside those of the object, by their key.
const NAMES: &[&str] = &[
    "external-dns.alpha.kubernetes.io/hostname",
    "external-dns.alpha.kubernetes.io/internal-hostname",
    "nginx.ingress.kubernetes.io/server-alias",
    "konghq.com/host-aliases",
];

/// How names of annotations end by which controllers take Secrets, addresses, configuration or
/// servers that may be somebody else's.
const SHARED_ENDINGS: &[&str] = &[
    "-secret",
    "auth-url",
    "auth-signin",
    "config-backend",
    "config-frontend",
    "config-global",
    "group.name",
    "auth-proxy-set-headers",
    "custom-headers",
    "router.middlewares",
];

/// The same, by what the key contains: rules of a load balancer.
const SHARED_PARTS: &[&str] = &["/conditions.", "/actions."];

impl Found<'_> {
    /// Labels and annotations of the Ingress and of routes.
    pub(super) fn fronts(&mut self, tcp: &TenantControlPlane) {
        let control_plane = &tcp.spec.control_plane;
        let ingress = control_plane.ingress.as_ref().map(|ingress| {
            let host = ingress.hostname.as_deref().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            ("ingress", &ingress.additional_metadata, host)
        });
        let gateway = control_plane.gateway.as_ref().map(|gateway| {
            let host = gateway.hostname.as_deref().unwrap_or_default();
            ("gateway", &gateway.additional_metadata, host)
        });
        for (part, metadata, host) in ingress.into_iter().chain(gateway) {
            let field = format!("spec.controlPlane.{part}.additionalMetadata");
            for key in metadata.labels.keys() {
                self.metadata_key(&format!("{field}.labels"), key);
            }
            for (key, value) in &metadata.annotations {
                let field = format!("{field}.annotations");
                self.metadata_key(&field, key);
                let name = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
                if name.ends_with("snippet") || name.ends_with("snippets") {
                    self.reach(
                        &field,
                        &format!("{key:?}, which puts text into the configuration of a shared server,"),
                    );
                }
                let is_shared = SHARED_ENDINGS.iter().any(|ending| name.ends_with(ending))
                    || SHARED_PARTS.iter().any(|part| key.contains(part));
                if is_shared {
                    self.reach(&field, &format!("{key:?}, which takes what may be somebody else's,"));
                }
                let others = value.split(',').map(str::trim).any(|named| named != host);
                if NAMES.contains(&key.as_str()) && others {
                    self.reach(&field, &format!("{key:?} with another name than {host:?}"));
                }
            }
        }
    }

    /// The name in front of the Service, and those that the Service itself asks for. That the first is one is said elsewhere.
    pub(super) fn hostname(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let public = hostname::public(tcp).ok().flatten();
        let limited = !trust.hostnames.is_empty();
        let may_ask_for = |name: &str| match &public {
            _ if limited => allows(trust, name),
            // Any name may be had then, but one that nobody compares with those of the neighbours.
            public => public.as_ref().is_some_and(|public| public.host == name),
        };
        let service = &tcp.spec.control_plane.service.additional_metadata.annotations;
        for (key, value) in service.iter().filter(|(key, _)| NAMES.contains(&key.as_str())) {
            let field = "spec.controlPlane.service.additionalMetadata.annotations";
            if let Some(name) = value.split(',').map(str::trim).find(|name| !may_ask_for(name)) {
                let why = if limited {
                    "which --allowed-hostnames does not contain"
                } else {
                    "which is not the control plane's own"
                };
                self.reach(field, &format!("{key:?} with the name {name:?}, {why},"));
            }
        }
        let Some(name) = public.filter(|_| limited) else { return };
        if allows(trust, &name.host) {
            return;
        }
        let message = format!(
            "{}: {} is not one of the names that control planes may have here: {}; the operator's flag --allowed-hostnames \
             sets the limit",
            name.field,
            name.host,
            trust.hostnames.join(", ")
        );
        self.deny(name.field, "ReachesBeyond", message);
    }

    /// The address that nodes of the admin cluster are to answer to for this control plane.
    pub(super) fn external_ip(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let profile = &tcp.spec.network_profile;
        let balanced = tcp.spec.control_plane.service.service_type == ServiceType::LoadBalancer;
        let written = profile.address.as_deref().filter(|address| !address.is_empty());
        // A load balancer has no external IPs, and what has no address of its own writing has that of its Service.
        let Some(written) = written.filter(|_| profile.allow_address_as_external_ip && !balanced) else {
            return;
        };
        let address: Option<IpAddr> = written.parse().ok();
        if address.is_some_and(|address| trust.external_ips.iter().any(|range| range.contains(&address))) {
            return;
        }
        let allowed: Vec<String> = trust.external_ips.iter().map(ToString::to_string).collect();
        let allowed = if allowed.is_empty() {
            "none".to_owned()
        } else {
            allowed.join(", ")
        };
        let message = format!(
            "{EXTERNAL_IP}: {written} would become an address of this cluster's nodes, and those that authors may take are \
             {allowed}; the operator's flag --allowed-external-ips sets the limit"
        );
        self.deny(EXTERNAL_IP, "ReachesBeyond", message);
    }
}

/// Whether control planes may have this name.
fn allows(trust: &Trust, name: &str) -> bool {
    trust.hostnames.iter().any(|allowed| match allowed.strip_prefix("*.") {
        Some(domain) => name.strip_suffix(domain).is_some_and(|below| below.ends_with('.')),
        None => name == allowed,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::{Own, denials};
    use super::*;

    fn tcp(control_plane: &Value, profile: &Value) -> TenantControlPlane {
        let mut spec = json!({"service": {"serviceType": "ClusterIP"}});
        spec.as_object_mut()
            .unwrap()
            .extend(control_plane.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod"},
            "spec": {"controlPlane": spec, "kubernetes": {"version": "v1.36.0"}, "networkProfile": profile},
        }))
        .unwrap()
    }

    #[rstest]
    #[case::passthrough("annotations", "nginx.ingress.kubernetes.io/ssl-passthrough", "true", None)]
    #[case::its_own_name("annotations", "external-dns.alpha.kubernetes.io/hostname", "oil.example", None)]
    #[case::a_neighbours_name(
        "annotations",
        "external-dns.alpha.kubernetes.io/hostname",
        "oil.example, gas.example",
        Some("ReachesBeyond")
    )]
    #[case::alias(
        "annotations",
        "nginx.ingress.kubernetes.io/server-alias",
        "gas.example",
        Some("ReachesBeyond")
    )]
    #[case::snippet(
        "annotations",
        "nginx.ingress.kubernetes.io/configuration-snippet",
        "",
        Some("ReachesBeyond")
    )]
    #[case::snippets("annotations", "nginx.org/server-snippets", "", Some("ReachesBeyond"))]
    #[case::secret(
        "annotations",
        "nginx.ingress.kubernetes.io/auth-tls-secret",
        "gas/ca",
        Some("ReachesBeyond")
    )]
    #[case::verified("annotations", "nginx.ingress.kubernetes.io/auth-tls-verify-depth", "1", None)]
    #[case::asks_elsewhere(
        "annotations",
        "nginx.ingress.kubernetes.io/auth-url",
        "http://10.0.0.1",
        Some("ReachesBeyond")
    )]
    #[case::raw("annotations", "haproxy-ingress.github.io/config-backend", "", Some("ReachesBeyond"))]
    #[case::balanced("annotations", "haproxy-ingress.github.io/balance-algorithm", "leastconn", None)]
    #[case::group("annotations", "alb.ingress.kubernetes.io/group.name", "gas", Some("ReachesBeyond"))]
    #[case::middlewares(
        "annotations",
        "traefik.ingress.kubernetes.io/router.middlewares",
        "gas-strip@kubernetescrd",
        Some("ReachesBeyond")
    )]
    #[case::headers(
        "annotations",
        "nginx.ingress.kubernetes.io/custom-headers",
        "gas/headers",
        Some("ReachesBeyond")
    )]
    #[case::order("annotations", "alb.ingress.kubernetes.io/group.order", "1", None)]
    #[case::action("annotations", "alb.ingress.kubernetes.io/actions.gas", "{}", Some("ReachesBeyond"))]
    #[case::condition(
        "annotations",
        "alb.ingress.kubernetes.io/conditions.gas",
        "[]",
        Some("ReachesBeyond")
    )]
    #[case::our_label("labels", "kamaji.clastix.io/name", "gas", Some("KeyReserved"))]
    #[case::a_label("labels", "team", "oil", None)]
    fn what_controllers_obey_is_not_all_the_authors(
        #[case] kind: &str,
        #[case] key: &str,
        #[case] value: &str,
        #[case] reason: Option<&str>,
    ) {
        let metadata = json!({kind: {key: value}});
        for (part, host) in [("ingress", "oil.example:443"), ("gateway", "oil.example")] {
            let front = json!({part: {"hostname": host, "additionalMetadata": metadata}});
            let found = denials(&tcp(&front, &json!({})), &Own::default(), &Trust::default());
            let reasons: Vec<_> = found.iter().map(|denial| denial.reason.to_string()).collect();
            assert_eq!(reasons, reason.into_iter().collect::<Vec<_>>(), "{part}: {found:?}");
        }
    }

    #[rstest]
    #[case::nobody_limits_them("oil.example", &[], true)]
    #[case::below("oil.customers.example", &["*.customers.example"], true)]
    #[case::further_below("a.oil.customers.example", &["*.customers.example"], true)]
    #[case::itself("api.example", &["*.customers.example", "api.example"], true)]
    #[case::the_domain("customers.example", &["*.customers.example"], false)]
    #[case::longer_label("oil.notcustomers.example", &["*customers.example"], false)]
    #[case::ends_alike("notcustomers.example", &["*.customers.example", "customers.example"], false)]
    #[case::elsewhere("console.example", &["*.customers.example"], false)]
    fn names_are_within_what_administrators_allow(
        #[case] host: &str,
        #[case] allowed: &[&str],
        #[case] accepted: bool,
    ) {
        let trust = Trust {
            hostnames: allowed.iter().map(ToString::to_string).collect(),
            ..Trust::default()
        };
        for front in [
            json!({"ingress": {"hostname": format!("{host}:443")}}),
            json!({"gateway": {"hostname": host, "parentRefs": [{"name": "front"}]}}),
        ] {
            let found = denials(&tcp(&front, &json!({})), &Own::default(), &trust);
            assert_eq!(found.is_empty(), accepted, "{found:?}");
        }
        let found = denials(
            &tcp(&json!({"service": service_named(host)}), &json!({})),
            &Own::default(),
            &trust,
        );
        let accepted = accepted && !allowed.is_empty();
        assert_eq!(found.is_empty(), accepted, "{found:?}");
    }

    fn service_named(names: &str) -> Value {
        let annotations = json!({"external-dns.alpha.kubernetes.io/hostname": names});
        json!({"serviceType": "LoadBalancer", "additionalMetadata": {"annotations": annotations}})
    }

    #[rstest]
    #[case::its_own("oil.example", true)]
    #[case::a_neighbours("gas.example", false)]
    #[case::both("oil.example, gas.example", false)]
    fn services_ask_for_their_own_name_where_nobody_limits_names(#[case] names: &str, #[case] accepted: bool) {
        for front in [
            json!({"service": service_named(names), "ingress": {"hostname": "oil.example:443"}}),
            json!({"service": service_named(names), "gateway": {"hostname": "oil.example"}}),
        ] {
            let found = denials(&tcp(&front, &json!({})), &Own::default(), &Trust::default());
            assert_eq!(found.is_empty(), accepted, "{found:?}");
        }
    }

    #[rstest]
    #[case::nobody_said_so("ClusterIP", "192.0.2.7", &[], false)]
    #[case::within("ClusterIP", "192.0.2.7", &["192.0.2.0/24"], true)]
    #[case::on_node_ports("NodePort", "192.0.2.7", &["192.0.2.0/24"], true)]
    #[case::outside("ClusterIP", "198.51.100.7", &["192.0.2.0/24", "fd00::/64"], false)]
    #[case::no_address("ClusterIP", "address", &["192.0.2.0/24"], false)]
    #[case::its_services_own("ClusterIP", "", &[], true)]
    #[case::without_effect("LoadBalancer", "198.51.100.7", &[], true)]
    fn only_addresses_that_administrators_give_away_are_taken(
        #[case] service: &str,
        #[case] address: &str,
        #[case] given: &[&str],
        #[case] accepted: bool,
    ) {
        let trust = Trust {
            external_ips: given.iter().map(|range| range.parse().unwrap()).collect(),
            ..Trust::default()
        };
        let tcp = tcp(
            &json!({"service": {"serviceType": service}}),
            &json!({"address": address, "allowAddressAsExternalIP": true}),
        );
        let found = denials(&tcp, &Own::default(), &trust);
        assert_eq!(found.is_empty(), accepted, "{found:?}");
    }
}
