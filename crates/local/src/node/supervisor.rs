//! The process outside a node: makes what the node needs from the machine, waits, and takes it away again.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::Cgroups;
use super::status::Record;
use super::{Identity, Lifetime, Node, Status, handle};
use crate::error::{Error, Result};
use crate::network;

/// How long a node may take to end in order.
const END: Duration = Duration::from_secs(6);

/// How long the kernel may take to let go of a node's cgroups.
const LET_GO: Duration = Duration::from_secs(20);

pub(super) fn run(path: &Path) -> Result<()> {
    // Not a member of the terminal that started it; fails only for a leader of a group, which has left it already.
    let _ = nix::unistd::setsid();
    let system = |what: &'static str| move |errno: nix::Error| Error::Other(format!("failed to {what}: {errno}"));
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(system("block signals"))?;
    let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system("receive signals"))?;

    let node = Node::read(path)?;
    let Some(held) = lock(&node.directory)? else {
        return Err(Error::Other(format!(
            "failed to start the node {}: it runs already",
            node.name
        )));
    };
    let supervisor = Identity::of_this_process()
        .ok_or_else(|| Error::Other("failed to read this process's entry in /proc".to_owned()))?;
    Record { supervisor, init: None }.write(&node.directory)?;
    clean(&node)?;
    let outcome = live(&node, path, supervisor, &arrived);
    let cleaned = clean(&node);
    Status::forget(&node.directory);
    Record::forget(&node.directory);
    let parent_is_gone = outcome?;
    cleaned?;
    if let (
        true,
        Lifetime::Parent {
            remove: Some(directory),
        },
    ) = (parent_is_gone, &node.lifetime)
    {
        drop(held);
        crate::cluster::remove(directory)?;
    }
    Ok(())
}

/// Runs the node to its end. Says whether it ended because the process that it belongs to is gone.
fn live(node: &Node, path: &Path, supervisor: Identity, arrived: &SignalFd) -> Result<bool> {
    // Modules that the node needs; where they are built in, or cannot be loaded, what needs them will say so.
    let _ = network::run(
        "modprobe",
        &[
            "-a",
            "-q",
            "bridge",
            "br_netfilter",
            "veth",
            "overlay",
            "nf_tables",
            "nf_conntrack",
        ],
    );
    let cgroups = Cgroups::of(&node.cluster, &node.name)?;
    cgroups.create(node.memory_bytes)?;
    let mut child = Command::new(&node.executable)
        .args(["node", "enter"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(Error::spawn(node.executable.display().to_string()))?;
    let pipe = child.stdin.take();
    let outcome = connect(node, &cgroups, &mut child, supervisor).and_then(|()| watch(node, &mut child, arrived));
    end(&mut child, pipe, outcome.is_ok());
    outcome
}

/// Waits until the node has a network namespace of its own, and puts a link into it.
fn connect(node: &Node, cgroups: &Cgroups, child: &mut Child, supervisor: Identity) -> Result<()> {
    let ours = namespace("self");
    let deadline = Instant::now() + Duration::from_secs(10);
    let init = loop {
        if let Some(status) = child.try_wait().map_err(Error::spawn("node enter"))? {
            return Err(Error::Exit {
                program: "the node's first process".to_owned(),
                status: status.to_string(),
                output: String::new(),
            });
        }
        // The node's first process is the one that is number 1 in its own namespace.
        let first = cgroups
            .processes()
            .into_iter()
            .find(|pid| is_first(*pid) && namespace(&pid.to_string()) != ours);
        if let Some(init) = first.and_then(Identity::of) {
            break init;
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout {
                what: "the node's namespaces".to_owned(),
                waited: Duration::from_secs(10),
                reason: "unshare(1) did not make them".to_owned(),
                output: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    cgroups.expel(child.id())?;
    network::connect(
        &node.bridge,
        &network::link_name(&node.cluster, &node.name),
        init.pid,
        node.address,
    )?;
    Record {
        supervisor,
        init: Some(init),
    }
    .write(&node.directory)
}

fn namespace(pid: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn is_first(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().nth(1) == Some("1"))
}

/// Waits for the node's end, or for a reason to end it.
fn watch(node: &Node, child: &mut Child, arrived: &SignalFd) -> Result<bool> {
    let bound = node.lifetime != Lifetime::Detached;
    loop {
        if let Some(status) = child.try_wait().map_err(Error::spawn("node enter"))? {
            return Err(Error::Exit {
                program: format!("the node {}", node.name),
                status: status.to_string(),
                output: String::new(),
            });
        }
        let stdin = std::io::stdin();
        let mut waiting = [
            PollFd::new(arrived.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        let count = if bound { 2 } else { 1 };
        match poll(&mut waiting[..count], PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(Error::Other(format!("failed to wait for the node: {errno}"))),
        }
        if bound && waiting[1].any().unwrap_or_default() {
            return Ok(true);
        }
        while let Ok(Some(signal)) = arrived.read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 || signal.ssi_signo == Signal::SIGINT as u32 {
                return Ok(false);
            }
        }
    }
}

/// Ends the node: in order when the pipe can say so, else at once.
fn end(child: &mut Child, pipe: Option<ChildStdin>, orderly: bool) {
    let asked = orderly && pipe.is_some_and(|mut pipe| pipe.write_all(b".").is_ok());
    let deadline = Instant::now() + END;
    while asked && Instant::now() < deadline && child.try_wait().is_ok_and(|status| status.is_none()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // `unshare` takes the node's first process with it, and the kernel all others.
    let _ = child.kill();
    let _ = child.wait();
}

/// Takes away what a node has of the machine; fine when there is nothing.
pub(super) fn clean(node: &Node) -> Result<()> {
    handle::clean(&node.cluster, &node.name, LET_GO)
}

/// The lock that the supervisor holds while it lives; `None` when another holds it.
pub(super) fn lock(directory: &Path) -> Result<Option<Flock<File>>> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::file("open the lock", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Error::file("lock", &path)(std::io::Error::from(errno))),
    }
}
