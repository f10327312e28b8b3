//! What replications made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tenancy::denial::Denial;
use tenancy::subject::User;

use crate::decide::{Question, Verdict};
use crate::view::View;

/// Refuses everybody but the replication itself to change or delete what it made, administrators too: it would be made again as it
/// was.
pub fn decide(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    // A request to delete many is asked about once for each object, and names none of them.
    let name = match request
        .old_object
        .as_deref()
        .map(|old| serde_json::from_str::<Named>(old.get()))
    {
        Some(Ok(old)) => old.metadata.name.unwrap_or_default(),
        Some(Err(error)) => {
            let message = format!("failed to read the {}: {error}", request.kind.kind);
            return Verdict::Deny(Denial::new("metadata", "Unreadable", message).with_code(400));
        }
        None => request.name.clone(),
    };
    said(view.replicated().decide(
        &User::of(&request.user_info),
        &request.kind.group,
        &request.kind.kind,
        request.namespace.as_deref().unwrap_or_default(),
        &name,
        |one, other| are_of_one_tenant(view, one, other),
    ))
}

/// Refuses them to change how many replicas it has: what is sent says no more than its name.
pub fn decide_scale(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    said(view.replicated().decide_scale(
        &User::of(&request.user_info),
        &request.resource.group,
        &request.resource.resource,
        request.namespace.as_deref().unwrap_or_default(),
        &request.name,
        |one, other| are_of_one_tenant(view, one, other),
    ))
}

fn are_of_one_tenant(view: &View, one: &str, other: &str) -> bool {
    let tenant = |namespace: &str| {
        let known = view.index().namespace(namespace)?;
        known.tenant.as_ref().ok()?.as_ref().map(|(_, uid)| uid.clone())
    };
    one == other || tenant(one).is_some_and(|of| tenant(other) == Some(of))
}

fn said(decision: Result<(), Denial>) -> Verdict {
    match decision {
        Ok(()) => Verdict::Allow { warnings: Vec::new() },
        Err(denial) => Verdict::Deny(denial),
    }
}

#[derive(serde::Deserialize)]
struct Named {
    metadata: ObjectMeta,
}
