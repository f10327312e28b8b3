//! Tenants that a very old operator stored as `v1beta1`: read as they are, and written anew once, as the documentation says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use api::capsule::{v1beta1, v1beta2};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::served::served;
use support::until;

const DEFINITION: &str = "tenants.capsule.clastix.io";

fn definitions(client: &Client) -> Api<CustomResourceDefinition> {
    Api::all(client.clone())
}

/// What discovery says of the version that is stored.
async fn storage_hash(client: &Client) -> String {
    let resources = client
        .list_api_group_resources("capsule.clastix.io/v1beta2")
        .await
        .unwrap();
    let tenants = resources.resources.into_iter().find(|it| it.name == "tenants").unwrap();
    tenants.storage_version_hash.unwrap_or_default()
}

/// Stores what is written from now on in this version.
async fn store_as(client: &Client, version: &str) {
    let before = storage_hash(client).await;
    let definition = definitions(client).get(DEFINITION).await.unwrap();
    let steps = definition.spec.versions.iter().enumerate().map(
        |(place, it)| json!({"op": "replace", "path": format!("/spec/versions/{place}/storage"), "value": it.name == version}),
    );
    let patch: json_patch::Patch = serde_json::from_value(steps.collect()).unwrap();
    definitions(client)
        .patch(DEFINITION, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .unwrap();
    until("the other storage version", async || {
        (storage_hash(client).await != before).then_some(())
    })
    .await;
}

async fn stored_versions(client: &Client) -> Vec<String> {
    let status = definitions(client).get(DEFINITION).await.unwrap().status.unwrap();
    status.stored_versions.unwrap_or_default()
}

fn means_the_same(tenant: &DynamicObject) {
    let owner = json!({"kind": "User", "name": "alice", "clusterRoles": ["view", "edit"]});
    let spec = &tenant.data["spec"];
    assert_eq!((&spec["owners"][0], &spec["cordoned"]), (&owner, &Value::Bool(true)));
}

#[tokio::test]
async fn tenants_of_an_older_storage_version_are_read_and_written_anew_once() {
    let client = served().await.server.client().await;
    let newer: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<v1beta2::Tenant>(&()));
    let older: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<v1beta1::Tenant>(&()));
    store_as(&client, "v1beta1").await;
    let tenant = json!({"apiVersion": "capsule.clastix.io/v1beta1", "kind": "Tenant",
        "metadata": {"name": "old", "annotations": {
            "capsule.clastix.io/cordon": "true", "clusterrolenames.capsule.clastix.io/user.alice": "view,edit"}},
        "spec": {"owners": [{"kind": "User", "name": "alice"}]}});
    let tenant: DynamicObject = serde_json::from_value(tenant).unwrap();
    until("the conversion", async || {
        older.create(&PostParams::default(), &tenant).await.ok()
    })
    .await;
    store_as(&client, "v1beta2").await;
    assert_eq!(stored_versions(&client).await, ["v1beta2", "v1beta1"]);
    means_the_same(&newer.get("old").await.unwrap());

    // `kubectl get tenants -o json | kubectl replace -f -`
    for tenant in newer.list(&ListParams::default()).await.unwrap() {
        let name = tenant.metadata.name.clone().unwrap();
        newer.replace(&name, &PostParams::default(), &tenant).await.unwrap();
    }
    let stored = Patch::Merge(json!({"status": {"storedVersions": ["v1beta2"]}}));
    definitions(&client)
        .patch_status(DEFINITION, &PatchParams::default(), &stored)
        .await
        .unwrap();

    // Nothing is left that only a conversion could read: without one, and without the version, it means what it meant.
    let definition = definitions(&client).get(DEFINITION).await.unwrap();
    let place = definition
        .spec
        .versions
        .iter()
        .position(|it| it.name == "v1beta1")
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/spec/conversion", "value": {"strategy": "None"}},
        {"op": "remove", "path": format!("/spec/versions/{place}")},
    ]))
    .unwrap();
    definitions(&client)
        .patch(DEFINITION, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .unwrap();
    until("the end of v1beta1", async || {
        older.get("old").await.is_err().then_some(())
    })
    .await;
    means_the_same(&newer.get("old").await.unwrap());
}
