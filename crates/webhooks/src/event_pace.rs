//! How many Events one cause may have: each is an object in etcd, and a loop of refused requests would fill it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// At once.
const BURST: u32 = 25;
/// After that, one in this time.
const REFILL: Duration = Duration::from_secs(5);
/// Causes that are kept in mind. Beyond them the one that has used least of its burst is forgotten, so that nobody gets a new
/// one by bringing many others.
const CAUSES: usize = 1024;

/// At whose cost an Event is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// What is in a tenant's namespaces, and these themselves.
    Tenant(String),
    /// A Namespace that belongs to no tenant, or not yet; the tenant that it says is its own, if there is one of that name. So
    /// neither its name, which its author makes up, nor what it says uses up anything else.
    NamespaceFor(Option<String>),
    /// What is in a namespace that belongs to no tenant; empty for what is in none.
    Namespace(String),
}

/// What is left to each cause.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the cause has its whole burst again.
    full_at: HashMap<Cause, Instant>,
}

impl Pace {
    /// Whether there may be one more now.
    pub(crate) fn admits(&mut self, cause: Cause, now: Instant) -> bool {
        if self.full_at.len() >= CAUSES && !self.full_at.contains_key(&cause) {
            self.forget(now);
        }
        let full_at = self.full_at.get(&cause).map_or(now, |full_at| now.max(*full_at));
        let next = full_at + REFILL;
        if next.duration_since(now) > REFILL * BURST {
            return false;
        }
        self.full_at.insert(cause, next);
        true
    }

    /// Makes room for one more.
    fn forget(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() < CAUSES {
            return;
        }
        let fullest = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
        if let Some(fullest) = fullest.map(|(cause, _)| cause.clone()) {
            self.full_at.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Cause {
        Cause::Tenant(name.to_owned())
    }

    #[test]
    fn a_tenant_tells_some_at_once_and_then_a_few_and_does_not_use_up_what_is_anothers() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let told = |pace: &mut Pace, name: &str, now| (0..100).filter(|_| pace.admits(tenant(name), now)).count();
        assert_eq!(told(&mut pace, "oil", start), 25);
        assert_eq!(told(&mut pace, "gas", start), 25);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(4)), 0);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(11)), 2);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(3600)), 25);
        let namespace = Cause::Namespace("oil".to_owned());
        assert!(
            pace.admits(namespace, start),
            "a namespace of that name is another cause"
        );
    }

    #[test]
    fn however_many_there_are_few_are_kept_in_mind_and_those_who_tell_most_last() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let loud = |pace: &mut Pace| (0..100).filter(|_| pace.admits(tenant("oil"), start)).count();
        assert_eq!(loud(&mut pace), 25);
        let mut numbers = (0..5000).map(|number| tenant(&number.to_string()));
        assert!(numbers.all(|tenant| pace.admits(tenant, start)), "everybody gets in");
        assert_eq!((pace.full_at.len(), loud(&mut pace)), (CAUSES, 0));
        assert!(pace.admits(tenant("later"), start + REFILL * 30));
        assert_eq!(pace.full_at.len(), 1);
    }
}
