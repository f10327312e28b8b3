//! Functions of texts.

use super::{
    call::count,
    eval::{Evaluation, Failure, Meter, Result},
    format, time,
    value::{List, Value},
};
use crate::go;

pub(super) fn call<'a>(
    function: &str,
    args: &[Value<'a>],
    evaluation: &mut Evaluation<'_, 'a>,
) -> Result<Option<Value<'a>>> {
    let Some((Value::String(text), rest)) = args.split_first() else {
        return Ok(None);
    };
    Ok(Some(match (function, rest) {
        ("contains", [Value::String(part)]) => Value::Bool(text.contains(&**part)),
        ("startsWith", [Value::String(part)]) => Value::Bool(text.starts_with(&**part)),
        ("endsWith", [Value::String(part)]) => Value::Bool(text.ends_with(&**part)),
        ("matches", [Value::String(pattern)]) => {
            let pattern = evaluation.pattern(pattern)?;
            evaluation.meter.work(pattern.work(text.len()) / 4)?;
            Value::Bool(pattern.matches(text))
        }
        ("find", [Value::String(pattern)]) => {
            let pattern = evaluation.pattern(pattern)?;
            evaluation.meter.work(pattern.work(text.len()) / 4)?;
            Value::text(pattern.find_all(text).next().unwrap_or_default())
        }
        ("findAll", [Value::String(pattern)]) => find_all(text, pattern, -1, evaluation)?,
        ("findAll", [Value::String(pattern), Value::Int(most)]) => find_all(text, pattern, *most, evaluation)?,
        ("charAt", [Value::Int(index)]) => {
            let length = text.chars().count();
            let index = usize::try_from(*index).ok().filter(|index| *index <= length);
            let index = index.ok_or_else(|| out_of_range(length))?;
            Value::text(text.chars().nth(index).map(String::from).unwrap_or_default())
        }
        ("indexOf", [Value::String(part)]) => index_of(text, part, 0)?,
        ("indexOf", [Value::String(part), Value::Int(from)]) => index_of(text, part, *from)?,
        ("lastIndexOf", [Value::String(part)]) => last_index_of(text, part, None)?,
        ("lastIndexOf", [Value::String(part), Value::Int(from)]) => last_index_of(text, part, Some(*from))?,
        ("lowerAscii", []) => Value::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim()),
        ("substring", [Value::Int(start)]) => {
            let end = text.chars().count();
            substring(text, *start, i64::try_from(end).unwrap_or(i64::MAX))?
        }
        ("substring", [Value::Int(start), Value::Int(end)]) => substring(text, *start, *end)?,
        ("replace", [Value::String(old), Value::String(new)]) => replace(text, old, new, -1, &mut evaluation.meter)?,
        ("replace", [Value::String(old), Value::String(new), Value::Int(most)]) => {
            replace(text, old, new, *most, &mut evaluation.meter)?
        }
        ("split", [Value::String(separator)]) => split(text, separator, -1, &mut evaluation.meter)?,
        ("split", [Value::String(separator), Value::Int(most)]) => {
            split(text, separator, *most, &mut evaluation.meter)?
        }
        ("format", [Value::List(args)]) => Value::text(format::format(text, args, &mut evaluation.meter)?),
        ("strings.quote", []) => Value::text(format::quoted(text)),
        _ => return Ok(None),
    }))
}

fn out_of_range(length: usize) -> Failure {
    Failure::error(format!("the index is not in a text of {length} characters"))
}

fn find_all<'a>(text: &str, pattern: &str, most: i64, evaluation: &mut Evaluation<'_, 'a>) -> Result<Value<'a>> {
    let pattern = evaluation.pattern(pattern)?;
    evaluation.meter.work(pattern.work(text.len()))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(Value::list(
        pattern.find_all(text).take(most).map(Value::text).collect(),
    ))
}

fn index_of<'a>(text: &str, part: &str, from: i64) -> Result<Value<'a>> {
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let start = usize::try_from(from).map_err(|_| out_of_range(text.chars().count()))?;
    let Some((byte, _)) = text.char_indices().nth(start) else {
        return Ok(Value::Int(-1));
    };
    let found = text[byte..].find(part);
    Ok(found.map_or(Value::Int(-1), |at| {
        count(start + text[byte..byte + at].chars().count())
    }))
}

fn last_index_of<'a>(text: &str, part: &str, from: Option<i64>) -> Result<Value<'a>> {
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(from.map_or_else(|| count(length), Value::Int));
    }
    let from = match from {
        Some(from) => usize::try_from(from).map_err(|_| out_of_range(length))?,
        None => length.saturating_sub(1),
    };
    if from >= length {
        return Ok(Value::Int(-1));
    }
    // Where the last one may begin, and so where it may end.
    let end = text.char_indices().nth(from).map_or(text.len(), |(byte, _)| byte);
    let end = text.len().min(end + part.len());
    let end = (end..=text.len())
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(text.len());
    let found = text[..end].rfind(part).map(|at| text[..at].chars().count());
    Ok(found.filter(|index| *index <= from).map_or(Value::Int(-1), count))
}

fn substring<'a>(text: &str, start: i64, end: i64) -> Result<Value<'a>> {
    let length = text.chars().count();
    if start > end {
        return Err(Failure::error(format!("a text cannot be cut from {start} to {end}")));
    }
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let (start, end) = range
        .filter(|(_, end)| *end <= length)
        .ok_or_else(|| out_of_range(length))?;
    Ok(Value::text(
        text.chars().skip(start).take(end - start).collect::<String>(),
    ))
}

fn replace<'a>(text: &str, old: &str, new: &str, most: i64, meter: &mut Meter) -> Result<Value<'a>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = if old.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(old).count()
    };
    meter.work((text.len() as u64).saturating_add((found.min(most) as u64).saturating_mul(new.len() as u64)))?;
    Ok(Value::text(text.replacen(old, new, most)))
}

fn split<'a>(text: &str, separator: &str, most: i64, meter: &mut Meter) -> Result<Value<'a>> {
    meter.work(text.len() as u64)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<_> = if most == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let mut parts: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if parts.len() + 1 == most {
                parts.push(rest);
                break;
            }
            let (character, after) = rest.split_at(first.len_utf8());
            parts.push(character);
            rest = after;
        }
        parts
    } else {
        text.splitn(most, separator).collect()
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

pub(super) fn join<'a>(list: &List<'a>, separator: &str, meter: &mut Meter) -> Result<Value<'a>> {
    let mut out = String::new();
    for (index, element) in list.iter().enumerate() {
        let Value::String(text) = &element else {
            return Err(Failure::overload("join", &[&element]));
        };
        meter.work((text.len() + separator.len()) as u64)?;
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
    }
    Ok(Value::text(out))
}

/// `strconv.ParseInt`, which also takes a plus.
pub(super) fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// `strconv.ParseFloat`, as far as people write numbers.
pub(super) fn double(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['+', '-']);
    let named = ["inf", "infinity", "nan"]
        .iter()
        .any(|name| plain.eq_ignore_ascii_case(name));
    if named || plain.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        // An underscore may stand between digits.
        let bytes = text.as_bytes();
        let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
        let apart = |index: usize| index > 0 && digit(index - 1) && digit(index + 1);
        if (0..bytes.len()).any(|index| bytes[index] == b'_' && !apart(index)) {
            return None;
        }
        let value: f64 = text.replace('_', "").parse().ok()?;
        // Too large a number is refused, not taken for infinity.
        (named || value.is_finite()).then_some(value)
    } else {
        None
    }
}

/// The text of a value. None: its bytes are no text. `Err`: its type has none.
pub(super) fn text_of<'a>(value: &Value<'a>) -> Result<Option<Value<'a>>> {
    Ok(Some(Value::text(match value {
        Value::String(_) => return Ok(Some(value.clone())),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => go::float(*value),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Ok(None),
        },
        Value::Duration(nanos) => time::duration_text(*nanos),
        Value::Timestamp(timestamp) => timestamp.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        other => return Err(Failure::overload("string", &[other])),
    })))
}

/// For an error: short.
pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        other => match text_of(other) {
            Ok(Some(Value::String(text))) => text.to_string(),
            _ => other.type_name().to_owned(),
        },
    }
}
