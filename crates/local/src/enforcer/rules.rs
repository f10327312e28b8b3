//! Pods, namespaces and policies to an nft script, without touching anything.
//!
//! A new connection from A to B must be allowed by the policies that select A for egress and by those that select B for
//! ingress. The script says so with `goto` instead of packet marks: whatever leaves the egress stage goes on to the ingress
//! stage, and the end of each stage is a drop. Packets between two pods of one bridge reach the `forward` hook because
//! `bridge-nf-call-iptables` is on; packets from a pod to the node itself reach `input`, where only egress can refuse them.
//! Packets from the node to its pods (kubelet's probes) pass `output`, which is not hooked.
//!
//! The whole table is replaced in one transaction, so there is no moment without rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The nftables table that belongs to us, in family `inet`.
pub const TABLE: &str = "cotenant-policy";

/// What the API server said last.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub namespaces: Vec<Arc<Namespace>>,
    pub pods: Vec<Arc<Pod>>,
    pub policies: Vec<Arc<NetworkPolicy>>,
}

/// The script that makes the table say what the snapshot says. Feed it to `nft -f -`.
pub fn render(snapshot: &Snapshot) -> String {
    let endpoints: Vec<Endpoint<'_>> = snapshot.pods.iter().filter_map(|pod| Endpoint::of(pod)).collect();
    let namespaces: BTreeMap<&str, BTreeMap<String, String>> = snapshot
        .namespaces
        .iter()
        .filter_map(|ns| {
            Some((
                ns.metadata.name.as_deref()?,
                ns.metadata.labels.clone().unwrap_or_default(),
            ))
        })
        .collect();
    let world = World {
        endpoints: &endpoints,
        namespaces: &namespaces,
    };

    let mut policies: Vec<&NetworkPolicy> = snapshot.policies.iter().map(AsRef::as_ref).collect();
    policies.sort_by_key(|policy| (policy.metadata.namespace.as_deref(), policy.metadata.name.as_deref()));

    let mut egress = Stage::new(Direction::Egress);
    let mut ingress = Stage::new(Direction::Ingress);
    for policy in policies {
        let Some(spec) = &policy.spec else { continue };
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let title = format!("{namespace}/{}", policy.metadata.name.as_deref().unwrap_or_default());
        let subjects = world.pods_in(namespace, spec.pod_selector.as_ref());
        let types = spec.policy_types.as_deref().unwrap_or_default();
        // The API server fills in the types; the fallback is the rule it would have used.
        let egress_applies = types.iter().any(|t| t == "Egress") || (types.is_empty() && spec.egress.is_some());
        let ingress_applies = types.iter().any(|t| t == "Ingress") || types.is_empty();
        if egress_applies {
            egress.isolate(&subjects);
            for rule in spec.egress.iter().flatten() {
                egress.allow(&world, &Allowance::egress(&title, namespace, &subjects, rule));
            }
        }
        if ingress_applies {
            ingress.isolate(&subjects);
            for rule in spec.ingress.iter().flatten() {
                ingress.allow(&world, &Allowance::ingress(&title, namespace, &subjects, rule));
            }
        }
    }

    let mut script = String::new();
    // Declaring first makes the deletion valid on the first run as well.
    let _ = writeln!(
        script,
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{"
    );
    egress.sets(&mut script);
    ingress.sets(&mut script);
    for hook in ["forward", "input"] {
        let _ = writeln!(
            script,
            "\tchain {hook} {{\n\t\ttype filter hook {hook} priority filter; policy accept;\n\
             \t\tct state established,related accept\n\
             \t\ticmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }} accept\n\
             \t\tgoto leaving\n\t}}"
        );
    }
    let _ = writeln!(
        script,
        "\tchain leaving {{\n\t\tip saddr @egress_4 goto egress\n\t\tip6 saddr @egress_6 goto egress\n\t\tgoto arriving\n\t}}"
    );
    let _ = writeln!(
        script,
        "\tchain egress {{\n{}{}\t\tdrop\n\t}}",
        egress.loopback(),
        egress.rules
    );
    let _ = writeln!(
        script,
        "\tchain arriving {{\n\t\tip daddr @ingress_4 goto ingress\n\t\tip6 daddr @ingress_6 goto ingress\n\t}}"
    );
    let _ = writeln!(
        script,
        "\tchain ingress {{\n{}{}\t\tdrop\n\t}}\n}}",
        ingress.loopback(),
        ingress.rules
    );
    script
}

/// The script that leaves nothing behind.
pub fn remove() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// A pod that policies can select: it has addresses of its own and has not ended.
struct Endpoint<'a> {
    namespace: &'a str,
    labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    /// Name, protocol in lower case, number.
    ports: Vec<(&'a str, String, i32)>,
}

impl<'a> Endpoint<'a> {
    fn of(pod: &'a Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref()?;
        if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let addresses: Vec<IpAddr> = status
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|address| address.ip.parse().ok())
            .collect();
        if addresses.is_empty() {
            return None;
        }
        // Sidecars are init containers that keep running, and their ports have names as well.
        let ports = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                Some((
                    port.name.as_deref()?,
                    protocol(port.protocol.as_deref()),
                    port.container_port,
                ))
            })
            .collect();
        Some(Self {
            namespace: pod.metadata.namespace.as_deref()?,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses,
            ports,
        })
    }
}

struct World<'a> {
    endpoints: &'a [Endpoint<'a>],
    namespaces: &'a BTreeMap<&'a str, BTreeMap<String, String>>,
}

impl<'a> World<'a> {
    fn pods_in(&self, namespace: &str, selector: Option<&LabelSelector>) -> Vec<&'a Endpoint<'a>> {
        self.endpoints
            .iter()
            .filter(|pod| pod.namespace == namespace && selector.is_none_or(|s| selects(s, &pod.labels)))
            .collect()
    }

    /// Pods that a peer names. `own` is the policy's namespace, which a lone pod selector refers to.
    fn peers(&self, own: &str, peer: &NetworkPolicyPeer) -> Vec<&'a Endpoint<'a>> {
        if peer.ip_block.is_some() || (peer.namespace_selector.is_none() && peer.pod_selector.is_none()) {
            return Vec::new();
        }
        self.endpoints
            .iter()
            .filter(|pod| match &peer.namespace_selector {
                None => pod.namespace == own,
                Some(selector) => self
                    .namespaces
                    .get(pod.namespace)
                    .is_some_and(|labels| selects(selector, labels)),
            })
            .filter(|pod| {
                peer.pod_selector
                    .as_ref()
                    .is_none_or(|selector| selects(selector, &pod.labels))
            })
            .collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Egress,
    Ingress,
}

/// One rule of one policy, in either direction.
struct Allowance<'a> {
    title: &'a str,
    namespace: &'a str,
    subjects: &'a [&'a Endpoint<'a>],
    /// Empty means everybody.
    peers: &'a [NetworkPolicyPeer],
    /// Empty means every port of every protocol.
    ports: &'a [NetworkPolicyPort],
}

impl<'a> Allowance<'a> {
    fn egress(
        title: &'a str,
        namespace: &'a str,
        subjects: &'a [&'a Endpoint<'a>],
        rule: &'a NetworkPolicyEgressRule,
    ) -> Self {
        let (peers, ports) = (
            rule.to.as_deref().unwrap_or_default(),
            rule.ports.as_deref().unwrap_or_default(),
        );
        Self {
            title,
            namespace,
            subjects,
            peers,
            ports,
        }
    }

    fn ingress(
        title: &'a str,
        namespace: &'a str,
        subjects: &'a [&'a Endpoint<'a>],
        rule: &'a NetworkPolicyIngressRule,
    ) -> Self {
        let (peers, ports) = (
            rule.from.as_deref().unwrap_or_default(),
            rule.ports.as_deref().unwrap_or_default(),
        );
        Self {
            title,
            namespace,
            subjects,
            peers,
            ports,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// The rules of one direction, in the making.
struct Stage {
    direction: Direction,
    isolated: BTreeSet<IpAddr>,
    rules: String,
}

impl Stage {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            isolated: BTreeSet::new(),
            rules: String::new(),
        }
    }

    fn isolate(&mut self, subjects: &[&Endpoint<'_>]) {
        self.isolated
            .extend(subjects.iter().flat_map(|subject| subject.addresses.iter().copied()));
    }

    /// Nobody can be cut off from itself, not even by way of a Service.
    fn loopback(&self) -> String {
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

    fn sets(&self, script: &mut String) {
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

    fn allow(&mut self, world: &World<'_>, allowance: &Allowance<'_>) {
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

/// The ports of one rule, by protocol.
#[derive(Default)]
struct Ports {
    any: bool,
    /// Protocols of which every port is allowed.
    whole: BTreeSet<String>,
    numbers: BTreeMap<String, BTreeSet<(i32, i32)>>,
    named: BTreeMap<String, BTreeSet<(IpAddr, i32)>>,
}

impl Ports {
    fn of(ports: &[NetworkPolicyPort], called: &[&Endpoint<'_>]) -> Self {
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
    fn conditions(&self, family: Family) -> Vec<String> {
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
fn protocol(name: Option<&str>) -> String {
    match name {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
    .to_owned()
}

/// nft comments are short and quoted. Object names cannot hold a quote, but this is text that a tenant wrote.
fn comment(title: &str) -> String {
    title
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-./:".contains(*c))
        .take(100)
        .collect()
}

/// Addresses from the first to the last, inclusive, as numbers of their family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    v4: bool,
    first: u128,
    last: u128,
}

impl Range {
    fn single(address: IpAddr) -> Self {
        let number = number(address);
        Self {
            v4: address.is_ipv4(),
            first: number,
            last: number,
        }
    }

    fn network(net: &IpNet) -> Self {
        Self {
            v4: net.addr().is_ipv4(),
            first: number(net.network()),
            last: number(net.broadcast()),
        }
    }

    fn show(self) -> String {
        let address = |number: u128| -> String {
            match u32::try_from(number) {
                Ok(small) if self.v4 => Ipv4Addr::from(small).to_string(),
                _ => Ipv6Addr::from(number).to_string(),
            }
        };
        if self.first == self.last {
            address(self.first)
        } else {
            format!("{}-{}", address(self.first), address(self.last))
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A block without its exceptions. An unparsable block allows nothing, an unparsable exception takes the whole block.
fn block_ranges(cidr: &str, except: &[String]) -> Vec<Range> {
    let Ok(net) = cidr.parse::<IpNet>() else {
        return Vec::new();
    };
    let Ok(holes) = except.iter().map(|e| e.parse::<IpNet>()).collect::<Result<Vec<_>, _>>() else {
        return Vec::new();
    };
    let whole = Range::network(&net);
    let mut left = vec![whole];
    for hole in holes.iter().map(Range::network).filter(|hole| hole.v4 == whole.v4) {
        left = left
            .into_iter()
            .flat_map(|range| {
                if hole.last < range.first || hole.first > range.last {
                    return vec![range];
                }
                let mut parts = Vec::new();
                if hole.first > range.first {
                    parts.push(Range {
                        last: hole.first - 1,
                        ..range
                    });
                }
                if hole.last < range.last {
                    parts.push(Range {
                        first: hole.last + 1,
                        ..range
                    });
                }
                parts
            })
            .collect();
    }
    left
}

fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.v4 == range.v4 && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn set(ranges: &[Range]) -> String {
    let elements: Vec<String> = ranges.iter().map(|range| range.show()).collect();
    format!("{{ {} }}", elements.join(", "))
}

/// Kubernetes' meaning of a label selector; an operator that does not exist selects nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(namespace: &str, labels: Value, address: &str) -> Value {
        json!({
            "metadata": {"namespace": namespace, "name": format!("p-{address}"), "labels": labels},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": address}]}
        })
    }

    fn namespace(name: &str, labels: Value) -> Value {
        json!({"metadata": {"name": name, "labels": labels}})
    }

    fn policy(namespace: &str, name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})
    }

    fn snapshot(namespaces: Vec<Value>, pods: Vec<Value>, policies: Vec<Value>) -> Snapshot {
        fn all<T: serde::de::DeserializeOwned>(values: Vec<Value>) -> Vec<Arc<T>> {
            values
                .into_iter()
                .map(|value| Arc::new(serde_json::from_value(value).unwrap()))
                .collect()
        }
        Snapshot {
            namespaces: all(namespaces),
            pods: all(pods),
            policies: all(policies),
        }
    }

    /// The lines of one chain, without indentation.
    fn chain<'a>(script: &'a str, name: &str) -> Vec<&'a str> {
        script
            .lines()
            .skip_while(|line| *line != format!("\tchain {name} {{"))
            .skip(1)
            .take_while(|line| *line != "\t}")
            .map(str::trim)
            .collect()
    }

    #[test]
    fn an_empty_cluster_gets_a_table_that_lets_everything_pass() {
        let expected = "table inet cotenant-policy
delete table inet cotenant-policy
table inet cotenant-policy {
\tset egress_4 {
\t\ttype ipv4_addr
\t}
\tset egress_6 {
\t\ttype ipv6_addr
\t}
\tset ingress_4 {
\t\ttype ipv4_addr
\t}
\tset ingress_6 {
\t\ttype ipv6_addr
\t}
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tct state established,related accept
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
\t\tgoto leaving
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tct state established,related accept
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
\t\tgoto leaving
\t}
\tchain leaving {
\t\tip saddr @egress_4 goto egress
\t\tip6 saddr @egress_6 goto egress
\t\tgoto arriving
\t}
\tchain egress {
\t\tdrop
\t}
\tchain arriving {
\t\tip daddr @ingress_4 goto ingress
\t\tip6 daddr @ingress_6 goto ingress
\t}
\tchain ingress {
\t\tdrop
\t}
}
";
        assert_eq!(render(&Snapshot::default()), expected);
    }

    #[test]
    fn same_tenant_may_enter_and_others_meet_the_drop() {
        let script = render(&snapshot(
            vec![
                namespace("oil-one", json!({"capsule.clastix.io/tenant": "oil"})),
                namespace("oil-two", json!({"capsule.clastix.io/tenant": "oil"})),
                namespace("gas-one", json!({"capsule.clastix.io/tenant": "gas"})),
            ],
            vec![
                pod("oil-one", json!({}), "10.244.0.5"),
                pod("oil-two", json!({}), "10.244.0.7"),
                pod("gas-one", json!({}), "10.244.0.6"),
            ],
            vec![policy(
                "oil-one",
                "capsule-oil-0",
                json!({
                    "podSelector": {}, "policyTypes": ["Ingress"],
                    "ingress": [{"from": [
                        {"namespaceSelector": {"matchLabels": {"capsule.clastix.io/tenant": "oil"}}},
                        {"podSelector": {}}
                    ]}]
                }),
            )],
        ));
        assert!(script.contains("\tset ingress_4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.244.0.5 }\n\t}"));
        assert_eq!(
            chain(&script, "ingress"),
            [
                "ip saddr . ip daddr { 10.244.0.5 . 10.244.0.5 } accept",
                "ip daddr { 10.244.0.5 } ip saddr { 10.244.0.5, 10.244.0.7 } accept comment \"oil-one/capsule-oil-0\"",
                "drop"
            ]
        );
        assert_eq!(chain(&script, "egress"), ["drop"]);
    }

    #[test]
    fn rules_say_ports_blocks_and_names() {
        struct Row {
            name: &'static str,
            spec: Value,
            chain: &'static str,
            rules: &'static [&'static str],
        }
        let rows = [
            Row {
                name: "default deny in both directions",
                spec: json!({"policyTypes": ["Ingress", "Egress"]}),
                chain: "egress",
                rules: &[],
            },
            Row {
                name: "egress to everybody on one port and one range",
                spec: json!({"policyTypes": ["Egress"], "egress": [{"ports": [
                    {"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53},
                    {"protocol": "TCP", "port": 8000, "endPort": 9000}, {"protocol": "TCP", "port": 8500}
                ]}]}),
                chain: "egress",
                rules: &[
                    "ip saddr { 10.0.0.1 } tcp dport { 53, 8000-9000 } goto arriving comment \"a/p\"",
                    "ip saddr { 10.0.0.1 } udp dport { 53 } goto arriving comment \"a/p\"",
                ],
            },
            Row {
                name: "a block without its exceptions",
                spec: json!({"policyTypes": ["Egress"], "egress": [{"to": [
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.96.0.0/12", "10.0.0.0/24"]}}
                ]}]}),
                chain: "egress",
                rules: &[
                    "ip saddr { 10.0.0.1 } ip daddr { 10.0.1.0-10.95.255.255, 10.112.0.0-10.255.255.255 } goto arriving comment \"a/p\"",
                ],
            },
            Row {
                name: "an exception does not take what another peer allows",
                spec: json!({"policyTypes": ["Ingress"], "ingress": [{"from": [
                    {"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.2/32"]}},
                    {"podSelector": {"matchLabels": {"app": "b"}}}
                ]}]}),
                chain: "ingress",
                rules: &["ip daddr { 10.0.0.1 } ip saddr { 10.0.0.0-10.0.0.3 } accept comment \"a/p\""],
            },
            Row {
                name: "a named port is that of the pod being called",
                spec: json!({"policyTypes": ["Ingress"], "ingress": [
                    {"ports": [{"port": "web", "protocol": "TCP"}]}
                ]}),
                chain: "ingress",
                rules: &["ip daddr { 10.0.0.1 } ip daddr . tcp dport { 10.0.0.1 . 8080 } accept comment \"a/p\""],
            },
            Row {
                name: "a port name that nobody has allows nothing",
                spec: json!({"policyTypes": ["Ingress"], "ingress": [
                    {"ports": [{"port": "metrics", "protocol": "TCP"}]}
                ]}),
                chain: "ingress",
                rules: &[],
            },
            Row {
                name: "a peer that selects nobody allows nobody",
                spec: json!({"policyTypes": ["Ingress"], "ingress": [{"from": [
                    {"namespaceSelector": {"matchLabels": {"team": "nobody"}}}
                ]}]}),
                chain: "ingress",
                rules: &[],
            },
            Row {
                name: "a protocol without a port is the whole protocol",
                spec: json!({"policyTypes": ["Ingress"], "ingress": [{"ports": [{"protocol": "SCTP"}]}]}),
                chain: "ingress",
                rules: &["ip daddr { 10.0.0.1 } meta l4proto sctp accept comment \"a/p\""],
            },
        ];
        for row in rows {
            let mut spec = row.spec;
            spec["podSelector"] = json!({"matchLabels": {"app": "a"}});
            let script = render(&snapshot(
                vec![namespace("a", json!({}))],
                vec![
                    pod("a", json!({"app": "a"}), "10.0.0.1"),
                    pod("a", json!({"app": "b"}), "10.0.0.2"),
                ],
                vec![policy("a", "p", spec)],
            ));
            let rules: Vec<&str> = chain(&script, row.chain)
                .into_iter()
                .filter(|rule| rule.contains("comment"))
                .collect();
            assert_eq!(rules, row.rules, "{}", row.name);
            assert_eq!(chain(&script, row.chain).last(), Some(&"drop"), "{}", row.name);
        }
    }

    #[test]
    fn pods_of_the_node_network_and_ended_pods_are_not_subject() {
        let mut on_node = pod("a", json!({}), "192.168.1.1");
        on_node["spec"]["hostNetwork"] = json!(true);
        let mut ended = pod("a", json!({}), "10.0.0.3");
        ended["status"]["phase"] = json!("Succeeded");
        let script = render(&snapshot(
            vec![],
            vec![on_node, ended],
            vec![policy(
                "a",
                "deny",
                json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
            )],
        ));
        assert!(!script.contains("elements"), "{script}");
    }

    #[test]
    fn both_families_get_their_rules() {
        let mut dual = pod("a", json!({}), "10.0.0.1");
        dual["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
        let script = render(&snapshot(
            vec![],
            vec![dual],
            vec![policy(
                "a",
                "six",
                json!({"podSelector": {}, "policyTypes": ["Egress"],
                    "egress": [{"to": [{"ipBlock": {"cidr": "fd00:1::/64"}}]}]}),
            )],
        ));
        assert!(script.contains("\tset egress_6 {\n\t\ttype ipv6_addr\n\t\telements = { fd00::1 }\n\t}"));
        let rules: Vec<&str> = chain(&script, "egress")
            .into_iter()
            .filter(|rule| rule.contains("comment"))
            .collect();
        assert_eq!(
            rules,
            [
                "ip6 saddr { fd00::1 } ip6 daddr { fd00:1::-fd00:1::ffff:ffff:ffff:ffff } goto arriving comment \"a/six\""
            ]
        );
    }

    #[test]
    fn the_order_of_objects_does_not_change_the_script() {
        let pods = vec![pod("a", json!({}), "10.0.0.1"), pod("a", json!({}), "10.0.0.2")];
        let policies = vec![
            policy(
                "a",
                "x",
                json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
            ),
            policy(
                "a",
                "y",
                json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
            ),
        ];
        let reversed = |list: &[Value]| list.iter().rev().cloned().collect::<Vec<_>>();
        let straight = render(&snapshot(vec![], pods.clone(), policies.clone()));
        let backward = render(&snapshot(vec![], reversed(&pods), reversed(&policies)));
        assert_eq!(straight, backward);
    }
}
