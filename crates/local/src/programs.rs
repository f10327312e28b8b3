//! The upstream programs: which there are, how they are built, and where they are kept.
//!
//! They are built from the Go modules in `tools/`, so `go.sum` pins every byte, and kept outside the checkout under a name
//! that is the hash of all that goes into them: a fresh checkout finds what another one built, and a change of a version
//! or a flag is a new entry. Eight minutes the first time on two cores, nothing after that.
//!
//! Building happens in a directory of its own that is renamed when complete, under a lock, so that neither an
//! interrupted build nor two at once leave half an entry.

mod cache;
mod table;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::progress::{Lines, Progress};

use cache::Builder;
use table::{MODULES, OLDER, Older};

pub use table::PAUSE_VERSION;
pub(crate) use toolchain::go;

/// Set to a directory with ready-made programs, nothing is built.
pub const PROGRAMS_VARIABLE: &str = "COTENANT_PROGRAMS";
/// Where the cache is; `~/.cache/cotenant` when unset.
pub const CACHE_VARIABLE: &str = "COTENANT_CACHE";
/// Where the Go modules are; those of the checkout that this program was compiled from when unset.
pub const TOOLS_VARIABLE: &str = "COTENANT_TOOLS";

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

    /// kine's version, such as `v0.16.4`, as the program itself says.
    pub fn kine_version(&self) -> Result<String> {
        let said = output(Command::new(self.path("kine")).arg("--version"))?;
        word_after(&said, "kine version").ok_or_else(|| unreadable("kine", &said))
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
    builder(progress)?.ensure("all", MODULES)
}

/// The minors of Kubernetes before the one of [`locate`], such as `1.35`, oldest first.
pub fn older_minors() -> impl Iterator<Item = &'static str> {
    OLDER.iter().map(|older| older.minor)
}

/// Kubernetes' programs of an older minor: all of a control plane and its nodes, and kubeadm. Built now if need be, which takes
/// minutes.
pub fn of_older_minor(minor: &str, progress: &dyn Progress) -> Result<Programs> {
    let older = older(minor)?;
    builder(progress)?.ensure(minor, [&older.kubeadm, &older.others])
}

/// kubeadm of an older minor.
pub fn kubeadm_of_older_minor(minor: &str, progress: &dyn Progress) -> Result<PathBuf> {
    let programs = builder(progress)?.ensure(minor, [&older(minor)?.kubeadm])?;
    Ok(programs.path("kubeadm"))
}

fn older(minor: &str) -> Result<&'static Older> {
    OLDER.iter().find(|older| older.minor == minor).ok_or_else(|| {
        let known: Vec<_> = older_minors().collect();
        Error::Other(format!(
            "failed to find Kubernetes {minor}: the older minors are {}",
            known.join(", ")
        ))
    })
}

fn builder(progress: &dyn Progress) -> Result<Builder<'_>> {
    Ok(Builder {
        tools: tools_directory()?,
        cache: cache_directory()?.join("programs"),
        progress,
    })
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
