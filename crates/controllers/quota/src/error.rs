//! What can go wrong, in words for a condition and for the log.

use runtime::Report;
use runtime::report::{chain, is_conflict, is_transient_kube};
use tenancy::quota::amounts::InvalidAmount;

/// A step of a reconciliation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {kind} {name}")]
    Read {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to write {kind} {name}")]
    Write {
        kind: &'static str,
        /// `namespace/name` of what is in a namespace.
        name: String,
        source: kube::Error,
    },
    #[error("failed to delete {kind} {name}")]
    Delete {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to publish the status of {kind} {name}")]
    PublishStatus {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to read what QuantityLedger {name} says; when it is deleted, it is begun again")]
    UnreadableLedger { name: String, source: InvalidAmount },
    #[error("the watch of {0} ended before its first list")]
    WatchEnded(&'static str),
}

impl Error {
    /// For people: what failed, and the API server's own words where it refused.
    pub fn told(&self) -> String {
        match self.cause() {
            Some(kube::Error::Api(status)) => format!("{self}: {}", status.message),
            _ => chain(self),
        }
    }

    /// Whether somebody else wrote first: what was decided has to be decided again, from what is there now.
    pub(crate) fn is_conflict(&self) -> bool {
        self.cause().is_some_and(is_conflict)
    }

    fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Delete { source, .. }
            | Self::PublishStatus { source, .. } => Some(source),
            Self::UnreadableLedger { .. } | Self::WatchEnded(_) => None,
        }
    }
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ReadFailed",
            Self::Write { .. } => "WriteFailed",
            Self::Delete { .. } => "DeleteFailed",
            Self::PublishStatus { .. } => "StatusUpdateFailed",
            Self::UnreadableLedger { .. } => "UnreadableLedger",
            Self::WatchEnded(_) => "WatchEnded",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::UnreadableLedger { .. } => false,
            _ => self.cause().is_none_or(is_transient_kube),
        }
    }
}
