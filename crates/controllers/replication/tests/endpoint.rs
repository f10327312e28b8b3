//! Replications through another address of the API server: with the authority that the configuration names, or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::capsule::v1beta2::{CapsuleConfiguration, GlobalTenantResource, Tenant, TenantResource};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Client, Config, ResourceExt};
use runtime::metrics::Registry;
use runtime::{Shared, Shutdown};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// The namespace of the tenant and of the replication.
const NAMESPACE: &str = "oil-a";

/// Asks again until the answer is good. The deadline is for a broken build, not for a slow machine.
async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let mut last = String::new();
    for _ in 0..600 {
        match ask().await {
            Ok(()) => return,
            Err(reason) => last = reason,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: still not so: {last}")
}

async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in [
        api::schema::crd::<Tenant>(),
        api::schema::crd::<CapsuleConfiguration>(),
        api::schema::crd::<TenantResource>(),
        api::schema::crd::<GlobalTenantResource>(),
    ] {
        let params = PatchParams::apply("tests").force();
        api.patch(&definition.name_any(), &params, &Patch::Apply(&definition))
            .await
            .unwrap();
    }
    eventually("the definitions are served", async || {
        let all = ListParams::default();
        let served = Api::<Tenant>::all(client.clone()).list(&all).await.is_ok()
            && Api::<CapsuleConfiguration>::all(client.clone())
                .list(&all)
                .await
                .is_ok()
            && Api::<TenantResource>::all(client.clone()).list(&all).await.is_ok()
            && Api::<GlobalTenantResource>::all(client.clone())
                .list(&all)
                .await
                .is_ok();
        served.then_some(()).ok_or("not yet".to_owned())
    })
    .await;
}

fn start(client: &Client, config: Config) {
    let (registry, shutdown) = (Registry::new(), Shutdown::new());
    let all = watcher::Config::default;
    let context = replication_controller::Context {
        config,
        namespace: "default".to_owned(),
        configuration_name: "default".to_owned(),
        tenants: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        namespaces: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        configurations: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        tenant_resources: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        global_tenant_resources: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        metrics: runtime::controller::Metrics::register(&registry),
        registry,
        shutdown,
        client: client.clone(),
    };
    tokio::spawn(async move { replication_controller::run(context).await.unwrap() });
}

/// Another address of `server`, and how many connections came that way.
async fn relay(server: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, passed) = (
        format!("https://{}", listener.local_addr().unwrap()),
        Arc::new(AtomicUsize::new(0)),
    );
    let count = passed.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let server = server.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(&server).await.unwrap();
                // Whoever hangs up first ends it.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (url, passed)
}

/// Writes an object that says its kind, in this namespace if it is in one.
async fn apply(client: &Client, namespace: Option<&str>, object: Value) {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let (name, params) = (
        object["metadata"]["name"].as_str().unwrap(),
        PatchParams::apply("test").force(),
    );
    api.patch(name, &params, &Patch::Apply(&object)).await.unwrap();
}

async fn configure(client: &Client, impersonation: Value) {
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"}, "spec": {"enableTLSReconciler": true, "impersonation": impersonation}});
    apply(client, None, object).await;
}

/// A tenant with a namespace in which its ServiceAccount `replicator` may edit.
async fn stage(client: &Client) {
    let tenant = json!({"metadata": {"name": "oil"}, "spec": {}});
    let tenant = Api::<Tenant>::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(tenant).unwrap())
        .await
        .unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": NAMESPACE, "labels": {"capsule.clastix.io/tenant": "oil"},
        "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": tenant.uid()}]}});
    apply(client, None, namespace).await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "replicator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "replicator", "namespace": NAMESPACE}]});
    apply(client, Some(NAMESPACE), binding).await;
}

/// Asks for a ConfigMap of this name.
async fn replicate(client: &Client, name: &str) {
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantResource", "metadata": {"name": name},
        "spec": {"resyncPeriod": "5s", "serviceAccount": {"name": "replicator"}, "resources": [{
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}]}]}});
    apply(client, Some(NAMESPACE), object).await;
}

/// Asks for the same in the operator's name, of an administrator.
async fn replicate_globally(client: &Client, name: &str) {
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalTenantResource", "metadata": {"name": name},
        "spec": {"resyncPeriod": "5s", "resources": [{
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}]}]}});
    apply(client, None, object).await;
}

/// Waits until it is ready, or is not and says this.
async fn is_judged(client: &Client, name: &str, status: &str, words: &str) {
    let replications = Api::<TenantResource>::namespaced(client.clone(), NAMESPACE);
    eventually(&format!("{name} is Ready={status}"), async || {
        let known = replications.get(name).await.unwrap().status.unwrap_or_default();
        says(&known.conditions, status, words).ok_or(format!("{known:?}"))
    })
    .await;
}

/// The same of one without a namespace.
async fn is_judged_globally(client: &Client, name: &str, status: &str, words: &str) {
    let replications = Api::<GlobalTenantResource>::all(client.clone());
    eventually(&format!("{name} is Ready={status}"), async || {
        let known = replications.get(name).await.unwrap().status.unwrap_or_default();
        says(&known.conditions, status, words).ok_or(format!("{known:?}"))
    })
    .await;
}

fn says(conditions: &[Condition], status: &str, words: &str) -> Option<()> {
    let ready = conditions.iter().find(|it| it.type_ == "Ready")?;
    (ready.status == status && ready.message.contains(words)).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replications_go_to_the_endpoint_that_is_configured_and_verified() {
    let server = testbed::ApiServer::shared().await;
    let client = server.client().await;
    install(&client).await;
    stage(&client).await;
    let (endpoint, passed) = relay(server.url().trim_start_matches("https://").to_owned()).await;
    let secret = |name: &str, authority: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"ca.crt": authority}});
    // That of somebody else, a valid one.
    let stranger = testbed::ApiServer::start().await;
    let ours = Some("default");
    apply(&client, ours, secret("right", server.ca_pem())).await;
    apply(&client, ours, secret("wrong", stranger.ca_pem())).await;
    apply(&client, ours, secret("empty", "")).await;
    drop(stranger);

    configure(&client, json!({"endpoint": endpoint, "caSecretName": "right"})).await;
    let config = Config::from_custom_kubeconfig(server.kubeconfig(), &KubeConfigOptions::default())
        .await
        .unwrap();
    start(&client, config);
    replicate(&client, "first").await;
    replicate_globally(&client, "all").await;
    is_judged(&client, "first", "True", "").await;
    is_judged_globally(&client, "all", "True", "").await;
    assert!(passed.load(Ordering::SeqCst) > 0, "nothing went through the endpoint");
    let made = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    made.get("first").await.unwrap();

    for (name, impersonation, words) in [
        (
            "strange",
            json!({"endpoint": endpoint, "caSecretName": "wrong"}),
            "certificate",
        ),
        (
            "missing",
            json!({"endpoint": endpoint, "caSecretName": "nobody"}),
            "the Secret default/nobody is not there",
        ),
        (
            "blank",
            json!({"endpoint": endpoint, "caSecretName": "empty"}),
            "the authority has no certificate",
        ),
        (
            "other-key",
            json!({"endpoint": endpoint, "caSecretName": "right", "caSecretKey": "tls.crt"}),
            "has no key \"tls.crt\"",
        ),
        (
            "clear",
            json!({"endpoint": "http://127.0.0.1:1"}),
            "has to begin with https://",
        ),
    ] {
        configure(&client, impersonation).await;
        is_judged_globally(&client, "all", "False", words).await;
        // Of what is wrong in the configuration the tenant learns only that it is so.
        let told = match name {
            "strange" => words,
            _ => "the impersonation endpoint of the cluster cannot be used; an administrator has to look",
        };
        is_judged(&client, "first", "False", told).await;
        made.get("first")
            .await
            .unwrap_or_else(|error| panic!("{name}: what was made stays: {error}"));
    }

    // Who says so may do without the proof.
    configure(
        &client,
        json!({"endpoint": endpoint, "caSecretName": "wrong", "skipTlsVerify": true}),
    )
    .await;
    is_judged(&client, "first", "True", "").await;
    configure(&client, json!({})).await;
    let before = passed.load(Ordering::SeqCst);
    replicate(&client, "second").await;
    is_judged(&client, "second", "True", "").await;
    assert_eq!(
        passed.load(Ordering::SeqCst),
        before,
        "the operator's own address again"
    );
}
