//! Logs. Everything about how they look is here; everything else only emits `tracing` events.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// kube warns with the whole text of an answer that it cannot read: that may be long, and a Secret.
const NEVER_WHOLE_ANSWERS: &str = "kube_client::client=error";

/// Sends logs to standard error. `RUST_LOG` wins over `default_filter` (a filter directive such as `info`).
/// A second call in one process is ignored, which lets tests call it freely.
pub fn init(format: Format, default_filter: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{default_filter},{NEVER_WHOLE_ANSWERS}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}
