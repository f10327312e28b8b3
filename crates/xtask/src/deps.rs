//! The dependency picture of the workspace as a table: rows depend on rows above them, servers never on each other.

use std::{path::Path, process::Command};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Layer of each package. A package may depend on packages of a lower layer; within a layer only as `WITHIN` lists.
const LAYERS: &[(&str, u8)] = &[
    ("api", 0),
    ("tenancy", 0),
    ("pki", 0),
    ("runtime", 1),
    ("local", 1),
    ("webhooks", 2),
    ("tenant-controller", 2),
    ("control-plane-controller", 2),
    ("cli", 3),
    ("cotenant", 4),
    ("xtask", 4),
    ("testbed", 2),
];
const WITHIN: &[(&str, &str)] = &[("tenancy", "api")];
/// What a pure crate never needs: a reactor, a socket, a client.
const IMPURE: &[&str] = &["tokio", "hyper", "axum", "tonic", "reqwest", "rand"];

pub(crate) fn run(repository: &Path) -> anyhow::Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .current_dir(repository)
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut faults = Vec::new();
    for package in metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?
    {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layer(name) else {
            faults.push(format!("{name} has no layer: add it to LAYERS"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            if kind == "dev" {
                continue;
            }
            if target == "testbed" {
                faults.push(format!("{name} depends on testbed outside its tests"));
            } else if layer == 0 && IMPURE.contains(&target) {
                faults.push(format!("{name} is pure and depends on {target}"));
            } else if let Some(below) = self::layer(target)
                && below >= layer
                && !WITHIN.contains(&(name, target))
            {
                faults.push(format!("{name} depends on {target}, which is not below it"));
            }
        }
    }
    if !faults.is_empty() {
        bail!("dependencies point the wrong way:\n  {}", faults.join("\n  "));
    }
    println!("dependencies point the right way");
    Ok(())
}

fn layer(package: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == package)
        .map(|(_, layer)| *layer)
}
