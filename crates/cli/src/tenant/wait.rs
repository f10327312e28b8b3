//! Waiting until the controller has carried out what was written.

use std::time::Duration;

use anyhow::Context;
use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{Tenant, TenantStatus};
use kube::runtime::wait::{self, await_condition, conditions::is_deleted};
use kube::runtime::watcher;
use kube::{Api, Client};
use local::progress::{Outcome, Progress};

use crate::stopped::Stopped;

/// Before a watch that ended is begun again.
const WATCH_AGAIN: Duration = Duration::from_millis(250);

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// The tenant's latest spec is in force, in these namespaces too, and no more in those.
    Ready {
        tenant: String,
        with: Vec<String>,
        without: Vec<String>,
    },
    /// The tenant with this UID is gone.
    Gone { tenant: String, uid: String },
}

impl Goal {
    pub(super) fn ready(tenant: &str) -> Self {
        Self::Ready {
            tenant: tenant.to_owned(),
            with: Vec::new(),
            without: Vec::new(),
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Ready { tenant, .. } => format!("Tenant {tenant} is ready"),
            Self::Gone { tenant, .. } => format!("Tenant {tenant} is gone"),
        }
    }

    /// Waits for it at most so long.
    pub(super) async fn reach(
        &self,
        client: &Client,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> anyhow::Result<()> {
        let step = self.told();
        progress.begin(&step, None);
        let tenants: Api<Tenant> = Api::all(client.clone());
        let waiting = async {
            loop {
                let seen = self.seen(&tenants).await;
                match seen {
                    // A watch ends for reasons that pass, such as a change of the definition of Tenants.
                    Err(wait::Error::ProbeFailed(error)) if !matches!(error, watcher::Error::InitialListFailed(_)) => {
                        tokio::time::sleep(WATCH_AGAIN).await;
                    }
                    seen => return seen,
                }
            }
        };
        let result = tokio::time::timeout(timeout, waiting).await;
        let reached = matches!(result, Ok(Ok(())));
        progress.end(&step, if reached { Outcome::Done } else { Outcome::Failed });
        match result {
            Ok(seen) => seen.with_context(|| format!("failed to wait until {step}")),
            Err(_) => Err(self.late(&tenants, timeout).await),
        }
    }

    /// Watches until it is so.
    async fn seen(&self, tenants: &Api<Tenant>) -> Result<(), wait::Error> {
        match self {
            Self::Ready { tenant, with, without } => {
                let condition = |seen: Option<&Tenant>| seen.is_some_and(|seen| is_ready(seen, with, without));
                await_condition(tenants.clone(), tenant, condition).await.map(drop)
            }
            Self::Gone { tenant, uid } => await_condition(tenants.clone(), tenant, is_deleted(uid))
                .await
                .map(drop),
        }
    }

    async fn late(&self, tenants: &Api<Tenant>, timeout: Duration) -> anyhow::Error {
        let (Self::Ready { tenant, .. } | Self::Gone { tenant, .. }) = self;
        let status = tenants
            .get_opt(tenant)
            .await
            .ok()
            .flatten()
            .and_then(|tenant| tenant.status);
        let message = status.as_ref().map_or_else(
            || "it has no status; does the operator run?".to_owned(),
            what_is_missing,
        );
        Stopped::TimedOut(format!(
            "the change is written, and after {timeout:?} it is not so that {}: {message}",
            self.told()
        ))
        .into()
    }
}

fn is_ready(tenant: &Tenant, with: &[String], without: &[String]) -> bool {
    let Some(status) = &tenant.status else { return false };
    let is_true = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        conditions
            .iter()
            .any(|condition| condition.type_ == READY_CONDITION && condition.status == "True")
    };
    status.observed_generation == tenant.metadata.generation
        && is_true(&status.conditions)
        && with.iter().all(|name| {
            status
                .spaces
                .iter()
                .any(|space| space.name == *name && is_true(&space.conditions))
        })
        && !without
            .iter()
            .any(|name| status.spaces.iter().any(|space| space.name == *name))
}

fn what_is_missing(status: &TenantStatus) -> String {
    let said = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == READY_CONDITION);
    said.map_or_else(
        || "it has no condition Ready yet".to_owned(),
        |ready| format!("{} ({})", ready.message, ready.reason),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tenant(generation: i64, ready: &str, spaces: &Value) -> Tenant {
        let condition = json!([{"type": "Ready", "status": ready, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        serde_json::from_value(
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "spec": {},
            "metadata": {"name": "oil", "generation": 2}, "status": {"observedGeneration": generation,
                "conditions": condition, "spaces": spaces}}),
        )
        .unwrap()
    }

    #[test]
    fn ready_is_about_the_latest_spec_and_the_namespaces_that_were_asked_for() {
        let ready = json!([{"type": "Ready", "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let spaces = json!([{"name": "web", "conditions": ready}, {"name": "db", "conditions": []}]);
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        assert!(is_ready(
            &tenant(2, "True", &spaces),
            &names(&["web"]),
            &names(&["old"])
        ));
        assert!(!is_ready(&tenant(1, "True", &spaces), &[], &[]), "an older spec");
        assert!(!is_ready(&tenant(2, "False", &spaces), &[], &[]));
        assert!(
            !is_ready(&tenant(2, "True", &spaces), &names(&["db"]), &[]),
            "not ready there"
        );
        assert!(
            !is_ready(&tenant(2, "True", &spaces), &names(&["new"]), &[]),
            "not there yet"
        );
        assert!(
            !is_ready(&tenant(2, "True", &spaces), &[], &names(&["web"])),
            "still there"
        );
    }
}
