//! A frozen namespace: every kind in it, in every way.

use std::cell::RefCell;

use futures::{StreamExt as _, stream};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::unique;

use super::doors::{Door, Resource};
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
const HELD: &[Actor] = &[Actor::Owner, Actor::Member, Actor::OwnerAccount, Actor::Account];
/// Kinds that all of them ask about. About the others one does, each time another.
const BY_ALL: [&str; 3] = ["v1/pods", "v1/services", "apps/v1/deployments"];
/// How many kinds are asked about at a time.
const AT_ONCE: usize = 6;
/// Doors into what runs.
const CONNECTIONS: [&str; 4] = ["exec", "attach", "portforward", "proxy"];
const PLAIN: &str = "application/json";

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
    let trial = Trial {
        frozen,
        free,
        report: RefCell::default(),
    };
    let kinds = samples().into_iter().zip(HELD.chunks(1).cycle());
    let tries = kinds.map(|((resource, _), actor)| {
        let actors = if BY_ALL.contains(&resource) { HELD } else { actor };
        trial.of(resource, actors)
    });
    stream::iter(tries).buffer_unordered(AT_ONCE).collect::<()>().await;
    let frozen = &trial.frozen;
    for actor in HELD {
        let path = frozen.place("v1/bindings", "").resource.path(Some(&frozen.namespace));
        let binding = content("binding", "sample");
        let answer = send(frozen.client(*actor), Method::POST, &path, PLAIN, Some(binding)).await;
        assert!(matches!(Outcome::of(answer, GUARDS), Outcome::Guarded(_)), "{actor:?}");
    }
    trial.report.into_inner().conclude(&served().await.registry);
}

/// A frozen namespace, one that is not, and what became of what was asked in both.
struct Trial {
    frozen: Scene,
    free: Scene,
    report: RefCell<Report>,
}

impl Trial {
    /// Asks these users about one kind.
    async fn of(&self, resource: &'static str, actors: &[Actor]) {
        let (frozen, free) = (&self.frozen, &self.free);
        let (held, lawful) = (frozen.object(resource), free.object(resource));
        for door in frozen.doors.of(&held.resource) {
            let ways = Way::of_change(door).chain(Way::of_making(door));
            for way in ways.chain(Way::of_ending(door)) {
                let case = Case {
                    subresource: door.subresource.clone(),
                    way,
                };
                for actor in actors {
                    let outcome = attack(frozen, frozen.client(*actor), held, &case).await;
                    self.report.borrow_mut().add(resource, *actor, &case.words(), outcome);
                }
                let (_, answer) = ask(free, free.client(Actor::Owner), lawful, &case).await;
                self.report.borrow_mut().add_twin(resource, &case.words(), answer);
            }
        }
        for (door, way) in others(frozen, held) {
            let words = format!("{way:?} {}", door.subresource);
            for actor in actors {
                let answer = ask_other(frozen, frozen.client(*actor), held, door, way).await;
                let outcome = match Outcome::of(answer, GUARDS) {
                    Outcome::Guarded(guard) => Outcome::Guarded(guard),
                    other => Outcome::Done(format!("{other:?}")),
                };
                self.report.borrow_mut().add(resource, *actor, &words, outcome);
            }
            let answer = match ask_other(free, &free.hasty, lawful, door, way).await {
                // Nothing runs that could be connected to: what is said of that is said after admission.
                Err((_, said)) if way == Other::Connect && !said.contains("admission") => Ok(Value::Null),
                answer => answer,
            };
            self.report.borrow_mut().add_twin(resource, &words, answer);
        }
        self.report.borrow_mut().close(resource, actors);
    }
}

/// A kind that is new in Kubernetes or in our groups needs a sample, or a reason why it has none.
fn every_kind_has_a_sample(scene: &Scene) {
    let known: Vec<_> = samples().iter().map(|(path, _)| Resource::of(path)).collect();
    let is_known = |resource: &Resource| {
        known
            .iter()
            .any(|it| (&it.group, &it.plural) == (&resource.group, &resource.plural))
    };
    let without: Vec<_> = scene
        .doors
        .0
        .iter()
        .filter(|(_, doors)| {
            doors[0].is_namespaced && ["create", "update", "patch"].iter().any(|it| doors[0].takes(it))
        })
        .filter(|(resource, _)| !is_known(resource))
        .map(|(resource, _)| format!("{}/{}", resource.group, resource.plural))
        .filter(|word| !LEFT_OUT.iter().any(|(it, _)| it == word))
        .collect();
    assert!(without.is_empty(), "{without:?} have no sample");
}

async fn freeze(scene: &Scene) {
    let namespace = scene.place("v1/namespaces", &scene.namespace);
    let before = namespace.read(&scene.masters).await.unwrap();
    let mut cordoned = before.clone();
    cordoned["metadata"]["labels"]["projectcapsule.dev/cordoned"] = json!("true");
    write(&scene.masters, &namespace, "", Way::Merge, &before, &cordoned)
        .await
        .unwrap();
    let map = scene.object("v1/configmaps");
    for actor in HELD {
        until("the cordon", async || {
            let before = map.read(&scene.masters).await.unwrap();
            let mut after = before.clone();
            harmless(&mut after);
            let answer = write(scene.client(*actor), map, "", Way::Merge, &before, &after).await;
            answer.err()
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
    let own = Place {
        name: unique("own"),
        ..place.clone()
    };
    let like = async || {
        let like = place.read(&scene.masters).await.unwrap();
        let mut object = copied(&like, &own.name);
        harmless(&mut object);
        object
    };
    match case.way {
        Way::Create | Way::ApplyNew | Way::ReplaceNew => {
            let object = like().await;
            let answer = write(client, &own, "", case.way, &object, &object).await;
            (own, answer)
        }
        Way::Delete | Way::DeleteCollection => {
            let object = like().await;
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

/// What is asked for through a door that takes something else than the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Change(Way),
    Make,
    Connect,
}

/// All such doors, and the ways through them.
fn others<'a>(scene: &'a Scene, place: &Place) -> Vec<(&'a Door, Other)> {
    let doors = &scene.doors.0[&place.resource];
    let ways = |door: &'a Door| -> Vec<Other> {
        if CONNECTIONS.contains(&door.subresource.as_str()) {
            vec![Other::Connect]
        } else if door.takes("create") {
            vec![Other::Make]
        } else {
            Way::of_change(door).map(Other::Change).collect()
        }
    };
    let others = doors.iter().filter(|door| door.kind != doors[0].kind);
    others
        .flat_map(|door| ways(door).into_iter().map(move |way| (door, way)))
        .collect()
}

/// What is created through such a door.
fn content(subresource: &str, name: &str) -> Value {
    match subresource {
        "token" => json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
        "eviction" => json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}),
        "binding" => json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"kind": "Node", "name": "none"}}),
        other => panic!("nobody has said what is created through {other}"),
    }
}

async fn ask_other(scene: &Scene, client: &Client, place: &Place, door: &Door, way: Other) -> Result<Value, Refusal> {
    match way {
        Other::Connect => {
            let path = format!("{}?command=true&ports=80", place.path(&door.subresource));
            send(client, Method::POST, &path, PLAIN, None).await
        }
        Other::Make => {
            let own = Place {
                name: unique("own"),
                ..place.clone()
            };
            let like = copied(&place.read(&scene.masters).await.unwrap(), &own.name);
            write(&scene.us, &own, "", Way::Create, &like, &like).await.unwrap();
            let content = content(&door.subresource, &own.name);
            send(client, Method::POST, &own.path(&door.subresource), PLAIN, Some(content)).await
        }
        Other::Change(way) => {
            let path = place.path(&door.subresource);
            let before = send(&scene.masters, Method::GET, &path, PLAIN, None).await?;
            let mut after = before.clone();
            let replicas = before["spec"]["replicas"].as_i64().unwrap_or_default();
            after["spec"]["replicas"] = json!(1 - replicas);
            write(client, place, &door.subresource, way, &before, &after).await
        }
    }
}
