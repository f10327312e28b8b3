//! Waiting until the controller has carried out what was written, telling how far it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use api::kamaji::v1alpha1::TenantControlPlane;
use kube::runtime::wait::{self, await_condition};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use local::progress::{Outcome, Progress};

use super::show::{Shown, phase, readiness};
use crate::stopped::Stopped;

/// Before a watch that ended is begun again.
const WATCH_AGAIN: Duration = Duration::from_millis(250);

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    namespace: String,
    name: String,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    /// What was asked for is what is: version, store, and Ready, or asleep.
    Settled,
    /// The object with this UID is gone.
    Gone(String),
}

impl Goal {
    pub(super) fn settled(tcp: &TenantControlPlane) -> Self {
        Self::new(tcp, End::Settled)
    }

    pub(super) fn gone(tcp: &TenantControlPlane) -> Self {
        Self::new(tcp, End::Gone(tcp.uid().unwrap_or_default()))
    }

    fn new(tcp: &TenantControlPlane, end: End) -> Self {
        Self {
            namespace: tcp.namespace().unwrap_or_default(),
            name: tcp.name_any(),
            end,
        }
    }

    fn told(&self) -> String {
        let state = match self.end {
            End::Settled => "as it was asked for",
            End::Gone(_) => "gone",
        };
        format!("TenantControlPlane {}/{} is {state}", self.namespace, self.name)
    }

    fn reached(&self, seen: Option<&TenantControlPlane>) -> bool {
        match &self.end {
            End::Settled => seen.is_some_and(is_settled),
            End::Gone(uid) => seen.is_none_or(|seen| seen.uid().as_ref() != Some(uid)),
        }
    }

    /// Waits for it at most so long. Ctrl-C ends the waiting, and nothing else.
    pub(super) async fn reach(
        &self,
        client: &Client,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> anyhow::Result<()> {
        let api: Api<TenantControlPlane> = Api::namespaced(client.clone(), &self.namespace);
        let stages = Stages::new(progress);
        let result = tokio::select! {
            result = tokio::time::timeout(timeout, self.watch(&api, &stages)) => result,
            _ = tokio::signal::ctrl_c() => {
                stages.end(Outcome::Failed);
                return Err(Stopped::Interrupted(format!(
                    "stopped waiting; what was written stays and is carried out: `cotenant cluster show {}` tells how far it is",
                    self.name
                )).into());
            }
        };
        let reached = matches!(result, Ok(Ok(())));
        stages.end(if reached { Outcome::Done } else { Outcome::Failed });
        match result {
            Ok(seen) => seen.with_context(|| format!("failed to wait until {}", self.told())),
            Err(_) => Err(self.late(client, &api, timeout).await),
        }
    }

    async fn watch(&self, api: &Api<TenantControlPlane>, stages: &Stages<'_>) -> Result<(), wait::Error> {
        let condition = |seen: Option<&TenantControlPlane>| {
            if let Some(seen) = seen {
                stages.see(seen);
            }
            self.reached(seen)
        };
        loop {
            match await_condition(api.clone(), &self.name, condition).await {
                // A watch ends for reasons that pass, such as a change of the definition.
                Err(wait::Error::ProbeFailed(error)) if !matches!(error, watcher::Error::InitialListFailed(_)) => {
                    tokio::time::sleep(WATCH_AGAIN).await;
                }
                seen => return seen.map(drop),
            }
        }
    }

    async fn late(&self, client: &Client, api: &Api<TenantControlPlane>, timeout: Duration) -> anyhow::Error {
        let standing = match api.get_opt(&self.name).await {
            Ok(Some(tcp)) => Shown::asked(client, &tcp).await.standing(),
            Ok(None) => "it is not there".to_owned(),
            Err(_) => "it cannot be read".to_owned(),
        };
        Stopped::TimedOut(format!(
            "the change is written, and after {timeout:?} it is not so that {}: {standing}",
            self.told()
        ))
        .into()
    }
}

/// Whether what is asked for is what is.
pub(crate) fn is_settled(tcp: &TenantControlPlane) -> bool {
    let Some(status) = &tcp.status else { return false };
    let recorded = status
        .storage
        .as_ref()
        .and_then(|storage| storage.data_store_name.as_ref());
    let asked = tcp.spec.data_store.as_ref();
    if status.observed_generation != tcp.metadata.generation || asked.is_some_and(|asked| recorded != Some(asked)) {
        return false;
    }
    if tcp.spec.control_plane.deployment.replicas == 0 {
        return phase(tcp) == "Sleeping";
    }
    readiness(&status.conditions).0 && status.installed_version() == Some(&tcp.spec.kubernetes.version)
}

/// Phases as steps of the work: one ends when the next is seen.
struct Stages<'a> {
    progress: &'a dyn Progress,
    current: Mutex<Option<String>>,
}

impl<'a> Stages<'a> {
    fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            current: Mutex::new(None),
        }
    }

    fn see(&self, tcp: &TenantControlPlane) {
        let now = stage(tcp);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() != Some(&now) {
            if let Some(before) = current.take() {
                self.progress.end(&before, Outcome::Done);
            }
            self.progress.begin(&now, None);
            *current = Some(now.clone());
        }
        let conditions = tcp.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let (_, message) = readiness(conditions);
        self.progress.note(&now, &crate::plain::plain(&message));
    }

    fn end(&self, outcome: Outcome) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(current) = current {
            self.progress.end(&current, outcome);
        }
    }
}

/// `oil: Upgrading from v1.34.2, PodsStarting`
fn stage(tcp: &TenantControlPlane) -> String {
    let status = tcp.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let blocking = conditions
        .iter()
        .find(|condition| condition.type_ != "Ready" && condition.status != "True");
    let phase = phase(tcp);
    let blocking = blocking.filter(|condition| condition.reason != phase);
    let mut text = format!("{}: {phase}", tcp.name_any());
    let installed = status.and_then(|status| status.installed_version());
    if let Some(installed) = installed.filter(|installed| *installed != tcp.spec.kubernetes.version) {
        text.push_str(" from ");
        text.push_str(installed);
    }
    if let Some(blocking) = blocking {
        text.push_str(", ");
        text.push_str(&blocking.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tcp(spec: &Value, version: &str, phase: &str, ready: &str) -> TenantControlPlane {
        let mut object = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "generation": 2, "uid": "u"},
            "spec": {"dataStore": "ssd", "controlPlane": {"deployment": {"replicas": 1},
                "service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": "v1.36.3"}},
            "status": {"observedGeneration": 2, "storage": {"dataStoreName": "ssd"},
                "kubernetesResources": {"version": {"version": version, "status": phase}},
                "conditions": [
                    {"type": "Ready", "status": ready, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Deployed", "status": ready, "reason": "PodsStarting", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        json_patch::merge(&mut object["spec"], spec);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn settled_is_the_version_the_store_and_the_sleep_that_were_asked_for() {
        let asleep = json!({"controlPlane": {"deployment": {"replicas": 0}}});
        assert!(is_settled(&tcp(&json!({}), "v1.36.3", "Ready", "True")));
        assert!(!is_settled(&tcp(&json!({}), "v1.35.0", "Ready", "True")), "half-way up");
        assert!(!is_settled(&tcp(&json!({}), "v1.36.3", "Ready", "False")));
        assert!(!is_settled(&tcp(
            &json!({"dataStore": "hdd"}),
            "v1.36.3",
            "Ready",
            "True"
        )));
        assert!(!is_settled(&tcp(&asleep, "v1.36.3", "Ready", "True")));
        assert!(is_settled(&tcp(&asleep, "v1.36.3", "Sleeping", "False")));
        let mut older = tcp(&json!({}), "v1.36.3", "Ready", "True");
        older.metadata.generation = Some(3);
        assert!(!is_settled(&older));
    }

    #[test]
    fn another_one_of_the_name_is_not_the_one_that_was_deleted() {
        let mut tcp = tcp(&json!({}), "v1.36.3", "Ready", "True");
        let goal = Goal::gone(&tcp);
        assert!(!goal.reached(Some(&tcp)) && goal.reached(None));
        tcp.metadata.uid = Some("another".into());
        assert!(goal.reached(Some(&tcp)));
    }

    #[test]
    fn a_stage_is_what_a_person_wants_to_know() {
        assert_eq!(
            stage(&tcp(&json!({}), "v1.35.0", "Upgrading", "False")),
            "oil: Upgrading from v1.35.0, PodsStarting"
        );
        assert_eq!(stage(&tcp(&json!({}), "v1.36.3", "Ready", "True")), "oil: Ready");
    }
}
