//! What cannot be read and is stored all the same: written past admission, or before a version that refuses it. It is an error
//! for what it is about, and for nothing else.

use serde_json::{Value, json};
use testbed::unique;

use super::intents::harmless;
use super::request::{Place, Refusal, Way, write};
use super::samples::sample;
use super::scene::{Actor, Scene};
use super::support::until;

/// Makes the sample in the namespace, changed; the answer is the API server's.
async fn make(scene: &Scene, actor: Actor, resource: &str, more: &Value) -> Result<Value, Refusal> {
    let place = Place {
        namespace: Some(match actor {
            Actor::Neighbour => format!("{}-web", scene.neighbour.0),
            _ => scene.namespace.clone(),
        }),
        ..scene.place(resource, &unique("made"))
    };
    let mut object = sample(resource, &place.name);
    object["apiVersion"] = json!(place.resource.api_version());
    object["kind"] = json!(scene.doors.0[&place.resource][0].kind);
    json_patch::merge(&mut object, more);
    write(scene.client(actor), &place, "", Way::Create, &object, &object).await
}

#[tokio::test]
async fn what_is_stored_past_admission_is_an_error_for_itself_alone() {
    let scene = Scene::new(json!({})).await;
    let near = json!([{"key": "tier", "operator": "Near", "values": ["a"]}]);
    let bad = json!({
        "storageClasses": {"allowedRegex": "("},
        "ingressOptions": {"allowedClasses": {"allowedRegex": "("}, "allowedHostnames": {"allowedRegex": "("}},
        "containerRegistries": {"allowedRegex": "("},
        "priorityClasses": {"matchExpressions": near},
        "serviceOptions": {"forbiddenLabels": {"deniedRegex": "("}},
        "namespaceOptions": {"forbiddenLabels": {"deniedRegex": "("}, "requiredMetadata": {"labels": {"env": "("}}},
        "rules": [{"enforce": {"action": "deny", "workloads": {"schedulers": [{"exp": "("}]}}}]});
    let tenant = scene.place("capsule.clastix.io/v1beta2/tenants", scene.tenant());
    let before = tenant.read(&scene.masters).await.unwrap();
    let mut after = before.clone();
    json_patch::merge(&mut after["spec"], &bad);
    let refused = write(&scene.masters, &tenant, "", Way::Merge, &before, &after).await;
    assert_eq!(refused.map_err(|(code, _)| code), Err(403));
    let stored = write(&scene.us, &tenant, "", Way::Merge, &before, &after)
        .await
        .unwrap();
    assert_eq!(stored["spec"]["storageClasses"]["allowedRegex"], "(");
    let quota = scene.place("capsule.clastix.io/v1beta2/globalresourcequotas", &unique("odd"));
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota",
        "metadata": {"name": quota.name}, "spec": {"quota": {"hard": {"pods": "0"}},
            "namespaceSelectors": [{"matchExpressions": near}]}});
    write(&scene.us, &quota, "", Way::Create, &object, &object)
        .await
        .unwrap();

    // The hooks for pods are called where a label says so, which comes with the next change.
    let namespace = scene.place("v1/namespaces", &scene.namespace);
    until("the mark by which pods meet their hook", async || {
        let before = namespace.read(&scene.masters).await.unwrap();
        let mut after = before.clone();
        harmless(&mut after);
        let owner = scene.client(Actor::Owner);
        let written = write(owner, &namespace, "", Way::Merge, &before, &after).await.ok()?;
        let mark = written.pointer("/metadata/labels/cotenant.dev~1pod-validation");
        mark.is_some().then_some(())
    })
    .await;
    let labelled = json!({"metadata": {"labels": {"example.com/a": "b"}}});
    let attempts = [
        (
            "v1/persistentvolumeclaims",
            json!({}),
            "pvc.validating",
            "cannot be evaluated",
        ),
        (
            "networking.k8s.io/v1/ingresses",
            json!({"spec": {"rules": [{"host": "a.example.com"}]}}),
            "ingress.validating",
            "cannot be evaluated",
        ),
        ("v1/services", labelled, "services.validating", "cannot be compiled"),
        ("v1/pods", json!({}), "pods.validating", "cannot be evaluated"),
    ];
    for (resource, more, guard, words) in &attempts {
        let (code, said) = until(resource, async || {
            make(&scene, Actor::Owner, resource, more).await.err()
        })
        .await;
        assert!(
            matches!(code, 403 | 500) && said.contains(guard) && said.contains(words),
            "{resource}: {code} {said}"
        );
        make(&scene, Actor::Neighbour, resource, more).await.unwrap();
    }
    // What nothing bad is about goes on.
    make(&scene, Actor::Owner, "v1/configmaps", &json!({})).await.unwrap();
    make(&scene, Actor::Owner, "v1/services", &json!({})).await.unwrap();
    let before = namespace.read(&scene.masters).await.unwrap();
    let mut marked = before.clone();
    marked["metadata"]["labels"]["example.com/a"] = json!("b");
    let owner = scene.client(Actor::Owner);
    let (code, said) = write(owner, &namespace, "", Way::Merge, &before, &marked)
        .await
        .unwrap_err();
    assert!(code == 500 && said.contains("cannot be compiled"), "{code} {said}");

    // It is repaired by whoever may write it, and then it is as if it had never been.
    let broken = tenant.read(&scene.masters).await.unwrap();
    let mut good = broken.clone();
    for part in bad.as_object().unwrap().keys() {
        good["spec"].as_object_mut().unwrap().remove(part);
    }
    write(&scene.masters, &tenant, "", Way::Merge, &broken, &good)
        .await
        .unwrap();
    for (resource, more, ..) in &attempts {
        until("the repair", async || {
            make(&scene, Actor::Owner, resource, more).await.ok()
        })
        .await;
    }
    write(&scene.us, &quota, "", Way::Delete, &object, &object)
        .await
        .unwrap();
}
