//! When a list of namespaces is worth a write.
//!
//! A tenant's status names all of its namespaces, so a burst of new ones would rewrite an ever longer list once for each. The
//! first change is told at once, those that follow together. Everything else that a status says is told at once always.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::capsule::v1beta2::TenantStatus;
use tokio::time::Instant;

/// Between two statuses of a tenant that differ in the list alone.
pub(crate) const TOGETHER: Duration = Duration::from_secs(2);

/// When each tenant's status was published last, by UID; what is older than [`TOGETHER`] is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    published: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// How long this status should wait; `None` when it should be published now, which is taken note of.
    pub(crate) fn wait(&self, uid: &str, before: Option<&TenantStatus>, after: &TenantStatus) -> Option<Duration> {
        let now = Instant::now();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.retain(|_, at| now.duration_since(*at) < TOGETHER);
        if let (Some(at), Some(before)) = (published.get(uid), before)
            && differs_in_list_alone(before, after)
        {
            return Some(TOGETHER.saturating_sub(now.duration_since(*at)));
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
        assert_eq!(pace.wait("1", Some(&none), &one), None);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(pace.wait("1", Some(&one), &two), Some(Duration::from_millis(1500)));
        assert_eq!(pace.wait("2", Some(&none), &one), None, "another tenant");
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(pace.wait("1", Some(&one), &two), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_else_a_status_says_is_told_at_once() {
        let pace = Pace::default();
        assert_eq!(pace.wait("1", None, &status(&["a"], 1)), None);
        assert_eq!(pace.wait("1", Some(&status(&["a"], 1)), &status(&["a", "b"], 2)), None);
    }
}
