//! Where a local cluster lives: its name and its folder.

use std::path::PathBuf;

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Which local cluster a command is about.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Name of the local cluster; several can run side by side.
    #[arg(long, default_value = "cotenant", global = true, env = "COTENANT_CLUSTER")]
    pub cluster: String,
    /// Folder that holds the state of local clusters.
    #[arg(long, default_value = "/var/lib/cotenant", global = true, env = "COTENANT_STATE")]
    pub state: PathBuf,
}

impl Place {
    /// The cluster's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.join(&self.cluster)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// One file per tenant, `<tenant>.kubeconfig`.
    pub(crate) fn kubeconfigs(&self) -> PathBuf {
        self.folder().join("kubeconfigs")
    }

    /// A link to the programs that the cluster was made with, `kubectl` and `helm` among them.
    pub(crate) fn bin(&self) -> PathBuf {
        self.folder().join("bin")
    }

    /// A client as the cluster's administrator: of the local cluster, or of `kubeconfig` when that is given.
    pub(crate) async fn client(&self, kubeconfig: Option<&PathBuf>) -> anyhow::Result<Reached> {
        let path = kubeconfig.cloned().unwrap_or_else(|| self.admin_kubeconfig());
        if kubeconfig.is_none() && !path.exists() {
            anyhow::bail!(
                "no cluster {:?} on this machine ({} is not there): start one with `cotenant up`, or name another with --kubeconfig",
                self.cluster,
                path.display()
            );
        }
        let kubeconfig = Kubeconfig::read_from(&path)
            .map_err(|error| match error {
                // The path is in our sentence already.
                KubeconfigError::ReadConfig(source, _) => anyhow::Error::new(source),
                other => other.into(),
            })
            .with_context(|| format!("failed to read {}", path.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let endpoint = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        Ok(Reached {
            client: Client::try_from(config)?,
            endpoint,
        })
    }
}

/// An API server and where it is.
pub(crate) struct Reached {
    pub(crate) client: Client,
    pub(crate) endpoint: String,
}
