//! What a Tenant limits for all its namespaces together: the items of `spec.resourceQuotas` in the scope `Tenant`, and the
//! numbers of objects that annotations limit.
//!
//! What tenants see is balanced: each namespace has a ResourceQuota that allows what it uses and all that is left
//! ([`crate::quotas`]). What keeps the sum within the limit is admission, which promises what a request takes out of a ledger
//! before the API server stores the object, or takes it from a [credit](super::credit).
//!
//! A tenant with one namespace is held by that namespace's quota alone. Its requests are promised all the same: those on their
//! way when a second namespace comes are in the sum then, and nobody has to know when exactly it came.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use api::capsule::{
    names,
    v1beta2::{GlobalResourceQuotaSpec, LedgerTarget, QuantityLedger, QuantityLedgerSpec, QuotaScope, Tenant},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ResourceQuotaSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube_core::ResourceExt;

use super::{
    amounts::Amounts,
    global::{Account, GlobalQuota, Whose, exceeded, hash, not_ready},
    ledger::{Ledger, Refusal, Request},
};
use crate::{denial::Denial, linkage, quotas, replicas};

/// Begins the names of ledgers of tenants' budgets.
const LEDGER_PREFIX: &str = "tenant-quota-";

/// A budget that the namespaces of a tenant share.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The place that its ResourceQuotas are named after.
    pub index: usize,
    /// The name of its ledger: another one when it counts other objects.
    pub ledger: String,
    /// Limits and scopes.
    pub quota: GlobalQuota,
}

/// The budgets of a tenant. What cannot be read is left out; admission refuses it, and the tenant's status says so.
pub fn budgets(tenant: &Tenant) -> Vec<Budget> {
    let uid = tenant.uid().unwrap_or_default();
    let all = quotas::budgets(tenant).into_iter().enumerate();
    let shared = all.filter(|(_, (scope, _))| *scope == QuotaScope::Tenant);
    let budget = |(index, (_, spec)): (usize, (QuotaScope, Cow<'_, ResourceQuotaSpec>))| {
        let spec = spec.into_owned();
        let hard = Amounts::parse("hard", spec.hard.as_ref()).ok()?;
        let scopes = format!("{uid}/{index}/{:?}/{:?}", spec.scopes, spec.scope_selector);
        Some(Budget {
            index,
            ledger: format!("{LEDGER_PREFIX}{}", hash::<16>(&scopes)),
            quota: GlobalQuota {
                name: replicas::name(&tenant.name_any(), index),
                whose: Whose::Tenant(tenant.name_any()),
                generation: 0,
                hard,
                quota: spec,
            },
        })
    };
    shared
        .filter_map(budget)
        .filter(|budget| budget.quota.hard != Amounts::default())
        .collect()
}

/// What requests are counted by the tenant's budgets, as a quota over its namespaces would say it.
pub fn reach(tenant: &Tenant) -> Vec<GlobalResourceQuotaSpec> {
    let of_tenant = LabelSelector {
        match_labels: Some(BTreeMap::from([(names::TENANT_LABEL.to_owned(), tenant.name_any())])),
        match_expressions: None,
    };
    let budgets = budgets(tenant).into_iter();
    let specs = budgets.map(|budget| GlobalResourceQuotaSpec {
        quota: budget.quota.quota,
        namespace_selectors: vec![of_tenant.clone()],
    });
    specs.collect()
}

/// A ledger of the budget that nothing was counted in. It goes with the tenant.
pub fn ledger(tenant: &Tenant, budget: &Budget, place: &str) -> QuantityLedger {
    QuantityLedger {
        metadata: ObjectMeta {
            name: Some(budget.ledger.clone()),
            namespace: Some(place.to_owned()),
            labels: Some(replicas::labels(
                tenant,
                names::RESOURCE_QUOTA_LABEL,
                &budget.index.to_string(),
            )),
            owner_references: Some(vec![linkage::owner_reference(tenant)]),
            ..ObjectMeta::default()
        },
        spec: QuantityLedgerSpec {
            target_ref: LedgerTarget {
                api_group: names::GROUP.to_owned(),
                kind: names::TENANT_KIND.to_owned(),
                namespace: String::new(),
                name: tenant.name_any(),
                uid: tenant.uid().unwrap_or_default(),
            },
        },
        status: None,
    }
}

/// Name and UID of the tenant whose budget a ledger is of, now or before.
pub fn tenant_of(ledger: &QuantityLedger) -> Option<(&str, &str)> {
    let target = &ledger.spec.target_ref;
    let name = ledger.metadata.name.as_deref().unwrap_or_default();
    let is_budget = name.starts_with(LEDGER_PREFIX) && target.kind == names::TENANT_KIND;
    is_budget.then_some((target.name.as_str(), target.uid.as_str()))
}

/// What is known of a budget after a count. `reported` has the tenant's namespaces, those that go away included, each with the
/// use that its ResourceQuota reports and that has stood for a while.
///
/// What rose in namespaces that were counted before can have arrived by promised requests; what a namespace brings along
/// when it joins did not arrive. A resource counts as known when every namespace that reports anything reports it.
#[must_use]
pub fn count(
    account: &Account,
    hard: &Amounts,
    reported: &BTreeMap<&str, Amounts>,
    now: Timestamp,
    may_end: bool,
) -> Account {
    let reporting: Vec<&Amounts> = reported.values().filter(|used| **used != Amounts::default()).collect();
    let is_known = |resource: &str| !reporting.is_empty() && reporting.iter().all(|used| used.names(resource));
    let sum = Amounts::sum(reporting.iter().copied());
    let used: Amounts = hard
        .iter()
        .filter(|(resource, _)| is_known(resource))
        .map(|(resource, _)| (resource.to_owned(), sum.get(resource)))
        .collect();
    let known = reported
        .iter()
        .filter(|(namespace, _)| account.namespaces.contains(**namespace))
        .map(|(_, used)| used);
    let arrived = Amounts::sum(known)
        .only(&account.ledger.used)
        .minus(&account.ledger.used);
    let namespaces: BTreeSet<String> = reported
        .iter()
        .filter(|(_, used)| used.names_all_of(hard))
        .map(|(namespace, _)| (*namespace).to_owned())
        .collect();
    Account {
        observed_generation: 0,
        initialized: namespaces.len() == reported.len(),
        namespaces,
        ledger: account.ledger.settle(used, &arrived, now, may_end),
    }
}

/// The ledger, if it can be relied on for this request.
///
/// # Errors
/// If there is none, or the namespace or what the request takes was not counted yet (500): that comes, so it can be waited for.
pub fn ready<'a>(budget: &Budget, account: Option<&'a Account>, request: &Request) -> Result<&'a Ledger, Denial> {
    let refuse = |why: &str| Err(not_ready(&budget.quota, why));
    let Some(account) = account else {
        return refuse("its ledger is not made yet");
    };
    let namespace = &request.object.namespace;
    if !account.namespaces.contains(namespace) {
        return refuse(&format!("what is in namespace {namespace:?} is not counted yet"));
    }
    if !account.ledger.used.names_all_of(&request.delta) {
        return refuse("what it limits is not counted yet");
    }
    Ok(&account.ledger)
}

/// What becomes of a request that no credit covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This ledger promises it what it takes.
    Promised(Ledger),
    /// Replicas may give back what they were lent. Ask again, when this ledger is written, if it is another one.
    Waits(Ledger),
}

/// Promises a request what it takes. `replica` asks; while others hold credits it is told to wait, if it `may_wait`.
///
/// # Errors
/// If there is not enough (403), or that cannot be known at the moment (500).
pub fn promise(
    budget: &Budget,
    ledger: &Ledger,
    request: &Request,
    (replica, may_wait): (&str, bool),
    now: Timestamp,
) -> Result<Answer, Denial> {
    let hard = &budget.quota.hard;
    let full = || not_ready(&budget.quota, "too many requests are on their way");
    match ledger.reserve(request, hard, now) {
        Ok(next) => Ok(Answer::Promised(next)),
        Err(Refusal::Full) => Err(full()),
        Err(Refusal::Exceeded(excess)) => {
            if !may_wait || !ledger.is_lent_to_others(replica, now) {
                return Err(exceeded(&budget.quota, &excess));
            }
            let waits = ledger.reservations.iter().any(|it| it.id == request.id);
            if waits {
                return Ok(Answer::Waits(ledger.clone()));
            }
            ledger.wait(request, now).map(Answer::Waits).map_err(|_| full())
        }
    }
}

#[cfg(test)]
mod tests {
    use api::capsule::v1beta2::LedgerObject;
    use serde_json::json;

    use super::*;
    use crate::fixtures::tenant;
    use crate::quota::amounts::tests::amounts;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn request(namespace: &str, delta: &str) -> Request {
        Request {
            id: "review/capsule-oil-0".to_owned(),
            object: LedgerObject {
                namespace: namespace.to_owned(),
                ..LedgerObject::default()
            },
            usage: amounts(delta),
            delta: amounts(delta),
        }
    }

    fn pods(limit: &str) -> Budget {
        let oil = tenant("oil").with(json!({"resourceQuotas": {"items": [{"hard": {"pods": limit}}]}}));
        budgets(&oil.build()).remove(0)
    }

    fn reported<'a>(uses: &[(&'a str, &str)]) -> BTreeMap<&'a str, Amounts> {
        uses.iter()
            .map(|(namespace, used)| (*namespace, amounts(used)))
            .collect()
    }

    #[test]
    fn budgets_are_what_all_namespaces_share() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"pods": "20"}}]}}))
            .annotation("quota.resources.capsule.clastix.io/foos.example.com_v1", "3")
            .build();
        let shared = budgets(&oil);
        let told: Vec<_> = shared.iter().map(|it| (it.index, it.quota.name.as_str())).collect();
        assert_eq!(told, [(1, "capsule-oil-1")]);
        assert_eq!(shared[0].quota.hard, amounts("count/foos.example.com=3"));
        assert!(budgets(&tenant("oil").build()).is_empty());
        let ledger = ledger(&oil, &shared[0], "cotenant-system");
        assert_eq!(tenant_of(&ledger), Some(("oil", "uid-of-oil")));
    }

    #[test]
    fn a_budget_that_counts_other_objects_has_another_ledger() {
        let of = |item: serde_json::Value| {
            let oil = tenant("oil").with(json!({"resourceQuotas": {"items": [item]}}));
            budgets(&oil.build()).remove(0).ledger
        };
        let plain = of(json!({"hard": {"pods": "1"}}));
        assert_eq!(plain, of(json!({"hard": {"pods": "2", "services": "1"}})));
        assert_ne!(plain, of(json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]})));
    }

    #[test]
    fn nothing_is_promised_before_it_is_counted() {
        let budget = pods("5");
        let words = |account: Option<&Account>, namespace: &str| {
            let ready = ready(&budget, account, &request(namespace, "pods=1"));
            ready.map(drop).map_err(|denial| (denial.code, denial.message))
        };
        let (code, message) = words(None, "a").unwrap_err();
        assert_eq!(code, 500);
        assert!(
            message.contains("ResourceQuota \"capsule-oil-0\" of Tenant \"oil\" is not ready"),
            "{message}"
        );
        let one = count(
            &Account::default(),
            &budget.quota.hard,
            &reported(&[("a", "pods=2"), ("b", "")]),
            at(0),
            false,
        );
        assert_eq!(words(Some(&one), "a"), Ok(()));
        assert!(
            words(Some(&one), "b")
                .unwrap_err()
                .1
                .contains("namespace \"b\" is not counted yet")
        );
        // Somebody limits one resource more, and not every quota has been told.
        let hard = amounts("pods=5 services=1");
        let more = count(
            &one,
            &hard,
            &reported(&[("a", "pods=2 services=0"), ("b", "pods=0")]),
            at(0),
            false,
        );
        let asked = request("a", "services=1");
        assert!(
            ready(&budget, Some(&more), &asked)
                .unwrap_err()
                .message
                .contains("what it limits")
        );
    }

    #[test]
    fn what_arrives_moves_from_promised_to_used_and_what_joins_does_not() {
        let budget = pods("9");
        let hard = &budget.quota.hard;
        let before = count(&Account::default(), hard, &reported(&[("a", "pods=1")]), at(0), false);
        let ledger = before.ledger.reserve(&request("a", "pods=2"), hard, at(0)).unwrap();
        let before = Account { ledger, ..before };
        let after = count(
            &before,
            hard,
            &reported(&[("a", "pods=2"), ("b", "pods=4")]),
            at(1),
            false,
        );
        assert_eq!(after.ledger.used, amounts("pods=6"));
        assert_eq!(after.ledger.reserved(), amounts("pods=1"));
    }

    #[test]
    fn who_is_refused_hears_it_in_the_words_of_kubernetes() {
        let budget = pods("5");
        let ledger = Ledger {
            used: amounts("pods=5"),
            ..Ledger::default()
        };
        let refused = promise(&budget, &ledger, &request("a", "pods=1"), ("r", true), at(0)).unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(
            refused
                .message
                .starts_with("exceeded quota: capsule-oil-0, requested: pods=1, used: pods=5, limited: pods=5;"),
            "{}",
            refused.message
        );
    }

    #[test]
    fn who_asks_while_others_hold_a_credit_waits_for_it() {
        let budget = pods("40");
        let ledger = Ledger {
            used: amounts("pods=0"),
            ..Ledger::default()
        };
        let lent = ledger.lend(
            "other",
            &request("a", "pods=1"),
            &Amounts::default(),
            &budget.quota.hard,
            at(0),
        );
        let lent = lent.unwrap().ledger;
        let large = Request {
            id: "large".to_owned(),
            ..request("a", "pods=35")
        };
        let Ok(Answer::Waits(waiting)) = promise(&budget, &lent, &large, ("r", true), at(0)) else {
            unreachable!()
        };
        assert!(waiting.is_waited_for(at(0)));
        assert_eq!(
            promise(&budget, &waiting, &large, ("r", true), at(0)),
            Ok(Answer::Waits(waiting.clone()))
        );
        let given_back = waiting.give_back("other", &amounts("pods=8"));
        let Ok(Answer::Promised(served)) = promise(&budget, &given_back, &large, ("r", true), at(1)) else {
            unreachable!()
        };
        assert_eq!(
            (served.reserved(), served.is_waited_for(at(1))),
            (amounts("pods=35"), false)
        );
        assert_eq!(
            promise(&budget, &waiting, &large, ("r", false), at(0))
                .unwrap_err()
                .code,
            403
        );
    }
}
