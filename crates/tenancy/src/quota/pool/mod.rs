//! ResourcePool: a budget that is divided among namespaces by claims.
//!
//! A claim is served when everything that it asks for is left in the pool, the oldest first; what is served becomes the
//! limit of a ResourceQuota in the claim's namespace. A claim is bound while what it gives is in use, and what it gives back
//! stays counted for its namespace while it is used.

mod admission;
mod binding;
mod division;
mod held;
mod membership;
mod plan;

use std::collections::BTreeMap;

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim, ResourcePoolConfig};
use k8s_openapi::api::core::v1::ResourceQuotaSpec;

pub use self::{
    admission::{Deletion, prepare, validate_claim, validate_deletion, validate_number, validate_pool, with_defaults},
    division::{Exhaustion, Outcome},
    held::{Allowance, Place},
    membership::{associate, candidates},
    plan::{Letting, Plan, child_name, labels, plan},
};
use super::amounts::{Amounts, InvalidAmount};

/// On a ResourceQuota: the pool that it is of.
pub const POOL_LABEL: &str = "projectcapsule.dev/pool";
/// On a bound claim: `true` asks the pool to let it go.
pub const RELEASE_ANNOTATION: &str = "projectcapsule.dev/release";
/// Whether what a claim gives is used.
pub const BOUND_CONDITION: &str = "Bound";
/// Whether there is not enough for a claim, or for all claims of a pool.
pub const EXHAUSTED_CONDITION: &str = "Exhausted";

/// A pool, ready to be decided with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The budget.
    pub hard: Amounts,
    /// What every namespace has besides, outside of the budget.
    pub defaults: Amounts,
    /// Limits and scopes as they were written.
    pub quota: ResourceQuotaSpec,
    /// How claims are treated.
    pub config: ResourcePoolConfig,
    /// What was given, by the UID of the claim. A claim may be gone whose namespace still uses some of it.
    pub given: BTreeMap<String, Given>,
    /// The namespaces that it had when it was looked at last.
    pub namespaces: Vec<String>,
}

/// What a claim was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// The name of the claim.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How much.
    pub amounts: Amounts,
}

impl Pool {
    /// Reads a pool.
    ///
    /// # Errors
    /// If an amount of its spec is negative or no quantity.
    pub fn new(pool: &ResourcePool) -> Result<Self, InvalidAmount> {
        let status = pool.status.as_ref();
        let given = status.into_iter().flat_map(|status| status.claims.values().flatten());
        Ok(Self {
            name: pool.metadata.name.clone().unwrap_or_default(),
            uid: pool.metadata.uid.clone().unwrap_or_default(),
            hard: Amounts::parse("spec.quota.hard", pool.spec.quota.hard.as_ref())?,
            defaults: Amounts::parse("spec.defaults", Some(&pool.spec.defaults))?,
            quota: pool.spec.quota.clone(),
            config: pool.spec.config,
            given: given
                .map(|claim| {
                    let given = Given {
                        name: claim.name.clone(),
                        namespace: claim.namespace.clone(),
                        amounts: Amounts::observed(Some(&claim.claims)),
                    };
                    (claim.uid.clone(), given)
                })
                .collect(),
            namespaces: status.map(|status| status.namespaces.clone()).unwrap_or_default(),
        })
    }

    /// The sum of what was given.
    pub fn all_given(&self) -> Amounts {
        Amounts::sum(self.given.values().map(|given| &given.amounts))
    }
}

/// What a claim asks for.
///
/// # Errors
/// If an amount is negative, which would give the pool what it does not have, or no quantity.
pub fn asked(claim: &ResourcePoolClaim) -> Result<Amounts, InvalidAmount> {
    Amounts::parse("spec.claim", Some(&claim.spec.claim))
}

/// Most resources that a claim names. What it lacks is written into its status and its pool's.
pub const MOST_RESOURCES: usize = 64;
/// Most claims in a namespace.
pub const MOST_CLAIMS_IN_A_NAMESPACE: usize = 100;
/// Most claims that a pool serves.
pub const MOST_CLAIMS: usize = 1_000;
/// As many claims each namespace of a pool has at least, until the pool is full.
pub const LEAST_CLAIMS_IN_A_NAMESPACE: usize = 5;

/// Whether the status says that the claim is in use.
pub fn is_bound(claim: &ResourcePoolClaim) -> bool {
    let conditions = claim.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == BOUND_CONDITION && condition.status == "True")
}

/// Whether the pool is asked to let the claim go.
pub fn is_released(claim: &ResourcePoolClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(RELEASE_ANNOTATION))
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests;
