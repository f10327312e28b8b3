//! How much of what was promised is over, where counts are totals that tell no objects apart.
//!
//! # Flow
//! A rise between two counts is the least that has arrived. What is made and deleted within one count, or arrives while something
//! else goes, is in no rise. So promises are remembered by the UID of their object, and one whose object is known to be
//! deleted is over. What is to be [taken off](Ledger::deduct) the ledger is the larger of both sums since the beginning.
//!
//! # Guarantees
//! Each sum is of requests that are over, each of them once. The larger one is therefore never more than all of them,
//! also when both have the same requests in them, in whatever order rises and deletions are seen. What is over need not be
//! taken off its own promise: [`super::credit`] says why. The larger one is never less than the rises alone.
//!
//! The beginning is a look at a ledger; what is promised there already goes by rises and by its end alone. Another look is the
//! beginning when the ledger was counted, or a promise taken off it, by somebody else; and when nothing is promised, so
//! that sums of long ago hide nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{amounts::Amounts, ledger::Ledger};

/// What is known of the requests that one ledger promised something to.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// As it was looked at or written last.
    ledger: Option<Ledger>,
    /// By id of the promise, those made since the beginning whose object may come and go still.
    open: BTreeMap<String, Open>,
    /// What objects were promised that are deleted, since the beginning.
    deleted: Amounts,
    /// What rose.
    rises: Amounts,
    /// What was taken off.
    deducted: Amounts,
}

#[derive(Clone, Debug)]
struct Open {
    /// Of the object.
    uid: String,
    delta: Amounts,
    expires_at: Timestamp,
}

impl Arrivals {
    /// Looks at the ledger before a count is taken in: remembers new promises, and forgets those whose end is past.
    pub fn look(&mut self, ledger: &Ledger, now: Timestamp) {
        let known = self.ledger.take().filter(|known| has_all_of(ledger, known));
        if let Some(known) = known {
            let before: BTreeSet<&str> = known.reservations.iter().map(|it| it.id.as_str()).collect();
            for it in ledger.reservations.iter().filter(|it| !before.contains(it.id.as_str())) {
                let open = Open {
                    uid: it.object.uid.clone(),
                    delta: it.delta.clone(),
                    expires_at: it.expires_at,
                };
                self.open.insert(it.id.clone(), open);
            }
            self.open
                .retain(|_, open| !open.uid.is_empty() && open.expires_at > now);
        } else {
            *self = Self::default();
        }
        self.ledger = Some(ledger.clone());
    }

    /// Takes in that objects are deleted, by their UIDs.
    pub fn delete(&mut self, is_deleted: impl Fn(&str) -> bool) {
        let deleted = self.open.extract_if(.., |_, open| is_deleted(&open.uid));
        let deltas: Vec<Amounts> = deleted.map(|(_, open)| open.delta).collect();
        self.deleted = Amounts::sum(deltas.iter().chain([&self.deleted]));
    }

    /// What is over and was not taken off yet, when there is such a rise.
    pub fn over(&self, rise: &Amounts) -> Amounts {
        let rises = self.rises.plus(rise);
        rises.most(&self.deleted).minus(&self.deducted).without_zeros()
    }

    /// The ledger was written, with this rise and what was [over](Self::over) then taken off.
    pub fn write(&mut self, ledger: &Ledger, rise: &Amounts) {
        if ledger.reservations.is_empty() {
            *self = Self::default();
        } else {
            self.deducted = self.deducted.plus(&self.over(rise));
            self.rises = self.rises.plus(rise);
        }
        self.ledger = Some(ledger.clone());
    }
}

/// Whether nobody has counted, or taken anything off, since the ledger was as known.
fn has_all_of(ledger: &Ledger, known: &Ledger) -> bool {
    let deltas: BTreeMap<&str, &Amounts> = ledger
        .reservations
        .iter()
        .map(|it| (it.id.as_str(), &it.delta))
        .collect();
    let is_there = |id: &str, delta: &Amounts| deltas.get(id).is_some_and(|now| delta.fit_in(now));
    ledger.used == known.used && known.reservations.iter().all(|it| is_there(&it.id, &it.delta))
}

#[cfg(test)]
mod tests {
    use api::capsule::v1beta2::LedgerObject;
    use proptest::prelude::*;

    use super::*;
    use crate::quota::amounts::tests::amounts;
    use crate::quota::ledger::{Request, TTL};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn pods(number: usize) -> Amounts {
        amounts(&format!("pods={number}"))
    }

    fn request(id: &str) -> Request {
        let object = LedgerObject {
            uid: format!("uid of {id}"),
            ..LedgerObject::default()
        };
        Request {
            id: id.to_owned(),
            object,
            usage: pods(1),
            delta: pods(1),
        }
    }

    fn counted(used: usize) -> Ledger {
        Ledger {
            used: pods(used),
            ..Ledger::default()
        }
    }

    /// A ledger with a count, and who counts.
    struct Counter {
        ledger: Ledger,
        arrivals: Arrivals,
    }

    impl Counter {
        fn new() -> Self {
            let (ledger, mut arrivals) = (counted(0), Arrivals::default());
            arrivals.look(&ledger, at(0));
            Self { ledger, arrivals }
        }

        fn promise(&mut self, id: &str, seconds: i64) {
            self.ledger = self.ledger.reserve(&request(id), &pods(9), at(seconds)).unwrap();
        }

        fn count(&mut self, used: usize, seconds: i64, gone: &BTreeSet<String>, may_end: bool) {
            self.arrivals.look(&self.ledger, at(seconds));
            self.arrivals.delete(|uid| gone.contains(uid));
            let rise = pods(used).minus(&self.ledger.used);
            let over = self.arrivals.over(&rise);
            self.ledger = self.ledger.settle(pods(used), &over, at(seconds), may_end);
            self.arrivals.write(&self.ledger, &rise);
        }

        fn promised(&self) -> String {
            self.ledger.reserved().get("pods").to_string()
        }
    }

    fn gone(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| format!("uid of {id}")).collect()
    }

    #[test]
    fn what_was_made_and_deleted_within_one_count_is_over_at_once() {
        let mut counter = Counter::new();
        counter.promise("a", 0);
        counter.promise("b", 0);
        counter.count(0, 1, &gone(&["a"]), true);
        assert_eq!(counter.promised(), "1");
        counter.count(0, 2, &gone(&["a", "b"]), true);
        assert_eq!(counter.promised(), "0");
    }

    #[test]
    fn what_rose_and_is_deleted_later_is_over_once() {
        let mut counter = Counter::new();
        counter.promise("late", 0);
        counter.promise("fast", 0);
        // It was "fast" that arrived.
        counter.count(1, 1, &gone(&[]), true);
        assert_eq!(counter.promised(), "1");
        counter.count(0, 2, &gone(&["fast"]), true);
        assert_eq!(counter.promised(), "1");
        counter.count(1, 3, &gone(&["fast"]), true);
        assert_eq!(counter.promised(), "0");
    }

    #[test]
    fn where_somebody_else_counted_deletions_of_what_was_promised_before_say_nothing() {
        let mut counter = Counter::new();
        counter.promise("late", 0);
        counter.promise("fast", 0);
        counter.arrivals.look(&counter.ledger, at(1));
        counter.ledger = counter.ledger.settle(pods(1), &pods(1), at(1), true);
        counter.count(0, 2, &gone(&["fast"]), true);
        assert_eq!(counter.promised(), "1");
    }

    #[test]
    fn a_promise_whose_end_is_past_is_not_over_again() {
        let mut counter = Counter::new();
        counter.promise("old", 0);
        counter.count(0, 1, &gone(&[]), true);
        let end = TTL.as_secs();
        counter.promise("new", end - 1);
        counter.count(0, end, &gone(&[]), true);
        assert_eq!(counter.promised(), "1");
        counter.count(0, end + 1, &gone(&["old"]), true);
        assert_eq!(counter.promised(), "1");
    }

    proptest! {
        /// Requests that fail or arrive late, deletions of which some are seen, counts that lag, requests refused by another
        /// quota, counters that are killed: there is never more than the limit, and in the end nothing is promised.
        #[test]
        fn the_limit_holds_and_nothing_stays_promised(
            hard in 1_usize..20,
            steps in prop::collection::vec((0_u8..12, 0_usize..40), 1..400),
        ) {
            let mut counter = Counter::new();
            let (mut now, mut shown) = (0_i64, 0_usize);
            let (mut underway, mut stored) = (Vec::<(String, i64)>::new(), Vec::<String>::new());
            let mut seen = BTreeSet::<String>::new();
            for (number, (step, pick)) in steps.into_iter().enumerate() {
                now += i64::try_from(pick / 8).unwrap();
                underway.retain(|(_, made)| now - made < 60);
                match step {
                    0..=3 => {
                        let asked = request(&number.to_string());
                        if let Ok(next) = counter.ledger.reserve(&asked, &pods(hard), at(now)) {
                            counter.ledger = next;
                            underway.push((asked.id, now));
                        }
                    }
                    4 | 5 if !underway.is_empty() => stored.push(underway.swap_remove(pick % underway.len()).0),
                    6 if !underway.is_empty() => drop(underway.swap_remove(pick % underway.len())),
                    // Another quota has not enough.
                    7 if !underway.is_empty() && pick % 4 == 0 => {
                        let (id, _) = underway.swap_remove(pick % underway.len());
                        counter.ledger = counter.ledger.without(&id);
                    }
                    8 | 9 if !stored.is_empty() => {
                        let id = stored.swap_remove(pick % stored.len());
                        if pick % 5 > 0 {
                            seen.insert(format!("uid of {id}"));
                        }
                    }
                    10 if pick % 7 == 0 => counter.arrivals = Arrivals::default(),
                    _ => {
                        let is_fresh = pick % 3 > 0;
                        shown = if is_fresh { stored.len() } else { shown };
                        counter.count(shown, now, &seen, is_fresh);
                    }
                }
                prop_assert!(stored.len() + underway.len() <= hard, "{stored:?} {underway:?}");
            }
            counter.count(stored.len(), now + TTL.as_secs(), &seen, true);
            prop_assert!(counter.ledger.reservations.is_empty());
        }

        /// However fast objects are made and deleted, when each deletion is seen nothing is promised for what is gone.
        #[test]
        fn what_is_gone_is_not_promised(rounds in prop::collection::vec(0_usize..12, 1..40)) {
            let mut counter = Counter::new();
            let mut seen = BTreeSet::new();
            for (round, made) in rounds.into_iter().enumerate() {
                for index in 0..made.min(9) {
                    let id = format!("{round}-{index}");
                    counter.promise(&id, 0);
                    seen.insert(format!("uid of {id}"));
                }
                counter.count(0, 1, &seen, true);
                prop_assert_eq!(counter.promised(), "0");
            }
        }
    }
}
