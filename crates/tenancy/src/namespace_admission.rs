//! What may be done with Namespace objects, by whom.
//!
//! [`mutate`] finds the tenant of a new namespace and keeps the two marks of belonging in step; [`validate`] refuses what
//! must not be. They are separate because subresources (`namespaces/status`, `namespaces/finalize`) can carry metadata
//! too and reach only the second one; so nothing that matters is left to the first alone.
//!
//! Only an administrator moves a namespace between tenants. Whoever else tries, by any verb, patch type or subresource, finds
//! the ownership as it was: repaired where the namespace still points at its tenant, refused otherwise. That holds
//! also for callers we do not know, such as cluster administrators whom the configuration does not name.
//!
//! What a tenant is told about other tenants is the same whether they exist or not.

use std::{collections::BTreeMap, sync::Arc};

use api::capsule::{names, v1beta2::Metadata};
use k8s_openapi::api::core::v1::Namespace;

use crate::{
    caller::{self, Caller},
    denial::{Decision, Denial},
    index::{KnownTenant, View},
    keys::{ForbiddenKeys, Missing, RequiredValues},
    linkage::{self, TenantReference},
    metadata,
    settings::Settings,
    subject::User,
};

const LABEL_FIELD: &str = "metadata.labels[capsule.clastix.io/tenant]";
const REFERENCES_FIELD: &str = "metadata.ownerReferences";
const NAME_FIELD: &str = "metadata.name";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The namespace is new.
    Create,
    /// The namespace is changed: main object or subresource.
    Update,
    /// The namespace is deleted.
    Delete,
}

/// One operation on one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is done.
    pub operation: Operation,
    /// `status` or `finalize`; empty for the namespace itself.
    pub subresource: &'a str,
    /// By whom.
    pub user: User<'a>,
    /// The namespace as it would be. `None` on delete.
    pub object: Option<&'a Namespace>,
    /// The namespace as it is. `None` on create.
    pub old: Option<&'a Namespace>,
    /// The configuration.
    pub settings: &'a Settings,
    /// Tenants and namespaces, with what was read live for this request.
    pub view: &'a View,
}

impl Request<'_> {
    fn caller(&self) -> Caller {
        caller::classify(&self.user, self.settings, self.view)
    }

    fn owns(&self, caller: Caller, tenant: &KnownTenant) -> bool {
        caller == Caller::Administrator || tenant.is_owned_by(&self.user)
    }

    /// The tenant that a clear linkage names, if it is there and has the UID.
    fn tenant(&self, reference: TenantReference<'_>) -> Option<Arc<KnownTenant>> {
        self.view
            .tenant(reference.name)
            .filter(|tenant| *tenant.uid == *reference.uid)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Mutating
// ---------------------------------------------------------------------------------------------------------------------

/// Gives a new namespace to a tenant, or repairs the marks of one that is changed.
pub fn mutate(request: &Request<'_>) -> Decision<Namespace> {
    let Some(object) = request.object else {
        return Decision::Allow;
    };
    let caller = request.caller();
    if caller == Caller::Unknown || !request.subresource.is_empty() {
        return Decision::Allow;
    }
    let changed = match (request.operation, request.old) {
        (Operation::Create, _) => assign(request, caller, object),
        // Of the new object a caller may say that it ends; the old one knows.
        (Operation::Update, Some(old)) if is_terminating(old) => Ok(None),
        (Operation::Update, Some(_)) if caller == Caller::Administrator => harmonise(request, object),
        (Operation::Update, Some(old)) => keep(request, caller, object, old),
        (Operation::Update, None) | (Operation::Delete, _) => Ok(None),
    };
    changed
        .map(|changed| changed.filter(|changed| changed != object))
        .into()
}

/// A new namespace: the tenant that its label names, or the one of the caller's tenants that its name fits.
fn assign(request: &Request<'_>, caller: Caller, object: &Namespace) -> Result<Option<Namespace>, Denial> {
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
fn harmonise(request: &Request<'_>, object: &Namespace) -> Result<Option<Namespace>, Denial> {
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
fn keep(
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

/// The tenant of a namespace that a tenant user wants to change.
fn owned_tenant_of(
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

fn apply_metadata(namespace: &mut Namespace, tenant: &KnownTenant, name: &str) {
    let labels = namespace.metadata.labels.take().unwrap_or_default();
    let annotations = namespace.metadata.annotations.take().unwrap_or_default();
    let Metadata { labels, annotations } = metadata::applied(&tenant.object, name, &labels, &annotations, None);
    namespace.metadata.labels = Some(labels);
    namespace.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
}

// ---------------------------------------------------------------------------------------------------------------------
// Validating
// ---------------------------------------------------------------------------------------------------------------------

/// Refuses what must not be done with a namespace.
pub fn validate(request: &Request<'_>) -> Decision<Namespace> {
    let caller = request.caller();
    let result = match (request.operation, request.object, request.old) {
        (Operation::Create, Some(object), _) => validate_create(request, caller, object),
        (Operation::Update, Some(object), Some(old)) => validate_update(request, caller, object, old),
        (Operation::Delete, _, Some(old)) => validate_delete(request, caller, old),
        // Nothing to look at is nothing to vouch for.
        _ => Err(Denial::new("", "Unreadable", "the request carries no namespace").with_code(400)),
    };
    result.into()
}

/// The tenant in whose quota a create would take a place, if it passes: for those who reserve places.
pub fn quota_of(request: &Request<'_>) -> Option<Arc<KnownTenant>> {
    let reference = linkage::linkage(request.object?).ok()??;
    request
        .tenant(reference)
        .filter(|tenant| request.operation == Operation::Create && tenant.namespace_quota().is_some())
}

fn validate_create(request: &Request<'_>, caller: Caller, object: &Namespace) -> Result<(), Denial> {
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

/// The tenant of a new namespace; `None` if it is not a tenant's.
fn tenant_of_new(
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

fn validate_update(request: &Request<'_>, caller: Caller, object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    let is_moved = marks(object) != marks(old);
    if is_terminating(object) || is_terminating(old) || request.subresource == "finalize" {
        if is_moved {
            let message = "namespace tenant ownership can not change during termination";
            return Err(Denial::new(REFERENCES_FIELD, "ReasonNamespacePatch", message));
        }
        // Ending is for controllers, also for those that run in the tenant; all else is for owners.
        if is_terminating(old) || caller != Caller::TenantUser {
            return Ok(());
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

fn validate_delete(request: &Request<'_>, caller: Caller, old: &Namespace) -> Result<(), Denial> {
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

/// The tenant of a namespace as an administrator leaves it.
fn administrators_tenant(request: &Request<'_>, object: &Namespace) -> Result<Option<Arc<KnownTenant>>, Denial> {
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
fn marks(namespace: &Namespace) -> (Option<&str>, Vec<(&str, &str)>) {
    let references = linkage::references(namespace);
    let mut references: Vec<_> = references
        .map(|reference| (reference.name.as_str(), reference.uid.as_str()))
        .collect();
    references.sort_unstable();
    (linkage::label(namespace), references)
}

/// A namespace may neither enter tenancy nor leave it.
fn check_tie(object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    match (linkage::is_claimed(old), linkage::is_claimed(object)) {
        (false, true) => Err(patched_into()),
        (true, false) => Err(removed()),
        _ => Ok(()),
    }
}

/// A change of marks by a tenant user is a repair, or it is refused.
fn check_canonical(object: &Namespace, tenant: &KnownTenant) -> Result<(), Denial> {
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

fn removed() -> Denial {
    let message = format!(
        "{LABEL_FIELD}: namespace can not remove tenant ownership; only the administrators named in the \
         CapsuleConfiguration may do that"
    );
    Denial::new(LABEL_FIELD, "ReasonNamespacePatch", message)
}

fn migrated() -> Denial {
    let message = format!(
        "{REFERENCES_FIELD}: namespace can not be migrated between tenants; only the administrators named in the \
         CapsuleConfiguration may do that"
    );
    Denial::new(REFERENCES_FIELD, "ReasonNamespacePatch", message)
}

fn check_cordon(caller: Caller, tenant: &KnownTenant) -> Result<(), Denial> {
    if caller != Caller::TenantUser || !tenant.is_cordoned() {
        return Ok(());
    }
    let message = format!(
        "the selected tenant is cordoned: namespaces of Tenant {} can not be created, changed or deleted until an \
         administrator sets spec.cordoned of the Tenant to false",
        tenant.name
    );
    Err(Denial::new("", "Cordoned", message))
}

fn check_quota(request: &Request<'_>, tenant: &KnownTenant, name: &str) -> Result<(), Denial> {
    let Some(quota) = tenant.namespace_quota() else {
        return Ok(());
    };
    let others = request.view.count_others(tenant, name);
    if others < quota {
        return Ok(());
    }
    let message = format!(
        "Cannot exceed Namespace quota: please, reach out to the system administrators, who set \
         spec.namespaceOptions.quota of Tenant {} to {quota}; it has {others}",
        tenant.name
    );
    Err(Denial::new("", "Overprovisioned", message))
}

fn check_protected(request: &Request<'_>, name: &str) -> Result<(), Denial> {
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

fn check_prefix(request: &Request<'_>, tenant: &KnownTenant, name: &str) -> Result<(), Denial> {
    let Some(prefix) = tenant.required_prefix(request.settings.force_tenant_prefix) else {
        return Ok(());
    };
    if name.starts_with(&prefix) {
        return Ok(());
    }
    let set_by = if tenant.object.spec.force_tenant_prefix.is_some() {
        "spec.forceTenantPrefix of the Tenant"
    } else {
        "spec.forceTenantPrefix of the CapsuleConfiguration"
    };
    let message = format!(
        "{NAME_FIELD}: The namespace doesn't match the tenant prefix, expected {prefix}*: {name:?} has to begin with \
         {prefix:?}; an administrator set this with {set_by}"
    );
    Err(Denial::new(NAME_FIELD, "InvalidTenantPrefix", message))
}

/// Keys that owners may not set, change or remove. Those that we keep ourselves are not theirs.
fn check_forbidden(
    caller: Caller,
    tenant: &KnownTenant,
    object: &Namespace,
    old: Option<&Namespace>,
) -> Result<(), Denial> {
    let nothing_is_forbidden = tenant.forbidden_labels.is_empty() && tenant.forbidden_annotations.is_empty();
    if caller != Caller::TenantUser || nothing_is_forbidden {
        return Ok(());
    }
    let empty = BTreeMap::new();
    let labels = |namespace: Option<&'_ Namespace>| namespace.and_then(|namespace| namespace.metadata.labels.clone());
    let new_labels = labels(Some(object)).unwrap_or_default();
    let kept = metadata::managed(&tenant.object, name_of(object), &new_labels);
    let annotations = |namespace: &'_ Namespace| namespace.metadata.annotations.clone().unwrap_or_default();
    let parts = [
        (
            "labels",
            "ForbiddenLabel",
            &tenant.forbidden_labels,
            &kept.labels,
            new_labels,
            labels(old).unwrap_or_default(),
        ),
        (
            "annotations",
            "ForbiddenAnnotation",
            &tenant.forbidden_annotations,
            &kept.annotations,
            annotations(object),
            old.map_or(empty, annotations),
        ),
    ];
    for (what, reason, forbidden, kept, now, before) in parts {
        let changed = now
            .keys()
            .chain(before.keys())
            .filter(|key| now.get(*key) != before.get(*key));
        let own = |key: &&String| {
            !kept.contains_key(*key) && ![names::TENANT_LABEL, names::NAME_LABEL].contains(&key.as_str())
        };
        for key in changed.filter(own) {
            check_key(what, reason, key, forbidden, tenant)?;
        }
    }
    Ok(())
}

fn check_key(
    what: &str,
    reason: &'static str,
    key: &str,
    forbidden: &ForbiddenKeys,
    tenant: &KnownTenant,
) -> Result<(), Denial> {
    let field = format!("metadata.{what}[{key}]");
    let set_by = if what == "labels" {
        "forbiddenLabels"
    } else {
        "forbiddenAnnotations"
    };
    match forbidden.hold(key) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!(
                "{field}: namespace {what} validation failed: {key} is forbidden for the current Tenant. {}; an administrator \
                 set this with spec.namespaceOptions.{set_by} of Tenant {}",
                forbidden.describe(),
                tenant.name
            );
            Err(Denial::new(field, reason, message))
        }
        Err(error) => {
            let message = format!(
                "{field}: failed to tell whether the key is forbidden, because the pattern in \
                 spec.namespaceOptions.{set_by} of Tenant {} cannot be compiled: {error}; an administrator has to correct it",
                tenant.name
            );
            Err(Denial::new(field, "PatternInvalid", message).with_code(500))
        }
    }
}

/// What we keep on a namespace is not for tenant users to change: mutation has put it back on the namespace itself, so
/// this refuses what came by a subresource.
fn check_kept(caller: Caller, tenant: &KnownTenant, object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    if caller != Caller::TenantUser {
        return Ok(());
    }
    let (new, before) = (&object.metadata, &old.metadata);
    if new.labels == before.labels && new.annotations == before.annotations {
        return Ok(());
    }
    let empty = BTreeMap::new();
    let labels = new.labels.as_ref().unwrap_or(&empty);
    let kept = metadata::managed(&tenant.object, name_of(object), labels);
    let parts = [
        ("labels", kept.labels, &new.labels, &before.labels),
        ("annotations", kept.annotations, &new.annotations, &before.annotations),
    ];
    for (what, kept, now, before) in parts {
        let get =
            |map: &'_ Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key)).cloned();
        for (key, value) in kept {
            let has = get(now, &key);
            if has.as_deref() != Some(value.as_str()) && has != get(before, &key) {
                let field = format!("metadata.{what}[{key}]");
                let message = format!(
                    "{field}: it is kept at {value:?} for every namespace of Tenant {}; an administrator can change that in \
                     the Tenant",
                    tenant.name
                );
                return Err(Denial::new(field, "ForbiddenMetadata", message));
            }
        }
    }
    Ok(())
}

/// The node selector of a tenant is nobody's to change but ours: pods would run on other tenants' nodes.
fn check_node_selector(tenant: &KnownTenant, object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    let selector = &tenant.object.spec.node_selector;
    if selector.is_empty() {
        return Ok(());
    }
    let key = names::NODE_SELECTOR_ANNOTATION;
    let value = |namespace: &'_ Namespace| {
        namespace
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
            .cloned()
    };
    let (now, before, wanted) = (value(object), value(old), metadata::node_selector(selector));
    if now == before || now.as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    let field = format!("metadata.annotations[{key}]");
    let message = format!(
        "{field}: it is kept at {wanted:?} and can neither be removed nor changed; an administrator set this with \
         spec.nodeSelector of Tenant {}",
        tenant.name
    );
    Err(Denial::new(field, "ForbiddenNodeSelectorUpdate", message))
}

fn check_required(tenant: &KnownTenant, object: &Namespace, old: Option<&Namespace>) -> Result<(), Denial> {
    type Part = fn(&Namespace) -> Option<&BTreeMap<String, String>>;
    let parts: [(&str, &str, &RequiredValues, Part); 2] = [
        ("label", "labels", &tenant.required_labels, |namespace| {
            namespace.metadata.labels.as_ref()
        }),
        ("annotation", "annotations", &tenant.required_annotations, |namespace| {
            namespace.metadata.annotations.as_ref()
        }),
    ];
    for (what, plural, required, part) in parts {
        let is_changed = |key: &str, value: Option<&String>| {
            old.is_none_or(|old| part(old).and_then(|before| before.get(key)) != value)
        };
        let Some(missing) = required.missing(part(object), is_changed) else {
            continue;
        };
        let set_by = format!(
            "an administrator set this with spec.namespaceOptions.requiredMetadata.{plural} of Tenant {}",
            tenant.name
        );
        let (key, detail, code) = match missing {
            Missing::Absent { key } => (key, format!("required {what} {key:?} not present; {set_by}"), 403),
            Missing::Mismatch { key, value, pattern } => (
                key,
                format!("required {what} {key:?} has the value {value:?}, which does not match {pattern:?}; {set_by}"),
                403,
            ),
            Missing::Unknowable { key, error } => (
                key,
                format!("failed to check required {what} {key:?}: {error}; {set_by} and has to correct it"),
                500,
            ),
        };
        let field = format!("metadata.{plural}[{key}]");
        let message = format!("{field}: {detail}");
        return Err(Denial::new(field, "ForbiddenMetadata", message).with_code(code));
    }
    Ok(())
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

fn name_of(namespace: &Namespace) -> &str {
    namespace.metadata.name.as_deref().unwrap_or_default()
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

#[cfg(test)]
mod tests;
