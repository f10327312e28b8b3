//! Functions of lists.

use super::{
    call::count,
    eval::{Evaluation, Failure, Meter, Result},
    strings, time,
    value::{List, Value},
};

pub(super) fn call<'a>(
    function: &str,
    list: &List<'a>,
    args: &[Value<'a>],
    evaluation: &mut Evaluation<'_, 'a>,
) -> Result<Option<Value<'a>>> {
    let meter = &mut evaluation.meter;
    meter.work(list.len() as u64)?;
    Ok(Some(match (function, &args[1..]) {
        ("first", []) => Value::Optional(list.get(0).map(Into::into)),
        ("last", []) => Value::Optional(
            list.len()
                .checked_sub(1)
                .and_then(|last| list.get(last))
                .map(Into::into),
        ),
        ("reverse", []) => Value::list(list.iter().rev().collect()),
        ("slice", [Value::Int(start), Value::Int(end)]) => slice(list, *start, *end)?,
        ("flatten", []) => flatten(list, 1, meter)?,
        ("flatten", [Value::Int(depth)]) => flatten(list, *depth, meter)?,
        ("distinct", []) => distinct(list, meter)?,
        ("sort", []) => sort(list, list, meter)?,
        ("@sortByAssociatedKeys", [Value::List(keys)]) => sort(list, keys, meter)?,
        ("isSorted", []) => {
            let elements: Vec<_> = list.iter().collect();
            for pair in elements.windows(2) {
                if pair[0].compare(&pair[1])?.is_gt() {
                    return Ok(Some(Value::Bool(false)));
                }
            }
            Value::Bool(true)
        }
        ("min" | "max", []) => extreme(list, function)?,
        ("sum", []) => sum(list)?,
        ("indexOf", [wanted]) => position(list, wanted, false, meter)?,
        ("lastIndexOf", [wanted]) => position(list, wanted, true, meter)?,
        ("join", []) => strings::join(list, "", meter)?,
        ("join", [Value::String(separator)]) => strings::join(list, separator, meter)?,
        ("optional.unwrap" | "unwrapOpt", []) => unwrap(list)?,
        ("sets.contains", [Value::List(others)]) => Value::Bool(contains_all(list, others, meter)?),
        ("sets.equivalent", [Value::List(others)]) => {
            Value::Bool(contains_all(list, others, meter)? && contains_all(others, list, meter)?)
        }
        ("sets.intersects", [Value::List(others)]) => {
            for other in others.iter() {
                if contains(list, &other, meter)? {
                    return Ok(Some(Value::Bool(true)));
                }
            }
            Value::Bool(false)
        }
        _ => return Ok(None),
    }))
}

pub(super) fn range<'a>(end: i64, meter: &mut Meter) -> Result<Value<'a>> {
    meter.work(u64::try_from(end).unwrap_or(0))?;
    Ok(Value::list((0..end).map(Value::Int).collect()))
}

fn contains<'a>(list: &List<'a>, wanted: &Value<'a>, meter: &mut Meter) -> Result<bool> {
    for element in list.iter() {
        if element.equals(wanted, meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains_all<'a>(list: &List<'a>, wanted: &List<'a>, meter: &mut Meter) -> Result<bool> {
    for wanted in wanted.iter() {
        if !contains(list, &wanted, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn position<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool, meter: &mut Meter) -> Result<Value<'a>> {
    let mut found = None;
    for (index, element) in list.iter().enumerate() {
        if element.equals(wanted, meter)? {
            found = Some(index);
            if !last {
                break;
            }
        }
    }
    Ok(found.map_or(Value::Int(-1), count))
}

fn slice<'a>(list: &List<'a>, start: i64, end: i64) -> Result<Value<'a>> {
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.filter(|(start, end)| start <= end && *end <= list.len()) {
        Some((start, end)) => Ok(Value::list((start..end).filter_map(|index| list.get(index)).collect())),
        None => Err(Failure::error(format!(
            "a list of {} cannot be sliced from {start} to {end}",
            list.len()
        ))),
    }
}

fn flatten<'a>(list: &List<'a>, depth: i64, meter: &mut Meter) -> Result<Value<'a>> {
    fn collect<'a>(list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>, meter: &mut Meter) -> Result<()> {
        meter.work(1 + list.len() as u64)?;
        for element in list.iter() {
            match element {
                Value::List(inner) if depth > 0 => collect(&inner, depth - 1, flat, meter)?,
                other => flat.push(other),
            }
        }
        Ok(())
    }
    if depth < 0 {
        return Err(Failure::error("flatten() takes no negative depth"));
    }
    let mut flat = Vec::new();
    collect(list, depth, &mut flat, meter)?;
    Ok(Value::list(flat))
}

fn distinct<'a>(list: &List<'a>, meter: &mut Meter) -> Result<Value<'a>> {
    let mut found: Vec<Value<'a>> = Vec::new();
    'elements: for element in list.iter() {
        for known in &found {
            if known.equals(&element, meter)? {
                continue 'elements;
            }
        }
        found.push(element);
    }
    Ok(Value::list(found))
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>, meter: &mut Meter) -> Result<Value<'a>> {
    let length = list.len() as u64;
    meter.work(length.saturating_mul(u64::from(length.checked_ilog2().unwrap_or(0)) + 1))?;
    if list.len() != keys.len() {
        return Err(Failure::error("a list cannot be sorted by another number of keys"));
    }
    let mut pairs: Vec<_> = keys.iter().zip(list.iter()).collect();
    let Some((first, _)) = pairs.first() else {
        return Ok(Value::List(list.clone()));
    };
    first.compare(first)?;
    let kind = first.type_name();
    if pairs.iter().any(|(key, _)| key.type_name() != kind) {
        return Err(Failure::error("elements to sort have to be of one type"));
    }
    // Comparisons of one comparable type do not fail.
    pairs.sort_by(|(left, _), (right, _)| left.compare(right).unwrap_or(std::cmp::Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

fn extreme<'a>(list: &List<'a>, function: &str) -> Result<Value<'a>> {
    let mut found: Option<Value<'a>> = None;
    for element in list.iter() {
        let better = match &found {
            None => true,
            Some(best) => {
                let order = best.compare(&element)?;
                if function == "min" {
                    order.is_gt()
                } else {
                    order.is_lt()
                }
            }
        };
        if better {
            found = Some(element);
        }
    }
    found.ok_or_else(|| Failure::error(format!("{function}() of an empty list")))
}

fn sum<'a>(list: &List<'a>) -> Result<Value<'a>> {
    let overflow = || Failure::error("the sum is out of range");
    let mut elements = list.iter();
    // Of nothing it is an int: the types of a list without elements do not say more.
    let mut total = elements.next().unwrap_or(Value::Int(0));
    if !matches!(
        total,
        Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)
    ) {
        return Err(Failure::overload("sum", &[&total]));
    }
    for element in elements {
        total = match (&total, &element) {
            (Value::Int(left), Value::Int(right)) => Value::Int(left.checked_add(*right).ok_or_else(overflow)?),
            (Value::Uint(left), Value::Uint(right)) => Value::Uint(left.checked_add(*right).ok_or_else(overflow)?),
            (Value::Double(left), Value::Double(right)) => Value::Double(left + right),
            (left, right) => time::arithmetic(true, left, right)?.ok_or_else(overflow)?,
        };
    }
    Ok(total)
}

fn unwrap<'a>(list: &List<'a>) -> Result<Value<'a>> {
    let mut values = Vec::new();
    for element in list.iter() {
        match element {
            Value::Optional(value) => values.extend(value.map(|value| value.as_ref().clone())),
            other => return Err(Failure::overload("unwrapOpt", &[&other])),
        }
    }
    Ok(Value::list(values))
}
