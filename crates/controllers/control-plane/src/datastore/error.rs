//! Why a store did not do what was asked.

use std::time::Duration;

use etcd_client::Error as EtcdError;

use super::nats::NatsError;
use super::sql::SqlError;

/// How long one question may take. A store that needs longer does not keep up with control planes either.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to connect")]
    Connect(#[source] EtcdError),
    #[error("failed to {step}")]
    Step {
        step: &'static str,
        #[source]
        source: EtcdError,
    },
    #[error("failed to {step}: no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent { step: &'static str },
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("failed to use the store: authentication is disabled, so every control plane could read every other")]
    AuthenticationDisabled,
    #[error(
        "failed to use the store: it lets its user {user:?} in without the password, and the client certificate of the \
         DataStore is in the pods of every control plane; let the server ask for a password as well"
    )]
    PasswordNotAsked { user: String },
    #[error("failed to use the store: the client certificate is that of {user:?}, who has not the role root")]
    NotRoot { user: String },
    #[error("failed to read the client certificate")]
    ClientCertificate(#[source] pki::Error),
    /// The text names no other control plane: it is shown to the author.
    #[error("failed to set up the account: the {what} {name:?} is in use already")]
    Taken { what: &'static str, name: String },
    #[error("failed to set up the account: {0}")]
    Refused(String),
}

impl StoreError {
    /// A word for conditions and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::Silent { .. } => "Unreachable",
            Self::Step { source, .. } if is_unreachable(source) => "Unreachable",
            Self::Step { .. } => "StepFailed",
            Self::Sql(error) => error.category(),
            Self::Nats(error) => error.category(),
            Self::AuthenticationDisabled => "AuthenticationDisabled",
            Self::PasswordNotAsked { .. } => "PasswordNotAsked",
            Self::NotRoot { .. } => "NotAdministrator",
            Self::ClientCertificate(_) => "CredentialsInvalid",
            Self::Taken { .. } => "NameTaken",
            Self::Refused(_) => "NameRefused",
        }
    }

    /// Whether the same may work a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::Silent { .. }
                | Self::Step { .. }
                | Self::Sql(_)
                | Self::Nats(_)
                | Self::PasswordNotAsked { .. }
        )
    }
}

fn is_unreachable(error: &EtcdError) -> bool {
    match error {
        // 4: deadline exceeded, 14: unavailable.
        EtcdError::GRpcStatus(status) => matches!(status.code() as i32, 4 | 14),
        EtcdError::TransportError(_) | EtcdError::IoError(_) => true,
        _ => false,
    }
}
