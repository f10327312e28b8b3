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
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::served;
use support::stage::stage;
use support::until;
use testbed::unique;

/// Returns when the admission server knows it.
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
    let made: DataStore = Api::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(store).unwrap())
        .await?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    until("the store is known", async || {
        let asked = create_control_plane(client, &dry_run, &unique("cp"), &made.name_any(), json!({})).await;
        let is_unknown = asked.is_err_and(|error| error.to_string().contains("does not exist"));
        (!is_unknown).then_some(())
    })
    .await;
    Ok(made)
}

async fn control_plane(client: &Client, store: &str, more: Value) -> Result<TenantControlPlane, kube::Error> {
    named_control_plane(client, &unique("cp"), store, more).await
}

async fn named_control_plane(
    client: &Client,
    name: &str,
    store: &str,
    more: Value,
) -> Result<TenantControlPlane, kube::Error> {
    create_control_plane(client, &PostParams::default(), name, store, more).await
}

async fn create_control_plane(
    client: &Client,
    params: &PostParams,
    name: &str,
    store: &str,
    more: Value,
) -> Result<TenantControlPlane, kube::Error> {
    let mut object = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "metadata": {"name": name},
        "spec": {
            "dataStore": store,
            "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.3"}, "addons": {"coreDNS": {}, "kubeProxy": {}}}});
    json_patch::merge(&mut object["spec"], &more);
    let api = Api::<TenantControlPlane>::namespaced(client.clone(), "default");
    api.create(params, &serde_json::from_value(object).unwrap()).await
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

#[tokio::test]
async fn what_is_another_ones_in_the_namespace_or_on_the_nodes_is_refused_until_it_is_given() {
    let client = served().await.server.client().await;
    let store = data_store(&client, "etcd-0.volumes:2379")
        .await
        .unwrap()
        .metadata
        .name
        .unwrap();
    let with = |deployment: Value| json!({"controlPlane": {"deployment": deployment}});
    let name = unique("cp");
    let volume = with(json!({"additionalVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]}));
    let (code, message) = refusal(named_control_plane(&client, &name, &store, volume.clone()).await);
    assert_eq!(code, 403);
    assert!(
        message.contains(&format!(
            "the PersistentVolumeClaim {name:?} is not labelled kamaji.clastix.io/name={name}"
        )),
        "{message}"
    );
    let claim = json!({"metadata": {"name": name, "labels": {"kamaji.clastix.io/name": name}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    Api::<PersistentVolumeClaim>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &serde_json::from_value(claim).unwrap())
        .await
        .unwrap();
    named_control_plane(&client, &name, &store, volume).await.unwrap();

    let (_, message) = refusal(
        control_plane(
            &client,
            &store,
            with(json!({"extraArgs": {"scheduler": ["--config=/x"]}})),
        )
        .await,
    );
    assert!(message.contains("extraArgs.scheduler[0]: --config"), "{message}");

    // A port of the nodes, once the watch has seen who has it.
    let service = json!({"metadata": {"name": unique("front")}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31555}]}});
    Api::<Service>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &serde_json::from_value(service).unwrap())
        .await
        .unwrap();
    let wants = |port: i32| json!({"controlPlane": {"service": {"serviceType": "NodePort"}}, "networkProfile": {"address": "192.0.2.1", "port": port}});
    support::until("the port is known to be taken", async || {
        let refused = control_plane(&client, &store, wants(31555)).await.err()?;
        assert!(refused.to_string().contains("31555 is taken on the nodes"), "{refused}");
        Some(())
    })
    .await;
    control_plane(&client, &store, wants(31556)).await.unwrap();
}

#[tokio::test]
async fn names_in_the_store_are_settled_once_they_are_on_record() {
    let client = served().await.server.client().await;
    let store = data_store(&client, "etcd-0.settled:2379")
        .await
        .unwrap()
        .metadata
        .name
        .unwrap();
    let made = control_plane(&client, &store, json!({})).await.unwrap();
    let (name, uid) = (made.name_any(), made.uid().unwrap());
    let api = Api::<TenantControlPlane>::namespaced(client.clone(), "default");
    let status = json!({"status": {"storage": {"dataStoreName": store, "setup": {"schema": uid, "user": uid}}}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let ask = async |schema: &str| {
        let changes = json!({"spec": {"dataStoreSchema": schema}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(changes)).await
    };
    let (code, message) = refusal(ask("late").await);
    assert_eq!(code, 403);
    assert!(
        message.contains("\"late\" comes too late") && message.contains(&uid),
        "{message}"
    );
    ask(&uid).await.unwrap();
}

#[tokio::test]
async fn a_name_in_front_of_a_control_plane_is_one_and_nobody_elses() {
    let client = served().await.server.client().await;
    let store = data_store(&client, "etcd-0.fronts:2379").await.unwrap().name_any();
    let hostname = format!("{}.example", unique("oil"));
    let ingress = |hostname: &str| json!({"controlPlane": {"ingress": {"hostname": hostname}}});
    let (code, message) = refusal(control_plane(&client, &store, ingress("*.example")).await);
    assert_eq!(code, 403);
    assert!(message.contains("spec.controlPlane.ingress.hostname"), "{message}");
    control_plane(&client, &store, ingress(&format!("{hostname}:443")))
        .await
        .unwrap();
    // What is admitted before the operator has seen the other is settled by the controller.
    let mut answer = (0, String::new());
    for _ in 0..300 {
        match control_plane(&client, &store, ingress(&hostname)).await {
            Err(kube::Error::Api(status)) => {
                answer = (status.code, status.message.clone());
                break;
            }
            other => drop(other.unwrap()),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(answer.0, 403);
    assert!(answer.1.contains("somebody else in this cluster"), "{}", answer.1);

    let routed = json!({"controlPlane": {"gateway": {"hostname": "sun.example", "parentRefs": [{"name": "front"}]}}});
    let (code, message) = refusal(control_plane(&client, &store, routed).await);
    assert_eq!(code, 403);
    assert!(
        message.contains("the Gateway API is not available in this cluster, cannot use gatewayRoute configuration"),
        "{message}"
    );
    let outside = json!({"networkProfile": {"address": "192.0.2.7", "allowAddressAsExternalIP": true}});
    let (code, message) = refusal(control_plane(&client, &store, outside).await);
    assert_eq!(code, 403);
    assert!(message.contains("--allowed-external-ips"), "{message}");
}

#[tokio::test]
async fn the_name_of_a_control_plane_is_no_other_tenants_to_serve() {
    let stage = stage(json!({})).await;
    let store = data_store(&stage.masters, "etcd-0.etcd:2379").await.unwrap().name_any();
    let name = unique("cp");
    let front = json!({"controlPlane": {"ingress": {"hostname": format!("{name}.example:443")}}});
    named_control_plane(&stage.masters, &name, &store, front).await.unwrap();
    let ingress = |host: &str| {
        json!({"metadata": {"name": unique("ingress")}, "spec": {"rules": [{"host": host, "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
    };
    let host = format!("{name}.example");
    let (code, message) = until("the control plane is known", async || {
        let answer = stage.create::<Ingress>(&stage.owner, ingress(&host)).await;
        answer.is_err().then(|| refusal(answer))
    })
    .await;
    assert_eq!(code, 403, "{message}");
    assert!(
        message.contains("spec.rules[0].host") && message.contains(&host),
        "{message}"
    );
    let others = stage.create::<Ingress>(&stage.owner, ingress("shop.example")).await;
    others.unwrap();
}
