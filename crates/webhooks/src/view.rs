//! What decisions may look at: the process's watches, as they stand when a request arrives.
//!
//! Reads are lookups in stores that watches keep; nothing here waits or asks the API server. What a watch may know too
//! late for a decision is read live by [`crate::facts`] before the rule runs.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use api::capsule::v1beta2::{
    CapsuleConfiguration, CustomQuota, GlobalCustomQuota, GlobalResourceQuota, GlobalTenantResource, QuantityLedger,
    ResourcePool, Tenant, TenantOwner, TenantResource,
};
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use runtime::Shared;
use tenancy::control_plane::admission::DEFAULT_NODE_PORTS;
use tenancy::control_plane::deputy::Trust;
use tenancy::index::{self, Index};
use tenancy::quota::custom::Languages;
use tenancy::replication::guard::Made;
use tenancy::settings::Settings;

use crate::credits::Credits;
use crate::events::{Events, Home};
use crate::follow::Follower;
use crate::hostnames::Hostnames;
use crate::ledgers::Ledgers;
use crate::live_custom_quotas::CustomQuotas;
use crate::live_namespace_quota::Places;
use crate::namespace_rules::NamespaceRules;
use crate::node_ports::NodePorts;
use crate::reports::Reports;
use crate::settings::Identity;

/// What the rules of namespace tenants read.
#[derive(Clone)]
pub struct NamespaceTenants {
    pub tenants: Shared<Tenant>,
    pub tenant_owners: Shared<TenantOwner>,
    pub namespaces: Shared<Namespace>,
    pub configurations: Shared<CapsuleConfiguration>,
    /// Name of the CapsuleConfiguration that is in force.
    pub configuration_name: String,
    pub storage_classes: Shared<StorageClass>,
    pub ingress_classes: Shared<IngressClass>,
    pub priority_classes: Shared<PriorityClass>,
    pub runtime_classes: Shared<RuntimeClass>,
    pub tenant_resources: Shared<TenantResource>,
    pub global_tenant_resources: Shared<GlobalTenantResource>,
    pub custom_quotas: Shared<CustomQuota>,
    pub global_custom_quotas: Shared<GlobalCustomQuota>,
    pub global_resource_quotas: Shared<GlobalResourceQuota>,
    pub quantity_ledgers: Shared<QuantityLedger>,
    pub pools: Shared<ResourcePool>,
}

/// What the rules of hosted control planes read.
#[derive(Clone)]
pub struct ControlPlanes {
    pub control_planes: Shared<TenantControlPlane>,
    pub data_stores: Shared<DataStore>,
    /// Ports of the nodes that Services have.
    pub node_ports: NodePorts,
    /// The DataStore of control planes that name none.
    pub default_data_store: Option<String>,
    /// Ports that the admin cluster's API servers give to Services on nodes.
    pub node_port_range: RangeInclusive<i32>,
    /// What administrators let authors have.
    pub trust: Trust,
}

/// All watches of the rules that this process answers. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    pub(crate) client: Option<Client>,
    pub(crate) namespace_tenants: Option<Arc<NamespaceTenants>>,
    pub(crate) control_planes: Option<Arc<ControlPlanes>>,
    pub(crate) follower: Follower,
    pub(crate) places: Arc<Places>,
    pub(crate) credits: Arc<Credits>,
    pub(crate) hostnames: Hostnames,
    pub(crate) events: Events,
    pub(crate) reports: Reports,
    pub(crate) rules: NamespaceRules,
    /// `None` without namespace tenants.
    pub(crate) ledgers: Option<Ledgers>,
    /// `None` without namespace tenants.
    pub(crate) custom_quotas: Option<CustomQuotas>,
    /// What quotas say in their languages.
    pub(crate) languages: Arc<Languages>,
    /// Namespace and name of our service account.
    ourselves: Arc<(String, String)>,
    /// What was made of the CapsuleConfiguration last.
    settings: Arc<Mutex<Option<Compiled>>>,
}

/// The settings and what they were made of.
struct Compiled {
    configuration: Option<Arc<CapsuleConfiguration>>,
    settings: Arc<Settings>,
}

impl Source {
    /// For rules that look at nothing but the request.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self::of_index(Index::default())
    }

    /// For decisions about tenants and namespaces that are given, without any watch and without an API server.
    pub fn of_index(index: Index) -> Self {
        let mut follower = Follower::default();
        follower.index = index;
        Self {
            client: None,
            namespace_tenants: None,
            control_planes: None,
            follower,
            places: Arc::default(),
            credits: Arc::default(),
            hostnames: Hostnames::default(),
            events: Events::default(),
            reports: Reports::default(),
            rules: NamespaceRules::default(),
            ledgers: None,
            custom_quotas: None,
            languages: Arc::default(),
            ourselves: Arc::default(),
            settings: Arc::default(),
        }
    }

    pub(crate) fn new(
        client: &Client,
        identity: &Identity,
        namespace_tenants: Option<NamespaceTenants>,
        control_planes: Option<ControlPlanes>,
    ) -> Self {
        let (follower, places) = (Follower::default(), Arc::<Places>::default());
        if let Some(watches) = &namespace_tenants {
            places.follow(&watches.namespaces);
            follower.follow(&watches.tenants, &watches.tenant_owners, &watches.namespaces);
            follower.follow_replications(&watches.tenant_resources, &watches.global_tenant_resources);
        }
        let configured = namespace_tenants
            .as_ref()
            .map(|watches| (watches.configurations.clone(), watches.configuration_name.clone()));
        let home: Home = Arc::new(move || {
            let (configurations, name) = configured.as_ref()?;
            Some(configurations.get(None, name)?.spec.events.namespace.clone())
        });
        let ledgers = namespace_tenants
            .as_ref()
            .map(|watches| Ledgers::new(client, &watches.quantity_ledgers));
        let custom_quotas = namespace_tenants.as_ref().map(CustomQuotas::of);
        Self {
            client: Some(client.clone()),
            ledgers,
            custom_quotas,
            languages: Arc::default(),
            namespace_tenants: namespace_tenants.map(Arc::new),
            control_planes: control_planes.map(Arc::new),
            follower,
            places,
            credits: Arc::default(),
            hostnames: Hostnames::default(),
            events: Events::start(client.clone(), home),
            reports: Reports::start(client, &identity.namespace),
            rules: NamespaceRules::default(),
            ourselves: Arc::new((identity.namespace.clone(), identity.service_account.clone())),
            settings: Arc::default(),
        }
    }

    /// Waits for the first lists.
    pub(crate) async fn ready(&self) {
        if let Some(watches) = &self.namespace_tenants {
            watches.tenants.ready().await;
            watches.tenant_owners.ready().await;
            watches.namespaces.ready().await;
            watches.configurations.ready().await;
            watches.storage_classes.ready().await;
            watches.ingress_classes.ready().await;
            watches.priority_classes.ready().await;
            watches.runtime_classes.ready().await;
            watches.tenant_resources.ready().await;
            watches.global_tenant_resources.ready().await;
            watches.custom_quotas.ready().await;
            watches.global_custom_quotas.ready().await;
            watches.global_resource_quotas.ready().await;
            watches.quantity_ledgers.ready().await;
            watches.pools.ready().await;
        }
        if let Some(watches) = &self.control_planes {
            watches.control_planes.ready().await;
            watches.data_stores.ready().await;
            watches.node_ports.ready().await;
        }
    }

    /// Whether every watch has its first list.
    pub fn is_ready(&self) -> bool {
        self.namespace_tenants.as_ref().is_none_or(|watches| {
            watches.tenants.is_ready()
                && watches.tenant_owners.is_ready()
                && watches.namespaces.is_ready()
                && watches.configurations.is_ready()
                && watches.storage_classes.is_ready()
                && watches.ingress_classes.is_ready()
                && watches.priority_classes.is_ready()
                && watches.runtime_classes.is_ready()
                && watches.tenant_resources.is_ready()
                && watches.global_tenant_resources.is_ready()
                && watches.custom_quotas.is_ready()
                && watches.global_custom_quotas.is_ready()
                && watches.global_resource_quotas.is_ready()
                && watches.quantity_ledgers.is_ready()
                && watches.pools.is_ready()
        }) && self.control_planes.as_ref().is_none_or(|watches| {
            watches.control_planes.is_ready() && watches.data_stores.is_ready() && watches.node_ports.is_ready()
        })
    }

    /// What is known now; `None` before the watches have their first lists.
    pub fn view(self: &Arc<Self>) -> Option<View> {
        self.is_ready().then(|| View {
            settings: self.settings(),
            known: index::View::new(self.index()),
            source: self.clone(),
        })
    }

    /// Our own namespace, where ledgers of what spans namespaces are.
    pub(crate) fn own_namespace(&self) -> &str {
        &self.ourselves.0
    }

    pub(crate) fn index(&self) -> &Index {
        &self.follower.index
    }

    /// The namespace as the watch shows it.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespace_tenants.as_ref()?.namespaces.get(None, name)
    }

    /// The CapsuleConfiguration as it is in the API server, if it is there.
    pub(crate) fn configured(&self) -> Option<Arc<CapsuleConfiguration>> {
        let watches = self.namespace_tenants.as_ref()?;
        watches.configurations.get(None, &watches.configuration_name)
    }

    /// The settings in force: compiled when the configuration changes, not when somebody asks.
    fn settings(&self) -> Arc<Settings> {
        let configuration = self.configured();
        let mut compiled = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.as_ref()
            && match (&known.configuration, &configuration) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            }
        {
            return known.settings.clone();
        }
        let (namespace, service_account) = (&self.ourselves.0, &self.ourselves.1);
        let settings = Arc::new(Settings::new(configuration.as_deref(), namespace, service_account));
        *compiled = Some(Compiled {
            configuration,
            settings: settings.clone(),
        });
        settings
    }
}

/// What one decision sees.
#[derive(Clone)]
pub struct View {
    /// The configuration in force. The same for the whole decision.
    pub settings: Arc<Settings>,
    /// Tenants and namespaces, with what was read live for this request.
    pub known: index::View,
    source: Arc<Source>,
}

impl View {
    pub fn storage_classes(&self) -> Vec<Arc<StorageClass>> {
        self.source
            .namespace_tenants
            .as_ref()
            .map(|watches| watches.storage_classes.store().state())
            .unwrap_or_default()
    }

    pub fn ingress_classes(&self) -> Vec<Arc<IngressClass>> {
        self.source
            .namespace_tenants
            .as_ref()
            .map(|watches| watches.ingress_classes.store().state())
            .unwrap_or_default()
    }

    pub fn priority_classes(&self) -> Vec<Arc<PriorityClass>> {
        self.source
            .namespace_tenants
            .as_ref()
            .map(|watches| watches.priority_classes.store().state())
            .unwrap_or_default()
    }

    pub fn runtime_classes(&self) -> Vec<Arc<RuntimeClass>> {
        self.source
            .namespace_tenants
            .as_ref()
            .map(|watches| watches.runtime_classes.store().state())
            .unwrap_or_default()
    }

    pub fn control_planes(&self) -> Vec<Arc<TenantControlPlane>> {
        self.source
            .control_planes
            .as_ref()
            .map(|watches| watches.control_planes.store().state())
            .unwrap_or_default()
    }

    pub fn data_stores(&self) -> Vec<Arc<DataStore>> {
        self.source
            .control_planes
            .as_ref()
            .map(|watches| watches.data_stores.store().state())
            .unwrap_or_default()
    }

    /// The DataStore of control planes that name none.
    pub fn default_data_store(&self) -> Option<&str> {
        self.source.control_planes.as_ref()?.default_data_store.as_deref()
    }

    /// The admin cluster's range of node ports.
    pub fn node_port_range(&self) -> RangeInclusive<i32> {
        self.source
            .control_planes
            .as_ref()
            .map_or(DEFAULT_NODE_PORTS, |watches| watches.node_port_range.clone())
    }

    /// What administrators let authors of control planes have.
    pub fn trust(&self) -> Trust {
        self.source
            .control_planes
            .as_ref()
            .map(|watches| watches.trust.clone())
            .unwrap_or_default()
    }

    /// How many CustomQuotas there are in a namespace.
    pub(crate) fn custom_quotas(&self, namespace: &str) -> usize {
        let quotas = self.source.custom_quotas.as_ref();
        quotas.map_or(0, |quotas| quotas.count(namespace))
    }

    /// What is compiled of quotas.
    pub(crate) fn languages(&self) -> &Languages {
        &self.source.languages
    }

    /// What is compiled of rules.
    pub(crate) fn rules(&self) -> &NamespaceRules {
        &self.source.rules
    }

    /// Which Ingress has which hostname.
    pub(crate) fn hostnames(&self) -> &Hostnames {
        &self.source.hostnames
    }

    /// Which namespace belongs to which tenant.
    pub(crate) fn index(&self) -> &Index {
        self.source.index()
    }

    /// Which replication made which object.
    pub(crate) fn replicated(&self) -> &Made {
        &self.source.follower.made
    }
}
