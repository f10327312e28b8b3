//! Rests between the runs of one replication: of all time, it may take one part in so many, whatever wakes it up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenancy::replication::identity::ReplicationName;

const SHARE: u32 = 20;
/// No rest is longer than this.
const LONGEST: Duration = Duration::from_mins(5);

/// How long to rest after a run that took so long.
pub(crate) fn after(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST)
}

/// Until when each replication rests.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    until: Mutex<HashMap<ReplicationName, Instant>>,
}

impl Pauses {
    /// What is left of a replication's rest.
    pub(crate) fn left(&self, name: &ReplicationName, now: Instant) -> Option<Duration> {
        let left = self.locked().get(name)?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A run ended now that took so long.
    pub(crate) fn begin(&self, name: &ReplicationName, now: Instant, took: Duration) {
        self.locked().insert(name.clone(), now + after(took));
    }

    pub(crate) fn forget(&self, name: &ReplicationName) {
        self.locked().remove(name);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<ReplicationName, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_long_rests_long() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        let name = ReplicationName {
            namespace: Some("oil-a".to_owned()),
            name: "r".to_owned(),
        };
        let second = Duration::from_secs(1);
        assert_eq!(pauses.left(&name, now), None);
        pauses.begin(&name, now, second);
        assert_eq!(pauses.left(&name, now + 5 * second), Some(15 * second));
        assert_eq!(pauses.left(&name, now + 20 * second), None);
        pauses.begin(&name, now, 1000 * second);
        assert_eq!(pauses.left(&name, now), Some(LONGEST));
        pauses.forget(&name);
        assert_eq!(pauses.left(&name, now), None);
    }
}
