//! A control plane on a store that is no etcd, in real pods: kine between a real kube-apiserver and a real NATS server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use std::collections::BTreeMap;
use std::time::Duration;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use bed::operator::Operator;
use bed::{create, datastore, install};
use control_plane_controller::Settings;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use testbed::{NatsFixture, SqlServer, eventually};

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
const PATIENCE: Duration = Duration::from_mins(8);

const NAMESPACE: &str = "tenants";
const PORT: u16 = 31443;

fn control_plane(name: &str, datastore: &str, address: &str, port: u16) -> Value {
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
            "dataStore": datastore,
            "kubernetes": {"version": "v1.36.3"},
            "networkProfile": {"address": address, "port": port},
            "addons": {},
        },
    })
}

/// A client of the hosted API server, with the kubeconfig that its owner gets.
async fn tenant(client: &Client, name: &str) -> Client {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get(&format!("{name}-admin-kubeconfig")).await.unwrap();
    let ByteString(yaml) = secret.data.unwrap()["admin.conf"].clone();
    let kubeconfig = Kubeconfig::from_yaml(std::str::from_utf8(&yaml).unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

async fn until_ready(client: &Client, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(PATIENCE, &format!("the pods of {name} are ready"), || async {
        let found = deployments.get(name).await.map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        if status.ready_replicas == Some(1) && status.unavailable_replicas.unwrap_or_default() == 0 {
            return Ok(());
        }
        let pods = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let states = pods.items.iter().filter_map(|pod| pod.status.as_ref());
        Err(format!("{:#?}", states.collect::<Vec<_>>()))
    })
    .await;
}

async fn until_refused(client: &Client, name: &str, message: &str) {
    let control_planes: Api<TenantControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(PATIENCE, &format!("{name} is refused"), || async {
        let found = control_planes.get(name).await.map_err(|error| error.to_string())?;
        let conditions = found.status.unwrap_or_default().conditions;
        let said = conditions.iter().any(|one| one.message.contains(message));
        if said { Ok(()) } else { Err(format!("{conditions:#?}")) }
    })
    .await;
}

/// What is written through a hosted API server is there, and lists work.
async fn use_it(client: &Client, name: &str) {
    let tenant = tenant(client, name).await;
    let config_maps: Api<ConfigMap> = Api::namespaced(tenant.clone(), "default");
    let written = BTreeMap::from([("answer".to_owned(), "42".to_owned())]);
    let kept: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "kept"}, "data": written})).unwrap();
    // Its owner is given rights once it answers.
    eventually(PATIENCE, "its owner may write", || async {
        let made = config_maps.create(&PostParams::default(), &kept).await;
        made.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    let read = config_maps.get("kept").await.unwrap();
    assert_eq!(read.data, Some(written));
    let namespaces: Api<Namespace> = Api::all(tenant);
    let listed = namespaces.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = listed.items.iter().map(ResourceExt::name_any).collect();
    assert!(names.iter().any(|name| name == "kube-system"), "{names:?}");
}

async fn delete(control_planes: &Api<TenantControlPlane>, name: &str) {
    control_planes.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, &format!("{name} is gone"), || async {
        let left = control_planes.get_opt(name).await.map_err(|error| error.to_string())?;
        left.map_or(Ok(()), |left| Err(format!("{left:#?}")))
    })
    .await;
}

/// A cluster with a node, our kinds and an operator, in which a control plane may use any store.
struct World {
    _operator: Operator,
    cluster: testbed::Cluster,
    client: Client,
    control_planes: Api<TenantControlPlane>,
}

impl World {
    async fn new() -> Self {
        let cluster = testbed::Cluster::start("kine").await;
        let client = cluster.client().await;
        install(&client, api::schema::crd::<DataStore>()).await;
        install(&client, api::schema::crd::<TenantControlPlane>()).await;
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": NAMESPACE}})).await;
        let version = local::programs::locate().unwrap().kine_version().unwrap();
        let settings = Settings {
            kine_image: format!("docker.io/rancher/kine:{version}"),
            ..Settings::default()
        };
        let operator = Operator::start(&client, settings);
        Self {
            control_planes: Api::namespaced(client.clone(), NAMESPACE),
            cluster,
            client,
            _operator: operator,
        }
    }

    /// Gives its UID, when its API server answers.
    async fn start(&self, name: &str, datastore: &str, port: u16) -> String {
        let made = self.create(name, datastore, port).await;
        until_ready(&self.client, name).await;
        use_it(&self.client, name).await;
        made.uid().unwrap()
    }

    async fn create(&self, name: &str, datastore: &str, port: u16) -> TenantControlPlane {
        let address = self.cluster.local().address().to_string();
        create(&self.control_planes, control_plane(name, datastore, &address, port)).await
    }

    async fn in_nats(&self) {
        let nats = NatsFixture::start_on(self.cluster.local().subnet().machine()).await;
        datastore::create(&self.client, NAMESPACE, "nats", &nats).await;
        let uid = self.start("first", "nats", PORT).await;
        let mut there = datastore::nats_store(&nats).await.unwrap();
        assert_eq!(there.held(&uid).await.unwrap().schemas, [uid.as_str()]);
        assert!(there.has_bucket(&uid).await.unwrap());

        // Nobody else gets in.
        self.create("second", "nats", PORT + 1).await;
        until_refused(&self.client, "second", "the current datastore is already in use").await;
        delete(&self.control_planes, "second").await;
        assert!(there.has_bucket(&uid).await.unwrap());
        delete(&self.control_planes, "first").await;
        assert!(there.held(&uid).await.unwrap().schemas.is_empty());
    }

    async fn in_sql(&self, sql: &SqlServer, name: &str, port: u16, databases: &str) {
        datastore::create(&self.client, NAMESPACE, name, sql).await;
        let uid = self.start(name, name, port).await;
        let found = sql.run(databases).await.unwrap();
        assert!(found.contains(&uid), "{found}");
        delete(&self.control_planes, name).await;
        let found = sql.run(databases).await.unwrap();
        assert!(!found.contains(&uid), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_in_nats_or_sql_keeps_its_objects_there_and_takes_them_along() {
    let world = World::new().await;
    let machine = world.cluster.local().subnet().machine();
    world.in_nats().await;
    let postgres = SqlServer::postgres_on(machine).await;
    let databases = "SELECT datname FROM pg_database";
    world.in_sql(&postgres, "postgres", PORT + 2, databases).await;
    let mariadb = SqlServer::mariadb_on(machine).await;
    world.in_sql(&mariadb, "mariadb", PORT + 3, "SHOW DATABASES").await;
}
