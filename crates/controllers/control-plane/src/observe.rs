//! What is read before anything is decided: from the watches' stores, and from the API server only where a stale answer
//! would cost a control plane its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::sync::Arc;

use api::kamaji::names::NAME_LABEL;
use api::kamaji::v1alpha1::TenantControlPlane;
use futures::future::try_join_all;
use ipnet::IpNet;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::Watches;
use crate::admin_network::AdminNetwork;
use crate::desired;
use crate::desired::network_policy;
use crate::error::Error;

/// Name of the datastore that a control plane should be in: the one asked for, else the one that it is in, else the
/// default, which may change without moving anybody.
pub(crate) fn datastore_name<'a>(tcp: &'a TenantControlPlane, default: Option<&'a str>) -> Option<&'a str> {
    let recorded = tcp
        .status
        .as_ref()
        .and_then(|status| status.storage.as_ref()?.data_store_name.as_deref());
    [tcp.spec.data_store.as_deref(), recorded, default]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
}

/// Names of the Secrets that are a control plane's own: those of its namespace that carry its name.
pub(crate) fn own_secrets(watches: &Watches, tcp: &TenantControlPlane) -> BTreeSet<String> {
    let secrets = watches.secrets.store().state();
    let own = secrets.iter().filter(|secret| {
        secret.metadata.namespace == tcp.metadata.namespace
            && secret.labels().get(NAME_LABEL) == tcp.metadata.name.as_ref()
    });
    own.map(|secret| secret.name_any()).collect()
}

/// Everything read for one pass.
pub(crate) struct Observed {
    /// The control plane's own Service.
    pub(crate) service: Option<Arc<Service>>,
    /// All Services of its namespace.
    pub(crate) services: Vec<Arc<Service>>,
    /// Its Deployment.
    pub(crate) deployment: Option<Arc<Deployment>>,
    /// Its ConfigMap.
    pub(crate) config_map: Option<Arc<ConfigMap>>,
    /// Its egress policy.
    pub(crate) network_policy: Option<Arc<NetworkPolicy>>,
    /// Its Secrets by name. What is missing here is missing in the API server.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The admin cluster's Nodes.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The admin cluster's network.
    pub(crate) admin: AdminNetwork,
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
    tcp: &TenantControlPlane,
    admin_networks: &[IpNet],
) -> Result<Observed, Error> {
    let (name, namespace) = (tcp.name_any(), tcp.namespace().unwrap_or_default());
    let within = Some(namespace.as_str());
    let nodes = watches.nodes.store().state();
    let service_cidrs = watches.service_cidrs.store().state();
    let api_servers = watches.api_servers.store().state();
    let admin = AdminNetwork::new(
        nodes.iter().map(AsRef::as_ref),
        service_cidrs.iter().map(AsRef::as_ref),
        api_servers.iter().map(AsRef::as_ref),
        admin_networks,
    );
    let services = watches.services.store().state();
    let dns = watches.services.get(Some("kube-system"), "kube-dns");
    let dns_labels = dns.and_then(|dns| dns.spec.as_ref()?.selector.clone());
    Ok(Observed {
        service: watches.services.get(within, &name),
        services: services
            .into_iter()
            .filter(|service| service.metadata.namespace == tcp.metadata.namespace)
            .collect(),
        deployment: watches.deployments.get(within, &name),
        config_map: watches
            .config_maps
            .get(within, &format!("{name}-{}", desired::kubeadm_config::COMPONENT)),
        network_policy: watches.network_policies.get(within, &name),
        secrets: secrets(client, watches, &name, &namespace).await?,
        nodes,
        admin,
        dns_labels: dns_labels.unwrap_or_else(network_policy::default_dns_labels),
    })
}

/// Reads the same from the API server alone, for people who ask what would be decided.
pub(crate) async fn observe_live(
    client: &Client,
    tcp: &TenantControlPlane,
    admin_networks: &[IpNet],
) -> Result<(Observed, Vec<Arc<Service>>), Error> {
    let (name, namespace) = (tcp.name_any(), tcp.namespace().unwrap_or_default());
    let nodes = list(&Api::<Node>::all(client.clone()), &ListParams::default()).await?;
    let service_cidrs = list(&Api::<ServiceCIDR>::all(client.clone()), &ListParams::default()).await?;
    let api_server = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let api_servers = list(
        &Api::<EndpointSlice>::namespaced(client.clone(), "default"),
        &api_server,
    )
    .await?;
    let services = list(&Api::<Service>::all(client.clone()), &ListParams::default()).await?;
    let own = |service: &&Arc<Service>| service.metadata.namespace == tcp.metadata.namespace;
    let find = |namespace: &str, name: &str| {
        services.iter().find(|service| {
            service.metadata.namespace.as_deref() == Some(namespace) && service.metadata.name.as_deref() == Some(name)
        })
    };
    let dns = find("kube-system", "kube-dns").and_then(|dns| dns.spec.as_ref()?.selector.clone());
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secrets = BTreeMap::new();
    for component in desired::SECRET_COMPONENTS {
        let name = format!("{name}-{component}");
        let found = api.get_opt(&name).await;
        let found = found.map_err(|source| Error::Read {
            kind: "Secret",
            name: name.clone(),
            source,
        })?;
        secrets.extend(found.map(|found| (name, found)));
    }
    let observed = Observed {
        service: find(&namespace, &name).cloned(),
        services: services.iter().filter(own).cloned().collect(),
        deployment: None,
        config_map: None,
        network_policy: None,
        secrets,
        admin: AdminNetwork::new(
            nodes.iter().map(AsRef::as_ref),
            service_cidrs.iter().map(AsRef::as_ref),
            api_servers.iter().map(AsRef::as_ref),
            admin_networks,
        ),
        nodes,
        dns_labels: dns.unwrap_or_else(network_policy::default_dns_labels),
    };
    Ok((observed, services))
}

async fn list<K>(api: &Api<K>, parameters: &ListParams) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let read = |source| Error::Read {
        kind: "list of",
        name: K::plural(&()).into_owned(),
        source,
    };
    Ok(api
        .list(parameters)
        .await
        .map_err(read)?
        .items
        .into_iter()
        .map(Arc::new)
        .collect())
}

/// Secrets from the store; those that it does not have are asked for, because "it is missing" leads to new keys.
async fn secrets(
    client: &Client,
    watches: &Watches,
    name: &str,
    namespace: &str,
) -> Result<BTreeMap<String, Secret>, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let reads = desired::SECRET_COMPONENTS.iter().map(|component| {
        let (api, secret) = (api.clone(), format!("{name}-{component}"));
        async move {
            if let Some(found) = watches.secrets.get(Some(namespace), &secret) {
                return Ok::<_, Error>(Some((secret, found.as_ref().clone())));
            }
            let found = api.get_opt(&secret).await;
            let found = found.map_err(|source| Error::Read {
                kind: "Secret",
                name: secret.clone(),
                source,
            })?;
            Ok(found.map(|found| (secret, found)))
        }
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}
