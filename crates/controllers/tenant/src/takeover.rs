//! Fields of objects that were kept by another operator before us, by an earlier version of ours, or that we created.
//!
//! Their fields become ours, see [`runtime::field_managers`]. That takes two more requests per object, once, and only where
//! there is something to remove: an object that says what it should is not written for the sake of its entries. The API server
//! takes no entries with a status; one that says more than ours is replaced.
//!
//! Predecessors are known by what they wrote, because the API server names an updater after its program's file. Fields
//! of people and of other programs stay theirs.

use api::capsule::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use runtime::field_managers;
use serde_json::Value;

/// The JSON patch that moves predecessors' fields of an object that is kept for a tenant into our entry, if they own some that
/// we do not. `found` is the answer to an apply, whose version the patch is for.
pub(crate) fn patch(found: &ObjectMeta) -> Option<Value> {
    field_managers::patch(found, names::FIELD_MANAGER, is_predecessor)
}

/// Whether a status that we have just applied says more than that, by what somebody wrote with a plain update. For kinds whose status
/// is the operator's alone.
pub(crate) fn is_mixed(found: &ObjectMeta) -> bool {
    field_managers::is_status_mixed(found, names::FIELD_MANAGER)
}

/// Admission leaves the label to operators and administrators.
fn is_predecessor(entry: &ManagedFieldsEntry) -> bool {
    let known = [names::FIELD_MANAGER, names::RESOURCE_FIELD_MANAGER];
    let is_known = entry.manager.as_deref().is_some_and(|name| known.contains(&name));
    field_managers::is_update(entry, "") && (is_known || field_managers::owns_label(entry, names::MANAGED_BY_LABEL))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    type Fields = Map<String, Value>;

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
        let left = field_managers::moved(entries, names::FIELD_MANAGER, is_predecessor)?.into_iter();
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
