//! GlobalResourceQuotas.
//!
//! Each namespace of a quota gets a ResourceQuota that allows what it uses and all that is left; the API server counts with
//! it. What is counted goes into the quota's QuantityLedger, next to what webhooks have promised to requests on their way
//! ([`tenancy::quota::global`]), with the version that was read: webhooks of several replicas write there as well.
//!
//! A pass waits until requests have been quiet for a moment, or a second has gone by. Kubernetes counts a ResourceQuota again
//! from its own watches whenever its limits are written, and can forget an object for a while that is stored in that very
//! moment; a limit that is written when things are quiet does not provoke that. Until then a promise stands for the object.
//! What is forgotten all the same is overdue two seconds later: then Kubernetes is made to count that namespace again, long
//! before the promise ends.
//!
//! What is made and deleted again before Kubernetes has counted it never shows in a count. So deletions of what is promised are
//! watched ([`watches`]), and end the promises ([`tenancy::quota::arrivals`]).

mod apply;
mod desired;
mod metrics;
mod observe;
mod reconcile;
mod status;
mod watches;

use std::sync::Arc;

use runtime::{Controller, Queue};

use crate::{Context, Error};
use observe::Stores;
use reconcile::Quotas;

/// Quotas looked at at a time.
const CONCURRENCY: usize = 4;

/// Runs the controller until the shutdown.
///
/// # Errors
/// When a watch ends before its first list.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let stores = Stores::start(&context).await?;
    context
        .registry
        .register_collector(Box::new(metrics::Quotas::new(&stores)));
    let queue = Queue::new();
    stores.trigger(&queue);
    let reconciler = Arc::new(Quotas::new(&context, stores));
    Controller::new("global-resource-quotas", &context.metrics)
        .concurrency(CONCURRENCY)
        .run(queue, context.shutdown.clone(), move |name: String| {
            let reconciler = reconciler.clone();
            async move { reconciler.reconcile(&name).await }
        })
        .await;
    Ok(())
}
