//! CustomQuotas and GlobalCustomQuotas: the objects, and what is taken of them.

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuotaSource, QuotaUsage};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use tenancy::denial::{Decision, Denial};
use tenancy::quantity::Quantity;
use tenancy::quota::custom;
use tenancy::selector::Selector;

use crate::decide::{Input, Question, Verdict};

/// Refuses what exceeds a quota. The promises were made, or refused, while facts were collected.
pub fn calculate(question: &Question<'_>) -> Verdict {
    match &question.facts.quota_refusal {
        Some(denial) => Verdict::Deny(denial.clone()),
        None => Verdict::Allow { warnings: Vec::new() },
    }
}

/// Refuses limits, expressions and selectors that are none, and changes that what is used does not allow.
pub fn validate(input: &Input<'_, CustomQuota>) -> Decision<CustomQuota> {
    let (Some(quota), old) = (input.object, input.old) else {
        return Decision::Allow;
    };
    if is_settled(&quota.metadata, old.map(|old| old.spec == quota.spec)) {
        return Decision::Allow;
    }
    if old.is_none() {
        let namespace = input.request.namespace.as_deref().unwrap_or_default();
        if let Err(denial) = custom::validate_number(input.view.custom_quotas(namespace)) {
            return Decision::Deny(denial);
        }
    }
    let (spec, usage) = (
        &quota.spec,
        old.and_then(|old| old.status.as_ref()).map(|status| &status.usage),
    );
    let written = Written {
        limit: &spec.limit,
        sources: &spec.sources,
        scope_selectors: &spec.scope_selectors,
    };
    written
        .check(input, old.map(|old| old.spec.sources.as_slice()), usage)
        .into()
}

/// The same of one of the cluster.
pub fn validate_global(input: &Input<'_, GlobalCustomQuota>) -> Decision<GlobalCustomQuota> {
    let (Some(quota), old) = (input.object, input.old) else {
        return Decision::Allow;
    };
    if is_settled(&quota.metadata, old.map(|old| old.spec == quota.spec)) {
        return Decision::Allow;
    }
    let (spec, usage) = (
        &quota.spec,
        old.and_then(|old| old.status.as_ref()).map(|status| &status.usage),
    );
    let written = Written {
        limit: &spec.limit,
        sources: &spec.sources,
        scope_selectors: &spec.scope_selectors,
    };
    written
        .check(input, old.map(|old| old.spec.sources.as_slice()), usage)
        .and_then(|()| check_namespaces(&spec.namespace_selectors))
        .into()
}

/// While it ends nothing but finalizers matters; and what was stored is not judged again when labels change.
fn is_settled(metadata: &ObjectMeta, is_same: Option<bool>) -> bool {
    metadata.deletion_timestamp.is_some() || is_same == Some(true)
}

/// What both kinds have.
struct Written<'a> {
    limit: &'a Wire,
    sources: &'a [QuotaSource],
    scope_selectors: &'a [LabelSelector],
}

impl Written<'_> {
    fn check<K>(
        &self,
        input: &Input<'_, K>,
        old: Option<&[QuotaSource]>,
        usage: Option<&QuotaUsage>,
    ) -> Result<(), Denial> {
        let languages = input.view.languages();
        let limit = custom::validate(self.limit, self.sources, self.scope_selectors, languages)?;
        let Some(old) = old else { return Ok(()) };
        let used = usage.and_then(|usage| usage.used.as_ref());
        let used = used.and_then(|used| Quantity::parse(used).ok()).unwrap_or_default();
        custom::validate_change(old, self.sources, limit, used)
    }
}

fn check_namespaces(selectors: &[LabelSelector]) -> Result<(), Denial> {
    for (index, selector) in selectors.iter().enumerate() {
        let field = format!("spec.namespaceSelectors[{index}]");
        Selector::new(selector)
            .map_err(|error| Denial::new(field.clone(), "InvalidQuota", format!("{field}: {error}")))?;
    }
    Ok(())
}
