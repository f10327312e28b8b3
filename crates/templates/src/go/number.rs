//! Number literals and number texts, as Go's `strconv` reads them.

/// A number literal: what it is as an argument of each number type, if it can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) int: Option<i64>,
    pub(crate) float: f64,
    pub(crate) ideal: Ideal,
}

/// What a literal is where no type is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ideal {
    Int(i64),
    Float(f64),
    /// Fits an unsigned integer only; an error when it is used.
    TooLarge,
}

impl Number {
    pub(crate) fn of_char(char: char) -> Self {
        let code = u32::from(char);
        Self {
            int: Some(i64::from(code)),
            float: f64::from(code),
            ideal: Ideal::Int(i64::from(code)),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.ends_with('i') {
            return Err(format!("complex numbers are not supported: {text}"));
        }
        if let Some(int) = parse_int(text, 0) {
            return Ok(Self {
                int: Some(int),
                float: int_to_float(int),
                ideal: Ideal::Int(int),
            });
        }
        if let Some(uint) = parse_uint(text, 0) {
            #[allow(clippy::cast_precision_loss)] // as Go converts it
            let float = uint as f64;
            return Ok(Self {
                int: None,
                float,
                ideal: Ideal::TooLarge,
            });
        }
        let float = parse_float(text).ok_or_else(|| format!("illegal number syntax: {text:?}"))?;
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {text:?}"));
        }
        let int = float_to_int(float);
        #[allow(clippy::float_cmp)] // asks whether the conversion lost anything
        let is_whole = int_to_float(int) == float;
        Ok(Self {
            int: is_whole.then_some(int),
            float,
            ideal: Ideal::Float(float),
        })
    }
}

#[allow(clippy::cast_precision_loss)] // as Go converts it
pub(crate) fn int_to_float(int: i64) -> f64 {
    int as f64
}

/// As Go on amd64: out of range is the smallest integer.
pub(crate) fn float_to_int(float: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&float) {
        #[allow(clippy::cast_possible_truncation)] // drops the fraction, which is wanted
        let int = float as i64;
        int
    } else {
        i64::MIN
    }
}

/// Go's `ParseUint`; base 0 reads the prefix and allows underscores between digits.
pub(crate) fn parse_uint(text: &str, base: u32) -> Option<u64> {
    let mut digits = text;
    let mut radix = base;
    if base == 0 {
        radix = 10;
        let lower = text.to_ascii_lowercase();
        for (prefix, its_radix) in [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)] {
            if lower.len() > prefix.len() && lower.starts_with(prefix) {
                digits = &text[prefix.len()..];
                radix = its_radix;
                break;
            }
        }
        if text.contains('_') && !underscores_between_digits(text) {
            return None;
        }
    }
    let digits: String = if base == 0 {
        digits.chars().filter(|&char| char != '_').collect()
    } else {
        digits.to_owned()
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(&digits, radix).ok()
}

fn underscores_between_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    // After a base prefix an underscore may stand too: the prefix's letter counts as a digit.
    let is_prefix = |at: usize| at == 2 && bytes[0] == b'0' && b"xXoObB".contains(&bytes[1]);
    bytes.iter().enumerate().all(|(at, &byte)| {
        byte != b'_' || ((at > 0 && is_digit(bytes.get(at - 1)) || is_prefix(at)) && is_digit(bytes.get(at + 1)))
    })
}

/// Go's `ParseInt`.
pub(crate) fn parse_int(text: &str, base: u32) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let size = parse_uint(digits, base)?;
    if negative {
        0_i64.checked_sub_unsigned(size)
    } else {
        i64::try_from(size).ok()
    }
}

/// Go's `ParseFloat`, but for hexadecimal ones. Out of range is `None`.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let special = unsigned.to_ascii_lowercase();
    if ["inf", "infinity", "nan"].contains(&special.as_str()) {
        return if special == "nan" && unsigned.len() != text.len() {
            None
        } else {
            text.parse().ok()
        };
    }
    let has_digits = unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.');
    if !has_digits || (text.contains('_') && !underscores_between_digits(unsigned)) {
        return None;
    }
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|float: &f64| float.is_finite())
}
