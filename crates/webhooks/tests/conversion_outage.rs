//! The operator is away, or has never been there: `v1beta2` goes on, and `v1beta1` is refused instead of guessed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use api::capsule::{definition, v1beta1, v1beta2};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::{establish, served};
use support::until;
use testbed::{ApiServer, unique};

fn older(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<v1beta1::Tenant>(&()))
}

fn newer(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<v1beta2::Tenant>(&()))
}

fn tenant(version: &str, name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": format!("capsule.clastix.io/{version}"), "kind": "Tenant", "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap()
}

/// Everything that a client does, in the version that is stored.
async fn goes_on(client: &Client) {
    let (api, name) = (newer(client), unique("oil"));
    let made = api
        .create(&PostParams::default(), &tenant("v1beta2", &name, &json!({})))
        .await
        .unwrap();
    let since = made.resource_version().unwrap();
    let params = PatchParams::default();
    let quota = json!({"spec": {"namespaceOptions": {"quota": 3}}});
    api.patch(&name, &params, &Patch::Merge(quota)).await.unwrap();
    let applied = tenant("v1beta2", &name, &json!({"cordoned": true}));
    api.patch(&name, &PatchParams::apply("gitops").force(), &Patch::Apply(applied))
        .await
        .unwrap();
    let status = json!({"status": {"state": "Cordoned", "size": 0, "conditions": []}});
    api.patch_status(&name, &params, &Patch::Merge(status)).await.unwrap();
    let read = api.get(&name).await.unwrap();
    assert_eq!(read.data["spec"]["namespaceOptions"]["quota"], 3);
    assert_eq!(read.data["status"]["state"], "Cordoned");
    for params in [ListParams::default(), ListParams::default().match_any()] {
        let listed = api.list(&params).await.unwrap();
        assert!(listed.items.iter().any(|tenant| tenant.name_any() == name));
    }
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    // A watch from the beginning on sees all of it.
    let one = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut changes = api.watch(&one, &since).await.unwrap().boxed();
    loop {
        if let kube::api::WatchEvent::Deleted(gone) = changes.try_next().await.unwrap().unwrap() {
            assert_eq!(gone.name_any(), name);
            return;
        }
    }
}

#[tokio::test]
async fn before_an_operator_is_there_the_stored_version_is_served_and_the_other_is_not_guessed() {
    let server = ApiServer::start().await;
    let client = server.client().await;
    establish(&client, &definition::tenants()).await;
    until("the kind", async || {
        newer(&client).list(&ListParams::default()).await.ok()
    })
    .await;
    goes_on(&client).await;
    let name = unique("oil");
    let rules = json!({"rules": [{"enforce": {"action": "deny", "workloads": {"qosClasses": ["BestEffort"]}}}]});
    newer(&client)
        .create(&PostParams::default(), &tenant("v1beta2", &name, &rules))
        .await
        .unwrap();
    goes_on(&client).await;
    let written = tenant("v1beta1", &unique("gas"), &json!({"owners": []}));
    let (code, message) = refusal(older(&client).create(&PostParams::default(), &written).await);
    assert!(
        code >= 500 && message.contains("conversion webhook"),
        "{code} {message}"
    );
    let quota = json!({"spec": {"namespaceOptions": {"quota": 3}}});
    let (code, _) = refusal(
        older(&client)
            .patch(&name, &PatchParams::default(), &Patch::Merge(quota))
            .await,
    );
    assert!(code == 429 || code >= 500, "{code}");
    let kept = newer(&client).get(&name).await.unwrap();
    assert_eq!(kept.data["spec"]["rules"], rules["rules"]);
}

/// One test, because it ends the admission server that the binary shares.
#[tokio::test]
async fn while_the_operator_is_away_tenants_are_written_in_the_stored_version() {
    let served = served().await;
    let client = served.server.client().await;
    let name = unique("oil");
    until("a tenant of v1beta1", async || {
        let written = tenant("v1beta1", &name, &json!({"owners": []}));
        older(&client).create(&PostParams::default(), &written).await.ok()
    })
    .await;
    served.shutdown.trigger();
    // Until then it may still repair hooks that it finds missing.
    served.ended.cancelled().await;
    until("the outage", async || older(&client).get(&name).await.err()).await;
    // The hooks for Tenants fail closed, as they do for everybody; what is looked at here is the kind itself.
    for kind in ["validating", "mutating"] {
        let hooks = format!("{kind}webhookconfigurations/capsule-dynamic-webhook");
        let path = format!("/apis/admissionregistration.k8s.io/v1/{hooks}");
        let request = http::Request::delete(path).body(Vec::new()).unwrap();
        client.request::<Value>(request).await.unwrap();
    }
    until("the end of the hooks", async || {
        let (probe, params) = (
            unique("probe"),
            PostParams {
                dry_run: true,
                ..PostParams::default()
            },
        );
        newer(&client)
            .create(&params, &tenant("v1beta2", &probe, &json!({})))
            .await
            .ok()
    })
    .await;
    goes_on(&client).await;

    // Who wrote what in v1beta1 cannot be told without a conversion, so such a Tenant cannot be applied to.
    let api = newer(&client);
    let applied = tenant("v1beta2", &name, &json!({"preventDeletion": true}));
    let params = PatchParams::apply("gitops").force();
    let (code, message) = refusal(api.patch(&name, &params, &Patch::Apply(applied)).await);
    assert!(
        code == 500 && message.contains("conversion webhook"),
        "{code} {message}"
    );
}
