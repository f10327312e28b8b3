//! What counts as a change by others.
//!
//! What we write ourselves does not: a change whose newest manager is us is passed over. Neither does what only looks
//! like ours: names are compared with those that are kept, because whoever may write a tenant's objects could otherwise
//! have passes made at will. For the same reason whoever is told should wait [`super::SETTLE`] before a pass. Nor does the
//! status of a Deployment or DaemonSet, which moves with every node: while the generation stands, nobody has changed what
//! is ours.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::FIELD_MANAGER;

/// How far an object was when it was last seen.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    uid: Option<String>,
    generation: Option<i64>,
    version: Option<String>,
}

impl Mark {
    fn of(object: &ObjectMeta) -> Self {
        Self {
            uid: object.uid.clone(),
            generation: object.generation,
            version: object.resource_version.clone(),
        }
    }

    fn stands(&self, before: &Self) -> bool {
        let generation = self.generation.is_some() && self.generation == before.generation;
        self.uid == before.uid && (generation || self.version == before.version)
    }
}

/// What was seen of the objects of one watch whose names are kept. Gives whether what it is shown is drift.
#[derive(Debug)]
pub(super) struct Seen {
    kept: BTreeSet<String>,
    /// `None` before the first list, which begins and reports nothing.
    marks: Option<HashMap<String, Mark>>,
}

impl Seen {
    pub(super) fn new(kept: BTreeSet<String>) -> Self {
        Self { kept, marks: None }
    }

    /// The name, when there is no other.
    pub(super) fn only(&self) -> Option<&str> {
        let first = self.kept.first().filter(|_| self.kept.len() == 1);
        first.map(String::as_str)
    }

    /// All that there is now.
    pub(super) fn list<'a>(&mut self, objects: impl IntoIterator<Item = &'a ObjectMeta>) -> bool {
        let before = self.marks.take();
        let mut now = HashMap::new();
        let mut drifted = false;
        for object in objects {
            let Some(name) = self.kept(object) else {
                continue;
            };
            let mark = Mark::of(object);
            if let Some(before) = &before {
                let stands = before.get(name).is_some_and(|before| mark.stands(before));
                drifted |= !stands && !written_by_us(object);
            }
            now.insert(name.to_owned(), mark);
        }
        drifted |= before.is_some_and(|before| before.keys().any(|name| !now.contains_key(name)));
        self.marks = Some(now);
        drifted
    }

    /// An object that was made or changed.
    pub(super) fn written(&mut self, object: &ObjectMeta) -> bool {
        let Some(name) = self.kept(object) else {
            return false;
        };
        let (name, mark) = (name.to_owned(), Mark::of(object));
        let marks = self.marks.get_or_insert_default();
        let stands = marks.get(&name).is_some_and(|before| mark.stands(before));
        marks.insert(name, mark);
        !stands && !written_by_us(object)
    }

    pub(super) fn deleted(&mut self, object: &ObjectMeta) -> bool {
        let Some(name) = self.kept(object) else {
            return false;
        };
        if let Some(marks) = &mut self.marks {
            marks.remove(name);
        }
        true
    }

    /// The object's name, if it is kept.
    pub(super) fn kept<'a>(&self, object: &'a ObjectMeta) -> Option<&'a str> {
        object.name.as_deref().filter(|name| self.kept.contains(*name))
    }
}

/// Whether the latest entry of the managed fields is ours, and no other of the same second.
fn written_by_us(object: &ObjectMeta) -> bool {
    let entries = object.managed_fields.as_deref().unwrap_or_default();
    let latest = entries
        .iter()
        .filter_map(|entry| entry.time.as_ref())
        .map(|time| time.0)
        .max();
    latest.is_some()
        && entries
            .iter()
            .filter(|entry| entry.time.as_ref().map(|time| time.0) == latest)
            .all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: &str, generation: Option<i64>, manager: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": name, "resourceVersion": version, "generation": generation,
            "managedFields": [
                {"manager": "someone", "time": "2026-01-01T00:00:00Z"},
                {"manager": manager, "time": "2026-01-01T00:00:01Z"},
            ],
        }))
        .unwrap()
    }

    fn seen(objects: &[ObjectMeta]) -> Seen {
        let mut seen = Seen::new(["coredns", "kube-proxy"].map(str::to_owned).into());
        assert!(!seen.list(objects), "what is there at the start is no news");
        seen
    }

    #[test]
    fn others_changes_of_what_is_kept_are_drift_and_no_other() {
        let mut seen = seen(&[object("coredns", "5", Some(1), FIELD_MANAGER)]);
        assert!(!seen.written(&object("coredns", "6", Some(1), "kubelet")), "a status");
        assert!(!seen.written(&object("coredns", "7", Some(2), FIELD_MANAGER)), "ours");
        assert!(seen.written(&object("coredns", "8", Some(3), "kubectl")));
        assert!(!seen.written(&object("other", "9", Some(1), "kubectl")), "not kept");
        assert!(!seen.deleted(&object("other", "10", Some(1), "kubectl")));
        assert!(seen.deleted(&object("coredns", "11", Some(3), "kubectl")));
        assert!(
            !seen.written(&object("coredns", "12", Some(1), FIELD_MANAGER)),
            "put back"
        );
        assert!(seen.written(&object("kube-proxy", "13", None, "kubectl")));
    }

    #[test]
    fn what_happened_between_two_lists_is_drift_too() {
        let stands = object("coredns", "5", None, "kubectl");
        let mut seen = seen(std::slice::from_ref(&stands));
        assert!(!seen.list([&stands]), "whoever wrote it, it is as it was");
        assert!(seen.list([&object("coredns", "6", None, "kubectl")]));
        assert!(!seen.list([&object("coredns", "7", None, FIELD_MANAGER)]), "ours");
        assert!(seen.list([]), "it is gone");
        assert!(!seen.list([]), "known to be gone");
        assert!(seen.list([&object("coredns", "8", None, "kubectl")]), "made by another");
    }

    #[test]
    fn what_was_made_again_is_not_what_it_was() {
        let made_again = |uid: &str, version: &str| ObjectMeta {
            uid: Some(uid.to_owned()),
            ..object("coredns", version, Some(1), "kubectl")
        };
        let mut seen = seen(&[made_again("a", "5")]);
        assert!(!seen.list([&made_again("a", "6")]), "a status");
        assert!(
            seen.list([&made_again("b", "7")]),
            "the first generation of another object"
        );
    }
}
