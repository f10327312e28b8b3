//! Clusters as directories: what is written down about one, which subnet it has, and how it ends without the process that
//! started it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{ADMIN, Options, ROOT};
use crate::error::{Error, Result};
use crate::network::{self, Subnet};
use crate::node::{self, Handle, Identity, Lifetime, Node};

/// What is written down about a cluster, in `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) subnet: Subnet,
    /// The process that the cluster belongs to, if it does not outlive it.
    owner: Option<Identity>,
}

impl Record {
    fn path(directory: &Path) -> PathBuf {
        directory.join("cluster.json")
    }

    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(directory)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

pub(super) fn directory(root: &Path, name: &str) -> Result<PathBuf> {
    let label = !name.is_empty()
        && name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if label {
        return Ok(root.join(name));
    }
    Err(Error::Other(format!(
        "failed to accept the cluster name `{name}`: it should be 1 to 40 lower-case letters, digits and inner dashes"
    )))
}

/// Writes down that the cluster exists and gives it its subnet and its bridge.
pub(super) fn claim(options: &Options, directory: &Path) -> Result<(Subnet, Lifetime)> {
    std::fs::create_dir_all(directory).map_err(Error::file("create directory", directory))?;
    let _lock = network::lock()?;
    network::sweep_bridges()?;
    let bridge = network::bridge_name(&options.name);
    let mut used: Vec<Ipv4Addr> = network::machine_addresses()?
        .into_iter()
        .filter(|(link, _)| *link != bridge)
        .map(|(_, address)| address)
        .collect();
    // A cluster that is stopped keeps its subnet: certificates and kubeconfigs name it.
    used.extend(
        records(&options.root)
            .filter(|(place, _)| place != directory)
            .map(|(_, other)| other.subnet.machine()),
    );
    let known = Record::read(directory).map(|record| record.subnet);
    let subnet = match (options.subnet, known) {
        (Some(wanted), Some(known)) if wanted != known => {
            return Err(Error::Other(format!(
                "failed to give the cluster {} the subnet {wanted}: it was made with {known}, which its certificates \
                 name; remove the cluster first",
                options.name
            )));
        }
        (Some(subnet), _) | (None, Some(subnet)) => subnet,
        (None, None) => Subnet::first_free(&used).ok_or_else(|| {
            Error::Other("failed to find a free subnet: every 10.77.N.0/24 is in use on this machine".to_owned())
        })?,
    };
    if used.iter().any(|address| subnet.contains(*address)) {
        return Err(Error::Other(format!(
            "failed to give the cluster {} the subnet {subnet}: something else on this machine uses it",
            options.name
        )));
    }
    let owner = if options.with_parent {
        Identity::of_this_process()
    } else {
        None
    };
    let record = Record {
        name: options.name.clone(),
        subnet,
        owner,
    };
    node::replace(&Record::path(directory), &record)?;
    network::ensure_bridge(&options.name, subnet, directory)?;
    let lifetime = if options.with_parent {
        Lifetime::Parent {
            remove: Some(directory.to_owned()),
        }
    } else {
        Lifetime::Detached
    };
    Ok((subnet, lifetime))
}

fn records(root: &Path) -> impl Iterator<Item = (PathBuf, Record)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| Record::read(&entry.path()).map(|record| (entry.path(), record)))
}

pub(super) fn node_directories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("nodes"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| Node::path(path).exists())
        .collect()
}

/// Whether any node of the cluster in this directory runs.
pub fn is_running(directory: &Path) -> Result<bool> {
    for place in node_directories(directory) {
        if Handle::find(&place)?.is_some_and(|handle| handle.is_running().unwrap_or(false)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stops a cluster, workers first, and takes away what it has of the machine; keeps its data.
pub fn stop(directory: &Path) -> Result<()> {
    let mut places = node_directories(directory);
    places.sort_by_key(|place| place.ends_with(ADMIN));
    // The next is stopped even when one cannot be.
    let outcome = places.iter().map(|place| node::stop(place)).fold(Ok(()), Result::and);
    if let Some(record) = Record::read(directory) {
        network::remove_bridge(&record.name)?;
    }
    outcome
}

/// Removes a cluster and everything of it, whatever was killed before. Fine when there is none.
pub fn remove(directory: &Path) -> Result<()> {
    stop(directory)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            // The kernel may need a moment to give up the mounts of a namespace that has just ended.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(Error::file("remove", directory)(error)),
        }
    }
    if directory.parent() == Some(Path::new(ROOT)) {
        // Ours as well, when this was the last cluster in it.
        let _ = std::fs::remove_dir(ROOT);
    }
    Ok(())
}

/// Removes the clusters whose owner is gone, which only happens when their supervisors were killed as well.
pub fn sweep(root: &Path) -> Result<()> {
    for (directory, record) in records(root).collect::<Vec<_>>() {
        if record.owner.is_some_and(|owner| !owner.is_alive()) {
            remove(&directory)?;
        }
    }
    Ok(())
}
