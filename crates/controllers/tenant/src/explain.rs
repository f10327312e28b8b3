//! What a tenant's namespaces should hold, for people: the plan as if nothing were there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner, UserKind};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::ResourceExt;
use tenancy::settings::Settings;
use tenancy::subject;

use crate::desired::{Existing, Observed, Plan, plan};
use crate::observe::owner;
use crate::owned::Owned;

/// Everything that is wanted for `tenant`. `namespaces` may hold others' too; only those that carry the tenant's UID count.
/// `tenant_owners` are all that there are, `promotable` the ServiceAccounts that carry the label by which rules promote.
pub fn explain(
    tenant: &Tenant,
    configuration: Option<&CapsuleConfiguration>,
    namespaces: Vec<Namespace>,
    tenant_owners: Vec<TenantOwner>,
    promotable: Vec<ServiceAccount>,
) -> Plan {
    let uid = tenant.uid().unwrap_or_default();
    let mut namespaces: Vec<Arc<Namespace>> = namespaces
        .into_iter()
        .filter(|namespace| owner(namespace).is_some_and(|(_, of)| of == uid))
        .map(Arc::new)
        .collect();
    namespaces.sort_by_key(|namespace| namespace.name_any());
    let settings = Arc::new(Settings::new(configuration, "", ""));
    let observed = Observed {
        promoted: promoted(tenant, &settings, &namespaces),
        promotable: promotable.into_iter().map(Arc::new).collect(),
        tenant_owners: tenant_owners.into_iter().map(Arc::new).collect(),
        settings,
        namespaces,
        behind: BTreeSet::new(),
        records: BTreeMap::new(),
        classes: Existing::default(),
    };
    plan(tenant, &observed, &Owned::default())
}

/// The ServiceAccounts that the controller took for promoted owners when it looked last: those of the tenant's namespaces that
/// own it with the roles of promotion. An owner who is named with these roles as well gains nothing by being counted.
fn promoted(tenant: &Tenant, settings: &Settings, namespaces: &[Arc<Namespace>]) -> Vec<String> {
    let roles = &settings.spec.rbac.promotion_cluster_roles;
    let is_here = |name: &str| {
        subject::service_account(name)
            .is_some_and(|(place, _)| namespaces.iter().any(|namespace| namespace.name_any() == place))
    };
    tenant
        .status
        .iter()
        .flat_map(|status| &status.owners)
        .filter(|owner| owner.user.kind == UserKind::ServiceAccount && is_here(&owner.user.name))
        .filter(|owner| roles.iter().all(|role| owner.cluster_roles.contains(role)))
        .map(|owner| owner.user.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn promoted_owners_keep_their_bindings() {
        let owner = |name: &str, roles: &[&str]| json!({"kind": "ServiceAccount", "name": format!("system:serviceaccount:{name}"), "clusterRoles": roles});
        let both = ["capsule-namespace-deleter", "capsule-namespace-provisioner"];
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil", "uid": "u1"},
            "spec": {"permissions": {"allowOwnerPromotion": true}},
            "status": {"state": "Active", "size": 1, "owners": [
                owner("oil-one:robot", &both), owner("oil-one:reader", &["view"]), owner("elsewhere:robot", &both)]},
        }))
        .unwrap();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "oil-one", "uid": "n1",
            "labels": {"capsule.clastix.io/tenant": "oil"}, "ownerReferences": [
                {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "u1"}]}}))
        .unwrap();
        let configuration: CapsuleConfiguration = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
            "spec": {"allowServiceAccountPromotion": true},
        }))
        .unwrap();

        let plan = explain(&tenant, Some(&configuration), vec![namespace], Vec::new(), Vec::new());

        let owners: Vec<&str> = plan.owners.iter().map(|owner| owner.user.name.as_str()).collect();
        assert_eq!(owners, ["system:serviceaccount:oil-one:robot"]);
        let mut bound: Vec<String> = plan.spaces[0]
            .applies
            .iter()
            .map(|binding| json!(binding)["roleRef"]["name"].to_string())
            .collect();
        // Names of bindings are digests, and they follow these.
        bound.sort();
        let mut expected = both.map(|role| format!("{role:?}"));
        expected.sort();
        assert_eq!(bound, expected);
    }
}
