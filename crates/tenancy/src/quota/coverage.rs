//! Which namespaces a quota is about.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::selector::{InvalidSelector, Selector};

/// Whether one of the selectors selects a namespace with these labels. A selector without requirements selects all, and no
/// selector at all selects none; a GlobalCustomQuota without selectors, which is about all, is for the caller to tell.
///
/// # Errors
/// If one of them cannot be evaluated, whether another selects or not: a quota is about the same namespaces in whatever
/// order they are asked.
pub fn any_selects(selectors: &[LabelSelector], labels: &BTreeMap<String, String>) -> Result<bool, InvalidSelector> {
    let selectors: Vec<Selector> = selectors.iter().map(Selector::new).collect::<Result<_, _>>()?;
    Ok(selectors.iter().any(|selector| selector.matches(labels)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(json!([]), Some(false))]
    #[case(json!([{}]), Some(true))]
    #[case(json!([{"matchLabels": {"team": "gas"}}]), Some(false))]
    #[case(json!([{"matchLabels": {"team": "gas"}}, {"matchLabels": {"team": "oil"}}]), Some(true))]
    #[case(json!([{"matchLabels": {"team": "oil"}}, {"matchExpressions": [{"key": "a", "operator": "Is"}]}]), None)]
    fn one_selector_is_enough(#[case] selectors: Value, #[case] expected: Option<bool>) {
        let selectors: Vec<LabelSelector> = serde_json::from_value(selectors).unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "oil".to_owned())]);
        assert_eq!(any_selects(&selectors, &labels).ok(), expected);
    }
}
