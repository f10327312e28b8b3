//! Who looks at every state that is stored. The API server's watch shows changes of one kind in the order of etcd, each of them,
//! so the sums between them are all that there ever were.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, ResourceExt as _};
use tokio::task::JoinHandle;

use crate::race::Race;

pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    watching: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By UID: what has the limit that it counts for, and how much it is.
    objects: HashMap<String, (String, i64)>,
    sums: BTreeMap<String, i64>,
    moments: u64,
    highest: i64,
    /// How often everything was listed.
    lists: u64,
}

impl Seen {
    /// What is there now, whatever was there before.
    fn list(&mut self, listed: Self) {
        (self.objects, self.sums) = (listed.objects, listed.sums);
        self.lists += 1;
        self.look();
    }

    fn set(&mut self, uid: String, now: Option<(String, i64)>) {
        let before = match now {
            Some((group, amount)) => {
                *self.sums.entry(group.clone()).or_default() += amount;
                self.objects.insert(uid, (group, amount))
            }
            None => self.objects.remove(&uid),
        };
        if let Some((group, amount)) = before {
            *self.sums.entry(group).or_default() -= amount;
        }
        self.look();
    }

    fn look(&mut self) {
        self.moments += 1;
        self.highest = self.highest.max(self.sums.values().copied().max().unwrap_or_default());
    }
}

impl Witness {
    pub(crate) fn start(client: &Client, race: Race, tenant: &str) -> Self {
        let (kind, label) = race.counted(tenant);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let config = watcher::Config::default().labels(&label);
        let watching = tokio::spawn({
            let seen = seen.clone();
            async move {
                let mut events = watch(api, config).default_backoff().boxed();
                let mut listed = Seen::default();
                while let Some(event) = events.next().await {
                    let entry = |object: &DynamicObject| {
                        let group = race.is_of_a_namespace().then(|| object.namespace()).flatten();
                        (
                            object.uid().unwrap_or_default(),
                            (group.unwrap_or_default(), race.amount(object)),
                        )
                    };
                    match event {
                        Ok(Event::Init) => listed = Seen::default(),
                        Ok(Event::InitApply(object)) => {
                            let (uid, amount) = entry(&object);
                            listed.set(uid, Some(amount));
                        }
                        Ok(Event::InitDone) => lock(&seen).list(std::mem::take(&mut listed)),
                        Ok(Event::Apply(object)) => {
                            let (uid, amount) = entry(&object);
                            lock(&seen).set(uid, Some(amount));
                        }
                        Ok(Event::Delete(object)) => lock(&seen).set(entry(&object).0, None),
                        // It begins again by itself.
                        Err(_) => {}
                    }
                }
            }
        });
        Self { seen, watching }
    }

    /// How many states there were, and the largest sum of any.
    pub(crate) fn seen(&self) -> (u64, i64) {
        let seen = lock(&self.seen);
        (seen.moments, seen.highest)
    }

    /// How often everything was listed again: what stood between is not known.
    pub(crate) fn gaps(&self) -> u64 {
        lock(&self.seen).lists.saturating_sub(1)
    }

    /// The present sum of what has this limit.
    pub(crate) fn sum(&self, group: &str) -> i64 {
        lock(&self.seen).sums.get(group).copied().unwrap_or_default()
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        lock(&self.seen).objects.contains_key(uid)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_sum_of_any_moment_and_of_any_group_is_remembered() {
        let mut seen = Seen::default();
        let of = |group: &str, amount| Some((group.to_owned(), amount));
        seen.set("a".to_owned(), of("one", 2));
        seen.set("b".to_owned(), of("one", 3));
        seen.set("c".to_owned(), of("other", 4));
        assert_eq!((seen.moments, seen.highest), (3, 5));
        seen.set("b".to_owned(), of("one", 4));
        seen.set("a".to_owned(), None);
        seen.set("a".to_owned(), None);
        assert_eq!((seen.moments, seen.highest), (6, 6));
        assert_eq!(
            seen.sums,
            BTreeMap::from([("one".to_owned(), 4), ("other".to_owned(), 4)])
        );
        // What is listed replaces what was known, and the highest stays.
        let mut listed = Seen::default();
        listed.set("d".to_owned(), of("one", 1));
        seen.list(listed);
        assert_eq!((seen.moments, seen.highest, seen.lists), (7, 6, 1));
        assert_eq!(seen.sums, BTreeMap::from([("one".to_owned(), 1)]));
    }
}
