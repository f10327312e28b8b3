//! What of an object is kept to be counted. Pure.

use std::collections::BTreeSet;

use api::capsule::v1beta2::{QuotaOperation, QuotaSource};
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};

/// A part of an object. The larger one comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Projection {
    /// Who it is, and its labels.
    Labels,
    /// These fields at the top, and all of its metadata but managed fields.
    Fields(BTreeSet<String>),
    /// All but managed fields.
    Whole,
}

impl Projection {
    /// What sources read. CEL may read anything.
    pub(super) fn of(source: &QuotaSource) -> Self {
        let selectors = source.selectors.iter();
        let uses_cel = source.op != QuotaOperation::Count && !source.cel.is_empty()
            || selectors.clone().any(|selector| !selector.cel_expressions.is_empty());
        if uses_cel {
            return Self::Whole;
        }
        let path = Some(&source.path).filter(|path| source.op != QuotaOperation::Count && !path.is_empty());
        let paths = path
            .into_iter()
            .chain(selectors.flat_map(|selector| &selector.field_selectors));
        paths.map(|path| of_path(path)).fold(Self::Labels, Self::and)
    }

    /// What both need.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => Self::Whole,
            (Self::Labels, other) | (other, Self::Labels) => other,
            (Self::Fields(mut fields), Self::Fields(more)) => {
                fields.extend(more);
                Self::Fields(fields)
            }
        }
    }

    /// What is kept of an object.
    pub(super) fn keep(&self, mut object: Value) -> Value {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        match (self, object) {
            (Self::Fields(fields), Value::Object(mut all)) => {
                all.retain(|key, _| ["apiVersion", "kind", "metadata"].contains(&key.as_str()) || fields.contains(key));
                Value::Object(all)
            }
            (_, object) => object,
        }
    }
}

/// An object of which only the metadata is known, as a value.
pub(super) fn labels_only(metadata: &ObjectMeta) -> Value {
    let mut kept = Map::new();
    let fields = [
        ("name", &metadata.name),
        ("namespace", &metadata.namespace),
        ("uid", &metadata.uid),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            kept.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(labels) = &metadata.labels {
        kept.insert("labels".to_owned(), json!(labels));
    }
    json!({ "metadata": kept })
}

/// The field at the top where a path begins, if it plainly begins at one and goes nowhere else.
fn of_path(path: &str) -> Projection {
    let wanders = path.contains("..") || path.contains(['$', '{', '}']);
    let rest = path.strip_prefix('.').unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (field, after) = rest.split_at(end);
    let is_plain = after.is_empty() || after.starts_with(['.', '[', '=', '!']);
    if wanders || field.is_empty() || !is_plain {
        return Projection::Whole;
    }
    Projection::Fields(BTreeSet::from([field.to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &Value) -> Projection {
        let mut all = json!({"apiVersion": "v1", "kind": "Pod"});
        json_patch::merge(&mut all, source);
        Projection::of(&serde_json::from_value(all).unwrap())
    }

    fn fields(names: &[&str]) -> Projection {
        Projection::Fields(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn what_a_source_reads_is_kept() {
        assert_eq!(of(&json!({"op": "count"})), Projection::Labels);
        assert_eq!(
            of(&json!({"op": "count", "selectors": [{"matchLabels": {"a": "b"}}]})),
            Projection::Labels
        );
        assert_eq!(of(&json!({"path": ".spec.size"})), fields(&["spec"]));
        assert_eq!(of(&json!({"path": ".data['a.b']"})), fields(&["data"]));
        assert_eq!(
            of(
                &json!({"path": ".spec.size", "selectors": [{"fieldSelectors": [".status.phase==Running", ".type!=a"]}]})
            ),
            fields(&["spec", "status", "type"])
        );
        assert_eq!(of(&json!({"cel": "object.spec.size"})), Projection::Whole);
        assert_eq!(
            of(&json!({"op": "count", "selectors": [{"celExpressions": ["true"]}]})),
            Projection::Whole
        );
    }

    #[test]
    fn a_path_that_may_go_anywhere_keeps_everything() {
        for path in [
            "..size",
            ".*",
            ".spec..size",
            ".a}{.b",
            ".spec[?(@.a==$.b)]",
            ".",
            ".a-b",
        ] {
            assert_eq!(of(&json!({"path": path})), Projection::Whole, "{path}");
        }
    }

    #[test]
    fn the_larger_of_two_is_kept() {
        let (a, b) = (fields(&["a"]), fields(&["b"]));
        assert_eq!(a.clone().and(b), fields(&["a", "b"]));
        assert_eq!(Projection::Labels.and(a.clone()), a);
        assert_eq!(a.and(Projection::Whole), Projection::Whole);
    }

    #[test]
    fn fields_of_nobody_are_dropped() {
        let object = json!({"kind": "Thing", "metadata": {"name": "a", "managedFields": []}, "spec": 1, "status": 2});
        let kept = json!({"kind": "Thing", "metadata": {"name": "a"}, "spec": 1});
        assert_eq!(fields(&["spec"]).keep(object.clone()), kept);
        assert_eq!(Projection::Whole.keep(object)["status"], json!(2));
    }
}
