//! The tunnel, with real packets: a control plane and a worker that lets nobody in. Without the tunnel nothing reaches it, with
//! it all that people do with pods goes on; by a port of its own, and by the API server's where no other is open.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;
#[allow(dead_code, reason = "other tests say more")]
#[path = "../hosting/mod.rs"]
mod hosting;
#[allow(dead_code, reason = "other tests say more")]
#[path = "../kubectl/mod.rs"]
mod kubectl;
mod worker;

use bed::{API_SERVER, Bed, TUNNEL};
use hosting::PATIENCE;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_reaches_a_worker_that_lets_nobody_in() {
    let bed = Bed::start().await;
    let worker = bed.join_worker().await;
    bed.run_pod();
    bed.pod_is_reached("with nothing in between");
    worker.lets_nobody_in();
    bed.pod_is_out_of_reach();

    bed.ask_for(&json!({"server": {"port": TUNNEL}}));
    bed.pod_is_reached("by the tunnel");
    webhooks_reach_their_services(&bed);

    bed.tenant
        .ok("-n kube-system delete pods -l k8s-app=konnectivity-agent --wait=true");
    bed.pod_is_reached("after its agent was started anew");
    bed.admin
        .ok("-n default delete pods -l kamaji.clastix.io/name=oil --wait=true");
    bed.pod_is_reached("after the control plane was started anew");

    worker.calls_the_api_server_alone();
    bed.ask_for(&json!({"server": {"port": API_SERVER}}));
    bed.admin.eventually(
        PATIENCE,
        "get service oil -o jsonpath={.spec.ports[*].targetPort}",
        |ports| ports == "8135",
    );
    bed.pod_is_reached("by the API server's port");

    bed.ask_for(&json!(null));
    bed.pod_is_out_of_reach();
    nothing_is_left(&bed);
}

/// The API server calls webhooks of the tenant, and what is behind the tenant's Services, which are addresses of the worker's
/// network alone.
fn webhooks_reach_their_services(bed: &Bed) {
    let tenant = &bed.tenant;
    tenant.ok("expose pod web --port=443 --target-port=8080");
    tenant.eventually(
        PATIENCE,
        "get --raw /api/v1/namespaces/default/services/web:443/proxy/hostname",
        |said| said.trim() == "web",
    );
    tenant.apply(
        "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: web}, webhooks: [{name: web.example.test, \
         clientConfig: {service: {name: web, namespace: default}}, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Fail, \
         objectSelector: {matchLabels: {reviewed: 'yes'}}, \
         rules: [{apiGroups: [''], apiVersions: [v1], resources: [services], operations: [UPDATE]}]}]}",
    );
    // The server there speaks no TLS: that it says so is an answer, and nobody else would give it.
    let begun = std::time::Instant::now();
    loop {
        let (_, said) = tenant.attempt("label service web reviewed=yes --overwrite --dry-run=server");
        if said.contains("server gave HTTP response to HTTPS client") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    tenant.ok("delete validatingwebhookconfiguration web");
    tenant.ok("delete service web");
}

fn nothing_is_left(bed: &Bed) {
    for gone in [
        "-n kube-system get daemonset,deployment,serviceaccount,pod -o name",
        "get clusterrolebinding -o name",
    ] {
        bed.tenant
            .eventually(PATIENCE, gone, |said| !said.contains("konnectivity"));
    }
    for gone in [
        "-n default get secret,configmap -o name",
        "-n default get deployment,pod,service -o yaml",
    ] {
        bed.admin.eventually(PATIENCE, gone, |said| {
            !said.contains("konnectivity-") && !said.contains("tls-router")
        });
    }
    assert_eq!(bed.ports(), ["kube-apiserver"]);
}
