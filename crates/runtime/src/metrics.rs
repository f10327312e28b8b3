//! The process's metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::registry::Metric;

/// What `GET /metrics` answers with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of one process. Cheap to clone; every clone is the same registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    inner: Arc<Mutex<prometheus_client::registry::Registry>>,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a metric under its full name (`cotenant_operator_..._seconds`; counters without `_total`, which the
    /// encoder adds). Families and counters are cheap handles: keep a clone.
    pub fn register<M: Metric>(&self, name: &str, help: &str, metric: M) {
        self.locked(|registry| registry.register(name, help.trim_end_matches('.'), metric));
    }

    /// Registers something that computes its values when it is asked.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.locked(|registry| registry.register_collector(collector));
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        self.locked(|registry| {
            prometheus_client::encoding::text::encode(&mut text, registry).expect("writing into a String cannot fail");
        });
        text
    }

    fn locked<T>(&self, act: impl FnOnce(&mut prometheus_client::registry::Registry) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
