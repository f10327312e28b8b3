//! Go's own functions but for comparison.

use std::fmt::Write as _;

use super::Type::{Any, Raw, Text};
use super::{Answer, Arguments, Context, Function, fixed, variadic};
use crate::error::Failure;
use crate::go::{format, quote, url};
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    // These two are evaluated by the caller, since they do not evaluate all of their arguments.
    variadic("and", &[Raw], Raw, |_, arguments| Ok(last(arguments))),
    variadic("or", &[Raw], Raw, |_, arguments| Ok(last(arguments))),
    variadic("call", &[Raw], Raw, call),
    variadic("html", &[], Any, html),
    variadic("index", &[Raw], Raw, index),
    variadic("js", &[], Any, js),
    fixed("len", &[Raw], length),
    fixed("not", &[Raw], not),
    variadic("print", &[], Any, print),
    variadic("printf", &[Text], Any, printf),
    variadic("println", &[], Any, println),
    variadic("urlquery", &[], Any, urlquery),
];

fn last(arguments: Arguments<'_>) -> Value {
    arguments.0.last().cloned().unwrap_or(Value::Missing)
}

fn call(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    match arguments.value(0)?.clone().concrete() {
        Value::Missing => Err("call of nil".into()),
        other => Err(format!("non-function of type {}", other.type_name()).into()),
    }
}

fn not(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::Bool(!arguments.value(0)?.truth()))
}

fn length(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let length = match arguments.value(0)? {
        Value::Text(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.len(),
        Value::Missing | Value::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let mut item = arguments.value(0)?.clone();
    if item.clone().concrete().is_missing() {
        return Err("index of untyped nil".into());
    }
    for index in arguments.from(1) {
        item = match &item {
            Value::Missing | Value::Nil => return Err("index of nil pointer".into()),
            Value::Text(text) => Value::Uint8(text.as_bytes()[position(index, text.len())?]),
            Value::List(list) => list.items[position(index, list.items.len())?].clone(),
            Value::Map(map) => match index {
                Value::Text(key) => map
                    .get(key)
                    .unwrap_or(if map.of_texts { Value::text("") } else { Value::Nil }),
                Value::Missing | Value::Nil => return Err("value is nil; should be of type string".into()),
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()).into());
                }
            },
            other => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

impl Value {
    fn is_missing(&self) -> bool {
        matches!(self, Value::Missing)
    }
}

/// An index below the length.
fn position(index: &Value, length: usize) -> Result<usize, Failure> {
    match index.integer() {
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|&at| at < length)
            .ok_or_else(|| format!("index out of range: {number}").into()),
        None if matches!(index, Value::Missing | Value::Nil) => Err("cannot index slice/array with nil".into()),
        None => Err(format!("cannot index slice/array with type {}", index.type_name()).into()),
    }
}

fn print(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::text(format::sprint(arguments.0, context.budget)?))
}

fn println(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::text(format::sprintln(arguments.0, context.budget)?))
}

fn printf(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = format::sprintf(arguments.text(0)?, arguments.from(1), context.budget)?;
    Ok(Value::text(text))
}

/// The text that the escaping functions work on.
fn joined(context: &Context<'_>, arguments: Arguments<'_>) -> Result<String, Failure> {
    if let [Value::Text(text)] = arguments.0 {
        return Ok(text.to_string());
    }
    let shown: Vec<_> = arguments
        .0
        .iter()
        .map(|value| match value {
            Value::Nil => Value::text("<no value>"),
            other => other.clone(),
        })
        .collect();
    format::sprint(&shown, context.budget)
}

fn html(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = joined(context, arguments)?;
    context.budget.allocate(text.len() * 5)?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    Ok(Value::text(out))
}

fn js(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = joined(context, arguments)?;
    context.budget.allocate(text.len() * 6)?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '\0'..' ' | '<' | '>' | '&' | '=' => push_unicode(&mut out, char),
            other if other.is_ascii() || quote::is_print(other) => out.push(other),
            other => push_unicode(&mut out, other),
        }
    }
    Ok(Value::text(out))
}

fn push_unicode(out: &mut String, char: char) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\u{:04X}", u32::from(char));
}

fn urlquery(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = joined(context, arguments)?;
    context.budget.allocate(text.len() * 3)?;
    Ok(Value::text(url::escape(&text, url::Part::QueryValue)))
}
