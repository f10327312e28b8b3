//! Who may work now: no tenant takes more than half of the workers, and what administrators wrote has workers of its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Workers for TenantResources, those of one tenant among them, and workers for GlobalTenantResources.
pub(crate) const OF_TENANTS: usize = 4;
const OF_ONE_TENANT: usize = OF_TENANTS / 2;
pub(crate) const GLOBAL: usize = 2;

/// Whom a replication works for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    Tenant(String),
    Administrators,
}

/// How many work for whom.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: Mutex<HashMap<Party, usize>>,
}

/// A place among the workers, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    party: Party,
}

impl Slots {
    /// `None` if there is none now.
    pub(crate) fn take(&self, party: Party) -> Option<Slot<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&party).copied().unwrap_or_default();
        let is_free = match party {
            Party::Administrators => own < GLOBAL,
            Party::Tenant(_) => {
                let tenants = taken.iter().filter(|(party, _)| **party != Party::Administrators);
                own < OF_ONE_TENANT && tenants.map(|(_, count)| count).sum::<usize>() < OF_TENANTS
            }
        };
        if !is_free {
            return None;
        }
        taken.insert(party.clone(), own + 1);
        drop(taken);
        Some(Slot { slots: self, party })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenant_takes_more_than_half_and_administrators_have_their_own() {
        let slots = Slots::default();
        let tenant = |name: &str| slots.take(Party::Tenant(name.to_owned()));
        let first = [tenant("oil"), tenant("oil")];
        assert!(first.iter().all(Option::is_some) && tenant("oil").is_none());
        let second = [tenant("gas"), tenant("wind")];
        assert!(second.iter().all(Option::is_some) && tenant("sun").is_none());
        let global = [slots.take(Party::Administrators), slots.take(Party::Administrators)];
        assert!(global.iter().all(Option::is_some) && slots.take(Party::Administrators).is_none());
        drop(first);
        assert!(tenant("oil").is_some());
        drop(global);
        assert!(slots.take(Party::Administrators).is_some());
    }
}
