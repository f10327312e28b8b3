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

mod kept;
mod limits;
mod mutation;
mod ownership;
#[cfg(test)]
mod tests;
mod validation;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;

use crate::{
    caller::{self, Caller},
    denial::{Decision, Denial},
    index::{KnownTenant, View},
    linkage::TenantReference,
    settings::Settings,
    subject::User,
};
use mutation::{assign, harmonise, keep};
use validation::{validate_create, validate_delete, validate_update};

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

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

fn name_of(namespace: &Namespace) -> &str {
    namespace.metadata.name.as_deref().unwrap_or_default()
}
