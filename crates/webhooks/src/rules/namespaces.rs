//! Namespaces: whose they are, and how many.

use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use tenancy::denial::Decision;
use tenancy::index::View;
use tenancy::namespace_admission::{self as admission, Request};
use tenancy::subject::User;

use super::objects;
use crate::decide::Input;
use crate::review::Operation;

/// Gives a new namespace to its tenant, and repairs the marks of belonging on one that is changed.
pub fn mutate(input: &Input<'_, Namespace>) -> Decision<Namespace> {
    match request(input, &input.view.known) {
        Some(request) => objects::settle_namespace(input, admission::mutate(&request)),
        None => Decision::Allow,
    }
}

/// Refuses what must not be done with a namespace, and takes a place in its tenant's quota for a new one.
pub fn validate(input: &Input<'_, Namespace>) -> Decision<Namespace> {
    // Before: what the rest lets pass is remembered.
    if let Err(denial) = objects::validate_namespace(input) {
        return Decision::Deny(denial);
    }
    let Some(request) = request(input, &input.view.known) else {
        return Decision::Allow;
    };
    let Some(tenant) = admission::quota_of(&request) else {
        return admission::validate(&request);
    };
    let known = &input.view.known;
    let name = input
        .object
        .and_then(|object| object.metadata.name.as_deref())
        .unwrap_or_default();
    let is_dry_run = input.request.dry_run == Some(true);
    let is_seen = |name: &str| known.namespace(name).is_some();
    input
        .view
        .reservations()
        .admit(&tenant.uid, name, is_dry_run, Instant::now(), is_seen, |reserved| {
            let uncounted = reserved.iter().filter(|name| !input.facts.counted.contains(**name));
            let others = known.count_others(&tenant, name) + uncounted.count();
            let view = known.clone().with_namespace_count(&tenant.uid, others);
            let decision = admission::validate(&Request { view: &view, ..request });
            (decision.denial().is_none(), decision)
        })
}

fn request<'a>(input: &Input<'a, Namespace>, view: &'a View) -> Option<Request<'a>> {
    let operation = match input.request.operation {
        Operation::Create => admission::Operation::Create,
        Operation::Update => admission::Operation::Update,
        Operation::Delete => admission::Operation::Delete,
        Operation::Connect => return None,
    };
    Some(Request {
        operation,
        subresource: input.request.sub_resource.as_deref().unwrap_or_default(),
        user: User::of(&input.request.user_info),
        object: input.object,
        old: input.old,
        settings: &input.view.settings,
        view,
    })
}
