//! The dependency picture of the workspace as a table: rows depend on rows above them, servers never on each other. Pure
//! crates are followed to the end of what they link: a client three crates away is a client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// Layer of each package. A package may depend on packages of a lower layer; within a layer only as `WITHIN` lists.
const LAYERS: &[(&str, u8)] = &[
    ("api", 0),
    ("expressions", 0),
    ("templates", 0),
    ("tenancy", 0),
    ("pki", 0),
    ("runtime", 1),
    ("local", 1),
    ("tls-router", 1),
    ("webhooks", 2),
    ("replication-controller", 2),
    ("quota-controller", 2),
    ("tenant-controller", 2),
    ("control-plane-controller", 2),
    ("cli", 3),
    ("cotenant", 4),
    ("xtask", 4),
    ("testbed", 2),
    ("races", 2),
];
const WITHIN: &[(&str, &str)] = &[
    ("tenancy", "api"),
    ("tenancy", "expressions"),
    ("tenancy", "templates"),
    ("templates", "expressions"),
];
/// What a pure crate never needs, however far away: a reactor, a socket, a client, chance.
const IMPURE: &[&str] = &[
    "axum",
    "hyper",
    "hyper-util",
    "kube-client",
    "kube-runtime",
    "mio",
    "rand",
    "reqwest",
    "rustls",
    "socket2",
    "tokio",
    "tonic",
    "tower",
];
/// Dependencies of other platforms are not ours, and need not be downloaded for this.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(repository: &Path) -> anyhow::Result<()> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            PLATFORM,
        ])
        .current_dir(repository)
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = serde_json::from_slice(&output.stdout).context("failed to read what cargo metadata says")?;
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!("dependencies point the wrong way:\n  {}", faults.join("\n  "));
    }
    println!("dependencies point the right way");
    Ok(())
}

/// What `cargo metadata` says about the workspace and everything it is built from.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Declared>,
}

/// A dependency as the manifest declares it; `kind` is `None` for what the program itself links.
#[derive(Deserialize)]
struct Declared {
    name: String,
    kind: Option<String>,
}

/// The graph with the features that the workspace as a whole turns on. A crate built by itself has fewer of them, so what is
/// pure here is pure in every build.
#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

fn faults(metadata: &Metadata) -> Vec<String> {
    let ours = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id));
    let mut faults = Vec::new();
    for package in ours {
        let name = package.name.as_str();
        let Some(layer) = layer(name) else {
            faults.push(format!("{name} has no layer: add it to LAYERS"));
            continue;
        };
        for declared in &package.dependencies {
            let target = declared.name.as_str();
            if declared.kind.as_deref() == Some("dev") {
                continue;
            }
            if target == "testbed" || (target == "races" && name != "xtask") {
                faults.push(format!("{name} depends on {target} outside its tests"));
            } else if let Some(below) = self::layer(target)
                && below >= layer
                && !WITHIN.contains(&(name, target))
            {
                faults.push(format!("{name} depends on {target}, which is not below it"));
            }
        }
        if layer == 0 {
            let chains = impure(metadata, &package.id);
            faults.extend(
                chains
                    .into_iter()
                    .map(|chain| format!("{name} is pure and depends on {chain}")),
            );
        }
    }
    faults
}

/// How a package comes to link what is [`IMPURE`]: one shortest chain for each, without the package itself. What only runs
/// while it is built or tested does not count, and what lies behind something impure is not looked at.
fn impure(metadata: &Metadata, root: &str) -> Vec<String> {
    let names: HashMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|p| (p.id.as_str(), p.name.as_str()))
        .collect();
    let nodes: HashMap<&str, &Node> = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
    let (mut seen, mut found) = (HashSet::from([root]), Vec::new());
    let mut queue = VecDeque::from([(root, Vec::new())]);
    while let Some((id, chain)) = queue.pop_front() {
        let edges = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        for edge in edges.filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none())) {
            if !seen.insert(&edge.pkg) {
                continue;
            }
            let name = names.get(edge.pkg.as_str()).copied().unwrap_or_default();
            let chain: Vec<&str> = chain.iter().copied().chain([name]).collect();
            if IMPURE.contains(&name) {
                found.push(chain.join(" -> "));
            } else {
                queue.push_back((&edge.pkg, chain));
            }
        }
    }
    found
}

fn layer(package: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == package)
        .map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Name, whether it is ours, dependencies as (name, kind).
    type Described<'a> = (&'a str, bool, &'a [(&'a str, Option<&'a str>)]);

    fn workspace(packages: &[Described<'_>]) -> Metadata {
        let described = |(name, _, dependencies): &Described<'_>| -> Value {
            let declared = dependencies
                .iter()
                .map(|(name, kind)| json!({"name": name, "kind": kind}));
            json!({"id": format!("id of {name}"), "name": name, "dependencies": declared.collect::<Vec<_>>()})
        };
        let node = |(name, _, dependencies): &Described<'_>| -> Value {
            let edges = dependencies
                .iter()
                .map(|(name, kind)| json!({"pkg": format!("id of {name}"), "dep_kinds": [{"kind": kind}]}));
            json!({"id": format!("id of {name}"), "deps": edges.collect::<Vec<_>>()})
        };
        let members = packages.iter().filter(|(_, ours, _)| *ours);
        let metadata = json!({
            "packages": packages.iter().map(described).collect::<Vec<_>>(),
            "workspace_members": members.map(|(name, ..)| format!("id of {name}")).collect::<Vec<_>>(),
            "resolve": {"nodes": packages.iter().map(node).collect::<Vec<_>>()},
        });
        serde_json::from_value(metadata).unwrap()
    }

    #[test]
    fn a_pure_crate_that_reaches_a_client_says_by_which_way() {
        let workspace = workspace(&[
            ("tenancy", true, &[("api", None), ("regex", None)]),
            (
                "api",
                true,
                &[("kube", None), ("testbed", Some("dev")), ("codegen", Some("build"))],
            ),
            ("kube", false, &[("kube-core", None), ("kube-client", None)]),
            ("kube-client", false, &[("tokio", None)]),
            ("kube-core", false, &[]),
            ("codegen", false, &[("tokio", None)]),
            ("testbed", true, &[("tokio", None)]),
            ("tokio", false, &[]),
            ("regex", false, &[]),
        ]);
        assert_eq!(
            faults(&workspace),
            [
                "tenancy is pure and depends on api -> kube -> kube-client",
                "api is pure and depends on kube -> kube-client",
            ]
        );
    }

    #[test]
    fn layers_and_tests_keep_their_places() {
        let workspace = workspace(&[
            ("tenancy", true, &[("api", None)]),
            ("api", true, &[]),
            (
                "webhooks",
                true,
                &[("tenancy", None), ("tenant-controller", None), ("tokio", None)],
            ),
            (
                "tenant-controller",
                true,
                &[("runtime", None), ("testbed", Some("dev"))],
            ),
            ("runtime", true, &[("api", None), ("testbed", None)]),
            ("testbed", true, &[]),
            ("races", true, &[]),
            ("xtask", true, &[("races", None)]),
            ("cotenant", true, &[("races", Some("dev"))]),
            ("cli", true, &[("races", None)]),
            ("newcomer", true, &[]),
            ("tokio", false, &[]),
        ]);
        assert_eq!(
            faults(&workspace),
            [
                "webhooks depends on tenant-controller, which is not below it",
                "runtime depends on testbed outside its tests",
                "cli depends on races outside its tests",
                "newcomer has no layer: add it to LAYERS",
            ]
        );
    }
}
