//! Which Ingress has which hostname, for tenants that want theirs to be unique.
//!
//! Ingresses are watched from the first request on whose tenant asks for that, and not before: most clusters have no such
//! tenant. Of each Ingress only its hostnames and paths are kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tenancy::hostname_collision::{Known, Register};
use tokio::sync::watch;

/// How long a request waits for the first list. Less than API servers wait for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// The register of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hostnames {
    register: Arc<Mutex<Register>>,
    is_started: Arc<AtomicBool>,
    /// Whether the first list is complete.
    listed: watch::Sender<bool>,
}

impl Default for Hostnames {
    fn default() -> Self {
        Self {
            register: Arc::default(),
            is_started: Arc::default(),
            listed: watch::Sender::new(false),
        }
    }
}

impl Hostnames {
    /// Waits until all Ingresses are known; begins to watch them if nobody has. `false` if that takes too long.
    pub(crate) async fn ready(&self, client: &Client) -> bool {
        if !self.is_started.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().follow(Api::all(client.clone())));
        }
        let mut listed = self.listed.subscribe();
        let listed = listed.wait_for(|listed| *listed);
        tokio::time::timeout(PATIENCE, listed)
            .await
            .is_ok_and(|listed| listed.is_ok())
    }

    /// The register, for the microseconds of a decision.
    pub(crate) fn register(&self) -> MutexGuard<'_, Register> {
        // A panic between two changes leaves a register that the next list replaces.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(self, ingresses: Api<Ingress>) {
        let mut events = std::pin::pin!(watcher(ingresses, watcher::Config::default()).default_backoff());
        let mut list = Known::default();
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            // Once per outage: the backoff would repeat it.
            let was_failing = std::mem::replace(&mut is_failing, event.is_err());
            match event {
                Ok(watcher::Event::Init) => list = Known::default(),
                Ok(watcher::Event::InitApply(ingress)) => list.put(&ingress),
                Ok(watcher::Event::InitDone) => {
                    self.register().replace(std::mem::take(&mut list));
                    self.listed.send_replace(true);
                }
                Ok(watcher::Event::Apply(ingress)) => self.register().put(&ingress),
                Ok(watcher::Event::Delete(ingress)) => self.register().remove(&ingress),
                Err(error) if !was_failing => {
                    tracing::warn!(
                        error = runtime::report::chain(&error),
                        "the watch of Ingresses was interrupted"
                    );
                }
                Err(_) => {}
            }
        }
    }
}
