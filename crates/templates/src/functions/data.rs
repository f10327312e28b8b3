//! Values as text and back: JSON, YAML, TOML, base 64 and base 32.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::BASE32;

use super::Type::{Any, Text};
use super::yaml::from_yaml;
use super::{Answer, Arguments, Context, Function, fixed};
use crate::Numbers;
use crate::error::Failure;
use crate::go::json::{self, Style};
use crate::go::layout;
use crate::limits::Budget;
use crate::value::{ENTRY_BYTES, Elements, ITEM_BYTES, Value};

const PLAIN: Style = Style {
    is_pretty: false,
    escapes_html: true,
};
const PRETTY: Style = Style {
    is_pretty: true,
    escapes_html: true,
};
const RAW: Style = Style {
    is_pretty: false,
    escapes_html: false,
};

pub(super) const ROWS: &[Function] = &[
    fixed("b32dec", &[Text], |context, arguments| {
        decoded(context, arguments, |text| {
            BASE32.decode(text).map_err(|error| error.to_string())
        })
    }),
    fixed("b32enc", &[Text], |context, arguments| {
        let text = arguments.text(0)?;
        context.budget.allocate(text.len() * 2)?;
        Ok(Value::text(BASE32.encode(text.as_bytes())))
    }),
    fixed("b64dec", &[Text], |context, arguments| {
        decoded(context, arguments, |text| {
            BASE64.decode(text).map_err(|error| error.to_string())
        })
    }),
    fixed("b64enc", &[Text], |context, arguments| {
        let text = arguments.text(0)?;
        context.budget.allocate(text.len() * 2)?;
        Ok(Value::text(BASE64.encode(text.as_bytes())))
    }),
    fixed("fromJson", &[Text], |context, arguments| {
        or_nil(from_json(context, arguments))
    }),
    fixed("mustFromJson", &[Text], from_json),
    fixed("fromJsonArray", &[Text], |context, arguments| {
        as_array(from_json(context, arguments)?)
    }),
    fixed("fromToml", &[Text], from_toml),
    fixed("fromYaml", &[Text], from_yaml),
    fixed("fromYamlArray", &[Text], |context, arguments| {
        as_array(from_yaml(context, arguments)?)
    }),
    fixed("toJson", &[Any], |context, arguments| {
        or_empty(encode(context, arguments, PLAIN))
    }),
    fixed("mustToJson", &[Any], |context, arguments| {
        encode(context, arguments, PLAIN)
    }),
    fixed("toPrettyJson", &[Any], |context, arguments| {
        or_empty(encode(context, arguments, PRETTY))
    }),
    fixed("mustToPrettyJson", &[Any], |context, arguments| {
        encode(context, arguments, PRETTY)
    }),
    fixed("toRawJson", &[Any], |context, arguments| {
        encode(context, arguments, RAW)
    }),
    fixed("mustToRawJson", &[Any], |context, arguments| {
        encode(context, arguments, RAW)
    }),
    fixed("toToml", &[Any], to_toml),
    fixed("toYaml", &[Any], to_yaml),
];

/// Go's decoders skip line breaks. What is no text once decoded is refused, and so is what is not encoded, for which
/// sprig answers the message as if it were the text.
fn decoded(context: &Context<'_>, arguments: Arguments<'_>, decode: fn(&[u8]) -> Result<Vec<u8>, String>) -> Answer {
    let text = arguments.text(0)?;
    context.budget.allocate(text.len() * 2)?;
    let bytes = decode(text.replace(['\r', '\n'], "").as_bytes())?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Value::text(text)),
        Err(_) => Err("the decoded bytes are not UTF-8 text".into()),
    }
}

fn encode(context: &Context<'_>, arguments: Arguments<'_>, style: Style) -> Answer {
    Ok(Value::text(json::encode(arguments.value(0)?, style, context.budget)?))
}

/// These functions hide what went wrong, but never that a limit was met.
fn or_empty(answer: Answer) -> Answer {
    answer.or_else(|failure| {
        if failure.is_limit {
            Err(failure)
        } else {
            Ok(Value::text(""))
        }
    })
}

fn or_nil(answer: Answer) -> Answer {
    answer.or_else(|failure| if failure.is_limit { Err(failure) } else { Ok(Value::Nil) })
}

fn as_array(value: Value) -> Answer {
    match value {
        Value::List(_) => Ok(value),
        Value::Nil => Ok(Value::nil_list(Elements::Any)),
        other => Err(format!("expected a list; got {}", other.type_name()).into()),
    }
}

fn from_json(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    // A value takes more room than its shortest text.
    context.budget.allocate(text.len().saturating_mul(ITEM_BYTES / 2))?;
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Value::from_json(&json, Numbers::Floats, context.budget, 0)
}

/// The same value for the libraries that write it. Whole floats are written without a point, as Go's JSON writes them.
fn plain(value: &Value, budget: &Budget, depth: usize) -> Result<serde_json::Value, Failure> {
    budget.check_depth(depth)?;
    budget.work(1)?;
    Ok(match value {
        Value::Missing | Value::Nil => serde_json::Value::Null,
        Value::Bool(bool) => (*bool).into(),
        Value::Int(int) | Value::Int64(int) => (*int).into(),
        Value::Uint8(uint) => (*uint).into(),
        Value::Uint64(uint) => (*uint).into(),
        Value::Float(float) => {
            let int = crate::go::number::float_to_int(*float);
            #[allow(clippy::float_cmp)] // asks whether the conversion lost anything
            let is_whole = crate::go::number::int_to_float(int) == *float;
            if is_whole {
                int.into()
            } else {
                let number = serde_json::Number::from_f64(*float);
                number
                    .map(Into::into)
                    .ok_or_else(|| format!("{float} cannot be written"))?
            }
        }
        Value::Text(text) => {
            budget.allocate(text.len())?;
            (**text).into()
        }
        Value::Time(time) => layout::format(time, "2006-01-02T15:04:05.999999999Z07:00").into(),
        Value::Version(version) => version.to_string().into(),
        Value::List(list) if list.is_nil => serde_json::Value::Null,
        Value::Map(map) if map.is_nil => serde_json::Value::Null,
        Value::List(list) => {
            budget.allocate(list.items.len() * ITEM_BYTES)?;
            let items = list.items.iter().map(|item| plain(item, budget, depth + 1));
            serde_json::Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            budget.allocate(map.len() * ENTRY_BYTES)?;
            let entries = map.entries();
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((key.to_string(), plain(value, budget, depth + 1)?)));
            serde_json::Value::Object(entries.collect::<Result<_, Failure>>()?)
        }
    })
}

fn to_yaml(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let value = plain(arguments.value(0)?, context.budget, 0)?;
    let text = serde_norway::to_string(&value).map_err(|error| error.to_string())?;
    context.budget.allocate(text.len())?;
    Ok(Value::text(text.strip_suffix('\n').unwrap_or(&text)))
}

fn to_toml(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let value = without_null(plain(arguments.value(0)?, context.budget, 0)?);
    let text = toml::to_string(&value).map_err(|error| error.to_string())?;
    context.budget.allocate(text.len())?;
    Ok(Value::text(text))
}

/// TOML has no null: entries that are null are left out.
fn without_null(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(entries) => entries
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_null(value)))
            .collect(),
        serde_json::Value::Array(items) => items.into_iter().map(without_null).collect(),
        other => other,
    }
}

fn from_toml(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    context.budget.allocate(text.len().saturating_mul(ITEM_BYTES))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    toml_value(&toml::Value::Table(table), context.budget, 0)
}

fn toml_value(toml: &toml::Value, budget: &Budget, depth: usize) -> Answer {
    budget.check_depth(depth)?;
    budget.work(1)?;
    Ok(match toml {
        toml::Value::String(text) => Value::text(text),
        toml::Value::Integer(int) => Value::Int64(*int),
        toml::Value::Float(float) => Value::Float(*float),
        toml::Value::Boolean(bool) => Value::Bool(*bool),
        toml::Value::Datetime(time) => Value::text(time.to_string()),
        toml::Value::Array(items) => {
            let items = items.iter().map(|item| toml_value(item, budget, depth + 1));
            Value::list(items.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| Ok((Arc::from(key.as_str()), toml_value(value, budget, depth + 1)?)));
            Value::map(entries.collect::<Result<_, Failure>>()?)
        }
    })
}
