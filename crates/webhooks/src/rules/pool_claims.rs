//! ResourcePoolClaims.

use api::capsule::v1beta2::ResourcePoolClaim;
use tenancy::denial::Decision;
use tenancy::quota::pool;

use crate::decide::Input;

/// Gives a claim without a pool one that has what it asks for, and takes off a release that nobody can ask for.
pub fn prepare(input: &Input<'_, ResourcePoolClaim>) -> Decision<ResourcePoolClaim> {
    let Some(claim) = input.object else {
        return Decision::Allow;
    };
    let mut changed = pool::prepare(claim, input.old).unwrap_or_else(|| claim.clone());
    if changed.spec.pool.is_empty()
        && let Some(name) = &input.facts.pool
    {
        changed.spec.pool.clone_from(name);
    }
    if changed == *claim {
        Decision::Allow
    } else {
        Decision::Change(Box::new(changed), Vec::new())
    }
}

/// Refuses amounts that are none, and a change or the deletion of what is in use.
pub fn validate(input: &Input<'_, ResourcePoolClaim>) -> Decision<ResourcePoolClaim> {
    match (input.object, input.old) {
        (Some(claim), old) => {
            let beside = input.facts.claims_beside;
            let checked = pool::validate_claim(claim, old);
            checked.and_then(|()| pool::validate_number(beside, old)).into()
        }
        (None, Some(old)) => pool::validate_deletion(old, input.facts.end_of_claim).into(),
        (None, None) => Decision::Allow,
    }
}
