//! The node's first process: makes the node's view of the machine, then starts its programs and keeps them running.
//!
//! As the first of its process namespace it also inherits every orphan of the node, so it reaps whatever ends. It has
//! no async runtime for that reason: two owners of `wait` would take each other's children. Standard input is a pipe
//! from the supervisor: a byte asks for an orderly end, its end means that the supervisor is gone; either way this
//! process ends, and the kernel ends every other process of the node with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{BIN, DIRECTORY, Node, Program, ProgramStatus, State, Status, gate, mounts};
use crate::error::{Error, Result};
use crate::network::run as command;

/// How long programs may take to end in order.
const GRACE: Duration = Duration::from_secs(3);

/// A program that ran this long was well; its next end is a first one again.
const WELL: Duration = Duration::from_secs(30);

/// A log above this size begins anew when its program does; the old one is kept beside it.
const LOG_BYTES: u64 = 20 << 20;

pub(super) fn run(path: &Path) -> Result<()> {
    let node = Node::read(path)?;
    nix::unistd::sethostname(&node.name)
        .map_err(|errno| Error::Other(format!("failed to set the host name {}: {errno}", node.name)))?;
    mounts::arrange(&node)?;
    network(&node)?;
    supervise(node)
}

/// The supervisor has put `eth0` into our network namespace, or is about to.
fn network(node: &Node) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !Path::new("/sys/class/net/eth0").exists() {
        if Instant::now() > deadline {
            return Err(Error::Timeout {
                what: "the node's network link".to_owned(),
                waited: Duration::from_secs(10),
                reason: "the supervisor did not connect it".to_owned(),
                output: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    command("ip", &["link", "set", "lo", "up"])?;
    command(
        "ip",
        &["address", "add", &format!("{}/24", node.address), "dev", "eth0"],
    )?;
    command("ip", &["link", "set", "eth0", "up"])?;
    command("ip", &["route", "add", "default", "via", &node.gateway.to_string()])?;
    for (destination, gateway) in &node.routes {
        command("ip", &["route", "replace", destination, "via", &gateway.to_string()])?;
    }
    setting("net/ipv4/ip_forward", "1")?;
    // Without it packets between two pods of this node pass neither kube-proxy nor a policy.
    setting("net/bridge/bridge-nf-call-iptables", "1")
}

fn setting(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    std::fs::write(&path, value).map_err(Error::file("write", path))
}

/// A program as it stands.
struct Slot {
    program: Program,
    state: State,
    pid: Option<Pid>,
    started: Instant,
    /// When a resting program is started again.
    due: Option<Instant>,
    /// Ends in a row, each soon after the start.
    failures: u32,
    restarts: u32,
    last_end: Option<String>,
}

fn supervise(node: Node) -> Result<()> {
    let directory = Path::new(DIRECTORY);
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    let system = |what: &'static str| move |errno: nix::Error| Error::Other(format!("failed to {what}: {errno}"));
    signals.thread_block().map_err(system("block signals"))?;
    let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system("receive signals"))?;
    let (mut opened, opens) = UnixStream::pair().map_err(Error::file("create", "a pair of sockets"))?;

    let now = Instant::now();
    let mut slots = Vec::new();
    for (index, program) in node.programs.into_iter().enumerate() {
        let index = u8::try_from(index)
            .map_err(|_| Error::Other("failed to start the node: it has more than 256 programs".to_owned()))?;
        let sender = opens.try_clone().map_err(Error::file("create", "a socket"))?;
        gate::watch(index, program.after.clone(), sender);
        slots.push(Slot {
            program,
            state: State::Waiting,
            pid: None,
            started: now,
            due: None,
            failures: 0,
            restarts: 0,
            last_end: None,
        });
    }
    status(&slots).write(directory)?;

    loop {
        let now = Instant::now();
        let mut changed = false;
        for slot in &mut slots {
            if slot.due.is_some_and(|due| due <= now) {
                start(slot);
                changed = true;
            }
        }
        let next = slots.iter().filter_map(|slot| slot.due).min();
        if changed {
            status(&slots).write(directory)?;
        }
        let wait = next.map_or(PollTimeout::NONE, |next| {
            let milliseconds = next.saturating_duration_since(Instant::now()).as_millis() + 1;
            u16::try_from(milliseconds).map_or(PollTimeout::MAX, PollTimeout::from)
        });
        let (asked, stopping, gates) = {
            let stdin = std::io::stdin();
            let mut waiting = [
                PollFd::new(arrived.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(opened.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waiting, wait) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(system("wait for the node's programs")(errno)),
            }
            let [arrived, stdin, opened] = waiting.map(|fd| fd.any().unwrap_or_default());
            (stdin, arrived, opened)
        };
        if gates {
            let mut indices = [0; 64];
            let count = opened.read(&mut indices).map_err(Error::file("read", "a socket"))?;
            for index in &indices[..count] {
                start(&mut slots[usize::from(*index)]);
            }
            status(&slots).write(directory)?;
        }
        let mut end = asked;
        if stopping {
            while let Ok(Some(signal)) = arrived.read_signal() {
                end |= signal.ssi_signo == Signal::SIGTERM as u32 || signal.ssi_signo == Signal::SIGINT as u32;
            }
        }
        if reap(&mut slots) {
            status(&slots).write(directory)?;
        }
        if end {
            let orderly = !asked || std::io::stdin().read(&mut [0; 1]).is_ok_and(|count| count > 0);
            if orderly {
                finish(&mut slots);
            }
            return Ok(());
        }
    }
}

/// Asks every program to end and gives them a moment; the end of this process ends those that did not.
fn finish(slots: &mut [Slot]) {
    for pid in slots.iter().filter_map(|slot| slot.pid) {
        // It may have ended in between, which is what is wanted.
        let _ = kill(pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + GRACE;
    while slots.iter().any(|slot| slot.pid.is_some()) && Instant::now() < deadline {
        reap(slots);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn status(slots: &[Slot]) -> Status {
    let programs: BTreeMap<_, _> = slots
        .iter()
        .map(|slot| {
            let status = ProgramStatus {
                state: slot.state,
                restarts: slot.restarts,
                last_end: slot.last_end.clone(),
            };
            (slot.program.name.clone(), status)
        })
        .collect();
    Status { programs }
}

fn start(slot: &mut Slot) {
    slot.due = None;
    slot.started = Instant::now();
    match spawn(&slot.program) {
        Ok(pid) => {
            slot.pid = Some(pid);
            slot.state = State::Running;
        }
        Err(error) => ended(slot, super::chain(&error)),
    }
}

fn spawn(program: &Program) -> Result<Pid> {
    let path = Path::new(DIRECTORY).join("log").join(format!("{}.log", program.name));
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES) {
        // A log that cannot be put aside only grows.
        let _ = std::fs::rename(&path, path.with_extension("log.old"));
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::file("open the log", &path))?;
    let errors = log.try_clone().map_err(Error::file("open the log", &path))?;
    let (name, args) = program
        .command
        .split_first()
        .ok_or_else(|| Error::Other(format!("failed to start {}: it has no command", program.name)))?;
    let search = format!("{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let child = Command::new(name)
        .args(args)
        .env_clear()
        .env("PATH", &search)
        .env("HOME", "/run/cotenant")
        .envs(&program.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(Error::spawn(name))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Takes the ends of all processes that ended, ours and orphans. Says whether one was ours.
fn reap(slots: &mut [Slot]) -> bool {
    let mut changed = false;
    loop {
        let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, format!("it ended with exit status {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("it was ended by {signal}")),
            Ok(WaitStatus::StillAlive) | Err(_) => return changed,
            Ok(_) => continue,
        };
        if let Some(slot) = slots.iter_mut().find(|slot| slot.pid == Some(pid)) {
            slot.pid = None;
            ended(slot, how);
            changed = true;
        }
    }
}

fn ended(slot: &mut Slot, how: String) {
    if slot.program.once && how == "it ended with exit status 0" {
        slot.state = State::Done;
    } else {
        slot.failures = if slot.started.elapsed() > WELL {
            0
        } else {
            slot.failures + 1
        };
        slot.state = State::Resting;
        slot.due = Some(Instant::now() + rest(slot.failures));
        slot.restarts += 1;
    }
    slot.last_end = Some(how);
}

/// How long a program rests after so many failures in a row: 0.2 s, doubled each time, at most 10 s.
fn rest(failures: u32) -> Duration {
    Duration::from_millis((100 << failures.min(7)).min(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_rests_longer_each_time_and_never_too_long() {
        let rests: Vec<_> = [0, 1, 2, 6, 7, 1000]
            .map(|failures| rest(failures).as_millis())
            .to_vec();
        assert_eq!(rests, [100, 200, 400, 6400, 10_000, 10_000]);
    }
}
