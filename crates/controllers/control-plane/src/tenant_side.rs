//! The second controller: what a control plane holds inside, once its API server answers.
//!
//! It has a queue of its own, so that a tenant that is slow, or refuses with a webhook, holds up neither its own pods
//! nor anybody else. The first controller says what is wanted ([`Wanted`]) and reads back what is known
//! ([`Inside`]); they meet in [`crate::tenants`].
//!
//! The API server is reached at its Service's address, or where that leads nowhere, as for an operator outside of the
//! cluster, at the address that clients use; always with the server's name set for TLS. No DNS is asked, so that this
//! works from a static binary too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::kamaji::names::{DEFAULT_KUBECONFIG_KEY, KUBECONFIG_KEY_ANNOTATION, PAUSED_ANNOTATION};
use api::kamaji::v1alpha1::{AddonSpec, KubeletSpec, TenantControlPlane, WritePermissions};
use k8s_openapi::api::core::v1::Service;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use runtime::client::untrusted::{self, Limits};
use runtime::report::chain;
use runtime::{Action, Report};
use tenancy::control_plane::effective;

use crate::desired::{Hosted, Objects, identity, secrets};
use crate::inside;
use crate::status::Inside;
use crate::{Context, Key};

const AGENT: &str = "cotenant-operator";

/// The operator and the pods are in one cluster, or next to it.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a pass may take. Each request has a limit of its own, but a tenant that answers slowly dozens of times would
/// hold a worker that others wait for.
const PASS_WITHIN: Duration = Duration::from_secs(30);

/// Everything that the inside depends on.
#[derive(Clone, PartialEq)]
pub(crate) struct Wanted {
    name: String,
    version: String,
    endpoint: String,
    advertise: Option<(IpAddr, u16)>,
    ca_pem: String,
    server_names: Vec<String>,
    service_cidrs: Vec<String>,
    pod_cidrs: Vec<String>,
    dns_service_ips: Vec<String>,
    cluster_domain: String,
    etcd_endpoints: Vec<String>,
    etcd_prefix: String,
    registry: String,
    kubelet: KubeletSpec,
    core_dns: Option<AddonSpec>,
    kube_proxy: Option<AddonSpec>,
    tunnel: Option<inside::Tunnel>,
    write_permissions: WritePermissions,
    access: Access,
}

/// How we get in.
#[derive(Clone, PartialEq)]
pub(crate) struct Access {
    /// Where it may be reached, best first.
    addresses: Vec<SocketAddr>,
    /// Name in the server's certificate.
    server_name: String,
    /// Kubeconfig with the client's certificate.
    kubeconfig: String,
}

impl Wanted {
    /// From a plan that was carried out. `None` without a kubeconfig to get in with.
    pub(crate) fn new(hosted: &Hosted<'_>, objects: &Objects, service: Option<&Service>) -> Option<Self> {
        let tcp = hosted.tcp;
        let profile = &tcp.spec.network_profile;
        let data = |component: &str| {
            objects
                .secrets
                .iter()
                .find(|(recipe, _)| recipe.component == component)
                .map(|(_, data)| data)
        };
        let key = tcp
            .annotations()
            .get(KUBECONFIG_KEY_ANNOTATION)
            .map_or(DEFAULT_KUBECONFIG_KEY, String::as_str);
        let cluster_ip = service.and_then(|service| service.spec.as_ref()?.cluster_ip.as_deref());
        let port = u16::try_from(hosted.exposure.port).ok();
        let addresses = [cluster_ip, Some(hosted.exposure.address.as_str())]
            .into_iter()
            .flatten();
        let addresses = addresses.filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port?)));
        Some(Self {
            name: hosted.name.clone(),
            version: hosted.version.clone(),
            endpoint: hosted.endpoint(),
            advertise: hosted.exposure.advertise_address.parse().ok().zip(port),
            ca_pem: secrets::text(data("ca")?, "ca.crt")?.to_owned(),
            server_names: hosted.server_names.iter().map(ToString::to_string).collect(),
            service_cidrs: hosted.service_cidrs.clone(),
            pod_cidrs: hosted.pod_cidrs.clone(),
            dns_service_ips: effective::dns_service_ips(profile),
            cluster_domain: profile.cluster_domain.clone(),
            etcd_endpoints: hosted.datastore.endpoints.clone(),
            etcd_prefix: hosted.account.schema.clone(),
            registry: tcp.spec.control_plane.deployment.registry_settings.registry.clone(),
            kubelet: tcp.spec.kubernetes.kubelet.clone(),
            core_dns: tcp.spec.addons.core_dns.clone(),
            kube_proxy: tcp.spec.addons.kube_proxy.clone(),
            tunnel: inside::Tunnel::of(hosted),
            write_permissions: tcp.spec.write_permissions.clone(),
            access: Access {
                addresses: addresses.collect(),
                server_name: format!("{}.{}.svc", hosted.name, hosted.namespace),
                kubeconfig: secrets::text(data("admin-kubeconfig")?, key)?.to_owned(),
            },
        })
    }

    fn desired(&self) -> Result<inside::Desired, inside::Invalid> {
        let mut desired = inside::desired(&inside::Inputs {
            name: &self.name,
            version: &self.version,
            endpoint: &self.endpoint,
            advertise: self.advertise,
            ca_pem: &self.ca_pem,
            server_names: &self.server_names,
            service_cidrs: &self.service_cidrs,
            pod_cidrs: &self.pod_cidrs,
            dns_service_ips: &self.dns_service_ips,
            cluster_domain: &self.cluster_domain,
            etcd_endpoints: &self.etcd_endpoints,
            etcd_prefix: Some(&self.etcd_prefix),
            registry: &self.registry,
            kubelet: &self.kubelet,
            core_dns: self.core_dns.as_ref(),
            kube_proxy: self.kube_proxy.as_ref(),
            tunnel: self.tunnel.as_ref(),
        })?;
        inside::write_permissions::limit(&mut desired, &self.write_permissions);
        Ok(desired)
    }
}

/// Why the inside is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to build a client for the tenant's API server: {0}")]
    Client(String),
    #[error("failed to reach the tenant's API server: {0}")]
    Unreachable(String),
    #[error("failed to decide what the tenant cluster holds")]
    Invalid(#[from] inside::Invalid),
    #[error("failed to finish within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Carry(#[from] inside::Error),
}

impl Error {
    /// Whether the connection may lead to a pod that is gone, which nothing but a long time would show, or to one that is about
    /// to go, and whose store may be gone before it.
    fn is_of_the_connection(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Carry(error) => error.failures.iter().any(|failure| match &failure.source {
                kube::Error::Api(answer) => answer.code >= 500,
                _ => true,
            }),
            Self::Client(_) | Self::Unreachable(_) | Self::Invalid(_) => false,
        }
    }
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Client(_) => "TenantClientFailed",
            Self::Unreachable(_) => "TenantUnreachable",
            Self::Invalid(_) => "KubeletPatchInvalid",
            Self::TimedOut(_) => "TenantTimedOut",
            Self::Carry(error) => error.category(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Client(_) | Self::Invalid(_) => false,
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            Self::Carry(error) => error.is_transient(),
        }
    }
}

/// One pass over the inside of one tenant.
pub(crate) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let tcp = ctx.watches.control_planes.get(Some(&key.namespace), &key.name);
    ctx.forget_gone(&key, tcp.as_deref());
    if let Some(tcp) = tcp
        .as_deref()
        .filter(|tcp| tcp.annotations().contains_key(PAUSED_ANNOTATION))
    {
        ctx.tenants.pause(tcp);
        return Ok(Action::AwaitChange);
    }
    let wanted = tcp.as_deref().and_then(|tcp| Some((tcp, ctx.tenants.wanted(tcp)?)));
    let Some((tcp, wanted)) = wanted else {
        return Ok(Action::AwaitChange);
    };
    let result = tokio::time::timeout(PASS_WITHIN, pass(&ctx, &key, tcp, &wanted)).await;
    let result = result.unwrap_or(Err(Error::TimedOut(PASS_WITHIN)));
    let known = match &result {
        Ok(checksum) => Inside {
            checksum: Some(checksum.clone()),
            failure: None,
        },
        Err(error) => Inside {
            checksum: ctx.tenants.inside(tcp).checksum,
            failure: Some((error.category(), chain(error))),
        },
    };
    if result.as_ref().is_err_and(Error::is_of_the_connection) {
        ctx.tenants.forget_client(tcp);
    }
    // What is no longer wanted was answered too late.
    if ctx.tenants.wanted(tcp).is_some() && ctx.tenants.set_inside(tcp, known) {
        ctx.queue.enqueue(key);
    }
    result.map(|_| Action::RequeueAfter(inside::guard::RECHECK))
}

async fn pass(ctx: &Arc<Context>, key: &Key, tcp: &TenantControlPlane, wanted: &Wanted) -> Result<String, Error> {
    let desired = wanted.desired()?;
    let checksum = identity::checksum([(
        &String::new(),
        serde_json::to_vec(&desired).map_err(|error| Error::Client(error.to_string()))?,
    )]);
    let client = if let Some(client) = ctx.tenants.client(tcp, &wanted.access) {
        client
    } else {
        let client = client(&wanted.access).await?;
        ctx.tenants.remember_client(tcp, wanted.access.clone(), client.clone());
        client
    };
    let outcome = inside::reconcile(&client, &desired).await?;
    if !outcome.is_idle() {
        tracing::info!(
            object.r#ref = %key, applied = outcome.applied.len(), removed = outcome.removed.len(),
            "set up the inside of a tenant cluster"
        );
    }
    ctx.tenants.guard(tcp, &desired, || {
        let (queue, key) = (ctx.inside_queue.clone(), key.clone());
        inside::guard::Guard::start(&client, &desired, move || {
            queue.enqueue_after(key.clone(), inside::guard::SETTLE);
        })
    });
    Ok(checksum)
}

/// A client at the first address where the tenant's own API server answers. That something accepts a connection says
/// little: networks have proxies and other tenants.
async fn client(access: &Access) -> Result<Client, Error> {
    let mut refusals = Vec::new();
    for address in &access.addresses {
        let client = client_at(access, *address).await?;
        match tokio::time::timeout(ANSWER_WITHIN, client.apiserver_version()).await {
            Ok(Ok(_)) => return Ok(client),
            Ok(Err(error)) => refusals.push(format!("{address}: {}", chain(&error))),
            Err(_) => refusals.push(format!("{address}: no answer within {ANSWER_WITHIN:?}")),
        }
    }
    Err(Error::Unreachable(refusals.join("; ")))
}

async fn client_at(access: &Access, address: SocketAddr) -> Result<Client, Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| Error::Client(chain(error));
    let mut kubeconfig = kubeconfig(&access.kubeconfig)?;
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        cluster.server = Some(format!("https://{address}"));
        cluster.tls_server_name = Some(access.server_name.clone());
    }
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| failed(&error))?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    // What a proxy of ours has to say about names outside is no business of a tenant's address.
    config.proxy_url = None;
    untrusted::build(config, AGENT, Limits::default()).map_err(|error| failed(&error))
}

/// What the operator reads of a kubeconfig. It comes from the tenant's namespace, where others may write it, and kube
/// would run the programs and read the files that it names.
fn kubeconfig(text: &str) -> Result<Kubeconfig, Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| Error::Client(chain(error));
    let known = pki::Kubeconfig::parse(text).map_err(|error| failed(&error))?;
    Kubeconfig::from_yaml(&known.to_yaml()).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What was sent of an answer without end, to a client that asks for the version.
    async fn sent_without_end() -> u64 {
        runtime::client::install_crypto_provider();
        let now = jiff::Timestamp::now();
        let authority = pki::Authority::new("hostile", &[], jiff::SignedDuration::from_hours(1), now).unwrap();
        let sans = vec![pki::San::parse("oil.prod.svc").unwrap()];
        let server = authority
            .issue(&pki::LeafRequest::server("hostile", sans, now))
            .unwrap();
        let client = authority.issue(&pki::LeafRequest::client("admin", &[], now)).unwrap();
        let certificate = CertificateDer::from_pem_slice(server.cert_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sending = tokio::spawn(async move {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let mut sent = 0;
            while stream.write_all(&[b' '; 16 * 1024]).await.is_ok() {
                sent += 16 * 1024;
            }
            sent
        });
        let kubeconfig = pki::Kubeconfig {
            cluster: "oil".to_owned(),
            user: "admin".to_owned(),
            server: format!("https://{address}"),
            ca_pem: authority.cert_pem().to_owned(),
            client,
            namespace: None,
            tls_server_name: None,
        };
        let access = Access {
            addresses: vec![address],
            server_name: "oil.prod.svc".to_owned(),
            kubeconfig: kubeconfig.to_yaml(),
        };
        assert!(super::client(&access).await.is_err());
        sending.await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_answers_without_end_is_not_listened_to_without_end() {
        let sent = sent_without_end().await;
        assert!(sent < 32 * 1024 * 1024, "{sent} bytes were taken");
    }

    #[test]
    fn a_kubeconfig_names_no_programs_and_no_files() {
        let text = "
apiVersion: v1
kind: Config
current-context: a
clusters:
- name: c
  cluster: {server: 'https://one:6443', certificate-authority-data: Q0EK, certificate-authority: /canary,
    proxy-url: 'http://canary', insecure-skip-tls-verify: true}
contexts:
- {name: a, context: {cluster: c, user: u}}
users:
- name: u
  user: {client-certificate-data: Q0VSVAo=, client-key-data: S0VZCg==, tokenFile: /canary, token: canary,
    client-key: /canary, username: canary, password: canary, as: canary, auth-provider: {name: canary},
    exec: {apiVersion: client.authentication.k8s.io/v1, command: canary}}
";
        assert!(format!("{:?}", Kubeconfig::from_yaml(text).unwrap()).contains("canary"));
        let read = kubeconfig(text).unwrap();
        let user = read.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(
            user.exec.is_none() && user.token_file.is_none() && user.token.is_none(),
            "{user:?}"
        );
        let shown = format!("{read:?}") + &serde_norway::to_string(&read).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.insecure_skip_tls_verify, None);
        let no_certificate = text.replace("client-certificate-data", "client-certificate");
        assert!(kubeconfig(&no_certificate).is_err());
    }
}
