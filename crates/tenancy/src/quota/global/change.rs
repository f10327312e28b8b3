//! What may be written into a GlobalResourceQuota.

use k8s_openapi::{api::core::v1::ResourceQuotaSpec, apimachinery::pkg::apis::meta::v1::LabelSelector};

use crate::{
    denial::Denial,
    quota::{amounts::Amounts, usage},
    selector::Selector,
};

const HARD: &str = "spec.quota.hard";

/// Checks the limits, scopes and selectors of a quota that somebody writes.
///
/// # Errors
/// If there are no limits, one of them is negative or no quantity, or a scope or selector cannot be evaluated.
pub fn validate(quota: &ResourceQuotaSpec, selectors: &[LabelSelector]) -> Result<Amounts, Denial> {
    let invalid = |field: &str, message: String| Denial::new(field, "InvalidQuota", message);
    let hard = Amounts::parse(HARD, quota.hard.as_ref()).map_err(|error| invalid(&error.field, error.to_string()))?;
    if hard == Amounts::default() {
        let message = format!("{HARD}: it is empty; it has to limit at least one resource");
        return Err(invalid(HARD, message));
    }
    usage::check_scopes(quota).map_err(|error| {
        let field = "spec.quota.scopeSelector";
        invalid(field, format!("{field}: {error}"))
    })?;
    for (index, selector) in selectors.iter().enumerate() {
        Selector::new(selector).map_err(|error| {
            let field = format!("spec.namespaceSelectors[{index}]");
            invalid(&field, format!("{field}: {error}"))
        })?;
    }
    Ok(hard)
}

/// Checks a change of a quota's limits: what is in use or promised stays allowed. `taken` is what was observed to be used
/// and what the ledger has allocated, the larger of both.
///
/// While the selectors change nobody knows what will be used, so nothing may shrink.
///
/// # Errors
/// If a limit is reduced or removed that may not be.
pub fn validate_change(old: &Amounts, new: &Amounts, selectors_change: bool, taken: &Amounts) -> Result<(), Denial> {
    check_change((HARD, "spec.namespaceSelectors"), old, new, selectors_change, taken)
}

/// The same of limits and selectors that stand in these fields.
pub(crate) fn check_change(
    (hard, selectors): (&str, &str),
    old: &Amounts,
    new: &Amounts,
    selectors_change: bool,
    taken: &Amounts,
) -> Result<(), Denial> {
    for (resource, before) in old.iter() {
        let field = format!("{hard}[{resource}]");
        let refuse = |what: String, rest: &str| {
            let message = format!("{field}: {before} {what}{rest}");
            Err(Denial::new(field.clone(), "QuotaInUse", message))
        };
        let reduction = match (new.names(resource), new.get(resource)) {
            (false, _) => Some(("cannot be removed".to_owned(), None)),
            (true, after) if after < before => Some((format!("cannot be reduced to {after}"), Some(after))),
            _ => None,
        };
        let Some((what, after)) = reduction else { continue };
        if selectors_change {
            return refuse(
                what,
                &format!(" while {selectors} changes; change the selectors first, then the limit"),
            );
        }
        let taken = taken.get(resource);
        if after.map_or(!taken.is_zero(), |after| after < taken) {
            return refuse(what, &format!(" while {taken} is allocated"));
        }
    }
    Ok(())
}
