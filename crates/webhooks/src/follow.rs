//! Feeds the index of tenants, their owners and namespaces from the watches.

use std::sync::Arc;

use api::capsule::v1beta2::{GlobalTenantResource, Tenant, TenantOwner, TenantResource};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use runtime::Shared;
use runtime::shared::Change;
use tenancy::index::Index;
use tenancy::replication::guard::Made;
use tenancy::replication::identity::ReplicationName;
use tokio::sync::watch;

/// The index, and a tick for whoever waits for a tenant, or its owner, to appear in it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) index: Index,
    pub(crate) made: Arc<Made>,
    tenants: watch::Sender<u64>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            index: Index::default(),
            made: Arc::default(),
            tenants: watch::Sender::new(0),
        }
    }
}

impl Follower {
    /// Follows the watches until they end.
    pub(crate) fn follow(
        &self,
        tenants: &Shared<Tenant>,
        tenant_owners: &Shared<TenantOwner>,
        namespaces: &Shared<Namespace>,
    ) {
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
        let (index, ticks, mut changes) = (self.index.clone(), self.tenants.clone(), tenant_owners.changes());
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Applied(owner) => index.put_tenant_owner(&owner),
                    Change::Deleted(owner) => index.remove_tenant_owner(&owner.name_any()),
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

    /// Follows what replications say that they made, before anybody who asks the stores hears of it.
    pub(crate) fn follow_replications(
        &self,
        of_tenants: &Shared<TenantResource>,
        global: &Shared<GlobalTenantResource>,
    ) {
        let made = self.made.clone();
        of_tenants.observe(move |change| {
            let object = change.object();
            let name = ReplicationName {
                namespace: object.namespace(),
                name: object.name_any(),
            };
            match (change, &object.status) {
                (Change::Applied(_), Some(status)) => {
                    made.put(&name, status.service_account.as_ref(), &status.processed_items);
                }
                _ => made.remove(&name),
            }
        });
        let made = self.made.clone();
        global.observe(move |change| {
            let object = change.object();
            let name = ReplicationName {
                namespace: None,
                name: object.name_any(),
            };
            match (change, &object.status) {
                (Change::Applied(_), Some(status)) => {
                    made.put(&name, status.service_account.as_ref(), &status.processed_items);
                }
                _ => made.remove(&name),
            }
        });
    }

    /// Ticks with every change of a tenant or a TenantOwner that the index has taken in.
    pub(crate) fn tenant_ticks(&self) -> watch::Receiver<u64> {
        self.tenants.subscribe()
    }
}
