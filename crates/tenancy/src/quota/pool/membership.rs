//! Which pool a claim is of.

use api::capsule::{
    names::READY_CONDITION,
    v1beta2::{PoolReference, ResourcePool, ResourcePoolClaim},
};

use super::{Pool, asked, is_bound};
use crate::quota::{amounts::Amounts, verdict::Verdict};

/// The pool for a claim that names none: one that has the claim's namespace and offers every resource that is asked for.
/// One with enough left is better than one without, and then the first by name.
pub fn assign<'a>(claim: &ResourcePoolClaim, namespace: &str, pools: &'a [ResourcePool]) -> Option<&'a str> {
    let asked = asked(claim).ok()?;
    let offers = pools.iter().filter_map(|pool| {
        let name = pool.metadata.name.as_deref()?;
        let available = offer(pool, namespace)?;
        available
            .names_all_of(&asked)
            .then(|| (!asked.fit_in(&available), name))
    });
    offers.min().map(|(_, name)| name)
}

/// What a pool has left for a namespace. `None` if it has nothing for it.
fn offer(pool: &ResourcePool, namespace: &str) -> Option<Amounts> {
    if pool.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let read = Pool::new(pool).ok()?;
    let covers = read.namespaces.iter().any(|covered| covered == namespace);
    let claimed = Amounts::sum(read.served.values());
    covers.then(|| read.hard.minus(&claimed))
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
    let serving = pool.and_then(|pool| {
        Some((
            pool.metadata.uid.as_ref()?,
            Pool::new(pool).ok()?,
            offer(pool, namespace)?,
        ))
    });
    let Some((uid, pool, _)) = serving else {
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
