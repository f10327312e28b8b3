//! Namespaces that were admitted and have not come back through the watch yet.
//!
//! A quota counts what the watch knows, and the watch lags behind the admissions by milliseconds: without this, ten
//! creates at once would each find the last place free. A place is taken when the validating rule lets a create
//! pass, and given back when the namespace is seen, or after [`EXPIRY`] when something after us refused the create.
//!
//! Each replica knows its own reservations only. Near the end of a quota the namespaces are also counted live
//! ([`crate::facts`]), which leaves one window: creates for the last place that are in flight through two replicas at the
//! same moment. It is closed with reservations in a shared object, which exact quotas of other resources need as well.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any create that succeeds takes from admission to the watch: API servers give a request up after a minute
/// (`--request-timeout`), and a busy one may need most of it.
const EXPIRY: Duration = Duration::from_secs(70);

/// Places taken, by tenant.
#[derive(Debug, Default)]
pub struct Reservations {
    /// Tenant UID -> namespace name -> until when.
    taken: Mutex<HashMap<String, BTreeMap<String, Instant>>>,
}

impl Reservations {
    /// Asks `decide` with the names of namespaces, other than `namespace`, that have places of this tenant and that the watch
    /// has not shown, as `is_seen` says; takes a place for `namespace` if it says yes and this is not a dry run. Requests
    /// for one place wait for each other here, for the microseconds of a decision.
    ///
    /// Only the watch ends a reservation. What one request counted live says nothing to another that counts by the watch.
    pub fn admit<T>(
        &self,
        tenant_uid: &str,
        namespace: &str,
        dry_run: bool,
        now: Instant,
        is_seen: impl Fn(&str) -> bool,
        decide: impl FnOnce(&[&str]) -> (bool, T),
    ) -> T {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = taken.entry(tenant_uid.to_owned()).or_default();
        of_tenant.retain(|name, until| *until > now && !is_seen(name));
        let others: Vec<&str> = of_tenant
            .keys()
            .map(String::as_str)
            .filter(|name| *name != namespace)
            .collect();
        let (allowed, result) = decide(&others);
        if allowed && !dry_run {
            of_tenant.insert(namespace.to_owned(), now + EXPIRY);
        }
        if of_tenant.is_empty() {
            taken.remove(tenant_uid);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the watch alone.
    fn take(reservations: &Reservations, name: &str, now: Instant, seen: &[&str], quota: usize) -> bool {
        take_counted(reservations, name, now, (seen, &[]), quota)
    }

    /// By what the watch has shown and what was counted live.
    fn take_counted(
        reservations: &Reservations,
        name: &str,
        now: Instant,
        (seen, counted): (&[&str], &[&str]),
        quota: usize,
    ) -> bool {
        reservations.admit(
            "uid",
            name,
            false,
            now,
            |n| seen.contains(&n),
            |others| {
                let reserved = others.iter().filter(|name| !counted.contains(name)).count();
                let allowed = seen.len().max(counted.len()) + reserved < quota;
                (allowed, allowed)
            },
        )
    }

    #[test]
    fn of_many_at_once_only_as_many_pass_as_there_are_places() {
        let reservations = Reservations::default();
        let now = Instant::now();
        let passed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|i| {
                    let reservations = &reservations;
                    scope.spawn(move || take(reservations, &format!("n{i}"), now, &[], 3))
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("a thread"))
                .filter(|passed| *passed)
                .count()
        });
        assert_eq!(passed, 3);
    }

    #[test]
    fn a_seen_namespace_is_counted_once_and_a_repeated_create_is_not_counted_twice() {
        let reservations = Reservations::default();
        let now = Instant::now();
        assert!(take(&reservations, "a", now, &[], 2));
        assert!(take(&reservations, "a", now, &[], 2));
        assert!(take(&reservations, "b", now, &["a"], 2));
        assert!(!take(&reservations, "c", now, &["a"], 2));
    }

    #[test]
    fn a_create_that_failed_later_gives_its_place_back() {
        let reservations = Reservations::default();
        let now = Instant::now();
        assert!(take(&reservations, "a", now, &[], 1));
        assert!(!take(&reservations, "b", now + Duration::from_secs(60), &[], 1));
        assert!(take(&reservations, "b", now + Duration::from_secs(71), &[], 1));
    }

    #[test]
    fn a_live_count_frees_no_place_for_those_who_count_by_a_watch_that_is_behind() {
        let reservations = Reservations::default();
        let now = Instant::now();
        assert!(take(&reservations, "a", now, &[], 2));
        assert!(take(&reservations, "b", now, &[], 2));
        let counted: (&[&str], &[&str]) = (&["a"], &["a", "b"]);
        assert!(!take_counted(&reservations, "c", now, counted, 2));
        assert!(!take(&reservations, "d", now, &["a"], 2));
        assert!(take_counted(&reservations, "d", now, counted, 3));
    }

    #[test]
    fn a_dry_run_takes_no_place() {
        let reservations = Reservations::default();
        let now = Instant::now();
        reservations.admit("uid", "a", true, now, |_| false, |_| (true, ()));
        assert!(take(&reservations, "b", now, &[], 1));
    }
}
