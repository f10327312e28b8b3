//! No text makes parsing or rendering panic, hang or take more than the limits. `tests/properties.rs` asks the same, shortly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use templates::{Limits, MissingKey, Numbers, Settings, Template};

fuzz_target!(|source: &str| {
    let limits = Limits {
        steps: 20_000,
        value_bytes: 256 * 1024,
        output_bytes: 16 * 1024,
        range_length: 1_000,
        ..Limits::default()
    };
    let Ok(template) = Template::parse("fuzz", source, limits) else {
        return;
    };
    let data = serde_json::json!({"a": {"b": [1, "x", null]}, "b": "héllo wörld", "c": 2.5});
    for missing_key in [MissingKey::Invalid, MissingKey::Zero, MissingKey::Error] {
        let settings = Settings {
            missing_key,
            numbers: Numbers::Integers,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        if let Ok(rendered) = template.render(&data, &settings) {
            assert!(rendered.len() <= limits.output_bytes);
        }
    }
});
