//! A cluster for a test is whole when the test gets it.

use k8s_openapi::api::core::v1::Node;
use kube::Api;

#[tokio::test]
async fn a_cluster_is_ready_and_goes_away_when_dropped() {
    let cluster = testbed::Cluster::start("ready").await;
    let nodes: Api<Node> = Api::all(cluster.client().await);
    assert_eq!(
        nodes.get("admin").await.unwrap().metadata.name.as_deref(),
        Some("admin")
    );
    let unhealthy: Vec<_> = cluster
        .local()
        .health()
        .await
        .unwrap()
        .into_iter()
        .filter(|part| !part.healthy)
        .collect();
    assert!(unhealthy.is_empty(), "{unhealthy:?}");
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}
