//! The objects of a [`Shared`] watch by something other than their name.
//!
//! A store answers "the object of that name" at once and everything else by looking at all of them. Who asks that for each
//! object of another kind does quadratic work. An index is kept as the watch goes, before anybody hears of a change: what a
//! subscriber wakes up for is in it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::Shared;
use crate::shared::Change;

/// Namespace and name, in the order of which objects are given.
type Name = (Option<String>, String);

/// Objects by key; one object may have several. Cheap to clone.
#[derive(Debug)]
pub struct Index<K, Key> {
    known: Arc<RwLock<Known<K, Key>>>,
}

#[derive(Debug)]
struct Known<K, Key> {
    by_key: HashMap<Key, BTreeMap<Name, Arc<K>>>,
    /// Under which keys an object lies now.
    keys: HashMap<Name, Vec<Key>>,
}

impl<K, Key> Clone for Index<K, Key> {
    fn clone(&self) -> Self {
        Self {
            known: self.known.clone(),
        }
    }
}

impl<K, Key> Index<K, Key>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default + Debug + Unpin + Send + Sync,
    Key: Eq + Hash + Clone + Send + Sync + 'static,
{
    /// Follows the watch until it ends. `keys` says under which keys an object is found.
    pub fn of(watch: &Shared<K>, keys: fn(&K) -> Vec<Key>) -> Self {
        let index = Self {
            known: Arc::new(RwLock::new(Known {
                by_key: HashMap::new(),
                keys: HashMap::new(),
            })),
        };
        let known = index.known.clone();
        watch.observe(move |change| {
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.take(change, keys);
        });
        index
    }

    /// The objects under a key, ordered by namespace and name.
    pub fn get(&self, key: &Key) -> Vec<Arc<K>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .by_key
            .get(key)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }
}

impl<K: Resource, Key: Eq + Hash + Clone> Known<K, Key> {
    fn take(&mut self, change: &Change<K>, keys: fn(&K) -> Vec<Key>) {
        let object = change.object();
        let name = (object.namespace(), object.name_any());
        for key in self.keys.remove(&name).unwrap_or_default() {
            if let Some(objects) = self.by_key.get_mut(&key) {
                objects.remove(&name);
                if objects.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        if let Change::Deleted(_) = change {
            return;
        }
        let keys = keys(object);
        for key in &keys {
            let objects = self.by_key.entry(key.clone()).or_default();
            objects.insert(name.clone(), object.clone());
        }
        if !keys.is_empty() {
            self.keys.insert(name, keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(namespace: &str, name: &str, colours: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some(namespace.into());
        object.metadata.name = Some(name.into());
        object.data = Some([("colours".to_owned(), colours.to_owned())].into());
        Arc::new(object)
    }

    fn colours(object: &ConfigMap) -> Vec<String> {
        let colours = object.data.iter().filter_map(|data| data.get("colours"));
        colours
            .flat_map(|all| all.split_whitespace())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_object_is_found_under_its_present_keys_and_no_others() {
        let mut known = Known {
            by_key: HashMap::new(),
            keys: HashMap::new(),
        };
        let names = |known: &Known<ConfigMap, String>, colour: &str| -> Vec<String> {
            let found = known.by_key.get(colour).into_iter().flat_map(BTreeMap::values);
            found.map(|object| object.name_any()).collect()
        };
        known.take(&Change::Applied(object("a", "two", "red")), colours);
        known.take(&Change::Applied(object("a", "one", "red blue")), colours);
        known.take(&Change::Applied(object("b", "one", "red")), colours);
        assert_eq!(names(&known, "red"), ["one", "two", "one"]);
        known.take(&Change::Applied(object("a", "one", "green")), colours);
        assert_eq!(names(&known, "red"), ["two", "one"]);
        assert_eq!(names(&known, "green"), ["one"]);
        known.take(&Change::Deleted(object("a", "one", "red")), colours);
        known.take(&Change::Deleted(object("a", "two", "")), colours);
        known.take(&Change::Deleted(object("b", "one", "")), colours);
        assert!(
            known.by_key.is_empty() && known.keys.is_empty(),
            "nothing is left behind"
        );
    }
}
