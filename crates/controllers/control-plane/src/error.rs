//! What can fail while a control plane is reconciled.

use runtime::Report;
use runtime::report::chain;

use crate::datastore::error::StoreError;
use crate::desired::secrets;

/// A failed step, named for what was being done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object could not be read.
    #[error("failed to read the {kind} {name}")]
    Read {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// An object could not be written.
    #[error("failed to write the {kind} {name}")]
    Apply {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// Somebody else has an object of that name.
    #[error("failed to write the {kind} {name}: one of that name belongs to somebody else; rename one of the two")]
    NameTaken {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object of the control plane itself could not be written.
    #[error("failed to update the control plane's {what}")]
    Publish {
        /// Which part of it.
        what: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// Certificates could not be made.
    #[error("failed to make the control plane's credentials")]
    Credentials(#[from] secrets::Error),
    /// What a DataStore refers to could not be read.
    #[error("failed to read the credentials of the DataStore {datastore}")]
    DatastoreCredentials {
        /// Name of the DataStore.
        datastore: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The datastore refused or did not answer.
    #[error("failed to keep an account in the datastore {datastore}")]
    Datastore {
        /// Name of the DataStore.
        datastore: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The names that the spec asks for in the store are somebody else's.
    #[error("failed to make an account in the datastore {datastore}: {message}")]
    NamesRefused {
        /// Name of the DataStore.
        datastore: String,
        /// Which name, and why.
        message: String,
    },
    /// The pass took longer than anything in it should.
    #[error("failed to finish within {0:?}")]
    TimedOut(std::time::Duration),
    /// A watch ended before its first list; the process is stopping.
    #[error("failed to start: a watch ended before it began")]
    WatchEnded,
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ReadFailed",
            Self::Apply { .. } => "ApplyFailed",
            Self::NameTaken { .. } => "NameTaken",
            Self::Publish { .. } => "StatusUpdateFailed",
            Self::Credentials(_) => "CredentialsFailed",
            Self::DatastoreCredentials { .. } => "DataStoreCredentialsFailed",
            Self::Datastore {
                source: StoreError::Taken { .. } | StoreError::Refused(_),
                ..
            }
            | Self::NamesRefused { .. } => "NamesRefused",
            Self::Datastore { .. } => "DataStoreFailed",
            Self::TimedOut(_) => "TimedOut",
            Self::WatchEnded => "WatchEnded",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            // A refusal may be cured by something that nobody tells us of: a node port that is freed, a quota that is
            // raised, a policy of the cluster that changes, somebody's object that goes. The runner asks ever more seldom.
            Self::Read { .. }
            | Self::Apply { .. }
            | Self::NameTaken { .. }
            | Self::Publish { .. }
            | Self::DatastoreCredentials { .. }
            | Self::TimedOut(_) => true,
            Self::Datastore { source, .. } => source.is_transient(),
            Self::NamesRefused { .. } | Self::Credentials(_) | Self::WatchEnded => false,
        }
    }
}

impl Error {
    /// For conditions and Events: what was being done, and the API server's own words about it.
    pub fn for_people(&self) -> String {
        match self {
            Self::Read {
                source: kube::Error::Api(status),
                ..
            }
            | Self::Apply {
                source: kube::Error::Api(status),
                ..
            }
            | Self::Publish {
                source: kube::Error::Api(status),
                ..
            } => format!("{self}: {}", status.message),
            _ => chain(self),
        }
    }
}
