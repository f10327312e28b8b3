//! The cluster that benchmarks run on: `cotenant up` with the release build and without the example's tenants.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use api::kamaji::{names, v1alpha1::DataStore};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

/// Its name, which its cgroups carry.
pub(crate) const CLUSTER: &str = "bench";

pub(crate) struct Bed {
    cotenant: PathBuf,
    state: PathBuf,
    pub(crate) admin: Client,
    config: Config,
    pub(crate) commit: String,
    pub(crate) machine: Value,
    pub(crate) kubernetes: String,
}

impl Bed {
    pub(crate) async fn start(repository: &Path, program: Option<&Path>) -> anyhow::Result<Self> {
        let cotenant = program.map_or_else(|| repository.join("target/release/cotenant"), Path::to_owned);
        ensure!(
            cotenant.exists(),
            "{} is not there: run `make bench`, or build it with --release first",
            cotenant.display()
        );
        let state = std::env::temp_dir().join("cotenant-bench");
        let status = Command::new(&cotenant)
            .args(["up", "--without-example", "--cluster", CLUSTER, "--state"])
            .arg(&state)
            .stdout(std::io::stderr())
            .status()?;
        ensure!(status.success(), "the cluster for benchmarks did not start");
        let kubeconfig = Kubeconfig::read_from(state.join(CLUSTER).join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = None;
        let admin = Client::try_from(config.clone())?;
        let kubernetes = admin.apiserver_version().await?.git_version;
        store_answers(&admin).await?;
        Ok(Self {
            cotenant,
            state,
            admin,
            config,
            commit: commit(repository)?,
            machine: machine()?,
            kubernetes,
        })
    }

    /// A client that acts as `user` of `group`.
    pub(crate) fn as_user(&self, user: &str, group: &str) -> anyhow::Result<Client> {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(vec![group.to_owned(), "system:authenticated".to_owned()]);
        Ok(Client::try_from(config)?)
    }

    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        let status = Command::new(&self.cotenant)
            .args(["down", "--cluster", CLUSTER, "--state"])
            .arg(&self.state)
            .stdout(std::io::stderr())
            .status()?;
        ensure!(status.success(), "the cluster for benchmarks was not removed");
        Ok(())
    }
}

/// Waits for the bundled store, whose authentication is switched on moments after its pod is ready.
async fn store_answers(admin: &Client) -> anyhow::Result<()> {
    let stores: Api<DataStore> = Api::all(admin.clone());
    for _ in 0..600 {
        let store = stores.get("default").await?;
        let conditions = store.status.into_iter().flat_map(|status| status.conditions);
        if conditions
            .into_iter()
            .any(|known| known.type_ == names::DATASTORE_REACHABLE_CONDITION && known.status == "True")
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the DataStore default does not answer")
}

pub(super) fn commit(repository: &Path) -> anyhow::Result<String> {
    let git = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("git").args(arguments).current_dir(repository).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let dirty = if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        ""
    } else {
        "-dirty"
    };
    Ok(format!("{}{dirty}", git(&["rev-parse", "--short=12", "HEAD"])?))
}

pub(super) fn machine() -> anyhow::Result<Value> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .context("cpuinfo names the model")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1))
        .context("meminfo names the total")?
        .parse()?;
    Ok(json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "memory_gib": kib / (1 << 20),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
    }))
}
