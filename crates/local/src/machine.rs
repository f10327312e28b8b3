//! What this machine must have, looked at in one pass, so that a person learns everything that is missing at once and not
//! one thing per attempt.
//!
//! Looking ([`observe`]) and judging ([`judge`]) are apart: what is judged can be written down in a test, the machine
//! cannot. Kernel features are tried, not looked up: whether a bridge can be made is not in any one file.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::programs::{find_in_path, go};
use crate::progress::{Progress, step};

/// A Debian package and a file or program that shows that it, or something in its place, is there.
struct Package {
    name: &'static str,
    proof: Proof,
    purpose: &'static str,
}

#[derive(Clone, Copy)]
enum Proof {
    Program(&'static str),
    File(&'static str),
}

const fn package(name: &'static str, program: &'static str, purpose: &'static str) -> Package {
    Package {
        name,
        proof: Proof::Program(program),
        purpose,
    }
}

const PACKAGES: &[Package] = &[
    package("containerd", "containerd", "runs the containers of each node"),
    package("runc", "runc", "starts them"),
    Package {
        name: "containernetworking-plugins",
        proof: Proof::File("/usr/lib/cni/bridge"),
        purpose: "connects pods to their node",
    },
    package("docker-registry", "docker-registry", "serves images to the nodes"),
    package("nftables", "nft", "kube-proxy and the network policy enforcer"),
    package("iptables", "iptables", "kubelet and the pod network's masquerading"),
    package("ipset", "ipset", "kubeadm's checks"),
    package("conntrack", "conntrack", "kube-proxy"),
    package("ethtool", "ethtool", "kubeadm's checks"),
    package("socat", "socat", "kubectl port-forward"),
    package("iproute2", "ip", "network namespaces and bridges"),
    package("util-linux", "unshare", "the other namespaces"),
    package("mount", "mount", "file systems of nodes"),
    package("procps", "sysctl", "network settings of nodes"),
    Package {
        name: "busybox",
        // Its static twin has a program of the same name, which cannot look up hosts.
        proof: Proof::File("/usr/share/doc/busybox/copyright"),
        purpose: "the image to try things with",
    },
    package("gcc", "cc", "builds the pause program"),
    Package {
        name: "libc6-dev",
        proof: Proof::File("/usr/include/stdlib.h"),
        purpose: "builds the pause program",
    },
    package("ca-certificates", "update-ca-certificates", "downloads Go modules"),
];

/// Services that come with packages and start by themselves. We run these programs ourselves, inside nodes.
const SERVICES: [(&str, &str); 2] = [("containerd", "containerd"), ("docker-registry", "docker-registry")];

/// The oldest Go that knows how to fetch a newer toolchain.
const OLDEST_GO: (u32, u32) = (1, 21);
/// The Go that the modules of `tools/` name.
const WANTED_GO: (u32, u32) = (1, 26);
const WANTED_MEMORY_BYTES: u64 = 4 << 30;
const WANTED_DISK_BYTES: u64 = 12 << 30;
/// Each API server has about a dozen, each containerd and kubelet some more. Who gets none follows no file, and a containerd
/// that gets none serves no kubelet.
const WANTED_INOTIFY: u64 = 64;
/// The cgroup v1 hierarchies that kubelet and runc use.
const V1_CONTROLLERS: [&str; 8] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
];

/// What [`observe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub root: bool,
    /// `ID` and `VERSION_ID` of `/etc/os-release`.
    pub system: Option<(String, String)>,
    pub apt: bool,
    /// As `go env GOVERSION` says; `None` when Go is not there.
    pub go: Option<String>,
    /// Packages of the table of which nothing is there.
    pub missing_packages: Vec<&'static str>,
    pub cgroups: Cgroups,
    /// What the kernel refused, in words, such as "bridges: Operation not supported".
    pub kernel_refusals: Vec<String>,
    pub memory_bytes: u64,
    /// Free where the cache is.
    pub disk_bytes: u64,
    /// Inotify instances that one user may have, and how many of them the whole machine has now.
    pub inotify: (u64, u64),
}

/// How control groups are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// One hierarchy, as on ordinary Debian 12.
    V2,
    /// A hierarchy per controller; which of those needed are not mounted.
    V1 { missing: Vec<&'static str> },
    /// Nothing at `/sys/fs/cgroup`.
    None,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Fine,
    /// It may work, or work slowly.
    Warning,
    /// [`install_packages`] mends it.
    Installable,
    /// Only a person can mend it.
    Fatal,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as "Go toolchain".
    pub subject: &'static str,
    pub severity: Severity,
    /// What is there or missing, and what to do about it.
    pub text: String,
}

/// What is wanted of the machine besides what every cluster needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Whether upstream programs must be built, rather than being given.
    pub build: bool,
}

/// Everything at once: [`observe`], then [`judge`].
pub fn check(needs: Needs) -> Vec<Finding> {
    judge(&observe(), needs)
}

/// The packages that are missing, for [`install_packages`].
pub fn missing_packages() -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|package| !is_there(package.proof))
        .map(|package| package.name)
        .collect()
}

/// What a package is for, for people.
pub fn purpose(package: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|p| p.name == package).map(|p| p.purpose)
}

/// Looks at the machine. Changes nothing that outlives the call.
pub fn observe() -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let root = nix::unistd::geteuid().is_root();
    Facts {
        root,
        system: parse_os_release(&read("/etc/os-release")),
        apt: find_in_path("apt-get").is_some(),
        go: go().ok().and_then(|go| {
            let output = Command::new(go).args(["env", "GOVERSION"]).output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }),
        missing_packages: missing_packages(),
        cgroups: cgroups(Path::new("/sys/fs/cgroup")),
        // Without root every one of them is refused, which says nothing.
        kernel_refusals: if root { kernel_refusals() } else { Vec::new() },
        memory_bytes: parse_memory(&read("/proc/meminfo")),
        disk_bytes: free_disk(),
        inotify: (
            read("/proc/sys/fs/inotify/max_user_instances")
                .trim()
                .parse()
                .unwrap_or(u64::MAX),
            inotify_instances(),
        ),
    }
}

/// What a person should know about the machine, in a fixed order.
pub fn judge(facts: &Facts, needs: Needs) -> Vec<Finding> {
    let finding = |subject, severity, text: String| Finding {
        subject,
        severity,
        text,
    };
    let mut findings = vec![if facts.root {
        finding("root", Severity::Fine, "yes".to_owned())
    } else {
        finding(
            "root",
            Severity::Fatal,
            "missing: nodes are made of namespaces, mounts and cgroups; run as root".to_owned(),
        )
    }];
    findings.push(match &facts.system {
        Some((id, version)) if id == "debian" && version.parse::<u32>().is_ok_and(|version| version >= 12) => {
            finding("system", Severity::Fine, format!("Debian {version}"))
        }
        Some((id, version)) => finding(
            "system",
            Severity::Warning,
            format!("{id} {version}: tried on Debian 12 only"),
        ),
        None => finding(
            "system",
            Severity::Warning,
            "unknown (no /etc/os-release): tried on Debian 12 only".to_owned(),
        ),
    });
    if needs.build {
        findings.push(judge_go(facts.go.as_deref()));
    }
    findings.push(match (facts.missing_packages.as_slice(), facts.apt) {
        ([], _) => finding("Debian packages", Severity::Fine, "all there".to_owned()),
        (missing, true) => finding(
            "Debian packages",
            Severity::Installable,
            format!("missing: {}", missing.join(" ")),
        ),
        (missing, false) => finding(
            "Debian packages",
            Severity::Fatal,
            format!(
                "missing, and there is no apt-get to install them with: {}",
                missing.join(" ")
            ),
        ),
    });
    findings.push(match &facts.cgroups {
        Cgroups::V2 => finding("control groups", Severity::Fine, "version 2".to_owned()),
        Cgroups::V1 { missing } if missing.is_empty() => finding(
            "control groups",
            Severity::Fine,
            "version 1, a hierarchy per controller".to_owned(),
        ),
        Cgroups::V1 { missing } => finding(
            "control groups",
            Severity::Fatal,
            format!(
                "version 1 without {}: mount them below /sys/fs/cgroup",
                missing.join(", ")
            ),
        ),
        Cgroups::None => finding(
            "control groups",
            Severity::Fatal,
            "none: mount cgroup2 at /sys/fs/cgroup".to_owned(),
        ),
    });
    findings.push(if facts.kernel_refusals.is_empty() {
        finding(
            "kernel",
            Severity::Fine,
            "namespaces, bridges, veth pairs, forwarding".to_owned(),
        )
    } else {
        finding(
            "kernel",
            Severity::Fatal,
            format!("refused {}", facts.kernel_refusals.join("; ")),
        )
    });
    findings.push(judge_amount(
        "memory",
        facts.memory_bytes,
        WANTED_MEMORY_BYTES,
        "pods may be evicted",
    ));
    findings.push(judge_inotify(facts.inotify));
    if needs.build {
        let shortage = "the first build of the upstream programs may not fit";
        findings.push(judge_amount("disk", facts.disk_bytes, WANTED_DISK_BYTES, shortage));
    }
    findings
}

fn judge_go(version: Option<&str>) -> Finding {
    let subject = "Go toolchain";
    let missing = "builds the upstream programs; see https://go.dev/doc/install";
    let (severity, text) = match version.map(|version| (version, parse_go_version(version))) {
        None => (Severity::Fatal, format!("missing: it {missing}")),
        Some((version, Some(parsed))) if parsed >= WANTED_GO => (Severity::Fine, version.to_owned()),
        Some((version, Some(parsed))) if parsed >= OLDEST_GO => (
            Severity::Warning,
            format!("{version}: it will download the newer one that the modules ask for"),
        ),
        Some((version, _)) => (
            Severity::Fatal,
            format!("{version} is too old: at least 1.{} {missing}", OLDEST_GO.1),
        ),
    };
    Finding {
        subject,
        severity,
        text,
    }
}

fn judge_inotify((most, used): (u64, u64)) -> Finding {
    let few = most.saturating_sub(used) < WANTED_INOTIFY;
    Finding {
        subject: "inotify instances",
        severity: if few { Severity::Warning } else { Severity::Fine },
        text: if few {
            format!(
                "{used} of {most} in use: programs may fail with \"too many open files\"; sysctl fs.inotify.max_user_instances=8192"
            )
        } else {
            format!("{used} of {most} in use")
        },
    }
}

fn judge_amount(subject: &'static str, bytes: u64, wanted: u64, shortage: &str) -> Finding {
    let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30);
    if bytes >= wanted {
        Finding {
            subject,
            severity: Severity::Fine,
            text: gib(bytes),
        }
    } else {
        let text = format!("{}, less than {}: {shortage}", gib(bytes), gib(wanted));
        Finding {
            subject,
            severity: Severity::Warning,
            text,
        }
    }
}

/// Installs the missing packages with apt-get. Returns at once when none is missing.
///
/// Services that come along are not started: the programs run inside nodes.
pub fn install_packages(progress: &dyn Progress) -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let name = "install Debian packages";
    step(progress, name, Some(Duration::from_secs(30)), || {
        let _quiet = QuietServices::begin();
        progress.note(name, "apt-get update");
        // A stale list may still do; the installation says so if not.
        let updated = apt_get(&["update"]);
        progress.note(name, &missing.join(" "));
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(&missing);
        apt_get(&arguments).map_err(|error| updated.err().unwrap_or(error))?;
        for (package, service) in SERVICES {
            if missing.contains(&package) && Path::new("/run/systemd/system").exists() {
                // What we would not want started at the next boot either. It is harmless when it is.
                let _ = Command::new("systemctl")
                    .args(["disable", service])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
        match missing_packages().as_slice() {
            [] => Ok(()),
            still => Err(Error::Other(format!(
                "failed to install {}: apt-get reported success",
                still.join(" ")
            ))),
        }
    })
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        // Out of reach of Ctrl-C: a package that is half unpacked needs a person to mend it.
        .process_group(0)
        .output()
        .map_err(Error::spawn("apt-get"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    Err(Error::Exit {
        program: format!("apt-get {}", arguments[0]),
        status: output.status.to_string(),
        output: lines[lines.len().saturating_sub(20)..].join("\n"),
    })
}

/// While it lives, packages do not start their services (Debian's `policy-rc.d`). A policy that somebody else has set is
/// left alone.
struct QuietServices {
    ours: bool,
}

impl QuietServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Self {
        let written = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(Self::POLICY)
            .and_then(|mut file| {
                file.write_all(b"#!/bin/sh\nexit 101\n")?;
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            });
        Self { ours: written.is_ok() }
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

fn is_there(proof: Proof) -> bool {
    match proof {
        Proof::File(path) => Path::new(path).exists(),
        Proof::Program(name) => {
            // An ordinary user's PATH has no sbin.
            find_in_path(name).is_some()
                || ["/usr/sbin", "/sbin"]
                    .iter()
                    .any(|dir| Path::new(dir).join(name).exists())
        }
    }
}

fn cgroups(root: &Path) -> Cgroups {
    if root.join("cgroup.controllers").exists() {
        return Cgroups::V2;
    }
    let missing: Vec<_> = V1_CONTROLLERS
        .into_iter()
        .filter(|controller| !root.join(controller).join("cgroup.procs").exists())
        .collect();
    if missing.len() == V1_CONTROLLERS.len() {
        Cgroups::None
    } else {
        Cgroups::V1 { missing }
    }
}

/// Tries, in namespaces that end with the trial.
fn kernel_refusals() -> Vec<String> {
    let trials = [
        ("namespaces", "true"),
        ("bridges", "ip link add name trial type bridge"),
        ("veth pairs", "ip link add name trial0 type veth peer name trial1"),
        ("IP forwarding", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
        ("mounts", "mount -t tmpfs tmpfs /mnt"),
    ];
    trials
        .into_iter()
        .filter_map(|(feature, trial)| {
            let output = Command::new("unshare")
                .args([
                    "--net",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--uts",
                    "--cgroup",
                    "--kill-child",
                    "sh",
                    "-c",
                    trial,
                ])
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .output();
            match output {
                Ok(output) if output.status.success() => None,
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    // `ip` and `unshare` come from packages: their absence is a finding of its own.
                    let absent = said.contains("not found");
                    (!absent).then(|| format!("{feature}: {}", said.lines().next().unwrap_or("no reason given")))
                }
                Err(_) => None,
            }
        })
        .collect()
}

fn free_disk() -> u64 {
    let cache = crate::programs::cache_directory().unwrap_or_else(|_| "/".into());
    // The cache may not be there yet; its file system is that of the nearest directory above.
    cache
        .ancestors()
        .find_map(|directory| nix::sys::statvfs::statvfs(directory).ok())
        .map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
}

/// Of all processes that may be looked at, of any user.
fn inotify_instances() -> u64 {
    let is_process = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| is_process(&entry.file_name()));
    processes.map(|process| inotify_instances_of(&process.path())).sum()
}

fn inotify_instances_of(process: &Path) -> u64 {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets
        .map(|target| u64::from(target == Path::new("anon_inode:inotify")))
        .sum()
}

fn parse_os_release(text: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key == name).then(|| value.trim_matches(['"', '\'']).to_owned())
        })
    };
    Some((value("ID")?, value("VERSION_ID").unwrap_or_default()))
}

fn parse_go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn parse_memory(text: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            root: true,
            system: Some(("debian".to_owned(), "12".to_owned())),
            apt: true,
            go: Some("go1.26.8".to_owned()),
            missing_packages: Vec::new(),
            cgroups: Cgroups::V2,
            kernel_refusals: Vec::new(),
            memory_bytes: 24 << 30,
            disk_bytes: 70 << 30,
            inotify: (128, 20),
        }
    }

    fn worst(facts: &Facts) -> Finding {
        judge(facts, Needs { build: true })
            .into_iter()
            .max_by_key(|finding| finding.severity)
            .unwrap()
    }

    #[test]
    fn a_good_machine_has_nothing_to_complain_about() {
        assert_eq!(worst(&good()).severity, Severity::Fine);
    }

    #[test]
    fn each_lack_is_a_finding_of_its_own_severity() {
        let table = [
            ("root", Severity::Fatal, Facts { root: false, ..good() }),
            (
                "system",
                Severity::Warning,
                Facts {
                    system: Some(("ubuntu".into(), "24.04".into())),
                    ..good()
                },
            ),
            (
                "system",
                Severity::Warning,
                Facts {
                    system: Some(("debian".into(), "11".into())),
                    ..good()
                },
            ),
            ("Go toolchain", Severity::Fatal, Facts { go: None, ..good() }),
            (
                "Go toolchain",
                Severity::Fatal,
                Facts {
                    go: Some("go1.19.8".into()),
                    ..good()
                },
            ),
            (
                "Go toolchain",
                Severity::Warning,
                Facts {
                    go: Some("go1.24".into()),
                    ..good()
                },
            ),
            (
                "Debian packages",
                Severity::Installable,
                Facts {
                    missing_packages: vec!["runc"],
                    ..good()
                },
            ),
            (
                "Debian packages",
                Severity::Fatal,
                Facts {
                    missing_packages: vec!["runc"],
                    apt: false,
                    ..good()
                },
            ),
            (
                "control groups",
                Severity::Fatal,
                Facts {
                    cgroups: Cgroups::None,
                    ..good()
                },
            ),
            (
                "control groups",
                Severity::Fatal,
                Facts {
                    cgroups: Cgroups::V1 { missing: vec!["pids"] },
                    ..good()
                },
            ),
            (
                "kernel",
                Severity::Fatal,
                Facts {
                    kernel_refusals: vec!["bridges: no".into()],
                    ..good()
                },
            ),
            (
                "memory",
                Severity::Warning,
                Facts {
                    memory_bytes: 2 << 30,
                    ..good()
                },
            ),
            (
                "disk",
                Severity::Warning,
                Facts {
                    disk_bytes: 1 << 30,
                    ..good()
                },
            ),
            (
                "inotify instances",
                Severity::Warning,
                Facts {
                    inotify: (128, 65),
                    ..good()
                },
            ),
        ];
        for (subject, severity, facts) in table {
            let found = worst(&facts);
            assert_eq!((found.subject, found.severity), (subject, severity), "{}", found.text);
        }
    }

    #[test]
    fn go_and_room_to_build_matter_only_to_those_who_build() {
        let facts = Facts {
            go: None,
            disk_bytes: 0,
            ..good()
        };
        let findings = judge(&facts, Needs { build: false });
        assert!(
            findings.iter().all(|finding| finding.severity == Severity::Fine),
            "{findings:?}"
        );
    }

    #[test]
    fn what_the_system_says_is_read() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(parse_os_release(text), Some(("debian".to_owned(), "12".to_owned())));
        assert_eq!(parse_os_release(""), None);
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_go_version("devel +abc"), None);
        assert_eq!(
            parse_memory("MemTotal:       24676036 kB\nMemFree: 1 kB\n"),
            25_268_260_864
        );
        assert_eq!(
            judge_amount("memory", 3 << 29, 4 << 30, "x").text,
            "1.5 GiB, less than 4.0 GiB: x"
        );
    }

    #[test]
    fn inotify_instances_are_counted() {
        use nix::sys::inotify::{InitFlags, Inotify};
        let own = || inotify_instances_of(Path::new("/proc/self"));
        let before = own();
        let three = [(); 3].map(|()| Inotify::init(InitFlags::empty()).unwrap());
        assert_eq!(own(), before + 3);
        assert!(inotify_instances() >= 3);
        drop(three);
        assert_eq!(own(), before);
    }

    #[test]
    fn both_layouts_of_control_groups_are_known() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups(root.path()), Cgroups::None);
        for controller in V1_CONTROLLERS.iter().filter(|controller| **controller != "pids") {
            fs::create_dir(root.path().join(controller)).unwrap();
            fs::write(root.path().join(controller).join("cgroup.procs"), "").unwrap();
        }
        assert_eq!(cgroups(root.path()), Cgroups::V1 { missing: vec!["pids"] });
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(cgroups(root.path()), Cgroups::V2);
    }
}
