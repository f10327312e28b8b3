//! What is put into a tenant of each minor, beside what kubeadm of that minor puts there (`kubeadm/<minor>.yaml`).
//!
//! The recordings are made anew, all of them, by `cargo test -p control-plane-controller --test kubeadm -- --ignored`, which
//! builds the kubeadms from `tools/`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod comparison;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use comparison::{api, comparable, control_plane, differences, live, only_known, tenant};
use control_plane_controller::inside;
use kube::api::ListParams;
use local::programs;
use local::progress::Lines;
use serde::Deserialize as _;
use serde_json::{Value, json};
use testbed::ApiServer;

/// The minor of the programs that clusters of this machine run.
const NEWEST: &str = "1.36";

/// Everything of these kinds that kubeadm wrote is recorded.
const KINDS: [(&str, &str); 9] = [
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
];

/// Where we differ from kubeadm of every minor, and why.
const DIFFERENCES: [(&str, &str); 9] = [
    (
        "ConfigMap kube-system/kubeadm-config/data/ClusterConfiguration/etcd/external/",
        "bare host:port as Kamaji has it; kubeadm refuses that as an input, and does not read it when nodes join",
    ),
    (
        "ConfigMap kube-system/kube-proxy/metadata/annotations",
        "a hash for `kubeadm upgrade`, which we stand in for",
    ),
    (
        "only kubeadm's: Secret kube-system/bootstrap-token-abcdef",
        "a token that joins nodes is made when somebody asks for one",
    ),
    (
        "only ours: ClusterRoleBinding kubeadm:cluster-admins",
        "`kubeadm init` makes it outside of these phases",
    ),
    (
        "only ours: Endpoints default/kubernetes",
        "kube-apiserver's own elsewhere, switched off in both here",
    ),
    ("only ours: EndpointSlice default/kubernetes", "the same"),
    ("only ours: DaemonSet kube-system/konnectivity-agent", TUNNEL),
    ("only ours: ServiceAccount kube-system/konnectivity-agent", TUNNEL),
    ("only ours: ClusterRoleBinding system:konnectivity-server", TUNNEL),
];

/// Where we differ from kubeadm of older minors besides.
const OLDER_DIFFERENCES: [(&str, &str); 1] = [(
    "only ours: ClusterRoleBinding kubeadm:apiserver-kubelet-client",
    "our API server's client certificate for kubelets has no group in any minor; kubeadm's until 1.35 has",
)];

const TUNNEL: &str = "kubeadm has no such add-on";

/// One control plane after the other, as an upgrade has it: what an older minor left behind counts as a difference too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_minor_gets_what_its_kubeadm_makes() {
    let server = tenant().await;
    let client = server.client().await;
    for minor in minors() {
        let recorded = recording(minor);
        let desired = control_plane(&version(&recorded), true, true);
        inside::reconcile(&client, &desired).await.unwrap();

        let mut found = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for object in &desired.apply {
            let name = object.reference.to_string();
            let Some(theirs) = recorded.iter().find(|theirs| reference(theirs) == name) else {
                found.insert(format!("only ours: {name}"), (Value::Null, Value::Null));
                continue;
            };
            let ours = live(&client, &object.manifest).await.unwrap();
            differences(&name, &comparable(theirs.clone()), &without_our_marks(ours), &mut found);
            wanted.insert(name);
        }
        for name in recorded.iter().map(reference).filter(|name| !wanted.contains(name)) {
            found.insert(format!("only kubeadm's: {name}"), (Value::Null, Value::Null));
        }
        assert!(
            wanted.len() >= 24,
            "only {} objects of {minor} were compared",
            wanted.len()
        );
        eprintln!("{minor}: {} objects of kubeadm {}", wanted.len(), version(&recorded));
        let mut known = DIFFERENCES.to_vec();
        if minor != NEWEST {
            known.extend(OLDER_DIFFERENCES);
        }
        only_known(&found, &known);
    }
}

/// How we know what may be removed; kubeadm never removes anything.
fn without_our_marks(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("ownerReferences");
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove("kamaji.clastix.io/project");
        if labels.is_empty() {
            metadata.remove("labels");
        }
    }
    object
}

/// A recording that was forgotten when Kubernetes was brought up to date is noticed here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_recording_is_what_kubeadm_makes_today() {
    let kubeadm = programs::locate().unwrap().path("kubeadm");
    let today = made_by(&kubeadm).await;
    let recorded = recording(NEWEST);
    let names = |objects: &[Value]| -> Vec<String> { objects.iter().map(reference).collect() };
    assert_eq!(names(&recorded), names(&today));
    for (recorded, today) in recorded.iter().zip(&today) {
        assert_eq!(recorded, today, "{}", reference(today));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes the recordings, and builds kubeadm of the older minors for that"]
async fn record() {
    for minor in minors() {
        let kubeadm = match minor {
            NEWEST => programs::locate().unwrap().path("kubeadm"),
            older => programs::kubeadm_of_older_minor(older, &Lines).unwrap(),
        };
        let documents: Vec<String> = made_by(&kubeadm)
            .await
            .iter()
            .map(|object| serde_norway::to_string(object).unwrap())
            .collect();
        std::fs::write(file(minor), documents.join("---\n")).unwrap();
    }
}

fn minors() -> impl Iterator<Item = &'static str> {
    programs::older_minors().chain([NEWEST])
}

fn file(minor: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubeadm");
    directory.join(format!("{minor}.yaml"))
}

fn recording(minor: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file(minor)).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// `Kind namespace/name`, or `Kind name`.
fn reference(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (kind, name) = (text("/kind").unwrap(), text("/metadata/name").unwrap());
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The version of the control plane that a recording is of.
fn version(recorded: &[Value]) -> String {
    let config = recorded
        .iter()
        .find(|object| reference(object) == "ConfigMap kube-system/kubeadm-config");
    let config = comparable(config.unwrap().clone());
    config["data"]["ClusterConfiguration"]["kubernetesVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Everything that this kubeadm puts into a cluster for the control plane of [`control_plane`].
async fn made_by(kubeadm: &Path) -> Vec<Value> {
    let server = tenant().await;
    let said = run(kubeadm, &["version", "-o", "short"]).await;
    let directory = server.directory().join("kubeadm");
    std::fs::create_dir_all(&directory).unwrap();
    let (kubeconfig, config) = (directory.join("admin.conf"), directory.join("kubeadm.yaml"));
    std::fs::write(&kubeconfig, serde_norway::to_string(&server.kubeconfig()).unwrap()).unwrap();
    std::fs::write(&config, CONFIGURATION.replace("VERSION", said.trim())).unwrap();
    let paths = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
    ];
    for phase in [
        &["upload-config", "all"][..],
        &["bootstrap-token", "--skip-token-print"],
        &["addon", "all"],
    ] {
        let arguments: Vec<&str> = ["init", "phase"]
            .iter()
            .chain(phase)
            .copied()
            .chain(paths.iter().map(String::as_str))
            .collect();
        run(kubeadm, &arguments).await;
    }
    written_by_kubeadm(&server).await
}

async fn run(kubeadm: &Path, arguments: &[&str]) -> String {
    let run = tokio::process::Command::new(kubeadm)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run)
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} {arguments:?}: {said}", kubeadm.display());
    String::from_utf8(output.stdout).unwrap()
}

async fn written_by_kubeadm(server: &ApiServer) -> Vec<Value> {
    let client = server.client().await;
    let mut objects = Vec::new();
    for (api_version, kind) in KINDS {
        for object in api(&client, api_version, kind, None)
            .list(&ListParams::default())
            .await
            .unwrap()
        {
            let mut managers = object.metadata.managed_fields.iter().flatten();
            if managers.any(|entry| entry.manager.as_deref() == Some("kubeadm")) {
                let mut object = serde_json::to_value(object).unwrap();
                object["apiVersion"] = json!(api_version);
                object["kind"] = json!(kind);
                objects.push(anywhere(object, server));
            }
        }
    }
    // These have no field that somebody could have written: kubeadm's are those that it gives rights to.
    let subjects = |object: &Value| object["subjects"].as_array().cloned().unwrap_or_default();
    for subject in objects.iter().flat_map(subjects).collect::<Vec<_>>() {
        if subject["kind"] == "ServiceAccount" {
            let metadata = json!({"name": subject["name"], "namespace": subject["namespace"]});
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
            objects.push(live(&client, &account).await.unwrap());
        }
    }
    objects.sort_by_key(reference);
    objects
}

/// Without what differs from run to run and from machine to machine.
fn anywhere(mut object: Value, server: &ApiServer) -> Value {
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    if object["kind"] != "ConfigMap" {
        return object;
    }
    let data = object["data"].as_object_mut().unwrap();
    // Signed for kubeadm's token, when the controller-manager comes to it.
    data.retain(|key, _| !key.starts_with("jws-kubeconfig-"));
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (authority, stand_in) = (base64(server.ca_pem()), base64("CA\n"));
    for value in data.values_mut() {
        let text = value.as_str().unwrap();
        let text = text
            .replace(&server.url(), "https://10.99.0.1:31077")
            .replace(&authority, &stand_in);
        // Named where systemd-resolved runs.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("resolvConf: "))
            .map(|line| format!("{line}\n"));
        *value = json!(lines.collect::<String>());
    }
    object
}

const CONFIGURATION: &str = r"
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: demo
controlPlaneEndpoint: 10.99.0.1:31077
kubernetesVersion: VERSION
encryptionAlgorithm: ECDSA-P256
apiServer:
  certSANs: [127.0.0.1, localhost, demo, demo.default.svc, demo.default.svc.cluster.local, 10.99.0.1, demo.example.test]
  extraArgs:
  - {name: etcd-compaction-interval, value: 0s}
  - {name: etcd-prefix, value: /0e2f9a54-6b1e-4d6f-9d52-1a7b3f8c9e10}
etcd:
  external: {endpoints: ['http://10.99.0.1:12379'], caFile: '', certFile: '', keyFile: ''}
networking: {dnsDomain: cluster.local, podSubnet: 10.36.0.0/16, serviceSubnet: 10.116.0.0/16}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.99.0.1, bindPort: 31077}
bootstrapTokens:
- {token: abcdef.0123456789abcdef, ttl: 0s}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
";
