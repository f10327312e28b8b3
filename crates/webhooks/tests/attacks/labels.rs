//! A rule about labels and annotations: every kind, in every way that writes one.

use http::Method;
use serde_json::{Value, json};
use testbed::unique;

use super::intents::{CHANGE_MAKE, Intent, annotation, label};
use super::request::{Way, copied, send, write};
use super::samples::{sample, samples};
use super::scene::{Actor, Scene};
use super::support::until;
use super::tried;

const KEY: &str = "example.com/cost";
/// A pod, a Service and an Ingress are asked about in hooks of their own.
const GUARDS: &[&str] = &[
    "generic.rules.validating",
    "reports.pods.validating",
    "pods.validating",
    "services.validating",
    "ingress.validating",
];
const ASKING: &[Actor] = &[Actor::Owner, Actor::Account, Actor::Stranger];
/// Kinds with hooks of their own, which all of them ask about. About the others one does, each time another.
const BY_ALL: [&str; 3] = ["v1/pods", "v1/services", "networking.k8s.io/v1/ingresses"];
/// Rules are not about what the cluster puts into every namespace.
const UPKEEP: [&str; 2] = ["v1/endpoints", "discovery.k8s.io/v1/endpointslices"];

#[tokio::test]
async fn a_rule_about_labels_is_met_by_every_kind_in_every_way() {
    let values = json!({KEY: {"values": [{"exact": ["web"]}]}});
    let mut scene = Scene::new(json!({"rules": [{"enforce": {"action": "allow", "metadata": [
        {"kinds": ["*"], "apiGroups": ["*"], "labels": values, "annotations": values}]}}]}))
    .await;
    let samples: Vec<_> = samples().into_iter().filter(|(it, _)| !UPKEEP.contains(it)).collect();
    for (resource, mut object) in samples.clone() {
        object["metadata"] = json!({"name": "sample", "labels": {KEY: "web"}, "annotations": {KEY: "web"}});
        let owner = scene.client(Actor::Owner).clone();
        scene.put(resource, owner, resource, object).await;
    }
    // One at a time: what refuses the one must not hide that nothing refuses the other.
    let changes: [fn(&mut Value, &Scene); 2] = [
        |it, _| label(it, KEY, json!("db")),
        |it, _| annotation(it, KEY, json!("db")),
    ];
    let mut intents = Vec::new();
    for (index, (resource, _)) in samples.iter().enumerate() {
        for (turn, change) in changes.into_iter().enumerate() {
            let one = (index + turn) % ASKING.len();
            let is_by_all = BY_ALL.contains(resource);
            intents.push(Intent {
                name: resource,
                on: resource,
                twin: resource,
                acts: CHANGE_MAKE,
                change,
                actors: if is_by_all { ASKING } else { &ASKING[one..=one] },
                guards: GUARDS,
                kept: &[
                    "/metadata/labels/example.com~1cost",
                    "/metadata/annotations/example.com~1cost",
                ],
            });
        }
    }
    tried(&scene, intents).await;
}

/// It is the pod's afterwards. The rule is about pods alone, so that no other hook is asked about a Binding.
#[tokio::test]
async fn a_rule_about_pods_is_met_by_what_a_binding_brings() {
    let values = json!({KEY: {"values": [{"exact": ["web"]}]}});
    let mut scene = Scene::new(json!({"rules": [{"enforce": {"action": "allow", "metadata": [
        {"kinds": ["Pod"], "labels": values, "annotations": values}]}}]}))
    .await;
    let mut pod = sample("v1/pods", "sample");
    pod["metadata"] = json!({"name": "sample", "labels": {KEY: "web"}, "annotations": {KEY: "web"}});
    let owner = scene.client(Actor::Owner).clone();
    scene.put("pod", owner.clone(), "v1/pods", pod).await;
    for is_of_the_pod in [true, false] {
        let pod = scene.place("v1/pods", &unique("bound"));
        let like = scene.object("pod").read(&scene.masters).await.unwrap();
        let like = copied(&like, &pod.name);
        write(&owner, &pod, "", Way::Create, &like, &like).await.unwrap();
        let path = if is_of_the_pod {
            pod.path("binding")
        } else {
            scene.place("v1/bindings", "").resource.path(Some(&scene.namespace))
        };
        let bind = async |map: &str, cost: &str| {
            let mut binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name},
                "target": {"kind": "Node", "name": "none"}});
            binding["metadata"][map] = json!({KEY: cost});
            send(&owner, Method::POST, &path, "application/json", Some(binding)).await
        };
        for map in ["labels", "annotations"] {
            let (code, said) = bind(map, "db").await.unwrap_err();
            assert!(
                code == 403 && said.contains("bindings.pods.validating") && said.contains(KEY),
                "{code} {said}"
            );
        }
        bind("annotations", "web").await.unwrap();
    }
}

/// The core group is meant where a rule names none; what can be about nothing is refused when it is written.
#[tokio::test]
async fn a_rule_about_deployments_names_their_group() {
    let rules = |groups: &[&str]| {
        json!([{"enforce": {"action": "allow", "metadata": [
            {"kinds": ["Deployment"], "apiGroups": groups, "labels": {KEY: {"values": [{"exact": ["web"]}]}}}]}}])
    };
    let scene = Scene::new(json!({"rules": rules(&["apps"])})).await;
    let owner = scene.client(Actor::Owner);
    let deployment = |cost: &str| {
        let place = scene.place("apps/v1/deployments", &unique("web"));
        let mut object = sample("apps/v1/deployments", &place.name);
        object["apiVersion"] = json!("apps/v1");
        object["kind"] = json!("Deployment");
        object["metadata"]["labels"] = json!({KEY: cost});
        (place, object)
    };
    let (place, object) = deployment("db");
    let (code, said) = write(owner, &place, "", Way::Create, &object, &object)
        .await
        .unwrap_err();
    assert_eq!(code, 403, "{said}");
    assert!(
        said.contains("generic.rules.validating") && said.contains("metadata.labels[\"example.com/cost\"]"),
        "{said}"
    );
    let (place, object) = deployment("web");
    write(owner, &place, "", Way::Create, &object, &object).await.unwrap();

    let tenant = scene.place("capsule.clastix.io/v1beta2/tenants", scene.tenant());
    let before = tenant.read(&scene.masters).await.unwrap();
    let mut after = before.clone();
    after["spec"]["rules"] = rules(&[]);
    let (code, said) = write(&scene.masters, &tenant, "", Way::Merge, &before, &after)
        .await
        .unwrap_err();
    assert_eq!(code, 403, "{said}");
    assert!(
        said.contains("spec.rules[0].enforce.metadata[0].kinds[0]") && said.contains("apiGroups"),
        "{said}"
    );
    after["spec"]["rules"] = rules(&["apps/v1"]);
    write(&scene.masters, &tenant, "", Way::Merge, &before, &after)
        .await
        .unwrap();
    until("the changed rule", async || {
        let (place, object) = deployment("db");
        write(owner, &place, "", Way::Create, &object, &object).await.err()
    })
    .await;
}
