//! Ends that a script can tell apart, by the exit code.

use kube::core::Status;

/// The same codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done, or nothing to do
  1  failed: the cluster cannot be reached, an object cannot be read
  2  the command line does not read
  3  refused: by a rule of tenancy, by RBAC, by the API server
  4  what the command names is not there
  5  written, and not in force within --timeout
  6  the deletion was not confirmed
  130  interrupted while waiting; what was written stays";

/// Why a command stopped short of what it was asked for. Everything else that can go wrong ends with code 1, and a
/// command line that does not read with code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// A rule says no: ours, or the API server's answer word for word.
    #[error("{0}")]
    Refused(String),
    /// The command names something that is not there.
    #[error("{0}")]
    NotFound(String),
    /// The change was written, and did not take effect in the time that `--timeout` gave it.
    #[error("{0}")]
    TimedOut(String),
    /// Ctrl-C while waiting. The change was written.
    #[error("{0}")]
    Interrupted(String),
    /// What a question is about is there, and not as it is wanted.
    #[error("{0}")]
    NotAsWanted(String),
    /// A question has no answer: what it is about is not there, or may not be read.
    #[error("{0}")]
    CannotTell(String),
    /// Nobody confirmed the deletion.
    #[error("{0}")]
    NotConfirmed(String),
}

const REFUSED: u8 = 3;

impl Stopped {
    pub(crate) fn refused(sentence: impl Into<String>) -> anyhow::Error {
        Self::Refused(sentence.into()).into()
    }

    pub(crate) fn not_found(sentence: impl Into<String>) -> anyhow::Error {
        Self::NotFound(sentence.into()).into()
    }

    pub(crate) fn no_tenant(name: &str) -> anyhow::Error {
        Self::NotFound(format!("no tenant {name:?}; `cotenant tenant list` shows them")).into()
    }

    fn code(&self) -> u8 {
        match self {
            Self::NotAsWanted(_) => 1,
            Self::CannotTell(_) => 2,
            Self::Refused(_) => REFUSED,
            Self::NotFound(_) => 4,
            Self::TimedOut(_) => 5,
            Self::NotConfirmed(_) => 6,
            Self::Interrupted(_) => 130,
        }
    }
}

/// The exit code of a command that ended with this error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let stopped = error.downcast_ref::<Stopped>();
    stopped.map_or_else(|| if is_forbidden(error) { REFUSED } else { 1 }, Stopped::code)
}

/// Whether an API server refused to do or to show something.
fn is_forbidden(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| matches!(cause.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 403))
}

/// What the API server said to a write: its refusals are told in its own words.
pub(crate) fn of_write(error: kube::Error, what: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if is_refusal(&status) => Stopped::refused(status.message.clone()),
        error => anyhow::Error::from(error).context(format!("failed to {what}")),
    }
}

/// A conflict is one here as well: whoever can begin again does so before asking.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 405 | 409 | 422)
}

/// Whether a write met another one, and is worth deciding anew.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_what_is_said_around_them() {
        let error = Stopped::refused("no").context("failed to adopt");
        assert_eq!(exit_code(&error), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("no network")), 1);
        let unanswered = Stopped::no_tenant("oil").context(Stopped::CannotTell("cannot explain".to_owned()));
        assert_eq!(exit_code(&unanswered), 2);
        let mut status = Status::failure("User \"alice\" cannot list resource", "Forbidden").with_code(403);
        let error =
            |status: &Status| anyhow::Error::from(kube::Error::Api(Box::new(status.clone()))).context("failed to list");
        assert_eq!(exit_code(&error(&status)), 3);
        status.code = 503;
        assert_eq!(exit_code(&error(&status)), 1);
    }
}
