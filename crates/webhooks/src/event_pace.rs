//! How many Events one tenant may cause: each is an object in etcd, and a loop of refused requests would fill it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// At once.
const BURST: u32 = 25;
/// After that, one in this time.
const REFILL: Duration = Duration::from_secs(5);
/// Tenants that are kept in mind. When there are more, those that may tell all they like again are forgotten.
const TENANTS: usize = 1024;

/// What is left to each tenant.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the tenant has its whole burst again.
    full_at: HashMap<String, Instant>,
}

impl Pace {
    /// Whether the tenant may cause one more now.
    pub(crate) fn admits(&mut self, tenant: &str, now: Instant) -> bool {
        if self.full_at.len() >= TENANTS && !self.full_at.contains_key(tenant) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= TENANTS {
                return false;
            }
        }
        let full_at = self.full_at.get(tenant).map_or(now, |full_at| now.max(*full_at));
        let next = full_at + REFILL;
        if next.duration_since(now) > REFILL * BURST {
            return false;
        }
        self.full_at.insert(tenant.to_owned(), next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_tells_some_at_once_and_then_a_few_and_does_not_use_up_what_is_anothers() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let told = |pace: &mut Pace, tenant: &str, now| (0..100).filter(|_| pace.admits(tenant, now)).count();
        assert_eq!(told(&mut pace, "oil", start), 25);
        assert_eq!(told(&mut pace, "gas", start), 25);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(4)), 0);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(11)), 2);
        assert_eq!(told(&mut pace, "oil", start + Duration::from_secs(3600)), 25);
    }

    #[test]
    fn however_many_tenants_there_are_few_are_kept_in_mind() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let admitted = (0..5000)
            .filter(|number| pace.admits(&number.to_string(), start))
            .count();
        assert_eq!((admitted, pace.full_at.len()), (TENANTS, TENANTS));
        assert!(pace.admits("later", start + REFILL * 2));
        assert_eq!(pace.full_at.len(), 1);
    }
}
