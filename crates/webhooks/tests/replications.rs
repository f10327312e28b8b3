//! Objects of replications: who may change them, asked of a real API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use api::capsule::v1beta2::TenantResource;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use support::served::served;
use support::stage::stage;
use support::until;

#[tokio::test]
async fn only_the_replication_changes_what_it_made() {
    let stage = stage(json!({})).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.masters.clone(), &stage.namespace);
    for (name, by) in [
        ("made", "replications"),
        ("released", "replications"),
        ("free", "nobody"),
    ] {
        let map = json!({"metadata": {"name": name, "labels": {"projectcapsule.dev/managed-by": by}}});
        maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap())
            .await
            .unwrap();
    }
    let replications: Api<TenantResource> = Api::namespaced(stage.masters.clone(), &stage.namespace);
    let replication = json!({"metadata": {"name": "keep"}, "spec": {"resources": []}});
    replications
        .create(&PostParams::default(), &serde_json::from_value(replication).unwrap())
        .await
        .unwrap();
    let item = |name: &str, created: bool| {
        json!({"version": "v1", "kind": "ConfigMap", "namespace": stage.namespace, "name": name,
            "status": {"type": "Ready", "status": "True", "created": created}})
    };
    let status = json!({"status": {"size": 2, "serviceAccount": {"name": "robot", "namespace": stage.namespace},
        "processedItems": [item("made", true), item("free", true)]}});
    replications
        .patch_status("keep", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();

    let change = Patch::Merge(json!({"data": {"a": "b"}}));
    let said = until("a refusal", async || {
        match maps.patch("made", &PatchParams::default(), &change).await {
            Err(kube::Error::Api(status)) => Some(status.message.clone()),
            _ => None,
        }
    })
    .await;
    let expected = format!(
        "resource made is managed by a tenant capsule replication keep/{}",
        stage.namespace
    );
    assert!(said.contains(&expected), "{said}");
    let deletion = maps
        .delete("made", &DeleteParams::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(deletion.contains(&expected), "{deletion}");

    let made = ListParams::default()
        .labels("projectcapsule.dev/managed-by=replications")
        .fields("metadata.name=made");
    let deletion = maps.delete_collection(&DeleteParams::default(), &made).await;
    assert!(deletion.unwrap_err().to_string().contains(&expected));

    // The account itself, objects that no status lists, and objects without the label are let through.
    let user = format!("system:serviceaccount:{}:robot", stage.namespace);
    let robot = served().await.server.client_for(&user, &["system:masters"]).await;
    let own: Api<ConfigMap> = Api::namespaced(robot, &stage.namespace);
    own.patch("made", &PatchParams::default(), &change).await.unwrap();
    maps.patch("released", &PatchParams::default(), &change).await.unwrap();
    maps.patch("free", &PatchParams::default(), &change).await.unwrap();

    replications.delete("keep", &DeleteParams::default()).await.unwrap();
    until("the object is free", async || {
        maps.delete("made", &DeleteParams::default()).await.ok()
    })
    .await;
}
