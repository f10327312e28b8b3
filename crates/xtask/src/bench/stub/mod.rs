//! What stands in for the pods of many control planes: a node whose kubelet is a task of this program, and in place of each
//! API server a listener that keeps a few objects in memory.
//!
//! All else is real: the operator, the admin cluster with its scheduler and controllers, kube-proxy between the operator
//! and the stub, the accounts in the store, and the TLS with the certificates that the operator has issued, on both sides.
//! Refused: one real API server behind all addresses. What it held would be right for one tenant only, and the operator would
//! mend it for the next without end.

mod api_server;
mod kubelet;
mod objects;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use kube::Client;
use tokio::task::JoinHandle;

pub(super) use kubelet::{NODE, TAINT};

/// Addresses for benchmarks of networks (RFC 2544), which nobody else has.
const RANGE: &str = "198.18.0.0/24";

/// A node full of stubbed pods. Everything ends with this value but the Node object, which [`Stub::end`] removes.
pub(super) struct Stub {
    kubelet: Arc<kubelet::Kubelet>,
    asked: Arc<Counts>,
    tasks: Vec<JoinHandle<()>>,
    _range: Arc<Range>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stub {
    /// Registers the node, and returns when the scheduler may use it.
    pub(super) async fn start(admin: &Client, kubernetes: &str) -> anyhow::Result<Self> {
        let (asked, range) = (Arc::new(Counts::default()), Arc::new(Range::claim()?));
        let kubelet = kubelet::Kubelet::new(admin.clone(), kubernetes.to_owned(), asked.clone(), range.clone());
        kubelet.register().await?;
        let kubelet = Arc::new(kubelet);
        let tasks = vec![
            tokio::spawn(kubelet.clone().renew_lease()),
            tokio::spawn(kubelet.clone().run_pods()),
        ];
        let stub = Self {
            kubelet,
            asked,
            tasks,
            _range: range,
        };
        stub.kubelet.wait_schedulable().await?;
        Ok(stub)
    }

    /// Takes the node away, on which nothing may run any more.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.kubelet.leave().await
    }

    /// Requests to all API servers so far, by verb; a watch counts when it begins.
    pub(super) fn asked(&self) -> BTreeMap<String, u64> {
        self.asked.lock().clone()
    }
}

#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, verb: &str) {
        *self.lock().entry(verb.to_owned()).or_default() += 1;
    }
}

/// Addresses that this machine answers to for as long as this value lives.
struct Range {
    last: AtomicU8,
}

impl Range {
    fn claim() -> anyhow::Result<Self> {
        // `replace`: a bench that was killed leaves its route behind.
        route("replace")?;
        Ok(Self { last: AtomicU8::new(0) })
    }

    fn next(&self) -> anyhow::Result<Ipv4Addr> {
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| last.checked_add(1));
        let last = last
            .ok()
            .context("254 pods have been started, which is all there are addresses for")?;
        Ok(Ipv4Addr::new(198, 18, 0, last + 1))
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Err(error) = route("delete") {
            eprintln!("{error:#}");
        }
    }
}

fn route(action: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(["route", action, "local", RANGE, "dev", "lo"])
        .output()?;
    ensure!(
        output.status.success(),
        "failed to {action} the route of {RANGE}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
