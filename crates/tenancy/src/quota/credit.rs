//! Parts of a budget that are lent to a replica, which then admits requests without a write for each.
//!
//! # Flow
//! A credit is a reservation in the [ledger](super::ledger) like any other, of many times what one request asks for and of
//! no more than a quarter of what is left. The replica that holds it admits from memory for [`USE`], by a clock that it read
//! before it asked, and then [gives back](Ledger::give_back) what it has not used. A request for which nothing is left, but
//! credits are out, leaves a word in the ledger and [waits](Ledger::wait): replicas that see it give back at once.
//!
//! # Guarantees
//! Σ used + Σ reservations in the ledger is never less than what is stored, what is on its way and what replicas may still
//! admit, and never more than the limit through a promise. Credits are written with the version that was read, so that
//! neither the number of replicas nor a lagging watch matters. A replica that is killed holds nothing any more; what it was
//! lent stays reserved until all that it admitted has been stored or has failed. What it admitted and what the
//! successor admits are in the same sum.
//!
//! Credits and arrivals have no names. So whatever arrived or is given back is taken off the reservations [whose end is
//! nearest](Ledger::deduct), of whomsoever they are. Then for every moment the reservations that end later cover all
//! that may come later: what is taken off an earlier one leaves the later ones as they were, and when the later ones are
//! touched nothing is left of the earlier ones.
//!
//! # Caveats
//! What a killed replica was lent, or what requests took that failed, is missing for [`USE`] and [`ledger::TTL`] together; and for
//! longer while others go on asking, because what arrives for them is taken off what is missing, and what was promised to
//! them is missing in its place. It is never more than what was promised within that time.

use api::capsule::v1beta2::LedgerObject;
use jiff::{SignedDuration, Timestamp};

use super::{
    amounts::Amounts,
    ledger::{self, CAPACITY, Ledger, Refusal, Request, Reservation},
};

/// How long a replica may use a credit.
pub const USE: SignedDuration = SignedDuration::from_secs(30);
/// How long a request's word that it waits is heeded.
const WAIT: SignedDuration = SignedDuration::from_secs(10);
/// A credit is for so many requests like the one that asks for it, or half or a quarter of them. For fewer it is not worth it.
const REQUESTS: [u32; 3] = [8, 16, 32];
/// The first word of a credit's id.
const LENT: &str = "credit";
/// The first word of the id of one that nobody holds any more.
const SPENT: &str = "spent";

/// Amounts that were lent, and the ledger that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// To be written.
    pub ledger: Ledger,
    /// What may be used.
    pub amounts: Amounts,
}

impl Ledger {
    /// Lends a replica amounts for more requests like this one, so that it holds enough for them with what it `held`. `None`
    /// where a credit would be more than a quarter of what is left, or somebody waits.
    pub fn lend(
        &self,
        replica: &str,
        request: &Request,
        held: &Amounts,
        hard: &Amounts,
        now: Timestamp,
    ) -> Option<Credit> {
        if self.is_waited_for(now) || self.reservations.len() >= CAPACITY / 2 {
            return None;
        }
        let left = hard.minus(&self.allocated());
        let mut amounts = None;
        for requests in REQUESTS {
            let more = times(&request.delta, requests).minus(held).without_zeros();
            if !times(&more, 4).fit_in(&left) {
                break;
            }
            amounts = Some(more);
        }
        let amounts = amounts?;
        let mut ledger = self.clone();
        ledger.reservations.push(Reservation {
            id: format!("{LENT}/{replica}/{}", request.id),
            object: LedgerObject {
                name: String::new(),
                uid: String::new(),
                ..request.object.clone()
            },
            usage: amounts.clone(),
            delta: amounts.clone(),
            created_at: now,
            updated_at: now,
            expires_at: end(now, USE + ledger::TTL),
        });
        Some(Credit { ledger, amounts })
    }

    /// Takes back what a replica was lent and has not used. It holds nothing of what it was lent then.
    #[must_use]
    pub fn give_back(&self, replica: &str, unused: &Amounts) -> Self {
        let (own, spent) = (format!("{LENT}/{replica}/"), format!("{SPENT}/{replica}/"));
        let mut after = self.deduct(unused);
        for reservation in &mut after.reservations {
            if let Some(rest) = reservation.id.strip_prefix(&own) {
                reservation.id = format!("{spent}{rest}");
            }
        }
        after
    }

    /// Takes amounts off the reservations, those first that end first. What is left of none goes.
    #[must_use]
    pub fn deduct(&self, amounts: &Amounts) -> Self {
        let mut after = self.clone();
        let mut left = amounts.clone().without_zeros();
        let mut by_end: Vec<&mut Reservation> = after.reservations.iter_mut().collect();
        by_end.sort_by_key(|reservation| reservation.expires_at);
        let mut ended = Vec::new();
        for reservation in by_end {
            let part = reservation.delta.least(&left).without_zeros();
            if part.is_zero() {
                continue;
            }
            left = left.minus(&part).without_zeros();
            reservation.delta = reservation.delta.minus(&part).without_zeros();
            if reservation.delta.is_zero() {
                ended.push(reservation.id.clone());
            }
        }
        after
            .reservations
            .retain(|reservation| !ended.contains(&reservation.id));
        after
    }

    /// Takes in a count: what is used, and what of it has arrived since the count before. Reservations whose end is past go if
    /// `may_end`, which is for a count that is known to have begun after it.
    #[must_use]
    pub fn settle(&self, used: Amounts, arrived: &Amounts, now: Timestamp, may_end: bool) -> Self {
        let mut after = self.deduct(arrived);
        after.used = used;
        after
            .reservations
            .retain(|it| it.expires_at > now || !(may_end || it.delta.is_zero()));
        after
    }

    /// Whether replicas other than this one hold what they may give back.
    pub fn is_lent_to_others(&self, replica: &str, now: Timestamp) -> bool {
        let own = format!("{LENT}/{replica}/");
        self.reservations.iter().any(|reservation| {
            let is_in_use = reservation.expires_at.duration_since(now) > ledger::TTL;
            let is_lent = reservation.id.split('/').next() == Some(LENT);
            is_lent && is_in_use && !reservation.id.starts_with(&own)
        })
    }

    /// Leaves the word that a request waits for what others were lent. Nothing is promised to it.
    ///
    /// # Errors
    /// If there is no room for another word.
    pub fn wait(&self, request: &Request, now: Timestamp) -> Result<Self, Refusal> {
        let mut after = self.without(&request.id);
        if after.reservations.len() >= CAPACITY {
            return Err(Refusal::Full);
        }
        after.reservations.push(Reservation {
            id: request.id.clone(),
            object: request.object.clone(),
            usage: request.delta.clone(),
            delta: Amounts::default(),
            created_at: now,
            updated_at: now,
            expires_at: end(now, WAIT),
        });
        Ok(after)
    }

    /// Whether a request waits for what replicas were lent.
    pub fn is_waited_for(&self, now: Timestamp) -> bool {
        let mut reservations = self.reservations.iter();
        reservations.any(|reservation| reservation.delta.is_zero() && reservation.expires_at > now)
    }
}

/// Whether a reservation is one that should have arrived after a few seconds: not what a replica holds, and no word of who waits.
pub fn can_be_overdue(reservation: &Reservation) -> bool {
    !reservation.delta.is_zero() && reservation.id.split('/').next() != Some(LENT)
}

/// Whether a reservation is for requests in any namespace.
pub fn is_for_any(reservation: &Reservation) -> bool {
    matches!(reservation.id.split('/').next(), Some(LENT | SPENT))
}

fn end(now: Timestamp, after: SignedDuration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}

fn times(amounts: &Amounts, factor: u32) -> Amounts {
    Amounts::sum(std::iter::repeat_n(
        amounts,
        usize::try_from(factor).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::quota::amounts::tests::amounts;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn request(id: &str, delta: &str) -> Request {
        Request {
            id: id.to_owned(),
            object: LedgerObject::default(),
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

    fn lent(ledger: &Ledger, hard: &str, delta: &str) -> Option<Amounts> {
        let credit = ledger.lend("r", &request("q", delta), &Amounts::default(), &amounts(hard), at(0));
        credit.map(|credit| credit.amounts)
    }

    #[test]
    fn a_credit_is_no_more_than_a_quarter_of_what_is_left() {
        let used = counted("pods=10 cpu=0");
        assert_eq!(lent(&used, "pods=138 cpu=999", "pods=1"), Some(amounts("pods=32")));
        assert_eq!(lent(&used, "pods=137 cpu=999", "pods=1"), Some(amounts("pods=16")));
        assert_eq!(lent(&used, "pods=42 cpu=999", "pods=1"), Some(amounts("pods=8")));
        assert_eq!(lent(&used, "pods=41 cpu=999", "pods=1"), None);
        assert_eq!(lent(&used, "pods=999 cpu=15", "pods=1 cpu=500m"), None);
    }

    #[test]
    fn who_holds_something_is_lent_the_rest() {
        let held = amounts("pods=5");
        let more = counted("pods=0 cpu=0").lend(
            "r",
            &request("q", "pods=1 cpu=1"),
            &held,
            &amounts("pods=999 cpu=999"),
            at(0),
        );
        assert_eq!(more.unwrap().amounts, amounts("pods=27 cpu=32"));
    }

    #[test]
    fn what_is_given_back_is_there_for_others_and_what_was_used_is_not() {
        let hard = amounts("pods=128");
        let credit = counted("pods=0")
            .lend("r", &request("q", "pods=1"), &Amounts::default(), &hard, at(0))
            .unwrap();
        assert!(credit.ledger.is_lent_to_others("other", at(29)));
        assert!(!credit.ledger.is_lent_to_others("other", at(30)));
        assert!(!credit.ledger.is_lent_to_others("r", at(0)));
        let after = credit.ledger.give_back("r", &amounts("pods=30"));
        assert_eq!(after.reserved(), amounts("pods=2"));
        assert!(!after.is_lent_to_others("other", at(0)));
    }

    #[test]
    fn while_somebody_waits_nothing_is_lent_and_nothing_is_promised_to_him() {
        let waiting = counted("pods=0").wait(&request("w", "pods=1"), at(0)).unwrap();
        assert_eq!(waiting.reserved(), Amounts::default());
        assert_eq!(lent(&waiting, "pods=999", "pods=1"), None);
        assert!(waiting.is_waited_for(at(9)) && !waiting.is_waited_for(at(10)));
        let settled = waiting.settle(amounts("pods=0"), &Amounts::default(), at(10), false);
        assert_eq!(settled, counted("pods=0"));
        let served = waiting
            .reserve(&request("w", "pods=1"), &amounts("pods=1"), at(1))
            .unwrap();
        assert!(!served.is_waited_for(at(1)));
    }

    #[test]
    fn what_arrived_is_taken_off_what_ends_first() {
        let hard = amounts("pods=999");
        let ledger = counted("pods=0")
            .lend("r", &request("q", "pods=1"), &Amounts::default(), &hard, at(0))
            .unwrap()
            .ledger;
        let ledger = ledger.reserve(&request("one", "pods=1"), &hard, at(10)).unwrap();
        let settled = ledger.settle(amounts("pods=3"), &amounts("pods=3"), at(11), false);
        assert_eq!(settled.allocated(), ledger.allocated());
        let left: BTreeMap<&str, Amounts> = settled
            .reservations
            .iter()
            .map(|it| (it.id.as_str(), it.delta.clone()))
            .collect();
        assert_eq!(left, BTreeMap::from([("credit/r/q", amounts("pods=30"))]));
        // Only a count that is known to be later than the end lets go.
        assert_eq!(
            settled.settle(amounts("pods=3"), &Amounts::default(), at(150), false),
            settled
        );
        assert_eq!(
            settled.settle(amounts("pods=3"), &Amounts::default(), at(150), true),
            counted("pods=3")
        );
    }

    /// What one replica of the model knows.
    #[derive(Default)]
    struct Replica {
        name: String,
        held: u32,
        until: i64,
    }

    proptest! {
        /// Three replicas, kills, requests that fail or arrive late, counts that lag: what is stored, on its way and still to
        /// be admitted never exceeds the limit.
        #[test]
        fn the_sum_never_exceeds_the_limit(hard in 1_u32..200, steps in prop::collection::vec((0_u8..8, 0_usize..3, 0_usize..50), 1..300)) {
            let limit = amounts(&format!("pods={hard}"));
            let mut ledger = counted("pods=0");
            let mut replicas: Vec<Replica> = (0..3).map(|index| Replica { name: index.to_string(), ..Replica::default() }).collect();
            let (mut stored, mut shown, mut seen, mut underway, mut now) = (0_u32, 0_u32, 0_u32, Vec::new(), 0);
            for (index, (step, which, pick)) in steps.into_iter().enumerate() {
                now += i64::try_from(pick).unwrap();
                for replica in &mut replicas {
                    if replica.until <= now {
                        replica.held = 0;
                    }
                }
                underway.retain(|made| now - made < 60);
                let replica = &mut replicas[which];
                let request = request(&index.to_string(), "pods=1");
                match step {
                    // A request.
                    0..=3 => {
                        if replica.held == 0
                            && let Some(credit) = ledger.lend(&replica.name, &request, &Amounts::default(), &limit, at(now))
                        {
                            ledger = credit.ledger;
                            replica.held = u32::try_from(credit.amounts.get("pods").whole().unwrap()).unwrap();
                            replica.until = now + 30;
                        }
                        if replica.held > 0 {
                            replica.held -= 1;
                            underway.push(now);
                        } else if let Ok(next) = ledger.reserve(&request, &limit, at(now)) {
                            ledger = next;
                            underway.push(now);
                        }
                    }
                    // It arrives.
                    4 if !underway.is_empty() => {
                        underway.remove(pick % underway.len());
                        stored += 1;
                    }
                    // A count of what a watch has shown; only one that is not behind lets go of what is over.
                    5 => {
                        let is_fresh = pick % 3 == 0;
                        shown = if is_fresh { stored } else { shown };
                        let of = |pods: u32| amounts(&format!("pods={pods}"));
                        ledger = ledger.settle(of(shown), &of(shown.saturating_sub(seen)), at(now), is_fresh);
                        seen = shown;
                    }
                    // Something is given back, or a replica is killed and another one begins.
                    6 if pick % 2 == 0 => {
                        ledger = ledger.give_back(&replica.name, &amounts(&format!("pods={}", replica.held)));
                        replica.held = 0;
                    }
                    6 => *replica = Replica { name: format!("{which}-{index}"), ..Replica::default() },
                    _ => stored = stored.saturating_sub(1),
                }
                let held: u32 = replicas.iter().map(|replica| if replica.until > now { replica.held } else { 0 }).sum();
                let all = stored + held + u32::try_from(underway.len()).unwrap();
                prop_assert!(all <= hard, "{stored} stored, {held} held, {} on their way", underway.len());
            }
        }
    }
}
