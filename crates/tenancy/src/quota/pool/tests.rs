use api::capsule::v1beta2::ResourcePool;
use k8s_openapi::{api::core::v1::ResourceQuota, apimachinery::pkg::apis::meta::v1::OwnerReference};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    denial::Denial,
    quantity::Quantity,
    quota::{amounts::tests::amounts, verdict::Verdict},
};

fn wire(text: &str) -> Value {
    json!(amounts(text).to_wire())
}

/// A pool of these amounts for the namespaces `a` and `b`, with this configuration and these served claims.
fn pool(hard: &str, config: Value, served: &[(&str, &str)]) -> ResourcePool {
    let claims: Vec<Value> = served
        .iter()
        .map(|(uid, claims)| json!({"name": uid, "namespace": "a", "uid": uid, "claims": wire(claims)}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "ResourcePool",
        "metadata": {"name": "gold", "uid": "uid-of-gold"},
        "spec": {"quota": {"hard": wire(hard)}, "config": config},
        "status": {"namespaces": ["a", "b"], "claims": {"a": claims}, "conditions": []},
    }))
    .unwrap()
}

/// The claim with this name, made at this second.
fn claim(name: &str, made: i64, asks: &str) -> ResourcePoolClaim {
    serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "ResourcePoolClaim",
        "metadata": {
            "name": name, "namespace": "a", "uid": name,
            "creationTimestamp": k8s_openapi::jiff::Timestamp::from_second(made).unwrap().to_string(),
        },
        "spec": {"pool": "gold", "claim": wire(asks)},
    }))
    .unwrap()
}

fn in_namespace(mut claim: ResourcePoolClaim, namespace: &str) -> ResourcePoolClaim {
    claim.metadata.namespace = Some(namespace.to_owned());
    claim
}

fn bound(mut claim: ResourcePoolClaim) -> ResourcePoolClaim {
    claim.status = serde_json::from_value(json!({
        "pool": {"name": "gold", "uid": "uid-of-gold"},
        "conditions": [{
            "type": "Bound", "status": "True", "reason": "InUse", "message": "claim is used",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }))
    .unwrap();
    claim
}

fn released(mut claim: ResourcePoolClaim) -> ResourcePoolClaim {
    claim.metadata.annotations = Some([(RELEASE_ANNOTATION.to_owned(), "true".to_owned())].into());
    claim
}

fn planned(pool: &ResourcePool, claims: &[ResourcePoolClaim], used: &[(&str, &str)]) -> Plan {
    let used = |namespace: &str| {
        used.iter()
            .find(|(of, _)| *of == namespace)
            .map_or("", |(_, used)| *used)
    };
    in_places(
        pool,
        claims,
        &[("a", quota("", "", used("a"))), ("b", quota("", "", used("b")))],
    )
}

/// What a ResourceQuota says that is written with one `hard`, while Kubernetes goes by another.
fn quota(written: &str, known: &str, used: &str) -> Place {
    let quota: ResourceQuota = serde_json::from_value(json!({
        "spec": {"hard": wire(written)}, "status": {"hard": wire(known), "used": wire(used)}}))
    .unwrap();
    Place {
        is_ending: false,
        allowance: Some(Allowance::of(&quota)),
    }
}

fn ending(place: Place) -> Place {
    Place {
        is_ending: true,
        ..place
    }
}

fn in_places(pool: &ResourcePool, claims: &[ResourcePoolClaim], places: &[(&str, Place)]) -> Plan {
    let places = places.iter().map(|(name, place)| ((*name).to_owned(), place.clone()));
    let owner = OwnerReference::default();
    plan(&Pool::new(pool).unwrap(), &owner, claims, &places.collect())
}

/// What a namespace may use by a plan.
fn allowed(plan: &Plan, namespace: &str) -> Option<Amounts> {
    let mut children = plan.children.iter();
    let child = children.find(|child| child.metadata.namespace.as_deref() == Some(namespace))?;
    Some(Amounts::observed(child.spec.as_ref()?.hard.as_ref()))
}

/// `type reason message` of a claim's conditions.
fn said(plan: &Plan, claim: &str) -> Vec<String> {
    plan.verdicts[claim]
        .iter()
        .map(
            |Verdict {
                 condition,
                 holds,
                 reason,
                 message,
             }| format!("{condition} {holds} {reason}: {message}"),
        )
        .collect()
}

#[test]
fn claims_are_served_the_oldest_first() {
    let claims = [
        claim("late", 3, "cpu=3"),
        claim("early", 1, "cpu=4 memory=1Gi"),
        claim("middle", 2, "cpu=2"),
    ];
    let plan = planned(&pool("cpu=8 memory=8Gi", json!({}), &[]), &claims, &[]);
    let served: Vec<&str> = plan.served.keys().map(String::as_str).collect();
    assert_eq!(served, ["early", "middle"]);
    assert_eq!(plan.claimed, amounts("cpu=6 memory=1Gi"));
    assert_eq!(plan.available, amounts("cpu=2 memory=7Gi"));
    assert_eq!(
        said(&plan, "early"),
        [
            "Exhausted false NoExhaustions: resource claimable from pool",
            "Bound false Unused: claim is unused"
        ]
    );
    assert_eq!(
        said(&plan, "late"),
        [
            "Exhausted true PoolExhausted: requested: cpu=3, available: cpu=2",
            "Bound false Failed: claim causes exhaustions"
        ]
    );
    let exhaustion = plan.exhaustions["cpu"];
    assert_eq!(
        (exhaustion.available.to_string(), exhaustion.requesting.to_string()),
        ("2".to_owned(), "3".to_owned())
    );
    assert_eq!(
        plan.conditions[1],
        Verdict::yes("Exhausted", "PoolExhausted", "Pool has exhaustions")
    );
}

#[test]
fn of_the_same_age_the_first_by_name_is_served() {
    let claims = [claim("b", 1, "cpu=1"), claim("c", 1, "cpu=1"), claim("a", 1, "cpu=1")];
    let plan = planned(&pool("cpu=2", json!({}), &[]), &claims, &[]);
    assert_eq!(plan.served.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_smaller_claim_may_pass_a_larger_one_unless_the_queue_is_ordered() {
    let claims = [
        claim("large", 1, "cpu=5"),
        claim("small", 2, "cpu=1"),
        claim("other", 3, "memory=1Gi"),
    ];
    let plan = planned(&pool("cpu=4 memory=4Gi", json!({}), &[]), &claims, &[]);
    assert_eq!(plan.served.keys().collect::<Vec<_>>(), ["other", "small"]);
    let plan = planned(
        &pool("cpu=4 memory=4Gi", json!({"orderedQueue": true}), &[]),
        &claims,
        &[],
    );
    assert_eq!(plan.served.keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(
        said(&plan, "small")[0],
        "Exhausted true QueueExhausted: requested: cpu=1, queued: cpu=5"
    );
    assert_eq!(plan.exhaustions["cpu"].requesting.to_string(), "6");
}

#[test]
fn what_was_served_stays_served_though_older_claims_wait() {
    let claims = [claim("older", 1, "cpu=4"), claim("served", 2, "cpu=3")];
    let plan = planned(&pool("cpu=4", json!({}), &[("served", "cpu=3")]), &claims, &[]);
    assert_eq!(plan.served.keys().collect::<Vec<_>>(), ["served"]);
}

#[rstest]
#[case("cpu=6", "cpu=6", "Exhausted false NoExhaustions: resource claimable from pool")]
#[case("cpu=1", "cpu=1", "Exhausted false NoExhaustions: resource claimable from pool")]
#[case("cpu=7", "cpu=4", "Exhausted true PoolExhausted: requested: cpu=7, available: cpu=6")]
fn a_claim_that_changes_is_checked_against_the_rest_and_its_own(
    #[case] asks: &str,
    #[case] has: &str,
    #[case] exhausted: &str,
) {
    let pool = pool("cpu=8", json!({}), &[("one", "cpu=4"), ("other", "cpu=2")]);
    let plan = planned(&pool, &[claim("one", 1, asks), claim("other", 2, "cpu=2")], &[]);
    assert_eq!(plan.served["one"], amounts(has));
    assert_eq!(said(&plan, "one")[0], exhausted);
}

#[test]
fn what_a_younger_claim_gives_back_is_there_for_an_older_one() {
    let pool = pool("cpu=8 pods=8", json!({}), &[("young", "cpu=6 pods=6")]);
    let claims = [claim("old", 1, "cpu=5"), claim("young", 2, "cpu=1 pods=9")];
    let plan = planned(&pool, &claims, &[]);
    assert_eq!(plan.served["old"], amounts("cpu=5"));
    assert_eq!(plan.served["young"], amounts("cpu=1 pods=6"));
    assert_eq!(
        said(&plan, "young")[0],
        "Exhausted true PoolExhausted: requested: pods=9, available: pods=8"
    );
}

#[test]
fn a_claim_for_what_the_pool_does_not_have_waits() {
    let plan = planned(&pool("cpu=8", json!({}), &[]), &[claim("one", 1, "cpu=1 pods=0")], &[]);
    assert_eq!(
        said(&plan, "one")[0],
        "Exhausted true PoolExhausted: requested: pods=0, available: pods=0"
    );
}

#[test]
fn a_namespace_may_use_what_its_claims_have_and_the_defaults() {
    let mut pool = pool("cpu=8 memory=8Gi pods=10", json!({}), &[]);
    pool.spec.defaults = amounts("cpu=1 services=0").to_wire();
    let claims = [
        claim("one", 1, "cpu=2 memory=0"),
        claim("two", 2, "cpu=1 memory=0"),
        in_namespace(claim("three", 3, "pods=4"), "b"),
    ];
    let plan = planned(&pool, &claims, &[]);
    assert_eq!(
        serde_json::to_value(&plan.children[0]).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {
                "name": "capsule-pool-gold",
                "namespace": "a",
                "labels": {"projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/pool": "gold"},
                "ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}],
            },
            "spec": {"hard": {"cpu": "4", "services": "0"}},
        })
    );
    let other = plan.children[1].spec.clone().unwrap().hard.unwrap();
    assert_eq!(other, amounts("cpu=1 pods=4 services=0").to_wire());
    assert_eq!(plan.claimed, amounts("cpu=3 memory=0 pods=4"));
}

#[test]
fn claims_that_leave_free_what_they_had() {
    let claims = [
        released(claim("released", 1, "cpu=1")),
        in_namespace(claim("elsewhere", 2, "cpu=1"), "c"),
        claim("stays", 3, "cpu=2"),
    ];
    let served = [("released", "cpu=1"), ("elsewhere", "cpu=1"), ("gone", "cpu=1")];
    let mut pool = pool("cpu=2", json!({"deleteBoundResources": true}), &served);
    pool.status.as_mut().unwrap().namespaces.push("c".to_owned());
    let plan = planned(&pool, &claims, &[]);
    assert_eq!(plan.served.keys().collect::<Vec<_>>(), ["stays"]);
    let lets_go: Vec<_> = plan
        .lets_go
        .iter()
        .map(|letting| (letting.uid.as_str(), letting.keeps_owner))
        .collect();
    assert_eq!(lets_go, [("released", false), ("elsewhere", true)]);
    assert_eq!(plan.left, ["c"]);
}

#[test]
fn a_claim_for_less_than_nothing_gives_the_pool_nothing() {
    let mut odd = claim("odd", 1, "cpu=1");
    odd.spec.claim = serde_json::from_value(json!({"cpu": "-4"})).unwrap();
    let plan = planned(
        &pool("cpu=2", json!({}), &[]),
        &[odd.clone(), claim("large", 2, "cpu=3")],
        &[],
    );
    assert!(plan.served.is_empty());
    assert_eq!(plan.lets_go.len(), 1);
    let denial = validate_claim(&odd, None).unwrap_err();
    assert_eq!(
        denial.message,
        "spec.claim[cpu]: -4 is less than nothing; it has to be 0 or more"
    );
}

#[rstest]
#[case("nothing is used", "cpu=0", &[])]
#[case("the largest covers it", "cpu=2", &["large"])]
#[case("of equals the oldest", "cpu=1", &["small"])]
#[case("the largest part first", "cpu=3", &["large", "small"])]
#[case("bytes do not outweigh cores", "cpu=1 memory=1Gi", &["mixed", "small"])]
#[case("more is used than there is", "cpu=99", &["large", "mixed", "small"])]
#[case("what no claim has", "pods=3", &[])]
fn the_claims_that_cover_the_use_are_bound(#[case] which: &str, #[case] used: &str, #[case] expected: &[&str]) {
    let claims = [
        claim("small", 1, "cpu=1"),
        claim("large", 2, "cpu=2"),
        claim("mixed", 3, "cpu=500m memory=1Gi"),
        in_namespace(claim("other", 0, "cpu=9"), "b"),
    ];
    let pool = pool("cpu=20 memory=8Gi pods=1", json!({}), &[]);
    let plan = planned(&pool, &claims, &[("a", used)]);
    let bound: Vec<&str> = plan
        .verdicts
        .iter()
        .filter(|(_, verdicts)| verdicts[1] == Verdict::yes("Bound", "InUse", "claim is used"))
        .map(|(uid, _)| uid.as_str())
        .collect();
    assert_eq!(bound, expected, "{which}");
}

#[test]
fn a_claim_without_a_pool_gets_one_that_has_enough() {
    let named = |name: &str, hard: &str, left: &str| {
        let mut pool = pool(hard, json!({}), &[]);
        pool.metadata.name = Some(name.to_owned());
        let allocation = json!({"hard": wire(hard), "used": {}, "available": wire(left)});
        pool.status.as_mut().unwrap().allocation = serde_json::from_value(allocation).unwrap();
        pool
    };
    let mut ending = named("0", "cpu=8", "cpu=8");
    ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let pools = [
        ending,
        named("d", "cpu=8", "cpu=0"),
        named("c", "cpu=8", "cpu=8"),
        named("b", "cpu=4 pods=1", "cpu=4 pods=1"),
        named("a", "pods=9", "pods=9"),
        pool("cpu=8", json!({}), &[]),
    ];
    let asks = |asks: &str, namespace: &str| -> Vec<&str> {
        let found = candidates(&claim("new", 1, asks), namespace, &pools);
        found
            .iter()
            .map(|pool| pool.metadata.name.as_deref().unwrap())
            .collect()
    };
    assert_eq!(asks("cpu=1", "a"), ["b", "c", "d", "gold"]);
    assert_eq!(asks("cpu=5", "a"), ["c", "b", "d", "gold"]);
    assert_eq!(asks("cpu=9", "a"), ["b", "c", "d", "gold"]);
    assert_eq!(asks("memory=1", "a"), [""; 0]);
    assert_eq!(asks("cpu=1", "c"), [""; 0]);
}

#[test]
fn a_claim_is_told_why_no_pool_serves_it() {
    let gold = pool("cpu=8", json!({}), &[]);
    let told = |claim: &ResourcePoolClaim, pool: Option<&ResourcePool>| {
        associate(claim, pool)
            .map(|pool| pool.uid)
            .map_err(|verdict| verdict.message)
    };
    let plain = claim("one", 1, "cpu=1");
    assert_eq!(told(&plain, Some(&gold)), Ok("uid-of-gold".to_owned()));
    assert_eq!(told(&plain, None), Err("resourcepool not available".to_owned()));
    assert_eq!(
        told(&in_namespace(plain.clone(), "c"), Some(&gold)),
        Err("resourcepool not available".to_owned())
    );
    let mut nameless = plain.clone();
    nameless.spec.pool = String::new();
    assert_eq!(told(&nameless, None), Err("no pool reference was defined".to_owned()));
    assert_eq!(
        told(&claim("one", 1, "cpu=1 pods=1"), Some(&gold)),
        Err("resource pods is not available in pool gold".to_owned())
    );
    let mut silver = gold.clone();
    silver.metadata.uid = Some("uid-of-silver".to_owned());
    assert_eq!(
        told(&bound(plain), Some(&silver)),
        Err("can not change pool while claim is in use for pool gold".to_owned())
    );
}

#[test]
fn defaults_of_nothing_are_written_where_they_are_asked_for() {
    let mut zero = pool("cpu=8 pods=3", json!({"defaultsZero": true}), &[]);
    zero.spec.defaults = amounts("cpu=1").to_wire();
    let changed = with_defaults(&zero).unwrap();
    assert_eq!(changed.spec.defaults, amounts("cpu=1 pods=0").to_wire());
    assert_eq!(with_defaults(&changed), None);
    assert_eq!(with_defaults(&pool("cpu=8", json!({}), &[])), None);
}

#[rstest]
#[case("cpu=3", None)]
#[case(
    "cpu=2",
    Some("can not reduce resource cpu from 8 to 2 because quantity 3 is claimed")
)]
#[case("pods=1", Some("can not remove resource cpu because quantity 3 is claimed"))]
#[case("cpu=8", None)]
fn a_pool_keeps_what_is_claimed(#[case] hard: &str, #[case] expected: Option<&str>) {
    let old = pool("cpu=8 pods=1", json!({}), &[("one", "cpu=3")]);
    let new = pool(hard, json!({}), &[]);
    match (validate_pool(&new, Some(&old)), expected) {
        (Ok(()), None) => {}
        (Err(denial), Some(begins)) => assert!(denial.message.starts_with(begins), "{denial}"),
        (said, _) => assert!(said.is_ok() && expected.is_none(), "{said:?}"),
    }
}

#[test]
fn a_pool_of_amounts_that_are_none_is_refused() {
    let mut odd = pool("cpu=8", json!({}), &[]);
    odd.spec.defaults = serde_json::from_value(json!({"cpu": "-1"})).unwrap();
    assert!(
        validate_pool(&odd, None)
            .unwrap_err()
            .message
            .starts_with("spec.defaults[cpu]: -1 is less than nothing")
    );
}

#[test]
fn only_what_is_in_use_can_be_released() {
    let plain = claim("one", 1, "cpu=1");
    let asks_too_early = released(plain.clone());
    assert_eq!(
        prepare(&asks_too_early, None).unwrap().metadata.annotations,
        Some(BTreeMap::new())
    );
    assert!(prepare(&asks_too_early, Some(&plain)).is_some());
    assert_eq!(
        prepare(&released(bound(plain.clone())), Some(&bound(plain.clone()))),
        None
    );
    assert_eq!(prepare(&plain, None), None);
}

#[test]
fn a_claim_in_use_is_neither_changed_nor_deleted() {
    let used = bound(claim("one", 1, "cpu=1"));
    let message = |said: Result<(), Denial>| said.unwrap_err().message;
    let ends =
        "remove what uses it, or set the annotation projectcapsule.dev/release: \"true\" to give it back to the pool";
    assert_eq!(
        message(validate_claim(&claim("one", 1, "cpu=2"), Some(&used))),
        format!("the claim is in use for the pool gold: its amounts can not change; {ends}")
    );
    let mut moved = used.clone();
    moved.spec.pool = "silver".to_owned();
    assert!(message(validate_claim(&moved, Some(&used))).contains("its pool can not change"));
    // The same amount in other words is the same.
    let mut rewritten = used.clone();
    rewritten.spec.claim = serde_json::from_value(json!({"cpu": "1000m"})).unwrap();
    assert_eq!(validate_claim(&rewritten, Some(&used)), Ok(()));
    assert!(message(validate_deletion(&used, Deletion::default())).contains("it can not be deleted"));
    for allowed in [
        Deletion {
            namespace_goes: true,
            ..Deletion::default()
        },
        Deletion {
            pool_goes: true,
            ..Deletion::default()
        },
    ] {
        assert_eq!(validate_deletion(&used, allowed), Ok(()));
    }
    assert_eq!(validate_deletion(&released(used), Deletion::default()), Ok(()));
    let unused = claim("one", 1, "cpu=1");
    assert_eq!(validate_deletion(&unused, Deletion::default()), Ok(()));
    assert_eq!(validate_claim(&claim("one", 1, "cpu=2"), Some(&unused)), Ok(()));
}

#[test]
fn a_claim_asks_for_something_and_for_no_more_than_a_status_can_say() {
    let asking = |names: usize, amount: &str| {
        let mut claim = claim("one", 1, "");
        claim.spec.claim = serde_json::from_value(
            (0..names)
                .map(|number| (format!("example.com/r{number}"), json!(amount)))
                .collect(),
        )
        .unwrap();
        claim
    };
    let message = |claim: &ResourcePoolClaim| validate_claim(claim, None).unwrap_err().message;
    assert!(message(&asking(0, "1")).contains("asks for nothing"));
    assert!(message(&asking(2, "0")).contains("asks for nothing"));
    assert_eq!(validate_claim(&asking(64, "1"), None), Ok(()));
    let much = asking(65, "1");
    assert!(message(&much).contains("at most 64"));
    assert_eq!(validate_number(99, None), Ok(()));
    assert!(
        validate_number(100, None)
            .unwrap_err()
            .message
            .contains("has at most 100")
    );
    assert_eq!(validate_number(200, Some(&much)), Ok(()));
    // Stored before: its metadata can change, and its pool lets it go.
    assert_eq!(validate_claim(&much, Some(&much)), Ok(()));
    let plan = planned(&pool("", json!({}), &[]), &[much], &[]);
    assert_eq!((plan.lets_go.len(), plan.exhaustions.len()), (1, 0));
}

/// Writes what a plan serves into the pool's status, as the controller does.
fn publish(pool: &mut ResourcePool, plan: &Plan) {
    let mut claims: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (uid, given) in &plan.given {
        let Given {
            name,
            namespace,
            amounts,
        } = given;
        let claim = json!({"name": name, "namespace": namespace, "uid": uid, "claims": amounts.to_wire()});
        claims.entry(namespace.clone()).or_default().push(claim);
    }
    pool.status.as_mut().unwrap().claims = serde_json::from_value(json!(claims)).unwrap();
}

#[test]
fn what_was_given_back_is_there_for_others_when_its_quota_allows_no_more_of_it() {
    let mut pool = pool("cpu=4", json!({}), &[("released", "cpu=3")]);
    let claims = [
        released(claim("released", 1, "cpu=3")),
        in_namespace(claim("waits", 2, "cpu=2"), "b"),
    ];
    let empty = || quota("", "", "");
    let is_waiting = |plan: &Plan| said(plan, "waits")[0].starts_with("Exhausted true");
    // Two of three are used; until the quota is lowered, the third may be used as well.
    let first = in_places(
        &pool,
        &claims,
        &[("a", quota("cpu=3", "cpu=3", "cpu=2")), ("b", empty())],
    );
    assert_eq!(allowed(&first, "a"), Some(amounts("cpu=2")));
    assert_eq!(first.given["released"].amounts, amounts("cpu=3"));
    assert_eq!(first.available, amounts("cpu=1"));
    assert!(is_waiting(&first) && first.lets_go.len() == 1);
    assert_eq!(
        said(&first, "waits")[0],
        "Exhausted true PoolExhausted: requested: cpu=2, available: cpu=1"
    );
    publish(&mut pool, &first);
    // It is, and Kubernetes goes by it, but one pod came before that: now all three are used.
    let raced = in_places(
        &pool,
        &claims[1..],
        &[("a", quota("cpu=2", "cpu=2", "cpu=3")), ("b", empty())],
    );
    assert_eq!(
        (allowed(&raced, "a"), is_waiting(&raced)),
        (Some(amounts("cpu=3")), true)
    );
    // Kubernetes does not go by it yet.
    let unknown = in_places(
        &pool,
        &claims[1..],
        &[("a", quota("cpu=2", "cpu=3", "cpu=2")), ("b", empty())],
    );
    assert_eq!(
        (allowed(&unknown, "a"), is_waiting(&unknown)),
        (Some(amounts("cpu=2")), true)
    );
    let freed = in_places(
        &pool,
        &claims[1..],
        &[("a", quota("cpu=2", "cpu=2", "cpu=2")), ("b", empty())],
    );
    assert_eq!(freed.served["waits"], amounts("cpu=2"));
    assert_eq!((freed.available.get("cpu"), freed.given.len()), (Quantity::ZERO, 2));
    publish(&mut pool, &freed);
    let gone = in_places(
        &pool,
        &claims[1..],
        &[("a", quota("", "", "")), ("b", quota("cpu=2", "cpu=2", ""))],
    );
    assert_eq!(gone.given.keys().collect::<Vec<_>>(), ["waits"]);
    assert_eq!(allowed(&gone, "a"), Some(Amounts::default()));
}

#[test]
fn what_a_namespace_still_uses_covers_what_it_claims_anew() {
    let pool = pool("cpu=3", json!({}), &[("gone", "cpu=3")]);
    let used = [("a", quota("cpu=2", "cpu=2", "cpu=2"))];
    let anew = in_places(&pool, &[claim("anew", 1, "cpu=3")], &used);
    assert_eq!(anew.served["anew"], amounts("cpu=3"));
    assert_eq!(anew.given.len(), 1);
    let less = in_places(&pool, &[claim("anew", 1, "cpu=1")], &used);
    assert_eq!(
        (allowed(&less, "a"), less.available.clone()),
        (Some(amounts("cpu=2")), amounts("cpu=1"))
    );
    assert_eq!(
        (&less.given["anew"].amounts, &less.given["gone"].amounts),
        (&amounts("cpu=1"), &amounts("cpu=1"))
    );
    // The same claim, released and asked for anew, is no way around it.
    let again = in_places(&pool, &[claim("gone", 1, "cpu=1")], &used);
    assert_eq!(
        (again.available, again.given["gone"].amounts.clone()),
        (amounts("cpu=1"), amounts("cpu=2"))
    );
}

#[test]
fn only_what_was_given_is_held_and_no_use_besides() {
    let pool = pool("cpu=8", json!({}), &[("gone", "cpu=1")]);
    let mut with_defaults = pool.clone();
    with_defaults.spec.defaults = amounts("cpu=2").to_wire();
    let busy = [("a", quota("cpu=3", "cpu=3", "cpu=3"))];
    assert_eq!(in_places(&with_defaults, &[], &busy).available, amounts("cpu=7"));
    let idle = [("a", quota("cpu=2", "cpu=2", "cpu=2"))];
    assert_eq!(in_places(&with_defaults, &[], &idle).available, amounts("cpu=8"));
    // Used before there was a quota: not the pool's.
    let older = [("a", quota("cpu=1", "cpu=1", "cpu=50"))];
    assert_eq!(in_places(&pool, &[], &older).available, amounts("cpu=7"));
    assert_eq!(allowed(&in_places(&pool, &[], &older), "a"), Some(amounts("cpu=1")));
}

#[test]
fn a_namespace_that_ends_uses_what_it_used_until_it_is_gone() {
    let pool = pool("cpu=3", json!({}), &[("one", "cpu=3")]);
    let claims = [claim("one", 1, "cpu=3"), in_namespace(claim("waits", 2, "cpu=2"), "b")];
    let available = |place: Option<Place>| {
        let place = place.map(|place| ("a", place));
        let places: Vec<_> = place.into_iter().chain([("b", quota("", "", ""))]).collect();
        let plan = in_places(&pool, &claims, &places);
        assert_eq!((plan.lets_go.len(), allowed(&plan, "a")), (1, None));
        plan.available.get("cpu").to_string()
    };
    let used = |used: &str| ending(quota("cpu=3", "cpu=3", used));
    assert_eq!(available(Some(used("cpu=2"))), "1");
    // Nothing new is made there: what was free is free.
    assert_eq!(
        available(Some(used("cpu=0"))),
        "1",
        "two of three are served to who waits"
    );
    // Its quota goes before its pods do.
    let without_quota = Place {
        is_ending: true,
        allowance: None,
    };
    assert_eq!(available(Some(without_quota)), "0");
    assert_eq!(available(None), "1");
}

#[test]
fn a_pool_and_a_namespace_have_an_end_of_claims() {
    let in_one: Vec<_> = (0..=MOST_CLAIMS_IN_A_NAMESPACE)
        .map(|number| claim(&format!("claim-{number:03}"), 1, "cpu=1"))
        .collect();
    let plan = planned(&pool("cpu=9000", json!({}), &[]), &in_one, &[]);
    assert_eq!(plan.served.len(), MOST_CLAIMS_IN_A_NAMESPACE);
    let told = &said(&plan, "claim-100")[0];
    assert!(
        told.starts_with("Exhausted true PoolExhausted: the pool serves 100 claims of this namespace"),
        "{told}"
    );
    assert!(!plan.conditions[1].holds, "nobody else waits for that");

    let spread = |number: usize, asks: &str| {
        in_namespace(
            claim(&format!("claim-{number:04}"), 1, asks),
            &format!("n{}", number % 250),
        )
    };
    let many: Vec<_> = (0..=MOST_CLAIMS).map(|number| spread(number, "cpu=1")).collect();
    let places: Vec<(String, Place)> = (0..250)
        .map(|number| (format!("n{number}"), quota("", "", "")))
        .collect();
    let places: Vec<(&str, Place)> = places
        .iter()
        .map(|(name, place)| (name.as_str(), place.clone()))
        .collect();
    let plan = in_places(&pool("cpu=9000", json!({}), &[]), &many, &places);
    assert_eq!(plan.served.len(), MOST_CLAIMS);
    assert!(said(&plan, "claim-1000")[0].contains("the pool serves 1000 claims and has no room for more"));

    // However long names are, what is stored of claims fits into the store.
    let names: Vec<String> = (0..MOST_RESOURCES)
        .map(|number| format!("{}.example.com/r{number}=1", "x".repeat(240)))
        .collect();
    let long = names.join(" ");
    let hard = long.replace("=1", "=9000");
    let many: Vec<_> = (0..=MOST_CLAIMS).map(|number| spread(number, &long)).collect();
    let mut large = pool(&hard, json!({}), &[]);
    let plan = in_places(&large, &many, &places);
    publish(&mut large, &plan);
    let size = serde_json::to_string(&large.status).unwrap().len();
    assert!((256 * 1024..1024 * 1024).contains(&size), "{size}");
}

#[test]
fn many_small_claims_of_one_namespace_leave_room_for_those_of_others() {
    let places = |number: usize| -> Vec<(String, Place)> {
        (0..number)
            .map(|number| (format!("n{number:03}"), quota("", "", "")))
            .collect()
    };
    // As many as fit are asked for in the first namespace, and later one in each of the others.
    let served = |number: usize, asks: &str| {
        let places = places(number);
        let places: Vec<(&str, Place)> = places
            .iter()
            .map(|(name, place)| (name.as_str(), place.clone()))
            .collect();
        let greedy = (0..MOST_CLAIMS_IN_A_NAMESPACE)
            .map(|number| in_namespace(claim(&format!("greedy-{number:03}"), 1, asks), "n000"));
        let modest = places[1..]
            .iter()
            .map(|(name, _)| in_namespace(claim(&format!("modest-{name}"), 2, asks), name));
        let claims: Vec<_> = greedy.chain(modest).collect();
        let hard = asks.replace("=1", "=9000");
        let plan = in_places(&pool(&hard, json!({}), &[]), &claims, &places);
        let greedy = plan.served.keys().filter(|uid| uid.contains("greedy")).count();
        (greedy, plan.served.len() - greedy)
    };
    assert_eq!(served(2, "cpu=1"), (100, 1));
    assert_eq!(served(20, "cpu=1"), (50, 19));
    assert_eq!(served(400, "cpu=1"), (5, 399));
    // Three names of 256 bytes make a claim of 998 bytes. A share of 768 KiB is 7,864 bytes, or 4 KiB at least.
    let names: Vec<String> = (0..20)
        .map(|number| format!("{}/r{number:02}=1", "x".repeat(252)))
        .collect();
    assert_eq!(served(100, &names[..3].join(" ")), (7, 99));
    assert_eq!(served(400, &names[..3].join(" ")), (4, 399));
    // Twenty make 5,894: the first is served also where the share is less.
    assert_eq!(served(100, &names.join(" ")), (1, 99));
    assert_eq!(served(120, &names[..].join(" ")), (1, 119));
    assert_eq!(served(2, &names.join(" ")).1, 1);
}

proptest! {
    /// However claims come, change and go: never more than the pool has; and looking twice changes nothing.
    #[test]
    fn what_is_served_never_exceeds_the_pool(
        ordered in any::<bool>(),
        steps in prop::collection::vec((0_usize..8, 0_i64..4, 0_u32..7, 0_u32..4, 0_u8..4), 1..40),
    ) {
        let mut pool = pool("cpu=10 pods=5", json!({"orderedQueue": ordered}), &[]);
        let mut claims: BTreeMap<usize, ResourcePoolClaim> = BTreeMap::new();
        for (which, made, cpu, pods, step) in steps {
            if step == 0 {
                claims.remove(&which);
            } else {
                let asks = format!("cpu={cpu} pods={pods}");
                let made = claims.get(&which).and_then(|claim| claim.metadata.creation_timestamp.clone()).map_or(made, |time| time.0.as_second());
                claims.insert(which, claim(&format!("claim-{which}"), made, &asks));
            }
            let listed: Vec<_> = claims.values().cloned().collect();
            let plan = planned(&pool, &listed, &[("a", "cpu=2")]);
            let served = Amounts::sum(plan.served.values());
            prop_assert_eq!(&plan.claimed, &served.all_of(&plan.claimed));
            let sum = Amounts::sum(plan.given.values().map(|given| &given.amounts));
            prop_assert!(sum.fit_in(&amounts("cpu=10 pods=5")), "{:?}", plan.given);
            // The quotas of the namespaces give no more than that.
            let given = plan.children.iter().fold(Amounts::default(), |sum, child| {
                sum.plus(&Amounts::observed(child.spec.as_ref().unwrap().hard.as_ref()))
            });
            prop_assert!(given.fit_in(&sum));
            prop_assert!(plan.served.keys().all(|uid| listed.iter().any(|claim| claim.metadata.uid.as_ref() == Some(uid))));
            publish(&mut pool, &plan);
            let backwards: Vec<_> = listed.into_iter().rev().collect();
            let again = planned(&pool, &backwards, &[("a", "cpu=2")]);
            prop_assert_eq!(&again.served, &plan.served);
            prop_assert_eq!(&again.children, &plan.children);
        }
    }

    /// What is bound covers the use, if all claims together do, and nothing of it is there in vain.
    #[test]
    fn what_is_bound_covers_the_use(asks in prop::collection::vec((0_u32..5, 0_u32..5), 0..9), cpu in 0_u32..9, pods in 0_u32..9) {
        let asks: Vec<Amounts> = asks.iter().map(|(cpu, pods)| amounts(&format!("cpu={cpu} pods={pods}"))).collect();
        let names: Vec<String> = (0..asks.len()).map(|index| index.to_string()).collect();
        let claims: Vec<_> = asks.iter().zip(&names).map(|(asked, uid)| division::Asking { uid, name: uid, namespace: "a", asked }).collect();
        let used = amounts(&format!("cpu={cpu} pods={pods}"));
        let bound = binding::in_use(&claims, &used);
        let sum = |uids: &[&str]| claims.iter().filter(|claim| uids.contains(&claim.uid)).fold(Amounts::default(), |sum, claim| sum.plus(claim.asked));
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        prop_assert_eq!(used.minus(&sum(&bound)), used.minus(&sum(&all)));
        prop_assert_eq!(&bound, &naive(&claims, &used));
    }
}

/// The same choice, worked out anew in every step.
fn naive<'a>(claims: &[division::Asking<'a>], used: &Amounts) -> Vec<&'a str> {
    let mut uncovered = used.clone();
    let mut left: Vec<_> = claims.iter().collect();
    let mut taken = Vec::new();
    loop {
        let covers = |asked: &Amounts| -> f64 {
            let parts = uncovered.iter().filter(|(_, amount)| !amount.is_zero());
            parts
                .map(|(resource, uncovered)| asked.get(resource).min(uncovered).to_f64() / used.get(resource).to_f64())
                .sum()
        };
        let most = left.iter().map(|claim| covers(claim.asked)).fold(0.0, f64::max);
        let Some(index) = left.iter().position(|claim| most > 0.0 && covers(claim.asked) >= most) else {
            return taken;
        };
        let claim = left.remove(index);
        uncovered = uncovered.minus(claim.asked);
        taken.push(claim.uid);
    }
}

/// A namespace as Kubernetes has it: the quota as it is written, as Kubernetes goes by it, and what is used.
#[derive(Clone, Debug, Default)]
struct Live {
    written: Amounts,
    known: Amounts,
    used: Amounts,
}

impl Live {
    fn place(&self) -> Place {
        let quota: ResourceQuota = serde_json::from_value(json!({
            "spec": {"hard": self.written.to_wire()},
            "status": {"hard": self.known.to_wire(), "used": self.used.only(&self.known).to_wire()}}))
        .unwrap();
        Place {
            is_ending: false,
            allowance: Some(Allowance::of(&quota)),
        }
    }
}

proptest! {
    /// Claims come, change, are released and go; Kubernetes hears late of quotas; pods come where quotas let them, and go. What
    /// is used in all namespaces never exceeds the pool.
    #[test]
    fn what_is_used_never_exceeds_the_pool(
        steps in prop::collection::vec((0_u8..8, 0_usize..3, 0_usize..6, 0_u32..6), 1..80),
    ) {
        let hard = amounts("cpu=10");
        let mut pool = pool("cpu=10", json!({}), &[]);
        let mut claims: BTreeMap<usize, ResourcePoolClaim> = BTreeMap::new();
        let mut live: BTreeMap<String, Live> = ["a", "b", "c"].map(|name| (name.to_owned(), Live::default())).into();
        for (step, place, which, amount) in steps {
            let name = ["a", "b", "c"][place];
            match step {
                0 | 1 => {
                    // A claim stays in its namespace.
                    let name = ["a", "b", "c"][which % 3];
                    claims.insert(which, in_namespace(claim(&format!("claim-{which}"), 1, &format!("cpu={amount}")), name));
                }
                2 => drop(claims.remove(&which)),
                3 => {
                    if let Some(claim) = claims.get_mut(&which) {
                        *claim = released(claim.clone());
                    }
                }
                4 => {
                    let live = live.get_mut(name).unwrap();
                    live.known = live.written.clone();
                }
                5 | 6 => {
                    // Kubernetes lets in what its `hard` allows, and only what that names is limited: unlimited use is not the pool's.
                    let live = live.get_mut(name).unwrap();
                    let more = live.used.plus(&amounts(&format!("cpu={amount}")));
                    if more.fit_in(&live.known) {
                        live.used = more;
                    }
                }
                _ => {
                    let live = live.get_mut(name).unwrap();
                    live.used = live.used.minus(&amounts(&format!("cpu={amount}")));
                }
            }
            // The controller looks now and then.
            if step % 2 == 0 {
                let places: Vec<_> = live.iter().map(|(name, live)| (name.as_str(), live.place())).collect();
                let listed: Vec<_> = claims.values().cloned().collect();
                let plan = in_places(&pool, &listed, &places);
                publish(&mut pool, &plan);
                for letting in &plan.lets_go {
                    claims.retain(|_, claim| claim.metadata.uid.as_ref() != Some(&letting.uid));
                }
                for (name, live) in &mut live {
                    live.written = allowed(&plan, name).unwrap();
                }
            }
            let may_use = live.values().map(|live| live.used.most(&live.written.most(&live.known)));
            let may_use = may_use.fold(Amounts::default(), |sum, one| sum.plus(&one));
            prop_assert!(may_use.fit_in(&hard), "{live:?} {:?}", pool.status);
        }
    }
}
