//! Results as text.

use serde_json::Value;

use super::{EvaluationError, Item, evaluate::integer};
use crate::go;

/// Bytes of a printed result: thousands of quantities, and more than anybody compares with.
pub(super) const MAX_TEXT: usize = 64 << 10;

/// A result as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    /// What was printed, at least [`MAX_TEXT`] if there is more.
    pub(crate) text: String,
    /// Whether there is more.
    pub(crate) is_cut: bool,
}

impl Printed {
    /// All of it.
    pub(crate) fn whole(self) -> Result<String, EvaluationError> {
        if self.is_cut {
            return Err(EvaluationError::TooLong);
        }
        Ok(self.text)
    }
}

/// The results of all actions, those of one with blanks in between.
pub(super) fn blocks(blocks: &[Vec<Item<'_>>]) -> Printed {
    let mut text = String::new();
    for block in blocks {
        for (index, item) in block.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            print(item, &mut text);
            if text.len() > MAX_TEXT {
                return Printed { text, is_cut: true };
            }
        }
    }
    Printed { text, is_cut: false }
}

/// As much of a text as is printed at all, and a character more if it is longer, by which that is seen.
fn head(text: &str) -> &str {
    &text[..text.ceil_char_boundary(MAX_TEXT + 1)]
}

fn print(item: &Item<'_>, out: &mut String) {
    match item {
        Item::Part(Value::Null) => out.push_str("null"),
        Item::Part(Value::Bool(value)) | Item::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Item::Part(Value::Number(number)) => match (integer(number), number.as_f64()) {
            (None, Some(float)) => out.push_str(&go::float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Item::Part(Value::String(text)) | Item::Text(text) => out.push_str(head(text)),
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

/// As Go's `encoding/json` writes it: keys in order, `<`, `>`, `&` escaped. It ends where nobody reads on.
fn json(value: &Value, out: &mut String) {
    match value {
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if out.len() > MAX_TEXT {
                    return;
                }
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
                if out.len() > MAX_TEXT {
                    return;
                }
                if index > 0 {
                    out.push(',');
                }
                go::json_string(head(key), out);
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
        Value::String(text) => go::json_string(head(text), out),
        Value::Number(number) => match (integer(number), number.as_f64()) {
            (None, Some(float)) => out.push_str(&go::json_float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
    }
}
