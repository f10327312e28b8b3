//! Functions that ask what time it is get the caller's answer. Expected values are written by hand: sprig asks the
//! machine, so the oracle cannot say.

#![allow(clippy::unwrap_used, reason = "only tests are here")]

use serde_json::json;
use templates::{Limits, MissingKey, Numbers, Settings, Template};

#[track_caller]
fn assert_renders(source: &str, expected: &str) {
    let settings = Settings {
        missing_key: MissingKey::Error,
        numbers: Numbers::Integers,
        now: "2026-03-04T05:06:07.6Z".parse().unwrap(),
    };
    let template = Template::parse("t", source, Limits::default()).unwrap();
    assert_eq!(template.render(&json!({}), &settings).unwrap(), expected, "{source}");
}

#[test]
fn ages_are_rounded_to_seconds() {
    assert_renders("{{ ago now }}", "0s");
    assert_renders(r#"{{ now | dateModify "-90m" | ago }}"#, "1h30m0s");
    assert_renders(r#"{{ now | dateModify "1.4s" | ago }}"#, "-1s");
    // 1772600766 is 05:06:06: 1.6 seconds ago.
    assert_renders("{{ ago 1772600766 }}", "2s");
    assert_renders("{{ durationRound (toDate `2006-01-02` `2024-03-04`) }}", "2y");
}

#[test]
fn what_is_no_date_is_now() {
    assert_renders(r#"{{ date "2006-01-02 15:04:05" "yesterday" }}"#, "2026-03-04 05:06:07");
    assert_renders("{{ htmlDate nil }} {{ ago `x` }}", "2026-03-04 0s");
}
