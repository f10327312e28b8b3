//! A worker node of a hosted control plane: a node on this machine that upstream's `kubeadm join` makes a member of the
//! tenant's cluster.
//!
//! It belongs to the tenant's cluster in Kubernetes' eyes and to the admin cluster in the machine's: it hangs on the
//! admin cluster's bridge, pulls from its registry, lies in its directory and ends with it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cluster::{Cluster, containerd_program, kubelet_settings, write_all};
use crate::error::{Error, Result};
use crate::node::{self, Condition, DIRECTORY, EXECUTABLE, Handle, Node, Program};
use crate::process::tail;
use crate::programs::Programs;
use crate::{containerd, network, registry};

/// Where the node sees its pod network's configuration, and where it lies in the node's directory.
pub(crate) const POD_NETWORK: &str = "/etc/cni/net.d/10-pods.conflist";
const POD_NETWORK_KEPT: &str = "cni/net.d/10-pods.conflist";

/// Addresses below are the machine's, the admin node's and for later use.
const FIRST_ADDRESS: u8 = 10;

/// What `kubeadm join` needs to know.
#[derive(Clone, Debug)]
pub struct Join {
    /// The node's name, a DNS label; unique on the admin cluster's bridge.
    pub name: String,
    /// Host and port of the tenant's API server.
    pub endpoint: String,
    /// A bootstrap token of the tenant's cluster.
    pub token: String,
    /// Hashes of the tenant's CA, as `sha256:...`.
    pub ca_hashes: Vec<String>,
    /// The subnet of the node's pods; `None`: what the tenant's controller manager gives to the node.
    pub pod_subnet: Option<ipnet::Ipv4Net>,
    pub memory_bytes: Option<u64>,
}

/// A worker node that runs.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
}

impl Worker {
    /// Starts the node, or finds it; kubeadm joins it once.
    pub fn join(cluster: &Cluster, join: &Join) -> Result<Self> {
        Self::join_with(cluster, join, cluster.programs())
    }

    /// Like [`Worker::join`], with a kubeadm and a kubelet of the caller's choice.
    pub fn join_with(cluster: &Cluster, join: &Join, programs: &Programs) -> Result<Self> {
        let directory = cluster.directory().join("nodes").join(&join.name);
        std::fs::create_dir_all(&directory).map_err(Error::file("create directory", &directory))?;
        let node = {
            let _lock = network::lock()?;
            let node = node(cluster, join, programs, directory)?;
            // Written early: the next worker must not choose the same address.
            if Handle::find(&node.directory)?.is_none() {
                node::replace(&Node::path(&node.directory), &node)?;
            }
            node
        };
        write_files(cluster, join, &node)?;
        Ok(Self {
            handle: Handle::start(node)?,
        })
    }

    pub fn name(&self) -> &str {
        &self.handle.node().name
    }

    pub fn address(&self) -> Ipv4Addr {
        self.handle.node().address
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until kubeadm has joined the node and its pods have a network, then lets the admin node reach them.
    pub async fn joined(&self, cluster: &Cluster, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let place = &self.handle.node().directory;
        loop {
            let joined = place.join("kubernetes/kubelet.conf").exists();
            if joined && pod_subnet(place).is_some() {
                return cluster.route_to_workers();
            }
            let running = self.handle.is_running()?;
            if Instant::now() > deadline || !running {
                let (reason, log) = match (running, joined) {
                    (false, _) => ("the node has ended", "supervisor"),
                    (true, false) => ("kubeadm has not joined it", "join"),
                    (true, true) => ("the control plane has given it no pod subnet", "pod-network"),
                };
                return Err(Error::Timeout {
                    what: format!("the worker {} as a member of its cluster", self.name()),
                    waited: within,
                    reason: reason.to_owned(),
                    output: tail(&self.handle.node().log(log)),
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the node and removes everything of it from the machine. Its Node object is the tenant's to delete.
    pub fn remove(self) -> Result<()> {
        remove(&self.handle.node().directory)
    }
}

/// Removes a worker by its directory, `NODES/NAME` in its cluster's.
pub fn remove(directory: &Path) -> Result<()> {
    node::stop(directory)?;
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", directory)(error)),
        _ => Ok(()),
    }
}

fn node(cluster: &Cluster, join: &Join, upstream: &Programs, directory: PathBuf) -> Result<Node> {
    let address = if let Some(known) = Handle::find(&directory)? {
        known.node().address
    } else {
        let used: Vec<_> = cluster.nodes()?.iter().map(|handle| handle.node().address).collect();
        let mut all = (FIRST_ADDRESS..=254).map(|last| cluster.subnet().host(last));
        all.find(|address| !used.contains(address)).ok_or_else(|| {
            Error::Other(format!(
                "failed to find an address for the worker {}: {} is full",
                join.name,
                cluster.subnet()
            ))
        })?
    };
    Ok(Node {
        cluster: cluster.name().to_owned(),
        name: join.name.clone(),
        directory,
        address,
        gateway: cluster.subnet().machine(),
        bridge: network::bridge_name(cluster.name()),
        routes: BTreeMap::new(),
        executable: cluster.executable().to_owned(),
        binaries: ["kubeadm", "kubelet"]
            .map(|name| (name.to_owned(), upstream.path(name)))
            .into(),
        memory_bytes: join.memory_bytes,
        programs: programs(),
        lifetime: cluster.worker_lifetime(),
    })
}

fn programs() -> Vec<Program> {
    let shell = |text: String| ["sh".to_owned(), "-c".to_owned(), text];
    let socket = || Condition::Path(containerd::SOCKET.into());
    let join = format!(
        "test -e /etc/kubernetes/kubelet.conf || \
         exec kubeadm join --config {DIRECTORY}/config/join.yaml --ignore-preflight-errors=all"
    );
    // kubeadm leaves the starting to systemd, with the flags that it writes into a file.
    let kubelet = ". /var/lib/kubelet/kubeadm-flags.env && exec kubelet \
                   --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
                   --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
                   $KUBELET_KUBEADM_ARGS";
    let pod_network = [EXECUTABLE, "node", "pod-network", "/etc/kubernetes/kubelet.conf"];
    vec![
        containerd_program(),
        Program {
            once: true,
            ..Program::new("join", shell(join))
        }
        .after(socket()),
        Program::new("kubelet", shell(kubelet.to_owned()))
            .after(socket())
            .after(Condition::Path("/var/lib/kubelet/config.yaml".into()))
            .after(Condition::Path("/var/lib/kubelet/kubeadm-flags.env".into())),
        Program {
            once: true,
            ..Program::new("pod-network", pod_network)
        }
        .after(Condition::Path("/etc/kubernetes/kubelet.conf".into())),
    ]
}

fn write_files(cluster: &Cluster, join: &Join, node: &Node) -> Result<()> {
    let registry = SocketAddrV4::new(cluster.address(), registry::PORT);
    let configuration = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {
            "apiServerEndpoint": join.endpoint, "token": join.token, "caCertHashes": join.ca_hashes,
        }},
        "nodeRegistration": {
            "name": join.name,
            "criSocket": format!("unix://{}", containerd::SOCKET),
            "kubeletExtraArgs": [{"name": "node-ip", "value": node.address}],
        },
        "patches": {"directory": format!("{DIRECTORY}/config/patches")},
    });
    let certificates = format!("{DIRECTORY}/config/certs.d");
    let runtime_spec = format!("{DIRECTORY}/config/runtime-spec.json");
    let files = [
        (
            "config/containerd.toml",
            containerd::config(&certificates, Some(&runtime_spec)),
        ),
        ("config/runtime-spec.json", containerd::runtime_spec(EXECUTABLE)?),
        ("config/certs.d/_default/hosts.toml", containerd::hosts(registry)),
        (
            "config/patches/kubeletconfiguration0+merge.yaml",
            kubelet_settings().to_string(),
        ),
        ("config/join.yaml", configuration.to_string()),
    ];
    write_all(&node.directory, &files)?;
    if let Some(subnet) = join.pod_subnet {
        write_all(
            &node.directory,
            &[(POD_NETWORK_KEPT, containerd::pod_network(&subnet.to_string()))],
        )?;
    }
    Ok(())
}

/// The subnet of a node's pods, from the network configuration in its directory.
pub(crate) fn pod_subnet(directory: &Path) -> Option<ipnet::Ipv4Net> {
    #[derive(Deserialize)]
    struct Network {
        plugins: Vec<serde_json::Value>,
    }
    let text = std::fs::read(directory.join(POD_NETWORK_KEPT)).ok()?;
    let network: Network = serde_json::from_slice(&text).ok()?;
    network
        .plugins
        .iter()
        .find_map(|plugin| plugin.pointer("/ipam/ranges/0/0/subnet")?.as_str()?.parse().ok())
}
