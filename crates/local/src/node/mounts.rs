//! The node's view of the machine's files.
//!
//! Nothing is created outside the node's directory: `/etc` is an overlay over the machine's, whose changes lie in memory;
//! `/var`, `/run` and `/tmp` begin empty; what must survive a restart is bound from the node's directory.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::cgroup::{Hierarchy, Layout, hand_down};
use super::{BIN, DIRECTORY, EXECUTABLE, Node};
use crate::error::{Error, Result};

/// What survives a restart: a directory's name in the node's directory, and where the node sees it.
const KEPT: [(&str, &str); 9] = [
    ("kubernetes", "/etc/kubernetes"),
    ("cni", "/etc/cni"),
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("etcd", "/var/lib/etcd"),
    ("registry", "/var/lib/registry"),
    ("volumes", "/var/local/volumes"),
    ("log-pods", "/var/log/pods"),
    ("log-containers", "/var/log/containers"),
];

/// Settings of the whole machine that kubelet insists on. The node sees its own copies with the values that kubelet
/// wants, so that it leaves the machine's alone.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Makes the view; in the node's mount namespace, before anything else runs in it.
pub(super) fn arrange(node: &Node) -> Result<()> {
    let layout = Layout::detect()?;
    // Opened before their paths are covered.
    let directory = open(&node.directory)?;
    let mut binaries = Vec::new();
    for (name, path) in &node.binaries {
        binaries.push((Path::new(BIN).join(name), open(path)?));
    }
    binaries.push((PathBuf::from(EXECUTABLE), open(&node.executable)?));

    attach(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    attach(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None)?;
    // The machine's /sys shows the machine's links.
    attach(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None)?;
    cgroups(&layout)?;
    for path in ["/run", "/tmp"] {
        memory(path)?;
    }

    create(DIRECTORY)?;
    bind(&directory, DIRECTORY)?;
    create(BIN)?;
    for (target, file) in &binaries {
        std::fs::write(target, "").map_err(Error::file("create", target))?;
        bind(file, target)?;
    }

    memory("/var")?;
    std::os::unix::fs::symlink("/run", "/var/run").map_err(Error::file("create", "/var/run"))?;
    for path in ["/var/tmp", "/var/lib", "/var/log", "/run/netns", "/run/lock"] {
        create(path)?;
    }
    own_etc(node)?;
    for (name, target) in KEPT {
        let source = Path::new(DIRECTORY).join(name);
        create(&source)?;
        create(target)?;
        attach(source.to_str(), target, None, MsFlags::MS_BIND, None)?;
    }
    // Containers' mounts must reach kubelet's volumes and the other way round.
    attach(
        None,
        "/var/lib/kubelet",
        None,
        MsFlags::MS_REC | MsFlags::MS_SHARED,
        None,
    )?;
    settings()
}

fn cgroups(layout: &Layout) -> Result<()> {
    match layout {
        Layout::V1(hierarchies) => {
            memory("/sys/fs/cgroup")?;
            hierarchies.iter().try_for_each(hierarchy)
        }
        Layout::V2 { .. } => {
            attach(
                Some("cgroup2"),
                "/sys/fs/cgroup",
                Some("cgroup2"),
                MsFlags::empty(),
                None,
            )?;
            // A cgroup that hands controllers down must have no process of its own, so this one, the first of all,
            // moves aside, and those it starts with it. The supervisor takes `unshare` out meanwhile.
            let aside = Path::new("/sys/fs/cgroup/init");
            create(aside)?;
            let path = aside.join("cgroup.procs");
            std::fs::write(&path, "0").map_err(Error::file("write", &path))?;
            let mut outcome = Ok(());
            for _ in 0..100 {
                outcome = hand_down(Path::new("/sys/fs/cgroup"));
                if outcome.is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            outcome
        }
    }
}

/// Mounts one hierarchy of version 1; the cgroup namespace makes the node's own cgroup its root.
fn hierarchy(hierarchy: &Hierarchy) -> Result<()> {
    let name = hierarchy.mount.file_name().unwrap_or(hierarchy.mount.as_os_str());
    let target = Path::new("/sys/fs/cgroup").join(name);
    create(&target)?;
    let mut options = hierarchy.options.join(",");
    if options.starts_with("name=") {
        options = format!("none,{options}");
    }
    attach(
        Some("cgroup"),
        &target,
        Some("cgroup"),
        MsFlags::empty(),
        Some(&options),
    )?;
    for controller in hierarchy.options.iter().filter(|option| !option.contains('=')) {
        let link = Path::new("/sys/fs/cgroup").join(controller);
        if !link.exists() {
            std::os::unix::fs::symlink(name, &link).map_err(Error::file("create", &link))?;
        }
    }
    Ok(())
}

/// An `/etc` of the node's own: its name, and the resolver at the machine's address on the bridge. The machine's own
/// `resolv.conf` often names a loopback address, which in a pod would be the pod itself.
fn own_etc(node: &Node) -> Result<()> {
    let (upper, work) = ("/run/cotenant/etc/upper", "/run/cotenant/etc/work");
    create(upper)?;
    create(work)?;
    let options = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
    attach(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )?;
    let files = [
        ("/etc/hostname", format!("{}\n", node.name)),
        (
            "/etc/hosts",
            format!("127.0.0.1 localhost\n::1 localhost\n{} {}\n", node.address, node.name),
        ),
        ("/etc/resolv.conf", format!("nameserver {}\n", node.gateway)),
    ];
    for (path, text) in files {
        // It may be a link to somewhere else.
        let _ = std::fs::remove_file(path);
        std::fs::write(path, text).map_err(Error::file("write", path))?;
    }
    Ok(())
}

fn settings() -> Result<()> {
    let directory = Path::new("/run/cotenant/settings");
    create(directory)?;
    let conntrack = Path::new("/proc/sys").join(super::hook::SETTING);
    if let Ok(value) = std::fs::read(conntrack) {
        std::fs::write(super::hook::COPY, value).map_err(Error::file("write", super::hook::COPY))?;
    }
    for (name, value) in SETTINGS {
        let target = Path::new("/proc/sys").join(name);
        if target.exists() {
            let source = directory.join(name.replace('/', "-"));
            std::fs::write(&source, format!("{value}\n")).map_err(Error::file("write", &source))?;
            attach(source.to_str(), &target, None, MsFlags::MS_BIND, None)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::file("open", path))
}

fn create(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(&path).map_err(Error::file("create directory", &path))
}

fn memory(path: &str) -> Result<()> {
    attach(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    if path == "/tmp" {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777))
            .map_err(Error::file("set the mode of", path))?;
    }
    Ok(())
}

fn bind(source: &File, target: impl AsRef<Path>) -> Result<()> {
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    attach(Some(&source), target, None, MsFlags::MS_BIND, None)
}

fn attach(
    source: Option<&str>,
    target: impl AsRef<Path>,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    mount(source, target.as_ref(), kind, flags, options)
        .map_err(|errno| Error::file("mount", &target)(std::io::Error::from(errno)))
}
