//! GlobalResourceQuota: one budget that many namespaces share.
//!
//! Each namespace gets a ResourceQuota that allows what it uses and all that is left, so any one of them may take the
//! rest, and the copies add up to more than the budget on purpose. What keeps the sum within the budget is the
//! [ledger](super::ledger) that every request passes.

mod account;
mod admission;
mod change;
pub(in crate::quota) mod reach;

use std::collections::BTreeMap;

use api::capsule::{
    names::{self, READY_CONDITION},
    v1beta2::GlobalResourceQuota,
};
use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::{
        api::resource::Quantity as Wire,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use sha2::{Digest, Sha256};

pub(in crate::quota) use self::admission::{exceeded, not_ready};
pub(crate) use self::change::check_change;
pub use self::{
    account::Account,
    admission::{Operation, Review, admit, charge},
    change::{validate, validate_change},
    reach::{Counted, Moment, Reach, reach},
};
use super::{
    amounts::{Amounts, InvalidAmount},
    verdict::Verdict,
};

/// On a ResourceQuota or a ledger: the GlobalResourceQuota that it is of.
pub const QUOTA_LABEL: &str = "projectcapsule.dev/global-resource-quota";

/// The name of the quota's ResourceQuota in each namespace.
pub fn child_name(quota: &str) -> String {
    format!("capsule-global-quota-{}", hash::<10>(quota))
}

/// The name of the quota's ledger.
pub fn ledger_name(quota: &str, uid: &str) -> String {
    format!("global-resource-quota-{}", hash::<16>(&format!("{quota}/{uid}")))
}

pub(in crate::quota) fn hash<const BYTES: usize>(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let kept = digest.iter().take(BYTES);
    kept.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Labels of what is kept for a quota.
pub fn labels(quota: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (
            names::MANAGED_BY_LABEL.to_owned(),
            names::MANAGED_BY_CONTROLLER.to_owned(),
        ),
        (QUOTA_LABEL.to_owned(), quota.to_owned()),
    ])
}

/// Who says what the limits are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The GlobalResourceQuota.
    Quota,
    /// The Tenant of this name, in `spec.resourceQuotas` or in annotations.
    Tenant(String),
}

/// A quota, ready to be decided with.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalQuota {
    /// Its name, or that of its ResourceQuotas if a Tenant has it.
    pub name: String,
    /// Who has it.
    pub whose: Whose,
    /// `metadata.generation`.
    pub generation: i64,
    /// The limits of all namespaces together.
    pub hard: Amounts,
    /// Limits and scopes as they were written.
    pub quota: ResourceQuotaSpec,
}

impl GlobalQuota {
    /// Reads the limits of a quota.
    ///
    /// # Errors
    /// If one of them is negative or no quantity.
    pub fn new(quota: &GlobalResourceQuota) -> Result<Self, InvalidAmount> {
        Ok(Self {
            name: quota.metadata.name.clone().unwrap_or_default(),
            whose: Whose::Quota,
            generation: quota.metadata.generation.unwrap_or_default(),
            hard: Amounts::parse("spec.quota.hard", quota.spec.quota.hard.as_ref())?,
            quota: quota.spec.quota.clone(),
        })
    }
}

/// Uses, limits and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The limits.
    pub hard: Amounts,
    /// What is used.
    pub used: Amounts,
    /// What is left; nothing where more than the limit is used.
    pub available: Amounts,
}

/// What the namespaces of a quota should contain, and what its status should say.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// One ResourceQuota for each namespace, in the order of their names.
    pub children: Vec<ResourceQuota>,
    /// Sums over the namespaces.
    pub total: Total,
    /// What each namespace uses.
    pub namespace_usage: BTreeMap<String, Amounts>,
    /// Whether every namespace reports the use of every resource.
    pub initialized: bool,
    /// The condition Ready.
    pub ready: Verdict,
}

/// Projects a quota on its namespaces. `observed` has all of them, each with `status.used` of its ResourceQuota, if there
/// is one.
pub fn project(
    quota: &GlobalQuota,
    owner: &OwnerReference,
    observed: &BTreeMap<&str, Option<&BTreeMap<String, Wire>>>,
) -> Projection {
    let reported: BTreeMap<&str, Amounts> = observed
        .iter()
        .map(|(namespace, used)| (*namespace, Amounts::observed(*used).only(&quota.hard)))
        .collect();
    let none = Amounts::default().all_of(&quota.hard);
    let used = none.plus(&Amounts::sum(reported.values()));
    let available = quota.hard.minus(&used);
    let children = reported.iter().map(|(namespace, used)| {
        let hard = used.all_of(&quota.hard).plus(&available);
        ResourceQuota {
            metadata: ObjectMeta {
                name: Some(child_name(&quota.name)),
                namespace: Some((*namespace).to_owned()),
                labels: Some(labels(&quota.name)),
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(ResourceQuotaSpec {
                hard: Some(hard.to_wire()),
                ..quota.quota.clone()
            }),
            status: None,
        }
    });
    let initialized = reported.values().all(|used| used.names_all_of(&quota.hard));
    let ready = if initialized {
        Verdict::yes(READY_CONDITION, "Succeeded", "reconciled")
    } else {
        Verdict::no(
            READY_CONDITION,
            "Reconciling",
            "waiting for ResourceQuota usage initialization",
        )
    };
    Projection {
        children: children.collect(),
        total: Total {
            hard: quota.hard.clone(),
            used,
            available,
        },
        namespace_usage: reported
            .into_iter()
            .map(|(namespace, used)| (namespace.to_owned(), used))
            .collect(),
        initialized,
        ready,
    }
}

#[cfg(test)]
mod tests;
