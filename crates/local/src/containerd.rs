//! What containerd and its network plugins are told inside a node.
//!
//! Every registry name leads to the cluster's own registry, so that manifests keep their upstream image names and
//! nothing outside is ever asked.

use std::net::SocketAddrV4;

use crate::error::{Error, Result};
use crate::network::run;

/// Where containerd's socket is inside a node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// The sandbox image that pods are started from.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.1";

/// `config.toml`. `restrict_oom_score_adj`: machines that are containers or small virtual machines themselves often
/// lack the right to lower a score, and without this every pod fails with a broken pipe in runc.
///
/// `runtime_spec` is a file that containers' specifications start from, see [`runtime_spec`].
pub fn config(certs_directory: &str, runtime_spec: Option<&str>) -> String {
    let base = runtime_spec
        .map(|path| format!("base_runtime_spec = \"{path}\"\n"))
        .unwrap_or_default();
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/run/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
max_concurrent_downloads = 6

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{certs_directory}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{base}"#
    )
}

/// containerd's own default specification with a hook of ours in every container, `cotenant node hook`: a kube-proxy in a
/// pod wants to set a limit that no network namespace but the machine's first may set, and ends when it cannot.
pub fn runtime_spec(executable: &str) -> Result<String> {
    let unreadable = |why: String| Error::Other(format!("failed to read containerd's default specification: {why}"));
    let text = run("ctr", &["oci", "spec"])?;
    let mut spec: serde_json::Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let fields = spec
        .as_object_mut()
        .ok_or_else(|| unreadable("it is not an object".to_owned()))?;
    let hook = serde_json::json!({"path": executable, "args": ["cotenant", "node", "hook"]});
    fields.insert("hooks".to_owned(), serde_json::json!({"createContainer": [hook]}));
    Ok(spec.to_string())
}

/// `_default/hosts.toml`: stands for every registry.
pub fn hosts(registry: SocketAddrV4) -> String {
    format!("server = \"http://{registry}\"\n\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
}

/// The network of the node's pods: a bridge, addresses from `pod_subnet`, masquerading towards everything else.
pub fn pod_network(pod_subnet: &str) -> String {
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/addresses",
                    "ranges": [[{"subnet": pod_subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    network.to_string()
}
