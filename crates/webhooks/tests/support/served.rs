//! A real API server that asks a real admission server, which runs in this process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc;

use api::capsule::v1beta2::{
    CapsuleConfiguration, CustomQuota, GlobalCustomQuota, GlobalResourceQuota, GlobalTenantResource, QuantityLedger,
    ResourcePool, ResourcePoolClaim, RuleStatus, Tenant, TenantOwner, TenantResource,
};
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use runtime::metrics::Registry;
use runtime::{Shared, Shutdown};
use serde_json::json;
use tenancy::control_plane::deputy::Trust;
use testbed::ApiServer;
use tokio::sync::OnceCell;
use webhooks::configurations::Endpoint;
use webhooks::node_ports::NodePorts;
use webhooks::rule::Component;
use webhooks::settings::Identity;
use webhooks::view::{ControlPlanes, NamespaceTenants};
use webhooks::{Context, Webhooks};

use super::until;

/// The operator's own user.
pub const US: &str = "system:serviceaccount:cotenant-system:cotenant";
/// Groups of a tenant's user. Everybody in them may do everything as far as RBAC is concerned: what is refused in these
/// tests is refused by admission.
pub const TENANTS: [&str; 1] = ["projectcapsule.dev"];

/// The running pair.
pub struct Served {
    pub server: &'static ApiServer,
    pub webhooks: Webhooks,
    /// Ends the admission server, as an outage would.
    pub shutdown: Shutdown,
    /// Triggered when nothing of it runs any more.
    pub ended: Shutdown,
    /// What the hooks count.
    pub registry: Registry,
}

static SERVED: OnceCell<Served> = OnceCell::const_new();

/// The pair of this test binary.
pub async fn served() -> &'static Served {
    SERVED.get_or_init(start).await
}

async fn start() -> Served {
    runtime::telemetry::init(runtime::telemetry::Format::Text, "warn");
    let server = ApiServer::shared().await;
    let client = server.client().await;
    for definition in [
        api::capsule::definition::tenants(),
        api::schema::crd::<TenantResource>(),
        api::schema::crd::<GlobalTenantResource>(),
        api::schema::crd::<TenantOwner>(),
        api::schema::crd::<CapsuleConfiguration>(),
        api::schema::crd::<RuleStatus>(),
        api::schema::crd::<CustomQuota>(),
        api::schema::crd::<GlobalCustomQuota>(),
        api::schema::crd::<GlobalResourceQuota>(),
        api::schema::crd::<QuantityLedger>(),
        api::schema::crd::<ResourcePool>(),
        api::schema::crd::<ResourcePoolClaim>(),
        api::schema::crd::<TenantControlPlane>(),
        api::schema::crd::<DataStore>(),
    ] {
        establish(&client, &definition).await;
    }
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "cotenant-system"}})).unwrap();
    apply(&client, "cotenant-system", &namespace).await;
    let rights: ClusterRoleBinding = serde_json::from_value(json!({
    "metadata": {"name": "tenants-may-try-everything"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "projectcapsule.dev"},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "ordinary"},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"},
    ]}))
    .unwrap();
    apply(&client, "tenants-may-try-everything", &rights).await;
    configure(&client, json!({})).await;

    // The admission server outlives the runtime of the test that happens to start it.
    let (sender, receiver) = mpsc::channel();
    let ended = Shutdown::new();
    let end = ended.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = server.client_for(US, &["system:masters"]).await;
            let shutdown = Shutdown::new();
            let listener = webhooks::server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .await
                .unwrap();
            let port = listener.local_addr().unwrap().port();
            let context = context(client, port, &shutdown);
            let registry = context.registry.clone();
            let webhooks = Webhooks::start(context);
            sender.send((webhooks.clone(), shutdown.clone(), registry)).unwrap();
            tokio::join!(
                async { webhooks.serve_on(listener).await.unwrap() },
                webhooks.keep_configurations(&shutdown)
            );
        });
        end.trigger();
    });
    let (webhooks, shutdown, registry) = tokio::task::spawn_blocking(move || receiver.recv().unwrap())
        .await
        .unwrap();
    let mut last = None;
    until("readiness", async || match webhooks.ready() {
        Ok(()) => Some(()),
        Err(reason) => {
            if last != Some(reason) {
                eprintln!("waiting for {reason}");
            }
            last = Some(reason);
            None
        }
    })
    .await;
    // Published is not yet known to the API server's own watches, and there is one for each of the two configurations.
    until("a call of a mutating hook", async || {
        let made = try_tenant(&client, "probe").await.ok()?;
        made.labels().contains_key("kubernetes.io/metadata.name").then_some(())
    })
    .await;
    until("a refusal by a validating hook", async || {
        match try_tenant(&client, "default").await {
            Err(kube::Error::Api(status)) => status.message.contains("is reserved").then_some(()),
            _ => None,
        }
    })
    .await;
    Served {
        server,
        webhooks,
        shutdown,
        ended,
        registry,
    }
}

/// The tenant as it would be; nothing is made.
async fn try_tenant(client: &Client, name: &str) -> Result<Tenant, kube::Error> {
    let tenant: Tenant = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name}, "spec": {}}))
    .unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Api::all(client.clone()).create(&params, &tenant).await
}

/// What an admission server at this port of the machine works with.
pub fn context(client: Client, port: u16, shutdown: &Shutdown) -> Context {
    let config = watcher::Config::default;
    Context {
        client: client.clone(),
        identity: Identity {
            namespace: "cotenant-system".to_owned(),
            service_account: "cotenant".to_owned(),
            endpoint: Endpoint::Url(format!("https://127.0.0.1:{port}")),
            tls_secret: "capsule-tls".to_owned(),
            owner_cluster_role: None,
            components: BTreeSet::from([Component::NamespaceTenants, Component::ControlPlanes]),
        },
        namespace_tenants: Some(NamespaceTenants {
            tenants: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            tenant_owners: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            namespaces: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            configurations: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            configuration_name: "default".to_owned(),
            storage_classes: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            ingress_classes: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            priority_classes: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            runtime_classes: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            tenant_resources: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            global_tenant_resources: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            custom_quotas: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            global_custom_quotas: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            global_resource_quotas: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            quantity_ledgers: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            pools: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
        }),
        control_planes: Some(ControlPlanes {
            control_planes: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            data_stores: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            node_ports: NodePorts::of(&Shared::start(Api::all(client), config(), |_| {}, shutdown)),
            default_data_store: Some("default".to_owned()),
            node_port_range: 30000..=32767,
            trust: Trust::default(),
        }),
        registry: Registry::default(),
        shutdown: shutdown.clone(),
    }
}

/// Makes a kind and waits until it is served.
pub async fn establish(client: &Client, definition: &CustomResourceDefinition) {
    apply(client, &definition.name_any(), definition).await;
    until("the kind", async || {
        let found = Api::<CustomResourceDefinition>::all(client.clone())
            .get(&definition.name_any())
            .await
            .unwrap();
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
            .then_some(())
    })
    .await;
    // Established is what is stored; that API servers serve the kind comes a moment later.
    let spec = &definition.spec;
    let stored = spec.versions.iter().find(|version| version.storage).unwrap();
    let kind = GroupVersionKind::gvk(&spec.group, &stored.name, &spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &spec.names.plural);
    let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
    until("a list of the kind", async || {
        objects.list(&ListParams::default().limit(1)).await.ok()
    })
    .await;
}

/// Writes the CapsuleConfiguration: an administrator `adam`, the group `projectcapsule.dev`, and what is given.
pub async fn configure(client: &Client, more: serde_json::Value) {
    let users = json!([{"kind": "Group", "name": "projectcapsule.dev"}]);
    let mut configuration = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
        "spec": {
            "users": users, "administrators": [{"kind": "User", "name": "adam"}], "enableTLSReconciler": true,
            "protectedNamespaceRegex": "^kube-"},
    });
    json_patch::merge(&mut configuration["spec"], &more);
    let api = Api::<CapsuleConfiguration>::all(client.clone());
    api.patch(
        "default",
        &PatchParams::apply("test").force(),
        &Patch::Apply(&configuration),
    )
    .await
    .unwrap();
    let status = json!({"status": {"users": users, "conditions": []}});
    api.patch_status("default", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

async fn apply<K>(client: &Client, name: &str, object: &K)
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
        .await
        .unwrap();
}
