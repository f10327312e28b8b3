//! A NATS store that is used again, against a real server: whoever was in it before knows its password.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use api::kamaji::names::PASSWORD_KNOWN_ANNOTATION;
use api::kamaji::v1alpha1::DataStore;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::NatsFixture;

use bed::{World, eventually, merge, when};

async fn until_refused(world: &World, name: &str) {
    eventually(&format!("{name} is refused"), || async {
        let conditions = world.control_plane(name).await.status.unwrap_or_default().conditions;
        let told = conditions
            .iter()
            .any(|one| one.message.contains("has had its password"));
        when(told, || format!("{conditions:#?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_nats_is_given_on_with_another_password_only() {
    let world = World::new(&[]).await;
    let mut nats = NatsFixture::start().await;
    world.add_datastore("nats", &nats).await;
    let datastores: Api<DataStore> = Api::all(world.client.clone());
    let known = async || {
        let datastore = datastores.get("nats").await.unwrap();
        let known = datastore.annotations().get(PASSWORD_KNOWN_ANNOTATION).cloned();
        known.unwrap_or_default()
    };
    let uid = world
        .create_control_plane("first", json!({"dataStore": "nats"}))
        .await
        .uid()
        .unwrap();
    world.until_carried_out("first").await;
    let given = known().await;
    assert!(given.starts_with(&format!("{uid}:")), "{given}");
    assert!(!given.contains(&nats.password), "{given}");

    world.delete("first").await;
    world.create_control_plane("second", json!({"dataStore": "nats"})).await;
    until_refused(&world, "second").await;
    // Nor by another way to the same server.
    world.add_datastore("detour", &nats).await;
    world
        .create_control_plane("third", json!({"dataStore": "detour"}))
        .await;
    until_refused(&world, "third").await;
    assert_eq!(known().await, given, "who is refused is given nothing");
    world.change("third", json!({"dataStore": "default"})).await;
    world.until_carried_out("third").await;

    nats.change_password("another-secret").await;
    let patch = json!({"stringData": {"password": nats.password}});
    merge(&world.api::<Secret>(), "nats-store", patch).await;
    let tcp = world.until_carried_out("second").await;
    let given = known().await;
    assert!(given.starts_with(&format!("{}:", tcp.uid().unwrap())), "{given}");

    // One that runs is given the next password as soon as the DataStore's Secret has it.
    nats.change_password("a-third-secret").await;
    let patch = json!({"stringData": {"password": nats.password}});
    merge(&world.api::<Secret>(), "nats-store", patch).await;
    eventually("the third password reaches the pods", || async {
        let secret = world.api::<Secret>().get("second-datastore-config").await.unwrap();
        let password = secret
            .data
            .unwrap_or_default()
            .remove("DB_PASSWORD")
            .map(|value| value.0);
        when(password.as_deref() == Some(nats.password.as_bytes()), || {
            "another password".to_owned()
        })
    })
    .await;
}
