//! What each verb is checked for, in the order in which somebody is told.

use k8s_openapi::api::core::v1::Namespace;

use super::kept::{check_forbidden, check_kept, check_node_selector, check_required};
use super::limits::{check_cordon, check_prefix, check_protected, check_quota};
use super::ownership::{
    administrators_tenant, check_canonical, check_tie, marks, migrated, owned_tenant_of, tenant_of_new,
};
use super::{REFERENCES_FIELD, Request, is_terminating, name_of};
use crate::{caller::Caller, denial::Denial, linkage};

pub(super) fn validate_create(request: &Request<'_>, caller: Caller, object: &Namespace) -> Result<(), Denial> {
    let Some(tenant) = tenant_of_new(request, caller, object)? else {
        return Ok(());
    };
    if tenant.is_terminating() {
        let message = format!(
            "tenant is terminating and does not accept new namespaces: Tenant {} is being deleted; wait until it is gone",
            tenant.name
        );
        return Err(Denial::new("", "TenantTerminating", message));
    }
    let name = name_of(object);
    check_cordon(caller, &tenant)?;
    check_quota(request, &tenant, name)?;
    check_protected(request, name)?;
    check_prefix(request, &tenant, name)?;
    check_forbidden(caller, &tenant, object, None)?;
    check_required(&tenant, object, None)
}

pub(super) fn validate_update(
    request: &Request<'_>,
    caller: Caller,
    object: &Namespace,
    old: &Namespace,
) -> Result<(), Denial> {
    let is_moved = marks(object) != marks(old);
    if is_terminating(object) || is_terminating(old) || request.subresource == "finalize" {
        if is_moved {
            let message = "namespace tenant ownership can not change during termination";
            return Err(Denial::new(REFERENCES_FIELD, "ReasonNamespacePatch", message));
        }
        // Ending is for controllers, also for those that run in the tenant. What lives on is judged as by any other way.
        let is_left =
            object.metadata.labels == old.metadata.labels && object.metadata.annotations == old.metadata.annotations;
        if caller != Caller::TenantUser && (is_terminating(old) || is_left) {
            return Ok(());
        }
        // What is left in it while it ends is held by the labels that hooks are chosen by.
        if is_terminating(old) {
            let reference = linkage::linkage(old).ok().flatten();
            return match reference.and_then(|reference| request.tenant(reference)) {
                Some(tenant) => check_kept(caller, &tenant, object, old),
                None => Ok(()),
            };
        }
    }
    let tenant = match caller {
        Caller::Administrator => match administrators_tenant(request, object)? {
            // A namespace that an administrator has just moved is judged by nothing else.
            Some(_) if is_moved => return Ok(()),
            Some(tenant) => tenant,
            None => return Ok(()),
        },
        Caller::TenantUser => {
            let tenant = owned_tenant_of(request, caller, old, object)?;
            // Also whether the reference became that of a controller, or one that holds up the tenant's deletion.
            let is_changed = is_moved || !linkage::references(object).eq(linkage::references(old));
            if is_changed {
                check_tie(object, old)?;
                check_canonical(object, &tenant)?;
            }
            tenant
        }
        Caller::Unknown => {
            if is_moved {
                check_tie(object, old)?;
                return Err(migrated());
            }
            // A namespace that does not say clearly whose it is has been so before; its labels are no business of ours.
            let Some(tenant) = linkage::linkage(object)
                .ok()
                .flatten()
                .and_then(|reference| request.tenant(reference))
            else {
                return Ok(());
            };
            tenant
        }
    };
    check_cordon(caller, &tenant)?;
    check_forbidden(caller, &tenant, object, Some(old))?;
    check_kept(caller, &tenant, object, old)?;
    check_node_selector(&tenant, object, old)?;
    check_required(&tenant, object, Some(old))
}

pub(super) fn validate_delete(request: &Request<'_>, caller: Caller, old: &Namespace) -> Result<(), Denial> {
    if is_terminating(old) {
        return Ok(());
    }
    // The label alone is enough to be refused: half a namespace of a frozen tenant is no way around it.
    let named = linkage::label(old).map(ToOwned::to_owned);
    let named = named.or_else(|| linkage::references(old).next().map(|reference| reference.name.clone()));
    match named.and_then(|name| request.view.tenant(&name)) {
        // As with every other write: whatever rights somebody was given, namespaces of others are not theirs to delete.
        Some(tenant) if caller == Caller::TenantUser && !request.owns(caller, &tenant) => Err(not_yours_to_delete()),
        None if caller == Caller::TenantUser => Err(not_yours_to_delete()),
        Some(tenant) => check_cordon(caller, &tenant),
        None => Ok(()),
    }
}

fn not_yours_to_delete() -> Denial {
    let message = "the namespace is not yours to delete: only owners of its Tenant and administrators may";
    Denial::new("metadata.name", "NotAnOwner", message)
}
