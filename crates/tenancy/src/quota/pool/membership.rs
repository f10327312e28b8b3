//! Which pool a claim is of.

use api::capsule::{
    names::READY_CONDITION,
    v1beta2::{PoolReference, ResourcePool, ResourcePoolClaim},
};

use super::{Pool, asked, is_bound};
use crate::quota::{amounts::Amounts, verdict::Verdict};

/// Pools for a claim that names none: those that have the claim's namespace and offer every resource that is asked for, the
/// best first. One with enough left is better than one without, and then the first by name.
///
/// What is left is read from `status.allocation`: the claims of a pool are not needed.
pub fn candidates<'a>(
    claim: &ResourcePoolClaim,
    namespace: &str,
    pools: impl IntoIterator<Item = &'a ResourcePool>,
) -> Vec<&'a ResourcePool> {
    let Ok(asked) = asked(claim) else {
        return Vec::new();
    };
    let offers = pools.into_iter().filter_map(|pool| {
        let pool = Some(pool).filter(|pool| covers(pool, namespace))?;
        let hard = Amounts::observed(pool.spec.quota.hard.as_ref());
        let allocation = pool.status.as_ref().and_then(|status| status.allocation.as_ref());
        let left = allocation.map_or_else(Amounts::default, |left| Amounts::observed(Some(&left.available)));
        hard.names_all_of(&asked).then(|| (!asked.fit_in(&left), pool))
    });
    let mut offers: Vec<_> = offers.collect();
    offers.sort_by_key(|(lacks, pool)| (*lacks, pool.metadata.name.as_deref()));
    offers.into_iter().map(|(_, pool)| pool).collect()
}

/// Whether a pool is for a namespace, and stays.
fn covers(pool: &ResourcePool, namespace: &str) -> bool {
    let status = pool.status.as_ref();
    pool.metadata.deletion_timestamp.is_none()
        && status.is_some_and(|status| status.namespaces.iter().any(|covered| covered == namespace))
}

/// The pool that serves a claim; or the condition Ready that says why none does. `pool` is the one that the claim names,
/// if it is there.
///
/// A pool that is not for the claim's namespace looks like one that is not there: what others have is not for the claim's
/// author to know.
///
/// # Errors
/// Names what is missing.
pub fn associate(claim: &ResourcePoolClaim, pool: Option<&ResourcePool>) -> Result<PoolReference, Verdict> {
    let failed = |message: String| Err(Verdict::no(READY_CONDITION, "Failed", message));
    if claim.spec.pool.is_empty() {
        return failed("no pool reference was defined".to_owned());
    }
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let serving = pool
        .filter(|pool| covers(pool, namespace))
        .and_then(|pool| Some((pool.metadata.uid.as_ref()?, Pool::new(pool).ok()?)));
    let Some((uid, pool)) = serving else {
        return failed("resourcepool not available".to_owned());
    };
    let asked = match asked(claim) {
        Ok(asked) => asked,
        Err(error) => return failed(error.to_string()),
    };
    if let Some((resource, _)) = asked.iter().find(|(resource, _)| !pool.hard.names(resource)) {
        return failed(format!("resource {resource} is not available in pool {}", pool.name));
    }
    let before = claim.status.as_ref().and_then(|status| status.pool.as_ref());
    if let Some(before) = before.filter(|before| before.uid != *uid && is_bound(claim)) {
        return failed(format!(
            "can not change pool while claim is in use for pool {}",
            before.name
        ));
    }
    Ok(PoolReference {
        name: pool.name,
        uid: uid.clone(),
    })
}
