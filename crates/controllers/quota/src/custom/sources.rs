//! Watches of what quotas count: one for each kind, started and stopped with the quotas, keeping what their sources read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{DynamicResourceScope, PartialObjectMeta};
use kube::discovery::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use runtime::report::chain;
use serde_json::Value;
use tokio::task::AbortHandle;

use super::kinds::Served;
use super::projection::{Projection, labels_only};
use crate::deletions::Deletions;

/// Objects of a list that are read at a time.
const PAGE: u32 = 500;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) served: Served,
    /// `None` for all.
    pub(super) namespace: Option<String>,
}

impl Target {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let resource = self.served.resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

/// An object, or what is kept of one.
#[derive(Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) namespace: Option<String>,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) content: Value,
}

impl Counted {
    fn of(object: &DynamicObject, projection: &Projection) -> Self {
        let content = serde_json::to_value(object).unwrap_or_default();
        Self::new(&object.metadata, projection.keep(content))
    }

    fn new(metadata: &ObjectMeta, content: Value) -> Self {
        Self {
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            content,
        }
    }
}

/// Namespace and name.
type Name = (Option<String>, String);

/// What a watch has seen.
#[derive(Default)]
struct Seen {
    objects: HashMap<Name, Arc<Counted>>,
    /// While a list is read.
    listing: HashMap<Name, Arc<Counted>>,
    is_listed: bool,
    failure: Option<String>,
}

/// One watch; it ends with this value.
struct Watch {
    projection: Projection,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Called with what has changed.
type Notify = Arc<dyn Fn(&Target) + Send + Sync>;

/// All watches. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sources {
    client: Client,
    notify: Notify,
    watches: Arc<Mutex<BTreeMap<Target, Watch>>>,
    /// What any of them has shown to be deleted.
    pub(super) deletions: Deletions,
}

/// What a watch shows.
pub(super) enum Shown {
    /// Everything, as of a moment ago.
    All(Vec<Arc<Counted>>),
    /// The first list is not complete.
    NotYet,
    /// Nothing, and why.
    Failed(String),
}

impl Sources {
    pub(super) fn new(client: &Client, notify: impl Fn(&Target) + Send + Sync + 'static) -> Self {
        Self {
            client: client.clone(),
            notify: Arc::new(notify),
            watches: Arc::default(),
            deletions: Deletions::default(),
        }
    }

    /// Watches these, and nothing else. One of which more is to be kept than before begins anew.
    pub(super) fn keep(&self, wanted: &BTreeMap<Target, Projection>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|target, watch| wanted.get(target) == Some(&watch.projection));
        for (target, projection) in wanted {
            if !watches.contains_key(target) {
                watches.insert(target.clone(), self.watch(target, projection));
            }
        }
    }

    fn watch(&self, target: &Target, projection: &Projection) -> Watch {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let config = watcher::Config::default();
        let follow = Follow {
            target: target.clone(),
            seen: seen.clone(),
            notify: self.notify.clone(),
            deletions: self.deletions.clone(),
        };
        let kept = projection.clone();
        let task = if *projection == Projection::Labels {
            let api: Api<PartialObjectMeta<DynamicObject>> = target.api(&self.client);
            let events = watcher(api, config).default_backoff();
            tokio::spawn(follow.run(events, |object| {
                Counted::new(&object.metadata, labels_only(&object.metadata))
            }))
        } else {
            let events = watcher(target.api::<DynamicObject>(&self.client), config).default_backoff();
            tokio::spawn(follow.run(events, move |object| Counted::of(object, &kept)))
        };
        Watch {
            projection: projection.clone(),
            seen,
            task: task.abort_handle(),
        }
    }

    /// What is known of a kind.
    pub(super) fn show(&self, target: &Target) -> Shown {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watches.get(target) else {
            return Shown::NotYet;
        };
        let seen = locked(&watch.seen);
        match &seen.failure {
            _ if seen.is_listed => Shown::All(seen.objects.values().cloned().collect()),
            Some(failure) => Shown::Failed(failure.clone()),
            None => Shown::NotYet,
        }
    }

    /// What the API server has now.
    pub(super) async fn read(&self, target: &Target) -> Result<Vec<Arc<Counted>>, kube::Error> {
        let api: Api<DynamicObject> = target.api(&self.client);
        let (mut all, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
        loop {
            let page = api.list(&params).await?;
            all.extend(
                page.items
                    .iter()
                    .map(|object| Arc::new(Counted::of(object, &Projection::Whole))),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }
}

/// The work of one watch.
struct Follow {
    target: Target,
    seen: Arc<Mutex<Seen>>,
    notify: Notify,
    deletions: Deletions,
}

impl Follow {
    async fn run<K: Resource>(
        self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
        keep: impl Fn(&K) -> Counted,
    ) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if self.take(event, &keep) {
                (self.notify)(&self.target);
            }
        }
    }

    /// Whether there is something new to be counted.
    fn take<K: Resource>(&self, event: watcher::Result<watcher::Event<K>>, keep: &impl Fn(&K) -> Counted) -> bool {
        let name = |object: &K| (object.namespace(), object.name_any());
        let mut seen = locked(&self.seen);
        match event {
            Err(error) => {
                let failure = chain(&error);
                if seen.failure.is_none() {
                    tracing::warn!(
                        kind = self.target.served.kind,
                        error = failure,
                        "a watch of what a quota counts was interrupted"
                    );
                }
                // Said once, and only where nothing was seen yet.
                let is_news = seen.failure.is_none() && !seen.is_listed;
                seen.failure = Some(failure);
                return is_news;
            }
            Ok(watcher::Event::Init) => seen.listing.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                seen.listing.insert(name(&object), Arc::new(keep(&object)));
                return false;
            }
            Ok(watcher::Event::InitDone) => {
                seen.objects = std::mem::take(&mut seen.listing);
                (seen.is_listed, seen.failure) = (true, None);
                return true;
            }
            Ok(watcher::Event::Apply(object)) => {
                seen.failure = None;
                let counted = Arc::new(keep(&object));
                let before = seen.objects.insert(name(&object), counted.clone());
                return before != Some(counted);
            }
            Ok(watcher::Event::Delete(object)) => {
                seen.failure = None;
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                self.deletions.add(uid, Instant::now());
                return seen.objects.remove(&name(&object)).is_some();
            }
        }
        false
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
