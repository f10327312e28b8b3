//! Whether a cluster is ready, and how each of its parts is.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::{ADMIN, Cluster};
use crate::error::{Error, Result};
use crate::node::State;
use crate::process::tail;

/// A part of a cluster and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    pub component: String,
    pub healthy: bool,
    /// Why it is not, or how often it was started again.
    pub message: String,
}

impl Cluster {
    pub(super) async fn wait_for_api(&self) -> Result<()> {
        self.wait(
            "the API server",
            "kube-apiserver",
            Duration::from_secs(60),
            async || {
                let request = http::Request::get("/readyz")
                    .body(Vec::new())
                    .map_err(|error| error.to_string())?;
                self.client
                    .request_text(request)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            },
        )
        .await
    }

    /// Waits until this life's kubelet says that the node is ready: after a restart the API server still tells what an
    /// earlier one said, and only the lease shows who speaks.
    pub(super) async fn wait_for_node(&self) -> Result<()> {
        let nodes: Api<KubernetesNode> = Api::all(self.client.clone());
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let started = self.admin.started()?;
        self.wait("the admin node Ready", "kubelet", Duration::from_secs(90), async || {
            let lease = leases.get_opt(ADMIN).await.map_err(|error| error.to_string())?;
            let renewed = lease.and_then(|lease| lease.spec?.renew_time);
            if renewed.is_none_or(|renewed| renewed.0 < started) {
                return Err("kubelet has not renewed its lease".to_owned());
            }
            let node = nodes.get_opt(ADMIN).await.map_err(|error| error.to_string())?;
            readiness(&node.ok_or("kubelet has not registered it")?)
        })
        .await
    }

    /// Waits until a pod that this life's node started serves DNS.
    pub(super) async fn wait_for_dns(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "kube-system");
        // Containers tell their start in whole seconds.
        let started = self.admin.started()? - Duration::from_secs(1);
        self.wait("CoreDNS", "kubelet", Duration::from_secs(120), async || {
            let list = pods.list(&ListParams::default().labels("k8s-app=kube-dns")).await;
            let list = list.map_err(|error| error.to_string())?;
            let serves = |pod: &Pod| {
                let containers = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.container_statuses.as_ref());
                containers.into_iter().flatten().any(|container| {
                    let running = container.state.as_ref().and_then(|state| state.running.as_ref());
                    let since = running.and_then(|running| running.started_at.as_ref());
                    container.ready && since.is_some_and(|since| since.0 >= started)
                })
            };
            if list.iter().any(serves) {
                Ok(())
            } else {
                Err("its pod is not ready".to_owned())
            }
        })
        .await
    }

    /// Asks again and again. When time is up, the last answer and the end of the right log say why.
    async fn wait(
        &self,
        what: &str,
        component: &str,
        within: Duration,
        ready: impl AsyncFn() -> std::result::Result<(), String>,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let reason = match tokio::time::timeout(Duration::from_secs(10), ready()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reason,
                Err(_) => "no answer".to_owned(),
            };
            let running = self.admin.is_running()?;
            if Instant::now() > deadline || !running {
                let output = tail(&self.admin.node().log(if running { component } else { "supervisor" }));
                let reason = if running {
                    reason
                } else {
                    "the admin node has ended".to_owned()
                };
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    waited: within,
                    reason,
                    output,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How every part is: the admin node's programs, its API server, and each worker's programs.
    pub async fn health(&self) -> Result<Vec<Health>> {
        let mut found = Vec::new();
        for handle in self.nodes()? {
            let name = handle.node().name.clone();
            if !handle.is_running()? {
                let message = format!("it does not run; {}", tail(&handle.node().log("supervisor")));
                found.push(Health {
                    component: name,
                    healthy: false,
                    message,
                });
                continue;
            }
            for (program, status) in handle.status().unwrap_or_default().programs {
                let healthy = matches!(status.state, State::Running | State::Done);
                let message = match (healthy, status.last_end) {
                    (true, None) => String::new(),
                    (true, Some(_)) => format!("started again {} times", status.restarts),
                    (false, None) => "it waits for what it needs".to_owned(),
                    (false, Some(end)) => format!("{end}; {}", tail(&handle.node().log(&program))),
                };
                found.push(Health {
                    component: format!("{name}/{program}"),
                    healthy,
                    message,
                });
            }
        }
        let nodes: Api<KubernetesNode> = Api::all(self.client.clone());
        let answer = tokio::time::timeout(Duration::from_secs(10), nodes.get(ADMIN)).await;
        let outcome = match answer {
            Ok(Ok(node)) => readiness(&node),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        let message = outcome.as_ref().err().cloned().unwrap_or_default();
        found.push(Health {
            component: "node".to_owned(),
            healthy: outcome.is_ok(),
            message,
        });
        Ok(found)
    }
}

fn readiness(node: &KubernetesNode) -> std::result::Result<(), String> {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err(condition.message.clone().unwrap_or_default()),
        None => Err("kubelet has not reported on it".to_owned()),
    }
}
