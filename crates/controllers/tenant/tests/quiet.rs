//! The controllers over a cluster that is as it should be, and the configuration. API servers of their own, because writes
//! are counted and because there is one configuration per cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use std::time::Duration;

use api::capsule::v1beta2::CapsuleConfiguration;
use bed::{Controllers, create_namespace, create_tenant, equal, eventually, install, patch_tenant, ready};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

async fn labelled(client: &Client) -> Vec<String> {
    let selector = ListParams::default().labels("projectcapsule.dev/created-by=rbac-controller");
    let roles = Api::<ClusterRole>::all(client.clone()).list(&selector).await.unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(client.clone())
        .list(&selector)
        .await
        .unwrap();
    let mut names: Vec<String> = roles.iter().map(|role| format!("role {}", role.name_any())).collect();
    names.extend(bindings.iter().map(|binding| {
        let subjects: Vec<&str> = binding
            .subjects
            .iter()
            .flatten()
            .map(|subject| subject.name.as_str())
            .collect();
        format!("binding {} {}", binding.name_any(), subjects.join(","))
    }));
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_configuration_that_an_installer_is_about_to_create_is_not_made() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    install(&client).await;
    let controllers = Controllers::start_with_grace(client.clone(), "default", Duration::from_secs(3600));
    eventually("the controller has looked for the configuration", || async {
        (controllers.configuration_runs() > 0)
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
    assert_eq!(configurations.get_opt("default").await.unwrap(), None);
    assert_eq!(labelled(&client).await, Vec::<String>::new());

    // As an installer does it, which would fail if the name were taken.
    let own: CapsuleConfiguration = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
        "spec": {"users": [{"kind": "Group", "name": "theirs"}], "overrides": {"TLSSecretName": "their-tls"}}}))
    .unwrap();
    configurations.create(&PostParams::default(), &own).await.unwrap();
    eventually("the installer's configuration is in force", || async {
        equal(
            labelled(&client).await,
            &vec![
                "binding capsule-namespace-provisioner theirs".to_owned(),
                "role capsule-namespace-deleter".to_owned(),
                "role capsule-namespace-provisioner".to_owned(),
            ],
        )
    })
    .await;
    let kept = configurations.get("default").await.unwrap();
    assert_eq!(kept.spec.overrides.tls_secret_name, "their-tls");
    controllers.stop().await;
}

#[tokio::test]
async fn nothing_is_written_when_nothing_differs_and_the_configuration_is_kept() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    install(&client).await;
    let first = Controllers::start(client.clone(), "default");

    // There was no configuration: it is made, with the roles that it asks for.
    let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
    eventually("the configuration is there and in force", || async {
        let status = configurations
            .get_opt("default")
            .await
            .unwrap()
            .and_then(|c| c.status)
            .unwrap_or_default();
        equal(
            status.conditions.iter().map(|c| c.status.clone()).collect(),
            &vec!["True".to_owned()],
        )
    })
    .await;
    // It names the Secret that the certificate is in, not the one of an installation that never was.
    let made = configurations.get("default").await.unwrap();
    assert_eq!(made.spec.overrides.tls_secret_name, "own-tls");
    assert_eq!(
        labelled(&client).await,
        [
            "binding capsule-namespace-provisioner projectcapsule.dev",
            "role capsule-namespace-deleter",
            "role capsule-namespace-provisioner"
        ]
    );

    let spec = json!({
        "owners": [{"kind": "User", "name": "alice"}],
        "limitRanges": {"items": [{"limits": [
            {"type": "Container", "max": {"memory": "1024Mi"}, "min": {"cpu": "0.01"}, "default": {"cpu": "0.5"}},
            {"type": "Pod", "max": {"cpu": "2000m"}}
        ]}]},
        "networkPolicies": {"items": [
            {"ingress": [{"ports": [{"port": 80}], "from": []}], "egress": [{"to": [{"podSelector": {}}]}]},
            {"podSelector": {"matchLabels": {}}, "policyTypes": ["Ingress"], "ingress": []}
        ]},
        "resourceQuotas": {"items": [{"hard": {"requests.cpu": "1000m", "requests.memory": "0.5Gi"}}]}
    });
    for name in ["oil", "gas"] {
        let tenant = create_tenant(&client, name, spec.clone()).await;
        for suffix in ["a", "b", "c"] {
            create_namespace(&client, &format!("{name}-{suffix}"), &tenant).await;
        }
        ready(&client, name, 3).await;
    }
    patch_tenant(
        &client,
        "oil",
        json!({"spec": {"owners": [{"kind": "User", "name": "bob"}]}}),
    )
    .await;
    ready(&client, "oil", 3).await;
    eventually("the configuration lists the tenants", || async {
        let status = configurations.get("default").await.unwrap().status.unwrap_or_default();
        equal(status.tenants, &vec!["gas".to_owned(), "oil".to_owned()])
    })
    .await;

    // Names and subjects are the configuration's.
    let patch =
        json!({"spec": {"rbac": {"provisioner": "ns-maker"}, "administrators": [{"kind": "User", "name": "root"}]}});
    configurations
        .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("the roles have their new names", || async {
        let expected = [
            "binding ns-maker root,projectcapsule.dev",
            "role capsule-namespace-deleter",
            "role ns-maker",
        ];
        equal(labelled(&client).await, &expected.map(str::to_owned).to_vec())
    })
    .await;
    // The administrator owns every tenant.
    eventually("the administrator is an owner", || async {
        let mut owners = Vec::new();
        for name in ["gas", "oil"] {
            let status = bed::tenant(&client, name).await.status.unwrap_or_default();
            owners.push(
                status
                    .owners
                    .iter()
                    .map(|owner| owner.user.name.clone())
                    .collect::<Vec<_>>()
                    .join(","),
            );
        }
        equal(owners, &vec!["alice,root".to_owned(), "bob,root".to_owned()])
    })
    .await;
    ready(&client, "oil", 3).await;
    ready(&client, "gas", 3).await;

    // Let what is on its way arrive: no write between two looks.
    eventually("the controllers are at rest", || async {
        let before = first.writes();
        tokio::time::sleep(Duration::from_secs(1)).await;
        equal(first.writes(), &before)
    })
    .await;
    let (writes, runs) = (first.writes(), first.runs());
    // Every tenant is looked at again, for a change that means nothing to it.
    let patch = json!({"spec": {"cacheInvalidation": "2h"}});
    configurations
        .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("every tenant was looked at again", || async {
        if first.runs() >= runs + 3 {
            Ok(())
        } else {
            Err(first.runs().to_string())
        }
    })
    .await;
    // The configuration's own status follows its generation.
    assert!(
        first.writes() <= writes + 1,
        "{} writes before, {} after",
        writes,
        first.writes()
    );
    first.stop().await;

    // A controller that knows nothing reads everything and writes nothing.
    let second = Controllers::start(client.clone(), "default");
    eventually("the second one has looked at every tenant", || async {
        if second.runs() >= 3 {
            Ok(())
        } else {
            Err(second.runs().to_string())
        }
    })
    .await;
    assert_eq!(second.writes(), 0, "{}", second.registry.encode());
    second.stop().await;
}
