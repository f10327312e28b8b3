//! The serving certificate when several replicas keep it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use runtime::Shutdown;
use serde_json::json;
use support::until;
use testbed::{ApiServer, unique};
use tokio::sync::watch;
use webhooks::tls::material::Material;
use webhooks::tls::{self, Place, Publication};

#[tokio::test]
async fn replicas_that_start_together_serve_one_certificate_and_follow_it() {
    let server = ApiServer::shared().await;
    let client = server.client().await;
    let namespace = unique("replicas");
    let wanted: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();

    let shutdown = Shutdown::new();
    let place = |host: &str| Place {
        namespace: namespace.clone(),
        secret: "capsule-tls".to_owned(),
        sans: vec![pki::San::parse(host).unwrap()],
    };
    let (places, place_now) = watch::channel(None);
    let (_published, publication) = watch::channel(None::<Publication>);
    let replicas: Vec<_> = (0..4)
        .map(|_| tls::keep(client.clone(), place_now.clone(), publication.clone(), shutdown.clone()))
        .collect();
    let agreed = async |other_than: Option<Arc<Material>>| {
        until("one certificate on all replicas", async || {
            let all: Vec<_> = replicas
                .iter()
                .map(|replica| replica.material.borrow().clone())
                .collect();
            let first = all[0].clone()?;
            let is_new = other_than.as_ref() != Some(&first);
            (is_new && all.iter().all(|material| material.as_ref() == Some(&first))).then_some(first)
        })
        .await
    };
    // Where it is kept is not known at first.
    places.send_replace(Some(place("hooks.example")));
    let first = agreed(None).await;
    assert!(first.chains_to(&first.bundle));

    // Another name to answer to: the same authority signs, so nobody's trust changes.
    places.send_replace(Some(place("more.example")));
    let second = agreed(Some(first.clone())).await;
    assert_eq!(second.bundle, first.bundle);
    assert_eq!(
        pki::inspect(&second.cert_pem).unwrap().sans,
        [pki::San::parse("more.example").unwrap()]
    );

    // What somebody else puts there is served as well: here, a certificate that ends sooner, by the same authority.
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    let mut secret = secrets.get("capsule-tls").await.unwrap();
    let data = secret.data.as_mut().unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    let authority = pki::Authority::from_pem(&text("ca.crt"), &text("ca.key")).unwrap();
    let now = Timestamp::now();
    let request = pki::LeafRequest {
        not_after: now + SignedDuration::from_hours(24 * 60),
        ..pki::LeafRequest::server("x", vec![pki::San::parse("more.example").unwrap()], now)
    };
    let pair = authority.issue(&request).unwrap();
    data.insert(
        "tls.crt".to_owned(),
        k8s_openapi::ByteString(pair.cert_pem.clone().into_bytes()),
    );
    data.insert("tls.key".to_owned(), k8s_openapi::ByteString(pair.key_pem.into_bytes()));
    secrets
        .replace("capsule-tls", &PostParams::default(), &secret)
        .await
        .unwrap();
    let third = agreed(Some(second)).await;
    assert_eq!(third.cert_pem, pair.cert_pem);

    // Gone: made again, and all serve the same new one.
    secrets.delete("capsule-tls", &DeleteParams::default()).await.unwrap();
    let fourth = agreed(Some(third)).await;
    assert_ne!(fourth.bundle, first.bundle);
    assert!(fourth.chains_to(&fourth.bundle));
    shutdown.trigger();
}
