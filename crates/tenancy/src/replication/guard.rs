//! Who may change what a replication made: that replication, as the ServiceAccount that it last wrote as.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use api::capsule::v1beta2::{ProcessedItem, ServiceAccountReference};
use kube_core::{ApiResource, GroupVersionKind};

use super::identity::ReplicationName;
use crate::denial::Denial;
use crate::subject::User;

/// Group, kind, namespace and name. Not the version: an object is the same in each.
type Object = (String, String, String, String);

/// Which replication made which object, by what their statuses list.
#[derive(Debug, Default)]
pub struct Made {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    makers: HashMap<Object, BTreeSet<ReplicationName>>,
    /// By replication: the user it writes as, and what it made.
    of: HashMap<ReplicationName, (Option<String>, Vec<Object>)>,
}

impl Made {
    /// A replication as its status is now. A tenant's writes as ServiceAccounts of its own namespace, whatever a status says.
    pub fn put(&self, name: &ReplicationName, account: Option<&ServiceAccountReference>, items: &[ProcessedItem]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(name);
        let made: Vec<Object> = items
            .iter()
            .filter(|item| item.status.as_ref().is_some_and(|status| status.created))
            .map(|item| {
                (
                    item.group.clone(),
                    item.kind.clone(),
                    item.namespace.clone(),
                    item.name.clone(),
                )
            })
            .collect();
        if made.is_empty() {
            return;
        }
        for object in &made {
            known.makers.entry(object.clone()).or_default().insert(name.clone());
        }
        let account = account.filter(|it| {
            name.namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == it.namespace)
        });
        let user = account.map(|it| format!("system:serviceaccount:{}:{}", it.namespace, it.name));
        known.of.insert(name.clone(), (user, made));
    }

    /// A replication that is gone.
    pub fn remove(&self, name: &ReplicationName) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether the user may change how many replicas an object has. Such a request names the resource, not the kind; one whose
    /// plural is not that of Kubernetes' convention is not found.
    ///
    /// # Errors
    /// As [`Self::decide`].
    pub fn decide_scale(
        &self,
        user: &User<'_>,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        are_of_one_tenant: impl Fn(&str, &str) -> bool,
    ) -> Result<(), Denial> {
        let kinds = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.kinds(group, resource, namespace, name)
        };
        let mut kinds = kinds.iter();
        kinds.try_for_each(|kind| self.decide(user, group, kind, namespace, name, &are_of_one_tenant))
    }

    /// Whether the user may change or delete the object. `are_of_one_tenant` says so of two namespaces: a tenant's replication
    /// makes nothing elsewhere, whatever its status says. What an administrator's replication makes, no tenant's does.
    ///
    /// # Errors
    /// If a replication made it, and the user is not who writes for one that did.
    pub fn decide(
        &self,
        user: &User<'_>,
        group: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        are_of_one_tenant: impl Fn(&str, &str) -> bool,
    ) -> Result<(), Denial> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let object = (group.to_owned(), kind.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(makers) = known.makers.get(&object) else {
            return Ok(());
        };
        let writes = |maker: &ReplicationName| {
            let account = known.of.get(maker).and_then(|(account, _)| account.as_deref());
            account == Some(user.name)
        };
        let is_global = makers.iter().any(|maker| maker.namespace.is_none());
        let counts = |maker: &&ReplicationName| match &maker.namespace {
            None => true,
            Some(own) => !is_global && are_of_one_tenant(own, namespace),
        };
        let mut makers = makers.iter().filter(counts).peekable();
        let Some(maker) = makers.peek().copied() else {
            return Ok(());
        };
        if makers.any(writes) {
            return Ok(());
        }
        let by = match &maker.namespace {
            None => format!("a global capsule replication {}", maker.name),
            Some(namespace) => format!("a tenant capsule replication {}/{namespace}", maker.name),
        };
        Err(Denial::new(
            "metadata",
            "TenantResourceWriteOp",
            format!("resource {name} is managed by {by}; change that instead, or delete it to let this object go"),
        ))
    }
}

impl Known {
    /// The kinds of what was made under this name and is served as this resource, by the convention that plurals follow.
    fn kinds(&self, group: &str, resource: &str, namespace: &str, name: &str) -> BTreeSet<String> {
        let is_meant = |(its_group, kind, its_namespace, its_name): &&Object| {
            let found = (its_group.as_str(), its_namespace.as_str(), its_name.as_str());
            let gvk = || GroupVersionKind::gvk(group, "", kind);
            found == (group, namespace, name) && ApiResource::from_gvk(&gvk()).plural == resource
        };
        let found = self.makers.keys().filter(is_meant);
        found.map(|(_, kind, ..)| kind.clone()).collect()
    }

    fn remove(&mut self, name: &ReplicationName) {
        for object in self.of.remove(name).into_iter().flat_map(|(_, made)| made) {
            if let Some(makers) = self.makers.get_mut(&object) {
                makers.remove(name);
                if makers.is_empty() {
                    self.makers.remove(&object);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;
    use serde_json::json;

    use super::*;

    fn item(name: &str, created: bool) -> ProcessedItem {
        serde_json::from_value(
            json!({"version": "v1", "kind": "Secret", "namespace": "oil-a", "name": name,
            "status": {"type": "Ready", "status": "True", "created": created}}),
        )
        .unwrap()
    }

    #[test]
    fn only_the_replications_own_service_account_changes_what_it_made() {
        let made = Made::default();
        let name = ReplicationName {
            namespace: Some("oil-a".to_owned()),
            name: "secrets".to_owned(),
        };
        let account = ServiceAccountReference {
            name: "r".to_owned(),
            namespace: "oil-a".to_owned(),
        };
        made.put(&name, Some(&account), &[item("s", true), item("adopted", false)]);
        let asked = |user: &str, object: &str| {
            let info = UserInfo {
                username: Some(user.to_owned()),
                groups: Some(vec!["system:masters".to_owned()]),
                ..UserInfo::default()
            };
            let same = |one: &str, other: &str| one == other;
            made.decide(&User::of(&info), "", "Secret", "oil-a", object, same)
        };
        assert!(asked("system:serviceaccount:oil-a:r", "s").is_ok());
        let denial = asked("kubernetes-admin", "s").unwrap_err();
        assert!(
            denial
                .to_string()
                .contains("resource s is managed by a tenant capsule replication secrets/oil-a"),
            "{denial}"
        );
        assert!(asked("kubernetes-admin", "adopted").is_ok());
        assert!(asked("kubernetes-admin", "other").is_ok());
        made.put(&name, Some(&account), &[]);
        assert!(asked("kubernetes-admin", "s").is_ok());
    }

    #[test]
    fn how_many_replicas_it_has_is_for_the_replication_as_well() {
        let made = Made::default();
        let name = ReplicationName {
            namespace: None,
            name: "apps".to_owned(),
        };
        let item = |group: &str, kind: &str| {
            serde_json::from_value(
                json!({"group": group, "version": "v1", "kind": kind, "namespace": "oil-a", "name": "web",
                "status": {"type": "Ready", "status": "True", "created": true}}),
            )
            .unwrap()
        };
        made.put(
            &name,
            None,
            &[item("apps", "Deployment"), item("example.com", "DataProxy")],
        );
        let info = UserInfo::default();
        let asked = |group: &str, resource: &str, namespace: &str, name: &str| {
            let same = |one: &str, other: &str| one == other;
            made.decide_scale(&User::of(&info), group, resource, namespace, name, same)
                .is_ok()
        };
        assert!(!asked("apps", "deployments", "oil-a", "web"));
        assert!(!asked("example.com", "dataproxies", "oil-a", "web"));
        for (group, resource, namespace, name) in [
            ("apps", "statefulsets", "oil-a", "web"),
            ("example.com", "deployments", "oil-a", "web"),
            ("apps", "deployments", "oil-b", "web"),
            ("apps", "deployments", "oil-a", "other"),
        ] {
            assert!(
                asked(group, resource, namespace, name),
                "{group} {resource} {namespace} {name}"
            );
        }
    }

    #[test]
    fn what_a_tenants_status_says_counts_in_its_tenant_alone() {
        let made = Made::default();
        let replication = |namespace: Option<&str>| ReplicationName {
            namespace: namespace.map(str::to_owned),
            name: "r".to_owned(),
        };
        let account = |namespace: &str, name: &str| ServiceAccountReference {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        };
        let asked = |user: &str| {
            let info = UserInfo {
                username: Some(format!("system:serviceaccount:{user}")),
                ..UserInfo::default()
            };
            let tenant = |namespace: &str| namespace.split('-').next().map(str::to_owned);
            made.decide(&User::of(&info), "", "Secret", "oil-a", "s", |one, other| {
                tenant(one) == tenant(other)
            })
        };
        // Another tenant's status neither locks nor opens anything here.
        made.put(
            &replication(Some("gas-a")),
            Some(&account("gas-a", "g")),
            &[item("s", true)],
        );
        assert!(asked("oil-a:anybody").is_ok());
        // An account of another namespace is none.
        made.put(
            &replication(Some("oil-b")),
            Some(&account("oil-a", "o")),
            &[item("s", true)],
        );
        assert!(asked("oil-a:o").is_err());
        made.put(
            &replication(Some("oil-b")),
            Some(&account("oil-b", "o")),
            &[item("s", true)],
        );
        assert!(asked("oil-b:o").is_ok() && asked("gas-a:g").is_err());
        // An administrator's replication is above theirs.
        made.put(&replication(None), Some(&account("system", "p")), &[item("s", true)]);
        assert!(asked("oil-b:o").is_err() && asked("system:p").is_ok());
    }
}
