//! GlobalResourceQuotas with all who take part: hooks that promise, the API server that counts, and the controller that puts
//! both together.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::collections::BTreeSet;

use api::capsule::v1beta2::{GlobalResourceQuota, GlobalResourceQuotaStatus, ResourcePool, ResourcePoolClaim};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use runtime::metrics::Registry;
use serde_json::json;
use support::controllers::{self, all};
use support::served::{establish, served};
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;

const LIMIT: usize = 12;

/// Runs the controllers of quotas for as long as the test binary runs.
async fn control() {
    let client = served().await.server.client().await;
    establish(&client, &api::schema::crd::<ResourcePool>()).await;
    establish(&client, &api::schema::crd::<ResourcePoolClaim>()).await;
    controllers::run(async |client, shutdown| {
        let registry = Registry::new();
        let context = quota_controller::Context {
            namespace: "cotenant-system".to_owned(),
            namespaces: all(&client, &shutdown),
            custom_quotas: all(&client, &shutdown),
            global_custom_quotas: all(&client, &shutdown),
            quantity_ledgers: all(&client, &shutdown),
            metrics: runtime::controller::Metrics::register(&registry),
            registry,
            recorder: runtime::events::Recorder::new(client.clone(), "cotenant", Some("test")),
            shutdown,
            client,
        };
        quota_controller::run(context).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_no_moment_is_there_more_than_the_limit_and_what_is_freed_can_be_used() {
    let stage = stage(json!({})).await;
    control().await;
    let mut namespaces = vec![stage.namespace.clone()];
    for index in 1..5 {
        namespaces.push(stage.join(&index.to_string()).await);
    }
    let quota = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": unique("quota")},
        "spec": {"quota": {"hard": {"pods": LIMIT.to_string(), "requests.ephemeral-storage": "1Gi"}}, "namespaceSelectors": [
            {"matchLabels": {"capsule.clastix.io/tenant": stage.tenant}}]}});
    let quotas: Api<GlobalResourceQuota> = Api::all(stage.masters.clone());
    let quota = quotas
        .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
        .await
        .unwrap();
    let says = async |wanted: &dyn Fn(&GlobalResourceQuotaStatus) -> bool| {
        until("the status", async || {
            let status = quotas.get(&quota.name_any()).await.unwrap().status?;
            wanted(&status).then_some(())
        })
        .await;
    };
    says(&|status| {
        status
            .conditions
            .iter()
            .any(|it| it.type_ == "Ready" && it.status == "True")
    })
    .await;
    hook_is_asked(&stage).await;

    let most = stage
        .watched(async || {
            for round in 0..4 {
                let results = stage.burst(&namespaces, 50).await;
                let refused: BTreeSet<_> = results
                    .iter()
                    .filter_map(|made| Some(made.as_ref().err()?.to_string()))
                    .collect();
                let there = stage.pods().await;
                assert_eq!(there.len(), LIMIT, "round {round}: {refused:#?}");
                says(&|status| {
                    status
                        .total
                        .used
                        .get("pods")
                        .is_some_and(|used| used.0 == LIMIT.to_string())
                })
                .await;
                // And again with what becomes free.
                for pod in there.iter().take(5) {
                    stage.delete_pod(pod).await;
                }
                let rest = (LIMIT - 5).to_string();
                says(&|status| status.total.used.get("pods").is_some_and(|used| used.0 == rest)).await;
            }
        })
        .await;
    assert_eq!(most, LIMIT);
}

/// What is too much for any namespace shows who refuses it: hooks come before the API server's own quotas.
async fn hook_is_asked(stage: &Stage) {
    until("the hook", async || {
        let refused = stage.create_pod(&stage.namespace, "2Gi", true).await.err()?;
        refused
            .to_string()
            .contains("resource exceeds GlobalResourceQuota")
            .then_some(())
    })
    .await;
}
