//! What keeps the pods of a control plane from being ready, in Kubernetes' own words. Asked with the rights of who asks: the
//! operator may not look at pods, and its conditions do not tell more than the Deployment does.

use api::kamaji::names::NAME_LABEL;
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::plain::shortened;

/// Pods that are told of. A Deployment that fails makes one after the other.
const MOST_PODS: u32 = 10;
/// Characters of what is said about one: registries answer at length.
const MOST_SAID: usize = 512;

/// A sentence for each thing that is wrong. None if pods may not be read.
pub(super) async fn troubles(client: &Client, tcp: &TenantControlPlane) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &tcp.namespace().unwrap_or_default());
    let own = ListParams::default()
        .labels(&format!("{NAME_LABEL}={}", tcp.name_any()))
        .limit(MOST_PODS);
    match pods.list(&own).await {
        Ok(found) => found.items.iter().flat_map(of).collect(),
        Err(error) => {
            tracing::debug!(%error, "the pods could not be asked for");
            Vec::new()
        }
    }
}

fn of(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let name = pod.name_any();
    let unplaced = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.message.is_some()
    });
    let unplaced = unplaced.map(|condition| {
        let why = condition.message.as_deref().unwrap_or_default();
        format!("pod {name} has no node: {}", shortened(why, MOST_SAID))
    });
    let containers = [&status.init_container_statuses, &status.container_statuses];
    let containers = containers.into_iter().flatten().flatten();
    let stuck = containers.filter_map(|container| {
        let why = shortened(&trouble(container)?, MOST_SAID);
        Some(format!("pod {name}, container {}: {why}", container.name))
    });
    unplaced.into_iter().chain(stuck).collect()
}

/// Why a container does not run, unless it is about to for the first time.
fn trouble(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if ["ContainerCreating", "PodInitializing"].contains(&reason) {
        return None;
    }
    let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let ended = ended.map(|ended| {
        format!(
            "it ended with {} ({})",
            ended.exit_code,
            ended.reason.as_deref().unwrap_or("?")
        )
    });
    let said: Vec<String> = [Some(reason.to_owned()), waiting.message.clone(), ended]
        .into_iter()
        .flatten()
        .collect();
    Some(said.join(": "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(status: &Value) -> Vec<String> {
        of(&serde_json::from_value(json!({"metadata": {"name": "oil-1"}, "status": status})).unwrap())
    }

    #[test]
    fn what_does_not_pass_by_itself_is_told_in_kubernetes_words() {
        assert_eq!(
            told(
                &json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/2 nodes are available: 2 Insufficient memory."}]})
            ),
            ["pod oil-1 has no node: 0/2 nodes are available: 2 Insufficient memory."]
        );
        assert_eq!(
            told(&json!({"containerStatuses": [
                {"name": "kube-apiserver", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
                {"name": "kube-scheduler", "image": "", "imageID": "", "ready": false, "restartCount": 7,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            ]})),
            [
                "pod oil-1, container kube-apiserver: ImagePullBackOff: not found",
                "pod oil-1, container kube-scheduler: CrashLoopBackOff: back-off 5m0s: it ended with 1 (Error)"
            ]
        );
    }

    #[test]
    fn what_starts_or_runs_is_not_told() {
        let nothing: [&str; 0] = [];
        assert_eq!(
            told(&json!({
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {"name": "kube-apiserver", "image": "", "imageID": "", "ready": true, "restartCount": 2,
                    "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}},
                {"name": "kube-scheduler", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ContainerCreating"}}},
            ]})),
            nothing
        );
        assert_eq!(told(&json!({})), nothing);
    }
}
