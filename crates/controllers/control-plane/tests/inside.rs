//! What is put into a tenant, on a real API server that stands for the tenant's, beside what Kamaji was observed to
//! put there (`observed/tenant-objects.yaml`) and beside what the real kubeadm puts there.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::kamaji::v1alpha1::{AddonSpec, CgroupDriver, KonnectivityAgentSpec, KubeletSpec};
use control_plane_controller::inside::{self, Desired, Inputs, Tunnel, guard::Guard};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// The control plane that was observed.
fn observed_control_plane(core_dns: bool, kube_proxy: bool) -> Desired {
    let kubelet = KubeletSpec {
        cgroupfs: Some(CgroupDriver::Cgroupfs),
        ..KubeletSpec::default()
    };
    let addon = AddonSpec::default();
    let tunnel = Tunnel {
        agent: KonnectivityAgentSpec {
            // Kamaji's default; ours is 2, because 8 logs every packet of every connection.
            extra_args: strings(&["-v=8"]),
            ..KonnectivityAgentSpec::default()
        },
        host: "10.99.0.1".to_owned(),
        port: 31078,
    };
    inside::desired(&Inputs {
        name: "demo",
        version: "v1.36.3",
        endpoint: "10.99.0.1:31077",
        advertise: Some(([10, 99, 0, 1].into(), 31077)),
        ca_pem: "CA\n",
        server_names: &strings(&[
            "127.0.0.1",
            "localhost",
            "demo",
            "demo.default.svc",
            "demo.default.svc.cluster.local",
            "10.99.0.1",
            "demo.example.test",
        ]),
        service_cidrs: &strings(&["10.116.0.0/16"]),
        pod_cidrs: &strings(&["10.36.0.0/16"]),
        dns_service_ips: &strings(&["10.116.0.10"]),
        cluster_domain: "cluster.local",
        etcd_endpoints: &strings(&["10.99.0.1:12379"]),
        etcd_prefix: Some("0e2f9a54-6b1e-4d6f-9d52-1a7b3f8c9e10"),
        registry: "registry.k8s.io",
        kubelet: &kubelet,
        core_dns: core_dns.then_some(&addon),
        kube_proxy: kube_proxy.then_some(&addon),
        tunnel: (core_dns || kube_proxy).then_some(&tunnel),
    })
    .unwrap()
}

async fn tenant() -> testbed::ApiServer {
    testbed::ApiServer::with_flags(strings(&["--service-cluster-ip-range=10.116.0.0/16"])).await
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let plural = match kind {
        "Endpoints" => "endpoints".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural,
    }
}

fn api(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource(api_version, kind)),
        None => Api::all_with(client.clone(), &resource(api_version, kind)),
    }
}

fn config_maps(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api(client, "v1", "ConfigMap", Some(namespace))
}

async fn live(client: &Client, reference: &Value) -> Option<Value> {
    let text = |pointer: &str| reference.pointer(pointer).and_then(Value::as_str);
    let api = api(
        client,
        text("/apiVersion")?,
        text("/kind")?,
        text("/metadata/namespace"),
    );
    let object = api.get_opt(text("/metadata/name")?).await.unwrap()?;
    Some(comparable(serde_json::to_value(object).unwrap()))
}

/// Without what differs from run to run.
fn comparable(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for key in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for key in [
            "deployment.kubernetes.io/revision",
            "deprecated.daemonset.template.generation",
        ] {
            annotations.remove(key);
        }
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    for owner in metadata
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        owner.as_object_mut().unwrap().remove("uid");
    }
    // The documents inside of ConfigMaps are compared as documents; indentation is nobody's contract.
    if object["kind"] == "ConfigMap" {
        for (key, text) in object["data"].as_object_mut().unwrap() {
            if key != "Corefile" {
                *text = serde_norway::from_str(text.as_str().unwrap()).unwrap();
            }
        }
    }
    object
}

fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut BTreeMap<String, (Value, Value)>) {
    match (theirs, ours) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()) {
                let (one, other) = (
                    one.get(key).unwrap_or(&Value::Null),
                    other.get(key).unwrap_or(&Value::Null),
                );
                differences(&format!("{path}/{key}"), one, other, found);
            }
        }
        _ if theirs != ours => {
            found.insert(path.to_owned(), (theirs.clone(), ours.clone()));
        }
        _ => {}
    }
}

/// Every difference is a row of the table, and every row that holds on any machine is still a difference.
fn only_known(found: &BTreeMap<String, (Value, Value)>, known: &[(&str, &str)]) {
    let unknown: Vec<_> = found
        .iter()
        .filter(|(path, _)| !known.iter().any(|(known, _)| path.starts_with(known)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    for (row, reason) in known.iter().filter(|(_, reason)| !SOMETIMES.contains(reason)) {
        assert!(
            found.keys().any(|path| path.starts_with(row)),
            "no longer a difference: {row} ({reason})"
        );
    }
}

const MACHINE: &str = "kubeadm looks at the machine it runs on";
const SIGNED: &str = "signed for kubeadm's token, when the controller-manager comes to it";
const SOMETIMES: [&str; 2] = [MACHINE, SIGNED];

fn observed() -> Vec<Value> {
    use serde::Deserialize as _;
    serde_norway::Deserializer::from_str(include_str!("observed/tenant-objects.yaml"))
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn name(object: &Value) -> String {
    format!(
        "{} {}",
        object["kind"].as_str().unwrap(),
        object["metadata"]["name"].as_str().unwrap()
    )
}

/// Where we differ from Kamaji, and why. Everything else is equal, field by field, as the API server returns it.
const KNOWN_DIFFERENCES: [(&str, &str); 5] = [
    (
        "ConfigMap cluster-info/data/kubeconfig/clusters",
        "the recording holds a placeholder for the certificate",
    ),
    (
        "ConfigMap kube-proxy/data/config.conf/clusterCIDR",
        "as kubeadm writes it: without it traffic from outside is not masqueraded",
    ),
    (
        "ConfigMap kubeadm-config/data/ClusterConfiguration/encryptionAlgorithm",
        "what we issue",
    ),
    (
        "ConfigMap kubeadm-config/data/ClusterConfiguration/apiServer/extraArgs",
        "the prefix that is used, not the control plane's name",
    ),
    // As kubeadm of the tenant's own minor: defaults are the kubelet's to choose. See the test with the real kubeadm.
    ("ConfigMap kubelet-config/data/kubelet/", "defaults are not spelled out"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_what_kamaji_gives_it_and_keeps_it() {
    let server = tenant().await;
    let client = server.client().await;
    let desired = observed_control_plane(true, true);

    let first = inside::reconcile(&client, &desired).await.unwrap();
    assert_eq!(first.applied.len(), desired.apply.len());
    let second = inside::reconcile(&client, &desired).await.unwrap();
    assert!(second.is_idle(), "a second pass wrote {second:?}");
    assert_eq!(second.unchanged, desired.apply.len() + desired.remove.len());

    let mut found = BTreeMap::new();
    for theirs in observed() {
        match live(&client, &theirs).await {
            Some(ours) => differences(&name(&theirs), &comparable(theirs), &ours, &mut found),
            None => {
                found.insert(format!("missing: {}", name(&theirs)), (theirs, Value::Null));
            }
        }
    }
    only_known(&found, &KNOWN_DIFFERENCES);

    deleted_and_changed_objects_come_back(&client, &desired).await;
    others_fields_survive(&client, &desired).await;
    what_cannot_be_changed_is_made_anew(&client, &desired).await;
    only_our_own_addons_are_removed(&client).await;
}

async fn deleted_and_changed_objects_come_back(client: &Client, desired: &Desired) {
    for object in &desired.apply {
        let (reference, manifest) = (&object.reference, &object.manifest);
        let api = api(
            client,
            manifest["apiVersion"].as_str().unwrap(),
            manifest["kind"].as_str().unwrap(),
            reference.namespace,
        );
        match api.delete(&reference.name, &DeleteParams::default()).await {
            // Some are owned by others of them, and the garbage collector may be first.
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{}: {error}", object.reference),
        }
    }
    inside::reconcile(client, desired).await.unwrap();
    // Foreground garbage collection of what the deleted bindings owned may still be under way.
    settle(client, desired).await;
    for object in &desired.apply {
        assert!(live(client, &object.manifest).await.is_some(), "{}", object.reference);
    }

    let merge = |value: Value| async move { Patch::Merge(value) };
    let parameters = PatchParams::default();
    config_maps(client, "kube-system")
        .patch(
            "kubeadm-config",
            &parameters,
            &merge(json!({"data": {"ClusterConfiguration": "nonsense"}})).await,
        )
        .await
        .unwrap();
    api(client, "rbac.authorization.k8s.io/v1", "ClusterRole", None)
        .patch("kubeadm:get-nodes", &parameters, &merge(json!({"rules": []})).await)
        .await
        .unwrap();
    let outcome = inside::reconcile(client, desired).await.unwrap();
    let mut repaired: Vec<String> = outcome.applied.iter().map(ToString::to_string).collect();
    repaired.sort();
    assert_eq!(
        repaired,
        ["ClusterRole kubeadm:get-nodes", "ConfigMap kube-system/kubeadm-config"]
    );
}

async fn settle(client: &Client, desired: &Desired) {
    let mut idle = 0;
    for _ in 0..100 {
        idle = if inside::reconcile(client, desired).await.unwrap().is_idle() {
            idle + 1
        } else {
            0
        };
        if idle == 5 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("the tenant never came to rest");
}

async fn others_fields_survive(client: &Client, desired: &Desired) {
    let signature = json!({"data": {"jws-kubeconfig-abcdef": "signature"}});
    let public = config_maps(client, "kube-public");
    public
        .patch("cluster-info", &PatchParams::default(), &Patch::Merge(signature))
        .await
        .unwrap();
    let drift = json!({"data": {"kubeconfig": "nonsense"}});
    public
        .patch("cluster-info", &PatchParams::default(), &Patch::Merge(drift))
        .await
        .unwrap();
    inside::reconcile(client, desired).await.unwrap();
    let data = public.get("cluster-info").await.unwrap().data;
    assert_eq!(data["data"]["jws-kubeconfig-abcdef"], "signature");
    assert!(
        data["data"]["kubeconfig"]
            .as_str()
            .unwrap()
            .contains("https://10.99.0.1:31077")
    );
}

async fn what_cannot_be_changed_is_made_anew(client: &Client, desired: &Desired) {
    let bindings = api(client, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None);
    bindings
        .delete("kubeadm:get-nodes", &DeleteParams::default())
        .await
        .unwrap();
    let other: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "kubeadm:get-nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }))
    .unwrap();
    bindings.create(&PostParams::default(), &other).await.unwrap();
    inside::reconcile(client, desired).await.unwrap();
    assert_eq!(
        bindings.get("kubeadm:get-nodes").await.unwrap().data["roleRef"]["name"],
        "kubeadm:get-nodes"
    );
}

async fn only_our_own_addons_are_removed(client: &Client) {
    // The tenant takes kube-proxy's ConfigMap into its own hands.
    let unlabel = json!({"metadata": {"labels": {"kamaji.clastix.io/project": null}}});
    let system = config_maps(client, "kube-system");
    system
        .patch("kube-proxy", &PatchParams::default(), &Patch::Merge(unlabel))
        .await
        .unwrap();
    let without = observed_control_plane(false, false);
    let outcome = inside::reconcile(client, &without).await.unwrap();
    assert_eq!(outcome.applied, []);
    settle(client, &without).await;
    assert!(system.get_opt("coredns").await.unwrap().is_none());
    assert!(system.get_opt("kube-proxy").await.unwrap().is_some());
    let deployments = api(client, "apps/v1", "Deployment", Some("kube-system"));
    assert_eq!(
        deployments
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_heard_of_and_our_own_writes_are_not_drift() {
    let server = tenant().await;
    let client = server.client().await;
    let desired = observed_control_plane(false, false);
    inside::reconcile(&client, &desired).await.unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    let guard = Guard::start(client.clone(), &desired, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let wait_for = async |count: usize| {
        for _ in 0..200 {
            if heard.load(Ordering::SeqCst) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("heard of {} changes, not {count}", heard.load(Ordering::SeqCst));
    };
    // The watches begin with a list; a change is certainly heard of once one was.
    let bindings = api(&client, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None);
    let public = config_maps(&client, "kube-public");
    for _ in 0..100 {
        let touch = json!({"data": {"extra": testbed::unique("x")}});
        public
            .patch("cluster-info", &PatchParams::default(), &Patch::Merge(touch))
            .await
            .unwrap();
        if heard.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = heard.load(Ordering::SeqCst);
    bindings
        .delete("kubeadm:kubelet-bootstrap", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(before + 1).await;
    inside::reconcile(&client, &desired).await.unwrap();
    config_maps(&client, "kube-system")
        .delete("kubelet-config", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(before + 2).await;
    inside::reconcile(&client, &desired).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        heard.load(Ordering::SeqCst),
        before + 2,
        "what we wrote ourselves is not reported"
    );
    drop(guard);
}

/// kubeadm is given the same facts and fills another tenant; what both made is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubeadm_itself_makes_the_same() {
    let (ours, theirs) = (tenant().await, tenant().await);
    let (our_client, their_client) = (ours.client().await, theirs.client().await);
    let desired = observed_control_plane(true, true);
    inside::reconcile(&our_client, &desired).await.unwrap();

    let directory = theirs.directory().join("kubeadm");
    std::fs::create_dir_all(&directory).unwrap();
    let (kubeconfig, config) = (directory.join("admin.conf"), directory.join("kubeadm.yaml"));
    std::fs::write(&kubeconfig, serde_norway::to_string(&theirs.kubeconfig()).unwrap()).unwrap();
    std::fs::write(&config, KUBEADM_CONFIGURATION).unwrap();
    let kubeadm = local::programs::locate().unwrap().path("kubeadm");
    for phase in [
        &["upload-config", "kubeadm"][..],
        &["upload-config", "kubelet"],
        &["bootstrap-token", "--skip-token-print"],
        &["addon", "coredns"],
        &["addon", "kube-proxy"],
    ] {
        let run = tokio::process::Command::new(&kubeadm)
            .args(["init", "phase"])
            .args(phase)
            .arg("--config")
            .arg(&config)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubeadm {phase:?}: {said}");
    }

    let mut found = BTreeMap::new();
    let mut compared = 0;
    for object in &desired.apply {
        // Each of these is a row too.
        let Some(kubeadms) = live(&their_client, &object.manifest).await else {
            found.insert(format!("only ours: {}", object.reference), (Value::Null, Value::Null));
            continue;
        };
        compared += 1;
        let mut our_object = live(&our_client, &object.manifest).await.unwrap();
        // How we know what may be removed; kubeadm never removes anything.
        let metadata = our_object["metadata"].as_object_mut().unwrap();
        metadata.remove("ownerReferences");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("kamaji.clastix.io/project");
            if labels.is_empty() {
                metadata.remove("labels");
            }
        }
        differences(&object.reference.to_string(), &kubeadms, &our_object, &mut found);
    }
    assert!(compared >= 24, "only {compared} objects were compared");
    only_known(&found, &KUBEADM_DIFFERENCES);
}

/// Where we differ from kubeadm, and why.
const KUBEADM_DIFFERENCES: [(&str, &str); 11] = [
    (
        "ConfigMap kube-system/kubeadm-config/data/ClusterConfiguration/etcd/external/",
        "bare host:port as Kamaji has it; kubeadm refuses that as an input, and does not read it when nodes join",
    ),
    (
        "ConfigMap kube-system/kube-proxy/metadata/annotations",
        "a hash for `kubeadm upgrade`, which we stand in for",
    ),
    ("ConfigMap kube-system/kubelet-config/data/kubelet/resolvConf", MACHINE),
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
    (
        "ConfigMap kube-public/cluster-info/data/kubeconfig/clusters",
        "the test bed's address and authority",
    ),
    ("ConfigMap kube-public/cluster-info/data/jws-kubeconfig-", SIGNED),
];

const TUNNEL: &str = "kubeadm has no such add-on";

const KUBEADM_CONFIGURATION: &str = r"
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: demo
controlPlaneEndpoint: 10.99.0.1:31077
kubernetesVersion: v1.36.3
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
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
";
