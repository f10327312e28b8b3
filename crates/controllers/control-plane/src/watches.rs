//! What the controller watches, and which control planes a change concerns.
//!
//! Only what carries our label is kept of kinds of which a cluster has many. Services and Nodes are kept whole but for
//! what nobody reads: datastores, DNS and the users' own Services have no label of ours.

mod optional;
mod route_names;

use std::sync::Arc;

use api::capsule::names::LAST_APPLIED;
use api::kamaji::names::{NAME_LABEL, PROJECT_LABEL, PROJECT_VALUE};
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use runtime::{Index, Shared, Shutdown};

use self::optional::{Looked, Optional};
use self::route_names::RouteNames;
use crate::admin_cluster::Follower;
use crate::desired::gateway::{Gateway, TlsRoute};
use crate::desired::ingress;
use crate::destinations::{Services, cluster_ips, is_endpoint};
use crate::error::Error;
use crate::reconcile::{ADDRESS_TAKEN, HOSTNAME_TAKEN, NO_PLACE};
use crate::store;

/// One watch per kind. The first four are of interest to webhooks as well.
#[derive(Clone)]
pub struct Watches {
    /// All control planes.
    pub control_planes: Shared<TenantControlPlane>,
    /// All datastores.
    pub datastores: Shared<DataStore>,
    /// All Services, trimmed: for datastores, DNS, and those that users put in front of control planes.
    pub services: Shared<Service>,
    /// All Nodes, trimmed to their addresses and pod networks.
    pub nodes: Shared<Node>,
    /// All Namespaces; of these only labels are read.
    pub(crate) namespaces: Shared<Namespace>,
    pub(crate) secrets: Shared<Secret>,
    /// Secrets by the control plane whose name they carry.
    pub(crate) own_secrets: Index<Secret, Key>,
    pub(crate) claims: Shared<PersistentVolumeClaim>,
    /// The same of claims.
    pub(crate) own_claims: Index<PersistentVolumeClaim, Key>,
    pub(crate) services_by_namespace: Index<Service, String>,
    pub(crate) services_by_address: Index<Service, String>,
    /// All Ingresses; of those that are not ours only which names they serve.
    pub(crate) ingresses: Shared<Ingress>,
    pub(crate) ingresses_by_host: Index<Ingress, String>,
    /// All TLSRoutes; of those that are not ours only which names they have.
    pub(crate) routes: Optional<TlsRoute>,
    /// The same of routes of any kind.
    pub(crate) route_names: RouteNames,
    /// All Gateways, trimmed.
    pub(crate) gateways: Optional<Gateway>,
    /// All disruption budgets, trimmed.
    pub(crate) budgets: Shared<PodDisruptionBudget>,
    pub(crate) budgets_by_namespace: Index<PodDisruptionBudget, String>,
    pub(crate) config_maps: Shared<ConfigMap>,
    pub(crate) deployments: Shared<Deployment>,
    pub(crate) network_policies: Shared<NetworkPolicy>,
    pub(crate) service_cidrs: Shared<ServiceCIDR>,
    pub(crate) api_servers: Shared<EndpointSlice>,
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}

impl Watches {
    /// Watches of the kinds that others may want too. Give these to [`Watches::new`].
    pub fn control_planes(client: &Client, shutdown: &Shutdown) -> Shared<TenantControlPlane> {
        Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, shutdown)
    }

    /// See [`Watches::control_planes`].
    pub fn datastores(client: &Client, shutdown: &Shutdown) -> Shared<DataStore> {
        Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, shutdown)
    }

    /// See [`Watches::control_planes`].
    pub fn services(client: &Client, shutdown: &Shutdown) -> Shared<Service> {
        Shared::start(
            Api::all(client.clone()),
            watcher::Config::default(),
            trim_service,
            shutdown,
        )
    }

    /// See [`Watches::control_planes`].
    pub fn nodes(client: &Client, shutdown: &Shutdown) -> Shared<Node> {
        Shared::start(
            Api::all(client.clone()),
            watcher::Config::default(),
            trim_node,
            shutdown,
        )
    }

    /// See [`Watches::control_planes`].
    pub fn namespaces(client: &Client, shutdown: &Shutdown) -> Shared<Namespace> {
        Shared::start(
            Api::all(client.clone()),
            watcher::Config::default(),
            trim_namespace,
            shutdown,
        )
    }

    /// Begins to watch everything else. Only what carries our label is kept of kinds of which a cluster has many.
    pub fn new(
        client: &Client,
        control_planes: Shared<TenantControlPlane>,
        datastores: Shared<DataStore>,
        services: Shared<Service>,
        nodes: Shared<Node>,
        namespaces: Shared<Namespace>,
        shutdown: &Shutdown,
    ) -> Self {
        let ours = || watcher::Config::default().labels(&format!("{PROJECT_LABEL}={PROJECT_VALUE}"));
        // Also those that users gave to a control plane, for its own volumes.
        let named = watcher::Config::default().labels(NAME_LABEL);
        let api_server = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
        let secrets = Shared::start(Api::all(client.clone()), named.clone(), |_| {}, shutdown);
        let everything = watcher::Config::default;
        let routes = Optional::start(client, Looked::AtOnce, route_names::trim_tls, shutdown);
        let ingresses = Shared::start(Api::all(client.clone()), everything(), trim_ingress, shutdown);
        let budgets = Shared::start(Api::all(client.clone()), everything(), trim_budget, shutdown);
        let claims = Shared::start(Api::all(client.clone()), named, trim_claim, shutdown);
        Self {
            own_secrets: Index::of(&secrets, named_in_label),
            own_claims: Index::of(&claims, named_in_label),
            services_by_namespace: Index::of(&services, |service| service.namespace().into_iter().collect()),
            services_by_address: Index::of(&services, |service| cluster_ips(service).map(str::to_owned).collect()),
            ingresses_by_host: Index::of(&ingresses, |ingress| {
                ingress::hosts(ingress).map(str::to_owned).collect()
            }),
            ingresses,
            route_names: RouteNames {
                http: Optional::start(client, Looked::WhenAsked, route_names::trim, shutdown),
                grpc: Optional::start(client, Looked::WhenAsked, route_names::trim, shutdown),
                tls: routes.clone(),
            },
            routes,
            gateways: Optional::start(client, Looked::AtOnce, trim_gateway, shutdown),
            budgets_by_namespace: Index::of(&budgets, |budget| budget.namespace().into_iter().collect()),
            budgets,
            control_planes,
            datastores,
            services,
            nodes,
            namespaces,
            secrets,
            claims,
            config_maps: Shared::start(Api::all(client.clone()), ours(), |_| {}, shutdown),
            deployments: Shared::start(Api::all(client.clone()), ours(), |_| {}, shutdown),
            network_policies: Shared::start(Api::all(client.clone()), ours(), |_| {}, shutdown),
            service_cidrs: Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, shutdown),
            api_servers: Shared::start(Api::namespaced(client.clone(), "default"), api_server, |_| {}, shutdown),
        }
    }

    /// All of them, for a process that shares none.
    pub fn start(client: &Client, shutdown: &Shutdown) -> Self {
        Self::new(
            client,
            Self::control_planes(client, shutdown),
            Self::datastores(client, shutdown),
            Self::services(client, shutdown),
            Self::nodes(client, shutdown),
            Self::namespaces(client, shutdown),
            shutdown,
        )
    }

    /// Waits for every first list.
    pub async fn ready(&self) -> Result<(), Error> {
        let ready = self.control_planes.ready().await
            && self.datastores.ready().await
            && self.services.ready().await
            && self.nodes.ready().await
            && self.secrets.ready().await
            && self.claims.ready().await
            && self.ingresses.ready().await
            && self.budgets.ready().await
            && self.config_maps.ready().await
            && self.deployments.ready().await
            && self.network_policies.ready().await
            && self.service_cidrs.ready().await
            && self.api_servers.ready().await;
        ready.then_some(()).ok_or(Error::WatchEnded)
    }

    /// Puts control planes into the queue for everything that may change what should be done about them.
    pub(crate) fn trigger(&self, queue: &runtime::Queue<Key>, default_datastore: Option<&str>, admin: &Follower) {
        self.control_planes
            .trigger(queue, |change| Key::of(change.object().as_ref()));
        self.secrets
            .trigger(queue, |change| Key::of_part(change.object().as_ref()));
        self.claims
            .trigger(queue, |change| Key::of_part(change.object().as_ref()));
        self.config_maps
            .trigger(queue, |change| Key::of_part(change.object().as_ref()));
        self.deployments
            .trigger(queue, |change| Key::of_part(change.object().as_ref()));
        self.network_policies
            .trigger(queue, |change| Key::of_part(change.object().as_ref()));
        self.trigger_fronts(queue);
        // A Service concerns the control plane that it belongs to, the one that it selects, and, when it is DNS or a
        // datastore's, all of them. The last is looked at by name and namespace of the datastores' endpoints.
        let (control_planes, datastores) = (self.control_planes.clone(), self.datastores.clone());
        self.services.trigger(queue, move |change| {
            let service = change.object();
            if concerns_all(service, &datastores) {
                all(&control_planes)
            } else {
                Key::of_service(service)
            }
        });
        let (control_planes, default) = (self.control_planes.clone(), default_datastore.map(str::to_owned));
        self.datastores.trigger(queue, move |change| {
            users(&control_planes, &change.object().name_any(), default.as_deref())
        });
        let if_changed = || {
            let (control_planes, mut changed) = (self.control_planes.clone(), admin.changes());
            move || {
                if changed() { all(&control_planes) } else { Vec::new() }
            }
        };
        let mut keys = if_changed();
        self.nodes.trigger(queue, move |_| keys());
        let mut keys = if_changed();
        self.service_cidrs.trigger(queue, move |_| keys());
        let mut keys = if_changed();
        self.api_servers.trigger(queue, move |_| keys());
    }
}

impl Watches {
    /// What stands in front of control planes, and what may keep others from having it.
    fn trigger_fronts(&self, queue: &runtime::Queue<Key>) {
        // Who waits for a name, an address or a place is looked at whenever one may have become free.
        let control_planes = self.control_planes.clone();
        self.control_planes.trigger(queue, move |_| {
            waiting_for(&control_planes, &[HOSTNAME_TAKEN, ADDRESS_TAKEN, NO_PLACE])
        });
        let control_planes = self.control_planes.clone();
        self.ingresses.trigger(queue, move |change| {
            let mut keys = waiting_for(&control_planes, &[HOSTNAME_TAKEN]);
            keys.extend(Key::of_part(change.object().as_ref()));
            keys
        });
        // A budget of somebody else's may select any pods of its namespace.
        let control_planes = self.control_planes.clone();
        self.budgets
            .trigger(queue, move |change| match Key::of_part(change.object().as_ref()) {
                Some(own) => vec![own],
                None => all_where(&control_planes, |tcp| tcp.namespace() == change.object().namespace()),
            });
        let asking = || {
            let control_planes = self.control_planes.clone();
            move || all_where(&control_planes, |tcp| tcp.spec.control_plane.gateway.is_some())
        };
        let control_planes = self.control_planes.clone();
        self.routes.trigger(queue, asking(), move |route| {
            let mut keys = waiting_for(&control_planes, &[HOSTNAME_TAKEN]);
            keys.extend(Key::of_part(route));
            keys
        });
        let waiting = || {
            let control_planes = self.control_planes.clone();
            move || waiting_for(&control_planes, &[HOSTNAME_TAKEN])
        };
        let again = waiting();
        self.route_names.http.trigger(queue, waiting(), move |_| again());
        let again = waiting();
        self.route_names.grpc.trigger(queue, waiting(), move |_| again());
        let control_planes = self.control_planes.clone();
        self.gateways.trigger(queue, asking(), move |gateway| {
            let is_named = |tcp: &TenantControlPlane| {
                let parents = tcp
                    .spec
                    .control_plane
                    .gateway
                    .iter()
                    .flat_map(|front| &front.parent_refs);
                parents
                    .into_iter()
                    .any(|parent| Some(&parent.name) == gateway.metadata.name.as_ref())
            };
            all_where(&control_planes, is_named)
        });
    }
}

/// The control planes that use a DataStore, or may come to.
pub(crate) fn users(control_planes: &Shared<TenantControlPlane>, datastore: &str, default: Option<&str>) -> Vec<Key> {
    all_where(control_planes, |tcp| {
        // One that waits for a place may get it in any.
        tcp.spec.data_store.as_deref().unwrap_or_default().is_empty()
            || store::name(tcp, default) == Some(datastore)
            || tcp
                .spec
                .data_store_overrides
                .iter()
                .any(|other| other.data_store == datastore)
    })
}

/// Namespace and name of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Key {
    /// Of a control plane that was read from an API server, and so has both.
    pub(crate) fn to(tcp: &TenantControlPlane) -> Self {
        Self {
            namespace: tcp.namespace().unwrap_or_default(),
            name: tcp.name_any(),
        }
    }

    fn of(tcp: &TenantControlPlane) -> Option<Self> {
        Some(Self {
            namespace: tcp.namespace()?,
            name: tcp.metadata.name.clone()?,
        })
    }

    /// Of an object that carries the name label, or has a control plane as its owner.
    fn of_part(object: &impl ResourceExt) -> Option<Self> {
        let owner = object
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "TenantControlPlane");
        let name = owner
            .map(|owner| owner.name.clone())
            .or_else(|| object.labels().get(NAME_LABEL).cloned())?;
        Some(Self {
            namespace: object.namespace()?,
            name,
        })
    }

    fn of_service(service: &Service) -> Vec<Self> {
        let selected = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref()?.get(NAME_LABEL).cloned());
        let fronted = selected
            .zip(service.namespace())
            .map(|(name, namespace)| Self { namespace, name });
        let mut keys: Vec<Self> = Self::of_part(service).into_iter().chain(fronted).collect();
        keys.dedup();
        keys
    }
}

/// The control plane whose name an object carries in its label.
fn named_in_label(object: &impl ResourceExt) -> Vec<Key> {
    let key = object.labels().get(NAME_LABEL).cloned().zip(object.namespace());
    key.map(|(name, namespace)| Key { namespace, name })
        .into_iter()
        .collect()
}

impl Services for Watches {
    fn named(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(Some(namespace), name)
    }

    fn at(&self, address: &str) -> Option<Arc<Service>> {
        self.services_by_address.get(&address.to_owned()).into_iter().next()
    }
}

fn all(control_planes: &Shared<TenantControlPlane>) -> Vec<Key> {
    all_where(control_planes, |_| true)
}

fn all_where(control_planes: &Shared<TenantControlPlane>, test: impl Fn(&TenantControlPlane) -> bool) -> Vec<Key> {
    control_planes
        .store()
        .state()
        .iter()
        .filter(|tcp| test(tcp))
        .filter_map(|tcp| Key::of(tcp))
        .collect()
}

fn concerns_all(service: &Service, datastores: &Shared<DataStore>) -> bool {
    if service.namespace().as_deref() == Some("kube-system") && service.name_any() == "kube-dns" {
        return true;
    }
    let stores = datastores.store().state();
    stores
        .iter()
        .any(|datastore| is_endpoint(&datastore.spec.endpoints, service))
}

/// Control planes that wait for one of these reasons.
fn waiting_for(control_planes: &Shared<TenantControlPlane>, reasons: &[&str]) -> Vec<Key> {
    all_where(control_planes, |tcp| {
        let conditions = tcp.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|condition| reasons.contains(&condition.reason.as_str()))
    })
}

fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().get(PROJECT_LABEL).map(String::as_str) == Some(PROJECT_VALUE)
}

/// Ours are compared with what is wanted; of others only the names count.
fn trim_ingress(ingress: &mut Ingress) {
    if is_ours(ingress) {
        return;
    }
    ingress.metadata.annotations = None;
    ingress.metadata.labels = None;
    ingress.status = None;
    if let Some(spec) = &mut ingress.spec {
        spec.default_backend = None;
        spec.tls = None;
        spec.rules.iter_mut().flatten().for_each(|rule| rule.http = None);
    }
}

fn trim_namespace(namespace: &mut Namespace) {
    if let Some(annotations) = &mut namespace.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    namespace.spec = None;
    namespace.status = None;
}

fn trim_budget(budget: &mut PodDisruptionBudget) {
    budget.status = None;
}

fn trim_gateway(gateway: &mut Gateway) {
    gateway.metadata.annotations = None;
    gateway.metadata.labels = None;
}

/// Whose it is, and no more.
fn trim_claim(claim: &mut PersistentVolumeClaim) {
    claim.metadata.annotations = None;
    claim.spec = None;
    claim.status = None;
}

fn trim_service(service: &mut Service) {
    if let Some(annotations) = &mut service.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    node.metadata.labels = None;
    if let Some(spec) = &mut node.spec {
        spec.taints = None;
    }
    if let Some(status) = &mut node.status {
        let addresses = status.addresses.take();
        *status = k8s_openapi::api::core::v1::NodeStatus {
            addresses,
            ..Default::default()
        };
    }
}
