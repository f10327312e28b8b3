//! CustomQuotas and GlobalCustomQuotas, counted by the controller in front of a real API server. No admission server runs here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

mod bed;

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuantityLedger};
use bed::{LEDGERS, bed, create_namespace, eventually, merge};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::unique;

/// ConfigMaps that want to be counted, by their size.
fn sizes() -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "path": ".data.size", "selectors": [{"matchLabels": {"counted": "yes"}}]}])
}

fn quotas(client: &Client, namespace: &str) -> Api<CustomQuota> {
    Api::namespaced(client.clone(), namespace)
}

async fn create_quota(client: &Client, namespace: &str, limit: &str, sources: Value) -> CustomQuota {
    let quota = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CustomQuota", "metadata": {"name": unique("quota")},
        "spec": {"limit": limit, "sources": sources}});
    quotas(client, namespace)
        .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
        .await
        .unwrap()
}

async fn create_map(client: &Client, namespace: &str, name: &str, size: &str) -> ConfigMap {
    let map = json!({"metadata": {"name": name, "labels": {"counted": "yes"}}, "data": {"size": size}});
    Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &serde_json::from_value(map).unwrap())
        .await
        .unwrap()
}

/// `used available Ready names`, once the quota says so of its generation.
async fn says(client: &Client, namespace: &str, name: &str, expected: &str) -> CustomQuota {
    eventually(expected, || async {
        let quota = quotas(client, namespace).get(name).await.unwrap();
        let said = quota.status.clone().map(|status| {
            let names: Vec<&str> = status.claims.iter().map(|claim| claim.name.as_str()).collect();
            let of = |amount: &Option<_>| {
                amount.as_ref().map_or(
                    "-".to_owned(),
                    |it: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| it.0.clone(),
                )
            };
            let ready = &status.conditions[0].status;
            format!(
                "{} {} {ready} {}",
                of(&status.usage.used),
                of(&status.usage.available),
                names.join(",")
            )
        });
        match said {
            Some(said) if said.trim() == expected => Ok(quota),
            said => Err(format!("{said:?}")),
        }
    })
    .await
}

async fn ledger(client: &Client, namespace: &str, name: &str) -> QuantityLedger {
    let api: Api<QuantityLedger> = Api::namespaced(client.clone(), namespace);
    api.get(name).await.unwrap()
}

#[tokio::test]
async fn a_quota_counts_what_its_sources_name_as_it_comes_and_goes() {
    let client = bed().await;
    let namespace = unique("custom");
    create_namespace(&client, &namespace, "none").await;
    create_map(&client, &namespace, "a", "2").await;
    let quota = create_quota(&client, &namespace, "10", sizes()).await;
    let name = quota.name_any();
    let counted = says(&client, &namespace, &name, "2 8 True a").await;
    let status = counted.status.unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        serde_json::to_value(&status.targets).unwrap(),
        json!([{"group": "", "version": "v1", "kind": "ConfigMap", "op": "add", "path": ".data.size",
            "selectors": [{"matchLabels": {"counted": "yes"}}], "scope": "namespace"}])
    );
    let made = ledger(&client, &namespace, &name).await;
    assert_eq!(made.labels()["capsule.clastix.io/managed-by"], "controller");
    assert_eq!(made.owner_references()[0].uid, quota.uid().unwrap());
    assert_eq!(made.status.unwrap().allocated.unwrap().0, "2");

    create_map(&client, &namespace, "b", "3").await;
    says(&client, &namespace, &name, "5 5 True a,b").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    merge(&maps, "b", json!({"data": {"size": "9"}})).await;
    says(&client, &namespace, &name, "11 0 True a,b").await;
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let last = says(&client, &namespace, &name, "9 1 True b").await;

    // Somebody wants it counted again; nothing has changed, so nothing is written.
    let annotation = json!({"metadata": {"annotations": {"reconcile.projectcapsule.dev/requestedAt": "now"}}});
    let touched = merge(&quotas(&client, &namespace), &name, annotation).await;
    assert_ne!(touched.resource_version(), last.resource_version());
    create_map(&client, &namespace, "c", "1").await;
    let after = says(&client, &namespace, &name, "10 0 True b,c").await;
    assert_eq!(after.metadata.generation, Some(1));
}

#[tokio::test]
async fn a_promise_goes_when_its_object_is_counted_or_when_it_never_came() {
    let client = bed().await;
    let namespace = unique("custom");
    create_namespace(&client, &namespace, "none").await;
    let name = create_quota(&client, &namespace, "10", sizes()).await.name_any();
    says(&client, &namespace, &name, "0 10 True").await;
    let there = create_map(&client, &namespace, "a", "2").await;
    says(&client, &namespace, &name, "2 8 True a").await;
    let promise = |id: &str, uid: &str, end: &str| {
        json!({"id": id, "usage": "2", "delta": "2", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "expiresAt": end, "objectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid}})
    };
    let (past, future) = ("2026-01-01T00:02:00Z", "2999-01-01T00:00:00Z");
    let status = json!({"status": {"allocated": "8", "reserved": "6", "reservations": [
        promise("arrived", &there.uid().unwrap(), future), promise("never came", "1", past), promise("on its way", "2", future)]}});
    let ledgers: Api<QuantityLedger> = Api::namespaced(client.clone(), &namespace);
    ledgers
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    eventually("one promise", || async {
        let status = ledger(&client, &namespace, &name).await.status.unwrap();
        let ids: Vec<String> = status.reservations.iter().map(|it| it.id.clone()).collect();
        let allocated = status.allocated.unwrap().0;
        (ids == ["on its way"] && allocated == "4")
            .then_some(())
            .ok_or(format!("{ids:?} {allocated}"))
    })
    .await;

    // A ledger that somebody deletes is begun again.
    ledgers.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("another ledger", || async {
        let found = ledgers.get_opt(&name).await.unwrap();
        let allocated = found.and_then(|found| found.status?.allocated);
        allocated.filter(|it| it.0 == "2").map(drop).ok_or("not yet".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_promise_goes_when_its_object_is_deleted() {
    let client = bed().await;
    let namespace = unique("custom");
    create_namespace(&client, &namespace, "none").await;
    let name = create_quota(&client, &namespace, "10", sizes()).await.name_any();
    let there = create_map(&client, &namespace, "a", "2").await;
    says(&client, &namespace, &name, "2 8 True a").await;
    // To a change that is on its way.
    let status = json!({"status": {"allocated": "6", "reserved": "4", "reservations": [
        {"id": "more", "usage": "6", "delta": "4", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "expiresAt": "2999-01-01T00:00:00Z",
            "objectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": there.uid()}}]}});
    let ledgers: Api<QuantityLedger> = Api::namespaced(client.clone(), &namespace);
    ledgers
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("no promise", || async {
        let status = ledger(&client, &namespace, &name).await.status.unwrap();
        let allocated = status.allocated.unwrap().0;
        (status.reservations.is_empty() && allocated == "0")
            .then_some(())
            .ok_or(format!("{:?} {allocated}", status.reservations))
    })
    .await;
}

#[tokio::test]
async fn a_quota_that_cannot_count_says_so_and_others_count() {
    let client = bed().await;
    let namespace = unique("custom");
    create_namespace(&client, &namespace, "none").await;
    create_map(&client, &namespace, "a", "2").await;
    let broken = json!([{"apiVersion": "v1", "kind": "ConfigMap", "cel": "object.data.",
        "selectors": [{"matchLabels": {"counted": "yes"}}]}]);
    let broken = create_quota(&client, &namespace, "10", broken).await.name_any();
    let cel = json!([{"apiVersion": "v1", "kind": "ConfigMap", "cel": "quantity(object.data.size)",
        "selectors": [{"matchLabels": {"counted": "yes"}}]}]);
    let whole = create_quota(&client, &namespace, "10", cel).await.name_any();
    let nodes = json!([{"apiVersion": "v1", "kind": "Node", "op": "count"}]);
    let nodes = create_quota(&client, &namespace, "10", nodes).await.name_any();
    says(&client, &namespace, &whole, "2 8 True a").await;
    let said = says(&client, &namespace, &broken, "0 10 False").await;
    let message = &said.status.unwrap().conditions[0].message;
    assert!(
        message.starts_with(&format!("ConfigMap {namespace}/a: spec.sources[0]: line 1")),
        "{message}"
    );
    let said = says(&client, &namespace, &nodes, "- - False").await;
    let message = &said.status.unwrap().conditions[0].message;
    assert!(
        message.contains("spec.sources[0].kind: Node is not in namespaces"),
        "{message}"
    );
}

#[tokio::test]
async fn one_of_the_cluster_counts_in_the_namespaces_that_it_selects() {
    let client = bed().await;
    let (team, one, two) = (unique("team"), unique("custom"), unique("custom"));
    create_namespace(&client, &one, &team).await;
    create_namespace(&client, &two, "none").await;
    create_map(&client, &one, "a", "2").await;
    create_map(&client, &two, "b", "3").await;
    let name = unique("quota");
    let quota = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalCustomQuota", "metadata": {"name": name},
        "spec": {"limit": "10", "sources": sizes(), "namespaceSelectors": [{"matchLabels": {"team": team}}]}});
    let api: Api<GlobalCustomQuota> = Api::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
        .await
        .unwrap();
    let says = async |namespaces: Vec<&String>, used: &str| {
        let mut namespaces: Vec<String> = namespaces.into_iter().cloned().collect();
        namespaces.sort();
        eventually(used, || async {
            let status = api.get(&name).await.unwrap().status.unwrap_or_default();
            let said = (status.namespaces, status.usage.used.map(|used| used.0));
            (said == (namespaces.clone(), Some(used.to_owned())))
                .then_some(())
                .ok_or(format!("{said:?}"))
        })
        .await;
    };
    says(vec![&one], "2").await;
    assert_eq!(
        ledger(&client, LEDGERS, &name)
            .await
            .status
            .unwrap()
            .allocated
            .unwrap()
            .0,
        "2"
    );
    let namespaces: Api<Namespace> = Api::all(client.clone());
    merge(&namespaces, &two, json!({"metadata": {"labels": {"team": team}}})).await;
    says(vec![&one, &two], "5").await;
    merge(&namespaces, &one, json!({"metadata": {"labels": {"team": "none"}}})).await;
    says(vec![&two], "3").await;

    merge(&api, &name, json!({"spec": {"namespaceSelectors": null}})).await;
    eventually("all namespaces", || async {
        let status = api.get(&name).await.unwrap().status.unwrap_or_default();
        (status.namespaces == ["*"] && status.observed_generation == Some(2))
            .then_some(())
            .ok_or(format!("{:?}", status.namespaces))
    })
    .await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}
