//! The API server that replications are sent to: the operator's own, or the endpoint that the CapsuleConfiguration names.
//!
//! A client for an endpoint is kept for as long as `spec.cacheInvalidation` says, so that another authority in its Secret is
//! noticed without a watch of Secrets.

use std::time::{Duration, Instant};

use api::capsule::v1beta2::CapsuleConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use runtime::client::Other;
use tenancy::replication::endpoint::{self, CaSecret, Endpoint};
use tenancy::replication::resync;
use tokio::sync::Mutex;

use crate::error::words;

/// Never longer than this without the Secret being read again.
const LONGEST: Duration = Duration::from_hours(24);
const USER_AGENT: &str = concat!("cotenant/", env!("CARGO_PKG_VERSION"));

/// How the operator reaches its API server.
pub(crate) struct Endpoints {
    own: Client,
    config: Config,
    /// The operator's namespace.
    namespace: String,
    known: Mutex<Option<Known>>,
}

struct Known {
    endpoint: Endpoint,
    client: Client,
    since: Instant,
}

impl Endpoints {
    pub(crate) fn new(own: &Client, config: &Config, namespace: &str) -> Self {
        Self {
            own: own.clone(),
            config: config.clone(),
            namespace: namespace.to_owned(),
            known: Mutex::default(),
        }
    }

    /// The client that this configuration wants, in the operator's name.
    ///
    /// # Errors
    /// A sentence for administrators, with addresses and names of Secrets, if the endpoint cannot be used as it is named.
    pub(crate) async fn client(&self, configuration: Option<&CapsuleConfiguration>) -> Result<Client, String> {
        let impersonation = configuration.and_then(|it| it.spec.impersonation.as_ref());
        let wanted = match impersonation.map(endpoint::of) {
            None => None,
            Some(endpoint) => endpoint.map_err(|(_, problem)| problem)?,
        };
        let Some(wanted) = wanted else {
            return Ok(self.own.clone());
        };
        let kept = configuration.and_then(|it| resync::parse(&it.spec.cache_invalidation));
        let kept = kept.unwrap_or(LONGEST).min(LONGEST);
        // Held while a client is made: one is enough for all who wait.
        let mut known = self.known.lock().await;
        if let Some(known) = known
            .as_ref()
            .filter(|it| it.endpoint == wanted && it.since.elapsed() < kept)
        {
            return Ok(known.client.clone());
        }
        let authority = match &wanted.ca {
            Some(secret) => Some(self.authority(secret).await?),
            None => None,
        };
        let other = Other {
            url: wanted.url.clone(),
            authority: authority.as_deref(),
            verify: wanted.verify,
        };
        let client = runtime::client::elsewhere(&self.config, &other, USER_AGENT).map_err(|error| {
            format!(
                "spec.impersonation.endpoint of the CapsuleConfiguration: {}",
                runtime::report::chain(&error)
            )
        })?;
        *known = Some(Known {
            endpoint: wanted,
            client: client.clone(),
            since: Instant::now(),
        });
        Ok(client)
    }

    async fn authority(&self, secret: &CaSecret) -> Result<Vec<u8>, String> {
        let namespace = secret.namespace.as_ref().unwrap_or(&self.namespace);
        let (name, key) = (&secret.name, &secret.key);
        let place = format!("spec.impersonation of the CapsuleConfiguration: the Secret {namespace}/{name}");
        let found = Api::<Secret>::namespaced(self.own.clone(), namespace)
            .get_opt(name)
            .await;
        let found = found
            .map_err(|error| format!("{place} could not be read: {}", words(&error)))?
            .ok_or_else(|| format!("{place} is not there"))?;
        let value = found.data.and_then(|mut data| data.remove(key));
        value
            .map(|value| value.0)
            .ok_or_else(|| format!("{place} has no key {key:?}"))
    }
}
