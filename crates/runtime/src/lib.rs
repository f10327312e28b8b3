//! What every long-running process of ours needs and none of it is about tenants: a client, a lease, one watch per
//! kind, a runner for controllers, writing with server-side apply, events, metrics, health and a clean end.
//!
//! The runner and the watches are our own rather than `kube::runtime::Controller` for three reasons: webhooks and
//! controllers share one store per kind, several kinds of triggers meet in one queue, and each controller counts its
//! runs, failures by category and queue depth without every reconcile function having to.

pub mod admin;
pub mod apply;
pub mod client;
pub mod controller;
pub mod events;
pub mod field_managers;
pub mod index;
pub mod lease;
pub mod metrics;
mod process_metrics;
pub mod report;
pub mod shared;
mod shutdown;
pub mod telemetry;
pub mod tls;

pub use controller::{Action, Controller, Queue};
pub use index::Index;
pub use report::Report;
pub use shared::Shared;
pub use shutdown::Shutdown;
