//! An admin cluster without nodes, with a DataStore on a real etcd. Pods stay pending, and where a test needs them ready it
//! says so in their status, as a kubelet would.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod components;
pub(crate) mod datastore;
pub(crate) mod operator;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use api::kamaji::v1alpha1::{DataStore, Phase, TenantControlPlane};
use control_plane_controller::Settings;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use operator::Operator;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{ApiServer, EtcdFixture, unique};

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

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

/// What a test does to an object by hand.
pub(crate) async fn merge<K>(api: &Api<K>, name: &str, changes: Value) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(changes))
        .await
        .unwrap()
}

pub(crate) struct World {
    operator: Option<Operator>,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The name of the DataStore that is there from the beginning.
    datastore: &'static str,
    /// What it is on.
    pub(crate) etcd: EtcdFixture,
    _server: ApiServer,
}

impl World {
    /// With a DataStore `default`, and an operator that lets authors take external IPs of these ranges.
    pub(crate) async fn new(external_ips: &[&str]) -> Self {
        let mut world = Self::without_operator("default").await;
        let mut settings = world.settings();
        settings.trust.external_ips = external_ips.iter().map(|range| range.parse().unwrap()).collect();
        world.operator = Some(Operator::start(&world.client, settings));
        world
    }

    /// With a DataStore of this name, and a Node whose addresses others may not reach. Operators are the test's to start.
    pub(crate) async fn with_node(datastore: &'static str) -> Self {
        let world = Self::without_operator(datastore).await;
        let nodes: Api<Node> = Api::all(world.client.clone());
        let node = json!({"metadata": {"name": "admin-1"}, "spec": {"podCIDR": "10.244.7.0/24"}});
        create(&nodes, node).await;
        let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]}});
        nodes
            .patch_status("admin-1", &PatchParams::default(), &Patch::Merge(addresses))
            .await
            .unwrap();
        world
    }

    async fn without_operator(datastore: &'static str) -> Self {
        let server = ApiServer::start().await;
        let client = server.client().await;
        install(&client, api::schema::crd::<DataStore>()).await;
        install(&client, api::schema::crd::<TenantControlPlane>()).await;
        let namespace = unique("tenants");
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
        let world = Self {
            operator: None,
            client,
            namespace,
            datastore,
            etcd: EtcdFixture::start().await,
            _server: server,
        };
        world.add_datastore(datastore, &world.etcd).await;
        world
    }

    /// Those of an operator whose default is the DataStore that is there from the beginning.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            default_datastore: Some(self.datastore.to_owned()),
            ..Settings::default()
        }
    }

    /// Starts an operator with [`World::settings`].
    pub(crate) fn operate(&self) -> Operator {
        Operator::start(&self.client, self.settings())
    }

    pub(crate) async fn add_datastore<'a>(&self, name: &str, server: impl Into<datastore::Server<'a>>) {
        datastore::create(&self.client, &self.namespace, name, server).await;
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
        merge(&self.api(), name, json!({"spec": spec})).await
    }

    pub(crate) async fn control_plane(&self, name: &str) -> TenantControlPlane {
        self.api().get(name).await.unwrap()
    }

    /// Deletes a control plane and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        let control_planes: Api<TenantControlPlane> = self.api();
        control_planes.delete(name, &DeleteParams::default()).await.unwrap();
        self.until_gone::<TenantControlPlane>(name).await;
    }

    pub(crate) async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        eventually(&format!("the {} {name} is gone", K::kind(&())), || async {
            let left = self.api::<K>().get_opt(name).await;
            let left = left.map_err(|error| error.to_string())?;
            when(left.is_none(), || format!("{left:#?}"))
        })
        .await;
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

    /// Until a condition has this reason, whatever else holds.
    pub(crate) async fn until_condition(&self, name: &str, type_: &str, reason: &str) -> TenantControlPlane {
        eventually(&format!("{name} has {type_} for {reason}"), || async {
            let tcp = self.control_plane(name).await;
            let conditions = tcp.status.clone().unwrap_or_default().conditions;
            let found = conditions.iter().any(|one| one.type_ == type_ && one.reason == reason);
            when(found, || format!("{conditions:#?}")).map(|()| tcp)
        })
        .await
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: Phase) -> TenantControlPlane {
        eventually(&format!("{name} is {phase:?}"), || async {
            let tcp = self.control_plane(name).await;
            let status = tcp.status.clone().unwrap_or_default();
            when(status.phase() == Some(phase), || format!("{status:#?}")).map(|()| tcp)
        })
        .await
    }

    /// Until it is ready, with pods that are.
    pub(crate) async fn until_ready(&self, name: &str) -> TenantControlPlane {
        eventually(&format!("{name} is ready"), || async {
            self.make_pods_ready(name).await;
            let tcp = self.control_plane(name).await;
            let status = tcp.status.clone().unwrap_or_default();
            when(status.phase() == Some(Phase::Ready), || format!("{status:#?}")).map(|()| tcp)
        })
        .await
    }

    /// Until the status says that the data is in this DataStore.
    pub(crate) async fn until_in(&self, name: &str, datastore: &str) -> TenantControlPlane {
        eventually(&format!("{name} is in {datastore}"), || async {
            let tcp = self.control_plane(name).await;
            let storage = tcp.status.clone().unwrap_or_default().storage.unwrap_or_default();
            let there = storage.data_store_name.as_deref() == Some(datastore);
            when(there, || format!("{:#?}", tcp.status)).map(|()| tcp)
        })
        .await
    }

    /// The same, and it is ready there.
    pub(crate) async fn until_ready_in(&self, name: &str, datastore: &str) -> TenantControlPlane {
        eventually(&format!("{name} is ready in {datastore}"), || async {
            self.make_pods_ready(name).await;
            let tcp = self.control_plane(name).await;
            let status = tcp.status.clone().unwrap_or_default();
            let storage = status.storage.as_ref();
            let there = storage.and_then(|storage| storage.data_store_name.as_deref()) == Some(datastore);
            when(there && status.phase() == Some(Phase::Ready), || format!("{status:#?}")).map(|()| tcp)
        })
        .await
    }

    /// Says of all pods of a control plane that they are ready, as a kubelet would.
    pub(crate) async fn make_pods_ready(&self, name: &str) {
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T12:00:00Z"}],
        }});
        let pods: Api<Pod> = self.api();
        for pod in pods.list(&of(name)).await.unwrap() {
            // It may be gone by now.
            let _ = pods
                .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status))
                .await;
        }
    }

    /// UID and version of every object of a control plane, by kind and name: `Secret mine-ca`.
    pub(crate) async fn objects(&self, name: &str) -> BTreeMap<String, (String, String)> {
        let mut found = BTreeMap::new();
        self.collect::<Secret>(name, &mut found).await;
        self.collect::<ConfigMap>(name, &mut found).await;
        self.collect::<Service>(name, &mut found).await;
        self.collect::<NetworkPolicy>(name, &mut found).await;
        self.collect::<Deployment>(name, &mut found).await;
        found
    }

    async fn collect<K>(&self, name: &str, into: &mut BTreeMap<String, (String, String)>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        for object in self.api::<K>().list(&of(name)).await.unwrap() {
            let key = format!("{} {}", K::kind(&()), object.name_any());
            into.insert(key, (object.uid().unwrap(), object.resource_version().unwrap()));
        }
    }
}

/// What carries the name of a control plane.
pub(crate) fn of(name: &str) -> ListParams {
    ListParams::default().labels(&format!("kamaji.clastix.io/name={name}"))
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
