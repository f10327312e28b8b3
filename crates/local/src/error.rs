//! What can go wrong while real programs run on a real machine, in words for the person at the terminal.
//!
//! Every variant names its subject and, where a program said something itself, carries the end of what it said: "exit
//! status 1" helps nobody.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation. `action` is what was tried, such as "write" or "create directory".
    #[error("failed to {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("failed to start {program}")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// A program that should keep running ended, or one that should succeed did not.
    #[error("failed to run {program}: {status}{}", said(output))]
    Exit {
        program: String,
        status: String,
        /// The end of its output or log.
        output: String,
    },
    /// Something did not become ready in time.
    #[error("failed to see {what} within {} s: {reason}{}", waited.as_secs(), said(output))]
    Timeout {
        what: String,
        waited: Duration,
        reason: String,
        output: String,
    },
    /// A program of the table is in none of the places where it may be.
    #[error("failed to find the program {name} in {}: {advice}", directory.display())]
    MissingProgram {
        name: String,
        directory: PathBuf,
        advice: &'static str,
    },
    /// Somebody listens at each of these ports.
    #[error("failed to find a port between {} and {} at which nobody listens", within.start, within.end)]
    NoPort { within: Range<u16> },
    /// Certificates or keys could not be made.
    #[error("failed to issue the certificate of {subject}")]
    Certificate {
        subject: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A client for a cluster of ours could not be made.
    #[error("failed to make a client for {server}")]
    Client {
        server: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else that has a sentence of its own.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err` on file operations: `fs::write(..).map_err(Error::file("write", path))`.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on spawning.
    pub fn spawn(program: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let program = program.into();
        move |source| Self::Spawn { program, source }
    }
}

fn said(output: &str) -> String {
    if output.trim().is_empty() {
        String::new()
    } else {
        format!("; it said:\n{}", output.trim_end())
    }
}
