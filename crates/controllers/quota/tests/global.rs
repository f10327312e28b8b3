//! GlobalResourceQuotas, through a real API server whose own controllers count what is used. No webhook runs here; what one
//! would promise is written by the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

mod bed;

use std::collections::BTreeMap;

use api::capsule::v1beta2::{GlobalResourceQuota, GlobalResourceQuotaStatus, QuantityLedger, ResourceQuotaLedger};
use bed::{LEDGERS, bed, create_namespace, eventually, merge, use_one};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tenancy::quota::global::{child_name, ledger_name};
use testbed::unique;

fn quotas(client: &Client) -> Api<GlobalResourceQuota> {
    Api::all(client.clone())
}

fn children(client: &Client, namespace: &str) -> Api<ResourceQuota> {
    Api::namespaced(client.clone(), namespace)
}

fn ledgers(client: &Client) -> Api<QuantityLedger> {
    Api::namespaced(client.clone(), LEDGERS)
}

/// A quota of secrets for as many namespaces as asked for, counted once.
async fn stage(secrets: i64, namespaces: usize) -> (Client, GlobalResourceQuota, Vec<String>) {
    let client = bed().await;
    let name = unique("quota");
    let names: Vec<String> = (0..namespaces).map(|index| format!("{name}-{index}")).collect();
    for namespace in &names {
        create_namespace(&client, namespace, &name).await;
    }
    let quota = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": name},
        "spec": {"quota": {"hard": {"secrets": secrets.to_string()}},
            "namespaceSelectors": [{"matchLabels": {"team": name}}]}});
    let quota = serde_json::from_value(quota).unwrap();
    let quota = quotas(&client).create(&PostParams::default(), &quota).await.unwrap();
    says(&client, &name, |status| {
        (words(status) == "Ready True Succeeded").then_some(())
    })
    .await;
    (client, quota, names)
}

fn words(status: &GlobalResourceQuotaStatus) -> String {
    let words = status
        .conditions
        .iter()
        .map(|it| format!("{} {} {}", it.type_, it.status, it.reason));
    words.collect::<Vec<_>>().join(", ")
}

/// Waits until a quota's status is as wanted.
async fn says<T>(client: &Client, name: &str, wanted: impl Fn(&GlobalResourceQuotaStatus) -> Option<T>) -> T {
    eventually("the quota says so", || async {
        let status = quotas(client).get(name).await.unwrap().status.unwrap_or_default();
        wanted(&status).ok_or(format!("{status:?}"))
    })
    .await
}

fn number(amounts: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<i64> {
    amounts.get("secrets")?.0.parse().ok()
}

/// Waits until a namespace may have this many secrets.
async fn may_have(client: &Client, namespace: &str, quota: &str, expected: i64) -> ResourceQuota {
    eventually(&format!("{namespace} may have {expected}"), || async {
        let child = children(client, namespace).get_opt(&child_name(quota)).await.unwrap();
        let child = child.ok_or("there is no quota".to_owned())?;
        let hard = child.spec.as_ref().and_then(|spec| number(spec.hard.as_ref()?));
        if hard == Some(expected) {
            Ok(child)
        } else {
            Err(format!("{hard:?}"))
        }
    })
    .await
}

async fn account(client: &Client, quota: &GlobalResourceQuota) -> ResourceQuotaLedger {
    let name = ledger_name(&quota.name_any(), &quota.uid().unwrap());
    let ledger = ledgers(client).get(&name).await.unwrap();
    ledger.status.unwrap().resource_quota.unwrap()
}

async fn create_secret(client: &Client, namespace: &str) -> Result<Secret, kube::Error> {
    let secret = serde_json::from_value(json!({"metadata": {"generateName": "s-"}})).unwrap();
    Api::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &secret)
        .await
}

/// What a webhook writes for a request.
fn reservation(id: &str, expires: &str) -> Value {
    json!({"id": id, "usage": {"secrets": "1"}, "delta": {"secrets": "1"},
        "objectRef": {"apiVersion": "v1", "kind": "Secret", "namespace": "n"},
        "createdAt": "2020-01-01T00:00:00Z", "updatedAt": "2020-01-01T00:00:00Z", "expiresAt": expires})
}

#[tokio::test]
async fn each_namespace_may_use_what_it_has_and_all_that_is_left() {
    let (client, quota, names) = stage(5, 3).await;
    let name = quota.name_any();
    let child = may_have(&client, &names[0], &name, 5).await;
    let labels = json!({
        "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/global-resource-quota": name});
    assert_eq!(serde_json::to_value(child.labels()).unwrap(), labels);
    assert_eq!(child.owner_references()[0].uid, quota.uid().unwrap());
    let ledger = ledgers(&client)
        .get(&ledger_name(&name, &quota.uid().unwrap()))
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(ledger.labels()).unwrap(), labels);
    assert_eq!(
        (ledger.spec.target_ref.kind.as_str(), &ledger.spec.target_ref.name),
        ("GlobalResourceQuota", &name)
    );

    create_secret(&client, &names[0]).await.unwrap();
    create_secret(&client, &names[0]).await.unwrap();
    create_secret(&client, &names[1]).await.unwrap();
    may_have(&client, &names[0], &name, 4).await;
    may_have(&client, &names[1], &name, 3).await;
    may_have(&client, &names[2], &name, 2).await;
    let status = says(&client, &name, |status| {
        (number(&status.total.used) == Some(3)).then(|| status.clone())
    })
    .await;
    assert_eq!(
        (
            status.namespaces,
            status.namespace_count,
            number(&status.total.available)
        ),
        (names.clone(), 3, Some(2))
    );
    let used: Vec<_> = status
        .namespace_usage
        .values()
        .map(|usage| number(&usage.used))
        .collect();
    assert_eq!(used, [Some(2), Some(1), Some(0)]);
}

#[tokio::test]
async fn a_changed_limit_and_a_namespace_that_comes_or_goes_reach_all_namespaces() {
    let (client, quota, names) = stage(5, 2).await;
    let name = quota.name_any();
    merge(
        &quotas(&client),
        &name,
        json!({"spec": {"quota": {"hard": {"secrets": "9"}}}}),
    )
    .await;
    may_have(&client, &names[0], &name, 9).await;
    may_have(&client, &names[1], &name, 9).await;
    let generation = Some(2);
    says(&client, &name, |status| {
        (status.observed_generation == generation).then_some(())
    })
    .await;
    assert_eq!(account(&client, &quota).await.observed_generation, generation);

    let late = format!("{name}-late");
    create_namespace(&client, &late, &name).await;
    may_have(&client, &late, &name, 9).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    merge(
        &namespaces,
        &names[0],
        json!({"metadata": {"labels": {"team": "other"}}}),
    )
    .await;
    eventually("the quota is gone", || async {
        match children(&client, &names[0]).get_opt(&child_name(&name)).await.unwrap() {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await;
    says(&client, &name, |status| {
        (status.namespaces == [names[1].clone(), late.clone()]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quota_of_other_scopes_makes_its_copies_again() {
    let (client, quota, names) = stage(5, 1).await;
    let name = quota.name_any();
    let before = may_have(&client, &names[0], &name, 5).await;
    let spec = json!({"spec": {"quota": {"hard": {"secrets": null, "pods": "3"}, "scopes": ["BestEffort"]}}});
    merge(&quotas(&client), &name, spec).await;
    let after = eventually("another copy", || async {
        let child = children(&client, &names[0]).get_opt(&child_name(&name)).await.unwrap();
        child
            .filter(|child| child.uid() != before.uid())
            .ok_or("it is the same".to_owned())
    })
    .await;
    assert_eq!(
        serde_json::to_value(after.spec.unwrap()).unwrap(),
        json!({"hard": {"pods": "3"}, "scopes": ["BestEffort"]})
    );
}

#[tokio::test]
async fn promises_end_when_their_objects_are_counted_or_their_time_is_up() {
    let (client, quota, names) = stage(5, 2).await;
    let ledger = ledger_name(&quota.name_any(), &quota.uid().unwrap());
    let (arrives, fails) = (
        reservation("arrives/q", "2100-01-01T00:00:00Z"),
        reservation("fails/q", "2020-01-01T00:02:00Z"),
    );
    let stays = reservation("stays/q", "2100-01-01T00:00:00Z");
    let status = json!({"status": {"resourceQuota": {"reservations": [arrives, stays, fails]}}});
    let api = ledgers(&client);
    api.patch_status(
        &ledger,
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(status),
    )
    .await
    .unwrap();
    let left = |expected: &'static [&'static str]| {
        let (client, quota) = (client.clone(), quota.clone());
        async move {
            eventually(&format!("{expected:?} are left"), || async {
                let account = account(&client, &quota).await;
                let ids: Vec<&str> = account.reservations.iter().map(|it| it.id.as_str()).collect();
                if ids == expected {
                    Ok(account.clone())
                } else {
                    Err(format!("{ids:?}"))
                }
            })
            .await
        }
    };
    let account = left(&["arrives/q", "stays/q"]).await;
    assert_eq!((number(&account.used), number(&account.allocated)), (Some(0), Some(2)));
    create_secret(&client, &names[1]).await.unwrap();
    let account = left(&["stays/q"]).await;
    assert_eq!((number(&account.used), number(&account.allocated)), (Some(1), Some(2)));
}

#[tokio::test]
async fn promises_end_when_their_objects_are_deleted_though_no_count_rises() {
    let (client, quota, names) = stage(20, 1).await;
    let ledger = ledger_name(&quota.name_any(), &quota.uid().unwrap());
    let mut secrets = Vec::new();
    for _ in 0..5 {
        secrets.push(use_one(&client, &names[0]).await);
    }
    let counts = |expected: i64| {
        let name = quota.name_any();
        let client = client.clone();
        async move {
            says(&client, &name, |status| {
                (number(&status.total.used) == Some(expected)).then_some(())
            })
            .await;
        }
    };
    counts(5).await;
    // As if each had been made a moment later than it was.
    let promises = secrets.iter().map(|secret| {
        let mut promise = reservation(&format!("{}/q", secret.name_any()), "2100-01-01T00:00:00Z");
        promise["objectRef"]["uid"] = json!(secret.uid());
        promise
    });
    let promises: Vec<Value> = promises.collect();
    let status = json!({"status": {"resourceQuota": {"reservations": promises}}});
    ledgers(&client)
        .patch_status(
            &ledger,
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(status),
        )
        .await
        .unwrap();
    // The watch has begun before the last of them.
    for (left, secret) in (0..5).rev().zip(&secrets) {
        Api::<Secret>::namespaced(client.clone(), &names[0])
            .delete(&secret.name_any(), &DeleteParams::default())
            .await
            .unwrap();
        counts(left).await;
    }
    eventually("promises are gone", || async {
        let left = account(&client, &quota).await.reservations.len();
        if left < 5 { Ok(()) } else { Err(format!("{left}")) }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_written_when_all_is_as_it_should_be() {
    let (client, quota, names) = stage(5, 2).await;
    let name = quota.name_any();
    use_one(&client, &names[0]).await;
    may_have(&client, &names[1], &name, 4).await;
    says(&client, &name, |status| {
        (number(&status.total.used) == Some(1)).then_some(())
    })
    .await;
    let versions = || async {
        let mut versions = Vec::new();
        for namespace in &names {
            let child = children(&client, namespace).get(&child_name(&name)).await.unwrap();
            versions.push((child.spec.unwrap().hard, child.metadata.generation));
        }
        let ledger = ledgers(&client)
            .get(&ledger_name(&name, &quota.uid().unwrap()))
            .await
            .unwrap();
        (versions, ledger.resource_version())
    };
    let before = versions().await;
    let touched = merge(
        &quotas(&client),
        &name,
        json!({"metadata": {"annotations": {"look": "again"}}}),
    )
    .await;
    // Another quota that is served after it shows that it was looked at.
    let (_, other, _) = stage(1, 1).await;
    assert_eq!(versions().await, before);
    assert_eq!(
        quotas(&client).get(&name).await.unwrap().resource_version(),
        touched.resource_version()
    );
    quotas(&client)
        .delete(&other.name_any(), &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_made_for_a_quota_goes_with_it() {
    let (client, quota, names) = stage(5, 1).await;
    quotas(&client)
        .delete(&quota.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let labelled = ListParams::default().labels(&format!(
        "projectcapsule.dev/global-resource-quota={}",
        quota.name_any()
    ));
    eventually("nothing is left", || async {
        let children = children(&client, &names[0]).list(&labelled).await.unwrap().items.len();
        let ledgers = ledgers(&client).list(&labelled).await.unwrap().items.len();
        if children + ledgers == 0 {
            Ok(())
        } else {
            Err(format!("{children} quotas and {ledgers} ledgers"))
        }
    })
    .await;
}
