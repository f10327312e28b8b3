//! Keeps the table in step with the cluster: three watches, one `nft` per change.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::rules::{self, Snapshot};

/// Changes that arrive together are applied together.
const SETTLE: Duration = Duration::from_millis(30);
/// After a refused script: the next change or this, whichever is first.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read kubeconfig {path}")]
    Kubeconfig {
        path: String,
        source: kube::config::KubeconfigError,
    },
    #[error("failed to build a client")]
    Client(#[source] kube::Error),
    #[error("failed to install a signal handler")]
    Signal(#[source] std::io::Error),
    #[error("failed to run nft")]
    Run(#[source] std::io::Error),
    #[error("failed to apply the policy table: {0}")]
    Refused(String),
    #[error("a watch ended before its first list")]
    WatchEnded,
}

/// Enforces the policies of the cluster behind `kubeconfig` in the current network namespace until SIGTERM or SIGINT,
/// then removes its table. An API server that is away leaves the rules as they are.
pub async fn run(kubeconfig: &Path) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let client = connect(kubeconfig).await?;
    let outcome = tokio::select! {
        result = enforce(client) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    nft(&rules::remove()).await?;
    outcome
}

async fn connect(path: &Path) -> Result<Client, Error> {
    let failed = |source| Error::Kubeconfig {
        path: path.display().to_string(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(failed)?;
    Client::try_from(config).map_err(Error::Client)
}

async fn enforce(client: Client) -> Result<(), Error> {
    let changed = Arc::new(Notify::new());
    let (namespaces, namespace_watch) = follow::<Namespace>(&client, &changed);
    let (pods, pod_watch) = follow::<Pod>(&client, &changed);
    let (policies, policy_watch) = follow::<NetworkPolicy>(&client, &changed);
    let keep = async {
        // Rules from half a picture would cut off pods whose peers are not known yet.
        namespaces.wait_until_ready().await.map_err(|_| Error::WatchEnded)?;
        pods.wait_until_ready().await.map_err(|_| Error::WatchEnded)?;
        policies.wait_until_ready().await.map_err(|_| Error::WatchEnded)?;
        let mut applied = String::new();
        loop {
            let snapshot = Snapshot {
                namespaces: namespaces.state(),
                pods: pods.state(),
                policies: policies.state(),
            };
            let script = rules::render(&snapshot);
            if script == applied {
                changed.notified().await;
            } else {
                match nft(&script).await {
                    Ok(()) => {
                        tracing::info!(
                            policies = snapshot.policies.len(),
                            pods = snapshot.pods.len(),
                            "applied policies"
                        );
                        applied = script;
                    }
                    Err(error) => {
                        tracing::error!(%error, "failed to apply policies, the former rules stay");
                        let _ = tokio::time::timeout(RETRY, changed.notified()).await;
                    }
                }
            }
            tokio::time::sleep(SETTLE).await;
        }
    };
    tokio::select! {
        result = keep => result,
        () = namespace_watch => Err(Error::WatchEnded),
        () = pod_watch => Err(Error::WatchEnded),
        () = policy_watch => Err(Error::WatchEnded),
    }
}

/// A store of one kind and the future that fills it; the future backs off and starts again when the API server is away.
fn follow<K>(client: &Client, changed: &Arc<Notify>) -> (Store<K>, impl Future<Output = ()> + use<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = changed.clone();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(|object| {
            object.meta_mut().managed_fields = None;
            object.meta_mut().annotations = None;
        })
        .reflect(writer);
    let fill = async move {
        let mut events = std::pin::pin!(events.map(Ok::<_, std::convert::Infallible>));
        while let Ok(Some(event)) = events.try_next().await {
            if let Err(error) = event {
                tracing::warn!(%error, "watch interrupted");
            }
            changed.notify_one();
        }
    };
    (store, fill)
}

async fn nft(script: &str) -> Result<(), Error> {
    let mut child = tokio::process::Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that nft refuses early closes the pipe; the reason is in its exit, not in ours.
        let _ = stdin.write_all(script.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(Error::Run)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused(
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    ))
}
