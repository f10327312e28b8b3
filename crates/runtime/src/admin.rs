//! The two HTTP listeners of every process: metrics, with TLS where it is asked for, and health for the kubelet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use futures::{FutureExt as _, TryFutureExt as _};

use crate::metrics::{CONTENT_TYPE, Registry};
use crate::process_metrics::ProcessMetrics;
use crate::shutdown::Shutdown;
use crate::tls;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to understand the listen address {value:?}: \":PORT\", \"IP:PORT\" or \"0\" for none are")]
    Address { value: String },
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("failed to serve with TLS on {address}")]
    Tls { address: SocketAddr, source: tls::Error },
    #[error("failed to serve on {address}")]
    Serve {
        address: SocketAddr,
        source: std::io::Error,
    },
}

type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// What `/readyz` asks. Liveness is that the process answers at all.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<Vec<(String, Check)>>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("waiting_for", &self.waiting_for())
            .finish()
    }
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition without which the process is not ready. `check` must not block.
    pub fn require(&self, name: impl Into<String>, check: impl Fn() -> bool + Send + Sync + 'static) {
        self.locked().push((name.into(), Box::new(check)));
    }

    /// The names of the conditions that are not met.
    pub fn waiting_for(&self) -> Vec<String> {
        self.locked()
            .iter()
            .filter(|(_, check)| !check())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<(String, Check)>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where to listen, in the words of the flags: `:8080`, `127.0.0.1:8080`, `[::]:8080`; `0` or nothing for not at all.
pub fn parse_address(value: &str) -> Result<Option<SocketAddr>, Error> {
    if matches!(value, "" | "0") {
        return Ok(None);
    }
    let parsed = match value.strip_prefix(':') {
        // Dual-stack where the kernel has IPv6, which is Go's reading of ":port".
        Some(port) => port
            .parse()
            .map(|port: u16| SocketAddr::from(([0, 0, 0, 0], port)))
            .ok(),
        None => value.parse().ok(),
    };
    parsed.map(Some).ok_or_else(|| Error::Address {
        value: value.to_owned(),
    })
}

/// Serves `/metrics` at one address and `/healthz`, `/readyz` at the other (or both at the same) until the shutdown.
/// `None` leaves one out. With `tls`, metrics (and health beside them) are served over it alone.
pub async fn serve(
    metrics_address: Option<SocketAddr>,
    tls: Option<tls::Files>,
    health_address: Option<SocketAddr>,
    registry: Registry,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), Error> {
    registry.register_collector(Box::new(ProcessMetrics));
    let (metrics, probes) = (metrics_routes(registry), health_routes(health));
    let mut servers = Vec::new();
    match (metrics_address, health_address) {
        (Some(one), Some(other)) if one == other => servers.push((one, tls, metrics.merge(probes))),
        (one, other) => {
            servers.extend(one.map(|address| (address, tls, metrics)));
            servers.extend(other.map(|address| (address, None, probes)));
        }
    }
    let mut listening = Vec::new();
    for (address, tls, router) in servers {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let shutdown = shutdown.clone();
        let answered = match tls {
            Some(files) => {
                let listener = tls::Listener::start(listener, files)
                    .await
                    .map_err(|source| Error::Tls { address, source })?;
                answer(listener, router, shutdown).boxed()
            }
            None => answer(listener, router, shutdown).boxed(),
        };
        listening.push(answered.map_err(move |source| Error::Serve { address, source }));
    }
    futures::future::try_join_all(listening).await.map(|_| ())
}

async fn answer<L>(listener: L, router: Router, shutdown: Shutdown) -> std::io::Result<()>
where
    L: Listener<Addr = SocketAddr>,
{
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
}

fn metrics_routes(registry: Registry) -> Router {
    Router::new().route(
        "/metrics",
        get(move || {
            let text = registry.encode();
            async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], text) }
        }),
    )
}

fn health_routes(health: Health) -> Router {
    Router::new().route("/healthz", get(|| async { "ok" })).route(
        "/readyz",
        get(move || {
            let waiting_for = health.waiting_for();
            async move {
                if waiting_for.is_empty() {
                    "ok".into_response()
                } else {
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("waiting for {}", waiting_for.join(", ")),
                    )
                        .into_response()
                }
            }
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        assert_eq!(parse_address(":8080").unwrap(), Some("0.0.0.0:8080".parse().unwrap()));
        assert_eq!(
            parse_address("127.0.0.1:1").unwrap(),
            Some("127.0.0.1:1".parse().unwrap())
        );
        assert_eq!(parse_address("[::1]:1").unwrap(), Some("[::1]:1".parse().unwrap()));
        assert_eq!(parse_address("0").unwrap(), None);
        assert_eq!(parse_address("").unwrap(), None);
        for bad in ["8080", ":x", ":70000", "host:80"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn readiness_names_what_it_waits_for() {
        let health = Health::new();
        assert!(health.waiting_for().is_empty());
        health.require("watches", || false);
        health.require("certificate", || true);
        assert_eq!(health.waiting_for(), ["watches"]);
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let registry = Registry::new();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("cotenant_test_things", "Things seen.", counter.clone());
        registry.register_collector(Box::new(ProcessMetrics));
        counter.inc();
        let text = registry.encode();
        assert!(text.contains("# HELP cotenant_test_things Things seen.\n"), "{text}");
        assert!(text.contains("cotenant_test_things_total 1\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }
}
