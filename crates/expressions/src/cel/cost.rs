//! What a call costs, by Kubernetes' model: `library/cost.go` of the API server first, then cel-go's `runtimecost.go`.

use super::{
    eval::{Meter, Result},
    value::Value,
};

pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;

/// Going through a text, per character.
const TRAVERSAL: f64 = 0.1;
/// A step of a pattern, per character of the pattern.
const PATTERN: f64 = 0.25;

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn ceil(size: f64, factor: f64) -> u64 {
    (size * factor).ceil() as u64
}

#[allow(clippy::cast_precision_loss)]
fn traversal(size: u64) -> u64 {
    ceil(size as f64, TRAVERSAL)
}

#[allow(clippy::cast_precision_loss)]
fn twice(size: u64) -> u64 {
    ceil(size as f64 * 2.0, TRAVERSAL)
}

#[allow(clippy::cast_precision_loss)]
fn pattern(text: u64, pattern: u64) -> u64 {
    ceil(1.0 + text as f64, TRAVERSAL).saturating_mul(ceil(pattern as f64, PATTERN))
}

pub(super) fn of(
    function: &str,
    overload: Option<&str>,
    args: &[Value<'_>],
    result: &Value<'_>,
    meter: &mut Meter,
) -> Result<u64> {
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    if let Some(cost) = overload.and_then(|overload| of_list(overload, args, result)) {
        return Ok(cost);
    }
    Ok(match function {
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            args.first().map_or(Ok(0), |value| deep(value, meter))?
        }
        "ip" if overload == Some("cidr_ip") => 1,
        "ip" | "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "quantity"
        | "isQuantity" | "semver" | "isSemver" => traversal(size(0)),
        "replace" | "split" | "ip.isCanonical" => twice(size(0)),
        "join" => twice(result.size()),
        "find" | "findAll" => pattern(size(0), size(1)),
        "containsIP" | "containsCIDR" => {
            let mut cost = twice(size(0));
            if function == "containsCIDR" {
                cost += traversal(size(0)) + 1;
            }
            if matches!(overload, Some("cidr_contains_ip_string" | "cidr_contains_cidr_string")) {
                cost += traversal(size(1));
            }
            cost
        }
        "validate" => match &args[0] {
            Value::Format(format) => pattern(size(1), format.pattern_size),
            _ => 1,
        },
        "_==_" if is_library_value(&args[0]) => 1,
        _ => of_overload(overload, &size),
    })
}

fn is_library_value(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Quantity(_) | Value::Ip(_) | Value::Cidr(_) | Value::Format(_) | Value::Url(_) | Value::Semver(_)
    )
}

fn of_overload(overload: Option<&str>, size: &dyn Fn(usize) -> u64) -> u64 {
    match overload.unwrap_or_default() {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => traversal(size(0)),
        "in_list" => size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => traversal(size(0).min(size(1))),
        "add_string" | "add_bytes" => traversal(size(0).saturating_add(size(1))),
        "matches_string" => pattern(size(0), size(1)),
        "contains_string" => traversal(size(0)).saturating_mul(traversal(size(1))),
        _ => 1,
    }
}

/// cel-go's list and set libraries count for themselves.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn of_list(overload: &str, args: &[Value<'_>], result: &Value<'_>) -> Option<u64> {
    let allocating = |factor: f64, size: u64| (size as f64 * factor) as u64 + 1 + LIST;
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, result.size()),
        "list_flatten" => allocating(1.0, size(0)),
        "list_flatten_int" => match args.get(1) {
            Some(Value::Int(depth)) => allocating(*depth as f64, size(0)),
            _ => return None,
        },
        "list_distinct" => self_compare(&args[0], allocating),
        "list_sets_contains_list" | "list_sets_intersects_list" => 1 + size(0).saturating_mul(size(1)),
        "list_sets_equivalent_list" => 1 + size(0).saturating_mul(size(1)).saturating_mul(2),
        sort if sort.ends_with("_sort") => self_compare(&args[0], allocating),
        sort if sort.ends_with("_sortByAssociatedKeys") => self_compare(args.get(1)?, allocating),
        _ => return None,
    })
}

fn self_compare(list: &Value<'_>, allocating: impl Fn(f64, u64) -> u64) -> u64 {
    let factor = match list {
        Value::List(list) if matches!(list.get(0), Some(Value::String(_) | Value::Bytes(_))) => 2.1,
        _ => 2.0,
    };
    allocating(factor, list.size().saturating_mul(list.size()))
}

/// Going through a value with all that is in it. Texts inside count by their bytes, rounded down.
fn deep(value: &Value<'_>, meter: &mut Meter) -> Result<u64> {
    meter.work(1)?;
    Ok(match value {
        Value::String(text) => text.len() as u64 / 10,
        Value::Bytes(bytes) => bytes.len() as u64 / 10,
        Value::List(list) => list
            .iter()
            .try_fold(0, |sum: u64, element| Ok(sum.saturating_add(deep(&element, meter)?)))?,
        Value::Map(map) => map.entries().iter().try_fold(0, |sum: u64, (key, value)| {
            let entry = deep(&key.value(), meter)?.saturating_add(deep(value, meter)?);
            Ok(sum.saturating_add(entry))
        })?,
        _ => 1,
    })
}
