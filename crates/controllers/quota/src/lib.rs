//! The controllers of quotas that span namespaces.
//!
//! **Watches** ResourcePools, ResourcePoolClaims, GlobalResourceQuotas, the ResourceQuotas made for pools and quotas, and what
//! custom quotas count; Namespaces, custom quotas and QuantityLedgers are shared with the rest of the process. **Decides** with
//! `tenancy::quota`, from memory alone. **Writes** only differences, each with the version of what it was decided from, so that two replicas that both believe to lead do not undo each other's work.
//!
//! One module per kind of budget.

mod conditions;
mod custom;
mod deletions;
mod error;
mod global;
mod pools;
mod write;

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuantityLedger};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use runtime::events::Recorder;
use runtime::{Shared, Shutdown};

pub use error::Error;

/// What the controllers work with. The watches are shared with whoever else needs them.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    /// Where ledgers of what spans namespaces are: the operator's own namespace.
    pub namespace: String,
    pub namespaces: Shared<Namespace>,
    pub custom_quotas: Shared<CustomQuota>,
    pub global_custom_quotas: Shared<GlobalCustomQuota>,
    pub quantity_ledgers: Shared<QuantityLedger>,
    pub registry: runtime::metrics::Registry,
    /// Of all controllers of the process.
    pub metrics: runtime::controller::Metrics,
    pub recorder: Recorder,
    pub shutdown: Shutdown,
}

/// Runs the controllers until the shutdown. Only the holder of the lease should call it.
///
/// # Errors
/// When a watch ends before its first list is complete, which the shutdown causes as well.
pub async fn run(context: Context) -> Result<(), Error> {
    tokio::try_join!(
        pools::run(context.clone()),
        custom::run(context.clone()),
        global::run(context)
    )
    .map(drop)
}
