//! What is in a tenant's namespace, through a real API server: classes, volumes, cordoning, promotion. Every refusal stands
//! beside the lawful thing that it must not hinder.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::{TENANTS, configure, served};
use support::stage::stage;
use support::until;
use testbed::unique;

fn claim(class: Option<&str>) -> Value {
    json!({"metadata": {"name": unique("claim")}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class}})
}

async fn storage_class(client: &Client, name: &str) {
    let class: StorageClass =
        serde_json::from_value(json!({"metadata": {"name": name}, "provisioner": "example.com/none"})).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
}

#[tokio::test]
async fn claims_use_the_storage_classes_of_the_tenant() {
    let (standard, premium) = (unique("standard"), unique("premium"));
    let stage = stage(json!({"storageClasses": {"allowed": [&standard], "default": &standard}})).await;
    storage_class(&stage.masters, &standard).await;
    storage_class(&stage.masters, &premium).await;
    let (code, message) = refusal(
        stage
            .create::<PersistentVolumeClaim>(&stage.owner, claim(Some(&premium)))
            .await,
    );
    assert_eq!(code, 403);
    assert!(
        message.contains("spec.storageClassName: Storage Class") && message.contains(&standard),
        "{message}"
    );
    // The annotation of old decides in Kubernetes' volume controller, whatever the field says.
    let mut sly = claim(Some(&standard));
    sly["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": premium});
    assert_eq!(
        refusal(stage.create::<PersistentVolumeClaim>(&stage.owner, sly).await).0,
        403
    );
    // Whoever asks: the cluster's own controllers make claims for StatefulSets.
    assert_eq!(
        refusal(
            stage
                .create::<PersistentVolumeClaim>(&stage.masters, claim(Some(&premium)))
                .await
        )
        .0,
        403
    );
    stage
        .create::<PersistentVolumeClaim>(&stage.owner, claim(Some(&standard)))
        .await
        .unwrap();
    let defaulted: PersistentVolumeClaim = stage.create(&stage.owner, claim(None)).await.unwrap();
    assert_eq!(defaulted.spec.unwrap().storage_class_name, Some(standard));
}

#[tokio::test]
async fn claims_name_volumes_of_their_tenant_only() {
    let stage = stage(json!({})).await;
    let volume = async |name: &str, tenant: Option<&str>| {
        let labels = tenant.map(|tenant| json!({"capsule.clastix.io/tenant": tenant}));
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/nowhere"}}}))
        .unwrap();
        Api::all(stage.masters.clone())
            .create(&PostParams::default(), &volume)
            .await
            .unwrap();
    };
    let (own, foreign, nobodys) = (unique("own"), unique("foreign"), unique("nobodys"));
    volume(&own, Some(&stage.tenant)).await;
    volume(&foreign, Some("gas")).await;
    volume(&nobodys, None).await;
    let naming = |volume: &str| {
        let mut claim = claim(Some(""));
        claim["spec"]["volumeName"] = json!(volume);
        claim
    };
    for name in [foreign.as_str(), nobodys.as_str(), "there-is-none", "../../api"] {
        let (code, message) = refusal(stage.create::<PersistentVolumeClaim>(&stage.owner, naming(name)).await);
        assert_eq!(code, 403, "{message}");
    }
    let made: PersistentVolumeClaim = stage.create(&stage.owner, naming(&own)).await.unwrap();
    let selector = serde_json::to_value(made.spec.unwrap().selector).unwrap();
    assert_eq!(
        selector,
        json!({"matchExpressions": [{"key": "capsule.clastix.io/tenant", "operator": "In", "values": [stage.tenant]}]})
    );
}

#[tokio::test]
async fn ingresses_use_the_ingress_classes_of_the_tenant() {
    let (public, internal) = (unique("public"), unique("internal"));
    let stage = stage(json!({"ingressOptions": {"allowedClasses": {"allowed": [&public], "default": &public}}})).await;
    for name in [&public, &internal] {
        let class: IngressClass =
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"controller": "example.com/none"}}))
                .unwrap();
        Api::all(stage.masters.clone())
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
    }
    let ingress = |class: Option<&str>| {
        json!({"metadata": {"name": unique("ingress")}, "spec": {"ingressClassName": class, "rules": [
            {"host": "a.example.com", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
    };
    let (code, message) = refusal(stage.create::<Ingress>(&stage.owner, ingress(Some(&internal))).await);
    assert_eq!(code, 403);
    assert!(
        message.contains("Ingress Class") && message.contains(&public),
        "{message}"
    );
    let made: Ingress = stage.create(&stage.owner, ingress(None)).await.unwrap();
    assert_eq!(
        made.spec.as_ref().unwrap().ingress_class_name.as_deref(),
        Some(public.as_str())
    );
    let move_it = json!({"spec": {"ingressClassName": internal}});
    let api = Api::<Ingress>::namespaced(stage.owner.clone(), &stage.namespace);
    let moved = api
        .patch(&made.name_any(), &PatchParams::default(), &Patch::Merge(move_it))
        .await;
    assert_eq!(refusal(moved).0, 403);
}

#[tokio::test]
async fn a_cordoned_namespace_is_frozen_for_its_tenant_and_for_nobody_else() {
    let stage = stage(json!({})).await;
    let deployment: Deployment = stage
        .create(
            &stage.owner,
            json!({"metadata": {"name": "web"}, "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        )
        .await
        .unwrap();
    let cordon = json!({"metadata": {"labels": {"projectcapsule.dev/cordoned": "true"}}});
    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    namespaces
        .patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(cordon))
        .await
        .unwrap();
    let map = || json!({"metadata": {"name": unique("map")}});
    let (code, message) = until("the cordon", async || {
        stage
            .create::<ConfigMap>(&stage.owner, map())
            .await
            .err()
            .map(|e| refusal::<()>(Err(e)))
    })
    .await;
    assert_eq!(code, 403);
    assert!(message.contains("cordoned"), "{message}");
    let deployments = Api::<Deployment>::namespaced(stage.owner.clone(), &stage.namespace);
    let scale = json!({"spec": {"replicas": 1}});
    assert_eq!(
        refusal(
            deployments
                .patch_scale("web", &PatchParams::default(), &Patch::Merge(&scale))
                .await
        )
        .0,
        403
    );
    assert_eq!(
        refusal(
            deployments
                .patch("web", &PatchParams::default(), &Patch::Merge(&scale))
                .await
        )
        .0,
        403
    );
    assert_eq!(
        refusal(deployments.delete("web", &DeleteParams::default()).await.map(drop)).0,
        403
    );
    // A service account of the namespace is its tenant's user as well.
    let robot = served()
        .await
        .server
        .client_for(
            &format!("system:serviceaccount:{}:robot", stage.namespace),
            &["system:serviceaccounts"],
        )
        .await;
    assert_eq!(refusal(stage.create::<ConfigMap>(&robot, map()).await).0, 403);
    // Controllers go on, administrators may still act.
    stage.create::<ConfigMap>(&stage.masters, map()).await.unwrap();
    let kcm = served()
        .await
        .server
        .client_for(
            "system:serviceaccount:kube-system:deployment-controller",
            &["system:masters"],
        )
        .await;
    let status = json!({"status": {"observedGeneration": deployment.metadata.generation}});
    Api::<Deployment>::namespaced(kcm, &stage.namespace)
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test]
async fn service_accounts_are_promoted_where_that_is_allowed_and_by_owners() {
    let stage = stage(json!({"permissions": {"allowOwnerPromotion": true}})).await;
    let account =
        || json!({"metadata": {"name": unique("robot"), "labels": {"owner.projectcapsule.dev/promote": "true"}}});
    let (code, message) = refusal(stage.create::<ServiceAccount>(&stage.owner, account()).await);
    assert_eq!(code, 403);
    assert!(message.contains("service account promotion is disabled"), "{message}");
    configure(&stage.masters, json!({"allowServiceAccountPromotion": true})).await;
    until("the changed configuration", async || {
        stage.create::<ServiceAccount>(&stage.owner, account()).await.ok()
    })
    .await;
    let mallory = served().await.server.client_for("mallory", &TENANTS).await;
    let (code, message) = refusal(stage.create::<ServiceAccount>(&mallory, account()).await);
    assert_eq!(code, 403);
    assert!(message.contains("not allowed to promote"), "{message}");
}
