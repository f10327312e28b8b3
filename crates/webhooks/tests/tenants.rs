//! Tenants and the configuration: what administrators write by mistake is refused with the field and the reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::served;
use support::until;
use testbed::unique;

async fn create(client: &Client, spec: Value) -> Result<Tenant, kube::Error> {
    let tenant = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": unique("oil")}, "spec": spec});
    // Untyped, as `kubectl` sends it: what does not fit is for the server to say.
    let tenants: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<Tenant>(&()));
    let created = tenants
        .create(&PostParams::default(), &serde_json::from_value(tenant).unwrap())
        .await?;
    Ok(created.try_parse().unwrap())
}

#[tokio::test]
async fn a_good_tenant_gets_its_name_as_a_label() {
    let client = served().await.server.client().await;
    let tenant = create(
        &client,
        json!({
            "owners": [{"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "system:serviceaccount:ci:robot"}],
            "namespaceOptions": {"quota": 10}, "storageClasses": {"allowed": ["standard"], "allowedRegex": "^fast-"},
            "resourceQuotas": {"items": [{"hard": {"pods": "20", "requests.cpu": "8", "requests.memory": "16Gi"}}]}}),
    )
    .await
    .unwrap();
    let name = tenant.metadata.name.unwrap();
    assert_eq!(tenant.metadata.labels.unwrap()["kubernetes.io/metadata.name"], name);
}

#[tokio::test]
async fn a_bad_tenant_is_refused_with_the_field() {
    let client = served().await.server.client().await;
    let bad = [
        (json!({"storageClasses": {"allowedRegex": "("}}), "storageClasses"),
        (
            json!({"ingressOptions": {"allowedClasses": {"allowedRegex": "["}}}),
            "allowedClasses",
        ),
        (
            json!({"owners": [{"kind": "ServiceAccount", "name": "robot"}]}),
            "owners[0]",
        ),
        // Hooks that change objects are asked before the schema is.
        (
            json!({"owners": [{"kind": "Person", "name": "alice"}]}),
            "spec.owners[0]: failed to read",
        ),
    ];
    for (spec, field) in bad {
        let (code, message) = refusal(create(&client, spec).await);
        assert!(matches!(code, 400 | 403 | 422), "{code} {message}");
        assert!(message.contains(field), "{message}");
    }
}

#[tokio::test]
async fn a_protected_tenant_is_not_deleted_until_it_is_released() {
    let client = served().await.server.client().await;
    let tenant = create(&client, json!({"preventDeletion": true})).await.unwrap();
    let (name, api) = (tenant.metadata.name.unwrap(), Api::<Tenant>::all(client));
    let (code, message) = refusal(api.delete(&name, &DeleteParams::default()).await.map(drop));
    assert_eq!(code, 403);
    assert!(
        message.contains("tenant is protected and cannot be deleted"),
        "{message}"
    );
    let release = json!({"spec": {"preventDeletion": false}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(release))
        .await
        .unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_could_not_be_used_is_refused() {
    let client = served().await.server.client().await;
    let api = Api::<CapsuleConfiguration>::all(client);
    let broken = json!({"spec": {"protectedNamespaceRegex": "("}});
    let (code, message) = refusal(
        api.patch("default", &PatchParams::default(), &Patch::Merge(broken))
            .await,
    );
    assert!(matches!(code, 400 | 403 | 422), "{code} {message}");
    assert!(message.contains("protectedNamespaceRegex"), "{message}");
    let fine = json!({"spec": {"protectedNamespaceRegex": "^kube-"}});
    until("the lawful twin", async || {
        api.patch("default", &PatchParams::default(), &Patch::Merge(&fine))
            .await
            .ok()
    })
    .await;
}

/// No controller runs here: what is decided comes from the object itself, not from anybody's status.
#[tokio::test]
async fn a_tenant_owner_is_a_tenant_user_and_an_owner_at_once() {
    let server = served().await.server;
    let client = server.client().await;
    let (team, name) = (unique("team"), unique("dora"));
    let tenant = create(
        &client,
        json!({"permissions": {"matchOwners": [{"matchLabels": {"team": team}}]}}),
    )
    .await
    .unwrap();
    let tenant = tenant.metadata.name.unwrap();
    // Somebody whom the configuration does not name.
    let dora = server.client_for(&name, &["ordinary"]).await;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let given = async || {
        let namespace = json!({"metadata": {"name": format!("{tenant}-web")}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let made = Api::all(dora.clone()).create(&dry_run, &namespace).await.ok()?;
        made.metadata.labels?.remove("capsule.clastix.io/tenant")
    };
    assert_eq!(given().await, None);
    let owners = Api::<TenantOwner>::all(client);
    let owner = |labels: Value, user: &str| {
        let owner = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner",
            "metadata": {"name": name, "labels": labels}, "spec": {"kind": "User", "name": user}});
        serde_json::from_value::<TenantOwner>(owner).unwrap()
    };
    let (code, message) = refusal(owners.create(&dry_run, &owner(json!({}), "")).await);
    assert_eq!(code, 403);
    assert!(message.contains("spec.name: a User has to be named"), "{message}");
    owners
        .create(&PostParams::default(), &owner(json!({"team": team}), &name))
        .await
        .unwrap();
    until("the tenant's namespaces are hers", async || {
        given().await.filter(|of| *of == tenant)
    })
    .await;
    owners.delete(&name, &DeleteParams::default()).await.unwrap();
    until("they are not any more", async || given().await.is_none().then_some(())).await;
}
