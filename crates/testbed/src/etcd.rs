//! An etcd as a DataStore names it: TLS, client certificates required, authentication on, a root user.

use std::time::Duration;

use jiff::Timestamp;
use local::control_plane::LoopbackAddress;
use local::guard::GuardedDirectory;
use local::process::{Process, Spec};
use local::programs::Programs;
use pki::{Authority, KeyPair, LeafRequest, San, Usage};

use crate::api_server::explained;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
const START_WITHIN: Duration = Duration::from_secs(30);

/// A one-member etcd of the caller's own. Ends with this value, or with this process however it ends.
///
/// Its user of a client certificate is the certificate's common name, as with every etcd that a DataStore may name.
#[derive(Debug)]
pub struct EtcdFixture {
    /// `host:port`, as in a DataStore's `spec.endpoints`.
    pub endpoint: String,
    /// The authority that signs the server's certificate and that client certificates must come from.
    pub ca_cert_pem: String,
    pub ca_key_pem: String,
    /// The client certificate of the user `root`, who has the role `root`.
    pub root_cert_pem: String,
    pub root_key_pem: String,
    process: tokio::sync::Mutex<Process>,
    programs: Programs,
    authority: Authority,
    _address: LoopbackAddress,
    directory: GuardedDirectory,
}

impl EtcdFixture {
    /// Starts it and returns once authentication is on.
    pub async fn start() -> Self {
        let now = Timestamp::now();
        Self::under(Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, now).unwrap()).await
    }

    /// Another one whose certificates come from the same authority.
    pub async fn start_beside(&self) -> Self {
        Self::under(Authority::from_pem(&self.ca_cert_pem, &self.ca_key_pem).unwrap()).await
    }

    async fn under(authority: Authority) -> Self {
        let programs = explained(local::programs::locate());
        let directory = explained(GuardedDirectory::create(&std::env::temp_dir(), "cotenant-etcd-"));
        let address = explained(LoopbackAddress::claim());
        let ip = address.ip();
        let now = Timestamp::now();
        let sans = vec![San::Ip(ip.into()), San::Dns("localhost".to_owned())];
        // The server is also a client, of itself, through its gRPC gateway.
        let request = LeafRequest {
            usages: vec![Usage::Server, Usage::Client],
            ..LeafRequest::server("etcd", sans, now)
        };
        let server = authority.issue(&request).unwrap();
        let root = authority.issue(&LeafRequest::client("root", &[], now)).unwrap();
        let file = |name: &str| directory.path().join(name);
        for (name, content) in [
            ("ca.crt", authority.cert_pem()),
            ("server.crt", &server.cert_pem),
            ("server.key", &server.key_pem),
            ("root.crt", &root.cert_pem),
            ("root.key", &root.key_pem),
        ] {
            std::fs::write(file(name), content).unwrap();
        }
        let client_url = format!("https://{ip}:{CLIENT_PORT}");
        let peer_url = format!("http://{ip}:{PEER_PORT}");
        let process = explained(Process::start(
            Spec::new("etcd", programs.path("etcd"), file("etcd.log"))
                .arg(format!("--data-dir={}", file("data").display()))
                .arg(format!("--listen-client-urls={client_url}"))
                .arg(format!("--advertise-client-urls={client_url}"))
                .arg(format!("--listen-peer-urls={peer_url}"))
                .arg(format!("--initial-advertise-peer-urls={peer_url}"))
                .arg(format!("--initial-cluster=default={peer_url}"))
                .arg(format!("--trusted-ca-file={}", file("ca.crt").display()))
                .arg(format!("--cert-file={}", file("server.crt").display()))
                .arg(format!("--key-file={}", file("server.key").display()))
                .arg("--client-cert-auth")
                // The machine's page cache outlives the process, and nothing here outlives the machine.
                .arg("--unsafe-no-fsync")
                .arg("--log-level=warn"),
        ));
        let this = Self {
            endpoint: format!("{ip}:{CLIENT_PORT}"),
            ca_cert_pem: authority.cert_pem().to_owned(),
            ca_key_pem: authority.key_pem().to_owned(),
            root_cert_pem: root.cert_pem,
            root_key_pem: root.key_pem,
            process: tokio::sync::Mutex::new(process),
            programs,
            authority,
            _address: address,
            directory,
        };
        this.ready().await;
        for command in [
            &["user", "add", "root", "--no-password"][..],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ] {
            this.etcdctl(command).await.unwrap();
        }
        this
    }

    /// `https://host:port`
    pub fn url(&self) -> String {
        format!("https://{}", self.endpoint)
    }

    /// A client certificate for a user of this etcd. The user itself is not made.
    pub fn client_certificate(&self, user: &str) -> KeyPair {
        self.authority
            .issue(&LeafRequest::client(user, &[], Timestamp::now()))
            .unwrap()
    }

    /// Runs etcdctl as root; its output, or what it complained about.
    pub async fn etcdctl(&self, args: &[&str]) -> Result<String, String> {
        let file = |name: &str| self.directory.path().join(name);
        let output = tokio::process::Command::new(self.programs.path("etcdctl"))
            .arg(format!("--endpoints={}", self.url()))
            // Not etcdctl's own five seconds, which a busy machine may take.
            .args(["--dial-timeout=30s", "--command-timeout=60s"])
            .arg(format!("--cacert={}", file("ca.crt").display()))
            .arg(format!("--cert={}", file("root.crt").display()))
            .arg(format!("--key={}", file("root.key").display()))
            .args(args)
            .output()
            .await
            .map_err(|error| format!("failed to run etcdctl: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!(
                "etcdctl {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            ))
        }
    }

    /// Holds it where it is (`true`), as a store that hangs, or lets it go on.
    pub async fn freeze(&self, frozen: bool) {
        self.process.lock().await.signal(if frozen { "STOP" } else { "CONT" });
    }

    /// Ends it, as a store that is down. The data stays.
    pub async fn stop(&self) {
        let mut process = self.process.lock().await;
        process.stop(Duration::from_secs(5));
    }

    /// Starts it again over its data.
    pub async fn restart(&self) {
        explained(self.process.lock().await.restart());
        self.ready().await;
    }

    async fn ready(&self) {
        let ready = async || {
            let health = ["endpoint", "health", "--dial-timeout=2s", "--command-timeout=5s"];
            self.etcdctl(&health).await.map(|_| ())
        };
        explained(self.process.lock().await.ready("etcd ready", START_WITHIN, ready).await);
    }
}
