//! What is read when a claim is made, needs a pool, or ends.
//!
//! Which pool has what a claim asks for is looked up in memory, by what statuses say is left: everybody may make claims, and
//! reading all pools for each of them would be a way to keep API servers busy. That the pool is still there is read live.

use std::time::Duration;

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt as _};
use tenancy::quota::pool::{Deletion, MOST_CLAIMS_IN_A_NAMESPACE, candidates, is_bound, is_released};
use tokio::time::{Instant, sleep};

use crate::facts::{Error, get, peek, read};
use crate::review::{Operation, Request};
use crate::view::Source;

/// How long a claim for which there is no pool waits for the watch to show one that was made just now.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);
/// Pools that are looked for, if those before have gone meanwhile.
const ATTEMPTS: usize = 3;

/// The pool for a claim that names none, if there is one.
pub(crate) async fn of_claim(client: &Client, source: &Source, request: &Request) -> Result<Option<String>, Error> {
    let claim = peek::<ResourcePoolClaim>(request.object.as_deref());
    let Some(claim) = claim.filter(|claim| claim.spec.pool.is_empty()) else {
        return Ok(None);
    };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let api = Api::<PartialObjectMeta<ResourcePool>>::all(client.clone());
    for (name, uid) in known(source, &claim, namespace).await {
        let found = get(&api, &name).await?;
        if found.is_some_and(|pool| pool.uid() == uid && pool.metadata.deletion_timestamp.is_none()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Names and UIDs of pools that the watch shows, the best first.
async fn known(source: &Source, claim: &ResourcePoolClaim, namespace: &str) -> Vec<(String, Option<String>)> {
    let Some(watches) = &source.namespace_tenants else {
        return Vec::new();
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let pools = watches.pools.store().state();
        let found = candidates(claim, namespace, pools.iter().map(|pool| &**pool));
        if !found.is_empty() || Instant::now() >= end {
            let best = found.into_iter().take(ATTEMPTS);
            return best.map(|pool| (pool.name_any(), pool.uid())).collect();
        }
        sleep(PAUSE).await;
    }
}

/// How many claims there are where one is to be made; no more than are allowed are counted.
pub(crate) async fn claims_beside(client: &Client, request: &Request) -> Result<usize, Error> {
    if request.operation != Operation::Create {
        return Ok(0);
    }
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let claims = Api::<ResourcePoolClaim>::namespaced(client.clone(), namespace);
    let most = u32::try_from(MOST_CLAIMS_IN_A_NAMESPACE).unwrap_or(u32::MAX);
    let found = claims.list_metadata(&ListParams::default().limit(most)).await;
    let found = found.map_err(|error| read("ResourcePoolClaims", namespace, error))?;
    Ok(found.items.len())
}

/// Whether the end of a claim in use is part of a larger one.
pub(crate) async fn end_of_claim(client: &Client, request: &Request) -> Result<Deletion, Error> {
    let claim = peek::<ResourcePoolClaim>(request.old_object.as_deref());
    let Some(claim) =
        claim.filter(|claim| request.operation == Operation::Delete && is_bound(claim) && !is_released(claim))
    else {
        return Ok(Deletion::default());
    };
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let namespace = get(&namespaces, request.namespace.as_deref().unwrap_or_default()).await?;
    let pools = Api::<PartialObjectMeta<ResourcePool>>::all(client.clone());
    let pool = get(&pools, &claim.spec.pool).await?;
    Ok(Deletion {
        namespace_goes: namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        pool_goes: pool.is_none_or(|pool| pool.metadata.deletion_timestamp.is_some()),
    })
}
