//! The load: clients that take, change and give back as fast as they are answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinError;

use crate::scene::Scene;

/// As many as a client holds at once.
const HELD: usize = 3;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);
/// After an answer that is none, as from an operator that is away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Messages of failures that are kept.
const KEPT: usize = 3;

/// What became of requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    pub made: u64,
    pub changed: u64,
    pub given_back: u64,
    /// With 403, or kept waiting until their client gave up.
    pub refused: u64,
    /// Without a decision.
    pub failed: u64,
    /// Some of the messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

impl Tally {
    /// Whether the limit was reached, felt, and given back from.
    pub(crate) fn shows(&self, limit: i64) -> bool {
        self.refused > 0 && self.given_back > 0 && i64::try_from(self.made).is_ok_and(|made| made >= limit)
    }

    fn add(&mut self, other: Self) {
        self.made += other.made;
        self.changed += other.changed;
        self.given_back += other.given_back;
        self.refused += other.refused;
        self.failed += other.failed;
        other.failures.into_iter().for_each(|message| self.keep(message));
    }

    fn keep(&mut self, message: String) {
        if self.failures.len() < KEPT && !self.failures.contains(&message) {
            self.failures.push(message);
        }
    }

    /// Whether it was a refusal.
    fn count(&mut self, error: &kube::Error) -> bool {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                self.refused += 1;
                true
            }
            error => {
                self.failed += 1;
                self.keep(match error {
                    kube::Error::Api(status) => status.message.clone(),
                    other => other.to_string(),
                });
                false
            }
        }
    }
}

/// Runs all clients of a scene until it is over.
///
/// # Errors
/// If one of them panics: what it did is not known.
pub(crate) async fn contend(scene: Arc<Scene>, is_over: Arc<AtomicBool>) -> Result<(), JoinError> {
    let clients = (0..scene.clients).map(|index| {
        let (scene, is_over) = (scene.clone(), is_over.clone());
        tokio::spawn(async move { contender(&scene, index, &is_over).await })
    });
    join_all(clients).await.into_iter().collect()
}

/// Takes from one namespace after the other, keeps some for a while, changes and gives back.
async fn contender(scene: &Scene, index: usize, is_over: &AtomicBool) {
    let mut held: VecDeque<(usize, String)> = VecDeque::new();
    for step in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let mut tally = Tally::default();
        let (place, size) = (index + step, i64::try_from((index + step) % 3).unwrap_or(0) + 1);
        let is_answered = match (step % 4, held.front().cloned()) {
            (2, Some((place, name))) => match scene.race.resized(size) {
                Some(patch) => change(scene, place, &name, &patch, &mut tally).await,
                None => true,
            },
            (3, Some((place, name))) => {
                held.pop_front();
                give_back(scene, place, &name, &mut tally).await
            }
            (_, Some((place, name))) if held.len() >= HELD => {
                held.pop_front();
                give_back(scene, place, &name, &mut tally).await
            }
            _ => match take(scene, place, &format!("{index}-{step}"), size).await {
                Ok(made) => {
                    tally.made += 1;
                    held.push_back((place, made.name_any()));
                    true
                }
                Err(error) => tally.count(&error),
            },
        };
        scene.tally().add(tally);
        tokio::time::sleep(if is_answered { PAUSE } else { PAUSE_AFTER_FAILURE }).await;
    }
}

/// Makes an object.
pub(crate) async fn take(scene: &Scene, place: usize, ending: &str, size: i64) -> Result<DynamicObject, kube::Error> {
    let object = scene.race.object(&scene.tenant, ending, size);
    let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    scene.made(place).create(&PostParams::default(), &object).await
}

async fn change(scene: &Scene, place: usize, name: &str, patch: &Value, tally: &mut Tally) -> bool {
    let changed = scene
        .made(place)
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match changed {
        Ok(_) => {
            tally.changed += 1;
            true
        }
        Err(error) => tally.count(&error),
    }
}

async fn give_back(scene: &Scene, place: usize, name: &str, tally: &mut Tally) -> bool {
    let at_once = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    let api = scene.made(place);
    let waited = !scene.race.refuses() && api.get(name).await.is_ok_and(|object| is_waiting(&object));
    match api.delete(name, &at_once).await {
        Ok(_) => {
            if waited {
                tally.refused += 1;
            } else {
                tally.given_back += 1;
            }
            true
        }
        Err(error) => tally.count(&error),
    }
}

/// Whether it is a claim that has not got what it asks for: one that has is unused or in use.
fn is_waiting(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    let mut given = conditions.into_iter().flatten().filter(|condition| {
        let reason = condition["reason"].as_str().unwrap_or_default();
        condition["type"] == "Bound" && ["Unused", "InUse"].contains(&reason)
    });
    given.next().is_none()
}
