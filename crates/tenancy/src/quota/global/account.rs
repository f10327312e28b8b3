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
    /// Takes in a projection of the quota: a count that began at `began`.
    ///
    /// What rose in namespaces that were counted before can have arrived by promised requests: requests from others are
    /// refused. What a namespace brings along when it joins, and a resource when it is limited, did not arrive.
    #[must_use]
    pub fn observe(&self, quota: &GlobalQuota, projection: &Projection, began: Timestamp) -> Self {
        let usage = || projection.namespace_usage.iter();
        let known = usage().filter(|(namespace, _)| self.namespaces.contains(*namespace));
        let known = Amounts::sum(known.map(|(_, used)| used));
        let arrived = known.only(&self.ledger.used).minus(&self.ledger.used);
        Self {
            observed_generation: quota.generation,
            initialized: projection.initialized,
            namespaces: usage()
                .filter(|(_, used)| used.names_all_of(&quota.hard))
                .map(|(namespace, _)| namespace.clone())
                .collect(),
            ledger: self.ledger.observe(projection.total.used.clone(), &arrived, began),
        }
    }
}
