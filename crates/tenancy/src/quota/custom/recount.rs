//! Counting all objects of a custom quota.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{QuotaClaim, QuotaUsage};
use jiff::Timestamp;

use super::{Custom, Expressions, Measured, measure};
use crate::{
    quantity::Quantity,
    quota::{amounts::Amounts, ledger::Ledger, stored::total, verdict::Verdict},
};

/// More messages than this help nobody.
const MESSAGES: usize = 5;

/// All objects of a quota, counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Recount {
    /// What each object uses, by namespace, kind and name.
    pub claims: Vec<QuotaClaim>,
    /// What is used and left.
    pub usage: QuotaUsage,
    /// What is used.
    pub used: Quantity,
    /// The condition Ready.
    pub ready: Verdict,
}

/// Counts objects. What cannot be measured makes the quota not ready, and the others are counted all the same.
pub fn recount<'a>(
    quota: &Custom,
    objects: impl IntoIterator<Item = Measured<'a>>,
    expressions: &impl Expressions,
) -> Recount {
    let (mut claims, mut sum, mut failures) = (Vec::new(), Quantity::ZERO, Vec::new());
    for object in objects {
        let text = |field: &str| object.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        match measure(quota, &object, expressions) {
            Ok(None) => {}
            Ok(Some(usage)) => {
                sum = sum.plus(usage.amount);
                claims.push(QuotaClaim {
                    group: object.group.to_owned(),
                    version: object.version.to_owned(),
                    kind: object.kind.to_owned(),
                    name: text("name"),
                    namespace: text("namespace"),
                    uid: text("uid"),
                    usage: usage.amount.to_wire(),
                });
            }
            Err(error) => failures.push(format!(
                "{} {}/{}: {error}",
                object.kind,
                text("namespace"),
                text("name")
            )),
        }
    }
    claims.sort_by(|a, b| {
        let key = |claim: &'_ QuotaClaim| (claim.namespace.clone(), claim.kind.clone(), claim.name.clone());
        key(a).cmp(&key(b))
    });
    let used = sum.max(Quantity::ZERO);
    let available = quota.limit.minus(used).max(Quantity::ZERO);
    Recount {
        claims,
        usage: QuotaUsage {
            used: Some(used.to_wire()),
            available: Some(available.to_wire()),
        },
        used,
        ready: ready(failures),
    }
}

fn ready(mut failures: Vec<String>) -> Verdict {
    if failures.is_empty() {
        return Verdict::yes("Ready", "Succeeded", "reconciled");
    }
    let more = failures.len().saturating_sub(MESSAGES);
    failures.truncate(MESSAGES);
    if more > 0 {
        failures.push(format!("and {more} more"));
    }
    Verdict::no("Ready", "Failed", failures.join("; "))
}

impl Recount {
    /// The ledger after this count.
    #[must_use]
    pub fn observe(&self, ledger: &Ledger, now: Timestamp) -> Ledger {
        ledger.observe_objects(total(self.used), &self.objects(), now)
    }

    /// The ledger without promises whose end is past and whose objects this count, which began at `began` and read what was
    /// stored then, did not find.
    #[must_use]
    pub fn expire(&self, ledger: &Ledger, began: Timestamp) -> Ledger {
        ledger.expire(&self.objects(), began)
    }

    /// What each object uses, by UID. One that only subtracts is there and uses nothing.
    fn objects(&self) -> BTreeMap<&str, Amounts> {
        let used = |claim: &QuotaClaim| {
            let usage = Quantity::parse(&claim.usage).unwrap_or_default();
            total(usage.max(Quantity::ZERO))
        };
        let claims = self.claims.iter();
        claims.map(|claim| (claim.uid.as_str(), used(claim))).collect()
    }
}
