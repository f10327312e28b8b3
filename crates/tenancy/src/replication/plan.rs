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

/// What could not be made in full. What is there already stays as it is: it may be what is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The replication.
    All,
    /// What it makes for a tenant.
    Tenant(String),
    /// What it makes for a tenant in a namespace.
    Namespace(String, String),
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// By what one tenant gets; others may go on.
    Tenant(String),
    /// By the whole replication.
    All(String),
}

/// Problems that are kept in words.
const PROBLEMS: usize = 200;

/// All objects that are wanted. Of several of one origin the last counts: written one after the other under one field manager,
/// each replaces the one before.
#[derive(Debug, Default)]
pub struct Wanted {
    items: BTreeMap<ItemKey, Placed>,
    bytes: usize,
    /// Whether several tenants get something, so that each has limits of its own.
    is_shared: bool,
    /// Objects and bytes by tenant.
    tenants: BTreeMap<String, (usize, usize)>,
    problems: Vec<String>,
    unsure: BTreeSet<Part>,
}

impl Wanted {
    /// Nothing yet, for so many tenants.
    pub fn of(tenants: usize) -> Self {
        Self {
            is_shared: tenants > 1,
            ..Self::default()
        }
    }

    /// What could not be made, in words for people.
    pub fn note(&mut self, part: Part, problem: String) {
        self.unsure.insert(part);
        if self.problems.len() < PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// What could not be made, the first of it.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn is_unsure(&self, item: &ProcessedItem) -> bool {
        let of = |part: Part| self.unsure.contains(&part);
        !self.unsure.is_empty()
            && (of(Part::All)
                || of(Part::Tenant(item.tenant.clone()))
                || of(Part::Namespace(item.tenant.clone(), item.namespace.clone())))
    }

    /// One more.
    ///
    /// # Errors
    /// If there are too many.
    pub fn add(&mut self, tenant: &str, origin: String, placed: Placed) -> Result<(), Full> {
        let key = ItemKey {
            tenant: tenant.to_owned(),
            namespace: placed.namespace.clone(),
            kind: placed.kind.clone(),
            name: placed.name.clone(),
            origin,
        };
        let (bytes, is_new) = (placed.object.to_string().len(), !self.items.contains_key(&key));
        let held = self.tenants.entry(tenant.to_owned()).or_default();
        let (objects_held, bytes_held) = (held.0 + usize::from(is_new), held.1 + bytes);
        if self.is_shared && objects_held > limits::OBJECTS_OF_A_TENANT {
            return Err(Full::Tenant(format!(
                "more than {} objects are asked for tenant {tenant}",
                limits::OBJECTS_OF_A_TENANT
            )));
        }
        if self.is_shared && bytes_held > limits::BYTES_OF_A_TENANT {
            return Err(Full::Tenant(format!(
                "the objects of tenant {tenant} have more than {} bytes together",
                limits::BYTES_OF_A_TENANT
            )));
        }
        if self.bytes + bytes > limits::ALL_BYTES {
            return Err(Full::All(format!(
                "the objects have more than {} bytes together",
                limits::ALL_BYTES
            )));
        }
        if is_new && self.items.len() >= limits::OBJECTS {
            return Err(Full::All(format!(
                "more than {} objects are asked for",
                limits::OBJECTS
            )));
        }
        *held = (objects_held, bytes_held);
        self.bytes += bytes;
        self.items.insert(key, placed);
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
    let (kept, gone): (Vec<_>, Vec<_>) = gone.partition(|item| wanted.is_unsure(item));
    let keys: Vec<_> = kept.iter().map(|item| ItemKey::of(item)).collect();
    let objects: BTreeSet<_> = wanted.items.keys().chain(&keys).map(ItemKey::object).collect();
    let removals = gone.into_iter().map(|item| Removal {
        item: item.clone(),
        is_shared: objects.contains(&ItemKey::of(item).object()),
    });
    (removals.collect(), kept.into_iter().cloned().collect())
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
        let problem = || "the source could not be read".to_owned();
        let here = Part::Namespace("oil".to_owned(), "oil-a".to_owned());
        for part in [Part::All, Part::Tenant("oil".to_owned()), here] {
            let mut wanted = Wanted::default();
            wanted.note(part, problem());
            let (removals, kept) = removals(&wanted, &[item("b", "replica")]);
            assert!(removals.is_empty());
            assert_eq!(kept, [item("b", "replica")]);
        }
        let elsewhere = Part::Namespace("oil".to_owned(), "oil-b".to_owned());
        for part in [Part::Tenant("gas".to_owned()), elsewhere] {
            let mut wanted = Wanted::default();
            wanted.note(part, problem());
            let (removals, kept) = removals(&wanted, &[item("b", "replica")]);
            assert_eq!((removals.len(), kept.len()), (1, 0));
        }
    }

    #[test]
    fn a_tenant_that_asks_for_too_much_leaves_room_for_others() {
        let mut wanted = Wanted::of(2);
        for number in 0..limits::OBJECTS_OF_A_TENANT {
            wanted
                .add("oil", "replica".to_owned(), placed(&number.to_string()))
                .unwrap();
        }
        let refused = wanted.add("oil", "replica".to_owned(), placed("more"));
        assert!(
            matches!(&refused, Err(Full::Tenant(words)) if words.contains("tenant oil")),
            "{refused:?}"
        );
        wanted.add("gas", "replica".to_owned(), placed("more")).unwrap();
        assert_eq!(wanted.items().len(), limits::OBJECTS_OF_A_TENANT + 1);
    }

    #[test]
    fn there_is_an_end_to_what_can_be_asked_for() {
        let mut wanted = Wanted::default();
        for number in 0..limits::OBJECTS {
            wanted
                .add("oil", "replica".to_owned(), placed(&number.to_string()))
                .unwrap();
        }
        let refused = wanted.add("oil", "replica".to_owned(), placed("more"));
        assert!(
            matches!(&refused, Err(Full::All(words)) if words.contains("3000")),
            "{refused:?}"
        );
    }
}
