//! Label selectors, as Kubernetes' `metav1.LabelSelectorAsSelector` evaluates them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::name::{is_label_value, is_qualified_name};

/// A selector that cannot be evaluated, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// The operator is none of the four.
    #[error("operator {0:?} is unknown; known are In, NotIn, Exists and DoesNotExist")]
    Operator(String),
    /// In and NotIn without values.
    #[error("operator {0} needs values")]
    NoValues(&'static str),
    /// Exists and DoesNotExist with values.
    #[error("operator {0} takes no values")]
    Values(&'static str),
    /// A key that no label can have.
    #[error("{0:?} is not the key of a label")]
    Key(String),
    /// A value that no label can have.
    #[error("{0:?} is not the value of a label")]
    Value(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(Box<str>, BTreeSet<Box<str>>),
    NotIn(Box<str>, BTreeSet<Box<str>>),
    Exists(Box<str>),
    DoesNotExist(Box<str>),
}

/// A selector that can be evaluated. Without requirements it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Checks a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(selector: &LabelSelector) -> Result<Self, InvalidSelector> {
        let none = BTreeMap::new();
        Self::of(
            selector.match_labels.as_ref().unwrap_or(&none),
            selector.match_expressions.as_deref().unwrap_or_default(),
        )
    }

    /// Checks the parts of a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(
        labels: &BTreeMap<String, String>,
        expressions: &[LabelSelectorRequirement],
    ) -> Result<Self, InvalidSelector> {
        let mut requirements = Vec::with_capacity(labels.len() + expressions.len());
        for (key, value) in labels {
            requirements.push(Requirement::In(
                checked_key(key)?,
                checked_values(std::slice::from_ref(value))?,
            ));
        }
        for expression in expressions {
            let key = checked_key(&expression.key)?;
            let values = expression.values.as_deref().unwrap_or_default();
            requirements.push(match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, checked_values(values)?),
                ("NotIn", false) => Requirement::NotIn(key, checked_values(values)?),
                ("In", true) => return Err(InvalidSelector::NoValues("In")),
                ("NotIn", true) => return Err(InvalidSelector::NoValues("NotIn")),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::DoesNotExist(key),
                ("Exists", false) => return Err(InvalidSelector::Values("Exists")),
                ("DoesNotExist", false) => return Err(InvalidSelector::Values("DoesNotExist")),
                (other, _) => return Err(InvalidSelector::Operator(other.to_owned())),
            });
        }
        Ok(Self { requirements })
    }

    /// Whether it requires nothing, and so selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(&**key).is_some_and(|value| values.contains(value.as_str())),
            Requirement::NotIn(key, values) => labels.get(&**key).is_none_or(|value| !values.contains(value.as_str())),
            Requirement::Exists(key) => labels.contains_key(&**key),
            Requirement::DoesNotExist(key) => !labels.contains_key(&**key),
        })
    }
}

/// Whether an optional selector selects an object: an absent one selects everything, one that cannot be evaluated
/// nothing.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_none_or(|selector| Selector::new(selector).is_ok_and(|selector| selector.matches(labels)))
}

fn checked_key(key: &str) -> Result<Box<str>, InvalidSelector> {
    if is_qualified_name(key) {
        Ok(key.into())
    } else {
        Err(InvalidSelector::Key(key.to_owned()))
    }
}

fn checked_values(values: &[String]) -> Result<BTreeSet<Box<str>>, InvalidSelector> {
    let checked = values.iter().map(|value| {
        if is_label_value(value) {
            Ok(value.as_str().into())
        } else {
            Err(InvalidSelector::Value(value.clone()))
        }
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn selector(value: serde_json::Value) -> Result<Selector, InvalidSelector> {
        Selector::new(&serde_json::from_value(value).unwrap())
    }

    #[rstest]
    #[case::nothing_is_required(json!({}), true)]
    #[case::the_label_has_the_value(json!({"matchLabels": {"env": "prod"}}), true)]
    #[case::the_label_has_another_value(json!({"matchLabels": {"env": "test"}}), false)]
    #[case::the_label_is_missing(json!({"matchLabels": {"team": "a"}}), false)]
    #[case::one_of_the_values(json!({"matchExpressions": [{"key": "env", "operator": "In", "values": ["a", "prod"]}]}), true)]
    #[case::none_of_the_values(json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["a", "b"]}]}), true)]
    #[case::a_missing_label_is_not_in(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a"]}]}), true)]
    #[case::the_label_is_there(json!({"matchExpressions": [{"key": "env", "operator": "Exists"}]}), true)]
    #[case::the_label_is_not_there(json!({"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}), false)]
    #[case::all_have_to_hold(json!({"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}), false)]
    fn selects_as_kubernetes_does(#[case] value: serde_json::Value, #[case] expected: bool) {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(selector(value).unwrap().matches(&labels), expected);
    }

    #[test]
    fn what_cannot_be_evaluated_says_why_and_selects_nothing() {
        let expression = |operator: &str, values: serde_json::Value| json!({"matchExpressions": [{"key": "env", "operator": operator, "values": values}]});
        assert_eq!(
            selector(expression("Near", json!([]))),
            Err(InvalidSelector::Operator("Near".into()))
        );
        assert_eq!(
            selector(expression("In", json!([]))),
            Err(InvalidSelector::NoValues("In"))
        );
        assert_eq!(
            selector(expression("Exists", json!(["a"]))),
            Err(InvalidSelector::Values("Exists"))
        );
        assert_eq!(
            selector(json!({"matchLabels": {"a b": "c"}})),
            Err(InvalidSelector::Key("a b".into()))
        );
        let broken = serde_json::from_value(expression("Near", json!([]))).unwrap();
        assert!(!selects(Some(&broken), &BTreeMap::new()));
        assert!(selects(None, &BTreeMap::new()));
    }
}
