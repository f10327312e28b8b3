//! Arithmetic. Integers wrap around as Go's do; fractions are added in decimal, as sprig does.

use std::str::FromStr;

use bigdecimal::{BigDecimal, RoundingMode, Zero};

use super::Type::{Any, Float, Int, Text};
use super::{Answer, Arguments, Context, Function, fixed, string_of, variadic};
use crate::error::Failure;
use crate::go::number::{float_to_int, int_to_float, parse_float, parse_int};
use crate::value::{Elements, ITEM_BYTES, Value};

pub(super) const ROWS: &[Function] = &[
    variadic("add", &[], Any, |_, arguments| {
        Ok(Value::Int64(arguments.0.iter().map(to_int).fold(0, i64::wrapping_add)))
    }),
    fixed("add1", &[Any], |_, arguments| {
        Ok(Value::Int64(to_int(arguments.value(0)?).wrapping_add(1)))
    }),
    fixed("add1f", &[Any], |context, arguments| {
        decimal(context, arguments.value(0)?, &[Value::Int(1)], |a, b| Ok(a + b))
    }),
    variadic("addf", &[], Any, |context, arguments| {
        decimal(context, &Value::Float(0.0), arguments.0, |a, b| Ok(a + b))
    }),
    fixed("atoi", &[Text], |_, arguments| Ok(Value::Int(atoi(arguments.text(0)?)))),
    variadic("biggest", &[Any], Any, |_, arguments| Ok(largest(arguments))),
    fixed("ceil", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(arguments.value(0)?).ceil()))
    }),
    fixed("div", &[Any, Any], |_, arguments| {
        let divisor = divisor(arguments)?;
        Ok(Value::Int64(to_int(arguments.value(0)?).wrapping_div(divisor)))
    }),
    variadic("divf", &[Any], Any, |context, arguments| {
        decimal(context, arguments.value(0)?, arguments.from(1), divide)
    }),
    fixed("float64", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(arguments.value(0)?)))
    }),
    fixed("floor", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(arguments.value(0)?).floor()))
    }),
    fixed("int", &[Any], |_, arguments| {
        Ok(Value::Int(to_int(arguments.value(0)?)))
    }),
    fixed("int64", &[Any], |_, arguments| {
        Ok(Value::Int64(to_int(arguments.value(0)?)))
    }),
    variadic("max", &[Any], Any, |_, arguments| Ok(largest(arguments))),
    variadic("maxf", &[Any], Any, |_, arguments| {
        Ok(Value::Float(extreme(arguments.0, |a, b| if b > a { b } else { a })))
    }),
    variadic("min", &[Any], Any, |_, arguments| {
        Ok(Value::Int64(arguments.0.iter().map(to_int).min().unwrap_or(0)))
    }),
    variadic("minf", &[Any], Any, |_, arguments| {
        Ok(Value::Float(extreme(arguments.0, |a, b| if b < a { b } else { a })))
    }),
    fixed("mod", &[Any, Any], |_, arguments| {
        let divisor = divisor(arguments)?;
        Ok(Value::Int64(to_int(arguments.value(0)?).wrapping_rem(divisor)))
    }),
    variadic("mul", &[Any], Any, |_, arguments| {
        Ok(Value::Int64(arguments.0.iter().map(to_int).fold(1, i64::wrapping_mul)))
    }),
    variadic("mulf", &[Any], Any, |context, arguments| {
        decimal(context, arguments.value(0)?, arguments.from(1), |a, b| Ok(a * b))
    }),
    variadic("round", &[Any, Int], Float, round),
    variadic("seq", &[], Int, seq),
    fixed("sub", &[Any, Any], |_, arguments| {
        let difference = to_int(arguments.value(0)?).wrapping_sub(to_int(arguments.value(1)?));
        Ok(Value::Int64(difference))
    }),
    variadic("subf", &[Any], Any, |context, arguments| {
        decimal(context, arguments.value(0)?, arguments.from(1), |a, b| Ok(a - b))
    }),
    fixed("toDecimal", &[Any], |context, arguments| {
        let text = string_of(arguments.value(0)?, context.budget)?;
        Ok(Value::Int64(parse_int(&text, 8).unwrap_or(0)))
    }),
    fixed("until", &[Int], |context, arguments| {
        let stop = arguments.int(0)?;
        counting(context, 0, stop, if stop < 0 { -1 } else { 1 })
    }),
    fixed("untilStep", &[Int, Int, Int], |context, arguments| {
        counting(context, arguments.int(0)?, arguments.int(1)?, arguments.int(2)?)
    }),
];

/// The integer that the `cast` library, which sprig uses, makes of a value; 0 where it makes none.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(int) | Value::Int64(int) => *int,
        Value::Uint8(uint) => i64::from(*uint),
        Value::Uint64(uint) => uint.cast_signed(),
        Value::Float(float) => float_to_int(*float),
        Value::Bool(bool) => i64::from(*bool),
        Value::Text(text) => parse_int(without_zero_decimals(text), 0).unwrap_or(0),
        _ => 0,
    }
}

/// `12.00` is read as `12`.
fn without_zero_decimals(text: &str) -> &str {
    let trimmed = text.trim_end_matches('0');
    match trimmed.strip_suffix('.') {
        Some(whole) if trimmed.len() < text.len() => whole,
        _ => text,
    }
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Float(float) => *float,
        Value::Text(text) => parse_float(text).unwrap_or(0.0),
        #[allow(clippy::cast_precision_loss)] // as Go converts it
        Value::Uint64(uint) => *uint as f64,
        other => int_to_float(to_int(other)),
    }
}

/// Go's `Atoi`, whose answer where a number is too large is the nearest that is not.
fn atoi(text: &str) -> i64 {
    parse_int(text, 10).unwrap_or_else(|| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            0
        } else if text.starts_with('-') {
            i64::MIN
        } else {
            i64::MAX
        }
    })
}

fn divisor(arguments: Arguments<'_>) -> Result<i64, Failure> {
    match to_int(arguments.value(1)?) {
        0 => Err("integer divide by zero".into()),
        divisor => Ok(divisor),
    }
}

fn largest(arguments: Arguments<'_>) -> Value {
    Value::Int64(arguments.0.iter().map(to_int).max().unwrap_or(0))
}

/// The largest or smallest; not a number if one of them is none.
fn extreme(values: &[Value], choose: fn(f64, f64) -> f64) -> f64 {
    let choose = |a: f64, b: f64| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            choose(a, b)
        }
    };
    values.iter().map(to_float).reduce(choose).unwrap_or(0.0)
}

fn decimal(
    context: &Context<'_>,
    first: &Value,
    others: &[Value],
    combine: fn(BigDecimal, BigDecimal) -> Result<BigDecimal, Failure>,
) -> Answer {
    let exact = |value: &Value| {
        let float = to_float(value);
        BigDecimal::from_str(&format!("{float:e}")).map_err(|_| Failure::new(format!("{float} has no decimal form")))
    };
    let mut total = exact(first)?;
    for other in others {
        // Digits add up from factor to factor.
        context
            .budget
            .allocate(usize::try_from(total.digits()).unwrap_or(usize::MAX))?;
        total = combine(total, exact(other)?)?;
    }
    let text = format!("{}e{}", total.as_bigint_and_scale().0, -total.as_bigint_and_scale().1);
    Ok(Value::Float(text.parse().unwrap_or(f64::INFINITY)))
}

/// Rounded to 16 digits after the point.
fn divide(a: BigDecimal, b: BigDecimal) -> Result<BigDecimal, Failure> {
    if b.is_zero() {
        return Err("decimal division by 0".into());
    }
    Ok((a / b).with_scale_round(16, RoundingMode::HalfUp))
}

fn round(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let threshold = if arguments.0.len() > 2 {
        arguments.float(2)?
    } else {
        0.5
    };
    let power = 10_f64.powf(int_to_float(arguments.int(1)?));
    let digit = power * to_float(arguments.value(0)?);
    let rounded = if digit - digit.trunc() >= threshold {
        digit.ceil()
    } else {
        digit.floor()
    };
    Ok(Value::Float(rounded / power))
}

/// Integers from `start` to before `stop`.
fn count_up(context: &Context<'_>, start: i128, stop: i128, step: i128) -> Result<Vec<i64>, Failure> {
    let distance = stop - start;
    if step == 0 || distance == 0 || (distance < 0) != (step < 0) {
        return Ok(Vec::new());
    }
    let length = (distance.abs() + step.abs() - 1) / step.abs();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    context.budget.check_length(length)?;
    context.budget.allocate(length * ITEM_BYTES)?;
    let numbers = (0..).take(length).map(|at: i128| start + at * step);
    Ok(numbers.filter_map(|number| i64::try_from(number).ok()).collect())
}

fn counting(context: &Context<'_>, start: i64, stop: i64, step: i64) -> Answer {
    let numbers = count_up(context, start.into(), stop.into(), step.into())?;
    Ok(Value::typed_list(
        Elements::Ints,
        numbers.into_iter().map(Value::Int).collect(),
    ))
}

/// The integers from the first to the last argument, the last included, as text.
fn seq(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let number = |at: usize| arguments.int(at).map(i128::from);
    let (start, step, end) = match arguments.0.len() {
        1 => (1, None, number(0)?),
        2 => (number(0)?, None, number(1)?),
        3 => (number(0)?, Some(number(1)?), number(2)?),
        _ => return Ok(Value::text("")),
    };
    let direction = if end < start { -1 } else { 1 };
    let step = step.unwrap_or(direction);
    if direction < 0 && step > 0 {
        return Ok(Value::text(""));
    }
    let numbers = count_up(context, start, end + direction, step)?;
    context.budget.allocate(numbers.len() * 21)?;
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    Ok(Value::text(texts.join(" ")))
}
