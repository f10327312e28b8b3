//! The small template language of copies, raw items and additional metadata: `{{ tenant.name }}` and `{{ namespace }}`.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the tags stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The namespace that is filled. Empty where objects are made once per tenant, or once.
    pub namespace: &'a str,
}

impl Tags<'_> {
    /// A text with its tags replaced. Unknown tags become nothing; braces that are never closed stay.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let Some(length) = rest[start + 2..].find("}}") else {
                break;
            };
            out.push_str(&rest[..start]);
            out.push_str(match rest[start + 2..start + 2 + length].trim() {
                "tenant.name" => self.tenant,
                "namespace" => self.namespace,
                _ => "",
            });
            rest = &rest[start + 2 + length + 2..];
        }
        out.push_str(rest);
        out
    }

    /// A value with the tags of all its texts and keys replaced.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (self.text(key), self.value(value)))
                .collect(),
            other => other.clone(),
        }
    }

    /// Labels or annotations with their tags replaced.
    pub fn map(&self, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        map.iter()
            .map(|(key, value)| (self.text(key), self.text(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TAGS: Tags<'static> = Tags {
        tenant: "oil",
        namespace: "oil-web",
    };

    #[rstest::rstest]
    #[case("{{tenant.name}}-{{ namespace }}", "oil-oil-web")]
    #[case("{{  tenant.name}}", "oil")]
    #[case("a{{ other }}b", "ab")]
    #[case("{{ namespace", "{{ namespace")]
    #[case("}}{{namespace}}{{", "}}oil-web{{")]
    #[case("é{{}}é", "éé")]
    fn tags_are_replaced(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(TAGS.text(text), expected);
    }

    #[test]
    fn keys_and_values_of_an_object_are_replaced() {
        let value = json!({"{{namespace}}": ["{{tenant.name}}", 1, null, {"a": "b"}]});
        assert_eq!(TAGS.value(&value), json!({"oil-web": ["oil", 1, null, {"a": "b"}]}));
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer_and_one_without_braces_stays(text in "\\PC*", plain in "[^{}]*") {
            TAGS.text(&text);
            prop_assert_eq!(TAGS.text(&plain), plain);
        }
    }
}
