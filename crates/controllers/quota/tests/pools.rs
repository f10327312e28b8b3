//! Pools and claims, through a real API server whose own controllers count what is used.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

mod bed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use api::capsule::v1beta2::ResourcePoolClaim;
use bed::{Controllers, bed, claims, create_claim, create_namespace, create_pool, eventually, merge, pools, use_one};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::unique;

/// A pool of secrets with as many namespaces as asked for.
async fn stage(hard: i64, namespaces: usize, more: Value) -> (Client, String, Vec<String>) {
    let client = bed().await;
    let pool = unique("pool");
    let names: Vec<String> = (0..namespaces).map(|index| format!("{pool}-{index}")).collect();
    for name in &names {
        create_namespace(&client, name, &pool).await;
    }
    create_pool(&client, &pool, json!({"secrets": hard.to_string()}), more).await;
    (client, pool, names)
}

fn secrets(number: i64) -> Value {
    json!({"secrets": number.to_string()})
}

/// `type status reason` of the conditions, in the order of the types.
fn words(conditions: &[Condition]) -> Vec<String> {
    let mut words: Vec<String> = conditions
        .iter()
        .map(|it| format!("{} {} {}", it.type_, it.status, it.reason))
        .collect();
    words.sort();
    words
}

/// Waits until a claim says this.
async fn says(client: &Client, namespace: &str, name: &str, expected: &[&str]) -> ResourcePoolClaim {
    eventually(&format!("{name} says {expected:?}"), || async {
        let claim = claims(client, namespace).get(name).await.unwrap();
        let said = words(&claim.status.clone().unwrap_or_default().conditions);
        if said == expected {
            Ok(claim)
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await
}

const UNUSED: [&str; 3] = [
    "Bound False Unused",
    "Exhausted False NoExhaustions",
    "Ready True Succeeded",
];
const IN_USE: [&str; 3] = [
    "Bound True InUse",
    "Exhausted False NoExhaustions",
    "Ready True Succeeded",
];
const EXHAUSTED: [&str; 3] = [
    "Bound False Failed",
    "Exhausted True PoolExhausted",
    "Ready True Succeeded",
];

/// Waits until a namespace may have this many secrets. `None`: nothing is said of them.
async fn may_have(client: &Client, namespace: &str, pool: &str, expected: Option<i64>) -> ResourceQuota {
    let api: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    eventually(&format!("{namespace} may have {expected:?}"), || async {
        let quota = api.get_opt(&format!("capsule-pool-{pool}")).await.unwrap();
        let quota = quota.ok_or("there is no quota".to_owned())?;
        let hard = hard(&quota);
        if hard == expected {
            Ok(quota)
        } else {
            Err(format!("{hard:?}"))
        }
    })
    .await
}

fn hard(quota: &ResourceQuota) -> Option<i64> {
    let hard = quota.spec.as_ref()?.hard.as_ref()?.get("secrets")?;
    hard.0.parse().ok()
}

async fn delete<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_claim_makes_the_quota_of_its_namespace_grow_and_is_bound_while_it_is_used() {
    let (client, pool, names) = stage(5, 2, json!({"defaults": {"configmaps": "9"}})).await;
    let (one, other) = (&names[0], &names[1]);
    create_claim(&client, one, "first", &pool, secrets(2)).await;
    let claim = says(&client, one, "first", &UNUSED).await;
    let found = pools(&client).get(&pool).await.unwrap();
    assert_eq!(
        claim.status.as_ref().unwrap().pool.as_ref().unwrap().uid,
        found.uid().unwrap()
    );
    assert_eq!(
        serde_json::to_value(claim.owner_references()).unwrap(),
        json!([{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "name": pool, "uid": found.uid()}])
    );
    create_claim(&client, one, "second", &pool, secrets(1)).await;
    create_claim(&client, other, "third", &pool, secrets(1)).await;
    let quota = may_have(&client, one, &pool, Some(3)).await;
    may_have(&client, other, &pool, Some(1)).await;
    assert_eq!(quota.spec.unwrap().hard.unwrap()["configmaps"].0, "9");
    assert_eq!(
        quota.metadata.labels.unwrap(),
        BTreeMap::from([
            ("projectcapsule.dev/managed-by".to_owned(), "controller".to_owned()),
            ("projectcapsule.dev/pool".to_owned(), pool.clone())
        ])
    );
    assert_eq!(
        serde_json::to_value(quota.metadata.owner_references).unwrap(),
        json!([{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "name": pool, "uid": found.uid(),
            "controller": true, "blockOwnerDeletion": true}])
    );
    eventually("the pool says it", || async {
        let pool = pools(&client).get(&pool).await.unwrap();
        let status = pool.status.clone().unwrap_or_default();
        let allocation = serde_json::to_value(&status.allocation).unwrap();
        let expected = json!({"hard": {"secrets": "5"}, "used": {"secrets": "4"}, "available": {"secrets": "1"}});
        let good = allocation == expected
            && (status.claim_count, status.namespace_count) == (3, 2)
            && status.namespaces == names
            && words(&status.conditions) == ["Exhausted False NoExhaustions", "Ready True Succeeded"]
            && status.observed_generation == pool.metadata.generation
            && pool.finalizers() == ["controller.projectcapsule.dev/finalize"];
        good.then_some(()).ok_or(format!("{pool:?}"))
    })
    .await;

    let secret = use_one(&client, one).await;
    says(&client, one, "first", &IN_USE).await;
    says(&client, one, "second", &UNUSED).await;
    delete(&Api::<Secret>::namespaced(client.clone(), one), &secret.name_any()).await;
    says(&client, one, "first", &UNUSED).await;
}

#[tokio::test]
async fn what_does_not_fit_waits_until_something_is_given_back() {
    let (client, pool, names) = stage(4, 2, json!({})).await;
    create_claim(&client, &names[0], "large", &pool, secrets(3)).await;
    says(&client, &names[0], "large", &UNUSED).await;
    create_claim(&client, &names[1], "late", &pool, secrets(2)).await;
    let late = says(&client, &names[1], "late", &EXHAUSTED).await;
    let conditions = late.status.unwrap().conditions;
    let exhausted = conditions.iter().find(|it| it.type_ == "Exhausted").unwrap();
    assert_eq!(exhausted.message, "requested: secrets=2, available: secrets=1");
    eventually("the pool says it", || async {
        let status = pools(&client).get(&pool).await.unwrap().status.unwrap();
        let exhaustions = serde_json::to_value(&status.exhaustions).unwrap();
        let good = exhaustions == json!({"secrets": {"available": "1", "requesting": "2"}})
            && words(&status.conditions)[0] == "Exhausted True PoolExhausted";
        good.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    // A claim may become smaller, and what it gives back goes to who waits.
    merge(
        &claims(&client, &names[0]),
        "large",
        json!({"spec": {"claim": secrets(2)}}),
    )
    .await;
    says(&client, &names[1], "late", &UNUSED).await;
    may_have(&client, &names[0], &pool, Some(2)).await;
    may_have(&client, &names[1], &pool, Some(2)).await;
    delete(&claims(&client, &names[0]), "large").await;
    may_have(&client, &names[0], &pool, None).await;
    // And larger, when the pool does.
    merge(
        &claims(&client, &names[1]),
        "late",
        json!({"spec": {"claim": secrets(6)}}),
    )
    .await;
    says(&client, &names[1], "late", &EXHAUSTED).await;
    may_have(&client, &names[1], &pool, Some(2)).await;
    merge(
        &pools(&client),
        &pool,
        json!({"spec": {"quota": {"hard": {"secrets": "6"}}}}),
    )
    .await;
    says(&client, &names[1], "late", &UNUSED).await;
    may_have(&client, &names[1], &pool, Some(6)).await;
}

#[tokio::test]
async fn in_an_ordered_queue_nobody_passes() {
    let (client, pool, names) = stage(4, 1, json!({"config": {"orderedQueue": true}})).await;
    let place = &names[0];
    create_claim(&client, place, "a", &pool, secrets(3)).await;
    says(&client, place, "a", &UNUSED).await;
    create_claim(&client, place, "b", &pool, secrets(2)).await;
    says(&client, place, "b", &EXHAUSTED).await;
    create_claim(&client, place, "c", &pool, secrets(1)).await;
    let queued = [
        "Bound False Failed",
        "Exhausted True QueueExhausted",
        "Ready True Succeeded",
    ];
    says(&client, place, "c", &queued).await;
    delete(&claims(&client, place), "a").await;
    says(&client, place, "b", &UNUSED).await;
    says(&client, place, "c", &UNUSED).await;
    may_have(&client, place, &pool, Some(3)).await;
}

#[tokio::test]
async fn a_claim_in_use_is_let_go_when_its_author_asks_and_asks_again_when_it_changes() {
    let (client, pool, names) = stage(3, 2, json!({})).await;
    create_claim(&client, &names[0], "used", &pool, secrets(3)).await;
    may_have(&client, &names[0], &pool, Some(3)).await;
    use_one(&client, &names[0]).await;
    says(&client, &names[0], "used", &IN_USE).await;
    create_claim(&client, &names[1], "waits", &pool, secrets(2)).await;
    says(&client, &names[1], "waits", &EXHAUSTED).await;

    let release = json!({"metadata": {"annotations": {"projectcapsule.dev/release": "true"}}});
    merge(&claims(&client, &names[0]), "used", release).await;
    says(&client, &names[1], "waits", &UNUSED).await;
    says(&client, &names[0], "used", &["Ready False Released"]).await;
    eventually("nothing is left on it", || async {
        let claim = claims(&client, &names[0]).get("used").await.unwrap();
        let clean = claim.annotations().is_empty()
            && claim.owner_references().is_empty()
            && claim.status.as_ref().unwrap().pool.is_none();
        clean.then_some(()).ok_or(format!("{claim:?}"))
    })
    .await;
    // What is still used stays counted, and no more than that can be used meanwhile.
    may_have(&client, &names[0], &pool, Some(1)).await;
    eventually("nothing is left", || async {
        let status = pools(&client).get(&pool).await.unwrap().status.unwrap();
        let allocation = serde_json::to_value(&status.allocation).unwrap();
        let expected = json!({"hard": {"secrets": "3"}, "used": {"secrets": "2"}, "available": {"secrets": "0"}});
        let held = status.claims[&names[0]][0].claims["secrets"].0.clone();
        (allocation == expected && held == "1" && status.claim_count == 1)
            .then_some(())
            .ok_or(format!("{status:?}"))
    })
    .await;
    merge(
        &claims(&client, &names[0]),
        "used",
        json!({"spec": {"claim": secrets(1)}}),
    )
    .await;
    says(&client, &names[0], "used", &IN_USE).await;
}

#[tokio::test]
async fn what_is_still_used_is_not_given_to_others() {
    let (client, pool, names) = stage(3, 2, json!({})).await;
    create_claim(&client, &names[0], "used", &pool, secrets(3)).await;
    may_have(&client, &names[0], &pool, Some(3)).await;
    let secret = use_one(&client, &names[0]).await;
    says(&client, &names[0], "used", &IN_USE).await;
    create_claim(&client, &names[1], "waits", &pool, secrets(3)).await;
    says(&client, &names[1], "waits", &EXHAUSTED).await;
    // No webhook holds the claim up here.
    delete(&claims(&client, &names[0]), "used").await;
    may_have(&client, &names[0], &pool, Some(1)).await;
    eventually("it says what is left", || async {
        let claim = claims(&client, &names[1]).get("waits").await.unwrap();
        let said = format!("{:?}", claim.status);
        said.contains("requested: secrets=3, available: secrets=2")
            .then_some(())
            .ok_or(said)
    })
    .await;
    delete(
        &Api::<Secret>::namespaced(client.clone(), &names[0]),
        &secret.name_any(),
    )
    .await;
    says(&client, &names[1], "waits", &UNUSED).await;
    may_have(&client, &names[0], &pool, None).await;
    may_have(&client, &names[1], &pool, Some(3)).await;
}

#[tokio::test]
async fn what_a_namespace_uses_is_counted_until_it_is_gone() {
    let (client, pool, names) = stage(3, 2, json!({})).await;
    create_claim(&client, &names[0], "used", &pool, secrets(3)).await;
    may_have(&client, &names[0], &pool, Some(3)).await;
    let secret = use_one(&client, &names[0]).await;
    let all = Api::<Secret>::namespaced(client.clone(), &names[0]);
    let finalizers = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    merge(&all, &secret.name_any(), finalizers(json!(["example.com/holds"]))).await;
    create_claim(&client, &names[1], "waits", &pool, secrets(3)).await;
    says(&client, &names[1], "waits", &EXHAUSTED).await;
    delete(&Api::<Namespace>::all(client.clone()), &names[0]).await;
    eventually("its claim is gone, and the pool is not there any more", || async {
        let claim = claims(&client, &names[0]).get_opt("used").await.unwrap();
        let status = pools(&client).get(&pool).await.unwrap().status.unwrap();
        let left = claim.is_none() && status.namespaces == names[1..];
        (left && status.claims.contains_key(&names[0]) && status.claim_count == 0)
            .then_some(())
            .ok_or(format!("{claim:?} {status:?}"))
    })
    .await;
    says(&client, &names[1], "waits", &EXHAUSTED).await;
    merge(&all, &secret.name_any(), finalizers(Value::Null)).await;
    says(&client, &names[1], "waits", &UNUSED).await;
    may_have(&client, &names[1], &pool, Some(3)).await;
}

#[tokio::test]
async fn claims_outlive_their_pool_unless_it_takes_them_along() {
    for takes_along in [false, true] {
        let config = json!({"config": {"deleteBoundResources": takes_along}});
        let (client, pool, names) = stage(3, 1, config).await;
        create_claim(&client, &names[0], "one", &pool, secrets(2)).await;
        may_have(&client, &names[0], &pool, Some(2)).await;
        use_one(&client, &names[0]).await;
        says(&client, &names[0], "one", &IN_USE).await;
        delete(&pools(&client), &pool).await;
        eventually("the pool and its quota are gone", || async {
            let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &names[0]);
            let left = quotas.list(&ListParams::default()).await.unwrap().items.len();
            let gone = pools(&client).get_opt(&pool).await.unwrap().is_none() && left == 0;
            gone.then_some(()).ok_or(format!("{left} quotas"))
        })
        .await;
        if takes_along {
            eventually("the claim is gone", || async {
                let found = claims(&client, &names[0]).get_opt("one").await.unwrap();
                found.is_none().then_some(()).ok_or(format!("{found:?}"))
            })
            .await;
        } else {
            let claim = says(&client, &names[0], "one", &["Ready False Failed"]).await;
            assert_eq!(claim.owner_references(), []);
            // One of the same name serves it again.
            create_pool(&client, &pool, secrets(2), json!({})).await;
            says(&client, &names[0], "one", &IN_USE).await;
        }
    }
}

#[tokio::test]
async fn a_namespace_that_leaves_the_pool_gives_back_what_it_had() {
    let (client, pool, names) = stage(3, 2, json!({})).await;
    create_claim(&client, &names[0], "one", &pool, secrets(3)).await;
    says(&client, &names[0], "one", &UNUSED).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let team = |team: &str| json!({"metadata": {"labels": {"team": team}}});
    merge(&namespaces, &names[0], team("other")).await;
    let left = says(&client, &names[0], "one", &["Ready False Failed"]).await;
    assert_eq!(left.status.unwrap().pool, None);
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &names[0]);
    eventually("its quota is gone", || async {
        let left = quotas.list(&ListParams::default()).await.unwrap().items.len();
        (left == 0).then_some(()).ok_or(format!("{left} quotas"))
    })
    .await;
    create_claim(&client, &names[1], "two", &pool, secrets(3)).await;
    says(&client, &names[1], "two", &UNUSED).await;
    delete(&claims(&client, &names[1]), "two").await;
    merge(&namespaces, &names[0], team(&pool)).await;
    says(&client, &names[0], "one", &UNUSED).await;
    may_have(&client, &names[0], &pool, Some(3)).await;
}

#[tokio::test]
async fn a_claim_or_a_pool_that_cannot_be_served_says_why() {
    let (client, pool, names) = stage(3, 1, json!({})).await;
    create_claim(&client, &names[0], "good", &pool, secrets(1)).await;
    says(&client, &names[0], "good", &UNUSED).await;
    let ready = |conditions: Vec<Condition>| {
        let ready = conditions.into_iter().find(|it| it.type_ == "Ready");
        ready.map(|it| it.message).unwrap_or_default()
    };
    for (name, asked, asks, expected) in [
        ("nameless", "", secrets(1), "no pool reference was defined".to_owned()),
        (
            "lost",
            "no-such-pool",
            secrets(1),
            "resourcepool not available".to_owned(),
        ),
        (
            "odd",
            pool.as_str(),
            json!({"pods": "1"}),
            format!("resource pods is not available in pool {pool}"),
        ),
    ] {
        create_claim(&client, &names[0], name, asked, asks).await;
        let claim = says(&client, &names[0], name, &["Ready False Failed"]).await;
        assert_eq!(ready(claim.status.unwrap().conditions), expected);
    }
    let selectors = |operator: &str| json!({"spec": {"selectors": [{"matchExpressions": [{"key": "team", "operator": operator, "values": [pool]}]}]}});
    let told = |expected: &'static str| {
        let (client, pool) = (client.clone(), pool.clone());
        async move {
            eventually(expected, || async {
                let status = pools(&client).get(&pool).await.unwrap().status.unwrap_or_default();
                let message = ready(status.conditions);
                if message == expected { Ok(()) } else { Err(message) }
            })
            .await;
        }
    };
    merge(&pools(&client), &pool, selectors("Is")).await;
    told("spec.selectors[0]: operator \"Is\" is unknown; known are In, NotIn, Exists and DoesNotExist").await;
    // Meanwhile nothing is taken from anybody.
    may_have(&client, &names[0], &pool, Some(1)).await;
    merge(&pools(&client), &pool, selectors("In")).await;
    told("reconciled").await;
}

#[tokio::test]
async fn what_somebody_changes_is_set_right_and_what_stands_in_the_way_is_taken_over() {
    let client = bed().await;
    let pool = unique("pool");
    let place = format!("{pool}-0");
    create_namespace(&client, &place, &pool).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &place);
    let name = format!("capsule-pool-{pool}");
    let odd: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"hard": {"pods": "1"}}})).unwrap();
    quotas.create(&PostParams::default(), &odd).await.unwrap();
    create_pool(&client, &pool, secrets(3), json!({})).await;
    create_claim(&client, &place, "one", &pool, secrets(2)).await;
    let exactly_two =
        |quota: &ResourceQuota| serde_json::to_value(&quota.spec.as_ref().unwrap().hard).unwrap() == secrets(2);
    let is_right = || async {
        let quota = quotas.get(&name).await.unwrap();
        exactly_two(&quota).then_some(()).ok_or(format!("{quota:?}"))
    };
    eventually("it is taken over", is_right).await;
    merge(
        &quotas,
        &name,
        json!({"spec": {"hard": {"secrets": "99", "pods": "99"}}}),
    )
    .await;
    eventually("it is set right", is_right).await;
    delete(&quotas, &name).await;
    may_have(&client, &place, &pool, Some(2)).await;
}

#[tokio::test]
async fn a_quota_is_made_again_when_the_scopes_of_its_pool_change() {
    let client = bed().await;
    let pool = unique("pool");
    let place = format!("{pool}-0");
    create_namespace(&client, &place, &pool).await;
    create_pool(&client, &pool, json!({"pods": "3"}), json!({})).await;
    create_claim(&client, &place, "one", &pool, json!({"pods": "2"})).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &place);
    let name = format!("capsule-pool-{pool}");
    let has_scopes = async |wanted: &[&str]| {
        eventually("the scopes are those of the pool", || async {
            let quota = quotas.get_opt(&name).await.unwrap().ok_or("gone")?;
            let spec = quota.spec.clone().unwrap();
            let has = (
                spec.scopes.unwrap_or_default(),
                serde_json::to_value(spec.hard).unwrap(),
            );
            let is_right = has.0 == wanted && has.1 == json!({"pods": "2"});
            is_right.then_some(quota.uid()).ok_or(format!("{has:?}"))
        })
        .await
    };
    let before = has_scopes(&[]).await;
    let scopes = json!({"spec": {"quota": {"scopes": ["BestEffort"]}}});
    merge(&pools(&client), &pool, scopes).await;
    // The API server takes no other scopes for a quota that is there.
    assert_ne!(has_scopes(&["BestEffort"]).await, before);
}

/// The versions of everything that is about a pool.
async fn versions(client: &Client, pool: &str, names: &[String]) -> Vec<String> {
    let mut versions = vec![pools(client).get(pool).await.unwrap().resource_version().unwrap()];
    for name in names {
        let all = ListParams::default();
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), name)
            .list(&all)
            .await
            .unwrap();
        versions.extend(quotas.iter().filter_map(ResourceExt::resource_version));
        let found = claims(client, name).list(&all).await.unwrap();
        versions.extend(found.iter().filter_map(ResourceExt::resource_version));
    }
    versions
}

#[tokio::test]
async fn nothing_is_written_when_all_is_as_it_should_be() {
    let (client, pool, names) = stage(5, 2, json!({"defaults": {"pods": "1000m"}})).await;
    create_claim(&client, &names[0], "one", &pool, json!({"secrets": "2000m"})).await;
    // Of two that are made in the same second, the name decides.
    says(&client, &names[0], "one", &UNUSED).await;
    create_claim(&client, &names[1], "late", &pool, secrets(4)).await;
    create_claim(&client, &names[1], "lost", "no-such-pool", secrets(4)).await;
    says(&client, &names[1], "late", &EXHAUSTED).await;
    says(&client, &names[1], "lost", &["Ready False Failed"]).await;
    let quiet = eventually("all is quiet", || async {
        let before = versions(&client, &pool, &names).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = versions(&client, &pool, &names).await;
        if before == after {
            Ok(after)
        } else {
            Err(format!("{before:?} {after:?}"))
        }
    })
    .await;
    // Another one that looks at everything for the first time finds nothing to do either.
    let controllers = Controllers::start(client.clone());
    eventually("it has looked", || async {
        let text = controllers.registry.encode();
        let ran = |line: &str| line.starts_with("cotenant_operator_controller_runs_total{") && !line.ends_with(" 0");
        let both = text.lines().filter(|line| ran(line)).count() == 2 && text.contains(&format!("pool=\"{pool}\""));
        both.then_some(()).ok_or(text)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(versions(&client, &pool, &names).await, quiet);
    let text = controllers.registry.encode();
    for line in [
        format!("capsule_pool_limit{{pool=\"{pool}\",resource=\"secrets\"}} 5"),
        format!("capsule_pool_usage_percentage{{pool=\"{pool}\",resource=\"secrets\"}} 40"),
        format!("capsule_pool_exhaustion{{pool=\"{pool}\",resource=\"secrets\"}} 4"),
        format!(
            "capsule_claim_pool{{name=\"one\",target_namespace=\"{}\",pool=\"{pool}\"}} 1",
            names[0]
        ),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    controllers.stop().await;
}

/// Fifty claims come, grow, shrink and go, while controllers end and begin, two and more at a time: whoever looks at any
/// moment never sees quotas that together allow more than the pool has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_claims_race_no_more_is_given_than_there_is() {
    const HARD: i64 = 20;
    let (client, pool, names) = stage(HARD, 5, json!({})).await;
    let (most, over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let sampler = tokio::spawn({
        let (client, pool, most, over) = (client.clone(), pool.clone(), most.clone(), over.clone());
        async move {
            let api: Api<ResourceQuota> = Api::all(client);
            let selector = ListParams::default().labels(&format!("projectcapsule.dev/pool={pool}"));
            while !over.load(Ordering::Relaxed) {
                let sum: i64 = api.list(&selector).await.unwrap().iter().filter_map(hard).sum();
                most.fetch_max(sum, Ordering::Relaxed);
            }
        }
    });
    let restarts = tokio::spawn({
        let (client, over) = (client.clone(), over.clone());
        async move {
            let mut running = vec![Controllers::start(client.clone())];
            while !over.load(Ordering::Relaxed) {
                running.push(Controllers::start(client.clone()));
                tokio::time::sleep(Duration::from_millis(400)).await;
                running.remove(0).stop().await;
            }
            for controllers in running {
                controllers.stop().await;
            }
        }
    });
    join_all((0..50).map(|index| {
        let (client, pool, place) = (&client, &pool, &names[index % names.len()]);
        async move {
            let (name, asks) = (format!("claim-{index}"), i64::try_from(index).unwrap() % 4 + 1);
            create_claim(client, place, &name, pool, secrets(asks)).await;
            let pause = u64::try_from(index).unwrap() * 37 % 500;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let api = claims(client, place);
            merge(&api, &name, json!({"spec": {"claim": secrets(asks % 4 + 1)}})).await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if index % 3 == 0 {
                delete(&api, &name).await;
            }
        }
    }))
    .await;
    eventually("nobody waits for what is there", || async {
        let status = pools(&client).get(&pool).await.unwrap().status.unwrap();
        let amount = |amounts: &BTreeMap<String, Quantity>| amounts["secrets"].0.parse::<i64>().unwrap();
        let served: BTreeMap<&str, i64> = status
            .claims
            .values()
            .flatten()
            .map(|claim| (claim.uid.as_str(), amount(&claim.claims)))
            .collect();
        let left = HARD - served.values().sum::<i64>();
        let (mut given, mut waits_in_vain) = (0, true);
        for name in &names {
            let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), name);
            let quota = quotas.get_opt(&format!("capsule-pool-{pool}")).await.unwrap();
            given += quota.as_ref().and_then(hard).unwrap_or_default();
            for claim in claims(&client, name).list(&ListParams::default()).await.unwrap() {
                let has = served.get(claim.uid().unwrap().as_str()).copied().unwrap_or_default();
                let lacks = amount(&claim.spec.claim) - has;
                waits_in_vain &= lacks == 0 || lacks > left;
            }
        }
        (left + given == HARD && waits_in_vain)
            .then_some(())
            .ok_or(format!("{left} are left, {given} are given: {status:?}"))
    })
    .await;
    over.store(true, Ordering::Relaxed);
    sampler.await.unwrap();
    restarts.await.unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!((HARD / 2..=HARD).contains(&most), "{most}");
}
