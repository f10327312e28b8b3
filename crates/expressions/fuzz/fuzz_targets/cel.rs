#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let objects: serde_json::Value = serde_json::from_str(include_str!("../../tests/corpus/objects.json")).unwrap();
    let _ = expressions::cel::explain(source, &objects["workload"]);
});
