//! TenantOwners: owners that are objects of their own, which tenants select by labels.
//!
//! One may be told to make its subject a tenant user as well (`spec.aggregate`), so that the subject can create namespaces
//! without being named in the CapsuleConfiguration.

use std::collections::HashMap;

use api::capsule::{
    names,
    v1beta2::{CapsuleConfigurationSpec, Tenant, TenantOwner, UserKind, UserSpec},
};
use kube_core::ResourceExt;

use crate::{
    denial::{Decision, Denial},
    selector::Selector,
    settings,
    subject::User,
    tenant_admission::{check_role, check_subject},
};

/// Refuses a TenantOwner whose subject or roles could not be bound.
pub fn validate(owner: &TenantOwner) -> Decision<TenantOwner> {
    check(owner).into()
}

/// What is wrong with a TenantOwner, if anything: admission refuses it, and the status of one that was stored before says it.
///
/// # Errors
/// If the subject is not named, or not as its kind is named; if a role has a name that no ClusterRole can have.
pub fn check(owner: &TenantOwner) -> Result<(), Denial> {
    let core = &owner.spec.core;
    check_subject("spec.name", core.user.kind, &core.user.name)?;
    for (index, role) in core.cluster_roles.iter().enumerate() {
        check_role(&format!("spec.clusterRoles[{index}]"), role)?;
    }
    Ok(())
}

/// The subject that a TenantOwner makes a tenant user, if it does.
pub fn tenant_user(owner: &TenantOwner) -> Option<&UserSpec> {
    let user = &owner.spec.core.user;
    (owner.spec.aggregate && !user.name.is_empty()).then_some(user)
}

/// All tenant users: those that the configuration names, and the subjects that TenantOwners add; sorted, each once.
pub fn users<'a>(spec: &CapsuleConfigurationSpec, owners: impl IntoIterator<Item = &'a TenantOwner>) -> Vec<UserSpec> {
    let mut users = settings::users_of(spec);
    users.extend(owners.into_iter().filter_map(tenant_user).cloned());
    users.sort();
    users.dedup();
    users
}

/// Which TenantOwners a tenant selects: those labelled with its name, and those that `spec.permissions.matchOwners` matches.
#[derive(Clone, Debug)]
pub struct Selection {
    tenant: String,
    selectors: Vec<Selector>,
}

impl Selection {
    /// Of this tenant. A selector that cannot be evaluated was refused at admission, and selects nobody.
    pub fn of(tenant: &Tenant) -> Self {
        let selectors = tenant
            .spec
            .permissions
            .iter()
            .flat_map(|permissions| &permissions.match_owners)
            .filter_map(|selector| Selector::new(selector).ok());
        Self {
            tenant: tenant.name_any(),
            selectors: selectors.collect(),
        }
    }

    /// Whether this one is selected.
    pub fn selects(&self, owner: &TenantOwner) -> bool {
        let labels = owner.labels();
        labels.get(names::PROJECT_TENANT_LABEL) == Some(&self.tenant)
            || self.selectors.iter().any(|selector| selector.matches(labels))
    }
}

/// Whether the two make the same people owners of the same tenants. Statuses differ more often than that.
pub fn means_the_same(one: &TenantOwner, other: &TenantOwner) -> bool {
    one.spec == other.spec && one.labels() == other.labels()
}

/// Whether the tenant's status counts the subject among its owners, wherever the ownership comes from.
pub fn is_counted(owner: &TenantOwner, tenant: &Tenant) -> bool {
    let mut owners = tenant.status.iter().flat_map(|status| &status.owners);
    owners.any(|known| known.user == owner.spec.core.user)
}

/// Names of the tenants whose status counts the subject among their owners, sorted.
pub fn tenants<'a>(owner: &TenantOwner, tenants: impl IntoIterator<Item = &'a Tenant>) -> Vec<String> {
    let owned = tenants.into_iter().filter(|tenant| is_counted(owner, tenant));
    let mut names: Vec<String> = owned.map(ResourceExt::name_any).collect();
    names.sort_unstable();
    names
}

/// Subjects that TenantOwners make tenant users, with how many of them do: one of two may go.
#[derive(Debug, Default)]
pub(crate) struct TenantUsers {
    names: HashMap<Box<str>, usize>,
    groups: HashMap<Box<str>, usize>,
}

impl TenantUsers {
    pub(crate) fn add(&mut self, owner: &TenantOwner) {
        if let Some(user) = tenant_user(owner) {
            *self.of(user.kind).entry(user.name.as_str().into()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, owner: &TenantOwner) {
        let Some(user) = tenant_user(owner) else { return };
        let counts = self.of(user.kind);
        if let Some(count) = counts.get_mut(user.name.as_str()) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user.name.as_str());
            }
        }
    }

    pub(crate) fn hold(&self, user: &User<'_>) -> bool {
        self.names.contains_key(user.name) || user.groups.iter().any(|group| self.groups.contains_key(group.as_str()))
    }

    fn of(&mut self, kind: UserKind) -> &mut HashMap<Box<str>, usize> {
        match kind {
            UserKind::User | UserKind::ServiceAccount => &mut self.names,
            UserKind::Group => &mut self.groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{groups, tenant, tenant_owner};

    #[rstest]
    #[case::a_user(json!({"kind": "User", "name": "alice"}), None)]
    #[case::an_account(json!({"kind": "ServiceAccount", "name": "system:serviceaccount:ci:robot"}), None)]
    #[case::an_account_by_its_short_name(json!({"kind": "ServiceAccount", "name": "robot"}), Some("spec.name"))]
    #[case::an_account_with_a_name_too_many(
        json!({"kind": "ServiceAccount", "name": "system:serviceaccount:a:b:c"}),
        Some("spec.name")
    )]
    #[case::nobody(json!({"kind": "Group", "name": ""}), Some("spec.name"))]
    #[case::a_role_that_is_a_path(
        json!({"kind": "User", "name": "alice", "clusterRoles": ["view", "a/b"]}),
        Some("spec.clusterRoles[1]")
    )]
    fn what_could_not_be_bound_is_refused(#[case] spec: Value, #[case] field: Option<&str>) {
        let decision = validate(&tenant_owner("one", json!({}), spec));
        assert_eq!(decision.denial().map(|denial| denial.field.as_str()), field);
    }

    #[test]
    fn tenants_select_by_label_and_by_their_own_name() {
        let alice = |labels: Value| tenant_owner("alice", labels, json!({"kind": "User", "name": "alice"}));
        let oil = tenant("oil").with(json!({"permissions": {"matchOwners": [
            {"matchLabels": {"team": "oil"}},
            {"matchExpressions": [{"key": "devops", "operator": "Exists"}]},
            {"matchExpressions": [{"key": "devops", "operator": "Nearly"}]},
        ]}}));
        let selection = Selection::of(&oil.build());
        for (labels, expected) in [
            (json!({"team": "oil"}), true),
            (json!({"devops": "yes", "team": "gas"}), true),
            (json!({"projectcapsule.dev/tenant": "oil"}), true),
            (json!({"projectcapsule.dev/tenant": "gas"}), false),
            (json!({"team": "gas"}), false),
            (json!({}), false),
        ] {
            assert_eq!(selection.selects(&alice(labels.clone())), expected, "{labels}");
        }
        let silent = Selection::of(&tenant("oil").build());
        assert!(silent.selects(&alice(json!({"projectcapsule.dev/tenant": "oil"}))));
        assert!(!silent.selects(&alice(json!({"team": "oil"}))));
    }

    #[test]
    fn users_are_those_of_the_configuration_and_those_that_are_added() {
        let spec = serde_json::from_value(json!({"users": [{"kind": "Group", "name": "team"}]})).unwrap();
        let owners = [
            tenant_owner("a", json!({}), json!({"kind": "User", "name": "alice"})),
            tenant_owner("b", json!({}), json!({"kind": "Group", "name": "team"})),
            tenant_owner(
                "c",
                json!({}),
                json!({"kind": "User", "name": "bob", "aggregate": false}),
            ),
        ];
        let found: Vec<String> = users(&spec, &owners)
            .into_iter()
            .map(|user| format!("{} {}", user.kind, user.name))
            .collect();
        assert_eq!(found, ["User alice", "Group team"]);
    }

    #[test]
    fn the_status_of_tenants_says_whom_they_count() {
        let alice = tenant_owner("x", json!({}), json!({"kind": "User", "name": "alice"}));
        let tenants_of_alice = [
            tenant("oil").status_owner("alice").build(),
            tenant("gas").status_owner("alice").build(),
            tenant("sun").owner("alice").build(),
            tenant("sea").status_owner("bob").build(),
        ];
        assert_eq!(tenants(&alice, &tenants_of_alice), ["gas", "oil"]);
    }

    #[test]
    fn a_tenant_user_stays_one_while_one_of_its_objects_is_there() {
        let (one, two) = (
            tenant_owner("one", json!({}), json!({"kind": "Group", "name": "team"})),
            tenant_owner("two", json!({}), json!({"kind": "Group", "name": "team"})),
        );
        let team = groups(&["team"]);
        let alice = User {
            name: "alice",
            groups: &team,
        };
        let mut users = TenantUsers::default();
        users.add(&one);
        users.add(&two);
        users.remove(&one);
        assert!(users.hold(&alice));
        assert!(!users.hold(&User {
            name: "team",
            groups: &[]
        }));
        users.remove(&two);
        assert!(!users.hold(&alice));
    }
}
