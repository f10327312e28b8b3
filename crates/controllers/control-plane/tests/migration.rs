//! Data that moves from one etcd to another, with an operator that works against a real API server and, in the place of the
//! tenant's API server, a client of etcd with the tenant's own certificate: it writes, reads, and keeps count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::kamaji::v1alpha1::Phase;
use bed::components::{Components, NODE_PORTS, administrator};
use bed::traffic::{Traffic, Written, written_name};
use bed::{PATIENCE, World, eventually, when};
use etcd_client::{Certificate, ConnectOptions, GetOptions, GetResponse, Identity, PutOptions, TlsOptions};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use local::ports;
use serde_json::json;
use testbed::EtcdFixture;

/// A second etcd beside that of the DataStore `old`, as the DataStore `new`.
async fn two_etcds() -> (World, EtcdFixture) {
    let world = World::with_node("old").await;
    let new = EtcdFixture::start().await;
    world.add_datastore("new", &new).await;
    (world, new)
}

/// A control plane that is ready in the store `old`. Its schema and its user are its UID.
async fn control_plane(world: &World, name: &str, port: u16) -> String {
    let spec = json!({
        "dataStore": "old",
        "controlPlane": {"service": {"serviceType": "NodePort"}},
        // Pods have the addresses of this machine here; endpoints of a Service must not be loopback ones.
        "networkProfile": {"address": "127.0.0.1", "advertiseAddress": "192.0.2.10", "port": port},
    });
    let made = world.create_control_plane(name, spec).await;
    world.until_ready_in(name, "old").await;
    made.uid().unwrap()
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

fn traffic(client: &etcd_client::Client, uid: &str) -> Traffic {
    let (writer, reader) = (client.clone(), client.clone());
    let (written, read) = (format!("/{uid}/registry/"), key(uid, 7));
    Traffic::start(
        move |number| {
            let (mut client, value) = (writer.clone(), number.to_string());
            let key = format!("{written}{}", written_name(number));
            async move {
                match client.put(key.as_str(), value.as_str(), None).await {
                    Ok(_) => Written::Put(key, value),
                    Err(error) if is_refusal(&error) || is_outdated(&error) => Written::Refused,
                    Err(error) => panic!("{error}"),
                }
            }
        },
        move || {
            let (mut client, key) = (reader.clone(), read.clone());
            async move {
                let found = get(&mut client, &key, None).await;
                assert_eq!(found.kvs().len(), 1);
            }
        },
    )
}

/// Nothing that was ever acknowledged is missing.
async fn nothing_is_lost(etcd: &EtcdFixture, uid: &str, filled: usize, written: &BTreeMap<String, String>) {
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
    let (world, new) = two_etcds().await;
    let operator = world.operate();
    let uid = control_plane(&world, "mover", ports::free(NODE_PORTS).unwrap()).await;
    let mut at_old = tenant(&world.etcd, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    let lease = at_old.lease_grant(3600, None).await.unwrap().id();
    let event = format!("/{uid}/registry/events/default/one");
    let expires = PutOptions::new().with_lease(lease);
    at_old.put(event.as_str(), "event", Some(expires)).await.unwrap();
    let traffic = traffic(&at_old, &uid);

    let began = Instant::now();
    world.change("mover", json!({"dataStore": "new"})).await;
    world.until_condition("mover", "DataStoreReady", "Migrating").await;
    traffic.until_refused().await;
    let frozen = Instant::now();
    // Leases are renewed also then, or nodes and components would stop.
    loop {
        let renewed = at_old.put(format!("/{uid}/leases/kube-system/kube-scheduler"), "renewed", None);
        match renewed.await {
            Ok(_) => break,
            // Rights change in several steps.
            Err(error) if is_outdated(&error) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let tcp = world.until_in("mover", "new").await;
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
    nothing_is_lost(&new, &uid, OBJECTS, &written).await;
    // What expires still does, and watches that begin anew cannot miss anything: revisions went on.
    let mut at_new = tenant(&new, &uid).await;
    let found = get(&mut at_new, &event, None).await;
    assert_ne!(found.kvs()[0].lease(), 0);
    assert!(revision(&mut at_new, &uid).await > left_at - 10);
    // The tenant writes there, and the pods know.
    at_new.put(key(&uid, 0), "again", None).await.unwrap();
    let deployment = world.api::<Deployment>().get("mover").await.unwrap();
    let deployment = serde_json::to_string(&deployment.spec).unwrap();
    assert!(deployment.contains(&new.endpoint) && !deployment.contains(&world.etcd.endpoint));
    // Nothing is left behind.
    eventually("the first store is empty", || async {
        let keys = world.etcd.etcdctl(&["get", "--prefix", "--keys-only", "/"]).await?;
        let roles = world.etcd.etcdctl(&["role", "list"]).await?;
        when(!keys.contains(&uid) && !roles.contains(&uid), || {
            keys.chars().take(300).collect()
        })
    })
    .await;
    let records = new.etcdctl(&["get", "--prefix", "--keys-only", "/cotenant.dev/migrations/"]);
    assert_eq!(records.await.unwrap().trim(), "");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_target_that_fails_leaves_everything_as_it_was_until_it_is_back() {
    const OBJECTS: usize = 5_000;
    let (world, new) = two_etcds().await;
    let operator = world.operate();
    let uid = control_plane(&world, "mover", ports::free(NODE_PORTS).unwrap()).await;
    let at_old = tenant(&world.etcd, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    let traffic = traffic(&at_old, &uid);
    world.change("mover", json!({"dataStore": "new"})).await;
    let mut at_new = tenant(&new, "root").await;
    // Before the first key, because a fast machine is soon done with them.
    let begun = async {
        // Also a list is refused while rights change.
        while !at_new.role_list().await.is_ok_and(|roles| roles.roles().contains(&uid)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    new.freeze(true).await;
    world
        .until_condition("mover", "DataStoreReady", "MigrationInterrupted")
        .await;
    // Writes are taken by the first store.
    traffic.until_writing().await;
    let status = world.control_plane("mover").await.status.unwrap();
    assert_eq!(status.storage.unwrap().data_store_name.as_deref(), Some("old"));

    // It is given up, and nothing is in the way of trying again.
    world.change("mover", json!({"dataStore": "old"})).await;
    world.until_ready_in("mover", "old").await;
    new.freeze(false).await;
    world.change("mover", json!({"dataStore": "new"})).await;
    world.until_ready_in("mover", "new").await;
    nothing_is_lost(&new, &uid, OBJECTS, &traffic.end().await).await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn operators_that_are_killed_at_any_moment_end_where_one_would() {
    const OBJECTS: usize = 1_000;
    let (world, new) = two_etcds().await;
    let operator = world.operate();
    let uid = control_plane(&world, "mover", ports::free(NODE_PORTS).unwrap()).await;
    let at_old = tenant(&world.etcd, &uid).await;
    fill(&at_old, &uid, OBJECTS).await;
    operator.kill().await;
    let traffic = traffic(&at_old, &uid);
    world.change("mover", json!({"dataStore": "new"})).await;
    for lived_ms in (0_u64..12).map(|round| 150 + round * 130) {
        let operator = world.operate();
        tokio::time::sleep(Duration::from_millis(lived_ms)).await;
        operator.kill().await;
        world.make_pods_ready("mover").await;
    }
    let operator = world.operate();
    world.until_ready_in("mover", "new").await;
    nothing_is_lost(&new, &uid, OBJECTS, &traffic.end().await).await;
    tenant(&new, &uid).await.put(key(&uid, 0), "again", None).await.unwrap();

    // And when it is deleted, nothing stays anywhere.
    world.delete("mover").await;
    for etcd in [&world.etcd, &new] {
        let keys = etcd.etcdctl(&["get", "--prefix", "--keys-only", "/"]).await.unwrap();
        assert!(!keys.contains(&uid), "{keys}");
    }
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_real_api_server_starts_on_the_other_store_before_it_may_be_written_to() {
    let (world, _new) = two_etcds().await;
    let operator = world.operate();
    let port = ports::free(NODE_PORTS).unwrap();
    control_plane(&world, "real", port).await;
    let api_server = |container: &str| container == "kube-apiserver";
    let mut first = Components::start(&world, "real", api_server).await;
    let client = administrator(&world, "real", "super-admin.conf", port).await;
    first.until_ready(&client).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let write = async |maps: &Api<ConfigMap>, name: &str| {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        maps.create(&PostParams::default(), &map).await
    };
    let kept = eventually("something is written", || async {
        write(&maps, "kept").await.map_err(|error| error.to_string())
    })
    .await;

    world.change("real", json!({"dataStore": "new"})).await;
    world.until_in("real", "new").await;
    let refused = async |maps: &Api<ConfigMap>| match write(maps, "late").await {
        Err(kube::Error::Api(status)) => status.message.contains("permission denied"),
        _ => false,
    };
    assert!(refused(&maps).await, "the first store is not written to any more");
    assert_eq!(maps.get("kept").await.unwrap().uid(), kept.uid(), "but it is read");
    first.processes[0].stop(Duration::from_secs(30));

    let second = Components::start(&world, "real", api_server).await;
    let client = administrator(&world, "real", "super-admin.conf", port).await;
    second.until_ready(&client).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    assert_eq!(maps.get("kept").await.unwrap().uid(), kept.uid());
    assert!(refused(&maps).await, "not before all pods use it");
    world.until_ready_in("real", "new").await;
    eventually("it is written to", || async {
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
