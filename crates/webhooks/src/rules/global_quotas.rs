//! GlobalResourceQuotas: the objects, and what is taken of them.

use api::capsule::names;
use api::capsule::v1beta2::GlobalResourceQuota;
use kube::ResourceExt as _;
use tenancy::caller::{Caller, classify};
use tenancy::denial::{Decision, Denial};
use tenancy::quota::amounts::Amounts;
use tenancy::quota::global;
use tenancy::subject::User;

use crate::decide::{Input, Question, Verdict};

/// Refuses what exceeds a quota. The promises were made, or refused, while facts were collected.
pub fn calculate(question: &Question<'_>) -> Verdict {
    match &question.facts.quota_refusal {
        Some(denial) => Verdict::Deny(denial.clone()),
        None => Verdict::Allow { warnings: Vec::new() },
    }
}

/// Refuses limits and selectors that are none, limits below what is taken, and changes by others of what a Tenant's rules
/// made.
pub fn validate(input: &Input<'_, GlobalResourceQuota>) -> Decision<GlobalResourceQuota> {
    check(input).into()
}

fn check(input: &Input<'_, GlobalResourceQuota>) -> Result<(), Denial> {
    let is_managed = [input.object, input.old].into_iter().flatten().any(|quota| {
        quota.labels().get(names::MANAGED_BY_LABEL).map(String::as_str) == Some(names::MANAGED_BY_CONTROLLER)
    });
    if is_managed {
        check_caller(input)?;
    }
    let Some(quota) = input.object else { return Ok(()) };
    // While it ends, nothing but finalizers matters.
    if quota.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (spec, old) = (&quota.spec, input.old.map(|old| &old.spec));
    if old == Some(spec) {
        return Ok(());
    }
    let hard = global::validate(&spec.quota, &spec.namespace_selectors)?;
    let Some(old) = old else { return Ok(()) };
    let before = Amounts::observed(old.quota.hard.as_ref());
    let selectors_change = old.namespace_selectors != spec.namespace_selectors;
    global::validate_change(&before, &hard, selectors_change, &input.facts.taken)
}

fn check_caller(input: &Input<'_, GlobalResourceQuota>) -> Result<(), Denial> {
    let user = User::of(&input.request.user_info);
    let settings = &input.view.settings;
    match classify(&user, settings, &input.view.known) {
        Caller::Administrator => Ok(()),
        Caller::TenantUser | Caller::Unknown => {
            let field = format!("metadata.labels[{}]", names::MANAGED_BY_LABEL);
            let quotas = [input.old, input.object].into_iter().flatten();
            let tenant = quotas
                .flat_map(GlobalResourceQuota::owner_references)
                .find(|owner| owner.kind == names::TENANT_KIND);
            let tenant = tenant.map_or_else(
                || "the Tenant".to_owned(),
                |owner| format!("the Tenant {:?}", owner.name),
            );
            let message = format!(
                "{field}: Labeling resources as controller managed can only be done by the controller or administrators; \
                 change the rules of {tenant} that this object follows from"
            );
            Err(Denial::new(field, "ManagedByController", message))
        }
    }
}
