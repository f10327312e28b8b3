use std::time::Duration;

use crate::datastore::error::EtcdFailure;
use crate::datastore::etcd::StoreError;

/// Why data could not be moved. The control plane then stays where it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to {step} in the DataStore {store}")]
    Step {
        step: &'static str,
        store: String,
        #[source]
        source: EtcdFailure,
    },
    #[error("failed to {step} in the DataStore {store}: no answer within {within:?}")]
    Silent {
        step: &'static str,
        store: String,
        within: Duration,
    },
    #[error("failed to use the DataStore {store}")]
    Store {
        store: String,
        #[source]
        source: StoreError,
    },
    #[error("failed to follow the changes in the DataStore {store}: {reason}")]
    Follow { store: String, reason: String },
    #[error("failed to stand still for the move: writes did not end within {0:?}")]
    TooSlow(Duration),
    #[error("failed to verify the copy: {count} of its keys differ, the first is {first}")]
    Different { count: usize, first: String },
    #[error(
        "the DataStore {store} is {behind} revisions behind the present one; clients would miss changes until it has \
         caught up, and more than {limit} are not made up for; choose a store that has been in use for longer, or restore \
         it with `etcdutl snapshot restore --bump-revision`"
    )]
    RevisionBehind { store: String, behind: i64, limit: i64 },
    #[error("the DataStore {0} has no data of this control plane on record, so there is nothing to move")]
    NothingThere(String),
    #[error(
        "the key {key} is encrypted at rest together with its path, which is another one in the DataStore {store}; have \
         Secrets written in the clear first (`identity` as the first provider, and every Secret written again)"
    )]
    Encrypted { key: String, store: String },
    #[error(
        "the DataStore {store} has {count} rows of keys outside of /registry/; an API server with --etcd-prefix is not \
         moved"
    )]
    Strangers { store: String, count: i64 },
    #[error("the key {key} cannot be kept in the DataStore {store}: it is not text")]
    Unnameable { key: String, store: String },
    #[error("the move was given up while writes waited")]
    GivenUp,
    #[error("the data of this control plane is on its way out of the DataStore {0}, or into it, and arrives first")]
    PastSwitch(String),
    #[error("failed to read what is on record about the move in the DataStore {0}")]
    Record(String, #[source] serde_json::Error),
}

impl Error {
    /// Whether an answer held more than is taken at a time.
    pub(super) fn is_too_large(&self) -> bool {
        // 11: out of range, as tonic says it.
        matches!(self, Self::Step { source, .. } if source.has_code(11))
    }

    /// The condition's reason.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Step { .. } | Self::Silent { .. } | Self::Follow { .. } => "MigrationInterrupted",
            Self::Store { source, .. } if source.is_transient() => "MigrationInterrupted",
            Self::Store { .. } | Self::Encrypted { .. } | Self::Strangers { .. } | Self::Unnameable { .. } => {
                "MigrationRefused"
            }
            Self::TooSlow(_) => "MigrationTooSlow",
            Self::GivenUp | Self::PastSwitch(_) => "Migrating",
            Self::Different { .. } => "MigrationNotVerified",
            Self::RevisionBehind { .. } => "RevisionBehind",
            Self::NothingThere(_) | Self::Record(..) => "MigrationSourceUnclear",
        }
    }
}
