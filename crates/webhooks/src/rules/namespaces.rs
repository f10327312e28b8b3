//! Namespaces: whose they are, and how many.

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

/// Refuses what must not be done with a namespace. Its place in the quota, if there was one, is taken already.
pub fn validate(input: &Input<'_, Namespace>) -> Decision<Namespace> {
    if let Err(denial) = objects::validate_namespace(input) {
        return Decision::Deny(denial);
    }
    match request(input, &input.view.known) {
        Some(request) => admission::validate(&request),
        None => Decision::Allow,
    }
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
