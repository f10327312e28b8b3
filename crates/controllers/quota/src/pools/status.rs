//! What a pool's status says, and those of the claims that it serves or lets go. Pure.

use std::collections::BTreeMap;

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{
    Allocation, Exhaustion, ResourcePool, ResourcePoolClaim, ResourcePoolClaimStatus, ResourcePoolStatus, ServedClaim,
};
use jiff::Timestamp;
use tenancy::quota::pool::{BOUND_CONDITION, EXHAUSTED_CONDITION, Plan, is_released};
use tenancy::quota::verdict::Verdict;

use super::observe::Observed;
use crate::conditions;

/// The reason of the condition Ready of a claim that was let go because its author asked for it.
pub(super) const RELEASED: &str = "Released";

/// What a pool's status says of what is given away. Whether the pool is ready is said when that is known.
pub(super) fn ledger(pool: &ResourcePool, plan: &Plan, observed: &Observed, now: Timestamp) -> ResourcePoolStatus {
    let before = pool.status.clone().unwrap_or_default();
    let verdicts: Vec<Verdict> = plan
        .conditions
        .iter()
        .filter(|verdict| verdict.condition != READY_CONDITION)
        .cloned()
        .collect();
    ResourcePoolStatus {
        allocation: Some(Allocation {
            hard: observed.pool.hard.to_wire(),
            used: plan.claimed.to_wire(),
            available: plan.available.to_wire(),
        }),
        claim_count: count(plan.served.len()),
        namespace_count: count(observed.namespaces.len()),
        namespaces: observed.namespaces.iter().cloned().collect(),
        exhaustions: plan
            .exhaustions
            .iter()
            .map(|(resource, exhaustion)| {
                let exhaustion = Exhaustion {
                    available: Some(exhaustion.available.to_wire()),
                    requesting: Some(exhaustion.requesting.to_wire()),
                };
                (resource.clone(), exhaustion)
            })
            .collect(),
        claims: given(plan),
        conditions: conditions::with(&before.conditions, &verdicts, now),
        // Set when the quotas say so too.
        observed_generation: before.observed_generation,
    }
}

/// What is given, by namespace and in the order of the names.
fn given(plan: &Plan) -> BTreeMap<String, Vec<ServedClaim>> {
    let mut given: BTreeMap<String, Vec<ServedClaim>> = BTreeMap::new();
    for (uid, claim) in &plan.given {
        given.entry(claim.namespace.clone()).or_default().push(ServedClaim {
            name: claim.name.clone(),
            namespace: claim.namespace.clone(),
            uid: uid.clone(),
            claims: claim.amounts.to_wire(),
        });
    }
    for claims in given.values_mut() {
        claims.sort_by(|one, other| one.name.cmp(&other.name));
    }
    given
}

/// The status with what came of the work: nothing, or what failed.
pub(super) fn ready(
    mut status: ResourcePoolStatus,
    generation: Option<i64>,
    failures: &[String],
    now: Timestamp,
) -> ResourcePoolStatus {
    let verdict = if failures.is_empty() {
        Verdict::yes(READY_CONDITION, "Succeeded", "reconciled")
    } else {
        Verdict::no(READY_CONDITION, "Failed", failures.join("; "))
    };
    status.conditions = conditions::with(&status.conditions, &[verdict], now);
    status.observed_generation = generation;
    status
}

/// What a claim that the pool looked at says.
pub(super) fn of_claim(claim: &ResourcePoolClaim, verdicts: &[Verdict], now: Timestamp) -> ResourcePoolClaimStatus {
    let mut status = claim.status.clone().unwrap_or_default();
    status.conditions = conditions::with(&status.conditions, verdicts, now);
    status
}

/// What a claim says that the pool let go.
pub(super) fn of_let_go(claim: &ResourcePoolClaim, now: Timestamp) -> ResourcePoolClaimStatus {
    let mut status = without_pool(claim.status.clone().unwrap_or_default());
    if is_released(claim) {
        let message = "the claim gave back what it had; it asks again when its spec changes";
        let released = Verdict::no(READY_CONDITION, RELEASED, message);
        status.conditions = conditions::with(&status.conditions, &[released], now);
        status.observed_generation = claim.metadata.generation;
    }
    status
}

/// The status of a claim that no pool serves.
pub(super) fn without_pool(mut status: ResourcePoolClaimStatus) -> ResourcePoolClaimStatus {
    status.pool = None;
    status
        .conditions
        .retain(|condition| ![BOUND_CONDITION, EXHAUSTED_CONDITION].contains(&condition.type_.as_str()));
    status
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
