#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (source, value) = input;
    if let Ok(pattern) = expressions::pattern::Pattern::new(source) {
        pattern.find_all(value).for_each(drop);
    }
    let _ = expressions::key::KeySelector::new(source).map(|selector| selector.matches(value));
    expressions::glob::matches(source, value);
});
