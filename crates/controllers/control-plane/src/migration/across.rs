//! Making one store's keys another's where kine keeps one of the two, or both.
//!
//! API servers keep their keys below `/<schema>/` in an etcd and below `/registry/` behind kine; what comes after that is the
//! same and is what is compared. The two stores sort keys in different ways, so they are not walked side by side: each key of
//! the first is looked up in the second, and the second must not have more.
//!
//! Behind kine, revisions are the changes' own. The second store's begin after the first's, so none has to be made up for. What
//! kine removes from the history of the first while that is read, is found by the comparison, and put right once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::RAISE_MARGIN;
use super::copy;
use super::error::Error;
use super::following::Following;
use super::keyspace::{BATCH_OPERATIONS, Change, Entry, Keyspace};
use super::leases::Leases;
use crate::datastore::error::StoreError;
use crate::datastore::kine::{Kine, PREFIX, Row, is_renewed};

/// Bytes of values that are looked up at a time.
const LOOKED_UP_BYTES: usize = 4 * 1024 * 1024;
/// How values begin that are encrypted at rest.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// What kine keeps in the DataStore of this name.
pub(super) struct Named {
    pub(super) store: String,
    pub(super) kine: Kine,
}

impl Named {
    fn failed(&self) -> impl FnOnce(StoreError) -> Error + use<> {
        let store = self.store.clone();
        |source| Error::Store { store, source }
    }

    async fn newest(&mut self) -> Result<i64, Error> {
        let failed = self.failed();
        self.kine.newest().await.map_err(failed)
    }
}

/// The store that is left.
pub(super) enum Source {
    Etcd(Box<Keyspace>),
    Kine(Named),
}

/// The store that is moved to.
pub(super) enum Target {
    Etcd(Box<Keyspace>),
    Kine(Named),
}

/// What tells of changes.
enum Tail {
    Etcd(Box<Following>),
    /// Up to which revision changes were looked at.
    Kine(i64),
}

/// Keys are those behind the prefix.
pub(super) struct Across {
    source: Source,
    target: Target,
    tail: Option<Tail>,
    /// The next revision behind a kine that is written to.
    next: i64,
    leases: Leases,
}

/// Where a walk through the source is.
enum At {
    Etcd { from: Vec<u8>, revision: i64 },
    Kine { after: String },
}

impl Across {
    pub(super) fn new(source: Source, target: Target) -> Self {
        Self {
            source,
            target,
            tail: None,
            next: 0,
            leases: Leases::default(),
        }
    }

    /// Copies all keys into an empty target, and begins to listen for changes. Gives how many keys that is.
    pub(super) async fn bring(&mut self) -> Result<usize, Error> {
        let newest = match &mut self.source {
            Source::Etcd(keys) => {
                let revision = keys.revision().await?;
                self.tail = Some(Tail::Etcd(Box::new(Following::begin(keys, revision).await?)));
                revision
            }
            Source::Kine(source) => {
                let newest = source.newest().await?;
                self.tail = Some(Tail::Kine(newest - source.kine.overlap()));
                newest
            }
        };
        self.next = self.next.max(newest + 1);
        self.clear().await?;
        self.copy_all(newest).await
    }

    async fn clear(&mut self) -> Result<(), Error> {
        match &mut self.target {
            Target::Etcd(keys) => keys.clear().await,
            Target::Kine(target) => {
                let failed = target.failed();
                target.kine.clear(self.next).await.map_err(failed)
            }
        }
    }

    async fn copy_all(&mut self, revision: i64) -> Result<usize, Error> {
        self.refuse_strangers().await?;
        let mut keys = 0;
        let mut at = Some(self.begin(revision));
        while let Some(here) = at {
            let (entries, next) = self.page(here).await?;
            keys += entries.len();
            self.write(entries.into_iter().map(Change::Put).collect()).await?;
            at = next;
        }
        Ok(keys)
    }

    async fn refuse_strangers(&mut self) -> Result<(), Error> {
        let Source::Kine(source) = &mut self.source else {
            return Ok(());
        };
        let failed = source.failed();
        match source.kine.strangers().await.map_err(failed)? {
            0 => Ok(()),
            count => Err(Error::Strangers {
                store: source.store.clone(),
                count,
            }),
        }
    }

    fn begin(&self, revision: i64) -> At {
        match &self.source {
            Source::Etcd(keys) => At::Etcd {
                from: keys.range().0,
                revision,
            },
            Source::Kine(_) => At::Kine { after: String::new() },
        }
    }

    /// The source's keys from here on, as many as fit into a page, and where the next page begins.
    async fn page(&mut self, at: At) -> Result<(Vec<Entry>, Option<At>), Error> {
        match (&mut self.source, at) {
            (Source::Etcd(keys), At::Etcd { from, revision }) => {
                let (first, end) = keys.range();
                let (mut entries, next) = keys.page(&from, &end, revision).await?;
                let marker = keys.marker();
                entries.retain(|entry| entry.key != marker);
                for entry in &mut entries {
                    entry.key.drain(..first.len());
                }
                Ok((entries, next.map(|from| At::Etcd { from, revision })))
            }
            (Source::Kine(source), At::Kine { after }) => {
                let failed = source.failed();
                let (rows, last) = source.kine.page(&after).await.map_err(failed)?;
                let entries = rows.into_iter().map(entry).collect();
                Ok((entries, last.map(|after| At::Kine { after })))
            }
            // A walk is never taken on in another store.
            _ => Ok((Vec::new(), None)),
        }
    }

    /// Copies what has changed since the last look. Gives how much that was, and the revision up to which it is.
    pub(super) async fn follow(&mut self) -> Result<(usize, i64), Error> {
        match self.tail.take() {
            Some(Tail::Etcd(mut following)) => {
                let mark = match &self.source {
                    Source::Etcd(keys) => keys.mark().await?,
                    Source::Kine(_) => 0,
                };
                let mut count = 0;
                loop {
                    let (mut changes, marked) = match &self.source {
                        Source::Etcd(keys) => following.next(keys, mark).await?,
                        Source::Kine(_) => (Vec::new(), true),
                    };
                    self.strip(&mut changes);
                    count += changes.len();
                    self.write(changes).await?;
                    if marked {
                        break;
                    }
                }
                self.tail = Some(Tail::Etcd(following));
                Ok((count, mark))
            }
            Some(Tail::Kine(seen)) => self.follow_table(seen).await,
            None => Ok((0, 0)),
        }
    }

    fn strip(&self, changes: &mut [Change]) {
        let Source::Etcd(keys) = &self.source else { return };
        let prefix = keys.range().0.len();
        for change in changes {
            match change {
                Change::Put(entry) => drop(entry.key.drain(..prefix)),
                Change::Delete(key) => drop(key.drain(..prefix)),
            }
        }
    }

    async fn follow_table(&mut self, seen: i64) -> Result<(usize, i64), Error> {
        let Source::Kine(source) = &mut self.source else {
            return Ok((0, 0));
        };
        let (mark, overlap) = (source.newest().await?, source.kine.overlap());
        // What was looked at before is not counted again.
        let known = seen + overlap;
        let (mut after, mut count) = (seen, 0);
        while let Source::Kine(source) = &mut self.source {
            let failed = source.failed();
            let (rows, last) = source.kine.changes(after, mark).await.map_err(failed)?;
            let Some(last) = last else { break };
            after = last;
            count += rows.iter().filter(|row| row.id > known).count();
            let mut latest = BTreeMap::new();
            for row in rows {
                let change = if row.deleted {
                    Change::Delete(relative(&row.name))
                } else {
                    Change::Put(entry(row))
                };
                latest.insert(change.key().to_vec(), change);
            }
            self.write(latest.into_values().collect()).await?;
        }
        self.tail = Some(Tail::Kine(mark - overlap));
        Ok((count, mark))
    }

    /// Has the source refuse writes. What was under way is in it when this returns.
    pub(super) async fn freeze(&mut self) -> Result<(), Error> {
        match &mut self.source {
            Source::Etcd(keys) => keys.freeze().await,
            Source::Kine(source) => {
                let failed = source.failed();
                source.kine.freeze().await.map_err(failed)
            }
        }
    }

    /// Brings an etcd's revision near to the source's; behind kine it is set when all is there.
    pub(super) async fn raise(&mut self) -> Result<(), Error> {
        if let (Source::Kine(source), Target::Etcd(target)) = (&mut self.source, &self.target) {
            return super::attempt::raise(source.newest().await?, target).await;
        }
        Ok(())
    }

    /// Makes the target's revision a later one than this, and compares every key and value. Gives how many keys there are.
    pub(super) async fn settle(&mut self, mark: i64) -> Result<usize, Error> {
        let keys = match self.compare(mark).await {
            Err(Error::Different { .. }) if matches!(self.source, Source::Kine(_)) => {
                self.clear().await?;
                self.copy_all(mark).await?;
                self.compare(mark).await?
            }
            compared => compared?,
        };
        self.refuse_strangers().await?;
        match &mut self.target {
            // Leases are renewed meanwhile, and each has a revision.
            Target::Etcd(target) => target.raise_revision(mark + RAISE_MARGIN / 2).await?,
            Target::Kine(target) => {
                let revision = self.next.max(mark) + RAISE_MARGIN;
                let failed = target.failed();
                target.kine.complete(revision).await.map_err(failed)?;
                let failed = target.failed();
                target.kine.close().await.map_err(failed)?;
            }
        }
        if let Source::Etcd(source) = &self.source {
            source.unmark().await?;
        }
        Ok(keys)
    }

    /// What expires may be gone on one side, and what is renewed meanwhile is newer on the other.
    async fn compare(&mut self, revision: i64) -> Result<usize, Error> {
        let (mut keys, mut found, mut wrong) = (0, 0, Vec::new());
        let mut at = Some(self.begin(revision));
        while let Some(here) = at {
            let (mut entries, next) = self.page(here).await?;
            entries.retain(|entry| !is_renewed(&entry.key));
            keys += entries.len();
            for entries in looked_up(&entries) {
                let there = self.find(entries).await?;
                found += there.len();
                wrong.extend(copy::differences(entries, &there));
            }
            wrong.truncate(1_000);
            at = next;
        }
        let extra = self.count().await?.saturating_sub(found);
        if extra > 0 {
            wrong.push(b"(of the copy)".to_vec());
        }
        match wrong.first() {
            None => Ok(keys),
            Some(first) => Err(Error::Different {
                count: wrong.len().max(extra),
                first: String::from_utf8_lossy(first).into_owned(),
            }),
        }
    }

    /// What the target has under the same keys.
    async fn find(&mut self, entries: &[Entry]) -> Result<Vec<Entry>, Error> {
        match &mut self.target {
            Target::Etcd(target) => {
                let prefix = target.range().0;
                let keys: Vec<Vec<u8>> = entries.iter().map(|entry| [&prefix[..], &entry.key].concat()).collect();
                let mut found = target.find(&keys).await?;
                for entry in &mut found {
                    entry.key.drain(..prefix.len());
                }
                Ok(found)
            }
            Target::Kine(target) => {
                let names = entries.iter().map(|entry| name(&target.store, &entry.key));
                let names = names.collect::<Result<Vec<_>, _>>()?;
                let failed = target.failed();
                let rows = target.kine.find(&names).await.map_err(failed)?;
                Ok(rows.into_iter().map(entry).collect())
            }
        }
    }

    async fn count(&mut self) -> Result<usize, Error> {
        let count = match &mut self.target {
            Target::Etcd(target) => target.count_others().await?,
            Target::Kine(target) => {
                let failed = target.failed();
                target.kine.count().await.map_err(failed)?
            }
        };
        Ok(usize::try_from(count).unwrap_or_default())
    }

    async fn write(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.refuse_encrypted(&changes)?;
        for lease in self.leases.unknown(&changes) {
            let granted = self.grant(lease).await?;
            let serves = match &self.source {
                Source::Etcd(_) => None,
                // Keys get most of their time, and there are few leases.
                Source::Kine(_) => Some(Duration::from_secs(lease.unsigned_abs()) / 10),
            };
            self.leases.learn(lease, granted, serves);
        }
        let translated = self.leases.translate(changes);
        match &mut self.target {
            Target::Etcd(target) => {
                let prefix = target.range().0;
                let whole = |key: Vec<u8>| [&prefix[..], &key].concat();
                let changes = translated.into_iter().map(|change| match change {
                    Change::Put(entry) => Change::Put(Entry {
                        key: whole(entry.key),
                        ..entry
                    }),
                    Change::Delete(key) => Change::Delete(whole(key)),
                });
                target.write(changes.collect()).await
            }
            Target::Kine(target) => {
                let mut rows = Vec::with_capacity(translated.len());
                for change in translated {
                    rows.push(row(&target.store, self.next, change)?);
                    self.next += 1;
                }
                let failed = target.failed();
                target.kine.replace(&rows).await.map_err(failed)
            }
        }
    }

    /// A value that is encrypted together with its key cannot be read under another.
    fn refuse_encrypted(&self, changes: &[Change]) -> Result<(), Error> {
        let store = match (&self.source, &self.target) {
            (Source::Kine(_), Target::Kine(_)) => return Ok(()),
            (_, Target::Etcd(target)) => &target.store,
            (_, Target::Kine(target)) => &target.store,
        };
        let encrypted = changes.iter().find_map(|change| match change {
            Change::Put(entry) if entry.value.starts_with(ENCRYPTED) => Some(&entry.key),
            _ => None,
        });
        match encrypted {
            None => Ok(()),
            Some(key) => Err(Error::Encrypted {
                key: String::from_utf8_lossy(key).into_owned(),
                store: store.clone(),
            }),
        }
    }

    /// The target's lease for one of the source: kine's are seconds, an etcd's are numbers that seconds belong to. `None`: it
    /// has expired.
    async fn grant(&self, lease: i64) -> Result<Option<i64>, Error> {
        let seconds = match &self.source {
            Source::Etcd(source) => source.time_to_live(lease).await?,
            Source::Kine(_) => Some(lease.max(1)),
        };
        Ok(match (&self.target, seconds) {
            (_, None) => None,
            (Target::Etcd(target), Some(seconds)) => Some(target.grant(seconds).await?),
            (Target::Kine(_), Some(seconds)) => Some(seconds.min(i32::MAX.into())),
        })
    }
}

/// Keys in portions of which the answer is not too large.
fn looked_up(entries: &[Entry]) -> Vec<&[Entry]> {
    let mut portions = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let full = at - from == BATCH_OPERATIONS || bytes + entry.value.len() > LOOKED_UP_BYTES;
        if full && at > from {
            portions.push(&entries[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += entry.value.len();
    }
    if from < entries.len() {
        portions.push(&entries[from..]);
    }
    portions
}

fn relative(name: &str) -> Vec<u8> {
    name.strip_prefix(PREFIX).unwrap_or(name).as_bytes().to_vec()
}

fn entry(row: Row) -> Entry {
    Entry {
        key: relative(&row.name),
        value: row.value,
        lease: row.lease,
    }
}

fn name(store: &str, key: &[u8]) -> Result<String, Error> {
    match std::str::from_utf8(key) {
        Ok(key) if !key.contains('\0') => Ok(format!("{PREFIX}{key}")),
        _ => Err(Error::Unnameable {
            key: String::from_utf8_lossy(key).into_owned(),
            store: store.to_owned(),
        }),
    }
}

fn row(store: &str, id: i64, change: Change) -> Result<Row, Error> {
    Ok(match change {
        Change::Put(entry) => Row {
            id,
            name: name(store, &entry.key)?,
            value: entry.value,
            lease: entry.lease,
            deleted: false,
        },
        Change::Delete(key) => Row {
            id,
            name: name(store, &key)?,
            value: Vec::new(),
            lease: 0,
            deleted: true,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every entry is looked up once, in order, and no portion is more than an answer takes, unless one entry is.
        #[test]
        fn portions_are_all_of_it_and_not_too_large(sizes in prop::collection::vec(0_usize..3 * 1024 * 1024, 0..12), small in 0_usize..300) {
            let sizes = sizes.into_iter().chain(std::iter::repeat_n(1, small));
            let entry = |(number, size): (usize, usize)| Entry {
                key: number.to_string().into_bytes(),
                value: vec![0; size],
                lease: 0,
            };
            let entries: Vec<Entry> = sizes.enumerate().map(entry).collect();
            let portions = looked_up(&entries);
            for portion in &portions {
                let bytes: usize = portion.iter().map(|entry| entry.value.len()).sum();
                prop_assert!(!portion.is_empty() && portion.len() <= BATCH_OPERATIONS);
                prop_assert!(portion.len() == 1 || bytes <= LOOKED_UP_BYTES);
            }
            prop_assert_eq!(portions.concat(), entries);
        }
    }

    #[test]
    fn keys_that_are_no_text_have_no_name() {
        assert_eq!(name("sql", b"pods/default/one").unwrap(), "/registry/pods/default/one");
        assert!(name("sql", &[0xff]).is_err());
        assert!(name("sql", b"pods/\0").is_err());
        assert_eq!(relative("/registry/pods/default/one"), b"pods/default/one");
    }
}
