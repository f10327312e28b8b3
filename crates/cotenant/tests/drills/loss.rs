//! A node of the admin cluster goes with one of two replicas, and comes back.

use std::{process::Command, time::Instant};

use local::worker::{Join, Worker};
use serde_json::json;

use crate::{
    bed::{Bed, Tenant},
    hosting::PATIENCE,
};

const SPARE: &str = "spare";

pub(crate) async fn a_control_plane_outlives_a_node(bed: &Bed) {
    let oil = &bed.oil;
    let join = invitation(bed);
    let spare = start(bed, &join).await;
    proxy_services(bed);
    move_one_replica(bed, oil);

    local::node::stop(&spare.handle().node().directory).unwrap();
    // Whoever asks again gets through meanwhile, because one replica is left.
    let write = "annotate namespace default drill=written --overwrite --request-timeout=5s";
    oil.administrator.eventually(PATIENCE, write, |_| true);
    bed.admin()
        .eventually(PATIENCE, &deployed(oil), |said| said == "1 False");
    everybody_is_answered(oil);

    let _spare = start(bed, &join).await;
    bed.admin()
        .eventually(PATIENCE, &deployed(oil), |said| said == "2 True");
    bed.hosting.is_ready(oil.name);
    everybody_is_answered(oil);
    let written = oil
        .administrator
        .ok("get namespace default -o jsonpath={.metadata.annotations.drill}");
    assert_eq!(written, "written");
}

/// Twenty in a row, each with a connection of its own.
fn everybody_is_answered(tenant: &Tenant) {
    let person = &tenant.administrator;
    let begun = Instant::now();
    // What leads connections to pods follows a moment later.
    while !(0..20).all(|_| person.attempt("get --raw /readyz --request-timeout=5s").0) {
        assert!(begun.elapsed() < PATIENCE, "requests go on failing");
    }
}

/// What prints how many replicas are ready, and what the condition says.
fn deployed(tenant: &Tenant) -> String {
    format!(
        "get tenantcontrolplane {} -o 'jsonpath={{.status.kubernetesResources.deployment.readyReplicas}} \
         {{.status.conditions[?(@.type==\"Deployed\")].status}}'",
        tenant.name
    )
}

/// Makes the admin cluster one that kubeadm lets machines into.
fn invitation(bed: &Bed) -> Join {
    let cluster = bed.hosting.cluster();
    // What the first node was made with. It has its certificates in another place than machines that join.
    let made_with = cluster.admin().node().directory.join("kubernetes");
    let configuration = std::fs::read_to_string(made_with.join("kubeadm.yaml")).unwrap();
    let certificates = made_with.join("pki").display().to_string();
    assert!(configuration.contains(&certificates));
    let path = bed.hosting.directory().join("kubeadm.yaml");
    std::fs::write(&path, configuration.replace(&certificates, "/etc/kubernetes/pki")).unwrap();
    let kubeadm = |line: &str, configured: bool| {
        let mut command = Command::new(local::programs::locate().unwrap().path("kubeadm"));
        command
            .args(line.split(' '))
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig());
        if configured {
            command.arg("--config").arg(&path);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubeadm {line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    kubeadm("init phase upload-config all", true);
    kubeadm("init phase bootstrap-token", true);
    let command = kubeadm("token create --print-join-command", false);
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|known| *known == word).unwrap();
        words[at + 1].to_owned()
    };
    Join {
        name: SPARE.to_owned(),
        endpoint: after("join"),
        token: after("--token"),
        ca_hashes: vec![after("--discovery-token-ca-cert-hash")],
        pod_subnet: None,
        memory_bytes: None,
    }
}

/// The node, with routes between its pods and those of the first.
async fn start(bed: &Bed, join: &Join) -> Worker {
    let cluster = bed.hosting.cluster();
    let worker = tokio::task::block_in_place(|| Worker::join(cluster, join)).unwrap();
    let joined = worker.joined(cluster, PATIENCE).await;
    joined.unwrap_or_else(|error| panic!("{error}"));
    let network = |node: &str| {
        bed.admin()
            .ok(&format!("get node {node} -o jsonpath={{.spec.podCIDR}}"))
    };
    let (first, second) = (network(local::cluster::ADMIN), network(SPARE));
    for (handle, network, via) in [
        (cluster.admin(), second, worker.address()),
        (worker.handle(), first, cluster.address()),
    ] {
        let mut ip = handle.command("ip").unwrap();
        let ip = ip.args(["route", "replace", &network, "via", &via.to_string()]);
        assert!(ip.status().unwrap().success(), "{ip:?}");
    }
    bed.admin()
        .ok(&format!("wait --for=condition=Ready node/{SPARE} --timeout=300s"));
    worker
}

/// What is a process of its own on the first node is a pod here. It calls the API server by its address.
fn proxy_services(bed: &Bed) {
    let (admin, cluster) = (bed.admin(), bed.hosting.cluster());
    admin.ok("-n kube-system create serviceaccount kube-proxy");
    admin.ok("create clusterrolebinding kube-proxy --clusterrole=system:node-proxier --serviceaccount=kube-system:kube-proxy");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        "spec": {
            "nodeName": SPARE, "hostNetwork": true, "serviceAccountName": "kube-proxy",
            "tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical",
            "containers": [{
                "name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.3",
                "command": ["kube-proxy", "--proxy-mode=nftables", "--conntrack-max-per-core=0",
                    format!("--cluster-cidr={}", local::cluster::POD_SUBNET), format!("--hostname-override={SPARE}")],
                "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": cluster.address()},
                    {"name": "KUBERNETES_SERVICE_PORT", "value": local::cluster::API_PORT.to_string()}],
                "securityContext": {"privileged": true},
            }],
        },
    });
    admin.apply(&pod.to_string());
    admin.ok("-n kube-system wait --for=condition=Ready pod/kube-proxy --timeout=300s");
}

/// Has one of the two replicas made anew on the second node.
fn move_one_replica(bed: &Bed, tenant: &Tenant) {
    let admin = bed.admin();
    let first = local::cluster::ADMIN;
    let line = format!("get pods {} -o jsonpath={{.items[0].metadata.name}}", tenant.pods());
    let pod = admin.ok(&line);
    admin.ok(&format!("cordon {first}"));
    admin.ok(&format!("delete pod {pod}"));
    let moved = format!(
        "get pods {} --field-selector spec.nodeName={SPARE} -o jsonpath={{.items[*].metadata.name}}",
        tenant.pods()
    );
    admin.eventually(PATIENCE, &moved, |said| !said.is_empty());
    admin.ok(&format!("uncordon {first}"));
    let pod = admin.ok(&moved);
    admin.ok(&format!("wait --for=condition=Ready pod/{pod} --timeout=300s"));
    admin.eventually(PATIENCE, &deployed(tenant), |said| said == "2 True");
}
