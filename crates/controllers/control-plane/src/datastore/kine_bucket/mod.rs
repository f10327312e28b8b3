//! kine's bucket of one control plane in NATS: a stream of messages, as kine's own driver reads and writes it ([`encoding`]).
//!
//! A message is one change of one key: its subject is the key, its number in the stream the revision, and the last message of
//! a subject is what the key is now. Ten of each are kept. kine starts on no bucket that is configured in another way than it
//! would do it, so what is changed here while writes wait is changed back.
//!
//! Writes are refused by taking subjects away from the stream: messages that it has stay, and are read and watched as before,
//! and nobody takes new ones. All that log in are one user, so whoever has the store's password could give them back. kine
//! does not, and it would harm nobody but the one control plane that is there.
//!
//! What a method is for stands at that of [`super::kine::Kine`] with its name.

mod encoding;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::claim::Claim;
use super::error::{ANSWER_WITHIN, StoreError};
use super::kine::{HEALTH, PAGE_BYTES, PREFIX, RENEWED, Row, is_renewed};
use super::nats::{NatsLogin, NatsStore, answer, failed};

/// Names of kine's own beside the prefix. The value of the first is the version of the mark, and up to where history is gone.
const MARKS: [&str; 3] = ["compact_rev_key_apiserver", "compact_rev_key", "/registry"];

/// By how much a bucket that is filled begins ahead of the store that is left, for what is written there meanwhile: numbers can
/// be left out only while a stream is empty.
const AHEAD: i64 = 2_000;
/// How many numbers more are made up for with messages that say nothing.
const MADE_UP_AT_MOST: i64 = 100_000;
/// Requests that are under way at the same time.
const AT_A_TIME: usize = 32;
/// Keys that are looked at together.
const PAGE: usize = 500;
/// Bytes that the server sends at a time, more than the largest message.
const FETCHED_BYTES: usize = 16 * 1024 * 1024;
/// The server forgets somebody who reads after that long.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(2);
/// A walk goes on where it was, whatever the name is.
const MORE: &str = "more";
const READ: &str = "read a bucket";
/// A name that nobody uses, below one of the [`RENEWED`].
const MARK: &str = "/registry/leases/kube-system/cotenant-moves";

/// An open bucket.
#[derive(Debug)]
pub(crate) struct KineBucket {
    jetstream: Context,
    bucket: String,
    /// The last message of each name, as far as a walk has not come by yet.
    walk: Option<Messages>,
}

/// What the server says of the stream.
#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
    state: State,
}

#[derive(Deserialize)]
struct State {
    last_seq: u64,
}

impl KineBucket {
    pub(super) async fn open(login: &NatsLogin, claim: &Claim) -> Result<Self, StoreError> {
        Ok(Self {
            jetstream: NatsStore::connect(login).await?.into_jetstream(),
            bucket: claim.schema.clone(),
            walk: None,
        })
    }

    pub(super) async fn make(&mut self) -> Result<(), StoreError> {
        if self.info().await?.is_some() {
            return Ok(());
        }
        // Every field as kine's client sends it: another value, and kine does not start.
        let config = json!({
            "name": self.stream_name(), "description": "Holds kine key/values", "subjects": [self.subjects()],
            "retention": "limits", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "new", "max_age": 0,
            "max_msgs_per_subject": 10, "max_msg_size": -1, "storage": "file", "num_replicas": 1,
            "duplicate_window": 120_000_000_000_i64, "deny_delete": true, "allow_rollup_hdrs": true,
            "allow_direct": true,
        });
        self.call("make a bucket", "CREATE", &config).await.map(drop)
    }

    pub(super) async fn newest(&self) -> Result<i64, StoreError> {
        let info = self.info().await?;
        Ok(info.map_or(0, |info| number(info.state.last_seq)))
    }

    pub(super) async fn count(&mut self) -> Result<i64, StoreError> {
        let is_counted = |name: &str| {
            name.strip_prefix(PREFIX)
                .is_some_and(|key| name != HEALTH.0 && !is_renewed(key.as_bytes()))
        };
        self.count_names(is_counted).await
    }

    pub(super) async fn strangers(&mut self) -> Result<i64, StoreError> {
        self.count_names(|name| !name.starts_with(PREFIX) && !MARKS.contains(&name))
            .await
    }

    pub(super) async fn page(&mut self, after: &str) -> Result<(Vec<Row>, Option<String>), StoreError> {
        let mut messages = match self.walk.take().filter(|_| !after.is_empty()) {
            Some(messages) => messages,
            None => self.messages(DeliverPolicy::LastPerSubject, false).await?,
        };
        // What is written again meanwhile comes twice.
        let (mut rows, mut bytes) = (BTreeMap::new(), 0);
        while rows.len() < PAGE && bytes < PAGE_BYTES {
            let Some(message) = messages.next().await? else {
                return Ok((rows.into_values().collect(), None));
            };
            let Some(name) = message.name.filter(|name| is_key(name)) else {
                continue;
            };
            let row = change(message.number, name, message.gone, &message.whole.payload)?;
            if row.deleted {
                rows.remove(&row.name);
            } else {
                bytes += size(row.value.len());
                rows.insert(row.name.clone(), row);
            }
        }
        self.walk = Some(messages);
        Ok((rows.into_values().collect(), Some(MORE.to_owned())))
    }

    pub(super) async fn changes(&mut self, after: i64, upto: i64) -> Result<(Vec<Row>, Option<i64>), StoreError> {
        let from = DeliverPolicy::ByStartSequence {
            start_sequence: u64::try_from(after).unwrap_or_default() + 1,
        };
        let mut messages = self.messages(from, false).await?;
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
        while rows.len() < PAGE && bytes < PAGE_BYTES {
            let Some(message) = messages.next().await? else { break };
            if message.number > upto {
                break;
            }
            last = Some(message.number);
            bytes += size(message.whole.payload.len());
            if let Some(name) = message.name.filter(|name| is_key(name)) {
                let row = change(message.number, name, message.gone, &message.whole.payload)?;
                // A message may be much smaller than what is in it.
                bytes += size(row.value.len());
                rows.push(row);
            }
        }
        Ok((rows, last))
    }

    pub(super) async fn find(&mut self, names: &[String]) -> Result<Vec<Row>, StoreError> {
        let looking = names.iter().map(|name| self.last(name).boxed());
        let looking = stream::iter(looking.collect::<Vec<_>>());
        let found: Vec<_> = looking.buffered(AT_A_TIME).try_collect().await?;
        Ok(found.into_iter().flatten().filter(|row| !row.deleted).collect())
    }

    async fn last(&self, name: &str) -> Result<Option<Row>, StoreError> {
        let subject = self.subject(name);
        let found = self.stream().await?.get_last_raw_message_by_subject(&subject).await;
        row(name, found)
    }

    /// Each key has one message afterwards.
    pub(super) async fn replace(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let latest: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
        let writing = latest.into_values().map(|row| {
            if row.deleted {
                self.forget(&row.name).boxed()
            } else {
                self.write(row).boxed()
            }
        });
        let writing = stream::iter(writing.collect::<Vec<_>>());
        writing.buffer_unordered(AT_A_TIME).try_collect().await
    }

    async fn forget(&self, name: &str) -> Result<(), StoreError> {
        let purging = self.stream().await?.purge().filter(self.subject(name)).into_future();
        answer("remove a key", purging).await.map(drop)
    }

    async fn write(&self, row: &Row) -> Result<(), StoreError> {
        const STEP: &str = "write a key";
        let message = encoding::encode(row).map_err(|error| failed(STEP, error))?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        self.publish(STEP, &row.name, headers, message).await
    }

    async fn publish(
        &self,
        step: &'static str,
        name: &str,
        headers: HeaderMap,
        message: Vec<u8>,
    ) -> Result<(), StoreError> {
        let sending = self
            .jetstream
            .publish_with_headers(self.subject(name), headers, message.into());
        let acknowledged = answer(step, sending).await?;
        answer(step, acknowledged.into_future()).await.map(drop)
    }

    pub(super) async fn clear(&mut self, next: i64) -> Result<(), StoreError> {
        let first = self.newest().await?.max(next).saturating_add(AHEAD);
        let first = u64::try_from(first).unwrap_or_default();
        let purging = self.stream().await?.purge().sequence(first).into_future();
        answer("remove keys", purging).await.map(drop)
    }

    pub(super) async fn complete(&mut self, revision: i64) -> Result<(), StoreError> {
        let missing = revision - self.newest().await?;
        if missing > MADE_UP_AT_MOST {
            let message = format!("the bucket would have to be past revision {revision}, {missing} from where it is");
            return Err(StoreError::Refused(message));
        }
        let marks: Vec<_> = (0..missing).map(|_| self.mark().boxed()).collect();
        stream::iter(marks)
            .buffer_unordered(AT_A_TIME)
            .try_collect::<()>()
            .await?;
        let newest = self.newest().await?;
        let own = |name: &str, value: String| Row {
            id: 0,
            name: name.to_owned(),
            value: value.into_bytes(),
            lease: 0,
            deleted: false,
        };
        self.write(&own(HEALTH.0, HEALTH.1.to_owned())).await?;
        self.write(&own(MARKS[0], format!("1|{newest}"))).await
    }

    pub(super) async fn freeze(&mut self) -> Result<(), StoreError> {
        let below = |lease: &str| {
            format!(
                "{}.>",
                self.subject(&format!("{PREFIX}{}", lease.trim_end_matches('/')))
            )
        };
        self.take(RENEWED.iter().map(|lease| below(lease)).collect()).await?;
        self.mark().await
    }

    /// Returns when what the stream had been given before is in it. What this writes says that a key is gone, which never was.
    async fn mark(&self) -> Result<(), StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.publish("write a mark", MARK, headers, Vec::new()).await
    }

    pub(super) async fn thaw(&mut self) -> Result<(), StoreError> {
        self.take(vec![self.subjects()]).await
    }

    /// Has the stream take messages with these subjects and no others.
    async fn take(&self, subjects: Vec<String>) -> Result<(), StoreError> {
        let Some(Info { mut config, .. }) = self.info().await? else {
            return Ok(());
        };
        let subjects = json!(subjects);
        if config.get("subjects") == Some(&subjects) {
            return Ok(());
        }
        config.insert("subjects".to_owned(), subjects);
        let step = "change what a bucket takes";
        self.call(step, "UPDATE", &Value::Object(config)).await.map(drop)
    }

    /// How many are there of which this holds. What is written meanwhile may count twice.
    async fn count_names(&self, holds: impl Fn(&str) -> bool) -> Result<i64, StoreError> {
        let mut messages = self.messages(DeliverPolicy::LastPerSubject, true).await?;
        let mut count = 0;
        while let Some(message) = messages.next().await? {
            let is_there = message.name.filter(|_| !message.gone);
            count += i64::from(is_there.is_some_and(|name| holds(&name)));
        }
        Ok(count)
    }

    async fn messages(&self, deliver_policy: DeliverPolicy, headers_only: bool) -> Result<Messages, StoreError> {
        // Nothing is acknowledged, so what was sent does not come again.
        let config = pull::Config {
            filter_subject: self.subjects(),
            deliver_policy,
            headers_only,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            ..pull::Config::default()
        };
        let upto = self.newest().await?;
        let stream = self.stream().await?;
        let consumer = answer(READ, stream.create_consumer(config)).await?;
        Ok(Messages {
            prefix: self.subject_prefix(),
            upto,
            ahead: consumer.cached_info().num_pending,
            consumer,
            fetched: VecDeque::new(),
        })
    }

    async fn info(&self) -> Result<Option<Info>, StoreError> {
        const STEP: &str = "look up a bucket";
        let payload = json!({});
        let asking = self
            .jetstream
            .request(format!("STREAM.INFO.{}", self.stream_name()), &payload);
        match answer(STEP, asking).await? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Response::Err { error } => Err(failed(STEP, error)),
        }
    }

    async fn call(&self, step: &'static str, what: &str, payload: &Value) -> Result<Value, StoreError> {
        let asking = self
            .jetstream
            .request(format!("STREAM.{what}.{}", self.stream_name()), payload);
        match answer(step, asking).await? {
            Response::Ok(answered) => Ok(answered),
            Response::Err { error } => Err(failed(step, error)),
        }
    }

    /// No request is made.
    async fn stream(&self) -> Result<Stream<()>, StoreError> {
        let stream = self.jetstream.get_stream_no_info(self.stream_name()).await;
        stream.map_err(|error| failed("name a bucket", error))
    }

    fn stream_name(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    fn subject_prefix(&self) -> String {
        format!("$KV.{}.", self.bucket)
    }

    /// Those of all keys.
    fn subjects(&self) -> String {
        format!("{}>", self.subject_prefix())
    }

    fn subject(&self, name: &str) -> String {
        format!("{}{}", self.subject_prefix(), encoding::subject(name))
    }
}

/// Messages from somewhere in a stream up to its end, as that was at the beginning: a tenant may write faster than anybody
/// reads.
struct Messages {
    /// Of their subjects.
    prefix: String,
    /// Number of the last one.
    upto: i64,
    consumer: PullConsumer,
    /// How many are in the stream behind those that were fetched.
    ahead: u64,
    fetched: VecDeque<Message>,
}

/// One of them.
struct Message {
    number: i64,
    /// `None` for a subject that is not kine's.
    name: Option<String>,
    /// Whether it says that the key is not there any more.
    gone: bool,
    whole: async_nats::Message,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    /// `None` at the end.
    async fn next(&mut self) -> Result<Option<Message>, StoreError> {
        if self.fetched.is_empty() && self.ahead > 0 {
            let filled = tokio::time::timeout(ANSWER_WITHIN, self.fill()).await;
            filled.map_err(|_| StoreError::Silent { step: READ })??;
        }
        let message = self.fetched.pop_front();
        Ok(message.filter(|message| message.number <= self.upto))
    }

    /// What was ahead may be gone by now, so that nothing comes; then the server says how much there is.
    async fn fill(&mut self) -> Result<(), StoreError> {
        while self.fetched.is_empty() && self.ahead > 0 {
            self.fetch().await?;
            if self.fetched.is_empty() {
                let info = self.consumer.get_info().await.map_err(|error| failed(READ, error))?;
                self.ahead = info.num_pending;
            }
        }
        Ok(())
    }

    async fn fetch(&mut self) -> Result<(), StoreError> {
        let asking = self.consumer.fetch().max_messages(PAGE).max_bytes(FETCHED_BYTES);
        let mut batch = asking.messages().await.map_err(|error| failed(READ, error))?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| failed(READ, error))?;
            let info = message.info().map_err(|error| failed(READ, error))?;
            let subject = message.subject.strip_prefix(self.prefix.as_str());
            self.ahead = info.pending;
            self.fetched.push_back(Message {
                number: number(info.stream_sequence),
                name: subject.and_then(encoding::name),
                gone: message.headers.as_ref().is_some_and(is_gone),
                whole: message.message,
            });
        }
        Ok(())
    }
}

/// Whether it is an API server's.
fn is_key(name: &str) -> bool {
    name.starts_with(PREFIX) && name != HEALTH.0
}

/// Whether a message says that its key is not there.
fn is_gone(headers: &HeaderMap) -> bool {
    let operation = headers.get("KV-Operation");
    operation.is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
}

/// What the store has under a name. `None`: nothing, and never had.
fn row(
    name: &str,
    found: Result<async_nats::jetstream::message::StreamMessage, RawMessageError>,
) -> Result<Option<Row>, StoreError> {
    let message = match found {
        Ok(message) => message,
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(failed("read a key", error)),
    };
    let gone = is_gone(&message.headers);
    change(number(message.sequence), name.to_owned(), gone, &message.payload).map(Some)
}

/// What a message made of a key.
fn change(id: i64, name: String, gone: bool, payload: &[u8]) -> Result<Row, StoreError> {
    if !gone {
        let problem = |reason| StoreError::Refused(format!("the key {name} was not written by kine: {reason}"));
        return encoding::decode(id, name.clone(), payload).map_err(problem);
    }
    Ok(Row {
        id,
        name,
        value: Vec::new(),
        lease: 0,
        deleted: true,
    })
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Revisions are signed for everybody but NATS.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
