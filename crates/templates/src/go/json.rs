//! Go's `encoding/json`: how values are written.

use std::fmt::Write as _;

use crate::error::Failure;
use crate::go::format::Text;
use crate::go::{float, layout};
use crate::limits::Budget;
use crate::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Indentation by two spaces.
    pub(crate) is_pretty: bool,
    /// `<`, `>` and `&` are written as escapes.
    pub(crate) escapes_html: bool,
}

pub(crate) fn encode(value: &Value, style: Style, budget: &Budget) -> Result<String, Failure> {
    let mut out = Text::new(budget);
    write(&mut out, value, style, budget, 0)?;
    Ok(out.into_string())
}

fn write(out: &mut Text<'_>, value: &Value, style: Style, budget: &Budget, depth: usize) -> Result<(), Failure> {
    budget.work(1)?;
    budget.check_depth(depth)?;
    match value {
        Value::Missing | Value::Nil => out.push("null"),
        Value::Bool(bool) => out.push(if *bool { "true" } else { "false" }),
        Value::Int(int) | Value::Int64(int) => out.push(&int.to_string()),
        Value::Uint8(uint) => out.push(&uint.to_string()),
        Value::Uint64(uint) => out.push(&uint.to_string()),
        Value::Float(float) => out.push(&number(*float)?),
        Value::Text(text) => out.push(&quote(text, style.escapes_html)),
        Value::Time(time) => out.push(&quote(
            &layout::format(time, "2006-01-02T15:04:05.999999999Z07:00"),
            style.escapes_html,
        )),
        Value::Version(version) => out.push(&quote(&version.to_string(), style.escapes_html)),
        Value::List(list) if list.is_nil => out.push("null"),
        Value::Map(map) if map.is_nil => out.push("null"),
        Value::List(list) if list.items.is_empty() => out.push("[]"),
        Value::Map(map) if map.len() == 0 => out.push("{}"),
        Value::List(list) => {
            out.push("[")?;
            for (at, item) in list.items.iter().enumerate() {
                separate(out, at, style, depth + 1)?;
                write(out, item, style, budget, depth + 1)?;
            }
            break_line(out, style, depth)?;
            out.push("]")
        }
        Value::Map(map) => {
            out.push("{")?;
            for (at, (key, item)) in map.entries().iter().enumerate() {
                separate(out, at, style, depth + 1)?;
                out.push(&quote(key, style.escapes_html))?;
                out.push(if style.is_pretty { ": " } else { ":" })?;
                write(out, item, style, budget, depth + 1)?;
            }
            break_line(out, style, depth)?;
            out.push("}")
        }
    }
}

fn separate(out: &mut Text<'_>, at: usize, style: Style, depth: usize) -> Result<(), Failure> {
    if at > 0 {
        out.push(",")?;
    }
    break_line(out, style, depth)
}

fn break_line(out: &mut Text<'_>, style: Style, depth: usize) -> Result<(), Failure> {
    if style.is_pretty {
        out.push("\n")?;
        out.push(&"  ".repeat(depth))?;
    }
    Ok(())
}

/// As ECMAScript writes numbers.
fn number(number: f64) -> Result<String, Failure> {
    if !number.is_finite() {
        return Err(format!("JSON has no {number}").into());
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = float::format(number, 'e', None);
        return Ok(text.replace("e-0", "e-"));
    }
    Ok(float::format(number, 'f', None))
}

fn quote(text: &str, escapes_html: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' if !escapes_html => out.push(char),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
    out
}
