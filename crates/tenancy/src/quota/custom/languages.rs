//! The languages of quotas, as crate `expressions` reads them.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use expressions::{
    cel::{Condition, UsageExpression},
    field_selector::FieldSelector,
    jsonpath::JsonPath,
};
use serde_json::Value;

use super::Expressions;
use crate::quantity::Quantity;

/// Texts of one language that are kept compiled. When there are more, all are compiled anew.
const MOST: usize = 1_000;

/// Reads the languages of sources and selectors, and keeps what it compiled. What does not compile is not kept: its length
/// has no end.
#[derive(Debug, Default)]
pub struct Languages {
    paths: Kept<JsonPath>,
    selectors: Kept<FieldSelector>,
    quantities: Kept<UsageExpression>,
    conditions: Kept<Condition>,
}

/// The languages, with an end of what all evaluations together may take: each has one of its own, and there may be many.
///
/// The unit is the one of Kubernetes' CEL, or an item that a path looks at, or 16 bytes that it prints; one expression or
/// path has a million.
#[derive(Debug)]
pub struct Metered<'a> {
    languages: &'a Languages,
    left: Cell<u64>,
}

impl Languages {
    /// With an end.
    pub fn metered(&self, units: u64) -> Metered<'_> {
        Metered {
            languages: self,
            left: Cell::new(units),
        }
    }

    fn weigh_path(&self, path: &str, object: &Value) -> Weighed<String> {
        let compiled = self.paths.get(path, JsonPath::new);
        weigh(compiled, |it| it.weigh(object), "path", path)
    }

    fn weigh_selector(&self, selector: &str, object: &Value) -> Weighed<bool> {
        let compiled = self.selectors.get(selector, FieldSelector::new);
        weigh(compiled, |it| it.weigh(object), "field selector", selector)
    }

    fn weigh_quantities(&self, cel: &str, object: &Value) -> Weighed<Quantity> {
        let compiled = self.quantities.get(cel, UsageExpression::new);
        weigh(compiled, |it| it.weigh(object), "cel", cel)
    }

    fn weigh_condition(&self, cel: &str, object: &Value) -> Weighed<bool> {
        let compiled = self.conditions.get(cel, Condition::new);
        weigh(compiled, |it| it.weigh(object), "cel", cel)
    }
}

/// A result, and what it took.
type Weighed<T> = (Result<T, String>, u64);

fn weigh<K, T, E: Display>(
    compiled: Compiled<K>,
    evaluate: impl FnOnce(&K) -> (Result<T, E>, u64),
    what: &str,
    text: &str,
) -> Weighed<T> {
    match compiled {
        Ok(compiled) => {
            let (result, units) = evaluate(&compiled);
            (result.map_err(|error| failed(what, text, error)), units)
        }
        Err(problem) => (Err(problem), 0),
    }
}

type Compiled<T> = Result<Arc<T>, String>;

#[derive(Debug)]
struct Kept<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    fn get<E: Display>(&self, text: &str, compile: impl FnOnce(&str) -> Result<T, E>) -> Compiled<T> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(known.clone());
        }
        let compiled = compile(text).map(Arc::new).map_err(|error| error.to_string())?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    }
}

fn failed(what: &str, text: &str, error: impl Display) -> String {
    format!("{what} {text:?} failed: {error}")
}

impl Expressions for Languages {
    fn path(&self, path: &str, object: &Value) -> Result<String, String> {
        self.weigh_path(path, object).0
    }

    fn selects(&self, selector: &str, object: &Value) -> Result<bool, String> {
        self.weigh_selector(selector, object).0
    }

    fn quantities(&self, cel: &str, object: &Value) -> Result<Vec<Quantity>, String> {
        self.weigh_quantities(cel, object).0.map(|sum| vec![sum])
    }

    fn holds(&self, cel: &str, object: &Value) -> Result<bool, String> {
        self.weigh_condition(cel, object).0
    }

    fn check_path(&self, path: &str) -> Result<(), String> {
        self.paths.get(path, JsonPath::new).map(drop)
    }

    fn check_selector(&self, selector: &str) -> Result<(), String> {
        self.selectors.get(selector, FieldSelector::new).map(drop)
    }

    fn check_quantities(&self, cel: &str) -> Result<(), String> {
        self.quantities.get(cel, UsageExpression::new).map(drop)
    }

    fn check_condition(&self, cel: &str) -> Result<(), String> {
        self.conditions.get(cel, Condition::new).map(drop)
    }
}

impl Metered<'_> {
    /// What is left.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// Evaluates, if anything is left. What begins is carried through: it has an end of its own.
    fn spend<T>(&self, evaluate: impl FnOnce() -> Weighed<T>) -> Result<T, String> {
        if self.left.get() == 0 {
            return Err("the expressions take too long together; simpler or fewer ones would do".to_owned());
        }
        let (result, units) = evaluate();
        self.left.set(self.left.get().saturating_sub(units));
        result
    }
}

impl Expressions for Metered<'_> {
    fn path(&self, path: &str, object: &Value) -> Result<String, String> {
        self.spend(|| self.languages.weigh_path(path, object))
    }

    fn selects(&self, selector: &str, object: &Value) -> Result<bool, String> {
        self.spend(|| self.languages.weigh_selector(selector, object))
    }

    fn quantities(&self, cel: &str, object: &Value) -> Result<Vec<Quantity>, String> {
        self.spend(|| self.languages.weigh_quantities(cel, object))
            .map(|sum| vec![sum])
    }

    fn holds(&self, cel: &str, object: &Value) -> Result<bool, String> {
        self.spend(|| self.languages.weigh_condition(cel, object))
    }

    fn check_path(&self, path: &str) -> Result<(), String> {
        self.languages.check_path(path)
    }

    fn check_selector(&self, selector: &str) -> Result<(), String> {
        self.languages.check_selector(selector)
    }

    fn check_quantities(&self, cel: &str) -> Result<(), String> {
        self.languages.check_quantities(cel)
    }

    fn check_condition(&self, cel: &str) -> Result<(), String> {
        self.languages.check_condition(cel)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::quota::custom::validate;

    #[test]
    fn each_language_reads_an_object() {
        let languages = Languages::default();
        let object = json!({"spec": {"size": "2Gi", "sizes": ["1Gi", "512Mi"], "on": true}});
        assert_eq!(languages.path(".spec.sizes[*]", &object), Ok("1Gi 512Mi".to_owned()));
        assert_eq!(languages.selects(".spec.on", &object), Ok(true));
        assert_eq!(languages.selects(".spec.size==1Gi", &object), Ok(false));
        let sum = languages.quantities("object.spec.sizes.map(s, quantity(s))", &object);
        assert_eq!(sum, Ok(vec!["1536Mi".parse().unwrap()]));
        assert_eq!(languages.holds("has(object.spec.on)", &object), Ok(true));
    }

    #[test]
    fn what_does_not_compile_is_an_error_each_time_and_in_every_use() {
        let languages = Languages::default();
        for _ in 0..2 {
            assert!(languages.check_path("spec").is_err());
            assert!(languages.path("spec", &json!({})).is_err());
            assert!(languages.check_quantities("1 +").is_err());
            assert!(languages.check_quantities("true").is_err());
            assert!(languages.check_condition("quantity('1')").is_err());
            assert!(languages.check_selector("spec==1").is_err());
        }
        assert!(languages.check_path(".spec").is_ok());
    }

    #[test]
    fn only_so_much_is_kept() {
        let languages = Languages::default();
        for number in 0..=MOST {
            assert!(languages.check_path(&format!(".a{number}")).is_ok());
        }
        assert_eq!(languages.paths.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn long_texts_are_refused_with_their_limit_and_nothing_that_fails_is_kept() {
        let languages = Languages::default();
        let long = "a".repeat(2 << 20);
        let refused = |checked: Result<(), String>| checked.unwrap_err();
        assert_eq!(
            refused(languages.check_path(&format!(".{long}"))),
            "the path is longer than 1024 characters"
        );
        assert_eq!(
            refused(languages.check_selector(&format!(".a=={long}"))),
            "the field selector is longer than 1024 characters"
        );
        assert!(refused(languages.check_condition(&long)).ends_with("longer than 4096 bytes"));
        assert!(refused(languages.check_quantities(&long)).ends_with("longer than 4096 bytes"));
        assert!(languages.selects(&format!(".a=={long}"), &json!({})).is_err());
        assert!(languages.check_path("spec").is_err());
        assert_eq!(languages.paths.0.lock().unwrap().len(), 0);
        assert_eq!(languages.selectors.0.lock().unwrap().len(), 0);
        assert_eq!(languages.conditions.0.lock().unwrap().len(), 0);
        assert_eq!(languages.quantities.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_quota_with_a_text_that_is_too_long_is_refused_with_its_field_and_the_limit() {
        let refused = |source: Value| {
            let sources = vec![serde_json::from_value(source).unwrap()];
            let limit = serde_json::from_value(json!("1")).unwrap();
            let denial = validate(&limit, &sources, &[], &Languages::default()).unwrap_err();
            denial.message
        };
        let long = "a".repeat(2 << 20);
        assert_eq!(
            refused(json!({"apiVersion": "v1", "kind": "Pod", "path": format!(".{long}")})),
            "spec.sources[0].path: the path is longer than 1024 characters"
        );
        let selectors = json!([{"fieldSelectors": [format!(".a=={long}")]}]);
        assert_eq!(
            refused(json!({"apiVersion": "v1", "kind": "Pod", "op": "count", "selectors": selectors})),
            "spec.sources[0].selectors[0].fieldSelectors: the field selector is longer than 1024 characters"
        );
    }

    #[test]
    fn what_a_path_prints_has_a_price() {
        let languages = Languages::default();
        let object = json!({"spec": {"text": "1 ".repeat(8_000)}});
        let metered = languages.metered(10_000);
        assert!(metered.path(".spec.text", &object).is_ok());
        assert!((8_900..=9_000).contains(&metered.left()), "{}", metered.left());
    }

    /// Lists that double, loops in loops, paths that look at everything again: what one expression may take, and no more.
    const HOSTILE: [&str; 4] = [
        "lists.range(1000).map(a, lists.range(1000).map(b, a * b).size()).size() == 0",
        "lists.range(3000).exists(a, lists.range(3000).exists(b, a + b < 0))",
        "object.spec.words.map(w, object.spec.words.join(w)).join('').contains('x')",
        "lists.range(100000).exists(i, 'a'.matches(string(i) + '[a-z]{1000}'))",
    ];

    #[test]
    fn what_all_expressions_take_together_has_an_end() {
        let languages = Languages::default();
        let object = json!({"spec": {"words": vec!["word"; 2_000], "size": "1"}});
        for hostile in HOSTILE {
            let metered = languages.metered(1_000_000);
            assert!(metered.holds(hostile, &object).is_err(), "{hostile}");
            assert!(metered.left() == 0, "{hostile} took {} less", metered.left());
            let refused = metered.path(".spec.size", &object).unwrap_err();
            assert!(
                refused.starts_with("the expressions take too long together"),
                "{refused}"
            );
        }
        let metered = languages.metered(1_000_000);
        let names = vec!["*"; 400].join(",");
        let refused = metered.path(&format!(".spec.words[{names}]"), &object).unwrap_err();
        assert!(
            refused.ends_with("the path leads to more than 65536 bytes of text in this object"),
            "{refused}"
        );
        assert!(metered.left() < 300_000, "{}", metered.left());
        // What people write takes little.
        let metered = languages.metered(1_000);
        assert!(metered.holds("object.spec.size == '1'", &object).unwrap());
        assert_eq!(metered.path(".spec.size", &object).unwrap(), "1");
        assert!(metered.left() > 900, "{}", metered.left());
    }
}
