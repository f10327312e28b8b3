//! What was given back and is still used.
//!
//! A claim that is released, deleted or made smaller gives back what it had, but what runs on it does not end with it; nor
//! does a namespace that is being deleted use nothing from that moment on. So what was given stays counted for its namespace
//! until its ResourceQuota allows no more of it: it is lowered to what is used, and only then can others have the rest.

use k8s_openapi::api::core::v1::ResourceQuota;

use crate::quota::amounts::Amounts;

/// A namespace of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Whether it is being deleted: it claims nothing any more, and nothing is written there.
    pub is_ending: bool,
    /// What the pool's ResourceQuota there says; `None` without one.
    pub allowance: Option<Allowance>,
}

/// What a pool's ResourceQuota says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// What is used, as Kubernetes counted it.
    pub used: Amounts,
    /// What may be used at most: by the quota's spec, and by its status as long as Kubernetes goes by that.
    hard: Amounts,
    /// What is used at most: what was not counted yet may be used up.
    at_most: Amounts,
}

impl Allowance {
    /// Reads a ResourceQuota.
    pub fn of(quota: &ResourceQuota) -> Self {
        let (spec, status) = (quota.spec.as_ref(), quota.status.as_ref());
        let written = Amounts::observed(spec.and_then(|spec| spec.hard.as_ref()));
        let known = Amounts::observed(status.and_then(|status| status.hard.as_ref()));
        let used = Amounts::observed(status.and_then(|status| status.used.as_ref()));
        let uncounted = written
            .iter()
            .filter(|(resource, _)| !used.names(resource))
            .map(|(resource, amount)| (resource.to_owned(), amount));
        Self {
            at_most: used.plus(&uncounted.collect()),
            hard: written.most(&known),
            used,
        }
    }
}

impl Place {
    /// What of `surplus`, which was given and is not claimed any more, stays counted, where `covered` is there for what is
    /// used besides.
    pub(super) fn counted(&self, surplus: &Amounts, covered: &Amounts) -> Amounts {
        let Some(allowance) = &self.allowance else {
            return surplus.clone();
        };
        // Nothing is made any more in a namespace that ends.
        let may_use = if self.is_ending {
            allowance.at_most.clone()
        } else {
            allowance.at_most.most(&allowance.hard)
        };
        surplus.least(&may_use.minus(covered)).without_zeros()
    }

    /// What of `counted` is used, so that the quota has to allow it.
    pub(super) fn kept(&self, counted: &Amounts, covered: &Amounts) -> Amounts {
        let Some(allowance) = &self.allowance else {
            return counted.clone();
        };
        counted.least(&allowance.at_most.minus(covered)).without_zeros()
    }
}
