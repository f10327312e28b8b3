//! The rules of a tenant, written out in its namespaces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use api::capsule::v1beta2::RuleStatus;
use bed::{bed, create_namespace, create_tenant, equal, eventually, patch_tenant, ready, tenant};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use testbed::unique;

const MANAGED: &str = "capsule-managed-rules";

fn schedulers(scheduler: &str) -> Value {
    json!([
        {"enforce": {"workloads": {"schedulers": [{"exact": [scheduler]}]}}},
        {"permissions": {"bindings": []}},
    ])
}

async fn found(client: &Client, namespace: &str, name: &str) -> Option<RuleStatus> {
    Api::namespaced(client.clone(), namespace).get_opt(name).await.unwrap()
}

/// What is ready in the object: the schedulers that its rules name.
async fn in_force(client: &Client, namespace: &str, name: &str) -> Option<Vec<String>> {
    let object = found(client, namespace, name).await?;
    let status = object
        .status
        .filter(|status| status.observed_generation == object.metadata.generation)?;
    let is_ready = status
        .conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let rules = status
        .rules
        .iter()
        .filter_map(|rule| rule.enforce.as_ref()?.workloads.as_ref());
    let names = rules
        .flat_map(|workloads| &workloads.schedulers)
        .flat_map(|it| it.exact.clone());
    is_ready.then(|| names.collect())
}

#[tokio::test]
async fn a_tenants_rules_are_written_out_in_its_namespaces_as_long_as_it_has_some() {
    let client = bed().await;
    let name = unique("ruled");
    let made = create_tenant(
        &client,
        &name,
        json!({"rules": schedulers("{{ .tenant.metadata.name }}")}),
    )
    .await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    eventually("the rules, rendered", || async {
        equal(in_force(&client, &namespace, MANAGED).await, &Some(vec![name.clone()]))
    })
    .await;
    let object = found(&client, &namespace, MANAGED).await.unwrap();
    assert_eq!(object.labels()["projectcapsule.dev/name"], MANAGED);
    assert_eq!(object.owner_references()[0].uid, made.uid().unwrap());

    patch_tenant(&client, &name, json!({"spec": {"rules": schedulers("other")}})).await;
    eventually("the changed rules", || async {
        equal(
            in_force(&client, &namespace, MANAGED).await,
            &Some(vec!["other".to_owned()]),
        )
    })
    .await;
    patch_tenant(&client, &name, json!({"spec": {"rules": []}})).await;
    eventually("no rules", || async {
        equal(found(&client, &namespace, MANAGED).await.map(|_| ()), &None)
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_rendered_makes_its_namespace_and_the_tenant_not_ready() {
    let client = bed().await;
    let name = unique("unruled");
    let rules = schedulers("{{ .namespace.metadata.labels.team }}");
    let made = create_tenant(&client, &name, json!({ "rules": rules })).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    let field = "spec.rules[0].enforce.workloads.schedulers[0].exact[0]";
    eventually("the reason", || async {
        let status = tenant(&client, &name).await.status.unwrap_or_default();
        let of_space = status.spaces.first().map(|space| space.conditions.clone());
        let is_told = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            let mut ready = conditions.iter().filter(|c| c.type_ == "Ready" && c.status == "False");
            ready.any(|c| c.message.contains(field))
        };
        let both = (is_told(&status.conditions), is_told(&of_space.unwrap_or_default()));
        equal(both, &(true, true))
    })
    .await;
    assert_eq!(found(&client, &namespace, MANAGED).await, None);
}

#[tokio::test]
async fn a_rule_status_that_somebody_else_made_gets_a_status_and_stays() {
    let client = bed().await;
    let name = unique("own");
    let made = create_tenant(&client, &name, json!({})).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    assert_eq!(
        found(&client, &namespace, MANAGED).await,
        None,
        "the tenant has no rules"
    );
    let own = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": "own"},
        "spec": [{"enforce": {"workloads": {"schedulers": [{"exact": ["mine"]}]}}}]});
    let own: RuleStatus = serde_json::from_value(own).unwrap();
    let api = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &own).await.unwrap();
    eventually("its status", || async {
        equal(
            in_force(&client, &namespace, "own").await,
            &Some(vec!["mine".to_owned()]),
        )
    })
    .await;
}
