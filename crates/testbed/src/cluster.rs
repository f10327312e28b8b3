//! The shape `full`: a whole cluster with a real node, and workers where a test asks for them.

use std::path::Path;

use local::cluster::{Options, ROOT, sweep};
use local::progress::Lines;

use crate::api_server::explained;

/// A cluster of the caller's own.
///
/// Its name, its subnet and its directory are nobody else's, and it is removed when this value is dropped. When the test
/// process is killed the nodes' supervisors notice and remove it; when they are killed as well, the next cluster that
/// is started on this machine sweeps it away.
pub struct Cluster {
    /// `Some` until dropped.
    cluster: Option<local::cluster::Cluster>,
}

impl Cluster {
    /// Starts a cluster with the standard images; ours has the tag `test`.
    pub async fn start(prefix: &str) -> Self {
        Self::with(prefix, |_| ()).await
    }

    /// Starts a cluster whose options the caller may change.
    pub async fn with(prefix: &str, change: impl FnOnce(&mut Options)) -> Self {
        crate::logs::start();
        let programs = explained(local::programs::locate());
        let executable = explained(local::node::executable());
        let images = explained(local::images::standard(&programs, &executable, "test"));
        let images = explained(local::images::ensure(&images, &Lines));
        explained(sweep(ROOT.as_ref()));
        let mut options = Options::new(crate::unique(&format!("test-{prefix}")), programs, images.directory);
        options.executable = Some(executable);
        options.with_parent = true;
        options.durable = false;
        change(&mut options);
        let directory = options.root.join(&options.name);
        match local::cluster::Cluster::start(options, &Lines).await {
            Ok(cluster) => Self { cluster: Some(cluster) },
            Err(error) => {
                // The error is what the test is to report.
                let _ = local::cluster::remove(&directory);
                explained(Err(error))
            }
        }
    }

    /// The cluster itself.
    pub fn local(&self) -> &local::cluster::Cluster {
        self.cluster.as_ref().expect("it is there until it is dropped")
    }

    /// An administrator's client, in the calling test's runtime.
    pub async fn client(&self) -> kube::Client {
        explained(local::cluster::client(&self.local().kubeconfig()).await)
    }

    /// Where its state and its logs are.
    pub fn directory(&self) -> &Path {
        self.local().directory()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take()
            && let Err(error) = cluster.remove()
        {
            eprintln!("failed to remove a test's cluster: {error}");
        }
    }
}
