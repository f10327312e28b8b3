//! Packets between tenants' pods.

use crate::cluster::{Cluster, PATIENCE};
use crate::kubectl::Kubectl;

pub(crate) fn tenants_reach_themselves_and_dns_and_nobody_else(cluster: &Cluster) {
    probe(&cluster.alice, "dev-team-web");
    probe(&cluster.quinn, "qa-team-one");
    let web = cluster
        .alice
        .ok("-n dev-team-web get pod web -o jsonpath={.status.podIP}");
    let fetch = |target: &str| format!("exec probe -- timeout 3 wget -q -O /dev/null http://{target}/etc/hostname");

    // The lawful twins first: they show that the pod serves and that the test can tell.
    cluster.alice.eventually(
        PATIENCE,
        &format!("-n dev-team-web {}", fetch(&format!("{web}:8080"))),
        |_| true,
    );
    cluster.alice.eventually(
        PATIENCE,
        &format!("-n dev-team-web {}", fetch("web.dev-team-web.svc.cluster.local")),
        |_| true,
    );
    cluster.quinn.eventually(
        PATIENCE,
        "-n qa-team-one exec probe -- nslookup kubernetes.default.svc.cluster.local",
        |text| text.contains("10.96.0.1"),
    );

    let service = cluster
        .alice
        .ok("-n dev-team-web get service web -o jsonpath={.spec.clusterIP}");
    for target in [format!("{web}:8080"), service] {
        let (reached, said) = cluster.quinn.attempt(&format!("-n qa-team-one {}", fetch(&target)));
        // 143: ended by `timeout`, because nobody answered.
        assert!(
            !reached && said.contains("exit code 143"),
            "qa-team reached dev-team at {target}: {said}"
        );
    }
}

fn probe(owner: &Kubectl, namespace: &str) {
    owner.eventually(PATIENCE, &format!("-n {namespace} get serviceaccount default"), |_| {
        true
    });
    owner.ok(&format!(
        "-n {namespace} run probe --image=docker.io/library/busybox:1.36 -- sleep 3600"
    ));
    owner.ok(&format!(
        "-n {namespace} wait --for=condition=Ready pod/probe --timeout=60s"
    ));
}
