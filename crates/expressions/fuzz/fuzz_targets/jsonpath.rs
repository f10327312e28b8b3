#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let objects: serde_json::Value = serde_json::from_str(include_str!("../../tests/corpus/objects.json")).unwrap();
    if let Ok(path) = expressions::jsonpath::JsonPath::new(source) {
        let _ = path.print(&objects["workload"]);
    }
    if let Ok(selector) = expressions::field_selector::FieldSelector::new(source) {
        let _ = selector.matches(&objects["workload"]);
    }
});
