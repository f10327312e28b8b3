//! Quotas of tenants: what objects use, what is promised to requests on their way, and how budgets are shared.
//!
//! Four kinds of budget meet here. A [GlobalResourceQuota](global) limits what many namespaces use together, counted as
//! the API server [counts](usage). A [ResourcePool](pool) is divided among namespaces by claims. A [custom quota](custom)
//! adds up whatever its sources measure. What a [Tenant](tenant) limits for all its namespaces is balanced among them after
//! the fact ([`crate::quotas`]). All but pools are exact through a [ledger], since what is balanced after the fact can be
//! overshot by requests that come at the same time; a tenant's requests far from their limit are let pass on
//! [credit]. [Places] for namespaces are promised likewise.
//!
//! [Places]: places

pub mod amounts;
pub mod arrivals;
pub mod coverage;
pub mod credit;
pub mod custom;
pub mod global;
pub mod ledger;
pub mod places;
pub mod pool;
pub mod rule_quotas;
pub mod stored;
pub mod tenant;
pub mod usage;
pub mod verdict;
