//! Ranges, addresses, ports and names of a tenant cluster.
//!
//! A range that overlaps with the admin cluster's or with another tenant's is normal: they are different networks. Two
//! overlapping ranges of one cluster are not, and nothing but a broken cluster would tell.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use api::kamaji::v1alpha1::{NetworkProfile, ServiceSpec, ServiceType, TenantControlPlane};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::effective;
use crate::denial::Denial;
use crate::name::is_dns_label;

/// A node port that is taken in the admin cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenNodePort {
    /// The port.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Namespace and name of the Service; a control plane's own Service has the control plane's.
    pub namespace: String,
    /// See `namespace`.
    pub name: String,
}

/// What is wrong with further names in the API server's certificate.
pub fn cert_sans(profile: &NetworkProfile) -> Vec<Denial> {
    let sans = profile.cert_sans.iter().enumerate();
    sans.filter(|(_, san)| san.parse::<IpAddr>().is_err() && !is_dns_name(san.strip_prefix("*.").unwrap_or(san)))
        .map(|(index, san)| {
            let field = format!("spec.networkProfile.certSANs[{index}]");
            let message = format!(
                "{field}: Invalid value: {san:?}: altname is not a valid IP address, DNS label or a DNS label with subdomain wildcards"
            );
            Denial::new(field, "NameInvalid", message)
        })
        .collect()
}

/// What is wrong with the addresses of the cluster's DNS.
pub fn dns_service_ips(profile: &NetworkProfile) -> Vec<Denial> {
    const FIELD: &str = "spec.networkProfile.dnsServiceIPs";
    if profile.dns_service_ips.is_empty() {
        return Vec::new();
    }
    let written = effective::service_cidrs(profile);
    if written.is_empty() {
        let message = "no service CIDRs defined: give spec.networkProfile.serviceCidrs, which DNS addresses lie in";
        return vec![Denial::new(FIELD, "DNSAddressInvalid", message)];
    }
    let mut ranges = Vec::new();
    for cidr in written {
        match cidr.parse::<IpNet>() {
            Ok(range) => ranges.push(range),
            Err(error) => {
                let message = format!("invalid service CIDR {cidr:?}: {error}");
                return vec![Denial::new("spec.networkProfile.serviceCidrs", "RangeInvalid", message)];
            }
        }
    }
    let wrong = profile
        .dns_service_ips
        .iter()
        .enumerate()
        .filter_map(|(index, written)| {
            let reason = match written.parse::<IpAddr>() {
                Err(_) => "is not a valid IP address",
                Ok(address) if !ranges.iter().any(|range| range.contains(&address)) => {
                    "is not contained in any configured service CIDR"
                }
                Ok(_) => return None,
            };
            let message = format!("DNS service IP \"{written}\" {reason}");
            Some(Denial::new(format!("{FIELD}[{index}]"), "DNSAddressInvalid", message))
        });
    wrong.collect()
}

/// What is wrong with the ranges of pods and Services, alone and together.
pub fn ranges(profile: &NetworkProfile) -> Vec<Denial> {
    let mut denials = Vec::new();
    let mut parsed: Vec<(String, IpNet)> = Vec::new();
    let lists = [
        ("serviceCidr", &profile.service_cidrs, effective::service_cidrs(profile)),
        ("podCidr", &profile.pod_cidrs, effective::pod_cidrs(profile)),
    ];
    for (single, list, written) in lists {
        let field = |index: usize| {
            if list.is_empty() {
                format!("spec.networkProfile.{single}")
            } else {
                format!("spec.networkProfile.{single}s[{index}]")
            }
        };
        if written.is_empty() {
            let message = format!("spec.networkProfile.{single}s: empty, but a cluster needs at least one range");
            denials.push(Denial::new(
                format!("spec.networkProfile.{single}s"),
                "RangeMissing",
                message,
            ));
        }
        let mut families = BTreeSet::new();
        for (index, cidr) in written.into_iter().enumerate() {
            match cidr.parse::<IpNet>() {
                Err(error) => {
                    let message = format!(
                        "{}: {cidr:?} is not a range ({error}); write it as 10.96.0.0/16",
                        field(index)
                    );
                    denials.push(Denial::new(field(index), "RangeInvalid", message));
                }
                Ok(range) => {
                    if !families.insert(range.addr().is_ipv4()) {
                        let message = format!(
                            "{}: {cidr} is the second range of its IP family; Kubernetes takes one IPv4 and one IPv6 range",
                            field(index)
                        );
                        denials.push(Denial::new(field(index), "RangeInvalid", message));
                    }
                    parsed.push((field(index), range));
                }
            }
        }
    }
    for (index, (field, range)) in parsed.iter().enumerate() {
        for (earlier, other) in &parsed[..index] {
            if range.contains(&other.network()) || other.contains(&range.network()) {
                let message = format!(
                    "{field}: {range} overlaps {other} of {earlier}; the ranges of one cluster have to be apart (those of other clusters do not matter)"
                );
                denials.push(Denial::new(field.clone(), "RangesOverlap", message));
            }
        }
    }
    denials
}

/// What is wrong with addresses and the DNS domain.
pub fn addresses(tcp: &TenantControlPlane) -> Vec<Denial> {
    let profile = &tcp.spec.network_profile;
    let mut denials = Vec::new();
    for (name, address) in [
        ("address", &profile.address),
        ("advertiseAddress", &profile.advertise_address),
    ] {
        let Some(address) = address.as_deref().filter(|address| !address.is_empty()) else {
            continue;
        };
        let problem = match address.parse::<IpAddr>() {
            Err(_) => "is not an IP address, and an API server advertises nothing else",
            Ok(address) if address.is_unspecified() || address.is_loopback() || address.is_multicast() => {
                "is not an address under which others reach an API server"
            }
            Ok(_) => continue,
        };
        let field = format!("spec.networkProfile.{name}");
        denials.push(Denial::new(
            field.clone(),
            "AddressInvalid",
            format!("{field}: {address:?} {problem}"),
        ));
    }
    // Written into the DNS server's configuration and into every kubelet's, so it has to be a name and nothing else.
    if !is_dns_name(&profile.cluster_domain) {
        let message = format!(
            "spec.networkProfile.clusterDomain: {:?} is not a DNS domain; write it as cluster.local",
            profile.cluster_domain
        );
        denials.push(Denial::new("spec.networkProfile.clusterDomain", "NameInvalid", message));
    }
    denials
}

/// What is wrong with the ports of the Service. `range` is the admin cluster's node port range.
pub fn ports(tcp: &TenantControlPlane, range: &RangeInclusive<i32>, taken: &[TakenNodePort]) -> Vec<Denial> {
    const PORT: &str = "spec.networkProfile.port";
    let port = tcp.spec.network_profile.port;
    let service = &tcp.spec.control_plane.service;
    let mut denials = additional_ports(service, port);
    if !(1..=65535).contains(&port) {
        let message = format!("{PORT}: {port} is not a port; ports are 1 to 65535");
        denials.push(Denial::new(PORT, "PortInvalid", message));
        return denials;
    }
    // 10257 and 10259: the controller manager and the scheduler listen in the same pod.
    if matches!(port, 10257 | 10259) {
        let message = format!("{PORT}: {port} is taken in the control plane's pod by another part of Kubernetes");
        denials.push(Denial::new(PORT, "PortTaken", message));
    }
    if service.service_type != ServiceType::NodePort {
        return denials;
    }
    if !range.contains(&port) {
        let message = format!(
            "{PORT}: {port} is outside of this cluster's node port range {}-{}, and with service type NodePort the port is opened on the nodes; the range is set by the flag --service-node-port-range of the API server",
            range.start(),
            range.end()
        );
        denials.push(Denial::new(PORT, "PortOutOfRange", message));
    }
    let own = |taken: &TakenNodePort| {
        Some(taken.namespace.as_str()) == tcp.metadata.namespace.as_deref()
            && Some(taken.name.as_str()) == tcp.metadata.name.as_deref()
    };
    if taken
        .iter()
        .any(|taken| taken.port == port && taken.protocol == "TCP" && !own(taken))
    {
        // Not by whom: the author need not know the neighbours.
        let message = format!("{PORT}: {port} is taken on the nodes by another Service; choose another port");
        denials.push(Denial::new(PORT, "PortTaken", message));
    }
    denials
}

fn additional_ports(service: &ServiceSpec, own: i32) -> Vec<Denial> {
    let mut denials = Vec::new();
    let mut names = BTreeSet::from(["kube-apiserver", "konnectivity-server"]);
    let mut ports = BTreeSet::from([(own, "TCP")]);
    for (index, port) in service.additional_ports.iter().enumerate() {
        let field = format!("spec.controlPlane.service.additionalPorts[{index}]");
        let mut deny = |part: &str, reason, message: String| {
            denials.push(Denial::new(
                format!("{field}.{part}"),
                reason,
                format!("{field}.{part}: {message}"),
            ));
        };
        if !is_dns_label(&port.name) {
            deny(
                "name",
                "NameInvalid",
                format!("{:?} is not a port name; lower-case letters, digits and '-'", port.name),
            );
        } else if !names.insert(&port.name) {
            deny(
                "name",
                "PortTaken",
                format!("{:?} is the name of another port of the Service", port.name),
            );
        }
        if !(1..=65535).contains(&port.port) {
            deny(
                "port",
                "PortInvalid",
                format!("{} is not a port; ports are 1 to 65535", port.port),
            );
        } else if !ports.insert((port.port, &port.protocol)) {
            deny(
                "port",
                "PortTaken",
                format!("{} is another port of the Service", port.port),
            );
        }
        match &port.target_port {
            IntOrString::Int(target) if !(1..=65535).contains(target) => {
                deny(
                    "targetPort",
                    "PortInvalid",
                    format!("{target} is not a port; ports are 1 to 65535"),
                );
            }
            IntOrString::String(target) if target.is_empty() => {
                deny(
                    "targetPort",
                    "PortInvalid",
                    "empty; give a port or a port's name".into(),
                );
            }
            _ => {}
        }
    }
    denials
}

/// What to say about settings that are accepted.
pub fn warnings(tcp: &TenantControlPlane) -> Vec<String> {
    let profile = &tcp.spec.network_profile;
    let mut warnings = Vec::new();
    let default = NetworkProfile::default();
    let singles = [
        (
            "serviceCidr",
            &profile.service_cidr,
            &default.service_cidr,
            &profile.service_cidrs,
        ),
        ("podCidr", &profile.pod_cidr, &default.pod_cidr, &profile.pod_cidrs),
    ];
    for (name, single, default, list) in singles {
        if single == default || single.is_empty() || list.as_slice() == [single.clone()] {
            continue;
        }
        let field = format!("spec.networkProfile.{name}");
        warnings.push(if list.is_empty() {
            format!("{field} is deprecated, use {field}s")
        } else {
            format!("{field} {single} has no effect, because {field}s is set")
        });
    }
    let unaddressed = profile.address.as_deref().unwrap_or_default().is_empty();
    if tcp.spec.control_plane.service.service_type == ServiceType::NodePort && unaddressed {
        warnings.push(
            "spec.networkProfile.address is not set: with service type NodePort the control plane waits until it is"
                .into(),
        );
    }
    warnings
}

/// A name that DNS takes, in lower case: labels of up to 63 characters, which is narrower than a subdomain in
/// Kubernetes' sense.
pub fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use api::kamaji::v1alpha1::AdditionalPort;
    use rstest::rstest;

    use super::*;

    fn reasons(denials: &[Denial]) -> Vec<(&str, String)> {
        denials
            .iter()
            .map(|denial| (denial.field.as_str(), denial.reason.to_string()))
            .collect()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[rstest]
    #[case::address("10.0.0.1", true)]
    #[case::address_v6("fd00::1", true)]
    #[case::name("api.oil.example", true)]
    #[case::wildcard("*.oil.example", true)]
    #[case::single_label("api", true)]
    #[case::upper_case("API.oil", false)]
    #[case::inner_wildcard("a.*.example", false)]
    #[case::two_wildcards("*.*.example", false)]
    #[case::only_a_wildcard("*", false)]
    #[case::a_url("https://oil", false)]
    #[case::with_port("oil:6443", false)]
    #[case::empty("", false)]
    #[case::line_break("oil\n.example", false)]
    fn certificates_take_names_and_addresses(#[case] san: &str, #[case] accepted: bool) {
        let profile = NetworkProfile {
            cert_sans: strings(&["ok.example", san]),
            ..Default::default()
        };
        let denials = cert_sans(&profile);
        assert_eq!(denials.is_empty(), accepted, "{denials:?}");
        assert!(
            denials
                .iter()
                .all(|denial| denial.field == "spec.networkProfile.certSANs[1]")
        );
    }

    #[rstest]
    #[case::within(&["10.96.0.10"], None)]
    #[case::outside(&["10.97.0.10"], Some("DNS service IP \"10.97.0.10\" is not contained in any configured service CIDR"))]
    #[case::not_an_address(&["dns"], Some("DNS service IP \"dns\" is not a valid IP address"))]
    #[case::second_is_wrong(&["10.96.0.10", "::1"], Some("DNS service IP \"::1\" is not contained in any configured service CIDR"))]
    fn dns_lies_in_the_services_range(#[case] addresses: &[&str], #[case] message: Option<&str>) {
        let profile = NetworkProfile {
            dns_service_ips: strings(addresses),
            ..Default::default()
        };
        assert_eq!(
            dns_service_ips(&profile).first().map(|denial| denial.message.as_str()),
            message
        );
    }

    #[test]
    fn dns_addresses_need_ranges_to_lie_in() {
        let mut profile = NetworkProfile {
            dns_service_ips: strings(&["10.96.0.10"]),
            ..Default::default()
        };
        profile.service_cidr = String::new();
        assert!(
            dns_service_ips(&profile)[0]
                .message
                .starts_with("no service CIDRs defined")
        );
        profile.service_cidr = "10.96.0.0/33".into();
        assert!(
            dns_service_ips(&profile)[0]
                .message
                .starts_with("invalid service CIDR ")
        );
    }

    #[rstest]
    #[case::apart(&["10.96.0.0/16"], &["10.244.0.0/16"], &[])]
    #[case::neighbours(&["10.96.0.0/16"], &["10.97.0.0/16"], &[])]
    #[case::dual_stack(&["10.96.0.0/16", "fd00:1::/112"], &["10.244.0.0/16", "fd00:2::/64"], &[])]
    #[case::equal(&["10.96.0.0/16"], &["10.96.0.0/16"], &[("spec.networkProfile.podCidrs[0]", "RangesOverlap")])]
    #[case::pods_within_services(&["10.96.0.0/12"], &["10.100.0.0/16"], &[("spec.networkProfile.podCidrs[0]", "RangesOverlap")])]
    #[case::services_within_pods(&["10.244.7.0/24"], &["10.244.0.0/16"], &[("spec.networkProfile.podCidrs[0]", "RangesOverlap")])]
    #[case::host_bits_do_not_hide_it(&["10.96.255.7/16"], &["10.96.3.0/24"], &[("spec.networkProfile.podCidrs[0]", "RangesOverlap")])]
    #[case::second_family_overlaps(&["10.96.0.0/16", "fd00::/64"], &["10.244.0.0/16", "fd00::/112"], &[("spec.networkProfile.podCidrs[1]", "RangesOverlap")])]
    #[case::two_of_one_family(&["10.96.0.0/16", "10.97.0.0/16"], &["10.244.0.0/16"], &[("spec.networkProfile.serviceCidrs[1]", "RangeInvalid")])]
    #[case::nonsense(&["10.96.0.0"], &["10.244.0.0/16"], &[("spec.networkProfile.serviceCidrs[0]", "RangeInvalid")])]
    fn ranges_of_one_cluster_are_apart(
        #[case] services: &[&str],
        #[case] pods: &[&str],
        #[case] expected: &[(&str, &str)],
    ) {
        let profile = NetworkProfile {
            service_cidrs: strings(services),
            pod_cidrs: strings(pods),
            ..Default::default()
        };
        let expected: Vec<_> = expected
            .iter()
            .map(|(field, reason)| (*field, (*reason).to_owned()))
            .collect();
        assert_eq!(reasons(&ranges(&profile)), expected);
    }

    #[test]
    fn the_defaults_are_apart_and_a_cluster_without_ranges_is_refused() {
        assert!(ranges(&NetworkProfile::default()).is_empty());
        let none = NetworkProfile {
            service_cidr: String::new(),
            ..Default::default()
        };
        assert_eq!(
            reasons(&ranges(&none)),
            [("spec.networkProfile.serviceCidrs", "RangeMissing".to_owned())]
        );
    }

    fn tcp(type_: ServiceType, port: i32) -> TenantControlPlane {
        let mut tcp = TenantControlPlane::default();
        tcp.metadata.namespace = Some("prod".into());
        tcp.metadata.name = Some("oil".into());
        tcp.spec.control_plane.service.service_type = type_;
        tcp.spec.network_profile.port = port;
        tcp
    }

    fn taken(port: i32, namespace: &str, name: &str) -> TakenNodePort {
        TakenNodePort {
            port,
            protocol: "TCP".into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[rstest]
    #[case::cluster_ip_may_have_any(ServiceType::ClusterIP, 6443, None)]
    #[case::load_balancer_may_have_any(ServiceType::LoadBalancer, 443, None)]
    #[case::node_port_in_range(ServiceType::NodePort, 31443, None)]
    #[case::own_service_has_it(ServiceType::NodePort, 31000, None)]
    #[case::outside(ServiceType::NodePort, 6443, Some("PortOutOfRange"))]
    #[case::a_neighbour_has_it(ServiceType::NodePort, 31001, Some("PortTaken"))]
    #[case::same_name_elsewhere_has_it(ServiceType::NodePort, 31002, Some("PortTaken"))]
    #[case::a_neighbours_port_inside_a_cluster_ip_is_free(ServiceType::ClusterIP, 31001, None)]
    #[case::udp_is_another_port(ServiceType::NodePort, 31003, None)]
    #[case::zero(ServiceType::ClusterIP, 0, Some("PortInvalid"))]
    #[case::negative(ServiceType::NodePort, -1, Some("PortInvalid"))]
    #[case::too_large(ServiceType::ClusterIP, 65536, Some("PortInvalid"))]
    #[case::the_schedulers(ServiceType::ClusterIP, 10259, Some("PortTaken"))]
    fn node_ports_are_in_range_and_free(#[case] type_: ServiceType, #[case] port: i32, #[case] reason: Option<&str>) {
        let mut others = vec![
            taken(31000, "prod", "oil"),
            taken(31001, "prod", "gas"),
            taken(31002, "dev", "oil"),
        ];
        others.push(TakenNodePort {
            protocol: "UDP".into(),
            ..taken(31003, "dev", "dns")
        });
        let denials = ports(&tcp(type_, port), &(30000..=32767), &others);
        assert_eq!(
            denials.first().map(|denial| denial.reason.to_string()).as_deref(),
            reason,
            "{denials:?}"
        );
        assert!(
            denials.iter().all(|denial| !denial.message.contains("gas")),
            "neighbours are not named"
        );
    }

    #[test]
    fn additional_ports_differ_from_each_other_and_from_the_api_servers() {
        let mut tcp = tcp(ServiceType::ClusterIP, 6443);
        let port = |name: &str, port, target| AdditionalPort {
            name: name.into(),
            port,
            target_port: IntOrString::Int(target),
            protocol: "TCP".into(),
            app_protocol: None,
        };
        tcp.spec.control_plane.service.additional_ports = vec![
            port("metrics", 9000, 9000),
            port("metrics", 6443, 0),
            port("kube-apiserver", 9000, 1),
        ];
        let denials = ports(&tcp, &(30000..=32767), &[]);
        let found = reasons(&denials);
        let at = |index: usize, part: &str| format!("spec.controlPlane.service.additionalPorts[{index}].{part}");
        let expected = [
            (at(1, "name"), "PortTaken"),
            (at(1, "port"), "PortTaken"),
            (at(1, "targetPort"), "PortInvalid"),
            (at(2, "name"), "PortTaken"),
            (at(2, "port"), "PortTaken"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(field, reason)| (field.as_str(), (*reason).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::normal("10.0.0.7", "cluster.local", &[])]
    #[case::v6("fd00::7", "oil.example", &[])]
    #[case::a_name("oil.example", "cluster.local", &["AddressInvalid"])]
    #[case::with_port("10.0.0.7:6443", "cluster.local", &["AddressInvalid"])]
    #[case::unspecified("0.0.0.0", "cluster.local", &["AddressInvalid"])]
    #[case::loopback("127.0.0.1", "cluster.local", &["AddressInvalid"])]
    #[case::domain_that_ends_the_block("10.0.0.7", "a.b {\n}\n. {\n forward . 10.0.0.1", &["NameInvalid"])]
    #[case::domain_with_a_space("10.0.0.7", "a. b", &["NameInvalid"])]
    fn addresses_and_domains_are_just_that(#[case] address: &str, #[case] domain: &str, #[case] expected: &[&str]) {
        let mut tcp = tcp(ServiceType::ClusterIP, 6443);
        tcp.spec.network_profile.address = Some(address.into());
        tcp.spec.network_profile.cluster_domain = domain.into();
        let found: Vec<_> = addresses(&tcp).iter().map(|denial| denial.reason.to_string()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn deprecated_and_ineffective_ranges_are_pointed_out() {
        let mut tcp = tcp(ServiceType::NodePort, 31443);
        assert_eq!(warnings(&tcp).len(), 1, "no address");
        tcp.spec.network_profile.address = Some("10.0.0.1".into());
        assert!(warnings(&tcp).is_empty());
        tcp.spec.network_profile.service_cidr = "10.1.0.0/16".into();
        assert_eq!(
            warnings(&tcp),
            ["spec.networkProfile.serviceCidr is deprecated, use spec.networkProfile.serviceCidrs"]
        );
        tcp.spec.network_profile.service_cidrs = strings(&["10.1.0.0/16"]);
        assert!(warnings(&tcp).is_empty(), "the same range, filled in by us");
        tcp.spec.network_profile.service_cidrs = strings(&["10.2.0.0/16"]);
        assert!(warnings(&tcp)[0].ends_with("has no effect, because spec.networkProfile.serviceCidrs is set"));
    }
}
