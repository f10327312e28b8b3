//! What a node is told: one JSON file, written by whoever starts it, read by its supervisor and its first process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the node sees its own directory.
pub const DIRECTORY: &str = "/run/cotenant/node";

/// Where the node sees the programs that its configuration names.
pub const BIN: &str = "/run/cotenant/bin";

/// Where the node sees our own executable.
pub const EXECUTABLE: &str = "/run/cotenant/bin/cotenant";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    pub cluster: String,
    /// The node's host name, and its name in its cluster.
    pub name: String,
    /// On the machine; everything of the node that survives a restart.
    pub directory: PathBuf,
    pub address: Ipv4Addr,
    /// The machine's address on the bridge, which is the node's default route.
    pub gateway: Ipv4Addr,
    pub bridge: String,
    /// Further routes: destination to gateway, such as another node's pods.
    #[serde(default)]
    pub routes: BTreeMap<String, Ipv4Addr>,
    /// Our own executable, on the machine.
    pub executable: PathBuf,
    /// Programs to show to the node under `BIN`: name to path on the machine.
    pub binaries: BTreeMap<String, PathBuf>,
    /// A limit for everything in the node together.
    pub memory_bytes: Option<u64>,
    /// In the order in which they are started.
    pub programs: Vec<Program>,
    pub lifetime: Lifetime,
}

/// How long a node lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lifetime {
    /// Until it is stopped.
    Detached,
    /// Until the process that started it ends, however it ends. `remove` is a cluster's directory to remove then.
    Parent { remove: Option<PathBuf> },
}

/// A program of the node, started again whenever it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// Also the name of its log.
    pub name: String,
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What must be there before its first start.
    #[serde(default)]
    pub after: Vec<Condition>,
    /// It is done when it ends well.
    #[serde(default)]
    pub once: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// A file or socket exists.
    Path(PathBuf),
    /// Something listens.
    Tcp(SocketAddr),
    /// The API server that a kubeconfig names says it is ready.
    ApiServer(PathBuf),
}

impl Node {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::file("read", path))?;
        serde_json::from_slice(&text).map_err(|error| {
            Error::Other(format!(
                "failed to read the node's configuration {}: {error}",
                path.display()
            ))
        })
    }

    /// Where a node's configuration lies in its directory.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join("node.json")
    }

    pub fn log(&self, program: &str) -> PathBuf {
        self.directory.join("log").join(format!("{program}.log"))
    }
}

impl Program {
    pub fn new<A: Into<String>>(name: &str, command: impl IntoIterator<Item = A>) -> Self {
        Self {
            name: name.to_owned(),
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn after(mut self, condition: Condition) -> Self {
        self.after.push(condition);
        self
    }
}
