//! ResourcePools and claims: what is written down for their authors, and what is refused. No controller runs here; what one
//! would say in a status is said by the tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use futures::future::join_all;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;

/// A tenant's namespace.
async fn set_up() -> Stage {
    stage(json!({})).await
}

async fn create_pool(client: &Client, spec: Value) -> Result<ResourcePool, Error> {
    let pool = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "metadata": {"name": unique("pool")},
        "spec": spec});
    Api::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(pool).unwrap())
        .await
}

/// A pool as it is when a controller has looked at it.
async fn pool_for(stage: &Stage, hard: Value, claims: Value) -> ResourcePool {
    let pool = create_pool(&stage.masters, json!({"quota": {"hard": &hard}}))
        .await
        .unwrap();
    let allocation = json!({"hard": hard, "used": {}, "available": hard});
    let status = json!({"status": {
        "conditions": [], "namespaces": [stage.namespace], "claims": claims, "allocation": allocation}});
    let api = Api::<ResourcePool>::all(stage.masters.clone());
    api.patch_status(&pool.name_any(), &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap()
}

fn claim(spec: Value) -> Value {
    json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim",
        "metadata": {"name": unique("claim"), "annotations": {"projectcapsule.dev/release": "true"}}, "spec": spec})
}

fn claims(client: &Client, stage: &Stage) -> Api<ResourcePoolClaim> {
    Api::namespaced(client.clone(), &stage.namespace)
}

/// A claim that is in use.
async fn bound(stage: &Stage, pool: &str) -> ResourcePoolClaim {
    let made: ResourcePoolClaim = stage
        .create(&stage.owner, claim(json!({"pool": pool, "claim": {"cpu": "1"}})))
        .await
        .unwrap();
    let status = json!({"status": {"conditions": [{
        "type": "Bound", "status": "True", "reason": "InUse", "message": "claim is used",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    claims(&stage.masters, stage)
        .patch_status(&made.name_any(), &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap()
}

/// The message of a refusal by this hook.
fn refused_by<T: std::fmt::Debug>(hook: &str, result: Result<T, Error>) -> String {
    let (code, message) = refusal(result);
    assert!(
        code == 403 && message.contains(&format!("\"{hook}.projectcapsule.dev\"")),
        "{code}: {message}"
    );
    message
}

#[tokio::test]
async fn a_pool_says_nothing_for_what_nobody_may_use_without_a_claim() {
    let stage = set_up().await;
    let zero = json!({"quota": {"hard": {"cpu": "8", "pods": "9"}}, "defaults": {"cpu": "1"}, "config": {"defaultsZero": true}});
    let pool = create_pool(&stage.masters, zero).await.unwrap();
    assert_eq!(
        serde_json::to_value(&pool.spec.defaults).unwrap(),
        json!({"cpu": "1", "pods": "0"})
    );
    let plain = create_pool(&stage.masters, json!({"quota": {"hard": {"cpu": "8"}}}))
        .await
        .unwrap();
    assert!(plain.spec.defaults.is_empty());
    let odd = create_pool(&stage.masters, json!({"quota": {"hard": {"cpu": "-8"}}})).await;
    let message = refused_by("resourcepools.validating", odd);
    assert!(
        message.contains("spec.quota.hard[cpu]: -8 is less than nothing"),
        "{message}"
    );
}

#[tokio::test]
async fn a_pool_keeps_what_is_claimed_of_it() {
    let stage = set_up().await;
    let served = json!({"name": "one", "namespace": stage.namespace, "uid": "u", "claims": {"cpu": "3"}});
    let mut by_namespace = json!({});
    by_namespace[&stage.namespace] = json!([served]);
    let pool = pool_for(&stage, json!({"cpu": "8", "pods": "9"}), by_namespace).await;
    let api = Api::<ResourcePool>::all(stage.masters.clone());
    let to = |hard: Value| {
        let (api, name) = (api.clone(), pool.name_any());
        async move {
            let patch = json!({"spec": {"quota": {"hard": hard}}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
        }
    };
    let message = refused_by("resourcepools.validating", to(json!({"cpu": "2"})).await);
    assert!(
        message.contains("can not reduce resource cpu from 8 to 2 because quantity 3 is claimed"),
        "{message}"
    );
    let message = refused_by("resourcepools.validating", to(json!({"cpu": null})).await);
    assert!(
        message.contains("can not remove resource cpu because quantity 3 is claimed"),
        "{message}"
    );
    to(json!({"cpu": "3", "pods": null})).await.unwrap();
}

#[tokio::test]
async fn a_claim_gets_a_pool_that_has_what_it_asks_for() {
    let stage = set_up().await;
    let small = pool_for(&stage, json!({"cpu": "2"}), json!({})).await.name_any();
    let large = pool_for(&stage, json!({"cpu": "9", "pods": "9"}), json!({}))
        .await
        .name_any();
    // One that is for another namespace.
    let other = json!({"quota": {"hard": {"cpu": "99", "services": "1"}}});
    create_pool(&stage.masters, other).await.unwrap();
    until("the admission server knows both", async || {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let given = async |cpu: &str| {
            let any = serde_json::from_value(claim(json!({"pool": "", "claim": {"cpu": cpu}}))).unwrap();
            let made = claims(&stage.owner, &stage).create(&params, &any).await.unwrap();
            made.spec.pool
        };
        // Of two that have enough, the first by name.
        let is_known = given("1").await == *small.as_str().min(large.as_str()) && given("5").await == large;
        is_known.then_some(())
    })
    .await;
    for (spec, expected) in [
        (json!({"claim": {"cpu": "5"}}), large.as_str()),
        (json!({"pool": "", "claim": {"pods": "1"}}), large.as_str()),
        (json!({"pool": small, "claim": {"cpu": "5"}}), small.as_str()),
        (json!({"pool": "", "claim": {"services": "1"}}), ""),
    ] {
        // As it is written by hand: a pool that is not said is not there.
        let made = post(&stage, &claim(spec.clone())).await.unwrap();
        assert_eq!(made.spec.pool, expected, "{spec}");
        assert!(made.annotations().is_empty(), "only what is in use can be released");
    }
    let odd: Result<ResourcePoolClaim, _> = stage
        .create(&stage.owner, claim(json!({"pool": small, "claim": {"cpu": "-1"}})))
        .await;
    let message = refused_by("resourcepoolclaims.validating", odd);
    assert!(
        message.contains("spec.claim[cpu]: -1 is less than nothing"),
        "{message}"
    );
}

/// Sends a claim as it is.
async fn post(stage: &Stage, claim: &Value) -> Result<ResourcePoolClaim, Error> {
    let path = format!(
        "/apis/capsule.clastix.io/v1beta2/namespaces/{}/resourcepoolclaims",
        stage.namespace
    );
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(claim).unwrap())
        .unwrap();
    stage.owner.request(request).await
}

#[tokio::test]
async fn a_claim_in_use_stays_as_it_is_until_it_is_released() {
    let stage = set_up().await;
    let pool = pool_for(&stage, json!({"cpu": "9"}), json!({})).await.name_any();
    let name = bound(&stage, &pool).await.name_any();
    let api = claims(&stage.owner, &stage);
    let hook = "resourcepoolclaims.validating";
    let to = |patch: Value| {
        let (api, name) = (api.clone(), name.clone());
        async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    let message = refused_by(hook, to(json!({"spec": {"claim": {"cpu": "2"}}})).await);
    assert!(
        message.contains(&format!("in use for the pool {pool}: its amounts can not change")),
        "{message}"
    );
    refused_by(hook, to(json!({"spec": {"pool": "other"}})).await);
    to(json!({"spec": {"claim": {"cpu": "1000m"}}})).await.unwrap();
    let deleted = || async { api.delete(&name, &DeleteParams::default()).await.map(drop) };
    refused_by(hook, deleted().await);
    let release = json!({"metadata": {"annotations": {"projectcapsule.dev/release": "true"}}});
    let released = to(release).await.unwrap();
    assert_eq!(released.annotations()["projectcapsule.dev/release"], "true");
    deleted().await.unwrap();
}

#[tokio::test]
async fn a_claim_in_use_goes_with_its_pool() {
    let stage = set_up().await;
    let pool = pool_for(&stage, json!({"cpu": "9"}), json!({})).await.name_any();
    let name = bound(&stage, &pool).await.name_any();
    let api = claims(&stage.owner, &stage);
    refused_by(
        "resourcepoolclaims.validating",
        api.delete(&name, &DeleteParams::default()).await.map(drop),
    );
    Api::<ResourcePool>::all(stage.masters.clone())
        .delete(&pool, &DeleteParams::default())
        .await
        .unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_namespace_has_an_end_of_claims() {
    let stage = set_up().await;
    let create = || async {
        stage
            .create::<ResourcePoolClaim>(&stage.owner, claim(json!({"pool": "p", "claim": {"cpu": "1"}})))
            .await
    };
    let all: Vec<Result<ResourcePoolClaim, Error>> = join_all((0..100).map(|_| create())).await;
    let last = all.into_iter().map(Result::unwrap).next_back().unwrap();
    let message = refused_by("resourcepoolclaims.validating", create().await);
    assert!(message.contains("this namespace has 100 claims"), "{message}");
    // Those that are there can change, and when one goes another can come.
    let larger = json!({"spec": {"claim": {"cpu": "2"}}});
    let api = claims(&stage.owner, &stage);
    api.patch(&last.name_any(), &PatchParams::default(), &Patch::Merge(larger))
        .await
        .unwrap();
    api.delete(&last.name_any(), &DeleteParams::default()).await.unwrap();
    create().await.unwrap();
}
