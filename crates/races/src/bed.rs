//! An API server, and two operators behind one address, as processes of this machine. No node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use local::control_plane::{ControlPlane, Options};
use local::ports;
use local::process::{Process, Spec};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::balancer::Balancer;

/// Where the operators are said to run.
const NAMESPACE: &str = "cotenant-system";
const LEASE: &str = "cotenant";
const OPERATOR: &str = "system:serviceaccount:cotenant-system:cotenant";
/// Whose users are tenants' users.
const TENANTS: &str = "projectcapsule.dev";
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Short, so that a short race sees another leader.
const ELECTION: [&str; 3] = [
    "--leader-election-lease-duration=4s",
    "--leader-election-renew-deadline=3s",
    "--leader-election-retry-period=500ms",
];

/// The processes. They end with this value, or with the process that holds it, however that ends.
pub struct Bed {
    replicas: Vec<Replica>,
    balancer: Balancer,
    executable: PathBuf,
    kubeconfig: PathBuf,
    pub(crate) admin: Client,
    pub(crate) control_plane: ControlPlane,
}

/// One operator.
struct Replica {
    name: String,
    webhooks: SocketAddr,
    process: Process,
}

/// Which operator is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Victim {
    Leader,
    Follower,
}

impl Bed {
    /// Starts all of it. `executable` is the program `cotenant`.
    ///
    /// # Errors
    /// If a program is missing or does not get ready.
    pub async fn start(executable: &Path) -> anyhow::Result<Self> {
        let programs = local::programs::locate()?;
        let control_plane = ControlPlane::start(&programs, Options::default()).await?;
        let admin = control_plane.client().await?;
        let kubeconfig = control_plane.directory().join("operator.conf");
        let of_operator = control_plane.kubeconfig_for(OPERATOR, &["system:masters"])?;
        std::fs::write(&kubeconfig, serde_norway::to_string(&of_operator)?)?;
        let mut this = Self {
            replicas: Vec::new(),
            balancer: Balancer::start(Ipv4Addr::LOCALHOST).await?,
            executable: executable.to_owned(),
            kubeconfig,
            admin,
            control_plane,
        };
        this.install().await?;
        for name in ["replica-0", "replica-1"] {
            let replica = this.start_replica(name).await?;
            this.replicas.push(replica);
        }
        this.balance();
        Ok(this)
    }

    /// What a release consists of besides its pods. Tenants' users may do everything as far as RBAC is concerned: what is
    /// refused is refused by admission.
    async fn install(&self) -> anyhow::Result<()> {
        let log = self.control_plane.directory().join("crds.log");
        let crds = Spec::new("cotenant crds", &self.executable, log)
            .args(["crds", "--group=capsule.clastix.io", "--kubeconfig"])
            .arg(&self.kubeconfig);
        tokio::task::spawn_blocking(move || Process::start(crds)?.success()).await??;
        self.apply("v1", "Namespace", "namespaces", NAMESPACE, json!({}))
            .await?;
        let rights = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": TENANTS}]});
        let group = "rbac.authorization.k8s.io/v1";
        self.apply(
            group,
            "ClusterRoleBinding",
            "clusterrolebindings",
            "racing-tenants",
            rights,
        )
        .await?;
        let spec = json!({"users": [{"kind": "Group", "name": TENANTS}], "enableTLSReconciler": true});
        let group = "capsule.clastix.io/v1beta2";
        let kind = "CapsuleConfiguration";
        self.apply(group, kind, "capsuleconfigurations", "default", json!({"spec": spec}))
            .await
    }

    async fn apply(&self, group: &str, kind: &str, plural: &str, name: &str, content: Value) -> anyhow::Result<()> {
        let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}});
        if let (Value::Object(object), Value::Object(content)) = (&mut object, content) {
            object.extend(content);
        }
        let api: Api<DynamicObject> = Api::all_with(self.admin.clone(), &resource(group, kind, plural));
        let params = PatchParams::apply("races").force();
        // A kind that was defined a moment ago may not be served yet.
        eventually(&format!("{kind} {name}"), READY_WITHIN, async || {
            api.patch(name, &params, &Patch::Apply(&object)).await?;
            Ok(())
        })
        .await
    }

    async fn start_replica(&self, name: &str) -> anyhow::Result<Replica> {
        let port = || ports::free(ports::UNCLAIMED);
        let (webhooks, metrics, health) = (port()?, port()?, port()?);
        let health = SocketAddr::from((Ipv4Addr::LOCALHOST, health));
        let log = self.control_plane.directory().join(format!("{name}.log"));
        let spec = Spec::new(name, &self.executable, log)
            .args(["operator", "--components=namespace-tenants", "--log-filter=info"])
            .args(ELECTION)
            .arg(format!("--pod-name={name}"))
            .arg(format!("--pod-namespace={NAMESPACE}"))
            .arg(format!("--webhook-url={}", self.balancer.url()))
            .arg(format!("--webhook-port={webhooks}"))
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .arg(format!("--health-probe-bind-address={health}"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        let mut process = Process::start(spec)?;
        process
            .ready(name, READY_WITHIN, || async move {
                is_ready(health).await.map_err(|error| format!("{error:#}"))
            })
            .await?;
        Ok(Replica {
            name: name.to_owned(),
            webhooks: SocketAddr::from((Ipv4Addr::LOCALHOST, webhooks)),
            process,
        })
    }

    fn balance(&self) {
        self.balancer
            .send_to(self.replicas.iter().map(|replica| replica.webhooks).collect());
    }

    /// Kills an operator without a word. Its name comes back. Nobody but those who try to connect learns of it.
    pub(crate) async fn kill(&mut self, victim: Victim) -> anyhow::Result<String> {
        let lease: Lease = Api::namespaced(self.admin.clone(), NAMESPACE)
            .get(LEASE)
            .await
            .context("failed to read who leads")?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let replica = self
            .replicas
            .iter_mut()
            .find(|replica| holder.starts_with(&replica.name) == matches!(victim, Victim::Leader))
            .ok_or_else(|| anyhow!("nobody of ours is the {victim:?}; the Lease is held by {holder:?}"))?;
        replica.process.signal("KILL");
        let name = replica.name.clone();
        while replica.process.check().is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(name)
    }

    /// Starts again what ended, as a kubelet does, and returns when it is ready. How many there were.
    pub(crate) async fn mend(&mut self) -> anyhow::Result<u32> {
        let mut mended = 0;
        for index in 0..self.replicas.len() {
            if self.replicas[index].process.check().is_err() {
                let name = self.replicas[index].name.clone();
                self.replicas[index] = self.start_replica(&name).await?;
                self.balance();
                mended += 1;
            }
        }
        Ok(mended)
    }

    /// A client of a tenant's user.
    pub(crate) async fn client_of(&self, user: &str) -> anyhow::Result<Client> {
        Ok(self.control_plane.client_for(user, &[TENANTS]).await?)
    }
}

async fn is_ready(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// A kind by its names.
pub(crate) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Tries until it succeeds.
///
/// # Errors
/// The last one, after `within`.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let begun = std::time::Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > within => return Err(error.context(format!("{what}: not in {within:?}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
