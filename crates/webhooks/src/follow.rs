//! Feeds the index of tenants and namespaces from the watches.

use api::capsule::v1beta2::Tenant;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use runtime::Shared;
use runtime::shared::Change;
use tenancy::index::Index;
use tokio::sync::watch;

/// The index, and a tick for whoever waits for a tenant to appear in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) index: Index,
    tenants: watch::Sender<u64>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            index: Index::default(),
            tenants: watch::Sender::new(0),
        }
    }
}

impl Follower {
    /// Follows the watches until they end.
    pub(crate) fn follow(&self, tenants: &Shared<Tenant>, namespaces: &Shared<Namespace>) {
        let (index, ticks, mut changes) = (self.index.clone(), self.tenants.clone(), tenants.changes());
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Applied(tenant) => index.put_tenant(tenant),
                    Change::Deleted(tenant) => index.remove_tenant(&tenant.name_any()),
                }
                ticks.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        let (index, mut changes) = (self.index.clone(), namespaces.changes());
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Applied(namespace) => index.put_namespace(&namespace),
                    Change::Deleted(namespace) => index.remove_namespace(&namespace.name_any()),
                }
            }
        });
    }

    /// Ticks with every change of a tenant that the index has taken in.
    pub(crate) fn tenant_ticks(&self) -> watch::Receiver<u64> {
        self.tenants.subscribe()
    }
}
