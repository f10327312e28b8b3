//! The classes that a tenant may use, in its status: of kinds that every cluster has, and of those that come with others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use bed::{Controllers, connect, create_tenant, equal, eventually, install, tenant};
use k8s_openapi::api::resource::v1::DeviceClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

fn gateway_classes(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "GatewayClass");
    Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(&kind, "gatewayclasses"),
    )
}

/// The Gateway API, as far as it goes here.
async fn install_gateway_classes(client: &Client) {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "gatewayclasses.gateway.networking.k8s.io", "annotations": {
            "api-approved.kubernetes.io": "unapproved, as far as it goes in a test"}},
        "spec": {"group": "gateway.networking.k8s.io", "scope": "Cluster",
            "names": {"kind": "GatewayClass", "plural": "gatewayclasses", "singular": "gatewayclass"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}))
    .unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
}

async fn create_gateway_class(client: &Client, name: &str, labels: Value) {
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": name, "labels": labels}, "spec": {"controllerName": "example.com/c"}});
    let class: DynamicObject = serde_json::from_value(class).unwrap();
    eventually("the class is there", || async {
        let made = gateway_classes(client).create(&PostParams::default(), &class).await;
        made.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn create_device_class(client: &Client, name: &str) {
    let class: DeviceClass =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"kind": name}}, "spec": {}})).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
}

/// Waits until the tenant may use these: of Gateways, and of devices.
async fn may_use(client: &Client, name: &str, expected: (&[&str], &[&str])) {
    let expected = (
        expected.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected.1.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    eventually(&format!("the classes of {name}"), || async {
        let classes = tenant(client, name).await.status.and_then(|status| status.classes);
        let classes = classes.unwrap_or_default();
        equal((classes.gateway, classes.device), &expected)
    })
    .await;
}

#[tokio::test]
async fn classes_of_gateways_and_devices_are_listed_as_they_come_and_go() {
    let server = testbed::ApiServer::shared().await;
    let client = server.client().await;
    install(&client).await;
    install_gateway_classes(&client).await;
    create_gateway_class(&client, "public", json!({"reach": "world"})).await;
    create_device_class(&client, "gpu").await;
    let controllers = Controllers::start(connect(server.kubeconfig()).await, "default");

    create_tenant(&client, "free", json!({})).await;
    let spec = json!({
        "gatewayOptions": {"allowedClasses": {"allowed": ["private"], "matchLabels": {"reach": "house"}}},
        "deviceClasses": {"allowedRegex": "^fp"}});
    create_tenant(&client, "bound", spec).await;
    may_use(&client, "free", (&["public"], &["gpu"])).await;
    may_use(&client, "bound", (&[], &[])).await;

    create_gateway_class(&client, "garden", json!({"reach": "house"})).await;
    create_device_class(&client, "fpga").await;
    may_use(&client, "free", (&["garden", "public"], &["fpga", "gpu"])).await;
    may_use(&client, "bound", (&["garden"], &["fpga"])).await;

    gateway_classes(&client)
        .delete("garden", &DeleteParams::default())
        .await
        .unwrap();
    may_use(&client, "free", (&["public"], &["fpga", "gpu"])).await;
    may_use(&client, "bound", (&[], &["fpga"])).await;
    controllers.stop().await;
}
