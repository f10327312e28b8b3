//! Which process is meant: a process id alone is given to another process sooner or later, an id with the moment its
//! process started is not.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process, for as long as it is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: u32,
    /// In clock ticks since the machine started, as the kernel reports it.
    pub started_ticks: u64,
}

impl Identity {
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started_ticks) = state_and_start(&stat)?;
        (state != "Z" && state != "X").then_some(Self { pid, started_ticks })
    }

    pub fn of_this_process() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, to this process and no other.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may have ended in between, which is what was wanted.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }
}

/// The third and the twenty-second field of `/proc/PID/stat`; the second may hold spaces and brackets.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_odd_name_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 5";
        assert_eq!(state_and_start(stat), Some(("S", 987_654)));
    }

    #[test]
    fn this_process_is_alive_and_another_with_its_number_is_not() {
        let me = Identity::of_this_process().unwrap();
        assert!(me.is_alive());
        assert!(
            !Identity {
                started_ticks: me.started_ticks + 1,
                ..me
            }
            .is_alive()
        );
    }
}
