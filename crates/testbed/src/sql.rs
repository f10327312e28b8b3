//! PostgreSQL and MariaDB as DataStores name them: TLS, a client certificate and a password required.
//!
//! Both come from Debian's packages and refuse to run as root, so they run as nobody.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use local::control_plane::LoopbackAddress;
use local::guard::GuardedDirectory;
use local::process::{Process, Spec};
use pki::{Authority, KeyPair, LeafRequest, San};

use crate::api_server::explained;

const START_WITHIN: Duration = Duration::from_mins(2);

/// Whom the servers run as, if we are root.
const NOBODY: u32 = 65534;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Postgres,
    MariaDb,
}

/// A server of the caller's own. Ends with this value, or with this process however it ends.
#[derive(Debug)]
pub struct SqlServer {
    /// `host:port`, as in a DataStore's `spec.endpoints`.
    pub endpoint: String,
    /// The authority of the server's certificate, and of those that clients show.
    pub ca_cert_pem: String,
    pub ca_key_pem: String,
    /// A certificate that the server accepts from whoever has it.
    pub client: KeyPair,
    /// The administrator.
    pub user: String,
    pub password: String,
    kind: Kind,
    process: tokio::sync::Mutex<Process>,
    _loopback: Option<LoopbackAddress>,
    directory: GuardedDirectory,
}

impl SqlServer {
    /// Starts a PostgreSQL.
    pub async fn postgres() -> Self {
        Self::start(Kind::Postgres).await
    }

    /// The same on an address of this machine that pods can reach.
    pub async fn postgres_on(ip: Ipv4Addr) -> Self {
        Self::serve(Kind::Postgres, ip, None).await
    }

    /// The same for MariaDB.
    pub async fn mariadb_on(ip: Ipv4Addr) -> Self {
        Self::serve(Kind::MariaDb, ip, None).await
    }

    /// Starts a MariaDB.
    pub async fn mariadb() -> Self {
        Self::start(Kind::MariaDb).await
    }

    /// The driver of a DataStore that names it.
    pub fn driver(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "PostgreSQL",
            Kind::MariaDb => "MySQL",
        }
    }

    async fn start(kind: Kind) -> Self {
        let loopback = explained(LoopbackAddress::claim());
        Self::serve(kind, loopback.ip(), Some(loopback)).await
    }

    async fn serve(kind: Kind, ip: Ipv4Addr, loopback: Option<LoopbackAddress>) -> Self {
        let directory = explained(GuardedDirectory::create(&std::env::temp_dir(), "cotenant-sql-"));
        let now = Timestamp::now();
        let authority = Authority::new("sql-ca", &[], pki::AUTHORITY_VALIDITY, now).unwrap();
        let sans = vec![San::Ip(ip.into())];
        let server = authority.issue(&LeafRequest::server("sql", sans, now)).unwrap();
        let client = authority.issue(&LeafRequest::client("kine", &[], now)).unwrap();
        let file = |name: &str| directory.path().join(name);
        let data = file("data");
        std::fs::create_dir(&data).unwrap();
        for (name, content) in [
            ("ca.crt", authority.cert_pem()),
            ("server.crt", &server.cert_pem),
            ("client.crt", &client.cert_pem),
        ] {
            std::fs::write(file(name), content).unwrap();
        }
        write_secret(&file("client.key"), &client.key_pem);
        // Nobody's: the server takes no key that others could read.
        write_secret(&file("server.key"), &server.key_pem);
        for path in [&data, &file("server.key")] {
            hand_over(path);
        }
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), passable).unwrap();
        let password = "an 'administrator''s' \\ password";
        let (user, port, spec) = match kind {
            Kind::Postgres => {
                let spec = postgres(directory.path(), &ip.to_string(), password).await;
                ("postgres", 5432, spec)
            }
            Kind::MariaDb => {
                let spec = mariadb(directory.path(), &ip.to_string(), password).await;
                ("root", 3306, spec)
            }
        };
        let this = Self {
            endpoint: format!("{ip}:{port}"),
            ca_cert_pem: authority.cert_pem().to_owned(),
            ca_key_pem: authority.key_pem().to_owned(),
            client,
            user: user.to_owned(),
            password: password.to_owned(),
            kind,
            process: tokio::sync::Mutex::new(explained(Process::start(spec))),
            _loopback: loopback,
            directory,
        };
        this.ready().await;
        this
    }

    /// Runs a statement as administrator with the server's own client; a line per row, columns apart by tabs.
    pub async fn run(&self, statement: &str) -> Result<String, String> {
        self.run_as(&self.user, &self.password, self.maintenance(), statement)
            .await
    }

    /// The same as somebody, in a database.
    pub async fn run_as(&self, user: &str, password: &str, database: &str, statement: &str) -> Result<String, String> {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let (host, port) = self.endpoint.rsplit_once(':').unwrap();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = tokio::process::Command::new(program("psql", "postgresql-client"));
                command.args([
                    "--no-psqlrc",
                    "--no-password",
                    "--tuples-only",
                    "--no-align",
                    "--field-separator=\t",
                    "--command",
                    statement,
                ]);
                command.envs([
                    ("PGHOST", host),
                    ("PGPORT", port),
                    ("PGUSER", user),
                    ("PGPASSWORD", password),
                    ("PGDATABASE", database),
                    ("PGSSLMODE", "verify-full"),
                    ("PGCONNECT_TIMEOUT", "10"),
                ]);
                command.env("PGSSLROOTCERT", file("ca.crt"));
                command.env("PGSSLCERT", file("client.crt"));
                command.env("PGSSLKEY", file("client.key"));
                command
            }
            Kind::MariaDb => {
                let mut command = tokio::process::Command::new(program("mariadb", "mariadb-client-core"));
                command.args([
                    "--no-defaults",
                    "--batch",
                    "--raw",
                    "--skip-column-names",
                    "--ssl-verify-server-cert",
                ]);
                command.args([
                    format!("--host={host}"),
                    format!("--port={port}"),
                    format!("--user={user}"),
                ]);
                command.args([
                    format!("--ssl-ca={}", file("ca.crt")),
                    format!("--ssl-cert={}", file("client.crt")),
                ]);
                command.args([
                    format!("--ssl-key={}", file("client.key")),
                    format!("--execute={statement}"),
                ]);
                command.arg(format!("--database={database}"));
                command.env("MYSQL_PWD", password);
                command
            }
        };
        let output = command.output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Holds it where it is (`true`), as a server that hangs, or lets it go on.
    pub async fn freeze(&self, frozen: bool) {
        self.process.lock().await.signal(if frozen { "STOP" } else { "CONT" });
    }

    /// Ends it, as a server that is down. The data stays.
    pub async fn stop(&self) {
        let mut process = self.process.lock().await;
        if self.kind == Kind::Postgres {
            // At once, and not when the last client has gone.
            process.signal("INT");
        }
        process.stop(Duration::from_secs(20));
    }

    /// Starts it again over its data.
    pub async fn restart(&self) {
        explained(self.process.lock().await.restart());
        self.ready().await;
    }

    fn maintenance(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mysql",
        }
    }

    async fn ready(&self) {
        let ready = async || self.run("SELECT 1").await.map(|_| ());
        explained(
            self.process
                .lock()
                .await
                .ready("the database server", START_WITHIN, ready)
                .await,
        );
    }
}

async fn postgres(directory: &Path, ip: &str, password: &str) -> Spec {
    let file = |name: &str| directory.join(name).display().to_string();
    let binaries = postgres_binaries();
    write_secret(&directory.join("password"), password);
    hand_over(&directory.join("password"));
    let initdb = unprivileged("initdb", &binaries.join("initdb"), directory)
        .arg(format!("--pgdata={}", file("data")))
        .arg("--username=postgres")
        .arg(format!("--pwfile={}", file("password")))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    finish(initdb).await;
    let rules = "hostssl all all all scram-sha-256 clientcert=verify-ca\n";
    std::fs::write(directory.join("data/pg_hba.conf"), rules).unwrap();
    let setting = |name: &str, value: &str| ["-c".to_owned(), format!("{name}={value}")];
    unprivileged("postgres", &binaries.join("postgres"), directory)
        .args(["-D".to_owned(), file("data")])
        .args(setting("listen_addresses", ip))
        .args(setting("unix_socket_directories", ""))
        .args(setting("ssl", "on"))
        .args(setting("ssl_ca_file", &file("ca.crt")))
        .args(setting("ssl_cert_file", &file("server.crt")))
        .args(setting("ssl_key_file", &file("server.key")))
        // The machine's page cache outlives the process, and nothing here outlives the machine.
        .args(setting("fsync", "off"))
        .args(setting("shared_buffers", "16MB"))
}

async fn mariadb(directory: &Path, ip: &str, password: &str) -> Spec {
    let file = |name: &str| directory.join(name).display().to_string();
    // Temporary tables are named after the process's number, which is the same in every guard: in /tmp they would meet.
    let temporary = directory.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    hand_over(&temporary);
    let temporary = format!("--tmpdir={}", temporary.display());
    let install = unprivileged(
        "mariadb-install-db",
        &program("mariadb-install-db", "mariadb-server-core"),
        directory,
    )
    .arg("--no-defaults")
    .arg(format!("--datadir={}", file("data")))
    .arg(temporary.clone())
    .args([
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]);
    finish(install).await;
    let password = password.replace('\\', "\\\\").replace('\'', "\\'");
    let accounts = format!(
        "DROP USER IF EXISTS ''@'localhost', root@'127.0.0.1', root@'::1';\n\
         CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '{password}' REQUIRE X509;\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
    );
    std::fs::write(directory.join("accounts.sql"), accounts).unwrap();
    unprivileged("mariadbd", &program("mariadbd", "mariadb-server-core"), directory)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", file("data")))
        .arg(temporary)
        .arg(format!("--socket={}", file("data/socket")))
        .arg(format!("--pid-file={}", file("data/pid")))
        .arg(format!("--bind-address={ip}"))
        .arg(format!("--init-file={}", file("accounts.sql")))
        .arg(format!("--ssl-ca={}", file("ca.crt")))
        .arg(format!("--ssl-cert={}", file("server.crt")))
        .arg(format!("--ssl-key={}", file("server.key")))
        .args(["--port=3306", "--require-secure-transport=ON", "--skip-name-resolve"])
        .args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            "--skip-log-bin",
        ])
}

/// What is to be run as nobody, if we are root.
fn unprivileged(name: &str, program: &Path, directory: &Path) -> Spec {
    let log = directory.join(format!("{name}.log"));
    let data = directory.join("data");
    if !is_root() {
        return Spec::new(name, program, log).directory(data);
    }
    Spec::new(name, self::program("setpriv", "util-linux"), log)
        .directory(data)
        .args([
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".to_owned(),
        ])
        .arg("--")
        .arg(program)
}

async fn finish(spec: Spec) {
    let process = explained(Process::start(spec));
    let ended = tokio::task::spawn_blocking(move || process.success()).await;
    explained(ended.unwrap());
}

fn hand_over(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

fn write_secret(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).unwrap();
}

/// Debian keeps PostgreSQL's programs by version.
fn postgres_binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let directories = versions.map(|version| version.path().join("bin"));
    let newest = directories
        .filter(|directory| directory.join("postgres").is_file())
        .max();
    newest.unwrap_or_else(|| missing("postgres", "postgresql"))
}

fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| missing(name, package))
}

#[allow(
    clippy::panic,
    reason = "a test bed that cannot start is a failed test, and says why"
)]
fn missing(name: &str, package: &str) -> PathBuf {
    panic!("{name} is not on this machine; apt-get install --no-install-recommends {package}")
}
