//! Where the pods of a control plane find the endpoints of its datastore in the admin cluster's network.
//!
//! Network policies are applied after a Service's address has been replaced by a pod's, so an endpoint that is a Service,
//! by name or by address, becomes the pods behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::desired::network_policy::Destination;

/// The admin cluster's Services, as endpoints name them.
pub(crate) trait Services {
    /// The Service of that name.
    fn named(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// The Service with that cluster IP.
    fn at(&self, address: &str) -> Option<Arc<Service>>;
}

/// Those that somebody has listed.
impl Services for [Arc<Service>] {
    fn named(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        let own = |service: &&Arc<Service>| is_named(service, namespace, name);
        self.iter().find(own).cloned()
    }

    fn at(&self, address: &str) -> Option<Arc<Service>> {
        let has = |service: &&Arc<Service>| cluster_ips(service).any(|own| own == address);
        self.iter().find(has).cloned()
    }
}

/// Where the pods find the endpoints of a datastore in the admin cluster's network. Names that are no Services are given
/// with the addresses that `resolved` has for them.
pub(crate) fn destinations(
    endpoints: &[String],
    services: &(impl Services + ?Sized),
    resolved: &BTreeMap<String, Vec<IpAddr>>,
) -> Vec<Destination> {
    let mut found = Vec::new();
    for (host, port) in endpoints.iter().filter_map(|endpoint| split(endpoint)) {
        if let Some(destination) = service(host, services).and_then(|service| behind(&service, port)) {
            found.push(destination);
            continue;
        }
        let literal: Option<IpAddr> = host.parse().ok();
        let addresses = literal
            .into_iter()
            .chain(resolved.get(host).into_iter().flatten().copied());
        found.extend(addresses.map(|address| Destination::Address {
            network: IpNet::from(address).to_string(),
            port,
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// Hosts of endpoints that are neither addresses nor Services, and so have to be looked up.
pub(crate) fn hosts_to_resolve<'a>(endpoints: &'a [String], services: &(impl Services + ?Sized)) -> Vec<&'a str> {
    let hosts = endpoints
        .iter()
        .filter_map(|endpoint| split(endpoint))
        .map(|(host, _)| host);
    hosts
        .filter(|host| {
            host.parse::<IpAddr>().is_err()
                && service(host, services)
                    .and_then(|service| behind(&service, 1))
                    .is_none()
        })
        .collect()
}

fn service(host: &str, services: &(impl Services + ?Sized)) -> Option<Arc<Service>> {
    let named = service_host(host).and_then(|(name, namespace)| services.named(namespace, name));
    named.or_else(|| services.at(host))
}

/// The pods behind a Service, or nothing when it selects none.
fn behind(service: &Service, port: u16) -> Option<Destination> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.clone().filter(|labels| !labels.is_empty())?;
    let entry = spec.ports.iter().flatten().find(|entry| entry.port == i32::from(port));
    let target = entry
        .and_then(|entry| entry.target_port.clone())
        .map(|target| match target {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name,
        });
    Some(Destination::Pods {
        namespace: service.metadata.namespace.clone()?,
        labels,
        port: target.unwrap_or_else(|| port.to_string()),
    })
}

/// Whether one of the endpoints is this Service.
pub(crate) fn is_endpoint(endpoints: &[String], service: &Service) -> bool {
    endpoints
        .iter()
        .filter_map(|endpoint| split(endpoint))
        .any(|(host, _)| {
            service_host(host).is_some_and(|(name, namespace)| is_named(service, namespace, name))
                || cluster_ips(service).any(|own| own == host)
        })
}

fn is_named(service: &Service, namespace: &str, name: &str) -> bool {
    service.metadata.namespace.as_deref() == Some(namespace) && service.metadata.name.as_deref() == Some(name)
}

/// The addresses that a Service has in the cluster. A headless one, which says `None`, has no such address.
pub(crate) fn cluster_ips(service: &Service) -> impl Iterator<Item = &str> {
    let addresses = service.spec.iter().flat_map(|spec| {
        let first = spec.cluster_ip.as_ref();
        let others = spec.cluster_ips.iter().flatten();
        first
            .into_iter()
            .chain(others.filter(move |other| Some(*other) != first))
    });
    addresses.map(String::as_str).filter(|address| *address != "None")
}

/// Name and namespace in `[pod.]name.namespace.svc[.domain]`.
fn service_host(host: &str) -> Option<(&str, &str)> {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let at = labels.iter().position(|label| *label == "svc")?;
    (at >= 2).then(|| (labels[at - 2], labels[at - 1]))
}

fn split(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, selector: &serde_json::Value) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "stores"},
                "spec": {
                    "clusterIP": "10.96.0.77",
                    "selector": selector,
                    "ports": [{"port": 2379, "targetPort": "client"}],
                },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_datastore_behind_a_service_is_reached_at_its_pods() {
        let etcd = service("etcd", &json!({"app": "etcd"}));
        let pods = Destination::Pods {
            namespace: "stores".to_owned(),
            labels: [("app".to_owned(), "etcd".to_owned())].into(),
            port: "client".to_owned(),
        };
        for endpoint in [
            "etcd.stores.svc:2379",
            "etcd.stores.svc.cluster.local:2379",
            "etcd-0.etcd.stores.svc.cluster.local:2379",
            "10.96.0.77:2379",
        ] {
            let found = destinations(&[endpoint.to_owned()], std::slice::from_ref(&etcd), &BTreeMap::new());
            assert_eq!(found, std::slice::from_ref(&pods), "{endpoint}");
        }
    }

    #[test]
    fn other_datastores_are_reached_at_their_addresses() {
        let resolved = [("etcd.example.test".to_owned(), vec!["192.0.2.4".parse().unwrap()])].into();
        let endpoints: Vec<String> = [
            "etcd.example.test:2379",
            "192.0.2.3:12379",
            "[2001:db8::1]:2379",
            "rubbish",
        ]
        .map(str::to_owned)
        .into();
        let address = |network: &str, port| Destination::Address {
            network: network.to_owned(),
            port,
        };
        assert_eq!(
            destinations(&endpoints, &[][..], &resolved),
            [
                address("192.0.2.3/32", 12379),
                address("192.0.2.4/32", 2379),
                address("2001:db8::1/128", 2379),
            ]
        );
        assert_eq!(hosts_to_resolve(&endpoints, &[][..]), ["etcd.example.test"]);
    }
}
