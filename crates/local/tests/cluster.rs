//! A real cluster on this machine: it runs pods, outlives what is killed, takes a worker, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{AttachParams, LogParams, PostParams};
use local::cluster::{self, Cluster, Options};
use local::network;
use local::programs::Programs;
use local::progress::Lines;
use local::worker::{Join, Worker};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

/// Set in the process that is killed, to the directory that it works in.
const VICTIM: &str = "COTENANT_TEST_VICTIM";

fn options(root: &Path, name: &str) -> Options {
    let programs = local::programs::locate().unwrap();
    let images = local::images::upstream(&programs).unwrap();
    let images = local::images::ensure(&images, &Lines).unwrap();
    let mut options = Options::new(name, programs, images.directory);
    options.root = root.into();
    options.executable = Some(executable());
    options.durable = false;
    options
}

/// The example that plays the executable's part; cargo builds it with the tests.
fn executable() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/cotenant")
}

/// Removes the cluster also when the test fails.
struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        if let Err(error) = cluster::remove(&self.0) {
            eprintln!("failed to remove a test's cluster: {error}");
        }
    }
}

async fn start(root: &Path, name: &str) -> Cluster {
    let began = Instant::now();
    let cluster = Cluster::start(options(root, name), &Lines)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    eprintln!(
        "the cluster {name} was ready after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    cluster
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "busybox:1.36",
                "command": ["sh", "-c", "echo it runs; date >> /data/starts; exec sleep 3600"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [match node {
                None => json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}}),
                Some(_) => json!({"name": "data", "emptyDir": {}}),
            }],
        },
    }))
    .unwrap()
}

/// How often the pod's container was started, once it runs in the present life of its node.
async fn running(pods: &Api<Pod>, name: &str, restarts: i32) {
    until(&format!("the pod {name}"), async || {
        let status = pods.get(name).await.ok()?.status?.container_statuses?.pop()?;
        (status.ready && status.restart_count >= restarts).then_some(())
    })
    .await;
}

async fn run(pods: &Api<Pod>, name: &str, command: &[&str]) -> String {
    let mut attached = pods
        .exec(name, command.to_vec(), &AttachParams::default())
        .await
        .unwrap();
    let mut said = String::new();
    attached.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    said
}

/// What the machine still has of a cluster, its directory apart.
fn traces(name: &str, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for link in [
        network::bridge_name(name),
        network::link_name(name, "admin"),
        network::link_name(name, "worker"),
    ] {
        if network::link_exists(&link) {
            found.push(format!("the link {link}"));
        }
    }
    let place = directory.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(place))
            .map(|line| format!("the mount {line}")),
    );
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let cgroup = hierarchy.unwrap().path().join("cotenant").join(name);
        if cgroup.exists() {
            found.push(format!("the cgroup {}", cgroup.display()));
        }
    }
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("cgroup").contains(&format!("/cotenant/{name}/")) || read("cmdline").contains(&format!("{place}/")) {
            found.push(format!(
                "the process {} {}",
                path.display(),
                read("cmdline").replace('\0', " ")
            ));
        }
    }
    found
}

fn kill(pid: u64) {
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

fn supervisor(directory: &Path) -> u64 {
    let text = std::fs::read(directory.join("nodes/admin/processes.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    record["supervisor"]["pid"].as_u64().unwrap()
}

/// kubeadm on the admin node, whose cluster plays the hosted one here.
fn kubeadm(cluster: &Cluster, args: &[&str]) -> String {
    let mut command = cluster.admin().command("kubeadm").unwrap();
    let output = command
        .args(args)
        .args(["--kubeconfig", "/etc/kubernetes/super-admin.conf"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_runs_pods_survives_kills_takes_a_worker_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let name = format!("local-{}", std::process::id());
    let name = name.as_str();
    let directory = root.path().join(name);
    let _cleared = Cleared(directory.clone());
    let cluster = start(root.path(), name).await;

    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client());
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    claims
        .create(&PostParams::default(), &serde_json::from_value(claim).unwrap())
        .await
        .unwrap();
    pods.create(&PostParams::default(), &pod("keeper", None)).await.unwrap();
    running(&pods, "keeper", 0).await;
    assert_eq!(pods.logs("keeper", &LogParams::default()).await.unwrap(), "it runs\n");
    let answer = run(&pods, "keeper", &["nslookup", "kubernetes.default.svc.cluster.local"]).await;
    assert!(answer.contains("10.96.0.1"), "{answer}");

    // A second start finds what runs.
    let before = supervisor(&directory);
    let again = start(root.path(), name).await;
    assert_eq!(supervisor(&directory), before);
    let unhealthy: Vec<_> = again
        .health()
        .await
        .unwrap()
        .into_iter()
        .filter(|part| !part.healthy)
        .collect();
    assert!(unhealthy.is_empty(), "{unhealthy:?}");

    // A program that is killed is started again; a node whose supervisor is killed ends and is mended by a start.
    let killed = again
        .admin()
        .command("sh")
        .unwrap()
        .args(["-c", "kill -9 $(pidof kube-scheduler)"])
        .status();
    assert!(killed.unwrap().success());
    until("the scheduler's second life", async || {
        let status = again.admin().status()?.programs.remove("kube-scheduler")?;
        (status.restarts == 1 && status.state == local::node::State::Running).then_some(())
    })
    .await;
    kill(before);
    until("the end of the node", async || {
        let processes = traces(name, &directory)
            .into_iter()
            .filter(|trace| trace.contains("process"));
        (processes.count() == 0).then_some(())
    })
    .await;
    let cluster = start(root.path(), name).await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    running(&pods, "keeper", 1).await;
    let starts = run(&pods, "keeper", &["cat", "/data/starts"]).await;
    assert_eq!(starts.lines().count(), 2, "{starts}");

    worker_joins(&cluster).await;

    // Stopped, only the directory is left; removed after everything was killed, nothing.
    cluster.stop().unwrap();
    assert_eq!(traces(name, &directory), Vec::<String>::new());
    assert!(directory.join("nodes/admin/etcd/member").exists());
    let cluster = start(root.path(), name).await;
    kill(supervisor(&directory));
    drop(cluster);
    cluster::remove(&directory).unwrap();
    assert_eq!(traces(name, &directory), Vec::<String>::new());
    assert!(!directory.exists());
}

async fn worker_joins(cluster: &Cluster) {
    // Certificates were made outside, where the node's directories have other names.
    let configuration = cluster.directory().join("nodes/admin/config/kubeadm.yaml");
    let made = std::fs::read_to_string(cluster.directory().join("nodes/admin/kubernetes/kubeadm.yaml")).unwrap();
    let outside = cluster.directory().join("nodes/admin/kubernetes/pki");
    std::fs::write(
        &configuration,
        made.replace(outside.to_str().unwrap(), "/etc/kubernetes/pki"),
    )
    .unwrap();
    let config = ["--config", "/run/cotenant/node/config/kubeadm.yaml"];
    kubeadm(
        cluster,
        &["init", "phase", "upload-config", "all", config[0], config[1]],
    );
    kubeadm(
        cluster,
        &[
            "init",
            "phase",
            "bootstrap-token",
            "--skip-token-print",
            config[0],
            config[1],
        ],
    );
    let line = kubeadm(cluster, &["token", "create", "--print-join-command"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1].to_owned();

    let version = local::programs::locate().unwrap().kubernetes_version().unwrap();

    let join = Join {
        name: "worker".to_owned(),
        endpoint: words[2].to_owned(),
        token: after("--token"),
        ca_hashes: vec![after("--discovery-token-ca-cert-hash")],
        pod_subnet: None,
        memory_bytes: None,
    };
    let began = Instant::now();
    let worker = Worker::join(cluster, &join).unwrap();
    worker
        .joined(cluster, Duration::from_secs(60))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let nodes: Api<Node> = Api::all(cluster.client());
    until("the worker", async || {
        let conditions = nodes.get_opt("worker").await.ok()??.status?.conditions?;
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            .then_some(())
    })
    .await;
    eprintln!("the worker was ready after {:.1} s", began.elapsed().as_secs_f64());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("guest", Some("worker")))
        .await
        .unwrap();
    running(&pods, "guest", 0).await;
    assert_eq!(pods.logs("guest", &LogParams::default()).await.unwrap(), "it runs\n");
    assert_eq!(run(&pods, "guest", &["hostname"]).await, "guest\n");

    // A tenant's kube-proxy runs as a pod and with upstream's defaults.
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client());
    let binding = json!({
        "metadata": {"name": "test-kube-proxy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    });
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    let proxy = json!({
        "metadata": {"name": "proxy"},
        "spec": {
            "nodeName": "worker", "hostNetwork": true, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": format!("registry.k8s.io/kube-proxy:{version}"),
                "command": ["/usr/local/bin/kube-proxy", "--hostname-override=worker"],
                "env": [
                    {"name": "KUBERNETES_SERVICE_HOST", "value": cluster.address()},
                    {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"},
                ],
                "securityContext": {"privileged": true},
            }],
        },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(proxy).unwrap())
        .await
        .unwrap();
    until("a service that answers on the worker", async || {
        let command = ["sh", "-c", "nc -w 1 10.96.0.1 443 < /dev/null"];
        let mut dial = pods.exec("guest", command, &AttachParams::default()).await.ok()?;
        let status = dial.take_status()?.await?;
        (status.status.as_deref() == Some("Success")).then_some(())
    })
    .await;
    let log = pods.logs("proxy", &LogParams::default()).await.unwrap();
    assert!(log.contains("nf_conntrack_max"), "{log}");

    let directory = worker.handle().node().directory.clone();
    worker.remove().unwrap();
    assert!(!directory.exists());
    assert!(!network::link_exists(&network::link_name(cluster.name(), "worker")));
}

/// Two runs of this test have two directories, and so two names.
fn victim_name(root: &Path) -> String {
    let random: String = root
        .to_str()
        .unwrap()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    format!("victim-{}", random.to_lowercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_belongs_to_a_process_goes_with_it_when_it_is_killed() {
    if let Some(root) = std::env::var_os(VICTIM) {
        let mut options = options(Path::new(&root), &victim_name(Path::new(&root)));
        options.with_parent = true;
        let _cluster = Cluster::start(options, &Lines).await.unwrap();
        std::fs::write(Path::new(&root).join("started"), "").unwrap();
        std::future::pending::<()>().await;
    }
    let root = tempfile::tempdir().unwrap();
    let test = "a_cluster_that_belongs_to_a_process_goes_with_it_when_it_is_killed";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(VICTIM, root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = root.path().join("started");
    until("the victim's cluster", async || {
        let ended = victim.try_wait().unwrap();
        assert!(ended.is_none(), "the victim could not start its cluster: {ended:?}");
        started.exists().then_some(())
    })
    .await;
    let name = victim_name(root.path());
    let directory = root.path().join(&name);
    assert!(!traces(&name, &directory).is_empty());
    kill(victim.id().into());
    victim.wait().unwrap();
    until("the end of the victim's cluster", async || {
        (!directory.exists()).then_some(())
    })
    .await;
    assert_eq!(traces(&name, &directory), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let root = tempfile::tempdir().unwrap();
    let programs = Programs::from_dir("/nonexistent");
    let start = async |name: &str| {
        let mut options = Options::new(name, programs.clone(), "/nonexistent");
        options.root = root.path().to_owned();
        Cluster::start(options, &Lines).await.err().unwrap().to_string()
    };
    let error = start("Not_A_Label").await;
    assert!(
        error.contains("`Not_A_Label`") && error.contains("lower-case"),
        "{error}"
    );
}
