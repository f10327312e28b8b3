//! A worker node for a hosted control plane: a bootstrap token, then upstream's `kubeadm join` on a node of this machine.

use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Client, Config,
    api::Api,
    config::{KubeConfigOptions, Kubeconfig},
};
use tenancy::control_plane::data_store;

use crate::bootstrap_token::BootstrapToken;
use crate::stopped::Stopped;

const TOKEN_VALIDITY: SignedDuration = SignedDuration::from_mins(30);

/// What a machine needs to join a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// `host:port`
    pub(crate) endpoint: String,
    pub(crate) token: String,
    /// `sha256:<hex>` of the authority's public key.
    pub(crate) ca_hash: String,
}

/// A client of the cluster that a kubeconfig text describes. Programs that it names are run, so it is the person's own or
/// one that [`crate::credentials`] made.
pub(crate) async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("failed to read the tenant's kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

/// Waits until the tenant's API server answers where its kubeconfig points: a node port opens a moment after the pods
/// behind it are ready.
pub(crate) async fn answers(tenant: &Client, within: Duration) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match tenant.apiserver_version().await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > within => {
                return Err(error).context("the tenant's API server is ready and does not answer at its endpoint");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Whether the node is there and Ready.
pub(crate) async fn is_ready(tenant: &Client, node: &str) -> anyhow::Result<bool> {
    let node = Api::<Node>::all(tenant.clone())
        .get_opt(node)
        .await
        .context("failed to read the tenant's nodes")?;
    Ok(node
        .and_then(|node| node.status)
        .and_then(|status| status.conditions)
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        }))
}

/// Makes a bootstrap token in the tenant, good for half an hour.
pub(crate) async fn invite(tenant: &Client, kubeconfig: &str) -> anyhow::Result<Invitation> {
    let read = pki::Kubeconfig::parse(kubeconfig)?;
    let endpoint = endpoint(&read.server)?;
    let token = BootstrapToken::create(tenant, TOKEN_VALIDITY, "made by cotenant for one worker").await?;
    Ok(Invitation {
        endpoint,
        token: token.to_string(),
        ca_hash: pki::public_key_hash(&read.ca_pem)?,
    })
}

/// `host:port` of an API server's URL. Tenants can write it, and it becomes part of a command line.
pub(crate) fn endpoint(server: &str) -> anyhow::Result<String> {
    let refused = |why: &str| {
        Stopped::refused(format!(
            "the tenant's API server {server:?} is not https://host:port: {why}"
        ))
    };
    let rest = server
        .strip_prefix("https://")
        .ok_or_else(|| refused("the scheme is another"))?;
    let (host, port) = data_store::endpoint(rest).map_err(refused)?;
    Ok(format!("{host}:{port}"))
}
