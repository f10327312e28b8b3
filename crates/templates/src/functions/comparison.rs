//! `eq`, `lt` and their kin.

use std::cmp::Ordering;

use super::Type::Raw;
use super::{Arguments, Function, fixed, variadic};
use crate::error::Failure;
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    variadic("eq", &[Raw], Raw, |_, arguments| {
        Ok(Value::Bool(equals_any(arguments.value(0)?, arguments.from(1))?))
    }),
    fixed("ne", &[Raw, Raw], |_, arguments| {
        Ok(Value::Bool(!equals_any(arguments.value(0)?, arguments.from(1))?))
    }),
    fixed("lt", &[Raw, Raw], |_, arguments| Ok(Value::Bool(is_less(arguments)?))),
    fixed("le", &[Raw, Raw], |_, arguments| {
        Ok(Value::Bool(is_less_or_equal(arguments)?))
    }),
    fixed("gt", &[Raw, Raw], |_, arguments| {
        Ok(Value::Bool(!is_less_or_equal(arguments)?))
    }),
    fixed("ge", &[Raw, Raw], |_, arguments| Ok(Value::Bool(!is_less(arguments)?))),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    Text,
    /// Lists, dicts, times, versions and no value.
    Other,
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Bool(_) => Kind::Bool,
        Value::Int(_) | Value::Int64(_) => Kind::Int,
        Value::Uint8(_) | Value::Uint64(_) => Kind::Uint,
        Value::Float(_) => Kind::Float,
        Value::Text(_) => Kind::Text,
        _ => Kind::Other,
    }
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Missing | Value::Nil)
}

fn equals_any(value: &Value, others: &[Value]) -> Result<bool, Failure> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equals(value, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equals(a: &Value, b: &Value) -> Result<bool, Failure> {
    if let (Some(a), Some(b)) = (a.integer(), b.integer()) {
        return Ok(a == b);
    }
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        #[allow(clippy::float_cmp)] // as Go compares
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        _ if kind(a) != kind(b) => {
            if is_nothing(a) || is_nothing(b) {
                return Ok(false);
            }
            return Err(incompatible(a, b));
        }
        _ if is_nothing(a) || is_nothing(b) => a.is_nil() == b.is_nil(),
        _ if a.kind_name() != b.kind_name() => return Err(incompatible(a, b)),
        _ if a.is_nil() || b.is_nil() => a.is_nil() == b.is_nil(),
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Version(a), Value::Version(b)) => std::rc::Rc::ptr_eq(a, b),
        _ => return Err(format!("non-comparable type {}", b.type_name()).into()),
    })
}

fn incompatible(a: &Value, b: &Value) -> Failure {
    format!(
        "incompatible types for comparison: {} and {}",
        a.type_name(),
        b.type_name()
    )
    .into()
}

fn is_less(arguments: Arguments<'_>) -> Result<bool, Failure> {
    let (a, b) = (arguments.value(0)?, arguments.value(1)?);
    if let (Some(a), Some(b)) = (a.integer(), b.integer()) {
        return Ok(a < b);
    }
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b) == Some(Ordering::Less)),
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        _ if kind(a) == Kind::Other || kind(b) == Kind::Other || kind(a) == kind(b) => {
            Err("invalid type for comparison".into())
        }
        _ => Err(incompatible(a, b)),
    }
}

fn is_less_or_equal(arguments: Arguments<'_>) -> Result<bool, Failure> {
    Ok(is_less(arguments)? || equals(arguments.value(0)?, arguments.value(1)?)?)
}
