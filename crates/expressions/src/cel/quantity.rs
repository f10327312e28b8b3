//! Quantities as expressions see them.

use std::cmp::Ordering;

use super::{
    eval::{Failure, Result},
    value::Value,
};
use crate::quantity::Quantity;

/// A quantity, and how Kubernetes holds it. `isInteger` and `asInteger` ask for that: `1000m` is one, but no integer.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuantityValue {
    pub(super) quantity: Quantity,
    /// The power of ten of its last digit. None: it is held as a decimal of any length.
    scale: Option<i32>,
}

impl QuantityValue {
    fn read(text: &str) -> Option<Self> {
        Some(Self {
            quantity: text.parse().ok()?,
            scale: scale(text),
        })
    }

    fn of(value: i64) -> Option<Self> {
        Some(Self {
            quantity: value.to_string().parse().ok()?,
            scale: Some(0),
        })
    }

    fn integer(self) -> Option<i64> {
        self.scale.filter(|scale| *scale >= 0)?;
        self.quantity.whole()
    }

    fn scale_with(self, other: Self) -> Option<i32> {
        if self.quantity.is_zero() && other.scale.is_some() && self.scale.is_some() {
            return other.scale;
        }
        Some(self.scale?.min(other.scale?))
    }

    fn plus(self, other: Self) -> Self {
        Self {
            quantity: self.quantity.plus(other.quantity),
            scale: self.scale_with(other),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            quantity: self.quantity.minus(other.quantity),
            scale: self.scale_with(other),
        }
    }
}

/// Where `resource.ParseQuantity` keeps a number in 64 bits, and at which scale.
fn scale(text: &str) -> Option<i32> {
    let text = text.trim_start_matches(['+', '-']);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('0');
    let digits = i32::try_from(whole.len() + fraction.len()).ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    if let Some(power) = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|known| *known == suffix)
    {
        let exponent = 10 * (i32::try_from(power).ok()? + 1);
        let room = 15 - i32::try_from(whole.len().max(1)).ok()? - exponent * 3 / 10 - 1;
        return (fraction.is_empty() && room >= 0).then_some(0);
    }
    let exponent = match ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
        .iter()
        .position(|known| *known == suffix)
    {
        Some(place) => 3 * i32::try_from(place).ok()? - 9,
        None => suffix.get(1..)?.parse().ok()?,
    };
    let scale = exponent - places;
    (digits <= 18 && scale >= -9).then_some(scale)
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    let quantity = |value: &Value<'a>| match value {
        Value::Quantity(quantity) => Some(*quantity),
        _ => None,
    };
    let found = match (function, args) {
        ("isQuantity", [Value::String(text)]) => Some(Value::Bool(QuantityValue::read(text).is_some())),
        ("quantity", [Value::String(text)]) => {
            let read = QuantityValue::read(text);
            return read.map(Value::Quantity).ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                Failure::error(format!("{shown:?} is not a quantity"))
            });
        }
        ("sign", [one]) => quantity(one).map(|one| Value::Int(one.quantity.cmp(&Quantity::ZERO) as i64)),
        ("isInteger", [one]) => quantity(one).map(|one| Value::Bool(one.integer().is_some())),
        ("asInteger", [Value::Quantity(one)]) => {
            let integer = one.integer().map(Value::Int);
            return integer.ok_or_else(|| Failure::error(format!("{} is not held as an integer", one.quantity)));
        }
        ("asApproximateFloat", [one]) => quantity(one).map(|one| Value::Double(one.quantity.to_f64())),
        (_, [Value::Quantity(one), Value::Int(number)]) => {
            let other = QuantityValue::of(*number);
            other.and_then(|other| binary(function, *one, other))
        }
        (_, [Value::Quantity(one), Value::Quantity(other)]) => binary(function, *one, *other),
        _ => None,
    };
    found.ok_or_else(|| Failure::overload(function, &args.iter().collect::<Vec<_>>()))
}

fn binary<'a>(function: &str, one: QuantityValue, other: QuantityValue) -> Option<Value<'a>> {
    let order = one.quantity.cmp(&other.quantity);
    Some(match function {
        "add" => Value::Quantity(one.plus(other)),
        "sub" => Value::Quantity(one.minus(other)),
        "isGreaterThan" => Value::Bool(order == Ordering::Greater),
        "isLessThan" => Value::Bool(order == Ordering::Less),
        "compareTo" => Value::Int(order as i64),
        _ => return None,
    })
}
