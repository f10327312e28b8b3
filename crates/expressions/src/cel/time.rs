//! Points in time and durations.

use std::{cmp::Ordering, fmt, sync::LazyLock};

use jiff::{
    SignedDuration, Timestamp,
    civil::{self, DateTime},
    tz::{Offset, TimeZoneDatabase},
};
use regex::Regex;

use super::{
    eval::{Failure, Result},
    value::Value,
};

const SECOND: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const EPOCH: DateTime = civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// The zones of this program, not those of the machine it runs on.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A point in time, and the zone that it was written in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Of no leap seconds, since 1970.
    nanos: i128,
    offset_seconds: i32,
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Moment {
    fn new(nanos: i128, offset_seconds: i32) -> Option<Self> {
        let moment = Self { nanos, offset_seconds };
        RANGE.contains(&moment.seconds()).then_some(moment)
    }

    pub(super) fn seconds(self) -> i64 {
        i64::try_from(self.nanos.div_euclid(i128::from(SECOND))).unwrap_or(i64::MAX)
    }

    /// The clock and calendar so many seconds east of UTC.
    fn local(self, offset_seconds: i32) -> Option<DateTime> {
        let nanos = i32::try_from(self.nanos.rem_euclid(i128::from(SECOND))).ok()?;
        EPOCH
            .checked_add(SignedDuration::new(self.seconds() + i64::from(offset_seconds), nanos))
            .ok()
    }
}

/// RFC 3339, in the zone that it was written in.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = self.local(self.offset_seconds) {
            write!(f, "{local}")?;
        }
        if self.offset_seconds == 0 {
            return f.write_str("Z");
        }
        let minutes = self.offset_seconds.abs() / 60;
        let sign = if self.offset_seconds < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// Go's `time.ParseDuration`: numbers with units, in billionths of a second.
pub(super) fn duration(text: &str) -> Option<i64> {
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
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => i128::from(SECOND),
            "m" => 60 * i128::from(SECOND),
            "h" => 3600 * i128::from(SECOND),
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let digits: i128 = fraction.parse().ok()?;
            total += digits * unit / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        }
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Seconds, with as many digits as there are.
pub(super) fn duration_text(nanos: i64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let seconds = (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / 1e9;
    format!("{seconds}s")
}

/// RFC 3339, years 1 to 9999.
pub(super) fn timestamp(text: &str) -> Option<Moment> {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        let shape = r"^(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$";
        Regex::new(&shape.replace(r"\d", "[0-9]")).expect("a pattern of ours")
    });
    let parts = SHAPE.captures(text)?;
    let number = |part: usize| {
        parts
            .get(part)
            .map_or(Some(0_i64), |digits| digits.as_str().parse().ok())
    };
    let small = |part: usize| i8::try_from(number(part)?).ok();
    let date = civil::Date::new(i16::try_from(number(1)?).ok()?, small(2)?, small(3)?).ok()?;
    let time = civil::Time::new(small(4)?, small(5)?, small(6)?, 0).ok()?;
    let fraction: String = parts
        .get(7)
        .map_or("", |digits| digits.as_str())
        .chars()
        .take(9)
        .collect();
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    let (hours, minutes) = (number(9)?, number(10)?);
    if hours > 24 || minutes > 60 {
        return None;
    }
    let offset = i32::try_from(60 * (60 * hours + minutes)).ok()?;
    let offset = if parts.get(8).is_some_and(|sign| sign.as_str() == "-") {
        -offset
    } else {
        offset
    };
    let seconds = date.to_datetime(time).duration_since(EPOCH).as_secs() - i64::from(offset);
    Moment::new(i128::from(seconds) * i128::from(SECOND) + nanos, offset)
}

pub(super) fn of_seconds(seconds: i64) -> Option<Moment> {
    Moment::new(i128::from(seconds) * i128::from(SECOND), 0)
}

/// Sums and differences. None: out of range. `Err`: of other types.
pub(super) fn arithmetic<'a>(add: bool, left: &Value<'a>, right: &Value<'a>) -> Result<Option<Value<'a>>> {
    let moved =
        |moment: &Moment, nanos: i128| Moment::new(moment.nanos + nanos, moment.offset_seconds).map(Value::Timestamp);
    Ok(match (left, right) {
        (Value::Duration(left), Value::Duration(right)) => {
            let result = if add {
                left.checked_add(*right)
            } else {
                left.checked_sub(*right)
            };
            result.map(Value::Duration)
        }
        (Value::Timestamp(moment), Value::Duration(nanos)) => {
            let nanos = i128::from(*nanos);
            moved(moment, if add { nanos } else { -nanos })
        }
        (Value::Duration(nanos), Value::Timestamp(moment)) if add => moved(moment, i128::from(*nanos)),
        (Value::Timestamp(left), Value::Timestamp(right)) if !add => {
            i64::try_from(left.nanos - right.nanos).ok().map(Value::Duration)
        }
        _ => return Err(Failure::overload(if add { "+" } else { "-" }, &[left, right])),
    })
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Result<Option<Value<'a>>> {
    let local = match args {
        [Value::Duration(nanos)] => return Ok(of_duration(function, *nanos).map(Value::Int)),
        [Value::Timestamp(moment)] => moment.local(0),
        [Value::Timestamp(moment), Value::String(zone)] => {
            let offset = offset(zone, *moment).ok_or_else(|| {
                Failure::error(format!(
                    "{:?} is not a time zone",
                    zone.chars().take(64).collect::<String>()
                ))
            })?;
            moment.local(offset)
        }
        _ => return Ok(None),
    };
    Ok(local.and_then(|local| part(function, local)).map(Value::Int))
}

fn of_duration(function: &str, nanos: i64) -> Option<i64> {
    Some(match function {
        "getHours" => nanos / (3600 * SECOND),
        "getMinutes" => nanos / (60 * SECOND),
        "getSeconds" => nanos / SECOND,
        "getMilliseconds" => nanos / 1_000_000,
        _ => return None,
    })
}

fn part(function: &str, time: DateTime) -> Option<i64> {
    Some(match function {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return None,
    })
}

/// Seconds east of UTC, of a name or of hours and minutes such as `-02:30`.
fn offset(zone: &str, moment: Moment) -> Option<i32> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        if matches!(zone, "" | "UTC") {
            return Some(0);
        }
        let timestamp = Timestamp::from_second(moment.seconds()).ok()?;
        return Some(ZONES.get(zone).ok()?.to_offset(timestamp).seconds());
    };
    let magnitude: i32 = hours.trim_start_matches(['+', '-']).parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = magnitude.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?;
    Offset::from_seconds(if hours.starts_with('-') { -seconds } else { seconds })
        .ok()
        .map(Offset::seconds)
}
