//! The client of the admin cluster, and those of servers that others run.

mod connections;
pub mod untrusted;

use std::path::Path;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use kube::client::retry::RetryPolicy;
use kube::client::{ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

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
    #[error("failed to read the authority's certificates")]
    ReadAuthority(#[source] pem::Error),
    #[error("the authority has no certificate")]
    NoAuthority,
    #[error("the server's name is none that a certificate could have")]
    ServerName(#[source] rustls::pki_types::InvalidDnsNameError),
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
    build(configure(kubeconfig).await?, agent)
}

/// What [`connect`] connects with.
pub async fn configure(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    Ok(match kubeconfig {
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
    })
}

/// Another address of an API server.
#[derive(Debug)]
pub struct Other<'a> {
    pub url: http::Uri,
    /// Certificates in PEM; `None`: those that are trusted already.
    pub authority: Option<&'a [u8]>,
    /// Whether the other side has to prove who it is.
    pub verify: bool,
}

/// A client with the credentials of `config` for another address.
pub fn elsewhere(config: &Config, other: &Other<'_>, agent: &str) -> Result<Client, Error> {
    let mut config = config.clone();
    config.cluster_url = other.url.clone();
    config.accept_invalid_certs = !other.verify;
    // That is a name of the first address.
    config.tls_server_name = None;
    if let Some(authority) = other.authority {
        let certificates = CertificateDer::pem_slice_iter(authority).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(Error::ReadAuthority)?;
        if certificates.is_empty() {
            return Err(Error::NoAuthority);
        }
        config.root_cert = Some(
            certificates
                .into_iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        );
        config.root_cert_file = None;
    }
    build(config, agent)
}

/// A client from a configuration made elsewhere.
///
/// As kube makes it, but that connections of a burst do not stay when it is over: kube's keep their buffers until the server ends
/// them.
pub fn build(config: Config, agent: &str) -> Result<Client, Error> {
    let config = named(config, agent);
    if config.proxy_url.is_some() {
        // kube knows proxies, and tells of those that it does not.
        return Client::try_from(config).map_err(Error::Build);
    }
    let tls = config.rustls_client_config().map_err(Error::Build)?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let connector = connections::named(connector, &config)?.enable_http1();
    let connections = connections::settings(IDLE).build(connector.wrap_connector(connections::tcp(&config)));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .default_retry
                .then(|| RetryLayer::new(RetryPolicy::server_retry())),
        )
        .option_layer(config.auth_layer().map_err(Error::Build)?)
        .layer(config.extra_headers_layer().map_err(Error::Build)?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(5);

/// The configuration with that User-Agent, in a process that is ready to open TLS.
fn named(mut config: Config, agent: &str) -> Config {
    install_crypto_provider();
    if let Ok(value) = http::HeaderValue::from_str(agent) {
        config.headers.retain(|(name, _)| name != http::header::USER_AGENT);
        config.headers.push((http::header::USER_AGENT, value));
    }
    config
}
