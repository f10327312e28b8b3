//! When a list of namespaces is worth a write.
//!
//! A tenant's status names all of its namespaces, so a burst of new ones would rewrite an ever longer list once for each. The
//! first change is told at once, those that follow together; and while what belongs into namespaces waits for its turn, the
//! lists wait longer. Everything else that a status says is told at once always.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::capsule::v1beta2::TenantStatus;
use tokio::time::Instant;

/// Between two statuses of a tenant that differ in the list alone.
pub(crate) const TOGETHER: Duration = Duration::from_secs(2);
/// The same while there is more important work.
const AT_MOST: Duration = Duration::from_secs(10);

/// When each tenant's status was published last, by UID; what is older than [`AT_MOST`] is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    published: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// How long this status should wait before it is looked at again; `None` when it should be published now, which is taken
    /// note of. `busy` says that contents of namespaces are being written.
    pub(crate) fn wait(
        &self,
        uid: &str,
        before: Option<&TenantStatus>,
        after: &TenantStatus,
        busy: bool,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.retain(|_, at| now.duration_since(*at) < AT_MOST);
        if let (Some(at), Some(before)) = (published.get(uid), before)
            && differs_in_list_alone(before, after)
        {
            let since = now.duration_since(*at);
            if since < TOGETHER {
                return Some(TOGETHER.saturating_sub(since));
            }
            if busy {
                return Some(TOGETHER.min(AT_MOST.saturating_sub(since)));
            }
        }
        published.insert(uid.to_owned(), now);
        None
    }
}

fn differs_in_list_alone(before: &TenantStatus, after: &TenantStatus) -> bool {
    let listed = TenantStatus {
        namespaces: after.namespaces.clone(),
        spaces: after.spaces.clone(),
        size: after.size,
        ..before.clone()
    };
    listed == *after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(namespaces: &[&str], generation: i64) -> TenantStatus {
        TenantStatus {
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            size: u32::try_from(namespaces.len()).unwrap().into(),
            observed_generation: Some(generation),
            ..TenantStatus::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_list_is_told_at_once_and_those_that_follow_together() {
        let pace = Pace::default();
        let (none, one, two) = (status(&[], 1), status(&["a"], 1), status(&["a", "b"], 1));
        assert_eq!(pace.wait("1", Some(&none), &one, false), None);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(
            pace.wait("1", Some(&one), &two, false),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(pace.wait("2", Some(&none), &one, false), None, "another tenant");
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(pace.wait("1", Some(&one), &two, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_lets_contents_of_namespaces_go_first_but_not_for_ever() {
        let pace = Pace::default();
        let (one, two) = (status(&["a"], 1), status(&["a", "b"], 1));
        assert_eq!(pace.wait("1", Some(&status(&[], 1)), &one, true), None, "the first one");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(pace.wait("1", Some(&one), &two, true), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_millis(6500)).await;
        assert_eq!(pace.wait("1", Some(&one), &two, true), Some(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(pace.wait("1", Some(&one), &two, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_else_a_status_says_is_told_at_once() {
        let pace = Pace::default();
        assert_eq!(pace.wait("1", None, &status(&["a"], 1), true), None);
        let changed = status(&["a", "b"], 2);
        assert_eq!(pace.wait("1", Some(&status(&["a"], 1)), &changed, true), None);
    }
}
