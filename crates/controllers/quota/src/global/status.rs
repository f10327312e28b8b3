//! What a quota's status says. Pure.

use api::capsule::v1beta2::{Allocation, GlobalResourceQuota, GlobalResourceQuotaStatus, NamespaceUsage};
use jiff::Timestamp;
use tenancy::quota::global::Projection;
use tenancy::quota::verdict::Verdict;

use super::observe::Observed;
use crate::conditions;

/// The status after a look at the quota.
pub(super) fn of(
    quota: &GlobalResourceQuota,
    observed: &Observed,
    projection: &Projection,
    ready: &Verdict,
    now: Timestamp,
) -> GlobalResourceQuotaStatus {
    let before = quota.status.clone().unwrap_or_default();
    let usage = projection.namespace_usage.iter();
    GlobalResourceQuotaStatus {
        namespaces: observed.namespaces.iter().cloned().collect(),
        namespace_count: i64::try_from(observed.namespaces.len()).unwrap_or(i64::MAX),
        namespace_usage: usage
            .map(|(namespace, used)| (namespace.clone(), NamespaceUsage { used: used.to_wire() }))
            .collect(),
        total: Allocation {
            hard: projection.total.hard.to_wire(),
            used: projection.total.used.to_wire(),
            available: projection.total.available.to_wire(),
        },
        conditions: conditions::with(&before.conditions, std::slice::from_ref(ready), now),
        observed_generation: quota.metadata.generation,
    }
}

/// The status of a quota that cannot be counted as it is written: what was known of it, and why.
pub(super) fn unreadable(quota: &GlobalResourceQuota, ready: &Verdict, now: Timestamp) -> GlobalResourceQuotaStatus {
    let before = quota.status.clone().unwrap_or_default();
    GlobalResourceQuotaStatus {
        conditions: conditions::with(&before.conditions, std::slice::from_ref(ready), now),
        observed_generation: quota.metadata.generation,
        ..before
    }
}
