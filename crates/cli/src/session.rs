//! What every command has that talks to a cluster on a person's behalf: a client, a terminal, and how far it may go.

use std::io::BufRead;
use std::time::Duration;

use anyhow::Context;
use kube::Client;

use crate::stopped::Stopped;

/// Where a person types and reads.
pub struct Terminal<'a> {
    pub input: &'a mut dyn BufRead,
    pub output: &'a mut dyn std::io::Write,
}

/// A command under way.
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    /// JSON, one value a line.
    pub(crate) json: bool,
    pub(crate) terminal: Terminal<'a>,
}

/// Of every command that changes something.
#[derive(Debug, clap::Args)]
pub(crate) struct Writing {
    /// Say what would follow: objects, who gains or loses what, quotas. Writes nothing.
    #[arg(long, conflicts_with_all = ["dry_run", "wait"])]
    pub(crate) plan: bool,
    /// Have the API server and admission judge the change. Writes nothing.
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with = "wait")]
    pub(crate) dry_run: Option<DryRun>,
    /// Wait until the change is in force.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum DryRun {
    Server,
}

impl Writing {
    /// For good, and each change in force before the next.
    pub(crate) fn waiting(timeout: Duration) -> Self {
        Self {
            plan: false,
            dry_run: None,
            wait: true,
            timeout: timeout.as_secs(),
        }
    }

    pub(crate) fn writes_nothing(&self) -> bool {
        self.plan || self.dry_run.is_some()
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        self.wait.then(|| Duration::from_secs(self.timeout))
    }
}

impl Session<'_> {
    pub(crate) fn print(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.terminal.output, "{line}")?)
    }

    /// As JSON on one line, or as text.
    pub(crate) fn tell(&mut self, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            return self.print(&serde_json::to_string(value)?);
        }
        self.terminal.output.write_all(text().as_bytes())?;
        Ok(())
    }
}

/// Asks for a name to be typed before what bears it is deleted. `what` is `tenant`, `cluster`, …
pub(crate) fn confirm(terminal: &mut Terminal<'_>, what: &str, name: &str) -> anyhow::Result<()> {
    write!(terminal.output, "Type the {what}'s name to delete it: ")?;
    terminal.output.flush()?;
    let mut typed = String::new();
    terminal
        .input
        .read_line(&mut typed)
        .context("failed to read the answer")?;
    if typed.trim() == name {
        return Ok(());
    }
    Err(Stopped::NotConfirmed(format!(
        "{name} was not deleted: its name was not typed (`--yes` does without)"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_confirms() {
        let answer = |typed: &str| {
            let terminal = &mut Terminal {
                input: &mut typed.as_bytes(),
                output: &mut Vec::new(),
            };
            confirm(terminal, "tenant", "oil")
        };
        assert!(answer("oil\n").is_ok());
        for typed in ["", "\n", "yes\n", "oi\n"] {
            let error = answer(typed).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Stopped::NotConfirmed(_))),
                "{typed:?}"
            );
        }
    }
}
