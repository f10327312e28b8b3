//! The policies alone, as they stand when the operator is away: no hook is registered here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use support::hijack::{Attempt, DOORS, refusal, write};
use support::until;
use testbed::{ApiServer, unique};
use tokio::sync::OnceCell;
use webhooks::keeper::{self, Desired};
use webhooks::policies::{self, Administrators, MANAGED_OBJECTS, NAMESPACE_OWNERSHIP};

const US: &str = "system:serviceaccount:cotenant-system:cotenant";

static POLICIES: OnceCell<()> = OnceCell::const_new();

/// The API server with the policies in force.
async fn server() -> &'static ApiServer {
    let server = ApiServer::shared().await;
    POLICIES
        .get_or_init(|| async {
            let client = server.client().await;
            let administrators = Administrators {
                users: vec!["adam\"min".to_owned()],
                groups: vec!["platform".to_owned()],
            };
            let desired = Desired {
                policies: policies::policies(US, &administrators, None),
                ..Desired::default()
            };
            keeper::apply(&client, &desired).await.unwrap();
            // In force once the API server has compiled them, shortly after it stored them.
            let probe = unique("probe");
            tenant_namespace(server, &probe, "oil").await;
            let api = Api::<Namespace>::all(client.clone());
            until("a refusal by policy", async || {
                // Another value each time: a change that passed before is no change the second time.
                let move_it = json!({"metadata": {"labels": {"capsule.clastix.io/tenant": unique("probe")}}});
                api.patch(&probe, &PatchParams::default(), &Patch::Merge(move_it))
                    .await
                    .err()
            })
            .await;
        })
        .await;
    server
}

async fn us(server: &ApiServer) -> Client {
    server.client_for(US, &["system:masters"]).await
}

fn reference(tenant: &str) -> OwnerReference {
    OwnerReference {
        api_version: "capsule.clastix.io/v1beta2".into(),
        kind: "Tenant".into(),
        name: tenant.into(),
        uid: format!("{tenant}-uid"),
        ..OwnerReference::default()
    }
}

async fn tenant_namespace(server: &ApiServer, name: &str, tenant: &str) {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.into());
    namespace
        .labels_mut()
        .insert("capsule.clastix.io/tenant".into(), tenant.into());
    // A UID that nothing has: the garbage collector would take the namespace away, so it also has an owner that lives.
    let kube_system = Api::<Namespace>::all(server.client().await)
        .get("kube-system")
        .await
        .unwrap();
    namespace.owner_references_mut().push(OwnerReference {
        api_version: "v1".into(),
        kind: "Namespace".into(),
        name: "kube-system".into(),
        uid: kube_system.uid().unwrap(),
        ..OwnerReference::default()
    });
    namespace.owner_references_mut().push(reference(tenant));
    Api::all(us(server).await)
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

/// (name, attempt, words of the refusal)
const HIJACKS: [(&str, Attempt, &str); 7] = [
    (
        "another label",
        |n| drop(n.labels_mut().insert("capsule.clastix.io/tenant".into(), "gas".into())),
        "migrated between tenants",
    ),
    (
        "no label",
        |n| drop(n.labels_mut().remove("capsule.clastix.io/tenant")),
        "remove tenant ownership",
    ),
    (
        "another reference",
        |n| n.owner_references_mut()[1] = reference("gas"),
        "migrated between tenants",
    ),
    (
        "a second reference",
        |n| n.owner_references_mut().push(reference("gas")),
        "migrated between tenants",
    ),
    (
        "no reference",
        |n| drop(n.owner_references_mut().remove(1)),
        "remove tenant ownership",
    ),
    (
        "a forged uid",
        |n| n.owner_references_mut()[1].uid = "forged".into(),
        "migrated between tenants",
    ),
    (
        "another tenant altogether",
        |n| {
            n.labels_mut().insert("capsule.clastix.io/tenant".into(), "gas".into());
            n.owner_references_mut()[1] = reference("gas");
        },
        "migrated between tenants",
    ),
];

#[tokio::test]
async fn nobody_moves_a_namespace_through_any_door_in_any_way() {
    let server = server().await;
    let masters = server.client().await;
    let name = unique("held");
    tenant_namespace(server, &name, "oil").await;
    let before = Api::<Namespace>::all(masters.clone()).get(&name).await.unwrap();
    let mut tried = 0;
    for (door, ways) in DOORS {
        for way in ways {
            for (attempt, change, words) in HIJACKS {
                // Applying without a field that others hold leaves it as it is: nothing to refuse, nothing changed.
                let harmless = *way == support::hijack::Way::Apply && ["no label", "no reference"].contains(&attempt);
                let result = write(&masters, &name, door, *way, change).await;
                if !harmless {
                    let (code, message) = refusal(result);
                    assert_eq!(code, 403, "{attempt} by {way:?} on {door:?}: {message}");
                    // Several validations may fail at once; the API server reports the first.
                    assert!(
                        message.contains(words) || message.contains("migrated between tenants"),
                        "{attempt} by {way:?} on {door:?}: {message}"
                    );
                    tried += 1;
                }
                let after = Api::<Namespace>::all(masters.clone()).get(&name).await.unwrap();
                assert_eq!(
                    after.labels().get("capsule.clastix.io/tenant"),
                    before.labels().get("capsule.clastix.io/tenant")
                );
                assert_eq!(after.owner_references(), before.owner_references());
            }
        }
    }
    assert_eq!(tried, 11 * 7 - 4);
}

#[tokio::test]
async fn nobody_brings_a_free_namespace_into_a_tenant() {
    let server = server().await;
    let masters = server.client().await;
    let name = unique("free");
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(masters.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let takes: [Attempt; 2] = [
        |n| drop(n.labels_mut().insert("capsule.clastix.io/tenant".into(), "oil".into())),
        |n| n.owner_references_mut().push(reference("oil")),
    ];
    for (door, ways) in DOORS {
        for way in ways {
            for take in takes {
                let (code, message) = refusal(write(&masters, &name, door, *way, take).await);
                assert_eq!(code, 403, "{message}");
                assert!(message.contains("can not be patched into a tenant"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn everything_else_about_a_namespace_may_change() {
    let server = server().await;
    let masters = server.client().await;
    let name = unique("lawful");
    tenant_namespace(server, &name, "oil").await;
    for (door, ways) in DOORS {
        for way in ways {
            write(&masters, &name, door, *way, |n| {
                drop(n.annotations_mut().insert("team".into(), "red".into()))
            })
            .await
            .unwrap_or_else(|error| panic!("{way:?} on {door:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn administrators_the_operator_and_the_cluster_itself_may_move_it() {
    let server = server().await;
    let movers: [(&str, &[&str]); 5] = [
        (US, &["system:masters"]),
        ("adam\"min", &["system:masters"]),
        ("eve", &["platform", "system:masters"]),
        (
            "system:serviceaccount:kube-system:generic-garbage-collector",
            &["system:masters"],
        ),
        ("system:kube-controller-manager", &["system:masters"]),
    ];
    for (user, groups) in movers {
        let name = unique("moved");
        tenant_namespace(server, &name, "oil").await;
        let client = server.client_for(user, groups).await;
        let change: Attempt = |n| drop(n.labels_mut().insert("capsule.clastix.io/tenant".into(), "gas".into()));
        let after = write(&client, &name, None, support::hijack::Way::Merge, change)
            .await
            .unwrap();
        assert_eq!(after.labels()["capsule.clastix.io/tenant"], "gas", "{user}");
    }
}

#[tokio::test]
async fn what_the_controller_keeps_in_a_tenant_is_changed_by_nobody_else() {
    let server = server().await;
    let (masters, us) = (server.client().await, us(server).await);
    let name = unique("kept");
    tenant_namespace(server, &name, "oil").await;
    let managed: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "managed", "labels": {"projectcapsule.dev/managed-by": "controller"}}}))
    .unwrap();
    let by = |client: &Client| Api::<ConfigMap>::namespaced(client.clone(), &name);
    let (code, message) = refusal(by(&masters).create(&PostParams::default(), &managed).await);
    assert_eq!(code, 403, "{message}");
    assert!(
        message
            .contains("Labeling resources as controller managed can only be done by the controller or administrators")
    );
    by(&us).create(&PostParams::default(), &managed).await.unwrap();
    let unlabel = json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": null}}});
    assert_eq!(
        refusal(
            by(&masters)
                .patch("managed", &PatchParams::default(), &Patch::Merge(unlabel))
                .await
        )
        .0,
        403
    );
    assert_eq!(
        refusal(by(&masters).delete("managed", &DeleteParams::default()).await).0,
        403
    );
    // The lawful twin: an object of their own.
    let own: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "own"}})).unwrap();
    by(&masters).create(&PostParams::default(), &own).await.unwrap();
    by(&masters).delete("own", &DeleteParams::default()).await.unwrap();
    // The namespace can still end.
    Api::<Namespace>::all(masters.clone())
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    until("the end of the namespace", async || {
        Api::<Namespace>::all(masters.clone())
            .get_opt(&name)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_policies_type_check_and_a_second_pass_writes_nothing() {
    let server = server().await;
    let client = server.client().await;
    let api = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    for name in [NAMESPACE_OWNERSHIP, MANAGED_OBJECTS] {
        let checked = until("the type check", async || {
            api.get(name)
                .await
                .unwrap()
                .status
                .and_then(|status| status.type_checking)
        })
        .await;
        assert_eq!(
            checked
                .expression_warnings
                .unwrap_or_default()
                .iter()
                .map(|w| w.warning.clone())
                .collect::<Vec<_>>(),
            Vec::<String>::new(),
            "{name}"
        );
    }
    let version = api.get(NAMESPACE_OWNERSHIP).await.unwrap().resource_version();
    let administrators = Administrators {
        users: vec!["adam\"min".to_owned()],
        groups: vec!["platform".to_owned()],
    };
    let desired = Desired {
        policies: policies::policies(US, &administrators, None),
        ..Desired::default()
    };
    keeper::apply(&client, &desired).await.unwrap();
    assert_eq!(api.get(NAMESPACE_OWNERSHIP).await.unwrap().resource_version(), version);
}
