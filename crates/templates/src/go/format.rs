//! Go's `fmt`: the verbs of `printf`, and how values print where no verb is given.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::error::Failure;
use crate::go::{float, layout, quote};
use crate::limits::Budget;
use crate::value::{List, Map, Value};

/// A text under construction that is paid for as it grows.
pub(crate) struct Text<'b> {
    text: String,
    budget: &'b Budget,
}

impl<'b> Text<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self {
            text: String::new(),
            budget,
        }
    }

    pub(crate) fn push(&mut self, text: &str) -> Result<(), Failure> {
        self.budget.allocate(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(crate) fn into_string(self) -> String {
        self.text
    }

    fn fill(&mut self, char: char, count: usize) -> Result<(), Failure> {
        self.budget.allocate(count)?;
        self.text.extend(std::iter::repeat_n(char, count));
        Ok(())
    }
}

/// The text of one value, as `{{ . }}` prints it; only a missing one prints as `<no value>`.
pub(crate) fn display(value: &Value, budget: &Budget) -> Result<String, Failure> {
    let mut out = Text::new(budget);
    print(&mut out, value)?;
    Ok(out.into_string())
}

fn print(out: &mut Text<'_>, value: &Value) -> Result<(), Failure> {
    match value {
        Value::Missing => out.push("<no value>"),
        Value::Nil => out.push("<nil>"),
        value => Flags::default().print(out, value, 'v', 0),
    }
}

/// `fmt.Sprint`: a space between two values of which neither is a string.
pub(crate) fn sprint(values: &[Value], budget: &Budget) -> Result<String, Failure> {
    let mut out = Text::new(budget);
    let mut after_text = true;
    for (at, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if at > 0 && !is_text && !after_text {
            out.push(" ")?;
        }
        print(&mut out, value)?;
        after_text = is_text;
    }
    Ok(out.into_string())
}

/// `fmt.Sprintln`: a space between all values, a newline at the end.
pub(crate) fn sprintln(values: &[Value], budget: &Budget) -> Result<String, Failure> {
    let mut out = Text::new(budget);
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(" ")?;
        }
        print(&mut out, value)?;
    }
    out.push("\n")?;
    Ok(out.into_string())
}

/// Widths, precisions and indexes that Go accepts at all.
const MOST: usize = 1_000_000;

/// `fmt.Sprintf`. Mistakes show in the text, as `%!d(string=a)`, as they do in Go.
pub(crate) fn sprintf(format: &str, values: &[Value], budget: &Budget) -> Result<String, Failure> {
    budget.read(format.len())?;
    let mut out = Text::new(budget);
    let mut rest = Rest { format, at: 0 };
    let mut next = 0;
    let mut reordered = false;
    while let Some(length) = format[rest.at..].find('%') {
        out.push(&format[rest.at..rest.at + length])?;
        rest.at += length + 1;
        budget.work(1)?;
        let mut flags = Flags::default();
        while let Some(flag) = rest.peek() {
            match flag {
                '#' => flags.sharp = true,
                '0' => flags.zero = true,
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                ' ' => flags.space = true,
                _ => break,
            }
            rest.at += 1;
        }
        let mut good_index = true;
        let mut take_index = |rest: &mut Rest<'_>, next: &mut usize| match rest.index(values.len()) {
            None => false,
            Some(index) => {
                reordered = true;
                match index {
                    Index::Good(index) => {
                        *next = index;
                        true
                    }
                    Index::Bad { is_number } => {
                        good_index = false;
                        is_number
                    }
                }
            }
        };
        let mut after_index = take_index(&mut rest, &mut next);
        let mut width_after_index = false;
        let mut precision_after_index = false;
        if rest.take('*') {
            match int_argument(values, &mut next) {
                Some(width) => {
                    flags.width = Some(width.unsigned_abs());
                    if width < 0 {
                        flags.minus = true;
                        flags.zero = false;
                    }
                }
                None => out.push("%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            flags.width = rest.number();
            width_after_index = after_index && flags.width.is_some();
        }
        if rest.peek() == Some('.') && rest.at + 1 < format.len() {
            rest.at += 1;
            precision_after_index = after_index;
            after_index = take_index(&mut rest, &mut next);
            if rest.take('*') {
                match int_argument(values, &mut next) {
                    Some(precision) if precision >= 0 => flags.precision = Some(precision.unsigned_abs()),
                    _ => out.push("%!(BADPREC)")?,
                }
                after_index = false;
            } else {
                flags.precision = Some(rest.number().unwrap_or(0));
            }
        }
        if !after_index {
            after_index = take_index(&mut rest, &mut next);
        }
        let good_index = good_index && !width_after_index && !precision_after_index;
        let Some(verb) = rest.peek() else {
            out.push("%!(NOVERB)")?;
            break;
        };
        rest.at += verb.len_utf8();
        if verb == '%' {
            out.push("%")?;
        } else if !good_index {
            out.push(&format!("%!{verb}(BADINDEX)"))?;
        } else if let Some(value) = values.get(next) {
            next += 1;
            if verb == 'v' || verb == 'w' {
                flags.sharp_v = std::mem::take(&mut flags.sharp);
                flags.plus = false;
            }
            flags.argument(&mut out, value, verb)?;
        } else {
            out.push(&format!("%!{verb}(MISSING)"))?;
        }
    }
    out.push(&format[rest.at.min(format.len())..])?;
    if !reordered && next < values.len() {
        out.push("%!(EXTRA ")?;
        for (at, value) in values[next..].iter().enumerate() {
            if at > 0 {
                out.push(", ")?;
            }
            if !value.is_untyped_nil() {
                out.push(value.type_name())?;
                out.push("=")?;
            }
            Flags::default().argument(&mut out, value, 'v')?;
        }
        out.push(")")?;
    }
    Ok(out.into_string())
}

impl Value {
    fn is_untyped_nil(&self) -> bool {
        matches!(self, Value::Missing | Value::Nil)
    }
}

fn int_argument(values: &[Value], next: &mut usize) -> Option<isize> {
    let value = values.get(*next)?;
    *next += 1;
    let int = isize::try_from(value.integer()?).ok()?;
    (int.unsigned_abs() <= MOST).then_some(int)
}

/// A number in a format; Go asks before each digit whether it is too large already.
fn bounded(digits: &str) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0_usize, |number, digit| {
        let digit = usize::try_from(digit.to_digit(10)?).ok()?;
        (number <= MOST).then_some(number * 10 + digit)
    })
}

/// What follows in a format.
struct Rest<'a> {
    format: &'a str,
    at: usize,
}

enum Index {
    Good(usize),
    Bad { is_number: bool },
}

impl Rest<'_> {
    fn peek(&self) -> Option<char> {
        self.format[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += 1;
        }
        found
    }

    fn number(&mut self) -> Option<usize> {
        let rest = &self.format[self.at..];
        let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        if digits == 0 {
            return None;
        }
        let number = bounded(&rest[..digits]);
        // As in Go, nothing is left of the format after a number that is too large.
        self.at = if number.is_some() {
            self.at + digits
        } else {
            self.format.len()
        };
        number
    }

    /// An explicit index such as `[2]`.
    fn index(&mut self, values: usize) -> Option<Index> {
        let rest = &self.format[self.at..];
        if !rest.starts_with('[') {
            return None;
        }
        let Some(close) = rest.find(']').filter(|_| rest.len() >= 3) else {
            self.at += 1;
            return Some(Index::Bad { is_number: false });
        };
        self.at += close + 1;
        let digits = &rest[1..close];
        let number = bounded(digits);
        Some(match number {
            Some(number) if (1..=values).contains(&number) => Index::Good(number - 1),
            number => Index::Bad {
                is_number: number.is_some(),
            },
        })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    sharp_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

type Done = Result<(), Failure>;

impl Flags {
    fn argument(self, out: &mut Text<'_>, value: &Value, verb: char) -> Done {
        match (verb, value) {
            ('T', value) => self.pad(out, &self.truncate(value.type_name())),
            ('v', Value::Missing | Value::Nil) => self.pad(out, "<nil>"),
            (verb, Value::Missing | Value::Nil) => out.push(&format!("%!{verb}(<nil>)")),
            ('p', Value::List(_) | Value::Map(_) | Value::Version(_)) => {
                Err("%p prints an address, which differs from run to run".into())
            }
            (verb, value) => self.print(out, value, verb, 0),
        }
    }

    fn print(self, out: &mut Text<'_>, value: &Value, verb: char, depth: usize) -> Done {
        out.budget.work(1)?;
        out.budget.check_depth(depth)?;
        match value {
            Value::Missing | Value::Nil if self.sharp_v => out.push("interface {}(nil)"),
            Value::Missing | Value::Nil => out.push("<nil>"),
            Value::Bool(bool) => match verb {
                't' | 'v' => self.pad(out, if *bool { "true" } else { "false" }),
                _ => self.bad_verb(out, value, verb, depth),
            },
            Value::Int(int) | Value::Int64(int) => self.integer(out, int.unsigned_abs(), *int < 0, value, verb, depth),
            Value::Uint8(uint) => self.unsigned(out, u64::from(*uint), value, verb, depth),
            Value::Uint64(uint) => self.unsigned(out, *uint, value, verb, depth),
            Value::Float(float) => match verb {
                'v' => self.float(out, *float, 'g', None),
                'g' | 'G' => self.float(out, *float, verb, None),
                'f' | 'F' | 'e' | 'E' => self.float(out, *float, verb, Some(6)),
                'b' | 'x' | 'X' => Err(format!("%{verb} is not supported for floats").into()),
                _ => self.bad_verb(out, value, verb, depth),
            },
            Value::Text(text) => self.text(out, text, value, verb, depth),
            Value::Time(time) => self.stringer(out, &layout::display(time), value, verb),
            Value::Version(version) => self.stringer(out, &version.to_string(), value, verb),
            Value::List(list) => self.list(out, list, value, verb, depth),
            Value::Map(map) => self.map(out, map, value, verb, depth),
        }
    }

    fn bad_verb(self, out: &mut Text<'_>, value: &Value, verb: char, depth: usize) -> Done {
        out.push(&format!("%!{verb}({}=", value.type_name()))?;
        self.print(out, value, 'v', depth + 1)?;
        out.push(")")
    }

    fn stringer(self, out: &mut Text<'_>, text: &str, value: &Value, verb: char) -> Done {
        match verb {
            'v' if self.sharp_v => Err(format!("%#v is not supported for {}", value.type_name()).into()),
            'v' | 's' | 'q' | 'x' | 'X' => self.text(out, text, value, verb, 0),
            _ => Err(format!("%{verb} is not supported for {}", value.type_name()).into()),
        }
    }

    fn list(self, out: &mut Text<'_>, list: &Rc<List>, value: &Value, verb: char, depth: usize) -> Done {
        if self.sharp_v {
            out.push(value.type_name())?;
            if list.is_nil {
                return out.push("(nil)");
            }
        }
        let (open, separator, close) = if self.sharp_v {
            ("{", ", ", "}")
        } else {
            ("[", " ", "]")
        };
        out.push(open)?;
        for (at, item) in list.items.iter().enumerate() {
            if at > 0 {
                out.push(separator)?;
            }
            self.print(out, item, verb, depth + 1)?;
        }
        out.push(close)
    }

    fn map(self, out: &mut Text<'_>, map: &Rc<Map>, value: &Value, verb: char, depth: usize) -> Done {
        if self.sharp_v {
            out.push(value.type_name())?;
            if map.is_nil {
                return out.push("(nil)");
            }
        }
        let (open, separator, close) = if self.sharp_v {
            ("{", ", ", "}")
        } else {
            ("map[", " ", "]")
        };
        out.push(open)?;
        for (at, (key, item)) in map.entries().iter().enumerate() {
            if at > 0 {
                out.push(separator)?;
            }
            self.text(out, key, &Value::Text(key.clone()), verb, depth + 1)?;
            out.push(":")?;
            self.print(out, item, verb, depth + 1)?;
        }
        out.push(close)
    }

    fn text(self, out: &mut Text<'_>, text: &str, value: &Value, verb: char, depth: usize) -> Done {
        match verb {
            'v' if self.sharp_v => self.quoted(out, text),
            'v' | 's' => self.pad(out, &self.truncate(text)),
            'q' => self.quoted(out, text),
            'x' => self.hexadecimal(out, text, false),
            'X' => self.hexadecimal(out, text, true),
            _ => self.bad_verb(out, value, verb, depth),
        }
    }

    fn truncate(self, text: &str) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        }
    }

    fn quoted(self, out: &mut Text<'_>, text: &str) -> Done {
        let text = self.truncate(text);
        if self.sharp && quote::can_backquote(&text) {
            return self.pad(out, &format!("`{text}`"));
        }
        self.pad(out, &quote::quote(&text, self.plus))
    }

    fn hexadecimal(self, out: &mut Text<'_>, text: &str, upper: bool) -> Done {
        let bytes = text.as_bytes();
        let bytes = &bytes[..bytes.len().min(self.precision.unwrap_or(usize::MAX))];
        out.budget.allocate(bytes.len() * 5)?;
        let prefix = match (self.sharp, upper) {
            (true, false) => "0x",
            (true, true) => "0X",
            (false, _) => "",
        };
        let mut digits = String::new();
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 && self.space {
                digits.push(' ');
            }
            if at == 0 || self.space {
                digits.push_str(prefix);
            }
            // Writing to a String cannot fail.
            let _ = if upper {
                write!(digits, "{byte:02X}")
            } else {
                write!(digits, "{byte:02x}")
            };
        }
        self.pad(out, &digits)
    }

    fn unsigned(self, out: &mut Text<'_>, size: u64, value: &Value, verb: char, depth: usize) -> Done {
        if verb == 'v' && self.sharp_v {
            return Flags { sharp: true, ..self }.integer(out, size, false, value, 'x', depth);
        }
        self.integer(out, size, false, value, verb, depth)
    }

    fn integer(self, out: &mut Text<'_>, size: u64, negative: bool, value: &Value, verb: char, depth: usize) -> Done {
        // An integer that is no character is the replacement character; a negative one is none.
        let char = || {
            let code = if negative {
                u32::MAX
            } else {
                u32::try_from(size).unwrap_or(u32::MAX)
            };
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let digits = match verb {
            'v' | 'd' => format!("{size}"),
            'b' => format!("{size:b}"),
            'o' | 'O' => format!("{size:o}"),
            'x' => format!("{size:x}"),
            'X' => format!("{size:X}"),
            'c' => return self.pad(out, char().encode_utf8(&mut [0; 4])),
            'q' => return self.pad(out, &quote::quote_char(char(), self.plus)),
            'U' => return self.unicode(out, if negative { size.wrapping_neg() } else { size }),
            _ => return self.bad_verb(out, value, verb, depth),
        };
        if self.precision == Some(0) && size == 0 {
            return out.fill(' ', self.width.unwrap_or(0));
        }
        let has_sign = negative || self.plus || self.space;
        let least = match (self.precision, self.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if self.zero && !self.minus => width.saturating_sub(usize::from(has_sign)),
            _ => 0,
        };
        out.budget.allocate(least)?;
        let mut number = "0".repeat(least.saturating_sub(digits.len())) + &digits;
        if self.sharp {
            match verb {
                'b' => number.insert_str(0, "0b"),
                'o' | 'O' if !number.starts_with('0') => number.insert(0, '0'),
                'x' => number.insert_str(0, "0x"),
                'X' => number.insert_str(0, "0X"),
                _ => {}
            }
        }
        if verb == 'O' {
            number.insert_str(0, "0o");
        }
        if negative {
            number.insert(0, '-');
        } else if self.plus {
            number.insert(0, '+');
        } else if self.space {
            number.insert(0, ' ');
        }
        Flags { zero: false, ..self }.pad(out, &number)
    }

    fn unicode(self, out: &mut Text<'_>, code: u64) -> Done {
        let least = self.precision.unwrap_or(4).max(4);
        out.budget.allocate(least)?;
        let digits = format!("{code:X}");
        let mut text = String::from("U+") + &"0".repeat(least.saturating_sub(digits.len())) + &digits;
        if let Some(char) = u32::try_from(code).ok().and_then(char::from_u32)
            && self.sharp
            && quote::is_print(char)
        {
            text.extend([' ', '\'', char, '\'']);
        }
        Flags { zero: false, ..self }.pad(out, &text)
    }

    fn float(self, out: &mut Text<'_>, float: f64, verb: char, precision: Option<usize>) -> Done {
        let precision = self.precision.or(precision);
        out.budget.allocate(precision.unwrap_or(0) + 350)?;
        let mut number = float::format(float, verb, precision);
        if !number.starts_with(['+', '-']) {
            number.insert(0, '+');
        }
        if self.space && number.starts_with('+') && !self.plus {
            number.replace_range(..1, " ");
        }
        if !float.is_finite() {
            let drops_sign = float.is_nan() && !self.space && !self.plus;
            return Flags { zero: false, ..self }.pad(out, &number[usize::from(drops_sign)..]);
        }
        if self.sharp {
            number = with_point(&number, verb, precision);
        }
        let shown = if self.plus || !number.starts_with('+') {
            &number
        } else {
            &number[1..]
        };
        match self.width {
            Some(width) if self.zero && !self.minus && width > shown.len() && shown.len() == number.len() => {
                out.push(&shown[..1])?;
                out.fill('0', width - shown.len())?;
                out.push(&shown[1..])
            }
            _ => self.pad(out, shown),
        }
    }

    fn pad(self, out: &mut Text<'_>, text: &str) -> Done {
        let missing = match self.width {
            Some(width) => width.saturating_sub(text.chars().count()),
            None => 0,
        };
        if self.minus {
            out.push(text)?;
            return out.fill(' ', missing);
        }
        out.fill(if self.zero { '0' } else { ' ' }, missing)?;
        out.push(text)
    }
}

/// `%#g` and its kin always have a decimal point, and keep the zeros that the precision asks for.
fn with_point(number: &str, verb: char, precision: Option<usize>) -> String {
    let (mantissa, exponent) = match number.find(['e', 'E']) {
        Some(at) => number.split_at(at),
        None => (number, ""),
    };
    let mut mantissa = mantissa.to_owned();
    let mut digits = match verb {
        'g' | 'G' => precision.unwrap_or(6),
        _ => 0,
    };
    let shown = mantissa[1..].chars().filter(|char| *char != '.');
    digits = digits.saturating_sub(shown.skip_while(|char| *char == '0').count());
    if !mantissa.contains('.') {
        if mantissa.len() == 2 && mantissa.ends_with('0') {
            digits = digits.saturating_sub(1);
        }
        mantissa.push('.');
    }
    mantissa.extend(std::iter::repeat_n('0', digits));
    mantissa + exponent
}
