//! The corpus: templates that Go answered, and the few where we answer otherwise.

#![allow(clippy::unwrap_used, reason = "only tests are here")]

use serde::Deserialize;
use templates::{Limits, MissingKey, Numbers, Settings, Template};

#[derive(Deserialize)]
struct Case {
    template: String,
    data: serde_json::Value,
    missingkey: String,
    numbers: String,
    /// What Go rendered; absent where it failed.
    output: Option<String>,
    /// Why Go failed.
    error: Option<String>,
}

/// Templates whose answer differs from Go's, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        r#"{{ fromYaml "a: 1\na: 2" }}"#,
        "a key that is given twice is a mistake; YAML forbids it and Go takes the last",
    ),
    (
        "{{ toToml .tenant.names }}",
        "a list is no TOML document, and what Go writes cannot be read back",
    ),
    (
        r#"{{ printf "%x %X" "hello" .tenant.neg }}"#,
        "hexadecimal floats are refused",
    ),
    (r#"{{ trunc 2 "héllo" }}"#, HALF),
    (r#"{{ substr 0 2 "héllo" }}"#, HALF),
    (r#"{{ b64dec "!!" }}"#, DECODING),
    (r#"{{ b32dec "!!" }}"#, DECODING),
    (r#"{{ b64dec "/w==" | b64enc }}"#, "strings are UTF-8"),
    (r#"{{ nospace "é à" }}"#, "sprig takes each byte for a character"),
    (r#"{{ initials "été à" }}"#, "sprig takes each byte for a character"),
    ("{{ 1i }}", "complex numbers are refused"),
    ("{{ 1+2i }}", "complex numbers are refused"),
    ("{{ 0x1p4 }}", "hexadecimal floats are refused"),
    (r#"{{ printf "%b" 1.5 }}"#, "hexadecimal floats are refused"),
    (r#"{{ fromYaml "a: yes" | toJson }}"#, YAML),
    (r#"{{ fromYaml "a: 0644" | toJson }}"#, YAML),
    (
        r##"{{ toYaml (list "yes" "1" "0644" "a: b" "" "~" "null" "1e3" " x" "#x" "a\nb" "'q'" "-" "é") }}"##,
        "the same values in other quotes",
    ),
    (
        r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ len $d }}"#,
        "a dict cannot hold itself: Go dies when it is printed",
    ),
    (
        r#"{{ toDate "15:04 MST" "12:30 PST" }}"#,
        "Go keeps the name of a zone that it does not know, with an offset of zero",
    ),
    (r#"{{ "\xff" | len }}"#, "strings are UTF-8"),
];

const HALF: &str = "strings are UTF-8; half a character is none";
const DECODING: &str = "sprig answers the error's message as if it were the text";
const YAML: &str = "YAML 1.2 here, 1.1 there: yes, on and 0644 are strings";

/// The oracle's clock.
const NOW: &str = "2026-03-04T05:06:07.089Z";

fn render(case: &Case) -> Result<String, templates::Error> {
    let settings = Settings {
        missing_key: match case.missingkey.as_str() {
            "zero" => MissingKey::Zero,
            "error" => MissingKey::Error,
            _ => MissingKey::Invalid,
        },
        numbers: if case.numbers == "integer" {
            Numbers::Integers
        } else {
            Numbers::Floats
        },
        now: NOW.parse().unwrap(),
    };
    Template::parse("case", &case.template, Limits::default())?.render(&case.data, &settings)
}

/// What is wrong with our answer to a case, if anything.
fn complaint(case: &Case) -> Option<String> {
    let ours = render(case);
    match (&case.output, &ours) {
        (Some(expected), Ok(rendered)) if expected == rendered => None,
        (None, Err(_)) => None,
        (Some(expected), _) => Some(format!("{:?}\n  Go   {expected:?}\n  ours {ours:?}", case.template)),
        (None, _) => Some(format!(
            "{:?}\n  Go   {}\n  ours {ours:?}",
            case.template,
            case.error.as_deref().unwrap_or_default()
        )),
    }
}

fn compare(corpus: &str) {
    let cases: Vec<Case> = serde_json::from_str(corpus).unwrap();
    let mut complaints = Vec::new();
    for case in &cases {
        let is_listed = DIFFERENCES.iter().any(|(template, _)| *template == case.template);
        match complaint(case) {
            Some(complaint) if !is_listed => complaints.push(complaint),
            None if is_listed => complaints.push(format!("{:?} is listed and does not differ", case.template)),
            _ => {}
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {} cases differ from Go:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn known_differences_are_still_there() {
    compare(include_str!("corpus/differences.json"));
}

#[test]
fn actions_are_answered_as_go_does() {
    compare(include_str!("corpus/actions.json"));
}

#[test]
fn builtin_functions_are_answered_as_go_does() {
    compare(include_str!("corpus/builtins.json"));
}

#[test]
fn functions_on_texts_are_answered_as_sprig_does() {
    compare(include_str!("corpus/strings.json"));
}

#[test]
fn functions_on_collections_and_numbers_are_answered_as_sprig_does() {
    compare(include_str!("corpus/collections.json"));
}
