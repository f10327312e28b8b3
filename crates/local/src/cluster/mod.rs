//! A whole Kubernetes cluster on this machine: one real node inside namespaces, upstream's own programs, a registry, DNS
//! and storage; and worker nodes that join the control planes it hosts.
//!
//! Everything of a cluster lies in one directory, `/var/lib/cotenant/NAME`. Starting a cluster that runs finds it as it
//! is and mends what is broken; starting one that was stopped continues with its data; `remove` needs nothing but the
//! directory, whatever was killed in between.

mod addons;
mod admin;
mod certificates;
mod readiness;
mod record;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::error::{Error, Result};
use crate::network::Subnet;
use crate::node::{self, Handle, Lifetime};
use crate::process::tail;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::registry;

use record::{Record, claim, directory, node_directories};

pub(crate) use admin::{containerd_program, kubelet_settings, write_all};
pub use readiness::Health;
pub use record::{is_running, remove, stop, sweep};

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

    /// A role for people to see; kubelet may not give itself one.
    async fn label_node(&self) -> Result<()> {
        let nodes: Api<KubernetesNode> = Api::all(self.client.clone());
        let labels = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
        let patched = nodes.patch(ADMIN, &PatchParams::default(), &Patch::Merge(labels)).await;
        patched.map(drop).map_err(addons::failed("label the admin node"))
    }

    fn with_log(&self, error: &Error, component: &str) -> Error {
        let log = tail(&self.admin.node().log(component));
        Error::Other(format!("{}\nThe end of its log:\n{log}", node::chain(error)))
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

fn kubeconfig_path(directory: &Path) -> PathBuf {
    directory.join("kubeconfig")
}
