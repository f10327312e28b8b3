//! Pods, namespaces and policies to an nft script, without touching anything.
//!
//! A new connection from A to B must be allowed by the policies that select A for egress and by those that select B for
//! ingress. The script says so with `goto` instead of packet marks: whatever leaves the egress stage goes on to the ingress
//! stage, and the end of each stage is a drop. Packets between two pods of one bridge reach the `forward` hook because
//! `bridge-nf-call-iptables` is on; packets from a pod to the node itself reach `input`, where only egress can refuse them.
//! Packets from the node to its pods (kubelet's probes) pass `output`, which is not hooked.
//!
//! The whole table is replaced in one transaction, so there is no moment without rules.

mod ports;
mod ranges;
mod stage;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use stage::{Allowance, Direction, Stage};
use world::{Endpoint, World};

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
        let allowance = |peers, ports| Allowance::new(&title, namespace, &subjects, peers, ports);
        if egress_applies {
            egress.isolate(&subjects);
            for rule in spec.egress.iter().flatten() {
                egress.allow(&world, &allowance(rule.to.as_deref(), rule.ports.as_deref()));
            }
        }
        if ingress_applies {
            ingress.isolate(&subjects);
            for rule in spec.ingress.iter().flatten() {
                ingress.allow(&world, &allowance(rule.from.as_deref(), rule.ports.as_deref()));
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
