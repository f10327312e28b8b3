//! Dicts. `set`, `unset` and `merge` change their first argument, and whoever else holds it sees that.

use std::rc::Rc;
use std::sync::Arc;

use super::Type::{Any, Dict, Text};
use super::{Answer, Arguments, Context, Function, fixed, string_of, variadic};
use crate::error::Failure;
use crate::limits::Budget;
use crate::value::{ENTRY_BYTES, Elements, Entries, ITEM_BYTES, Map, Value};

pub(super) const ROWS: &[Function] = &[
    fixed("deepCopy", &[Any], deep_copy),
    fixed("mustDeepCopy", &[Any], deep_copy),
    variadic("dict", &[], Any, dict),
    variadic("dig", &[], Any, dig),
    fixed("get", &[Dict, Text], |_, arguments| {
        let found = arguments.dict(0)?.get(arguments.text(1)?);
        Ok(found.unwrap_or_else(|| Value::text("")))
    }),
    fixed("hasKey", &[Dict, Text], |_, arguments| {
        Ok(Value::Bool(arguments.dict(0)?.get(arguments.text(1)?).is_some()))
    }),
    variadic("keys", &[], Dict, keys),
    variadic("merge", &[Dict], Dict, |context, arguments| {
        merge_all(context, arguments, false)
    }),
    variadic("mustMerge", &[Dict], Dict, |context, arguments| {
        merge_all(context, arguments, false)
    }),
    variadic("mergeOverwrite", &[Dict], Dict, |context, arguments| {
        merge_all(context, arguments, true)
    }),
    variadic("mustMergeOverwrite", &[Dict], Dict, |context, arguments| {
        merge_all(context, arguments, true)
    }),
    variadic("omit", &[Dict], Text, |context, arguments| {
        select(context, arguments, false)
    }),
    variadic("pick", &[Dict], Text, |context, arguments| {
        select(context, arguments, true)
    }),
    variadic("pluck", &[Text], Dict, pluck),
    fixed("set", &[Dict, Text, Any], |context, arguments| {
        let dict = arguments.dict(0)?;
        dict.insert(arguments.text(1)?, arguments.value(2)?.clone(), context.budget)?;
        Ok(Value::Map(Rc::clone(dict)))
    }),
    fixed("unset", &[Dict, Text], |_, arguments| {
        let dict = arguments.dict(0)?;
        dict.remove(arguments.text(1)?);
        Ok(Value::Map(Rc::clone(dict)))
    }),
    fixed("values", &[Dict], values),
];

fn deep_copy(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    arguments.value(0)?.deep_copy(context.budget, 0)
}

fn dict(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let mut entries = Entries::new();
    context.budget.allocate(arguments.0.len() * ENTRY_BYTES)?;
    for pair in arguments.0.chunks(2) {
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::text(""));
        entries.insert(string_of(&pair[0], context.budget)?, value);
    }
    Ok(Value::map(entries))
}

fn dig(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let [path @ .., default, dict] = arguments.0 else {
        return Err("dig needs at least three arguments".into());
    };
    if path.is_empty() {
        return Err("dig needs at least three arguments".into());
    }
    let keys = path.iter().map(|key| match key {
        Value::Text(key) => Ok(key),
        other => Err(Failure::new(format!("a key is a string; got {}", other.type_name()))),
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let mut at = dict.clone();
    for key in keys {
        context.budget.work(1)?;
        let next = match &at {
            Value::Map(map) if !map.of_texts => map.get(key),
            other => return Err(format!("key {key:?} is looked for in {}", other.type_name()).into()),
        };
        match next {
            Some(next) => at = next,
            None => return Ok(default.clone()),
        }
    }
    Ok(at)
}

/// In order, where Go's are in none.
fn keys(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let mut keys = Vec::new();
    for at in 0..arguments.0.len() {
        let dict = arguments.dict(at)?;
        context.budget.allocate(dict.len() * ITEM_BYTES)?;
        keys.extend(dict.entries().keys().map(|key| Value::Text(Arc::clone(key))));
    }
    Ok(Value::typed_list(Elements::Texts, keys))
}

/// In order of their keys, where Go's are in none.
fn values(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let dict = arguments.dict(0)?;
    context.budget.allocate(dict.len() * ITEM_BYTES)?;
    Ok(Value::list(dict.entries().values().cloned().collect()))
}

fn select(context: &Context<'_>, arguments: Arguments<'_>, keep_named: bool) -> Answer {
    let dict = arguments.dict(0)?;
    let mut named = std::collections::BTreeSet::new();
    for at in 1..arguments.0.len() {
        named.insert(arguments.text(at)?);
    }
    context.budget.allocate(dict.len() * ENTRY_BYTES)?;
    let entries = dict.entries();
    let kept = entries.iter().filter(|(key, _)| named.contains(key) == keep_named);
    Ok(Value::map(
        kept.map(|(key, value)| (Arc::clone(key), value.clone())).collect(),
    ))
}

fn pluck(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    context.budget.allocate(arguments.0.len() * ITEM_BYTES)?;
    let mut found = Vec::new();
    for at in 1..arguments.0.len() {
        found.extend(arguments.dict(at)?.get(arguments.text(0)?));
    }
    Ok(Value::list(found))
}

fn merge_all(context: &Context<'_>, arguments: Arguments<'_>, overwrite: bool) -> Answer {
    let mut target = Rc::clone(arguments.dict(0)?);
    for at in 1..arguments.0.len() {
        let source = arguments.dict(at)?;
        if target.is_nil && !source.is_nil {
            target = Rc::new(Map::new(Entries::new()));
        }
        merge(&target, source, overwrite, context.budget, 0)?;
    }
    Ok(Value::Map(target))
}

/// As the `mergo` library, which sprig uses: an empty value counts as absent; dicts in both are merged; with
/// `overwrite` all else is taken from the source.
fn merge(target: &Rc<Map>, source: &Rc<Map>, overwrite: bool, budget: &Budget, depth: usize) -> Result<(), Failure> {
    budget.check_depth(depth)?;
    budget.allocate(source.len() * ENTRY_BYTES)?;
    let wanted: Vec<_> = source
        .entries()
        .iter()
        .map(|(key, value)| (Arc::clone(key), value.clone()))
        .collect();
    for (key, value) in wanted {
        budget.work(1)?;
        if matches!(value, Value::Nil | Value::Missing) {
            if overwrite {
                target.insert(&key, value, budget)?;
            }
            continue;
        }
        let existing = target.get(&key);
        if let (Some(Value::Map(existing)), Value::Map(value)) = (&existing, &value) {
            merge(existing, value, overwrite, budget, depth + 1)?;
        }
        if existing.as_ref().is_some_and(Value::truth) {
            let both_dicts = matches!((&existing, &value), (Some(Value::Map(_)), Value::Map(_)));
            if both_dicts || !overwrite {
                continue;
            }
        }
        target.insert(&key, value, budget)?;
    }
    Ok(())
}
