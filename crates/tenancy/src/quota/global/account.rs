//! What is known of the use of a GlobalResourceQuota.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{GlobalQuota, Projection};
use crate::quota::{amounts::Amounts, ledger::Ledger};

/// What is known of a quota's use: the ledger, and how far it covers the quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The generation of the quota that was counted for.
    pub observed_generation: i64,
    /// Whether all namespaces have been counted at least once.
    pub initialized: bool,
    /// The namespaces that were counted, for every resource.
    pub namespaces: BTreeSet<String>,
    /// Uses and promises.
    pub ledger: Ledger,
}

impl Account {
    /// What rose since the count before, in namespaces that were counted then: what is promised to requests from others is
    /// nothing, and what a namespace brings along when it joins, and a resource when it is limited, did not arrive.
    pub fn rise(&self, projection: &Projection) -> Amounts {
        let usage = projection.namespace_usage.iter();
        let known = usage.filter(|(namespace, _)| self.namespaces.contains(*namespace));
        let known = Amounts::sum(known.map(|(_, used)| used));
        known.only(&self.ledger.used).minus(&self.ledger.used)
    }

    /// Takes in a projection of the quota: a count that began at `began`. `over` is what of the promises has arrived or is gone,
    /// as [`Arrivals`](crate::quota::arrivals::Arrivals) has it.
    #[must_use]
    pub fn observe(&self, quota: &GlobalQuota, projection: &Projection, over: &Amounts, began: Timestamp) -> Self {
        let usage = projection.namespace_usage.iter();
        let used = projection.total.used.clone();
        Self {
            observed_generation: quota.generation,
            initialized: projection.initialized,
            namespaces: usage
                .filter(|(_, used)| used.names_all_of(&quota.hard))
                .map(|(namespace, _)| namespace.clone())
                .collect(),
            ledger: self.ledger.settle(used, over, began, true),
        }
    }
}
