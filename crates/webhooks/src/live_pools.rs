//! Pools, read when a claim needs one or ends. That is seldom, so no replica keeps all of them in memory.

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use tenancy::quota::pool::{Deletion, is_bound, is_released};

use crate::facts::{Error, get, peek, read};
use crate::review::{Operation, Request};

/// All pools, for a claim that names none.
pub(crate) async fn of_claim(client: &Client, request: &Request) -> Result<Vec<ResourcePool>, Error> {
    let claim = peek::<ResourcePoolClaim>(request.object.as_deref());
    if !claim.is_some_and(|claim| claim.spec.pool.is_empty()) {
        return Ok(Vec::new());
    }
    let pools = Api::<ResourcePool>::all(client.clone());
    let found = pools.list(&ListParams::default()).await;
    Ok(found.map_err(|error| read("ResourcePools", "", error))?.items)
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
