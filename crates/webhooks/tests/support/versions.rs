//! Tenants in both of their versions, on an API server that has them converted.

use api::capsule::{v1beta1, v1beta2};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::unique;

use super::served::served;
use super::until;

pub fn older(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<v1beta1::Tenant>(&()))
}

pub fn newer(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<v1beta2::Tenant>(&()))
}

/// A client of an API server that has Tenants converted.
pub async fn converted() -> Client {
    let client = served().await.server.client().await;
    until("the first conversion", async || {
        let tenant = object("v1beta1", &unique("probe"), json!({}), json!({"owners": []}));
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        older(&client).create(&params, &tenant).await.ok()
    })
    .await;
    client
}

pub fn object(version: &str, name: &str, annotations: Value, spec: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": format!("capsule.clastix.io/{version}"), "kind": "Tenant",
        "metadata": {"name": name, "annotations": annotations}, "spec": spec,
    }))
    .unwrap()
}

pub async fn create(api: &Api<DynamicObject>, tenant: DynamicObject) -> DynamicObject {
    api.create(&PostParams::default(), &tenant).await.unwrap()
}

/// What only `v1beta2` can say, and a status.
pub async fn rich(client: &Client) -> String {
    let name = unique("gas");
    let tenant = object(
        "v1beta2",
        &name,
        json!({}),
        json!({
            "owners": [{"kind": "User", "name": "alice", "clusterRoles": ["admin"], "labels": {"a": "b"}}],
            "data": {"any": ["thing", 1]},
            "forceTenantPrefix": true,
            "namespaceOptions": {"quota": 3, "managedMetadataOnly": true, "requiredMetadata": {"labels": {"env": "^prod$"}}},
            "storageClasses": {"allowed": ["gold"], "default": "gold", "matchLabels": {"a": "b"}},
            "rules": [{"enforce": {"action": "deny", "workloads": {"qosClasses": ["BestEffort"]}}}],
            "limitRanges": {"items": [{"limits": [{"type": "Container", "max": {"cpu": "2"}}]}]},
        }),
    );
    create(&newer(client), tenant).await;
    let status = json!({"status": {
        "state": "Active", "size": 1, "namespaces": ["web"],
        "spaces": [{"name": "web", "uid": "1", "conditions": [], "metadata": {"labels": {"k": "v"}}}],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    newer(client)
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    name
}
