//! What can go wrong with a replication as a whole. What goes wrong with one of its objects is in its status.

use runtime::Report;
use runtime::report::is_transient_kube;

/// A step of a reconciliation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {kind} {name}")]
    Read {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to update the metadata of {kind} {name}")]
    UpdateMetadata {
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
    #[error("the watch of {0} ended before its first list")]
    WatchEnded(&'static str),
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ReadFailed",
            Self::UpdateMetadata { .. } => "UpdateFailed",
            Self::PublishStatus { .. } => "StatusUpdateFailed",
            Self::WatchEnded(_) => "WatchEnded",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::UpdateMetadata { source, .. } | Self::PublishStatus { source, .. } => {
                is_transient_kube(source)
            }
            Self::WatchEnded(_) => true,
        }
    }
}

/// What the API server said, for people.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => runtime::report::chain(other),
    }
}
