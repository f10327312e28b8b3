//! A control plane on a store that is no etcd, in real pods: kine between a real kube-apiserver and a real NATS server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use control_plane_controller::datastore::nats::{NatsLogin, NatsStore};
use control_plane_controller::datastore::pod_access::SharedLogin;
use control_plane_controller::datastore::tls::ClientTls;
use control_plane_controller::{Settings, Watches, run};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use pki::KeyPair;
use runtime::Shutdown;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{NatsFixture, SqlServer, eventually};

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
const PATIENCE: Duration = Duration::from_mins(8);

const NAMESPACE: &str = "tenants";
const PORT: u16 = 31443;

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

async fn serve_kinds(client: &Client) {
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for kind in [
        api::schema::crd::<DataStore>(),
        api::schema::crd::<TenantControlPlane>(),
    ] {
        let name = kind.name_any();
        kinds.create(&PostParams::default(), &kind).await.unwrap();
        eventually(PATIENCE, "the kind is served", || async {
            let found = kinds.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let mut established = conditions.iter().filter(|one| one.type_ == "Established");
            let served = established.any(|one| one.status == "True");
            if served { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    }
}

fn operate(client: &Client, kine_image: String) -> tokio::task::JoinHandle<()> {
    let (client, registry, shutdown) = (client.clone(), Registry::new(), Shutdown::new());
    let settings = Settings {
        kine_image,
        ..Settings::default()
    };
    let metrics = runtime::controller::Metrics::register(&registry);
    tokio::spawn(async move {
        let watches = Watches::start(&client, &shutdown);
        let events = Recorder::new(client.clone(), "cotenant-operator", Some("test"));
        run(client, watches, events, settings, &registry, &metrics, shutdown.clone())
            .await
            .unwrap();
    })
}

/// A server that a DataStore names.
struct Server<'a> {
    name: &'static str,
    driver: &'static str,
    endpoint: &'a str,
    user: &'a str,
    password: &'a str,
    ca_cert_pem: &'a str,
    client: &'a KeyPair,
}

/// As its administrator would write it, with credentials in a Secret.
async fn create_datastore(client: &Client, server: &Server<'_>) {
    let Server { name, driver, .. } = server;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let values = json!({
        "username": server.user, "password": server.password, "ca.crt": server.ca_cert_pem,
        "tls.crt": server.client.cert_pem, "tls.key": server.client.key_pem,
    });
    create::<Secret>(&secrets, json!({"metadata": {"name": name}, "stringData": values})).await;
    let from = |key: &str| json!({"secretReference": {"name": name, "namespace": NAMESPACE, "keyPath": key}});
    let spec = json!({
        "driver": driver,
        "endpoints": [server.endpoint],
        "basicAuth": {"username": from("username"), "password": from("password")},
        "tlsConfig": {
            "certificateAuthority": {"certificate": from("ca.crt")},
            "clientCertificate": {"certificate": from("tls.crt"), "privateKey": from("tls.key")},
        },
    });
    create::<DataStore>(
        &Api::all(client.clone()),
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await;
}

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

async fn store(nats: &NatsFixture) -> NatsStore {
    let login = NatsLogin {
        endpoint: nats.endpoint.clone(),
        login: SharedLogin {
            user: nats.user.clone(),
            password: nats.password.clone(),
        },
        tls: Some(ClientTls {
            ca_pem: nats.ca_cert_pem.clone(),
            client: Some(nats.client.clone()),
        }),
    };
    NatsStore::connect(&login).await.unwrap()
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
    cluster: testbed::Cluster,
    client: Client,
    control_planes: Api<TenantControlPlane>,
    operator: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let cluster = testbed::Cluster::start("kine").await;
        let client = cluster.client().await;
        serve_kinds(&client).await;
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": NAMESPACE}})).await;
        let version = local::programs::locate().unwrap().kine_version().unwrap();
        let operator = operate(&client, format!("docker.io/rancher/kine:{version}"));
        Self {
            control_planes: Api::namespaced(client.clone(), NAMESPACE),
            cluster,
            client,
            operator,
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
        let server = Server {
            name: "nats",
            driver: "NATS",
            endpoint: &nats.endpoint,
            user: &nats.user,
            password: &nats.password,
            ca_cert_pem: &nats.ca_cert_pem,
            client: &nats.client,
        };
        create_datastore(&self.client, &server).await;
        let uid = self.start("first", "nats", PORT).await;
        let mut there = store(&nats).await;
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

    async fn in_sql(&self, sql: &SqlServer, name: &'static str, port: u16, databases: &str) {
        let server = Server {
            name,
            driver: sql.driver(),
            endpoint: &sql.endpoint,
            user: &sql.user,
            password: &sql.password,
            ca_cert_pem: &sql.ca_cert_pem,
            client: &sql.client,
        };
        create_datastore(&self.client, &server).await;
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
    world.operator.abort();
}
