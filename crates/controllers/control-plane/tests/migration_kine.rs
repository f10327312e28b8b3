//! Data that moves between stores of different drivers, with real servers, an operator that works against a real API server
//! and, in the place of the tenant's API server, a client of etcd with the tenant's own certificate, or of a real kine with the
//! tenant's own password. It writes, reads, and keeps count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use api::kamaji::names::PASSWORD_KNOWN_ANNOTATION;
use api::kamaji::v1alpha1::DataStore;
use bed::operator::Operator;
use bed::traffic::{Traffic, Written, written_name};
use bed::{World, datastore, eventually, when};
use etcd_client::{
    Certificate, Client as EtcdClient, Compare, CompareOp, ConnectOptions, Error as EtcdError, GetOptions, Identity,
    PutOptions, TlsOptions, Txn, TxnOp,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use local::guard::GuardedDirectory;
use local::ports;
use local::process::{Process, Spec};
use serde_json::json;
use testbed::{EtcdFixture, NatsFixture, SqlServer};
use tokio::task::AbortHandle;

impl World {
    /// The control plane `mover`, ready in the store `etcd` and with objects there. Its schema is its UID.
    async fn mover_in_etcd(&self, objects: usize) -> (String, Tenant) {
        let made = self.create_control_plane("mover", json!({"dataStore": "etcd"})).await;
        self.until_ready_in("mover", "etcd").await;
        let uid = made.uid().unwrap();
        let tenant = Tenant::of_etcd(&self.etcd, &uid).await;
        fill(&tenant, objects).await;
        (uid, tenant)
    }

    async fn secret(&self, name: &str) -> BTreeMap<String, String> {
        let data = self.api::<Secret>().get(name).await.unwrap().data.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        data.into_iter().map(|(key, value)| (key, text(value.0))).collect()
    }
}

/// The kine of a control plane's pod, run as a program of this machine: what a kubelet would do, with a port instead of a
/// socket.
struct Kine {
    process: Process,
    port: u16,
    _directory: GuardedDirectory,
}

impl Kine {
    async fn start(world: &World, name: &str) -> Self {
        let directory = GuardedDirectory::create(&std::env::temp_dir(), "cotenant-kine-").unwrap();
        let root = directory.path().to_str().unwrap();
        for (file, content) in world.secret(&format!("{name}-datastore-certificate")).await {
            write_secret(&directory.path().join(file), &content);
        }
        let deployment = world.api::<Deployment>().get(name).await.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let container = pod.containers.iter().find(|one| one.name == "kine").unwrap();
        let variables = world.secret(&format!("{name}-datastore-config")).await;
        let port = ports::free(ports::UNCLAIMED).unwrap();
        let arguments = container.args.iter().flatten().map(|argument| {
            let mut argument = argument.replace("/certs", root);
            for (name, value) in &variables {
                argument = argument.replace(&format!("$({name})"), value);
            }
            argument.replace("unix:///uds/kine", &format!("tcp://127.0.0.1:{port}"))
        });
        let arguments = arguments.chain(["--metrics-bind-address=0".to_owned()]);
        let program = local::programs::locate().unwrap().path("kine");
        let log = directory.path().join("kine.log");
        let process = Process::start(Spec::new("kine", program, log).args(arguments)).unwrap();
        Self {
            process,
            port,
            _directory: directory,
        }
    }

    async fn tenant(&self) -> Tenant {
        let address = format!("http://127.0.0.1:{}", self.port);
        let client = eventually("kine answers", || async {
            let connected = EtcdClient::connect([&address], None).await;
            let mut client = connected.map_err(|error| error.to_string())?;
            let asked = client.get("/registry/health", None).await;
            let asked = asked.map_err(|error| format!("{error}\n{}", local::process::tail(self.process.log())))?;
            when(asked.kvs().len() == 1, || "there is no health".to_owned())?;
            Ok(client)
        })
        .await;
        Tenant {
            client,
            prefix: "/registry/".to_owned(),
        }
    }
}

fn write_secret(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Whoever writes and reads a control plane's keys.
#[derive(Clone)]
struct Tenant {
    client: EtcdClient,
    prefix: String,
}

impl Tenant {
    async fn of_etcd(etcd: &EtcdFixture, uid: &str) -> Self {
        let certificate = etcd.client_certificate(uid);
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&etcd.ca_cert_pem))
            .identity(Identity::from_pem(&certificate.cert_pem, &certificate.key_pem));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_timeout(Duration::from_secs(20));
        Self {
            client: EtcdClient::connect([etcd.url()], Some(options)).await.unwrap(),
            prefix: format!("/{uid}/"),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Writes as API servers do. Gives whether it is written.
    async fn put(&mut self, name: &str, value: &str) -> Result<bool, EtcdError> {
        self.put_with(name, value, None).await
    }

    async fn put_with(&mut self, name: &str, value: &str, options: Option<PutOptions>) -> Result<bool, EtcdError> {
        let key = self.key(name);
        let found = self.get(name).await?;
        let revision = found.map_or(0, |(_, revision)| revision);
        let compare = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
        let put = TxnOp::put(key.as_str(), value, options);
        let mut transaction = Txn::new().when([compare]).and_then([put]);
        if revision != 0 {
            transaction = transaction.or_else([TxnOp::get(key.as_str(), None)]);
        }
        Ok(self.client.txn(transaction).await?.succeeded())
    }

    /// Deletes as API servers do. Gives whether it is gone.
    async fn delete(&mut self, name: &str) -> Result<bool, EtcdError> {
        let key = self.key(name);
        let Some((_, revision)) = self.get(name).await? else {
            return Ok(false);
        };
        let transaction = Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)])
            .and_then([TxnOp::delete(key.as_str(), None)])
            .or_else([TxnOp::get(key.as_str(), None)]);
        Ok(self.client.txn(transaction).await?.succeeded())
    }

    /// Value and revision.
    async fn get(&mut self, name: &str) -> Result<Option<(String, i64)>, EtcdError> {
        let key = self.key(name);
        loop {
            match self.client.get(key.as_str(), None).await {
                // Clients of etcd try again where rights changed meanwhile.
                Err(EtcdError::GRpcStatus(status)) if status.message().contains("revision") => {}
                found => {
                    let found = found?;
                    let entry = found.kvs().first();
                    return Ok(entry.map(|kv| (kv.value_str().unwrap().to_owned(), kv.mod_revision())));
                }
            }
        }
    }

    async fn all(&mut self, below: &str) -> BTreeMap<String, String> {
        let options = GetOptions::new().with_prefix();
        let mut kv = self.client.kv_client().max_decoding_message_size(64 * 1024 * 1024);
        let found = kv.get(self.key(below), Some(options)).await.unwrap();
        let name = |key: &str| key.strip_prefix(&self.prefix).unwrap().to_owned();
        let entries = found.kvs().iter();
        entries
            .map(|kv| (name(kv.key_str().unwrap()), kv.value_str().unwrap().to_owned()))
            .collect()
    }

    /// Without what is written all the time, and without kine's own.
    async fn all_that_lasts(&mut self) -> BTreeMap<String, String> {
        let mut found = self.all("").await;
        found.retain(|name, _| !name.starts_with("leases/") && name != EXPIRES && name != "health");
        found
    }

    /// For an hour.
    async fn put_event(&mut self) {
        let lease = self.client.lease_grant(3600, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        assert!(self.put_with(EVENT, "event", Some(options)).await.unwrap());
    }

    /// What API servers say of themselves, for a second.
    async fn says_that_it_lives(&mut self) -> Result<bool, EtcdError> {
        let lease = self.client.lease_grant(1, None).await?.id();
        let options = PutOptions::new().with_lease(lease);
        self.put_with(EXPIRES, "lives", Some(options)).await
    }

    /// What API servers do every five minutes. kine keeps their mark under a name of its own.
    async fn mark_compaction(&mut self) {
        let key = "compact_rev_key";
        let transaction = Txn::new()
            .when([Compare::version(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, "0", None)])
            .or_else([TxnOp::get(key, None)]);
        assert!(self.client.txn(transaction).await.unwrap().succeeded());
    }

    async fn revision(&mut self) -> i64 {
        let found = self
            .client
            .get(self.key("configmaps/default/000000"), None)
            .await
            .unwrap();
        found.header().unwrap().revision()
    }
}

fn object(number: usize) -> (String, String) {
    let name = format!("configmaps/default/{number:06}");
    // A value that is no text in any of the databases' sense of it.
    let value = format!("{number}:'\\\"`\u{1}\u{fffd}{}", "x".repeat(1000));
    (name, value)
}

/// Objects of a kilobyte each, into an etcd.
async fn fill(tenant: &Tenant, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(200) {
        let puts = numbers.iter().map(|number| {
            let mut client = tenant.client.clone();
            let (name, value) = object(*number);
            let key = tenant.key(&name);
            async move { client.put(key, value, None).await.map(drop) }
        });
        futures::future::try_join_all(puts).await.unwrap();
    }
}

/// Of the new keys, some go again. Those of one move are not those of another: what one was refused to delete, the next may
/// delete.
fn traffic(tenant: &Tenant, to: &str) -> Traffic {
    let (writer, reader, to) = (tenant.clone(), tenant.clone(), to.to_owned());
    Traffic::start(
        move |number| {
            let (mut tenant, value) = (writer.clone(), number.to_string());
            let name = format!("{}-{to}", written_name(number));
            async move {
                if !tenant.put(&name, &value).await.unwrap_or_default() {
                    Written::Refused
                } else if number % 10 == 4 && tenant.delete(&name).await.unwrap_or_default() {
                    Written::Deleted(name)
                } else {
                    Written::Put(name, value)
                }
            }
        },
        move || {
            let mut tenant = reader.clone();
            async move {
                let found = tenant.get(&object(7).0).await.expect("reads never fail");
                assert!(found.is_some(), "what is there is found");
            }
        },
    )
}

/// Nothing that was ever acknowledged is missing or changed, and nothing else is there.
async fn nothing_is_lost(tenant: &mut Tenant, objects: usize, written: &BTreeMap<String, String>) {
    let found = tenant.all("configmaps/").await;
    assert_eq!(found.len(), objects);
    for number in 0..objects {
        let (name, value) = object(number);
        assert_eq!(found.get(&name), Some(&value), "{name}");
    }
    let found = tenant.all("secrets/").await;
    for (name, value) in written {
        assert_eq!(found.get(name), Some(value), "{name}");
    }
}

/// Leases of the components, which are written all the time.
const LEASES: [&str; 2] = ["leases/kube-system/kube-scheduler", "leases/kube-node-lease/worker"];

const EVENT: &str = "events/default/one";

/// Behind kine it has the same lease all the time, by its number.
const EXPIRES: &str = "masterleases/10.0.0.1";

/// Renews leases without a pause until it is aborted.
fn renew(tenant: &Tenant) -> AbortHandle {
    let mut tenant = tenant.clone();
    let renewing = async move {
        for number in 0.. {
            for lease in LEASES {
                // What is refused once is tried again, as components do.
                drop(tenant.put(lease, &format!("renewed {number}")).await);
            }
            drop(tenant.says_that_it_lives().await);
        }
    };
    tokio::spawn(renewing).abort_handle()
}

/// While all else is refused; and that uses up no revision of a table's, where kine would wait for it.
async fn leases_are_renewed(tenant: &Tenant, traffic: &Traffic) {
    let mut revisions = Vec::new();
    for lease in LEASES {
        traffic.until_refused().await;
        let what = format!("{lease} is renewed while writes wait");
        let renewed = eventually(&what, || async {
            let mut tenant = tenant.clone();
            let renewed = tenant.put(lease, "renewed at last").await;
            when(renewed.map_err(|error| error.to_string())?, || "it is not".to_owned())?;
            let found = tenant.get(lease).await.map_err(|error| error.to_string())?;
            Ok(found.unwrap().1)
        });
        revisions.push(renewed.await);
    }
    if tenant.prefix == "/registry/" {
        assert_eq!(revisions[1], revisions[0] + 1);
    }
}

/// What one move took, and what holds afterwards.
async fn moves(world: &World, from: &mut Tenant, to: &str, objects: usize, written: &mut BTreeMap<String, String>) {
    let renewing = renew(from);
    let traffic = traffic(from, to);
    traffic.until_writing().await;
    let began = Instant::now();
    world.change("mover", json!({"dataStore": to})).await;
    traffic.until_refused().await;
    let frozen = Instant::now();
    renewing.abort();
    let switched = async {
        world.until_in("mover", to).await;
        frozen.elapsed()
    };
    let (switched, ()) = tokio::join!(switched, leases_are_renewed(from, &traffic));
    println!(
        "to={to} objects={objects} copy_ms={} switch_ms={}",
        frozen.duration_since(began).as_millis(),
        switched.as_millis()
    );
    written.extend(traffic.end().await);
    assert!(written.len() > 5, "{}", written.len());
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let failed = events
        .items
        .iter()
        .filter(|event| event.reason.as_deref() == Some("MigrationInterrupted"));
    let failed: Vec<_> = failed.map(|event| &event.note).collect();
    assert!(failed.is_empty(), "the first attempt is the last: {failed:?}");
}

/// A move to what kine reads, and what holds there before pods use it.
async fn moves_behind_kine(
    world: &World,
    from: &mut Tenant,
    to: &str,
    objects: usize,
    written: &mut BTreeMap<String, String>,
) -> (Kine, Tenant) {
    moves(world, from, to, objects, written).await;
    let kine = Kine::start(world, "mover").await;
    let mut tenant = kine.tenant().await;
    is_whole(&mut tenant, from, objects, written).await;
    (kine, tenant)
}

/// All is there that was in the store that was left, and nothing else.
async fn is_whole(tenant: &mut Tenant, left: &mut Tenant, objects: usize, written: &BTreeMap<String, String>) {
    nothing_is_lost(tenant, objects, written).await;
    assert_eq!(tenant.all_that_lasts().await, left.all_that_lasts().await);
    assert!(tenant.revision().await > left.revision().await, "revisions go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn data_moves_from_etcd_to_postgres_and_nothing_is_lost() {
    const OBJECTS: usize = 10_000;
    let world = World::with_node("etcd").await;
    let postgres = SqlServer::postgres().await;
    world.add_datastore("postgres", &postgres).await;
    let operator = world.operate();
    let (_, mut at_etcd) = world.mover_in_etcd(OBJECTS).await;
    at_etcd.put_event().await;
    let mut written = BTreeMap::new();

    let (_kine, mut at_postgres) = moves_behind_kine(&world, &mut at_etcd, "postgres", OBJECTS, &mut written).await;
    let left_at = at_etcd.revision().await;
    assert!(
        !at_postgres
            .put("secrets/default/late", "late")
            .await
            .unwrap_or_default(),
        "not before all pods use it"
    );
    world.until_ready_in("mover", "postgres").await;
    assert!(at_postgres.put("secrets/default/late", "late").await.unwrap());
    assert_eq!(at_postgres.get(EVENT).await.unwrap().unwrap().0, "event");
    // Whoever watched before has to list again, and learns it.
    let options = etcd_client::WatchOptions::new()
        .with_prefix()
        .with_start_revision(left_at - 100);
    let mut watch = at_postgres.client.watch("/registry/", Some(options)).await.unwrap();
    let told = async {
        while let Ok(Some(told)) = watch.message().await {
            if told.compact_revision() > 0 {
                return true;
            }
        }
        false
    };
    let told = tokio::time::timeout(Duration::from_mins(1), told).await;
    assert_eq!(told.ok(), Some(true), "history is gone");

    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn data_moves_from_etcd_through_both_databases_and_back_again() {
    const OBJECTS: usize = 2_000;
    let world = World::with_node("etcd").await;
    let (postgres, mariadb) = (SqlServer::postgres().await, SqlServer::mariadb().await);
    world.add_datastore("postgres", &postgres).await;
    world.add_datastore("mariadb", &mariadb).await;
    let operator = world.operate();
    let (uid, mut at_etcd) = world.mover_in_etcd(OBJECTS).await;
    let mut written = BTreeMap::new();

    let (first_kine, mut at_postgres) =
        moves_behind_kine(&world, &mut at_etcd, "postgres", OBJECTS, &mut written).await;
    world.until_ready_in("mover", "postgres").await;
    at_postgres.mark_compaction().await;

    let (second_kine, mut at_mariadb) =
        moves_behind_kine(&world, &mut at_postgres, "mariadb", OBJECTS, &mut written).await;
    assert!(
        !at_mariadb.put("secrets/default/late", "late").await.unwrap_or_default(),
        "not before all pods use it"
    );
    world.until_ready_in("mover", "mariadb").await;
    drop(first_kine);
    until_gone("postgres", &uid, || postgres.run("SELECT datname FROM pg_database")).await;
    at_mariadb.mark_compaction().await;

    moves(&world, &mut at_mariadb, "etcd", OBJECTS, &mut written).await;
    let mut at_etcd = Tenant::of_etcd(&world.etcd, &uid).await;
    is_whole(&mut at_etcd, &mut at_mariadb, OBJECTS, &written).await;
    world.until_ready_in("mover", "etcd").await;
    assert!(at_etcd.put("secrets/default/late", "late").await.unwrap());
    drop(second_kine);
    until_gone("mariadb", &uid, || mariadb.run("SHOW DATABASES")).await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn data_moves_into_nats_and_from_there_to_another_and_out_again() {
    const OBJECTS: usize = 2_000;
    let world = World::with_node("etcd").await;
    let (postgres, nats, another) = (
        SqlServer::postgres().await,
        NatsFixture::start().await,
        NatsFixture::start().await,
    );
    world.add_datastore("postgres", &postgres).await;
    world.add_datastore("nats", &nats).await;
    world.add_datastore("another", &another).await;
    let operator = world.operate();
    let (uid, mut at_etcd) = world.mover_in_etcd(OBJECTS).await;
    at_etcd.put_event().await;
    let mut written = BTreeMap::new();

    let (kine, mut at_nats) = moves_behind_kine(&world, &mut at_etcd, "nats", OBJECTS, &mut written).await;
    let left_at = at_etcd.revision().await;
    assert_eq!(at_nats.get(EVENT).await.unwrap().unwrap().0, "event");
    let datastores: Api<DataStore> = Api::all(world.client.clone());
    let known = datastores.get("nats").await.unwrap().annotations()[PASSWORD_KNOWN_ANNOTATION].clone();
    assert!(known.starts_with(&uid), "{known}");
    world.until_ready_in("mover", "nats").await;
    assert!(at_nats.put("secrets/default/late", "late").await.unwrap());
    assert!(at_nats.delete("secrets/default/late").await.unwrap());
    let (_, object_revision) = at_nats.get(&object(7).0).await.unwrap().unwrap();
    assert!(object_revision > left_at, "of objects as well");

    let (next_kine, mut at_another) = moves_behind_kine(&world, &mut at_nats, "another", OBJECTS, &mut written).await;
    world.until_ready_in("mover", "another").await;
    drop(kine);
    until_gone("nats", &uid, || bucket(&nats, &uid)).await;

    let (_last_kine, mut at_postgres) =
        moves_behind_kine(&world, &mut at_another, "postgres", OBJECTS, &mut written).await;
    world.until_ready_in("mover", "postgres").await;
    assert!(at_postgres.put("secrets/default/late", "late").await.unwrap());
    let secret = world.secret("mover-datastore-config").await;
    assert_ne!(
        secret["DB_PASSWORD"], another.password,
        "that is everybody's who is there"
    );
    drop(next_kine);
    until_gone("another", &uid, || bucket(&another, &uid)).await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_nats_that_fails_leaves_everything_where_it_was_until_it_is_back() {
    const OBJECTS: usize = 3_000;
    let world = World::with_node("etcd").await;
    let (nats, another) = (NatsFixture::start().await, NatsFixture::start().await);
    world.add_datastore("nats", &nats).await;
    world.add_datastore("another", &another).await;
    let operator = world.operate();
    let (uid, at_etcd) = world.mover_in_etcd(OBJECTS).await;
    let (operator, mut written) = {
        operator.kill().await;
        moves_with_killed_operators(&world, &at_etcd, "nats").await
    };
    let kine = Kine::start(&world, "mover").await;
    let mut at_nats = kine.tenant().await;
    nothing_is_lost(&mut at_nats, OBJECTS, &written).await;

    let traffic = traffic(&at_nats, "another");
    world.change("mover", json!({"dataStore": "another"})).await;
    until_there("another", &uid, || bucket(&another, &uid)).await;
    another.stop().await;
    world
        .until_condition("mover", "DataStoreReady", "MigrationInterrupted")
        .await;
    traffic.until_writing().await;
    world.until_in("mover", "nats").await;
    another.restart().await;
    world.until_ready_in("mover", "another").await;
    written.extend(traffic.end_where_it_was_left().await);
    let next_kine = Kine::start(&world, "mover").await;
    let mut at_another = next_kine.tenant().await;
    nothing_is_lost(&mut at_another, OBJECTS, &written).await;
    drop(kine);
    until_gone("nats", &uid, || bucket(&nats, &uid)).await;

    // Whoever has left knows the password, so nobody else gets in with it.
    let second = world.create_control_plane("second", json!({"dataStore": "etcd"})).await;
    world.until_ready_in("second", "etcd").await;
    world.change("second", json!({"dataStore": "nats"})).await;
    world.until_condition("second", "DataStoreReady", "PasswordKnown").await;
    world.until_in("second", "etcd").await;
    assert_eq!(bucket(&nats, &second.uid().unwrap()).await.unwrap(), "");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_the_switch_there_is_only_the_way_on_whatever_is_asked_for() {
    const OBJECTS: usize = 200;
    let world = World::with_node("etcd").await;
    let (nats, postgres) = (NatsFixture::start().await, SqlServer::postgres().await);
    world.add_datastore("nats", &nats).await;
    world.add_datastore("postgres", &postgres).await;
    let operator = world.operate();
    let (uid, mut at_etcd) = world.mover_in_etcd(OBJECTS).await;
    let mut written = BTreeMap::new();
    let (kine, mut at_nats) = moves_behind_kine(&world, &mut at_etcd, "nats", OBJECTS, &mut written).await;
    // The first of the pods has followed.
    assert!(at_nats.put("secrets/default/late", "late").await.unwrap());
    written.insert("secrets/default/late".to_owned(), "late".to_owned());

    let asks_for = async |store: &str| {
        world.change("mover", json!({"dataStore": store})).await;
        eventually("a pass has seen it", || async {
            let conditions = world.control_plane("mover").await.status.unwrap_or_default().conditions;
            let told = format!("the DataStore {store} is moved to when that is done");
            let found = conditions.iter().any(|one| one.message.contains(&told));
            when(found, || format!("{conditions:#?}"))
        })
        .await;
    };
    asks_for("etcd").await;
    asks_for("postgres").await;
    operator.kill().await;
    // Nobody remembers anything now.
    let operator = world.operate();
    asks_for("etcd").await;
    assert_eq!(bucket(&nats, &uid).await.unwrap(), uid, "what was written is there");
    let mut both = [at_nats.clone(), at_etcd.clone()];
    for tenant in &mut both {
        assert_eq!(
            tenant.get(&object(7).0).await.unwrap().unwrap().0,
            object(7).1,
            "pods read from both"
        );
    }
    assert!(
        !at_etcd.put("secrets/default/lost", "lost").await.unwrap_or_default(),
        "one of them takes writes"
    );

    world.until_ready_in("mover", "etcd").await;
    nothing_is_lost(&mut at_etcd, OBJECTS, &written).await;
    assert!(at_etcd.put("secrets/default/later", "later").await.unwrap());
    drop(kine);
    until_gone("nats", &uid, || bucket(&nats, &uid)).await;
    assert_eq!(
        postgres
            .run("SELECT datname FROM pg_database")
            .await
            .unwrap()
            .matches(&uid)
            .count(),
        0
    );
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_an_operator_has_left_waiting_are_taken_again_while_the_other_store_is_away() {
    let world = World::with_node("etcd").await;
    let nats = NatsFixture::start().await;
    world.add_datastore("nats", &nats).await;
    let operator = world.operate();
    let (uid, mut at_etcd) = world.mover_in_etcd(10).await;
    operator.kill().await;
    // As an operator leaves it that ends while writes wait.
    let record = format!("/cotenant.dev/migrations/{uid}/leaving");
    let leaving = json!({"other": "nats", "step": "Copying", "attempt": "1"}).to_string();
    world.etcd.etcdctl(&["put", &record, &leaving]).await.unwrap();
    let keys = format!("/{uid}/");
    let read = ["role", "grant-permission", "--prefix=true", &uid, "read", &keys];
    world.etcd.etcdctl(&read).await.unwrap();
    let refused = at_etcd.put("secrets/default/late", "late").await;
    assert!(refused.unwrap_err().to_string().contains("permission denied"));
    nats.stop().await;
    world.change("mover", json!({"dataStore": "nats"})).await;

    let operator = world.operate();
    eventually("writes are taken", || async {
        let mut tenant = at_etcd.clone();
        let taken = tenant.put("secrets/default/late", "late").await;
        when(taken.map_err(|error| error.to_string())?, || "they are not".to_owned())
    })
    .await;
    assert!(at_etcd.get("secrets/default/late").await.unwrap().is_some());
    operator.kill().await;
}

/// The UID, if the NATS has its bucket.
async fn bucket(nats: &NatsFixture, uid: &str) -> Result<String, String> {
    let has = datastore::nats_store(nats).await?.has_bucket(uid).await;
    let has = has.map_err(|error| error.to_string())?;
    Ok(if has { uid.to_owned() } else { String::new() })
}

/// The control plane's database is not among those that a server has.
async fn until_gone<Asked>(store: &str, uid: &str, databases: impl Fn() -> Asked)
where
    Asked: Future<Output = Result<String, String>>,
{
    eventually(&format!("{store} is emptied"), || async {
        let found = databases().await?;
        when(!found.contains(uid), || found)
    })
    .await;
}

/// A copy into a database has begun.
async fn until_there<Asked>(store: &str, uid: &str, databases: impl Fn() -> Asked)
where
    Asked: Future<Output = Result<String, String>>,
{
    eventually(&format!("the copy into {store} has begun"), || async {
        let found = databases().await?;
        when(found.contains(uid), || found)
    })
    .await;
}

/// The store that is moved to stops answering for as long as it takes to see that the one before is written to.
async fn is_interrupted(world: &World, target: &SqlServer, before: &str, traffic: &Traffic) {
    target.freeze(true).await;
    world
        .until_condition("mover", "DataStoreReady", "MigrationInterrupted")
        .await;
    traffic.until_writing().await;
    world.until_in("mover", before).await;
    target.freeze(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_fails_leaves_everything_in_the_etcd_until_it_is_back() {
    const OBJECTS: usize = 3_000;
    let world = World::with_node("etcd").await;
    let postgres = SqlServer::postgres().await;
    world.add_datastore("postgres", &postgres).await;
    let operator = world.operate();
    let (uid, at_etcd) = world.mover_in_etcd(OBJECTS).await;
    let traffic = traffic(&at_etcd, "postgres");
    world.change("mover", json!({"dataStore": "postgres"})).await;
    until_there("postgres", &uid, || postgres.run("SELECT datname FROM pg_database")).await;
    is_interrupted(&world, &postgres, "etcd", &traffic).await;
    world.until_ready_in("mover", "postgres").await;
    let kine = Kine::start(&world, "mover").await;
    let mut at_postgres = kine.tenant().await;
    nothing_is_lost(&mut at_postgres, OBJECTS, &traffic.end_where_it_was_left().await).await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_fails_leaves_everything_in_the_one_before_until_it_is_back() {
    const OBJECTS: usize = 3_000;
    let world = World::with_node("etcd").await;
    let (postgres, mariadb) = (SqlServer::postgres().await, SqlServer::mariadb().await);
    world.add_datastore("postgres", &postgres).await;
    world.add_datastore("mariadb", &mariadb).await;
    let operator = world.operate();
    let (uid, mut at_etcd) = world.mover_in_etcd(OBJECTS).await;
    moves(&world, &mut at_etcd, "postgres", OBJECTS, &mut BTreeMap::new()).await;
    world.until_ready_in("mover", "postgres").await;
    let first_kine = Kine::start(&world, "mover").await;
    let at_postgres = first_kine.tenant().await;

    let traffic = traffic(&at_postgres, "mariadb");
    world.change("mover", json!({"dataStore": "mariadb"})).await;
    until_there("mariadb", &uid, || mariadb.run("SHOW DATABASES")).await;
    is_interrupted(&world, &mariadb, "postgres", &traffic).await;
    world.until_ready_in("mover", "mariadb").await;
    let second_kine = Kine::start(&world, "mover").await;
    let mut at_mariadb = second_kine.tenant().await;
    nothing_is_lost(&mut at_mariadb, OBJECTS, &traffic.end_where_it_was_left().await).await;
    drop(first_kine);
    until_gone("postgres", &uid, || postgres.run("SELECT datname FROM pg_database")).await;
    operator.kill().await;
}

/// A move during which operators come and go.
async fn moves_with_killed_operators(world: &World, from: &Tenant, to: &str) -> (Operator, BTreeMap<String, String>) {
    let traffic = traffic(from, to);
    world.change("mover", json!({"dataStore": to})).await;
    for lived_ms in (0_u64..10).map(|round| 200 + round * 200) {
        let operator = world.operate();
        tokio::time::sleep(Duration::from_millis(lived_ms)).await;
        operator.kill().await;
        world.make_pods_ready("mover").await;
    }
    let operator = world.operate();
    world.until_ready_in("mover", to).await;
    (operator, traffic.end_where_it_was_left().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn operators_that_are_killed_on_the_way_into_a_database_and_out_of_it_end_where_one_would() {
    const OBJECTS: usize = 1_000;
    let world = World::with_node("etcd").await;
    let (mariadb, postgres) = (SqlServer::mariadb().await, SqlServer::postgres().await);
    world.add_datastore("mariadb", &mariadb).await;
    world.add_datastore("postgres", &postgres).await;
    let operator = world.operate();
    let (uid, at_etcd) = world.mover_in_etcd(OBJECTS).await;
    operator.kill().await;
    let (operator, mut written) = moves_with_killed_operators(&world, &at_etcd, "mariadb").await;
    let kine = Kine::start(&world, "mover").await;
    let mut at_mariadb = kine.tenant().await;
    nothing_is_lost(&mut at_mariadb, OBJECTS, &written).await;
    assert!(at_mariadb.put("secrets/default/late", "late").await.unwrap());

    operator.kill().await;
    let (operator, later) = moves_with_killed_operators(&world, &at_mariadb, "postgres").await;
    written.extend(later);
    drop(kine);
    let kine = Kine::start(&world, "mover").await;
    let mut at_postgres = kine.tenant().await;
    nothing_is_lost(&mut at_postgres, OBJECTS, &written).await;
    assert!(at_postgres.put("secrets/default/later", "later").await.unwrap());

    // And when it is deleted, nothing stays anywhere.
    drop(kine);
    world.delete("mover").await;
    let keys = world
        .etcd
        .etcdctl(&["get", "--prefix", "--keys-only", "/"])
        .await
        .unwrap();
    assert!(!keys.contains(&uid), "{keys}");
    until_gone("mariadb", &uid, || mariadb.run("SHOW DATABASES")).await;
    until_gone("postgres", &uid, || postgres.run("SELECT datname FROM pg_database")).await;
    let records = mariadb
        .run("SELECT COUNT(*) FROM `cotenant.dev`.`moves`")
        .await
        .unwrap();
    assert_eq!(records.trim(), "0");
    operator.kill().await;
}
