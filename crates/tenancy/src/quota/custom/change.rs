//! What may be written into a custom quota.

use api::capsule::v1beta2::{QuotaOperation, QuotaSource};
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity as Wire, apis::meta::v1::LabelSelector};

use super::{Expressions, LIMIT};
use crate::{denial::Denial, quantity::Quantity, selector::Selector};

/// Most sources of a quota.
const MOST_SOURCES: usize = 32;
/// Most selectors of a quota.
const MOST_SELECTORS: usize = 64;
/// Most expressions of a quota, in whatever language: each is evaluated over every object that the quota counts.
const MOST_EXPRESSIONS: usize = 128;
/// Most CustomQuotas in a namespace: each of them may have to be asked about one object.
pub const MOST_QUOTAS: usize = 50;

/// Checks a new quota of a namespace where there are so many already.
///
/// # Errors
/// If there are too many.
pub fn validate_number(beside: usize) -> Result<(), Denial> {
    if beside < MOST_QUOTAS {
        return Ok(());
    }
    let message = format!(
        "this namespace has {beside} CustomQuotas, and a namespace has at most {MOST_QUOTAS}; a quota can have several sources"
    );
    Err(Denial::new("", "TooManyQuotas", message))
}

fn check_size(sources: &[QuotaSource], scope_selectors: &[LabelSelector]) -> Result<(), Denial> {
    let selectors = || sources.iter().flat_map(|source| &source.selectors);
    let of_selectors = selectors().map(|selector| selector.field_selectors.len() + selector.cel_expressions.len());
    let said = sources.iter().flat_map(|source| [&source.path, &source.cel]);
    let expressions = said.filter(|text| !text.is_empty()).count() + of_selectors.sum::<usize>();
    for (field, what, number, most) in [
        ("spec.sources", "sources", sources.len(), MOST_SOURCES),
        (
            "spec",
            "selectors",
            selectors().count() + scope_selectors.len(),
            MOST_SELECTORS,
        ),
        ("spec.sources", "expressions", expressions, MOST_EXPRESSIONS),
    ] {
        if number > most {
            return Err(invalid(
                field,
                format_args!(
                    "there are {number} {what}; a quota has at most {most}, another quota can have the others"
                ),
            ));
        }
    }
    Ok(())
}

/// Checks a quota that somebody writes.
///
/// # Errors
/// If the limit is none, or an expression or selector cannot be evaluated.
pub fn validate(
    limit: &Wire,
    sources: &[QuotaSource],
    scope_selectors: &[LabelSelector],
    expressions: &impl Expressions,
) -> Result<Quantity, Denial> {
    let limit = positive(limit)?;
    check_size(sources, scope_selectors)?;
    for (index, source) in sources.iter().enumerate() {
        check_source(source, &format!("spec.sources[{index}]"), expressions)?;
    }
    for (index, selector) in scope_selectors.iter().enumerate() {
        let field = format!("spec.scopeSelectors[{index}]");
        Selector::new(selector).map_err(|error| invalid(&field, error))?;
    }
    Ok(limit)
}

fn positive(limit: &Wire) -> Result<Quantity, Denial> {
    let limit = Quantity::parse(limit).map_err(|error| invalid(LIMIT, error))?;
    if limit > Quantity::ZERO {
        return Ok(limit);
    }
    Err(invalid(
        LIMIT,
        format_args!("quantity must not be negative or 0, and {limit} is; a limit is more than nothing"),
    ))
}

fn check_source(source: &QuotaSource, field: &str, expressions: &impl Expressions) -> Result<(), Denial> {
    let said = [&source.path, &source.cel]
        .iter()
        .filter(|text| !text.is_empty())
        .count();
    match source.op {
        QuotaOperation::Count if said > 0 => {
            return Err(invalid(field, "path and cel must be empty when op is 'count'"));
        }
        QuotaOperation::Add | QuotaOperation::Sub if said != 1 => {
            return Err(invalid(field, "exactly one of path or cel must be set"));
        }
        _ => {}
    }
    let check =
        |name: &str, checked: Result<(), String>| checked.map_err(|error| invalid(&format!("{field}.{name}"), error));
    if !source.path.is_empty() {
        check("path", expressions.check_path(&source.path))?;
    }
    if !source.cel.is_empty() {
        check("cel", expressions.check_quantities(&source.cel))?;
    }
    for (index, selector) in source.selectors.iter().enumerate() {
        let labels = Selector::of(&selector.match_labels, &selector.match_expressions);
        check(
            &format!("selectors[{index}]"),
            labels.map(|_| ()).map_err(|error| error.to_string()),
        )?;
        for field in &selector.field_selectors {
            check(
                &format!("selectors[{index}].fieldSelectors"),
                expressions.check_selector(field),
            )?;
        }
        for cel in &selector.cel_expressions {
            check(
                &format!("selectors[{index}].celExpressions"),
                expressions.check_condition(cel),
            )?;
        }
    }
    Ok(())
}

/// Checks a change of a quota of which something is used: the sources measure the same, and the limit is not below it.
///
/// `cel` and selectors can be changed: the quota refuses everything until it is counted anew.
///
/// # Errors
/// If something is used, and the sources change or the limit becomes less than that.
pub fn validate_change(
    old: &[QuotaSource],
    new: &[QuotaSource],
    limit: Quantity,
    used: Quantity,
) -> Result<(), Denial> {
    if used <= Quantity::ZERO {
        return Ok(());
    }
    let measured = |sources: &[QuotaSource]| -> Vec<_> {
        sources
            .iter()
            .map(|source| (source.kind.clone(), source.path.clone(), source.op))
            .collect()
    };
    if measured(old) != measured(new) {
        let message = format!(
            "spec.sources: apiVersion, kind, path and op of the sources cannot change while {used} is used; make another \
             quota instead"
        );
        return Err(Denial::new("spec.sources", "QuotaInUse", message));
    }
    if limit < used {
        let message = format!("{LIMIT}: {limit} is less than {used}, which is used; it has to be at least that");
        return Err(Denial::new(LIMIT, "QuotaInUse", message));
    }
    Ok(())
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Denial {
    Denial::new(field, "InvalidQuota", format!("{field}: {problem}"))
}
