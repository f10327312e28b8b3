//! What a pool's namespaces should contain, and what the pool and its claims should say.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::{
    names::{self, READY_CONDITION},
    v1beta2::ResourcePoolClaim,
};
use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{
    BOUND_CONDITION, EXHAUSTED_CONDITION, Given, MOST_RESOURCES, Pool, asked,
    binding::in_use,
    division::{Asking, Division, Exhaustion, Lack, Outcome, divide},
    held::Place,
    is_released,
};
use crate::quota::{amounts::Amounts, verdict::Verdict};

/// The name of a pool's ResourceQuota in each namespace.
pub fn child_name(pool: &str) -> String {
    format!("capsule-pool-{pool}")
}

/// Labels of what is kept for a pool.
pub fn labels(pool: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (
            names::MANAGED_BY_LABEL.to_owned(),
            names::MANAGED_BY_CONTROLLER.to_owned(),
        ),
        (super::POOL_LABEL.to_owned(), pool.to_owned()),
    ])
}

/// A claim that the pool lets go: its `status.pool` and its conditions Bound and Exhausted are cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letting {
    /// The UID of the claim.
    pub uid: String,
    /// Whether the owner reference to the pool stays, so that the claim goes when the pool goes. If not, it is removed
    /// together with the annotation that asked for the release.
    pub keeps_owner: bool,
}

/// What should be, for one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One ResourceQuota for each namespace, in the order of their names.
    pub children: Vec<ResourceQuota>,
    /// Namespaces that are the pool's no more, and whose ResourceQuota goes.
    pub left: Vec<String>,
    /// What each served claim has, by UID.
    pub served: BTreeMap<String, Amounts>,
    /// That, and what namespaces still use of what their claims gave back, by the UID of a claim.
    pub given: BTreeMap<String, Given>,
    /// The sum of what is served, for each resource of the pool.
    pub claimed: Amounts,
    /// What is left, for each resource of the pool.
    pub available: Amounts,
    /// Resources that claims wait for.
    pub exhaustions: BTreeMap<String, Exhaustion>,
    /// The conditions Exhausted and Bound of each claim, by UID.
    pub verdicts: BTreeMap<String, Vec<Verdict>>,
    /// Claims that the pool lets go, in the order in which they were made.
    pub lets_go: Vec<Letting>,
    /// Conditions of the pool.
    pub conditions: Vec<Verdict>,
}

/// A claim that is looked at.
struct Queued<'a> {
    uid: &'a str,
    name: &'a str,
    namespace: &'a str,
    asked: Amounts,
}

/// Plans for a pool. `claims` are those whose `status.pool` is this pool, `places` the namespaces that its selectors match.
pub fn plan(
    pool: &Pool,
    owner: &OwnerReference,
    claims: &[ResourcePoolClaim],
    places: &BTreeMap<String, Place>,
) -> Plan {
    let namespaces: BTreeSet<&str> = places
        .iter()
        .filter(|(_, place)| !place.is_ending)
        .map(|(namespace, _)| namespace.as_str())
        .collect();
    let (queue, lets_go) = sort(pool, claims, &namespaces);
    let asking: Vec<Asking<'_>> = queue.iter().map(Queued::asking).collect();
    let division = divide(pool, &asking, places);
    let mut having: BTreeMap<&str, Vec<Asking<'_>>> = BTreeMap::new();
    for claim in &queue {
        if let Some(served) = division.served.get(claim.uid) {
            having.entry(claim.namespace).or_default().push(Asking {
                asked: served,
                ..claim.asking()
            });
        }
    }
    let of = |namespace: &str| having.get(namespace).map(Vec::as_slice).unwrap_or_default();
    // Claims are in use for what they have, not for what they ask for.
    let bound: BTreeSet<&str> = places
        .iter()
        .filter_map(|(namespace, place)| Some((namespace, place.allowance.as_ref()?)))
        .flat_map(|(namespace, allowance)| in_use(of(namespace), &allowance.used.only(&pool.hard)))
        .collect();
    let covered = division.by_namespace(&asking);
    let child = |namespace: &&str| {
        let served = covered.get(*namespace).cloned().unwrap_or_default();
        let held = division.held.get(*namespace).zip(places.get(*namespace));
        let kept = held.map(|(held, place)| place.kept(held, &served.plus(&pool.defaults)));
        let mut allowed = served.plus(&kept.unwrap_or_default()).without_zeros();
        // Kubernetes counts what a quota names, and no more: what is held is named until nothing of it can be used.
        if let Some((held, _)) = held {
            allowed = allowed.plus(&Amounts::default().all_of(held));
        }
        child(pool, owner, namespace, &allowed)
    };
    Plan {
        children: namespaces.iter().map(child).collect(),
        left: pool
            .namespaces
            .iter()
            .filter(|namespace| !namespaces.contains(namespace.as_str()))
            .cloned()
            .collect(),
        claimed: division.claimed.all_of(&pool.hard),
        available: division.available(pool),
        given: given(pool, &queue, &division),
        verdicts: division
            .outcomes
            .iter()
            .map(|(uid, outcome)| (uid.clone(), verdicts(outcome, bound.contains(uid.as_str()))))
            .collect(),
        lets_go,
        conditions: conditions(&division.exhaustions),
        served: division.served.clone(),
        exhaustions: division.exhaustions,
    }
}

/// What is written down as given. What a namespace holds stands under one claim that had some of it: there may be no end of
/// claims that come and go.
fn given(pool: &Pool, queue: &[Queued<'_>], division: &Division) -> BTreeMap<String, Given> {
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    for claim in queue {
        if let Some(amounts) = division.served.get(claim.uid) {
            let served = Given {
                name: claim.name.to_owned(),
                namespace: claim.namespace.to_owned(),
                amounts: amounts.clone(),
            };
            given.insert(claim.uid.to_owned(), served);
        }
    }
    let asked: BTreeMap<&str, &Amounts> = queue.iter().map(|claim| (claim.uid, &claim.asked)).collect();
    let (there, gone): (Vec<_>, Vec<_>) = pool.given.iter().partition(|(uid, _)| asked.contains_key(uid.as_str()));
    let (mut held, mut under) = (division.held.clone(), BTreeMap::new());
    for (uid, before) in gone.into_iter().chain(there) {
        let Some(held) = held.get_mut(&before.namespace) else {
            continue;
        };
        // Not what it asks for: that it would be served with.
        let asked = asked.get(uid.as_str());
        let surplus = asked.map_or_else(|| before.amounts.clone(), |asked| before.amounts.minus(asked));
        let part = surplus.least(held).without_zeros();
        if part.is_zero() {
            continue;
        }
        *held = held.minus(&part);
        let uid = match asked {
            Some(_) => uid,
            None => under.entry(&before.namespace).or_insert(uid),
        };
        let of_claim = given.entry(uid.clone()).or_insert_with(|| Given {
            amounts: Amounts::default(),
            ..before.clone()
        });
        of_claim.amounts = of_claim.amounts.plus(&part);
    }
    given
}

impl Queued<'_> {
    fn asking(&self) -> Asking<'_> {
        Asking {
            uid: self.uid,
            name: self.name,
            namespace: self.namespace,
            asked: &self.asked,
        }
    }
}

/// Claims in the order in which they are served, and those that are not.
fn sort<'a>(
    pool: &Pool,
    claims: &'a [ResourcePoolClaim],
    namespaces: &BTreeSet<&str>,
) -> (Vec<Queued<'a>>, Vec<Letting>) {
    let mut in_order: Vec<&ResourcePoolClaim> = claims.iter().collect();
    let made = |claim: &ResourcePoolClaim| claim.metadata.creation_timestamp.as_ref().map(|time| time.0);
    in_order.sort_by(|a, b| {
        let names = |claim: &'a ResourcePoolClaim| (&claim.metadata.name, &claim.metadata.namespace);
        made(a).cmp(&made(b)).then_with(|| names(a).cmp(&names(b)))
    });
    let (mut queue, mut lets_go) = (Vec::new(), Vec::new());
    for claim in in_order {
        let (Some(uid), Some(namespace)) = (&claim.metadata.uid, &claim.metadata.namespace) else {
            continue;
        };
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        // A claim that is going frees what it has; so does one that says nothing that can be counted, or more than admission
        // lets pass.
        let stays = namespaces.contains(namespace.as_str()) && !is_released(claim);
        match asked(claim) {
            Ok(asked)
                if stays && asked.iter().count() <= MOST_RESOURCES && claim.metadata.deletion_timestamp.is_none() =>
            {
                queue.push(Queued {
                    uid,
                    name,
                    namespace,
                    asked,
                });
            }
            _ => lets_go.push(Letting {
                uid: uid.clone(),
                keeps_owner: pool.config.delete_bound_resources && !is_released(claim),
            }),
        }
    }
    (queue, lets_go)
}

fn child(pool: &Pool, owner: &OwnerReference, namespace: &str, allowed: &Amounts) -> ResourceQuota {
    ResourceQuota {
        metadata: ObjectMeta {
            name: Some(child_name(&pool.name)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(&pool.name)),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceQuotaSpec {
            hard: Some(allowed.plus(&pool.defaults).to_wire()),
            ..pool.quota.clone()
        }),
        status: None,
    }
}

fn verdicts(outcome: &Outcome, is_bound: bool) -> Vec<Verdict> {
    let exhausted = match outcome {
        Outcome::Served => Verdict::no(EXHAUSTED_CONDITION, "NoExhaustions", "resource claimable from pool"),
        Outcome::Exhausted(lacks) => Verdict::yes(EXHAUSTED_CONDITION, "PoolExhausted", describe(lacks, "available")),
        Outcome::Queued(lacks) => Verdict::yes(EXHAUSTED_CONDITION, "QueueExhausted", describe(lacks, "queued")),
        Outcome::Crowded(words) => Verdict::yes(EXHAUSTED_CONDITION, "PoolExhausted", words.clone()),
    };
    let bound = match outcome {
        _ if is_bound => Verdict::yes(BOUND_CONDITION, "InUse", "claim is used"),
        Outcome::Served => Verdict::no(BOUND_CONDITION, "Unused", "claim is unused"),
        _ => Verdict::no(BOUND_CONDITION, "Failed", "claim causes exhaustions"),
    };
    vec![exhausted, bound]
}

fn describe(lacks: &[Lack], against: &str) -> String {
    let parts: Vec<String> = lacks
        .iter()
        .map(|lack| {
            let resource = &lack.resource;
            format!(
                "requested: {resource}={}, {against}: {resource}={}",
                lack.requested, lack.against
            )
        })
        .collect();
    parts.join("; ")
}

fn conditions(exhaustions: &BTreeMap<String, Exhaustion>) -> Vec<Verdict> {
    let exhausted = if exhaustions.is_empty() {
        Verdict::no(EXHAUSTED_CONDITION, "NoExhaustions", "no exhaustions")
    } else {
        Verdict::yes(EXHAUSTED_CONDITION, "PoolExhausted", "Pool has exhaustions")
    };
    vec![Verdict::yes(READY_CONDITION, "Succeeded", "reconciled"), exhausted]
}
