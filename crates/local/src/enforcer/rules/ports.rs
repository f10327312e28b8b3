//! Ports of a rule as nft conditions. A port's name is looked up in the pod that is called.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::ranges::Family;
use super::world::Endpoint;

/// The ports of one rule, by protocol.
#[derive(Default)]
pub(super) struct Ports {
    any: bool,
    /// Protocols of which every port is allowed.
    whole: BTreeSet<String>,
    numbers: BTreeMap<String, BTreeSet<(i32, i32)>>,
    named: BTreeMap<String, BTreeSet<(IpAddr, i32)>>,
}

impl Ports {
    pub(super) fn of(ports: &[NetworkPolicyPort], called: &[&Endpoint<'_>]) -> Self {
        let mut result = Self {
            any: ports.is_empty(),
            ..Self::default()
        };
        for port in ports {
            let protocol = protocol(port.protocol.as_deref());
            match &port.port {
                None => {
                    result.whole.insert(protocol);
                }
                Some(IntOrString::Int(number)) => {
                    let range = (*number, port.end_port.unwrap_or(*number));
                    result.numbers.entry(protocol).or_default().insert(range);
                }
                Some(IntOrString::String(name)) => {
                    for pod in called {
                        for (_, _, number) in pod.ports.iter().filter(|(n, p, _)| *n == name && *p == protocol) {
                            let tuples = pod.addresses.iter().map(|address| (*address, *number));
                            result.named.entry(protocol.clone()).or_default().extend(tuples);
                        }
                    }
                }
            }
        }
        result
    }

    /// What to add to a rule's matches; one rule per entry, none when nothing is allowed.
    pub(super) fn conditions(&self, family: Family) -> Vec<String> {
        if self.any {
            return vec![String::new()];
        }
        let mut conditions: Vec<String> = self.whole.iter().map(|p| format!(" meta l4proto {p}")).collect();
        for (protocol, numbers) in &self.numbers {
            let list: Vec<String> = join_ports(numbers)
                .into_iter()
                .map(|(from, to)| {
                    if from == to {
                        from.to_string()
                    } else {
                        format!("{from}-{to}")
                    }
                })
                .collect();
            conditions.push(format!(" {protocol} dport {{ {} }}", list.join(", ")));
        }
        for (protocol, tuples) in &self.named {
            let list: Vec<String> = tuples
                .iter()
                .filter(|(address, _)| family.holds(*address))
                .map(|(address, number)| format!("{address} . {number}"))
                .collect();
            if !list.is_empty() {
                conditions.push(format!(
                    " {} daddr . {protocol} dport {{ {} }}",
                    family.keyword(),
                    list.join(", ")
                ));
            }
        }
        conditions
    }
}

/// Overlapping ranges are an error inside one nft set.
fn join_ports(ranges: &BTreeSet<(i32, i32)>) -> Vec<(i32, i32)> {
    let mut joined: Vec<(i32, i32)> = Vec::new();
    for &(from, to) in ranges.iter().filter(|(from, to)| from <= to) {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// nft's spelling; anything unknown is kept out of the script by being treated as TCP, which the API server defaults to.
pub(super) fn protocol(name: Option<&str>) -> String {
    match name {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
    .to_owned()
}
