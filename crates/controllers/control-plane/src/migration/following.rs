//! What changes in an etcd, as its watch tells of it.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Error as EtcdError, EventType, WatchResponse, WatchStream};
use futures::FutureExt as _;

use super::error::Error;
use super::keyspace::{Change, Keyspace, entry};
use crate::datastore::error::EtcdFailure;

/// How soon a store tells of a mark that was set in it.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Changes that are handed over together, and bytes of their values, about.
const TOGETHER: usize = 500;
const TOGETHER_BYTES: usize = 4 * 1024 * 1024;

/// A watch of all keys of a keyspace.
pub(super) struct Following {
    stream: WatchStream,
    /// Changes that were told of together with a mark, but came after it.
    later: BTreeMap<Vec<u8>, Change>,
}

impl Following {
    /// All changes after a revision.
    pub(super) async fn begin(source: &Keyspace, after: i64) -> Result<Self, Error> {
        Ok(Self {
            stream: source.watch(after).await?,
            later: BTreeMap::new(),
        })
    }

    /// Changes up to a mark, no two of one key; and whether the mark was among them. If not, there are more. As many as have
    /// come by now and fit: whoever writes them one by one is slower than whoever makes them.
    pub(super) async fn next(&mut self, source: &Keyspace, mark: i64) -> Result<(Vec<Change>, bool), Error> {
        let silent = || failed(source, format!("nothing was heard for {TOLD_WITHIN:?}"));
        let told = tokio::time::timeout(TOLD_WITHIN, self.stream.message()).await;
        let mut message = told.map_err(|_| silent())?;
        let mut gathered = Gathered {
            latest: std::mem::take(&mut self.later),
            bytes: 0,
            marked: false,
        };
        loop {
            self.gather(source, mark, message, &mut gathered)?;
            if gathered.marked || gathered.latest.len() >= TOGETHER || gathered.bytes >= TOGETHER_BYTES {
                break;
            }
            match self.stream.message().now_or_never() {
                Some(more) => message = more,
                None => break,
            }
        }
        Ok((gathered.latest.into_values().collect(), gathered.marked))
    }

    fn gather(
        &mut self,
        source: &Keyspace,
        mark: i64,
        message: Result<Option<WatchResponse>, EtcdError>,
        gathered: &mut Gathered,
    ) -> Result<(), Error> {
        let message = message.map_err(|error| failed(source, EtcdFailure(error).to_string()))?;
        let message = message.ok_or_else(|| failed(source, "the store ended it".to_owned()))?;
        if message.canceled() {
            return Err(failed(source, message.cancel_reason().to_owned()));
        }
        let marker = source.marker();
        for event in message.events() {
            let Some(found) = event.kv() else { continue };
            if found.key() == marker {
                gathered.marked = gathered.marked || found.mod_revision() >= mark;
                continue;
            }
            let change = match event.event_type() {
                EventType::Put => Change::Put(entry(found.clone())),
                EventType::Delete => Change::Delete(found.key().to_vec()),
            };
            if found.mod_revision() > mark {
                // Not part of what is compared at the mark, but of what follows.
                gathered.marked = true;
                self.later.insert(change.key().to_vec(), change);
            } else {
                gathered.bytes += found.value().len();
                gathered.latest.insert(change.key().to_vec(), change);
            }
        }
        Ok(())
    }
}

/// Changes that are handed over together.
struct Gathered {
    latest: BTreeMap<Vec<u8>, Change>,
    bytes: usize,
    marked: bool,
}

fn failed(source: &Keyspace, reason: String) -> Error {
    Error::Follow {
        store: source.store.clone(),
        reason,
    }
}
