//! The controllers of control planes, as an operator has them.

use control_plane_controller::{Settings, Watches, run};
use kube::Client;
use runtime::Shutdown;
use runtime::events::Recorder;
use runtime::metrics::Registry;
use tokio::task::JoinHandle;

use super::{eventually, when};

/// An operator that may be killed, and ends with its owner.
pub(crate) struct Operator {
    task: JoinHandle<()>,
    pub(crate) registry: Registry,
}

impl Operator {
    pub(crate) fn start(client: &Client, settings: Settings) -> Self {
        let (client, registry, shutdown) = (client.clone(), Registry::new(), Shutdown::new());
        let metrics = runtime::controller::Metrics::register(&registry);
        let known = registry.clone();
        let task = tokio::spawn(async move {
            let watches = Watches::start(&client, &shutdown);
            let events = Recorder::new(client.clone(), "cotenant-operator", Some("test"));
            run(client, watches, events, settings, &known, &metrics, shutdown.clone())
                .await
                .unwrap();
        });
        Self { task, registry }
    }

    /// Ends it as `kill -9` does: wherever it is.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
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
        self.task.abort();
    }
}
