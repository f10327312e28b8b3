//! A node's place in the machine's cgroups, in both of the kernel's layouts.
//!
//! Version 1 (also hybrid): a directory `cotenant/CLUSTER/NODE` in every hierarchy that has controllers, and in
//! systemd's named one. Version 2: the same path in the one tree or, where systemd owns that tree, a scope that was
//! delegated to us (`systemd-run --scope --property Delegate=yes`, see `handle`), because systemd is free to take
//! controllers away from directories it did not make.
//!
//! Version 1 is what the tests run on. Version 2, with and without systemd, is written after the kernel's and systemd's
//! documentation and what other containerised nodes do, and has not been run yet.
//!
//! Every process of a node, its containers' included, is in these cgroups, so they are also how leftovers are found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// How the machine's cgroups are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    V1(Vec<Hierarchy>),
    V2 { mount: PathBuf },
}

/// One mounted hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    /// Controllers, or one `name=`: what `mount -o` wants.
    pub(super) options: Vec<String>,
}

impl Layout {
    pub(super) fn detect() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&text).ok_or_else(|| {
            Error::Other(
                "failed to find the machine's cgroups: neither version 1 nor version 2 is mounted below /sys/fs/cgroup"
                    .to_owned(),
            )
        })
    }

    fn parse(mountinfo: &str) -> Option<Self> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let (before, after) = line.split_once(" - ")?;
            // The root before it is no guide: from inside a cgroup namespace it reads `/../..`.
            let mount = PathBuf::from(before.split(' ').nth(4)?);
            let mut after = after.split(' ');
            let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
            if !mount.starts_with("/sys/fs/cgroup") {
                continue;
            }
            if kind == "cgroup2" {
                unified = Some(mount);
            } else if kind == "cgroup" {
                let options: Vec<String> = options
                    .split(',')
                    .filter(|option| {
                        !matches!(
                            *option,
                            "rw" | "ro" | "none" | "xattr" | "clone_children" | "cpuset_v2_mode"
                        ) && !option.starts_with("release_agent=")
                    })
                    .map(str::to_owned)
                    .collect();
                hierarchies.push(Hierarchy { mount, options });
            }
        }
        if hierarchies
            .iter()
            .any(|hierarchy| hierarchy.options.iter().any(|option| option == "memory"))
        {
            return Some(Self::V1(hierarchies));
        }
        unified.map(|mount| Self::V2 { mount })
    }
}

/// Whether systemd runs this machine and owns its cgroup tree.
pub(super) fn systemd_owns(layout: &Layout) -> bool {
    matches!(layout, Layout::V2 { .. }) && Path::new("/run/systemd/system").is_dir()
}

/// The name of the scope that systemd makes for a node.
pub(super) fn scope(cluster: &str, node: &str) -> String {
    format!("cotenant-{cluster}-{node}.scope")
}

/// A node's cgroups.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    layout: Layout,
    /// The node's own directory in every hierarchy.
    directories: Vec<PathBuf>,
    /// Our directories above a node's, from the outermost; removed when empty.
    parents: Vec<PathBuf>,
}

impl Cgroups {
    pub(super) fn of(cluster: &str, node: &str) -> Result<Self> {
        let layout = Layout::detect()?;
        let systemd = systemd_owns(&layout);
        let (mut directories, mut parents) = (Vec::new(), Vec::new());
        let mounts: Vec<PathBuf> = match &layout {
            Layout::V1(hierarchies) => hierarchies.iter().map(|hierarchy| hierarchy.mount.clone()).collect(),
            Layout::V2 { mount } => vec![mount.clone()],
        };
        for mount in mounts {
            if systemd {
                let scope = mount.join("cotenant.slice").join(scope(cluster, node));
                directories.push(scope.join("node"));
            } else {
                let ours = mount.join("cotenant");
                let clusters = ours.join(cluster);
                directories.push(clusters.join(node));
                parents.extend([ours, clusters]);
            }
        }
        Ok(Self {
            layout,
            directories,
            parents,
        })
    }

    /// Makes the node's cgroups. With systemd the supervisor is in the scope already, and leaves its root, because a
    /// cgroup of version 2 that has processes of its own cannot hand controllers down.
    pub(super) fn create(&self, memory_bytes: Option<u64>) -> Result<()> {
        for directory in &self.directories {
            std::fs::create_dir_all(directory).map_err(Error::file("create the cgroup", directory))?;
        }
        match &self.layout {
            Layout::V1(hierarchies) => {
                for (hierarchy, directory) in hierarchies.iter().zip(&self.directories) {
                    if hierarchy.options.iter().any(|option| option == "cpuset") {
                        inherit_cpuset(&hierarchy.mount, directory)?;
                    }
                    if let Some(limit) = memory_bytes
                        && hierarchy.options.iter().any(|option| option == "memory")
                    {
                        write(&directory.join("memory.limit_in_bytes"), &limit.to_string())?;
                    }
                }
            }
            Layout::V2 { mount } => {
                for directory in &self.directories {
                    let parent = directory.parent().unwrap_or(mount);
                    if systemd_owns(&self.layout) {
                        let aside = parent.join("supervisor");
                        std::fs::create_dir_all(&aside).map_err(Error::file("create the cgroup", &aside))?;
                        write(&aside.join("cgroup.procs"), "0")?;
                        hand_down(parent)?;
                    } else {
                        for above in std::iter::once(mount).chain(&self.parents) {
                            hand_down(above)?;
                        }
                    }
                    if let Some(limit) = memory_bytes {
                        write(&directory.join("memory.max"), &limit.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process into the node's cgroups.
    pub(super) fn join(&self) -> Result<()> {
        self.directories
            .iter()
            .try_for_each(|directory| write(&directory.join("cgroup.procs"), "0"))
    }

    /// Moves a process that is not the node's out of them again: version 2 hands controllers down only from a cgroup
    /// without processes of its own.
    pub(super) fn expel(&self, pid: u32) -> Result<()> {
        let Layout::V2 { mount } = &self.layout else {
            return Ok(());
        };
        let place = match self.directories.first().and_then(|directory| directory.parent()) {
            Some(parent) if systemd_owns(&self.layout) => parent.join("supervisor"),
            _ => mount.clone(),
        };
        write(&place.join("cgroup.procs"), &pid.to_string())
    }

    /// Every process in the node's cgroups.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for directory in &self.directories {
            walk(directory, &mut |directory| {
                let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                found.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<u32>().ok())
                        .filter(|pid| *pid != 0),
                );
            });
        }
        found
    }

    /// Kills what is left in the node's cgroups and removes them, waiting until the kernel lets go.
    pub(super) fn remove(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            for pid in self.processes() {
                // It may have ended in between, which is what is wanted.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            for directory in &self.directories {
                // Innermost first; a directory that is busy is tried again below.
                walk(directory, &mut |directory| drop(std::fs::remove_dir(directory)));
            }
            let Some(left) = self.directories.iter().find(|directory| directory.exists()) else {
                break;
            };
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: format!("the end of the cgroup {}", left.display()),
                    waited: within,
                    reason: format!("processes {:?} are still in it", self.processes()),
                    output: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for parent in self.parents.iter().rev() {
            // Another node or cluster may still be in it.
            let _ = std::fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// Calls `visit` for a directory and everything in it, innermost first.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(directory);
}

/// A new `cpuset` cgroup has no processors and takes no process: copy them down, level by level.
fn inherit_cpuset(mount: &Path, directory: &Path) -> Result<()> {
    let mut levels: Vec<&Path> = directory.ancestors().take_while(|level| *level != mount).collect();
    levels.reverse();
    for level in levels {
        let above = level.parent().unwrap_or(mount);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let here = std::fs::read_to_string(level.join(file)).unwrap_or_default();
            if here.trim().is_empty() {
                let value = std::fs::read_to_string(above.join(file)).map_err(Error::file("read", above.join(file)))?;
                write(&level.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

/// Lets the children of a version 2 cgroup use every controller that it has itself.
pub(super) fn hand_down(directory: &Path) -> Result<()> {
    let path = directory.join("cgroup.controllers");
    let controllers = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    // One at a time: a controller that cannot be handed down here must not hold up the others.
    let mut refused = Ok(());
    for controller in controllers.split_whitespace() {
        let outcome = write(&directory.join("cgroup.subtree_control"), &format!("+{controller}"));
        if matches!(controller, "cpu" | "memory" | "pids") {
            refused = refused.and(outcome);
        }
    }
    refused
}

fn write(path: &Path, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_is_version_1() {
        let text = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /../.. /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let hierarchy = |mount: &str, options: &[&str]| Hierarchy {
            mount: mount.into(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            Layout::parse(text),
            Some(Layout::V1(vec![
                hierarchy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]),
                hierarchy("/sys/fs/cgroup/memory", &["memory"]),
                hierarchy("/sys/fs/cgroup/systemd", &["name=systemd"]),
            ]))
        );
    }

    #[test]
    fn an_ordinary_debian_12_is_version_2() {
        let text = "27 1 254:0 / / rw - ext4 /dev/vda rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            Layout::parse(text),
            Some(Layout::V2 {
                mount: "/sys/fs/cgroup".into()
            })
        );
        assert_eq!(Layout::parse("27 1 254:0 / / rw - ext4 /dev/vda rw"), None);
    }
}
