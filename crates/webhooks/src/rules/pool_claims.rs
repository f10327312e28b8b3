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
    if changed.spec.pool.is_empty() {
        let namespace = input.request.namespace.as_deref().unwrap_or_default();
        if let Some(name) = pool::assign(&changed, namespace, &input.facts.pools) {
            name.clone_into(&mut changed.spec.pool);
        }
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
        (Some(claim), old) => pool::validate_claim(claim, old).into(),
        (None, Some(old)) => pool::validate_deletion(old, input.facts.end_of_claim).into(),
        (None, None) => Decision::Allow,
    }
}
