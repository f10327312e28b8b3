//! One upstream program: started under a guard, logging to a file, with words for the day it does not start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::guard::Guard;

/// How much of a log a message carries.
const TAIL_BYTES: u64 = 2048;

/// What to run and where its words go.
#[derive(Clone, Debug)]
pub struct Spec {
    /// For people and for the log's name.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: BTreeMap<OsString, OsString>,
    /// Where it runs; our own working directory when none.
    pub directory: Option<PathBuf>,
    /// Appended to, so that the words of an earlier life stay readable.
    pub log: PathBuf,
}

impl Spec {
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            directory: None,
            log: log.into(),
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }
}

/// A program that runs, or ran.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    guard: Guard,
}

impl Process {
    pub fn start(spec: Spec) -> Result<Self> {
        if !spec.program.exists() {
            return Err(Error::MissingProgram {
                name: spec.name,
                directory: spec.program.parent().unwrap_or(Path::new("/")).to_owned(),
                advice: "build it with `cotenant up`, or name a directory that holds it with --programs",
            });
        }
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&spec.log)
                .map_err(Error::file("open the log", &spec.log))
        };
        let (stdout, stderr) = (open()?, open()?);
        let guard = Guard::start(
            &spec.program,
            spec.args.clone(),
            spec.env.clone(),
            spec.directory.as_deref(),
            (Stdio::from(stdout), Stdio::from(stderr)),
        )?;
        Ok(Self { spec, guard })
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// The pid of the outermost process, which ends with the program.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// `Ok` while it runs, else why it does not.
    pub fn check(&mut self) -> Result<()> {
        match self.guard.try_wait() {
            None => Ok(()),
            Some(status) => Err(Error::Exit {
                program: self.spec.name.clone(),
                status: format!("it ended with {status}"),
                output: tail(&self.spec.log),
            }),
        }
    }

    /// Waits for the end of a program that ends by itself; an error unless it succeeded.
    pub fn success(mut self) -> Result<()> {
        match self.guard.wait() {
            Some(status) if status.success() => Ok(()),
            status => Err(Error::Exit {
                program: self.spec.name.clone(),
                status: status.map_or_else(|| "its end was not seen".to_owned(), |status| status.to_string()),
                output: tail(&self.spec.log),
            }),
        }
    }

    /// Sends a signal by its name, such as "STOP".
    pub fn signal(&mut self, name: &str) {
        self.guard.signal(name);
    }

    /// Asks it to end, and ends it when it has not after `grace`.
    pub fn stop(&mut self, grace: Duration) {
        self.guard.signal("TERM");
        let deadline = Instant::now() + grace;
        while self.guard.try_wait().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.guard.kill();
    }

    /// Starts it again as it was, after it ended or was stopped.
    pub fn restart(&mut self) -> Result<()> {
        self.guard.kill();
        *self = Self::start(self.spec.clone())?;
        Ok(())
    }

    /// Calls `ready` until it says yes. Ends early when the program ends, and says why it was not ready.
    pub async fn ready<F, R>(&mut self, what: &str, within: Duration, mut ready: F) -> Result<()>
    where
        F: FnMut() -> R,
        R: Future<Output = std::result::Result<(), String>>,
    {
        let deadline = Instant::now() + within;
        loop {
            self.check()?;
            let reason = match tokio::time::timeout(within, ready()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reason,
                Err(_) => "it did not answer".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    waited: within,
                    reason,
                    output: tail(&self.spec.log),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The last lines of a log, as far as they fit in a message. Empty when it cannot be read.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // The log is an extra to a message that has its own cause; without it the message still stands.
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    match text.char_indices().find(|(_, c)| *c == '\n') {
        Some((first_newline, _)) if u64::try_from(text.len()).unwrap_or(u64::MAX) >= TAIL_BYTES => {
            text[first_newline + 1..].to_owned()
        }
        _ => text,
    }
}
