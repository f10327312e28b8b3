//! A NATS server as a DataStore names it: TLS, a user with a password, JetStream on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use local::control_plane::LoopbackAddress;
use local::guard::GuardedDirectory;
use local::process::{Process, Spec};
use pki::{Authority, KeyPair, LeafRequest, San};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::api_server::explained;

const PORT: u16 = 4222;
const START_WITHIN: Duration = Duration::from_secs(60);

/// A NATS server of the caller's own. Ends with this value, or with this process however it ends.
#[derive(Debug)]
pub struct NatsFixture {
    /// `host:port`, as in a DataStore's `spec.endpoints`.
    pub endpoint: String,
    /// The only user and its password.
    pub user: String,
    pub password: String,
    /// The authority that signs the server's certificate and that client certificates must come from.
    pub ca_cert_pem: String,
    /// A client certificate, without which nobody gets in.
    pub client: KeyPair,
    process: tokio::sync::Mutex<Process>,
    address: SocketAddr,
    _loopback: Option<LoopbackAddress>,
    directory: GuardedDirectory,
}

impl NatsFixture {
    /// Starts it on an address of its own and returns once it takes clients.
    pub async fn start() -> Self {
        let loopback = explained(LoopbackAddress::claim());
        Self::serve(loopback.ip(), Some(loopback)).await
    }

    /// The same on an address of this machine that pods can reach.
    pub async fn start_on(ip: Ipv4Addr) -> Self {
        Self::serve(ip, None).await
    }

    async fn serve(ip: Ipv4Addr, loopback: Option<LoopbackAddress>) -> Self {
        let programs = explained(local::programs::locate());
        let directory = explained(GuardedDirectory::create(&std::env::temp_dir(), "cotenant-nats-"));
        let now = Timestamp::now();
        let authority = Authority::new("nats-ca", &[], pki::AUTHORITY_VALIDITY, now).unwrap();
        let sans = vec![San::Ip(ip.into()), San::Dns("localhost".to_owned())];
        let server = authority.issue(&LeafRequest::server("nats", sans, now)).unwrap();
        let client = authority.issue(&LeafRequest::client("kine", &[], now)).unwrap();
        let file = |name: &str| directory.path().join(name);
        let (user, password) = ("admin".to_owned(), "a-secret~of_ours".to_owned());
        let configuration = format!(
            r#"listen: "{ip}:{PORT}"
jetstream {{ store_dir: "{data}" }}
authorization {{ user: "{user}", password: "{password}" }}
tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{ca}", verify: true, timeout: 60 }}
"#,
            data = file("data").display(),
            cert = file("server.crt").display(),
            key = file("server.key").display(),
            ca = file("ca.crt").display(),
        );
        for (name, content) in [
            ("ca.crt", authority.cert_pem()),
            ("server.crt", &server.cert_pem),
            ("server.key", &server.key_pem),
            ("nats.conf", &configuration),
        ] {
            std::fs::write(file(name), content).unwrap();
        }
        let process = explained(Process::start(
            Spec::new("nats-server", programs.path("nats-server"), file("nats.log"))
                .arg("--config")
                .arg(file("nats.conf")),
        ));
        let this = Self {
            endpoint: format!("{ip}:{PORT}"),
            user,
            password,
            ca_cert_pem: authority.cert_pem().to_owned(),
            client,
            process: tokio::sync::Mutex::new(process),
            address: (ip, PORT).into(),
            _loopback: loopback,
            directory,
        };
        this.ready().await;
        this
    }

    /// Ends it, as a store that is down. The data stays.
    pub async fn stop(&self) {
        self.process.lock().await.stop(Duration::from_secs(5));
    }

    /// Starts it again over its data.
    pub async fn restart(&self) {
        explained(self.process.lock().await.restart());
        self.ready().await;
    }

    /// Starts it again with another password of its user.
    pub async fn change_password(&mut self, password: &str) {
        let file = self.directory.path().join("nats.conf");
        let configuration = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, configuration.replace(&self.password, password)).unwrap();
        password.clone_into(&mut self.password);
        self.stop().await;
        self.restart().await;
    }

    /// The server greets in the clear, and not before it is ready.
    async fn ready(&self) {
        let greets = async || {
            let stream = TcpStream::connect(self.address)
                .await
                .map_err(|error| error.to_string())?;
            let mut line = String::new();
            BufReader::new(stream)
                .read_line(&mut line)
                .await
                .map_err(|error| error.to_string())?;
            if line.starts_with("INFO ") {
                Ok(())
            } else {
                Err(format!("it says {line:?}"))
            }
        };
        explained(
            self.process
                .lock()
                .await
                .ready("NATS ready", START_WITHIN, greets)
                .await,
        );
    }
}
