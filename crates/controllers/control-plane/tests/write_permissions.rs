//! Limits on writes, in a real API server that stands for the tenant's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::kamaji::v1alpha1::WritePermissions;
use control_plane_controller::inside::guard::Guard;
use control_plane_controller::inside::write_permissions::{NAME, limit};
use control_plane_controller::inside::{self, Desired};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

fn limits(block_creation: bool, block_update: bool, block_deletion: bool) -> Desired {
    let mut desired = Desired::default();
    let permissions = WritePermissions {
        block_creation,
        block_update,
        block_deletion,
    };
    limit(&mut desired, &permissions);
    desired
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<K, kube::Error>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
}

fn config_maps(client: &Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), namespace)
}

async fn create_config_map(client: &Client, namespace: &str) -> Result<ConfigMap, kube::Error> {
    let name = testbed::unique("note");
    create(&config_maps(client, namespace), json!({"metadata": {"name": name}})).await
}

/// The sentence of a refusal by our policy; anything else is no refusal by it.
fn refusal<T: Debug>(result: Result<T, kube::Error>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let start = "the current Control Plane has limited write permissions, current changes are blocked";
            let (_, text) = status.message.split_once(" denied request: ").unwrap_or_default();
            assert!(text.starts_with(start), "{}", status.message);
            text.to_owned()
        }
        other => panic!("{other:?}"),
    }
}

fn merge(value: Value) -> Patch<Value> {
    Patch::Merge(value)
}

/// Policies hold a moment after they are written.
async fn until_creation_is(blocked: bool, client: &Client) {
    let looking = async {
        while create_config_map(client, "default").await.is_err() != blocked {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_blocked_is_refused_and_nodes_stay_alive() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    let maps = config_maps(&client, "default");
    let parameters = PatchParams::default();
    create(&maps, json!({"metadata": {"name": "old"}})).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    create(&leases, json!({"metadata": {"name": "node-1"}})).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let pod =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": pod}});
    create(&deployments, web).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-public");
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), "kube-public");
    let known = async {
        while accounts.get_opt("default").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
    let bare = json!({"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    create(&pods, bare).await.unwrap();

    // Everything is blocked.
    inside::reconcile(&client, &limits(true, true, true)).await.unwrap();
    assert!(
        inside::reconcile(&client, &limits(true, true, true))
            .await
            .unwrap()
            .is_idle()
    );
    until_creation_is(true, &client).await;
    let text = refusal(create_config_map(&client, "default").await);
    assert!(text.contains("blockCreation, blockUpdate, blockDeletion"), "{text}");
    refusal(
        maps.patch("old", &parameters, &merge(json!({"data": {"a": "b"}})))
            .await,
    );
    refusal(maps.delete("old", &DeleteParams::default()).await);
    refusal(
        maps.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default())
            .await
            .map(|_| ()),
    );
    refusal(
        create(
            &Api::<Namespace>::all(client.clone()),
            json!({"metadata": {"name": "more"}}),
        )
        .await,
    );
    refusal(
        deployments
            .patch_scale("web", &parameters, &merge(json!({"spec": {"replicas": 1}})))
            .await,
    );
    refusal(pods.evict("bare", &EvictParams::default()).await);
    refusal(create(&leases, json!({"metadata": {"name": "node-2"}})).await);
    refusal(leases.delete("node-1", &DeleteParams::default()).await.map(|_| ()));
    // What nodes and components live by is not.
    leases
        .patch(
            "node-1",
            &parameters,
            &merge(json!({"spec": {"holderIdentity": "node-1"}})),
        )
        .await
        .unwrap();
    create_config_map(&client, "kube-system").await.unwrap();
    create_config_map(&client, "kube-node-lease").await.unwrap();
    let review = json!({"metadata": {}, "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    create(&Api::<SelfSubjectAccessReview>::all(client.clone()), review)
        .await
        .unwrap();
    let running = json!({"status": {"phase": "Running"}});
    pods.patch_status("bare", &parameters, &merge(running)).await.unwrap();

    // One kind of write is enough, and can be changed.
    inside::reconcile(&client, &limits(false, true, false)).await.unwrap();
    until_creation_is(false, &client).await;
    let text = refusal(
        maps.patch("old", &parameters, &merge(json!({"data": {"a": "b"}})))
            .await,
    );
    assert!(text.contains("sets blockUpdate;"), "{text}");
    create(&leases, json!({"metadata": {"name": "node-2"}})).await.unwrap();
    maps.delete("old", &DeleteParams::default()).await.unwrap();

    // And lifted.
    inside::reconcile(&client, &limits(false, false, false)).await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    assert_eq!(policies.get_opt(NAME).await.unwrap(), None);
    assert_eq!(bindings.get_opt(NAME).await.unwrap(), None);
    assert!(
        inside::reconcile(&client, &limits(false, false, false))
            .await
            .unwrap()
            .is_idle()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_somebody_removes_or_weakens_is_heard_of_and_comes_back() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    let desired = limits(true, false, false);
    inside::reconcile(&client, &desired).await.unwrap();
    until_creation_is(true, &client).await;
    let heard = Arc::new(Notify::new());
    let told = heard.clone();
    let guard = Guard::start(&client, &desired, move || told.notify_one());
    assert!(guard.covers(&desired) && guard.covers(&limits(true, true, true)));
    assert!(!guard.covers(&limits(false, false, false)));

    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let weaken = json!({"spec": {"validations": [{"expression": "true"}]}});
    // The watches begin with a list, of which nothing is told; so it is weakened until it is heard of.
    loop {
        policies
            .patch(NAME, &PatchParams::default(), &Patch::Merge(weaken.clone()))
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(500), heard.notified()).await;
        inside::reconcile(&client, &desired).await.unwrap();
        if waited.is_ok() {
            break;
        }
    }
    until_creation_is(true, &client).await;
    bindings.delete(NAME, &DeleteParams::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, heard.notified()).await.unwrap();
    inside::reconcile(&client, &desired).await.unwrap();
    until_creation_is(true, &client).await;
}
