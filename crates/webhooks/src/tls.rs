//! The server's own authority and certificate: kept in one Secret, served by every replica, rotated without a restart.
//!
//! Every replica runs the same loop: read the Secret, ask [`material::plan`] what it should hold, write that if it
//! differs, serve what is there. Nobody is elected for it, because a replica must be able to serve before there is a
//! leader, and because losing a race is harmless: a create that finds the Secret there, or an update with an old
//! `resourceVersion`, just reads again. The certificate in use is swapped between two handshakes; connections that
//! are open keep theirs, so a rotation drops no request.
//!
//! API servers trust what the webhook configurations carry. A new authority therefore appears in the bundle first,
//! and signs the served certificate only after both configurations have been seen with it (see
//! [`material::plan`] for the order of events).

pub mod material;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use runtime::Shutdown;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use self::material::{Material, Plan};

/// How often the Secret is looked at when nothing about it changes: certificates end without an event.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// How long after a failed attempt the next one follows.
const RETRY: Duration = Duration::from_secs(2);
/// How long both configurations must have carried a bundle before we serve a certificate that only it vouches for:
/// API servers learn of a changed configuration by their own watches.
const SETTLED: SignedDuration = SignedDuration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read Secret {namespace}/{name}")]
    ReadSecret {
        namespace: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("failed to write Secret {namespace}/{name}")]
    WriteSecret {
        namespace: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("failed to use Secret {namespace}/{name} for the webhook server")]
    Material {
        namespace: String,
        name: String,
        #[source]
        source: material::Error,
    },
    #[error("failed to load the serving certificate")]
    LoadKey(#[source] rustls::Error),
    #[error("failed to decode the serving certificate")]
    DecodeKey(#[source] rustls::pki_types::pem::Error),
}

/// The bundle that both webhook configurations carry, as seen in the API server, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub bundle: String,
    pub since: Timestamp,
}

/// Hands the current certificate to each handshake.
#[derive(Debug, Default)]
pub struct Resolver {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Resolver {
    pub(crate) fn replace(&self, material: &Material) -> Result<(), Error> {
        let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(material.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(Error::DecodeKey)?;
        let key = PrivateKeyDer::from_pem_slice(material.key_pem.as_bytes()).map_err(Error::DecodeKey)?;
        let certified =
            CertifiedKey::from_der(certs, key, &rustls::crypto::ring::default_provider()).map_err(Error::LoadKey)?;
        // A poisoned lock holds a whole value all the same: it is only ever replaced.
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

/// Where the certificate is kept and what it must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub secret: String,
    /// Names and addresses that API servers call us by.
    pub sans: Vec<pki::San>,
}

/// The running certificate: what to serve, and what to publish.
#[derive(Clone)]
pub struct Certificate {
    pub resolver: Arc<Resolver>,
    /// The material in use; `None` until the first certificate is there.
    pub material: watch::Receiver<Option<Arc<Material>>>,
}

/// Starts keeping the certificate as soon as there is a place for it. `places` may change while we run (another Secret name,
/// more names to answer to).
pub fn keep(
    client: kube::Client,
    places: watch::Receiver<Option<Place>>,
    published: watch::Receiver<Option<Publication>>,
    shutdown: Shutdown,
) -> Certificate {
    let resolver = Arc::new(Resolver::default());
    let (sender, material) = watch::channel(None);
    let keeper = Keeper {
        client,
        places,
        published,
        resolver: resolver.clone(),
        sender,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keeper.run() => {}
        }
    });
    Certificate { resolver, material }
}

struct Keeper {
    client: kube::Client,
    places: watch::Receiver<Option<Place>>,
    published: watch::Receiver<Option<Publication>>,
    resolver: Arc<Resolver>,
    sender: watch::Sender<Option<Arc<Material>>>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let Some(place) = self.places.borrow_and_update().clone() else {
                if self.places.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &place.namespace);
            // Two replicas that start together create once; the other reads what is there.
            let secret_watch = watcher::watch_object(secrets.clone(), &place.secret);
            // Its failures are ticks as well, so they have to become rare while the API server is away.
            let mut secret_watch = secret_watch.default_backoff().boxed();
            loop {
                // What was just published may be used once API servers have had time to see it.
                let settling = self.published.borrow_and_update().as_ref().and_then(|published| {
                    (SETTLED - Timestamp::now().duration_since(published.since))
                        .try_into()
                        .ok()
                });
                let wait = match self.pass(&secrets, &place).await {
                    Ok(()) => settling.unwrap_or(LOOK_AGAIN),
                    Err(error) => {
                        tracing::warn!(
                            error = runtime::report::chain(&error),
                            "webhook certificate was not renewed"
                        );
                        RETRY
                    }
                };
                tokio::select! {
                    changed = self.places.changed() => {
                        if changed.is_err() { return; }
                        break;
                    }
                    changed = self.published.changed() => {
                        if changed.is_err() { return; }
                    }
                    _ = secret_watch.next() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }

    /// Reads, plans, writes, serves. A second pass over the same Secret does nothing.
    async fn pass(&self, secrets: &Api<Secret>, place: &Place) -> Result<(), Error> {
        let (namespace, name) = (&place.namespace, &place.secret);
        let found = secrets.get_opt(name).await.map_err(|source| Error::ReadSecret {
            namespace: namespace.clone(),
            name: name.clone(),
            source,
        })?;
        let now = Timestamp::now();
        let published = self
            .published
            .borrow()
            .clone()
            .filter(|p| now.duration_since(p.since) >= SETTLED);
        let plan = material::plan(
            found.as_ref().and_then(|secret| secret.data.as_ref()),
            &place.sans,
            published.as_ref().map(|p| p.bundle.as_str()),
            now,
        )
        .map_err(|source| Error::Material {
            namespace: namespace.clone(),
            name: name.clone(),
            source,
        })?;
        let material = match plan {
            Plan::Keep(material) => material,
            Plan::Write(material) => {
                match write(secrets, found, place, &material).await {
                    Ok(()) => {}
                    // Somebody else was first; their write wakes us again.
                    Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
                    Err(source) => {
                        return Err(Error::WriteSecret {
                            namespace: namespace.clone(),
                            name: name.clone(),
                            source,
                        });
                    }
                }
                tracing::info!(object.ref = %format!("Secret/{namespace}/{name}"), "webhook certificate was renewed");
                material
            }
        };
        if self.sender.borrow().as_deref() != Some(&material) {
            self.resolver.replace(&material)?;
            self.sender.send_replace(Some(Arc::new(material)));
        }
        Ok(())
    }
}

async fn write(
    secrets: &Api<Secret>,
    found: Option<Secret>,
    place: &Place,
    material: &Material,
) -> Result<(), kube::Error> {
    match found {
        None => {
            let mut secret = Secret {
                type_: Some("kubernetes.io/tls".to_owned()),
                ..Secret::default()
            };
            secret.metadata.name = Some(place.secret.clone());
            secret.metadata.namespace = Some(place.namespace.clone());
            secret.data = Some(material.to_data());
            secrets.create(&PostParams::default(), &secret).await.map(drop)
        }
        // A replace with the resourceVersion that we read: whoever was faster wins.
        Some(mut secret) => {
            secret.data.get_or_insert_default().extend(material.to_data());
            secrets
                .replace(&place.secret, &PostParams::default(), &secret)
                .await
                .map(drop)
        }
    }
}
