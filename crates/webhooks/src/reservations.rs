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

/// Longer than any create that succeeds takes from admission to the watch.
const EXPIRY: Duration = Duration::from_secs(10);

/// Places taken, by tenant.
#[derive(Debug, Default)]
pub struct Reservations {
    /// Tenant UID -> namespace name -> until when.
    taken: Mutex<HashMap<String, BTreeMap<String, Instant>>>,
}

impl Reservations {
    /// Asks `decide` with the number of places of this tenant that are taken by namespaces other than `namespace` and
    /// unknown to `is_known`; takes a place for `namespace` if it says yes and this is not a dry run. Requests for one
    /// place wait for each other here, for the microseconds of a decision.
    pub fn admit<T>(
        &self,
        tenant_uid: &str,
        namespace: &str,
        dry_run: bool,
        now: Instant,
        is_known: impl Fn(&str) -> bool,
        decide: impl FnOnce(usize) -> (bool, T),
    ) -> T {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = taken.entry(tenant_uid.to_owned()).or_default();
        of_tenant.retain(|name, until| *until > now && !is_known(name));
        let others = of_tenant.keys().filter(|name| *name != namespace).count();
        let (allowed, result) = decide(others);
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

    fn take(reservations: &Reservations, name: &str, now: Instant, known: &[&str], quota: usize) -> bool {
        reservations.admit(
            "uid",
            name,
            false,
            now,
            |n| known.contains(&n),
            |others| {
                let allowed = known.len() + others < quota;
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
        assert!(!take(&reservations, "b", now + Duration::from_secs(9), &[], 1));
        assert!(take(&reservations, "b", now + Duration::from_secs(11), &[], 1));
    }

    #[test]
    fn a_dry_run_takes_no_place() {
        let reservations = Reservations::default();
        let now = Instant::now();
        reservations.admit("uid", "a", true, now, |_| false, |_| (true, ()));
        assert!(take(&reservations, "b", now, &[], 1));
    }
}
