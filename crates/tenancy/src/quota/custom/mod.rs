//! CustomQuota and GlobalCustomQuota: a limit on what objects of any kind add up to.
//!
//! Sources say what is measured of which objects. An object is measured the same way when it is reviewed and when it is
//! counted, whatever the order of the sources: what `add` and `count` say, less what `sub` says, and no less than nothing if
//! it adds anything. An object that only subtracts counts against the others.

mod admission;
mod change;
mod expressions;
mod languages;
mod measure;
mod reach;
mod recount;
mod scale;

pub use self::{
    admission::{Charge, Review, Step, leaving, matching},
    change::{MOST_QUOTAS, validate, validate_change, validate_number},
    expressions::Expressions,
    languages::{Languages, Metered},
    measure::{Measured, Unmeasured, Usage, measure},
    reach::{Asked, Kinds, Reach, reach},
    recount::{Recount, recount},
    scale::Scaled,
};
use crate::quantity::Quantity;
use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuotaSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};

use super::amounts::{InvalidAmount, amount};

/// Which of both kinds a quota is of. Those of the cluster come first where two have the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A GlobalCustomQuota.
    Global,
    /// A CustomQuota.
    Namespaced,
}

impl Kind {
    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "GlobalCustomQuota",
            Self::Namespaced => "CustomQuota",
        }
    }
}

/// A quota, ready to be decided with.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom {
    /// Which kind it is of.
    pub kind: Kind,
    /// Its namespace; empty for one of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether this generation has been counted.
    pub is_ready: bool,
    /// The limit.
    pub limit: Quantity,
    /// What is measured.
    pub sources: Vec<QuotaSource>,
    /// Which objects, by their labels; empty for all.
    pub scope_selectors: Vec<LabelSelector>,
}

impl Custom {
    /// Reads a quota of a namespace.
    ///
    /// # Errors
    /// If the limit is negative or no quantity.
    pub fn namespaced(quota: &CustomQuota) -> Result<Self, InvalidAmount> {
        let status = quota.status.as_ref();
        Ok(Self {
            kind: Kind::Namespaced,
            namespace: quota.metadata.namespace.clone().unwrap_or_default(),
            name: quota.metadata.name.clone().unwrap_or_default(),
            generation: quota.metadata.generation.unwrap_or_default(),
            is_ready: status.is_some_and(|status| {
                is_ready(
                    quota.metadata.generation,
                    status.observed_generation,
                    &status.conditions,
                )
            }),
            limit: amount(|| LIMIT.to_owned(), &quota.spec.limit)?,
            sources: quota.spec.sources.clone(),
            scope_selectors: quota.spec.scope_selectors.clone(),
        })
    }

    /// Reads a quota of the cluster.
    ///
    /// # Errors
    /// If the limit is negative or no quantity.
    pub fn global(quota: &GlobalCustomQuota) -> Result<Self, InvalidAmount> {
        let status = quota.status.as_ref();
        Ok(Self {
            kind: Kind::Global,
            namespace: String::new(),
            name: quota.metadata.name.clone().unwrap_or_default(),
            generation: quota.metadata.generation.unwrap_or_default(),
            is_ready: status.is_some_and(|status| {
                is_ready(
                    quota.metadata.generation,
                    status.observed_generation,
                    &status.conditions,
                )
            }),
            limit: amount(|| LIMIT.to_owned(), &quota.spec.limit)?,
            sources: quota.spec.sources.clone(),
            scope_selectors: quota.spec.scope_selectors.clone(),
        })
    }
}

const LIMIT: &str = "spec.limit";

/// Whether the status is about the current generation and says that all is counted.
fn is_ready(generation: Option<i64>, observed: Option<i64>, conditions: &[Condition]) -> bool {
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    generation == observed && ready.is_some_and(|ready| ready.status == "True")
}

#[cfg(test)]
mod tests;
