//! What a custom quota measures of one object.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{QuotaOperation, QuotaSource, SourceSelector, VersionKind};
use serde_json::Value;

use super::{Custom, Expressions};
use crate::{quantity::Quantity, selector::Selector};

/// An object that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The group of its API; empty for the core.
    pub group: &'a str,
    /// The version of its API.
    pub version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// All of it.
    pub object: &'a Value,
}

/// An object that a source is about and that cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.sources[{source_index}]: {problem}")]
pub struct Unmeasured {
    /// The place of the source.
    pub source_index: usize,
    /// What is wrong.
    pub problem: String,
}

/// What a quota makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How much it adds; less than nothing, if it only subtracts.
    pub amount: Quantity,
    /// The place of the first source that is about it.
    pub rank: usize,
}

/// Measures an object. `None` if the quota is not about it.
///
/// # Errors
/// If the quota is about it and finds nothing that it can count.
pub fn measure(
    quota: &Custom,
    object: &Measured<'_>,
    expressions: &impl Expressions,
) -> Result<Option<Usage>, Unmeasured> {
    let (mut total, mut adds, mut rank) = (Quantity::ZERO, false, None);
    for (index, source) in quota.sources.iter().enumerate() {
        if !is_of_kind(&source.kind, object) {
            continue;
        }
        let unmeasured = |problem: String| Unmeasured {
            source_index: index,
            problem,
        };
        if !in_scope(quota, object).map_err(unmeasured)? {
            return Ok(None);
        }
        if !is_selected(source, object, expressions).map_err(unmeasured)? {
            continue;
        }
        rank = rank.or(Some(index));
        let amount = amount(source, object.object, expressions).map_err(unmeasured)?;
        if source.op == QuotaOperation::Sub {
            total = total.minus(amount);
        } else {
            adds = true;
            total = total.plus(amount);
        }
    }
    let amount = if adds { total.max(Quantity::ZERO) } else { total };
    Ok(rank.map(|rank| Usage { amount, rank }))
}

/// Whether a source is about objects of this kind. A bare group is any of its versions, and `*` any group.
fn is_of_kind(wanted: &VersionKind, object: &Measured<'_>) -> bool {
    let kind = wanted.kind == "*" || wanted.kind == object.kind;
    let version = match wanted.api_version.split_once('/') {
        Some((group, version)) => group == object.group && (version == object.version || version == "*"),
        None => match wanted.api_version.as_str() {
            "*" => true,
            "" => object.group.is_empty() && object.version == "v1",
            one if is_version(one) => object.group.is_empty() && one == object.version,
            group => group == object.group,
        },
    };
    kind && version
}

/// `v1`, `v2beta1` and the like: a version of the core, and no group.
pub(super) fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let mut parts = rest
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty());
    let word: String = rest.chars().filter(|c| !c.is_ascii_digit()).collect();
    rest.starts_with(|c: char| c.is_ascii_digit())
        && match word.as_str() {
            "" => parts.clone().count() == 1,
            "alpha" | "beta" => parts.next().is_some() && rest.ends_with(|c: char| c.is_ascii_digit()),
            _ => false,
        }
}

/// Whether one of the quota's selectors selects the object, or there is none.
fn in_scope(quota: &Custom, object: &Measured<'_>) -> Result<bool, String> {
    for selector in &quota.scope_selectors {
        let selector = Selector::new(selector).map_err(|error| format!("spec.scopeSelectors: {error}"))?;
        if selector.matches(object.labels) {
            return Ok(true);
        }
    }
    Ok(quota.scope_selectors.is_empty())
}

/// Whether one of the source's selectors selects the object, or there is none.
fn is_selected(source: &QuotaSource, object: &Measured<'_>, expressions: &impl Expressions) -> Result<bool, String> {
    for selector in &source.selectors {
        if selects(selector, object, expressions)? {
            return Ok(true);
        }
    }
    Ok(source.selectors.is_empty())
}

fn selects(selector: &SourceSelector, object: &Measured<'_>, expressions: &impl Expressions) -> Result<bool, String> {
    let by_label =
        Selector::of(&selector.match_labels, &selector.match_expressions).map_err(|error| error.to_string())?;
    if !by_label.matches(object.labels) {
        return Ok(false);
    }
    for field in &selector.field_selectors {
        if !expressions.selects(field, object.object)? {
            return Ok(false);
        }
    }
    for cel in &selector.cel_expressions {
        if !expressions.holds(cel, object.object)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a source says of an object: nothing or more, since less would make room for others.
fn amount(source: &QuotaSource, object: &Value, expressions: &impl Expressions) -> Result<Quantity, String> {
    if source.op == QuotaOperation::Count {
        return Ok(Quantity::ONE);
    }
    let (what, amounts) = if source.path.is_empty() {
        ("cel", expressions.quantities(&source.cel, object)?)
    } else {
        let found = expressions.path(&source.path, object)?;
        let amounts: Result<Vec<Quantity>, _> = found.split_whitespace().map(str::parse).collect();
        let amounts = amounts.map_err(|error| format!("path {:?} found something that {error}", source.path));
        ("path", amounts?)
    };
    let text = if source.path.is_empty() {
        &source.cel
    } else {
        &source.path
    };
    if amounts.is_empty() {
        return Err(format!("{what} {text:?} did not resolve to any value"));
    }
    if let Some(negative) = amounts.iter().find(|amount| amount.is_negative()) {
        return Err(format!(
            "{what} {text:?} resolved to {negative}, which is less than nothing; it has to be 0 or more"
        ));
    }
    Ok(amounts.into_iter().fold(Quantity::ZERO, Quantity::plus))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::custom::tests::{Fake, object, quota};
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("", "", "v1", true)]
    #[case("", "apps", "v1", false)]
    #[case("v1", "", "v1", true)]
    #[case("v1", "apps", "v1", false)]
    #[case("v2beta1", "", "v1", false)]
    #[case("apps", "apps", "v1beta1", true)]
    #[case("apps/v1", "apps", "v1", true)]
    #[case("apps/v1", "apps", "v1beta1", false)]
    #[case("*", "anything", "v7", true)]
    #[case("velero.io", "velero.io", "v1", true)]
    #[case("v1.example.com", "v1.example.com", "v1", true)]
    fn sources_name_groups_and_versions(
        #[case] wanted: &str,
        #[case] group: &str,
        #[case] version: &str,
        #[case] expected: bool,
    ) {
        let labels = BTreeMap::new();
        let wanted = VersionKind {
            api_version: wanted.to_owned(),
            kind: "Thing".to_owned(),
        };
        let object = Measured {
            group,
            version,
            kind: "Thing",
            labels: &labels,
            object: &json!({}),
        };
        assert_eq!(is_of_kind(&wanted, &object), expected);
    }

    fn measured(sources: Value, of: Value) -> Result<Option<(String, usize)>, String> {
        let quota = quota("q", "10", sources);
        let (labels, of) = object(of);
        let measured = Measured {
            group: "",
            version: "v1",
            kind: "Thing",
            labels: &labels,
            object: &of,
        };
        measure(&quota, &measured, &Fake)
            .map(|usage| usage.map(|usage| (usage.amount.to_string(), usage.rank)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn paths_add_up_and_subtract_whatever_the_order() {
        let add = json!({"kind": "Thing", "path": ".a"});
        let sub = json!({"kind": "Thing", "op": "sub", "path": ".b"});
        let count = json!({"kind": "Thing", "op": "count"});
        let thing = json!({"a": "3 2", "b": "4"});
        let is = |amount: &str| Ok(Some((amount.to_owned(), 0)));
        assert_eq!(measured(json!([add]), thing.clone()), is("5"));
        assert_eq!(measured(json!([add, sub]), thing.clone()), is("1"));
        assert_eq!(measured(json!([sub, add]), thing.clone()), is("1"));
        assert_eq!(measured(json!([sub, count]), thing.clone()), is("0"));
        assert_eq!(measured(json!([count, sub]), thing.clone()), is("0"));
        assert_eq!(measured(json!([sub]), thing), is("-4"));
    }

    #[test]
    fn an_object_of_another_kind_or_that_no_selector_selects_is_not_counted() {
        let other = json!([{"kind": "Other", "op": "count"}]);
        assert_eq!(measured(other, json!({})), Ok(None));
        let labelled = json!([{"kind": "Thing", "op": "count", "selectors": [{"matchLabels": {"size": "big"}}]}]);
        assert_eq!(measured(labelled.clone(), json!({})), Ok(None));
        let big = json!({"metadata": {"labels": {"size": "big"}}});
        assert_eq!(measured(labelled, big), Ok(Some(("1".to_owned(), 0))));
        let second = json!([
            {"kind": "Thing", "op": "count", "selectors": [{"fieldSelectors": [".no"]}, {"celExpressions": ["no"]}]},
            {"kind": "Thing", "op": "count", "selectors": [{"fieldSelectors": [".yes"], "celExpressions": ["yes"]}]},
        ]);
        assert_eq!(measured(second, json!({"yes": true})), Ok(Some(("1".to_owned(), 1))));
    }

    #[rstest]
    #[case(json!({}), "spec.sources[0]: path \".a\" did not resolve to any value")]
    #[case(json!({"a": "many"}), "spec.sources[0]: path \".a\" found something that \"many\" is not a quantity")]
    #[case(json!({"a": "-1"}), "spec.sources[0]: path \".a\" resolved to -1, which is less than nothing")]
    fn what_cannot_be_counted_is_an_error(#[case] of: Value, #[case] begins: &str) {
        let error = measured(json!([{"kind": "Thing", "path": ".a"}]), of).unwrap_err();
        assert!(error.starts_with(begins), "{error}");
    }

    #[test]
    fn an_object_outside_of_the_scope_is_not_even_looked_at() {
        let mut quota = quota("q", "10", json!([{"kind": "Thing", "path": ".a"}]));
        quota.scope_selectors = serde_json::from_value(json!([{"matchLabels": {"in": "yes"}}])).unwrap();
        let (labels, of) = object(json!({}));
        let measured = Measured {
            group: "",
            version: "v1",
            kind: "Thing",
            labels: &labels,
            object: &of,
        };
        assert_eq!(measure(&quota, &measured, &Fake), Ok(None));
    }
}
