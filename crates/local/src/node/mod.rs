//! A node: a set of namespaces of this machine that hold a containerd, a kubelet and what else a node runs.
//!
//! Two roles of our own executable make it. `cotenant node run CONFIG` is the supervisor: it stays outside, makes the
//! cgroups and the veth pair, waits, and takes everything away again. `cotenant node init CONFIG` is the first process
//! inside: it mounts a node's view of the machine, then starts the node's programs and keeps them running.
//!
//! What was refused: named network namespaces (`ip netns add`), because they outlive their processes and leave a mount
//! behind. Here every namespace is held by processes alone, so that killing the node's first process ends the whole
//! node, and what can be left over is one directory per cgroup hierarchy and, for a moment, a veth pair. Both have
//! names that follow from the cluster's and the node's, so the next start or `remove` finds them without any record.
//!
//! A node sees the machine's `/usr` and its kernel; `/etc` is an overlay that forgets, `/var`, `/run` and `/tmp` are
//! its own, and what must survive a restart lies in the node's directory on the machine.

mod cgroup;
mod config;
mod enter;
mod gate;
mod handle;
mod hook;
mod identity;
mod init;
mod mounts;
mod pod_network;
mod status;
mod supervisor;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub use config::{BIN, Condition, DIRECTORY, EXECUTABLE, Lifetime, Node, Program};
pub use handle::{Handle, clean, stop};
pub use identity::Identity;
pub(crate) use status::replace;
pub use status::{ProgramStatus, State, Status};

use crate::error::{Error, Result};

/// The hidden subcommand: `args` is what follows `cotenant node`, that is a role and the path of a configuration file.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let outcome = match args.as_slice() {
        [role, path] if role == "run" => supervisor::run(path.as_ref()),
        [role, path] if role == "enter" => enter::enter(path.as_ref()),
        [role, path] if role == "init" => init::run(path.as_ref()),
        [role, path] if role == "pod-network" => pod_network::run(path.as_ref()),
        [role] if role == "hook" => hook::run(),
        _ => Err(Error::Other(
            "failed to understand the command: `cotenant node run|enter|init CONFIG` is for Cotenant's own use".into(),
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Our own executable, which also plays the roles of a node: what `COTENANT_EXE` names, else this process's program
/// when that is `cotenant`, else the one that cargo put beside this test.
pub fn executable() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("COTENANT_EXE") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Other(format!(
                "failed to find the executable {}, which COTENANT_EXE names",
                path.display()
            )))
        };
    }
    let current = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    if current.file_name().is_some_and(|name| name == "cotenant") {
        return Ok(current);
    }
    // target/debug/deps/name-hash and target/debug/examples/name
    let profile = current.parent().and_then(|directory| directory.parent());
    let places = ["cotenant", "examples/cotenant"];
    profile
        .into_iter()
        .flat_map(|profile| places.map(|place| profile.join(place)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Other(format!(
                "failed to find the cotenant executable beside {}: build it with `cargo build -p cotenant`, or name it \
                 in COTENANT_EXE",
                current.display()
            ))
        })
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
