//! Hosted control planes: TenantControlPlane objects become kube-apiserver, kube-controller-manager and kube-scheduler
//! in pods, with everything that they need around them.
//!
//! Watches: TenantControlPlanes and DataStores; Secrets and PersistentVolumeClaims that carry the name of a control plane;
//! ConfigMaps, Deployments and NetworkPolicies that carry our label; Ingresses and PodDisruptionBudgets, and where they are
//! served Gateways and TLSRoutes; Services, Nodes, ServiceCIDRs and the API server's EndpointSlice of the admin cluster.
//!
//! Writes, per control plane: a Service and what stands in front of it, a NetworkPolicy, a ConfigMap, eleven Secrets, a
//! Deployment and its PodDisruptionBudget, an account in the datastore, the objects inside of the tenant cluster that nodes
//! join with, and its status. All but the account and the inside are owned by the TenantControlPlane and go with it.
//!
//! [`desired`] decides, [`apply`] writes, [`status`] reports; [`reconcile`] is their order.

mod admin_cluster;
pub mod admin_network;
pub mod apply;
mod basis;
pub mod bundled_etcd;
pub mod datastore;
pub mod desired;
mod destinations;
pub mod error;
mod expiry;
mod explain;
pub mod inside;
mod kubeconfig_generator;
mod metrics;
mod migration;
mod observe;
mod reconcile;
pub mod status;
mod store;
mod takeover;
mod tenant_side;
mod tenants;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use api::kamaji::v1alpha1::TenantControlPlane;
use ipnet::IpNet;
use jiff::SignedDuration;
use kube::Client;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use runtime::{Controller, Queue, Shutdown};
use tenancy::control_plane::deputy::Trust;

pub use error::Error;
pub use explain::{Explanation, explain};
pub use watches::{Key, Watches};

/// The least and, because leaves last a year, the most sensible time before its end to replace a certificate.
const RENEWAL_WINDOW: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(24), SignedDuration::from_hours(24 * 180));

/// Tenants whose inside is looked at at a time. They answer or they do not; waiting costs nothing.
const INSIDE_CONCURRENCY: usize = 8;

/// What the controller is given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// DataStore of control planes that name none.
    pub default_datastore: Option<String>,
    /// Networks of the admin cluster that its objects do not tell of, kept out of reach of hosted control planes.
    pub admin_networks: Vec<IpNet>,
    /// How long before its end a certificate is replaced; between a day and half a year.
    pub renewal_window: SignedDuration,
    /// What administrators let authors have; the same as admission goes by.
    pub trust: Trust,
    /// `GOGC` of the hosted components: how much garbage may grow, in percent of what is used. `None` leaves it to Go.
    pub gogc: Option<u32>,
    /// Image of kine, which stands between API servers and stores that are no etcd.
    pub kine_image: String,
    /// Image of the program that this is, of which control planes run a part that share one port with their tunnel. `None`:
    /// there are none.
    pub own_image: Option<String>,
    /// Reconciliations at a time.
    pub concurrency: usize,
    /// How long a pass may take. A request without an answer would hold up a worker for ever.
    pub pass_within: Duration,
    /// How soon a control plane is looked at although nothing has changed.
    pub resync: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_datastore: None,
            admin_networks: Vec::new(),
            renewal_window: SignedDuration::from_hours(24 * 30),
            trust: Trust::default(),
            gogc: Some(25),
            kine_image: desired::kine::IMAGE.to_owned(),
            own_image: None,
            concurrency: 4,
            pass_within: Duration::from_secs(30),
            resync: Duration::from_hours(10),
        }
    }
}

/// The controller with everything that it uses.
struct Context {
    client: Client,
    watches: Watches,
    events: Recorder,
    options: basis::Options,
    admin: admin_cluster::Follower,
    renewal_window: SignedDuration,
    pass_within: Duration,
    /// How long each kind of write takes.
    steps: metrics::Steps,
    trust: Trust,
    memory: apply::Memory,
    stores: store::Resolver,
    choices: reconcile::placement::Choices,
    tenants: tenants::Tenants,
    migrations: migration::Migrations,
    /// Control planes to look at.
    queue: Queue<Key>,
    /// Control planes whose inside is to be looked at.
    inside_queue: Queue<Key>,
}

impl Context {
    /// Forgets whatever had this name and is not this object any more, however it went: with our finalizer, without, or
    /// replaced by a new one before anybody looked.
    fn forget_gone(&self, key: &Key, present: Option<&TenantControlPlane>) {
        let uid = present.map(|tcp| tcp.metadata.uid.as_deref().unwrap_or_default());
        if let Some(gone) = self.tenants.forget_gone(key, uid) {
            self.memory.forget(&gone);
            self.migrations.give_up(&gone);
        }
    }

    /// What the pods of all control planes in this DataStore get in with may be another.
    fn credentials_changed(&self, datastore: &str) {
        self.stores.forget(datastore);
        let default = self.options.default_datastore.as_deref();
        for key in watches::users(&self.watches.control_planes, datastore, default) {
            self.queue.enqueue(key);
        }
    }
}

/// Runs the controllers of control planes, of their inside and of datastores until the shutdown.
///
/// Only the holder of the lease may call it. Dropping it at any point, or ending the process, leaves a state that the
/// next run takes up.
pub async fn run(
    client: Client,
    watches: Watches,
    events: Recorder,
    settings: Settings,
    registry: &Registry,
    controllers: &runtime::controller::Metrics,
    shutdown: Shutdown,
) -> Result<(), Error> {
    watches.ready().await?;
    let renewal_window = settings.renewal_window.clamp(RENEWAL_WINDOW.0, RENEWAL_WINDOW.1);
    metrics::register(registry, &watches, renewal_window);
    expiry::register(registry, &watches);
    let options = basis::Options::of(&settings);
    let queue: Queue<Key> = Queue::new();
    let admin = admin_cluster::Follower::new(&watches, settings.admin_networks);
    watches.trigger(&queue, options.default_datastore.as_deref(), &admin);
    let context = Arc::new(Context {
        client,
        watches,
        events,
        options,
        admin,
        renewal_window,
        pass_within: settings.pass_within,
        steps: metrics::Steps::register(registry),
        trust: settings.trust,
        memory: apply::Memory::default(),
        stores: store::Resolver::default(),
        choices: reconcile::placement::Choices::default(),
        tenants: tenants::Tenants::default(),
        migrations: migration::Migrations::default(),
        queue: queue.clone(),
        inside_queue: Queue::new(),
    });
    let datastores = datastore::run(
        datastore::Context {
            client: context.client.clone(),
            data_stores: context.watches.datastores.clone(),
            control_planes: context.watches.control_planes.clone(),
            default_data_store: context.options.default_datastore.clone(),
            on_secret: {
                let context = context.clone();
                Box::new(move |datastore| context.credentials_changed(datastore))
            },
        },
        controllers,
        shutdown.clone(),
    );
    let generators = kubeconfig_generator::run(
        context.client.clone(),
        context.watches.clone(),
        renewal_window,
        controllers,
        shutdown.clone(),
    );
    let sizes = datastore::size::keep(
        context.client.clone(),
        context.watches.datastores.clone(),
        shutdown.clone(),
    );
    let inside = {
        let context = context.clone();
        Controller::new("control-plane-inside", controllers)
            .concurrency(INSIDE_CONCURRENCY)
            .run(context.inside_queue.clone(), shutdown.clone(), move |key| {
                tenant_side::reconcile(context.clone(), key)
            })
    };
    let outside = Controller::new("control-plane", controllers)
        .concurrency(settings.concurrency)
        .resync(Some(settings.resync))
        .run(queue, shutdown, move |key| reconcile::reconcile(context.clone(), key));
    futures::join!(outside, inside, datastores, generators, sizes);
    Ok(())
}
