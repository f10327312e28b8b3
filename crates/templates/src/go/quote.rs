//! Quoted strings: reading Go's literals, and writing them as `%q` does.

use std::fmt::Write as _;

/// The text of a quoted literal with its quotes; `None` if an escape is wrong or makes no UTF-8.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    if literal.starts_with('`') {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        if next == '\\' {
            match escape(&mut chars, '"')? {
                Escaped::Byte(byte) => bytes.push(byte),
                Escaped::Char(char) => bytes.extend(char.encode_utf8(&mut [0; 4]).bytes()),
            }
        } else {
            bytes.extend(next.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

/// The character of a literal such as `'a'` or `'\n'`.
pub(crate) fn unquote_char(literal: &str) -> Option<char> {
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    let mut chars = inner.chars();
    let char = match chars.next()? {
        '\\' => match escape(&mut chars, '\'')? {
            Escaped::Byte(byte) => char::from(byte),
            Escaped::Char(char) => char,
        },
        '\'' => return None,
        char => char,
    };
    chars.next().is_none().then_some(char)
}

enum Escaped {
    Byte(u8),
    Char(char),
}

fn escape(chars: &mut std::str::Chars<'_>, quote: char) -> Option<Escaped> {
    let kind = chars.next()?;
    Some(match kind {
        'a' => Escaped::Byte(7),
        'b' => Escaped::Byte(8),
        'f' => Escaped::Byte(12),
        'n' => Escaped::Byte(b'\n'),
        'r' => Escaped::Byte(b'\r'),
        't' => Escaped::Byte(b'\t'),
        'v' => Escaped::Byte(11),
        '\\' => Escaped::Byte(b'\\'),
        'x' => Escaped::Byte(u8::try_from(digits(chars, 2, 16)?).ok()?),
        'u' => Escaped::Char(char::from_u32(digits(chars, 4, 16)?)?),
        'U' => Escaped::Char(char::from_u32(digits(chars, 8, 16)?)?),
        '0'..='7' => {
            let first = kind.to_digit(8)?;
            Escaped::Byte(u8::try_from(first * 64 + digits(chars, 2, 8)?).ok()?)
        }
        other if other == quote => Escaped::Char(quote),
        _ => return None,
    })
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    let mut number = 0_u32;
    for _ in 0..count {
        number = number.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(number)
}

/// Go's `strconv.Quote`, or with `ascii` its `QuoteToASCII`.
pub(crate) fn quote(text: &str, ascii: bool) -> String {
    quote_with(text, '"', ascii)
}

/// Go's `strconv.QuoteRune`.
pub(crate) fn quote_char(char: char, ascii: bool) -> String {
    quote_with(char.encode_utf8(&mut [0; 4]), '\'', ascii)
}

fn quote_with(text: &str, quote: char, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for char in text.chars() {
        push_escaped(&mut out, char, quote, ascii);
    }
    out.push(quote);
    out
}

fn push_escaped(out: &mut String, char: char, quote: char, ascii: bool) {
    match char {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if char == quote => {
            out.push('\\');
            out.push(quote);
        }
        _ if is_print(char) && (char.is_ascii() || !ascii) => out.push(char),
        _ => {
            let code = u32::from(char);
            // Writing to a String cannot fail.
            let _ = match code {
                0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
                0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(crate) fn is_print(char: char) -> bool {
    // Debug formatting escapes what is not printable by the same rule; a combining mark only where nothing precedes it.
    let mut text = String::from("a");
    text.push(char);
    matches!(char, '"' | '\'' | '\\') || text.escape_debug().count() == 2
}

/// Go's `strconv.CanBackquote`.
pub(crate) fn can_backquote(text: &str) -> bool {
    text.chars()
        .all(|char| char != '\u{feff}' && (char == '\t' || (char >= ' ' && char != '`' && char != '\u{7f}')))
}
