//! What this replica was lent of tenants' budgets ([`tenancy::quota::credit`]), and may admit without a write.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tenancy::quota::amounts::Amounts;
use tenancy::quota::credit::USE;

/// Of one ledger.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    held: Amounts,
    /// Nothing is admitted from it later than this.
    until: Option<Instant>,
    /// Whether somebody gives back what is not used.
    pub(crate) is_kept: bool,
}

impl Credit {
    /// What may still be used.
    pub(crate) fn held(&self, now: Instant) -> Amounts {
        if self.is_over(now) {
            Amounts::default()
        } else {
            self.held.clone()
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    pub(crate) fn covers(&self, amounts: &Amounts, now: Instant) -> bool {
        !self.is_over(now) && amounts.fit_in(&self.held)
    }

    pub(crate) fn take(&mut self, amounts: &Amounts) {
        self.held = self.held.minus(amounts).without_zeros();
    }

    /// What was taken for a request that is refused after all. If all else was given back meanwhile, this ends by itself: what
    /// is lent next does not cover it.
    pub(crate) fn put_back(&mut self, amounts: &Amounts) {
        if self.until.is_some() {
            self.held = self.held.plus(amounts);
        }
    }

    /// Adds what was lent by a write that began at `began`. All is over when the first of it is.
    pub(crate) fn add(&mut self, amounts: &Amounts, began: Instant) {
        let lent_until = began + USE.unsigned_abs();
        let is_empty = self.held.is_zero();
        self.until = self.until.filter(|_| !is_empty).or(Some(lent_until));
        self.held = self.held.plus(amounts);
    }

    /// What is not used, and not to be used any more. `None` if nothing was lent.
    pub(crate) fn drain(&mut self) -> Option<Amounts> {
        self.until.take().map(|_| std::mem::take(&mut self.held))
    }
}

/// Credits by the name of the ledger. Who admits from one, or asks for more, holds it meanwhile.
type Held = HashMap<String, Arc<tokio::sync::Mutex<Credit>>>;

/// All that this replica was lent.
#[derive(Debug)]
pub(crate) struct Credits {
    /// Names this run of the program in ledgers: its successor on the same host is somebody else.
    pub(crate) replica: String,
    held: Mutex<Held>,
}

impl Default for Credits {
    fn default() -> Self {
        Self {
            replica: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            held: Mutex::default(),
        }
    }
}

impl Credits {
    pub(crate) fn of(&self, ledger: &str) -> Arc<tokio::sync::Mutex<Credit>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // What somebody keeps is in other hands as well.
        held.retain(|name, credit| name == ledger || Arc::strong_count(credit) > 1);
        held.entry(ledger.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pods(number: usize) -> Amounts {
        Amounts::from_iter([("pods".to_owned(), tenancy::quantity::Quantity::count(number))])
    }

    #[test]
    fn a_credit_ends_with_the_first_of_what_was_lent() {
        let began = Instant::now();
        let mut credit = Credit::default();
        assert!(!credit.covers(&pods(1), began));
        credit.add(&pods(2), began);
        credit.take(&pods(1));
        credit.add(&pods(2), began + Duration::from_secs(20));
        assert!(credit.covers(&pods(3), began + Duration::from_secs(29)));
        assert!(!credit.covers(&pods(1), began + Duration::from_secs(30)));
        assert_eq!(credit.drain(), Some(pods(3)));
        assert_eq!(credit.drain(), None);
        credit.add(&pods(1), began + Duration::from_secs(40));
        assert!(credit.covers(&pods(1), began + Duration::from_secs(69)));
    }

    #[test]
    fn what_is_put_back_after_the_rest_was_given_back_is_not_lent_again() {
        let began = Instant::now();
        let mut credit = Credit::default();
        credit.add(&pods(2), began);
        credit.take(&pods(1));
        credit.put_back(&pods(1));
        assert_eq!(credit.held(began), pods(2));
        credit.take(&pods(1));
        assert_eq!(credit.drain(), Some(pods(1)));
        credit.put_back(&pods(1));
        credit.add(&pods(2), began);
        assert_eq!(credit.held(began), pods(2));
    }

    #[test]
    fn no_two_replicas_have_one_name() {
        assert_ne!(Credits::default().replica, Credits::default().replica);
    }
}
