//! Frozen namespaces.

use tenancy::caller::classify;
use tenancy::cordon::{self, Attempt};
use tenancy::subject::User;

use crate::decide::{Question, Verdict};

/// Refuses tenant users every change in a cordoned namespace, whatever the kind, and to go into what runs there.
pub fn decide(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let tenant = view.known.tenant_of(namespace).ok().flatten();
    let attempt = Attempt {
        operation: request.operation.as_str(),
        group: &request.kind.group,
        version: &request.kind.version,
        kind: &request.kind.kind,
        name: &request.name,
        namespace,
        tenant: tenant.as_ref().map(|tenant| tenant.name.as_str()),
    };
    let caller = classify(&User::of(&request.user_info), &view.settings, &view.known);
    match cordon::decide(caller, &attempt) {
        Ok(()) => Verdict::Allow { warnings: Vec::new() },
        Err(denial) => Verdict::Deny(denial),
    }
}
