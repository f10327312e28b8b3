//! What may be written into pools and claims.

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};

use super::{MOST_CLAIMS_IN_A_NAMESPACE, MOST_RESOURCES, Pool, RELEASE_ANNOTATION, asked, is_bound, is_released};
use crate::{
    denial::Denial,
    quantity::Quantity,
    quota::{amounts::InvalidAmount, usage},
};

/// A pool with a default of nothing for every resource of its budget, if it asks for that. `None` if nothing changes.
pub fn with_defaults(pool: &ResourcePool) -> Option<ResourcePool> {
    if !pool.spec.config.defaults_zero {
        return None;
    }
    let mut changed = pool.clone();
    for resource in pool.spec.quota.hard.iter().flat_map(|hard| hard.keys()) {
        let default = changed.spec.defaults.entry(resource.clone());
        default.or_insert_with(|| Quantity::ZERO.to_wire());
    }
    (changed.spec.defaults != pool.spec.defaults).then_some(changed)
}

/// Checks a pool that somebody writes. `old` is how it was.
///
/// # Errors
/// If an amount or a scope cannot be read, or the budget becomes smaller than what is claimed.
pub fn validate_pool(pool: &ResourcePool, old: Option<&ResourcePool>) -> Result<(), Denial> {
    let read = Pool::new(pool).map_err(|error| unreadable(&error))?;
    usage::check_scopes(&read.quota).map_err(|error| {
        let field = "spec.quota.scopeSelector";
        Denial::new(field, "InvalidQuota", format!("{field}: {error}"))
    })?;
    // What an old pool says wrong does not keep it from being set right.
    let Some(old) = old.and_then(|old| Pool::new(old).ok()) else {
        return Ok(());
    };
    let claimed = old.all_given();
    for (resource, before) in old.hard.iter() {
        let (claimed, after) = (claimed.get(resource), read.hard.get(resource));
        let stays = read.hard.names(resource);
        let change = if stays && after < before && after < claimed {
            format!("reduce resource {resource} from {before} to {after}")
        } else if !stays && !claimed.is_zero() {
            format!("remove resource {resource}")
        } else {
            continue;
        };
        let message = format!(
            "can not {change} because quantity {claimed} is claimed; namespaces of the pool have to give claims back first"
        );
        return Err(Denial::new(
            format!("spec.quota.hard[{resource}]"),
            "ResourceClaimed",
            message,
        ));
    }
    Ok(())
}

fn unreadable(error: &InvalidAmount) -> Denial {
    Denial::new(error.field.clone(), "InvalidAmount", error.to_string())
}

/// A claim without a release that nobody can ask for yet: only what is in use has to be released. `old` is how the claim
/// was; a new one is never in use. `None` if nothing changes.
pub fn prepare(claim: &ResourcePoolClaim, old: Option<&ResourcePoolClaim>) -> Option<ResourcePoolClaim> {
    if old.is_some_and(is_bound) {
        return None;
    }
    let mut changed = claim.clone();
    let annotations = changed.metadata.annotations.as_mut()?;
    annotations.remove(RELEASE_ANNOTATION)?;
    Some(changed)
}

/// Checks a claim that somebody writes. `old` is how it was.
///
/// # Errors
/// If an amount cannot be read, nothing or too much is asked for, or the claim is in use and changes.
pub fn validate_claim(claim: &ResourcePoolClaim, old: Option<&ResourcePoolClaim>) -> Result<(), Denial> {
    let is_unchanged = old.is_some_and(|old| old.spec.claim == claim.spec.claim);
    let old = old.filter(|old| is_bound(old));
    let asks = asked(claim);
    if let Some(old) = old {
        let pool = &old.spec.pool;
        if claim.spec.pool != *pool {
            return Err(in_use("spec.pool", "its pool can not change", pool));
        }
        if asks.as_ref().ok() != asked(old).ok().as_ref() {
            return Err(in_use("spec.claim", "its amounts can not change", pool));
        }
    }
    let asks = asks.map_err(|error| unreadable(&error))?;
    // One from before can still lose its finalizers.
    if is_unchanged {
        return Ok(());
    }
    if asks.is_zero() {
        return Err(Denial::new(
            "spec.claim",
            "ClaimEmpty",
            "spec.claim: it asks for nothing; name what the namespace needs, such as requests.cpu: \"1\"",
        ));
    }
    let count = asks.iter().count();
    if count > MOST_RESOURCES {
        let message = format!("spec.claim: it names {count} resources; a claim has at most {MOST_RESOURCES}");
        return Err(Denial::new("spec.claim", "ClaimTooLarge", message));
    }
    Ok(())
}

/// Checks a new claim where there are so many already. What a pool serves is stored in one object, and one namespace is not
/// to fill that.
///
/// # Errors
/// If there are too many.
pub fn validate_number(claims_beside: usize, old: Option<&ResourcePoolClaim>) -> Result<(), Denial> {
    if old.is_some() || claims_beside < MOST_CLAIMS_IN_A_NAMESPACE {
        return Ok(());
    }
    let message = format!(
        "this namespace has {claims_beside} claims, and a namespace has at most {MOST_CLAIMS_IN_A_NAMESPACE}; delete one that \
         is not used, or make one larger instead"
    );
    Err(Denial::new("", "TooManyClaims", message))
}

/// What surrounds the deletion of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Whether the claim's namespace is being deleted, with all that is in it.
    pub namespace_goes: bool,
    /// Whether the pool is gone or being deleted.
    pub pool_goes: bool,
}

/// Checks the deletion of a claim. What holds a claim does not hold up the end of its namespace or its pool.
///
/// # Errors
/// If the claim is in use and nobody asked for its release.
pub fn validate_deletion(claim: &ResourcePoolClaim, deletion: Deletion) -> Result<(), Denial> {
    if !is_bound(claim) || is_released(claim) || deletion.namespace_goes || deletion.pool_goes {
        return Ok(());
    }
    Err(in_use("", "it can not be deleted", &claim.spec.pool))
}

fn in_use(field: &str, what: &str, pool: &str) -> Denial {
    let message = format!(
        "the claim is in use for the pool {pool}: {what}; remove what uses it, or set the annotation \
         {RELEASE_ANNOTATION}: \"true\" to give it back to the pool"
    );
    Denial::new(field, "ClaimInUse", message)
}
