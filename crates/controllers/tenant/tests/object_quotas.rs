//! Limits in annotations, kept by Kubernetes' own quotas.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use bed::{bed, create_namespace, create_tenant, equal, eventually, patch_tenant, ready};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use testbed::unique;

async fn map(client: &Client, namespace: &str, name: &str) -> Result<ConfigMap, kube::Error> {
    let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &map)
        .await
}

#[tokio::test]
async fn all_namespaces_of_a_tenant_share_a_limit_on_objects() {
    let client = bed().await;
    let name = unique("counted");
    let made = create_tenant(&client, &name, json!({})).await;
    let limit = json!({"metadata": {"annotations": {"quota.resources.capsule.clastix.io/configmaps_v1": "4"}}});
    patch_tenant(&client, &name, limit).await;
    let (one, two) = (format!("{name}-a"), format!("{name}-b"));
    create_namespace(&client, &one, &made).await;
    create_namespace(&client, &two, &made).await;
    ready(&client, &name, 2).await;
    let quota = format!("capsule-{name}-0");
    let enforced = async |namespace: &str| {
        let quota = Api::<ResourceQuota>::namespaced(client.clone(), namespace)
            .get_opt(&quota)
            .await
            .unwrap();
        let hard = quota.and_then(|quota| quota.status?.hard).unwrap_or_default();
        hard.get("count/configmaps")
            .map(|amount| amount.0.clone())
            .unwrap_or_default()
    };
    // Each namespace has one already, the cluster's root certificate: two are left.
    eventually("the limit is shared", || async {
        equal((enforced(&one).await, enforced(&two).await), &("3".into(), "3".into()))
    })
    .await;
    map(&client, &one, "first").await.unwrap();
    map(&client, &one, "second").await.unwrap();
    let refused = map(&client, &one, "third").await.unwrap_err();
    assert!(
        refused.to_string().contains(&format!("exceeded quota: {quota}")),
        "{refused}"
    );
    eventually("the other namespace sees it", || async {
        equal(enforced(&two).await, &"1".to_owned())
    })
    .await;
    map(&client, &two, "first").await.unwrap_err();
    let namespace = Api::<Namespace>::all(client.clone()).get(&one).await.unwrap();
    assert_eq!(
        namespace
            .labels()
            .get("projectcapsule.dev/custom-resources")
            .map(String::as_str),
        Some("true")
    );
}
