//! Lists. None is changed in place: functions answer new ones.

use std::rc::Rc;

use super::Type::{Any, Int, Text};
use super::numbers::to_int;
use super::{Answer, Arguments, Context, Function, fixed, string_of, variadic};
use crate::error::Failure;
use crate::limits::Budget;
use crate::value::{Elements, ITEM_BYTES, List, Value};

pub(super) const ROWS: &[Function] = &[
    fixed("append", &[Any, Any], append),
    fixed("mustAppend", &[Any, Any], append),
    fixed("push", &[Any, Any], append),
    fixed("mustPush", &[Any, Any], append),
    fixed("chunk", &[Int, Any], chunk),
    fixed("mustChunk", &[Int, Any], chunk),
    fixed("compact", &[Any], compact),
    fixed("mustCompact", &[Any], compact),
    variadic("concat", &[], Any, concat),
    fixed("first", &[Any], |_, arguments| {
        element(arguments, |list| list.items.first())
    }),
    fixed("mustFirst", &[Any], |_, arguments| {
        element(arguments, |list| list.items.first())
    }),
    fixed("has", &[Any, Any], has),
    fixed("mustHas", &[Any, Any], has),
    fixed("initial", &[Any], initial),
    fixed("mustInitial", &[Any], initial),
    fixed("join", &[Text, Any], join),
    fixed("last", &[Any], |_, arguments| {
        element(arguments, |list| list.items.last())
    }),
    fixed("mustLast", &[Any], |_, arguments| {
        element(arguments, |list| list.items.last())
    }),
    variadic("list", &[], Any, list),
    variadic("tuple", &[], Any, list),
    fixed("prepend", &[Any, Any], prepend),
    fixed("mustPrepend", &[Any, Any], prepend),
    fixed("rest", &[Any], rest),
    fixed("mustRest", &[Any], rest),
    fixed("reverse", &[Any], reverse),
    fixed("mustReverse", &[Any], reverse),
    variadic("slice", &[Any], Any, slice),
    variadic("mustSlice", &[Any], Any, slice),
    fixed("sortAlpha", &[Any], sort_alpha),
    fixed("toStrings", &[Any], |context, arguments| {
        let texts = texts(arguments.value(0)?, context.budget)?;
        Ok(Value::typed_list(Elements::Texts, texts))
    }),
    fixed("uniq", &[Any], uniq),
    fixed("mustUniq", &[Any], uniq),
    variadic("without", &[Any], Any, without),
    variadic("mustWithout", &[Any], Any, without),
];

fn as_list(value: &Value) -> Result<&Rc<List>, Failure> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(format!("expected a list; got {}", other.type_name()).into()),
    }
}

fn new_list(budget: &Budget, items: impl ExactSizeIterator<Item = Value>) -> Answer {
    budget.allocate(items.len() * ITEM_BYTES)?;
    Ok(Value::list(items.collect()))
}

fn list(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    new_list(context.budget, arguments.0.iter().cloned())
}

fn append(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    context.budget.allocate((list.items.len() + 1) * ITEM_BYTES)?;
    let added = arguments.value(1)?;
    Ok(Value::list(list.items.iter().chain([added]).cloned().collect()))
}

fn prepend(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    context.budget.allocate((list.items.len() + 1) * ITEM_BYTES)?;
    let added = arguments.value(1)?;
    Ok(Value::list([added].into_iter().chain(&list.items).cloned().collect()))
}

fn chunk(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(1)?)?;
    let size = usize::try_from(arguments.int(0)?).ok().filter(|&size| size > 0);
    let size = size.ok_or("the size of a chunk is at least one")?;
    context.budget.allocate(list.items.len() * 3 * ITEM_BYTES)?;
    let chunks = list.items.chunks(size).map(|chunk| Value::list(chunk.to_vec()));
    Ok(Value::typed_list(Elements::Lists, chunks.collect()))
}

fn compact(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    context.budget.allocate(list.items.len() * ITEM_BYTES)?;
    Ok(Value::list(
        list.items.iter().filter(|item| item.truth()).cloned().collect(),
    ))
}

fn concat(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let mut items = Vec::new();
    for list in arguments.0 {
        let list = as_list(list)?;
        context.budget.allocate(list.items.len() * ITEM_BYTES)?;
        items.extend_from_slice(&list.items);
    }
    if items.is_empty() {
        return Ok(Value::nil_list(Elements::Any));
    }
    Ok(Value::list(items))
}

fn element(arguments: Arguments<'_>, pick: fn(&List) -> Option<&Value>) -> Answer {
    Ok(pick(as_list(arguments.value(0)?)?).cloned().unwrap_or(Value::Nil))
}

fn contains(items: &[Value], wanted: &Value, budget: &Budget) -> Result<bool, Failure> {
    for item in items {
        if wanted.deep_equal(item, budget, 0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    match arguments.value(1)? {
        Value::Nil => Ok(Value::Bool(false)),
        list => {
            let found = contains(&as_list(list)?.items, arguments.value(0)?, context.budget)?;
            Ok(Value::Bool(found))
        }
    }
}

fn rest(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    match as_list(arguments.value(0)?)?.items.split_first() {
        Some((_, rest)) => new_list(context.budget, rest.iter().cloned()),
        None => Ok(Value::nil_list(Elements::Any)),
    }
}

fn initial(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    match as_list(arguments.value(0)?)?.items.split_last() {
        Some((_, initial)) => new_list(context.budget, initial.iter().cloned()),
        None => Ok(Value::nil_list(Elements::Any)),
    }
}

fn reverse(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    new_list(context.budget, list.items.iter().rev().cloned())
}

fn slice(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    if list.items.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, default: usize| match arguments.0.get(at) {
        Some(value) => super::count(to_int(value), "bound"),
        None => Ok(default),
    };
    let (start, end) = (bound(1, 0)?, bound(2, list.items.len())?);
    let items = list.items.get(start..end).ok_or_else(|| {
        format!(
            "slice bounds out of range [{start}:{end}] with length {}",
            list.items.len()
        )
    })?;
    context.budget.allocate(items.len() * ITEM_BYTES)?;
    Ok(Value::typed_list(list.elements, items.to_vec()))
}

fn uniq(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    context.budget.allocate(list.items.len() * ITEM_BYTES)?;
    let mut unique = Vec::new();
    for item in &list.items {
        if !contains(&unique, item, context.budget)? {
            unique.push(item.clone());
        }
    }
    Ok(Value::list(unique))
}

fn without(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let list = as_list(arguments.value(0)?)?;
    context.budget.allocate(list.items.len() * ITEM_BYTES)?;
    let mut left = Vec::new();
    for item in &list.items {
        if !contains(arguments.from(1), item, context.budget)? {
            left.push(item.clone());
        }
    }
    Ok(Value::list(left))
}

/// Texts of a list's elements but nil ones; of another value the text of it.
fn texts(value: &Value, budget: &Budget) -> Result<Vec<Value>, Failure> {
    let items = match value {
        Value::Missing | Value::Nil => &[],
        Value::List(list) => list.items.as_slice(),
        other => std::slice::from_ref(other),
    };
    budget.allocate(items.len() * ITEM_BYTES)?;
    items
        .iter()
        .filter(|item| !matches!(item, Value::Missing | Value::Nil))
        .map(|item| Ok(Value::Text(string_of(item, budget)?)))
        .collect()
}

fn join(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let separator = arguments.text(0)?;
    let mut out = crate::go::format::Text::new(context.budget);
    for (at, item) in texts(arguments.value(1)?, context.budget)?.iter().enumerate() {
        if at > 0 {
            out.push(separator)?;
        }
        if let Value::Text(text) = item {
            out.push(text)?;
        }
    }
    Ok(Value::text(out.into_string()))
}

fn sort_alpha(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let value = arguments.value(0)?;
    if !matches!(value, Value::List(_)) {
        let text = Value::Text(string_of(value, context.budget)?);
        return Ok(Value::typed_list(Elements::Texts, vec![text]));
    }
    let mut texts = texts(value, context.budget)?;
    context.budget.work(texts.len() as u64)?;
    texts.sort_by(|a, b| match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    Ok(Value::typed_list(Elements::Texts, texts))
}
