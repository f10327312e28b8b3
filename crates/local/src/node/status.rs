//! What the node's first process says about its programs: a file in the node's directory, replaced at every change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::error::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub programs: BTreeMap<String, ProgramStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramStatus {
    pub state: State,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_end: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// What it needs is not there yet.
    Waiting,
    Running,
    /// It ended and will be started again.
    Resting,
    /// It ended well and need not run again.
    Done,
}

impl Status {
    fn path(directory: &Path) -> PathBuf {
        directory.join("status.json")
    }

    /// `None`: the node has not come far enough to say anything.
    pub fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(directory)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        replace(&Self::path(directory), self)
    }

    pub(super) fn forget(directory: &Path) {
        // Not there is what is wanted.
        let _ = std::fs::remove_file(Self::path(directory));
    }
}

/// What the supervisor writes down about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) supervisor: Identity,
    /// The node's first process, seen from the machine.
    pub(super) init: Option<Identity>,
}

impl Record {
    /// Written once per life, at its beginning.
    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join("processes.json")
    }

    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(directory)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        replace(&Self::path(directory), self)
    }

    pub(super) fn forget(directory: &Path) {
        // Not there is what is wanted.
        let _ = std::fs::remove_file(Self::path(directory));
    }
}

/// Writes a file so that a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Other(format!("failed to write {}: {error}", path.display())))?;
    let new = path.with_extension("new");
    std::fs::write(&new, text).map_err(Error::file("write", &new))?;
    std::fs::rename(&new, path).map_err(Error::file("write", path))
}
