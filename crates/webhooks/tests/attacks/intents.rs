//! What somebody would like to have, each as a change of one object. How it is asked for is generated.

use serde_json::{Map, Value, json};

use super::scene::{Actor, EVERYBODY, NO_OWNERS, Scene, TENANT_USERS};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The object as it would be.
    Change,
    /// A new object like the lawful one, but for the change.
    Make,
    /// Its end.
    End,
}

/// An attack on one object.
pub struct Intent {
    pub name: &'static str,
    /// The object, by its word in the scene.
    pub on: &'static str,
    /// Where the same may be done harmlessly, and what new objects are like.
    pub twin: &'static str,
    pub acts: &'static [Act],
    pub change: fn(&mut Value, &Scene),
    /// Who is refused.
    pub actors: &'static [Actor],
    /// Hooks or policies, one of which refuses.
    pub guards: &'static [&'static str],
    /// What stays as it is, whatever is answered: JSON pointers.
    pub kept: &'static [&'static str],
}

const NAMESPACES: &[&str] = &[
    "namespaces.validating",
    "namespaces.mutating",
    "cotenant-namespace-ownership",
];
const MANAGED: &[&str] = &["cotenant-managed-objects"];
const TENANT_LABEL: &str = "/metadata/labels/capsule.clastix.io~1tenant";
const OWNERS: &str = "/metadata/ownerReferences";
const MARK: &str = "/metadata/labels/projectcapsule.dev~1managed-by";

pub fn label(object: &mut Value, key: &str, value: Value) {
    set(object, "labels", key, value);
}

pub fn annotation(object: &mut Value, key: &str, value: Value) {
    set(object, "annotations", key, value);
}

/// `null` removes.
fn set(object: &mut Value, map: &str, key: &str, value: Value) {
    let map = &mut object["metadata"][map];
    if map.is_null() {
        *map = json!({});
    }
    let map: &mut Map<String, Value> = map.as_object_mut().unwrap();
    match value {
        Value::Null => drop(map.remove(key)),
        value => drop(map.insert(key.to_owned(), value)),
    }
}

/// What is lawful with everything that may be changed at all.
pub fn harmless(object: &mut Value) {
    annotation(object, "example.com/note", json!(testbed::unique("note")));
}

fn of_neighbour(scene: &Scene) -> Value {
    let (name, uid) = &scene.neighbour;
    json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": name, "uid": uid})
}

const CHANGE: &[Act] = &[Act::Change];
pub const CHANGE_MAKE: &[Act] = &[Act::Change, Act::Make];

/// Refused to everybody who is neither the operator nor an administrator.
const ROW: Intent = Intent {
    name: "",
    on: "namespace",
    twin: "namespace",
    acts: CHANGE,
    change: |_, _| {},
    actors: &EVERYBODY,
    guards: NAMESPACES,
    kept: &[TENANT_LABEL, OWNERS],
};

pub fn intents() -> Vec<Intent> {
    [namespaces(), managed(), contents(), accounts(), rest()]
        .into_iter()
        .flatten()
        .collect()
}

fn namespaces() -> Vec<Intent> {
    vec![
        Intent {
            name: "move a namespace to the neighbour",
            change: |it, scene| {
                label(it, "capsule.clastix.io/tenant", json!(scene.neighbour.0));
                it["metadata"]["ownerReferences"] = json!([of_neighbour(scene)]);
            },
            ..ROW
        },
        Intent {
            name: "free a namespace of its tenant",
            change: |it, _| {
                label(it, "capsule.clastix.io/tenant", Value::Null);
                it["metadata"].as_object_mut().unwrap().remove("ownerReferences");
            },
            ..ROW
        },
        Intent {
            name: "take a namespace of nobody",
            on: "free namespace",
            change: |it, scene| {
                label(it, "capsule.clastix.io/tenant", json!(scene.neighbour.0));
                it["metadata"]["ownerReferences"] = json!([of_neighbour(scene)]);
            },
            ..ROW
        },
        Intent {
            name: "open a namespace to privileged pods",
            change: |it, _| label(it, "pod-security.kubernetes.io/enforce", json!("privileged")),
            // Whom nobody knows may be an administrator of the cluster; RBAC is who holds him.
            actors: &TENANT_USERS,
            kept: &["/metadata/labels/pod-security.kubernetes.io~1enforce"],
            ..ROW
        },
        Intent {
            name: "leave the tenant's nodes",
            change: |it, _| annotation(it, "scheduler.alpha.kubernetes.io/node-selector", json!("pool=gas")),
            kept: &["/metadata/annotations/scheduler.alpha.kubernetes.io~1node-selector"],
            ..ROW
        },
        Intent {
            name: "take the marks away by which pods and objects meet their hooks",
            change: |it, _| {
                for key in ["pod-validation", "object-validation"] {
                    label(it, &format!("cotenant.dev/{key}"), Value::Null);
                }
            },
            actors: &TENANT_USERS,
            kept: &[
                "/metadata/labels/cotenant.dev~1pod-validation",
                "/metadata/labels/cotenant.dev~1object-validation",
            ],
            ..ROW
        },
    ]
}

/// What the operator keeps in the tenant's namespaces.
fn managed() -> Vec<Intent> {
    let kept = |name, on, twin, kept, change| Intent {
        name,
        on,
        twin,
        change,
        kept,
        guards: MANAGED,
        ..ROW
    };
    let mut intents = vec![
        kept("raise a quota", "kept quota", "own quota", &["/spec", MARK], |it, _| {
            it["spec"]["hard"]["pods"] = json!("1k");
        }),
        kept(
            "lift the limits",
            "kept limits",
            "own limits",
            &["/spec", MARK],
            |it, _| {
                it["spec"]["limits"] = json!([]);
            },
        ),
        kept(
            "open the network",
            "kept policy",
            "own policy",
            &["/spec", MARK],
            |it, _| {
                it["spec"]["ingress"] = json!([{}]);
            },
        ),
        kept(
            "join a binding",
            "kept binding",
            "own binding",
            &["/subjects", MARK],
            |it, _| {
                it["subjects"] =
                    json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}]);
            },
        ),
        kept(
            "rewrite the rules",
            "kept rules",
            "own rules",
            &["/spec", "/status", MARK],
            |it, _| {
                it["spec"] = json!([]);
                it["status"] = json!({"rules": []});
            },
        ),
    ];
    for (on, twin) in [
        ("kept quota", "own quota"),
        ("kept limits", "own limits"),
        ("kept policy", "own policy"),
        ("kept binding", "own binding"),
        ("kept rules", "own rules"),
    ] {
        intents.push(Intent {
            acts: &[Act::End],
            ..kept("end what the operator keeps", on, twin, &["/metadata/uid"], |_, _| {})
        });
        intents.push(kept("pass for nobody's", on, twin, &[MARK], |it, _| {
            label(it, "projectcapsule.dev/managed-by", Value::Null);
        }));
        intents.push(Intent {
            acts: CHANGE_MAKE,
            ..kept("pass for the operator's", twin, twin, &[MARK], |it, _| {
                label(it, "projectcapsule.dev/managed-by", json!("controller"));
            })
        });
    }
    intents
}

const INGRESS: &str = "/metadata/annotations/kubernetes.io~1ingress.class";
const CLASS: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";

fn contents() -> Vec<Intent> {
    let held = |name, on, guards, kept, change| Intent {
        name,
        on,
        twin: on,
        acts: CHANGE_MAKE,
        change,
        guards,
        kept,
        ..ROW
    };
    vec![
        held(
            "an ingress class of others",
            "ingress",
            &["ingress.validating"],
            &["/spec/ingressClassName"],
            |it, _| {
                it["spec"]["ingressClassName"] = json!("internal");
            },
        ),
        held(
            "the same by annotation",
            "ingress",
            &["ingress.validating"],
            &[INGRESS],
            |it, _| {
                annotation(it, "kubernetes.io/ingress.class", json!("internal"));
            },
        ),
        held(
            "a storage class of others",
            "claim",
            &["pvc.validating"],
            &["/spec/storageClassName", CLASS],
            |it, _| {
                it["spec"]["storageClassName"] = json!("premium");
                annotation(it, "volume.beta.kubernetes.io/storage-class", json!("premium"));
            },
        ),
        held(
            "the same by annotation",
            "claim",
            &["pvc.validating"],
            &[CLASS],
            |it, _| {
                annotation(it, "volume.beta.kubernetes.io/storage-class", json!("premium"));
            },
        ),
        held(
            "a volume of the neighbour",
            "claim",
            &["pvc.validating"],
            &["/spec/volumeName"],
            |it, _| {
                it["spec"]["volumeName"] = json!("of-the-neighbour");
            },
        ),
        held(
            "a forbidden mark on a Service",
            "service",
            &["services.validating"],
            &[
                "/metadata/annotations/example.com~1balancer",
                "/metadata/labels/example.com~1danger",
            ],
            |it, _| {
                annotation(it, "example.com/balancer", json!("public"));
                label(it, "example.com/danger", json!("yes"));
            },
        ),
        held(
            "an address of others",
            "service",
            &["services.validating"],
            &["/spec/externalIPs"],
            |it, _| {
                it["spec"]["externalIPs"] = json!(["192.0.2.1"]);
            },
        ),
        held(
            "a name elsewhere",
            "service",
            &["services.validating"],
            &["/spec/externalName"],
            |it, _| {
                it["spec"]["type"] = json!("ExternalName");
                it["spec"]["externalName"] = json!("metadata.example.com");
            },
        ),
        held(
            "an image from elsewhere",
            "pod",
            &["pods.validating"],
            &["/spec/containers/0/image"],
            |it, _| {
                it["spec"]["containers"][0]["image"] = json!("evil.example.com/miner:1");
            },
        ),
        Intent {
            acts: CHANGE,
            ..held(
                "a debugger from elsewhere",
                "pod",
                &["pods.validating"],
                &["/spec/ephemeralContainers"],
                |it, _| {
                    it["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "evil.example.com/miner:1"}]);
                },
            )
        },
    ]
}

fn accounts() -> Vec<Intent> {
    let promote = |name, key: fn(&mut Value, &Scene), kept| Intent {
        name,
        on: "account",
        twin: "account",
        acts: CHANGE_MAKE,
        change: key,
        actors: &NO_OWNERS,
        guards: &["serviceaccounts.validating"],
        kept,
    };
    vec![
        promote(
            "promote an account to an owner",
            |it, _| label(it, "owner.projectcapsule.dev/promote", json!("true")),
            &["/metadata/labels/owner.projectcapsule.dev~1promote"],
        ),
        promote(
            "promote an account by the rules",
            |it, _| label(it, "projectcapsule.dev/promote", json!("true")),
            &["/metadata/labels/projectcapsule.dev~1promote"],
        ),
    ]
}

fn rest() -> Vec<Intent> {
    vec![
        Intent {
            name: "change what a replication made",
            on: "replicated",
            twin: "service",
            change: |it, _| {
                it["spec"]["ports"][0]["port"] = json!(81);
                annotation(it, "example.com/own", json!("yes"));
            },
            guards: &["replications.validating"],
            kept: &["/spec/ports", "/metadata/annotations/example.com~1own"],
            ..ROW
        },
        Intent {
            name: "pass for no replication's",
            on: "replicated",
            twin: "service",
            change: |it, _| label(it, "projectcapsule.dev/managed-by", Value::Null),
            guards: &["replications.validating"],
            kept: &[MARK],
            ..ROW
        },
        Intent {
            name: "end what a replication made",
            on: "replicated",
            twin: "service",
            acts: &[Act::End],
            guards: &["replications.validating"],
            kept: &["/metadata/uid"],
            ..ROW
        },
        Intent {
            name: "take a node for oneself",
            on: "node",
            twin: "node",
            change: |it, _| label(it, "pool", json!("mine")),
            actors: &TENANT_USERS,
            guards: &["nodes.validating"],
            kept: &["/metadata/labels/pool"],
            ..ROW
        },
        Intent {
            name: "let go of a claim in use",
            on: "pool claim",
            twin: "own pool claim",
            change: |it, _| it["spec"]["claim"]["cpu"] = json!("9"),
            guards: &["resourcepoolclaims.validating"],
            kept: &["/spec"],
            ..ROW
        },
    ]
}
