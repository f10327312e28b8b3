//! Replicas contend for the same Leases on a real API server.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use runtime::Shutdown;
use runtime::lease::{Config, Leader};

const DURATION: Duration = Duration::from_secs(12);
const RETRY: Duration = Duration::from_secs(3);

/// Short enough to be waited out, and so long that a machine that is busy for seconds loses no Lease by it. Giving a
/// Lease back is tried for as long as `retry`.
fn config(names: &[&str], identity: &str) -> Config {
    Config {
        duration: DURATION,
        renew_deadline: Duration::from_secs(10),
        retry: RETRY,
        ..Config::new("default", names, identity)
    }
}

async fn holder(client: &kube::Client, name: &str) -> String {
    let lease = Api::<Lease>::namespaced(client.clone(), "default")
        .get(name)
        .await
        .unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_leads_and_the_other_takes_over_when_it_ends() {
    let client = testbed::ApiServer::shared().await.client().await;
    let name = testbed::unique("lease");
    let (names, never) = ([name.as_str()], Shutdown::new());
    let first = Leader::acquire(&client, config(&names, "one"), &never).await.unwrap();
    assert_eq!(holder(&client, &name).await, "one");

    let waiting = tokio::spawn({
        let (client, config, never) = (client.clone(), config(&names, "two"), never.clone());
        async move { Leader::acquire(&client, config, &never).await.unwrap() }
    });
    // Longer than the duration: renewals keep the other out.
    tokio::time::sleep(DURATION + RETRY).await;
    assert!(!waiting.is_finished());
    assert_eq!(holder(&client, &name).await, "one");

    first.release().await;
    let second = waiting.await.unwrap();
    assert_eq!(holder(&client, &name).await, "two");
    second.release().await;
    assert_eq!(holder(&client, &name).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_when_its_lease_has_run_out() {
    let client = testbed::ApiServer::shared().await.client().await;
    let name = testbed::unique("lease");
    let never = Shutdown::new();
    // A runtime of its own, dropped with everything in it: what kill -9 leaves behind is the Lease.
    std::thread::spawn({
        let (url, name) = (testbed::ApiServer::shared().await.kubeconfig(), name.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let options = kube::config::KubeConfigOptions::default();
                let config_of = kube::Config::from_custom_kubeconfig(url, &options).await.unwrap();
                let client = runtime::client::build(config_of, "test").unwrap();
                Leader::acquire(&client, config(&[&name], "killed"), &Shutdown::new())
                    .await
                    .unwrap();
            });
            runtime.shutdown_background();
        }
    })
    .join()
    .unwrap();
    assert_eq!(holder(&client, &name).await, "killed");
    let second = Leader::acquire(&client, config(&[&name], "two"), &never).await.unwrap();
    assert_eq!(holder(&client, &name).await, "two");
    let lease = Api::<Lease>::namespaced(client.clone(), "default")
        .get(&name)
        .await
        .unwrap();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
    second.release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_leases_are_held_together_and_one_stolen_is_all_lost() {
    let client = testbed::ApiServer::shared().await.client().await;
    let (own, peers) = (testbed::unique("own"), testbed::unique("peers"));
    let never = Shutdown::new();
    let peer = Leader::acquire(&client, config(&[&peers], "peer"), &never)
        .await
        .unwrap();

    let both = format!("default/{peers}");
    let waiting = tokio::spawn({
        let (client, config, never) = (client.clone(), config(&[&own, &both], "us"), never.clone());
        async move { Leader::acquire(&client, config, &never).await.unwrap() }
    });
    // More than one try.
    tokio::time::sleep(RETRY * 2).await;
    assert!(!waiting.is_finished(), "the peer still writes");
    peer.release().await;
    let leader = waiting.await.unwrap();
    assert_eq!(
        (holder(&client, &own).await, holder(&client, &peers).await),
        ("us".into(), "us".into())
    );

    let thief = serde_json::json!({"spec": {"holderIdentity": "thief"}});
    let leases = Api::<Lease>::namespaced(client.clone(), "default");
    leases
        .patch(
            &peers,
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(thief),
        )
        .await
        .unwrap();
    leader.lost().cancelled().await;
    assert_eq!(
        holder(&client, &peers).await,
        "thief",
        "what was stolen is not fought for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_stops_at_the_shutdown_and_gives_back_what_it_took() {
    let client = testbed::ApiServer::shared().await.client().await;
    let (own, peers) = (testbed::unique("own"), testbed::unique("peers"));
    let never = Shutdown::new();
    let peer = Leader::acquire(&client, config(&[&peers], "peer"), &never)
        .await
        .unwrap();
    let shutdown = Shutdown::new();
    let waiting = tokio::spawn({
        let (client, config, shutdown) = (client.clone(), config(&[&own, &peers], "us"), shutdown.clone());
        async move { Leader::acquire(&client, config, &shutdown).await }
    });
    let leases = Api::<Lease>::namespaced(client.clone(), "default");
    while leases.get_opt(&own).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shutdown.trigger();
    assert!(waiting.await.unwrap().is_none());
    assert_eq!(holder(&client, &own).await, "");
    peer.release().await;
}
