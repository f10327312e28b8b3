//! How long decisions take about what is in tenants' namespaces, and about what tenants are made of.
//!
//! `cargo bench -p tenancy --bench contents`

mod world;

use std::{collections::BTreeMap, time::Instant};

use api::capsule::v1beta2::{CapsuleConfiguration, CapsuleConfigurationSpec, ProcessedItem, Tenant, TenantOwner};
use divan::{Bencher, black_box};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolumeClaim, Service},
    networking::v1::Ingress,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenancy::{
    caller::{self, Caller},
    claims::{self, ChosenBy, NamedVolume},
    configuration_admission,
    cordon::{self, Attempt},
    denial::{Decision, Denial},
    devices::{self, Claim},
    gateways::{self, Gateway},
    hostname_collision::{self, Register},
    index::View,
    ingress, nodes,
    replication::{guard::Made, identity::ReplicationName},
    services,
    subject::User,
    tenant_admission, tenant_owners,
};
use world::{NAMESPACES_EACH, TENANTS, World, namespace, world};

fn main() {
    divan::main();
}

fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("an object")
}

fn allowed<K>(decision: &Decision<K>) -> bool {
    matches!(decision, Decision::Allow | Decision::Warn(_))
}

/// Asks about something in a namespace of one of the tenants.
fn in_a_tenant(
    world: &World,
    question: impl FnOnce(&tenancy::index::KnownTenant, &View) -> Result<(), Denial>,
) -> Result<(), Denial> {
    let view = View::new(&world.index);
    let tenant = view.tenant_of(black_box("team-7-0"))?.expect("a tenant");
    let answer = question(&tenant, &view);
    assert_eq!(answer, Ok(()));
    answer
}

fn ingress_of(tenant: usize, name: &str) -> Ingress {
    object(json!({
        "metadata": {"name": name, "namespace": format!("team-{tenant}-0")},
        "spec": {"ingressClassName": "public", "rules": [
            {"host": format!("{name}.team-{tenant}.example"), "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}},
        ]},
    }))
}

#[divan::bench(args = TENANTS)]
fn check_an_ingress(bencher: Bencher, tenants: usize) {
    let (world, wanted) = (world(tenants), ingress_of(7, "www"));
    bencher.bench(|| {
        in_a_tenant(&world, |tenant, _| {
            ingress::validate(tenant, black_box(&wanted), |_| None)
        })
    });
}

/// Each tenant has three Ingresses, and no hostname may be taken twice in the cluster.
#[allow(
    clippy::disallowed_methods,
    reason = "a bench is no decision: it may look at the clock"
)]
#[divan::bench(args = TENANTS)]
fn admit_a_hostname(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let mut register = Register::default();
    for tenant in 0..tenants {
        for number in 0..NAMESPACES_EACH {
            register.put(&ingress_of(tenant, &format!("site-{number}")));
        }
    }
    let (wanted, now) = (ingress_of(7, "www"), Instant::now());
    bencher.bench_local(|| {
        in_a_tenant(&world, |tenant, view| {
            register.admit(&hostname_collision::Request {
                tenant,
                view,
                namespace: "team-7-0",
                ingress: black_box(&wanted),
                old: None,
                is_dry_run: true,
                now,
            })
        })
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_service(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let service: Service = object(json!({
        "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"note": "a"}},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80}], "externalIPs": ["192.0.2.7"]},
    }));
    bencher.bench(|| {
        in_a_tenant(&world, |tenant, _| {
            services::validate(tenant, black_box(&service), None)
        })
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_gateway(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let gateway: Gateway = object(json!({"metadata": {"name": "web"}, "spec": {"gatewayClassName": "own"}}));
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    bencher.bench(|| {
        in_a_tenant(&world, |tenant, _| {
            gateways::validate(tenant, black_box(&gateway), None, Some(&labels))
        })
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_claim_of_devices(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let claim: Claim = object(json!({"spec": {"devices": {"requests": [
        {"name": "one", "exactly": {"deviceClassName": "gpu"}},
        {"name": "two", "firstAvailable": [{"name": "a", "deviceClassName": "gpu"}]},
    ]}}}));
    bencher.bench(|| {
        in_a_tenant(&world, |tenant, _| {
            devices::validate(tenant, black_box(&claim), |_| None)
        })
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_claim_of_a_volume(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let claim: PersistentVolumeClaim = object(json!({
        "metadata": {"name": "data"}, "spec": {"storageClassName": "fast-1", "volumeName": "disk"},
    }));
    let labels = BTreeMap::from([("capsule.clastix.io/tenant".to_owned(), "team-7".to_owned())]);
    bencher.bench(|| {
        in_a_tenant(&world, |tenant, _| {
            let volume = Some(NamedVolume::Found(Some(&labels)));
            claims::validate(black_box(&claim), volume, ChosenBy::Author, tenant.name.as_str())
        })
    });
}

#[divan::bench(args = TENANTS)]
fn refuse_in_a_frozen_namespace(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let attempt = Attempt {
        operation: "CREATE",
        group: "",
        version: "v1",
        kind: "ConfigMap",
        name: "map",
        namespace: "team-7-0",
        tenant: Some("team-7"),
    };
    bencher.bench(|| {
        let user = User {
            name: black_box("user-7"),
            groups: &world.groups,
        };
        let caller = caller::classify(&user, &world.settings, &View::new(&world.index));
        assert_eq!(caller, Caller::TenantUser);
        cordon::decide(caller, &attempt)
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_node(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let spec: CapsuleConfigurationSpec = object(json!({"nodeMetadata": {
        "forbiddenLabels": {"denied": ["pool"], "deniedRegex": "^node-"}, "forbiddenAnnotations": {},
    }}));
    let node = |labels: Value| -> Node { object(json!({"metadata": {"name": "one", "labels": labels}})) };
    let (old, new) = (node(json!({"pool": "a"})), node(json!({"pool": "a", "mine": "x"})));
    bencher.bench(|| {
        let user = User {
            name: black_box("user-7"),
            groups: &world.groups,
        };
        let caller = caller::classify(&user, &world.settings, &View::new(&world.index));
        nodes::validate(caller, &spec, black_box(&new), &old)
    });
}

/// Each tenant has a replication of its own that made ten objects.
#[divan::bench(args = TENANTS)]
fn guard_what_a_replication_made(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let made = Made::default();
    for tenant in 0..tenants {
        let namespace = format!("team-{tenant}-0");
        let items: Vec<ProcessedItem> = (0..10)
            .map(|number| {
                object(json!({
                    "version": "v1", "kind": "Secret", "name": format!("pull-{number}"), "namespace": namespace,
                    "status": {"type": "Ready", "status": "True", "created": true},
                }))
            })
            .collect();
        let name = ReplicationName {
            namespace: Some(namespace),
            name: "pull".to_owned(),
        };
        made.put(&name, None, &items);
    }
    bencher.bench(|| {
        let (view, user) = (
            View::new(&world.index),
            User {
                name: "user-7",
                groups: &world.groups,
            },
        );
        let tenant = |name: &str| Some(view.tenant_of(name).ok()??.uid.clone());
        let are_of_one_tenant = |one: &str, other: &str| tenant(one) == tenant(other);
        made.decide(&user, "", "Secret", "team-7-0", black_box("pull-3"), are_of_one_tenant)
            .expect_err("a replication made it")
    });
}

#[divan::bench(args = TENANTS)]
fn look_up_the_tenant_of_a_namespace(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let new = namespace(7, "team-7-0", true);
    bencher.bench(|| {
        let view = View::new(&world.index).with_namespace(black_box(&new));
        view.tenant_of("team-7-0")
            .expect("a clear namespace")
            .expect("a tenant")
    });
}

#[divan::bench]
fn admit_a_tenant(bencher: Bencher) {
    let world = world(10);
    let tenant: Tenant = (*world.index.tenant("team-7").expect("a tenant").object).clone();
    bencher.bench(|| {
        let decision = tenant_admission::validate_create(black_box(&tenant), &world.settings);
        assert!(allowed(&decision), "{decision:?}");
    });
}

#[divan::bench]
fn admit_an_owner_of_tenants(bencher: Bencher) {
    let owner: TenantOwner = object(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner", "metadata": {"name": "alice"},
        "spec": {"kind": "User", "name": "alice"},
    }));
    bencher.bench(|| assert!(allowed(&tenant_owners::validate(black_box(&owner)))));
}

#[divan::bench]
fn admit_a_configuration(bencher: Bencher) {
    let configuration: CapsuleConfiguration = object(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
        "spec": {"users": [{"kind": "Group", "name": "projectcapsule.dev"}], "protectedNamespaceRegex": "^(kube|prod)-"},
    }));
    bencher.bench(|| assert!(allowed(&configuration_admission::validate(black_box(&configuration)))));
}
