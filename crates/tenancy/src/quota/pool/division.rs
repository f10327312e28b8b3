//! Which claims a pool serves.

use std::collections::BTreeMap;

use super::Pool;
use crate::{quantity::Quantity, quota::amounts::Amounts};

/// A claim in the pool's queue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asking<'a> {
    pub(super) uid: &'a str,
    pub(super) asked: &'a Amounts,
}

/// One resource that a claim waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The resource.
    pub resource: String,
    /// How much the claim asks for.
    pub requested: Quantity,
    /// What is left of it, or how much others ask for who came before.
    pub against: Quantity,
}

/// What becomes of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is served.
    Served,
    /// There is not enough.
    Exhausted(Vec<Lack>),
    /// Others wait for the same and came before.
    Queued(Vec<Lack>),
}

/// One resource that claims wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exhaustion {
    /// What is left of it.
    pub available: Quantity,
    /// What waiting claims ask for.
    pub requesting: Quantity,
}

/// A pool, divided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Division {
    /// What each served claim has, by UID.
    pub(super) served: BTreeMap<String, Amounts>,
    /// What became of each claim, by UID.
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// Resources that claims wait for.
    pub(super) exhaustions: BTreeMap<String, Exhaustion>,
    /// The sum of what is served.
    pub(super) claimed: Amounts,
}

/// Divides a pool among claims, which come in the order in which they are served.
///
/// What was served and is still asked for stays served. What is not asked for any more is given back first, so that it is
/// there for the oldest, and a second look finds nothing left to do.
pub(super) fn divide(pool: &Pool, claims: &[Asking<'_>]) -> Division {
    let mut division = Division::default();
    for claim in claims {
        if let Some(before) = pool.served.get(claim.uid) {
            division.serve(claim.uid, &before.least(claim.asked));
        }
    }
    for claim in claims {
        let before = division.served.get(claim.uid);
        let outcome = match before {
            Some(before) if before == claim.asked => Outcome::Served,
            Some(before) => division.fit(pool, claim.asked, before),
            None if pool.config.ordered_queue && division.has_waiting_for(claim.asked) => division.queue(claim.asked),
            None => division.fit(pool, claim.asked, &Amounts::default()),
        };
        if outcome == Outcome::Served {
            division.serve(claim.uid, claim.asked);
        }
        division.wait(pool, &outcome);
        division.outcomes.insert(claim.uid.to_owned(), outcome);
    }
    division
}

impl Division {
    fn serve(&mut self, uid: &str, amounts: &Amounts) {
        let before = self.served.insert(uid.to_owned(), amounts.clone());
        self.claimed = self.claimed.minus(&before.unwrap_or_default()).plus(amounts);
    }

    /// Whether everything asked for is left, with what the claim has already. Of something that is used up nothing can be
    /// claimed, not even nothing.
    fn fit(&self, pool: &Pool, asked: &Amounts, before: &Amounts) -> Outcome {
        let available = pool.hard.minus(&self.claimed.minus(before));
        let lacks: Vec<Lack> = asked
            .iter()
            .map(|(resource, requested)| Lack {
                resource: resource.to_owned(),
                requested,
                against: available.get(resource),
            })
            .filter(|lack| lack.against.is_zero() || lack.requested > lack.against)
            .collect();
        if lacks.is_empty() {
            Outcome::Served
        } else {
            Outcome::Exhausted(lacks)
        }
    }

    fn has_waiting_for(&self, asked: &Amounts) -> bool {
        asked
            .iter()
            .any(|(resource, _)| self.exhaustions.contains_key(resource))
    }

    fn queue(&self, asked: &Amounts) -> Outcome {
        let lacks = asked.iter().filter_map(|(resource, requested)| {
            Some(Lack {
                resource: resource.to_owned(),
                requested,
                against: self.exhaustions.get(resource)?.requesting,
            })
        });
        Outcome::Queued(lacks.collect())
    }

    /// Puts what a claim lacks among what is waited for.
    fn wait(&mut self, pool: &Pool, outcome: &Outcome) {
        let (Outcome::Exhausted(lacks) | Outcome::Queued(lacks)) = outcome else {
            return;
        };
        let available = pool.hard.minus(&self.claimed);
        for lack in lacks {
            let exhaustion = self.exhaustions.entry(lack.resource.clone()).or_default();
            exhaustion.available = available.get(&lack.resource);
            exhaustion.requesting = exhaustion.requesting.plus(lack.requested);
        }
    }
}
