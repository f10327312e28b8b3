//! Attacks, generated: what somebody would like to have, times every way of asking for it that discovery lists, times
//! everybody who might ask. RBAC lets all of them through, so that admission alone decides.
//!
//! Every request is refused by the hook or policy that the intent names, refused by the API server itself, or changes nothing
//! that matters; and beside each stands its lawful twin, the same way of writing with a harmless change, which passes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod doors;
mod fields;
mod frozen;
mod intents;
mod labels;
mod report;
mod request;
mod samples;
mod scales;
mod scene;
mod stored;
#[path = "../support/mod.rs"]
mod support;

use intents::{Act, Intent, harmless, intents};
use kube::Client;
use report::{Outcome, Report};
use request::{Place, Refusal, Way, copied, write};
use samples::sample;
use scene::{Actor, Scene};
use serde_json::{Value, json};
use support::served::served;
use support::until;
use testbed::unique;

/// The tenant's limits, and objects for all intents.
async fn furnished() -> Scene {
    let mut scene = Scene::new(json!({
        "permissions": {"allowOwnerPromotion": true},
        "nodeSelector": {"pool": "oil"},
        "namespaceOptions": {"forbiddenLabels": {"denied": ["pod-security.kubernetes.io/enforce"]}},
        "storageClasses": {"allowed": ["standard"]},
        "ingressOptions": {"allowedClasses": {"allowed": ["public"]}},
        "containerRegistries": {"allowed": ["registry.k8s.io"]},
        "serviceOptions": {
            "allowedServices": {"externalName": false},
            "externalIPs": {"allowed": ["10.0.0.0/8"]},
            "forbiddenAnnotations": {"denied": ["example.com/balancer"]},
            "forbiddenLabels": {"denied": ["example.com/danger"]}},
    }))
    .await;
    let (us, owner, masters) = (
        scene.us.clone(),
        scene.client(Actor::Owner).clone(),
        scene.masters.clone(),
    );
    let namespace = scene.namespace.clone();
    scene.know("namespace", "v1/namespaces", &namespace);
    let free = json!({"metadata": {"name": unique("free")}});
    scene
        .put("free namespace", masters.clone(), "v1/namespaces", free)
        .await;
    let node = json!({"metadata": {"name": unique("node"), "labels": {"pool": "oil"}}});
    scene.put("node", masters.clone(), "v1/nodes", node).await;
    let volume = json!({"metadata": {"name": "of-the-neighbour", "labels": {"capsule.clastix.io/tenant": scene.neighbour.0}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/nowhere"}}});
    scene
        .put("volume", masters.clone(), "v1/persistentvolumes", volume)
        .await;
    for (kept, own, resource, content) in [
        (
            "kept quota",
            "own quota",
            "v1/resourcequotas",
            json!({"spec": {"hard": {"pods": "90"}}}),
        ),
        (
            "kept limits",
            "own limits",
            "v1/limitranges",
            json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Ti"}}]}}),
        ),
        (
            "kept policy",
            "own policy",
            "networking.k8s.io/v1/networkpolicies",
            json!({"spec": {"podSelector": {}, "ingress": []}}),
        ),
        (
            "kept binding",
            "own binding",
            "rbac.authorization.k8s.io/v1/rolebindings",
            sample("rbac.authorization.k8s.io/v1/rolebindings", ""),
        ),
        (
            "kept rules",
            "own rules",
            "capsule.clastix.io/v1beta2/rulestatuses",
            json!({"spec": [{"enforce": {"action": "allow"}}]}),
        ),
    ] {
        let mut object = content;
        object["metadata"] = json!({"name": own.replace(' ', "-")});
        scene.put(own, owner.clone(), resource, object.clone()).await;
        object["metadata"] =
            json!({"name": kept.replace(' ', "-"), "labels": {"projectcapsule.dev/managed-by": "controller"}});
        scene.put(kept, us.clone(), resource, object).await;
    }
    for (word, resource) in [
        ("account", "v1/serviceaccounts"),
        ("service", "v1/services"),
        ("pod", "v1/pods"),
        ("claim", "v1/persistentvolumeclaims"),
        ("ingress", "networking.k8s.io/v1/ingresses"),
    ] {
        scene.put(word, owner.clone(), resource, sample(resource, word)).await;
    }
    let mut shared = sample("v1/services", "shared");
    shared["metadata"]["labels"] = json!({"projectcapsule.dev/managed-by": "replications"});
    scene.put("replicated", us.clone(), "v1/services", shared).await;
    let replication = json!({"metadata": {"name": "keep"}, "spec": {"resyncPeriod": "60s", "resources": []}});
    let resource = "capsule.clastix.io/v1beta2/tenantresources";
    scene.put("replication", owner.clone(), resource, replication).await;
    let mut known = scene.object("replication").read(&us).await.unwrap();
    let before = known.clone();
    known["status"] = json!({"size": 1, "serviceAccount": {"name": "copier", "namespace": namespace},
        "processedItems": [{"version": "v1", "kind": "Service", "namespace": namespace, "name": "shared",
            "status": {"type": "Ready", "status": "True", "created": true}}]});
    write(&us, scene.object("replication"), "status", Way::Merge, &before, &known)
        .await
        .unwrap();
    let pool = json!({"metadata": {"name": unique("gold")}, "spec": {"quota": {"hard": {"cpu": "9"}}}});
    let name = pool["metadata"]["name"].clone();
    scene
        .put("pool", masters, "capsule.clastix.io/v1beta2/resourcepools", pool)
        .await;
    for (word, is_bound) in [("pool claim", true), ("own pool claim", false)] {
        let claim =
            json!({"metadata": {"name": word.replace(' ', "-")}, "spec": {"pool": name, "claim": {"cpu": "1"}}});
        let resource = "capsule.clastix.io/v1beta2/resourcepoolclaims";
        scene
            .put(word, scene.client(Actor::Owner).clone(), resource, claim)
            .await;
        let before = scene.object(word).read(&us).await.unwrap();
        let mut after = before.clone();
        after["status"] = json!({"conditions": [{"type": "Bound", "status": "True", "reason": "InUse",
            "message": "claim is used", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        if is_bound {
            write(&us, scene.object(word), "status", Way::Merge, &before, &after)
                .await
                .unwrap();
        }
    }
    scene
}

#[tokio::test]
async fn nobody_gets_what_is_not_his_by_any_verb_patch_or_subresource() {
    let scene = furnished().await;
    // The hooks see objects through watches: the first refusals show that they have come.
    for (word, way, guard) in [
        ("replicated", Way::Merge, "replications.validating"),
        ("node", Way::Merge, "nodes.validating"),
    ] {
        let place = scene.object(word);
        until(guard, async || {
            let before = place.read(&scene.masters).await.unwrap();
            let mut after = before.clone();
            after["metadata"]["labels"]["pool"] = json!(unique("probe"));
            let refused = write(scene.client(Actor::Owner), place, "", way, &before, &after)
                .await
                .err()?;
            refused.1.contains(guard).then_some(())
        })
        .await;
    }
    tried(&scene, intents()).await;
}

/// Tries them all, by every way and everybody, and fails if one got through.
async fn tried(scene: &Scene, intents: Vec<Intent>) {
    let mut report = Report::default();
    for intent in intents {
        for act in intent.acts {
            for case in cases(scene, &intent, *act) {
                for actor in intent.actors {
                    let outcome = attack(scene, &intent, *act, &case, *actor).await;
                    report.add(intent.name, *actor, &case.words(), outcome);
                }
                let twin = twin(scene, &intent, *act, &case).await;
                report.add_twin(intent.name, &case.words(), twin);
            }
        }
        report.close(intent.name, intent.actors);
    }
    report.conclude(&served().await.registry);
}

/// A way through a door.
struct Case {
    subresource: String,
    way: Way,
}

impl Case {
    fn words(&self) -> String {
        format!("{:?} {}", self.way, self.subresource)
    }
}

/// Every way to ask for this, as the API server lists them.
fn cases(scene: &Scene, intent: &Intent, act: Act) -> Vec<Case> {
    let mut cases = Vec::new();
    for door in scene.doors.of(&scene.object(intent.on).resource) {
        let ways: Vec<Way> = match act {
            Act::Change => Way::of_change(door).collect(),
            Act::Make => Way::of_making(door).collect(),
            Act::End => Way::of_ending(door).collect(),
        };
        cases.extend(ways.into_iter().map(|way| Case {
            subresource: door.subresource.clone(),
            way,
        }));
    }
    cases
}

/// Asks once, and looks at what is there afterwards.
async fn attack(scene: &Scene, intent: &Intent, act: Act, case: &Case, actor: Actor) -> Outcome {
    let mut place = scene.object(intent.on).clone();
    let (before, answer) = match act {
        Act::Make => {
            let like = scene.object(intent.twin).read(&scene.masters).await.unwrap();
            place.name = unique("made");
            let before = copied(&like, &place.name);
            let mut object = before.clone();
            (intent.change)(&mut object, scene);
            let answer = write(scene.client(actor), &place, "", case.way, &before, &object).await;
            (before, answer)
        }
        Act::Change => {
            changed(scene, scene.client(actor), &place, case, |it| {
                (intent.change)(it, scene);
            })
            .await
        }
        Act::End => {
            let before = place.read(&scene.masters).await.unwrap();
            let answer = write(scene.client(actor), &place, "", case.way, &before, &before).await;
            (before, answer)
        }
    };
    let after = place.read(&scene.masters).await;
    let is_kept = match (&after, act) {
        (None, Act::Make) => true,
        (None, _) => false,
        (Some(after), _) => intent.kept.iter().all(|part| {
            let (now, was) = (after.pointer(part), before.pointer(part));
            now == was || (now.is_none_or(Value::is_null) && was.is_none_or(Value::is_null))
        }),
    };
    if let (Act::Make, Some(made)) = (act, &after) {
        drop(write(&scene.us, &place, "", Way::Delete, made, made).await);
    }
    if !is_kept {
        if let (Act::Change, Some(after)) = (act, after) {
            let mut repaired = before.clone();
            repaired["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"].clone();
            drop(write(&scene.us, &place, &case.subresource, Way::Replace, &after, &repaired).await);
        }
        return Outcome::Done(format!("{answer:?}").chars().take(300).collect());
    }
    Outcome::of(answer, intent.guards)
}

/// Changes what is there; once more if somebody else did at that moment.
async fn changed(
    scene: &Scene,
    client: &Client,
    place: &Place,
    case: &Case,
    change: impl Fn(&mut Value),
) -> (Value, Result<Value, Refusal>) {
    let mut tries = 0;
    loop {
        let before = place.read(&scene.masters).await.unwrap();
        let mut after = before.clone();
        change(&mut after);
        let answer = write(client, place, &case.subresource, case.way, &before, &after).await;
        tries += 1;
        match answer {
            Err((409, _)) if tries < 5 => {}
            answer => return (before, answer),
        }
    }
}

/// The same without the harm, by the owner.
async fn twin(scene: &Scene, intent: &Intent, act: Act, case: &Case) -> Result<Value, Refusal> {
    let owner = scene.client(Actor::Owner);
    let place = scene.object(intent.twin);
    if act == Act::Change {
        return changed(scene, owner, place, case, harmless).await.1;
    }
    let like = place.read(&scene.masters).await.unwrap();
    let own = Place {
        name: unique("twin"),
        ..place.clone()
    };
    let mut object = copied(&like, &own.name);
    harmless(&mut object);
    let way = if act == Act::Make { case.way } else { Way::Create };
    let made = write(owner, &own, "", way, &object, &object).await;
    let end = if act == Act::End { case.way } else { Way::Delete };
    let ended = write(owner, &own, "", end, &object, &object).await;
    if act == Act::Make { made } else { made.and(ended) }
}
