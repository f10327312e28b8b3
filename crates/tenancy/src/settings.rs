//! The CapsuleConfiguration as decisions use it: looked up instead of searched, compiled instead of parsed.
//!
//! A configuration with a pattern that cannot be compiled does not stop anything that does not need the pattern; where
//! it is needed the answer is an error, never "matches" or "does not match".

use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{CapsuleConfiguration, CapsuleConfigurationSpec, UserKind, UserSpec};

use crate::{
    pattern::{InvalidPattern, Pattern},
    subject::{self, Subjects, User},
};

/// What decisions ask of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tenant users, wherever that comes from.
    pub users: Subjects,
    /// Who owns every tenant.
    pub administrators: Subjects,
    /// Members of these groups are neither.
    pub ignored_groups: Vec<String>,
    /// The user name of the operator itself.
    pub operator: String,
    /// The operator's own namespace.
    pub operator_namespace: String,
    /// Where a tenant does not say.
    pub force_tenant_prefix: bool,
    /// Whether ServiceAccounts may be promoted.
    pub allow_promotion: bool,
    /// Names that namespaces of tenants may not match. `None`: there is no such pattern.
    pub protected_namespaces: Option<Result<Pattern, InvalidPattern>>,
    /// The configuration that all this comes from; [`defaults`], if there is none.
    pub spec: Arc<CapsuleConfigurationSpec>,
}

impl Settings {
    /// From the configuration, or from [`defaults`], for an operator that runs as this ServiceAccount.
    pub fn new(configuration: Option<&CapsuleConfiguration>, operator_namespace: &str, service_account: &str) -> Self {
        let spec = configuration.map_or_else(defaults, |configuration| configuration.spec.clone());
        let status = configuration.and_then(|configuration| configuration.status.as_ref());
        let mut users = Subjects::default();
        for user in users_of(&spec)
            .iter()
            .chain(status.iter().flat_map(|status| &status.users))
        {
            users.insert(user.kind, &user.name);
        }
        let pattern = &spec.protected_namespace_regex;
        Self {
            users,
            administrators: spec.administrators.iter().collect(),
            ignored_groups: spec.ignore_user_with_groups.clone(),
            operator: format!("system:serviceaccount:{operator_namespace}:{service_account}"),
            operator_namespace: operator_namespace.to_owned(),
            force_tenant_prefix: spec.force_tenant_prefix,
            allow_promotion: spec.allow_service_account_promotion,
            protected_namespaces: (!pattern.is_empty()).then(|| Pattern::new(pattern)),
            spec: Arc::new(spec),
        }
    }

    /// Whether this is the operator itself.
    pub fn is_operator(&self, user: &User<'_>) -> bool {
        user.name == self.operator
    }
}

/// What holds while there is no CapsuleConfiguration, and what is written into one that the operator makes: the members of one
/// group are tenant users, everything else is as a field that is absent.
pub fn defaults() -> CapsuleConfigurationSpec {
    CapsuleConfigurationSpec {
        users: vec![UserSpec {
            kind: UserKind::Group,
            name: names::DEFAULT_USER_GROUP.to_owned(),
        }],
        cache_invalidation: "1h".to_owned(),
        ..CapsuleConfigurationSpec::default()
    }
}

/// The tenant users that a configuration names, in the current and in the deprecated fields; sorted, each once.
pub fn users_of(spec: &CapsuleConfigurationSpec) -> Vec<UserSpec> {
    let named = spec.user_names.iter().map(|name| {
        let kind = if subject::service_account(name).is_some() {
            UserKind::ServiceAccount
        } else {
            UserKind::User
        };
        UserSpec {
            kind,
            name: name.clone(),
        }
    });
    let groups = spec.user_groups.iter().map(|name| UserSpec {
        kind: UserKind::Group,
        name: name.clone(),
    });
    let mut users: Vec<_> = spec.users.iter().cloned().chain(named).chain(groups).collect();
    users.sort();
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deprecated_fields_name_users_too() {
        let spec: CapsuleConfigurationSpec = serde_json::from_value(serde_json::json!({
            "users": [{"kind": "Group", "name": "team"}],
            "userNames": ["alice", "system:serviceaccount:a:b"],
            "userGroups": ["team", "other"],
        }))
        .unwrap();
        let users: Vec<_> = users_of(&spec).into_iter().map(|user| (user.kind, user.name)).collect();
        assert_eq!(
            users,
            [
                (UserKind::User, "alice".to_owned()),
                (UserKind::Group, "other".to_owned()),
                (UserKind::Group, "team".to_owned()),
                (UserKind::ServiceAccount, "system:serviceaccount:a:b".to_owned()),
            ]
        );
    }

    #[test]
    fn a_pattern_that_cannot_be_compiled_is_remembered_as_such() {
        let mut configuration = CapsuleConfiguration::new("default", CapsuleConfigurationSpec::default());
        configuration.spec.protected_namespace_regex = "(".into();
        let settings = Settings::new(Some(&configuration), "cotenant-system", "cotenant");
        assert!(matches!(settings.protected_namespaces, Some(Err(_))));
        assert_eq!(settings.operator, "system:serviceaccount:cotenant-system:cotenant");
    }

    #[test]
    fn without_a_configuration_the_members_of_one_group_are_tenant_users() {
        let settings = Settings::new(None, "a", "b");
        let groups = ["projectcapsule.dev".to_owned()];
        let alice = User {
            name: "alice",
            groups: &groups,
        };
        assert!(settings.users.hold(&alice));
        assert!(!settings.users.hold(&User { groups: &[], ..alice }));
        assert!(settings.administrators.is_empty());
        assert!(settings.protected_namespaces.is_none());
        assert_eq!(
            settings.spec.rbac.promotion_cluster_roles,
            ["capsule-namespace-provisioner", "capsule-namespace-deleter"]
        );
    }
}
