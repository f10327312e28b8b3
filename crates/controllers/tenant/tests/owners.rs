//! Owners that are objects of their own, and ServiceAccounts that rules promote, against a real API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner};
use bed::{bed, create_namespace, create_tenant, equal, eventually, patch_tenant, ready, tenant};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::unique;

async fn create_owner(client: &Client, name: &str, labels: Value, spec: Value) {
    let owner = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner",
        "metadata": {"name": name, "labels": labels}, "spec": spec});
    Api::<TenantOwner>::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(owner).unwrap())
        .await
        .unwrap();
}

async fn label_owner(client: &Client, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    Api::<TenantOwner>::all(client.clone())
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
}

/// Tenants in the status of a TenantOwner, and its condition.
async fn told(client: &Client, name: &str) -> (Vec<String>, Option<String>) {
    let owner = Api::<TenantOwner>::all(client.clone()).get(name).await.unwrap();
    let status = owner.status.unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let ready = ready.map(|condition| format!("{} {} {}", condition.status, condition.reason, condition.message));
    (status.tenants, ready)
}

/// Owners of a tenant with their roles, one line each.
fn owners(tenant: &Tenant) -> Vec<String> {
    let owners = tenant.status.iter().flat_map(|status| &status.owners);
    owners
        .map(|owner| {
            format!(
                "{} {}: {}",
                owner.user.kind,
                owner.user.name,
                owner.cluster_roles.join(" ")
            )
        })
        .collect()
}

/// Who has which role in a namespace, sorted.
async fn bound(client: &Client, namespace: &str) -> Vec<String> {
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    let found = bindings.list(&ListParams::default()).await.unwrap();
    let mut lines: Vec<String> = found
        .iter()
        .flat_map(|binding| {
            let subjects = binding.subjects.iter().flatten();
            subjects.map(|subject| format!("{}: {}", subject.name, binding.role_ref.name))
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_tenant_owner_owns_what_selects_it_until_it_does_not() {
    let client = bed().await;
    let (oil, gas, team) = (unique("oil"), unique("gas"), unique("team"));
    let (alice, object) = (unique("alice"), unique("owner"));
    let made = create_tenant(
        &client,
        &oil,
        json!({
            "owners": [{"kind": "User", "name": alice, "clusterRoles": ["edit"], "labels": {"shift": "night"}}],
            "permissions": {"matchOwners": [{"matchLabels": {"team": team}}]}
        }),
    )
    .await;
    create_tenant(&client, &gas, json!({})).await;
    let namespace = format!("{oil}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &oil, 1).await;
    let both = format!("User {alice}: edit view");
    let alone = format!("User {alice}: edit");

    create_owner(
        &client,
        &object,
        json!({"team": team}),
        json!({"kind": "User", "name": alice, "clusterRoles": ["view"]}),
    )
    .await;
    eventually("the roles of both sources are merged and bound", || async {
        let found = (owners(&tenant(&client, &oil).await), bound(&client, &namespace).await);
        equal(
            found,
            &(
                vec![both.clone()],
                vec![format!("{alice}: edit"), format!("{alice}: view")],
            ),
        )
    })
    .await;
    eventually("the owner says of what", || async {
        let ready = Some("True Succeeded reconciled".to_owned());
        equal(told(&client, &object).await, &(vec![oil.clone()], ready))
    })
    .await;
    // The labels that spec.owners gives to an owner's bindings are on all of them.
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), &namespace);
    let shifted = bindings
        .list(&ListParams::default().labels("shift=night"))
        .await
        .unwrap();
    assert_eq!(shifted.items.len(), 2);

    // Both ways of selection at once: by the tenant's selector, and by the tenant's name.
    label_owner(&client, &object, json!({"projectcapsule.dev/tenant": gas})).await;
    eventually("both tenants count it", || async {
        let mut expected = vec![gas.clone(), oil.clone()];
        expected.sort();
        equal(told(&client, &object).await.0, &expected)
    })
    .await;
    assert_eq!(owners(&tenant(&client, &gas).await), [format!("User {alice}: view")]);

    label_owner(&client, &object, json!({"team": null})).await;
    eventually("the role is gone, and what the tenant itself gives stays", || async {
        let found = (owners(&tenant(&client, &oil).await), bound(&client, &namespace).await);
        equal(found, &(vec![alone.clone()], vec![format!("{alice}: edit")]))
    })
    .await;
    // It still counts as an owner of both: of one by the tenant's own word.
    eventually("the status counts owners by whatever source", || async {
        equal(told(&client, &object).await.0.len(), &2)
    })
    .await;
    patch_tenant(&client, &oil, json!({"spec": {"owners": null}})).await;
    eventually("and no longer when that is taken back", || async {
        equal(told(&client, &object).await.0, &vec![gas.clone()])
    })
    .await;
    Api::<TenantOwner>::all(client.clone())
        .delete(&object, &DeleteParams::default())
        .await
        .unwrap();
    eventually("nobody owns a tenant by an object that is gone", || async {
        equal(owners(&tenant(&client, &gas).await), &vec![])
    })
    .await;
}

#[tokio::test]
async fn a_tenant_owner_is_a_tenant_user_unless_it_says_otherwise() {
    let client = bed().await;
    let (user, silent) = (unique("carol"), unique("dave"));
    let (one, two) = (unique("one"), unique("two"));
    create_owner(&client, &one, json!({}), json!({"kind": "User", "name": user})).await;
    let spec = json!({"kind": "User", "name": silent, "aggregate": false});
    create_owner(&client, &two, json!({}), spec).await;
    let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
    let listed = || async {
        let status = configurations
            .get("default")
            .await
            .map(|found| found.status.unwrap_or_default());
        let users = status.map(|status| status.users).unwrap_or_default();
        let granted = Api::<ClusterRoleBinding>::all(client.clone())
            .get("capsule-namespace-provisioner")
            .await
            .map(|binding| binding.subjects.unwrap_or_default())
            .unwrap_or_default();
        [&user, &silent].map(|name| {
            (
                users.iter().any(|known| known.name == *name),
                granted.iter().any(|subject| subject.name == *name),
            )
        })
    };
    eventually("one is listed and may create namespaces, the other not", || async {
        equal(listed().await, &[(true, true), (false, false)])
    })
    .await;
    Api::<TenantOwner>::all(client.clone())
        .delete(&one, &DeleteParams::default())
        .await
        .unwrap();
    eventually("it goes with the object", || async {
        equal(listed().await, &[(false, false), (false, false)])
    })
    .await;
}

#[tokio::test]
async fn rules_promote_service_accounts_in_the_namespaces_that_they_select() {
    let client = bed().await;
    let name = unique("promote");
    let made = create_tenant(
        &client,
        &name,
        json!({"rules": [{
            "namespaceSelector": {"matchLabels": {"env": "dev"}},
            "permissions": {"promotions": [{"clusterRoles": ["view"], "selector": {"matchLabels": {"kind": "ci"}}}]}
        }]}),
    )
    .await;
    let [dev, test, prod] = ["dev", "test", "prod"].map(|part| format!("{name}-{part}"));
    for (namespace, env) in [(&dev, "dev"), (&test, "dev"), (&prod, "prod")] {
        create_namespace(&client, namespace, &made).await;
        let patch = json!({"metadata": {"labels": {"env": env}}});
        Api::<Namespace>::all(client.clone())
            .patch(namespace, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    for namespace in [&dev, &prod] {
        let labels = json!({"projectcapsule.dev/promote": "true", "kind": "ci"});
        let account = json!({"metadata": {"name": "robot", "labels": labels}});
        Api::<ServiceAccount>::namespaced(client.clone(), namespace)
            .create(&PostParams::default(), &serde_json::from_value(account).unwrap())
            .await
            .unwrap();
    }
    let promotions = || async {
        let status = tenant(&client, &name).await.status.unwrap_or_default();
        json!(status.promotions)
    };
    let robot = format!("system:serviceaccount:{dev}:robot");
    eventually("the one in a selected namespace is promoted", || async {
        let expected =
            json!([{"kind": "ServiceAccount", "name": robot, "clusterRoles": ["view"], "targets": [dev, test]}]);
        equal(promotions().await, &expected)
    })
    .await;
    eventually("it is bound where the rule holds", || async {
        let mut found = Vec::new();
        for namespace in [&dev, &test, &prod] {
            found.push(bound(&client, namespace).await);
        }
        let view = || vec!["robot: view".to_owned()];
        equal(found, &vec![view(), view(), vec![]])
    })
    .await;
    // Promoted by a rule is not an owner.
    assert_eq!(owners(&tenant(&client, &name).await), Vec::<String>::new());

    let patch = json!({"metadata": {"labels": {"projectcapsule.dev/promote": null}}});
    Api::<ServiceAccount>::namespaced(client.clone(), &dev)
        .patch("robot", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("without the label it has nothing", || async {
        let found = (
            promotions().await,
            bound(&client, &dev).await,
            bound(&client, &test).await,
        );
        equal(found, &(json!([]), vec![], vec![]))
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_admission_would_have_refused_says_why() {
    let client = bed().await;
    let (name, tenant_name) = (unique("odd"), unique("oddly"));
    create_tenant(&client, &tenant_name, json!({})).await;
    create_owner(
        &client,
        &name,
        json!({"projectcapsule.dev/tenant": tenant_name}),
        json!({"kind": "ServiceAccount", "name": "robot"}),
    )
    .await;
    eventually("the status says what is wrong", || async {
        let (_, ready) = told(&client, &name).await;
        let ready = ready.unwrap_or_default();
        if ready.starts_with("False Failed spec.name: ") && ready.contains("system:serviceaccount:") {
            Ok(())
        } else {
            Err(ready)
        }
    })
    .await;
}
