//! Which pool serves a claim, and what the claim says of it. Pure.

use api::capsule::names::{API_VERSION, GROUP, READY_CONDITION};
use api::capsule::v1beta2::{PoolReference, ResourcePool, ResourcePoolClaim, ResourcePoolClaimStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use tenancy::quota::pool::{RELEASE_ANNOTATION, associate, is_bound, is_released};
use tenancy::quota::verdict::Verdict;

use super::status::{RELEASED, without_pool};
use crate::conditions;

/// How a claim should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Association {
    pub(super) status: ResourcePoolClaimStatus,
    pub(super) owners: Vec<OwnerReference>,
    /// Whether a release stays on it that nobody can ask for.
    pub(super) strips_release: bool,
}

/// Decides about a claim. `pool` is the one that it names, if it is there. `None`: it is not for us to change now.
pub(super) fn of(claim: &ResourcePoolClaim, pool: Option<&ResourcePool>, now: Timestamp) -> Option<Association> {
    let status = claim.status.clone().unwrap_or_default();
    let is_there = |reference: &PoolReference| pool.is_some_and(|pool| pool.uid().as_ref() == Some(&reference.uid));
    let is_served = status.pool.as_ref().is_some_and(is_there);
    if claim.metadata.deletion_timestamp.is_some() || (is_served && is_released(claim) && is_bound(claim)) {
        // The end of it, and its release, are for the pool.
        return None;
    }
    let strips_release = claim.annotations().contains_key(RELEASE_ANNOTATION);
    if was_released(claim) {
        return Some(Association {
            status,
            owners: owners_without_pools(claim),
            strips_release,
        });
    }
    let (mut status, verdict, owners) = match associate(claim, pool) {
        Ok(reference) => {
            let is_other = status.pool.as_ref().is_some_and(|before| before.uid != reference.uid);
            let mut next = if is_other { without_pool(status) } else { status };
            let mut owners = owners_without_pools(claim);
            owners.push(owner(&reference));
            next.pool = Some(reference);
            (next, Verdict::yes(READY_CONDITION, "Succeeded", "reconciled"), owners)
        }
        // What a pool serves that is still there it lets go by itself; and a claim in use keeps what it has.
        Err(verdict) if is_served || (is_bound(claim) && pool.is_some()) => {
            (status, verdict, claim.owner_references().to_vec())
        }
        Err(verdict) => (without_pool(status), verdict, owners_left(claim, pool)),
    };
    status.conditions = conditions::with(&status.conditions, &[verdict], now);
    status.condition = None;
    status.observed_generation = claim.metadata.generation;
    Some(Association {
        status,
        owners,
        strips_release,
    })
}

/// Whether the claim gave back what it had and has not asked again since.
fn was_released(claim: &ResourcePoolClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| {
        let mut conditions = status.conditions.iter();
        status.pool.is_none()
            && status.observed_generation == claim.metadata.generation
            && conditions.any(|condition| condition.type_ == READY_CONDITION && condition.reason == RELEASED)
    })
}

/// The claim goes with its pool, but does not hold it up.
fn owner(pool: &PoolReference) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "ResourcePool".to_owned(),
        name: pool.name.clone(),
        uid: pool.uid.clone(),
        ..OwnerReference::default()
    }
}

/// The owners of a claim that no pool serves: the pool that it names only if that takes its claims along.
fn owners_left(claim: &ResourcePoolClaim, pool: Option<&ResourcePool>) -> Vec<OwnerReference> {
    let goes_along = pool.is_none_or(|pool| pool.spec.config.delete_bound_resources);
    let all = claim.owner_references().iter();
    all.filter(|owner| !is_pool(owner) || (goes_along && owner.name == claim.spec.pool))
        .cloned()
        .collect()
}

/// The claim's owners that are no pools.
pub(super) fn owners_without_pools(claim: &ResourcePoolClaim) -> Vec<OwnerReference> {
    let all = claim.owner_references().iter();
    all.filter(|owner| !is_pool(owner)).cloned().collect()
}

fn is_pool(owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    owner.kind == "ResourcePool" && group == Some(GROUP)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn pool(uid: &str, namespaces: &[&str]) -> ResourcePool {
        serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "metadata": {"name": "gold", "uid": uid},
            "spec": {"quota": {"hard": {"cpu": "8"}}}, "status": {"namespaces": namespaces, "conditions": []}}))
        .unwrap()
    }

    fn claim(metadata: Value, status: Value) -> ResourcePoolClaim {
        let mut claim = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim",
            "metadata": {"name": "one", "namespace": "a", "uid": "c", "generation": 3},
            "spec": {"pool": "gold", "claim": {"cpu": "1"}}, "status": status});
        json_patch::merge(&mut claim["metadata"], &metadata);
        serde_json::from_value(claim).unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn said(association: &Association) -> Vec<String> {
        let conditions = association.status.conditions.iter();
        conditions
            .map(|it| format!("{} {} {}", it.type_, it.status, it.reason))
            .collect()
    }

    fn served_by(uid: &str, bound: &str) -> Value {
        json!({"pool": {"name": "gold", "uid": uid}, "observedGeneration": 3, "conditions": [
            condition("Ready", "True", "Succeeded"), condition("Exhausted", "False", "NoExhaustions"),
            condition("Bound", bound, "X")]})
    }

    #[test]
    fn a_new_claim_gets_its_pool_and_a_loose_reference_to_it_beside_the_owners_that_it_has() {
        let mine = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": "m"});
        let old =
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "name": "gold", "uid": "old"});
        let new = claim(json!({"ownerReferences": [mine, old]}), json!({"conditions": []}));
        let wanted = of(&new, Some(&pool("u", &["a"])), NOW).unwrap();
        assert_eq!(wanted.status.pool.as_ref().unwrap().uid, "u");
        assert_eq!(said(&wanted), ["Ready True Succeeded"]);
        assert_eq!(
            serde_json::to_value(&wanted.owners).unwrap(),
            json!([mine, {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "name": "gold", "uid": "u"}])
        );
    }

    #[test]
    fn looking_twice_changes_nothing() {
        let mut served = claim(json!({}), json!({"conditions": []}));
        let gold = pool("u", &["a"]);
        let first = of(&served, Some(&gold), NOW).unwrap();
        (served.status, served.metadata.owner_references) = (Some(first.status.clone()), Some(first.owners.clone()));
        let later = Timestamp::constant(1_900_000_000, 0);
        assert_eq!(of(&served, Some(&gold), later), Some(first));
    }

    #[test]
    fn a_claim_of_a_pool_that_is_gone_or_was_made_again_is_not_served_by_it_any_more() {
        let before = claim(json!({}), served_by("old", "False"));
        let gone = of(&before, None, NOW).unwrap();
        assert_eq!(
            (gone.status.pool.is_none(), said(&gone)),
            (true, vec!["Ready False Failed".to_owned()])
        );
        let again = of(&before, Some(&pool("new", &["a"])), NOW).unwrap();
        assert_eq!(again.status.pool.as_ref().unwrap().uid, "new");
        assert_eq!(said(&again), ["Ready True Succeeded"]);
        let bound = of(
            &claim(json!({}), served_by("old", "True")),
            Some(&pool("new", &["a"])),
            NOW,
        )
        .unwrap();
        assert_eq!(bound.status.pool.as_ref().unwrap().uid, "old");
    }

    #[test]
    fn what_a_pool_serves_it_lets_go_by_itself() {
        let outside = of(
            &claim(json!({}), served_by("u", "False")),
            Some(&pool("u", &["b"])),
            NOW,
        )
        .unwrap();
        assert!(outside.status.pool.is_some());
        assert_eq!(said(&outside)[0], "Ready False Failed");
        let released = json!({"annotations": {"projectcapsule.dev/release": "true"}});
        assert_eq!(
            of(
                &claim(released.clone(), served_by("u", "True")),
                Some(&pool("u", &["a"])),
                NOW
            ),
            None
        );
        // Nobody can ask for the release of what is not in use.
        let unused = of(&claim(released, served_by("u", "False")), Some(&pool("u", &["a"])), NOW).unwrap();
        assert!(unused.strips_release);
    }

    #[test]
    fn a_claim_goes_with_a_pool_that_takes_its_claims_along_and_no_other() {
        let reference =
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "name": "gold", "uid": "u"});
        let left = claim(json!({"ownerReferences": [reference]}), json!({"conditions": []}));
        let owners = |pool: Option<&ResourcePool>| of(&left, pool, NOW).unwrap().owners.len();
        let mut ending = pool("u", &[]);
        assert_eq!(owners(Some(&ending)), 0);
        ending.spec.config.delete_bound_resources = true;
        assert_eq!(owners(Some(&ending)), 1);
        assert_eq!(owners(None), 1, "the API server is about to delete it");
    }

    #[test]
    fn a_claim_that_was_released_asks_again_when_its_spec_changes() {
        let status = |generation: i64| json!({"observedGeneration": generation, "conditions": [condition("Ready", "False", "Released")]});
        let gold = pool("u", &["a"]);
        let rests = of(&claim(json!({}), status(3)), Some(&gold), NOW).unwrap();
        assert_eq!((rests.status.pool, rests.owners), (None, vec![]));
        let asks = of(&claim(json!({}), status(2)), Some(&gold), NOW).unwrap();
        assert_eq!(asks.status.pool.unwrap().uid, "u");
    }
}
