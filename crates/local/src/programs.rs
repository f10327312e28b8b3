//! The upstream programs: which there are, how they are built, and where they are kept.
//!
//! They are built from the Go modules in `tools/`, so `go.sum` pins every byte, and kept outside the checkout under a name
//! that is the hash of all that goes into them: a fresh checkout finds what another one built, and a change of a version
//! or a flag is a new entry. Eight minutes the first time on two cores, nothing after that.
//!
//! Building happens in a directory of its own that is renamed when complete, under a lock, so that neither an
//! interrupted build nor two at once leave half an entry.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::process::{Process, Spec};
use crate::progress::{Lines, Outcome, Progress};

/// Set to a directory with ready-made programs, nothing is built.
pub const PROGRAMS_VARIABLE: &str = "COTENANT_PROGRAMS";
/// Where the cache is; `~/.cache/cotenant` when unset.
pub const CACHE_VARIABLE: &str = "COTENANT_CACHE";
/// Where the Go modules are; those of the checkout that this program was compiled from when unset.
pub const TOOLS_VARIABLE: &str = "COTENANT_TOOLS";

/// The Go module whose version is Kubernetes' version.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The tag of the pause image that kubeadm of these versions deploys, and what `pause -v` says.
pub const PAUSE_VERSION: &str = "3.10.1";

/// A Go module of `tools/` and what is built from it.
struct Module {
    directory: &'static str,
    /// The upstream module whose version in `go.mod` is the version of these programs.
    versioned_by: &'static str,
    programs: &'static [Program],
}

struct Program {
    name: &'static str,
    source: Source,
    /// Cold, on two cores; what a person is told until this machine has built it once.
    expected: Duration,
}

enum Source {
    /// A main package, with `-ldflags` for the versions that it reports.
    Go { package: &'static str, reports: Reports },
    /// A C file inside the module named by `versioned_by`.
    C { file: &'static str },
}

/// Where a program gets the version that it reports from.
#[derive(Clone, Copy)]
enum Reports {
    /// Its own source.
    Itself,
    /// Variables of Kubernetes' version packages, which only the linker fills in.
    Kubernetes,
    /// Helm's `internal/version`.
    Helm,
}

const fn kubernetes(name: &'static str, package: &'static str, expected_seconds: u64) -> Program {
    Program {
        name,
        source: Source::Go {
            package,
            reports: Reports::Kubernetes,
        },
        expected: Duration::from_secs(expected_seconds),
    }
}

const MODULES: &[Module] = &[
    Module {
        directory: "kubernetes-1.36",
        versioned_by: KUBERNETES,
        programs: &[
            kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 180),
            kubernetes(
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                46,
            ),
            kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 5),
            kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet", 15),
            kubernetes("kubeadm", "k8s.io/kubernetes/cmd/kubeadm", 15),
            kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 6),
            kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", 10),
            Program {
                name: "pause",
                source: Source::C {
                    file: "build/pause/linux/pause.c",
                },
                expected: Duration::from_secs(1),
            },
        ],
    },
    Module {
        directory: "etcd",
        versioned_by: "go.etcd.io/etcd/server/v3",
        programs: &[
            Program {
                name: "etcd",
                source: Source::Go {
                    package: "./etcd",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(25),
            },
            Program {
                name: "etcdctl",
                source: Source::Go {
                    package: "go.etcd.io/etcd/etcdctl/v3",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(5),
            },
        ],
    },
    Module {
        directory: "coredns",
        versioned_by: "github.com/coredns/coredns",
        programs: &[Program {
            name: "coredns",
            source: Source::Go {
                package: "github.com/coredns/coredns",
                reports: Reports::Itself,
            },
            expected: Duration::from_secs(92),
        }],
    },
    Module {
        directory: "helm",
        versioned_by: "helm.sh/helm/v3",
        programs: &[Program {
            name: "helm",
            source: Source::Go {
                package: "helm.sh/helm/v3/cmd/helm",
                reports: Reports::Helm,
            },
            expected: Duration::from_secs(65),
        }],
    },
];

/// The programs, all in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Programs that somebody else built. Whether one is there shows when it is started.
    pub fn from_dir(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where a program is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory that holds them all, for a `PATH`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fails naming the first program of the table that is not there.
    pub fn check(&self) -> Result<()> {
        match names().find(|name| !self.path(name).is_file()) {
            None => Ok(()),
            Some(name) => Err(Error::MissingProgram {
                name: name.to_owned(),
                directory: self.directory.clone(),
                advice: "it must hold every program of tools/README.md",
            }),
        }
    }

    /// Kubernetes' version, such as `v1.36.3`, as the programs themselves say.
    pub fn kubernetes_version(&self) -> Result<String> {
        let said = output(Command::new(self.path("kubeadm")).args(["version", "-o", "short"]))?;
        Ok(said.trim().to_owned())
    }

    /// etcd's version, such as `3.6.5`, as the program itself says.
    pub fn etcd_version(&self) -> Result<String> {
        let said = output(Command::new(self.path("etcd")).arg("--version"))?;
        word_after(&said, "etcd Version:").ok_or_else(|| unreadable("etcd", &said))
    }

    /// CoreDNS' version, such as `1.14.2`, as the program itself says.
    pub fn coredns_version(&self) -> Result<String> {
        let said = output(Command::new(self.path("coredns")).args(["-version"]))?;
        word_after(&said, "CoreDNS-").ok_or_else(|| unreadable("coredns", &said))
    }
}

fn word_after(text: &str, mark: &str) -> Option<String> {
    let (_, rest) = text.split_once(mark)?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn unreadable(program: &str, said: &str) -> Error {
    Error::Other(format!(
        "failed to read a version from what {program} says of itself: {:?}",
        said.trim()
    ))
}

/// The name of every program of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES
        .iter()
        .flat_map(|module| module.programs)
        .map(|program| program.name)
}

/// The programs, built if need be, for tests: the directory of [`PROGRAMS_VARIABLE`], else the cache.
pub fn locate() -> Result<Programs> {
    ensure(&Lines)
}

/// The programs, with those missing from the cache built now. A directory named by [`PROGRAMS_VARIABLE`] is taken as it
/// is.
pub fn ensure(progress: &dyn Progress) -> Result<Programs> {
    if let Some(directory) = std::env::var_os(PROGRAMS_VARIABLE).filter(|value| !value.is_empty()) {
        let programs = Programs::from_dir(directory);
        programs.check()?;
        return Ok(programs);
    }
    Builder {
        tools: tools_directory()?,
        cache: cache_directory()?.join("programs"),
        progress,
    }
    .ensure()
}

/// Where things are kept that can be made again: `${COTENANT_CACHE:-~/.cache/cotenant}`.
pub fn cache_directory() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set(CACHE_VARIABLE)
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("cotenant")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/cotenant")))
        .ok_or_else(|| {
            Error::Other(format!(
                "failed to find a place for the cache: set {CACHE_VARIABLE} (or HOME) to a directory"
            ))
        })
}

fn tools_directory() -> Result<PathBuf> {
    let checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools");
    let directory = std::env::var_os(TOOLS_VARIABLE).map_or_else(checkout, PathBuf::from);
    directory.canonicalize().map_err(|_| {
        Error::Other(format!(
            "failed to find the Go modules of the upstream programs in {}: run from a checkout, set {TOOLS_VARIABLE} to \
             its tools directory, or name a directory with ready-made programs (--programs, {PROGRAMS_VARIABLE})",
            directory.display()
        ))
    })
}

struct Builder<'a> {
    tools: PathBuf,
    cache: PathBuf,
    progress: &'a dyn Progress,
}

impl Builder<'_> {
    fn ensure(&self) -> Result<Programs> {
        let go = go_version()?;
        let entries = MODULES
            .iter()
            .map(|module| Ok((module, self.entry(module, &go)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut all = Sha256::new();
        for (_, entry) in &entries {
            all.update(entry.as_os_str().as_encoded_bytes());
            all.update([0]);
        }
        let all = self.cache.join(format!("all-{}", short_hex(all)));
        if all.is_dir() {
            return Ok(Programs::from_dir(all));
        }
        let _lock = self.lock()?;
        if all.is_dir() {
            return Ok(Programs::from_dir(all));
        }
        for (module, entry) in &entries {
            if entry.is_dir() {
                for program in module.programs {
                    let step = step_name(program);
                    self.progress.begin(&step, None);
                    self.progress.end(&step, Outcome::Kept);
                }
            } else {
                self.build(module, entry)?;
            }
        }
        self.gather(&entries, &all)?;
        Ok(Programs::from_dir(all))
    }

    /// Where the programs of a module are, or will be: its name and a hash of everything that decides their content.
    fn entry(&self, module: &Module, go: &str) -> Result<PathBuf> {
        let root = self.tools.join(module.directory);
        let mut files = Vec::new();
        collect_files(&root, &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(go.as_bytes());
        add(std::env::consts::ARCH.as_bytes());
        for file in files {
            add(file.strip_prefix(&root).unwrap_or(&file).as_os_str().as_encoded_bytes());
            add(&fs::read(&file).map_err(Error::file("read", &file))?);
        }
        let version = self.version(module)?;
        for program in module.programs {
            add(program.name.as_bytes());
            match &program.source {
                // The commit's time belongs to the version, and is asked for only when building.
                Source::Go { package, reports } => {
                    add(package.as_bytes());
                    add(linker_flags(*reports, &version, "", "").as_bytes());
                }
                Source::C { file } => {
                    add(file.as_bytes());
                    add(C_FLAGS.join(" ").as_bytes());
                }
            }
        }
        Ok(self.cache.join(format!("{}-{}", module.directory, short_hex(hash))))
    }

    fn version(&self, module: &Module) -> Result<String> {
        let path = self.tools.join(module.directory).join("go.mod");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        required_version(&text, module.versioned_by).ok_or_else(|| {
            Error::Other(format!(
                "failed to find a version of {} in {}",
                module.versioned_by,
                path.display()
            ))
        })
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.cache).map_err(Error::file("create directory", &self.cache))?;
        let path = self.cache.join("lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::file("open the lock", &path))?;
        if file.try_lock().is_err() {
            let step = "wait for another run that builds the programs";
            self.progress.begin(step, None);
            let locked = file.lock();
            self.progress
                .end(step, if locked.is_ok() { Outcome::Done } else { Outcome::Failed });
            locked.map_err(Error::file("lock", &path))?;
        }
        Ok(file)
    }

    fn build(&self, module: &Module, entry: &Path) -> Result<()> {
        let directory = self.tools.join(module.directory);
        let version = self.version(module)?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&self.cache)
            .map_err(Error::file("create a directory in", &self.cache))?;
        let mut durations = self.durations();
        // Asked for once per module, and only now: it may have to download the module first.
        let mut source: Option<ModuleSource> = None;
        for program in module.programs {
            let step = step_name(program);
            let expected = durations
                .get(program.name)
                .copied()
                .map_or(program.expected, Duration::from_secs_f64);
            let begun = Instant::now();
            self.progress.begin(&step, Some(expected));
            let built = Self::build_program(module, program, &directory, &version, partial.path(), &mut source);
            self.progress
                .end(&step, if built.is_ok() { Outcome::Done } else { Outcome::Failed });
            built?;
            durations.insert(program.name.to_owned(), begun.elapsed().as_secs_f64());
        }
        self.remember(&durations);
        let log = partial.path().join("log");
        fs::remove_file(&log).map_err(Error::file("remove", &log))?;
        // The temporary directory is private; what it becomes is for every user of the cache.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(partial.path(), readable).map_err(Error::file("open up", partial.path()))?;
        let partial = partial.keep();
        fs::rename(&partial, entry).map_err(Error::file("move into place", entry))
    }

    fn build_program(
        module: &Module,
        program: &Program,
        directory: &Path,
        version: &str,
        into: &Path,
        source: &mut Option<ModuleSource>,
    ) -> Result<()> {
        let target = into.join(program.name);
        if source.is_none() {
            *source = Some(ModuleSource::find(directory, module.versioned_by)?);
        }
        let source = source.as_ref().expect("filled in just above");
        let spec = |tool: PathBuf| {
            Spec::new(format!("the build of {}", program.name), tool, into.join("log")).directory(directory)
        };
        let spec = match &program.source {
            Source::Go { package, reports } => {
                let flags = linker_flags(*reports, version, &source.time, &source.sum);
                go_environment(
                    spec(go()?)
                        .args(["build", "-mod=readonly", "-trimpath", "-ldflags"])
                        .arg(flags),
                )
                .arg("-o")
                .arg(&target)
                .arg(*package)
            }
            Source::C { file } => spec(compiler()?)
                .args(C_FLAGS)
                .arg(format!("-DVERSION=v{PAUSE_VERSION}"))
                .arg("-o")
                .arg(&target)
                .arg(source.directory.join(file)),
        };
        Process::start(spec)?.success()
    }

    /// One directory with all programs, hard links to the entries: one name for a `PATH`, and no copy.
    fn gather(&self, entries: &[(&Module, PathBuf)], all: &Path) -> Result<()> {
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.cache)
            .map_err(Error::file("create a directory in", &self.cache))?;
        for (module, entry) in entries {
            for program in module.programs {
                let link = partial.path().join(program.name);
                fs::hard_link(entry.join(program.name), &link).map_err(Error::file("link", &link))?;
            }
        }
        let partial = partial.keep();
        fs::rename(&partial, all).map_err(Error::file("move into place", all))
    }

    fn durations(&self) -> BTreeMap<String, f64> {
        // Only an estimate for people: without it the table's figure is shown.
        fs::read(self.cache.join("durations.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn remember(&self, durations: &BTreeMap<String, f64>) {
        if let Ok(bytes) = serde_json::to_vec_pretty(durations) {
            // See `durations`.
            let _ = fs::write(self.cache.join("durations.json"), bytes);
        }
    }
}

fn step_name(program: &Program) -> String {
    format!("build {}", program.name)
}

const C_FLAGS: [&str; 4] = ["-Os", "-Wall", "-static", "-s"];

/// The linker's flags for what a program says about itself.
///
/// `sum` is the checksum of the module in `go.sum`, in hex. It stands where upstream has the commit, because a module
/// does not know its commit, and because it does name exactly this source. `archive` is upstream's own word for source
/// that comes without a repository.
fn linker_flags(reports: Reports, version: &str, time: &str, sum: &str) -> String {
    let mut flags = "-s -w".to_owned();
    let mut set = |package: &str, variable: &str, value: &str| {
        flags.extend([" -X ", package, ".", variable, "=", value]);
    };
    match reports {
        Reports::Itself => {}
        Reports::Helm => {
            set("helm.sh/helm/v3/internal/version", "version", version);
            set("helm.sh/helm/v3/internal/version", "metadata", "");
            set("helm.sh/helm/v3/internal/version", "gitTreeState", "archive");
        }
        Reports::Kubernetes => {
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                set(package, "gitVersion", version);
                set(package, "gitMajor", major);
                set(package, "gitMinor", minor);
                set(package, "gitCommit", sum);
                set(package, "gitTreeState", "archive");
                set(package, "buildDate", time);
            }
        }
    }
    flags
}

/// What Go knows about an upstream module on this machine.
struct ModuleSource {
    directory: PathBuf,
    /// When that version was tagged, RFC 3339.
    time: String,
    /// Its checksum of `go.sum`, as hex.
    sum: String,
}

impl ModuleSource {
    /// Downloads the module if it is not in Go's cache.
    fn find(tools: &Path, path: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Downloaded {
            dir: PathBuf,
            info: PathBuf,
            sum: String,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            time: Option<String>,
        }
        let json = output(
            Command::new(go()?)
                .args(["mod", "download", "-json", path])
                .current_dir(tools)
                .envs(GO_ENVIRONMENT.iter().copied()),
        )?;
        let unexpected = |error: serde_json::Error| {
            Error::Other(format!("failed to read what Go says about the module {path}: {error}"))
        };
        let downloaded: Downloaded = serde_json::from_str(&json).map_err(unexpected)?;
        let info = fs::read(&downloaded.info).map_err(Error::file("read", &downloaded.info))?;
        let info: Info = serde_json::from_slice(&info).map_err(unexpected)?;
        let sum = downloaded.sum.trim_start_matches("h1:");
        let sum = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, sum)
            .map_err(|error| Error::Other(format!("failed to read the checksum of the module {path}: {error}")))?;
        Ok(Self {
            directory: downloaded.dir,
            time: info.time.unwrap_or_default(),
            sum: hex(&sum),
        })
    }
}

/// What must not come from the person's own environment: it would change what is built, or where from.
const GO_ENVIRONMENT: [(&str, &str); 4] = [
    ("CGO_ENABLED", "0"),
    ("GOFLAGS", "-mod=readonly"),
    ("GOWORK", "off"),
    ("GO111MODULE", "on"),
];

fn go_environment(spec: Spec) -> Spec {
    GO_ENVIRONMENT
        .into_iter()
        .fold(spec, |spec, (name, value)| spec.env(name, value))
}

/// The Go toolchain: in the `PATH`, or where its own installer and Debian put it.
pub(crate) fn go() -> Result<PathBuf> {
    find_in_path("go")
        .or_else(|| {
            let usual = ["/usr/local/go/bin/go", "/usr/lib/go/bin/go"];
            usual.into_iter().map(PathBuf::from).find(|path| path.is_file())
        })
        .ok_or_else(|| Error::MissingProgram {
            name: "go".to_owned(),
            directory: PathBuf::from("PATH"),
            advice: "it builds the upstream programs; see https://go.dev/doc/install",
        })
}

fn compiler() -> Result<PathBuf> {
    find_in_path("cc").ok_or_else(|| Error::MissingProgram {
        name: "cc".to_owned(),
        directory: PathBuf::from("PATH"),
        advice: "it builds the pause program; Debian has it in the package gcc",
    })
}

fn go_version() -> Result<String> {
    output(
        Command::new(go()?)
            .args(["env", "GOVERSION"])
            .envs(GO_ENVIRONMENT.iter().copied()),
    )
    .map(|version| version.trim().to_owned())
}

/// The version that a `go.mod` requires of a module.
fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let line = line.trim_start().strip_prefix("require ").unwrap_or(line.trim_start());
        let mut words = line.split_whitespace();
        (words.next()? == module).then_some(())?;
        let version = words.next()?;
        version.starts_with('v').then(|| version.to_owned())
    })
}

fn collect_files(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let path = entry.map_err(Error::file("list", directory))?.path();
        if path.is_dir() {
            collect_files(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

/// Runs a short command to its end; its output.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(Error::spawn(&program))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::Exit {
            program,
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Where a command is found, as a shell would.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn short_hex(hash: Sha256) -> String {
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_both_forms_of_require() {
        let text = "module m\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.36.3\n\nrequire (\n\tgo.etcd.io/etcd/server/v3 v3.6.5\n\
                    \tgithub.com/coredns/coredns v1.14.2 // indirect\n)\n\nreplace k8s.io/api => k8s.io/api v0.36.3\n";
        for (module, version) in [
            ("k8s.io/kubernetes", Some("v1.36.3")),
            ("go.etcd.io/etcd/server/v3", Some("v3.6.5")),
            ("github.com/coredns/coredns", Some("v1.14.2")),
            ("k8s.io/api", None),
            ("k8s.io", None),
        ] {
            assert_eq!(required_version(text, module).as_deref(), version, "{module}");
        }
    }

    #[test]
    fn kubernetes_reports_its_version_through_the_linker() {
        let flags = linker_flags(Reports::Kubernetes, "v1.36.3", "2026-07-22T18:07:38Z", "a8d4");
        for expected in [
            "-s -w ",
            " -X k8s.io/component-base/version.gitVersion=v1.36.3 ",
            " -X k8s.io/component-base/version.gitMajor=1 ",
            " -X k8s.io/component-base/version.gitMinor=36 ",
            " -X k8s.io/component-base/version.gitCommit=a8d4 ",
            " -X k8s.io/component-base/version.gitTreeState=archive ",
            " -X k8s.io/component-base/version.buildDate=2026-07-22T18:07:38Z ",
            " -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3 ",
        ] {
            assert!(flags.contains(expected), "{expected:?} is not in {flags:?}");
        }
    }

    #[test]
    fn every_module_is_there_with_a_version_and_checksums() {
        let builder = Builder {
            tools: tools_directory().unwrap(),
            cache: PathBuf::from("/nonexistent"),
            progress: &Lines,
        };
        for module in MODULES {
            builder.version(module).unwrap();
            let sums = fs::read_to_string(builder.tools.join(module.directory).join("go.sum")).unwrap();
            assert!(sums.contains(module.versioned_by), "{}", module.directory);
        }
    }

    #[test]
    fn an_entry_changes_with_its_module_and_with_the_toolchain() {
        let tools = tempfile::tempdir().unwrap();
        for module in MODULES {
            let directory = tools.path().join(module.directory);
            fs::create_dir(&directory).unwrap();
            fs::write(
                directory.join("go.mod"),
                format!("require {} v1.2.3\n", module.versioned_by),
            )
            .unwrap();
        }
        let builder = Builder {
            tools: tools.path().to_owned(),
            cache: PathBuf::from("/cache"),
            progress: &Lines,
        };
        let first = builder.entry(&MODULES[1], "go1.26.8").unwrap();
        assert!(
            first.starts_with("/cache") && first.to_string_lossy().contains("etcd-"),
            "{}",
            first.display()
        );
        assert_eq!(builder.entry(&MODULES[1], "go1.26.8").unwrap(), first);
        assert_ne!(builder.entry(&MODULES[1], "go1.26.9").unwrap(), first);
        fs::write(tools.path().join("etcd/main.go"), "package main\n").unwrap();
        assert_ne!(builder.entry(&MODULES[1], "go1.26.8").unwrap(), first);
    }
}
