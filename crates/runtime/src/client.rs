//! The client of the admin cluster.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the kubeconfig {path:?}")]
    ReadKubeconfig {
        path: std::path::PathBuf,
        source: kube::config::KubeconfigError,
    },
    #[error("failed to find the cluster to work in: neither a service account nor a kubeconfig is there")]
    Infer(#[source] kube::config::InferConfigError),
    #[error("failed to build a client")]
    Build(#[source] kube::Error),
}

/// Makes `ring` the process's only crypto provider. Idempotent. Everything that opens TLS calls it first, because a
/// dependency that brings a second provider would otherwise turn the choice into a panic at run time.
pub fn install_crypto_provider() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client from the kubeconfig file if one is named, else from the pod's service account, else from the user's
/// kubeconfig. `agent` enters the User-Agent, so that audit logs and request counts tell our parts apart.
pub async fn connect(kubeconfig: Option<&Path>, agent: &str) -> Result<Client, Error> {
    let config = match kubeconfig {
        Some(path) => {
            let failed = |source| Error::ReadKubeconfig {
                path: path.to_owned(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(failed)?
        }
        None => Config::infer().await.map_err(Error::Infer)?,
    };
    build(config, agent)
}

/// A client from a configuration made elsewhere.
pub fn build(mut config: Config, agent: &str) -> Result<Client, Error> {
    install_crypto_provider();
    if let Ok(value) = http::HeaderValue::from_str(agent) {
        config.headers.retain(|(name, _)| name != http::header::USER_AGENT);
        config.headers.push((http::header::USER_AGENT, value));
    }
    Client::try_from(config).map_err(Error::Build)
}
