//! The datastore as a control plane needs it: where it is, who signs for it, and how to get in.
//!
//! Where it is needs the DataStore object alone, so that it is known while the store is not ready. How to get in is
//! remembered for a few seconds: a control plane that starts is looked at a dozen times, and each look would otherwise read
//! the same three Secrets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::kamaji::names::{DATASTORE_REACHABLE_CONDITION, PAUSED_ANNOTATION};
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use crate::datastore::credentials::{self, Read};
use crate::datastore::error::{StoreError, UNREACHABLE};
use crate::datastore::pod_access::PodAccess;
use crate::datastore::store::{Login, Store};
use crate::desired::{DatastoreFacts, Waiting, kine};
use crate::destinations::{Services, destinations, hosts_to_resolve};
use crate::error::Error;

/// How long what was read or looked up is used.
const FRESH: Duration = Duration::from_secs(10);
/// A name server that needs longer holds up more than this control plane.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// Name of the datastore that a control plane should be in: the one asked for, else the one that it is in, else the
/// default, which may change without moving anybody.
pub(crate) fn name<'a>(tcp: &'a TenantControlPlane, default: Option<&'a str>) -> Option<&'a str> {
    [tcp.spec.data_store.as_deref(), recorded(tcp), default]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
}

/// The datastore that a control plane is in, by its status.
pub(crate) fn recorded(tcp: &TenantControlPlane) -> Option<&str> {
    let storage = tcp.status.as_ref()?.storage.as_ref()?;
    storage.data_store_name.as_deref().filter(|name| !name.is_empty())
}

/// The datastore of that name, or why there is none to work with.
pub(crate) fn chosen(name: Option<&str>, found: Option<Arc<DataStore>>) -> Result<Arc<DataStore>, Waiting> {
    let wait = |reason, message: String| Err(Waiting::datastore(reason, message));
    let Some(name) = name else {
        return wait(
            "DataStoreUnset",
            "spec.dataStore names no DataStore and the operator has no default one".to_owned(),
        );
    };
    let Some(datastore) = found else {
        return wait("DataStoreMissing", format!("the DataStore {name} does not exist"));
    };
    Ok(datastore)
}

/// Why a datastore that is there cannot be asked, if it cannot.
pub(crate) fn not_ready(datastore: &DataStore) -> Option<Waiting> {
    let ready = datastore.status.as_ref().is_some_and(|status| status.ready);
    (!ready).then(|| {
        let message = format!(
            "the DataStore {} is not ready: see its conditions",
            datastore.name_any()
        );
        Waiting::datastore("DataStoreNotReady", message)
    })
}

/// Opens a connection, unless the DataStore is known not to answer: to wait for that once more would hold up the control
/// planes of all other stores. Its own controller asks it every few seconds, and what it then says brings us back.
pub(crate) async fn open(datastore: &DataStore, login: &Login) -> Result<Store, Error> {
    let opened = match silence(datastore) {
        Some(why) => Err(StoreError::KnownSilent(why.to_owned())),
        None => Store::connect(login).await,
    };
    opened.map_err(|source| Error::Datastore {
        datastore: datastore.name_any(),
        source,
    })
}

/// Why a datastore does not answer, if that is known of it as it is now. One that is paused is not asked by its controller.
pub(crate) fn silence(datastore: &DataStore) -> Option<&str> {
    let conditions = datastore.status.as_ref().map(|status| &status.conditions);
    let reachable = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == DATASTORE_REACHABLE_CONDITION)?;
    let silent = reachable.status == "False"
        && reachable.reason == UNREACHABLE
        && reachable.observed_generation == datastore.metadata.generation
        && !datastore.annotations().contains_key(PAUSED_ANNOTATION);
    silent.then_some(reachable.message.as_str())
}

/// How to get into a datastore, and who signs for it.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// How pods get in.
    pub(crate) pods: PodAccess,
    /// How the operator gets in.
    pub(crate) login: Login,
}

/// Both are key material.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Resolver {
    /// By the DataStore's name.
    credentials: Mutex<HashMap<String, Known>>,
    /// What was found for hosts, and when it was last tried. A host that is not found any more keeps its addresses: a
    /// name server that is down must not cut pods from their store.
    addresses: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
    /// How often credentials were forgotten. What was read before that is not kept.
    forgotten: AtomicU64,
}

#[derive(Debug, Clone)]
struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    at: Instant,
    credentials: Arc<Credentials>,
}

impl Resolver {
    /// Where it is, from the object alone.
    pub(crate) async fn locate(&self, services: &(impl Services + ?Sized), datastore: &DataStore) -> DatastoreFacts {
        let endpoints = datastore.spec.endpoints.clone();
        let mut addresses = BTreeMap::new();
        for host in hosts_to_resolve(&endpoints, services) {
            addresses.insert(host.to_owned(), self.look_up(host).await);
        }
        DatastoreFacts {
            name: datastore.name_any(),
            driver: datastore.spec.driver.as_str().to_owned(),
            destinations: destinations(&endpoints, services, &addresses),
            endpoints,
            kine: kine::Access::of(&datastore.spec),
        }
    }

    async fn look_up(&self, host: &str) -> Vec<IpAddr> {
        let known = locked(&self.addresses).get(host).cloned();
        if let Some((at, addresses)) = &known
            && at.elapsed() < FRESH
        {
            return addresses.clone();
        }
        let found = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host, 0))).await;
        let addresses = match found {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            Ok(Err(error)) => {
                tracing::warn!(host, %error, "failed to resolve a datastore's endpoint");
                known.map(|(_, addresses)| addresses).unwrap_or_default()
            }
            Err(_) => {
                tracing::warn!(host, "failed to resolve a datastore's endpoint in time");
                known.map(|(_, addresses)| addresses).unwrap_or_default()
            }
        };
        locked(&self.addresses).insert(host.to_owned(), (Instant::now(), addresses.clone()));
        addresses
    }

    /// How to get in.
    pub(crate) async fn credentials(&self, client: &Client, datastore: &DataStore) -> Result<Arc<Credentials>, Error> {
        let (uid, generation) = (datastore.metadata.uid.clone(), datastore.metadata.generation);
        let known = locked(&self.credentials).get(&datastore.name_any()).cloned();
        if let Some(known) = known
            && known.uid == uid
            && known.generation == generation
            && known.at.elapsed() < FRESH
        {
            return Ok(known.credentials);
        }
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let credentials = Arc::new(read(client, datastore).await?);
        let known = Known {
            uid,
            generation,
            at: Instant::now(),
            credentials: credentials.clone(),
        };
        let mut remembered = locked(&self.credentials);
        if self.forgotten.load(Ordering::SeqCst) == forgotten {
            remembered.insert(datastore.name_any(), known);
        }
        Ok(credentials)
    }

    /// What was read may be old.
    pub(crate) fn forget(&self, datastore: &str) {
        let mut remembered = locked(&self.credentials);
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        remembered.remove(datastore);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(client: &Client, datastore: &DataStore) -> Result<Credentials, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::DatastoreCredentials {
        datastore: datastore.name_any(),
        source,
    };
    let refused = |message: String| failed(message.into());
    let found = credentials::read(client, datastore).await;
    let values = match found.map_err(|error| failed(error.into()))? {
        Read::Complete(values) => values,
        Read::Missing(_, message) | Read::NoValue(message) => return Err(refused(message)),
    };
    Ok(Credentials {
        pods: credentials::pods(datastore, &values).map_err(refused)?,
        login: credentials::login(datastore, &values).map_err(refused)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_store_is_silent_as_long_as_its_own_controller_says_so_of_it_as_it_is() {
        let datastore = |annotations: Value, reason: &str, generation: i64| -> DataStore {
            let condition = json!({"type": "cotenant.dev/DataStoreReachable", "status": "False", "reason": reason,
                "message": "no answer", "observedGeneration": generation, "lastTransitionTime": "2026-11-20T12:00:00Z"});
            serde_json::from_value(json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
                "metadata": {"name": "default", "generation": 2, "annotations": annotations},
                "spec": {"driver": "etcd", "endpoints": ["etcd:2379"]},
                "status": {"ready": true, "conditions": [condition]},
            }))
            .unwrap()
        };
        let paused = json!({"kamaji.clastix.io/paused": ""});
        let rows = [
            ("silent", datastore(json!({}), "Unreachable", 2), Some("no answer")),
            (
                "wrong in another way",
                datastore(json!({}), "NotAdministrator", 2),
                None,
            ),
            ("said of another place", datastore(json!({}), "Unreachable", 1), None),
            ("not asked any more", datastore(paused, "Unreachable", 2), None),
        ];
        for (name, datastore, expected) in rows {
            assert_eq!(silence(&datastore), expected, "{name}");
        }
    }
}
