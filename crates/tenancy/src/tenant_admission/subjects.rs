//! Who owns a tenant, and who gets which role in its namespaces.

use api::capsule::v1beta2::{RoleBindingSpec, TenantSpec, UserKind};
use k8s_openapi::api::rbac::v1::Subject;

use crate::{denial::Denial, name::is_dns_subdomain, subject};

pub(super) fn check_owners(spec: &TenantSpec) -> Result<(), Denial> {
    for (index, owner) in spec.owners.iter().enumerate() {
        let user = &owner.core.user;
        check_subject(&format!("spec.owners[{index}].name"), user.kind, &user.name)?;
        for (at, role) in owner.core.cluster_roles.iter().enumerate() {
            check_role(&format!("spec.owners[{index}].clusterRoles[{at}]"), role)?;
        }
    }
    Ok(())
}

/// A user, group or ServiceAccount that can be bound.
pub(crate) fn check_subject(field: &str, kind: UserKind, name: &str) -> Result<(), Denial> {
    if name.is_empty() {
        return Err(Denial::new(
            field,
            "OwnerInvalid",
            format!("{field}: a {kind} has to be named"),
        ));
    }
    match (kind, subject::service_account_fault(name)) {
        (UserKind::ServiceAccount, Some(fault)) => Err(Denial::new(
            field,
            "OwnerInvalid",
            format!("{field}: {name:?} is no ServiceAccount: {fault}"),
        )),
        _ => Ok(()),
    }
}

/// The path segment that the API server takes as a name of a role.
pub(crate) fn check_role(field: &str, role: &str) -> Result<(), Denial> {
    if role.is_empty() || role == "." || role == ".." || role.contains(['/', '%']) {
        let message =
            format!("{field}: {role:?} is not the name of a ClusterRole: it cannot be empty or contain '/' or '%'");
        return Err(Denial::new(field, "RoleInvalid", message));
    }
    Ok(())
}

pub(super) fn check_promotions(spec: &TenantSpec) -> Result<(), Denial> {
    for (index, rule) in spec.rules.iter().enumerate() {
        let promotions = rule.permissions.iter().flat_map(|permissions| &permissions.promotions);
        for (at, promotion) in promotions.enumerate() {
            for (role, name) in promotion.cluster_roles.iter().enumerate() {
                let field = format!("spec.rules[{index}].permissions.promotions[{at}].clusterRoles[{role}]");
                check_role(&field, name)?;
            }
        }
    }
    Ok(())
}

pub(super) fn check_bindings(spec: &TenantSpec) -> Result<(), Denial> {
    let own = spec.additional_role_bindings.iter().enumerate();
    let own = own.map(|(index, binding)| (format!("spec.additionalRoleBindings[{index}]"), binding));
    let of_rules = spec.rules.iter().enumerate().flat_map(|(index, rule)| {
        let bindings = rule
            .permissions
            .iter()
            .flat_map(|permissions| &permissions.bindings)
            .enumerate();
        bindings.map(move |(at, binding)| (format!("spec.rules[{index}].permissions.bindings[{at}]"), binding))
    });
    for (
        field,
        RoleBindingSpec {
            cluster_role_name,
            subjects,
            ..
        },
    ) in own.chain(of_rules)
    {
        check_role(&format!("{field}.clusterRoleName"), cluster_role_name)?;
        if subjects.is_empty() {
            let field = format!("{field}.subjects");
            return Err(Denial::new(
                field.clone(),
                "SubjectInvalid",
                format!("{field}: somebody has to get the role"),
            ));
        }
        for (at, subject) in subjects.iter().enumerate() {
            check_binding_subject(&format!("{field}.subjects[{at}]"), subject)?;
        }
    }
    Ok(())
}

fn check_binding_subject(field: &str, subject: &Subject) -> Result<(), Denial> {
    let refuse = |part: &str, detail: &str| {
        let field = format!("{field}.{part}");
        let message = format!("{field}: {detail}");
        Err(Denial::new(field, "SubjectInvalid", message))
    };
    match subject.kind.as_str() {
        _ if subject.name.is_empty() => refuse("name", "the subject has to be named"),
        "ServiceAccount" if !is_dns_subdomain(&subject.name) => refuse(
            "name",
            &format!(
                "{:?} is not the name of a ServiceAccount: it has to be a DNS subdomain",
                subject.name
            ),
        ),
        "ServiceAccount" if subject.namespace.as_deref().unwrap_or_default().is_empty() => {
            refuse("namespace", "a ServiceAccount needs its namespace")
        }
        "User" | "Group" | "ServiceAccount" => Ok(()),
        other => refuse(
            "kind",
            &format!("{other:?} is not a kind of subject; it has to be User, Group or ServiceAccount"),
        ),
    }
}
