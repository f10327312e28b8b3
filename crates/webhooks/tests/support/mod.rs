//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it")]
#![allow(clippy::needless_pass_by_value, reason = "what is given is written out in the call")]

pub mod controllers;
pub mod hijack;
pub mod pods;
pub mod replicas;
pub mod served;
pub mod stage;
pub mod versions;

use std::time::Duration;

/// Looks again until it is so. The bound only keeps a broken test from hanging; nothing is measured. It is far beyond what
/// a busy machine needs: a set-up that gives up is begun again by the next test, beside what the first one left running.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(300), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come about"))
}
