//! What control planes need to know of the cluster that they are hosted in, worked out when it changes and not for each
//! of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt;
use runtime::Shared;
use runtime::shared::Change;

use crate::Watches;
use crate::admin_network::{AdminNetwork, node_addresses};

/// The admin cluster, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct AdminCluster {
    /// What pods must not reach.
    pub(crate) network: AdminNetwork,
    /// All Nodes.
    pub(crate) nodes: Vec<Arc<Node>>,
}

/// Follows the watches. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Follower {
    nodes: Shared<Node>,
    service_cidrs: Shared<ServiceCIDR>,
    api_servers: Shared<EndpointSlice>,
    additional: Arc<[IpNet]>,
    /// What was worked out last; `None` when something has changed since. Stores are read with this locked, and it is
    /// emptied after they have changed, so what lies here is never older than the change that somebody woke up for.
    current: Arc<Mutex<Option<Arc<AdminCluster>>>>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl Follower {
    /// `additional` are networks that the administrator names.
    pub(crate) fn new(watches: &Watches, additional: Vec<IpNet>) -> Self {
        let follower = Self {
            nodes: watches.nodes.clone(),
            service_cidrs: watches.service_cidrs.clone(),
            api_servers: watches.api_servers.clone(),
            additional: additional.into(),
            current: Arc::default(),
        };
        let (book, current) = (NodeBook::default(), follower.current.clone());
        follower.nodes.observe(move |change| {
            if book.differs(change) {
                *locked(&current) = None;
            }
        });
        let current = follower.current.clone();
        follower.service_cidrs.observe(move |_| *locked(&current) = None);
        let current = follower.current.clone();
        follower.api_servers.observe(move |_| *locked(&current) = None);
        follower
    }

    /// The admin cluster as it is now. The same allocation as long as nothing has changed.
    pub(crate) fn current(&self) -> Arc<AdminCluster> {
        let mut current = locked(&self.current);
        let known = current.get_or_insert_with(|| {
            let nodes = self.nodes.store().state();
            Arc::new(AdminCluster {
                network: AdminNetwork::new(
                    nodes.iter().map(AsRef::as_ref),
                    self.service_cidrs.store().state().iter().map(AsRef::as_ref),
                    self.api_servers.store().state().iter().map(AsRef::as_ref),
                    &self.additional,
                ),
                nodes,
            })
        });
        known.clone()
    }

    /// Gives whether it is another one than at the last call, for who acts on changes.
    pub(crate) fn changes(&self) -> impl FnMut() -> bool + Send + use<> {
        let (follower, mut last) = (self.clone(), None::<Arc<AdminCluster>>);
        move || {
            let current = follower.current();
            let changed = !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &current));
            last = Some(current);
            changed
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was last seen of each Node. Kubelets write their status all the time; only addresses and networks matter here.
#[derive(Default)]
struct NodeBook(Mutex<HashMap<String, Vec<String>>>);

impl NodeBook {
    fn differs(&self, change: &Change<Node>) -> bool {
        let mut known = locked(&self.0);
        match change {
            Change::Deleted(node) => known.remove(&node.name_any()).is_some(),
            Change::Applied(node) => {
                let mut facts: Vec<String> = node_addresses(node).map(str::to_owned).collect();
                facts.extend(
                    node.spec
                        .iter()
                        .flat_map(|spec| spec.pod_cidrs.iter().flatten())
                        .cloned(),
                );
                known.insert(node.name_any(), facts.clone()) != Some(facts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(address: &str, heartbeat: &str) -> Change<Node> {
        let node = json!({"metadata": {"name": "one", "resourceVersion": heartbeat},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        Change::Applied(Arc::new(serde_json::from_value(node).unwrap()))
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_new_address_is_one() {
        let book = NodeBook::default();
        assert!(book.differs(&node("192.0.2.1", "1")), "it is new");
        assert!(!book.differs(&node("192.0.2.1", "2")));
        assert!(book.differs(&node("192.0.2.2", "3")));
        let gone = Change::Deleted(node("192.0.2.2", "4").object().clone());
        assert!(book.differs(&gone));
        assert!(!book.differs(&gone));
    }
}
