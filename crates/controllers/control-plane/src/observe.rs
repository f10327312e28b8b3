//! What is read before anything is decided: from the watches' stores, and from the API server only where a stale answer
//! would cost a control plane its keys.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use api::kamaji::names::NAME_LABEL;
use api::kamaji::v1alpha1::TenantControlPlane;
use futures::future::try_join_all;
use ipnet::IpNet;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tenancy::control_plane::deputy::Own;

use crate::admin_cluster::AdminCluster;
use crate::admin_network::AdminNetwork;
use crate::desired;
use crate::desired::gateway::{self, TlsRoute};
use crate::desired::network_policy;
use crate::destinations::Services;
use crate::error::Error;
use crate::{Key, Watches};

/// What of its namespace carries a control plane's name, and so was given to it.
pub(crate) fn own(watches: &Watches, tcp: &TenantControlPlane) -> Own {
    let key = Key::to(tcp);
    Own {
        secrets: watches.own_secrets.get(&key).iter().map(|one| one.name_any()).collect(),
        claims: watches.own_claims.get(&key).iter().map(|one| one.name_any()).collect(),
    }
}

/// Everything read for one pass.
pub(crate) struct Observed {
    /// The control plane's own Service.
    pub(crate) service: Option<Arc<Service>>,
    /// All Services of its namespace.
    pub(crate) services: Vec<Arc<Service>>,
    /// The Ingress of its name.
    pub(crate) ingress: Option<Arc<Ingress>>,
    /// Its route.
    pub(crate) route: Option<Arc<TlsRoute>>,
    /// Its tunnel's.
    pub(crate) tunnel_route: Option<Arc<TlsRoute>>,
    /// All disruption budgets of its namespace.
    pub(crate) budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Its Deployment.
    pub(crate) deployment: Option<Arc<Deployment>>,
    /// Its ConfigMap.
    pub(crate) config_map: Option<Arc<ConfigMap>>,
    /// Its egress policy.
    pub(crate) network_policy: Option<Arc<NetworkPolicy>>,
    /// The ConfigMap that turns its tunnel on.
    pub(crate) egress_selector: Option<Arc<ConfigMap>>,
    /// Its Secrets by name. What is missing here is missing in the API server.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// What is its own in its namespace.
    pub(crate) own: Own,
    /// The admin cluster.
    pub(crate) admin: Arc<AdminCluster>,
    /// Labels of the pods that answer DNS queries.
    pub(crate) dns_labels: BTreeMap<String, String>,
}

/// Names only: Secrets are private keys, and the rest is long.
impl Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("secrets", &self.secrets.keys())
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// Reads everything about one control plane.
pub(crate) async fn observe(
    client: &Client,
    watches: &Watches,
    admin: Arc<AdminCluster>,
    tcp: &TenantControlPlane,
) -> Result<Observed, Error> {
    let Key { namespace, name } = Key::to(tcp);
    let within = Some(namespace.as_str());
    Ok(Observed {
        service: watches.services.get(within, &name),
        services: watches.services_by_namespace.get(&namespace),
        ingress: watches.ingresses.get(within, &name),
        route: watches.routes.get(&namespace, &name),
        tunnel_route: watches.routes.get(&namespace, &gateway::tunnel_name(&name)),
        budgets: watches.budgets_by_namespace.get(&namespace),
        deployment: watches.deployments.get(within, &name),
        config_map: watches
            .config_maps
            .get(within, &format!("{name}-{}", desired::kubeadm_config::COMPONENT)),
        network_policy: watches.network_policies.get(within, &name),
        egress_selector: watches
            .config_maps
            .get(within, &desired::konnectivity::config_name(&name)),
        secrets: secrets(client, watches, tcp).await?,
        own: own(watches, tcp),
        admin,
        dns_labels: dns_labels(watches),
    })
}

/// Reads the same from the API server alone, for people who ask what would be decided. All Services come with it.
pub(crate) async fn observe_live(
    client: &Client,
    tcp: &TenantControlPlane,
    admin_networks: &[IpNet],
) -> Result<(Observed, Vec<Arc<Service>>), Error> {
    let Key { namespace, name } = Key::to(tcp);
    let all = ListParams::default();
    let nodes = list(&Api::<Node>::all(client.clone()), &all).await?;
    let service_cidrs = list(&Api::<ServiceCIDR>::all(client.clone()), &all).await?;
    let api_server = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let api_servers = list(
        &Api::<EndpointSlice>::namespaced(client.clone(), "default"),
        &api_server,
    )
    .await?;
    let services = list(&Api::<Service>::all(client.clone()), &all).await?;
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let named = ListParams::default().labels(&format!("{NAME_LABEL}={name}"));
    let own_secrets = list(&api, &named).await?;
    let own_claims = list(
        &Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace),
        &named,
    )
    .await?;
    let mut secrets = BTreeMap::new();
    for component in desired::secret_components(tcp) {
        let name = format!("{name}-{component}");
        secrets.extend(secret(&api, &name).await?.map(|found| (name, found)));
    }
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let deployment = deployments.get_opt(&name).await.map_err(|source| Error::Read {
        kind: "Deployment",
        name: name.clone(),
        source,
    })?;
    let own = |service: &&Arc<Service>| service.metadata.namespace == tcp.metadata.namespace;
    let observed = Observed {
        service: services[..].named(&namespace, &name),
        services: services.iter().filter(own).cloned().collect(),
        ingress: None,
        route: None,
        tunnel_route: None,
        budgets: Vec::new(),
        // Which version the pods are told to run decides about the next one.
        deployment: deployment.map(Arc::new),
        config_map: None,
        network_policy: None,
        egress_selector: None,
        secrets,
        own: Own {
            secrets: own_secrets.iter().map(|one| one.name_any()).collect(),
            claims: own_claims.iter().map(|one| one.name_any()).collect(),
        },
        admin: Arc::new(AdminCluster {
            network: AdminNetwork::new(
                nodes.iter().map(AsRef::as_ref),
                service_cidrs.iter().map(AsRef::as_ref),
                api_servers.iter().map(AsRef::as_ref),
                admin_networks,
            ),
            nodes,
        }),
        dns_labels: dns_labels(&services[..]),
    };
    Ok((observed, services))
}

fn dns_labels(services: &(impl Services + ?Sized)) -> BTreeMap<String, String> {
    let dns = services.named("kube-system", "kube-dns");
    dns.and_then(|dns| dns.spec.as_ref()?.selector.clone())
        .unwrap_or_else(network_policy::default_dns_labels)
}

async fn list<K>(api: &Api<K>, parameters: &ListParams) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let found = api.list(parameters).await.map_err(|source| Error::Read {
        kind: "list of",
        name: K::plural(&()).into_owned(),
        source,
    })?;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

async fn secret(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, Error> {
    api.get_opt(name).await.map_err(|source| Error::Read {
        kind: "Secret",
        name: name.to_owned(),
        source,
    })
}

/// Secrets from the store; those that it does not have are asked for, because "it is missing" leads to new keys.
async fn secrets(
    client: &Client,
    watches: &Watches,
    tcp: &TenantControlPlane,
) -> Result<BTreeMap<String, Secret>, Error> {
    let Key { namespace, name } = &Key::to(tcp);
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let reads = desired::secret_components(tcp).map(|component| {
        let (api, name) = (api.clone(), format!("{name}-{component}"));
        async move {
            let found = match watches.secrets.get(Some(namespace.as_str()), &name) {
                Some(found) => Some(found.as_ref().clone()),
                None => secret(&api, &name).await?,
            };
            Ok::<_, Error>(found.map(|found| (name, found)))
        }
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}
