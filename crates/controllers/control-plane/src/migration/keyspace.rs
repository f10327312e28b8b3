//! The keys of one control plane in one etcd, as the store's administrator reads and writes them.
//!
//! Everything that a move asks of an etcd is here. What it asks of a store behind kine is in
//! [`crate::datastore::kine`], and what it does with both is in [`super::across`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, DeleteOptions, GetOptions, KvClient, Permission, PutOptions, RoleRevokePermissionOptions, Txn, TxnOp,
    TxnOpResponse, WatchOptions, WatchStream,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::error::Error;
use crate::datastore::kine::RENEWED;

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Keys that are read at a time, at most.
const PAGE: i64 = 500;
/// What an answer may hold. A tenant chooses how large its objects are, up to some 1.5 MiB each.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Limits of one transaction, both well below etcd's own (128 operations, 1.5 MiB).
pub(super) const BATCH_OPERATIONS: usize = 100;
const BATCH_BYTES: usize = 512 * 1024;
/// Writes under way at a time while revisions are made up for, and writes until it is looked how far that is.
const AT_ONCE: usize = 128;
const ROUND: i64 = 1_000;

/// A key as it is, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Zero: it does not expire.
    pub(super) lease: i64,
}

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(Entry),
    Delete(Vec<u8>),
}

impl Change {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(entry) => entry.key.len() + entry.value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

/// See the module.
pub(super) struct Keyspace {
    /// Name of the DataStore, for people.
    pub(super) store: String,
    client: Client,
    kv: KvClient,
    /// Keys that are read at a time: fewer where they are large.
    page: AtomicI64,
    schema: String,
    first: Vec<u8>,
    end: Vec<u8>,
}

impl Keyspace {
    pub(super) fn new(store: &str, client: Client, schema: &str) -> Self {
        let (first, end) = within(schema, "");
        let kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES);
        Self {
            store: store.to_owned(),
            client,
            kv,
            page: AtomicI64::new(PAGE),
            schema: schema.to_owned(),
            first,
            end,
        }
    }

    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.first.clone(), self.end.clone())
    }

    async fn ask<T>(
        &self,
        step: &'static str,
        question: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        let store = || self.store.clone();
        match tokio::time::timeout(ANSWER_WITHIN, question).await {
            Ok(answer) => answer.map_err(|error| Error::Step {
                step,
                store: store(),
                source: error.into(),
            }),
            Err(_) => Err(Error::Silent {
                step,
                store: store(),
                within: ANSWER_WITHIN,
            }),
        }
    }

    /// The store's newest revision.
    pub(super) async fn revision(&self) -> Result<i64, Error> {
        let options = GetOptions::new().with_limit(1).with_keys_only();
        let mut kv = self.kv.clone();
        let found = self
            .ask("read the revision", kv.get(self.first.clone(), Some(options)))
            .await?;
        Ok(found.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Keys from `from` up to and without `end`, as many as fit into a page; and where the next page begins. Revision zero is
    /// the newest.
    pub(super) async fn page(
        &self,
        from: &[u8],
        end: &[u8],
        revision: i64,
    ) -> Result<(Vec<Entry>, Option<Vec<u8>>), Error> {
        loop {
            let limit = self.page.load(Ordering::Relaxed);
            let options = GetOptions::new()
                .with_range(end)
                .with_limit(limit)
                .with_revision(revision);
            let mut kv = self.kv.clone();
            let mut found = match self.ask("read keys", kv.get(from, Some(options))).await {
                Err(error) if error.is_too_large() && limit > 1 => {
                    self.page.store(limit / 2, Ordering::Relaxed);
                    continue;
                }
                found => found?,
            };
            self.page.store((limit * 2).min(PAGE), Ordering::Relaxed);
            let entries: Vec<Entry> = found.take_kvs().into_iter().map(entry).collect();
            let next = entries.last().filter(|_| found.more()).map(|last| after(&last.key));
            return Ok((entries, next));
        }
    }

    /// Writes changes, of which no two are of one key.
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for change in changes {
            if batch.len() == BATCH_OPERATIONS || bytes > BATCH_BYTES {
                self.transact(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += change.bytes();
            batch.push(operation(change));
        }
        self.transact(batch).await
    }

    /// What is there under these keys, of which there are no more than [`BATCH_OPERATIONS`].
    pub(super) async fn find(&self, keys: &[Vec<u8>]) -> Result<Vec<Entry>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let gets: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.clone(), None)).collect();
        let mut kv = self.kv.clone();
        let found = self.ask("read keys", kv.txn(Txn::new().and_then(gets))).await?;
        let answers = found.op_responses().into_iter().filter_map(|answer| match answer {
            TxnOpResponse::Get(mut found) => found.take_kvs().into_iter().next(),
            _ => None,
        });
        Ok(answers.map(entry).collect())
    }

    /// Keys that are there now, without the [`RENEWED`].
    pub(super) async fn count_others(&self) -> Result<i64, Error> {
        let mut count = self.count(self.range()).await?;
        for lease in RENEWED {
            count -= self.count(within(&self.schema, lease)).await?;
        }
        Ok(count)
    }

    async fn count(&self, (first, end): (Vec<u8>, Vec<u8>)) -> Result<i64, Error> {
        let options = GetOptions::new().with_range(end).with_count_only();
        let mut kv = self.kv.clone();
        let found = self.ask("count keys", kv.get(first, Some(options))).await?;
        Ok(found.count())
    }

    /// Removes all keys.
    pub(super) async fn clear(&self) -> Result<(), Error> {
        let options = DeleteOptions::new().with_range(self.end.clone());
        let mut kv = self.kv.clone();
        let removed = kv.delete(self.first.clone(), Some(options));
        self.ask("remove keys", removed).await.map(drop)
    }

    async fn transact(&self, operations: Vec<TxnOp>) -> Result<(), Error> {
        if operations.is_empty() {
            return Ok(());
        }
        let mut kv = self.kv.clone();
        self.ask("write keys", kv.txn(Txn::new().and_then(operations)))
            .await
            .map(drop)
    }

    /// Seconds that a lease still has. `None`: it has expired.
    pub(super) async fn time_to_live(&self, lease: i64) -> Result<Option<i64>, Error> {
        let mut client = self.client.lease_client();
        let found = self.ask("read a lease", client.time_to_live(lease, None)).await?;
        Ok(Some(found.ttl()).filter(|seconds| *seconds > 0))
    }

    pub(super) async fn grant(&self, seconds: i64) -> Result<i64, Error> {
        let mut client = self.client.lease_client();
        Ok(self.ask("grant a lease", client.grant(seconds, None)).await?.id())
    }

    /// All changes after a revision.
    pub(super) async fn watch(&self, after: i64) -> Result<WatchStream, Error> {
        let options = WatchOptions::new()
            .with_range(self.end.clone())
            .with_start_revision(after + 1)
            .with_fragment();
        let mut client = self.client.watch_client().max_decoding_message_size(ANSWER_BYTES);
        self.ask("follow changes", client.watch(self.first.clone(), Some(options)))
            .await
    }

    /// A key that is nobody's data: once a watch tells of it, everything before was told.
    pub(super) fn marker(&self) -> Vec<u8> {
        within(&self.schema, "cotenant.dev/marker").0
    }

    /// Writes the marker and gives its revision.
    pub(super) async fn mark(&self) -> Result<i64, Error> {
        let mut kv = self.kv.clone();
        let put = self.ask("write a mark", kv.put(self.marker(), "", None)).await?;
        Ok(put.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    pub(super) async fn unmark(&self) -> Result<(), Error> {
        let mut kv = self.kv.clone();
        self.ask("remove a mark", kv.delete(self.marker(), None))
            .await
            .map(drop)
    }

    /// Brings the store's revision to at least this one. Revisions only grow by writing.
    pub(super) async fn raise_revision(&self, to: i64) -> Result<(), Error> {
        let mut missing = to - self.revision().await?;
        while missing > 0 {
            let puts: Vec<_> = (0..missing.min(ROUND))
                .map(|_| {
                    let mut kv = self.kv.clone();
                    let key = self.marker();
                    async move { kv.put(key, "", None).await.map(drop) }
                })
                .collect();
            let round = stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>();
            self.ask("raise the revision", round).await?;
            missing = to - self.revision().await?;
        }
        self.unmark().await
    }

    /// Takes the control plane's right to write away, but for the [`RENEWED`]. Whoever it is: no request of a tenant, an
    /// administrator's or a controller's, changes anything else from here on, and reads go on.
    pub(super) async fn freeze(&self) -> Result<(), Error> {
        for (key, end) in RENEWED.map(|lease| within(&self.schema, lease)) {
            self.permit(Permission::read_write(key).with_range_end(end)).await?;
        }
        self.close().await
    }

    /// Takes the right to write away, where nobody has begun to write.
    pub(super) async fn close(&self) -> Result<(), Error> {
        // The right to a range that is there already is replaced in one step, so reads never fail.
        let (key, end) = self.range();
        self.permit(Permission::read(key).with_range_end(end)).await
    }

    /// Gives the right to write back.
    pub(super) async fn thaw(&self) -> Result<(), Error> {
        let (key, end) = self.range();
        self.permit(Permission::read_write(key).with_range_end(end)).await?;
        for (key, end) in RENEWED.map(|lease| within(&self.schema, lease)) {
            let options = RoleRevokePermissionOptions::new().with_range_end(end);
            let mut client = self.client.clone();
            let revoke = client.role_revoke_permission(self.schema.as_str(), key, Some(options));
            match self.ask("take a right back", revoke).await {
                Err(Error::Step { source, .. }) if source.says("not granted") => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    async fn permit(&self, permission: Permission) -> Result<(), Error> {
        let mut client = self.client.clone();
        let grant = client.role_grant_permission(self.schema.as_str(), permission);
        self.ask("grant a right", grant).await.map(drop)
    }
}

/// The keys below a name within a schema: first, and the first after.
fn within(schema: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = format!("/{}/{name}", schema.trim_matches('/')).into_bytes();
    let mut end = key.clone();
    // The last byte is a slash or a letter, so the next one exists.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (key, end)
}

/// The first key after this one.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

pub(super) fn entry(found: etcd_client::KeyValue) -> Entry {
    let lease = found.lease();
    let (key, value) = found.into_key_value();
    Entry { key, value, lease }
}

fn operation(change: Change) -> TxnOp {
    match change {
        Change::Put(entry) => {
            let options = (entry.lease != 0).then(|| PutOptions::new().with_lease(entry.lease));
            TxnOp::put(entry.key, entry.value, options)
        }
        Change::Delete(key) => TxnOp::delete(key, None),
    }
}
