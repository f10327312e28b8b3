//! One release, `capsule` in `capsule-system` or `kamaji` in `kamaji-system`, passes from a peer's chart to ours and back, by upgrade and by uninstall and
//! install, and tenants stay what they are.
//!
//! The peer is stood for by a chart with the names of its objects, and by what its program leaves behind at run time: webhook
//! configurations, a Lease. Most of it needs no nodes: the operator runs beside the API server, as its flags allow. That pods of
//! the release get along with the rights that the chart gives them is shown on a real node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;
mod control_planes;
mod nodes;

use std::time::Duration;

use bed::{Bed, CONFIGURATIONS, PEER_LEASE, TENANT};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Secret},
    rbac::v1::RoleBinding,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

#[tokio::test]
async fn tenants_outlive_the_passing_of_a_release_from_one_chart_to_the_other() {
    let bed = Bed::start().await;

    // The peer, at work.
    bed.install_peers_definitions().await;
    bed.helm(&["install", "capsule", &bed::peer(), "--create-namespace"]);
    bed.leave_what_a_running_peer_leaves().await;
    bed.create_a_tenant_with_a_namespace().await;
    let before = bed.identities().await;

    // The upgrade, as docs/swap.md has it. The operator waits: the peer leads.
    bed.bring_definitions_up_to_date("capsule.clastix.io");
    bed.helm(&bed.upgrade_to_ours());
    let operator = bed.start_operator();
    bed.eventually("our own Lease is held", async || bed.holder("cotenant").await.is_some())
        .await;
    assert_eq!(bed.holder(PEER_LEASE).await.as_deref(), Some("peer"));
    assert_eq!(
        bed.hooks_of_the_peer().await,
        2,
        "configurations were changed beside the peer"
    );

    bed.let_the_peer_go(PEER_LEASE).await;
    bed.eventually("the peer's Lease is ours", async || {
        bed.holder(PEER_LEASE).await == bed.holder("cotenant").await
    })
    .await;
    bed.eventually("the hooks are ours", async || {
        bed.hooks_of_the_peer().await == 0 && bed.hooks_of_ours().await > 10
    })
    .await;
    bed.eventually("the tenant is served", async || bed.tenant_is_ready().await)
        .await;
    assert_eq!(bed.identities().await, before);
    assert!(!bed.definition_has_peers_column().await);
    assert!(bed.configuration_is_owned_by("capsule").await);
    let deployment: Deployment = bed.get("capsule-controller-manager").await.unwrap();
    let container = deployment.spec.unwrap().template.spec.unwrap().containers.remove(0);
    assert!(container.image.unwrap().starts_with("docker.io/cotenant/cotenant:"));
    assert!(bed.get::<ConfigMap>("capsule-of-the-peer-alone").await.is_none());
    let secret: Secret = bed.get("capsule-tls").await.unwrap();
    assert!(secret.data.unwrap().contains_key("ca.key"));
    let bindings: Api<RoleBinding> = Api::namespaced(bed.client.clone(), "oil-production");
    assert!(
        !bindings
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    bed.alice_makes_a_namespace("oil-refinery").await;

    // Away with ours: nobody is left to answer hooks, so there are none, and all that is the tenants' stays.
    drop(operator);
    bed.helm(&["uninstall", "capsule", "--wait"]);
    bed.eventually("no hook is left", async || {
        bed.cluster::<ValidatingWebhookConfiguration>(CONFIGURATIONS)
            .await
            .is_none()
            && bed
                .cluster::<MutatingWebhookConfiguration>(CONFIGURATIONS)
                .await
                .is_none()
    })
    .await;
    assert_eq!(bed.identities().await, before);
    assert!(bed.cluster::<Namespace>("oil-refinery").await.is_some());

    // The peer again, over what stayed; then straight to ours and straight back.
    bed.helm(&["install", "capsule", &bed::peer()]);
    assert_eq!(bed.identities().await, before);
    bed.helm(&bed.upgrade_to_ours());
    assert_eq!(bed.identities().await, before);
    bed.helm(&["upgrade", "capsule", &bed::peer()]);
    assert_eq!(bed.identities().await, before);
    assert!(bed.get::<ConfigMap>("capsule-of-the-peer-alone").await.is_some());

    // Ours over what the peer's uninstall leaves.
    bed.helm(&["uninstall", "capsule"]);
    let mut install = bed.upgrade_to_ours();
    install[0] = "install";
    bed.helm(&install);
    let after = bed.identities().await;
    assert_eq!(
        (after.tenant, after.namespace, after.definition),
        (before.tenant, before.namespace, before.definition)
    );
    let operator = bed.start_operator();
    bed.eventually("the tenant is served again", async || {
        bed.hooks_of_ours().await > 10 && bed.tenant_is_ready().await
    })
    .await;
    bed.alice_makes_a_namespace("oil-storage").await;
    drop(operator);
}

/// Selectors cannot be changed; the page says what to do when a chart of the peer has others.
#[tokio::test]
async fn a_deployment_with_another_selector_is_deleted_first() {
    let bed = Bed::start().await;
    bed.install_peers_definitions().await;
    bed.helm(&[
        "install",
        "capsule",
        &bed::peer(),
        "--create-namespace",
        "--set=selector.control-plane=controller-manager",
    ]);
    let refused = bed.helm_refused(&bed.upgrade_to_ours());
    assert!(refused.contains("field is immutable"), "{refused}");
    let deployments: Api<Deployment> = Api::namespaced(bed.client.clone(), "capsule-system");
    deployments
        .delete("capsule-controller-manager", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    bed.eventually("it is gone", async || {
        bed.get::<Deployment>("capsule-controller-manager").await.is_none()
    })
    .await;
    bed.helm(&bed.upgrade_to_ours());
}

/// The Secret that a peer's chart made empty, to be filled by its program.
#[tokio::test]
async fn an_empty_secret_is_filled() {
    let bed = Bed::start().await;
    bed.bring_definitions_up_to_date("capsule.clastix.io");
    let mut install = bed.upgrade_to_ours();
    install[0] = "install";
    install.extend(["--create-namespace", "--set=tls.create=true,tls.enableController=true"]);
    bed.helm(&install);
    let secret: Secret = bed.get("capsule-tls").await.unwrap();
    assert_eq!(secret.data, None);
    let _operator = bed.start_operator();
    bed.eventually("it has a certificate", async || {
        let secret: Secret = bed.get("capsule-tls").await.unwrap();
        secret
            .data
            .is_some_and(|data| data.contains_key("tls.crt") && data.contains_key("ca.key"))
    })
    .await;
}

impl Bed {
    async fn alice_makes_a_namespace(&self, name: &str) {
        let client = self.server.client_for("alice", &["projectcapsule.dev"]).await;
        let namespaces: Api<Namespace> = Api::all(client);
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let mut said = String::new();
        for _ in 0..100 {
            match namespaces.create(&PostParams::default(), &namespace).await {
                Ok(made) => {
                    assert_eq!(made.metadata.labels.unwrap()["capsule.clastix.io/tenant"], TENANT);
                    return;
                }
                // Her role is on its way.
                Err(error) => said = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("alice could not make {name}: {said}");
    }
}
