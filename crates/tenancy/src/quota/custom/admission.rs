//! Whether a request fits into custom quotas.

use std::cmp::Ordering;

use api::capsule::v1beta2::LedgerObject;
use jiff::Timestamp;

use super::{Custom, Expressions, Measured, Unmeasured, measure};
use crate::{
    denial::Denial,
    quantity::Quantity,
    quota::{
        ledger::{Ledger, Refusal, Request},
        stored::{TOTAL, total},
    },
};

/// A request that is under review.
#[derive(Clone, Debug)]
pub struct Review<'a> {
    /// The UID of the review.
    pub uid: &'a str,
    /// The part of the object that it is about; empty for the object.
    pub subresource: &'a str,
    /// The object as it would be.
    pub object: Measured<'a>,
    /// The object as it is, if there is one.
    pub old: Option<Measured<'a>>,
    /// Which object that is.
    pub reference: &'a LedgerObject,
    /// Whether the object, or its namespace, is being deleted: then nothing may hold it up.
    pub goes: bool,
    /// When it is reviewed.
    pub now: Timestamp,
}

impl Review<'_> {
    /// What has happened already, or has to happen, is never refused.
    fn is_never_refused(&self) -> bool {
        self.goes || self.subresource == "status"
    }
}

/// What a request does to one quota.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It takes more.
    Takes(Box<Request>),
    /// It takes less, or leaves the quota: a count is due.
    Frees,
}

/// A quota that a request concerns, and what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The quota.
    pub quota: Custom,
    /// What the request does to it.
    pub step: Step,
    /// `<admission UID>/<quota>`.
    pub id: String,
    object: LedgerObject,
    is_new: bool,
    is_never_refused: bool,
    now: Timestamp,
    /// The place of the first source that is about the object.
    rank: usize,
}

impl Charge {
    fn new(quota: &Custom, step: Step, rank: usize, review: &Review<'_>) -> Self {
        Self {
            quota: quota.clone(),
            step,
            id: id(review, quota),
            object: review.reference.clone(),
            is_new: review.old.is_none(),
            is_never_refused: review.is_never_refused(),
            now: review.now,
            rank,
        }
    }
}

/// The quotas that a request concerns, in the order in which they are asked: the smallest limit first, then those of the
/// cluster, then by namespace, source and name.
///
/// `quotas` are those of the object's namespace and those of the cluster that cover it.
///
/// # Errors
/// If a quota is about the object and cannot measure it, unless that was so before: what was not counted is not counted
/// now.
pub fn matching(quotas: &[Custom], review: &Review<'_>, expressions: &impl Expressions) -> Result<Vec<Charge>, Denial> {
    let mut charges = Vec::new();
    for quota in quotas {
        let before = review.old.as_ref().map(|old| measure(quota, old, expressions));
        let after = match (measure(quota, &review.object, expressions), &before) {
            (Ok(after), _) => after,
            (Err(_), Some(Err(_))) => continue,
            (Err(_), _) if review.is_never_refused() => continue,
            (Err(error), _) => return Err(unmeasured(quota, &error)),
        };
        let before = before.and_then(Result::ok).flatten();
        let amount = |usage: Option<super::measure::Usage>| usage.map_or(Quantity::ZERO, |usage| usage.amount);
        let step = match amount(after).cmp(&amount(before)) {
            Ordering::Equal => continue,
            Ordering::Less => Step::Frees,
            Ordering::Greater => {
                // An object that subtracts less takes as much as is missing then, though it has no use of its own.
                let usage = amount(after).max(Quantity::ZERO);
                Step::Takes(Box::new(Request {
                    id: id(review, quota),
                    object: review.reference.clone(),
                    usage: total(usage),
                    delta: total(amount(after).minus(amount(before))),
                }))
            }
        };
        let rank = after.or(before).map_or(0, |usage| usage.rank);
        charges.push(Charge::new(quota, step, rank, review));
    }
    charges.sort_by(|a, b| a.order().cmp(&b.order()));
    Ok(charges)
}

/// The quotas that count an object which is about to be deleted: the object of the review as it is.
pub fn leaving(quotas: &[Custom], review: &Review<'_>, expressions: &impl Expressions) -> Vec<Charge> {
    let is_counted = |quota: &&Custom| matches!(measure(quota, &review.object, expressions), Ok(Some(_)));
    quotas
        .iter()
        .filter(is_counted)
        .map(|quota| Charge::new(quota, Step::Frees, 0, review))
        .collect()
}

fn id(review: &Review<'_>, quota: &Custom) -> String {
    match quota.namespace.as_str() {
        "" => format!("{}/{}", review.uid, quota.name),
        namespace => format!("{}/{namespace}/{}", review.uid, quota.name),
    }
}

impl Charge {
    fn order(&self) -> impl Ord + '_ {
        let quota = &self.quota;
        (quota.limit, quota.kind, &quota.namespace, self.rank, &quota.name)
    }

    /// Asks the quota. `ledger` is its ledger, if there is one; the one to be written comes back, if it changes.
    ///
    /// All quotas of a request have to agree: when one refuses, the promises of those before it are taken back
    /// ([`Ledger::without`]).
    ///
    /// # Errors
    /// If there is not enough (403), or that cannot be known at the moment (500).
    pub fn admit(&self, ledger: Option<&Ledger>) -> Result<Option<Ledger>, Denial> {
        let quota = &self.quota;
        let counted = ledger.filter(|ledger| ledger.used.names(TOTAL));
        let request = match &self.step {
            Step::Frees => {
                return Ok(counted.map(|ledger| ledger.with_pending_delete(&self.id, &self.object, self.now)));
            }
            Step::Takes(request) => request,
        };
        let hard = total(quota.limit);
        if self.is_never_refused {
            // Without a ledger or room in it the request passes unrecorded; the next count has it.
            return Ok(counted.and_then(|ledger| ledger.record(request, &hard, self.now).ok()));
        }
        let Some(ledger) = counted.filter(|_| quota.is_ready) else {
            let why = format!("is not ready for generation {}", quota.generation);
            return Err(not_ready(quota, &why));
        };
        match ledger.reserve(request, &hard, self.now) {
            Ok(ledger) => Ok(Some(ledger)),
            Err(Refusal::Full) => Err(not_ready(quota, "has too many requests on their way; please retry")),
            Err(Refusal::Exceeded(_)) => Err(exceeded(self, request, ledger)),
        }
    }
}

fn unmeasured(quota: &Custom, error: &Unmeasured) -> Denial {
    let message = format!(
        "{} {:?} cannot measure the object: {error}; an object that is limited has to say what it uses",
        quota.kind.as_str(),
        quota.name
    );
    Denial::new("", "UsageCalculationFailed", message)
}

fn not_ready(quota: &Custom, why: &str) -> Denial {
    let message = format!("{} {:?} {why}", quota.kind.as_str(), quota.name);
    Denial::new("", "QuotaNotReady", message).with_code(500)
}

fn exceeded(charge: &Charge, request: &Request, ledger: &Ledger) -> Denial {
    let quota = &charge.quota;
    let limit = total(quota.limit);
    let reserved = ledger.without(&request.id).reserved();
    let message = format!(
        "{} resource exceeds limit for {} {:?} (requested={}, currentUsed={}, available={}, limit={}, \
         inflightReserved={}); {} set the limit",
        if charge.is_new { "creating" } else { "updating" },
        quota.kind.as_str(),
        quota.name,
        request.delta.get(TOTAL),
        ledger.used.get(TOTAL),
        limit.minus(&ledger.used.plus(&reserved)).get(TOTAL),
        quota.limit,
        reserved.get(TOTAL),
        match quota.kind {
            super::Kind::Global => "an administrator of this cluster",
            super::Kind::Namespaced => "whoever wrote that quota in this namespace",
        }
    );
    Denial::new("", "QuotaExceeded", message)
}
