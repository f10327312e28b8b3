//! Log lines of the code under test, for whoever asks for them.

use tracing_subscriber::EnvFilter;

/// A filter such as `debug` or `webhooks=trace`; nothing is logged without it.
const VARIABLE: &str = "COTENANT_TEST_LOG";

/// Sends what the variable asks for to the test's output. Every call but the first in a process does nothing.
pub(crate) fn start() {
    if let Ok(filter) = EnvFilter::try_from_env(VARIABLE) {
        // Fails if somebody logs already, which is as good.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
    }
}
