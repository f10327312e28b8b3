//! One watch and its subscribers on a real API server.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use runtime::shared::{Change, Shared};
use runtime::{Shutdown, apply};

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".into(), value.into())])),
        ..ConfigMap::default()
    }
}

async fn next(changes: &mut (impl Stream<Item = Change<ConfigMap>> + Unpin), about: &str) -> String {
    let wait = async {
        loop {
            let change = changes.next().await.unwrap();
            if change.object().name_any().starts_with(about) {
                let value = change
                    .object()
                    .data
                    .as_ref()
                    .map_or("-", |data| data["key"].as_str())
                    .to_owned();
                return match change {
                    Change::Applied(_) => format!("applied {value}"),
                    Change::Deleted(_) => format!("deleted {value}"),
                };
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("a change")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_changes_and_deletions_reach_every_subscriber_and_the_store() {
    let client = testbed::ApiServer::shared().await.client().await;
    let api = Api::<ConfigMap>::namespaced(client, "default");
    let (name, shutdown) = (testbed::unique("shared"), Shutdown::new());
    let create = PostParams::default();
    api.create(&create, &config_map(&format!("{name}-before"), "0"))
        .await
        .unwrap();

    let shared = Shared::start(
        api.clone(),
        watcher::Config::default(),
        |object| object.immutable = None,
        &shutdown,
    );
    assert!(shared.ready().await && shared.is_ready());
    let mut early = shared.changes();
    assert_eq!(next(&mut early, &name).await, "applied 0", "what is there comes first");

    api.create(&create, &config_map(&name, "1")).await.unwrap();
    assert_eq!(next(&mut early, &name).await, "applied 1");
    let stored = shared.get(Some("default"), &name).unwrap();
    assert!(stored.managed_fields().is_empty());

    let change = serde_json::json!({"data": {"key": "2"}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    assert_eq!(next(&mut early, &name).await, "applied 2");
    let mut late = shared.changes();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&mut early, &name).await, "deleted 2");
    while next(&mut late, &name).await != "deleted 2" {}
    assert!(shared.get(Some("default"), &name).is_none());

    shutdown.trigger();
    while early.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_that_changes_nothing_is_not_sent_and_drift_is_repaired() {
    let client = testbed::ApiServer::shared().await.client().await;
    let api = Api::<ConfigMap>::namespaced(client, "default");
    let name = testbed::unique("apply");
    let mut wanted = config_map(&name, "1");
    wanted.metadata.labels = Some(BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));

    // Whether a request was made.
    let apply_once = async |wanted: &ConfigMap| {
        let (live, parameters) = (api.get_opt(&name).await.unwrap(), PatchParams::apply("us").force());
        let wanted = serde_json::to_value(wanted).unwrap();
        let needed = live.is_none_or(|live| apply::needed(&serde_json::to_value(live).unwrap(), &wanted, "us"));
        if needed {
            api.patch(&name, &parameters, &Patch::Apply(&wanted)).await.unwrap();
        }
        needed
    };
    assert!(apply_once(&wanted).await);
    assert!(!apply_once(&wanted).await);

    let theirs =
        serde_json::json!({"metadata": {"labels": {"theirs": "x"}}, "data": {"key": "drift", "other": "kept"}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(theirs))
        .await
        .unwrap();
    assert!(apply_once(&wanted).await);
    assert!(!apply_once(&wanted).await);

    wanted.metadata.labels = Some(BTreeMap::from([("a".into(), "1".into())]));
    assert!(apply_once(&wanted).await);
    assert!(!apply_once(&wanted).await);
    let live = api.get(&name).await.unwrap();
    assert_eq!(
        live.labels().keys().collect::<Vec<_>>(),
        ["a", "theirs"],
        "ours no longer wanted went, theirs stayed"
    );
    let data = live.data.unwrap();
    assert_eq!((data["key"].as_str(), data["other"].as_str()), ("1", "kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_waits_for_the_first_list_hears_of_it() {
    let client = testbed::ApiServer::shared().await.client().await;
    let shutdown = Shutdown::new();
    let shared = Shared::<ConfigMap>::start(
        Api::namespaced(client, "default"),
        watcher::Config::default(),
        |_| {},
        &shutdown,
    );
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            tokio::spawn(async move { shared.ready().await })
        })
        .collect();
    // As readiness probes do, between the others.
    while !shared.is_ready() {
        tokio::task::yield_now().await;
    }
    for waiter in waiting {
        let heard = tokio::time::timeout(Duration::from_secs(10), waiter).await;
        assert!(heard.expect("woken").unwrap());
    }
    shutdown.trigger();
}
