//! Exact budgets over many namespaces: what is used, and what was promised to requests that are still on their way.
//!
//! # Flow
//! A webhook [reserves](Ledger::reserve) what a request would add, before the API server stores the object. The controller
//! counts what is there and puts it in the ledger: [by object](Ledger::observe_objects), or [in totals](Ledger::settle).
//! Reservations whose amounts arrived go, and those of objects that are deleted. Both write the ledger with the resource
//! version that they read, so that no promise is lost between two writers.
//!
//! # Guarantees
//! What is used and promised together never exceeds the limit through a reservation, whatever the order of writes,
//! arrivals, deletions and counts. A reservation goes only when its amount was counted, or when a count that began after
//! its end did not find it, or when its object is known to be deleted: no object comes back under its UID. Time alone releases
//! nothing, so a controller that is down makes the budget tight, not loose.
//!
//! # Assumptions
//! A request arrives within [`TTL`] of its reservation or never (the API server gives up after one minute), and a count
//! reads what was stored when it began, or later.
//!
//! # Caveats
//! In totals, an arrival that coincides with a deletion looks like nothing: its reservation stays until its object is deleted,
//! or until its end.

use std::collections::BTreeMap;

use api::capsule::v1beta2::LedgerObject;
use jiff::{SignedDuration, Timestamp};

use super::amounts::Amounts;
use crate::quantity::Quantity;

/// How long a reservation waits for its object.
pub const TTL: SignedDuration = SignedDuration::from_mins(2);
/// How long a hint about a deletion is kept.
pub const PENDING_DELETE_TTL: SignedDuration = SignedDuration::from_secs(30);
/// Most reservations of one ledger, and most hints about deletions.
pub const CAPACITY: usize = 1024;

/// Something promised to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// `<admission UID>/<quota>`: one request has one reservation, however often it is reviewed.
    pub id: String,
    /// The object that the request writes.
    pub object: LedgerObject,
    /// What the whole object uses then.
    pub usage: Amounts,
    /// What it uses more than before.
    pub delta: Amounts,
    /// When the request was reviewed first.
    pub created_at: Timestamp,
    /// When the request was reviewed last.
    pub updated_at: Timestamp,
    /// When the request has failed for certain, if its object is not there.
    pub expires_at: Timestamp,
}

impl Reservation {
    /// Whether the object uses what it was promised to use.
    fn arrived(&self, objects: &BTreeMap<&str, Amounts>) -> bool {
        let there = objects.get(self.object.uid.as_str());
        there.is_some_and(|there| self.usage.fit_in(there))
    }

    fn arrived_with_use(&self, objects: &BTreeMap<&str, Amounts>) -> bool {
        !self.usage.is_zero() && self.arrived(objects)
    }
}

/// A hint that an object is about to go: a count is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDelete {
    /// `<admission UID>/<quota>`.
    pub id: String,
    /// The object.
    pub object: LedgerObject,
    /// When its deletion was reviewed.
    pub created_at: Timestamp,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `<admission UID>/<quota>`.
    pub id: String,
    /// The object that it writes.
    pub object: LedgerObject,
    /// What the whole object uses then.
    pub usage: Amounts,
    /// What it uses more than before.
    pub delta: Amounts,
}

/// One resource of which there is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The resource.
    pub resource: String,
    /// What the request would add.
    pub requested: Quantity,
    /// What is used already.
    pub used: Quantity,
    /// What is promised to others.
    pub reserved: Quantity,
    /// The limit.
    pub hard: Quantity,
}

impl Excess {
    /// What is used and promised.
    pub fn current(&self) -> Quantity {
        self.used.plus(self.reserved)
    }

    /// What would be used.
    pub fn projected(&self) -> Quantity {
        self.current().plus(self.requested)
    }
}

/// Why nothing is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is not enough, in the order of the resources' names.
    Exceeded(Vec<Excess>),
    /// [`CAPACITY`] requests are on their way; when they have arrived there is room again.
    Full,
}

/// What is used of a budget, and what is promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// As it was counted last. A resource that is not named was not counted yet.
    pub used: Amounts,
    /// The oldest first, no two with the same id.
    pub reservations: Vec<Reservation>,
    /// The oldest first.
    pub pending_deletes: Vec<PendingDelete>,
}

impl Ledger {
    /// What is promised.
    pub fn reserved(&self) -> Amounts {
        self.reserved_but_for("")
    }

    fn reserved_but_for(&self, id: &str) -> Amounts {
        let others = self.reservations.iter().filter(|reservation| reservation.id != id);
        Amounts::sum(others.map(|reservation| &reservation.delta))
    }

    /// What is used and promised.
    pub fn allocated(&self) -> Amounts {
        self.used.plus(&self.reserved())
    }

    /// Promises what a request asks for, if that is within the limits. The ledger to be written comes back.
    ///
    /// Resources that are not limited are not promised. A request that was reviewed before is promised what it asks for
    /// now, not both.
    ///
    /// # Errors
    /// If there is not enough, or no room for another promise.
    pub fn reserve(&self, request: &Request, hard: &Amounts, now: Timestamp) -> Result<Self, Refusal> {
        let delta = request.delta.only(hard).without_zeros();
        let reserved = self.reserved_but_for(&request.id);
        let excess: Vec<Excess> = delta
            .iter()
            .map(|(resource, requested)| Excess {
                resource: resource.to_owned(),
                requested,
                used: self.used.get(resource),
                reserved: reserved.get(resource),
                hard: hard.get(resource),
            })
            .filter(|excess| excess.projected() > excess.hard)
            .collect();
        if !excess.is_empty() {
            return Err(Refusal::Exceeded(excess));
        }
        self.promise(request, delta, now)
    }

    /// Promises what a request takes whether there is enough or not: a node that reports a status cannot be refused.
    ///
    /// # Errors
    /// If there is no room for another promise.
    pub fn record(&self, request: &Request, hard: &Amounts, now: Timestamp) -> Result<Self, Refusal> {
        self.promise(request, request.delta.only(hard).without_zeros(), now)
    }

    fn promise(&self, request: &Request, delta: Amounts, now: Timestamp) -> Result<Self, Refusal> {
        let before = self
            .reservations
            .iter()
            .find(|reservation| reservation.id == request.id);
        let created_at = before.map_or(now, |reservation| reservation.created_at);
        let mut after = self.without(&request.id);
        if delta.is_zero() {
            return Ok(after);
        }
        if after.reservations.len() >= CAPACITY {
            return Err(Refusal::Full);
        }
        after.reservations.push(Reservation {
            id: request.id.clone(),
            object: request.object.clone(),
            usage: request.usage.clone(),
            delta,
            created_at,
            updated_at: now,
            expires_at: now.checked_add(TTL).unwrap_or(Timestamp::MAX),
        });
        Ok(after)
    }

    /// Without the promise to a request that was refused after all.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        let mut after = self.clone();
        after.reservations.retain(|reservation| reservation.id != id);
        after
    }

    /// With the hint that an object is about to go. It frees nothing: only a count does. When there is no room the hint is
    /// dropped, since those before it ask for the same count.
    #[must_use]
    pub fn with_pending_delete(&self, id: &str, object: &LedgerObject, now: Timestamp) -> Self {
        let mut after = self.clone();
        let known = after.pending_deletes.iter().any(|pending| pending.id == id);
        if !known && after.pending_deletes.len() < CAPACITY {
            after.pending_deletes.push(PendingDelete {
                id: id.to_owned(),
                object: object.clone(),
                created_at: now,
            });
        }
        after
    }

    /// Takes in a count of single objects: what each of them uses, by UID. The count may be behind what is stored.
    ///
    /// A promise goes when its object uses at least what it was promised to use. An object that uses nothing does not show
    /// whether it arrived. No promise goes because time passed, see [`Self::expire`].
    #[must_use]
    pub fn observe_objects(&self, used: Amounts, objects: &BTreeMap<&str, Amounts>, now: Timestamp) -> Self {
        let waiting = self
            .reservations
            .iter()
            .filter(|reservation| !reservation.arrived_with_use(objects));
        let leaving = self.pending_since(now).into_iter();
        Self {
            reservations: waiting.cloned().collect(),
            pending_deletes: leaving
                .filter(|pending| objects.contains_key(pending.object.uid.as_str()))
                .collect(),
            used,
        }
    }

    /// Lets go of promises whose objects are deleted, by UID: no object comes back under its UID.
    #[must_use]
    pub fn without_deleted(&self, is_deleted: impl Fn(&str) -> bool) -> Self {
        let mut after = self.clone();
        after
            .reservations
            .retain(|reservation| !is_deleted(&reservation.object.uid));
        after
    }

    /// Whether a promise's end is past.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.reservations
            .iter()
            .any(|reservation| reservation.expires_at <= now)
    }

    /// Lets go of promises whose end is past and whose objects were not stored when all were read: what each used then, by
    /// UID. `began` is when that reading began. What was found is counted soon, and stays promised until then.
    #[must_use]
    pub fn expire(&self, objects: &BTreeMap<&str, Amounts>, began: Timestamp) -> Self {
        let mut after = self.clone();
        after
            .reservations
            .retain(|reservation| reservation.expires_at > began || reservation.arrived_with_use(objects));
        after
    }

    fn pending_since(&self, began: Timestamp) -> Vec<PendingDelete> {
        let is_recent = |pending: &&PendingDelete| began.duration_since(pending.created_at) < PENDING_DELETE_TTL;
        self.pending_deletes.iter().filter(is_recent).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::amounts::tests::amounts;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn request(id: &str, delta: &str) -> Request {
        Request {
            id: id.to_owned(),
            object: LedgerObject {
                uid: format!("uid of {id}"),
                ..LedgerObject::default()
            },
            usage: amounts(delta),
            delta: amounts(delta),
        }
    }

    fn counted(used: &str) -> Ledger {
        Ledger {
            used: amounts(used),
            ..Ledger::default()
        }
    }

    fn ids(ledger: &Ledger) -> Vec<&str> {
        ledger
            .reservations
            .iter()
            .map(|reservation| reservation.id.as_str())
            .collect()
    }

    #[test]
    fn promises_count_against_the_limit_at_once() {
        let hard = amounts("pods=5 cpu=4");
        let one = counted("pods=3 cpu=1")
            .reserve(&request("a", "pods=1 cpu=2"), &hard, at(0))
            .unwrap();
        assert_eq!(one.allocated(), amounts("pods=4 cpu=3"));
        let refusal = one.reserve(&request("b", "pods=2 cpu=2"), &hard, at(0)).unwrap_err();
        let Refusal::Exceeded(excess) = refusal else {
            unreachable!()
        };
        let told: Vec<_> = excess
            .iter()
            .map(|excess| {
                let Excess {
                    resource,
                    requested,
                    used,
                    reserved,
                    hard,
                } = excess;
                format!(
                    "{resource} {requested} {used} {reserved} {hard} {} {}",
                    excess.current(),
                    excess.projected()
                )
            })
            .collect();
        assert_eq!(told, ["cpu 2 1 2 4 3 5", "pods 2 3 1 5 4 6"]);
        assert!(one.reserve(&request("b", "pods=1 cpu=1"), &hard, at(0)).is_ok());
    }

    #[test]
    fn what_is_not_limited_is_not_promised_and_what_takes_nothing_leaves_no_trace() {
        let hard = amounts("pods=5");
        let one = counted("pods=0")
            .reserve(&request("a", "pods=1 cpu=2"), &hard, at(0))
            .unwrap();
        assert_eq!(one.reservations[0].delta, amounts("pods=1"));
        let none = counted("pods=9")
            .reserve(&request("a", "pods=0 cpu=2"), &hard, at(0))
            .unwrap();
        assert_eq!(none, counted("pods=9"));
    }

    #[test]
    fn a_request_that_is_reviewed_again_keeps_one_promise() {
        let hard = amounts("pods=5");
        let one = counted("pods=0")
            .reserve(&request("a", "pods=4"), &hard, at(0))
            .unwrap();
        let again = one.reserve(&request("a", "pods=5"), &hard, at(7)).unwrap();
        assert_eq!(again.reserved(), amounts("pods=5"));
        let reservation = &again.reservations[0];
        assert_eq!(
            (reservation.created_at, reservation.updated_at, reservation.expires_at),
            (at(0), at(7), at(127))
        );
        assert_eq!(again.without("a"), counted("pods=0"));
    }

    #[test]
    fn promises_go_when_they_arrive_the_oldest_first() {
        let hard = amounts("pods=9");
        let ledger = counted("pods=1")
            .reserve(&request("two", "pods=2"), &hard, at(0))
            .and_then(|ledger| ledger.reserve(&request("three", "pods=3"), &hard, at(0)))
            .and_then(|ledger| ledger.reserve(&request("one", "pods=1"), &hard, at(0)))
            .unwrap();
        let arrives = |arrived: &str| {
            let after = ledger.settle(
                amounts("pods=1").plus(&amounts(arrived)),
                &amounts(arrived),
                at(1),
                true,
            );
            let left = after.reservations.iter();
            let left = left.map(|it| format!("{}={}", it.id, it.delta.get("pods")));
            left.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(arrives("pods=0"), "two=2 three=3 one=1");
        assert_eq!(arrives("pods=1"), "two=1 three=3 one=1");
        assert_eq!(arrives("pods=3"), "three=2 one=1");
        assert_eq!(arrives("pods=5"), "one=1");
        assert_eq!(arrives("pods=6"), "");
    }

    #[test]
    fn time_alone_releases_nothing_and_a_count_after_the_end_does() {
        let hard = amounts("pods=1");
        let ledger = counted("pods=0")
            .reserve(&request("a", "pods=1"), &hard, at(0))
            .unwrap();
        assert!(ledger.reserve(&request("b", "pods=1"), &hard, at(1000)).is_err());
        let counts = |began| ledger.settle(amounts("pods=0"), &Amounts::default(), at(began), true);
        assert_eq!(ids(&counts(119)), ["a"]);
        assert!(ids(&counts(120)).is_empty());
    }

    #[test]
    fn a_promise_goes_when_its_object_uses_as_much() {
        let hard = amounts("total=9");
        let ledger = counted("total=0")
            .reserve(&request("a", "total=3"), &hard, at(0))
            .unwrap();
        let sees = |usage: &str| {
            let objects = BTreeMap::from([("uid of a", amounts(usage)), ("other", amounts("total=9"))]);
            ids(&ledger.observe_objects(amounts("total=9"), &objects, at(1))).len()
        };
        assert_eq!((sees("total=2"), sees("total=3"), sees("total=4")), (1, 0, 0));
    }

    #[test]
    fn a_promise_goes_when_its_object_is_deleted() {
        let hard = amounts("total=9");
        let ledger = counted("total=0")
            .reserve(&request("a", "total=3"), &hard, at(0))
            .and_then(|ledger| ledger.reserve(&request("b", "total=3"), &hard, at(0)))
            .unwrap();
        assert_eq!(ids(&ledger.without_deleted(|uid| uid == "uid of a")), ["b"]);
    }

    #[test]
    fn a_promise_whose_end_is_past_goes_unless_its_object_is_stored_and_not_counted_yet() {
        let hard = amounts("total=9");
        let ledger = counted("total=0")
            .reserve(&request("a", "total=3"), &hard, at(0))
            .unwrap();
        let count = |ledger: &Ledger| ledger.observe_objects(amounts("total=0"), &BTreeMap::new(), at(1000));
        assert_eq!(ids(&count(&ledger)), ["a"]);
        assert_eq!(
            (ledger.has_expired(at(119)), ledger.has_expired(at(120))),
            (false, true)
        );
        let there = BTreeMap::from([("uid of a", amounts("total=3"))]);
        assert_eq!(ids(&ledger.expire(&there, at(120))), ["a"]);
        assert_eq!(ids(&ledger.expire(&BTreeMap::new(), at(119))), ["a"]);
        assert!(ids(&ledger.expire(&BTreeMap::new(), at(120))).is_empty());
    }

    #[test]
    fn a_ledger_has_room_for_so_many_and_no_more() {
        let hard = amounts("pods=9999");
        let mut ledger = counted("pods=0");
        for number in 0..CAPACITY {
            let id = format!("request {number}");
            ledger = ledger.reserve(&request(&id, "pods=1"), &hard, at(0)).unwrap();
            ledger = ledger.with_pending_delete(&id, &LedgerObject::default(), at(0));
        }
        assert_eq!(
            ledger.reserve(&request("late", "pods=1"), &hard, at(0)),
            Err(Refusal::Full)
        );
        assert!(ledger.reserve(&request("request 7", "pods=2"), &hard, at(0)).is_ok());
        assert_eq!(
            ledger
                .with_pending_delete("late", &LedgerObject::default(), at(0))
                .pending_deletes
                .len(),
            CAPACITY
        );
        let there = BTreeMap::from([("", amounts("pods=0"))]);
        assert!(
            ledger
                .observe_objects(amounts("pods=0"), &there, at(29))
                .pending_deletes
                .len()
                == CAPACITY
        );
        assert!(
            ledger
                .observe_objects(amounts("pods=0"), &there, at(30))
                .pending_deletes
                .is_empty()
        );
    }

    #[test]
    fn a_hint_goes_with_its_object() {
        let object = LedgerObject {
            uid: "uid".to_owned(),
            ..LedgerObject::default()
        };
        let ledger = counted("total=1")
            .with_pending_delete("a", &object, at(0))
            .with_pending_delete("a", &object, at(1));
        assert_eq!(ledger.pending_deletes.len(), 1);
        let there = BTreeMap::from([("uid", amounts("total=1"))]);
        assert_eq!(
            ledger
                .observe_objects(amounts("total=1"), &there, at(1))
                .pending_deletes
                .len(),
            1
        );
        assert!(
            ledger
                .observe_objects(amounts("total=0"), &BTreeMap::new(), at(1))
                .pending_deletes
                .is_empty()
        );
    }
}
