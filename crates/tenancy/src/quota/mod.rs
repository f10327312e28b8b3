//! Quotas of tenants: what objects use, what is promised to requests on their way, and how budgets are shared.
//!
//! Three kinds of budget meet here. A [GlobalResourceQuota](global) limits what many namespaces use together, counted as
//! the API server [counts](usage). A [ResourcePool](pool) is divided among namespaces by claims. A [custom quota](custom)
//! adds up whatever its sources measure. The first and the last are exact through a [ledger]: quotas that are balanced
//! after the fact, as those of a Tenant in [`crate::quotas`], can be overshot by requests that come at the same time.

pub mod amounts;
pub mod coverage;
pub mod custom;
pub mod global;
pub mod ledger;
pub mod pool;
pub mod rule_quotas;
pub mod stored;
pub mod usage;
pub mod verdict;
