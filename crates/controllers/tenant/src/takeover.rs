//! Fields of objects that were kept by another operator before us, by an earlier version of ours, or that we created.
//!
//! Who writes an object by plain updates owns its fields in entries of the operation `Update`. Beside such an entry our own applies
//! remove nothing: a field that we let go of stays, because it is still the other's. So what is in entries of a predecessor is
//! moved into ours, as Kubernetes' client library does it when a program changes from updates to applies (`csaupgrade` of
//! client-go), and the next apply removes what is not wanted. That takes two more requests per object, once, and only where
//! there is something to remove: an object that says what it should is not written for the sake of its entries. The API server
//! takes no entries with a status; one that says more than ours is replaced.
//!
//! Predecessors are known by what they wrote, because the API server names an updater after its program's file. Fields
//! of people and of other programs stay theirs.

use api::capsule::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// The JSON patch that moves predecessors' fields of an object that is kept for a tenant into our entry, if they own some that
/// we do not. `found` is the answer to an apply, whose version the patch is for: it is refused with a conflict if the object
/// has changed since.
pub(crate) fn patch(found: &ObjectMeta) -> Option<Value> {
    let entries = moved(found.managed_fields.as_deref().unwrap_or_default())?;
    Some(json!([
        {"op": "test", "path": "/metadata/uid", "value": found.uid},
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": found.resource_version},
    ]))
}

/// Whether a status that we have just applied says more than that, by what somebody wrote with a plain update. For kinds whose status
/// is the operator's alone.
pub(crate) fn is_mixed(found: &ObjectMeta) -> bool {
    let entries = found.managed_fields.as_deref().unwrap_or_default();
    let Some(ours) = entries.iter().find(|entry| is_ours(entry, "status")) else {
        return false;
    };
    let mut known = fields(ours).cloned().unwrap_or_default();
    let others = entries.iter().filter(|entry| is_update(entry, "status"));
    others.filter_map(fields).any(|more| unite(&mut known, more))
}

/// All entries after the move. `None` if there is nothing to move.
fn moved(entries: &[ManagedFieldsEntry]) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = entries.iter().find(|entry| is_ours(entry, ""))?;
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

fn is_ours(entry: &ManagedFieldsEntry, subresource: &str) -> bool {
    entry.operation.as_deref() == Some("Apply")
        && entry.manager.as_deref() == Some(names::FIELD_MANAGER)
        && entry.subresource.as_deref().unwrap_or_default() == subresource
}

fn is_update(entry: &ManagedFieldsEntry, subresource: &str) -> bool {
    entry.operation.as_deref() == Some("Update") && entry.subresource.as_deref().unwrap_or_default() == subresource
}

fn is_predecessor(entry: &ManagedFieldsEntry) -> bool {
    let known = [names::FIELD_MANAGER, names::RESOURCE_FIELD_MANAGER];
    let is_known = entry.manager.as_deref().is_some_and(|name| known.contains(&name));
    is_update(entry, "") && (is_known || says_that_it_keeps_the_object(entry))
}

/// Whether the entry's author wrote the label of what the operator keeps. Admission leaves it to operators and administrators.
fn says_that_it_keeps_the_object(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let labels = fields.and_then(|fields| fields.pointer("/f:metadata/f:labels"));
    labels.is_some_and(|labels| labels.get(format!("f:{}", names::MANAGED_BY_LABEL)).is_some())
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
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, subresource: &str, fields: Value) -> ManagedFieldsEntry {
        let subresource = Some(subresource).filter(|name| !name.is_empty());
        serde_json::from_value(
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "subresource": subresource, "fieldsV1": fields}),
        )
        .unwrap()
    }

    fn labels(names: &[&str]) -> Value {
        let mut fields = json!({"f:metadata": {"f:labels": {".": {}}}});
        for name in names {
            fields["f:metadata"]["f:labels"][format!("f:{name}")] = json!({});
        }
        fields
    }

    const KEPT: &str = "projectcapsule.dev/managed-by";

    /// Managers that are left, with their fields.
    fn after(entries: &[ManagedFieldsEntry]) -> Option<Vec<(String, Value)>> {
        let left = moved(entries)?.into_iter();
        Some(
            left.map(|entry| (entry.manager.unwrap_or_default(), entry.fields_v1.unwrap().0))
                .collect(),
        )
    }

    fn ours(names: &[&str]) -> ManagedFieldsEntry {
        entry(names::FIELD_MANAGER, "Apply", "", labels(names))
    }

    #[test]
    fn what_a_predecessor_has_beside_us_becomes_ours() {
        let theirs = entry("some-program", "Update", "", labels(&[KEPT, "old"]));
        assert_eq!(
            after(&[theirs, ours(&[KEPT, "new"])]),
            Some(vec![(names::FIELD_MANAGER.to_owned(), labels(&[KEPT, "old", "new"]))])
        );
    }

    #[test]
    fn names_that_the_peer_gives_itself_are_predecessors_whatever_they_wrote() {
        for name in [names::FIELD_MANAGER, names::RESOURCE_FIELD_MANAGER] {
            let theirs = entry(name, "Update", "", labels(&["old"]));
            assert_eq!(
                after(&[ours(&[KEPT]), theirs]),
                Some(vec![(names::FIELD_MANAGER.to_owned(), labels(&[KEPT, "old"]))])
            );
        }
    }

    #[test]
    fn people_and_other_programs_keep_what_is_theirs() {
        let others = [
            entry("kubectl-edit", "Update", "", labels(&["old"])),
            entry("argocd", "Apply", "", labels(&[KEPT, "old"])),
            entry(
                "kube-controller-manager",
                "Update",
                "status",
                json!({"f:status": {"f:used": {}}}),
            ),
        ];
        let mut entries = others.to_vec();
        entries.push(ours(&[KEPT]));
        assert_eq!(after(&entries), None);
        entries.push(entry("some-program", "Update", "", labels(&[KEPT, "older"])));
        let left = after(&entries).unwrap();
        let managers: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            managers,
            [
                "kubectl-edit",
                "argocd",
                "kube-controller-manager",
                names::FIELD_MANAGER
            ]
        );
    }

    #[test]
    fn an_entry_without_anything_of_its_own_is_not_worth_a_write() {
        let theirs = entry("some-program", "Update", "", labels(&[KEPT]));
        assert_eq!(after(&[ours(&[KEPT, "new"]), theirs]), None);
    }

    #[test]
    fn before_our_first_apply_there_is_nothing_to_move_to() {
        assert_eq!(after(&[entry("some-program", "Update", "", labels(&[KEPT]))]), None);
    }

    #[test]
    fn fields_of_another_version_stay() {
        let mut theirs = entry("some-program", "Update", "", labels(&[KEPT, "old"]));
        theirs.api_version = Some("v0".to_owned());
        assert_eq!(after(&[theirs, ours(&[KEPT])]), None);
    }

    #[test]
    fn a_status_is_ours_whoever_wrote_it() {
        let state = |names: &[&str]| {
            let fields: Fields = names.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
            json!({"f:status": fields})
        };
        let theirs = |names: &[&str]| entry("manager", "Update", "status", state(names));
        let ours = entry(names::FIELD_MANAGER, "Apply", "status", state(&["state", "size"]));
        let about_something_else = entry("manager", "Update", "", labels(&["old"]));
        let rows = [
            (vec![theirs(&["state", "classes"]), ours.clone()], true),
            (vec![theirs(&["state"]), ours.clone(), about_something_else], false),
            (vec![ours], false),
            (vec![theirs(&["state"])], false),
        ];
        for (entries, expected) in rows {
            let found = ObjectMeta {
                managed_fields: Some(entries),
                ..ObjectMeta::default()
            };
            assert_eq!(is_mixed(&found), expected, "{found:?}");
        }
    }
}
