//! A client of a tenant's API server that writes and reads without a pause, and counts what failed. The drills on real nodes have
//! it as well (`crates/cotenant/tests/drills`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between a pair of requests and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// Longer than that nobody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the requests.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Requests that were sent again because the server closed a kept connection before it answered, which nobody can know
    /// before sending (RFC 9112, 9.3.1). One that gets no answer the second time has failed.
    pub(crate) sent_again: u64,
    /// The failures, by what was said; each is told once.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Reads that did not see what was written before them.
    pub(crate) stale: u64,
    /// The longest time from one answer to the next.
    pub(crate) longest_silence_ms: u128,
}

/// A client at work.
pub(crate) struct Traffic {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Counts>>,
}

impl Traffic {
    /// Writes and reads the ConfigMap of this name, each request with a client that `connect` gives: the same one always, or a
    /// new one, which has no connection yet.
    pub(crate) async fn start(
        name: &'static str,
        connect: impl Fn() -> anyhow::Result<Client> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"count": "0"}}))?;
        Api::default_namespaced(connect()?)
            .create(&PostParams::default(), &object)
            .await?;
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            stop,
            task: tokio::spawn(run(name, connect, stopped)),
        })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Counts> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

async fn run(
    name: &str,
    connect: impl Fn() -> anyhow::Result<Client>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut last_answer = Instant::now();
    let mut written = 0_u64;
    while !*stopped.borrow() {
        let next = json!({"data": {"count": (written + 1).to_string()}});
        let (patch, params) = (Patch::Merge(next), PatchParams::default());
        let config_maps: Api<ConfigMap> = Api::default_namespaced(connect()?);
        if counts
            .answer(|| config_maps.patch(name, &params, &patch), &mut last_answer)
            .await
            .is_some()
        {
            written += 1;
        }
        let config_maps: Api<ConfigMap> = Api::default_namespaced(connect()?);
        if let Some(object) = counts.answer(|| config_maps.get(name), &mut last_answer).await {
            let count = object.data.as_ref().and_then(|data| data.get("count")?.parse().ok());
            // A write whose answer got lost may have happened.
            counts.stale += u64::from(count.is_none_or(|count: u64| count < written));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(counts)
}

impl Counts {
    async fn answer<F>(&mut self, request: impl Fn() -> F, last_answer: &mut Instant) -> Option<ConfigMap>
    where
        F: Future<Output = kube::Result<ConfigMap>>,
    {
        self.requests += 1;
        let mut outcome = tokio::time::timeout(PATIENCE, request()).await;
        if matches!(&outcome, Ok(Err(error)) if chain(error).contains(CLOSED)) {
            self.sent_again += 1;
            outcome = tokio::time::timeout(PATIENCE, request()).await;
        }
        let said = match outcome {
            Ok(Ok(object)) => {
                self.longest_silence_ms = self.longest_silence_ms.max(last_answer.elapsed().as_millis());
                *last_answer = Instant::now();
                return Some(object);
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
        eprintln!("        a request failed: {said}");
        self.failed += 1;
        *self.failures.entry(said).or_default() += 1;
        None
    }
}

/// What hyper says of it.
const CLOSED: &str = "connection closed before message completed";

fn chain(error: &kube::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
