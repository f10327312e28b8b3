//! Frozen namespaces: their tenants may look and not change.

use crate::{caller::Caller, denial::Denial};

/// What somebody wants to do in a frozen namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// The object's API group; empty for the core group.
    pub group: &'a str,
    /// The object's API version.
    pub version: &'a str,
    /// The object's kind.
    pub kind: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The namespace, which carries the label `projectcapsule.dev/cordoned=true`.
    pub namespace: &'a str,
    /// The tenant whose namespace it is. `None` if that cannot be told.
    pub tenant: Option<&'a str>,
}

/// Refuses tenant users every change in a frozen namespace. Administrators, also those who are tenant users as well,
/// and the cluster's own controllers go on.
///
/// # Errors
/// If the caller is a tenant user.
pub fn decide(caller: Caller, attempt: &Attempt<'_>) -> Result<(), Denial> {
    if caller != Caller::TenantUser {
        return Ok(());
    }
    let Attempt {
        operation,
        group,
        version,
        kind,
        name,
        namespace,
        tenant,
    } = attempt;
    let group = if group.is_empty() {
        String::new()
    } else {
        format!("{group}/")
    };
    let of_whom = tenant.map_or_else(|| "its Tenant".to_owned(), |name| format!("the Tenant {name:?}"));
    let message = format!(
        "current namespace {namespace} is cordoned: {operation} of {group}{version} {kind} {name:?} is not permitted \
         during cordoning; it can be changed again once the label projectcapsule.dev/cordoned is gone, which an \
         administrator sets with spec.cordoned of {of_whom}"
    );
    Err(Denial::new("metadata.namespace", "Cordoned", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::tenant_users_are_refused(Caller::TenantUser, true)]
    #[case::administrators_are_not(Caller::Administrator, false)]
    #[case::the_cluster_itself_is_not(Caller::Unknown, false)]
    fn in_a_frozen_namespace(#[case] caller: Caller, #[case] refused: bool) {
        let attempt = Attempt {
            operation: "UPDATE",
            group: "apps",
            version: "v1",
            kind: "Deployment",
            name: "web",
            namespace: "oil-one",
            tenant: Some("oil"),
        };
        let decision = decide(caller, &attempt);
        assert_eq!(decision.is_err(), refused);
        if let Err(denial) = decision {
            assert!(
                denial.message.starts_with(
                    "current namespace oil-one is cordoned: UPDATE of apps/v1 Deployment \"web\" is not permitted"
                ),
                "{}",
                denial.message
            );
            assert!(
                denial.message.ends_with("with spec.cordoned of the Tenant \"oil\""),
                "{}",
                denial.message
            );
        }
    }
}
