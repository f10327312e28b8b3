//! What this process remembers about each control plane between passes. Nothing here is needed for correctness: it
//! saves questions, and is gone with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::kamaji::v1alpha1::TenantControlPlane;
use kube::Client;

use crate::Key;
use crate::desired::{Account, DatastoreFacts};
use crate::inside::Desired;
use crate::inside::guard::Guard;
use crate::status::Inside;
use crate::tenant_side::{Access, Wanted};

#[derive(Default)]
struct Tenant {
    uid: String,
    /// The account that is known to be in the store, with the store's name and endpoints.
    account: Option<(String, Vec<String>, Account)>,
    /// The same of stores that hold some kinds.
    elsewhere: Vec<(String, Vec<String>, Account)>,
    /// Checksum of the Secret whose password was last seen to be right in the store, and when.
    password: Option<(String, Instant)>,
    /// What stands in a DataStore about the password that it gives, and that password.
    given: Option<(String, String)>,
    /// What the inside should be; `None` while the API server does not answer, or is not to be asked.
    wanted: Option<Arc<Wanted>>,
    inside: Inside,
    client: Option<(Access, Client)>,
    guard: Option<Guard>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Tenants {
    known: Mutex<HashMap<Key, Tenant>>,
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenants").finish_non_exhaustive()
    }
}

impl Tenants {
    /// The memory of this very object: one of the same name that was deleted is forgotten.
    fn with<T>(&self, tcp: &TenantControlPlane, act: impl FnOnce(&mut Tenant) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = known.entry(Key::to(tcp)).or_default();
        let uid = tcp.metadata.uid.as_deref().unwrap_or_default();
        if tenant.uid != uid {
            *tenant = Tenant {
                uid: uid.to_owned(),
                ..Tenant::default()
            };
        }
        act(tenant)
    }

    /// Forgets what had this name and is not the object of this UID. Gives its UID.
    pub(crate) fn forget_gone(&self, key: &Key, uid: Option<&str>) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key).is_none_or(|tenant| Some(tenant.uid.as_str()) == uid) {
            return None;
        }
        known.remove(key).map(|gone| gone.uid)
    }

    /// The account that this process has seen in the store, and the store's name.
    pub(crate) fn account(&self, tcp: &TenantControlPlane) -> Option<(String, Account)> {
        self.with(tcp, |tenant| {
            let (store, _, account) = tenant.account.as_ref()?;
            Some((store.clone(), account.clone()))
        })
    }

    /// The same, if it is in this very store.
    pub(crate) fn account_in(&self, tcp: &TenantControlPlane, store: &DatastoreFacts) -> Option<Account> {
        self.with(tcp, |tenant| {
            let (name, endpoints, account) = tenant.account.as_ref()?;
            (*name == store.name && *endpoints == store.endpoints).then(|| account.clone())
        })
    }

    pub(crate) fn remember_account(&self, tcp: &TenantControlPlane, store: &DatastoreFacts, account: &Account) {
        let known = (store.name.clone(), store.endpoints.clone(), account.clone());
        self.with(tcp, |tenant| tenant.account = Some(known));
    }

    /// Whether this process has seen that very account in a store of some kinds.
    pub(crate) fn has_account_elsewhere(
        &self,
        tcp: &TenantControlPlane,
        store: &DatastoreFacts,
        account: &Account,
    ) -> bool {
        let wanted = (store.name.clone(), store.endpoints.clone(), account.clone());
        self.with(tcp, |tenant| tenant.elsewhere.contains(&wanted))
    }

    pub(crate) fn remember_elsewhere(&self, tcp: &TenantControlPlane, store: &DatastoreFacts, account: &Account) {
        let known = (store.name.clone(), store.endpoints.clone(), account.clone());
        self.with(tcp, |tenant| {
            tenant.elsewhere.retain(|(name, _, _)| *name != store.name);
            tenant.elsewhere.push(known);
        });
    }

    /// Whether the password of the Secret with that checksum was right in the store, no longer ago than that.
    pub(crate) fn password_is_true(&self, tcp: &TenantControlPlane, checksum: &str, fresh: Option<Duration>) -> bool {
        self.with(tcp, |tenant| {
            let known = tenant.password.as_ref().filter(|(known, _)| known == checksum);
            known.is_some_and(|(_, at)| fresh.is_none_or(|fresh| at.elapsed() < fresh))
        })
    }

    pub(crate) fn remember_password(&self, tcp: &TenantControlPlane, checksum: &str) {
        let known = (checksum.to_owned(), Instant::now());
        self.with(tcp, |tenant| tenant.password = Some(known));
    }

    /// Whether what stands in the DataStore was seen to say that this control plane was given that password.
    pub(crate) fn was_given(&self, tcp: &TenantControlPlane, written: &str, password: &str) -> bool {
        let is = |(known, given): &(String, String)| known == written && given == password;
        self.with(tcp, |tenant| tenant.given.as_ref().is_some_and(is))
    }

    pub(crate) fn remember_given(&self, tcp: &TenantControlPlane, written: &str, password: &str) {
        let known = (written.to_owned(), password.to_owned());
        self.with(tcp, |tenant| tenant.given = Some(known));
    }

    pub(crate) fn inside(&self, tcp: &TenantControlPlane) -> Inside {
        self.with(tcp, |tenant| tenant.inside.clone())
    }

    /// Gives whether this is news.
    pub(crate) fn set_inside(&self, tcp: &TenantControlPlane, inside: Inside) -> bool {
        self.with(tcp, |tenant| {
            let news = tenant.inside != inside;
            tenant.inside = inside;
            news
        })
    }

    pub(crate) fn wanted(&self, tcp: &TenantControlPlane) -> Option<Arc<Wanted>> {
        self.with(tcp, |tenant| tenant.wanted.clone())
    }

    /// Says what the inside should be. Gives whether it has to be looked at.
    pub(crate) fn want(&self, tcp: &TenantControlPlane, wanted: Wanted) -> bool {
        self.with(tcp, |tenant| {
            if tenant.wanted.as_deref() == Some(&wanted) {
                return false;
            }
            tenant.wanted = Some(Arc::new(wanted));
            true
        })
    }

    /// The API server does not answer, or is not to be asked any more.
    pub(crate) fn stop(&self, tcp: &TenantControlPlane) {
        self.with(tcp, |tenant| {
            tenant.wanted = None;
            tenant.inside = Inside::default();
            tenant.client = None;
            tenant.guard = None;
        });
    }

    /// The inside is to be left as it is for now. What is known of it stays.
    pub(crate) fn pause(&self, tcp: &TenantControlPlane) {
        self.with(tcp, |tenant| {
            tenant.wanted = None;
            tenant.guard = None;
        });
    }

    pub(crate) fn client(&self, tcp: &TenantControlPlane, access: &Access) -> Option<Client> {
        self.with(tcp, |tenant| {
            let known = tenant.client.as_ref().filter(|(known, _)| known == access);
            known.map(|(_, client)| client.clone())
        })
    }

    /// The client with which the tenant was reached last, if any.
    pub(crate) fn reached(&self, tcp: &TenantControlPlane) -> Option<Client> {
        self.with(tcp, |tenant| tenant.client.as_ref().map(|(_, client)| client.clone()))
    }

    pub(crate) fn remember_client(&self, tcp: &TenantControlPlane, access: Access, client: Client) {
        self.with(tcp, |tenant| {
            tenant.client = Some((access, client));
            tenant.guard = None;
        });
    }

    /// The next pass connects anew.
    pub(crate) fn forget_client(&self, tcp: &TenantControlPlane) {
        self.with(tcp, |tenant| {
            tenant.client = None;
            tenant.guard = None;
        });
    }

    /// Starts the watches of the inside, unless these run or the tenant has been stopped meanwhile.
    pub(crate) fn guard(&self, tcp: &TenantControlPlane, desired: &Desired, start: impl FnOnce() -> Guard) {
        self.with(tcp, |tenant| {
            let covered = tenant.guard.as_ref().is_some_and(|guard| guard.covers(desired));
            if tenant.wanted.is_some() && !covered {
                tenant.guard = Some(start());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::tcp;

    #[test]
    fn what_vanished_or_was_made_anew_is_forgotten_by_its_uid() {
        let (tenants, old) = (Tenants::default(), tcp());
        let (key, uid) = (Key::to(&old), "5b8f4c1e-0000-4000-8000-000000000001");
        assert_eq!(tenants.forget_gone(&key, None), None, "nothing is known yet");
        tenants.stop(&old);
        assert_eq!(tenants.forget_gone(&key, Some(uid)), None, "it is still there");
        assert_eq!(tenants.forget_gone(&key, Some("another")).as_deref(), Some(uid));
        tenants.stop(&old);
        assert_eq!(tenants.forget_gone(&key, None).as_deref(), Some(uid));
        assert_eq!(tenants.forget_gone(&key, None), None);
    }
}
