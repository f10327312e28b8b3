//! Go's `strconv.FormatFloat`, for the formats that templates can ask for.

/// `format` is one of `e`, `E`, `f`, `F`, `g`, `G`; no precision means the fewest digits that read back as the same
/// number.
pub(crate) fn format(float: f64, format: char, precision: Option<usize>) -> String {
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    match format {
        'f' | 'F' => match precision {
            Some(precision) => {
                let (exact, zeros) = split_precision(precision);
                format!("{float:.exact$}") + &"0".repeat(zeros)
            }
            None => format!("{float}"),
        },
        'e' => exponent_form(float, precision, 'e'),
        'E' => exponent_form(float, precision, 'E'),
        'G' => general(float, precision, 'E'),
        _ => general(float, precision, 'e'),
    }
}

/// Digits that a float can have, and how many zeros follow: the standard library formats with no more than 65,535.
fn split_precision(precision: usize) -> (usize, usize) {
    const MOST_DIGITS: usize = 1_100;
    (precision.min(MOST_DIGITS), precision.saturating_sub(MOST_DIGITS))
}

fn exponent_form(float: f64, precision: Option<usize>, letter: char) -> String {
    let (text, zeros) = match precision {
        Some(precision) => {
            let (exact, zeros) = split_precision(precision);
            (format!("{float:.exact$e}"), zeros)
        }
        None => (format!("{float:e}"), 0),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.to_owned() + &"0".repeat(zeros);
    let (sign, size) = match exponent.strip_prefix('-') {
        Some(size) => ('-', size),
        None => ('+', exponent),
    };
    format!("{digits}{letter}{sign}{size:0>2}")
}

fn general(float: f64, precision: Option<usize>, letter: char) -> String {
    let rounded = match precision {
        Some(precision) => format!("{float:.*e}", split_precision(precision.max(1) - 1).0),
        None => format!("{float:e}"),
    };
    let (digits, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let significant = digits.chars().filter(char::is_ascii_digit).collect::<String>();
    let significant = significant.trim_end_matches('0').len().max(1);
    let shown = i64::try_from(significant).unwrap_or(i64::MAX);
    let threshold = match precision {
        None => 6,
        Some(precision) => {
            let precision = i64::try_from(precision.max(1)).unwrap_or(i64::MAX);
            if precision > shown && shown > exponent {
                shown
            } else {
                precision
            }
        }
    };
    if exponent < -4 || exponent >= threshold {
        exponent_form(float, Some(significant - 1), letter)
    } else {
        let decimals = usize::try_from((shown - 1 - exponent).max(0)).unwrap_or(0);
        format!("{float:.decimals$}")
    }
}
