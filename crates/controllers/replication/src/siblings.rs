//! Objects that several replications make together.
//!
//! Each writes its own fields as a field manager of its own, so that they go with it, and the object goes with the last. Who
//! made an object is taken from statuses, which nobody but the operator writes: what the object says of itself, everybody
//! who may change it can write.

use api::capsule::v1beta2::{GlobalTenantResource, ProcessedItem, ServiceAccountReference, TenantResource};
use kube::ResourceExt;
use runtime::{Index, Shared};
use tenancy::replication::plan::ItemKey;

use crate::task::{Surroundings, Task};

/// Group, kind, namespace and name. Not the version: an object is the same in each.
type Object = (String, String, String, String);

/// Replications by what they made. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Siblings {
    of_tenants: Index<TenantResource, Object>,
    global: Index<GlobalTenantResource, Object>,
}

impl Siblings {
    /// Follows the watches until they end.
    pub(crate) fn of(of_tenants: &Shared<TenantResource>, global: &Shared<GlobalTenantResource>) -> Self {
        Self {
            of_tenants: Index::of(of_tenants, |replication| {
                made(replication.status.iter().flat_map(|status| &status.processed_items))
            }),
            global: Index::of(global, |replication| {
                made(replication.status.iter().flat_map(|status| &status.processed_items))
            }),
        }
    }

    /// Whether another replication made the object that acts as the same account: of the same tenant, where tenants wrote
    /// both, or of administrators, where they did. What one account wrote it may change, with whatever it is told to.
    pub(crate) fn made(&self, task: &Task, key: &ItemKey, surroundings: &Surroundings) -> bool {
        let object = (
            key.kind.group.clone(),
            key.kind.kind.clone(),
            key.namespace.clone(),
            key.name.clone(),
        );
        let account = task.identity.reference();
        let is_same = |of: Option<&ServiceAccountReference>| of == account.as_ref();
        let Some(namespace) = &task.name.namespace else {
            return self.global.get(&object).iter().any(|other| {
                let status = other.status.as_ref();
                other.name_any() != task.name.name && is_same(status.and_then(|status| status.service_account.as_ref()))
            });
        };
        let tenant = |namespace: &str| {
            let namespace = surroundings.namespaces.get(None, namespace)?;
            surroundings.tenant_of(&namespace)?.uid()
        };
        let own = tenant(namespace);
        own.is_some()
            && self.of_tenants.get(&object).iter().any(|other| {
                let (place, status) = (other.namespace().unwrap_or_default(), other.status.as_ref());
                (&place, other.name_any()) != (namespace, task.name.name.clone())
                    && is_same(status.and_then(|status| status.service_account.as_ref()))
                    && tenant(&place) == own
            })
    }
}

fn made<'a>(items: impl Iterator<Item = &'a ProcessedItem>) -> Vec<Object> {
    items
        .filter(|item| item.status.as_ref().is_some_and(|status| status.created))
        .map(|item| {
            (
                item.group.clone(),
                item.kind.clone(),
                item.namespace.clone(),
                item.name.clone(),
            )
        })
        .collect()
}
