//! GlobalResourceQuotas with all who take part: hooks that promise, the API server that counts, and the controller that puts
//! both together.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use api::capsule::v1beta2::{GlobalResourceQuota, GlobalResourceQuotaStatus, ResourcePool, ResourcePoolClaim};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Error, ResourceExt as _};
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

/// Makes a pod that says how much of the disk it needs.
async fn create(stage: &Stage, namespace: &str, disk: &str, dry_run: bool) -> Result<Pod, Error> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "labels": {"of": stage.tenant}},
        "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"ephemeral-storage": disk}}}]}});
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    Api::namespaced(stage.owner.clone(), namespace)
        .create(&params, &serde_json::from_value(pod).unwrap())
        .await
}

async fn pods(stage: &Stage) -> Vec<Pod> {
    let labelled = ListParams::default().labels(&format!("of={}", stage.tenant));
    Api::<Pod>::all(stage.masters.clone())
        .list(&labelled)
        .await
        .unwrap()
        .items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_no_moment_is_there_more_than_the_limit_and_what_is_freed_can_be_used() {
    let stage = Arc::new(stage(json!({})).await);
    control().await;
    let mut namespaces = vec![stage.namespace.clone()];
    for index in 1..5 {
        let name = format!("{}-{index}", stage.tenant);
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::all(stage.owner.clone());
        until("a namespace", async || {
            api.create(&PostParams::default(), &namespace).await.ok()
        })
        .await;
        namespaces.push(name);
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

    // Somebody looks all the time.
    let (is_over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watcher = tokio::spawn({
        let (stage, is_over, most) = (stage.clone(), is_over.clone(), most.clone());
        async move {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(pods(&stage).await.len(), Ordering::Relaxed);
            }
        }
    });
    for round in 0..4 {
        let creates = (0..50).map(|index| {
            let (stage, namespace) = (stage.clone(), namespaces[index % 5].clone());
            tokio::spawn(async move {
                loop {
                    let made = create(&stage, &namespace, "1Mi", false).await;
                    // On a machine that is too slow for all of them at once, some are told so.
                    let is_told = |error: &Error| error.to_string().contains("please retry");
                    if !made.as_ref().is_err_and(is_told) {
                        return made;
                    }
                }
            })
        });
        let results = join_all(creates).await;
        let passed = results
            .into_iter()
            .filter(|result| result.as_ref().unwrap().is_ok())
            .count();
        let there = pods(&stage).await;
        assert_eq!(there.len(), LIMIT, "round {round}: {passed} passed");
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
            let api: Api<Pod> = Api::namespaced(stage.masters.clone(), &pod.namespace().unwrap());
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                ..DeleteParams::default()
            };
            api.delete(&pod.name_any(), &now).await.unwrap();
        }
        let rest = (LIMIT - 5).to_string();
        says(&|status| status.total.used.get("pods").is_some_and(|used| used.0 == rest)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    watcher.await.unwrap();
    assert_eq!(most.load(Ordering::Relaxed), LIMIT);
}

/// What is too much for any namespace shows who refuses it: hooks come before the API server's own quotas.
async fn hook_is_asked(stage: &Stage) {
    until("the hook", async || {
        let refused = create(stage, &stage.namespace, "2Gi", true).await.err()?;
        refused
            .to_string()
            .contains("resource exceeds GlobalResourceQuota")
            .then_some(())
    })
    .await;
}
