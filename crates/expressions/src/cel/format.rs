//! `'…'.format([…])` and `strings.quote`.

use super::{
    eval::{Failure, Meter, Result},
    strings,
    types::Type,
    value::{List, Value},
};

/// Digits after the point, unless said otherwise.
const PRECISION: usize = 6;
/// No text that is made may be longer than what an object may hold, several times over.
const MAX_PRECISION: usize = 1000;

/// A part of a format.
enum Part<'t> {
    Text(&'t str),
    Clause { verb: char, precision: usize },
}

/// Reads a format. The error says what is wrong with it.
fn parts(text: &str) -> std::result::Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find('%') {
        parts.push(Part::Text(&rest[..place]));
        rest = &rest[place + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            parts.push(Part::Text("%"));
            rest = after;
            continue;
        }
        let mut precision = PRECISION;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let number = after[..digits].parse().ok().filter(|number| *number <= MAX_PRECISION);
            precision = number.ok_or_else(|| format!("a precision has to be a number up to {MAX_PRECISION}"))?;
            rest = &after[digits..];
        }
        let verb = rest.chars().next().ok_or("\"%\" at the end of a format")?;
        if !"sdfebxXo".contains(verb) {
            return Err(format!("%{verb} is not known"));
        }
        rest = &rest[verb.len_utf8()..];
        parts.push(Part::Clause { verb, precision });
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Checks a format that is written out against the types of its values.
pub(super) fn check(text: &str, types: &[Type]) -> std::result::Result<(), String> {
    let mut types = types.iter();
    for part in parts(text)? {
        let Part::Clause { verb, .. } = part else { continue };
        let found = types.next().ok_or_else(|| format!("there is no value for %{verb}"))?;
        let shown = match found {
            Type::Dyn => true,
            Type::Int | Type::Uint => "sdbxXo".contains(verb),
            Type::Bool => "sb".contains(verb),
            Type::String => "sxXfe".contains(verb),
            Type::Bytes => "sxX".contains(verb),
            Type::Double => "sfe".contains(verb),
            Type::Null | Type::List(_) | Type::Map(_) | Type::Kind | Type::Duration | Type::Timestamp => verb == 's',
            Type::Optional(_) | Type::Named(_) | Type::Param(_) => false,
        };
        if !shown {
            return Err(format!("%{verb} cannot show {found}"));
        }
    }
    if types.len() > 0 {
        Err("there are more values than places for them".to_owned())
    } else {
        Ok(())
    }
}

/// Puts values in the places of `%s` and the like.
pub(super) fn format(text: &str, args: &List<'_>, meter: &mut Meter) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut next = 0;
    for part in parts(text).map_err(Failure::error)? {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Clause { verb, precision } => {
                let value = args.get(next);
                let value = value.ok_or_else(|| Failure::error(format!("there is no value for %{verb}")))?;
                next += 1;
                let before = out.len();
                clause(verb, precision, &value, &mut out, meter)?;
                meter.work((out.len() - before) as u64)?;
            }
        }
    }
    Ok(out)
}

fn clause(verb: char, precision: usize, value: &Value<'_>, out: &mut String, meter: &mut Meter) -> Result<()> {
    let refused = || Failure::error(format!("%{verb} cannot show {}", value.type_name()));
    match (verb, value) {
        ('s', value) => return shown(value, out, meter),
        ('d', Value::Int(number)) => out.push_str(&number.to_string()),
        ('d', Value::Uint(number)) => out.push_str(&number.to_string()),
        ('b', Value::Int(number)) => out.push_str(&signed(*number, |magnitude| format!("{magnitude:b}"))),
        ('b', Value::Uint(number)) => write(out, format_args!("{number:b}")),
        ('b', Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('o', Value::Int(number)) => out.push_str(&signed(*number, |magnitude| format!("{magnitude:o}"))),
        ('o', Value::Uint(number)) => write(out, format_args!("{number:o}")),
        ('x' | 'X', value) => {
            let text = match value {
                Value::Int(number) => signed(*number, |magnitude| format!("{magnitude:x}")),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return Err(refused()),
            };
            out.push_str(&if verb == 'X' { text.to_ascii_uppercase() } else { text });
        }
        ('f' | 'e', value) => {
            let number = match value {
                Value::Double(number) => *number,
                Value::String(text) => match &**text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => return Err(refused()),
                },
                _ => return Err(refused()),
            };
            out.push_str(&english(number, precision, verb == 'e'));
        }
        _ => return Err(refused()),
    }
    Ok(())
}

/// A text takes whatever is written to it.
fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = std::fmt::Write::write_fmt(out, arguments);
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        write(&mut out, format_args!("{byte:02x}"));
    }
    out
}

/// As numbers are printed for English readers: groups of three, powers of ten spelt out.
fn english(number: f64, precision: usize, scientific: bool) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    if number.is_infinite() {
        return format!("{sign}∞");
    }
    let magnitude = number.abs();
    if scientific {
        // What is said of the precision is taken for the width there.
        let text = format!("{magnitude:.PRECISION$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (minus, digits) = exponent
            .strip_prefix('-')
            .map_or(("", exponent), |digits| ("⁻", digits));
        let raised: String = format!("{digits:0>2}")
            .bytes()
            .filter_map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(usize::from(digit - b'0')))
            .collect();
        let text = format!("{sign}{mantissa}×10{minus}{raised}");
        return format!("{text:>precision$}");
    }
    let text = format!("{magnitude:.precision$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

fn shown(value: &Value<'_>, out: &mut String, meter: &mut Meter) -> Result<()> {
    meter.work(1)?;
    match value {
        Value::Null => out.push_str("null"),
        Value::List(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                nested(&element, out, meter)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries() {
                let (mut name, mut text) = (String::new(), String::new());
                nested(&key.value(), &mut name, meter)?;
                nested(&value, &mut text, meter)?;
                entries.push((name, text));
            }
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect();
            out.push('{');
            out.push_str(&entries.join(", "));
            out.push('}');
        }
        Value::Type(name) => out.push_str(name),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Timestamp(_) => match strings::text_of(value)? {
            Some(Value::String(text)) => out.push_str(&text),
            _ => return Err(Failure::error("bytes that are no text cannot be shown")),
        },
        other => return Err(Failure::error(format!("%s cannot show {}", other.type_name()))),
    }
    meter.work(out.len() as u64 / 64)
}

/// Inside a list or a map texts are quoted.
fn nested(value: &Value<'_>, out: &mut String, meter: &mut Meter) -> Result<()> {
    match value {
        Value::String(text) => {
            meter.work(text.len() as u64)?;
            out.push_str(&go_quoted(text));
            Ok(())
        }
        Value::Bytes(bytes) => {
            out.push('b');
            out.push_str(&go_quoted(&String::from_utf8_lossy(bytes)));
            Ok(())
        }
        Value::Double(number) => {
            write(out, format_args!("{number:.6}"));
            Ok(())
        }
        Value::Timestamp(_) => {
            out.push_str("timestamp(");
            let mut text = String::new();
            shown(value, &mut text, meter)?;
            out.push_str(&go_quoted(&text));
            out.push(')');
            Ok(())
        }
        Value::Duration(_) => {
            out.push_str("duration(");
            let mut text = String::new();
            shown(value, &mut text, meter)?;
            out.push_str(&go_quoted(&text));
            out.push(')');
            Ok(())
        }
        Value::Type(name) => {
            write(out, format_args!("type({name})"));
            Ok(())
        }
        other => shown(other, out, meter),
    }
}

/// Go's `%q`.
fn go_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_control() => write(&mut out, format_args!("\\x{:02x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A text as an expression would write it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
