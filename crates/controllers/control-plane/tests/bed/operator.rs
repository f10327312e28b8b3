//! The controllers of control planes, as an operator has them.

use control_plane_controller::{Settings, Watches, run};
use http::Request;
use kube::Client;
use kube::client::Body;
use runtime::Shutdown;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use tokio::runtime::{Builder, Handle, Runtime};
use tower::service_fn;

use super::{PATIENCE, eventually, when};

/// An operator that may be killed, and ends with its owner.
pub(crate) struct Operator {
    /// Its own, so that nothing of what it has begun outlives it.
    runtime: Option<Runtime>,
    pub(crate) registry: Registry,
}

impl Operator {
    pub(crate) fn start(client: &Client, settings: Settings) -> Self {
        let (client, registry, shutdown) = (sending_here(client), Registry::new(), Shutdown::new());
        let metrics = runtime::controller::Metrics::register(&registry);
        let known = registry.clone();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        runtime.spawn(async move {
            let watches = Watches::start(&client, &shutdown);
            let events = Recorder::new(client.clone(), "cotenant-operator", Some("test"));
            run(client, watches, events, settings, &known, &metrics, shutdown.clone())
                .await
                .unwrap();
        });
        Self {
            runtime: Some(runtime),
            registry,
        }
    }

    /// Ends it as `kill -9` does: wherever it is, with all that it has begun.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        // It waits for its threads.
        let ended = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE));
        ended.await.unwrap();
    }

    /// How many passes have ended, and whether more are due.
    pub(crate) fn passes(&self) -> (u64, bool) {
        let text = self.registry.encode();
        let value = |name: &str| {
            let line = format!("{name}{{controller=\"control-plane\"}} ");
            text.lines()
                .find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        (
            value("cotenant_operator_controller_runs_total"),
            value("cotenant_operator_controller_queue_depth") > 0,
        )
    }

    /// Until it has made more passes than these, and none is due.
    pub(crate) async fn until_rested_after(&self, passes: u64) {
        eventually("all has been looked at", || async {
            let (now, due) = self.passes();
            when(now > passes && !due, || format!("{now} passes, more due: {due}"))
        })
        .await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client whose connections, which others share, stay when the one that asks ends.
fn sending_here(client: &Client) -> Client {
    let (here, base) = (Handle::current(), client.clone());
    let service = service_fn(move |request: Request<Body>| {
        let base = base.clone();
        let sent = here.spawn(async move { base.send(request).await });
        async move { sent.await.unwrap() }
    });
    Client::new(service, client.default_namespace())
}
