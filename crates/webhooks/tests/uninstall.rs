//! What becomes of hooks and policies when the release goes and the CapsuleConfiguration stays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::collections::BTreeSet;

use api::capsule::v1beta2::CapsuleConfiguration;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use support::served::{configure, establish};
use support::until;
use testbed::ApiServer;
use webhooks::configurations::Endpoint;
use webhooks::keeper::{self, Error};
use webhooks::rule::Component;
use webhooks::rules::RULES;
use webhooks::settings::{self, Identity};

const ROLE: &str = "cotenant:operator";

#[tokio::test]
async fn hooks_and_policies_go_with_the_role_and_not_with_the_configuration() {
    let server = ApiServer::shared().await;
    let client = server.client().await;
    establish(&client, &api::schema::crd::<CapsuleConfiguration>()).await;
    configure(&client, json!({})).await;
    let configurations = Api::<CapsuleConfiguration>::all(client.clone());
    let configuration = configurations.get("default").await.unwrap();
    // Hooks are registered where somebody listens; nobody is asked here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let wanted = |owner: Option<&str>| {
        let identity = Identity {
            namespace: "cotenant-system".to_owned(),
            service_account: "cotenant".to_owned(),
            endpoint: Endpoint::Url(format!("https://{address}")),
            tls_secret: "capsule-tls".to_owned(),
            owner_cluster_role: owner.map(str::to_owned),
            components: BTreeSet::from([Component::NamespaceTenants, Component::ControlPlanes]),
        };
        settings::desired(RULES, &identity, Some(&configuration), "")
    };

    // A role that is not there owns nothing, so nothing is made.
    let refused = keeper::apply(&client, &wanted(Some(ROLE))).await.unwrap_err();
    assert!(matches!(&refused, Error::NoOwner { name } if name == ROLE), "{refused}");
    assert_eq!(owners(&client).await, BTreeSet::new());

    // From before the flag: owned by the configuration.
    keeper::apply(&client, &wanted(None)).await.unwrap();
    let by = |owner: &str| -> BTreeSet<String> {
        [
            "capsule-dynamic-webhook (mutating)",
            "capsule-dynamic-webhook (validating)",
            "cotenant-managed-objects (binding)",
            "cotenant-managed-objects (policy)",
            "cotenant-namespace-ownership (binding)",
            "cotenant-namespace-ownership (policy)",
            "cotenant-tenant-labels (binding)",
            "cotenant-tenant-labels-of-kept-kinds (binding)",
            "cotenant-tenant-labels (policy)",
            "kamaji-mutating-webhook-configuration (mutating)",
            "kamaji-validating-webhook-configuration (validating)",
        ]
        .iter()
        .map(|object| format!("{object}: {owner}"))
        .collect()
    };
    assert_eq!(owners(&client).await, by("default"));

    // The role takes over.
    let roles = Api::<ClusterRole>::all(client.clone());
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": ROLE}})).unwrap();
    roles.create(&PostParams::default(), &role).await.unwrap();
    keeper::apply(&client, &wanted(Some(ROLE))).await.unwrap();
    assert_eq!(owners(&client).await, by(ROLE));

    // The release goes: its role is deleted, the configuration stays.
    roles.delete(ROLE, &DeleteParams::default()).await.unwrap();
    until("the end of hooks and policies", async || {
        owners(&client).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(configurations.get("default").await.unwrap().uid(), configuration.uid());
}

/// Every object of ours, with the names of its owners.
async fn owners(client: &Client) -> BTreeSet<String> {
    async fn of<K>(client: &Client, what: &str, found: &mut BTreeSet<String>)
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let ours = ListParams::default().labels("projectcapsule.dev/created-by=controller");
        for object in Api::<K>::all(client.clone()).list_metadata(&ours).await.unwrap() {
            let owners: Vec<_> = object
                .owner_references()
                .iter()
                .map(|owner| owner.name.as_str())
                .collect();
            found.insert(format!("{} ({what}): {}", object.name_any(), owners.join(",")));
        }
    }
    let mut found = BTreeSet::new();
    of::<MutatingWebhookConfiguration>(client, "mutating", &mut found).await;
    of::<ValidatingWebhookConfiguration>(client, "validating", &mut found).await;
    of::<ValidatingAdmissionPolicy>(client, "policy", &mut found).await;
    of::<ValidatingAdmissionPolicyBinding>(client, "binding", &mut found).await;
    of::<MutatingAdmissionPolicy>(client, "policy", &mut found).await;
    of::<MutatingAdmissionPolicyBinding>(client, "binding", &mut found).await;
    found
}
