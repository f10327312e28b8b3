//! Which claims a pool serves.

use std::collections::BTreeMap;

use super::{LEAST_CLAIMS_IN_A_NAMESPACE, MOST_CLAIMS, MOST_CLAIMS_IN_A_NAMESPACE, Pool, held::Place};
use crate::{quantity::Quantity, quota::amounts::Amounts};

/// Most bytes of what was given, as it is stored: an object in etcd has at most 1.5 MiB.
const MOST_BYTES: usize = 768 * 1024;
/// As much of that each namespace has at least, until the pool is full.
const LEAST_BYTES_OF_A_NAMESPACE: usize = 4 * 1024;
/// Of what each claim is stored with besides its names: the words around them, and its UID.
const CLAIM_BYTES: usize = 120;
/// The same of each amount.
const AMOUNT_BYTES: usize = 32;

/// A claim in the pool's queue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asking<'a> {
    pub(super) uid: &'a str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
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
    /// There are too many claims, in these words.
    Crowded(String),
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
    /// What each namespace had from claims that have it no more, as far as it may still be used. It covers what is claimed
    /// there anew.
    pub(super) held: BTreeMap<String, Amounts>,
    /// The sum of that.
    pub(super) all_held: Amounts,
    /// What is served, by namespace.
    crowds: BTreeMap<String, Crowd>,
    /// What is served, in bytes.
    size_bytes: usize,
}

/// Claims, or how many there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Crowd {
    claims: usize,
    size_bytes: usize,
}

impl Crowd {
    /// The most that is served in one of so many namespaces: many small claims of one leave room for the others.
    fn share(namespaces: usize) -> Self {
        let namespaces = namespaces.max(1);
        Self {
            claims: (MOST_CLAIMS / namespaces).clamp(LEAST_CLAIMS_IN_A_NAMESPACE, MOST_CLAIMS_IN_A_NAMESPACE),
            size_bytes: (MOST_BYTES / namespaces).max(LEAST_BYTES_OF_A_NAMESPACE),
        }
    }
}

/// Divides a pool among claims, which come in the order in which they are served.
///
/// What was served and is still asked for stays served. What is not asked for any more is given back first, so that it is
/// there for the oldest, and a second look finds nothing left to do: as soon as it cannot be used any more, which `places`,
/// the pool's namespaces, say.
pub(super) fn divide(pool: &Pool, claims: &[Asking<'_>], places: &BTreeMap<String, Place>) -> Division {
    let mut division = Division::default();
    let share = Crowd::share(places.len());
    for claim in claims {
        if let Some(before) = pool.given.get(claim.uid) {
            division.serve(claim, &before.amounts.least(claim.asked));
        }
    }
    division.hold(pool, claims, places);
    for claim in claims {
        let before = division.served.get(claim.uid);
        let outcome = match before {
            Some(before) if before == claim.asked => Outcome::Served,
            Some(before) => division.fit(pool, claim, before),
            None if pool.config.ordered_queue && division.has_waiting_for(claim.asked) => division.queue(claim.asked),
            None => match division.crowded(claim, share) {
                Some(words) => Outcome::Crowded(words),
                None => division.fit(pool, claim, &Amounts::default()),
            },
        };
        if outcome == Outcome::Served {
            division.serve(claim, claim.asked);
        }
        division.wait(pool, &outcome);
        division.outcomes.insert(claim.uid.to_owned(), outcome);
    }
    division
}

impl Division {
    fn serve(&mut self, claim: &Asking<'_>, amounts: &Amounts) {
        let before = self.served.insert(claim.uid.to_owned(), amounts.clone());
        if before.is_none() {
            let crowd = self.crowds.entry(claim.namespace.to_owned()).or_default();
            crowd.claims += 1;
            crowd.size_bytes += size_bytes(claim);
            self.size_bytes += size_bytes(claim);
        }
        let before = before.unwrap_or_default();
        self.claimed = self.claimed.minus(&before).plus(amounts);
        if let Some(held) = self.held.get_mut(claim.namespace) {
            let left = held.minus(&amounts.minus(&before));
            self.all_held = self.all_held.minus(held).plus(&left);
            *held = left.without_zeros();
        }
    }

    /// Holds what was given to claims that have it no more.
    fn hold(&mut self, pool: &Pool, claims: &[Asking<'_>], places: &BTreeMap<String, Place>) {
        let mut surplus: BTreeMap<&str, Amounts> = BTreeMap::new();
        for (uid, given) in &pool.given {
            let kept = self.served.get(uid);
            let more = kept.map_or_else(|| given.amounts.clone(), |kept| given.amounts.minus(kept));
            let of_namespace = surplus.entry(&given.namespace).or_default();
            *of_namespace = of_namespace.plus(&more.without_zeros());
        }
        surplus.retain(|_, surplus| !surplus.is_zero());
        if surplus.is_empty() {
            return;
        }
        let covered = self.by_namespace(claims);
        for (namespace, surplus) in surplus {
            let Some(place) = places.get(namespace) else { continue };
            let covered = covered.get(namespace).cloned().unwrap_or_default();
            let held = place.counted(&surplus, &covered.plus(&pool.defaults));
            self.all_held = self.all_held.plus(&held);
            self.held.insert(namespace.to_owned(), held);
        }
    }

    /// What is served in each namespace.
    pub(super) fn by_namespace<'a>(&self, claims: &[Asking<'a>]) -> BTreeMap<&'a str, Amounts> {
        let mut sums: BTreeMap<&str, Amounts> = BTreeMap::new();
        for claim in claims {
            if let Some(served) = self.served.get(claim.uid) {
                let sum = sums.entry(claim.namespace).or_default();
                *sum = sum.plus(served);
            }
        }
        sums
    }

    /// Why no more claims can be served, if that is so: what is served is stored in one object. The first claim of a namespace
    /// may be longer than its share.
    fn crowded(&self, claim: &Asking<'_>, share: Crowd) -> Option<String> {
        let of_namespace = self.crowds.get(claim.namespace).copied().unwrap_or_default();
        let is_too_long = of_namespace.claims > 0 && of_namespace.size_bytes + size_bytes(claim) > share.size_bytes;
        if of_namespace.claims >= share.claims || is_too_long {
            return Some(format!(
                "the pool serves {} claims of this namespace, which is its share among the namespaces of the pool; one larger \
                 claim can stand for several",
                of_namespace.claims
            ));
        }
        if self.served.len() >= MOST_CLAIMS || self.size_bytes + size_bytes(claim) > MOST_BYTES {
            return Some(format!(
                "the pool serves {} claims and has no room for more; it does when others give theirs back",
                self.served.len()
            ));
        }
        None
    }

    /// Whether everything asked for is left, with what the claim and its namespace have already. Of something that is used up nothing can be
    /// claimed, not even nothing.
    fn fit(&self, pool: &Pool, claim: &Asking<'_>, before: &Amounts) -> Outcome {
        let own = self.held.get(claim.namespace).cloned().unwrap_or_default();
        let taken = self.claimed.minus(before).plus(&self.all_held.minus(&own));
        let available = pool.hard.minus(&taken);
        let lacks: Vec<Lack> = claim
            .asked
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

    /// What is left of the pool.
    pub(super) fn available(&self, pool: &Pool) -> Amounts {
        pool.hard.minus(&self.claimed.plus(&self.all_held))
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
        let available = self.available(pool);
        for lack in lacks {
            let exhaustion = self.exhaustions.entry(lack.resource.clone()).or_default();
            exhaustion.available = available.get(&lack.resource);
            exhaustion.requesting = exhaustion.requesting.plus(lack.requested);
        }
    }
}

/// About what a served claim takes in the pool's status.
fn size_bytes(claim: &Asking<'_>) -> usize {
    let amounts = claim.asked.iter().map(|(resource, _)| resource.len() + AMOUNT_BYTES);
    CLAIM_BYTES + claim.namespace.len() + claim.name.len() + amounts.sum::<usize>()
}
