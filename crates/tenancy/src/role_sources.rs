//! Who names a ClusterRole that a tenant's RoleBindings refer to, for the sentence about one that does not exist.

use std::sync::Arc;

use api::capsule::v1beta2::{Tenant, TenantOwner};
use kube_core::ResourceExt;

use crate::{settings::Settings, tenant_owners::Selection};

/// More places than this help nobody.
const PLACES: usize = 3;

/// The fields that name the role, with the object they are of if that is not the tenant: `spec.owners[0].clusterRoles`,
/// `spec.clusterRoles of the TenantOwner "alice"`. The first few, and how many more there are.
///
/// `tenant_owners` are all that there are. The configuration's own roles are named whether or not somebody has them.
pub fn of(tenant: &Tenant, tenant_owners: &[Arc<TenantOwner>], settings: &Settings, role: &str) -> Vec<String> {
    let names = |roles: &[String]| roles.iter().any(|named| named == role);
    let mut places = Vec::new();
    for (index, owner) in tenant.spec.owners.iter().enumerate() {
        if names(&owner.core.cluster_roles) {
            places.push(format!("spec.owners[{index}].clusterRoles"));
        }
    }
    for (index, binding) in tenant.spec.additional_role_bindings.iter().enumerate() {
        if binding.cluster_role_name == role {
            places.push(format!("spec.additionalRoleBindings[{index}].clusterRoleName"));
        }
    }
    for (index, rule) in tenant.spec.rules.iter().enumerate() {
        let Some(permissions) = &rule.permissions else { continue };
        let field = format!("spec.rules[{index}].permissions");
        for (index, binding) in permissions.bindings.iter().enumerate() {
            if binding.cluster_role_name == role {
                places.push(format!("{field}.bindings[{index}].clusterRoleName"));
            }
        }
        for (index, promotion) in permissions.promotions.iter().enumerate() {
            if names(&promotion.cluster_roles) {
                places.push(format!("{field}.promotions[{index}].clusterRoles"));
            }
        }
    }
    let selection = Selection::of(tenant);
    for owner in tenant_owners {
        if names(&owner.spec.core.cluster_roles) && selection.selects(owner) {
            places.push(format!("spec.clusterRoles of the TenantOwner {:?}", owner.name_any()));
        }
    }
    let rbac = &settings.spec.rbac;
    for (field, roles) in [
        ("administrationClusterRoles", &rbac.administration_cluster_roles),
        ("promotionClusterRoles", &rbac.promotion_cluster_roles),
    ] {
        if names(roles) {
            places.push(format!("spec.rbac.{field} of the CapsuleConfiguration"));
        }
    }
    let more = places.len().saturating_sub(PLACES);
    places.truncate(PLACES);
    if more > 0 {
        places.push(format!("and {more} more"));
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{settings, tenant, tenant_owner};

    #[test]
    fn every_place_that_names_a_role_is_found() {
        let binding = |role: &str| json!({"clusterRoleName": role, "subjects": []});
        let oil = tenant("oil").with(json!({
            "owners": [
                {"kind": "User", "name": "olga", "clusterRoles": ["admin"]},
                {"kind": "User", "name": "alice", "clusterRoles": ["admin", "a"]},
            ],
            "additionalRoleBindings": [binding("b")],
            "rules": [
                {},
                {"permissions": {
                    "bindings": [binding("view"), binding("c")],
                    "promotions": [{"clusterRoles": ["d", "view"]}],
                }},
            ],
            "permissions": {"matchOwners": [{"matchLabels": {"team": "oil"}}]},
        }));
        let owner = |name: &str, team: &str| {
            let spec = json!({"kind": "User", "name": name, "clusterRoles": ["e"]});
            Arc::new(tenant_owner(name, json!({"team": team}), spec))
        };
        let owners = [owner("bob", "oil"), owner("carol", "gas")];
        let settings = settings(json!({"rbac": {
            "administrationClusterRoles": ["f"], "promotionClusterRoles": ["g"],
        }}));
        let oil = oil.build();
        let of = |role: &str| of(&oil, &owners, &settings, role);
        for (role, place) in [
            ("a", "spec.owners[1].clusterRoles"),
            ("b", "spec.additionalRoleBindings[0].clusterRoleName"),
            ("c", "spec.rules[1].permissions.bindings[1].clusterRoleName"),
            ("d", "spec.rules[1].permissions.promotions[0].clusterRoles"),
            ("e", "spec.clusterRoles of the TenantOwner \"bob\""),
            ("f", "spec.rbac.administrationClusterRoles of the CapsuleConfiguration"),
            ("g", "spec.rbac.promotionClusterRoles of the CapsuleConfiguration"),
        ] {
            assert_eq!(of(role), [place], "{role}");
        }
        assert_eq!(of("admin").len(), 2);
        assert_eq!(of("nobody names it"), Vec::<String>::new());
    }

    #[test]
    fn of_many_places_the_first_are_named() {
        let owners: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| json!({"kind": "User", "name": name, "clusterRoles": ["x"]}))
            .into();
        let oil = tenant("oil").with(json!({"owners": owners})).build();
        assert_eq!(
            of(&oil, &[], &settings(json!({})), "x"),
            [
                "spec.owners[0].clusterRoles",
                "spec.owners[1].clusterRoles",
                "spec.owners[2].clusterRoles",
                "and 2 more"
            ]
        );
    }
}
