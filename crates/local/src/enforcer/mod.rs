//! NetworkPolicy for a node whose pod network does not enforce it.
//!
//! The bridge plugin that the local cluster uses connects pods and nothing more, and no plugin that enforces policy can
//! be had as a Debian package. Isolation between tenants is the point of the whole exercise, so it must be shown with
//! real packets: this module turns the cluster's policies into one nftables table in the node's network namespace.
//! In a user's own cluster their CNI does this; nothing of the product depends on it.
//!
//! [`rules`] decides (objects to an nft script), [`watch`] acts (watches, runs `nft`).
//!
//! Known limit: a pod is subject to policies from the moment its address is in its status, which is a fraction of a
//! second after it starts.

pub mod rules;
pub mod watch;

pub use watch::{Error, run};
