//! How often a replication looks again, as a Go duration says it.

use std::time::Duration;

/// Never more often than this, whatever the author asks for.
pub const SOONEST: Duration = Duration::from_secs(5);
/// Never less often.
pub const LATEST: Duration = Duration::from_hours(24 * 7);

/// A Go duration: numbers with units, `1h30m`, `1.5s`, `100ms`; see Go's `time.ParseDuration`. `None` if it is none, or negative.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..length] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[length..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// When to look again: after the period, up to a tenth later, so that not everything comes at once. `jitter` in 0..=255.
pub fn delay(period: Duration, jitter: u8) -> Duration {
    let period = period.clamp(SOONEST, LATEST);
    period + period / 10 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("60s", Some(60_000))]
    #[case("1h30m", Some(5_400_000))]
    #[case("1.5s", Some(1_500))]
    #[case("100ms", Some(100))]
    #[case("0", Some(0))]
    #[case("", None)]
    #[case("60", None)]
    #[case("-1s", None)]
    #[case("1d", None)]
    #[case("1.2.3s", None)]
    fn durations_are_those_of_go(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(parse(text), milliseconds.map(Duration::from_millis));
    }

    #[test]
    fn jitter_adds_at_most_a_tenth_and_nobody_asks_for_too_much() {
        let minute = Duration::from_secs(60);
        assert_eq!(delay(minute, 0), minute);
        assert_eq!(delay(minute, 255), Duration::from_secs(66));
        assert_eq!(delay(Duration::ZERO, 0), SOONEST);
        assert_eq!(delay(Duration::MAX, 0), LATEST);
    }
}
