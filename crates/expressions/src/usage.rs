//! How much of a quota an object takes: what a path or an expression reads out of it.

use serde_json::Value;

use crate::{
    jsonpath::{EvaluationError, JsonPath},
    quantity::{InvalidQuantity, Quantity},
};

/// Why an object's usage cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("failed to follow the path")]
    Path(#[from] EvaluationError),
    #[error("the path did not resolve to any value")]
    Nothing,
    #[error(transparent)]
    Quantity(#[from] InvalidQuantity),
}

/// The sum of all quantities that a path leads to. A result of several words is several quantities.
///
/// # Errors
/// If the path leads to nothing, or to what is no quantity.
pub fn of_path(path: &JsonPath, object: &Value) -> Result<Quantity, UsageError> {
    path.print(object)?
        .split_whitespace()
        .map(str::parse)
        .try_fold(None, |sum: Option<Quantity>, quantity| {
            let quantity: Quantity = quantity?;
            Ok(Some(sum.map_or(quantity, |sum| sum.plus(quantity))))
        })
        .and_then(|sum| sum.ok_or(UsageError::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(".spec.size", Some("10Gi"))]
    #[case(".spec.sizes[*]", Some("1536Mi"))]
    #[case(".spec.words", Some("3"))]
    #[case(".spec.number", Some("7"))]
    #[case(".spec.none", None)]
    #[case(".spec.empty", None)]
    #[case(".spec.flag", None)]
    fn quantities_are_summed(#[case] path: &str, #[case] expected: Option<&str>) {
        let object = json!({"spec": {
            "size": "10Gi", "sizes": ["1Gi", "512Mi"], "words": " 1  2 ", "number": 7, "empty": "", "flag": true,
        }});
        let usage = of_path(&JsonPath::new(path).unwrap(), &object);
        assert_eq!(usage.ok().map(|usage| usage.to_string()).as_deref(), expected);
    }
}
