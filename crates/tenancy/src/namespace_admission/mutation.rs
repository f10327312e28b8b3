//! Which tenant a namespace is given to, and how its marks are kept in step.

use std::sync::Arc;

use api::capsule::{names, v1beta2::Metadata};
use k8s_openapi::api::core::v1::Namespace;

use super::limits::check_prefix;
use super::ownership::{migrated, owned_tenant_of, removed};
use super::{LABEL_FIELD, NAME_FIELD, REFERENCES_FIELD, Request, name_of};
use crate::{caller::Caller, denial::Denial, index::KnownTenant, linkage, metadata};

/// A new namespace: the tenant that its label names, or the one of the caller's tenants that its name fits.
pub(super) fn assign(request: &Request<'_>, caller: Caller, object: &Namespace) -> Result<Option<Namespace>, Denial> {
    let name = name_or_beginning(object);
    let tenant = match linkage::label(object) {
        Some(label) => named_tenant(request, caller, label)?,
        None if caller == Caller::Administrator => return Ok(None),
        None => fitting_tenant(request, name)?,
    };
    check_prefix(request, &tenant, name)?;
    let mut changed = object.clone();
    linkage::link(&mut changed, &tenant.object);
    apply_metadata(
        &mut changed,
        &tenant,
        object.metadata.name.as_deref().unwrap_or_default(),
    );
    Ok(Some(changed))
}

fn named_tenant(request: &Request<'_>, caller: Caller, label: &str) -> Result<Arc<KnownTenant>, Denial> {
    let tenant = request.view.tenant(label);
    match tenant {
        Some(tenant) if request.owns(caller, &tenant) => Ok(tenant),
        None if caller == Caller::Administrator => {
            let message =
                format!("{LABEL_FIELD}: there is no Tenant {label:?}; create it first, or leave the label out");
            Err(Denial::new(LABEL_FIELD, "TenantNotFound", message).with_code(400))
        }
        _ => {
            let message = format!(
                "{LABEL_FIELD}: can not assign the desired namespace to a non-owned Tenant ({label:?}); name a Tenant of \
                 yours, or leave the label out"
            );
            Err(Denial::new(LABEL_FIELD, "TenantNotOwned", message).with_code(400))
        }
    }
}

/// Of several tenants the one whose name, with a dash, is the longest beginning of the namespace's name.
fn fitting_tenant(request: &Request<'_>, name: &str) -> Result<Arc<KnownTenant>, Denial> {
    let mut owned = request.view.owned_by(&request.user);
    if owned.len() <= 1 {
        return owned.pop().ok_or_else(|| {
            let message = "You do not have any Tenant assigned: please, reach out to the system administrators, who can \
                           make you an owner with spec.owners of a Tenant";
            Denial::new("", "NoTenant", message)
        });
    }
    let fits = |tenant: &&Arc<KnownTenant>| {
        name.strip_prefix(tenant.name.as_str())
            .is_some_and(|rest| rest.starts_with('-'))
    };
    // Two prefixes of one name that have the same length are the same prefix, so the longest is the only one.
    if let Some(tenant) = owned
        .iter()
        .filter(fits)
        .max_by_key(|tenant| tenant.name.as_str().len())
    {
        return Ok(tenant.clone());
    }
    let yours: Vec<_> = owned.iter().map(|tenant| format!("{}-", tenant.name)).collect();
    if request.settings.force_tenant_prefix {
        let message = format!(
            "{NAME_FIELD}: The Namespace prefix used doesn't match any available Tenant; it has to begin with one of: {}; an \
             administrator set this with spec.forceTenantPrefix of the CapsuleConfiguration",
            yours.join(", ")
        );
        return Err(Denial::new(NAME_FIELD, "InvalidTenantPrefix", message));
    }
    let message = format!(
        "{LABEL_FIELD}: Unable to assign namespace to tenant. Please use {} label when creating a namespace, or a name \
         that begins with one of: {}",
        names::TENANT_LABEL,
        yours.join(", ")
    );
    Err(Denial::new(LABEL_FIELD, "TenantAmbiguous", message))
}

/// An administrator's change: what the namespace asks for is carried out, and both marks say it afterwards.
pub(super) fn harmonise(request: &Request<'_>, object: &Namespace) -> Result<Option<Namespace>, Denial> {
    let asked = match linkage::label(object) {
        Some(label) => (LABEL_FIELD, label),
        None => match linkage::references(object).next() {
            Some(reference) => (REFERENCES_FIELD, reference.name.as_str()),
            None => return Ok(None),
        },
    };
    let (field, name) = asked;
    let Some(tenant) = request.view.tenant(name) else {
        let message = format!(
            "{field}: there is no Tenant {name:?}; remove both the label and the owner reference to take the namespace out \
             of tenancy"
        );
        return Err(Denial::new(field, "TenantNotFound", message));
    };
    let mut changed = object.clone();
    linkage::link(&mut changed, &tenant.object);
    Ok(Some(changed))
}

/// A tenant user's change: the namespace stays where it is, with what is kept on it.
pub(super) fn keep(
    request: &Request<'_>,
    caller: Caller,
    object: &Namespace,
    old: &Namespace,
) -> Result<Option<Namespace>, Denial> {
    let tenant = owned_tenant_of(request, caller, old, object)?;
    let asks =
        |name: &str, uid: Option<&str>| name == tenant.name.as_str() && uid.is_none_or(|uid| *uid == *tenant.uid);
    let still_points = linkage::label(object).is_some_and(|label| asks(label, None))
        || linkage::references(object).any(|reference| asks(&reference.name, Some(&reference.uid)));
    if !still_points {
        return Err(if linkage::is_claimed(object) {
            migrated()
        } else {
            removed()
        });
    }
    let mut changed = object.clone();
    linkage::link(&mut changed, &tenant.object);
    apply_metadata(&mut changed, &tenant, name_of(object));
    Ok(Some(changed))
}

fn apply_metadata(namespace: &mut Namespace, tenant: &KnownTenant, name: &str) {
    let labels = namespace.metadata.labels.take().unwrap_or_default();
    let annotations = namespace.metadata.annotations.take().unwrap_or_default();
    let Metadata { labels, annotations } = metadata::applied(&tenant.object, name, &labels, &annotations, None);
    namespace.metadata.labels = Some(labels);
    namespace.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
}

/// The name, or what the API server will begin it with.
fn name_or_beginning(namespace: &Namespace) -> &str {
    let name = name_of(namespace);
    if name.is_empty() {
        namespace.metadata.generate_name.as_deref().unwrap_or_default()
    } else {
        name
    }
}
