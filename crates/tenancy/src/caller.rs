//! What somebody is to us: an administrator, a tenant user, or nobody that tenancy is about.
//!
//! "Nobody" is most of a cluster: its own controllers, nodes, and administrators that the configuration does not name.
//! They are not held to what tenant users are held to, and may not do either what only administrators of tenants do.

use crate::{index::View, settings::Settings, subject::User};

/// ServiceAccounts of Kubernetes' own controllers. Never tenant users, whatever the configuration says.
const SYSTEM_GROUP: &str = "system:serviceaccounts:kube-system";

/// What somebody is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Owns every tenant and is held to nothing.
    Administrator,
    /// Creates namespaces of tenants, and is held to what tenants may do.
    TenantUser,
    /// Neither.
    Unknown,
}

/// Says what a user is, in this order: the operator itself is an administrator; a member of an ignored group is
/// nobody; then administrators, then tenant users.
pub fn classify(user: &User<'_>, settings: &Settings, view: &View) -> Caller {
    if settings.is_operator(user) {
        return Caller::Administrator;
    }
    if settings.ignored_groups.iter().any(|group| user.is_in(group)) {
        return Caller::Unknown;
    }
    if settings.administrators.hold(user) {
        return Caller::Administrator;
    }
    if is_tenant_user(user, settings, view) {
        Caller::TenantUser
    } else {
        Caller::Unknown
    }
}

/// Named by the configuration or by a TenantOwner, or a ServiceAccount that lives in a tenant's namespace.
fn is_tenant_user(user: &User<'_>, settings: &Settings, view: &View) -> bool {
    if user.is_in(SYSTEM_GROUP) {
        return false;
    }
    // A namespace that does not say clearly whose it is holds tenant users all the more.
    let lives_in_a_tenant = || {
        let home = user
            .service_account()
            .and_then(|(namespace, _)| view.namespace(namespace));
        home.is_some_and(|namespace| !matches!(namespace.tenant, Ok(None)))
    };
    settings.users.hold(user) || view.is_tenant_user(user) || lives_in_a_tenant()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{groups, namespace, settings, tenant, tenant_owner};
    use crate::index::Index;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::the_operator_itself("system:serviceaccount:cotenant-system:cotenant", &[], Caller::Administrator)]
    #[case::the_operator_in_an_ignored_group("system:serviceaccount:cotenant-system:cotenant", &["ignored"], Caller::Administrator)]
    #[case::another_account_of_its_namespace("system:serviceaccount:cotenant-system:other", &[], Caller::Unknown)]
    #[case::an_administrator_by_name("root", &[], Caller::Administrator)]
    #[case::an_administrator_by_group("eve", &["platform"], Caller::Administrator)]
    #[case::an_administrator_who_is_a_user_too("root", &["projectcapsule.dev"], Caller::Administrator)]
    #[case::an_ignored_group_beats_administrators("root", &["ignored"], Caller::Unknown)]
    #[case::a_user_by_group("alice", &["projectcapsule.dev"], Caller::TenantUser)]
    #[case::a_user_by_name("bob", &[], Caller::TenantUser)]
    #[case::an_ignored_user("bob", &["ignored"], Caller::Unknown)]
    #[case::somebody_else("kubernetes-admin", &["system:masters"], Caller::Unknown)]
    #[case::nobody("", &[], Caller::Unknown)]
    #[case::a_service_account_in_a_tenant("system:serviceaccount:oil-one:robot", &[], Caller::TenantUser)]
    #[case::a_service_account_in_an_unclear_namespace("system:serviceaccount:torn:robot", &[], Caller::TenantUser)]
    #[case::a_service_account_elsewhere("system:serviceaccount:monitoring:robot", &[], Caller::Unknown)]
    #[case::a_user_by_an_object("tom", &[], Caller::TenantUser)]
    #[case::an_owner_by_an_object_that_is_no_user("zoe", &[], Caller::Unknown)]
    #[case::a_listed_service_account("system:serviceaccount:ci:deployer", &[], Caller::TenantUser)]
    #[case::a_controller_of_kubernetes(
        "system:serviceaccount:kube-system:replicaset-controller",
        &["system:serviceaccounts:kube-system", "projectcapsule.dev"],
        Caller::Unknown
    )]
    fn a_caller_is(#[case] name: &str, #[case] member_of: &[&str], #[case] expected: Caller) {
        let index = Index::default();
        index.put_tenant(tenant("oil").into());
        index.put_namespace(&namespace("oil-one").of("oil").build());
        index.put_namespace(&namespace("torn").label("capsule.clastix.io/tenant", "oil").build());
        index.put_namespace(&namespace("monitoring").build());
        for (name, aggregate) in [("tom", true), ("zoe", false)] {
            let spec = json!({"kind": "User", "name": name, "aggregate": aggregate});
            index.put_tenant_owner(&tenant_owner(name, json!({}), spec).into());
        }
        let settings = settings(json!({
            "users": [
                {"kind": "Group", "name": "projectcapsule.dev"},
                {"kind": "User", "name": "bob"},
                {"kind": "ServiceAccount", "name": "system:serviceaccount:ci:deployer"},
            ],
            "administrators": [{"kind": "User", "name": "root"}, {"kind": "Group", "name": "platform"}],
            "ignoreUserWithGroups": ["ignored"],
        }));
        let member_of = groups(member_of);
        assert_eq!(
            classify(
                &User {
                    name,
                    groups: &member_of
                },
                &settings,
                &View::new(&index)
            ),
            expected
        );
    }
}
