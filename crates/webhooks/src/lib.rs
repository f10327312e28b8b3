//! Admission: what tenants may write, decided while they write it. And [`conversion`] of Tenants between versions.
//!
//! Every replica serves; the leader keeps the webhook configurations and policies in the API server. One request goes through
//! [`server`] (TLS, limits), [`router`] (which rule), [`facts`] (what the stores may not know yet), the rule's own pure
//! function ([`rules`], which ask `tenancy`), [`audit`] (whether a refusal stands) and [`patch`] (the smallest change). All rules are rows of [`rules::RULES`].
//!
//! What happens when we are away is part of each row, and of [`policies`]: the hard rules are also in the API server.

mod audit;
pub mod configurations;
pub mod conversion;
mod counted;
mod counted_custom;
mod credits;
pub mod decide;
mod definition;
mod event_pace;
mod events;
pub mod facts;
mod follow;
mod hostnames;
pub mod keeper;
pub mod labelling;
mod ledgers;
mod live_classes;
mod live_custom_quotas;
mod live_gateway_api;
mod live_global_quotas;
mod live_namespace_quota;
mod live_pools;
mod live_tenant_quotas;
pub mod metrics;
mod namespace_rules;
pub mod node_ports;
mod patch;
pub mod policies;
mod reachable;
mod reports;
pub mod review;
pub mod router;
pub mod rule;
pub mod rules;
pub mod server;
pub mod settings;
pub mod tls;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use runtime::Shutdown;
use tenancy::quota::custom;
use tokio::net::TcpListener;
use tokio::sync::watch;

use keeper::Desired;
use metrics::Metrics;
use router::Router;
use rules::{CUSTOM_QUOTAS, GLOBAL_QUOTAS, RULES, TENANT_QUOTAS};
use server::Limits;
use settings::Identity;
use tls::Publication;
use tls::material::Material;
use view::{ControlPlanes, NamespaceTenants, Source};

/// What the server works with. The watches are shared with the controllers of the process.
pub struct Context {
    pub client: Client,
    pub identity: Identity,
    /// `Some` if the component [`rule::Component::NamespaceTenants`] is on.
    pub namespace_tenants: Option<NamespaceTenants>,
    /// `Some` if the component [`rule::Component::ControlPlanes`] is on.
    pub control_planes: Option<ControlPlanes>,
    pub registry: runtime::metrics::Registry,
    pub shutdown: Shutdown,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to serve webhooks")]
    Serve(#[source] server::Error),
}

/// The admission server, ready to be served. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    source: Source,
    router: Arc<Router>,
    certificate: tls::Certificate,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    publication: watch::Receiver<Option<Publication>>,
    shutdown: Shutdown,
}

impl Webhooks {
    /// Starts to keep the certificate, to follow the configuration and to observe what is published. Must be called inside
    /// a tokio runtime.
    pub fn start(context: Context) -> Self {
        let Context {
            client,
            identity,
            namespace_tenants,
            control_planes,
            registry,
            shutdown,
        } = context;
        let metrics = Metrics::default();
        metrics.register(&registry);
        let source = Source::new(&client, &identity, namespace_tenants, control_planes);

        // A place that is guessed before the configuration is known would leave a Secret behind.
        let (place, places) = watch::channel(None);
        let (publication, published) = watch::channel(None);
        let (desired, wanted) = watch::channel(None);
        let certificate = tls::keep(client.clone(), places, published.clone(), shutdown.clone());
        tokio::spawn(settle(
            source.clone(),
            identity.clone(),
            certificate.material.clone(),
            place,
            desired,
            shutdown.clone(),
        ));
        tokio::spawn({
            let (client, wanted, shutdown) = (client.clone(), wanted.clone(), shutdown.clone());
            let converts = source.namespace_tenants.is_some();
            async move { keeper::observe(client, wanted, converts, publication, &shutdown).await }
        });

        let rules = RULES
            .iter()
            .filter(|rule| identity.components.contains(&rule.component));
        let router = Arc::new(Router::new(rules, source.clone(), metrics));
        Self {
            client,
            source,
            router,
            certificate,
            desired: wanted,
            publication: published,
            shutdown,
        }
    }

    /// Serves on this address until the shutdown. Every replica does.
    pub async fn serve(&self, address: SocketAddr) -> Result<(), Error> {
        let listener = server::bind(address).await.map_err(Error::Serve)?;
        self.serve_on(listener).await
    }

    /// The same on a socket that is open already.
    pub async fn serve_on(&self, listener: TcpListener) -> Result<(), Error> {
        let (certificate, router) = (self.certificate.resolver.clone(), self.router.clone());
        server::serve(listener, certificate, router, Limits::default(), self.shutdown.clone())
            .await
            .map_err(Error::Serve)
    }

    /// Keeps the webhook configurations, policies and the conversion until this shutdown (of a leadership, or of the process).
    pub async fn keep_configurations(&self, shutdown: &Shutdown) {
        let converts = self.source.namespace_tenants.is_some();
        keeper::keep(self.client.clone(), self.desired.clone(), converts, shutdown).await;
    }

    /// Why this replica should not be asked yet; `Ok` when it should: it knows the cluster's state, and API servers trust
    /// its certificate.
    pub fn ready(&self) -> Result<(), NotReady> {
        if !self.source.is_ready() {
            return Err(NotReady::Lists);
        }
        let Some(material) = self.certificate.material.borrow().clone() else {
            return Err(NotReady::Certificate);
        };
        match self.publication.borrow().as_ref() {
            Some(published) if !material.chains_to(&published.bundle) => Err(NotReady::Trust),
            // Nothing is published until the Service has a replica that is ready.
            None | Some(_) => Ok(()),
        }
    }
}

/// What a replica waits for before it should be asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("the first lists from the API server")]
    Lists,
    #[error("the serving certificate")]
    Certificate,
    #[error("webhook configurations that trust the serving certificate")]
    Trust,
}

impl NotReady {
    pub const ALL: [Self; 3] = [Self::Lists, Self::Certificate, Self::Trust];
}

/// Follows the CapsuleConfiguration, quotas and the certificate, and says what follows from them.
async fn settle(
    source: Source,
    identity: Identity,
    mut material: watch::Receiver<Option<Arc<Material>>>,
    place: watch::Sender<Option<tls::Place>>,
    desired: watch::Sender<Option<Arc<Desired>>>,
    shutdown: Shutdown,
) {
    let mut changes = match &source.namespace_tenants {
        Some(watches) => {
            let configurations = watches.configurations.changes().map(drop);
            let quotas = watches.global_resource_quotas.changes().map(drop);
            let custom = watches.custom_quotas.changes().map(drop);
            let global_custom = watches.global_custom_quotas.changes().map(drop);
            let custom = futures::stream::select(custom, global_custom);
            let budgets = counted::changes_of_tenant_quotas(watches.tenants.changes());
            let custom = futures::stream::select(custom, budgets);
            futures::stream::select(configurations, futures::stream::select(quotas, custom)).boxed()
        }
        None => futures::stream::pending().boxed(),
    };
    loop {
        // Before the first list, "there is no configuration" would be a guess that is written down.
        let is_ready = source.is_ready();
        if is_ready {
            let configuration = source.configured();
            place.send_if_modified(|current| {
                replaced(current, Some(settings::place(&identity, configuration.as_deref())))
            });
            if let Some(material) = material.borrow_and_update().clone() {
                let mut next = settings::desired(RULES, &identity, configuration.as_deref(), &material.bundle);
                if let Some(watches) = &source.namespace_tenants {
                    let placement =
                        settings::validating_placement(&identity, configuration.as_deref(), &material.bundle);
                    let extent = counted::of_global_quotas(&watches.global_resource_quotas.store().state());
                    counted::register(&mut next, &GLOBAL_QUOTAS, extent, &identity.user_name(), &placement);
                    let extent = counted::of_tenant_quotas(&watches.tenants.store().state());
                    counted::register(&mut next, &TENANT_QUOTAS, extent, &identity.user_name(), &placement);
                    let (custom, global) = (
                        watches.custom_quotas.store().state(),
                        watches.global_custom_quotas.store().state(),
                    );
                    let reach = custom::reach(custom.iter().map(AsRef::as_ref), global.iter().map(AsRef::as_ref));
                    let extent = reach.map(|reach| counted_custom::of_custom_quotas(&reach, &identity.namespace));
                    counted::register(&mut next, &CUSTOM_QUOTAS, extent, &identity.user_name(), &placement);
                }
                desired.send_if_modified(|current| {
                    let changed = current.as_deref() != Some(&next);
                    if changed {
                        *current = Some(Arc::new(next));
                    }
                    changed
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = source.ready(), if !is_ready => {}
            changed = material.changed() => if changed.is_err() { return },
            changed = changes.next() => {
                if changed.is_none() {
                    return;
                }
                // What has come meanwhile is looked at with it.
                while let Some(Some(())) = changes.next().now_or_never() {}
            }
        }
    }
}

fn replaced<T: PartialEq>(current: &mut T, next: T) -> bool {
    let changed = *current != next;
    *current = next;
    changed
}
