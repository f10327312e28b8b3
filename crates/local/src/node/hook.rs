//! Runs in every container of a worker before its program does, and shows it a copy of one setting of the machine.
//!
//! kube-proxy as tenants deploy it sets the size of the connection table, and ends when it is refused. The setting is the
//! machine's; a network namespace shows it and refuses every write. In a node of ours the write goes to a copy, which has
//! no effect: the machine's own limit holds, and is none of a tenant's business.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Below `/proc/sys`.
pub(super) const SETTING: &str = "net/netfilter/nf_conntrack_max";

/// The node's copy.
pub(super) const COPY: &str = "/run/cotenant/settings/nf_conntrack_max";

/// Standard input carries the container's state, as the OCI runtime specification has it. The container's mounts are
/// made and its root is not yet its root.
pub(super) fn run() -> Result<()> {
    #[derive(Deserialize)]
    struct Container {
        bundle: PathBuf,
    }
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .map_err(Error::file("read", "the container's state"))?;
    let container: Container = serde_json::from_slice(&text)
        .map_err(|error| Error::Other(format!("failed to read the container's state: {error}")))?;
    let target = container.bundle.join("rootfs/proc/sys").join(SETTING);
    if Path::new(COPY).exists() && target.exists() {
        mount(Some(COPY), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::file("mount", &target)(std::io::Error::from(errno)))?;
    }
    Ok(())
}
