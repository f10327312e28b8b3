//! Texts: cutting, joining, quoting, hashing. Lengths and offsets are bytes, as in Go.

use std::sync::Arc;

use super::Type::{Any, Int, Text};
use super::{Answer, Arguments, Context, Function, count, cut, fixed, string_of, variadic};
use crate::error::Failure;
use crate::go::format::{self, Text as Building};
use crate::go::quote;
use crate::value::{ENTRY_BYTES, Elements, Entries, ITEM_BYTES, Value};

pub(super) const ROWS: &[Function] = &[
    fixed("abbrev", &[Int, Text], |_, arguments| {
        Ok(Value::text(abbreviate(arguments.text(1)?, 0, arguments.int(0)?, 4)?))
    }),
    fixed("abbrevboth", &[Int, Int, Text], |_, arguments| {
        let left = arguments.int(0)?;
        let least = if left > 0 { 7 } else { 4 };
        Ok(Value::text(abbreviate(
            arguments.text(2)?,
            left,
            arguments.int(1)?,
            least,
        )?))
    }),
    fixed("adler32sum", &[Text], |context, arguments| {
        let text = arguments.text(0)?;
        context.budget.read(text.len())?;
        Ok(Value::text(adler32(text.as_bytes()).to_string()))
    }),
    variadic("cat", &[], Any, cat),
    fixed("contains", &[Text, Text], |context, arguments| {
        context.budget.read(arguments.text(1)?.len())?;
        Ok(Value::Bool(arguments.text(1)?.contains(&**arguments.text(0)?)))
    }),
    fixed("hasPrefix", &[Text, Text], |_, arguments| {
        Ok(Value::Bool(arguments.text(1)?.starts_with(&**arguments.text(0)?)))
    }),
    fixed("hasSuffix", &[Text, Text], |_, arguments| {
        Ok(Value::Bool(arguments.text(1)?.ends_with(&**arguments.text(0)?)))
    }),
    fixed("indent", &[Int, Text], |context, arguments| {
        indent(context, arguments, "")
    }),
    fixed("nindent", &[Int, Text], |context, arguments| {
        indent(context, arguments, "\n")
    }),
    fixed("plural", &[Text, Text, Int], |_, arguments| {
        Ok(arguments.value(usize::from(arguments.int(2)? != 1))?.clone())
    }),
    variadic("quote", &[], Any, |context, arguments| {
        spaced(context, arguments, |value| {
            Ok(quote::quote(&string_of(value, context.budget)?, false))
        })
    }),
    variadic("squote", &[], Any, |context, arguments| {
        spaced(context, arguments, |value| {
            Ok(format!("'{}'", format::display(value, context.budget)?))
        })
    }),
    fixed("repeat", &[Int, Text], repeat),
    fixed("replace", &[Text, Text, Text], replace),
    fixed("sha1sum", &[Text], digest::<sha1::Sha1>),
    fixed("sha256sum", &[Text], digest::<sha2::Sha256>),
    fixed("sha512sum", &[Text], digest::<sha2::Sha512>),
    fixed("split", &[Text, Text], |context, arguments| {
        let parts = split(context, arguments.text(0)?, arguments.text(1)?, None)?;
        Ok(numbered(parts))
    }),
    fixed("splitList", &[Text, Text], |context, arguments| {
        let parts = split(context, arguments.text(0)?, arguments.text(1)?, None)?;
        Ok(Value::typed_list(Elements::Texts, parts))
    }),
    fixed("splitn", &[Text, Int, Text], |context, arguments| {
        let most = usize::try_from(arguments.int(1)?).ok();
        let parts = split(context, arguments.text(0)?, arguments.text(2)?, most)?;
        Ok(numbered(parts))
    }),
    fixed("substr", &[Int, Int, Text], substr),
    fixed("toString", &[Any], |context, arguments| {
        Ok(Value::Text(string_of(arguments.value(0)?, context.budget)?))
    }),
    fixed("trim", &[Text], |_, arguments| {
        Ok(Value::text(arguments.text(0)?.trim()))
    }),
    fixed("trimAll", &[Text, Text], trim_all),
    fixed("trimall", &[Text, Text], trim_all),
    fixed("trimPrefix", &[Text, Text], |_, arguments| {
        let (prefix, text) = (arguments.text(0)?, arguments.text(1)?);
        Ok(Value::text(text.strip_prefix(&**prefix).unwrap_or(text)))
    }),
    fixed("trimSuffix", &[Text, Text], |_, arguments| {
        let (suffix, text) = (arguments.text(0)?, arguments.text(1)?);
        Ok(Value::text(text.strip_suffix(&**suffix).unwrap_or(text)))
    }),
    fixed("trunc", &[Int, Text], trunc),
    fixed("wrap", &[Int, Text], |context, arguments| {
        wrap(context, arguments.text(1)?, arguments.int(0)?, "\n", false)
    }),
    fixed("wrapWith", &[Int, Text, Text], |context, arguments| {
        let newline: &str = arguments.text(1)?;
        let newline = if newline.is_empty() { "\n" } else { newline };
        wrap(context, arguments.text(2)?, arguments.int(0)?, newline, true)
    }),
];

/// The text from about `offset` on in at most `width` bytes, with dots where something is missing.
fn abbreviate(text: &str, offset: i64, width: i64, least: i64) -> Result<String, Failure> {
    const DOTS: &str = "...";
    if width < least {
        return Ok(text.to_owned());
    }
    let length = text.len();
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    if length <= width {
        return Ok(text.to_owned());
    }
    let shown = width - DOTS.len();
    let mut offset = usize::try_from(offset).unwrap_or(0).min(length);
    if length - offset < shown {
        offset = length - shown;
    }
    if offset <= 4 {
        return Ok(format!("{}{DOTS}", cut(text, 0, shown)?));
    }
    if width < 7 {
        return Ok(String::new());
    }
    if offset + shown < length {
        let rest = abbreviate(
            cut(text, offset, length)?,
            0,
            i64::try_from(shown).unwrap_or(i64::MAX),
            4,
        )?;
        return Ok(format!("{DOTS}{rest}"));
    }
    Ok(format!("{DOTS}{}", cut(text, length - shown, length)?))
}

/// RFC 1950.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % MODULUS;
        (a, (a + b) % MODULUS)
    });
    (b << 16) | a
}

fn digest<D: sha1::Digest>(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    // A hash is slower than a copy.
    context.budget.read(text.len() * 4)?;
    Ok(Value::text(data_encoding::HEXLOWER.encode(&D::digest(text.as_bytes()))))
}

/// The texts of all values but nil, with spaces between.
fn spaced(context: &Context<'_>, arguments: Arguments<'_>, show: impl Fn(&Value) -> Result<String, Failure>) -> Answer {
    let mut out = Building::new(context.budget);
    let present = arguments.0.iter().filter(|value| !matches!(value, Value::Nil));
    for (at, value) in present.enumerate() {
        if at > 0 {
            out.push(" ")?;
        }
        out.push(&show(value)?)?;
    }
    Ok(Value::text(out.into_string()))
}

fn cat(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    spaced(context, arguments, |value| format::display(value, context.budget))
}

fn indent(context: &Context<'_>, arguments: Arguments<'_>, before: &str) -> Answer {
    let spaces = count(arguments.int(0)?, "indentation")?;
    let text = arguments.text(1)?;
    let lines = text.matches('\n').count() + 1;
    context
        .budget
        .allocate(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    let pad = " ".repeat(spaces);
    Ok(Value::text(format!(
        "{before}{pad}{}",
        text.replace('\n', &format!("\n{pad}"))
    )))
}

fn repeat(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let times = count(arguments.int(0)?, "count")?;
    let text = arguments.text(1)?;
    context.budget.allocate(text.len().saturating_mul(times))?;
    Ok(Value::text(text.repeat(times)))
}

fn replace(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (old, new, text) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    context.budget.read(text.len())?;
    let found = text.matches(&**old).count();
    context
        .budget
        .allocate(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(Value::text(text.replace(&**old, new)))
}

/// Go's `strings.SplitN`; no separator splits into characters.
fn split(context: &Context<'_>, separator: &str, text: &str, most: Option<usize>) -> Result<Vec<Value>, Failure> {
    context.budget.read(text.len())?;
    let most = most.unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Vec::new());
    }
    let parts = if separator.is_empty() {
        text.chars().count()
    } else {
        text.matches(separator).count() + 1
    };
    context
        .budget
        .allocate(text.len() + parts.min(most) * (ITEM_BYTES + ENTRY_BYTES))?;
    if separator.is_empty() {
        let mut ends: Vec<_> = text
            .char_indices()
            .map(|(at, char)| at + char.len_utf8())
            .take(most)
            .collect();
        if let Some(last) = ends.last_mut() {
            *last = text.len();
        }
        let mut start = 0;
        let part = |end| Value::text(&text[std::mem::replace(&mut start, end)..end]);
        return Ok(ends.into_iter().map(part).collect());
    }
    Ok(text.splitn(most, separator).map(Value::text).collect())
}

/// A dict of the parts by `_0`, `_1` and so on.
fn numbered(parts: Vec<Value>) -> Value {
    let keys = (0..).map(|at: usize| Arc::from(format!("_{at}")));
    Value::text_map(keys.zip(parts).collect::<Entries>())
}

fn substr(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (start, end, text) = (arguments.int(0)?, arguments.int(1)?, arguments.text(2)?);
    let length = text.len();
    let end_at = usize::try_from(end).ok();
    if start < 0 {
        return Ok(Value::text(cut(text, 0, count(end, "end")?)?));
    }
    let start = count(start, "start")?;
    Ok(Value::text(cut(
        text,
        start,
        end_at.filter(|&end| end <= length).unwrap_or(length),
    )?))
}

fn trim_all(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let unwanted = arguments.text(0)?;
    Ok(Value::text(
        arguments.text(1)?.trim_matches(|char| unwanted.contains(char)),
    ))
}

/// The first bytes, or with a negative count the last ones.
fn trunc(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (kept, text) = (arguments.int(0)?, arguments.text(1)?);
    let size = usize::try_from(kept.unsigned_abs()).unwrap_or(usize::MAX);
    if size >= text.len() {
        return Ok(Value::Text(Arc::clone(text)));
    }
    Ok(Value::text(if kept < 0 {
        cut(text, text.len() - size, text.len())?
    } else {
        cut(text, 0, size)?
    }))
}

/// Breaks lines at spaces. A word that is longer than a line is broken only if `breaks_words`.
fn wrap(context: &Context<'_>, text: &str, width: i64, newline: &str, breaks_words: bool) -> Answer {
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let bytes = text.as_bytes();
    let mut out = Building::new(context.budget);
    let mut start = 0;
    while bytes.len() - start > width {
        context.budget.read(width)?;
        if bytes[start] == b' ' {
            start += 1;
            continue;
        }
        let end = start + width;
        let space = bytes[start..=end]
            .iter()
            .rposition(|&byte| byte == b' ')
            .map(|at| start + at);
        if let Some(space) = space {
            out.push(cut(text, start, space)?)?;
            start = space + 1;
        } else if breaks_words {
            out.push(cut(text, start, end)?)?;
            start = end;
        } else if let Some(space) = bytes[end..].iter().position(|&byte| byte == b' ') {
            out.push(cut(text, start, end + space)?)?;
            start = end + space + 1;
        } else {
            out.push(cut(text, start, text.len())?)?;
            start = text.len();
            continue;
        }
        out.push(newline)?;
    }
    out.push(cut(text, start, text.len())?)?;
    Ok(Value::text(out.into_string()))
}
