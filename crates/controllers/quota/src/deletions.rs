//! What was deleted lately: what is promised for it is over, since no object comes back under its UID.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A promise has come to its end by then.
const KEPT: Duration = Duration::from_secs(180);
/// Most that are kept, a few megabytes. What is forgotten early stays promised until its end.
const MOST: usize = 50_000;

/// Objects that watches have shown to be deleted, by UID. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions(Arc<Mutex<Lately>>);

#[derive(Debug, Default)]
struct Lately {
    uids: HashSet<Arc<str>>,
    /// The oldest first.
    order: VecDeque<(Instant, Arc<str>)>,
}

impl Deletions {
    pub(crate) fn add(&self, uid: &str, now: Instant) {
        // That would be whatever has none.
        if uid.is_empty() {
            return;
        }
        let mut lately = self.lock();
        let uid: Arc<str> = uid.into();
        if lately.uids.insert(uid.clone()) {
            lately.order.push_back((now, uid));
        }
        while let Some((seen, _)) = lately.order.front() {
            if now.duration_since(*seen) < KEPT && lately.order.len() <= MOST {
                break;
            }
            if let Some((_, uid)) = lately.order.pop_front() {
                lately.uids.remove(&uid);
            }
        }
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.lock().uids.contains(uid)
    }

    fn lock(&self) -> MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_is_known_for_minutes() {
        let deletions = Deletions::default();
        let began = Instant::now();
        deletions.add("a", began);
        deletions.add("b", began + KEPT / 2);
        assert!(deletions.has("a") && deletions.has("b") && !deletions.has("c"));
        deletions.add("c", began + KEPT);
        assert!(!deletions.has("a") && deletions.has("b") && deletions.has("c"));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let deletions = Deletions::default();
        let now = Instant::now();
        for number in 0..=MOST {
            deletions.add(&number.to_string(), now);
        }
        assert!(!deletions.has("0") && deletions.has("1"));
    }
}
