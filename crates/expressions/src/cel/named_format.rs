//! `format.dns1123Label().validate(…)` and its kin.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;

use super::{network::Url, time, value::Value};

#[derive(Debug)]
pub(super) struct NamedFormat {
    pub(super) name: &'static str,
    /// What Kubernetes takes for the size of its pattern when it counts costs.
    pub(super) pattern_size: u64,
    check: fn(&str) -> Option<&'static str>,
}

const FORMATS: &[NamedFormat] = &[
    NamedFormat {
        name: "dns1123Label",
        pattern_size: 30,
        check: |text| label(text, false),
    },
    NamedFormat {
        name: "dns1123Subdomain",
        pattern_size: 60,
        check: |text| subdomain(text, false),
    },
    NamedFormat {
        name: "dns1035Label",
        pattern_size: 30,
        check: |text| old_label(text, false),
    },
    NamedFormat {
        name: "qualifiedName",
        pattern_size: 60,
        check: qualified_name,
    },
    NamedFormat {
        name: "dns1123LabelPrefix",
        pattern_size: 30,
        check: |text| label(text, true),
    },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        pattern_size: 60,
        check: |text| subdomain(text, true),
    },
    NamedFormat {
        name: "dns1035LabelPrefix",
        pattern_size: 30,
        check: |text| old_label(text, true),
    },
    NamedFormat {
        name: "labelValue",
        pattern_size: 40,
        check: |text| (!text.is_empty() && !is_name_part(text)).then_some("it is not the value of a label"),
    },
    NamedFormat {
        name: "uri",
        pattern_size: 1103,
        check: |text| Url::read(text).is_none().then_some("it is not a URL"),
    },
    NamedFormat {
        name: "uuid",
        pattern_size: 72,
        check: uuid,
    },
    NamedFormat {
        name: "byte",
        pattern_size: 84,
        check: |text| STANDARD.decode(text).is_err().then_some("it is not base64"),
    },
    NamedFormat {
        name: "date",
        pattern_size: 72,
        check: |text| {
            let plain = time::timestamp(&format!("{text}T00:00:00Z")).is_some();
            (!plain).then_some("it is not a date")
        },
    },
    NamedFormat {
        name: "datetime",
        pattern_size: 72,
        check: |text| time::timestamp(text).is_none().then_some("it is not a point in time"),
    },
];

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Value<'a>> {
    let known = |name: &str| FORMATS.iter().find(|format| format.name == name).map(Value::Format);
    match (function, args) {
        ("validate", [Value::Format(format), Value::String(text)]) => Some(match (format.check)(text) {
            None => Value::Optional(None),
            Some(wrong) => Value::some(Value::list(vec![Value::text(wrong)])),
        }),
        ("format.named", [Value::String(name)]) => Some(Value::Optional(known(name).map(Into::into))),
        (function, []) => known(function.strip_prefix("format.")?),
        _ => None,
    }
}

/// A prefix that a name is made from may end in a dash.
fn without_dash(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(start) if prefix && !start.is_empty() => format!("{start}a"),
        _ => text.to_owned(),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().all(|byte| inner(byte) || byte == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn label(text: &str, prefix: bool) -> Option<&'static str> {
    let text = without_dash(text, prefix);
    (text.len() > 63 || !is_label(&text)).then_some("it is not a DNS label (RFC 1123)")
}

fn subdomain(text: &str, prefix: bool) -> Option<&'static str> {
    let text = without_dash(text, prefix);
    (text.len() > 253 || !text.split('.').all(is_label)).then_some("it is not a DNS subdomain (RFC 1123)")
}

fn old_label(text: &str, prefix: bool) -> Option<&'static str> {
    let text = without_dash(text, prefix);
    let good = text.len() <= 63 && is_label(&text) && !text.starts_with(|first: char| first.is_ascii_digit());
    (!good).then_some("it is not a DNS label (RFC 1035)")
}

fn is_name_part(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    text.len() <= 63
        && text.bytes().all(|byte| edge(byte) || b"-_.".contains(&byte))
        && text.bytes().next().is_some_and(edge)
        && text.bytes().last().is_some_and(edge)
}

fn qualified_name(text: &str) -> Option<&'static str> {
    let good = match text.split_once('/') {
        Some((prefix, name)) => subdomain(prefix, false).is_none() && is_name_part(name),
        None => is_name_part(text),
    };
    (!good).then_some("it is not a qualified name")
}

fn uuid(text: &str) -> Option<&'static str> {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").expect("a pattern of ours")
    });
    (!SHAPE.is_match(text)).then_some("it is not a UUID")
}
