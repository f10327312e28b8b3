//! Labels and annotations on the Pods, Services and EndpointSlices of tenants that ask for them, and on volumes the label that
//! says whose they are.
//!
//! Of a kind that no tenant asks anything of nothing is watched. Of what is watched only metadata is transferred, and nothing
//! is kept: an event about an object that lacks something puts its name into the queue. Of volumes the namespace of the claim
//! is kept, because a namespace may become a tenant's after its volumes were seen.

mod claims;
mod wishes;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::capsule::names;
use api::capsule::v1beta2::{Metadata, Tenant};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use runtime::report::chain;
use runtime::shared::Change;
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenancy::object_metadata::{claimed_in, missing};

use self::claims::Claims;
use self::wishes::{Kind, Wishes};
use crate::Context;
use crate::apply::Writer;
use crate::error::Error;
use crate::observe::Membership;

/// Changes of an object that come within this time are one.
const TOGETHER: Duration = Duration::from_millis(100);
/// Objects that are listed with one request.
const PAGE: u32 = 500;

/// What may lack something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// All that is in a namespace.
    Namespace(String),
    /// One object, by kind, namespace and name.
    Object(Kind, String, String),
    Volume(String),
}

/// Keeps them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ObjectMetadata {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    writer: Writer,
    tenants: Shared<Tenant>,
    membership: Membership,
    queue: Queue<Key>,
    shutdown: Shutdown,
    wishes: Mutex<Wishes>,
    /// Watches that run, each with what stops it.
    watches: Mutex<HashMap<Kind, Shutdown>>,
    claims: Mutex<Claims>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two assignments of plain values leaves values that are still valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ObjectMetadata {
    pub(crate) fn new(context: &Context, writer: &Writer, membership: &Membership) -> Self {
        let inner = Inner {
            client: context.client.clone(),
            writer: writer.clone(),
            tenants: context.tenants.clone(),
            membership: membership.clone(),
            queue: Queue::with_debounce(TOGETHER),
            shutdown: context.shutdown.clone(),
            wishes: Mutex::default(),
            watches: Mutex::default(),
            claims: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Until the shutdown. Tenants and namespaces have to be known.
    pub(crate) async fn run(self, controller: Controller, shutdown: Shutdown) {
        let tenants = self.inner.tenants.store().state();
        for tenant in &tenants {
            locked(&self.inner.wishes).note(&Change::Applied(tenant.clone()));
        }
        // The first lists of the watches hold everything that the tenants of now ask for.
        self.adjust_watches();
        let this = self.clone();
        self.inner
            .tenants
            .trigger(&self.inner.queue, move |change| this.tenant_changed(change));
        let queue = self.inner.queue.clone();
        controller
            .run(queue, shutdown, move |key| {
                let this = self.clone();
                async move { this.reconcile(key).await }
            })
            .await;
    }

    /// What to look at when a tenant asks for something else than before.
    fn tenant_changed(&self, change: &Change<Tenant>) -> Vec<Key> {
        if !locked(&self.inner.wishes).note(change) {
            return Vec::new();
        }
        self.adjust_watches();
        let uid = change.object().uid().unwrap_or_default();
        let namespaces = self.inner.membership.of_tenant(&uid);
        namespaces.iter().flat_map(|namespace| self.keys(namespace)).collect()
    }

    /// A namespace has become a tenant's, or another one's.
    pub(crate) fn namespace_moved(&self, namespace: &str) {
        for key in self.keys(namespace) {
            self.inner.queue.enqueue(key);
        }
    }

    /// What of a namespace may lack something.
    fn keys(&self, namespace: &str) -> Vec<Key> {
        let volumes = locked(&self.inner.claims).volumes_in(namespace);
        let mut keys: Vec<Key> = volumes.into_iter().map(Key::Volume).collect();
        let tenant = self.tenant_of(namespace);
        if tenant.is_some_and(|tenant| Kind::OBJECTS.iter().any(|kind| kind.wanted(&tenant).is_some())) {
            keys.push(Key::Namespace(namespace.to_owned()));
        }
        keys
    }

    /// The tenant of a namespace, by its UID, unless it is on its way out.
    fn tenant_of(&self, namespace: &str) -> Option<Arc<Tenant>> {
        let (name, uid) = self.inner.membership.owner_of(namespace)?;
        let tenant = self.inner.tenants.get(None, &name)?;
        let is_it = tenant.metadata.uid.as_deref() == Some(&*uid) && tenant.metadata.deletion_timestamp.is_none();
        is_it.then_some(tenant)
    }

    /// What an object lacks.
    fn missing(&self, kind: Kind, namespace: &str, found: &ObjectMeta) -> Option<Metadata> {
        if found.deletion_timestamp.is_some() {
            return None;
        }
        let tenant = self.tenant_of(namespace)?;
        missing(kind.wanted(&tenant)?, found)
    }

    /// The label that a volume lacks.
    fn owner_of(&self, volume: &PersistentVolume) -> Option<String> {
        let owner = self.tenant_of(claimed_in(volume)?)?.name_any();
        let lacks =
            volume.metadata.deletion_timestamp.is_none() && volume.labels().get(names::TENANT_LABEL) != Some(&owner);
        lacks.then_some(owner)
    }

    /// Watches what tenants ask for, and nothing else.
    fn adjust_watches(&self) {
        let wishes = locked(&self.inner.wishes);
        let mut running = locked(&self.inner.watches);
        for kind in Kind::ALL {
            match (wishes.concern(kind), running.contains_key(&kind)) {
                (true, false) => {
                    let stop = self.inner.shutdown.child();
                    running.insert(kind, stop.clone());
                    self.clone().start(kind, stop);
                }
                (false, true) => {
                    if let Some(stop) = running.remove(&kind) {
                        stop.trigger();
                    }
                }
                _ => {}
            }
        }
    }

    fn start(self, kind: Kind, stop: Shutdown) {
        match kind {
            Kind::Pod => tokio::spawn(self.follow::<Pod>(kind, stop)),
            Kind::Service => tokio::spawn(self.follow::<Service>(kind, stop)),
            Kind::EndpointSlice => tokio::spawn(self.follow::<EndpointSlice>(kind, stop)),
            Kind::Volume => tokio::spawn(self.follow_volumes(stop)),
        };
    }

    async fn follow<K>(self, kind: Kind, stop: Shutdown)
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::all(self.inner.client.clone());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        each(kind, events, &stop, |event| {
            if let watcher::Event::Apply(found) | watcher::Event::InitApply(found) = event {
                let namespace = found.namespace().unwrap_or_default();
                if self.missing(kind, &namespace, &found.metadata).is_some() {
                    self.inner.queue.enqueue(Key::Object(kind, namespace, found.name_any()));
                }
            }
        })
        .await;
    }

    async fn follow_volumes(self, stop: Shutdown) {
        let api: Api<PersistentVolume> = Api::all(self.inner.client.clone());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        each(Kind::Volume, events, &stop, |event| match event {
            watcher::Event::Apply(volume) | watcher::Event::InitApply(volume) => {
                let name = volume.name_any();
                locked(&self.inner.claims).put(&name, claimed_in(&volume));
                if self.owner_of(&volume).is_some() {
                    self.inner.queue.enqueue(Key::Volume(name));
                }
            }
            watcher::Event::Delete(volume) => locked(&self.inner.claims).put(&volume.name_any(), None),
            watcher::Event::Init => *locked(&self.inner.claims) = Claims::default(),
            watcher::Event::InitDone => {}
        })
        .await;
    }

    async fn reconcile(&self, key: Key) -> Result<Action, Error> {
        match key {
            Key::Namespace(namespace) => self.look_around(&namespace).await?,
            Key::Object(kind, namespace, name) => match kind {
                Kind::Pod => self.complete::<Pod>(kind, &namespace, &name).await?,
                Kind::Service => self.complete::<Service>(kind, &namespace, &name).await?,
                Kind::EndpointSlice => self.complete::<EndpointSlice>(kind, &namespace, &name).await?,
                // Volumes are in no namespace.
                Kind::Volume => {}
            },
            Key::Volume(name) => self.complete_volume(&name).await?,
        }
        Ok(Action::AwaitChange)
    }

    /// Finds what lacks something in a namespace that the watches have shown already.
    async fn look_around(&self, namespace: &str) -> Result<(), Error> {
        let Some(tenant) = self.tenant_of(namespace) else {
            return Ok(());
        };
        for kind in Kind::OBJECTS {
            if kind.wanted(&tenant).is_none() {
                continue;
            }
            match kind {
                Kind::Pod => self.list::<Pod>(kind, namespace).await?,
                Kind::Service => self.list::<Service>(kind, namespace).await?,
                Kind::EndpointSlice => self.list::<EndpointSlice>(kind, namespace).await?,
                Kind::Volume => {}
            }
        }
        Ok(())
    }

    async fn list<K>(&self, kind: Kind, namespace: &str) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.inner.client.clone(), namespace);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = api.list_metadata(&page).await.map_err(|source| Error::Read {
                what: format!("{}s of namespace {namespace}", kind.name()),
                source,
            })?;
            for object in &found.items {
                if self.missing(kind, namespace, &object.metadata).is_some() {
                    let key = Key::Object(kind, namespace.to_owned(), object.name_any());
                    self.inner.queue.enqueue(key);
                }
            }
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn complete<K>(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.inner.client.clone(), namespace);
        let found = api.get_metadata_opt(name).await.map_err(|source| Error::Read {
            what: format!("{} {namespace}/{name}", kind.name()),
            source,
        })?;
        let Some(found) = found else { return Ok(()) };
        let Some(missing) = self.missing(kind, namespace, &found.metadata) else {
            return Ok(());
        };
        let patch = patch(&found.metadata, &missing);
        let written = self
            .inner
            .writer
            .label(&api, kind.name(), name, names::FIELD_MANAGER, &patch)
            .await;
        written.map_err(|source| Error::UpdateMetadata {
            kind: kind.name(),
            name: format!("{namespace}/{name}"),
            source,
        })
    }

    async fn complete_volume(&self, name: &str) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(self.inner.client.clone());
        let found = api.get_opt(name).await.map_err(|source| Error::Read {
            what: format!("PersistentVolume {name}"),
            source,
        })?;
        let Some(volume) = found else { return Ok(()) };
        let Some(owner) = self.owner_of(&volume) else {
            return Ok(());
        };
        let missing = Metadata {
            labels: [(names::TENANT_LABEL.to_owned(), owner)].into(),
            ..Metadata::default()
        };
        let (patch, kind) = (patch(&volume.metadata, &missing), Kind::Volume.name());
        let written = self
            .inner
            .writer
            .label(&api, kind, name, names::FIELD_MANAGER, &patch)
            .await;
        written.map_err(|source| Error::UpdateMetadata {
            kind,
            name: name.to_owned(),
            source,
        })
    }
}

/// A merge patch of this very object.
fn patch(found: &ObjectMeta, missing: &Metadata) -> Value {
    let mut metadata = json!(missing);
    metadata["uid"] = json!(found.uid);
    json!({"metadata": metadata})
}

/// Hands every event on, until the watch is to stop.
async fn each<T>(
    kind: Kind,
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<T>>>,
    stop: &Shutdown,
    mut take: impl FnMut(watcher::Event<T>),
) {
    let mut events = std::pin::pin!(events);
    let mut is_failing = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        let Some(event) = event else { return };
        // Once per outage: the backoff would repeat it.
        let was_failing = std::mem::replace(&mut is_failing, event.is_err());
        match event {
            Ok(event) => take(event),
            Err(error) if !was_failing => {
                tracing::warn!(kind = kind.name(), error = chain(&error), "watch was interrupted");
            }
            Err(_) => {}
        }
    }
}
