//! A node and its kubelet: pods that are bound to it are running and ready at once, and gone when they are deleted.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::kamaji::names::NAME_LABEL;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::api_server::{Credentials, Server};
use super::objects::Objects;
use super::{Counts, Range};

/// The node's name, and the value of its hostname label.
pub(crate) const NODE: &str = "stub";
/// Keeps from it whatever does not ask for it.
pub(crate) const TAINT: &str = "cotenant.dev/bench";
/// The controller manager gives a node forty seconds.
const RENEW_EVERY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Kubelet {
    admin: Client,
    kubernetes: String,
    asked: Arc<Counts>,
    range: Arc<Range>,
    /// By namespace and name of the control plane: what is inside outlives a pod.
    inside: Mutex<HashMap<String, Arc<Mutex<Objects>>>>,
}

/// A pod's task, which ends with this value.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kubelet {
    pub(super) fn new(admin: Client, kubernetes: String, asked: Arc<Counts>, range: Arc<Range>) -> Self {
        Self {
            admin,
            kubernetes,
            asked,
            range,
            inside: Mutex::default(),
        }
    }

    pub(super) async fn register(&self) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now();
        let room = json!({"cpu": "1000", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": "1000"});
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
            "status": {
                "capacity": room, "allocatable": room,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "stubbed",
                    "lastHeartbeatTime": now, "lastTransitionTime": now}],
            },
        }))?;
        let nodes: Api<Node> = Api::all(self.admin.clone());
        nodes.create(&PostParams::default(), &node).await?;
        self.renew().await
    }

    pub(super) async fn leave(&self) -> anyhow::Result<()> {
        let (nodes, leases) = (Api::<Node>::all(self.admin.clone()), self.leases());
        nodes.delete(NODE, &DeleteParams::default()).await?;
        leases.delete(NODE, &DeleteParams::default()).await?;
        Ok(())
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), "kube-node-lease")
    }

    /// Until the controller manager has taken away the taint that every new node gets.
    pub(super) async fn wait_schedulable(&self) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.admin.clone());
        let begun = Instant::now();
        loop {
            let taints = nodes
                .get(NODE)
                .await?
                .spec
                .and_then(|spec| spec.taints)
                .unwrap_or_default();
            if taints.iter().all(|taint| taint.key == TAINT) {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "the stubbed node is not used: {taints:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn renew_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if let Err(error) = self.renew().await {
                eprintln!("failed to renew the lease of the stubbed node: {error:#}");
            }
        }
    }

    async fn renew(&self) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
            "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}")},
        });
        self.leases()
            .patch(NODE, &PatchParams::apply(NODE).force(), &Patch::Apply(&lease))
            .await?;
        Ok(())
    }

    pub(super) async fn run_pods(self: Arc<Self>) {
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
        let mut events = pin!(watcher(Api::<Pod>::all(self.admin.clone()), mine).default_backoff());
        let mut running: HashMap<String, Running> = HashMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                    let uid = pod.uid().unwrap_or_default();
                    if pod.metadata.deletion_timestamp.is_some() {
                        running.remove(&uid);
                        let this = self.clone();
                        tokio::spawn(async move { told(&pod, this.end(&pod).await) });
                    } else {
                        let this = self.clone();
                        let run = async move { told(&pod, this.run(&pod).await) };
                        running.entry(uid).or_insert_with(|| Running(tokio::spawn(run)));
                    }
                }
                Ok(watcher::Event::Delete(pod)) => {
                    running.remove(&pod.uid().unwrap_or_default());
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => eprintln!("the stubbed kubelet does not see its pods: {error:#}"),
            }
        }
    }

    async fn run(&self, pod: &Pod) -> anyhow::Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let plane = pod.labels().get(NAME_LABEL).context("it is no control plane's")?;
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), &namespace);
        let read = async |component: &str| {
            let secret = secrets.get(&format!("{plane}-{component}")).await?;
            anyhow::Ok(secret.data.unwrap_or_default())
        };
        let (mut serving, mut authority) = (read("api-server-certificate").await?, read("ca").await?);
        let credentials = Credentials {
            certificate: serving
                .remove("apiserver.crt")
                .context("the server has a certificate")?
                .0,
            key: serving.remove("apiserver.key").context("the server has a key")?.0,
            authority: authority.remove("ca.crt").context("there is an authority")?.0,
        };
        let address = self.range.next()?;
        let objects = self.objects(&format!("{namespace}/{plane}"));
        let server = Server::bind(address, &credentials, objects, self.asked.clone()).await?;
        let status = json!({"status": ready(pod, &address.to_string())});
        Api::<Pod>::namespaced(self.admin.clone(), &namespace)
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        server.serve().await;
        Ok(())
    }

    fn objects(&self, plane: &str) -> Arc<Mutex<Objects>> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(Objects::new(self.kubernetes.clone())));
        inside.entry(plane.to_owned()).or_insert_with(new).clone()
    }

    async fn end(&self, pod: &Pod) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), &pod.namespace().unwrap_or_default());
        match pods
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }
}

fn told(pod: &Pod, result: anyhow::Result<()>) {
    if let Err(error) = result {
        eprintln!("stubbed pod {}: {error:#}", pod.name_any());
    }
}

/// The status of a pod all of whose containers run and are ready.
fn ready(pod: &Pod, address: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
        "PodScheduled",
    ];
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<Value> = containers
        .map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {"startedAt": now}},
            })
        })
        .collect();
    json!({
        "phase": "Running", "startTime": now, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions, "containerStatuses": containers,
    })
}
