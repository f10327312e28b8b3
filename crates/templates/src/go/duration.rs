//! Go's `time.Duration`: nanoseconds in 64 bits, and how they are written.

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's `time.ParseDuration`: nanoseconds of texts such as `-1h30.5m`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let number_length = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, after) = rest.split_at(number_length);
        let unit_length = after
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let nanoseconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        total += whole
            .parse::<u128>()
            .or_else(|e| if whole.is_empty() { Ok(0) } else { Err(e) })
            .ok()?
            * nanoseconds;
        // What is smaller than a nanosecond is dropped, as in Go.
        let digits = &fraction[..fraction.len().min(18)];
        if !digits.is_empty() {
            let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
            total += digits.parse::<u128>().ok()? * nanoseconds / scale;
        }
        if total > 1 << 63 {
            return None;
        }
        rest = after;
    }
    if negative {
        0_i64.checked_sub_unsigned(u64::try_from(total).ok()?)
    } else {
        i64::try_from(total).ok()
    }
}

/// Go's `Duration.String`, of whole seconds.
pub(crate) fn display_seconds(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let size = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}
