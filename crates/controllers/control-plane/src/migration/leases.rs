//! Leases of the store that is left, and what they are in the other. Keys that expire there, events above all, expire here too.

use std::collections::{BTreeSet, HashMap};

use super::keyspace::Change;

/// What is known of leases, by their numbers in the first store.
#[derive(Default)]
pub(super) struct Leases {
    known: HashMap<i64, Option<i64>>,
}

impl Leases {
    /// Those of these changes that are not known yet.
    pub(super) fn unknown(&self, changes: &[Change]) -> BTreeSet<i64> {
        let leases = changes.iter().filter_map(|change| match change {
            Change::Put(entry) => Some(entry.lease).filter(|lease| *lease != 0),
            Change::Delete(_) => None,
        });
        leases.filter(|lease| !self.known.contains_key(lease)).collect()
    }

    /// What a lease is in the second store; `None` if it has expired.
    pub(super) fn learn(&mut self, lease: i64, there: Option<i64>) {
        self.known.insert(lease, there);
    }

    /// The changes with leases of the second store. What has expired, or is not known, is deleted there.
    pub(super) fn translate(&self, changes: Vec<Change>) -> Vec<Change> {
        let translated = changes.into_iter().map(|change| match change {
            Change::Put(mut entry) if entry.lease != 0 => match self.known.get(&entry.lease).copied().flatten() {
                Some(lease) => {
                    entry.lease = lease;
                    Change::Put(entry)
                }
                None => Change::Delete(entry.key),
            },
            unchanged => unchanged,
        });
        translated.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyspace::Entry;
    use super::*;

    #[test]
    fn keys_expire_in_the_second_store_as_in_the_first() {
        let put = |key: &str, lease| {
            Change::Put(Entry {
                key: key.into(),
                value: b"value".to_vec(),
                lease,
            })
        };
        let changes = vec![
            put("stays", 0),
            put("event", 7),
            put("gone", 8),
            Change::Delete(b"old".to_vec()),
        ];
        let mut leases = Leases::default();
        assert_eq!(leases.unknown(&changes), BTreeSet::from([7, 8]));
        leases.learn(7, Some(70));
        leases.learn(8, None);
        assert_eq!(leases.unknown(&changes), BTreeSet::new());
        assert_eq!(
            leases.translate(changes),
            [
                put("stays", 0),
                put("event", 70),
                Change::Delete(b"gone".to_vec()),
                Change::Delete(b"old".to_vec())
            ]
        );
    }
}
