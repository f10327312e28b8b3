//! Upgrades of hosted control planes with real programs and a worker: `cargo xtask soak upgrade`.
//!
//! A control plane of the oldest minor that there are programs of, two replicas, gets a worker of that minor that runs a
//! Deployment. It is then brought to the newest minor, once by asking for each version, once by asking for the last one
//! by steps. All along a client writes and reads, the node has to stay Ready, and no container may be started anew. At
//! the end a worker of the newest minor joins. One JSON line each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use local::cluster::Cluster;
use local::programs::{self, Programs};
use local::progress::Lines;
use local::worker::{Join, Worker};
use serde::Serialize;
use serde_json::{Value, json};

use super::traffic::{Counts, Traffic};

/// The cluster's name, which its processes carry.
const CLUSTER: &str = "soak-upgrade";
const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(600);
const BUSYBOX: &str = "docker.io/library/busybox:1.36";

/// How the newest version is asked for.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Walk {
    /// Each version, when the one before runs.
    OneByOne,
    /// The last one, by way of the others (`cotenant.dev/upgrade-path`).
    BySteps,
}

impl Walk {
    const ALL: [Self; 2] = [Self::OneByOne, Self::BySteps];

    fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "one-by-one",
            Self::BySteps => "by-steps",
        }
    }

    fn port(self) -> u16 {
        31_600 + self as u16
    }
}

/// What is printed of a walk.
#[derive(Debug, Serialize)]
struct Outcome {
    drill: &'static str,
    walk: Walk,
    /// From the first to the last.
    versions: Vec<String>,
    replicas: i32,
    /// From asking for a version to its being installed; of a walk by steps, from one to the next.
    seconds: BTreeMap<String, f64>,
    traffic: Counts,
    node_looked_at: u64,
    node_not_ready: u64,
    /// Pods of the workload that were replaced or whose containers were started anew.
    workload_disturbed: u64,
    /// The kubelets at the end.
    kubelets: Vec<String>,
}

impl Outcome {
    fn violation(&self) -> Option<String> {
        let wrong = [
            ("requests failed", self.traffic.failed),
            ("reads were stale", self.traffic.stale),
            ("looks at the node did not find it Ready", self.node_not_ready),
            ("pods were disturbed", self.workload_disturbed),
        ];
        let said: Vec<_> = wrong.iter().filter(|(_, count)| *count > 0).collect();
        let said: Vec<_> = said.iter().map(|(what, count)| format!("{count} {what}")).collect();
        (!said.is_empty()).then(|| format!("{}: {}", self.walk.name(), said.join(", ")))
    }
}

/// A cluster and the programs of every minor, oldest first.
struct Bed {
    executable: PathBuf,
    state: PathBuf,
    cluster: Cluster,
    minors: Vec<(String, Programs)>,
}

/// What did not hold, in words.
pub(super) async fn run(executable: &Path) -> anyhow::Result<Vec<String>> {
    let bed = Bed::start(executable).await?;
    let mut violations = Vec::new();
    let mut outcome = Ok(());
    for walk in Walk::ALL {
        match bed.walk(walk).await {
            Ok(walked) => {
                println!("{}", serde_json::to_string(&walked)?);
                violations.extend(walked.violation());
            }
            Err(error) => {
                outcome = Err(error.context(format!("the walk {}", walk.name())));
                break;
            }
        }
    }
    if outcome.is_err() {
        bed.explain();
    }
    bed.stop()?;
    outcome.map(|()| violations)
}

impl Bed {
    async fn start(executable: &Path) -> anyhow::Result<Self> {
        let newest = programs::locate()?;
        let mut minors = Vec::new();
        let mut images = Vec::new();
        for minor in programs::older_minors() {
            let older = programs::of_older_minor(minor, &Lines)?;
            images.extend(local::images::of_older_minor(&older, &newest)?);
            minors.push((older.kubernetes_version()?, older));
        }
        minors.push((newest.kubernetes_version()?, newest.clone()));
        let images = local::images::ensure(&images, &Lines)?;
        let state = std::env::temp_dir().join("cotenant-soak");
        run_to_the_end(
            Command::new(executable)
                .args(["up", "--without-example", "--cluster", CLUSTER, "--state"])
                .arg(&state),
        )?;
        let cluster = Cluster::open(&state, CLUSTER, newest).await?;
        cluster.push(&images.directory).await?;
        Ok(Self {
            executable: executable.to_owned(),
            state,
            cluster,
            minors,
        })
    }

    fn stop(&self) -> anyhow::Result<()> {
        run_to_the_end(
            Command::new(&self.executable)
                .args(["down", "--cluster", CLUSTER, "--state"])
                .arg(&self.state),
        )
    }

    fn control_planes(&self) -> Api<TenantControlPlane> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    async fn walk(&self, walk: Walk) -> anyhow::Result<Outcome> {
        let name = walk.name();
        let versions: Vec<String> = self.minors.iter().map(|(version, _)| version.clone()).collect();
        let ((first, oldest), (last, newest)) = (&self.minors[0], &self.minors[self.minors.len() - 1]);
        let tell = |said: &str| eprintln!("        {name}: {said}");

        self.create(walk, first).await?;
        self.until_installed(name, first).await?;
        let (tenant, kubeconfig) = self.tenant(name).await?;
        tell(&format!("runs {first}"));
        let old_worker = format!("{name}-old");
        self.join(&old_worker, &kubeconfig, oldest, &tenant).await?;
        tell("has a worker");
        let workload = Workload::start(&tenant).await?;
        let before = workload.pods().await?;
        let watch = NodeWatch::start(&tenant, &old_worker);
        let client = tenant.clone();
        let traffic = Traffic::start("traffic", move || Ok(client.clone())).await?;

        let mut seconds = BTreeMap::new();
        if matches!(walk, Walk::BySteps) {
            let between: Vec<&str> = versions[1..versions.len() - 1].iter().map(String::as_str).collect();
            self.ask_for(name, last, json!({"cotenant.dev/upgrade-path": between.join(",")}))
                .await?;
        }
        for version in &versions[1..] {
            let begun = Instant::now();
            if matches!(walk, Walk::OneByOne) {
                self.ask_for(name, version, json!({})).await?;
            }
            self.until_installed(name, version).await?;
            seconds.insert(version.clone(), begun.elapsed().as_secs_f64());
            tell(&format!("runs {version}"));
            // By steps, the next one has begun already.
            if matches!(walk, Walk::OneByOne) || version == last {
                until_serves(&tenant, version).await?;
                until_nodes_proxy_with(&tenant, version).await?;
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let traffic = traffic.stop().await?;
        let (node_looked_at, node_not_ready) = watch.stop().await?;
        let workload_disturbed = workload.disturbed(&before).await?;

        let new_worker = format!("{name}-new");
        self.join(&new_worker, &kubeconfig, newest, &tenant).await?;
        run_on(&tenant, &new_worker).await?;
        let nodes = Api::<Node>::all(tenant.clone()).list(&ListParams::default()).await?;
        let kubelets: Vec<String> = nodes.iter().map(kubelet_version).collect();
        ensure!(
            kubelets.contains(first) && kubelets.contains(last),
            "the kubelets are {kubelets:?}"
        );
        for worker in [old_worker, new_worker] {
            local::worker::remove(&self.cluster.directory().join("nodes").join(worker))?;
        }
        self.control_planes().delete(name, &DeleteParams::default()).await?;
        Ok(Outcome {
            drill: "upgrade",
            walk,
            versions,
            replicas: REPLICAS,
            seconds,
            traffic,
            node_looked_at,
            node_not_ready,
            workload_disturbed,
            kubelets,
        })
    }

    async fn create(&self, walk: Walk, version: &str) -> anyhow::Result<()> {
        let tcp = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1",
            "kind": "TenantControlPlane",
            "metadata": {"name": walk.name()},
            "spec": {
                "controlPlane": {"deployment": {"replicas": REPLICAS}, "service": {"serviceType": "NodePort"}},
                "kubernetes": {"version": version, "kubelet": {
                    "cgroupfs": "cgroupfs",
                    "configurationJSONPatches": [{"op": "add", "path": "/failCgroupV1", "value": false}],
                }},
                "networkProfile": {
                    "address": self.cluster.address(), "port": walk.port(),
                    "podCidr": "10.36.0.0/16", "serviceCidr": "10.116.0.0/16", "dnsServiceIPs": ["10.116.0.10"],
                },
                "addons": {"kubeProxy": {}},
            },
        });
        let tcp: TenantControlPlane = serde_json::from_value(tcp)?;
        self.control_planes().create(&PostParams::default(), &tcp).await?;
        Ok(())
    }

    async fn ask_for(&self, name: &str, version: &str, annotations: Value) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"kubernetes": {"version": version}}});
        self.control_planes()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Until that version, or one after it, was seen Ready.
    async fn until_installed(&self, name: &str, version: &str) -> anyhow::Result<()> {
        let wanted = self.place_of(version).context("a version of the drill")?;
        eventually(&format!("{name} has {version}"), async || {
            let status = self.control_planes().get(name).await?.status.unwrap_or_default();
            let place = status
                .installed_version()
                .and_then(|installed| self.place_of(installed));
            if place > Some(wanted) {
                return Ok(());
            }
            let ready = status
                .conditions
                .iter()
                .any(|one| one.type_ == "Ready" && one.status == "True");
            ensure!(place == Some(wanted) && ready, "{:?}", status.conditions);
            Ok(())
        })
        .await
    }

    fn place_of(&self, version: &str) -> Option<usize> {
        self.minors.iter().position(|(known, _)| known == version)
    }

    /// An administrator of the tenant, and the kubeconfig.
    async fn tenant(&self, name: &str) -> anyhow::Result<(Client, Kubeconfig)> {
        let output = Command::new(&self.executable)
            .args(["cluster", "kubeconfig", name, "--namespace", NAMESPACE, "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let kubeconfig = Kubeconfig::from_yaml(&String::from_utf8(output.stdout)?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        // A node port opens a moment after the pods behind it are ready.
        eventually("the tenant answers", async || {
            client.apiserver_version().await?;
            Ok(())
        })
        .await?;
        Ok((client, kubeconfig))
    }

    async fn join(&self, node: &str, kubeconfig: &Kubeconfig, with: &Programs, tenant: &Client) -> anyhow::Result<()> {
        let file = self.cluster.directory().join(format!("{node}.kubeconfig"));
        std::fs::write(&file, serde_norway::to_string(kubeconfig)?)?;
        let output = Command::new(with.path("kubeadm"))
            .args(["token", "create", "--print-join-command", "--kubeconfig"])
            .arg(&file)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let join = parse_join_command(node, &String::from_utf8(output.stdout)?)?;
        let worker = tokio::task::block_in_place(|| Worker::join_with(&self.cluster, &join, with))?;
        worker.joined(&self.cluster, PATIENCE).await?;
        let version = with.kubernetes_version()?;
        eventually(&format!("{node} is Ready"), async || {
            let node = Api::<Node>::all(tenant.clone()).get(node).await?;
            ensure!(
                is_ready(&node) && kubelet_version(&node) == version,
                "{:?}",
                node.status
            );
            Ok(())
        })
        .await
    }

    /// What people look at first.
    fn explain(&self) {
        for arguments in [
            vec!["get", "tenantcontrolplanes", "-o", "yaml"],
            vec!["get", "pods", "-A", "-o", "wide"],
            vec!["get", "events"],
        ] {
            let kubectl = self.minors[self.minors.len() - 1].1.path("kubectl");
            // What is said is for the reader of an error that is reported elsewhere.
            let _ = Command::new(kubectl)
                .env("KUBECONFIG", self.cluster.kubeconfig())
                .args(arguments)
                .stdout(std::io::stderr())
                .status();
        }
    }
}

const REPLICAS: i32 = 2;

/// `kubeadm join HOST:PORT --token TOKEN --discovery-token-ca-cert-hash HASH`
fn parse_join_command(node: &str, command: &str) -> anyhow::Result<Join> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|known| *known == word);
        let value = at.and_then(|at| words.get(at + 1)).map(|value| (*value).to_owned());
        value.ok_or_else(|| anyhow!("no {word} in {command:?}"))
    };
    Ok(Join {
        name: node.to_owned(),
        endpoint: after("join")?,
        token: after("--token")?,
        ca_hashes: vec![after("--discovery-token-ca-cert-hash")?],
        pod_subnet: None,
        memory_bytes: None,
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

fn kubelet_version(node: &Node) -> String {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.kubelet_version.clone()).unwrap_or_default()
}

async fn until_serves(tenant: &Client, version: &str) -> anyhow::Result<()> {
    eventually(&format!("the tenant says that it is {version}"), async || {
        let said = tenant.apiserver_version().await?.git_version;
        ensure!(said == version, "{said}");
        Ok(())
    })
    .await
}

/// kube-proxy follows the control plane.
async fn until_nodes_proxy_with(tenant: &Client, version: &str) -> anyhow::Result<()> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(tenant.clone(), "kube-system");
    eventually(&format!("kube-proxy is {version}"), async || {
        let found = daemon_sets.get("kube-proxy").await?;
        let image = found
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref()?.containers.first()?.image.clone());
        let status = found.status.clone().unwrap_or_default();
        let rolled = status.observed_generation == found.metadata.generation
            && status.updated_number_scheduled == Some(status.desired_number_scheduled)
            && status.number_available == Some(status.desired_number_scheduled);
        let wanted = format!(":{version}");
        ensure!(
            rolled && image.as_ref().is_some_and(|image| image.ends_with(&wanted)),
            "{image:?} {status:?}"
        );
        Ok(())
    })
    .await
}

/// A pod of the newest worker's own.
async fn run_on(tenant: &Client, node: &str) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "visitor"},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "visitor", "image": BUSYBOX, "command": ["sleep", "3600"]}]},
    }))?;
    let pods: Api<Pod> = Api::default_namespaced(tenant.clone());
    pods.create(&PostParams::default(), &pod).await?;
    eventually("a pod runs on the new worker", async || {
        let status = pods.get("visitor").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Running"), "{status:?}");
        Ok(())
    })
    .await
}

/// A Deployment whose pods should notice nothing.
struct Workload {
    pods: Api<Pod>,
}

impl Workload {
    const PODS: usize = 2;

    async fn start(tenant: &Client) -> anyhow::Result<Self> {
        let labels = json!({"app": "web"});
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": Self::PODS, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": BUSYBOX, "command": ["sleep", "36000"]}]},
            }},
        }))?;
        let deployments: Api<Deployment> = Api::default_namespaced(tenant.clone());
        // The namespace's service account comes a moment after the namespace; pods wait for it, Deployments do not.
        deployments.create(&PostParams::default(), &deployment).await?;
        eventually("the workload runs", async || {
            let status = deployments.get("web").await?.status.unwrap_or_default();
            ensure!(
                status.available_replicas == Some(i32::try_from(Self::PODS)?),
                "{status:?}"
            );
            Ok(())
        })
        .await?;
        Ok(Self {
            pods: Api::default_namespaced(tenant.clone()),
        })
    }

    /// The containers of each pod, by the pod's UID.
    async fn pods(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let pods = self.pods.list(&ListParams::default().labels("app=web")).await?;
        let containers = |pod: &Pod| {
            let statuses = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            statuses.filter_map(|status| status.container_id.clone()).collect()
        };
        Ok(pods
            .iter()
            .map(|pod| (pod.uid().unwrap_or_default(), containers(pod)))
            .collect())
    }

    async fn disturbed(&self, before: &BTreeMap<String, Vec<String>>) -> anyhow::Result<u64> {
        let after = self.pods().await?;
        let changed = before
            .iter()
            .filter(|(uid, containers)| after.get(*uid) != Some(containers));
        Ok(changed.count() as u64)
    }
}

/// Looks at a node again and again.
struct NodeWatch {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<(u64, u64)>,
}

impl NodeWatch {
    fn start(tenant: &Client, node: &str) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (nodes, node) = (Api::<Node>::all(tenant.clone()), node.to_owned());
        let look = async move {
            let (mut looked_at, mut not_ready) = (0, 0);
            while !*stopped.borrow() {
                // Requests that fail are counted elsewhere.
                if let Ok(node) = nodes.get(&node).await {
                    looked_at += 1;
                    not_ready += u64::from(!is_ready(&node));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            (looked_at, not_ready)
        };
        Self {
            stop,
            task: tokio::spawn(look),
        }
    }

    /// How often it was seen, and how often it was not Ready.
    async fn stop(self) -> anyhow::Result<(u64, u64)> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

fn run_to_the_end(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdout(std::io::stderr()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

async fn eventually(what: &str, attempt: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => bail!("{what}: not within {PATIENCE:?}: {error:#}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_command_is_read() {
        let said = "kubeadm join 10.99.0.1:31600 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00ff \n";
        let join = parse_join_command("one", said).unwrap();
        assert_eq!(
            (join.endpoint.as_str(), join.token.as_str(), join.ca_hashes),
            (
                "10.99.0.1:31600",
                "abcdef.0123456789abcdef",
                vec!["sha256:00ff".to_owned()]
            )
        );
        assert!(parse_join_command("one", "kubeadm join").is_err());
    }
}
