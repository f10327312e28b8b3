//! The shape `api`: etcd, kube-apiserver and kube-controller-manager as plain processes on a loopback address of their
//! own. No node, no container, a few seconds.
//!
//! Each instance has an address of its own in 127.0.0.0/8 and uses upstream's port numbers on it, instead of asking for
//! free ports on 127.0.0.1: between asking for a port and a program's binding it, another test takes it. The address is
//! claimed by listening on one port of it for as long as we live.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use pki::{Authority, KeyPair, LeafRequest, San};

use crate::error::{Error, Result};
use crate::guard::GuardedDirectory;
use crate::process::{Process, Spec};
use crate::programs::Programs;

/// How long a part may take to become ready. Ten times what it takes on two busy cores.
const START_WITHIN: Duration = Duration::from_mins(1);
/// How long a part may take to end when asked to.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const CLAIM_PORT: u16 = 1;
const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;
const API_PORT: u16 = 6443;
const CONTROLLER_MANAGER_PORT: u16 = 10257;

/// An address of this machine's loopback network that nobody else of ours uses while this value lives.
#[derive(Debug)]
pub struct LoopbackAddress {
    address: Ipv4Addr,
    _claim: TcpListener,
}

impl LoopbackAddress {
    /// Tries random addresses until one can be claimed.
    pub fn claim() -> Result<Self> {
        let random = || u64::from_be_bytes(fresh_bytes());
        for _ in 0..100 {
            let bytes = random().to_be_bytes();
            // 127.64.0.0/10, away from the few addresses that people and programs use by hand.
            let address = Ipv4Addr::new(127, 64 | (bytes[0] & 63), bytes[1], 1 + bytes[2] % 254);
            let Ok(claim) = TcpListener::bind((address, CLAIM_PORT)) else {
                continue;
            };
            let free = [ETCD_PORT, ETCD_PEER_PORT, API_PORT, CONTROLLER_MANAGER_PORT]
                .into_iter()
                .all(|port| TcpListener::bind((address, port)).is_ok());
            if free {
                return Ok(Self { address, _claim: claim });
            }
        }
        Err(Error::Other(
            "failed to claim an address in 127.64.0.0/10: a hundred random ones were all taken; ports below 1024 on the \
             loopback network may not be bound (this needs root, or net.ipv4.ip_unprivileged_port_start=0)"
                .to_owned(),
        ))
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.address
    }
}

/// Eight bytes that differ from call to call and from process to process. They need not be secret.
fn fresh_bytes() -> [u8; 8] {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish().to_be_bytes()
}

/// What may differ between instances.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its directory is made.
    pub parent: PathBuf,
    /// Appended to kube-apiserver's flags.
    pub api_server_flags: Vec<String>,
    /// Whether kube-controller-manager runs.
    pub controllers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parent: std::env::temp_dir(),
            api_server_flags: Vec::new(),
            controllers: true,
        }
    }
}

/// A running API server with what it needs. Everything ends with this value, or with this process however it ends.
#[derive(Debug)]
pub struct ControlPlane {
    // Processes first: fields drop in this order, and the directory must outlive its writers.
    controller_manager: Option<Process>,
    api_server: Process,
    etcd: Process,
    authority: Authority,
    address: LoopbackAddress,
    directory: GuardedDirectory,
}

impl ControlPlane {
    /// Starts everything and returns when the API server is ready; controllers may still be on their way.
    pub async fn start(programs: &Programs, options: Options) -> Result<Self> {
        let directory = GuardedDirectory::create(&options.parent, "cotenant-api-")?;
        let path = directory.path();
        let address = LoopbackAddress::claim()?;
        let ip = address.ip();
        let etcd = Process::start(
            Spec::new("etcd", programs.path("etcd"), path.join("etcd.log"))
                .arg(format!("--data-dir={}", path.join("etcd").display()))
                .arg(format!("--listen-client-urls=http://{ip}:{ETCD_PORT}"))
                .arg(format!("--advertise-client-urls=http://{ip}:{ETCD_PORT}"))
                .arg(format!("--listen-peer-urls=http://{ip}:{ETCD_PEER_PORT}"))
                .arg(format!("--initial-advertise-peer-urls=http://{ip}:{ETCD_PEER_PORT}"))
                .arg(format!("--initial-cluster=default=http://{ip}:{ETCD_PEER_PORT}"))
                // The machine's page cache outlives the process, and nothing here outlives the machine.
                .arg("--unsafe-no-fsync")
                .arg("--log-level=warn"),
        )?;
        let authority = write_pki(path, ip)?;
        let api_server = Process::start(
            Spec::new(
                "kube-apiserver",
                programs.path("kube-apiserver"),
                path.join("kube-apiserver.log"),
            )
            .args(api_server_flags(path, ip))
            .args(options.api_server_flags),
        )?;
        let mut this = Self {
            controller_manager: None,
            api_server,
            etcd,
            authority,
            address,
            directory,
        };
        this.api_server_ready().await?;
        if options.controllers {
            // Not earlier: it ends at once when its roles are not there yet.
            this.controller_manager = Some(this.start_controllers(programs)?);
        }
        Ok(this)
    }

    fn start_controllers(&self, programs: &Programs) -> Result<Process> {
        let path = self.directory.path();
        let kubeconfig = path.join("controller-manager.conf");
        let user = "system:kube-controller-manager";
        write_secret(&kubeconfig, &self.pki_kubeconfig(user, &[])?.to_yaml())?;
        let file = |name: &str| path.join(name).display().to_string();
        let ip = self.address.ip();
        Process::start(
            Spec::new(
                "kube-controller-manager",
                programs.path("kube-controller-manager"),
                path.join("kube-controller-manager.log"),
            )
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--authentication-kubeconfig={}", kubeconfig.display()))
            .arg(format!("--authorization-kubeconfig={}", kubeconfig.display()))
            .arg(format!("--bind-address={ip}"))
            .arg(format!("--cert-dir={}", path.display()))
            .arg(format!("--cluster-signing-cert-file={}", file("ca.crt")))
            .arg(format!("--cluster-signing-key-file={}", file("ca.key")))
            .arg(format!("--root-ca-file={}", file("ca.crt")))
            .arg(format!("--service-account-private-key-file={}", file("sa.key")))
            .arg("--use-service-account-credentials")
            // Nodes, volumes and clouds are what this shape has not.
            .arg(
                "--controllers=*,-node-lifecycle-controller,-node-ipam-controller,-node-route-controller,\
                 -cloud-node-lifecycle-controller,-service-lb-controller,-persistentvolume-attach-detach-controller,\
                 -persistentvolume-expander-controller,-ephemeral-volume-controller,-taint-eviction-controller,\
                 -device-taint-eviction-controller,-resourceclaim-controller,-selinux-warning-controller,\
                 -bootstrap-signer-controller,-token-cleaner-controller",
            )
            .arg("--leader-elect=false")
            .arg("--kube-api-qps=200")
            .arg("--kube-api-burst=400")
            .arg("--namespace-sync-period=30s"),
        )
    }

    async fn api_server_ready(&mut self) -> Result<()> {
        self.etcd.check()?;
        let client = self.client().await?;
        self.api_server
            .ready("kube-apiserver ready", START_WITHIN, || {
                let client = client.clone();
                async move {
                    let request = http::Request::get("/readyz")
                        .body(Vec::new())
                        .map_err(|e| e.to_string())?;
                    client
                        .request_text(request)
                        .await
                        .map(|_| ())
                        .map_err(|e| e.to_string())
                }
            })
            .await
    }

    /// `https://address:port`
    pub fn url(&self) -> String {
        format!("https://{}:{API_PORT}", self.address.ip())
    }

    /// The cluster's authority; it signs serving and client certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Logs and data, gone when this value is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The outermost pid of each part.
    pub fn pids(&self) -> Vec<u32> {
        [
            Some(&self.etcd),
            Some(&self.api_server),
            self.controller_manager.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(Process::pid)
        .collect()
    }

    /// A kubeconfig of an administrator (`system:masters`).
    pub fn kubeconfig(&self) -> Result<Kubeconfig> {
        self.kubeconfig_for("admin", &["system:masters"])
    }

    /// A kubeconfig with a fresh client certificate for a user and groups.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<Kubeconfig> {
        let yaml = self.pki_kubeconfig(user, groups)?.to_yaml();
        Kubeconfig::from_yaml(&yaml).map_err(|source| Error::Client {
            server: self.url(),
            source: source.into(),
        })
    }

    /// A client of an administrator, living in the calling runtime.
    pub async fn client(&self) -> Result<kube::Client> {
        client(self.kubeconfig()?, &self.url()).await
    }

    /// A client of a user and groups, living in the calling runtime.
    pub async fn client_for(&self, user: &str, groups: &[&str]) -> Result<kube::Client> {
        client(self.kubeconfig_for(user, groups)?, &self.url()).await
    }

    fn pki_kubeconfig(&self, user: &str, groups: &[&str]) -> Result<pki::Kubeconfig> {
        Ok(pki::Kubeconfig {
            cluster: "testbed".to_owned(),
            server: self.url(),
            ca_pem: self.authority.cert_pem().to_owned(),
            user: user.to_owned(),
            client: issue(
                &self.authority,
                user,
                &LeafRequest::client(user, groups, Timestamp::now()),
            )?,
            namespace: None,
            tls_server_name: None,
        })
    }

    /// Ends the API server and starts it again over the same data, as an upgrade or a crash would.
    pub async fn restart_api_server(&mut self) -> Result<()> {
        self.api_server.stop(STOP_WITHIN);
        self.api_server.restart()?;
        self.api_server_ready().await
    }
}

async fn client(kubeconfig: Kubeconfig, url: &str) -> Result<kube::Client> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Client {
        server: url.to_owned(),
        source,
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|e| failed(e.into()))?;
    kube::Client::try_from(config).map_err(|e| failed(e.into()))
}

fn api_server_flags(directory: &Path, ip: Ipv4Addr) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("--bind-address={ip}"),
        format!("--advertise-address={ip}"),
        format!("--secure-port={API_PORT}"),
        // A loopback address may not be an endpoint of the `kubernetes` Service.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--etcd-servers=http://{ip}:{ETCD_PORT}"),
        format!("--cert-dir={}", directory.display()),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-bootstrap-token-auth".to_owned(),
        "--enable-aggregator-routing=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        "--allow-privileged".to_owned(),
        "--profiling=false".to_owned(),
        // Tests run hundreds at once as one user; fairness among them is not what they test.
        "--enable-priority-and-fairness=false".to_owned(),
        "--max-requests-inflight=2000".to_owned(),
        "--max-mutating-requests-inflight=1000".to_owned(),
        // Nothing is drained: whoever stops it wants it stopped.
        "--shutdown-delay-duration=0s".to_owned(),
    ]
}

fn write_pki(directory: &Path, ip: Ipv4Addr) -> Result<Authority> {
    let now = Timestamp::now();
    let authority = new_authority("kubernetes", now)?;
    let front_proxy = new_authority("front-proxy-ca", now)?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let sans = names
        .into_iter()
        .map(|name| San::Dns(name.to_owned()))
        .chain([ip, Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 96, 0, 1)].map(|ip| San::Ip(IpAddr::V4(ip))))
        .collect();
    let server = issue(
        &authority,
        "kube-apiserver",
        &LeafRequest::server("kube-apiserver", sans, now),
    )?;
    let proxy = issue(
        &front_proxy,
        "front-proxy-client",
        &LeafRequest::client("front-proxy-client", &[], now),
    )?;
    let tokens = pki::service_account_key_pair().map_err(|e| certificate("service accounts", e))?;
    for (name, content) in [
        ("ca.crt", authority.cert_pem()),
        ("ca.key", authority.key_pem()),
        ("front-proxy-ca.crt", front_proxy.cert_pem()),
        ("apiserver.crt", &server.cert_pem),
        ("apiserver.key", &server.key_pem),
        ("front-proxy-client.crt", &proxy.cert_pem),
        ("front-proxy-client.key", &proxy.key_pem),
        ("sa.pub", &tokens.public_pem),
        ("sa.key", &tokens.private_pem),
    ] {
        write_secret(&directory.join(name), content)?;
    }
    Ok(authority)
}

pub(crate) fn new_authority(name: &str, now: Timestamp) -> Result<Authority> {
    Authority::new(name, &[], pki::AUTHORITY_VALIDITY, now).map_err(|e| certificate(name, e))
}

pub(crate) fn issue(authority: &Authority, subject: &str, request: &LeafRequest) -> Result<KeyPair> {
    authority.issue(request).map_err(|e| certificate(subject, e))
}

fn certificate(subject: &str, source: pki::Error) -> Error {
    Error::Certificate {
        subject: subject.to_owned(),
        source: source.into(),
    }
}

pub(crate) fn write_secret(path: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(Error::file("write", path))
}
