//! What a tenant's namespaces are held to: that it is not frozen, how many there are, and what they are called.

use super::{NAME_FIELD, Request};
use crate::{audit::Limit, caller::Caller, denial::Denial, index::KnownTenant};

pub(super) fn check_cordon(caller: Caller, tenant: &KnownTenant) -> Result<(), Denial> {
    if caller != Caller::TenantUser || !tenant.is_cordoned() {
        return Ok(());
    }
    let message = format!(
        "the selected tenant is cordoned: its namespaces can not be created, changed or deleted until an administrator \
         sets {} to false",
        tenant.field("spec.cordoned")
    );
    Err(Denial::new("", "Cordoned", message))
}

pub(super) fn check_quota(request: &Request<'_>, tenant: &KnownTenant, name: &str) -> Result<(), Denial> {
    let Some(quota) = tenant.namespace_quota() else {
        return Ok(());
    };
    let others = request.view.count_others(tenant, name);
    if others < quota {
        return Ok(());
    }
    let message = format!(
        "Cannot exceed Namespace quota: please, reach out to the system administrators, who set {} \
         to {quota}; it has {others}",
        tenant.field("spec.namespaceOptions.quota")
    );
    Err(Denial::new("", "Overprovisioned", message).by(Limit::NamespaceQuota))
}

pub(super) fn check_protected(request: &Request<'_>, name: &str) -> Result<(), Denial> {
    let field = "spec.protectedNamespaceRegex of the CapsuleConfiguration";
    match &request.settings.protected_namespaces {
        None => Ok(()),
        Some(Ok(pattern)) if !pattern.matches(name) => Ok(()),
        Some(Ok(pattern)) => {
            let message = format!(
                "{NAME_FIELD}: Creating namespaces with name matching {} regexp is not allowed; please, reach out to the \
                 system administrators, who set {field}",
                pattern.as_str()
            );
            Err(Denial::new(NAME_FIELD, "ProtectedNamespace", message))
        }
        Some(Err(error)) => {
            let message = format!(
                "{NAME_FIELD}: failed to tell whether the name is protected, because {field} cannot be compiled: {error}; \
                 an administrator of this cluster has to correct it"
            );
            Err(Denial::new(NAME_FIELD, "PatternInvalid", message).with_code(500))
        }
    }
}

pub(super) fn check_prefix(request: &Request<'_>, tenant: &KnownTenant, name: &str) -> Result<(), Denial> {
    let Some(prefix) = tenant.required_prefix(request.settings.force_tenant_prefix) else {
        return Ok(());
    };
    if name.starts_with(&prefix) {
        return Ok(());
    }
    let set_by = if tenant.object.spec.force_tenant_prefix.is_some() {
        tenant.field("spec.forceTenantPrefix")
    } else {
        "spec.forceTenantPrefix of the CapsuleConfiguration".to_owned()
    };
    let message = format!(
        "{NAME_FIELD}: The namespace doesn't match the tenant prefix, expected {prefix}*: {name:?} has to begin with \
         {prefix:?}; an administrator set this with {set_by}"
    );
    Err(Denial::new(NAME_FIELD, "InvalidTenantPrefix", message))
}
