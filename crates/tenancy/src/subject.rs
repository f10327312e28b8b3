//! Who asks, and sets of subjects to compare with.

use std::collections::HashSet;

use api::capsule::v1beta2::{UserKind, UserSpec};
use k8s_openapi::api::authentication::v1::UserInfo;

const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Who asks: as the API server authenticated it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User<'a> {
    /// The name; a ServiceAccount's is `system:serviceaccount:<namespace>:<name>`.
    pub name: &'a str,
    /// The groups.
    pub groups: &'a [String],
}

impl<'a> User<'a> {
    /// Of an admission request.
    pub fn of(info: &'a UserInfo) -> Self {
        Self {
            name: info.username.as_deref().unwrap_or_default(),
            groups: info.groups.as_deref().unwrap_or_default(),
        }
    }

    /// Namespace and name, if it is a ServiceAccount.
    pub fn service_account(&self) -> Option<(&'a str, &'a str)> {
        service_account(self.name)
    }

    /// Whether one of the groups is this one.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}

/// Namespace and name of a ServiceAccount's full name, if it is one.
pub fn service_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// What is wrong with a ServiceAccount's name, if anything.
pub(crate) fn service_account_fault(name: &str) -> Option<&'static str> {
    match service_account(name) {
        None => Some("a ServiceAccount is named in full, as system:serviceaccount:<namespace>:<name>"),
        Some((namespace, account)) => {
            let valid = crate::name::is_dns_label(namespace) && crate::name::is_dns_subdomain(account);
            (!valid).then_some("the namespace has to be a DNS label and the ServiceAccount's name a DNS subdomain")
        }
    }
}

/// A set of users, ServiceAccounts and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    names: HashSet<Box<str>>,
    groups: HashSet<Box<str>>,
}

impl Subjects {
    /// Adds one.
    pub fn insert(&mut self, kind: UserKind, name: &str) {
        // An empty name would be that of a request without a user.
        if name.is_empty() {
            return;
        }
        match kind {
            UserKind::User | UserKind::ServiceAccount => self.names.insert(name.into()),
            UserKind::Group => self.groups.insert(name.into()),
        };
    }

    /// Whether the user is in it, by name or by a group.
    pub fn hold(&self, user: &User<'_>) -> bool {
        self.names.contains(user.name) || user.groups.iter().any(|group| self.groups.contains(group.as_str()))
    }

    /// Whether the user itself is in it, groups aside.
    pub fn name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.groups.is_empty()
    }
}

impl<'a> FromIterator<&'a UserSpec> for Subjects {
    fn from_iter<I: IntoIterator<Item = &'a UserSpec>>(users: I) -> Self {
        let mut subjects = Self::default();
        for user in users {
            subjects.insert(user.kind, &user.name);
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_recognised_by_its_full_name_only() {
        assert_eq!(
            service_account("system:serviceaccount:oil-one:robot"),
            Some(("oil-one", "robot"))
        );
        for name in [
            "robot",
            "system:serviceaccount:oil-one",
            "system:serviceaccount::robot",
            "system:serviceaccount:a:",
        ] {
            assert_eq!(service_account(name), None, "{name}");
        }
        assert_eq!(service_account("system:serviceaccount:a:b:c"), None);
    }

    #[test]
    fn a_group_of_a_users_name_is_not_the_user() {
        let subjects: Subjects = [&UserSpec {
            kind: UserKind::Group,
            name: "alice".into(),
        }]
        .into_iter()
        .collect();
        assert!(!subjects.hold(&User {
            name: "alice",
            groups: &[]
        }));
        assert!(subjects.hold(&User {
            name: "bob",
            groups: &["alice".into()]
        }));
    }

    #[test]
    fn nobody_is_not_somebody() {
        let subjects: Subjects = [&UserSpec::default()].into_iter().collect();
        assert!(!subjects.hold(&User::default()));
    }
}
