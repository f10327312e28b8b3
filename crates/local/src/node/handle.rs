//! A node seen by whoever starts and stops it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cgroup::{self, Cgroups, Layout};
use super::status::Record;
use super::{Lifetime, Node, Status, supervisor};
use crate::error::{Error, Result};
use crate::network;

/// How long a node may take to end before it is ended.
const END: Duration = Duration::from_secs(15);

/// A node that runs. Dropping it ends a node whose lifetime is its parent's, and leaves a detached one alone.
#[derive(Debug)]
pub struct Handle {
    node: Node,
    /// Its end tells the supervisor that we are gone.
    _alive: Option<ChildStdin>,
}

impl Handle {
    /// Starts the node, or finds it running. One that runs with another configuration is started anew.
    pub fn start(node: Node) -> Result<Self> {
        let log = node.directory.join("log");
        std::fs::create_dir_all(&log).map_err(Error::file("create directory", &log))?;
        let path = Node::path(&node.directory);
        if is_running(&node.directory)? {
            // A node that belongs to another process is never ours, whatever it was told.
            if node.lifetime == Lifetime::Detached && Node::read(&path).is_ok_and(|running| running == node) {
                return Ok(Self { node, _alive: None });
            }
            stop(&node.directory)?;
        }
        Status::forget(&node.directory);
        super::status::replace(&path, &node)?;
        let (child, alive) = spawn(&node, &path)?;
        wait_for_first_process(&node, child)?;
        Ok(Self { node, _alive: alive })
    }

    /// The node in this directory, running or not; `None` when there is none.
    pub fn find(directory: &Path) -> Result<Option<Self>> {
        let path = Node::path(directory);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            node: Node::read(&path)?,
            _alive: None,
        }))
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn status(&self) -> Option<Status> {
        Status::read(&self.node.directory)
    }

    /// When this life of the node began.
    pub fn started(&self) -> Result<jiff::Timestamp> {
        let path = Record::path(&self.node.directory);
        let written = std::fs::metadata(&path)
            .and_then(|file| file.modified())
            .map_err(Error::file("read", &path))?;
        jiff::Timestamp::try_from(written)
            .map_err(|error| Error::Other(format!("failed to read when {} was written: {error}", path.display())))
    }

    pub fn is_running(&self) -> Result<bool> {
        is_running(&self.node.directory)
    }

    /// A command that runs inside the node.
    pub fn command(&self, program: &str) -> Result<Command> {
        let init = Record::read(&self.node.directory)
            .and_then(|record| record.init)
            .filter(|init| init.is_alive())
            .ok_or_else(|| Error::Other(format!("failed to enter the node {}: it does not run", self.node.name)))?;
        let mut command = Command::new("nsenter");
        let search = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", super::BIN);
        command
            .args([
                "--target",
                &init.pid.to_string(),
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--pid",
                "--root",
                "--wd",
            ])
            .args(["env", &format!("PATH={search}")])
            .arg(program);
        Ok(command)
    }
}

fn spawn(node: &Node, path: &Path) -> Result<(Child, Option<ChildStdin>)> {
    let log = node.log("supervisor");
    let output = File::create(&log).map_err(Error::file("open the log", &log))?;
    let errors = output.try_clone().map_err(Error::file("open the log", &log))?;
    let layout = Layout::detect()?;
    let mut command = if cgroup::systemd_owns(&layout) {
        // systemd makes the scope and becomes the supervisor.
        let mut command = Command::new("systemd-run");
        command
            .args([
                "--scope",
                "--quiet",
                "--collect",
                "--slice=cotenant.slice",
                "--property=Delegate=yes",
            ])
            .arg(format!("--unit={}", cgroup::scope(&node.cluster, &node.name)))
            .arg("--")
            .arg(&node.executable);
        command
    } else {
        Command::new(&node.executable)
    };
    let bound = node.lifetime != Lifetime::Detached;
    let mut child = command
        .args(["node", "run"])
        .arg(path)
        .current_dir("/")
        // Out of the terminal's reach at once: Ctrl-C means us, not the node.
        .process_group(0)
        .stdin(if bound { Stdio::piped() } else { Stdio::null() })
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(Error::spawn(node.executable.display().to_string()))?;
    let alive = child.stdin.take();
    Ok((child, alive))
}

/// The node's programs have a status as soon as its first process has arranged everything.
fn wait_for_first_process(node: &Node, mut child: Child) -> Result<()> {
    let within = Duration::from_secs(30);
    let deadline = Instant::now() + within;
    while Status::read(&node.directory).is_none() {
        let said = || std::fs::read_to_string(node.log("supervisor")).unwrap_or_default();
        if let Some(status) = child.try_wait().map_err(Error::spawn("cotenant node run"))? {
            return Err(Error::Exit {
                program: format!("the node {}", node.name),
                status: status.to_string(),
                output: said(),
            });
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout {
                what: format!("the first process of the node {}", node.name),
                waited: within,
                reason: "it has not started the node's programs".to_owned(),
                output: said(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Somebody has to take its end, or it stays in the process table for as long as we live.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Whether a supervisor lives for the node in this directory.
pub(super) fn is_running(directory: &Path) -> Result<bool> {
    if !directory.is_dir() {
        return Ok(false);
    }
    Ok(supervisor::lock(directory)?.is_none())
}

/// Ends a node, in order if it can be, and takes away what it has of the machine. Fine when it does not run.
pub fn stop(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + END;
    let mut signal = Signal::SIGTERM;
    while is_running(directory)? {
        if Instant::now() > deadline {
            signal = Signal::SIGKILL;
        }
        if let Some(record) = Record::read(directory) {
            record.supervisor.signal(signal);
        }
        if Instant::now() > deadline + END {
            return Err(Error::Timeout {
                what: format!("the end of the node in {}", directory.display()),
                waited: 2 * END,
                reason: "its supervisor holds its lock".to_owned(),
                output: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if let Ok(node) = Node::read(&Node::path(directory)) {
        supervisor::clean(&node)?;
        Status::forget(directory);
        Record::forget(directory);
    }
    Ok(())
}

/// Takes away what a node without a supervisor has of the machine: processes, cgroups, link.
pub fn clean(cluster: &str, node: &str, within: Duration) -> Result<()> {
    Cgroups::of(cluster, node)?.remove(within)?;
    network::remove_link(&network::link_name(cluster, node))
}
