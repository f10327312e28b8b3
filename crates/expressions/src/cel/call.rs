//! Which function does a call. The types of its arguments are those that there are, not those that were foreseen.

use std::rc::Rc;

use super::{
    eval::{Evaluation, Failure, Result},
    lists, named_format, network, quantity, strings, time,
    value::{Key, List, Map, Value},
};

pub(super) fn call<'a>(function: &str, args: &[Value<'a>], evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    let meter = &mut evaluation.meter;
    for arg in args {
        meter.work(arg.length() / 16)?;
    }
    match (function, args) {
        ("_==_", [left, right]) => left.equals(right, meter).map(Value::Bool),
        ("_!=_", [left, right]) => left.equals(right, meter).map(|equal| Value::Bool(!equal)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
            let order = left.compare(right)?;
            Ok(Value::Bool(match function {
                "_<_" => order.is_lt(),
                "_<=_" => order.is_le(),
                "_>_" => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        ("!_", [Value::Bool(value)]) => Ok(Value::Bool(!value)),
        ("@in", [wanted, Value::List(list)]) => {
            for element in list.iter() {
                if element.equals(wanted, meter)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("@in", [key, Value::Map(map)]) => Ok(Value::Bool(Key::of(key).is_some_and(|key| map.get(&key).is_some()))),
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => arithmetic(function, args, evaluation),
        ("size", [Value::String(text)]) => Ok(count(text.chars().count())),
        ("size", [Value::Bytes(bytes)]) => Ok(count(bytes.len())),
        ("size", [Value::List(list)]) => Ok(count(list.len())),
        ("size", [Value::Map(map)]) => Ok(count(map.len())),
        ("type", [value]) => Ok(Value::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("int" | "uint" | "double" | "bool" | "bytes" | "string" | "duration" | "timestamp", [value]) => {
            convert(function, value)
        }
        ("cel.@mapInsert", _) => insert(args, evaluation),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) if value.is_zero() => Ok(Value::Optional(None)),
        ("optional.of" | "optional.ofNonZeroValue", [value]) => Ok(Value::some(value.clone())),
        ("hasValue", [Value::Optional(value)]) => Ok(Value::Bool(value.is_some())),
        ("value", [Value::Optional(Some(value))]) => Ok(value.as_ref().clone()),
        ("value", [Value::Optional(None)]) => Err(Failure::error("optional.none() has no value")),
        _ => library(function, args, evaluation),
    }
}

fn library<'a>(function: &str, args: &[Value<'a>], evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    let found = match (function, args.first()) {
        ("quantity" | "isQuantity" | "sign" | "asInteger" | "asApproximateFloat" | "isInteger", _)
        | (_, Some(Value::Quantity(_))) => return quantity::call(function, args),
        (_, Some(Value::Timestamp(_) | Value::Duration(_))) => time::call(function, args)?,
        (_, Some(Value::Format(_))) => named_format::call(function, args),
        (_, Some(Value::List(list))) => lists::call(function, list, args, evaluation)?,
        _ if function.starts_with("format.") => named_format::call(function, args),
        ("lists.range", Some(Value::Int(end))) => Some(lists::range(*end, &mut evaluation.meter)?),
        _ => match network::call(function, args)? {
            Some(value) => Some(value),
            None => strings::call(function, args, evaluation)?,
        },
    };
    found.ok_or_else(|| Failure::overload(function, &args.iter().collect::<Vec<_>>()))
}

pub(super) fn count<'a>(length: usize) -> Value<'a> {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn arithmetic<'a>(function: &str, args: &[Value<'a>], evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    let overflow = || Failure::error(format!("the result of {} is out of range", function.trim_matches('_')));
    let by_zero = |zero: bool| {
        if zero {
            Err(Failure::error("division by zero"))
        } else {
            Ok(())
        }
    };
    let value = match (function, args) {
        ("-_", [Value::Int(value)]) => value.checked_neg().map(Value::Int),
        ("-_", [Value::Double(value)]) => Some(Value::Double(-value)),
        ("_+_", [Value::Int(left), Value::Int(right)]) => left.checked_add(*right).map(Value::Int),
        ("_-_", [Value::Int(left), Value::Int(right)]) => left.checked_sub(*right).map(Value::Int),
        ("_*_", [Value::Int(left), Value::Int(right)]) => left.checked_mul(*right).map(Value::Int),
        ("_/_" | "_%_", [Value::Int(left), Value::Int(right)]) => {
            by_zero(*right == 0)?;
            let result = if function == "_/_" {
                left.checked_div(*right)
            } else {
                left.checked_rem(*right)
            };
            result.map(Value::Int)
        }
        ("_+_", [Value::Uint(left), Value::Uint(right)]) => left.checked_add(*right).map(Value::Uint),
        ("_-_", [Value::Uint(left), Value::Uint(right)]) => left.checked_sub(*right).map(Value::Uint),
        ("_*_", [Value::Uint(left), Value::Uint(right)]) => left.checked_mul(*right).map(Value::Uint),
        ("_/_" | "_%_", [Value::Uint(left), Value::Uint(right)]) => {
            by_zero(*right == 0)?;
            Some(Value::Uint(if function == "_/_" { left / right } else { left % right }))
        }
        ("_+_", [Value::Double(left), Value::Double(right)]) => Some(Value::Double(left + right)),
        ("_-_", [Value::Double(left), Value::Double(right)]) => Some(Value::Double(left - right)),
        ("_*_", [Value::Double(left), Value::Double(right)]) => Some(Value::Double(left * right)),
        ("_/_", [Value::Double(left), Value::Double(right)]) => Some(Value::Double(left / right)),
        ("_+_", [Value::String(left), Value::String(right)]) => {
            evaluation.meter.work((left.len() + right.len()) as u64)?;
            Some(Value::text(format!("{}{}", &**left, &**right)))
        }
        ("_+_", [Value::Bytes(left), Value::Bytes(right)]) => {
            evaluation.meter.work((left.len() + right.len()) as u64)?;
            Some(Value::Bytes([&left[..], &right[..]].concat().into()))
        }
        ("_+_", [Value::List(left), Value::List(right)]) => Some(concatenated(left, right, evaluation)?),
        ("_+_" | "_-_", [left, right]) => time::arithmetic(function == "_+_", left, right)?,
        _ => {
            return Err(Failure::overload(
                function.trim_matches('_'),
                &args.iter().collect::<Vec<_>>(),
            ));
        }
    };
    value.ok_or_else(overflow)
}

fn concatenated<'a>(left: &List<'a>, right: &List<'a>, evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    if right.len() == 0 {
        return Ok(Value::List(left.clone()));
    }
    if left.len() == 0 {
        return Ok(Value::List(right.clone()));
    }
    evaluation.meter.work((left.len() + right.len()) as u64)?;
    Ok(Value::list(left.iter().chain(right.iter()).collect()))
}

/// A loop that makes a map: the map so far, and what comes to it.
fn insert<'a>(args: &[Value<'a>], evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    let (map, added) = match args {
        [Value::Map(map), Value::Map(added)] => (map, added.entries()),
        [Value::Map(map), key, value] => {
            let key = Key::of(key).ok_or_else(|| Failure::overload("a key", &[key]))?;
            (map, vec![(key, value.clone())])
        }
        _ => return Err(Failure::overload("a map", &args.iter().collect::<Vec<_>>())),
    };
    evaluation.meter.work((map.len() + added.len()) as u64)?;
    let mut made = match map {
        Map::Made(made) => made.as_ref().clone(),
        json @ Map::Json(_) => json.entries().into_iter().collect(),
    };
    for (key, value) in added {
        if made.contains_key(&key) {
            return Err(Failure::error(format!("the key {key} comes twice")));
        }
        made.insert(key, value);
    }
    Ok(Value::Map(Map::Made(Rc::new(made))))
}

fn convert<'a>(to: &str, value: &Value<'a>) -> Result<Value<'a>> {
    let out_of_range = || Failure::error(format!("the value is out of the range of {to}"));
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let converted = match (to, value) {
        ("int", Value::Uint(value)) => Some(Value::Int(i64::try_from(*value).map_err(|_| out_of_range())?)),
        ("int", Value::Double(value)) => {
            if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_807.0).contains(value) || *value <= i64::MIN as f64
            {
                return Err(out_of_range());
            }
            Some(Value::Int(*value as i64))
        }
        ("int", Value::Timestamp(time)) => Some(Value::Int(time.seconds())),
        ("int", Value::Duration(nanos)) => Some(Value::Int(*nanos)),
        ("int", Value::String(text)) => strings::integer(text).map(Value::Int),
        ("uint", Value::Int(value)) => Some(Value::Uint(u64::try_from(*value).map_err(|_| out_of_range())?)),
        ("uint", Value::Double(value)) => {
            if !(0.0..18_446_744_073_709_551_615.0).contains(value) {
                return Err(out_of_range());
            }
            Some(Value::Uint(*value as u64))
        }
        ("uint", Value::String(text)) => {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten().map(Value::Uint)
        }
        ("double", Value::Int(value)) => Some(Value::Double(*value as f64)),
        ("double", Value::Uint(value)) => Some(Value::Double(*value as f64)),
        ("double", Value::String(text)) => strings::double(text).map(Value::Double),
        ("bool", Value::String(text)) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        ("bytes", Value::String(text)) => Some(Value::Bytes(text.as_bytes().into())),
        ("duration", Value::String(text)) => time::duration(text).map(Value::Duration),
        ("timestamp", Value::String(text)) => time::timestamp(text).map(Value::Timestamp),
        ("timestamp", Value::Int(seconds)) => time::of_seconds(*seconds).map(Value::Timestamp),
        ("string", value) => strings::text_of(value)?,
        (to, value)
            if to == value.type_name() || value.type_name().to_ascii_lowercase().ends_with(&format!(".{to}")) =>
        {
            Some(value.clone())
        }
        _ => return Err(Failure::overload(to, &[value])),
    };
    converted.ok_or_else(|| Failure::error(format!("{} cannot be converted to {to}", strings::shown(value))))
}
