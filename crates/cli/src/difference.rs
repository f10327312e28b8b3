//! Two JSON values, field by field, for people. Pure.

use serde::Serialize;
use serde_json::Value;

/// A field that differs. Fields that come or go with everything below them are told leaf by leaf.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Field {
    /// `spec.owners[0].name`, `metadata.labels[capsule.clastix.io/tenant]`
    pub(crate) path: String,
    /// `None`: it was not there.
    pub(crate) before: Option<Value>,
    /// `None`: it is gone.
    pub(crate) after: Option<Value>,
}

/// What differs, in the order of the names. Null, `false`, and empty lists, maps and texts are as good as absent.
pub(crate) fn difference(before: Option<Value>, after: Option<Value>) -> Vec<Field> {
    let mut fields = Vec::new();
    compare("", before, after, &mut fields);
    fields
}

fn compare(path: &str, before: Option<Value>, after: Option<Value>, fields: &mut Vec<Field>) {
    let (before, after) = (before.filter(is_something), after.filter(is_something));
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => maps(path, before, after, fields),
        (Some(Value::Object(before)), None) => maps(path, before, serde_json::Map::new(), fields),
        (None, Some(Value::Object(after))) => maps(path, serde_json::Map::new(), after, fields),
        (Some(Value::Array(before)), Some(Value::Array(after))) => lists(path, before, after, fields),
        (Some(Value::Array(before)), None) => lists(path, before, Vec::new(), fields),
        (None, Some(Value::Array(after))) => lists(path, Vec::new(), after, fields),
        (before, after) => fields.push(Field {
            path: path.to_owned(),
            before,
            after,
        }),
    }
}

type Map = serde_json::Map<String, Value>;

fn maps(path: &str, mut before: Map, mut after: Map, fields: &mut Vec<Field>) {
    let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let place = if key.contains(['.', '/']) {
            format!("{path}[{key}]")
        } else if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        compare(&place, before.remove(&key), after.remove(&key), fields);
    }
}

fn lists(path: &str, before: Vec<Value>, after: Vec<Value>, fields: &mut Vec<Field>) {
    let length = before.len().max(after.len());
    let (mut before, mut after) = (before.into_iter(), after.into_iter());
    for at in 0..length {
        compare(&format!("{path}[{at}]"), before.next(), after.next(), fields);
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

impl Field {
    /// `spec.cordoned: (none) -> true`
    pub(crate) fn told(&self) -> String {
        match (&self.before, &self.after) {
            (None, Some(after)) => format!("{}: {}", self.path, text(after)),
            (Some(before), after) => {
                let after = after.as_ref().map_or_else(|| "(none)".to_owned(), text);
                format!("{}: {} -> {after}", self.path, text(before))
            }
            (None, None) => self.path.clone(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_leaf_by_leaf() {
        let before =
            json!({"spec": {"cordoned": false, "owners": [{"name": "alice"}], "n": 1, "gone": {"a": 1}}, "same": [1]});
        let after = json!({"spec": {"cordoned": true, "owners": [{"name": "alice"}, {"name": "bob"}], "n": 2, "empty": []},
            "same": [1], "labels": {"a.b/c": "d"}});
        let told: Vec<String> = difference(Some(before), Some(after)).iter().map(Field::told).collect();
        assert_eq!(
            told,
            [
                "labels[a.b/c]: d",
                "spec.cordoned: true",
                "spec.gone.a: 1 -> (none)",
                "spec.n: 1 -> 2",
                "spec.owners[1].name: bob"
            ]
        );
    }

    #[test]
    fn absent_and_empty_are_the_same() {
        assert_eq!(difference(Some(json!({"a": {"b": []}})), None), []);
    }
}
