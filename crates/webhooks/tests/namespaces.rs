//! Namespaces of tenants through a real API server: who gets which, how many, and every way to steal one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use api::capsule::v1beta2::Tenant;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::{Attempt, DOORS, Way, refusal, write};
use support::served::{TENANTS, served};
use support::until;
use testbed::unique;

const LABEL: &str = "capsule.clastix.io/tenant";

async fn masters() -> Client {
    served().await.server.client().await
}

async fn user(name: &str) -> Client {
    served().await.server.client_for(name, &TENANTS).await
}

/// A tenant with one owner, written by a cluster administrator, that admission has seen: its owner gets namespaces.
async fn tenant(name: &str, owner: &str, more: Value) -> Tenant {
    let made = unseen_tenant(name, owner, more).await;
    let probe: Namespace = serde_json::from_value(json!({"metadata": {"name": format!("{name}-probe")}})).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let api = Api::all(user(owner).await);
    until("admission knows the tenant", async || {
        let given = api.create(&dry_run, &probe).await.ok()?;
        (given.labels().get(LABEL).map(String::as_str) == Some(name)).then_some(())
    })
    .await;
    made
}

/// The same, a moment old.
async fn unseen_tenant(name: &str, owner: &str, more: Value) -> Tenant {
    let mut object = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"owners": [{"kind": "User", "name": owner}]}});
    json_patch::merge(&mut object["spec"], &more);
    Api::all(masters().await)
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

async fn create(client: &Client, name: &str) -> Result<Namespace, kube::Error> {
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
}

async fn read(name: &str) -> Namespace {
    Api::<Namespace>::all(masters().await).get(name).await.unwrap()
}

fn reference(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "capsule.clastix.io/v1beta2".into(),
        kind: "Tenant".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

#[tokio::test]
async fn an_owner_gets_namespaces_of_a_tenant_that_is_a_moment_old() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let alice = user(&owner).await;
    let made = unseen_tenant(&oil, &owner, json!({})).await;
    let namespace = create(&alice, &format!("{oil}-web")).await.unwrap();
    assert_eq!(namespace.labels()[LABEL], oil);
    assert_eq!(namespace.owner_references(), [reference(&oil, &made.uid().unwrap())]);
    Api::<Namespace>::all(alice)
        .delete(&namespace.name_any(), &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_user_without_a_tenant_gets_a_sentence() {
    let (code, message) = refusal(create(&user(&unique("nobody")).await, &unique("lost")).await);
    assert_eq!(code, 403);
    assert!(message.contains("do not have any Tenant assigned"), "{message}");
}

#[tokio::test]
async fn a_quota_holds_one_by_one_and_in_a_race() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let alice = user(&owner).await;
    tenant(&oil, &owner, json!({"namespaceOptions": {"quota": 3}})).await;
    create(&alice, &format!("{oil}-first")).await.unwrap();
    let names: Vec<String> = (0..12).map(|i| format!("{oil}-{i}")).collect();
    let results = join_all(names.iter().map(|name| create(&alice, name))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    for refused in results.into_iter().filter(Result::is_err) {
        let (code, message) = refusal(refused);
        assert_eq!(code, 403);
        assert!(message.contains("Cannot exceed Namespace quota"), "{message}");
    }
    // A place that becomes free can be taken again.
    Api::<Namespace>::all(alice.clone())
        .delete(&format!("{oil}-first"), &DeleteParams::default())
        .await
        .unwrap();
    until("the free place", async || {
        create(&alice, &format!("{oil}-again")).await.ok()
    })
    .await;
    let raise = json!({"spec": {"namespaceOptions": {"quota": 4}}});
    Api::<Tenant>::all(masters().await)
        .patch(&oil, &PatchParams::default(), &Patch::Merge(raise))
        .await
        .unwrap();
    until("the raised quota", async || {
        create(&alice, &format!("{oil}-more")).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_takes_no_place() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let alice = user(&owner).await;
    tenant(&oil, &owner, json!({"namespaceOptions": {"quota": 1}})).await;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": format!("{oil}-dry")}})).unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Api::all(alice.clone()).create(&params, &namespace).await.unwrap();
    create(&alice, &format!("{oil}-wet")).await.unwrap();
}

#[tokio::test]
async fn names_follow_the_prefix_and_stay_off_protected_ones() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let alice = user(&owner).await;
    tenant(&oil, &owner, json!({"forceTenantPrefix": true})).await;
    let (code, message) = refusal(create(&alice, &unique("other")).await);
    assert_eq!(code, 403);
    assert!(message.contains(&format!("{oil}-")), "{message}");
    create(&alice, &format!("{oil}-web")).await.unwrap();

    let (gas, owner) = (unique("gas"), unique("bob"));
    let bob = user(&owner).await;
    tenant(&gas, &owner, json!({})).await;
    let (code, message) = refusal(create(&bob, &unique("kube-mine")).await);
    assert_eq!(code, 403);
    assert!(message.contains("^kube-"), "{message}");
}

#[tokio::test]
async fn nobody_but_an_owner_creates_a_namespace_of_a_tenant() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let made = tenant(&oil, &owner, json!({})).await;
    tenant(&unique("gas"), "mallory", json!({})).await;
    let forged = |label: bool, referred: bool| -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(unique("forged"));
        if label {
            namespace.labels_mut().insert(LABEL.into(), oil.clone());
        }
        if referred {
            namespace
                .owner_references_mut()
                .push(reference(&oil, &made.uid().unwrap()));
        }
        namespace
    };
    let ordinary = served().await.server.client_for("ordinary", &["ordinary"]).await;
    for client in [masters().await, ordinary, user("mallory").await] {
        for (label, referred) in [(true, false), (true, true)] {
            let namespace = forged(label, referred);
            let result = Api::<Namespace>::all(client.clone())
                .create(&PostParams::default(), &namespace)
                .await;
            let (code, message) = refusal(result);
            assert!(matches!(code, 400 | 403 | 500), "{code} {message}");
        }
    }
    // A reference alone: refused, or for a tenant's user replaced by that of his own tenant.
    for client in [masters().await, user("mallory").await] {
        match Api::<Namespace>::all(client)
            .create(&PostParams::default(), &forged(false, true))
            .await
        {
            Ok(made) => assert_ne!(made.labels().get(LABEL), Some(&oil)),
            Err(error) => drop(refusal::<Namespace>(Err(error))),
        }
    }
    // The lawful twin of a cluster administrator: a namespace of nobody.
    let free = create(&masters().await, &unique("free")).await.unwrap();
    assert!(!free.labels().contains_key(LABEL));
}

/// What an owner may try with a namespace of their own. Another tenant that they own as well is `-other` by name.
const OWN: [(&str, Attempt); 8] = [
    ("another label", |n| {
        let other = other(n);
        n.labels_mut().insert(LABEL.into(), other);
    }),
    ("a label of nobody", |n| {
        drop(n.labels_mut().insert(LABEL.into(), "garbage".into()))
    }),
    ("no label", |n| drop(n.labels_mut().remove(LABEL))),
    ("another reference", |n| n.owner_references_mut()[0].name = other(n)),
    ("a forged uid", |n| n.owner_references_mut()[0].uid = "forged".into()),
    ("a second reference", |n| {
        let second = reference(&other(n), "forged");
        n.owner_references_mut().push(second);
    }),
    ("no reference", |n| n.owner_references_mut().clear()),
    ("neither", |n| {
        n.labels_mut().remove(LABEL);
        n.owner_references_mut().clear();
    }),
];

fn other(namespace: &Namespace) -> String {
    format!("{}-other", namespace.name_any().trim_end_matches("-web"))
}

#[tokio::test]
async fn an_owner_cannot_move_a_namespace_through_any_door_in_any_way() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    let alice = user(&owner).await;
    let made = tenant(&oil, &owner, json!({"forceTenantPrefix": true})).await;
    tenant(&format!("{oil}-other"), &owner, json!({})).await;
    let name = format!("{oil}-web");
    until("the namespace", async || create(&alice, &name).await.ok()).await;
    let expected = [reference(&oil, &made.uid().unwrap())];
    let (mut tried, mut restored, mut refused) = (0, 0, 0);
    for (door, ways) in DOORS {
        for way in ways {
            for (attempt, change) in OWN {
                match write(&alice, &name, door, *way, change).await {
                    Ok(_) => restored += 1,
                    Err(kube::Error::Api(status)) => {
                        assert!(
                            matches!(status.code, 403 | 409),
                            "{attempt} by {way:?} on {door:?}: {}",
                            status.message
                        );
                        refused += 1;
                    }
                    Err(error) => panic!("{attempt} by {way:?} on {door:?}: {error}"),
                }
                tried += 1;
                let after = read(&name).await;
                assert_eq!(
                    after.labels().get(LABEL),
                    Some(&oil),
                    "{attempt} by {way:?} on {door:?}"
                );
                assert_eq!(after.owner_references(), expected, "{attempt} by {way:?} on {door:?}");
            }
        }
    }
    assert_eq!(tried, 11 * 8);
    // Both outcomes of the matrix occur: half a change is repaired, a whole one is refused.
    assert!(restored > 0 && refused > 0, "{restored} {refused}");
    // The lawful twin.
    for (door, ways) in DOORS {
        for way in ways {
            write(&alice, &name, door, *way, |n| {
                drop(n.annotations_mut().insert("team".into(), "red".into()))
            })
            .await
            .unwrap_or_else(|error| panic!("{way:?} on {door:?}: {error}"));
        }
    }
    assert_eq!(read(&name).await.annotations()["team"], "red");
}

#[tokio::test]
async fn a_tenant_user_touches_no_namespace_of_others() {
    let owner = unique("alice");
    let alice = user(&owner).await;
    let (oil, gas) = (unique("oil"), unique("gas"));
    tenant(&oil, &owner, json!({})).await;
    tenant(&gas, "bob-of-gas", json!({})).await;
    let (foreign, free) = (format!("{gas}-web"), unique("free"));
    let bob = user("bob-of-gas").await;
    until("the namespace", async || create(&bob, &foreign).await.ok()).await;
    create(&masters().await, &free).await.unwrap();
    let attempts: [(&str, Attempt); 3] = [
        ("an annotation", |n| {
            drop(n.annotations_mut().insert("mine".into(), "yes".into()))
        }),
        ("a label that opens the namespace", |n| {
            n.labels_mut()
                .insert("pod-security.kubernetes.io/enforce".into(), "privileged".into());
        }),
        ("adoption", |n| {
            let label = n.labels_mut().entry(LABEL.into()).or_default();
            label.push_str("oil");
            n.owner_references_mut().push(reference("oil", "forged"));
        }),
    ];
    for name in [foreign.as_str(), free.as_str(), "kube-system", "cotenant-system"] {
        let before = read(name).await;
        for (door, ways) in DOORS {
            for way in ways {
                for (attempt, change) in attempts {
                    let (code, message) = refusal(write(&alice, name, door, *way, change).await);
                    assert_eq!(code, 403, "{attempt} by {way:?} on {door:?} of {name}: {message}");
                }
            }
        }
        let after = read(name).await;
        assert_eq!(
            (after.labels(), after.annotations()),
            (before.labels(), before.annotations())
        );
        assert_eq!(after.owner_references(), before.owner_references());
    }
}

#[tokio::test]
async fn an_administrator_moves_attaches_and_releases_namespaces() {
    let adam = served().await.server.client_for("adam", &["ordinary"]).await;
    let (oil, gas) = (unique("oil"), unique("gas"));
    tenant(&oil, "olga", json!({})).await;
    let gas_uid = tenant(&gas, "gustav", json!({})).await.uid().unwrap();
    let name = unique("moving");
    create(&adam, &name).await.unwrap();
    assert!(!read(&name).await.labels().contains_key(LABEL));
    let api = Api::<Namespace>::all(adam);
    for tenant in [&oil, &gas] {
        let label = json!({"metadata": {"labels": {LABEL: tenant}}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }
    let moved = read(&name).await;
    assert_eq!(moved.labels()[LABEL], gas);
    assert_eq!(moved.owner_references(), [reference(&gas, &gas_uid)]);
    let release = json!({"metadata": {"labels": {LABEL: null}, "ownerReferences": []}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(release))
        .await
        .unwrap();
    let released = read(&name).await;
    assert!(!released.labels().contains_key(LABEL));
    assert!(released.owner_references().is_empty());
}

#[tokio::test]
async fn an_update_of_status_by_the_cluster_itself_is_not_held_up() {
    let (oil, owner) = (unique("oil"), unique("alice"));
    tenant(&oil, &owner, json!({})).await;
    let name = format!("{oil}-web");
    let alice = user(&owner).await;
    until("the namespace", async || create(&alice, &name).await.ok()).await;
    let kcm = served()
        .await
        .server
        .client_for(
            "system:serviceaccount:kube-system:namespace-controller",
            &["system:masters"],
        )
        .await;
    write(&kcm, &name, Some("status"), Way::Merge, |n| {
        drop(n.annotations_mut().insert("seen".into(), "yes".into()))
    })
    .await
    .unwrap();
    // And so namespaces end: its finalizer is taken away by kube-controller-manager.
    Api::<Namespace>::all(alice)
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let all = Api::<Namespace>::all(masters().await);
    until("the end of the namespace", async || {
        all.get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
}
