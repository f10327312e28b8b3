//! The controllers of quotas that span namespaces.
//!
//! **Watches** ResourcePools, ResourcePoolClaims and the ResourceQuotas made for pools; Namespaces are shared with the rest of
//! the process. **Decides** with `tenancy::quota`, from memory alone. **Writes** only differences, each with the version of
//! what it was decided from, so that two replicas that both believe to lead do not undo each other's work.
//!
//! One module per kind of budget.

mod conditions;
mod error;
mod pools;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use runtime::events::Recorder;
use runtime::{Shared, Shutdown};

pub use error::Error;

/// What the controllers work with. The watch of Namespaces is shared with whoever else needs it.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub namespaces: Shared<Namespace>,
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
    pools::run(context).await
}
