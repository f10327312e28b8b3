//! The datastore as a control plane needs it: where it is, who signs for it, and how to get in.
//!
//! Answers are remembered for a few seconds: a control plane that starts is looked at a dozen times, and each look would
//! otherwise read the same three Secrets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kamaji::v1alpha1::DataStore;
use k8s_openapi::api::core::v1::Service;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use crate::datastore::credentials::{self, Read};
use crate::datastore::etcd::StoreConfig;
use crate::desired::DatastoreFacts;
use crate::destinations::{destinations, hosts_to_resolve};
use crate::error::Error;

/// How long what was read of a datastore is used.
const FRESH: Duration = Duration::from_secs(10);

/// A datastore with its credentials.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) facts: DatastoreFacts,
    /// Certificate and key of the authority that signs control planes' certificates.
    pub(crate) authority: (String, String),
    /// How the operator gets in.
    pub(crate) login: StoreConfig,
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolved")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Resolver {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    at: Instant,
    resolved: Arc<Resolved>,
}

impl Resolver {
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        services: &[Arc<Service>],
        datastore: &DataStore,
    ) -> Result<Arc<Resolved>, Error> {
        let (uid, generation) = (datastore.metadata.uid.clone(), datastore.metadata.generation);
        let known = self.locked(|known| known.get(&datastore.name_any()).cloned());
        if let Some(known) = known
            && known.uid == uid
            && known.generation == generation
            && known.at.elapsed() < FRESH
        {
            return Ok(known.resolved);
        }
        let resolved = Arc::new(read(client, services, datastore).await?);
        let known = Known {
            uid,
            generation,
            at: Instant::now(),
            resolved: resolved.clone(),
        };
        self.locked(|all| all.insert(datastore.name_any(), known));
        Ok(resolved)
    }

    fn locked<T>(&self, act: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) async fn read(client: &Client, services: &[Arc<Service>], datastore: &DataStore) -> Result<Resolved, Error> {
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
    let login = credentials::etcd(datastore, &values).map_err(refused)?;
    let authority = (
        login.ca_pem.clone(),
        credentials::authority_key(&values).map_err(refused)?,
    );
    let endpoints = datastore.spec.endpoints.clone();
    let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for host in hosts_to_resolve(&endpoints, services) {
        match tokio::net::lookup_host((host, 0)).await {
            Ok(found) => {
                addresses.insert(host.to_owned(), found.map(|address| address.ip()).collect());
            }
            Err(error) => {
                tracing::warn!(datastore = datastore.name_any(), host, %error, "failed to resolve a datastore's endpoint");
            }
        }
    }
    Ok(Resolved {
        facts: DatastoreFacts {
            name: datastore.name_any(),
            driver: datastore.spec.driver.as_str().to_owned(),
            destinations: destinations(&endpoints, services, &addresses),
            endpoints,
        },
        login,
        authority,
    })
}
