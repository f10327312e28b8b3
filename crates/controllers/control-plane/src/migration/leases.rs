//! Leases of the store that is left, and what they are in the other. Keys that expire there, events above all, expire here too.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::keyspace::Change;

/// What is known of leases, by their numbers in the first store.
#[derive(Default)]
pub(super) struct Leases {
    known: HashMap<i64, Known>,
}

struct Known {
    /// `None`: it has expired.
    there: Option<i64>,
    /// Until when keys may be given it; `None` for always.
    until: Option<Instant>,
}

impl Leases {
    /// Those of these changes that are not known yet.
    pub(super) fn unknown(&self, changes: &[Change]) -> BTreeSet<i64> {
        let leases = changes.iter().filter_map(|change| match change {
            Change::Put(entry) => Some(entry.lease).filter(|lease| *lease != 0),
            Change::Delete(_) => None,
        });
        let now = Instant::now();
        let serves = |known: &Known| known.until.is_none_or(|until| now < until);
        leases
            .filter(|lease| !self.known.get(lease).is_some_and(serves))
            .collect()
    }

    /// What a lease is in the second store, `None` if it has expired; and for how long keys may be given it. Behind kine a
    /// number stands for all leases of as many seconds, also for those that begin when this one has ended.
    pub(super) fn learn(&mut self, lease: i64, there: Option<i64>, serves: Option<Duration>) {
        let until = serves.map(|serves| Instant::now() + serves);
        self.known.insert(lease, Known { there, until });
    }

    /// The changes with leases of the second store. What has expired, or is not known, is deleted there.
    pub(super) fn translate(&self, changes: Vec<Change>) -> Vec<Change> {
        let translated = changes.into_iter().map(|change| match change {
            Change::Put(mut entry) if entry.lease != 0 => {
                match self.known.get(&entry.lease).and_then(|known| known.there) {
                    Some(lease) => {
                        entry.lease = lease;
                        Change::Put(entry)
                    }
                    None => Change::Delete(entry.key),
                }
            }
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
        leases.learn(7, Some(70), None);
        leases.learn(8, None, None);
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
    #[test]
    fn a_lease_that_stands_for_many_is_asked_for_again() {
        let event = vec![Change::Put(Entry {
            key: b"event".to_vec(),
            value: Vec::new(),
            lease: 15,
        })];
        let mut leases = Leases::default();
        leases.learn(15, Some(70), Some(Duration::from_mins(1)));
        assert_eq!(leases.unknown(&event), BTreeSet::new());
        leases.learn(15, Some(70), Some(Duration::ZERO));
        assert_eq!(leases.unknown(&event), BTreeSet::from([15]));
    }
}
