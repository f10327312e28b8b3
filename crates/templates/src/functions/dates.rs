//! Dates. The local zone is UTC, and the time is what the caller says it is.

use std::rc::Rc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::Type::{Any, Text, Time};
use super::{Answer, Arguments, Context, Function, fixed};
use crate::error::Failure;
use crate::go::{duration, layout};
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    fixed("ago", &[Any], |context, arguments| {
        let since = since(context.now, &moment(context, arguments.value(0)?)?);
        Ok(Value::text(duration::display_seconds(rounded_seconds(since))))
    }),
    fixed("date", &[Text, Any], |context, arguments| {
        in_zone(context, arguments.text(0)?, arguments.value(1)?, "UTC")
    }),
    fixed("dateInZone", &[Text, Any, Text], date_in_zone),
    fixed("date_in_zone", &[Text, Any, Text], date_in_zone),
    fixed("dateModify", &[Text, Time], date_modify),
    fixed("date_modify", &[Text, Time], date_modify),
    fixed("mustDateModify", &[Text, Time], must_date_modify),
    fixed("must_date_modify", &[Text, Time], must_date_modify),
    fixed("duration", &[Any], |_, arguments| {
        let seconds = match arguments.value(0)? {
            Value::Text(text) => text.parse().unwrap_or(0),
            Value::Int64(seconds) => *seconds,
            _ => 0,
        };
        // Go counts in nanoseconds, which wrap around.
        let nanoseconds = seconds.wrapping_mul(NANOSECONDS);
        if nanoseconds / NANOSECONDS != seconds {
            return Err(format!("{seconds} seconds are more than a duration can be").into());
        }
        Ok(Value::text(duration::display_seconds(seconds)))
    }),
    fixed("durationRound", &[Any], duration_round),
    fixed("htmlDate", &[Any], |context, arguments| {
        in_zone(context, "2006-01-02", arguments.value(0)?, "UTC")
    }),
    fixed("htmlDateInZone", &[Any, Text], |context, arguments| {
        in_zone(context, "2006-01-02", arguments.value(0)?, arguments.text(1)?)
    }),
    fixed("mustToDate", &[Text, Text], |context, arguments| {
        match parse(context, arguments)? {
            Some(time) => Ok(time),
            None => Err(format!("{:?} is no date like {:?}", arguments.text(1)?, arguments.text(0)?).into()),
        }
    }),
    fixed("now", &[], |context, _| Ok(Value::Time(Rc::clone(context.now)))),
    fixed("toDate", &[Text, Text], |context, arguments| {
        let parsed = parse(context, arguments)?;
        Ok(parsed.unwrap_or_else(|| Value::Time(Rc::new(layout::zero()))))
    }),
    fixed("unixEpoch", &[Time], |_, arguments| {
        Ok(Value::text(arguments.time(0)?.timestamp().as_second().to_string()))
    }),
];

/// Methods of Go's `time.Time`; the receiver is the first argument.
pub(super) const METHODS: &[Function] = &[
    fixed("Day", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.day().into()))
    }),
    fixed("Format", &[Time, Text], |context, arguments| {
        formatted(context, arguments.time(0)?, arguments.text(1)?)
    }),
    fixed("Hour", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.hour().into()))
    }),
    fixed("IsZero", &[Time], |_, arguments| {
        Ok(Value::Bool(
            arguments.time(0)?.timestamp() == layout::zero().timestamp(),
        ))
    }),
    fixed("Minute", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.minute().into()))
    }),
    fixed("Nanosecond", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.subsec_nanosecond().into()))
    }),
    fixed("Second", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.second().into()))
    }),
    fixed("String", &[Time], |_, arguments| {
        Ok(Value::text(layout::display(arguments.time(0)?)))
    }),
    fixed("UTC", &[Time], |_, arguments| {
        let time = arguments.time(0)?.with_time_zone(TimeZone::UTC);
        Ok(Value::Time(Rc::new(time)))
    }),
    fixed("Unix", &[Time], |_, arguments| {
        Ok(Value::Int64(arguments.time(0)?.timestamp().as_second()))
    }),
    fixed("UnixMilli", &[Time], |_, arguments| {
        Ok(Value::Int64(arguments.time(0)?.timestamp().as_millisecond()))
    }),
    fixed("Year", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.year().into()))
    }),
    fixed("YearDay", &[Time], |_, arguments| {
        Ok(Value::Int(arguments.time(0)?.day_of_year().into()))
    }),
];

const NANOSECONDS: i64 = 1_000_000_000;

/// What is no date is now.
fn moment(context: &Context<'_>, value: &Value) -> Result<Zoned, Failure> {
    match value {
        Value::Time(time) => Ok((**time).clone()),
        Value::Int(seconds) | Value::Int64(seconds) => match Timestamp::from_second(*seconds) {
            Ok(time) => Ok(time.to_zoned(TimeZone::UTC)),
            Err(_) => Err(format!("{seconds} seconds are no date between the years -9999 and 9999").into()),
        },
        _ => Ok((**context.now).clone()),
    }
}

fn formatted(context: &Context<'_>, time: &Zoned, layout: &str) -> Answer {
    // Each two bytes of a layout may become a long name.
    context.budget.allocate(layout.len().saturating_mul(8))?;
    Ok(Value::text(layout::format(time, layout)))
}

/// A zone that nobody knows is UTC.
fn in_zone(context: &Context<'_>, layout: &str, date: &Value, zone: &str) -> Answer {
    let zone = match zone {
        "" | "Local" => TimeZone::UTC,
        name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    };
    formatted(context, &moment(context, date)?.with_time_zone(zone), layout)
}

fn date_in_zone(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    in_zone(context, arguments.text(0)?, arguments.value(1)?, arguments.text(2)?)
}

fn modified(duration: i64, time: &Zoned) -> Answer {
    match time.checked_add(SignedDuration::from_nanos(duration)) {
        Ok(time) => Ok(Value::Time(Rc::new(time))),
        Err(_) => Err("the date is not between the years -9999 and 9999".into()),
    }
}

fn date_modify(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let time = arguments.time(1)?;
    match duration::parse(arguments.text(0)?) {
        Some(duration) => modified(duration, time),
        None => Ok(Value::Time(Rc::clone(time))),
    }
}

fn must_date_modify(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    let duration = duration::parse(text).ok_or_else(|| format!("{text:?} is no duration such as \"1h30m\""))?;
    modified(duration, arguments.time(1)?)
}

fn parse(context: &Context<'_>, arguments: Arguments<'_>) -> Result<Option<Value>, Failure> {
    let (layout, text) = (arguments.text(0)?, arguments.text(1)?);
    context.budget.read(layout.len() * 8 + text.len())?;
    Ok(layout::parse(layout, text).map(|time| Value::Time(Rc::new(time))))
}

/// Nanoseconds from one time to a later one, as many as Go can count.
fn since(now: &Zoned, time: &Zoned) -> i64 {
    let nanoseconds = now.timestamp().as_nanosecond() - time.timestamp().as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds > 0 { i64::MAX } else { i64::MIN })
}

/// Half a second is rounded away from zero.
fn rounded_seconds(nanoseconds: i64) -> i64 {
    let (seconds, rest) = (nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS);
    seconds
        + if rest.abs() >= NANOSECONDS / 2 {
            rest.signum()
        } else {
            0
        }
}

fn duration_round(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let nanoseconds = match arguments.value(0)? {
        Value::Text(text) => duration::parse(text).unwrap_or(0),
        Value::Int64(nanoseconds) => *nanoseconds,
        Value::Time(time) => since(context.now, time),
        _ => 0,
    };
    let seconds = nanoseconds.unsigned_abs() / NANOSECONDS.unsigned_abs();
    let size = nanoseconds.unsigned_abs();
    let units = [
        (365 * 24 * 3600, "y"),
        (30 * 24 * 3600, "mo"),
        (24 * 3600, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let fitting = units
        .into_iter()
        .find(|(unit, _)| size > unit * NANOSECONDS.unsigned_abs());
    Ok(Value::text(match fitting {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => "0s".into(),
    }))
}
