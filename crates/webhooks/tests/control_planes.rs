//! Rules about hosted control planes, through a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::served;
use testbed::unique;

async fn data_store(client: &Client, endpoint: &str) -> Result<DataStore, kube::Error> {
    let secret =
        |key: &str| json!({"secretReference": {"name": "etcd", "namespace": "cotenant-system", "keyPath": key}});
    let store = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore", "metadata": {"name": unique("store")},
        "spec": {
            "driver": "etcd", "endpoints": [endpoint],
            "tlsConfig": {
                "certificateAuthority": {"certificate": secret("ca.crt"), "privateKey": secret("ca.key")},
                "clientCertificate": {"certificate": secret("root.crt"), "privateKey": secret("root.key")}}}});
    Api::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(store).unwrap())
        .await
}

async fn control_plane(client: &Client, store: &str, more: Value) -> Result<TenantControlPlane, kube::Error> {
    let mut object = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "metadata": {"name": unique("cp")},
        "spec": {
            "dataStore": store,
            "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.3"}, "addons": {"coreDNS": {}, "kubeProxy": {}}}});
    json_patch::merge(&mut object["spec"], &more);
    let api = Api::<TenantControlPlane>::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
}

#[tokio::test]
async fn what_the_author_leaves_out_is_written_down_and_what_is_not_his_is_refused() {
    let client = served().await.server.client().await;
    let store = data_store(&client, "etcd-0.etcd:2379")
        .await
        .unwrap()
        .metadata
        .name
        .unwrap();
    let made = control_plane(
        &client,
        &store,
        json!({"networkProfile": {"serviceCidr": "10.96.0.0/16"}}),
    )
    .await
    .unwrap();
    assert_eq!(made.spec.network_profile.service_cidrs, ["10.96.0.0/16"]);
    assert_eq!(made.spec.network_profile.dns_service_ips, ["10.96.0.10"]);

    let (code, message) = refusal(control_plane(&client, &store, json!({"dataStoreUsername": "root"})).await);
    assert_eq!(code, 403);
    assert!(message.contains("dataStoreUsername"), "{message}");
    let (code, message) = refusal(control_plane(&client, "nowhere", json!({})).await);
    assert_eq!(code, 403);
    assert!(message.contains("nowhere DataStore does not exist"), "{message}");
}

#[tokio::test]
async fn a_store_that_could_not_be_called_is_refused() {
    let client = served().await.server.client().await;
    let (code, message) = refusal(data_store(&client, "https://etcd:2379").await);
    assert_eq!(code, 403);
    assert!(message.contains("spec.endpoints[0]"), "{message}");
    data_store(&client, "etcd:2379").await.unwrap();
}
