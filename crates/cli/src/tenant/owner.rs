//! Owners as people type them: `user:alice`, `group:team`, `sa:namespace/name`.

use std::str::FromStr;

use api::capsule::v1beta2::{Owner, TenantSpec, UserKind, UserSpec};
use serde_json::json;
use tenancy::subject::service_account;

/// One owner, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject(pub(super) UserSpec);

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not an owner; say user:<name>, group:<name> or sa:<namespace>/<name>");
        let (kind, name) = text.split_once(':').ok_or_else(fault)?;
        let user = |kind, name: String| Ok(Self(UserSpec { kind, name }));
        match kind {
            _ if name.is_empty() => Err(fault()),
            "user" if service_account(name).is_some() => Err(format!(
                "{name:?} is the name of a ServiceAccount; say sa:<namespace>/<name>"
            )),
            "user" => user(UserKind::User, name.to_owned()),
            "group" => user(UserKind::Group, name.to_owned()),
            "sa" => match name.split_once('/') {
                Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() => user(
                    UserKind::ServiceAccount,
                    format!("system:serviceaccount:{namespace}:{account}"),
                ),
                _ => Err(fault()),
            },
            _ => Err(fault()),
        }
    }
}

/// The same, as it would be typed.
pub(super) fn typed(user: &UserSpec) -> String {
    match (user.kind, service_account(&user.name)) {
        (UserKind::User, _) => format!("user:{}", user.name),
        (UserKind::Group, _) => format!("group:{}", user.name),
        (UserKind::ServiceAccount, Some((namespace, name))) => format!("sa:{namespace}/{name}"),
        (UserKind::ServiceAccount, None) => format!("sa:{}", user.name),
    }
}

/// An owner with these roles, or with those that owners have by default.
pub(super) fn owner(user: &UserSpec, roles: &[String]) -> Owner {
    let mut owner = Owner::default();
    owner.core.user = user.clone();
    owner.core.cluster_roles = if roles.is_empty() {
        api::capsule::names::DEFAULT_OWNER_CLUSTER_ROLES
            .map(str::to_owned)
            .to_vec()
    } else {
        roles.to_vec()
    };
    owner
}

/// Adds owners and removes others. One who is there keeps everything but the roles, and those too if none are given.
///
/// # Errors
/// A sentence, when somebody who is to be removed does not own the tenant by its spec, or is added and removed at once.
pub(super) fn change(
    spec: &mut TenantSpec,
    add: &[Subject],
    remove: &[Subject],
    roles: &[String],
) -> Result<(), String> {
    if let Some(Subject(user)) = add.iter().find(|subject| remove.contains(subject)) {
        return Err(format!("{} is both added and removed", typed(user)));
    }
    for Subject(user) in remove {
        let before = spec.owners.len();
        spec.owners.retain(|owner| owner.core.user != *user);
        if spec.owners.len() == before {
            let named: Vec<String> = spec.owners.iter().map(|owner| typed(&owner.core.user)).collect();
            let named = if named.is_empty() {
                "nobody".to_owned()
            } else {
                named.join(", ")
            };
            return Err(format!(
                "{} is not in spec.owners, which names {named}; owners by promotion, by the configuration or by a \
                 TenantOwner are removed there",
                typed(user)
            ));
        }
    }
    for Subject(user) in add {
        match spec.owners.iter_mut().find(|owner| owner.core.user == *user) {
            Some(known) if !roles.is_empty() => known.core.cluster_roles = roles.to_vec(),
            Some(_) => {}
            None => spec.owners.push(owner(user, roles)),
        }
    }
    Ok(())
}

/// The change of owners as a merge patch of the tenant.
pub(super) fn patch(spec: &TenantSpec) -> serde_json::Value {
    json!({"spec": {"owners": spec.owners}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    #[test]
    fn owners_read_as_they_are_typed() {
        let read = |text: &str| text.parse::<Subject>().map(|Subject(user)| (user.kind, user.name));
        assert_eq!(read("user:alice"), Ok((UserKind::User, "alice".into())));
        assert_eq!(read("user:oidc:alice"), Ok((UserKind::User, "oidc:alice".into())));
        assert_eq!(read("group:team"), Ok((UserKind::Group, "team".into())));
        let account = "system:serviceaccount:ops:robot";
        assert_eq!(read("sa:ops/robot"), Ok((UserKind::ServiceAccount, account.into())));
        for text in ["alice", "user:", "sa:robot", "sa:/robot", "sa:ops/", "robot:alice", ""] {
            let fault = read(text).unwrap_err();
            assert!(
                fault.contains("say user:<name>, group:<name> or sa:<namespace>/<name>"),
                "{fault}"
            );
        }
        assert!(
            read(&format!("user:{account}"))
                .unwrap_err()
                .contains("sa:<namespace>/<name>")
        );
        for text in ["user:alice", "group:team", "sa:ops/robot"] {
            assert_eq!(typed(&subject(text).0), text);
        }
    }

    #[test]
    fn one_who_is_there_keeps_roles_unless_others_are_given() {
        let mut spec = TenantSpec::default();
        change(&mut spec, &[subject("user:alice")], &[], &["view".into()]).unwrap();
        change(&mut spec, &[subject("user:alice"), subject("group:team")], &[], &[]).unwrap();
        let roles = |spec: &TenantSpec| -> Vec<Vec<String>> {
            spec.owners
                .iter()
                .map(|owner| owner.core.cluster_roles.clone())
                .collect()
        };
        assert_eq!(roles(&spec), [vec!["view"], vec!["admin", "capsule-namespace-deleter"]]);
        change(&mut spec, &[subject("user:alice")], &[], &["edit".into()]).unwrap();
        assert_eq!(roles(&spec)[0], ["edit"]);
        change(&mut spec, &[], &[subject("user:alice")], &[]).unwrap();
        assert_eq!(spec.owners.len(), 1);
    }

    #[test]
    fn who_is_not_there_cannot_be_removed() {
        let mut spec = TenantSpec::default();
        change(&mut spec, &[subject("user:alice")], &[], &[]).unwrap();
        let fault = change(&mut spec, &[], &[subject("user:bob")], &[]).unwrap_err();
        assert!(
            fault.starts_with("user:bob is not in spec.owners, which names user:alice"),
            "{fault}"
        );
        let twice = [subject("user:bob")];
        assert_eq!(
            change(&mut spec, &twice, &twice, &[]).unwrap_err(),
            "user:bob is both added and removed"
        );
    }
}
