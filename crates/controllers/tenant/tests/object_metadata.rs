//! Labels and annotations on what is in tenants' namespaces, and the label on their volumes, against a real API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use std::fmt::Debug;

use bed::{bed, create_namespace, create_tenant, equal, eventually, patch_tenant};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::unique;

async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

/// Labels and annotations of `thing`.
async fn carried<K>(client: &Client, namespace: &str) -> Value
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api.get("thing").await.unwrap();
    json!([found.labels(), found.annotations()])
}

async fn create_pod(client: &Client, namespace: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    eventually("the namespace has its account", || async {
        accounts
            .get("default")
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    let labels = json!({"app": "web", "team": "somebody"});
    let pod = json!({"metadata": {"name": "thing", "labels": labels}, "spec": {
        "automountServiceAccountToken": false, "containers": [{"name": "a", "image": "a"}]}});
    create::<Pod>(client, namespace, pod).await;
}

async fn create_service(client: &Client, namespace: &str) {
    let service = json!({"metadata": {"name": "thing"}, "spec": {"ports": [{"port": 80}]}});
    create::<Service>(client, namespace, service).await;
    let slice = json!({"metadata": {"name": "thing", "annotations": {"kept": "yes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]});
    create::<EndpointSlice>(client, namespace, slice).await;
}

#[tokio::test]
async fn pods_and_services_get_what_their_tenant_asks_for() {
    let client = bed().await;
    let (name, other) = (unique("label"), unique("plain"));
    let made = create_tenant(&client, &name, json!({})).await;
    let plain = create_tenant(&client, &other, json!({})).await;
    let (namespace, elsewhere) = (format!("{name}-a"), format!("{other}-a"));
    create_namespace(&client, &namespace, &made).await;
    create_namespace(&client, &elsewhere, &plain).await;
    for place in [&namespace, &elsewhere] {
        create_pod(&client, place).await;
        create_service(&client, place).await;
    }

    // What is there when the tenant begins to ask.
    let patch = json!({"spec": {
        "podOptions": {"additionalMetadata": {"labels": {"team": "oil"}, "annotations": {"note": "a"}}},
        "serviceOptions": {"additionalMetadata": {"labels": {"cost": "42"}}}
    }});
    patch_tenant(&client, &name, patch).await;
    eventually("the pod carries it, beside its own", || async {
        let expected = json!([{"app": "web", "team": "oil"}, {"note": "a"}]);
        equal(carried::<Pod>(&client, &namespace).await, &expected)
    })
    .await;
    eventually("the Service carries it", || async {
        equal(
            carried::<Service>(&client, &namespace).await,
            &json!([{"cost": "42"}, {}]),
        )
    })
    .await;
    eventually("the EndpointSlice carries it", || async {
        let expected = json!([{"cost": "42"}, {"kept": "yes"}]);
        equal(carried::<EndpointSlice>(&client, &namespace).await, &expected)
    })
    .await;

    // What comes later, in another namespace of it; and what changes.
    let later = format!("{name}-b");
    create_namespace(&client, &later, &made).await;
    create_service(&client, &later).await;
    eventually("the new Service carries it", || async {
        equal(carried::<Service>(&client, &later).await, &json!([{"cost": "42"}, {}]))
    })
    .await;
    let patch = json!({"metadata": {"labels": {"cost": "0"}}});
    Api::<Service>::namespaced(client.clone(), &later)
        .patch("thing", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("a label that was changed is put right", || async {
        equal(carried::<Service>(&client, &later).await, &json!([{"cost": "42"}, {}]))
    })
    .await;

    // A tenant that begins to ask while the watches run.
    let patch = json!({"spec": {"serviceOptions": {"additionalMetadata": {"labels": {"cost": "7"}}}}});
    patch_tenant(&client, &other, patch).await;
    eventually("its Services carry it", || async {
        equal(
            carried::<Service>(&client, &elsewhere).await,
            &json!([{"cost": "7"}, {}]),
        )
    })
    .await;
    let expected = json!([{"app": "web", "team": "somebody"}, {}]);
    assert_eq!(carried::<Pod>(&client, &elsewhere).await, expected);

    // What is no longer asked for stays where it is.
    patch_tenant(&client, &name, json!({"spec": {"podOptions": null}})).await;
    assert_eq!(
        carried::<Pod>(&client, &namespace).await,
        json!([{"app": "web", "team": "oil"}, {"note": "a"}])
    );
}

#[tokio::test]
async fn a_volume_carries_the_tenant_of_its_claim() {
    let client = bed().await;
    let name = unique("disk");
    let made = create_tenant(&client, &name, json!({})).await;
    let (namespace, later) = (format!("{name}-a"), format!("{name}-b"));
    create_namespace(&client, &namespace, &made).await;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let create = |suffix: &str, claim: Value, labels: Value| {
        let volume = json!({"metadata": {"name": format!("{name}-{suffix}"), "labels": labels}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": claim,
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "none",
            "hostPath": {"path": "/nowhere"}}});
        let volumes = volumes.clone();
        async move {
            volumes
                .create(&PostParams::default(), &serde_json::from_value(volume).unwrap())
                .await
                .unwrap();
        }
    };
    let claim = |namespace: &str| json!({"namespace": namespace, "name": "data"});
    create("plain", claim(&namespace), json!({})).await;
    create(
        "wrong",
        claim(&namespace),
        json!({"capsule.clastix.io/tenant": "somebody"}),
    )
    .await;
    create("free", Value::Null, json!({"capsule.clastix.io/tenant": "somebody"})).await;
    create("early", claim(&later), json!({})).await;
    create("foreign", claim("default"), json!({})).await;
    let label = |suffix: &str| {
        let (volumes, name) = (volumes.clone(), format!("{name}-{suffix}"));
        async move {
            let volume = volumes.get(&name).await.unwrap();
            volume.labels().get("capsule.clastix.io/tenant").cloned()
        }
    };
    eventually("claimed volumes carry the tenant", || async {
        let found = (label("plain").await, label("wrong").await);
        equal(found, &(Some(name.clone()), Some(name.clone())))
    })
    .await;
    // A namespace that becomes the tenant's after its volume was seen.
    let plain = serde_json::from_value(json!({"metadata": {"name": later}})).unwrap();
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &plain)
        .await
        .unwrap();
    assert_eq!(label("early").await, None);
    let patch = json!({"metadata": {"labels": {"capsule.clastix.io/tenant": name}, "ownerReferences": [
        {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": name, "uid": made.uid()}]}});
    Api::<Namespace>::all(client.clone())
        .patch(&later, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("its volume follows", || async {
        equal(label("early").await, &Some(name.clone()))
    })
    .await;
    // An administrator's word about a volume that is free stays, and others' volumes are left alone.
    assert_eq!(label("free").await.as_deref(), Some("somebody"));
    assert_eq!(label("foreign").await, None);
}
