//! Whether a request fits into a GlobalResourceQuota.

use api::capsule::v1beta2::LedgerObject;
use jiff::Timestamp;

use super::{Account, GlobalQuota, Whose};
use crate::{
    denial::Denial,
    quantity::Quantity,
    quota::{
        amounts::{Amounts, InvalidAmount},
        ledger::{self, Excess, Ledger, Refusal},
        usage::{self, Object, Resource},
    },
};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It makes an object.
    Create,
    /// It changes one.
    Update,
}

/// A request that is under review.
#[derive(Clone, Debug)]
pub struct Review<'a> {
    /// The UID of the review.
    pub uid: &'a str,
    /// What the request does.
    pub operation: Operation,
    /// The resource that it is about.
    pub resource: &'a Resource,
    /// The part of the object that it is about; empty for the object.
    pub subresource: &'a str,
    /// The object as it would be.
    pub object: &'a Object,
    /// The object as it is, if there is one.
    pub old: Option<&'a Object>,
    /// Which object that is. Its namespace is the request's.
    pub reference: &'a LedgerObject,
    /// When it is reviewed.
    pub now: Timestamp,
}

impl Review<'_> {
    /// Whether it can change what is used: the creation of anything, and changes of what is more than one object.
    fn counts(&self) -> bool {
        match (self.operation, self.subresource, self.object) {
            (Operation::Create, "", _) | (Operation::Update, "resize", Object::Pod(_)) => true,
            (Operation::Update, "" | "status", object) => !matches!(object, Object::Other),
            _ => false,
        }
    }

    /// What a node or a controller reports has happened already.
    fn is_report(&self) -> bool {
        self.subresource == "status"
    }
}

/// Reviews a request. The ledger to be written comes back, if there is something to promise.
///
/// Changes that take nothing pass whether the quota is ready or not, and reports always.
///
/// # Errors
/// If there is not enough (403), or that cannot be known at the moment (500).
pub fn admit(
    quota: &GlobalQuota,
    account: Option<&Account>,
    ledger_name: &str,
    review: &Review<'_>,
) -> Result<Option<Ledger>, Denial> {
    let Some(request) = charge(quota, review)? else {
        return Ok(None);
    };
    let ready = ready(quota, account, ledger_name, &review.reference.namespace);
    let account = match ready {
        Ok(account) => account,
        Err(_) if review.is_report() => return Ok(None),
        Err(denial) => return Err(denial),
    };
    if review.is_report() {
        // Without room the report passes unrecorded; the next count has it.
        return Ok(account.ledger.record(&request, &quota.hard, review.now).ok());
    }
    match account.ledger.reserve(&request, &quota.hard, review.now) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(Refusal::Exceeded(excess)) => Err(exceeded(quota, &excess)),
        Err(Refusal::Full) => Err(not_ready(quota, "too many requests are on their way; please retry")),
    }
}

/// What a request takes of a quota: `None` if nothing.
///
/// # Errors
/// If the object does not say what it has to say, or says an amount that cannot be counted.
pub fn charge(quota: &GlobalQuota, review: &Review<'_>) -> Result<Option<ledger::Request>, Denial> {
    if !review.counts() || !inside(quota, review.object)? {
        return Ok(None);
    }
    let old = match (review.operation, review.old) {
        (Operation::Update, Some(old)) if inside(quota, old)? => Some(old),
        _ => None,
    };
    // A pod that was let in before the quota can be labelled still.
    let is_new = old.is_none() || review.subresource == "resize";
    if is_new
        && !review.is_report()
        && let Some(missing) = usage::unspecified(review.object, &quota.hard)
    {
        let whose = match &quota.whose {
            Whose::Quota => format!("failed GlobalResourceQuota {:?}", quota.name),
            // As Kubernetes says it.
            Whose::Tenant(_) => format!("failed quota: {}", quota.name),
        };
        let message = format!(
            "{whose}: {missing}; the quota limits these resources, so every container has to say how much of them it needs"
        );
        return Err(Denial::new("spec.containers", "QuotaUnspecified", message));
    }
    let used = |object| usage::of(review.resource, object, review.now).map(|used: Amounts| used.only(&quota.hard));
    let usage = used(review.object).map_err(|error| uncountable(&error))?;
    let before = old.map(used).transpose().map_err(|error| uncountable(&error))?;
    let delta = usage.minus(&before.unwrap_or_default()).without_zeros();
    Ok((!delta.is_zero()).then(|| ledger::Request {
        id: format!("{}/{}", review.uid, quota.name),
        object: review.reference.clone(),
        usage,
        delta,
    }))
}

fn inside(quota: &GlobalQuota, object: &Object) -> Result<bool, Denial> {
    usage::in_scopes(&quota.quota, object).map_err(|error| not_ready(quota, &format!("its scopeSelector: {error}")))
}

/// The account, if it can be relied on.
fn ready<'a>(
    quota: &GlobalQuota,
    account: Option<&'a Account>,
    ledger_name: &str,
    namespace: &str,
) -> Result<&'a Account, Denial> {
    let refuse = |why: String| Err(not_ready(quota, &why));
    let Some(account) = account else {
        return refuse(format!("QuantityLedger {ledger_name:?} does not exist"));
    };
    if account.observed_generation != quota.generation {
        return refuse(format!(
            "it is counted for generation {}, not yet for generation {}",
            account.observed_generation, quota.generation
        ));
    }
    if !account.initialized {
        return refuse("waiting for ResourceQuota usage initialization".to_owned());
    }
    if !account.namespaces.contains(namespace) {
        return refuse(format!("namespace {namespace:?} is not counted yet"));
    }
    Ok(account)
}

pub(in crate::quota) fn not_ready(quota: &GlobalQuota, why: &str) -> Denial {
    let message = match &quota.whose {
        Whose::Quota => format!("GlobalResourceQuota {:?} is not ready: {why}", quota.name),
        Whose::Tenant(tenant) => format!(
            "ResourceQuota {:?} of Tenant {tenant:?} is not ready: {why}; please retry",
            quota.name
        ),
    };
    Denial::new("", "QuotaNotReady", message).with_code(500)
}

fn uncountable(error: &InvalidAmount) -> Denial {
    Denial::new(error.field.clone(), "InvalidAmount", error.to_string())
}

pub(in crate::quota) fn exceeded(quota: &GlobalQuota, excess: &[Excess]) -> Denial {
    let message = match &quota.whose {
        Whose::Quota => exceeded_words(&quota.name, excess),
        Whose::Tenant(tenant) => exceeded_words_of_tenant(tenant, &quota.name, excess),
    };
    Denial::new("", "QuotaExceeded", message)
}

/// In the words that Kubernetes has for the quota of a namespace, which programs look for.
fn exceeded_words_of_tenant(tenant: &str, quota: &str, excess: &[Excess]) -> String {
    let list = |amount: fn(&Excess) -> Quantity| {
        let amounts = excess
            .iter()
            .map(|excess| format!("{}={}", excess.resource, amount(excess)));
        amounts.collect::<Vec<_>>().join(",")
    };
    format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}; an administrator of this cluster set the limit, for \
         all namespaces of Tenant {tenant:?} together",
        list(|excess| excess.requested),
        list(Excess::current),
        list(|excess| excess.hard)
    )
}

fn exceeded_words(quota: &str, excess: &[Excess]) -> String {
    let parts: Vec<String> = excess
        .iter()
        .map(|excess| {
            format!(
                "{} (requested={}, current={}, projected={}, hard={}, exceededBy={})",
                excess.resource,
                excess.requested,
                excess.current(),
                excess.projected(),
                excess.hard,
                excess.projected().minus(excess.hard)
            )
        })
        .collect();
    format!(
        "resource exceeds GlobalResourceQuota {quota:?}: {}; an administrator of this cluster set the limit, for all \
         namespaces of the quota together",
        parts.join(", ")
    )
}
