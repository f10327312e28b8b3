//! In which namespace the claim of each volume is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Names alone: of volumes, and of namespaces.
#[derive(Debug, Default)]
pub(super) struct Claims {
    namespaces: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    volumes: HashMap<Arc<str>, Arc<str>>,
}

impl Claims {
    /// A volume that is claimed in this namespace, or in none.
    pub(super) fn put(&mut self, volume: &str, namespace: Option<&str>) {
        if let Some(before) = self.volumes.remove(volume)
            && let Some(volumes) = self.namespaces.get_mut(&before)
        {
            volumes.remove(volume);
            if volumes.is_empty() {
                self.namespaces.remove(&before);
            }
        }
        if let Some(namespace) = namespace {
            let (volume, namespace): (Arc<str>, Arc<str>) = (volume.into(), namespace.into());
            self.namespaces
                .entry(namespace.clone())
                .or_default()
                .insert(volume.clone());
            self.volumes.insert(volume, namespace);
        }
    }

    /// Names of the volumes that are claimed in a namespace, sorted.
    pub(super) fn volumes_in(&self, namespace: &str) -> Vec<String> {
        let volumes = self.namespaces.get(namespace).into_iter().flatten();
        volumes.map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_found_where_they_are_claimed_now() {
        let mut claims = Claims::default();
        claims.put("b", Some("oil-one"));
        claims.put("a", Some("oil-one"));
        claims.put("a", Some("oil-one"));
        assert_eq!(claims.volumes_in("oil-one"), ["a", "b"]);
        claims.put("b", Some("oil-two"));
        claims.put("a", None);
        assert_eq!(claims.volumes_in("oil-one"), [""; 0]);
        assert_eq!(claims.volumes_in("oil-two"), ["b"]);
        claims.put("b", None);
        assert!(claims.namespaces.is_empty() && claims.volumes.is_empty());
    }
}
