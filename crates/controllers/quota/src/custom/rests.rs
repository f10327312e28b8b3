//! Rests after counts that took long. What a tenant's quota says is evaluated over every object that it counts, with each
//! change of one: without rests a few costly quotas would keep the controller from all others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::quota::QuotaName;

/// A count that takes no longer is followed by no rest.
const SHORT: Duration = Duration::from_millis(20);
/// A rest is so many times as long as the count before.
const TIMES: u32 = 20;
/// And no longer than this.
const LONGEST: Duration = Duration::from_secs(30);

/// When each quota may be counted again.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<HashMap<QuotaName, Instant>>);

impl Rests {
    /// How long a quota still rests.
    pub(super) fn left(&self, quota: &QuotaName, now: Instant) -> Option<Duration> {
        let mut rests = self.locked();
        let left = rests
            .get(quota)?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero());
        if left.is_none() {
            rests.remove(quota);
        }
        left
    }

    /// After a count that took so long.
    pub(super) fn begin(&self, quota: &QuotaName, now: Instant, took: Duration) {
        if took > SHORT {
            let rest = took.saturating_mul(TIMES).min(LONGEST);
            self.locked().insert(quota.clone(), now + rest);
        }
    }

    /// A quota that is gone.
    pub(super) fn forget(&self, quota: &QuotaName) {
        self.locked().remove(quota);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<QuotaName, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_rests_after_a_count_that_took_long() {
        let (rests, now) = (Rests::default(), Instant::now());
        let quota = |name: &str| QuotaName {
            namespace: "web".to_owned(),
            name: name.to_owned(),
        };
        let millis = Duration::from_millis;
        rests.begin(&quota("short"), now, millis(20));
        assert_eq!(rests.left(&quota("short"), now), None);
        rests.begin(&quota("long"), now, millis(100));
        assert_eq!(rests.left(&quota("long"), now + millis(500)), Some(millis(1500)));
        assert_eq!(rests.left(&quota("other"), now), None);
        assert_eq!(rests.left(&quota("long"), now + millis(2000)), None);
        rests.begin(&quota("longest"), now, Duration::MAX);
        assert_eq!(rests.left(&quota("longest"), now), Some(LONGEST));
        rests.forget(&quota("longest"));
        assert!(rests.locked().is_empty());
    }
}
