//! Why a store did not do what was asked.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use etcd_client::Error as EtcdError;
use runtime::report::chain;

use super::nats::NatsError;
use super::sql::SqlError;

/// How long one question may take. A store that needs longer does not keep up with control planes either.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a request to an etcd ended with, in words: the code's name and number as gRPC has them, and the server's sentence.
/// The client's own text is the answer as Rust prints it.
#[derive(Debug)]
pub struct EtcdFailure(pub EtcdError);

impl EtcdFailure {
    /// Whether the server's sentence holds that text. etcd tells its refusals apart by text only.
    pub(crate) fn says(&self, text: &str) -> bool {
        matches!(&self.0, EtcdError::GRpcStatus(status) if status.message().contains(text))
    }

    /// Whether the answer has this code of gRPC.
    pub(crate) fn has_code(&self, code: i32) -> bool {
        matches!(&self.0, EtcdError::GRpcStatus(status) if status.code() as i32 == code)
    }
}

impl From<EtcdError> for EtcdFailure {
    fn from(error: EtcdError) -> Self {
        Self(error)
    }
}

impl Display for EtcdFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EtcdError::GRpcStatus(status) => {
                let (code, number) = (status.code(), status.code() as i32);
                write!(f, "{code:?} (gRPC code {number})")?;
                match sentence(status.message(), status.source()) {
                    said if said.is_empty() => Ok(()),
                    said => write!(f, ": {said}"),
                }
            }
            EtcdError::TransportError(error) => f.write_str(&chain(error)),
            EtcdError::IoError(error) => f.write_str(&chain(error)),
            other => other.fmt(f),
        }
    }
}

/// All of its causes are in the text.
impl Error for EtcdFailure {}

/// What was answered, with what it came of, each once.
fn sentence(message: &str, cause: Option<&(dyn Error + 'static)>) -> String {
    let Some(cause) = cause.map(chain) else {
        return message.to_owned();
    };
    if message.ends_with(&cause) {
        message.to_owned()
    } else if cause.starts_with(message) {
        cause
    } else {
        format!("{message}: {cause}")
    }
}

/// The word for a store that does not answer.
pub(crate) const UNREACHABLE: &str = "Unreachable";

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to connect")]
    Connect(#[source] EtcdFailure),
    #[error("failed to {step}")]
    Step {
        step: &'static str,
        #[source]
        source: EtcdFailure,
    },
    #[error("failed to {step}: no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent { step: &'static str },
    /// Known from the DataStore, whose controller has asked; what it was told.
    #[error("{0}")]
    KnownSilent(String),
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
            Self::Connect(_) | Self::Silent { .. } | Self::KnownSilent(_) => UNREACHABLE,
            Self::Step { source, .. } if is_unreachable(source) => UNREACHABLE,
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
                | Self::KnownSilent(_)
                | Self::Step { .. }
                | Self::Sql(_)
                | Self::Nats(_)
                | Self::PasswordNotAsked { .. }
        )
    }
}

fn is_unreachable(error: &EtcdFailure) -> bool {
    match &error.0 {
        // 4: deadline exceeded, 14: unavailable.
        EtcdError::GRpcStatus(status) => matches!(status.code() as i32, 4 | 14),
        EtcdError::TransportError(_) | EtcdError::IoError(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::{Client, ConnectOptions};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Transport(#[source] std::io::Error);

    #[test]
    fn an_answer_and_its_causes_are_said_once() {
        let refused = || Transport(std::io::Error::other("connection refused"));
        let cases = [
            ("etcdserver: permission denied", None, "etcdserver: permission denied"),
            (
                "transport error",
                Some(refused()),
                "transport error: connection refused",
            ),
            (
                "transport error: connection refused",
                Some(refused()),
                "transport error: connection refused",
            ),
            (
                "no answer",
                Some(refused()),
                "no answer: transport error: connection refused",
            ),
            ("", Some(refused()), "transport error: connection refused"),
        ];
        for (message, cause, expected) in cases {
            let cause = cause.as_ref().map(|cause| cause as &(dyn Error + 'static));
            assert_eq!(sentence(message, cause), expected);
        }
    }

    #[tokio::test]
    async fn a_store_that_nobody_serves_is_told_in_plain_words() {
        // Nobody listens on a port that was just given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(3));
        let answer = async {
            let mut client = Client::connect([format!("http://127.0.0.1:{port}")], Some(options)).await?;
            client.get("a", None).await.map(drop)
        };
        let source = EtcdFailure(answer.await.unwrap_err());
        let error = StoreError::Step {
            step: "read a record",
            source,
        };
        assert_eq!(error.category(), "Unreachable");
        let said = chain(&error);
        assert!(
            said.starts_with("failed to read a record: ") && said.contains("Connection refused"),
            "{said}"
        );
        for rust in ["Status {", "Some(", "code: '", "message: \"", "ConnectError", "Os {"] {
            assert!(!said.contains(rust), "{said}");
        }
    }
}
