//! Kinds that are held in another etcd than the rest, against two real ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::EtcdFixture;

use bed::{World, eventually, when};

fn arguments(deployment: &Deployment) -> Vec<String> {
    let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let api_server = pod.containers.iter().find(|one| one.name == "kube-apiserver").unwrap();
    api_server.args.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_held_in_a_store_of_their_own_under_the_same_account() {
    let world = World::new(&[]).await;
    let beside = world.etcd.start_beside().await;
    world.add_datastore("events", &beside).await;
    let overrides = json!({"dataStoreOverrides": [{"resource": "/events", "dataStore": "events"}]});
    let uid = world.create_control_plane("mine", overrides).await.uid().unwrap();
    world.until_carried_out("mine").await;

    let deployments: Api<Deployment> = world.api();
    let arguments = arguments(&deployments.get("mine").await.unwrap());
    let expected = format!("--etcd-servers-overrides=/events#https://{}", beside.endpoint);
    assert!(arguments.contains(&expected), "{arguments:?}");
    let policies: Api<NetworkPolicy> = world.api();
    let policy = serde_json::to_string(&policies.get("mine").await.unwrap().spec).unwrap();
    let (address, _) = beside.endpoint.rsplit_once(':').unwrap();
    assert!(policy.contains(&format!("{address}/32")), "{policy}");
    for etcd in [&world.etcd, &beside] {
        let role = etcd.etcdctl(&["role", "get", &uid]).await.unwrap();
        assert!(role.contains(&format!("[/{uid}/, /{uid}0)")), "{role}");
        let user = etcd.etcdctl(&["user", "get", &uid]).await.unwrap();
        assert!(user.contains(&format!("Roles: {uid}")), "{user}");
    }

    world.delete("mine").await;
    for etcd in [&world.etcd, &beside] {
        let roles = etcd.etcdctl(&["role", "list"]).await.unwrap();
        assert!(!roles.contains(&uid), "{roles}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_authority_is_refused_and_what_runs_stays() {
    let world = World::new(&[]).await;
    let stranger = EtcdFixture::start().await;
    world.add_datastore("stranger", &stranger).await;
    world.create_control_plane("mine", json!({})).await;
    world.until_carried_out("mine").await;
    let deployments: Api<Deployment> = world.api();
    let before = deployments.get("mine").await.unwrap();

    let overrides: Value = json!({"dataStoreOverrides": [{"resource": "/events", "dataStore": "stranger"}]});
    world.change("mine", overrides).await;
    eventually("the author is told", || async {
        let conditions = world.control_plane("mine").await.status.unwrap_or_default().conditions;
        let told = conditions.iter().any(|one| one.reason == "AuthoritiesDiffer");
        when(told, || format!("{conditions:#?}"))
    })
    .await;
    let after = deployments.get("mine").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
    let roles = stranger.etcdctl(&["role", "list"]).await.unwrap();
    assert_eq!(roles.trim(), "root");

    world.change("mine", json!({"dataStoreOverrides": null})).await;
    world.until_carried_out("mine").await;
    let after = deployments.get("mine").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_the_uid_as_its_name_in_an_overrides_store_is_adopted_with_its_user_only() {
    let world = World::new(&[]).await;
    let beside = world.etcd.start_beside().await;
    world.add_datastore("events", &beside).await;
    let uid = world.create_control_plane("mine", json!({})).await.uid().unwrap();
    world.until_carried_out("mine").await;
    // Nobody's user has it: there is no telling whose it is.
    beside.etcdctl(&["role", "add", &uid]).await.unwrap();
    let overrides = json!({"dataStoreOverrides": [{"resource": "/events", "dataStore": "events"}]});
    world.change("mine", overrides).await;
    eventually("the author is told", || async {
        let conditions = world.control_plane("mine").await.status.unwrap_or_default().conditions;
        let told = conditions.iter().any(|one| one.message.contains("is in use already"));
        when(told, || format!("{conditions:#?}"))
    })
    .await;
    let users = beside.etcdctl(&["user", "list"]).await.unwrap();
    assert!(!users.contains(&uid), "{users}");
    let deployments: Api<Deployment> = world.api();
    let told = arguments(&deployments.get("mine").await.unwrap());
    assert!(!told.iter().any(|one| one.contains("overrides")), "{told:?}");

    // As an older operator leaves it: the certificate in the control plane's Secret is this user's.
    beside.etcdctl(&["user", "add", &uid, "--no-password"]).await.unwrap();
    beside.etcdctl(&["user", "grant-role", &uid, &uid]).await.unwrap();
    // Nobody hears of it: what was refused is looked at again when something changes here.
    let labelled = json!({"controlPlane": {"service": {"additionalMetadata": {"labels": {"again": "yes"}}}}});
    world.change("mine", labelled).await;
    world.until_carried_out("mine").await;
    let told = arguments(&deployments.get("mine").await.unwrap());
    assert!(told.iter().any(|one| one.contains("overrides")), "{told:?}");
}
