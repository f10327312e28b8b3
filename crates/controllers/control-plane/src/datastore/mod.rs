//! DataStores: what they refer to is looked up, the store is asked whether it answers, and who uses it is counted.
//!
//! Watches: DataStores, TenantControlPlanes (who uses what), and each Secret that a DataStore refers to, one watch per
//! Secret: there are few, and a watch of all Secrets of a cluster would be the operator's largest.
//!
//! Writes: `status` and the finalizer of DataStores, and on those of a pool how much they hold ([`size`]), nothing else. A store is never set up or emptied from here; that
//! happens per control plane, with [`etcd`].
//!
//! `status.ready` means what users know it to mean: everything that the DataStore refers to exists. Whether the store
//! answers is a condition of its own, because a store that is down for a minute must not hold up what needs no store,
//! and because nothing tells us when it is back: it is asked again, every few seconds while it does not answer and now
//! and then while it does.

pub mod claim;
pub(crate) mod credentials;
pub mod error;
pub mod etcd;
pub(crate) mod kine;
mod kine_bucket;
mod kine_table;
pub mod known_password;
pub(crate) mod moves;
pub mod mysql;
pub mod nats;
pub mod pod_access;
pub mod postgres;
mod postgres_tls;
mod quoting;
pub(crate) mod size;
pub mod sql;
mod status;
pub mod store;
pub mod tls;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kamaji::names::{DATASTORE_IN_USE_FINALIZER, PAUSED_ANNOTATION};
use api::kamaji::v1alpha1::{DataStore, DataStoreStatus, TenantControlPlane};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use runtime::report::{chain, is_not_found, is_transient_kube};
use runtime::{Action, Controller, Queue, Report, Shared, Shutdown};
use serde_json::json;
use tenancy::control_plane::effective;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::credentials::Read;
use self::status::{Findings, Reach};
use self::store::{Login, Store};
use crate::Key;

const FIELD_MANAGER: &str = "cotenant-datastore";

/// How often a store is asked while it answers, and while it does not.
const ASK_AGAIN: Duration = Duration::from_mins(1);
const ASK_SOON: Duration = Duration::from_secs(5);

/// Findings as young as this are used again: control planes that start tell of themselves many times a second.
const FRESH: Duration = Duration::from_secs(2);

/// What the controller is given.
pub struct Context {
    pub client: Client,
    pub data_stores: Shared<DataStore>,
    pub control_planes: Shared<TenantControlPlane>,
    /// The DataStore of control planes that name none.
    pub default_data_store: Option<String>,
    /// Told the name of a DataStore when a Secret that it refers to has changed. Nothing else tells of that: the status is the
    /// same with another key or password that the store accepts.
    pub on_secret: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("datastore::Context")
            .field("default_data_store", &self.default_data_store)
            .finish_non_exhaustive()
    }
}

/// Why a DataStore could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the Secrets that a DataStore refers to")]
    ReadSecrets(#[source] kube::Error),
    #[error("failed to update the finalizers of a DataStore")]
    Finalize(#[source] kube::Error),
    #[error("failed to update the status of a DataStore")]
    Publish(#[source] kube::Error),
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::ReadSecrets(_) => "ReadSecretsFailed",
            Self::Finalize(_) => "FinalizeFailed",
            Self::Publish(_) => "StatusUpdateFailed",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::ReadSecrets(source) | Self::Finalize(source) | Self::Publish(source) => is_transient_kube(source),
        }
    }
}

/// Runs the controller until the shutdown. Only the holder of the lease may call it.
pub async fn run(context: Context, controllers: &runtime::controller::Metrics, shutdown: Shutdown) {
    if !(context.data_stores.ready().await && context.control_planes.ready().await) {
        return;
    }
    let queue: Queue<String> = Queue::new();
    let worker = Arc::new(Worker {
        context,
        queue: queue.clone(),
        memory: Mutex::default(),
        watched: Mutex::default(),
    });
    worker
        .context
        .data_stores
        .trigger(&queue, |change| [change.object().name_any()]);
    // What a control plane used before its last change is not known here, but the store that lists it is.
    let (stores, default) = (
        worker.context.data_stores.clone(),
        worker.context.default_data_store.clone(),
    );
    worker.context.control_planes.trigger(&queue, move |change| {
        affected(&stores, change.object(), default.as_deref())
    });
    let running = worker.clone();
    Controller::new("datastore", controllers)
        .concurrency(2)
        .run(queue, shutdown, move |name| reconcile(running.clone(), name))
        .await;
    worker.stop_watching();
}

/// The stores that a control plane uses and those that say it does, unless they agree already.
fn affected(stores: &Shared<DataStore>, tcp: &TenantControlPlane, default: Option<&str>) -> Vec<String> {
    let (name, uses) = (Key::to(tcp).to_string(), effective::data_stores(tcp, default));
    let gone = tcp.metadata.deletion_timestamp.is_some();
    let affected = stores.store().state().into_iter().filter(|store| {
        let listed = store
            .status
            .as_ref()
            .is_some_and(|status| status.used_by.contains(&name));
        gone || listed != uses.contains(&store.name_any().as_str())
    });
    let mut affected: Vec<_> = affected.map(|store| store.name_any()).collect();
    affected.sort_unstable();
    affected
}

struct Worker {
    context: Context,
    queue: Queue<String>,
    /// What was found out lately, by the store's name.
    memory: Mutex<HashMap<String, Remembered>>,
    /// Watches of Secrets, by namespace and name, with the stores that refer to them.
    watched: Mutex<BTreeMap<(String, String), SecretWatch>>,
}

struct SecretWatch {
    stores: Vec<String>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Remembered {
    uid: Option<String>,
    generation: Option<i64>,
    at: Instant,
    findings: Findings,
}

async fn reconcile(worker: Arc<Worker>, name: String) -> Result<Action, Error> {
    let Some(store) = worker.context.data_stores.get(None, &name) else {
        worker.forget(&name);
        return Ok(Action::AwaitChange);
    };
    if store.annotations().contains_key(PAUSED_ANNOTATION) {
        return Ok(Action::AwaitChange);
    }
    worker.watch_secrets(&store);
    let control_planes = worker.context.control_planes.store().state();
    let default = worker.context.default_data_store.as_deref();
    let used_by = status::used_by(&name, control_planes.iter().map(AsRef::as_ref), default);
    if worker.finalize(&store, used_by.is_empty()).await? == Finalized::Released {
        worker.forget(&name);
        return Ok(Action::AwaitChange);
    }
    let findings = worker.findings(&store).await?;
    let answers = matches!(findings.reach, Reach::Answers { .. } | Reach::Unknown { .. });
    let wanted = status::of(&store, &findings, used_by, Timestamp::now());
    worker.publish(&store, &wanted).await?;
    Ok(Action::RequeueAfter(if answers && wanted.ready {
        ASK_AGAIN
    } else {
        ASK_SOON
    }))
}

#[derive(PartialEq, Eq)]
enum Finalized {
    Kept,
    Released,
}

impl Worker {
    /// A store that is in use is kept, also when somebody deletes it.
    async fn finalize(&self, store: &DataStore, unused: bool) -> Result<Finalized, Error> {
        let present = store
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == DATASTORE_IN_USE_FINALIZER);
        let deleting = store.metadata.deletion_timestamp.is_some();
        let finalizers: Vec<_> = match (deleting, present) {
            (false, false) => store
                .finalizers()
                .iter()
                .cloned()
                .chain([DATASTORE_IN_USE_FINALIZER.to_owned()])
                .collect(),
            (true, true) if unused => {
                let others = store
                    .finalizers()
                    .iter()
                    .filter(|finalizer| *finalizer != DATASTORE_IN_USE_FINALIZER);
                others.cloned().collect()
            }
            (true, false) => return Ok(Finalized::Released),
            _ => return Ok(Finalized::Kept),
        };
        // With the version that was read, so that finalizers of others are neither lost nor brought back.
        let patch = json!({"metadata": {"resourceVersion": store.resource_version(), "finalizers": finalizers}});
        match self
            .api()
            .patch(&store.name_any(), &parameters(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {}
            Err(error) if deleting && is_not_found(&error) => {}
            Err(error) => return Err(Error::Finalize(error)),
        }
        Ok(if deleting { Finalized::Released } else { Finalized::Kept })
    }

    async fn findings(&self, store: &DataStore) -> Result<Findings, Error> {
        let name = store.name_any();
        let known = locked(&self.memory, |memory| memory.get(&name).cloned());
        if let Some(known) = known
            && known.uid == store.metadata.uid
            && known.generation == store.metadata.generation
            && known.at.elapsed() < FRESH
        {
            return Ok(known.findings);
        }
        let findings = find_out(&self.context.client, store).await?;
        let remembered = Remembered {
            uid: store.metadata.uid.clone(),
            generation: store.metadata.generation,
            at: Instant::now(),
            findings: findings.clone(),
        };
        locked(&self.memory, |memory| memory.insert(name, remembered));
        Ok(findings)
    }

    async fn publish(&self, store: &DataStore, wanted: &DataStoreStatus) -> Result<(), Error> {
        if store.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        // Spelt out, because an empty list that is left out would not empty the list that is there.
        let patch = json!({"status": {
            "observedGeneration": wanted.observed_generation,
            "usedBy": wanted.used_by,
            "ready": wanted.ready,
            "conditions": wanted.conditions,
        }});
        match self
            .api()
            .patch_status(&store.name_any(), &parameters(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::Publish(error)),
        }
    }

    fn api(&self) -> Api<DataStore> {
        Api::all(self.context.client.clone())
    }

    /// Keeps one watch per Secret that any store refers to.
    fn watch_secrets(self: &Arc<Self>, store: &DataStore) {
        let (name, wanted) = (store.name_any(), credentials::secrets(store));
        locked(&self.watched, |watched| {
            release(watched, &name, &wanted);
            for secret in wanted {
                let (namespace, secret_name) = secret.clone();
                let entry = watched.entry(secret.clone()).or_insert_with(|| SecretWatch {
                    stores: Vec::new(),
                    task: tokio::spawn(follow(self.clone(), namespace, secret_name)).abort_handle(),
                });
                if !entry.stores.contains(&name) {
                    entry.stores.push(name.clone());
                }
            }
        });
    }

    fn forget(&self, name: &str) {
        locked(&self.memory, |memory| memory.remove(name));
        locked(&self.watched, |watched| release(watched, name, &[]));
    }

    fn stop_watching(&self) {
        locked(&self.watched, |watched| {
            for (_, watch) in std::mem::take(watched) {
                watch.task.abort();
            }
        });
    }

    /// Something happened to a Secret.
    fn changed(&self, secret: &(String, String)) {
        let stores = locked(&self.watched, |watched| {
            watched.get(secret).map(|watch| watch.stores.clone())
        });
        for store in stores.unwrap_or_default() {
            locked(&self.memory, |memory| memory.remove(&store));
            (self.context.on_secret)(&store);
            self.queue.enqueue(store);
        }
    }
}

/// Ends the watches that only `store` needed and needs no more.
fn release(watched: &mut BTreeMap<(String, String), SecretWatch>, store: &str, still: &[(String, String)]) {
    watched.retain(|secret, watch| {
        if !still.contains(secret) {
            watch.stores.retain(|other| other != store);
        }
        let needed = !watch.stores.is_empty();
        if !needed {
            watch.task.abort();
        }
        needed
    });
}

async fn follow(worker: Arc<Worker>, namespace: String, name: String) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(worker.context.client.clone(), &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let secret = (namespace, name);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    // The version that is there, if any; what a list has told so far.
    let (mut known, mut listed) = (None, None);
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(Event::Init) => {
                listed = None;
                continue;
            }
            Ok(Event::InitApply(found)) => {
                listed = found.resource_version();
                continue;
            }
            // An interrupted watch is repeated with a list, which tells of everything again.
            Ok(Event::InitDone) => listed.take(),
            Ok(Event::Apply(found)) => found.resource_version(),
            Ok(Event::Delete(_)) => None,
            Err(_) => continue,
        };
        if known.as_ref() != Some(&now) {
            known = Some(now);
            worker.changed(&secret);
        }
    }
}

/// Looks up what the store refers to, and asks the store.
async fn find_out(client: &Client, store: &DataStore) -> Result<Findings, Error> {
    let unknown = |reason, message: String| Reach::Unknown { reason, message };
    let values = match credentials::read(client, store).await.map_err(Error::ReadSecrets)? {
        Read::Complete(values) => values,
        Read::Missing(part, message) => {
            let reach = unknown(
                "NotAsked",
                "the store is not asked before everything it needs exists".into(),
            );
            return Ok(Findings {
                reference: Some((part, message)),
                reach,
            });
        }
        Read::NoValue(message) => {
            return Ok(Findings {
                reference: None,
                reach: Reach::Fails {
                    category: "CredentialsInvalid",
                    message,
                },
            });
        }
    };
    let reach = match credentials::login(store, &values) {
        Err(message) => Reach::Fails {
            category: "CredentialsInvalid",
            message,
        },
        Ok(login) => match Store::connect(&login).await {
            Ok(_) => Reach::Answers { to: shown(&login) },
            Err(error) => Reach::Fails {
                category: error.category(),
                message: chain(&error),
            },
        },
    };
    Ok(Findings { reference: None, reach })
}

/// As whom we are known there, for people.
fn shown(login: &Login) -> String {
    match login {
        Login::Etcd(config) => {
            let fingerprint = pki::inspect(&config.client_cert_pem).map(|info| info.fingerprint);
            let fingerprint = fingerprint.unwrap_or_default();
            format!("client certificate {}", fingerprint.get(..12).unwrap_or(&fingerprint))
        }
        Login::Postgres(login) | Login::MySql(login) => format!("user {}", login.user),
        Login::Nats(login) => format!("user {}", login.login.user),
    }
}

fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn locked<T, R>(mutex: &Mutex<T>, act: impl FnOnce(&mut T) -> R) -> R {
    act(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}
