//! Budgets in the rules of tenants, through a real API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use api::capsule::v1beta2::{GlobalResourceQuota, Tenant};
use bed::{bed, eventually};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::unique;

fn quotas(client: &Client) -> Api<GlobalResourceQuota> {
    Api::all(client.clone())
}

async fn create_tenant(client: &Client, name: &str, rules: Value) -> Tenant {
    let tenant = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"owners": [{"kind": "User", "name": "alice"}], "rules": rules}});
    let tenant = serde_json::from_value(tenant).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &tenant)
        .await
        .unwrap()
}

/// Waits until the quota of this name is as wanted.
async fn is(
    client: &Client,
    name: &str,
    wanted: impl Fn(Option<&GlobalResourceQuota>) -> bool,
) -> Option<GlobalResourceQuota> {
    eventually(&format!("{name} is as wanted"), || async {
        let found = quotas(client).get_opt(name).await.unwrap();
        if wanted(found.as_ref()) {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn a_tenants_budgets_come_change_and_go_with_its_rules() {
    let client = bed().await;
    let name = unique("oil");
    let rules = json!([{"quota": [{"name": "a", "hard": {"pods": "2"}}, {"name": "b", "hard": {"cpu": "1"}}]}]);
    let tenant = create_tenant(&client, &name, rules).await;
    let (a, b) = (format!("{name}-a"), format!("{name}-b"));
    let made = is(&client, &a, |found| found.is_some()).await.unwrap();
    assert_eq!(made.owner_references()[0].uid, tenant.uid().unwrap());
    assert_eq!(made.labels()["projectcapsule.dev/rule-quota"], "a");
    is(&client, &b, |found| found.is_some()).await;

    let tenants: Api<Tenant> = Api::all(client.clone());
    let rules = json!({"spec": {"rules": [{"quota": [{"name": "a", "hard": {"services": "3"}}]}]}});
    tenants
        .patch(&name, &PatchParams::default(), &Patch::Merge(&rules))
        .await
        .unwrap();
    let changed = json!({"hard": {"services": "3"}});
    is(&client, &a, |found| {
        found.is_some_and(|found| serde_json::to_value(&found.spec.quota).unwrap() == changed)
    })
    .await;
    is(&client, &b, |found| found.is_none()).await;

    // What somebody else changes is put right, and what is deleted made again.
    quotas(&client).delete(&a, &DeleteParams::default()).await.unwrap();
    is(&client, &a, |found| {
        found.is_some_and(|found| found.uid() != made.uid())
    })
    .await;
    tenants.delete(&name, &DeleteParams::default()).await.unwrap();
    is(&client, &a, |found| found.is_none()).await;
}

#[tokio::test]
async fn a_quota_of_somebody_else_is_left_alone() {
    let client = bed().await;
    let name = unique("oil");
    let taken = format!("{name}-a");
    let others = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": taken},
        "spec": {"quota": {"hard": {"pods": "9"}}}});
    let others = quotas(&client)
        .create(&PostParams::default(), &serde_json::from_value(others).unwrap())
        .await
        .unwrap();
    let rules = json!([{"quota": [{"name": "a", "hard": {"pods": "2"}}, {"name": "b", "hard": {"pods": "2"}}]}]);
    create_tenant(&client, &name, rules).await;
    is(&client, &format!("{name}-b"), |found| found.is_some()).await;
    let after = quotas(&client).get(&taken).await.unwrap();
    assert_eq!(after.resource_version(), others.resource_version());
}
