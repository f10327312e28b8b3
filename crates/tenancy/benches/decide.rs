//! How long decisions take with ten, a thousand, ten thousand tenants: they should take the same time with all of them.
//!
//! `cargo bench -p tenancy`

mod world;

use divan::{Bencher, black_box};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::json;
use tenancy::{
    caller, classes,
    index::View,
    namespace_admission::{Operation, Request, mutate, validate},
    pods::{self, Classes},
    subject::User,
};
use world::{TENANTS, World, namespace, world};

fn main() {
    divan::main();
}

fn request<'a>(
    world: &'a World,
    view: &'a View,
    user: &'a str,
    object: &'a Namespace,
    old: Option<&'a Namespace>,
) -> Request<'a> {
    Request {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        subresource: "",
        user: User {
            name: user,
            groups: &world.groups,
        },
        object: Some(object),
        old,
        settings: &world.settings,
        view,
    }
}

#[divan::bench(args = TENANTS)]
fn assign_a_new_namespace(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let new = namespace(7, "team-7-new", false);
    bencher.bench(|| {
        let view = View::new(&world.index);
        mutate(black_box(&request(&world, &view, "user-7", &new, None)))
    });
}

#[divan::bench(args = TENANTS)]
fn validate_a_new_namespace(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let new = namespace(7, "team-7-new", true);
    bencher.bench(|| {
        let view = View::new(&world.index);
        validate(black_box(&request(&world, &view, "user-7", &new, None)))
    });
}

#[divan::bench(args = TENANTS)]
fn validate_a_changed_namespace(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let (old, mut new) = (namespace(7, "team-7-0", true), namespace(7, "team-7-0", true));
    new.metadata
        .labels
        .get_or_insert_default()
        .insert("mine".into(), "x".into());
    bencher.bench(|| {
        let view = View::new(&world.index);
        validate(black_box(&request(&world, &view, "user-7", &new, Some(&old))))
    });
}

#[divan::bench(args = TENANTS)]
fn check_a_storage_class(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    bencher.bench(|| {
        let view = View::new(&world.index);
        let tenant = view
            .tenant_of(black_box("team-7-0"))
            .expect("a clear namespace")
            .expect("a tenant");
        classes::storage_class(&tenant, Some(black_box("fast-1")), None)
    });
}

#[divan::bench(args = TENANTS)]
fn classify_a_service_account(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        "system:serviceaccounts:team-7-0".to_owned(),
    ];
    bencher.bench(|| {
        let view = View::new(&world.index);
        let user = User {
            name: black_box("system:serviceaccount:team-7-0:default"),
            groups: &groups,
        };
        caller::classify(&user, &world.settings, &view)
    });
}

#[divan::bench(args = TENANTS)]
fn validate_a_new_pod(bencher: Bencher, tenants: usize) {
    let world = world(tenants);
    let container = |name: &str| json!({"name": name, "image": "quay.oil.example/web:1", "imagePullPolicy": "Always"});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {
        "priorityClassName": "low", "containers": [container("web"), container("proxy")], "initContainers": [container("wait")]}}))
    .expect("a pod");
    bencher.bench(|| {
        let none = |_: &str| None;
        let classes = Classes {
            priority: &none,
            runtime: &none,
        };
        let tenant = View::new(&world.index)
            .tenant_of("team-7-0")
            .expect("a namespace of a tenant");
        pods::validate(black_box(&tenant.expect("a tenant")), black_box(&pod), None, classes)
    });
}
