//! Real Kubernetes for tests. A dev-dependency only; nothing that ships may use it.
//!
//! There is no mock API server in this repository: a test that needs an API server gets upstream's, a few seconds after
//! asking, shared by all tests of one test binary and gone with it. Tests keep out of each other's way by name, see
//! [`unique`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test bed that cannot start is a failed test, and says why"
)]

use std::time::Duration;

mod api_server;
mod cluster;
mod etcd;
mod logs;
mod nats;
mod sql;

pub use api_server::ApiServer;
pub use cluster::Cluster;
pub use etcd::EtcdFixture;
pub use nats::NatsFixture;
pub use sql::SqlServer;

/// Looks again until it is so, and gives what was found. Panics with the last reason why not when `patience` is at its end: that
/// is for a broken build and not for a slow machine.
pub async fn eventually<T, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut last = String::new();
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(reason) => last = reason,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(patience, looking).await;
    found.unwrap_or_else(|_| panic!("{what}: {last}"))
}

/// A name that no other test uses, valid wherever Kubernetes wants a DNS label: `<prefix>-<six letters and digits>`,
/// the prefix cut so that 40 characters are not exceeded and suffixes still fit.
pub fn unique(prefix: &str) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = std::hash::RandomState::new().build_hasher().finish();
    let suffix: String = (0..6)
        .map(|_| {
            let base = ALPHABET.len() as u64;
            let letter = ALPHABET[usize::try_from(number % base).unwrap_or(0)];
            number /= base;
            char::from(letter)
        })
        .collect();
    let prefix: String = prefix.chars().take(33).collect();
    format!("{}-{suffix}", prefix.trim_end_matches('-'))
}
