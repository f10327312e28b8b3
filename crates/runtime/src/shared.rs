//! One watch per kind and process.
//!
//! Webhooks, controllers and metrics all read the same store. What a controller wakes up for are changes, deletions
//! included; a deletion that happened while the watch was broken is found by comparing the new list with the store,
//! so nobody has to poll to be sure.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::shutdown::Shutdown;

/// What happened to an object. After a broken watch several changes may arrive as one.
#[derive(Debug)]
pub enum Change<K> {
    /// Added, changed, or there when the subscription began.
    Applied(Arc<K>),
    /// Gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied(object) => Self::Applied(object.clone()),
            Self::Deleted(object) => Self::Deleted(object.clone()),
        }
    }
}

impl<K> Change<K> {
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied(object) | Self::Deleted(object) => object,
        }
    }
}

/// A kind's store and its changes. Cheap to clone.
pub struct Shared<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    store: Store<K>,
    listeners: Arc<Mutex<Listeners<K>>>,
    /// Whether the first list is complete; closed when the watch ends.
    listed: tokio::sync::watch::Receiver<bool>,
}

/// Whoever hears of changes.
struct Listeners<K> {
    /// At once, before the subscribers.
    observers: Vec<Observer<K>>,
    subscribers: Vec<mpsc::UnboundedSender<Change<K>>>,
}

type Observer<K> = Box<dyn Fn(&Change<K>) + Send>;

impl<K> Default for Listeners<K> {
    fn default() -> Self {
        Self {
            observers: Vec::new(),
            subscribers: Vec::new(),
        }
    }
}

impl<K> Listeners<K> {
    fn publish(&mut self, change: &Change<K>) {
        for observer in &self.observers {
            observer(change);
        }
        self.subscribers
            .retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

impl<K> Clone for Shared<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            listeners: self.listeners.clone(),
            listed: self.listed.clone(),
        }
    }
}

impl<K> Shared<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default + Debug + Unpin + Send + Sync,
{
    /// Begins to list and watch, until the shutdown. `trim` drops what nobody reads before an object is kept; managed
    /// fields are always dropped. Must be called inside a tokio runtime.
    pub fn start(api: Api<K>, config: watcher::Config, trim: fn(&mut K), shutdown: &Shutdown) -> Self {
        let writer = reflector::store::Writer::<K>::new(K::DynamicType::default());
        let (complete, listed) = tokio::sync::watch::channel(false);
        let shared = Self {
            store: writer.as_reader(),
            listeners: Arc::default(),
            listed,
        };
        let (task, shutdown) = (shared.clone(), shutdown.clone());
        tokio::spawn(async move {
            let events = watcher(api, config).default_backoff();
            tokio::select! {
                () = task.follow(writer, events, trim, &complete) => {}
                () = shutdown.cancelled() => {}
            }
            // Subscriptions end with the watch.
            task.locked().subscribers.clear();
        });
        shared
    }

    async fn follow(
        &self,
        mut writer: reflector::store::Writer<K>,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        trim: fn(&mut K),
        complete: &tokio::sync::watch::Sender<bool>,
    ) {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let mut failing = false;
        futures::pin_mut!(events);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event.modify(|object| {
                    object.meta_mut().managed_fields = None;
                    trim(object);
                }),
                Err(error) => {
                    // Once per outage: the backoff would otherwise repeat it for as long as the API server is away.
                    if !failing {
                        tracing::warn!(kind, error = crate::report::chain(&error), "watch was interrupted");
                    }
                    failing = true;
                    continue;
                }
            };
            failing = false;
            self.take(&mut writer, &event);
            if matches!(event, watcher::Event::InitDone) {
                complete.send_replace(true);
            }
        }
    }

    fn take(&self, writer: &mut reflector::store::Writer<K>, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Apply(object) => {
                // Stored and sent under one lock, so that a subscription sees each state exactly once.
                let mut listeners = self.locked();
                writer.apply_watcher_event(event);
                if let Some(object) = self.store.get(&ObjectRef::from_obj(object)) {
                    listeners.publish(&Change::Applied(object));
                }
            }
            watcher::Event::Delete(object) => {
                let mut listeners = self.locked();
                writer.apply_watcher_event(event);
                listeners.publish(&Change::Deleted(Arc::new(object.clone())));
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => writer.apply_watcher_event(event),
            watcher::Event::InitDone => {
                let mut listeners = self.locked();
                let before = self.store.state();
                writer.apply_watcher_event(event);
                let after = self.store.state();
                for change in differences(&before, &after) {
                    listeners.publish(&change);
                }
            }
        }
    }

    /// What is known. Empty until [`Self::ready`].
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// The object of that name, if it is known. `namespace` is `None` for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let reference = ObjectRef::<K>::new(name);
        self.store.get(&match namespace {
            Some(namespace) => reference.within(namespace),
            None => reference,
        })
    }

    /// Every object known now, then every change, nothing in between lost. The channel is not bounded: a subscriber is
    /// expected to do no more than put a key into a [`crate::Queue`].
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + Unpin + use<K> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut listeners = self.locked();
        for object in self.store.state() {
            // The receiver is right here.
            let _ = sender.send(Change::Applied(object));
        }
        listeners.subscribers.push(sender);
        futures::stream::poll_fn(move |context| receiver.poll_recv(context))
    }

    /// Calls `observer` for every object known now and for every change, before any subscriber hears of it. For what is
    /// derived from the objects and must not be behind the store, see [`crate::Index`]. It has to be quick: the watch waits.
    pub fn observe(&self, observer: impl Fn(&Change<K>) + Send + 'static) {
        let mut listeners = self.locked();
        for object in self.store.state() {
            observer(&Change::Applied(object));
        }
        listeners.observers.push(Box::new(observer));
    }

    /// Waits for the first complete list. `false` if the watch ended before.
    ///
    /// Not [`Store::wait_until_ready`]: that one wakes only who asked last, and here several parts of a process wait.
    pub async fn ready(&self) -> bool {
        self.listed.clone().wait_for(|listed| *listed).await.is_ok()
    }

    pub fn is_ready(&self) -> bool {
        *self.listed.borrow()
    }

    /// Puts a key into `queue` for every change, in a task of its own until the watch ends.
    pub fn trigger<Key, Keys>(
        &self,
        queue: &crate::Queue<Key>,
        mut keys: impl FnMut(&Change<K>) -> Keys + Send + 'static,
    ) where
        Key: crate::controller::Key,
        Keys: IntoIterator<Item = Key>,
    {
        let (mut changes, queue) = (self.changes(), queue.clone());
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                for key in keys(&change) {
                    queue.enqueue(key);
                }
            }
        });
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Listeners<K>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a new list says beside the old one: gone is what its UID no longer names, changed is what has another
/// resource version.
fn differences<K: Resource>(before: &[Arc<K>], after: &[Arc<K>]) -> Vec<Change<K>> {
    let still: HashSet<&str> = after.iter().filter_map(|object| object.meta().uid.as_deref()).collect();
    let known: HashMap<&str, Option<&str>> = before
        .iter()
        .filter_map(|object| Some((object.meta().uid.as_deref()?, object.meta().resource_version.as_deref())))
        .collect();
    let gone = before
        .iter()
        .filter(|object| object.meta().uid.as_deref().is_none_or(|uid| !still.contains(uid)))
        .map(|object| Change::Deleted(object.clone()));
    let changed = after
        .iter()
        .filter(|object| {
            let uid = object.meta().uid.as_deref().unwrap_or_default();
            known
                .get(uid)
                .is_none_or(|version| *version != object.meta().resource_version.as_deref())
        })
        .map(|object| Change::Applied(object.clone()));
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(version.into());
        Arc::new(object)
    }

    fn words(changes: &[Change<ConfigMap>]) -> Vec<String> {
        changes
            .iter()
            .map(|change| match change {
                Change::Applied(object) => format!("applied {}/{}", object.name_any(), object.uid().unwrap()),
                Change::Deleted(object) => format!("deleted {}/{}", object.name_any(), object.uid().unwrap()),
            })
            .collect()
    }

    #[test]
    fn a_new_list_tells_what_happened_while_nobody_watched() {
        let before = [
            object("same", "1", "5"),
            object("changed", "2", "5"),
            object("gone", "3", "5"),
            object("again", "4", "5"),
        ];
        let after = [
            object("same", "1", "5"),
            object("changed", "2", "6"),
            object("new", "5", "7"),
            object("again", "6", "8"),
        ];
        assert_eq!(
            words(&differences(&before, &after)),
            [
                "deleted gone/3",
                "deleted again/4",
                "applied changed/2",
                "applied new/5",
                "applied again/6"
            ]
        );
    }
}
