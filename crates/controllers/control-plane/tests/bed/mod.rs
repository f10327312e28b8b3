//! An admin cluster without nodes, with a DataStore `default` on a real etcd and the operator's controllers.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use control_plane_controller::{Settings, Watches, run};
use ipnet::IpNet;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use runtime::Shutdown;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{ApiServer, EtcdFixture, unique};

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) async fn eventually<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    testbed::eventually(PATIENCE, what, look).await
}

pub(crate) fn when(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) etcd: EtcdFixture,
    operator: tokio::task::JoinHandle<()>,
    _server: ApiServer,
}

impl Drop for World {
    fn drop(&mut self) {
        self.operator.abort();
    }
}

impl World {
    /// With an operator that lets authors take external IPs of these ranges.
    pub(crate) async fn new(external_ips: &[&str]) -> Self {
        let server = ApiServer::start().await;
        let etcd = EtcdFixture::start().await;
        let client = server.client().await;
        install(&client, api::schema::crd::<DataStore>()).await;
        install(&client, api::schema::crd::<TenantControlPlane>()).await;
        let namespace = unique("tenants");
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
        let ranges = external_ips.iter().map(|range| range.parse().unwrap()).collect();
        let operator = tokio::spawn(operate(client.clone(), ranges));
        let world = Self {
            client,
            namespace,
            etcd,
            operator,
            _server: server,
        };
        world.create_datastore().await;
        world
    }

    async fn create_datastore(&self) {
        create::<Secret>(
            &self.api(),
            json!({"metadata": {"name": "store"}, "stringData": {
                "ca.crt": self.etcd.ca_cert_pem, "ca.key": self.etcd.ca_key_pem,
                "tls.crt": self.etcd.root_cert_pem, "tls.key": self.etcd.root_key_pem,
            }}),
        )
        .await;
        let content =
            |key: &str| json!({"secretReference": {"name": "store", "namespace": self.namespace, "keyPath": key}});
        create::<DataStore>(
            &Api::all(self.client.clone()),
            json!({"metadata": {"name": "default"}, "spec": {
                "driver": "etcd",
                "endpoints": [self.etcd.endpoint],
                "tlsConfig": {
                    "certificateAuthority": {"certificate": content("ca.crt"), "privateKey": content("ca.key")},
                    "clientCertificate": {"certificate": content("tls.crt"), "privateKey": content("tls.key")},
                },
            }}),
        )
        .await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create_control_plane(&self, name: &str, changes: Value) -> TenantControlPlane {
        let mut object = json!({
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.36.3"},
                "networkProfile": {"port": 6443},
                "addons": {},
            },
        });
        json_patch::merge(&mut object, &json!({"spec": changes}));
        create(&self.api::<TenantControlPlane>(), object).await
    }

    pub(crate) async fn change(&self, name: &str, spec: Value) -> TenantControlPlane {
        let patch = Patch::Merge(json!({"spec": spec}));
        let control_planes: Api<TenantControlPlane> = self.api();
        control_planes
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    pub(crate) async fn control_plane(&self, name: &str) -> TenantControlPlane {
        self.api().get(name).await.unwrap()
    }

    /// Until a pass went through to its end for the present generation.
    pub(crate) async fn until_carried_out(&self, name: &str) -> TenantControlPlane {
        eventually(&format!("{name} is carried out"), || async {
            let tcp = self.control_plane(name).await;
            let observed = tcp.status.as_ref().and_then(|status| status.observed_generation);
            when(observed == tcp.metadata.generation, || format!("{:#?}", tcp.status)).map(|()| tcp)
        })
        .await
    }
}

/// Until the kind is served.
pub(crate) async fn install(client: &Client, definition: CustomResourceDefinition) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    eventually("the kind is served", || async {
        let found = definitions.get(&definition.name_any()).await.unwrap();
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        let established = conditions
            .iter()
            .any(|one| one.type_ == "Established" && one.status == "True");
        when(established, || format!("{conditions:?}"))
    })
    .await;
}

async fn operate(client: Client, external_ips: Vec<IpNet>) {
    let (registry, shutdown) = (Registry::new(), Shutdown::new());
    let mut settings = Settings {
        default_datastore: Some("default".to_owned()),
        ..Settings::default()
    };
    settings.trust.external_ips = external_ips;
    let metrics = runtime::controller::Metrics::register(&registry);
    let watches = Watches::start(&client, &shutdown);
    let events = Recorder::new(client.clone(), "cotenant-operator", Some("test"));
    run(client, watches, events, settings, &registry, &metrics, shutdown)
        .await
        .unwrap();
}
