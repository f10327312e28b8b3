//! What a replication writes, and what of what it wrote before has to go.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::v1beta2::ProcessedItem;

use super::limits;
use super::object::{Kind, Placed};

/// One object of one origin: what a processed item is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The tenant that it is for.
    pub tenant: String,
    /// The object's namespace, empty if its kind has none.
    pub namespace: String,
    /// The object's kind.
    pub kind: Kind,
    /// The object's name.
    pub name: String,
    /// What asks for it.
    pub origin: String,
}

impl ItemKey {
    /// Of an item in a status.
    pub fn of(item: &ProcessedItem) -> Self {
        Self {
            tenant: item.tenant.clone(),
            namespace: item.namespace.clone(),
            kind: Kind {
                group: item.group.clone(),
                version: item.version.clone(),
                kind: item.kind.clone(),
            },
            name: item.name.clone(),
            origin: item.origin.clone(),
        }
    }

    /// As a status has it, nothing known yet.
    pub fn item(&self) -> ProcessedItem {
        ProcessedItem {
            group: self.kind.group.clone(),
            version: self.kind.version.clone(),
            kind: self.kind.kind.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            tenant: self.tenant.clone(),
            origin: self.origin.clone(),
            status: None,
        }
    }

    /// The object alone. Its version does not matter: it is the same object in each.
    fn object(&self) -> (&str, &str, &str, &str) {
        (&self.kind.group, &self.kind.kind, &self.namespace, &self.name)
    }
}

impl std::fmt::Display for ItemKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind.kind)?;
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// All objects that are wanted. Of several of one origin the last counts: written one after the other under one field manager,
/// each replaces the one before.
#[derive(Debug, Default)]
pub struct Wanted {
    items: BTreeMap<ItemKey, Placed>,
    bytes: usize,
    /// What could not be made, for people. While there is something nothing is removed: it may be what is missing.
    pub problems: Vec<String>,
}

impl Wanted {
    /// One more.
    ///
    /// # Errors
    /// If there are too many.
    pub fn add(&mut self, tenant: &str, origin: String, placed: Placed) -> Result<(), String> {
        let key = ItemKey {
            tenant: tenant.to_owned(),
            namespace: placed.namespace.clone(),
            kind: placed.kind.clone(),
            name: placed.name.clone(),
            origin,
        };
        self.bytes += placed.object.to_string().len();
        if self.bytes > limits::ALL_BYTES {
            return Err(format!(
                "the objects have more than {} bytes together",
                limits::ALL_BYTES
            ));
        }
        self.items.insert(key, placed);
        if self.items.len() > limits::OBJECTS {
            return Err(format!("more than {} objects are asked for", limits::OBJECTS));
        }
        Ok(())
    }

    /// What is wanted, in order.
    pub fn items(&self) -> &BTreeMap<ItemKey, Placed> {
        &self.items
    }
}

/// An item to give up.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The item as it was.
    pub item: ProcessedItem,
    /// Whether the object is still wanted by another origin, and so stays with its marks.
    pub is_shared: bool,
}

/// What of the items of the last time has to go, and what stays as it was because nothing is removed now.
pub fn removals(wanted: &Wanted, before: &[ProcessedItem]) -> (Vec<Removal>, Vec<ProcessedItem>) {
    let gone = before
        .iter()
        .filter(|item| !wanted.items.contains_key(&ItemKey::of(item)));
    if !wanted.problems.is_empty() {
        return (Vec::new(), gone.cloned().collect());
    }
    let objects: BTreeSet<_> = wanted.items.keys().map(ItemKey::object).collect();
    let removals = gone.map(|item| Removal {
        item: item.clone(),
        is_shared: objects.contains(&ItemKey::of(item).object()),
    });
    (removals.collect(), Vec::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placed(name: &str) -> Placed {
        Placed {
            kind: Kind {
                group: String::new(),
                version: "v1".to_owned(),
                kind: "Secret".to_owned(),
            },
            namespace: "oil-a".to_owned(),
            name: name.to_owned(),
            object: json!({"name": name}),
        }
    }

    fn item(name: &str, origin: &str) -> ProcessedItem {
        ProcessedItem {
            version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            namespace: "oil-a".to_owned(),
            tenant: "oil".to_owned(),
            name: name.to_owned(),
            origin: origin.to_owned(),
            ..ProcessedItem::default()
        }
    }

    #[test]
    fn what_is_wanted_no_more_goes_and_what_another_origin_wants_is_shared() {
        let mut wanted = Wanted::default();
        wanted.add("oil", "0/raw-0".to_owned(), placed("a")).unwrap();
        let before = [item("a", "0/raw-0"), item("a", "0/raw-1"), item("b", "0/raw-0")];
        let (removals, kept) = removals(&wanted, &before);
        let removed: Vec<_> = removals
            .iter()
            .map(|it| (it.item.name.as_str(), it.is_shared))
            .collect();
        assert_eq!(removed, [("a", true), ("b", false)]);
        assert!(kept.is_empty());
    }

    #[test]
    fn nothing_goes_while_something_could_not_be_made() {
        let wanted = Wanted {
            problems: vec!["the source could not be read".to_owned()],
            ..Wanted::default()
        };
        let (removals, kept) = removals(&wanted, &[item("b", "replica")]);
        assert!(removals.is_empty());
        assert_eq!(kept, [item("b", "replica")]);
    }

    #[test]
    fn there_is_an_end_to_what_can_be_asked_for() {
        let mut wanted = Wanted::default();
        for number in 0..limits::OBJECTS {
            wanted
                .add("oil", "replica".to_owned(), placed(&number.to_string()))
                .unwrap();
        }
        assert!(
            wanted
                .add("oil", "replica".to_owned(), placed("more"))
                .unwrap_err()
                .contains("3000")
        );
    }
}
