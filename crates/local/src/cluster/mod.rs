//! A whole Kubernetes cluster on this machine: one real node inside namespaces, upstream's own programs, a registry, DNS
//! and storage; and worker nodes that join the control planes it hosts.
//!
//! Everything of a cluster lies in one directory, `/var/lib/cotenant/NAME`. Starting a cluster that runs finds it as it
//! is and mends what is broken; starting one that was stopped continues with its data; `remove` needs nothing but the
//! directory, whatever was killed in between.

mod addons;
mod admin;
mod certificates;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::{self, Subnet};
use crate::node::{self, Handle, Identity, Lifetime, Node, State};
use crate::process::tail;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::registry;

pub(crate) use admin::{containerd_program, kubelet_settings, write_all};

/// Where clusters lie unless told otherwise.
pub const ROOT: &str = "/var/lib/cotenant";

/// The admin node's name.
pub const ADMIN: &str = "admin";

/// Where the API server listens, on the admin node's address.
pub const API_PORT: u16 = 6443;

pub const POD_SUBNET: &str = "10.244.0.0/16";
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
pub const CLUSTER_DNS: &str = "10.96.0.10";

/// What the controller manager gives to the first node, and there is one.
const NODE_POD_SUBNET: &str = "10.244.0.0/24";

/// What a cluster should be.
#[derive(Clone, Debug)]
pub struct Options {
    /// A DNS label.
    pub name: String,
    /// The directory of all clusters.
    pub root: PathBuf,
    /// `None`: the one it had, or the first that is free.
    pub subnet: Option<Subnet>,
    pub programs: Programs,
    /// A directory of images as docker-archives; they carry their references.
    pub images: PathBuf,
    /// Our own executable; `None`: `node::executable()`.
    pub executable: Option<PathBuf>,
    /// A limit for the admin node and everything in it.
    pub memory_bytes: Option<u64>,
    /// The cluster goes away with this process, however it ends.
    pub with_parent: bool,
    /// Its data survives a crash of the machine. Tests do without.
    pub durable: bool,
    /// Whether `cotenant enforcer` runs on the admin node: the pod network enforces no policy by itself.
    pub enforcer: bool,
}

impl Options {
    pub fn new(name: impl Into<String>, programs: Programs, images: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            root: ROOT.into(),
            subnet: None,
            programs,
            images: images.into(),
            executable: None,
            memory_bytes: None,
            with_parent: false,
            durable: true,
            enforcer: true,
        }
    }
}

/// The options with everything decided.
#[derive(Clone, Debug)]
struct Plan {
    name: String,
    subnet: Subnet,
    programs: Programs,
    /// Of Kubernetes, such as `v1.36.3`.
    version: String,
    executable: PathBuf,
    memory_bytes: Option<u64>,
    durable: bool,
    enforcer: bool,
    lifetime: Lifetime,
}

/// What is written down about a cluster, in `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    name: String,
    subnet: Subnet,
    /// The process that the cluster belongs to, if it does not outlive it.
    owner: Option<Identity>,
}

impl Record {
    fn path(directory: &Path) -> PathBuf {
        directory.join("cluster.json")
    }

    fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(directory)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// A cluster that runs.
pub struct Cluster {
    name: String,
    directory: PathBuf,
    subnet: Subnet,
    programs: Programs,
    executable: PathBuf,
    lifetime: Lifetime,
    admin: Handle,
    client: kube::Client,
}

/// A part of a cluster and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    pub component: String,
    pub healthy: bool,
    /// Why it is not, or how often it was started again.
    pub message: String,
}

impl Cluster {
    /// Starts a cluster, or finds it and mends it, and waits until its node and its DNS are ready.
    pub async fn start(options: Options, progress: &dyn Progress) -> Result<Self> {
        let directory = directory(&options.root, &options.name)?;
        let (subnet, lifetime) = claim(&options, &directory)?;
        let plan = Plan {
            version: options.programs.kubernetes_version()?,
            executable: options.executable.map_or_else(node::executable, Ok)?,
            name: options.name,
            subnet,
            programs: options.programs,
            memory_bytes: options.memory_bytes,
            durable: options.durable,
            enforcer: options.enforcer,
            lifetime,
        };
        let place = directory.join("nodes").join(ADMIN);
        let images = registry::archives(&options.images)?;
        let coredns = images
            .iter()
            .map(|image| image.reference.as_str())
            .find(|reference| {
                reference
                    .rsplit_once(':')
                    .is_some_and(|(name, _)| name == addons::COREDNS)
            })
            .ok_or_else(|| {
                Error::Other(format!(
                    "failed to find the image {} in {}",
                    addons::COREDNS,
                    options.images.display()
                ))
            })?
            .to_owned();

        let step = Step::begin(progress, "certificates", 2);
        certificates::ensure(&plan, &place.join("kubernetes"))?;
        let kubeconfig = kubeconfig_path(&directory);
        let source = place.join("kubernetes/super-admin.conf");
        std::fs::copy(&source, &kubeconfig).map_err(Error::file("copy", &source))?;
        step.end();

        let step = Step::begin(progress, "admin node", 2);
        admin::write_files(&plan, &place)?;
        let admin = Handle::start(admin::node(&plan, place.clone()))?;
        let client = client(&kubeconfig).await?;
        let cluster = Self {
            name: plan.name,
            directory,
            subnet,
            programs: plan.programs,
            executable: plan.executable,
            lifetime: plan.lifetime,
            admin,
            client,
        };
        step.end();

        // Side by side: what pods are started from is pushed first, the rest while the cluster comes up.
        let images = async {
            let step = Step::begin(progress, "images", 5);
            let pushed = cluster.push_images(images).await?;
            progress.note("images", &format!("{pushed} pushed"));
            step.end();
            Ok(())
        };
        let ready = async {
            let step = Step::begin(progress, "API server", 4);
            cluster.wait_for_api().await?;
            step.end();
            let step = Step::begin(progress, "node and DNS", 6);
            addons::apply(&cluster.client, &coredns, &place.join("volumes")).await?;
            cluster.wait_for_node().await?;
            cluster.label_node().await?;
            cluster.wait_for_dns().await?;
            cluster.route_to_workers()?;
            step.end();
            Ok(())
        };
        let (pushed, ready): (Result<()>, Result<()>) = tokio::join!(images, ready);
        pushed.and(ready)?;
        Ok(cluster)
    }

    /// Finds a cluster that was started with `Options::root` and `name`; starts nothing.
    pub async fn open(root: &Path, name: &str, programs: Programs) -> Result<Self> {
        let directory = directory(root, name)?;
        let gone = || Error::Other(format!("failed to find a cluster named {name} in {}", root.display()));
        let record = Record::read(&directory).ok_or_else(gone)?;
        let admin = Handle::find(&directory.join("nodes").join(ADMIN))?.ok_or_else(gone)?;
        let client = client(&kubeconfig_path(&directory)).await?;
        Ok(Self {
            name: record.name,
            directory,
            subnet: record.subnet,
            programs,
            executable: admin.node().executable.clone(),
            lifetime: admin.node().lifetime.clone(),
            admin,
            client,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The admin node's address: its API server's, its registry's, and where node ports are reached.
    pub fn address(&self) -> Ipv4Addr {
        self.subnet.admin()
    }

    pub fn registry(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), registry::PORT)
    }

    /// A file that makes its reader the cluster's administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig_path(&self.directory)
    }

    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The admin node.
    pub fn admin(&self) -> &Handle {
        &self.admin
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn executable(&self) -> &Path {
        &self.executable
    }

    /// The lifetime of nodes besides the admin node: they need not remove the cluster themselves.
    pub(crate) fn worker_lifetime(&self) -> Lifetime {
        match self.lifetime {
            Lifetime::Detached => Lifetime::Detached,
            Lifetime::Parent { .. } => Lifetime::Parent { remove: None },
        }
    }

    /// Pushes an image that the registry does not have, or has differently. Says how many were pushed.
    async fn push_images(&self, images: Vec<registry::Archive>) -> Result<usize> {
        let address = self.registry();
        let work = tokio::task::spawn_blocking(move || {
            let within = Duration::from_secs(20);
            let deadline = Instant::now() + within;
            while let Err(error) = std::net::TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)) {
                if Instant::now() > deadline {
                    return Err(Error::Timeout {
                        what: format!("the registry at {address}"),
                        waited: within,
                        reason: error.to_string(),
                        output: String::new(),
                    });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            // What pods are started from first: they wait for it.
            let mut images = images;
            images.sort_by_key(|image| {
                (
                    !image.reference.contains("/pause"),
                    !image.reference.contains("/coredns"),
                )
            });
            let mut count = 0;
            for image in &images {
                count += usize::from(registry::push(address, image)?);
            }
            Ok(count)
        });
        let outcome = work
            .await
            .map_err(|error| Error::Other(format!("failed to push images: {error}")))?;
        outcome.map_err(|error| self.with_log(&error, "registry"))
    }

    /// Pushes the images of a directory into the registry, those that are new.
    pub async fn push(&self, directory: &Path) -> Result<usize> {
        self.push_images(registry::archives(directory)?).await
    }

    async fn wait_for_api(&self) -> Result<()> {
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
    async fn wait_for_node(&self) -> Result<()> {
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

    /// A role for people to see; kubelet may not give itself one.
    async fn label_node(&self) -> Result<()> {
        let nodes: Api<KubernetesNode> = Api::all(self.client.clone());
        let labels = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
        let patched = nodes.patch(ADMIN, &PatchParams::default(), &Patch::Merge(labels)).await;
        patched.map(drop).map_err(addons::failed("label the admin node"))
    }

    /// Waits until a pod that this life's node started serves DNS.
    async fn wait_for_dns(&self) -> Result<()> {
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

    fn with_log(&self, error: &Error, component: &str) -> Error {
        let log = tail(&self.admin.node().log(component));
        Error::Other(format!("{}\nThe end of its log:\n{log}", node::chain(error)))
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

    /// Every node of the cluster, the admin node first; running or not.
    pub fn nodes(&self) -> Result<Vec<Handle>> {
        let mut nodes = Vec::new();
        for place in node_directories(&self.directory) {
            nodes.extend(Handle::find(&place)?);
        }
        nodes.sort_by_key(|handle| (handle.node().name != ADMIN, handle.node().name.clone()));
        Ok(nodes)
    }

    /// Lets the admin node, and so the control planes that it hosts, reach the pods of the workers. Subnets that
    /// overlap the cluster's own, or each other, cannot be routed and are left out.
    pub fn route_to_workers(&self) -> Result<()> {
        let own: Vec<ipnet::Ipv4Net> = [POD_SUBNET, SERVICE_SUBNET]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect();
        let overlaps = |a: &ipnet::Ipv4Net, b: &ipnet::Ipv4Net| a.contains(&b.network()) || b.contains(&a.network());
        let mut taken = own;
        for worker in self.nodes()?.iter().filter(|handle| handle.node().name != ADMIN) {
            let Some(subnet) = crate::worker::pod_subnet(&worker.node().directory) else {
                continue;
            };
            if taken.iter().any(|other| overlaps(other, &subnet)) {
                continue;
            }
            taken.push(subnet);
            let (subnet, via) = (subnet.to_string(), worker.node().address.to_string());
            let outcome = self
                .admin
                .command("ip")?
                .args(["route", "replace", &subnet, "via", &via])
                .output();
            let output = outcome.map_err(Error::spawn("nsenter"))?;
            if !output.status.success() {
                return Err(Error::Exit {
                    program: format!("ip route replace {subnet} via {via}"),
                    status: output.status.to_string(),
                    output: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
        }
        Ok(())
    }

    /// Stops the cluster and keeps its data.
    pub fn stop(self) -> Result<()> {
        stop(&self.directory)
    }

    /// Stops the cluster and removes everything of it.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory)
    }
}

/// A step that is told to have failed when it is left early.
struct Step<'a> {
    progress: &'a dyn Progress,
    name: &'static str,
    done: bool,
}

impl<'a> Step<'a> {
    fn begin(progress: &'a dyn Progress, name: &'static str, expected_seconds: u64) -> Self {
        progress.begin(name, Some(Duration::from_secs(expected_seconds)));
        Self {
            progress,
            name,
            done: false,
        }
    }

    fn end(mut self) {
        self.done = true;
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        use crate::progress::Outcome;
        self.progress
            .end(self.name, if self.done { Outcome::Done } else { Outcome::Failed });
    }
}

/// A client for the cluster that a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Client {
        server: kubeconfig.display().to_string(),
        source,
    };
    let text = Kubeconfig::read_from(kubeconfig).map_err(|error| failed(error.into()))?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(text, &options).await;
    let config = config.map_err(|error| failed(error.into()))?;
    kube::Client::try_from(config).map_err(|error| failed(error.into()))
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

fn kubeconfig_path(directory: &Path) -> PathBuf {
    directory.join("kubeconfig")
}

fn directory(root: &Path, name: &str) -> Result<PathBuf> {
    let label = !name.is_empty()
        && name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if label {
        return Ok(root.join(name));
    }
    Err(Error::Other(format!(
        "failed to accept the cluster name `{name}`: it should be 1 to 40 lower-case letters, digits and inner dashes"
    )))
}

/// Writes down that the cluster exists and gives it its subnet and its bridge.
fn claim(options: &Options, directory: &Path) -> Result<(Subnet, Lifetime)> {
    std::fs::create_dir_all(directory).map_err(Error::file("create directory", directory))?;
    let _lock = network::lock()?;
    let bridge = network::bridge_name(&options.name);
    let mut used: Vec<Ipv4Addr> = network::machine_addresses()?
        .into_iter()
        .filter(|(link, _)| *link != bridge)
        .map(|(_, address)| address)
        .collect();
    // A cluster that is stopped keeps its subnet: certificates and kubeconfigs name it.
    used.extend(
        records(&options.root)
            .filter(|(place, _)| place != directory)
            .map(|(_, other)| other.subnet.machine()),
    );
    let known = Record::read(directory).map(|record| record.subnet);
    let subnet = match (options.subnet, known) {
        (Some(wanted), Some(known)) if wanted != known => {
            return Err(Error::Other(format!(
                "failed to give the cluster {} the subnet {wanted}: it was made with {known}, which its certificates \
                 name; remove the cluster first",
                options.name
            )));
        }
        (Some(subnet), _) | (None, Some(subnet)) => subnet,
        (None, None) => Subnet::first_free(&used).ok_or_else(|| {
            Error::Other("failed to find a free subnet: every 10.77.N.0/24 is in use on this machine".to_owned())
        })?,
    };
    if used.iter().any(|address| subnet.contains(*address)) {
        return Err(Error::Other(format!(
            "failed to give the cluster {} the subnet {subnet}: something else on this machine uses it",
            options.name
        )));
    }
    let owner = if options.with_parent {
        Identity::of_this_process()
    } else {
        None
    };
    let record = Record {
        name: options.name.clone(),
        subnet,
        owner,
    };
    node::replace(&Record::path(directory), &record)?;
    network::ensure_bridge(&options.name, subnet)?;
    let lifetime = if options.with_parent {
        Lifetime::Parent {
            remove: Some(directory.to_owned()),
        }
    } else {
        Lifetime::Detached
    };
    Ok((subnet, lifetime))
}

fn records(root: &Path) -> impl Iterator<Item = (PathBuf, Record)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| Record::read(&entry.path()).map(|record| (entry.path(), record)))
}

fn node_directories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("nodes"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| Node::path(path).exists())
        .collect()
}

/// Whether any node of the cluster in this directory runs.
pub fn is_running(directory: &Path) -> Result<bool> {
    for place in node_directories(directory) {
        if Handle::find(&place)?.is_some_and(|handle| handle.is_running().unwrap_or(false)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stops a cluster, workers first, and takes away what it has of the machine; keeps its data.
pub fn stop(directory: &Path) -> Result<()> {
    let mut places = node_directories(directory);
    places.sort_by_key(|place| place.ends_with(ADMIN));
    // The next is stopped even when one cannot be.
    let outcome = places.iter().map(|place| node::stop(place)).fold(Ok(()), Result::and);
    if let Some(record) = Record::read(directory) {
        network::remove_bridge(&record.name)?;
    }
    outcome
}

/// Removes a cluster and everything of it, whatever was killed before. Fine when there is none.
pub fn remove(directory: &Path) -> Result<()> {
    stop(directory)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            // The kernel may need a moment to give up the mounts of a namespace that has just ended.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(Error::file("remove", directory)(error)),
        }
    }
    if directory.parent() == Some(Path::new(ROOT)) {
        // Ours as well, when this was the last cluster in it.
        let _ = std::fs::remove_dir(ROOT);
    }
    Ok(())
}

/// Removes the clusters whose owner is gone, which only happens when their supervisors were killed as well.
pub fn sweep(root: &Path) -> Result<()> {
    for (directory, record) in records(root).collect::<Vec<_>>() {
        if record.owner.is_some_and(|owner| !owner.is_alive()) {
            remove(&directory)?;
        }
    }
    Ok(())
}
