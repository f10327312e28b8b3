//! How many replicas there are of what a replication made: every kind that has a number of them, in every way.

use http::Method;
use serde_json::{Value, json};

use super::doors::Resource;
use super::report::{Outcome, Report};
use super::request::{Place, Refusal, Way, send, write};
use super::samples::{sample, samples};
use super::scene::{Actor, EVERYBODY, Scene};
use super::support::served::served;
use super::support::until;

const GUARDS: &[&str] = &["scales.replications.validating"];
const HELD: [Actor; 6] = EVERYBODY;

/// Kinds with a sample that are served with a `scale`.
fn scaled(scene: &Scene) -> Vec<&'static str> {
    let has_scale = |resource: &str| {
        let doors = &scene.doors.0[&Resource::of(resource)];
        doors.iter().any(|door| door.subresource == "scale")
    };
    let all = samples().into_iter().map(|(resource, _)| resource);
    all.filter(|resource| has_scale(resource)).collect()
}

#[tokio::test]
async fn what_a_replication_made_is_scaled_by_nobody_else() {
    let mut scene = Scene::new(json!({})).await;
    let kinds = scaled(&scene);
    assert_eq!(
        kinds,
        [
            "v1/replicationcontrollers",
            "apps/v1/deployments",
            "apps/v1/replicasets",
            "apps/v1/statefulsets"
        ]
    );
    let (us, owner) = (scene.us.clone(), scene.client(Actor::Owner).clone());
    let mut items = Vec::new();
    for resource in &kinds {
        let mut made = sample(resource, "made");
        made["metadata"]["labels"] = json!({"projectcapsule.dev/managed-by": "replications"});
        scene.put(resource, us.clone(), resource, made).await;
        let own = sample(resource, "own");
        let place = scene.place(resource, "own");
        let mut object = own.clone();
        object["apiVersion"] = json!(place.resource.api_version());
        object["kind"] = json!(scene.doors.0[&place.resource][0].kind);
        write(&owner, &place, "", Way::Create, &object, &object).await.unwrap();
        items.push(json!({"group": place.resource.group, "version": place.resource.version, "kind": object["kind"],
            "namespace": scene.namespace, "name": "made", "status": {"type": "Ready", "status": "True", "created": true}}));
    }
    let keep = json!({"metadata": {"name": "keep"}, "spec": {"resyncPeriod": "60s", "resources": []}});
    let resource = "capsule.clastix.io/v1beta2/tenantresources";
    scene.put("replication", owner.clone(), resource, keep).await;
    let before = scene.object("replication").read(&us).await.unwrap();
    let mut after = before.clone();
    after["status"] = json!({"size": 4, "processedItems": items,
        "serviceAccount": {"name": "copier", "namespace": scene.namespace}});
    write(&us, scene.object("replication"), "status", Way::Merge, &before, &after)
        .await
        .unwrap();
    let first = scene.object(kinds[0]);
    until("a refusal", async || {
        scale(&scene, &owner, first, Way::Merge).await.err()
    })
    .await;

    let mut report = Report::default();
    for resource in kinds {
        let (made, own) = (scene.object(resource), scene.place(resource, "own"));
        let door = scene.doors.0[&made.resource]
            .iter()
            .find(|door| door.subresource == "scale");
        for way in Way::of_change(door.unwrap()) {
            let words = format!("{way:?} scale");
            for actor in HELD {
                let outcome = match Outcome::of(scale(&scene, scene.client(actor), made, way).await, GUARDS) {
                    Outcome::Harmless => Outcome::Done("it was scaled".to_owned()),
                    outcome => outcome,
                };
                report.add(resource, actor, &words, outcome);
            }
            report.add_twin(resource, &words, scale(&scene, &owner, &own, way).await);
        }
        report.close(resource, &HELD);
        // The replication itself, and the cluster's autoscaler, do.
        for user in [
            format!("system:serviceaccount:{}:copier", scene.namespace),
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
        ] {
            let client = served().await.server.client_for(&user, &["system:masters"]).await;
            scale(&scene, &client, made, Way::Merge).await.unwrap();
        }
    }
    report.conclude(&served().await.registry);
}

/// From none to one or back; once more if its controller changed it at that moment.
async fn scale(scene: &Scene, client: &kube::Client, place: &Place, way: Way) -> Result<Value, Refusal> {
    let mut tries = 0;
    loop {
        let path = place.path("scale");
        let before = send(&scene.masters, Method::GET, &path, "application/json", None).await?;
        let mut after = before.clone();
        let replicas = before["spec"]["replicas"].as_i64().unwrap_or_default();
        after["spec"]["replicas"] = json!(1 - replicas);
        tries += 1;
        match write(client, place, "scale", way, &before, &after).await {
            Err((409, _)) if tries < 5 => {}
            answer => return answer,
        }
    }
}
