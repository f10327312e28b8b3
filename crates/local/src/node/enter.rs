//! The step between the supervisor and the node: a process that puts itself into the node's cgroups and becomes
//! `unshare`. A process of its own, so that the supervisor stays outside and can clean up.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::Node;
use super::cgroup::Cgroups;
use crate::error::{Error, Result};

pub(super) fn enter(path: &Path) -> Result<()> {
    let node = Node::read(path)?;
    Cgroups::of(&node.cluster, &node.name)?.join()?;
    // It waits for the node's first process, and ends that with itself.
    let error = Command::new("unshare")
        .args([
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--cgroup",
            "--uts",
            "--ipc",
        ])
        .arg(&node.executable)
        .args(["node", "init"])
        .arg(path)
        .exec();
    Err(Error::spawn("unshare")(error))
}
