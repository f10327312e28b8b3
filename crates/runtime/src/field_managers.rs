//! Who owns which field of an object, and how fields pass from one program to the next.
//!
//! Who writes an object by plain updates owns its fields in entries of the operation `Update`. Beside such an entry the applies
//! of a successor remove nothing: a field that it lets go of stays, because it is still the other's. So what is in entries of a
//! predecessor is moved into the successor's, as Kubernetes' client library does it when a program changes from updates to
//! applies (`csaupgrade` of client-go), and the next apply removes what is not wanted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// The JSON patch that moves predecessors' fields of an object into the entry of `manager`, if they own some that it does not.
/// `found` is what the API server has, and the patch is for that version: it is refused with a conflict if the object has changed
/// since.
pub fn patch(found: &ObjectMeta, manager: &str, is_predecessor: impl Fn(&ManagedFieldsEntry) -> bool) -> Option<Value> {
    let entries = moved(
        found.managed_fields.as_deref().unwrap_or_default(),
        manager,
        is_predecessor,
    )?;
    Some(replacing(found, &entries))
}

/// The same for an object that `manager` may not have applied yet: predecessors' entries become its first. The apply that
/// follows then does all of it in one write.
pub fn inherit(
    found: &ObjectMeta,
    manager: &str,
    is_predecessor: impl Fn(&ManagedFieldsEntry) -> bool,
) -> Option<Value> {
    let mut entries = found.managed_fields.clone().unwrap_or_default();
    if !entries.iter().any(|entry| is_apply(entry, manager, "")) {
        let first = entries.iter().find(|entry| is_predecessor(entry))?;
        let ours = ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some("Apply".to_owned()),
            fields_v1: Some(FieldsV1(json!({}))),
            ..first.clone()
        };
        entries.push(ours);
    }
    let entries = moved(&entries, manager, is_predecessor)?;
    Some(replacing(found, &entries))
}

fn replacing(found: &ObjectMeta, entries: &[ManagedFieldsEntry]) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": found.uid},
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": found.resource_version},
    ])
}

/// All entries after the move. `None` if there is nothing to move, or nothing to move to.
pub fn moved(
    entries: &[ManagedFieldsEntry],
    manager: &str,
    is_predecessor: impl Fn(&ManagedFieldsEntry) -> bool,
) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = entries.iter().find(|entry| is_apply(entry, manager, ""))?;
    let mut united = fields(ours)?.clone();
    let mut exceeds = false;
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        // The same path may be another field in another version.
        let is_moved = is_predecessor(entry) && entry.api_version == ours.api_version;
        match fields(entry).filter(|_| is_moved) {
            Some(theirs) => exceeds |= unite(&mut united, theirs),
            None => kept.push(entry.clone()),
        }
    }
    let united_entry = kept.iter_mut().find(|entry| *entry == ours)?;
    united_entry.fields_v1 = Some(FieldsV1(Value::Object(united)));
    exceeds.then_some(kept)
}

/// Whether a status that `manager` has just applied says more than that, by what somebody wrote with a plain update. For kinds
/// whose status is the operator's alone.
pub fn is_status_mixed(found: &ObjectMeta, manager: &str) -> bool {
    let entries = found.managed_fields.as_deref().unwrap_or_default();
    let Some(ours) = entries.iter().find(|entry| is_apply(entry, manager, "status")) else {
        return false;
    };
    let mut known = fields(ours).cloned().unwrap_or_default();
    let others = entries.iter().filter(|entry| is_update(entry, "status"));
    others.filter_map(fields).any(|more| unite(&mut known, more))
}

fn is_apply(entry: &ManagedFieldsEntry, manager: &str, subresource: &str) -> bool {
    entry.operation.as_deref() == Some("Apply")
        && entry.manager.as_deref() == Some(manager)
        && entry.subresource.as_deref().unwrap_or_default() == subresource
}

/// Whether the entry is of plain updates of this subresource; of the object itself when it is empty.
pub fn is_update(entry: &ManagedFieldsEntry, subresource: &str) -> bool {
    entry.operation.as_deref() == Some("Update") && entry.subresource.as_deref().unwrap_or_default() == subresource
}

/// Whether the entry's author wrote this label.
pub fn owns_label(entry: &ManagedFieldsEntry, label: &str) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let labels = fields.and_then(|fields| fields.pointer("/f:metadata/f:labels"));
    labels.is_some_and(|labels| labels.get(format!("f:{label}")).is_some())
}

fn fields(entry: &ManagedFieldsEntry) -> Option<&Fields> {
    entry.fields_v1.as_ref()?.0.as_object()
}

/// Adds fields to fields; whether any of them was new. That somebody owns a map beside what is in it (`.`) is no news: an empty
/// map may stay.
fn unite(fields: &mut Fields, more: &Fields) -> bool {
    let mut is_news = false;
    for (name, below) in more {
        match (fields.get_mut(name), below) {
            (Some(Value::Object(known)), Value::Object(below)) => is_news |= unite(known, below),
            (Some(_), _) => {}
            (None, _) => {
                is_news |= name != ".";
                fields.insert(name.clone(), below.clone());
            }
        }
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, labels: &[&str]) -> ManagedFieldsEntry {
        let labels: Fields = labels.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
        serde_json::from_value(json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": labels}}}))
        .unwrap()
    }

    fn inherited(entries: Vec<ManagedFieldsEntry>) -> Option<Vec<Value>> {
        let found = ObjectMeta {
            managed_fields: Some(entries),
            uid: Some("u".to_owned()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        };
        let patch = inherit(&found, "we", |entry| is_update(entry, "") && owns_label(entry, "kept"))?;
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/uid", "value": "u"}));
        assert_eq!(patch[2]["value"], "7");
        let summary = |entry: &Value| {
            let labels: Vec<String> = entry["fieldsV1"]["f:metadata"]["f:labels"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            json!([entry["manager"], entry["operation"], labels])
        };
        Some(patch[1]["value"].as_array().unwrap().iter().map(summary).collect())
    }

    #[test]
    fn before_the_first_apply_the_predecessors_entries_become_ours() {
        let entries = vec![
            entry("peer", "Update", &["kept", "old"]),
            entry("kubectl-edit", "Update", &["mine"]),
            entry("older", "Update", &["kept", "oldest"]),
        ];
        assert_eq!(
            inherited(entries),
            Some(vec![
                json!(["kubectl-edit", "Update", ["f:mine"]]),
                json!(["we", "Apply", ["f:kept", "f:old", "f:oldest"]]),
            ])
        );
    }

    #[test]
    fn an_object_that_is_nobodys_before_us_or_ours_already_is_left_alone() {
        assert_eq!(inherited(vec![entry("kubectl-edit", "Update", &["mine"])]), None);
        assert_eq!(inherited(vec![entry("we", "Apply", &["kept"])]), None);
        let settled = vec![
            entry("we", "Apply", &["kept", "new"]),
            entry("peer", "Update", &["kept"]),
        ];
        assert_eq!(inherited(settled), None);
    }
}
