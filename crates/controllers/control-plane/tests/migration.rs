//! Data that moves from one etcd to another, with an operator that works against a real API server and, in the place of the
//! tenant's API server, a client of etcd with the tenant's own certificate: it writes, reads, and keeps count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::kamaji::v1alpha1::{DataStore, Phase, TenantControlPlane};
use control_plane_controller::{Settings, Watches, run};
use etcd_client::{Certificate, ConnectOptions, GetOptions, GetResponse, Identity, PutOptions, TlsOptions};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Namespace, Node, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use local::guard::GuardedDirectory;
use local::process::{Process, Spec};
use runtime::Shutdown;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{ApiServer, EtcdFixture, eventually, unique};
use tokio::sync::Mutex;

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
const PATIENCE: Duration = Duration::from_secs(240);

/// An operator that may be killed.
struct Operator(tokio::task::JoinHandle<()>);

impl Operator {
    fn start(client: &Client) -> Self {
        let (client, registry, shutdown) = (client.clone(), Registry::new(), Shutdown::new());
        let settings = Settings {
            default_datastore: Some("old".to_owned()),
            ..Settings::default()
        };
        let metrics = runtime::controller::Metrics::register(&registry);
        Self(tokio::spawn(async move {
            let watches = Watches::start(&client, &shutdown);
            let events = Recorder::new(client.clone(), "cotenant-operator", Some("test"));
            run(client, watches, events, settings, &registry, &metrics, shutdown.clone())
                .await
                .unwrap();
        }))
    }

    /// Ends it as `kill -9` does: wherever it is.
    async fn kill(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

/// A cluster with our kinds, and two etcds as the DataStores `old` and `new`.
struct World {
    server: ApiServer,
    old: EtcdFixture,
    new: EtcdFixture,
    client: Client,
    namespace: String,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::start().await;
        let (old, new) = (EtcdFixture::start().await, EtcdFixture::start().await);
        let client = server.client().await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in [
            api::schema::crd::<DataStore>(),
            api::schema::crd::<TenantControlPlane>(),
        ] {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        eventually(PATIENCE, "the kinds are served", || async {
            let tenants = Api::<TenantControlPlane>::all(client.clone());
            let stores = Api::<DataStore>::all(client.clone());
            tenants
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            stores
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        let namespace = unique("tenants");
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
        let nodes: Api<Node> = Api::all(client.clone());
        create::<Node>(
            &nodes,
            json!({"metadata": {"name": "admin-1"}, "spec": {"podCIDR": "10.244.7.0/24"}}),
        )
        .await;
        let world = Self {
            server,
            old,
            new,
            client,
            namespace,
        };
        world.create_datastore("old", &world.old).await;
        world.create_datastore("new", &world.new).await;
        world
    }

    async fn create_datastore(&self, name: &str, etcd: &EtcdFixture) {
        let secrets: Api<Secret> = self.api();
        let files = json!({
            "ca.crt": etcd.ca_cert_pem, "ca.key": etcd.ca_key_pem,
            "tls.crt": etcd.root_cert_pem, "tls.key": etcd.root_key_pem,
        });
        create(&secrets, json!({"metadata": {"name": name}, "stringData": files})).await;
        let content =
            |key: &str| json!({"secretReference": {"name": name, "namespace": self.namespace, "keyPath": key}});
        let tls = json!({
            "certificateAuthority": {"certificate": content("ca.crt"), "privateKey": content("ca.key")},
            "clientCertificate": {"certificate": content("tls.crt"), "privateKey": content("tls.key")},
        });
        let spec = json!({"driver": "etcd", "endpoints": [etcd.endpoint], "tlsConfig": tls});
        create::<DataStore>(
            &Api::all(self.client.clone()),
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A control plane that is ready in the store `old`. Its schema and its user are its UID.
    async fn control_plane(&self, name: &str, port: u16) -> String {
        let object = json!({
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "dataStore": "old",
                "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
                "kubernetes": {"version": "v1.36.3"},
                // Pods have the addresses of this machine here; endpoints of a Service must not be loopback ones.
                "networkProfile": {"address": "127.0.0.1", "advertiseAddress": "192.0.2.10", "port": port},
            },
        });
        let made = create(&self.api::<TenantControlPlane>(), object).await;
        self.until_ready_in(name, "old").await;
        made.uid().unwrap()
    }

    async fn get(&self, name: &str) -> TenantControlPlane {
        self.api().get(name).await.unwrap()
    }

    async fn ask_for(&self, name: &str, datastore: &str) {
        let patch = Patch::Merge(json!({"spec": {"dataStore": datastore}}));
        let tenants: Api<TenantControlPlane> = self.api();
        tenants.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Says of all pods of a control plane that they are ready, as a kubelet would.
    async fn make_pods_ready(&self, name: &str) {
        let labels = ListParams::default().labels(&format!("kamaji.clastix.io/name={name}"));
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T12:00:00Z"}],
        }});
        let pods: Api<Pod> = self.api();
        for pod in pods.list(&labels).await.unwrap() {
            let _ = pods
                .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status))
                .await;
        }
    }

    async fn until_ready_in(&self, name: &str, datastore: &str) -> TenantControlPlane {
        eventually(PATIENCE, &format!("{name} is ready in {datastore}"), || async {
            self.make_pods_ready(name).await;
            let tcp = self.get(name).await;
            let status = tcp.status.clone().unwrap_or_default();
            let there = status
                .storage
                .as_ref()
                .and_then(|storage| storage.data_store_name.as_deref());
            if status.phase() == Some(Phase::Ready) && there == Some(datastore) {
                Ok(tcp)
            } else {
                Err(format!("{status:#?}"))
            }
        })
        .await
    }

    async fn until_reason(&self, name: &str, reason: &str) {
        eventually(PATIENCE, &format!("{name} says {reason}"), || async {
            let conditions = self.get(name).await.status.unwrap_or_default().conditions;
            let found = conditions
                .iter()
                .any(|one| one.type_ == "DataStoreReady" && one.reason == reason);
            if found { Ok(()) } else { Err(format!("{conditions:#?}")) }
        })
        .await;
    }
}

/// The API server of a control plane, run as a program of this machine: what a kubelet would do, with the mounted files in a
/// directory instead of `/etc/kubernetes`.
struct Running {
    process: Process,
    _directory: GuardedDirectory,
}

impl Running {
    async fn start(world: &World, name: &str) -> Self {
        let directory = GuardedDirectory::create(&std::env::temp_dir(), "cotenant-moving-").unwrap();
        let root = directory.path().to_str().unwrap().to_owned();
        let deployment = world.api::<Deployment>().get(name).await.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let container = pod.containers.iter().find(|one| one.name == "kube-apiserver").unwrap();
        for mount in container.volume_mounts.iter().flatten() {
            let Some(path) = mount.mount_path.strip_prefix("/etc/kubernetes") else {
                continue;
            };
            let volume = pod
                .volumes
                .iter()
                .flatten()
                .find(|volume| volume.name == mount.name)
                .unwrap();
            let projected = volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten());
            let mut secrets: Vec<(String, Option<Vec<KeyToPath>>)> = projected
                .filter_map(|source| source.secret.clone())
                .map(|secret| (secret.name, secret.items))
                .collect();
            secrets.extend(
                volume
                    .secret
                    .iter()
                    .map(|secret| (secret.secret_name.clone().unwrap(), secret.items.clone())),
            );
            for (secret, items) in secrets {
                let data = world.api::<Secret>().get(&secret).await.unwrap().data.unwrap();
                let all = data.keys().map(|key| (key.clone(), key.clone())).collect();
                let files: Vec<(String, String)> = items.map_or(all, |items| {
                    items.into_iter().map(|item| (item.key, item.path)).collect()
                });
                for (key, file) in files {
                    let target = std::path::PathBuf::from(format!("{root}{path}/{file}"));
                    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                    std::fs::write(target, &data[&key].0).unwrap();
                }
            }
        }
        let arguments = container
            .args
            .iter()
            .flatten()
            .map(|one| one.replace("/etc/kubernetes", &root));
        let programs = local::programs::locate().unwrap();
        let program = programs.path(&container.command.as_ref().unwrap()[0]);
        let log = directory.path().join("kube-apiserver.log");
        let process = Process::start(Spec::new("kube-apiserver", program, log).args(arguments)).unwrap();
        Self {
            process,
            _directory: directory,
        }
    }

    /// Until it serves, with a client of its administrator.
    async fn ready(&self, world: &World, name: &str, port: u16) -> Client {
        let secret = world
            .api::<Secret>()
            .get(&format!("{name}-admin-kubeconfig"))
            .await
            .unwrap();
        let yaml = String::from_utf8(secret.data.unwrap()["super-admin.conf"].0.clone()).unwrap();
        let mut kubeconfig = kube::config::Kubeconfig::from_yaml(&yaml).unwrap();
        kubeconfig.clusters[0].cluster.as_mut().unwrap().server = Some(format!("https://127.0.0.1:{port}"));
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = runtime::client::build(config, "test").unwrap();
        eventually(PATIENCE, "the API server is ready", || async {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            let answer = client.request_text(request).await;
            answer.map_err(|error| format!("{error}\n{}", local::process::tail(self.process.log())))
        })
        .await;
        client
    }
}

/// A port of this machine, outside of the range that it gives to clients.
fn free_port(from: u16) -> u16 {
    let start = u16::try_from(std::process::id() % 400).unwrap();
    (0..400)
        .map(|step| from + (start + step * 7) % 400)
        .find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .unwrap()
}

/// A client of an etcd with a tenant's certificate.
async fn tenant(etcd: &EtcdFixture, user: &str) -> etcd_client::Client {
    let certificate = etcd.client_certificate(user);
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(&etcd.ca_cert_pem))
        .identity(Identity::from_pem(&certificate.cert_pem, &certificate.key_pem));
    let options = ConnectOptions::new()
        .with_tls(tls)
        .with_timeout(Duration::from_secs(10));
    etcd_client::Client::connect([etcd.url()], Some(options)).await.unwrap()
}

fn is_refusal(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("permission denied"))
}

/// Requests that were under way while rights changed are refused with this; clients of etcd try them again.
fn is_outdated(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("revision"))
}

fn key(uid: &str, number: usize) -> String {
    format!("/{uid}/registry/configmaps/default/{number:06}")
}

/// Objects of a kilobyte each.
async fn fill(client: &etcd_client::Client, uid: &str, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(200) {
        let puts = numbers.iter().map(|number| {
            let mut client = client.clone();
            let (key, value) = (key(uid, *number), format!("{number}:{}", "x".repeat(1000)));
            async move { client.put(key, value, None).await.map(drop) }
        });
        futures::future::try_join_all(puts).await.unwrap();
    }
}

/// What a tenant does meanwhile.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// Keys of which the store said that they are written.
    written: Arc<Mutex<Vec<(String, String)>>>,
    refused: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    /// Writes and reads one after another until it is stopped.
    fn start(client: &etcd_client::Client, uid: &str) -> Self {
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let (mut client, uid) = (client.clone(), uid.to_owned());
            let (stop, refused, written) = (stop.clone(), refused.clone(), written.clone());
            tokio::spawn(async move {
                for number in 0_usize.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // One key again and again, and new ones.
                    let name = if number.is_multiple_of(2) { number } else { 1 };
                    let (key, value) = (format!("/{uid}/registry/secrets/default/{name}"), number.to_string());
                    match client.put(key.as_str(), value.as_str(), None).await {
                        Ok(_) => {
                            written.lock().await.push((key, value));
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        Err(error) if is_refusal(&error) || is_outdated(&error) => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        let reader = {
            let (mut client, uid, stop) = (client.clone(), uid.to_owned(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let found = get(&mut client, &key(&uid, 7), None).await;
                    assert_eq!(found.kvs().len(), 1);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        Self {
            stop,
            written,
            refused,
            tasks: vec![writer, reader],
        }
    }

    /// What was written last under each key.
    async fn end(self) -> std::collections::BTreeMap<String, String> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.written.lock().await.drain(..).collect()
    }
}

/// Nothing that was ever acknowledged is missing.
async fn nothing_is_lost(
    etcd: &EtcdFixture,
    uid: &str,
    filled: usize,
    written: &std::collections::BTreeMap<String, String>,
) {
    let mut client = tenant(etcd, uid).await;
    for (key, value) in written {
        let found = get(&mut client, key, None).await;
        let found = found.kvs().first().map(|found| found.value_str().unwrap().to_owned());
        assert_eq!(found.as_ref(), Some(value), "{key}");
    }
    let options = GetOptions::new().with_prefix().with_count_only();
    let found = get(&mut client, &format!("/{uid}/registry/configmaps/"), Some(options)).await;
    assert_eq!(found.count(), i64::try_from(filled).unwrap());
}

async fn revision(client: &mut etcd_client::Client, uid: &str) -> i64 {
    let found = get(client, &key(uid, 0), None).await;
    found.header().unwrap().revision()
}

/// Reads as etcd's own clients do: once more where rights changed meanwhile, whosever they are.
async fn get(client: &mut etcd_client::Client, key: &str, options: Option<GetOptions>) -> GetResponse {
    loop {
        match client.get(key, options.clone()).await {
            Err(error) if is_outdated(&error) => {}
            found => return found.expect("reads never fail"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn data_moves_while_it_is_read_and_written_and_nothing_is_lost() {
    const OBJECTS: usize = 10_000;
    let world = World::new().await;
    let operator = Operator::start(&world.client);
    let uid = world.control_plane("mover", free_port(30500)).await;
    let mut at_old = tenant(&world.old, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    let lease = at_old.lease_grant(3600, None).await.unwrap().id();
    let event = format!("/{uid}/registry/events/default/one");
    let expires = PutOptions::new().with_lease(lease);
    at_old.put(event.as_str(), "event", Some(expires)).await.unwrap();
    let traffic = Traffic::start(&at_old, &uid);

    let began = Instant::now();
    world.ask_for("mover", "new").await;
    world.until_reason("mover", "Migrating").await;
    eventually(PATIENCE, "writes wait", || async {
        let refused = traffic.refused.load(Ordering::SeqCst);
        if refused > 0 {
            Ok(())
        } else {
            Err("none is refused".to_owned())
        }
    })
    .await;
    let frozen = Instant::now();
    // Leases are renewed also then, or nodes and components would stop.
    at_old
        .put(format!("/{uid}/leases/kube-system/kube-scheduler"), "renewed", None)
        .await
        .unwrap();
    let tcp = eventually(PATIENCE, "the switch is published", || async {
        let tcp = world.get("mover").await;
        let storage = tcp.status.clone().unwrap_or_default().storage.unwrap_or_default();
        if storage.data_store_name.as_deref() == Some("new") {
            Ok(tcp)
        } else {
            Err(format!("{storage:?}"))
        }
    })
    .await;
    let switched = Instant::now();
    assert_eq!(tcp.status.unwrap().phase(), Some(Phase::Migrating));
    // The account there does not last.
    let left_at = revision(&mut at_old, &uid).await;
    world.until_ready_in("mover", "new").await;
    println!(
        "objects={OBJECTS} copy_ms={} switch_ms={} pods_ms={}",
        frozen.duration_since(began).as_millis(),
        switched.duration_since(frozen).as_millis(),
        switched.elapsed().as_millis(),
    );

    let written = traffic.end().await;
    assert!(written.len() > 10, "{}", written.len());
    nothing_is_lost(&world.new, &uid, OBJECTS, &written).await;
    // What expires still does, and watches that begin anew cannot miss anything: revisions went on.
    let mut at_new = tenant(&world.new, &uid).await;
    let found = get(&mut at_new, &event, None).await;
    assert_ne!(found.kvs()[0].lease(), 0);
    assert!(revision(&mut at_new, &uid).await > left_at - 10);
    // The tenant writes there, and the pods know.
    at_new.put(key(&uid, 0), "again", None).await.unwrap();
    let deployment = world.api::<Deployment>().get("mover").await.unwrap();
    let deployment = serde_json::to_string(&deployment.spec).unwrap();
    assert!(deployment.contains(&world.new.endpoint) && !deployment.contains(&world.old.endpoint));
    // Nothing is left behind.
    eventually(PATIENCE, "the first store is empty", || async {
        let keys = world.old.etcdctl(&["get", "--prefix", "--keys-only", "/"]).await?;
        let roles = world.old.etcdctl(&["role", "list"]).await?;
        if keys.contains(&uid) || roles.contains(&uid) {
            Err(keys.chars().take(300).collect())
        } else {
            Ok(())
        }
    })
    .await;
    let records = world
        .new
        .etcdctl(&["get", "--prefix", "--keys-only", "/cotenant.dev/migrations/"]);
    assert_eq!(records.await.unwrap().trim(), "");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_target_that_fails_leaves_everything_as_it_was_until_it_is_back() {
    const OBJECTS: usize = 5_000;
    let world = World::new().await;
    let operator = Operator::start(&world.client);
    let uid = world.control_plane("mover", free_port(30900)).await;
    let at_old = tenant(&world.old, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    let traffic = Traffic::start(&at_old, &uid);
    world.ask_for("mover", "new").await;
    let mut at_new = tenant(&world.new, "root").await;
    // Before the first key, because a fast machine is soon done with them.
    let begun = async {
        // Also a list is refused while rights change.
        while !at_new.role_list().await.is_ok_and(|roles| roles.roles().contains(&uid)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    world.new.freeze(true).await;
    world.until_reason("mover", "MigrationInterrupted").await;
    // Writes are taken by the first store.
    let before = traffic.written.lock().await.len();
    eventually(PATIENCE, "writes go on", || async {
        let now = traffic.written.lock().await.len();
        if now > before + 10 {
            Ok(())
        } else {
            Err(format!("{before} {now}"))
        }
    })
    .await;
    let status = world.get("mover").await.status.unwrap();
    assert_eq!(status.storage.unwrap().data_store_name.as_deref(), Some("old"));

    // It is given up, and nothing is in the way of trying again.
    world.ask_for("mover", "old").await;
    world.until_ready_in("mover", "old").await;
    world.new.freeze(false).await;
    world.ask_for("mover", "new").await;
    world.until_ready_in("mover", "new").await;
    nothing_is_lost(&world.new, &uid, OBJECTS, &traffic.end().await).await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn operators_that_are_killed_at_any_moment_end_where_one_would() {
    const OBJECTS: usize = 1_000;
    let world = World::new().await;
    let operator = Operator::start(&world.client);
    let uid = world.control_plane("mover", free_port(31300)).await;
    let at_old = tenant(&world.old, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    operator.kill().await;
    let traffic = Traffic::start(&at_old, &uid);
    world.ask_for("mover", "new").await;
    for lived_ms in (0_u64..12).map(|round| 150 + round * 130) {
        let operator = Operator::start(&world.client);
        tokio::time::sleep(Duration::from_millis(lived_ms)).await;
        operator.kill().await;
        world.make_pods_ready("mover").await;
    }
    let operator = Operator::start(&world.client);
    world.until_ready_in("mover", "new").await;
    nothing_is_lost(&world.new, &uid, OBJECTS, &traffic.end().await).await;
    tenant(&world.new, &uid)
        .await
        .put(key(&uid, 0), "again", None)
        .await
        .unwrap();

    // And when it is deleted, nothing stays anywhere.
    let tenants: Api<TenantControlPlane> = world.api();
    tenants.delete("mover", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "it is gone", || async {
        match tenants.get_opt("mover").await.unwrap() {
            None => Ok(()),
            Some(tcp) => Err(format!("{:#?}", tcp.status)),
        }
    })
    .await;
    for etcd in [&world.old, &world.new] {
        let keys = etcd.etcdctl(&["get", "--prefix", "--keys-only", "/"]).await.unwrap();
        assert!(!keys.contains(&uid), "{keys}");
    }
    drop(world.server);
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_real_api_server_starts_on_the_other_store_before_it_may_be_written_to() {
    let world = World::new().await;
    let operator = Operator::start(&world.client);
    let port = free_port(31700);
    world.control_plane("real", port).await;
    let mut first = Running::start(&world, "real").await;
    let client = first.ready(&world, "real", port).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let write = async |maps: &Api<ConfigMap>, name: &str| {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        maps.create(&PostParams::default(), &map).await
    };
    let kept = eventually(PATIENCE, "something is written", || async {
        write(&maps, "kept").await.map_err(|error| error.to_string())
    })
    .await;

    world.ask_for("real", "new").await;
    eventually(PATIENCE, "the switch is published", || async {
        let storage = world
            .get("real")
            .await
            .status
            .unwrap_or_default()
            .storage
            .unwrap_or_default();
        let there = storage.data_store_name.as_deref() == Some("new");
        if there { Ok(()) } else { Err(format!("{storage:?}")) }
    })
    .await;
    let refused = async |maps: &Api<ConfigMap>| match write(maps, "late").await {
        Err(kube::Error::Api(status)) => status.message.contains("permission denied"),
        _ => false,
    };
    assert!(refused(&maps).await, "the first store is not written to any more");
    assert_eq!(maps.get("kept").await.unwrap().uid(), kept.uid(), "but it is read");
    first.process.stop(Duration::from_secs(30));

    let second = Running::start(&world, "real").await;
    let client = second.ready(&world, "real", port).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    assert_eq!(maps.get("kept").await.unwrap().uid(), kept.uid());
    assert!(refused(&maps).await, "not before all pods use it");
    world.until_ready_in("real", "new").await;
    eventually(PATIENCE, "it is written to", || async {
        write(&maps, "late").await.map_err(|error| error.to_string())
    })
    .await;
    // Whoever watched before has to list again, and learns it.
    let version = kept.resource_version().unwrap();
    let watch = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion={version}");
    let request = http::Request::get(watch).body(Vec::new()).unwrap();
    let answer = match client.request_text(request).await {
        Ok(text) => text,
        Err(error) => format!("{error:?}"),
    };
    assert!(answer.contains("410"), "{answer}");
    operator.kill().await;
}
