//! Results as text.

use serde_json::Value;

use super::{EvaluationError, Item, evaluate::integer};
use crate::go;

/// The results of one action, with blanks in between.
pub(super) fn block(items: &[Item<'_>], out: &mut String) -> Result<(), EvaluationError> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        print(item, out);
        if out.len() > MAX_TEXT {
            return Err(EvaluationError::TooMany);
        }
    }
    Ok(())
}

/// Of a printed result: more than any object holds.
const MAX_TEXT: usize = 16 << 20;

fn print(item: &Item<'_>, out: &mut String) {
    match item {
        Item::Part(Value::Null) => out.push_str("null"),
        Item::Part(Value::Bool(value)) | Item::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Item::Part(Value::Number(number)) => match (integer(number), number.as_f64()) {
            (None, Some(float)) => out.push_str(&go::float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Item::Part(Value::String(text)) | Item::Text(text) => out.push_str(text),
        Item::Part(value) => json(value, out),
        Item::Byte(byte) => out.push_str(&byte.to_string()),
        Item::Integer(value) => out.push_str(&value.to_string()),
        Item::Float(value) => out.push_str(&go::float(*value)),
        Item::Nothing => out.push_str("<no value>"),
    }
}

/// For an error: kinds are named, contents are kept short.
pub(super) fn described(item: &Item<'_>) -> String {
    match item {
        Item::Part(Value::Array(_)) => "a list".to_owned(),
        Item::Part(Value::Object(_)) => "an object".to_owned(),
        Item::Part(Value::Null) | Item::Nothing => "null".to_owned(),
        other => {
            let mut text = String::new();
            print(other, &mut text);
            format!("{:?}", text.chars().take(40).collect::<String>())
        }
    }
}

/// As Go's `encoding/json` writes it: keys in order, `<`, `>`, `&` escaped.
fn json(value: &Value, out: &mut String) {
    match value {
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json(element, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                go::json_string(key, out);
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
        Value::String(text) => go::json_string(text, out),
        Value::Number(number) => match (integer(number), number.as_f64()) {
            (None, Some(float)) => out.push_str(&go::json_float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
    }
}
