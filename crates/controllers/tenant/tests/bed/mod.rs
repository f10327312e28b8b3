//! A real API server with the definitions installed, and the controllers running against it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt::Debug;
use std::time::Duration;

use api::capsule::v1beta2::{
    CapsuleConfiguration, GlobalResourceQuota, QuantityLedger, RuleStatus, Tenant, TenantOwner,
};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Client, Config, ResourceExt};
use runtime::metrics::Registry;
use runtime::{Shared, Shutdown};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenant_controller::Context;
use tenant_controller::classes::Classes;
use tokio::sync::OnceCell;

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
                    let controllers = Controllers::start(connect(kubeconfig).await, "default");
                    controllers.shutdown.cancelled().await;
                });
            });
        })
        .await;
    client
}

pub async fn connect(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    runtime::client::build(config, "tenant-controller-tests").unwrap()
}

/// Installs the definitions and waits until they are served.
pub async fn install(client: &Client) {
    // Where ledgers are.
    let params = PatchParams::apply("tests").force();
    let places: Api<Namespace> = Api::all(client.clone());
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cotenant-system"}});
    places
        .patch("cotenant-system", &params, &Patch::Apply(&made))
        .await
        .unwrap();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in [
        api::schema::crd::<Tenant>(),
        api::schema::crd::<TenantOwner>(),
        api::schema::crd::<CapsuleConfiguration>(),
        api::schema::crd::<RuleStatus>(),
        api::schema::crd::<GlobalResourceQuota>(),
        api::schema::crd::<QuantityLedger>(),
    ] {
        let params = PatchParams::apply("tests").force();
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.unwrap();
    }
    eventually("the definitions are served", || async {
        let tenants: Api<Tenant> = Api::all(client.clone());
        let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
        let rules: Api<RuleStatus> = Api::all(client.clone());
        let owners: Api<TenantOwner> = Api::all(client.clone());
        let quotas: Api<GlobalResourceQuota> = Api::all(client.clone());
        let ledgers: Api<QuantityLedger> = Api::all(client.clone());
        let served = tenants.list(&ListParams::default()).await.is_ok()
            && configurations.list(&ListParams::default()).await.is_ok()
            && rules.list(&ListParams::default()).await.is_ok()
            && owners.list(&ListParams::default()).await.is_ok()
            && quotas.list(&ListParams::default()).await.is_ok()
            && ledgers.list(&ListParams::default()).await.is_ok();
        served.then_some(()).ok_or("not yet".to_owned())
    })
    .await;
}

/// The controllers, running in the caller's runtime until the value is stopped.
pub struct Controllers {
    pub registry: Registry,
    pub shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Controllers {
    /// Must be called inside a tokio runtime. The configuration is made at once if it is not there.
    pub fn start(client: Client, configuration: &str) -> Self {
        Self::start_with_grace(client, configuration, Duration::ZERO)
    }

    /// The same; the configuration may be missing for `grace`.
    pub fn start_with_grace(client: Client, configuration: &str, grace: Duration) -> Self {
        let (registry, shutdown) = (Registry::new(), Shutdown::new());
        let config = watcher::Config::default;
        let context = Context {
            namespace: "cotenant-system".to_owned(),
            configuration_name: configuration.to_owned(),
            configuration_grace: grace,
            tls_secret: "own-tls".to_owned(),
            tenants: Shared::start(
                Api::all(client.clone()),
                config(),
                tenant_controller::trim_tenant,
                &shutdown,
            ),
            tenant_owners: Shared::start(Api::all(client.clone()), config(), |_| {}, &shutdown),
            namespaces: Shared::start(
                Api::all(client.clone()),
                config(),
                tenant_controller::trim_namespace,
                &shutdown,
            ),
            configurations: Shared::start(Api::all(client.clone()), config(), |_| {}, &shutdown),
            quantity_ledgers: Shared::start(Api::all(client.clone()), config(), |_| {}, &shutdown),
            classes: Classes::start(&client, &shutdown),
            metrics: runtime::controller::Metrics::register(&registry),
            registry: registry.clone(),
            recorder: runtime::events::Recorder::new(client.clone(), "controller.projectcapsule.dev", Some("test")),
            shutdown: shutdown.clone(),
            client,
        };
        let task = tokio::spawn(async move {
            if let Err(error) = tenant_controller::run(context).await {
                eprintln!("controllers ended: {}", runtime::report::chain(&error));
            }
        });
        Self {
            registry,
            shutdown,
            task,
        }
    }

    /// How many requests have changed something so far.
    pub fn writes(&self) -> u64 {
        self.sum("cotenant_operator_tenant_writes_total{")
    }

    pub fn runs(&self) -> u64 {
        self.sum("cotenant_operator_controller_runs_total{")
    }

    /// Reconciliations of the configuration.
    pub fn configuration_runs(&self) -> u64 {
        self.sum("cotenant_operator_controller_runs_total{controller=\"configuration\"")
    }

    fn sum(&self, prefix: &str) -> u64 {
        let text = self.registry.encode();
        let values = text
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().unwrap()).sum()
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

pub async fn create_tenant(client: &Client, name: &str, spec: Value) -> Tenant {
    let tenant =
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name}, "spec": spec});
    let api: Api<Tenant> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(tenant).unwrap())
        .await
        .unwrap()
}

/// A namespace as admission makes it for an owner.
pub async fn create_namespace(client: &Client, name: &str, tenant: &Tenant) -> Namespace {
    let namespace = json!({"metadata": {
        "name": name, "labels": {"capsule.clastix.io/tenant": tenant.name_any()},
        "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": tenant.name_any(), "uid": tenant.uid()}]
    }});
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap())
        .await
        .unwrap()
}

pub async fn patch_tenant(client: &Client, name: &str, patch: Value) -> Tenant {
    let api: Api<Tenant> = Api::all(client.clone());
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap()
}

/// Names of the objects of a kind in a namespace, sorted.
pub async fn names<K>(client: &Client, namespace: &str) -> Vec<String>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut names: Vec<String> = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    names.sort_unstable();
    names
}

pub async fn tenant(client: &Client, name: &str) -> Tenant {
    Api::<Tenant>::all(client.clone()).get(name).await.unwrap()
}

/// Waits until the tenant's latest spec is in force.
pub async fn ready(client: &Client, name: &str, namespaces: usize) -> Tenant {
    eventually("the tenant is ready", || async {
        let tenant = tenant(client, name).await;
        let status = tenant.status.clone().unwrap_or_default();
        let good = status.observed_generation == tenant.metadata.generation
            && status.spaces.len() == namespaces
            && status
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True");
        good.then_some(tenant).ok_or(format!("{status:?}"))
    })
    .await
}

pub fn equal<T: PartialEq + Debug>(found: T, expected: &T) -> Result<(), String> {
    if found == *expected {
        Ok(())
    } else {
        Err(format!("found {found:?}"))
    }
}
