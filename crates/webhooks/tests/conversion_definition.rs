//! The definition of Tenants, whose conversion is ours to keep. Alone on its API server, because others would be converted
//! by nobody for a moment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use support::until;
use support::versions::{converted, newer, older, rich};

const DEFINITION: &str = "tenants.capsule.clastix.io";

/// The authority is near its end: another one joins, both are trusted, and only then it signs. Beforehand, somebody else's
/// conversion is taken over.
#[tokio::test]
async fn the_definition_follows_our_place_and_our_authorities_without_a_failed_request() {
    let client = converted().await;
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let config = async || {
        let live = definitions.get(DEFINITION).await.unwrap().spec.conversion.unwrap();
        live.webhook.and_then(|webhook| webhook.client_config)
    };
    let ours = config().await.unwrap();
    assert!(ours.url.as_ref().unwrap().ends_with("/convert"));

    let theirs = json!([{"op": "add", "path": "/spec/conversion", "value": {
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1beta1", "v1beta2"],
            "clientConfig": {"service": {"name": "capsule-webhook-service", "namespace": "capsule-system", "path": "/convert"}},
        },
    }}]);
    for other in [
        theirs,
        json!([{"op": "add", "path": "/spec/conversion", "value": {"strategy": "None"}}]),
    ] {
        let patch = Patch::Json::<()>(serde_json::from_value(other).unwrap());
        definitions
            .patch(DEFINITION, &PatchParams::default(), &patch)
            .await
            .unwrap();
        until("our conversion", async || {
            (config().await.as_ref() == Some(&ours)).then_some(())
        })
        .await;
    }
    let name = rich(&client).await;
    until("a conversion by us again", async || {
        older(&client).get(&name).await.ok()
    })
    .await;

    // An authority that ends in a month is put before the one that signs.
    let secrets = Api::<Secret>::namespaced(client.clone(), "cotenant-system");
    let month = SignedDuration::from_hours(30 * 24);
    let ending = pki::Authority::new("ending", &[], month, Timestamp::now()).unwrap();
    let mut secret = secrets.get("capsule-tls").await.unwrap();
    let data = secret.data.as_mut().unwrap();
    let signing = data["ca.crt"].0.clone();
    let served_at_first = data["tls.crt"].clone();
    let bundle = [ending.cert_pem().as_bytes(), &signing].concat();
    data.insert("ca.crt".to_owned(), ByteString(bundle));
    data.insert("ca.key".to_owned(), ByteString(ending.key_pem().as_bytes().to_vec()));

    let asking = Arc::new(AtomicBool::new(true));
    let asked = tokio::spawn({
        let (client, name, asking) = (client.clone(), name.clone(), asking.clone());
        async move {
            let (mut answers, mut failures) = (0, Vec::new());
            while asking.load(Ordering::Relaxed) {
                for api in [older(&client), newer(&client)] {
                    match api.get(&name).await {
                        Ok(_) => answers += 1,
                        Err(error) => failures.push(error.to_string()),
                    }
                }
            }
            (answers, failures)
        }
    });
    secrets
        .replace("capsule-tls", &PostParams::default(), &secret)
        .await
        .unwrap();
    let renewed = until("another certificate", async || {
        let data = secrets.get("capsule-tls").await.unwrap().data.unwrap();
        (data["tls.crt"] != served_at_first).then_some(data)
    })
    .await;
    asking.store(false, Ordering::Relaxed);
    let (answers, failures) = asked.await.unwrap();
    assert_eq!(failures, Vec::<String>::new(), "{answers} were answered");
    assert!(answers > 0);

    // The definition trusted the new authority before it signed, and hooks and definition trust the same.
    let bundle = config().await.unwrap().ca_bundle.unwrap();
    assert_eq!(bundle, renewed["ca.crt"]);
    let text = String::from_utf8(bundle.0).unwrap();
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3);
    older(&client).get(&name).await.unwrap();
}
