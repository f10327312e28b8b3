//! Which namespaces belong to which tenant, kept up to date from the shared watch.
//!
//! A namespace belongs to the tenant whose UID its owner reference carries. The tenant's name and the tenant label
//! are what people read; a tenant that was deleted and made again under its old name owns nothing of its predecessor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Resource, ResourceExt};
use runtime::Shared;
use runtime::shared::Change;
use tenancy::linkage;
use tenancy::promotion::full_name;

/// Name and UID of the Tenant that a namespace's owner references name, if any.
pub fn owner(namespace: &Namespace) -> Option<(&str, &str)> {
    linkage::references(namespace)
        .next()
        .map(|owner| (owner.name.as_str(), owner.uid.as_str()))
}

/// How many ServiceAccounts of one tenant a label makes its owners: the first by name. Owners label as many as they like, and
/// each is a subject of the one binding that lets tenant users create namespaces.
const MOST_PROMOTED: usize = 50;

/// Full names of ServiceAccounts that carry the label of promoted owners, in the namespaces of one tenant, sorted.
pub(crate) fn promoted(accounts: &Shared<ServiceAccount>, is_asked_for: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = accounts
        .store()
        .state()
        .iter()
        .filter(|account| account.metadata.namespace.as_deref().is_some_and(&is_asked_for))
        .map(|account| full_name(account))
        .collect();
    names.sort_unstable();
    names.truncate(MOST_PROMOTED);
    names
}

/// The same over all tenants that let their owners promote. A ServiceAccount in a namespace of nobody is promoted by nobody.
pub(crate) fn promoted_everywhere(
    accounts: &Shared<ServiceAccount>,
    membership: &Membership,
    tenants: &Shared<Tenant>,
) -> Vec<String> {
    let allows = |name: &str, uid: &str| {
        let tenant = tenants.get(None, name);
        tenant.is_some_and(|tenant| {
            let permissions = tenant.spec.permissions.as_ref();
            tenant.metadata.uid.as_deref() == Some(uid)
                && permissions.is_some_and(|permissions| permissions.allow_owner_promotion)
        })
    };
    let mut of_tenant: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
    for account in accounts.store().state() {
        let owner = account
            .metadata
            .namespace
            .as_deref()
            .and_then(|place| membership.owner_of(place));
        if let Some((name, uid)) = owner
            && allows(&name, &uid)
        {
            of_tenant.entry(uid).or_default().push(full_name(&account));
        }
    }
    let first = of_tenant.into_values().flat_map(|mut names| {
        names.sort_unstable();
        names.truncate(MOST_PROMOTED);
        names
    });
    first.collect()
}

/// The accounts in the namespaces asked for, sorted by namespace and name.
pub(crate) fn within(
    accounts: &Shared<ServiceAccount>,
    is_asked_for: impl Fn(&str) -> bool,
) -> Vec<Arc<ServiceAccount>> {
    let mut found = accounts.store().state();
    found.retain(|account| account.metadata.namespace.as_deref().is_some_and(&is_asked_for));
    found.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    found
}

#[derive(Default)]
struct Members {
    /// Tenant UID to names of namespaces.
    of_tenant: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Namespace to name and UID of its tenant.
    tenant_of: HashMap<Arc<str>, (Arc<str>, Arc<str>)>,
}

/// The index. Cheap to clone.
#[derive(Clone, Default)]
pub struct Membership {
    members: Arc<Mutex<Members>>,
}

impl Membership {
    /// A poisoned lock means that a panic happened between two assignments of plain values; they are still valid.
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a change in and says which tenants (by name) it concerns: the owner now and the one before.
    pub fn note(&self, change: &Change<Namespace>) -> Vec<String> {
        let namespace = change.object();
        let name: Arc<str> = namespace.name_any().into();
        let owner = match change {
            Change::Applied(namespace) => owner(namespace),
            Change::Deleted(_) => None,
        };
        let mut members = self.lock();
        let mut concerned: Vec<String> = owner.iter().map(|(name, _)| (*name).to_owned()).collect();
        let before = members.tenant_of.remove(&name);
        if let Some((tenant, uid)) = before {
            if !concerned.iter().any(|name| **name == *tenant) {
                concerned.push(tenant.to_string());
            }
            if let Some(names) = members.of_tenant.get_mut(&uid) {
                names.remove(&name);
                if names.is_empty() {
                    members.of_tenant.remove(&uid);
                }
            }
        }
        if let Some((tenant, uid)) = owner {
            let uid: Arc<str> = uid.into();
            members.of_tenant.entry(uid.clone()).or_default().insert(name.clone());
            members.tenant_of.insert(name, (tenant.into(), uid));
        }
        concerned
    }

    /// Name of the tenant that a namespace belongs to.
    pub fn tenant_of(&self, namespace: &str) -> Option<String> {
        self.lock().tenant_of.get(namespace).map(|(name, _)| name.to_string())
    }

    /// Name and UID of the tenant that a namespace belongs to.
    pub fn owner_of(&self, namespace: &str) -> Option<(Arc<str>, Arc<str>)> {
        self.lock().tenant_of.get(namespace).cloned()
    }

    /// Names of the namespaces of the tenant with this UID, sorted.
    pub fn of_tenant(&self, uid: &str) -> Vec<Arc<str>> {
        self.lock()
            .of_tenant
            .get(uid)
            .map(|names| names.iter().cloned().collect())
            .unwrap_or_default()
    }
}

/// Versions that we wrote and that the watch has not shown yet: what the store holds is older than what we know, so a
/// decision made from it would be made twice. By UID.
#[derive(Clone, Default)]
pub struct Written {
    versions: Arc<Mutex<HashMap<String, u64>>>,
}

impl Written {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note<K: Resource>(&self, answer: &K) {
        let meta = answer.meta();
        if meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().next().is_none() {
            // It ended with this write; nobody will ask about it again.
            return;
        }
        if let (Some(uid), Some(version)) = (&answer.meta().uid, version(answer)) {
            self.lock().insert(uid.clone(), version);
        }
    }

    /// Whether the store has caught up with what we wrote to this object.
    pub fn is_current<K: Resource>(&self, stored: &K) -> bool {
        let Some(uid) = &stored.meta().uid else { return true };
        let mut versions = self.lock();
        match (versions.get(uid), version(stored)) {
            (Some(written), Some(seen)) if seen < *written => false,
            (Some(_), _) => {
                versions.remove(uid);
                true
            }
            (None, _) => true,
        }
    }
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(name: &str, tenant: Option<(&str, &str)>, version: &str) -> Arc<Namespace> {
        let owners = tenant.map(|(name, uid)| {
            json!([{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": name, "uid": uid}])
        });
        let object = json!({"metadata": {"name": name, "uid": format!("uid-of-{name}"), "resourceVersion": version,
            "ownerReferences": owners}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn names(membership: &Membership, uid: &str) -> Vec<String> {
        membership.of_tenant(uid).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_namespace_that_moves_concerns_both_tenants() {
        let membership = Membership::default();
        assert_eq!(
            membership.note(&Change::Applied(namespace("one", Some(("oil", "u1")), "1"))),
            ["oil"]
        );
        assert_eq!(names(&membership, "u1"), ["one"]);
        assert_eq!(
            membership.note(&Change::Applied(namespace("one", Some(("gas", "u2")), "2"))),
            ["gas", "oil"]
        );
        assert_eq!(
            (names(&membership, "u1"), names(&membership, "u2")),
            (vec![], vec!["one".to_owned()])
        );
        assert_eq!(membership.note(&Change::Applied(namespace("one", None, "3"))), ["gas"]);
        assert!(names(&membership, "u2").is_empty());
    }

    #[test]
    fn a_namespace_of_a_former_tenant_of_the_same_name_is_not_the_new_ones() {
        let membership = Membership::default();
        membership.note(&Change::Applied(namespace("old", Some(("oil", "u1")), "1")));
        membership.note(&Change::Applied(namespace("new", Some(("oil", "u2")), "2")));
        assert_eq!(names(&membership, "u2"), ["new"]);
    }

    #[test]
    fn deletion_concerns_the_last_owner() {
        let membership = Membership::default();
        membership.note(&Change::Applied(namespace("one", Some(("oil", "u1")), "1")));
        assert_eq!(
            membership.note(&Change::Deleted(namespace("one", Some(("oil", "u1")), "1"))),
            ["oil"]
        );
        assert!(names(&membership, "u1").is_empty());
    }

    #[test]
    fn foreign_owners_are_no_tenants() {
        let mut object = (*namespace("one", Some(("oil", "u1")), "1")).clone();
        object.owner_references_mut()[0].api_version = "capsule.clastix.io.example.com/v1".to_owned();
        assert_eq!(owner(&object), None);
    }

    #[test]
    fn a_store_that_lags_behind_our_own_write_is_not_believed() {
        let written = Written::default();
        written.note(&*namespace("one", None, "7"));
        assert!(!written.is_current(&*namespace("one", None, "6")));
        assert!(written.is_current(&*namespace("one", None, "7")));
        assert!(
            written.is_current(&*namespace("one", None, "6")),
            "once caught up, the store is the truth"
        );
    }
}
