//! The test bed itself: it starts, it says who is who, two of them keep apart, and nothing of it survives its process.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use testbed::{ApiServer, EtcdFixture, unique};

#[tokio::test]
async fn an_administrator_lists_namespaces_and_a_user_without_rights_does_not() {
    let server = ApiServer::shared().await;
    let namespaces = Api::<Namespace>::all(server.client().await)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(
        namespaces
            .items
            .iter()
            .any(|n| n.metadata.name.as_deref() == Some("kube-system"))
    );

    let alice = server.client_for("alice", &["projectcapsule.dev", "devs"]).await;
    let refused = Api::<Namespace>::all(alice.clone())
        .list(&ListParams::default())
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("not an answer of the API server: {refused}")
    };
    assert_eq!(status.code, 403);
    assert!(
        status
            .message
            .contains(r#"User "alice" cannot list resource "namespaces""#),
        "{}",
        status.message
    );

    let review = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&review).unwrap())
        .unwrap();
    let me: serde_json::Value = alice.request(request).await.unwrap();
    assert_eq!(
        me["status"]["userInfo"]["groups"],
        serde_json::json!(["projectcapsule.dev", "devs", "system:authenticated"])
    );
}

#[tokio::test]
async fn controllers_run() {
    let server = ApiServer::shared().await;
    let client = server.client().await;
    let name = unique("controllers");
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(client, &name);
    until("the default service account", async || {
        accounts.get_opt("default").await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn two_at_once_keep_apart_and_one_keeps_its_data_over_a_restart() {
    let (mut one, other) = tokio::join!(ApiServer::start(), ApiServer::start());
    assert_ne!(one.url(), other.url());
    let map: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {"name": "here"}})).unwrap();
    let maps = Api::<ConfigMap>::namespaced(one.client().await, "default");
    maps.create(&PostParams::default(), &map).await.unwrap();
    let others = Api::<ConfigMap>::namespaced(other.client().await, "default");
    assert!(others.get_opt("here").await.unwrap().is_none());

    one.control_plane().restart_api_server().await.unwrap();
    assert!(maps.get_opt("here").await.unwrap().is_some());

    let (pids, directory) = (one.pids(), one.directory().to_owned());
    drop(one);
    assert_eq!(alive(&pids), Vec::<u32>::new());
    assert!(!directory.exists());
}

#[tokio::test]
async fn the_store_for_data_stores_wants_a_certificate_and_knows_its_users() {
    let etcd = EtcdFixture::start().await;
    assert!(
        etcd.etcdctl(&["auth", "status"])
            .await
            .unwrap()
            .starts_with("Authentication Status: true")
    );
    assert_eq!(etcd.etcdctl(&["user", "list"]).await.unwrap(), "root\n");
    etcd.etcdctl(&["put", "/key", "value"]).await.unwrap();
    etcd.stop().await;
    etcd.restart().await;
    assert_eq!(
        etcd.etcdctl(&["get", "/key", "--print-value-only"]).await.unwrap(),
        "value\n"
    );
}

/// Not a test of its own: what the next one runs in a process that it kills.
#[tokio::test]
async fn a_process_to_be_killed() {
    if std::env::var_os("TESTBED_TO_BE_KILLED").is_none() {
        return;
    }
    let server = ApiServer::start().await;
    let etcd = server.etcd().await;
    assert!(etcd.etcdctl(&["user", "list"]).await.is_ok());
    println!("\nDIRECTORY {}", server.directory().display());
    println!(
        "PIDS {}",
        server.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    );
    println!("READY");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_remains_of_a_test_process_that_is_killed() {
    let before = marked();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_to_be_killed", "--nocapture"])
        .env("TESTBED_TO_BE_KILLED", "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut directory = None;
    let mut pids = Vec::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(path) = line.strip_prefix("DIRECTORY ") {
            directory = Some(path.to_owned());
        } else if let Some(list) = line.strip_prefix("PIDS ") {
            pids = list.split(' ').map(|pid| pid.parse::<u32>().unwrap()).collect();
        } else if line == "READY" {
            break;
        }
    }
    let directory = directory.expect("the child says where its directory is");
    assert_eq!(alive(&pids), pids);
    let during = marked();
    assert!(
        during.len() >= before.len() + 4,
        "etcd, the API server, controllers, the other etcd: {during:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || {
        !Path::new(&directory).exists()
            && alive(&pids).is_empty()
            && during.iter().all(|pid| before.contains(pid) || !marked().contains(pid))
    };
    until("everything to be gone", async || gone()).await;
}

/// The processes of this machine whose command line names a directory of the test bed. With others running beside us
/// this may grow and shrink; what is in it keeps its pid.
fn marked() -> Vec<u32> {
    let mut found: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("/cotenant-api-") || line.contains("/cotenant-etcd-")
        })
        .collect();
    found.sort_unstable();
    found
}

fn alive(pids: &[u32]) -> Vec<u32> {
    pids.iter()
        .copied()
        .filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
        .collect()
}

/// Polls with a generous deadline: how long it takes is not what is tested.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
