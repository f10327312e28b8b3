//! JSON patches that change what a rule changed and nothing else.
//!
//! A rule works on typed objects, and a type forgets fields that it does not know and adds defaults that were not
//! sent. The patch is therefore the difference of the typed object before and after, fitted to the JSON that was really
//! sent: parents that are missing there are added, and `replace` becomes `add`, which replaces as well.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The patch that turns the object as sent into the changed one.
pub(crate) fn between<K: Serialize>(
    sent: Option<&RawValue>,
    before: Option<&K>,
    after: &K,
) -> Result<Patch, serde_json::Error> {
    let sent: Value = match sent {
        Some(raw) => serde_json::from_str(raw.get())?,
        None => Value::Null,
    };
    let before = before.map(serde_json::to_value).transpose()?.unwrap_or(Value::Null);
    let after = serde_json::to_value(after)?;
    let mut fitted = Fitted {
        document: sent,
        operations: Vec::new(),
    };
    for operation in json_patch::diff(&before, &after).0 {
        match operation {
            PatchOperation::Add(add) => fitted.put(&add.path, add.value),
            PatchOperation::Replace(replace) if is_list_element(&replace.path, &fitted.document) => {
                fitted.push(PatchOperation::Replace(replace));
            }
            PatchOperation::Replace(replace) => fitted.put(&replace.path, replace.value),
            PatchOperation::Remove(remove) => fitted.remove(remove.path),
            // `diff` makes only the three above.
            PatchOperation::Move(_) | PatchOperation::Copy(_) | PatchOperation::Test(_) => {}
        }
    }
    Ok(Patch(fitted.operations))
}

struct Fitted {
    /// The sent object with the operations so far applied.
    document: Value,
    operations: Vec<PatchOperation>,
}

impl Fitted {
    /// Sets the value at `path`. Where a parent is missing (or null), the outermost missing one is set as a whole.
    fn put(&mut self, path: &PointerBuf, mut value: Value) {
        let mut path = path.clone();
        loop {
            let Some((parent, last)) = path.split_back() else {
                return;
            };
            let (parent, last) = (parent.to_buf(), last.decoded().into_owned());
            if matches!(parent.resolve(&self.document), Ok(Value::Object(_) | Value::Array(_))) {
                break;
            }
            value = Value::Object(serde_json::Map::from_iter([(last, value)]));
            path = parent;
        }
        if path.resolve(&self.document).is_ok_and(|there| *there == value) && !is_list_element(&path, &self.document) {
            return;
        }
        self.push(PatchOperation::Add(AddOperation { path, value }));
    }

    fn remove(&mut self, path: PointerBuf) {
        if path.resolve(&self.document).is_ok() {
            self.push(PatchOperation::Remove(RemoveOperation { path }));
        }
    }

    fn push(&mut self, operation: PatchOperation) {
        // Fitted to the document, so it applies; if it should not, the API server says so with its own words.
        let _ = json_patch::patch(&mut self.document, std::slice::from_ref(&operation));
        self.operations.push(operation);
    }
}

/// Adding to a list inserts, so an equal element at the same place is not the same as the operation having been done.
fn is_list_element(path: &PointerBuf, document: &Value) -> bool {
    path.split_back()
        .is_some_and(|(parent, _)| matches!(parent.resolve(document), Ok(Value::Array(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    fn changed(sent: &Value, change: impl FnOnce(&mut Namespace)) -> Value {
        let raw = RawValue::from_string(sent.to_string()).expect("JSON");
        let before: Namespace = serde_json::from_value(sent.clone()).expect("a namespace");
        let mut after = before.clone();
        change(&mut after);
        let patch = between(Some(&raw), Some(&before), &after).expect("a patch");
        let mut document = sent.clone();
        json_patch::patch(&mut document, &patch).expect("the patch applies");
        assert!(patch.0.len() <= 3);
        document
    }

    #[test]
    fn an_unchanged_object_needs_no_patch_and_unknown_fields_stay() {
        let sent = json!({"metadata": {"name": "a", "fromTheFuture": 1}, "spec": {"alsoNew": true}});
        assert_eq!(changed(&sent, |_| {}), sent);
    }

    #[test]
    fn a_label_is_added_whether_or_not_there_were_labels() {
        for (sent, labels) in [
            (json!({"metadata": {"name": "a"}}), json!({"t": "oil"})),
            (json!({"metadata": {"name": "a", "labels": null}}), json!({"t": "oil"})),
            (json!({"metadata": {"name": "a", "labels": {}}}), json!({"t": "oil"})),
            (
                json!({"metadata": {"name": "a", "labels": {"x/y": "z"}}}),
                json!({"x/y": "z", "t": "oil"}),
            ),
            (
                json!({"metadata": {"name": "a", "labels": {"t": "gas"}}}),
                json!({"t": "oil"}),
            ),
        ] {
            let result = changed(&sent, |namespace| {
                namespace
                    .metadata
                    .labels
                    .get_or_insert_default()
                    .insert("t".into(), "oil".into());
            });
            assert_eq!(result["metadata"]["labels"], labels, "from {sent}");
        }
    }

    #[test]
    fn a_list_element_is_removed_and_the_rest_keeps_its_unknown_fields() {
        let reference = |name: &str| json!({"apiVersion": "v1", "kind": "K", "name": name, "uid": name, "new": 1});
        let sent = json!({"metadata": {"name": "a", "ownerReferences": [reference("a"), reference("b")]}});
        let result = changed(&sent, |namespace| {
            namespace.metadata.owner_references.get_or_insert_default().remove(1);
        });
        assert_eq!(result["metadata"]["ownerReferences"], json!([reference("a")]));
    }

    #[test]
    fn an_element_of_a_list_is_replaced_and_not_inserted() {
        let sent = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes", "b"]}});
        let result = changed(&sent, |namespace| {
            namespace.spec.get_or_insert_default().finalizers = Some(vec!["kubernetes".into(), "c".into()]);
        });
        assert_eq!(result["spec"]["finalizers"], json!(["kubernetes", "c"]));
    }

    #[test]
    fn a_second_equal_list_element_is_not_lost() {
        let sent = json!({"metadata": {"name": "a", "ownerReferences": [
            {"apiVersion": "v1", "kind": "K", "name": "a", "uid": "a"}]}});
        let result = changed(&sent, |namespace| {
            namespace
                .metadata
                .owner_references
                .get_or_insert_default()
                .push(OwnerReference {
                    api_version: "v1".into(),
                    kind: "K".into(),
                    name: "b".into(),
                    uid: "b".into(),
                    ..OwnerReference::default()
                });
        });
        assert_eq!(
            result["metadata"]["ownerReferences"].as_array().expect("a list").len(),
            2
        );
    }
}
