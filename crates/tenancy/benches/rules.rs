//! How long rules take to decide, with ten to ten thousand tenants that have some.
//!
//! `cargo bench -p tenancy --bench rules`

use std::{collections::HashMap, sync::Arc};

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant};
use divan::{Bencher, black_box};
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use tenancy::{
    index::KnownTenant,
    pattern::Cache,
    rules::{
        CompiledRules, Mode,
        admission::{self, Content, Object, ObjectType, Request},
        audience::Requester,
        body,
    },
    settings::Settings,
    subject::User,
};

const TENANTS: [usize; 4] = [10, 100, 1_000, 10_000];
const CORE: ObjectType<'static> = ObjectType {
    group: "",
    version: "v1",
    kind: "Pod",
};

fn main() {
    divan::main();
}

struct World {
    known: HashMap<String, (Arc<KnownTenant>, CompiledRules)>,
    settings: Settings,
    groups: Vec<String>,
}

/// Every tenant has the same six rules but for its own name in them.
fn world(tenants: usize) -> World {
    let mut patterns = Cache::default();
    let mut known = HashMap::new();
    for number in 0..tenants {
        let name = format!("team-{number}");
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2",
            "kind": "Tenant",
            "metadata": {"name": name, "uid": format!("uid-{number}")},
            "spec": {"owners": [{"kind": "User", "name": format!("user-{number}")}], "rules": rules(&name)},
        }))
        .expect("a tenant");
        let tenant = Arc::new(KnownTenant::new(Arc::new(tenant), &mut patterns));
        let bodies = body::for_namespace(&tenant.object, &[].into(), |text| Ok(text.to_owned())).expect("rules");
        let rules = CompiledRules::new(&name, Mode::Enforce, &bodies, &mut patterns);
        known.insert(name, (tenant, rules));
    }
    let configuration: CapsuleConfiguration = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"},
        "spec": {"users": [{"kind": "Group", "name": "projectcapsule.dev"}]},
    }))
    .expect("a configuration");
    World {
        known,
        settings: Settings::new(Some(&configuration), "cotenant-system", "cotenant"),
        groups: vec!["projectcapsule.dev".into(), "system:authenticated".into()],
    }
}

fn rules(name: &str) -> Value {
    json!([
        {"enforce": {"action": "allow", "workloads": {"registries": [
            {"exp": format!("^registry.example/{name}/"), "policy": ["Always"]},
            {"exp": "^registry.example/shared/"},
        ]}}},
        {"enforce": {"action": "deny", "workloads": {"registries": [{"exp": ":latest$"}], "schedulers": [{"exact": ["mine"]}]}}},
        {"enforce": {"action": "allow", "workloads": {"resources": {"limits": {"cpu": {"policy": "Ratio", "value": "4"}}}}}},
        {"enforce": {"action": "allow", "metadata": [{"kinds": ["*"], "apiGroups": ["*"], "labels": {
            "app": {"required": true}, "team-*": {"values": [{"exp": "^[a-z]+$"}]},
        }}]}},
        {"enforce": {"action": "allow", "ingress": {
            "types": ["Ingress"], "hostnames": [{"exp": format!(r"^[a-z0-9-]+\.{name}\.example$")}],
        }}},
        {"audience": [{"kind": "Custom", "name": "TenantOwner"}], "enforce": {"action": "allow", "services": {
            "types": ["ClusterIP", "LoadBalancer"], "loadBalancers": {"cidrs": ["10.0.0.0/8", "192.0.2.0/24"]},
        }}},
    ])
}

fn ask<T>(
    world: &World,
    kind: ObjectType<'_>,
    object: Object<'_>,
    question: impl FnOnce(&CompiledRules, &Request<'_>) -> T,
) -> T {
    let (tenant, rules) = &world.known[black_box("team-7")];
    let user = User {
        name: "user-7",
        groups: &world.groups,
    };
    let request = Request {
        requester: Requester::new(user, &world.settings, tenant),
        kind,
        subresource: "",
        object,
        old: None,
    };
    question(rules, black_box(&request))
}

fn judge(rules: &CompiledRules, request: &Request<'_>) {
    let outcome = admission::validate(rules, request);
    assert!(outcome.is_allowed(), "{outcome:?}");
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "labels": {"app": "web", "team-a": "red", "pod-template-hash": "5d4f"}},
        "spec": {
            "schedulerName": "default-scheduler",
            "containers": [
                {"name": "web", "image": "registry.example/team-7/web:1", "imagePullPolicy": "Always",
                 "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}},
                {"name": "proxy", "image": "registry.example/shared/proxy:2", "imagePullPolicy": "IfNotPresent"},
            ],
        },
    }))
    .expect("a pod")
}

#[divan::bench(args = TENANTS)]
fn judge_a_pod(bencher: Bencher, tenants: usize) {
    let (world, pod) = (world(tenants), pod());
    bencher.bench(|| ask(&world, CORE, (&pod).into(), judge));
}

#[divan::bench(args = TENANTS)]
fn change_a_pod(bencher: Bencher, tenants: usize) {
    let (world, mut pod) = (world(tenants), pod());
    let spec = pod.spec.get_or_insert_default();
    if let Some(resources) = &mut spec.containers[0].resources {
        resources.limits = None;
    }
    bencher.bench(|| {
        let edits = ask(&world, CORE, (&pod).into(), admission::mutate);
        assert!(edits.pod.is_some());
        edits
    });
}

#[divan::bench(args = TENANTS)]
fn judge_a_service(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": "10.0.0.7", "loadBalancerSourceRanges": ["192.0.2.0/25"]},
    }))
    .expect("a service");
    let kind = ObjectType {
        kind: "Service",
        ..CORE
    };
    bencher.bench(|| ask(&world, kind, (&service).into(), judge));
}

#[divan::bench(args = TENANTS)]
fn judge_an_ingress(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let object = json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"rules": [{"host": "www.team-7.example"}, {"host": "api.team-7.example"}]},
    });
    let metadata = serde_json::from_value(object["metadata"].clone()).expect("metadata");
    let kind = ObjectType {
        group: "networking.k8s.io",
        version: "v1",
        kind: "Ingress",
    };
    bencher.bench(|| {
        let object = Object {
            metadata: &metadata,
            content: Content::Other(&object),
        };
        ask(&world, kind, object, judge);
    });
}

/// What a change of a tenant costs, once.
#[divan::bench]
fn compile_the_rules_of_a_tenant(bencher: Bencher) {
    let world = world(10);
    let (tenant, _) = &world.known["team-7"];
    let bodies = body::for_namespace(&tenant.object, &[].into(), |text| Ok(text.to_owned())).expect("rules");
    bencher.bench(|| CompiledRules::new("team-7", Mode::Enforce, black_box(&bodies), &mut Cache::default()));
}
