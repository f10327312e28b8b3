//! Who owns a tenant.
//!
//! Owners come from the tenant itself, from TenantOwner objects, from promoted ServiceAccounts and from the
//! configuration's administrators. The controller collects all of them into `status.owners` ([`effective`]) and binds their
//! roles. Admission looks at `spec.owners` and at the TenantOwners as well, so that a tenant can be used from the moment it
//! exists, and by an owner from the moment that one does.

use std::{collections::BTreeMap, sync::Arc};

use api::capsule::v1beta2::{CoreOwner, Tenant, TenantOwner, UserKind, UserSpec};

use crate::{settings::Settings, subject::Subjects, tenant_owners::Selection};

/// Kind and name of everybody who owns the tenant: those it names and those the controller found. May repeat.
pub fn named(tenant: &Tenant) -> impl Iterator<Item = (UserKind, &str)> {
    let found = tenant.status.iter().flat_map(|status| &status.owners);
    let owners = tenant.spec.owners.iter().map(|owner| &owner.core).chain(found);
    owners
        .map(|owner| (owner.user.kind, owner.user.name.as_str()))
        .filter(|(_, name)| !name.is_empty())
}

/// The owners of a tenant, to compare callers with.
pub(crate) fn subjects(tenant: &Tenant) -> Subjects {
    let mut subjects = Subjects::default();
    for (kind, name) in named(tenant) {
        subjects.insert(kind, name);
    }
    subjects
}

/// Where owners come from besides the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// All TenantOwner objects.
    pub tenant_owners: &'a [Arc<TenantOwner>],
    /// Full names of the ServiceAccounts in the tenant's namespaces that are labelled
    /// `owner.projectcapsule.dev/promote=true`.
    pub promoted: &'a [String],
}

/// Everybody who owns the tenant, with the roles that each has in its namespaces: sorted by kind and name, each once, roles
/// sorted.
pub fn effective(tenant: &Tenant, sources: Sources<'_>, settings: &Settings) -> Vec<CoreOwner> {
    let mut owners: BTreeMap<UserSpec, Vec<String>> = BTreeMap::new();
    let mut add = |user: &UserSpec, roles: &[String]| {
        if !user.name.is_empty() {
            owners.entry(user.clone()).or_default().extend_from_slice(roles);
        }
    };
    for owner in &tenant.spec.owners {
        add(&owner.core.user, &owner.core.cluster_roles);
    }
    let promotion = tenant
        .spec
        .permissions
        .as_ref()
        .is_some_and(|permissions| permissions.allow_owner_promotion);
    if promotion && settings.allow_promotion {
        for name in sources.promoted {
            let user = UserSpec {
                kind: UserKind::ServiceAccount,
                name: name.clone(),
            };
            add(&user, &settings.spec.rbac.promotion_cluster_roles);
        }
    }
    for user in &settings.spec.administrators {
        add(user, &settings.spec.rbac.administration_cluster_roles);
    }
    let selection = Selection::of(tenant);
    for owner in sources.tenant_owners {
        if selection.selects(owner) {
            add(&owner.spec.core.user, &owner.spec.core.cluster_roles);
        }
    }
    owners
        .into_iter()
        .map(|(user, mut cluster_roles)| {
            cluster_roles.sort();
            cluster_roles.dedup();
            CoreOwner { user, cluster_roles }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{settings, tenant, tenant_owner};
    use serde_json::json;

    fn viewer(name: &str, labels: serde_json::Value) -> Arc<TenantOwner> {
        let spec = json!({"kind": "User", "name": name, "clusterRoles": ["view"]});
        Arc::new(tenant_owner(name, labels, spec))
    }

    fn said(owners: &[CoreOwner]) -> Vec<String> {
        owners
            .iter()
            .map(|owner| {
                format!(
                    "{} {}: {}",
                    owner.user.kind,
                    owner.user.name,
                    owner.cluster_roles.join(" ")
                )
            })
            .collect()
    }

    #[test]
    fn owners_of_all_sources_are_merged_and_sorted() {
        let oil = tenant("oil").owner_group("team").owner("olga").with(json!({
            "permissions": {"matchOwners": [{"matchLabels": {"team": "oil"}}]},
        }));
        let settings = settings(json!({
            "administrators": [{"kind": "User", "name": "olga"}, {"kind": "Group", "name": "platform"}],
            "allowServiceAccountPromotion": true,
        }));
        let sources = Sources {
            tenant_owners: &[
                viewer("selected", json!({"team": "oil"})),
                viewer("named", json!({"projectcapsule.dev/tenant": "oil"})),
                viewer("other", json!({"team": "gas"})),
            ],
            promoted: &["system:serviceaccount:oil-one:robot".to_owned()],
        };
        assert_eq!(
            said(&effective(&oil.build(), sources, &settings)),
            [
                "User named: view",
                "User olga: admin capsule-namespace-deleter",
                "User selected: view",
                "Group platform: capsule-namespace-deleter",
                "Group team: admin capsule-namespace-deleter",
                "ServiceAccount system:serviceaccount:oil-one:robot: capsule-namespace-deleter capsule-namespace-provisioner",
            ]
        );
    }

    #[test]
    fn promotion_needs_the_configuration_and_the_tenant() {
        let promoted = ["system:serviceaccount:oil-one:robot".to_owned()];
        let sources = Sources {
            promoted: &promoted,
            ..Sources::default()
        };
        let allowed = settings(json!({"allowServiceAccountPromotion": true}));
        let (forbidden, silent) = (settings(json!({})), tenant("oil").build());
        let willing = tenant("oil").with(json!({"permissions": {}})).build();
        assert_eq!(effective(&willing, sources, &allowed).len(), 1);
        assert_eq!(effective(&willing, sources, &forbidden).len(), 0);
        assert_eq!(effective(&silent, sources, &allowed).len(), 0);
    }
}
