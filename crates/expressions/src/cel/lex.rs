//! Texts into tokens.

use super::{InvalidExpression, ast::Literal};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Ident(String),
    Literal(Literal),
    /// A number too large for its type before its sign is known: 2^63 may become a negative one.
    Integer(String),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "=", "`",
];

/// All tokens with where they begin; the last one is the end.
pub(super) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, InvalidExpression> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        if matches!(first, '\t' | ' ' | '\r' | '\n' | '\u{c}') {
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else {
            let (token, length) = token(rest, first).map_err(|reason| InvalidExpression::at(source, at, reason))?;
            tokens.push((at, token));
            at += length;
        }
    }
    tokens.push((source.len(), Token::End));
    Ok(tokens)
}

fn token(rest: &str, first: char) -> Result<(Token, usize), String> {
    if let Some(found) = text(rest)? {
        return Ok(found);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let token = match &rest[..length] {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Symbol("in"),
            name => Token::Ident(name.to_owned()),
        };
        return Ok((token, length));
    }
    if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return number(rest);
    }
    let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
    match symbol {
        Some("`") => Err("names in backticks are not part of this dialect".to_owned()),
        Some("=") => Err("\"=\" compares nothing; write \"==\"".to_owned()),
        Some(symbol) => Ok((Token::Symbol(symbol), symbol.len())),
        None => Err(format!("{first:?} cannot stand here")),
    }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    if let Some(hex) = rest.strip_prefix("0x") {
        let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        if length > 0 {
            return whole(rest, 2 + length);
        }
    }
    let mut end = digits(0);
    let mut float = false;
    if rest[end..].starts_with('.') && digits(end + 1) > 0 {
        float = true;
        end += 1 + digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            float = true;
            end += 1 + sign + exponent;
        }
    }
    if !float {
        return whole(rest, end);
    }
    let value: f64 = rest[..end]
        .parse()
        .map_err(|_| format!("{:?} is not a number", &rest[..end]))?;
    if value.is_infinite() {
        return Err(format!("{} is too large for a double", &rest[..end]));
    }
    Ok((Token::Literal(Literal::Double(value)), end))
}

fn whole(rest: &str, length: usize) -> Result<(Token, usize), String> {
    let text = &rest[..length];
    if rest[length..].starts_with(['u', 'U']) {
        let value = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        let value = value.map_err(|_| format!("{text} is too large for a uint"))?;
        return Ok((Token::Literal(Literal::Uint(value)), length + 1));
    }
    Ok((Token::Integer(text.to_owned()), length))
}

/// A string or bytes literal at the start.
fn text(rest: &str) -> Result<Option<(Token, usize)>, String> {
    let bytes = rest.starts_with(['b', 'B']);
    let after = &rest[usize::from(bytes)..];
    let raw = after.starts_with(['r', 'R']);
    let body = &after[usize::from(raw)..];
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| body.starts_with(quote))
    else {
        return Ok(None);
    };
    let inside = &body[quote.len()..];
    let mut end = None;
    let mut escaped = false;
    for (index, character) in inside.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        if inside[index..].starts_with(quote) {
            end = Some(index);
            break;
        }
        match character {
            '\\' => escaped = !raw,
            '\n' | '\r' if quote.len() == 1 => break,
            _ => {}
        }
    }
    let end = end.ok_or("a text without its closing quote")?;
    let length = usize::from(bytes) + usize::from(raw) + 2 * quote.len() + end;
    let content = &inside[..end];
    // Line ends are the same everywhere.
    let content = content.replace("\r\n", "\n").replace('\r', "\n");
    let literal = if bytes {
        Literal::Bytes(if raw {
            content.into_bytes().into()
        } else {
            unescaped(&content, true)?.into()
        })
    } else if raw {
        Literal::String(content.into())
    } else {
        Literal::String(
            String::from_utf8(unescaped(&content, false)?)
                .map_err(|_| "a text that is not UTF-8")?
                .into(),
        )
    };
    Ok(Some((Token::Literal(literal), length)))
}

fn unescaped(content: &str, bytes: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first != '\\' {
            out.extend(first.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = rest.chars().next().ok_or("a backslash at the end of a text")?;
        rest = &rest[escape.len_utf8()..];
        let refused = || format!("\"\\{escape}\" is not an escape");
        let plain = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 0xC,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0xB,
            '\\' | '\'' | '"' | '`' | '?' => u8::try_from(escape).map_err(|_| refused())?,
            'x' | 'X' | 'u' | 'U' | '0'..='3' => {
                let (length, radix) = match escape {
                    'x' | 'X' => (2, 16),
                    'u' => (4, 16),
                    'U' => (8, 16),
                    _ => (2, 8),
                };
                if bytes && matches!(escape, 'u' | 'U') {
                    return Err(refused());
                }
                let digits = rest
                    .get(..length)
                    .filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)));
                let digits = digits.ok_or_else(refused)?;
                let mut value = u32::from_str_radix(digits, radix).map_err(|_| refused())?;
                rest = &rest[length..];
                if radix == 8 {
                    value += escape.to_digit(8).ok_or_else(refused)? * 64;
                }
                if bytes {
                    u8::try_from(value).map_err(|_| refused())?
                } else {
                    out.extend(
                        char::from_u32(value)
                            .ok_or_else(refused)?
                            .encode_utf8(&mut [0; 4])
                            .bytes(),
                    );
                    continue;
                }
            }
            _ => return Err(refused()),
        };
        out.push(plain);
    }
    Ok(out)
}
