//! kubectl, as one person.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long an outage of the operator may hold a command up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One person's kubectl. Every failure names the person and the command.
#[derive(Clone)]
pub(crate) struct Kubectl {
    who: String,
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(who: &str, program: &Path, kubeconfig: PathBuf) -> Self {
        Self {
            who: who.to_owned(),
            program: program.to_owned(),
            kubeconfig,
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(split(line))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str, stdin: Option<&str>) -> Output {
        use std::io::Write as _;
        let mut command = self.command(line);
        let Some(input) = stdin else {
            return command.output().expect("kubectl can be run");
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        child
            .stdin
            .take()
            .expect("it has one")
            .write_all(input.as_bytes())
            .expect("kubectl reads its input");
        child.wait_with_output().expect("kubectl ends")
    }

    /// What came of the command. Repeated for a short while when the reason is that the operator's webhook is being
    /// restarted, because that is what a person would do.
    fn decided(&self, line: &str, stdin: Option<&str>) -> Output {
        let begun = Instant::now();
        loop {
            let output = self.run(line, stdin);
            if output.status.success() || !is_outage(&said(&output.stderr)) || begun.elapsed() > PATIENCE {
                return output;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// What the command printed; it must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, None)
    }

    /// Applies or creates what `manifest` says.
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.ok_with("apply --server-side -f -", Some(manifest))
    }

    fn ok_with(&self, line: &str, stdin: Option<&str>) -> String {
        let output = self.decided(line, stdin);
        assert!(
            output.status.success(),
            "{}: kubectl {line}\n{}{}",
            self.who,
            stdin.unwrap_or_default(),
            said(&output.stderr)
        );
        said(&output.stdout)
    }

    /// Why the command was refused; it must be, and by a decision: an outage is not one.
    pub(crate) fn refused(&self, line: &str) -> String {
        self.refused_with(line, None)
    }

    pub(crate) fn apply_refused(&self, manifest: &str) -> String {
        self.refused_with("apply --server-side -f -", Some(manifest))
    }

    fn refused_with(&self, line: &str, stdin: Option<&str>) -> String {
        let output = self.decided(line, stdin);
        assert!(
            !output.status.success(),
            "{}: kubectl {line} was allowed, and must not be\n{}",
            self.who,
            stdin.unwrap_or_default()
        );
        let why = said(&output.stderr);
        assert!(!is_outage(&why), "{}: kubectl {line}: {why}", self.who);
        why
    }

    /// Whether the command succeeds, and all it said.
    pub(crate) fn attempt(&self, line: &str) -> (bool, String) {
        let output = self.run(line, None);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until the command prints what `wanted` accepts.
    pub(crate) fn eventually(&self, within: Duration, line: &str, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let (success, text) = self.attempt(line);
            if success && wanted(&text) {
                return;
            }
            assert!(
                begun.elapsed() < within,
                "{}: kubectl {line} within {within:?}; last it said:\n{text}",
                self.who
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The same command, running on; killed with the value.
    pub(crate) fn background(&self, line: &str) -> Running {
        Running(
            self.command(line)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("kubectl can be run"),
        )
    }
}

pub(crate) struct Running(pub(crate) std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The operator's replicas are killed during the story; what then fails is not a decision about the request.
fn is_outage(stderr: &str) -> bool {
    ["failed calling webhook", "failed to call webhook"]
        .iter()
        .any(|sign| stderr.contains(sign))
}

/// Words of a command line; quotes hold a word together.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !words.last().expect("never empty").is_empty() {
                    words.push(String::new());
                }
            }
            other => words.last_mut().expect("never empty").push(other),
        }
    }
    words
}
