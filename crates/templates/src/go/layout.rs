//! Go's time layouts: dates written after the example of `Mon Jan 2 15:04:05 MST 2006`.

use std::fmt::Write as _;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Zoned};

/// How a time prints where no layout is given.
pub(crate) fn display(time: &Zoned) -> String {
    format(time, "2006-01-02 15:04:05.999999999 -0700 MST")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    LongMonth,
    Month,
    NumberMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    PaddedDay,
    ZeroDay,
    PaddedYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    Noon {
        upper: bool,
    },
    ZoneName,
    /// An offset such as `-07:00`; with a `Z` at its head, UTC is written `Z`.
    Offset {
        z: bool,
        colon: bool,
        smallest: Smallest,
    },
    /// Fraction of a second with its separator; nines drop zeros at the end.
    Fraction {
        separator: char,
        digits: usize,
        nines: bool,
    },
}

/// The smallest unit of an offset that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Smallest {
    Hours,
    Minutes,
    Seconds,
}

/// Longest first where one begins with the other.
const PARTS: [(&str, Part); 37] = [
    ("January", Part::LongMonth),
    ("Jan", Part::Month),
    ("Monday", Part::LongWeekday),
    ("Mon", Part::Weekday),
    ("MST", Part::ZoneName),
    ("002", Part::ZeroYearDay),
    ("01", Part::ZeroMonth),
    ("02", Part::ZeroDay),
    ("03", Part::ZeroHour12),
    ("04", Part::ZeroMinute),
    ("05", Part::ZeroSecond),
    ("06", Part::Year),
    ("15", Part::Hour),
    ("1", Part::NumberMonth),
    ("2006", Part::LongYear),
    ("2", Part::Day),
    ("__2", Part::PaddedYearDay),
    ("_2", Part::PaddedDay),
    ("3", Part::Hour12),
    ("4", Part::Minute),
    ("5", Part::Second),
    ("PM", Part::Noon { upper: true }),
    ("pm", Part::Noon { upper: false }),
    ("-07:00:00", offset(false, true, Smallest::Seconds)),
    ("-070000", offset(false, false, Smallest::Seconds)),
    ("-07:00", offset(false, true, Smallest::Minutes)),
    ("-0700", offset(false, false, Smallest::Minutes)),
    ("-07", offset(false, false, Smallest::Hours)),
    ("Z07:00:00", offset(true, true, Smallest::Seconds)),
    ("Z070000", offset(true, false, Smallest::Seconds)),
    ("Z07:00", offset(true, true, Smallest::Minutes)),
    ("Z0700", offset(true, false, Smallest::Minutes)),
    ("Z07", offset(true, false, Smallest::Hours)),
    (
        ".0",
        Part::Fraction {
            separator: '.',
            digits: 0,
            nines: false,
        },
    ),
    (
        ",0",
        Part::Fraction {
            separator: ',',
            digits: 0,
            nines: false,
        },
    ),
    (
        ".9",
        Part::Fraction {
            separator: '.',
            digits: 0,
            nines: true,
        },
    ),
    (
        ",9",
        Part::Fraction {
            separator: ',',
            digits: 0,
            nines: true,
        },
    ),
];

const fn offset(z: bool, colon: bool, smallest: Smallest) -> Part {
    Part::Offset { z, colon, smallest }
}

/// The text before the next part, the part, and the layout after it.
fn next_part(layout: &str) -> Option<(&str, Part, &str)> {
    for (at, _) in layout.char_indices() {
        if let Some((part, length)) = part_at(layout, at) {
            return Some((&layout[..at], part, &layout[at + length..]));
        }
    }
    None
}

fn part_at(layout: &str, at: usize) -> Option<(Part, usize)> {
    let rest = &layout[at..];
    // "_2006" is an underscore before a year.
    if rest.starts_with("_2006") {
        return None;
    }
    let (text, part) = PARTS.iter().find(|(text, _)| rest.starts_with(text))?;
    match part {
        Part::Month | Part::Weekday => {
            // "Janice" and "Month" are words.
            let next = rest[text.len()..].chars().next();
            (!next.is_some_and(|next| next.is_ascii_lowercase())).then_some((*part, text.len()))
        }
        Part::Fraction { separator, nines, .. } => {
            let digit = if *nines { '9' } else { '0' };
            let digits = rest[1..].chars().take_while(|&char| char == digit).count();
            // A fraction is followed by no other digit.
            let follows = rest[1 + digits..].chars().next();
            (!follows.is_some_and(|next| next.is_ascii_digit())).then_some((
                Part::Fraction {
                    separator: *separator,
                    digits,
                    nines: *nines,
                },
                1 + digits,
            ))
        }
        part => Some((*part, text.len())),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

fn weekday_name(day: Weekday) -> &'static str {
    WEEKDAYS[usize::from(day.to_sunday_zero_offset().unsigned_abs()) % WEEKDAYS.len()]
}

fn month_name(month: i8) -> &'static str {
    MONTHS[(usize::from(month.unsigned_abs()) + 11) % MONTHS.len()]
}

/// Go's `Time.Format`.
pub(crate) fn format(time: &Zoned, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some((before, part, after)) = next_part(rest) {
        out.push_str(before);
        // Writing to a String cannot fail.
        let _ = write_part(&mut out, time, part);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn write_part(out: &mut String, time: &Zoned, part: Part) -> std::fmt::Result {
    let hour12 = (time.hour() + 11) % 12 + 1;
    match part {
        Part::LongMonth => out.write_str(month_name(time.month())),
        Part::Month => out.write_str(&month_name(time.month())[..3]),
        Part::NumberMonth => write!(out, "{}", time.month()),
        Part::ZeroMonth => write!(out, "{:02}", time.month()),
        Part::LongWeekday => out.write_str(weekday_name(time.weekday())),
        Part::Weekday => out.write_str(&weekday_name(time.weekday())[..3]),
        Part::Day => write!(out, "{}", time.day()),
        Part::PaddedDay => write!(out, "{:2}", time.day()),
        Part::ZeroDay => write!(out, "{:02}", time.day()),
        Part::PaddedYearDay => write!(out, "{:3}", time.day_of_year()),
        Part::ZeroYearDay => write!(out, "{:03}", time.day_of_year()),
        Part::Hour => write!(out, "{:02}", time.hour()),
        Part::Hour12 => write!(out, "{hour12}"),
        Part::ZeroHour12 => write!(out, "{hour12:02}"),
        Part::Minute => write!(out, "{}", time.minute()),
        Part::ZeroMinute => write!(out, "{:02}", time.minute()),
        Part::Second => write!(out, "{}", time.second()),
        Part::ZeroSecond => write!(out, "{:02}", time.second()),
        Part::LongYear if time.year() < 0 => write!(out, "-{:04}", time.year().unsigned_abs()),
        Part::LongYear => write!(out, "{:04}", time.year()),
        Part::Year => write!(out, "{:02}", time.year().unsigned_abs() % 100),
        Part::Noon { upper } => out.write_str(match (time.hour() >= 12, upper) {
            (true, true) => "PM",
            (true, false) => "pm",
            (false, true) => "AM",
            (false, false) => "am",
        }),
        Part::ZoneName => out.write_str(&zone_name(time)),
        Part::Offset { z, colon, smallest } => write_offset(out, time.offset().seconds(), z, colon, smallest),
        Part::Fraction {
            separator,
            digits,
            nines,
        } => {
            let all = std::format!("{:09}", time.subsec_nanosecond());
            let mut shown = &all[..digits.min(9)];
            if nines {
                shown = shown.trim_end_matches('0');
            }
            if shown.is_empty() {
                return Ok(());
            }
            write!(out, "{separator}{shown}")?;
            out.extend(std::iter::repeat_n('0', if nines { 0 } else { digits - shown.len() }));
            Ok(())
        }
    }
}

fn zone_name(time: &Zoned) -> String {
    let info = time.time_zone().to_offset_info(time.timestamp());
    let name = info.abbreviation().to_owned();
    if name.starts_with(|char: char| char.is_ascii_alphabetic()) {
        return name;
    }
    let mut text = String::new();
    let seconds = time.offset().seconds();
    let smallest = if seconds / 60 % 60 == 0 {
        Smallest::Hours
    } else {
        Smallest::Minutes
    };
    // Writing to a String cannot fail.
    let _ = write_offset(&mut text, seconds, false, false, smallest);
    text
}

fn write_offset(out: &mut String, offset: i32, z: bool, colon: bool, smallest: Smallest) -> std::fmt::Result {
    if z && offset == 0 {
        return out.write_char('Z');
    }
    let size = offset.unsigned_abs();
    let colon = if colon { ":" } else { "" };
    write!(out, "{}{:02}", if offset < 0 { '-' } else { '+' }, size / 3600)?;
    if smallest != Smallest::Hours {
        write!(out, "{colon}{:02}", size / 60 % 60)?;
    }
    if smallest == Smallest::Seconds {
        write!(out, "{colon}{:02}", size % 60)?;
    }
    Ok(())
}

/// The date that is no date: what Go's zero time is.
pub(crate) fn zero() -> Zoned {
    DateTime::constant(1, 1, 1, 0, 0, 0, 0)
        .to_zoned(TimeZone::UTC)
        .unwrap_or_default()
}

/// Go's `time.ParseInLocation` in UTC. What a layout does not hold is as in Go: year 0, January, the first, midnight.
pub(crate) fn parse(layout: &str, text: &str) -> Option<Zoned> {
    let mut reading = Reading {
        rest: text,
        ..Reading::default()
    };
    let mut layout = layout;
    while let Some((before, part, after)) = next_part(layout) {
        reading.skip(before)?;
        reading.part(part, after)?;
        layout = after;
    }
    reading.skip(layout)?;
    reading.rest.is_empty().then_some(())?;
    reading.finish()
}

#[derive(Default)]
struct Reading<'a> {
    rest: &'a str,
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    year_day: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    /// Whether an `AM` or `PM` was read, and which.
    after_noon: Option<bool>,
    offset: Option<i32>,
    zone: Option<&'a str>,
}

impl Reading<'_> {
    /// A space of the layout stands for any number of spaces.
    fn skip(&mut self, expected: &str) -> Option<()> {
        let mut expected = expected;
        while let Some(next) = expected.chars().next() {
            if next == ' ' {
                if !self.rest.is_empty() && !self.rest.starts_with(' ') {
                    return None;
                }
                expected = expected.trim_start_matches(' ');
                self.rest = self.rest.trim_start_matches(' ');
            } else {
                expected = &expected[next.len_utf8()..];
                self.rest = self.rest.strip_prefix(next)?;
            }
        }
        Some(())
    }

    fn digits(&mut self, least: usize, most: usize) -> Option<i32> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits.parse().ok()
    }

    fn number(&mut self, zero: bool, range: std::ops::RangeInclusive<i32>) -> Option<i8> {
        let number = self.digits(if zero { 2 } else { 1 }, 2)?;
        i8::try_from(number).ok().filter(|_| range.contains(&number))
    }

    /// One of these names, in any case, whole or its first three letters.
    fn name(&mut self, names: &[&str], short: bool) -> Option<usize> {
        let at = names.iter().position(|name| {
            let name = if short { &name[..3] } else { name };
            self.rest
                .get(..name.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(name))
        })?;
        let length = if short { 3 } else { names[at].len() };
        self.rest = &self.rest[length..];
        Some(at)
    }

    fn part(&mut self, part: Part, after: &str) -> Option<()> {
        match part {
            Part::LongMonth | Part::Month => {
                let month = self.name(&MONTHS, part == Part::Month)?;
                self.month = i8::try_from(month + 1).ok();
            }
            Part::NumberMonth => self.month = Some(self.number(false, 1..=12)?),
            Part::ZeroMonth => self.month = Some(self.number(true, 1..=12)?),
            Part::LongWeekday | Part::Weekday => {
                self.name(&WEEKDAYS, part == Part::Weekday)?;
            }
            Part::Day | Part::PaddedDay | Part::ZeroDay => {
                if part == Part::PaddedDay {
                    self.rest = self.rest.strip_prefix(' ').unwrap_or(self.rest);
                }
                self.day = Some(self.number(part == Part::ZeroDay, 0..=99)?);
            }
            Part::PaddedYearDay | Part::ZeroYearDay => {
                if part == Part::PaddedYearDay {
                    let blanks = self.rest.bytes().take(2).take_while(|&byte| byte == b' ').count();
                    let digits = self.rest.get(blanks..3)?;
                    self.year_day = Some(digits.parse().ok()?);
                    self.rest = &self.rest[3..];
                } else {
                    self.year_day = i16::try_from(self.digits(3, 3)?).ok();
                }
            }
            Part::Hour => self.hour = self.number(false, 0..=23)?,
            Part::Hour12 | Part::ZeroHour12 => self.hour = self.number(part == Part::ZeroHour12, 0..=12)?,
            Part::Minute | Part::ZeroMinute => self.minute = self.number(part == Part::ZeroMinute, 0..=59)?,
            Part::Second | Part::ZeroSecond => {
                self.second = self.number(part == Part::ZeroSecond, 0..=59)?;
                // A fraction is accepted where the layout has none.
                let has_fraction = matches!(next_part(after), Some(("", Part::Fraction { .. }, _)));
                if !has_fraction && self.rest.len() >= 2 && self.rest.starts_with(['.', ',']) {
                    let digits = self.rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                    if digits > 0 {
                        self.fraction(digits)?;
                    }
                }
            }
            Part::LongYear => self.year = i16::try_from(self.digits(4, 4)?).ok(),
            Part::Year => {
                let year = i16::try_from(self.digits(2, 2)?).ok()?;
                self.year = Some(year + if year >= 69 { 1900 } else { 2000 });
            }
            Part::Noon { upper } => {
                let head = self.rest.get(..2)?;
                let names = if upper { ["AM", "PM"] } else { ["am", "pm"] };
                self.after_noon = Some(names.iter().position(|name| *name == head)? == 1);
                self.rest = &self.rest[2..];
            }
            Part::ZoneName => self.zone_name()?,
            Part::Offset { z, colon, smallest } => self.offset(z, colon, smallest)?,
            Part::Fraction {
                digits, nines: false, ..
            } => {
                if !self.rest.starts_with(['.', ',']) {
                    return None;
                }
                self.fraction(digits)?;
            }
            Part::Fraction { .. } => {
                if self.rest.starts_with(['.', ',']) {
                    let digits = self.rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                    if digits > 0 {
                        self.fraction(digits.min(9))?;
                    }
                }
            }
        }
        Some(())
    }

    fn fraction(&mut self, digits: usize) -> Option<()> {
        let text = self.rest.get(1..=digits)?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let nanoseconds: String = text.chars().chain("000000000".chars()).take(9).collect();
        self.nanosecond = nanoseconds.parse().ok()?;
        self.rest = &self.rest[1 + digits..];
        Some(())
    }

    fn zone_name(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix("UTC") {
            self.rest = rest;
            self.offset = Some(0);
            return Some(());
        }
        let letters = self.rest.bytes().take_while(u8::is_ascii_uppercase).count();
        let length = match letters {
            3 => 3,
            4 if self.rest[..4].ends_with('T') || self.rest.starts_with("WITA") => 4,
            5 if self.rest[..5].ends_with('T') => 5,
            _ => return None,
        };
        self.zone = Some(&self.rest[..length]);
        self.rest = &self.rest[length..];
        Some(())
    }

    fn offset(&mut self, z: bool, colon: bool, smallest: Smallest) -> Option<()> {
        if z && let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            self.offset = Some(0);
            return Some(());
        }
        let sign = match self.rest.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let mut total = self.digits(2, 2).filter(|hours| *hours <= 24)? * 3600;
        let units = [(smallest != Smallest::Hours, 60), (smallest == Smallest::Seconds, 1)];
        for (present, unit) in units {
            if present {
                if colon {
                    self.rest = self.rest.strip_prefix(':')?;
                }
                total += self.digits(2, 2).filter(|number| *number <= 60)? * unit;
            }
        }
        self.offset = Some(sign * total);
        Some(())
    }

    fn finish(self) -> Option<Zoned> {
        let hour = match (self.after_noon, self.hour) {
            (Some(true), hour) if hour < 12 => hour + 12,
            (Some(false), 12) => 0,
            (_, hour) => hour,
        };
        let year = self.year.unwrap_or(0);
        let (month, day) = match self.year_day {
            Some(year_day) => {
                let date = jiff::civil::Date::new(year, 1, 1).ok()?;
                if year_day < 1 || year_day > date.days_in_year() {
                    return None;
                }
                let date = date
                    .checked_add(SignedDuration::from_hours(i64::from(year_day - 1) * 24))
                    .ok()?;
                if self.month.is_some_and(|month| month != date.month())
                    || self.day.is_some_and(|day| day != date.day())
                {
                    return None;
                }
                (date.month(), date.day())
            }
            None => (self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        let civil = DateTime::new(year, month, day, hour, self.minute, self.second, self.nanosecond).ok()?;
        match self.offset {
            None | Some(0) if self.zone.is_none() => civil.to_zoned(TimeZone::UTC).ok(),
            Some(seconds) => civil
                .to_zoned(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
                .ok(),
            None => civil.to_zoned(TimeZone::UTC).ok(),
        }
    }
}
