//! A worker's pods get the subnet that the tenant's controller manager gives to the node. kubelet does not hand it to
//! the network plugins, so this reads it from the node's own object, with the node's own credentials.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;

use crate::error::{Error, Result};
use crate::{cluster, containerd, worker};

/// Returns when the network is configured, waiting for the subnet if there is none yet.
pub(super) fn run(kubeconfig: &Path) -> Result<()> {
    let target = Path::new(worker::POD_NETWORK);
    if target.exists() {
        return Ok(());
    }
    let name = nix::unistd::gethostname()
        .map_err(|errno| Error::Other(format!("failed to read the host name: {errno}")))?
        .to_string_lossy()
        .into_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Other(format!("failed to start: {error}")))?;
    let subnet = runtime.block_on(subnet(kubeconfig, &name))?;
    let parent = target.parent().unwrap_or(target);
    std::fs::create_dir_all(parent).map_err(Error::file("create directory", parent))?;
    // containerd reads every file with its extension, so a half-written one has another.
    let new = target.with_extension("new");
    std::fs::write(&new, containerd::pod_network(&subnet)).map_err(Error::file("write", &new))?;
    std::fs::rename(&new, target).map_err(Error::file("write", target))
}

async fn subnet(kubeconfig: &Path, name: &str) -> Result<String> {
    let nodes: Api<Node> = Api::all(cluster::client(kubeconfig).await?);
    loop {
        // Errors are told by running again: kubelet may be about to renew its certificate, or to register.
        let node = nodes.get_opt(name).await.map_err(|source| Error::Client {
            server: kubeconfig.display().to_string(),
            source: source.into(),
        })?;
        if let Some(subnet) = node.and_then(|node| node.spec?.pod_cidr) {
            return Ok(subnet);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
