//! Children that cannot outlive us, also when we are killed with SIGKILL.
//!
//! A destructor does not run on SIGKILL, and `PR_SET_PDEATHSIG` follows the *thread* that forked and is cleared by some
//! execs. What the kernel does promise: a pipe whose writing end is gone reports end of file, and a pid namespace whose
//! first process has ended holds no process. So each program runs in a pid namespace whose first process is a ten-line
//! shell holding the reading end of a pipe of ours. The pipe doubles as the way to send signals in, because the process
//! that we know, `unshare`, ignores them, and the one that we want has no pid that we can trust.
//!
//! Refused: a process group (a child may leave it), a cgroup (needs a writable hierarchy, v1 and v2 differ), a
//! supervisor of our own (`testbed` has no executable to start).

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// First process of the namespace: starts `"$@"`, passes on the signal names that arrive, and on end of file ends
/// everything by ending itself.
const FIRST: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- & program=$!
{ while read -r signal <&3; do kill -s "$signal" "$program"; done; kill -s KILL "$program"; } 2>/dev/null &
exec 3<&-
wait "$program"
"#;

/// Waits for end of file, then removes a directory. Programs that die at the same moment may still write, hence the
/// second and later tries.
const SWEEP: &str = r#"
cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null; [ -e "$1" ] || exit 0; sleep 0.2; done
"#;

/// How long the end of the pipe may take to show, before stronger means.
const LAST_RESORT: Duration = Duration::from_secs(5);

/// A running child that dies with us.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts `program` with its output going to the given targets.
    ///
    /// Without root a user namespace is made as well, since a pid namespace is not had otherwise.
    pub fn start(
        program: &Path,
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        directory: Option<&Path>,
        (stdout, stderr): (Stdio, Stdio),
    ) -> Result<Self> {
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-current-user"]);
        }
        command.args(["--pid", "--fork", "--kill-child=KILL", "--", "sh", "-c", FIRST, "guard"]);
        command.arg(program).args(args).envs(env);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        // A process group of its own: Ctrl-C is for us to handle, not for the children.
        command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let mut child = command
            .spawn()
            .map_err(Error::spawn(format!("{} (through unshare)", program.display())))?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Sends a signal by name ("TERM", "STOP", "CONT", ...) to the program. One that has ended already gets none.
    pub fn signal(&mut self, name: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A closed pipe means that the program is gone, which is what `try_wait` is for.
            let _ = writeln!(pipe, "{name}").and_then(|()| pipe.flush());
        }
    }

    /// How the program ended; `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().ok()
    }

    /// Ends everything in the namespace, and returns when it is gone: the kernel reports the end of a namespace's first
    /// process only after that of all others, so ports and files are free afterwards.
    pub fn kill(&mut self) {
        self.pipe = None;
        let deadline = Instant::now() + LAST_RESORT;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() >= deadline {
                // The shell inside is stuck; `unshare` takes it along.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The pid of the outermost process, which ends with the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A directory that disappears with us.
#[derive(Debug)]
pub struct GuardedDirectory {
    path: std::path::PathBuf,
    sweeper: Child,
}

impl GuardedDirectory {
    /// Makes a fresh directory below `parent`, readable by us alone.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(parent)
            .map_err(Error::file("create a directory in", parent))?
            .keep();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEP, "sweep"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .current_dir("/")
            .spawn()
            .map_err(Error::spawn("sh"))?;
        Ok(Self { path, sweeper })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for GuardedDirectory {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}
