//! One direction of the rules: whom policies isolate in it, and what they allow all the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};

use super::ports::Ports;
use super::ranges::{Family, Range, block_ranges, merge, set};
use super::world::{Endpoint, World};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Egress,
    Ingress,
}

/// One rule of one policy, in either direction.
pub(super) struct Allowance<'a> {
    title: &'a str,
    namespace: &'a str,
    subjects: &'a [&'a Endpoint<'a>],
    /// Empty means everybody.
    peers: &'a [NetworkPolicyPeer],
    /// Empty means every port of every protocol.
    ports: &'a [NetworkPolicyPort],
}

impl<'a> Allowance<'a> {
    pub(super) fn new(
        title: &'a str,
        namespace: &'a str,
        subjects: &'a [&'a Endpoint<'a>],
        peers: Option<&'a [NetworkPolicyPeer]>,
        ports: Option<&'a [NetworkPolicyPort]>,
    ) -> Self {
        Self {
            title,
            namespace,
            subjects,
            peers: peers.unwrap_or_default(),
            ports: ports.unwrap_or_default(),
        }
    }
}

/// The rules of one direction, in the making.
pub(super) struct Stage {
    direction: Direction,
    isolated: BTreeSet<IpAddr>,
    pub(super) rules: String,
}

impl Stage {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            isolated: BTreeSet::new(),
            rules: String::new(),
        }
    }

    pub(super) fn isolate(&mut self, subjects: &[&Endpoint<'_>]) {
        self.isolated
            .extend(subjects.iter().flat_map(|subject| subject.addresses.iter().copied()));
    }

    /// Nobody can be cut off from itself, not even by way of a Service.
    pub(super) fn loopback(&self) -> String {
        let mut rules = String::new();
        for family in Family::BOTH {
            let own: Vec<String> = self
                .isolated
                .iter()
                .filter(|address| family.holds(**address))
                .map(|address| format!("{address} . {address}"))
                .collect();
            if !own.is_empty() {
                let (keyword, verdict) = (family.keyword(), self.verdict());
                let _ = writeln!(
                    rules,
                    "\t\t{keyword} saddr . {keyword} daddr {{ {} }} {verdict}",
                    own.join(", ")
                );
            }
        }
        rules
    }

    fn verdict(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "goto arriving",
            Direction::Ingress => "accept",
        }
    }

    pub(super) fn sets(&self, script: &mut String) {
        let name = match self.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        for (family, suffix, kind) in [(Family::V4, "4", "ipv4_addr"), (Family::V6, "6", "ipv6_addr")] {
            let elements: Vec<String> = self
                .isolated
                .iter()
                .filter(|a| family.holds(**a))
                .map(ToString::to_string)
                .collect();
            let _ = writeln!(script, "\tset {name}_{suffix} {{\n\t\ttype {kind}");
            if !elements.is_empty() {
                let _ = writeln!(script, "\t\telements = {{ {} }}", elements.join(", "));
            }
            let _ = writeln!(script, "\t}}");
        }
    }

    pub(super) fn allow(&mut self, world: &World<'_>, allowance: &Allowance<'_>) {
        let everybody = allowance.peers.is_empty();
        let mut peer_pods: Vec<&Endpoint<'_>> = Vec::new();
        let mut ranges: Vec<Range> = Vec::new();
        for peer in allowance.peers {
            for pod in world.peers(allowance.namespace, peer) {
                ranges.extend(pod.addresses.iter().map(|address| Range::single(*address)));
                peer_pods.push(pod);
            }
            if let Some(block) = &peer.ip_block {
                ranges.extend(block_ranges(&block.cidr, block.except.as_deref().unwrap_or_default()));
            }
        }
        if everybody {
            peer_pods.extend(world.endpoints);
        }
        let ranges = merge(ranges);
        // A port's name is looked up in the pod that is being called.
        let called: &[&Endpoint<'_>] = match self.direction {
            Direction::Egress => &peer_pods,
            Direction::Ingress => allowance.subjects,
        };
        let ports = Ports::of(allowance.ports, called);

        for family in Family::BOTH {
            let subjects = merge(
                allowance
                    .subjects
                    .iter()
                    .flat_map(|pod| &pod.addresses)
                    .filter(|address| family.holds(**address))
                    .map(|address| Range::single(*address))
                    .collect(),
            );
            let peers: Vec<Range> = ranges
                .iter()
                .copied()
                .filter(|range| range.v4 == (family == Family::V4))
                .collect();
            if subjects.is_empty() || (!everybody && peers.is_empty()) {
                continue;
            }
            let keyword = family.keyword();
            let (subject_side, peer_side) = match self.direction {
                Direction::Egress => ("saddr", "daddr"),
                Direction::Ingress => ("daddr", "saddr"),
            };
            let mut matches = format!("{keyword} {subject_side} {}", set(&subjects));
            if !everybody {
                let _ = write!(matches, " {keyword} {peer_side} {}", set(&peers));
            }
            let tail = format!("{} comment \"{}\"", self.verdict(), comment(allowance.title));
            for condition in ports.conditions(family) {
                let _ = writeln!(self.rules, "\t\t{matches}{condition} {tail}");
            }
        }
    }
}

/// nft comments are short and quoted. Object names cannot hold a quote, but this is text that a tenant wrote.
fn comment(title: &str) -> String {
    title
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-./:".contains(*c))
        .take(100)
        .collect()
}
