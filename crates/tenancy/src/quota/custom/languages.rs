//! The languages of quotas, as crate `expressions` reads them.

use std::{
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

/// Reads the languages of sources and selectors, and keeps what it compiled. What cannot be compiled is kept too.
#[derive(Debug, Default)]
pub struct Languages {
    paths: Kept<JsonPath>,
    selectors: Kept<FieldSelector>,
    quantities: Kept<UsageExpression>,
    conditions: Kept<Condition>,
}

type Compiled<T> = Result<Arc<T>, String>;

#[derive(Debug)]
struct Kept<T>(Mutex<HashMap<String, Compiled<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    fn get<E: Display>(&self, text: &str, compile: impl FnOnce(&str) -> Result<T, E>) -> Compiled<T> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return known.clone();
        }
        let compiled = compile(text).map(Arc::new).map_err(|error| error.to_string());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(text.to_owned(), compiled.clone());
        compiled
    }
}

fn failed(what: &str, text: &str, error: impl Display) -> String {
    format!("{what} {text:?} failed: {error}")
}

impl Expressions for Languages {
    fn path(&self, path: &str, object: &Value) -> Result<String, String> {
        let compiled = self.paths.get(path, JsonPath::new)?;
        compiled.print(object).map_err(|error| failed("path", path, error))
    }

    fn selects(&self, selector: &str, object: &Value) -> Result<bool, String> {
        let compiled = self.selectors.get(selector, FieldSelector::new)?;
        compiled
            .matches(object)
            .map_err(|error| failed("field selector", selector, error))
    }

    fn quantities(&self, cel: &str, object: &Value) -> Result<Vec<Quantity>, String> {
        let compiled = self.quantities.get(cel, UsageExpression::new)?;
        let sum = compiled.of(object).map_err(|error| failed("cel", cel, error))?;
        Ok(vec![sum])
    }

    fn holds(&self, cel: &str, object: &Value) -> Result<bool, String> {
        let compiled = self.conditions.get(cel, Condition::new)?;
        compiled.matches(object).map_err(|error| failed("cel", cel, error))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
