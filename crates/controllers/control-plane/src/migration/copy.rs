//! Making one etcd's keyspace what another's is: all of it at one revision, then change by change, and the comparison at the end.

use std::collections::BTreeMap;

use super::error::Error;
use super::following::Following;
use super::keyspace::{Change, Entry, Keyspace};
use super::leases::Leases;

/// From where to where.
pub(super) struct Transfer {
    pub(super) source: Keyspace,
    pub(super) target: Keyspace,
    leases: Leases,
}

impl Transfer {
    pub(super) fn new(source: Keyspace, target: Keyspace) -> Self {
        Self {
            source,
            target,
            leases: Leases::default(),
        }
    }

    /// Makes the target what the source was at a revision, whatever it was before. Gives how many keys that is.
    pub(super) async fn bring(&mut self, revision: i64) -> Result<usize, Error> {
        let mut keys = 0;
        let mut walk = Walk::new(self.source.range(), revision);
        while let Some((here, there)) = walk.next(self).await? {
            keys += here.len();
            self.write(changes(&here, &there)).await?;
        }
        Ok(keys)
    }

    /// Compares every key and value. What expires may be gone on one side.
    ///
    /// # Errors
    /// When anything differs.
    pub(super) async fn compare(&self, revision: i64) -> Result<usize, Error> {
        let (mut keys, mut count, mut first) = (0, 0, None);
        let mut walk = Walk::new(self.source.range(), revision);
        while let Some((here, there)) = walk.next(self).await? {
            keys += here.len();
            for key in differences(&here, &there) {
                count += 1;
                first.get_or_insert_with(|| String::from_utf8_lossy(&key).into_owned());
            }
        }
        match first {
            None => Ok(keys),
            Some(first) => Err(Error::Different { count, first }),
        }
    }

    /// Copies changes until the mark that is set now is told of. Gives how many there were.
    pub(super) async fn follow(&mut self, following: &mut Following) -> Result<(usize, i64), Error> {
        let mark = self.source.mark().await?;
        let mut count = 0;
        loop {
            let (changes, marked) = following.next(&self.source, mark).await?;
            count += changes.len();
            self.write(changes).await?;
            if marked {
                return Ok((count, mark));
            }
        }
    }

    async fn write(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        for lease in self.leases.unknown(&changes) {
            let granted = match self.source.time_to_live(lease).await? {
                Some(seconds) => Some(self.target.grant(seconds).await?),
                None => None,
            };
            self.leases.learn(lease, granted, None);
        }
        self.target.write(self.leases.translate(changes)).await
    }
}

/// Both sides, one stretch of keys after another, so that no more than a page of each is held at a time.
struct Walk {
    revision: i64,
    at: Vec<u8>,
    end: Vec<u8>,
    /// What is left of the source's last page, and up to where it goes.
    here: Vec<Entry>,
    upto: Vec<u8>,
}

impl Walk {
    fn new((first, end): (Vec<u8>, Vec<u8>), revision: i64) -> Self {
        Self {
            revision,
            at: first.clone(),
            end,
            here: Vec::new(),
            upto: first,
        }
    }

    /// What the source was and what the target is in the next stretch.
    async fn next(&mut self, of: &Transfer) -> Result<Option<(Vec<Entry>, Vec<Entry>)>, Error> {
        if self.at == self.end {
            return Ok(None);
        }
        if self.at == self.upto {
            let (mut page, next) = of.source.page(&self.at, &self.end, self.revision).await?;
            let marker = of.source.marker();
            page.retain(|entry| entry.key != marker);
            self.here = page;
            self.upto = next.unwrap_or_else(|| self.end.clone());
        }
        let (there, next) = of.target.page(&self.at, &self.upto, 0).await?;
        let until = next.unwrap_or_else(|| self.upto.clone());
        let rest = self.here.partition_point(|entry| entry.key < until);
        let rest = self.here.split_off(rest);
        let here = std::mem::replace(&mut self.here, rest);
        self.at = until;
        Ok(Some((here, there)))
    }
}

fn by_key(entries: &[Entry]) -> BTreeMap<&[u8], &Entry> {
    entries.iter().map(|entry| (entry.key.as_slice(), entry)).collect()
}

/// What makes `there` what `here` is. Whether a key expires counts, under which lease does not.
fn changes(here: &[Entry], there: &[Entry]) -> Vec<Change> {
    let (wanted, known) = (by_key(here), by_key(there));
    let same = |one: &Entry, other: &Entry| one.value == other.value && (one.lease == 0) == (other.lease == 0);
    let puts = here
        .iter()
        .filter(|entry| known.get(entry.key.as_slice()).is_none_or(|known| !same(entry, known)))
        .map(|entry| Change::Put(entry.clone()));
    let deletes = there
        .iter()
        .filter(|entry| !wanted.contains_key(entry.key.as_slice()))
        .map(|entry| Change::Delete(entry.key.clone()));
    puts.chain(deletes).collect()
}

/// Keys whose values differ, or that are only on one side although they do not expire.
pub(super) fn differences(here: &[Entry], there: &[Entry]) -> Vec<Vec<u8>> {
    let (wanted, known) = (by_key(here), by_key(there));
    let missing = |entry: &&Entry, other: &BTreeMap<&[u8], &Entry>| match other.get(entry.key.as_slice()) {
        Some(other) => other.value != entry.value,
        None => entry.lease == 0,
    };
    let mut keys: Vec<Vec<u8>> = here
        .iter()
        .filter(|entry| missing(entry, &known))
        .chain(
            there
                .iter()
                .filter(|entry| !wanted.contains_key(entry.key.as_slice()) && entry.lease == 0),
        )
        .map(|entry| entry.key.clone())
        .collect();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: u8, value: u8, lease: i64) -> Entry {
        Entry {
            key: vec![key],
            value: vec![value],
            lease,
        }
    }

    fn applied(there: &[Entry], changes: &[Change]) -> Vec<Entry> {
        let mut state: BTreeMap<Vec<u8>, Entry> =
            there.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
        for change in changes {
            match change {
                Change::Put(entry) => drop(state.insert(entry.key.clone(), entry.clone())),
                Change::Delete(key) => drop(state.remove(key)),
            }
        }
        state.into_values().collect()
    }

    fn keyspaces() -> impl Strategy<Value = Vec<Entry>> {
        let entries = prop::collection::btree_map(0_u8..8, (0_u8..3, 0_i64..3), 0..8);
        entries.prop_map(|entries| {
            let entries = entries.into_iter();
            entries.map(|(key, (value, lease))| entry(key, value, lease)).collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_is_there_becomes_what_is_here(here in keyspaces(), there in keyspaces()) {
            let changes = changes(&here, &there);
            let result = applied(&there, &changes);
            prop_assert_eq!(differences(&here, &result), Vec::<Vec<u8>>::new());
            prop_assert_eq!(super::changes(&here, &result), vec![]);
            let keys = |entries: &[Entry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
            prop_assert_eq!(keys(&here), keys(&result));
        }
    }

    #[test]
    fn only_what_expires_may_be_gone() {
        let key = |key: u8| vec![vec![key]];
        assert_eq!(differences(&[entry(1, 0, 0)], &[]), key(1));
        assert_eq!(differences(&[], &[entry(1, 0, 0)]), key(1));
        assert_eq!(differences(&[entry(1, 0, 7)], &[]), Vec::<Vec<u8>>::new());
        assert_eq!(differences(&[], &[entry(1, 0, 7)]), Vec::<Vec<u8>>::new());
        assert_eq!(differences(&[entry(1, 0, 7)], &[entry(1, 1, 9)]), key(1));
        assert_eq!(differences(&[entry(1, 0, 7)], &[entry(1, 0, 9)]), Vec::<Vec<u8>>::new());
    }
}
