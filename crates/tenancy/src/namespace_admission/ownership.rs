//! Whose a namespace is, and who may say otherwise.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;

use super::{LABEL_FIELD, REFERENCES_FIELD, Request};
use crate::{caller::Caller, denial::Denial, index::KnownTenant, linkage};

/// The tenant of a namespace that a tenant user wants to change.
pub(super) fn owned_tenant_of(
    request: &Request<'_>,
    caller: Caller,
    old: &Namespace,
    object: &Namespace,
) -> Result<Arc<KnownTenant>, Denial> {
    let reference = match linkage::linkage(old) {
        Ok(Some(reference)) => reference,
        Ok(None) if linkage::is_claimed(object) => return Err(patched_into()),
        Ok(None) => {
            let message = "namespace is not owned by any tenant: it is not yours to change; create a namespace in your Tenant \
                           instead";
            return Err(Denial::new("", "ReasonNamespacePatch", message));
        }
        Err(unclear) => {
            let message =
                format!("denied patch request for this namespace: {unclear}; an administrator has to repair it");
            return Err(Denial::new("metadata", "ReasonNamespacePatch", message));
        }
    };
    match request.tenant(reference) {
        Some(tenant) if request.owns(caller, &tenant) => Ok(tenant),
        _ => {
            let message = format!(
                "denied patch request for this namespace: {} does not own the Tenant that it belongs to",
                request.user.name
            );
            Err(Denial::new("", "ReasonNamespacePatch", message))
        }
    }
}

/// The tenant of a new namespace; `None` if it is not a tenant's.
pub(super) fn tenant_of_new(
    request: &Request<'_>,
    caller: Caller,
    object: &Namespace,
) -> Result<Option<Arc<KnownTenant>>, Denial> {
    if caller == Caller::Unknown && linkage::is_claimed(object) {
        let message = "only tenant owners can create tenant-owned namespaces: leave out the label \
                       capsule.clastix.io/tenant and the owner reference to a Tenant, or ask to be named as an owner in \
                       the Tenant or as an administrator in the CapsuleConfiguration";
        return Err(Denial::new(LABEL_FIELD, "TenantNotOwned", message));
    }
    let reference = match linkage::linkage(object) {
        Ok(Some(reference)) => reference,
        // Mutation gives every namespace of a tenant user to a tenant. Here is one that it never saw, or that somebody
        // changed after it.
        Ok(None) if caller == Caller::TenantUser => {
            let message = "namespace was not assigned to a Tenant: another webhook may have removed the label \
                           capsule.clastix.io/tenant or the owner reference; an administrator of this cluster has to look";
            return Err(Denial::new(LABEL_FIELD, "TenantMissing", message));
        }
        Ok(None) => return Ok(None),
        Err(unclear) => {
            let message = format!("{unclear}; set the label alone, the rest follows from it");
            return Err(Denial::new("metadata", "TenantUnclear", message));
        }
    };
    match request.tenant(reference) {
        Some(tenant) if request.owns(caller, &tenant) => Ok(Some(tenant)),
        _ => {
            let message = format!(
                "{REFERENCES_FIELD}: can not assign the desired namespace to a non-owned Tenant ({:?})",
                reference.name
            );
            Err(Denial::new(REFERENCES_FIELD, "TenantNotOwned", message))
        }
    }
}

/// The tenant of a namespace as an administrator leaves it.
pub(super) fn administrators_tenant(
    request: &Request<'_>,
    object: &Namespace,
) -> Result<Option<Arc<KnownTenant>>, Denial> {
    let reference = match linkage::linkage(object) {
        Ok(None) => return Ok(None),
        Ok(Some(reference)) => reference,
        Err(unclear) => {
            let message =
                format!("{unclear}; set both to the same Tenant, or remove both to take the namespace out of tenancy");
            return Err(Denial::new("metadata", "TenantUnclear", message));
        }
    };
    if let Some(tenant) = request.tenant(reference) {
        return Ok(Some(tenant));
    }
    let message = format!(
        "{REFERENCES_FIELD}: there is no Tenant {:?} with UID {:?}; set the label alone, the reference follows from it",
        reference.name, reference.uid
    );
    Err(Denial::new(REFERENCES_FIELD, "TenantNotFound", message))
}

/// What a namespace says about tenants: its label, and name and UID of each reference.
pub(super) fn marks(namespace: &Namespace) -> (Option<&str>, Vec<(&str, &str)>) {
    let references = linkage::references(namespace);
    let mut references: Vec<_> = references
        .map(|reference| (reference.name.as_str(), reference.uid.as_str()))
        .collect();
    references.sort_unstable();
    (linkage::label(namespace), references)
}

/// A namespace may neither enter tenancy nor leave it.
pub(super) fn check_tie(object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    match (linkage::is_claimed(old), linkage::is_claimed(object)) {
        (false, true) => Err(patched_into()),
        (true, false) => Err(removed()),
        _ => Ok(()),
    }
}

/// A change of marks by a tenant user is a repair, or it is refused.
pub(super) fn check_canonical(object: &Namespace, tenant: &KnownTenant) -> Result<(), Denial> {
    let wanted = linkage::owner_reference(&tenant.object);
    let is_canonical = linkage::label(object) == Some(tenant.name.as_str())
        && linkage::references(object).all(|reference| {
            reference.controller.is_none()
                && reference.block_owner_deletion.is_none()
                && (&reference.name, &reference.uid) == (&wanted.name, &wanted.uid)
        })
        && linkage::references(object).count() == 1;
    if is_canonical { Ok(()) } else { Err(migrated()) }
}

fn patched_into() -> Denial {
    let message = format!(
        "{LABEL_FIELD}: namespace can not be patched into a tenant; only the administrators named in the \
         CapsuleConfiguration may do that"
    );
    Denial::new(LABEL_FIELD, "ReasonNamespacePatch", message)
}

pub(super) fn removed() -> Denial {
    let message = format!(
        "{LABEL_FIELD}: namespace can not remove tenant ownership; only the administrators named in the \
         CapsuleConfiguration may do that"
    );
    Denial::new(LABEL_FIELD, "ReasonNamespacePatch", message)
}

pub(super) fn migrated() -> Denial {
    let message = format!(
        "{REFERENCES_FIELD}: namespace can not be migrated between tenants; only the administrators named in the \
         CapsuleConfiguration may do that"
    );
    Denial::new(REFERENCES_FIELD, "ReasonNamespacePatch", message)
}
