//! What is put into a tenant, on a real API server that stands for the tenant's, beside what Kamaji was observed to
//! put there (`observed/tenant-objects.yaml`). Beside what kubeadm puts there: `kubeadm.rs`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod comparison;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use comparison::{api, comparable, control_plane, differences, live, only_known, tenant};
use control_plane_controller::inside::{self, Desired, guard::Guard};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The control plane that was observed.
fn observed_control_plane(core_dns: bool, kube_proxy: bool) -> Desired {
    control_plane("v1.36.3", core_dns, kube_proxy)
}

fn config_maps(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api(client, "v1", "ConfigMap", Some(namespace))
}

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
    // As kubeadm of the tenant's own minor: defaults are the kubelet's to choose. See `kubeadm.rs`.
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
    let desired = observed_control_plane(true, false);
    inside::reconcile(&client, &desired).await.unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    let guard = Guard::start(&client, &desired, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let wait_for = async |count: usize| {
        for _ in 0..1200 {
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
    api(&client, "rbac.authorization.k8s.io/v1", "Role", Some("kube-system"))
        .delete("kubeadm:nodes-kubeadm-config", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(before + 3).await;
    inside::reconcile(&client, &desired).await.unwrap();
    let deployments = api(&client, "apps/v1", "Deployment", Some("kube-system"));
    let parameters = PatchParams::default();
    // Nodes that come and go change it every time.
    let status = Patch::Merge(json!({"status": {"replicas": 7}}));
    deployments.patch_status("coredns", &parameters, &status).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        heard.load(Ordering::SeqCst),
        before + 3,
        "what we wrote ourselves is not reported, nor is a status"
    );
    let spec = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("coredns", &parameters, &spec).await.unwrap();
    wait_for(before + 4).await;
    drop(guard);
}
