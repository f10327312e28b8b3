//! A NATS server whose JetStream holds one control plane, in a key-value bucket that kine makes itself: only kine knows how
//! its version wants the bucket to be.
//!
//! NATS accounts are made in the server's configuration and not by its clients, so control planes have no users of their own
//! there: pods log in as the DataStore says, and whoever can do that can read everything. That is why such a store takes one
//! control plane. Which one is written down in the store itself, in a bucket of ours, so that two whose admissions crossed,
//! or that came by DataStores of different names, still cannot meet.

use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Held, Unrecorded};
use super::error::{ANSWER_WITHIN, StoreError};
use super::moves::Order;
use super::pod_access::SharedLogin;
use super::sql::{Trouble, trouble_below};
use super::tls::ClientTls;

/// Bucket and key where it is written down whose store this is.
const RECORDS: &str = "cotenant_dev";
const OWNER: &str = "owner";

/// Where and as whom to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsLogin {
    /// `host:port`
    pub endpoint: String,
    pub login: SharedLogin,
    /// `None` if the DataStore has no `tlsConfig`.
    pub tls: Option<ClientTls>,
}

impl std::fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsLogin")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Why a NATS server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("failed to connect")]
    Connect(#[source] async_nats::ConnectError),
    #[error(
        "failed to use the store: spec.basicAuth.{0} has characters that kine does not take in an address; use letters, \
         digits, '-', '.', '_' and '~'"
    )]
    Unspeakable(&'static str),
    #[error("failed to use the store: it asks for no user, so everybody could read everything")]
    AuthenticationDisabled,
    #[error("failed to {step}")]
    Step {
        step: &'static str,
        #[source]
        source: async_nats::Error,
    },
    /// The text is the one that users of such stores know.
    #[error("NATS doesn't support multi-tenancy, the current datastore is already in use")]
    InUse,
    #[error(
        "failed to use the store: a control plane that was there before has had its password; change it in the server and in \
         the Secret of spec.basicAuth, or take the annotation {annotation} off the DataStore {datastore}"
    )]
    PasswordKnown {
        annotation: &'static str,
        datastore: String,
    },
}

impl NatsError {
    /// A word for conditions and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Connect(error) => match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => "LoginRefused",
                _ => trouble_below(error).unwrap_or(Trouble::Unreachable).category(),
            },
            Self::Unspeakable(_) => "CredentialsInvalid",
            Self::AuthenticationDisabled => "AuthenticationDisabled",
            Self::Step { .. } => "StepFailed",
            Self::InUse => "DataStoreInUse",
            Self::PasswordKnown { .. } => "PasswordKnown",
        }
    }
}

/// What is written down under [`OWNER`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    owner: String,
    schema: String,
    user: String,
}

/// An open connection.
#[derive(Clone)]
pub struct NatsStore {
    jetstream: Context,
    /// What we, and all pods, have logged in with.
    password: String,
}

impl std::fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsStore").finish_non_exhaustive()
    }
}

impl NatsStore {
    /// Connects and makes sure that the server asks who we are and has JetStream.
    pub async fn connect(login: &NatsLogin) -> Result<Self, StoreError> {
        for (field, value) in [("username", &login.login.user), ("password", &login.login.password)] {
            if !is_speakable(value) {
                return Err(NatsError::Unspeakable(field).into());
            }
        }
        let mut options =
            ConnectOptions::with_user_and_password(login.login.user.clone(), login.login.password.clone())
                .name("cotenant")
                .ignore_discovered_servers()
                .connection_timeout(ANSWER_WITHIN)
                .request_timeout(Some(ANSWER_WITHIN));
        if let Some(tls) = &login.tls {
            let config = tls.config()?.as_ref().clone();
            options = options.require_tls(true).tls_client_config(config);
        }
        let address = format!("nats://{}", login.endpoint);
        let client = match tokio::time::timeout(ANSWER_WITHIN, options.connect(address)).await {
            Ok(client) => client.map_err(NatsError::Connect)?,
            Err(_) => return Err(StoreError::Silent { step: "connect" }),
        };
        Self::check(client, login.login.password.clone()).await
    }

    async fn check(client: Client, password: String) -> Result<Self, StoreError> {
        if !client.server_info().auth_required {
            return Err(NatsError::AuthenticationDisabled.into());
        }
        let jetstream = jetstream::new(client);
        answer("ask for JetStream", jetstream.query_account()).await?;
        Ok(Self { jetstream, password })
    }

    /// What is needed to read and write a bucket.
    pub(super) fn into_jetstream(self) -> Context {
        self.jetstream
    }

    /// Makes the store this control plane's. The bucket comes with kine. Can be repeated.
    pub async fn ensure(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        claim.check(unrecorded)?;
        if !is_bucket(&claim.schema) {
            return Err(StoreError::Refused(format!(
                "spec.dataStoreSchema: {:?} cannot be the name of a bucket in NATS; use up to 63 letters, digits, '-' and \
                 '_', or leave the field out",
                claim.schema
            )));
        }
        let wanted = Record {
            owner: claim.owner.clone(),
            schema: claim.schema.clone(),
            user: claim.user.clone(),
        };
        match self.record().await? {
            Some(record) if record == wanted => return Ok(()),
            Some(_) => return Err(NatsError::InUse.into()),
            None => {}
        }
        if unrecorded == Unrecorded::Refuse && self.has_bucket(&claim.schema).await? {
            return Err(StoreError::Taken {
                what: "schema",
                name: claim.schema.clone(),
            });
        }
        self.write(&wanted).await
    }

    /// Whoever comes first has the store.
    async fn write(&mut self, wanted: &Record) -> Result<(), StoreError> {
        let records = self.records().await?;
        let text = serde_json::to_vec(wanted).map_err(|error| failed("write a record", error))?;
        let first = tokio::time::timeout(ANSWER_WITHIN, records.create(OWNER, text.into())).await;
        match first {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == kv::CreateErrorKind::AlreadyExists => match self.record().await? {
                Some(record) if record == *wanted => Ok(()),
                _ => Err(NatsError::InUse.into()),
            },
            Ok(Err(error)) => Err(failed("write a record", error)),
            Err(_) => Err(StoreError::Silent { step: "write a record" }),
        }
    }

    /// Drops the bucket, then lets the store go. What is on record as another's is left alone. Can be repeated.
    pub async fn remove(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        let record = self.record().await?;
        let ours = match &record {
            Some(record) => record.owner == claim.owner && record.schema == claim.schema,
            None => unrecorded == Unrecorded::Adopt && is_bucket(&claim.schema),
        };
        if !ours {
            return Ok(());
        }
        if self.has_bucket(&claim.schema).await? {
            answer("drop a bucket", self.jetstream.delete_key_value(&claim.schema)).await?;
        }
        if record.is_some()
            && let Some(records) = self.bucket(RECORDS).await?
        {
            answer("remove a record", records.purge(OWNER)).await?;
        }
        Ok(())
    }

    /// See [`super::store::Store::proves`]. Pods of the control plane that is in the store have its password.
    pub async fn proves(&mut self, claim: &Claim, password: &str) -> Result<bool, StoreError> {
        Ok(password == self.password || (is_bucket(&claim.schema) && !self.has_bucket(&claim.schema).await?))
    }

    /// What is on record as this owner's.
    pub async fn held(&mut self, owner: &str) -> Result<Held, StoreError> {
        let record = self.record().await?.filter(|record| record.owner == owner);
        let held = record.map(|record| Held {
            schemas: vec![record.schema],
            users: vec![record.user],
        });
        Ok(held.unwrap_or_default())
    }

    /// Whether there is data under this schema.
    pub async fn has_bucket(&mut self, schema: &str) -> Result<bool, StoreError> {
        Ok(self.bucket(schema).await?.is_some())
    }

    /// See [`super::moves`].
    pub(super) async fn on_moves(&mut self, order: Order<'_>) -> Result<Option<String>, StoreError> {
        const STEP: &str = "keep the record of a move";
        let (Order::Read { owner, place } | Order::Write { owner, place, .. } | Order::Remove { owner, place }) = order;
        let key = format!("moves.{owner}.{place}");
        match order {
            Order::Read { .. } => {
                let Some(records) = self.bucket(RECORDS).await? else {
                    return Ok(None);
                };
                let found = answer(STEP, records.get(key)).await?;
                Ok(found.map(|text| String::from_utf8_lossy(&text).into_owned()))
            }
            Order::Write { record, .. } => {
                let records = self.records().await?;
                answer(STEP, records.put(key, record.to_owned().into())).await?;
                Ok(None)
            }
            Order::Remove { .. } => {
                if let Some(records) = self.bucket(RECORDS).await? {
                    answer(STEP, records.purge(key)).await?;
                }
                Ok(None)
            }
        }
    }

    /// The bucket of our own records, which is made if it is not there.
    async fn records(&mut self) -> Result<kv::Store, StoreError> {
        let config = kv::Config {
            bucket: RECORDS.to_owned(),
            description: "Which control plane this store holds".to_owned(),
            history: 1,
            ..kv::Config::default()
        };
        answer("make the bucket of records", self.jetstream.create_key_value(config)).await
    }

    /// A record that is not ours to read is somebody's all the same.
    async fn record(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(records) = self.bucket(RECORDS).await? else {
            return Ok(None);
        };
        let Some(text) = answer("read a record", records.get(OWNER)).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice::<Record>(&text).map_err(|error| failed("read a record", error))?;
        // Pods of a tenant can write there. What comes from here goes on into a status, where others are held against it.
        if !is_bucket(&record.schema) {
            return Err(failed("read a record", "its schema cannot be the name of a bucket"));
        }
        Ok(Some(record))
    }

    async fn bucket(&mut self, name: &str) -> Result<Option<kv::Store>, StoreError> {
        let looking = self.jetstream.get_key_value(name);
        match tokio::time::timeout(ANSWER_WITHIN, looking).await {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(error)) if is_missing(&error) => Ok(None),
            Ok(Err(error)) => Err(failed("look up a bucket", error)),
            Err(_) => Err(StoreError::Silent {
                step: "look up a bucket",
            }),
        }
    }
}

fn is_missing(error: &jetstream::context::KeyValueError) -> bool {
    use jetstream::context::{GetStreamError, GetStreamErrorKind};
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<GetStreamError>());
    error.kind() == KeyValueErrorKind::GetBucket
        && cause.is_some_and(|cause| {
            matches!(cause.kind(), GetStreamErrorKind::JetStream(error)
                if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
        })
}

/// Kine takes the login out of an address as it stands there, without undoing any escapes.
fn is_speakable(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Whether a bucket may have this name, and is not ours.
fn is_bucket(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(fits) && !name.eq_ignore_ascii_case(RECORDS)
}

pub(super) fn failed(step: &'static str, source: impl Into<async_nats::Error>) -> StoreError {
    let source = source.into();
    NatsError::Step { step, source }.into()
}

pub(super) async fn answer<T, E>(
    step: &'static str,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(ANSWER_WITHIN, question).await {
        Ok(answer) => answer.map_err(|source| failed(step, source)),
        Err(_) => Err(StoreError::Silent { step }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_names_that_nats_takes_and_that_are_not_ours() {
        for name in ["5b8f4c1e-0000-4000-8000-000000000001", "a_b", "A"] {
            assert!(is_bucket(name), "{name}");
        }
        for name in ["", "a.b", "a b", "a>", "*", "cotenant_dev", "Cotenant_Dev", "ä"] {
            assert!(!is_bucket(name), "{name}");
        }
    }

    #[test]
    fn a_login_that_kine_would_misread_is_refused() {
        for text in ["admin", "a-b.c_d~9"] {
            assert!(is_speakable(text), "{text}");
        }
        for text in ["", "a:b", "a@b", "a/b", "a,b", "100%", "$(HOME)", "ü"] {
            assert!(!is_speakable(text), "{text}");
        }
    }
}
