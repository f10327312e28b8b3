//! Watches that show deletions of what is promised, and nothing else: they begin without a list and keep no objects. There is
//! one for each kind, while something of that kind is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use runtime::report::chain;
use tenancy::quota::custom::Kinds;
use tenancy::quota::ledger::Ledger;
use tokio::task::AbortHandle;

use crate::custom::kinds::ServedKinds;
use crate::deletions::Deletions;

/// A watch ends when nothing of its kind was promised for so long.
const IDLE: Duration = Duration::from_secs(600);
/// After a failure, as where the operator may not read a kind: its promises go when they are counted or at their end.
const AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Watches {
    client: Client,
    kinds: ServedKinds,
    running: Mutex<BTreeMap<Kinds, Watch>>,
    pub(super) deletions: Deletions,
}

struct Watch {
    task: AbortHandle,
    wanted: Instant,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            kinds: ServedKinds::new(client),
            running: Mutex::default(),
            deletions: Deletions::default(),
        }
    }

    /// Watches what is promised.
    pub(super) fn follow(&self, ledger: &Ledger) {
        let promised: BTreeSet<Kinds> = ledger
            .reservations
            .iter()
            .filter_map(|it| {
                let version = it.object.api_version.rsplit('/').next()?;
                Some(Kinds {
                    group: it.object.api_group.clone(),
                    version: version.to_owned(),
                    kind: it.object.kind.clone(),
                })
            })
            .collect();
        let now = Instant::now();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for kinds in promised {
            let watch = running.entry(kinds).or_insert_with_key(|kinds| {
                let follow = Follow {
                    client: self.client.clone(),
                    served: self.kinds.clone(),
                    kinds: kinds.clone(),
                    deletions: self.deletions.clone(),
                };
                Watch {
                    task: tokio::spawn(follow.run()).abort_handle(),
                    wanted: now,
                }
            });
            watch.wanted = now;
        }
        running.retain(|_, watch| now.duration_since(watch.wanted) < IDLE);
    }
}

/// The work of one watch.
struct Follow {
    client: Client,
    served: ServedKinds,
    kinds: Kinds,
    deletions: Deletions,
}

impl Follow {
    async fn run(self) {
        loop {
            if let Err(error) = self.watch().await {
                tracing::debug!(
                    kind = self.kinds.kind,
                    error = chain(&error),
                    "a watch of what is promised was interrupted"
                );
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Watches until it fails, or the kind is not served.
    async fn watch(&self) -> Result<(), kube::Error> {
        let Some(served) = self.served.named(&self.kinds).await?.into_iter().next() else {
            return Ok(());
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &served.resource());
        // For the version alone.
        let listed = api.list_metadata(&ListParams::default().limit(1)).await?;
        let mut version = listed.metadata.resource_version.unwrap_or_default();
        loop {
            let events = api.watch_metadata(&WatchParams::default(), &version).await?;
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.try_next().await? {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.resource_version().unwrap_or(version);
                    }
                    WatchEvent::Deleted(object) => {
                        self.deletions.add(&object.uid().unwrap_or_default(), Instant::now());
                        version = object.resource_version().unwrap_or(version);
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
                }
            }
        }
    }
}
