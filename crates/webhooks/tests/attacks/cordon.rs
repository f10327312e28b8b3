//! A frozen namespace: every kind in it, in every way.

use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::unique;

use super::doors::Door;
use super::intents::harmless;
use super::report::{Outcome, Report};
use super::request::{Place, Refusal, Way, copied, send, write};
use super::samples::{LEFT_OUT, samples};
use super::scene::{Actor, Scene};
use super::support::served::served;
use super::support::until;
use super::{Case, changed};

const GUARDS: &[&str] = &["cordoning.validating"];
/// Users of the tenant that is frozen.
const HELD: [Actor; 4] = [Actor::Owner, Actor::Member, Actor::OwnerAccount, Actor::Account];

#[tokio::test]
async fn a_frozen_namespace_is_frozen_for_every_kind_in_every_way() {
    let (mut frozen, mut free) = (Scene::new(json!({})).await, Scene::new(json!({})).await);
    every_kind_has_a_sample(&frozen);
    for scene in [&mut frozen, &mut free] {
        for (resource, mut object) in samples() {
            object["metadata"] = json!({"name": "sample"});
            let owner = scene.client(Actor::Owner).clone();
            scene.put(resource, owner, resource, object).await;
        }
    }
    freeze(&frozen).await;
    let mut report = Report::default();
    for (resource, _) in samples() {
        let (held, lawful) = (frozen.object(resource), free.object(resource));
        for door in frozen.doors.of(&held.resource) {
            for way in Way::of_change(door)
                .chain(Way::of_making(door))
                .chain(Way::of_ending(door))
            {
                let case = Case {
                    subresource: door.subresource.clone(),
                    way,
                };
                for actor in HELD {
                    let outcome = attack(&frozen, frozen.client(actor), held, &case).await;
                    report.add(resource, actor, &case.words(), outcome);
                }
                let owner = free.client(Actor::Owner);
                report.add_twin(resource, &case.words(), ask(&free, owner, lawful, &case).await.1);
            }
        }
        for door in others(&frozen, held) {
            for actor in HELD {
                let answer = ask_other(&frozen, frozen.client(actor), held, door).await;
                let outcome = match Outcome::of(answer, GUARDS) {
                    Outcome::Harmless => Outcome::Done("through a door of its own".to_owned()),
                    outcome => outcome,
                };
                report.add(resource, actor, &door.subresource, outcome);
            }
            let answer = ask_other(&free, free.client(Actor::Owner), lawful, door).await;
            report.add_twin(resource, &door.subresource, answer);
        }
        report.close(resource, &HELD);
    }
    report.conclude(&served().await.registry);
}

/// A kind that is new in Kubernetes or in our groups needs a sample, or a reason why it has none.
fn every_kind_has_a_sample(scene: &Scene) {
    let samples: Vec<_> = samples().into_iter().map(|(resource, _)| resource).collect();
    for (resource, doors) in &scene.doors.0 {
        let is_written = doors[0].is_namespaced && ["create", "update", "patch"].iter().any(|it| doors[0].takes(it));
        let word = format!("{}/{}", resource.group, resource.plural);
        let is_known = samples.iter().any(|it| {
            let it = super::doors::Resource::of(it);
            (it.group, it.plural) == (resource.group.clone(), resource.plural.clone())
        });
        assert!(
            !is_written || is_known || LEFT_OUT.iter().any(|(it, _)| *it == word),
            "{resource} has no sample"
        );
    }
}

async fn freeze(scene: &Scene) {
    let owner = scene.client(Actor::Owner);
    let namespace = scene.place("v1/namespaces", &scene.namespace);
    let before = namespace.read(owner).await.unwrap();
    let mut cordoned = before.clone();
    cordoned["metadata"]["labels"]["projectcapsule.dev/cordoned"] = json!("true");
    write(owner, &namespace, "", Way::Merge, &before, &cordoned)
        .await
        .unwrap();
    let map = scene.object("v1/configmaps");
    for actor in HELD {
        until("the cordon", async || {
            let before = map.read(owner).await.unwrap();
            let mut after = before.clone();
            harmless(&mut after);
            write(scene.client(actor), map, "", Way::Merge, &before, &after)
                .await
                .err()
        })
        .await;
    }
}

/// Asks, and looks whether the object is what it was.
async fn attack(scene: &Scene, client: &Client, place: &Place, case: &Case) -> Outcome {
    let (place, answer) = ask(scene, client, place, case).await;
    let answer = match answer {
        Ok(answer) => answer,
        refused => return Outcome::of(refused, GUARDS),
    };
    let after = place.read(&scene.masters).await;
    let is_marked = after.is_some_and(|it| it.pointer("/metadata/annotations/example.com~1note").is_some());
    match case.way {
        Way::Json | Way::Merge | Way::Strategic | Way::Apply | Way::Replace if !is_marked => Outcome::Harmless,
        _ => Outcome::Done(answer.to_string().chars().take(200).collect()),
    }
}

/// Asks for something that is lawful elsewhere. The place is that of what is made, if something is.
async fn ask(scene: &Scene, client: &Client, place: &Place, case: &Case) -> (Place, Result<Value, Refusal>) {
    let like = place.read(&scene.masters).await.unwrap();
    let own = Place {
        name: unique("own"),
        ..place.clone()
    };
    let mut object = copied(&like, &own.name);
    harmless(&mut object);
    match case.way {
        Way::Create | Way::ApplyNew | Way::ReplaceNew => {
            let answer = write(client, &own, "", case.way, &object, &object).await;
            (own, answer)
        }
        Way::Delete | Way::DeleteCollection => {
            let made = write(&scene.us, &own, "", Way::Create, &object, &object).await.unwrap();
            let answer = write(client, &own, "", case.way, &made, &made).await;
            (own, answer)
        }
        _ => {
            let answer = changed(scene, client, place, case, harmless).await.1;
            (place.clone(), answer)
        }
    }
}

/// Doors that take something else than the object, but for those of connections: these change nothing.
fn others<'a>(scene: &'a Scene, place: &Place) -> impl Iterator<Item = &'a Door> {
    let doors = &scene.doors.0[&place.resource];
    let is_other = |door: &&Door| door.kind != doors[0].kind && (door.takes("update") || content(door, "").is_some());
    doors.iter().filter(is_other)
}

/// What is created through such a door.
fn content(door: &Door, name: &str) -> Option<Value> {
    match door.subresource.as_str() {
        "token" => Some(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})),
        "eviction" => Some(json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}})),
        "binding" => Some(
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"kind": "Node", "name": "none"}}),
        ),
        _ => None,
    }
}

async fn ask_other(scene: &Scene, client: &Client, place: &Place, door: &Door) -> Result<Value, Refusal> {
    let path = place.path(&door.subresource);
    if !door.takes("update") {
        let own = Place {
            name: unique("own"),
            ..place.clone()
        };
        let like = place.read(&scene.masters).await.unwrap();
        let made = copied(&like, &own.name);
        write(&scene.us, &own, "", Way::Create, &made, &made).await.unwrap();
        let content = content(door, &own.name);
        return send(
            client,
            Method::POST,
            &own.path(&door.subresource),
            "application/json",
            content,
        )
        .await;
    }
    let mut object = send(&scene.masters, Method::GET, &path, "application/json", None).await?;
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or_default();
    object["spec"]["replicas"] = json!(1 - replicas);
    send(client, Method::PUT, &path, "application/json", Some(object)).await
}
