//! prod-team, who has a cluster of its own.

use crate::cluster::{Cluster, PATIENCE};

pub(crate) fn prod_team_uses_its_own_cluster(cluster: &Cluster) {
    let prod = &cluster.prod;
    let nodes = prod.ok("get nodes -o jsonpath={.items[*].metadata.name}");
    assert_eq!(
        nodes.split_whitespace().count(),
        1,
        "its own node and no other: {nodes}"
    );
    assert!(!nodes.contains("admin"), "{nodes}");
    prod.ok("wait --for=condition=Ready node --all --timeout=60s");
    prod.eventually(PATIENCE, "get serviceaccount default", |_| true);
    prod.ok("create deployment web --image=docker.io/library/busybox:1.36 -- httpd -f -p 8080");
    prod.ok("expose deployment web --port=80 --target-port=8080");
    prod.ok("rollout status deployment/web --timeout=90s");
    prod.ok("run client --image=docker.io/library/busybox:1.36 -- sh -c 'echo hello from the worker; sleep 3600'");
    prod.ok("wait --for=condition=Ready pod/client --timeout=60s");
    let logs = prod.ok("logs client");
    assert_eq!(logs.trim(), "hello from the worker");
    let said = prod.ok("exec client -- cat /etc/hostname");
    assert_eq!(said.trim(), "client");
    // Through the tenant's own kube-proxy and CoreDNS.
    prod.ok("-n kube-system rollout status deployment/coredns --timeout=90s");
    prod.eventually(
        PATIENCE,
        "exec client -- nslookup web.default.svc.cluster.local",
        |text| text.contains("10.116."),
    );
    // httpd has nothing to serve at /, and says so: that is an answer.
    prod.eventually(
        PATIENCE,
        "exec client -- sh -c 'timeout 3 wget -O - http://web/ 2>&1 || true'",
        |text| text.contains("404"),
    );
}

pub(crate) fn its_data_survives_a_restart(cluster: &Cluster) {
    let (admin, prod) = (&cluster.admin, &cluster.prod);
    let uid = prod.ok("get deployment web -o jsonpath={.metadata.uid}");
    admin.ok("-n prod-team delete pods -l kamaji.clastix.io/name=prod-team --wait=true");
    admin.eventually(
        PATIENCE,
        "-n prod-team get tenantcontrolplane prod-team -o jsonpath={.status.kubernetesResources.version.status}",
        |phase| phase == "Ready",
    );
    prod.eventually(PATIENCE, "get deployment web -o jsonpath={.metadata.uid}", |now| {
        now == uid
    });
}
