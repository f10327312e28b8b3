//! The operator is away: the cluster goes on, tenants do not get more than before. And it comes back: certificates and
//! configurations repair themselves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use support::hijack::{Way, refusal, write};
use support::served::{TENANTS, US, served};
use support::until;
use testbed::unique;

fn namespace(name: &str) -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn create_map(client: &Client, namespace: &str) -> Result<ConfigMap, kube::Error> {
    let map = serde_json::from_value(json!({"metadata": {"name": unique("map")}})).unwrap();
    Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &map)
        .await
}

/// One test, because it ends the admission server that the binary shares.
#[tokio::test]
async fn drift_is_repaired_and_an_outage_freezes_tenants_and_nobody_else() {
    let served = served().await;
    let masters = served.server.client().await;

    // Somebody deletes one configuration and empties the other: both come back.
    let validating = Api::<ValidatingWebhookConfiguration>::all(masters.clone());
    let mutating = Api::<MutatingWebhookConfiguration>::all(masters.clone());
    let uid = validating.get("capsule-dynamic-webhook").await.unwrap().uid();
    validating
        .delete("capsule-dynamic-webhook", &DeleteParams::default())
        .await
        .unwrap();
    until("the deleted configuration", async || {
        let found = validating.get_opt("capsule-dynamic-webhook").await.unwrap()?;
        (found.uid() != uid && !found.webhooks.unwrap_or_default().is_empty()).then_some(())
    })
    .await;
    let empty = json!({"webhooks": []});
    mutating
        .patch("capsule-dynamic-webhook", &PatchParams::default(), &Patch::Merge(empty))
        .await
        .unwrap();
    until("the emptied configuration", async || {
        let hooks = mutating
            .get("capsule-dynamic-webhook")
            .await
            .unwrap()
            .webhooks
            .unwrap_or_default();
        (!hooks.is_empty()).then_some(())
    })
    .await;

    // A tenant with a namespace, as the operator would leave them behind.
    let (oil, owner) = (unique("oil"), unique("alice"));
    let tenant: api::capsule::v1beta2::Tenant = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": oil},
        "spec": {"owners": [{"kind": "User", "name": owner}]}}))
    .unwrap();
    until("the tenant", async || {
        Api::all(masters.clone())
            .create(&PostParams::default(), &tenant)
            .await
            .ok()
    })
    .await;
    let alice = served.server.client_for(&owner, &TENANTS).await;
    let web = format!("{oil}-web");
    until("the namespace", async || {
        Api::all(alice.clone())
            .create(&PostParams::default(), &namespace(&web))
            .await
            .ok()
    })
    .await;

    served.shutdown.trigger();
    until("the outage", async || {
        Api::<Namespace>::all(alice.clone())
            .create(&PostParams::default(), &namespace(&unique(&oil)))
            .await
            .err()
    })
    .await;

    // Tenants get nothing that somebody would have to judge.
    let refused = Api::<Namespace>::all(alice.clone())
        .create(&PostParams::default(), &namespace(&unique(&oil)))
        .await;
    assert_eq!(refusal(refused).0, 500);
    for client in [&alice, &masters] {
        for door in [None, Some("status")] {
            let moved = write(client, &web, door, Way::Merge, |n| {
                n.labels_mut().insert("capsule.clastix.io/tenant".into(), "gas".into());
            });
            assert!(matches!(refusal(moved.await).0, 403 | 500));
        }
    }
    let claim: k8s_openapi::api::core::v1::PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "claim"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
    .unwrap();
    let claims = Api::namespaced(alice.clone(), &web);
    assert_eq!(refusal(claims.create(&PostParams::default(), &claim).await).0, 500);

    // What tenants already may, they still may: no hook stands before a pod or a ConfigMap.
    create_map(&alice, &web).await.unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
    .unwrap();
    until("the default service account", async || {
        Api::namespaced(alice.clone(), &web)
            .create(&PostParams::default(), &pod)
            .await
            .ok()
    })
    .await;

    // The cluster's organs, administrators and the operator itself are not held up anywhere.
    let bed = served.server;
    let organs = [
        bed.client_for(
            "system:serviceaccount:kube-system:namespace-controller",
            &["system:masters"],
        )
        .await,
        bed.client_for("system:kube-controller-manager", &["system:masters"])
            .await,
        bed.client_for("system:node:one", &["system:nodes", "system:masters"])
            .await,
        bed.client_for(US, &["system:masters"]).await,
    ];
    for organ in &organs {
        create_map(organ, "kube-system").await.unwrap();
        create_map(organ, "cotenant-system").await.unwrap();
        create_map(organ, &web).await.unwrap();
        write(organ, &web, Some("status"), Way::Merge, |n| {
            drop(n.annotations_mut().insert(unique("a"), "b".into()))
        })
        .await
        .unwrap();
    }
    create_map(&masters, "kube-system").await.unwrap();
    let free = unique("free");
    Api::<Namespace>::all(masters.clone())
        .create(&PostParams::default(), &namespace(&free))
        .await
        .unwrap();
    for name in [free.as_str(), "kube-system", "cotenant-system"] {
        write(&masters, name, None, Way::Merge, |n| {
            drop(n.annotations_mut().insert("a".into(), "b".into()))
        })
        .await
        .unwrap();
    }
    Api::<Namespace>::all(masters.clone())
        .delete(&free, &DeleteParams::default())
        .await
        .unwrap();
    let all = Api::<Namespace>::all(masters.clone());
    until("the end of a free namespace", async || {
        all.get_opt(&free).await.unwrap().is_none().then_some(())
    })
    .await;
}
