//! A real API server with the definitions installed, and the controllers running against it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

use std::time::Duration;

use api::capsule::v1beta2::{
    CustomQuota, GlobalCustomQuota, GlobalResourceQuota, QuantityLedger, ResourcePool, ResourcePoolClaim,
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Client, Config, ResourceExt};
use quota_controller::Context;
use runtime::metrics::Registry;
use runtime::{Shared, Shutdown};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Where ledgers of what spans namespaces are.
pub const LEDGERS: &str = "default";

static SHARED: OnceCell<()> = OnceCell::const_new();

/// An administrator's client of the shared API server, where the controllers run in a thread of their own.
pub async fn bed() -> Client {
    let server = testbed::ApiServer::shared().await;
    let client = server.client().await;
    SHARED
        .get_or_init(|| async {
            install(&client).await;
            let kubeconfig = server.kubeconfig();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let controllers = Controllers::start(connect(kubeconfig).await);
                    controllers.shutdown.cancelled().await;
                });
            });
        })
        .await;
    client
}

async fn connect(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    runtime::client::build(config, "quota-controller-tests").unwrap()
}

/// Installs the definitions and waits until they are served.
async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in [
        api::schema::crd::<ResourcePool>(),
        api::schema::crd::<ResourcePoolClaim>(),
        api::schema::crd::<CustomQuota>(),
        api::schema::crd::<GlobalCustomQuota>(),
        api::schema::crd::<GlobalResourceQuota>(),
        api::schema::crd::<QuantityLedger>(),
    ] {
        let params = PatchParams::apply("tests").force();
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.unwrap();
        eventually("the definition is served", || async {
            let found = api.get(&crd.name_any()).await.unwrap();
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let served = conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True");
            served.then_some(()).ok_or("not yet".to_owned())
        })
        .await;
    }
}

/// The controllers, running in the caller's runtime until the value is stopped.
pub struct Controllers {
    pub registry: Registry,
    pub shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Controllers {
    /// Must be called inside a tokio runtime.
    pub fn start(client: Client) -> Self {
        let (registry, shutdown) = (Registry::new(), Shutdown::new());
        let context = Context {
            namespace: LEDGERS.to_owned(),
            namespaces: Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
            custom_quotas: Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
            global_custom_quotas: Shared::start(
                Api::all(client.clone()),
                watcher::Config::default(),
                |_| {},
                &shutdown,
            ),
            quantity_ledgers: Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
            metrics: runtime::controller::Metrics::register(&registry),
            registry: registry.clone(),
            recorder: runtime::events::Recorder::new(client.clone(), "controller.projectcapsule.dev", Some("test")),
            shutdown: shutdown.clone(),
            client,
        };
        let task = tokio::spawn(async move {
            if let Err(error) = quota_controller::run(context).await {
                eprintln!("controllers ended: {}", runtime::report::chain(&error));
            }
        });
        Self {
            registry,
            shutdown,
            task,
        }
    }

    pub async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap();
    }
}

/// Asks again until the answer is good. The deadline is for a broken build, not for a slow machine.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut last = String::new();
    for _ in 0..1200 {
        match ask().await {
            Ok(value) => return value,
            Err(reason) => last = reason,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: still not so: {last}")
}

/// A namespace with the label `team`.
pub async fn create_namespace(client: &Client, name: &str, team: &str) {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": team}}})).unwrap();
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &namespace).await.unwrap();
}

/// A pool for the namespaces of the team that has its name.
pub async fn create_pool(client: &Client, name: &str, hard: Value, more: Value) -> ResourcePool {
    let mut pool = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "metadata": {"name": name},
        "spec": {"quota": {"hard": hard}, "selectors": [{"matchLabels": {"team": name}}]}});
    json_patch::merge(&mut pool["spec"], &more);
    let api: Api<ResourcePool> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(pool).unwrap())
        .await
        .unwrap()
}

pub async fn create_claim(client: &Client, namespace: &str, name: &str, pool: &str, asks: Value) -> ResourcePoolClaim {
    let claim = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim", "metadata": {"name": name},
        "spec": {"pool": pool, "claim": asks}});
    claims(client, namespace)
        .create(&PostParams::default(), &serde_json::from_value(claim).unwrap())
        .await
        .unwrap()
}

pub fn pools(client: &Client) -> Api<ResourcePool> {
    Api::all(client.clone())
}

pub fn claims(client: &Client, namespace: &str) -> Api<ResourcePoolClaim> {
    Api::namespaced(client.clone(), namespace)
}

pub async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap()
}

/// Makes a secret that its quota counts. One that comes before the API server's admission has heard of the quota would not be
/// counted for minutes.
pub async fn use_one(client: &Client, namespace: &str) -> Secret {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let used = async || {
        let found = quotas.list(&ListParams::default()).await.unwrap();
        let used = found
            .iter()
            .filter_map(|quota| quota.status.as_ref()?.used.as_ref()?.get("secrets"));
        used.map(|used| used.0.parse::<i64>().unwrap()).sum::<i64>()
    };
    eventually("a secret is made", || async {
        let before = used().await;
        let secret = Secret {
            metadata: serde_json::from_value(json!({"generateName": "s-"})).unwrap(),
            ..Secret::default()
        };
        let made = api.create(&PostParams::default(), &secret).await;
        let made = made.map_err(|error| error.to_string())?;
        if used().await > before {
            return Ok(made);
        }
        api.delete(&made.name_any(), &DeleteParams::default()).await.unwrap();
        Err("it was not counted".to_owned())
    })
    .await
}
