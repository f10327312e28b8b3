//! A control plane with two replicas gets new pods while clients write and read: two outside, with new connections and with a
//! kept one, and two in a pod on the tenant's worker, by the name `kubernetes.default`.

use kube::Client;
use local::{image::Image, progress::Lines};
use serde::Deserialize;
use serde_json::json;

use crate::{
    bed::{Bed, Tenant},
    hosting::PATIENCE,
    traffic::Traffic,
};

/// kubectl and a shell.
const CLIENT: &str = "docker.io/library/client";

pub(crate) async fn no_request_fails_while_pods_are_replaced(bed: &Bed) {
    let oil = &bed.oil;
    write_in_a_pod(bed, oil).await;
    let config = oil.config(bed).await;
    let client = Client::try_from(config.clone()).unwrap();
    let kept = Traffic::start("kept", move || Ok(client.clone())).await.unwrap();
    let new = Traffic::start("new", move || Ok(Client::try_from(config.clone())?))
        .await
        .unwrap();

    let before = pods(bed, oil);
    assert_eq!(before.len(), 2);
    roll(bed, oil);
    let after = pods(bed, oil);
    assert_eq!(after.len(), 2);
    assert!(!after.iter().any(|pod| before.contains(pod)), "not all were replaced");

    let (kept, new) = (kept.stop().await.unwrap(), new.stop().await.unwrap());
    for counts in [&kept, &new] {
        eprintln!("{counts:?}");
        assert_eq!((counts.failed, counts.stale), (0, 0), "{counts:?}");
        assert!(counts.requests > 10, "{counts:?}");
    }
    assert_eq!(new.sent_again, 0, "a new connection was closed without an answer");
    what_the_pod_wrote_is_there(oil);
}

/// Asks for a flag that changes nothing else, and waits until the last pod without it is gone.
fn roll(bed: &Bed, tenant: &Tenant) {
    let admin = bed.admin();
    let patch = json!({"spec": {"controlPlane": {"deployment": {"extraArgs":
        {"apiServer": ["--max-requests-inflight=401"]}}}}});
    admin.ok(&format!(
        "patch tenantcontrolplane {} --type=merge -p '{patch}'",
        tenant.name
    ));
    admin.eventually(PATIENCE, &format!("get deployment {} -o yaml", tenant.name), |said| {
        said.contains("--max-requests-inflight=401")
    });
    admin.ok(&format!("rollout status deployment/{} --timeout=300s", tenant.name));
    admin.eventually(PATIENCE, &format!("get pods {} -o name", tenant.pods()), |said| {
        said.lines().count() == 2
    });
    bed.hosting.is_ready(tenant.name);
}

/// UIDs of its control plane's pods.
fn pods(bed: &Bed, tenant: &Tenant) -> Vec<String> {
    let line = format!("get pods {} -o jsonpath={{.items[*].metadata.uid}}", tenant.pods());
    bed.admin().ok(&line).split_whitespace().map(str::to_owned).collect()
}

async fn write_in_a_pod(bed: &Bed, tenant: &Tenant) {
    let kubectl = local::programs::locate().unwrap().path("kubectl");
    let mut image = Image::builder(CLIENT, "test")
        .file(kubectl, "/bin/kubectl")
        .program("/bin/busybox".as_ref(), "/bin/busybox")
        .unwrap();
    for name in ["sh", "timeout", "usleep", "wget"] {
        image = image.symlink(&format!("/bin/{name}"), "busybox");
    }
    let images = local::images::ensure(&[image], &Lines).unwrap();
    bed.hosting.cluster().push(&images.directory).await.unwrap();

    let person = &tenant.administrator;
    person.eventually(PATIENCE, "get serviceaccount default", |_| true);
    person.ok("create rolebinding writes --clusterrole=edit --serviceaccount=default:default");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "writer", "image": format!("{CLIENT}:test"), "command": ["sh", "-c", include_str!("in_a_pod.sh")],
            // Of these kubectl makes the API server's address.
            "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "kubernetes.default"},
                {"name": "KUBERNETES_SERVICE_PORT", "value": "443"}],
        }]},
    });
    person.apply(&pod.to_string());
    person.eventually(PATIENCE, "logs writer", |said| said.contains("started"));
}

/// What the pod says in the end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    requests: u64,
    sent_again: u64,
    failed: u64,
    written: usize,
}

fn what_the_pod_wrote_is_there(tenant: &Tenant) {
    let person = &tenant.administrator;
    person.eventually(PATIENCE, "exec writer -- busybox touch /tmp/stop", |_| true);
    person.eventually(PATIENCE, "logs writer", |said| said.trim_end().ends_with('}'));
    let logs = person.ok("logs writer");
    let said: Said = serde_json::from_str(logs.lines().last().unwrap()).unwrap();
    eprintln!("{said:?}");
    assert_eq!(said.failed, 0, "{logs}");
    // The proxy has one connection, and each of the two pods that went closes it once at most.
    assert!(said.requests > 10 && said.sent_again <= 2, "{logs}");
    let there = person.ok("get configmaps -l by=a-pod -o name");
    assert_eq!(there.lines().count(), said.written, "{logs}");
    person.ok("delete pod writer --now");
}
