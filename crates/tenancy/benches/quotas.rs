//! How long a promise from a budget over many namespaces takes.
//!
//! `cargo bench -p tenancy --bench quotas`

use std::collections::BTreeMap;

use api::capsule::v1beta2::LedgerObject;
use divan::{Bencher, black_box};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;
use tenancy::quota::{
    amounts::Amounts,
    ledger::{Ledger, Request},
    usage::{self, Object, Resource},
};

/// Reservations that wait for their objects.
const WAITING: [usize; 3] = [0, 10, 1_000];

fn main() {
    divan::main();
}

fn amounts(of: &[(&str, &str)]) -> Amounts {
    let wire: BTreeMap<String, Quantity> = of
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect();
    Amounts::parse("hard", Some(&wire)).expect("amounts")
}

fn request(id: usize) -> Request {
    let usage = amounts(&[("pods", "1"), ("requests.cpu", "100m"), ("requests.memory", "64Mi")]);
    Request {
        id: format!("request-{id}"),
        object: LedgerObject {
            uid: format!("uid-{id}"),
            ..LedgerObject::default()
        },
        delta: usage.clone(),
        usage,
    }
}

#[divan::bench(args = WAITING)]
fn reserve_for_a_pod(bencher: Bencher, waiting: usize) {
    let hard = amounts(&[("pods", "10k"), ("requests.cpu", "10k"), ("requests.memory", "10Ti")]);
    let now = Timestamp::UNIX_EPOCH;
    let ledger = (0..waiting).fold(Ledger::default(), |ledger, id| {
        ledger.reserve(&request(id), &hard, now).expect("room")
    });
    let next = request(waiting);
    bencher.bench(|| ledger.reserve(black_box(&next), &hard, now).expect("room"));
}

#[divan::bench]
fn count_a_pod(bencher: Bencher) {
    let resource = Resource {
        group: String::new(),
        plural: "pods".to_owned(),
    };
    let pod = json!({"metadata": {"name": "web"}, "spec": {
        "containers": [
            {"name": "web", "image": "registry.example/web:1",
             "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}},
            {"name": "proxy", "image": "registry.example/proxy:1", "resources": {"requests": {"cpu": "10m"}}},
        ],
        "initContainers": [{"name": "wait", "image": "registry.example/wait:1", "resources": {"requests": {"memory": "1Gi"}}}],
    }});
    let pod = Object::read(&resource, &pod).expect("a pod");
    bencher.bench(|| usage::of(&resource, black_box(&pod), Timestamp::UNIX_EPOCH).expect("amounts"));
}
