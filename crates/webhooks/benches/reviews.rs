//! What a review costs from its bytes to the bytes of its answer: time, and how often memory is asked for.
//!
//! The reviews in `recorded` are what a kube-apiserver 1.36 sent to a webhook that takes everything.
//!
//! `cargo bench -p webhooks`

use std::time::{Duration, Instant};

use api::capsule::v1beta2::Tenant;
use divan::{AllocProfiler, Bencher, black_box};
use serde_json::{Value, json};
use tenancy::index::Index;
use webhooks::{metrics::Metrics, review, router::Router, rules::RULES, view::Source};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const KINDS: [&str; 5] = ["Namespace", "Pod", "Ingress", "PersistentVolumeClaim", "Service"];

/// Path of the hook, and the review.
fn recorded(kind: &str) -> (&'static str, &'static [u8]) {
    match kind {
        "Namespace" => ("/namespaces/validating", include_bytes!("recorded/namespace.json")),
        "Pod" => ("/pods/validating", include_bytes!("recorded/pod.json")),
        "Ingress" => ("/ingresses/validating", include_bytes!("recorded/ingress.json")),
        "PersistentVolumeClaim" => (
            "/persistentvolumeclaims/validating",
            include_bytes!("recorded/persistentvolumeclaim.json"),
        ),
        _ => ("/services/validating", include_bytes!("recorded/service.json")),
    }
}

/// The tenant of the reviews, with something to decide about each.
fn router() -> Router {
    let index = Index::default();
    let tenant = json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "Tenant",
        "metadata": {"name": "oil", "uid": "6a1f0d5e-7f3b-4c22-9d7a-0d3c5a1b2e4f"},
        "spec": {
            "owners": [{"kind": "User", "name": "alice"}],
            "namespaceOptions": {"quota": 10, "forbiddenLabels": {"deniedRegex": "^pod-security"}},
            "containerRegistries": {"allowed": ["docker.io", "registry.example"], "allowedRegex": "^ghcr\\.io$"},
            "ingressOptions": {
                "allowedHostnames": {"allowedRegex": "^.*\\.example\\.com$"}, "hostnameCollisionScope": "Tenant",
            },
            "serviceOptions": {"allowedServices": {"nodePort": false}},
            "storageClasses": {"allowed": ["fast"]},
            "priorityClasses": {"allowed": ["usual"]},
        },
    });
    let tenant: Tenant = serde_json::from_value(tenant).expect("a tenant");
    index.put_tenant(tenant.into());
    let namespace = json!({"metadata": {
        "name": "oil-web",
        "labels": {"capsule.clastix.io/tenant": "oil", "kubernetes.io/metadata.name": "oil-web"},
        "ownerReferences": [{
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil",
            "uid": "6a1f0d5e-7f3b-4c22-9d7a-0d3c5a1b2e4f",
        }],
    }});
    index.put_namespace(&serde_json::from_value(namespace).expect("a namespace"));
    Router::new(RULES, Source::of_index(index), Metrics::default())
}

#[divan::bench(args = KINDS)]
fn read(bencher: Bencher, kind: &str) {
    let (_, body) = recorded(kind);
    bencher.bench(|| review::parse(black_box(body)).expect("a review"));
}

#[divan::bench(args = KINDS)]
fn answer(bencher: Bencher, kind: &str) {
    let ((path, body), router) = (recorded(kind), router());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let answer = |body| {
        let deadline = Instant::now() + Duration::from_secs(9);
        runtime
            .block_on(router.answer(path, body, deadline))
            .expect("an answer")
    };
    let reply = answer(body);
    let reply: Value = serde_json::from_slice(&reply).expect("JSON");
    assert_eq!(reply["response"]["allowed"], true, "{reply}");
    bencher.bench_local(|| answer(black_box(body)));
}
