//! Amounts of resources, exactly as Kubernetes counts them (`k8s.io/apimachinery/pkg/api/resource`).
//!
//! A quantity has at most nine digits after the point; what is finer is rounded away from zero. One with a binary suffix is
//! at most 2^63-1. So a count of billionths in an `i128` holds every quantity of this world exactly: up to 10^28, which is
//! more bytes than there will be, and the sum of a thousand million of them. What is larger is taken as that. No floats.

use std::{cmp::Ordering, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const NANOS: i128 = 1_000_000_000;
/// The largest quantity with a binary suffix.
const MAX_BINARY: i128 = i64::MAX as i128 * NANOS;
/// The largest of all.
const MAX: i128 = 10_i128.pow(37);
/// Decimal suffixes from billionths up; each is a thousand times the one before.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity: it has to be a number, with a suffix such as m, k, M, Ki or Gi if need be")]
pub struct InvalidQuantity {
    text: String,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// What an amount is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Ones, such as bytes.
    Whole,
    /// Thousandths, such as those of a CPU.
    Thousandth,
}

/// An amount of a resource.
///
/// Two of them are equal if they are the same amount, however they are written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::Decimal,
    };

    /// One.
    pub const ONE: Self = Self {
        nanos: NANOS,
        format: Format::Decimal,
    };

    /// A number of things.
    pub fn count(things: usize) -> Self {
        // A number of things that are in memory has no more than 64 bits.
        let things = i128::try_from(things).unwrap_or_default();
        Self {
            nanos: things * NANOS,
            format: Format::Decimal,
        }
    }

    /// From the API's type.
    ///
    /// # Errors
    /// If the text is not a quantity. The API server accepts none such for its own kinds, but a few for those of
    /// others.
    pub fn parse(wire: &Wire) -> Result<Self, InvalidQuantity> {
        wire.0.parse()
    }

    /// To the API's type, in the canonical form.
    pub fn to_wire(self) -> Wire {
        Wire(self.to_string())
    }

    /// The sum. It is written as this one is, or as the other one if this one is nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format: self.format_with(other),
        }
    }

    /// The difference, which may be negative. It is written as this one is, or as the other one if this one is nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format: self.format_with(other),
        }
    }

    /// So many times this amount, rounded down, written as this one is. Of negative amounts nothing comes.
    #[must_use]
    pub fn times(self, factor: Self, unit: Unit) -> Self {
        let (amount, factor) = (self.nanos.max(0), factor.nanos.max(0));
        // amount * factor / 10^9 in parts that fit: with amount = a * 10^9 + b and factor = c * 10^9 + d it is
        // a * factor + b * c + b * d / 10^9.
        let (whole, rest) = (amount / NANOS, amount % NANOS);
        let nanos = whole
            .saturating_mul(factor)
            .saturating_add(rest * (factor / NANOS))
            .saturating_add(rest * (factor % NANOS) / NANOS)
            .min(MAX);
        let step = match unit {
            Unit::Whole => NANOS,
            Unit::Thousandth => NANOS / 1000,
        };
        Self {
            nanos: nanos - nanos % step,
            format: self.format,
        }
    }

    /// The next whole number, if it is not one: bytes are counted whole.
    #[must_use]
    pub fn rounded_up(self) -> Self {
        let part = self.nanos.rem_euclid(NANOS);
        let missing = if part == 0 { 0 } else { NANOS - part };
        Self {
            nanos: self.nanos.saturating_add(missing),
            ..self
        }
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The whole number that it is. None: it has a fraction, or is larger than 64 bits hold.
    pub fn whole(self) -> Option<i64> {
        (self.nanos % NANOS == 0).then(|| i64::try_from(self.nanos / NANOS).ok())?
    }

    /// For measurements only: the nearest float.
    #[allow(clippy::cast_precision_loss)]
    pub fn to_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    fn format_with(self, other: Self) -> Format {
        if self.is_zero() { other.format } else { self.format }
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        parse(text).ok_or_else(|| InvalidQuantity { text: shortened(text) })
    }
}

/// A text in an error is for people.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 64 {
        text.to_owned()
    } else {
        text.chars().take(64).chain("…".chars()).collect()
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (whole, rest) = unsigned.split_at(digits);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (scale, format) = scale(suffix)?;
    let nanos = match scale {
        Scale::Ten(exponent) => scaled_by_ten(whole, fraction, exponent),
        Scale::Two(shift) => scaled_by_two(whole, fraction, shift),
    };
    // A part of one, though written with a binary suffix, is written as a decimal.
    let format = if format == Format::Binary && nanos > 0 && nanos < NANOS {
        Format::Decimal
    } else {
        format
    };
    Some(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

enum Scale {
    /// A power of ten.
    Ten(i64),
    /// A power of two.
    Two(u32),
}

fn scale(suffix: &str) -> Option<(Scale, Format)> {
    if let Some(place) = BINARY
        .iter()
        .position(|known| *known == suffix)
        .filter(|place| *place > 0)
    {
        return Some((Scale::Two(10 * u32::try_from(place).ok()?), Format::Binary));
    }
    if let Some(place) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some((Scale::Ten(3 * i64::try_from(place).ok()? - 9), Format::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    // An exponent that is no number at all is refused; one that is out of any range has the effect of a large one.
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Go keeps the exponent in 64 bits and refuses what does not fit.
    let exponent: i64 = exponent.parse().ok()?;
    Some((Scale::Ten(exponent), Format::Exponent))
}

/// Billionths in `whole.fraction * 10^exponent`, rounded up, and no more than can be counted.
fn scaled_by_ten(whole: &str, fraction: &str, exponent: i64) -> i128 {
    let mut nanos: i128 = 0;
    let mut cut_off = false;
    let places = whole.len().try_into().unwrap_or(i64::MAX);
    for (index, digit) in whole
        .bytes()
        .chain(fraction.bytes())
        .map(|byte| byte - b'0')
        .enumerate()
    {
        if digit == 0 {
            continue;
        }
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        // The digit stands for digit * 10^power billionths.
        let power = exponent.saturating_add(places).saturating_sub(index).saturating_add(8);
        match u32::try_from(power) {
            Err(_) if power < 0 => cut_off = true,
            Ok(power) if power <= 37 => {
                nanos = nanos.saturating_add(i128::from(digit).saturating_mul(10_i128.pow(power)));
            }
            _ => return MAX,
        }
    }
    if cut_off {
        nanos = nanos.saturating_add(1);
    }
    nanos.min(MAX)
}

/// Billionths in `whole.fraction * 2^shift`, rounded up, capped.
fn scaled_by_two(whole: &str, fraction: &str, shift: u32) -> i128 {
    let factor = 1_i128 << shift;
    let mut value: i128 = 0;
    for digit in whole.bytes().map(|byte| i128::from(byte - b'0')) {
        value = value * 10 + digit;
        if value > i128::from(i64::MAX) {
            return MAX_BINARY;
        }
    }
    let mut nanos = value.saturating_mul(factor).saturating_mul(NANOS);
    // The fraction times 2^shift may have digits finer than a billionth: they are carried along digit by digit.
    let fraction = fraction.trim_end_matches('0');
    let mut remainder = Remainder::default();
    for (place, digit) in fraction.bytes().map(|byte| i128::from(byte - b'0')).enumerate() {
        remainder.add(digit * factor * NANOS, place + 1);
    }
    nanos = nanos.saturating_add(remainder.rounded_up());
    nanos.min(MAX_BINARY)
}

/// A sum of `amount / 10^place`, kept exactly as far as it can decide about rounding up: whole units, and whether
/// anything is left over.
#[derive(Default)]
struct Remainder {
    /// Numerators by place, each smaller than its denominator once carried.
    terms: Vec<i128>,
}

impl Remainder {
    fn add(&mut self, amount: i128, place: usize) {
        if self.terms.len() <= place {
            self.terms.resize(place + 1, 0);
        }
        self.terms[place] += amount;
    }

    fn rounded_up(mut self) -> i128 {
        // From the finest place up: whole tens of a place are units of the next coarser one; the rest is left over.
        let mut left_over = false;
        for place in (1..self.terms.len()).rev() {
            let term = self.terms[place];
            self.terms[place - 1] += term.div_euclid(10);
            left_over |= term.rem_euclid(10) != 0;
        }
        self.terms.first().copied().unwrap_or_default() + i128::from(left_over)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nanos.abs() < 1024 * NANOS;
        // What is not whole would lose something with a binary suffix.
        if self.format == Format::Binary && !small && self.nanos % NANOS == 0 {
            return self.write_binary(f);
        }
        let (mut value, mut place) = (self.nanos, 0);
        if value == 0 {
            return f.write_str("0");
        }
        while value % 1000 == 0 && (place < DECIMAL.len() - 1 || self.format == Format::Exponent) {
            value /= 1000;
            place += 1;
        }
        match self.format {
            Format::Exponent => {
                let exponent = 3 * i32::try_from(place).unwrap_or_default() - 9;
                if exponent == 0 {
                    write!(f, "{value}")
                } else {
                    write!(f, "{value}e{exponent}")
                }
            }
            Format::Decimal | Format::Binary => write!(f, "{value}{}", DECIMAL[place]),
        }
    }
}

impl Quantity {
    fn write_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut place) = (self.nanos / NANOS, 0);
        while value % 1024 == 0 && place < BINARY.len() - 1 {
            value /= 1024;
            place += 1;
        }
        write!(f, "{value}{}", BINARY[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    /// See `tests/corpus.rs` for many more, recorded from Kubernetes. The last case is where this crate stops counting.
    #[rstest]
    #[case("0", "0")]
    #[case("-0", "0")]
    #[case("1", "1")]
    #[case("+1", "1")]
    #[case("1.5", "1500m")]
    #[case("100e21", "100e21")]
    #[case("9223372036854775808", "9223372036854775808")]
    #[case("10E", "10E")]
    #[case(".5", "500m")]
    #[case("5.", "5")]
    #[case("1000", "1k")]
    #[case("1500", "1500")]
    #[case("100m", "100m")]
    #[case("1000m", "1")]
    #[case("0.1m", "100u")]
    #[case("1n", "1n")]
    #[case("0.1n", "1n")]
    #[case("-0.1n", "-1n")]
    #[case("1e3", "1e3")]
    #[case("1E3", "1e3")]
    #[case("12e2", "1200")]
    #[case("1e-3", "1e-3")]
    #[case("1E", "1E")]
    #[case("1e18", "1e18")]
    #[case("1Ki", "1Ki")]
    #[case("1024", "1024")]
    #[case("1024Ki", "1Mi")]
    #[case("1536Mi", "1536Mi")]
    #[case("1.5Gi", "1536Mi")]
    #[case("0.5Ki", "512")]
    #[case("1.5Ki", "1536")]
    #[case("0.0001Ki", "102400u")]
    #[case("16Gi", "16Gi")]
    #[case("-1Gi", "-1Gi")]
    #[case("9223372036854775807", "9223372036854775807")]
    #[case("8Ei", "9223372036854775807")]
    #[case("9223372036854775807Ki", "9223372036854775807")]
    #[case("99999999999999999999999999999999999999999999", "10000000000E")]
    fn the_canonical_form_is_kubernetes_one(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(quantity(text).to_string(), canonical);
    }

    #[rstest]
    #[case("")]
    #[case("-")]
    #[case(".")]
    #[case("many")]
    #[case("1x")]
    #[case("1 ")]
    #[case(" 1")]
    #[case("1K")]
    #[case("1ki")]
    #[case("1e")]
    #[case("1e+")]
    #[case("1e1.5")]
    #[case("1e99999999999999999999")]
    #[case("--1")]
    #[case("1.2.3")]
    #[case("0x1")]
    #[case("½")]
    fn what_is_no_quantity_is_refused(#[case] text: &str) {
        assert!(text.parse::<Quantity>().is_err());
    }

    #[rstest]
    #[case("1", "500m", "1500m")]
    #[case("0", "1Gi", "1Gi")]
    #[case("1Gi", "1", "1073741825")]
    #[case("1", "1Gi", "1073741825")]
    #[case("1Mi", "1Mi", "2Mi")]
    #[case("500m", "500m", "1")]
    fn sums_are_exact_and_written_like_the_first(#[case] one: &str, #[case] other: &str, #[case] sum: &str) {
        assert_eq!(quantity(one).plus(quantity(other)).to_string(), sum);
    }

    #[rstest]
    #[case("16Gi", "64Mi", "16320Mi")]
    #[case("1", "1500m", "-500m")]
    #[case("1Gi", "1Gi", "0")]
    fn differences_are_exact(#[case] one: &str, #[case] other: &str, #[case] difference: &str) {
        assert_eq!(quantity(one).minus(quantity(other)).to_string(), difference);
    }

    #[rstest]
    #[case("500m", "2", Unit::Thousandth, "1")]
    #[case("333m", "1.5", Unit::Thousandth, "499m")]
    #[case("1", "1.5", Unit::Whole, "1")]
    #[case("1Gi", "1.5", Unit::Whole, "1536Mi")]
    #[case("3", "1500m", Unit::Whole, "4")]
    #[case("0", "7", Unit::Whole, "0")]
    #[case("-1", "7", Unit::Whole, "0")]
    #[case("100E", "10E", Unit::Whole, "10000000000E")]
    fn multiples_are_exact_and_rounded_down(
        #[case] amount: &str,
        #[case] factor: &str,
        #[case] unit: Unit,
        #[case] product: &str,
    ) {
        assert_eq!(quantity(amount).times(quantity(factor), unit).to_string(), product);
    }

    #[test]
    fn the_same_amount_is_equal_however_it_is_written() {
        assert_eq!(quantity("1Ki"), quantity("1024"));
        assert_eq!(quantity("1.5"), quantity("1500m"));
        assert!(quantity("999m") < quantity("1"));
        assert!(quantity("1Gi") > quantity("1G"));
    }

    #[test]
    fn a_long_text_is_read_in_one_pass_and_shortened_in_the_error() {
        let digits = format!("0.{}1Ki", "0".repeat(100_000));
        assert_eq!(quantity(&digits).to_string(), "1n");
        let error = "x".repeat(1000).parse::<Quantity>().unwrap_err().to_string();
        assert!(error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"[-+]?[0-9.eEinumkKMGTP]{0,24}") {
            if let Ok(parsed) = text.parse::<Quantity>() {
                prop_assert_eq!(parsed.to_string().parse::<Quantity>().unwrap(), parsed);
            }
        }

        #[test]
        fn whole_numbers_are_counted_like_numbers(a in 0_i64..i64::MAX / 2, b in 0_i64..i64::MAX / 2) {
            let (x, y) = (quantity(&a.to_string()), quantity(&b.to_string()));
            prop_assert_eq!(x.plus(y), quantity(&(a + b).to_string()));
            prop_assert_eq!(x.minus(y).is_negative(), a < b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.to_string().parse::<Quantity>().unwrap(), x);
        }

        #[test]
        fn suffixes_are_factors(n in 0_i64..8000, place in 0_usize..6) {
            let binary = quantity(&format!("{n}{}", BINARY[place]));
            prop_assert_eq!(binary.nanos, i128::from(n) * 1024_i128.pow(u32::try_from(place).unwrap()) * NANOS);
            let decimal = quantity(&format!("{n}{}", DECIMAL[place + 3]));
            prop_assert_eq!(decimal.nanos, i128::from(n) * 1000_i128.pow(u32::try_from(place).unwrap()) * NANOS);
        }

        #[test]
        fn fractions_of_binary_amounts_are_exact(whole in 0_i128..1000, thousandths in 0_i128..1000, place in 1_usize..5) {
            let parsed = quantity(&format!("{whole}.{thousandths:03}{}", BINARY[place]));
            let exact = (whole * 1000 + thousandths) * 1024_i128.pow(u32::try_from(place).unwrap()) * NANOS;
            prop_assert_eq!(parsed.nanos, (exact + 999) / 1000);
        }
    }
}
