//! What this module needs of expression languages.

use serde_json::Value;

use crate::quantity::Quantity;

/// Evaluates the expressions of sources and selectors. Errors are sentences for people.
///
/// An evaluation has no effects, ends, and says the same of the same object every time.
pub trait Expressions {
    /// What a JSONPath finds in an object, as kubectl prints it: texts with blanks between. Nothing found is empty.
    ///
    /// # Errors
    /// If the path cannot be parsed or evaluated.
    fn path(&self, path: &str, object: &Value) -> Result<String, String>;

    /// Whether a field selector selects an object: a JSONPath that is there and true, or is compared with a text.
    ///
    /// # Errors
    /// If the selector cannot be parsed or evaluated.
    fn selects(&self, selector: &str, object: &Value) -> Result<bool, String>;

    /// The quantities that a CEL expression makes of an object.
    ///
    /// # Errors
    /// If the expression cannot be compiled, fails, costs too much, or makes something else.
    fn quantities(&self, cel: &str, object: &Value) -> Result<Vec<Quantity>, String>;

    /// Whether a CEL expression holds for an object.
    ///
    /// # Errors
    /// If the expression cannot be compiled, fails, costs too much, or makes something else.
    fn holds(&self, cel: &str, object: &Value) -> Result<bool, String>;

    /// Checks a JSONPath, without an object.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_path(&self, path: &str) -> Result<(), String>;

    /// Checks a field selector, without an object.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_selector(&self, selector: &str) -> Result<(), String>;

    /// Checks a CEL expression that makes quantities, without an object.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_quantities(&self, cel: &str) -> Result<(), String>;

    /// Checks a CEL expression that holds or does not, without an object.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_condition(&self, cel: &str) -> Result<(), String>;
}
