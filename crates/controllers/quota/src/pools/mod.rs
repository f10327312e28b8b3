//! ResourcePools and their claims.
//!
//! A claim is first associated with the pool that it names ([`association`]); the pool then serves its claims from its budget,
//! and each namespace gets the sum of its claims as a ResourceQuota ([`desired`]).
//!
//! What is given away is a ledger in the pool's status. It is written before any quota becomes larger, in the version that the
//! decision was made from; quotas become smaller before others become larger, each in the version that was seen. So whatever
//! ends between two of these writes, and whoever else believes to lead, the quotas together never allow more than the pool has.

mod apply;
mod association;
mod desired;
mod metrics;
mod observe;
mod reconcile;
mod status;

use std::sync::Arc;

use runtime::{Controller, Queue};

use crate::{Context, Error};
use observe::Stores;
use reconcile::Pools;

/// Pools, and claims, looked at at a time.
const CONCURRENCY: usize = 4;

/// Runs the controllers of pools and of claims until the shutdown.
///
/// # Errors
/// When a watch ends before its first list.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let stores = Stores::start(&context).await?;
    context
        .registry
        .register_collector(Box::new(metrics::Pools::new(&stores)));
    let (pools, claims) = (Queue::new(), Queue::new());
    stores.trigger(&pools, &claims);
    let reconciler = Arc::new(Pools::new(&context, stores));
    let of_claims = reconciler.clone();
    tokio::join!(
        Controller::new("resource-pools", &context.metrics)
            .concurrency(CONCURRENCY)
            .run(pools, context.shutdown.clone(), move |name: String| {
                let reconciler = reconciler.clone();
                async move { reconciler.pool(&name).await }
            }),
        Controller::new("resource-pool-claims", &context.metrics)
            .concurrency(CONCURRENCY)
            .run(claims, context.shutdown.clone(), move |claim: observe::ClaimName| {
                let reconciler = of_claims.clone();
                async move { reconciler.claim(&claim).await }
            }),
    );
    Ok(())
}
