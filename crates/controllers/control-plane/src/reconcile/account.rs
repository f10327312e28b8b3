//! The account of a control plane in its datastore: under which names, and whether these are its own.
//!
//! The status names them, for people and because Kamaji's does; but whoever may write a status may write anything there.
//! What is believed is, in this order: what the store itself has on record under this object's UID; names that an older
//! operator has set up, if status and Secret agree on them and nobody else claims them; what the spec asks for, which
//! nobody else may have; and the UID. A status that says something else is put right.

use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tenancy::control_plane::{effective, storage};

use super::password::certificate_secret;
use super::{Pass, publish};
use crate::datastore::claim::{Claim, Held, Unrecorded};
use crate::datastore::error::StoreError;
use crate::datastore::pod_access::PodAccess;
use crate::datastore::store::Store;
use crate::desired::identity::{self, Ownership};
use crate::desired::secrets::text;
use crate::desired::{Account, DatastoreFacts, Hosted, Waiting};
use crate::error::Error;
use crate::observe::Observed;
use crate::{Key, status, store};

/// What to do about names that are nobody's on record follows from where they come from.
fn settle(
    asked: Account,
    recorded: Option<&Account>,
    held: &Held,
    inherited: Option<Account>,
) -> (Account, Unrecorded) {
    let recorded = recorded.unwrap_or(&asked);
    let one_of = |names: &[String], recorded: &String| {
        let known = names.iter().find(|name| *name == recorded);
        known.or(names.first()).cloned()
    };
    let (schema, user) = (
        one_of(&held.schemas, &recorded.schema),
        one_of(&held.users, &recorded.user),
    );
    match inherited {
        Some(inherited) if schema.as_ref().is_none_or(|schema| *schema == inherited.schema) && user.is_none() => {
            (inherited, Unrecorded::Adopt)
        }
        _ => {
            let account = Account {
                schema: schema.unwrap_or(asked.schema),
                user: user.unwrap_or(asked.user),
            };
            (account, Unrecorded::Refuse)
        }
    }
}

impl Pass<'_> {
    /// The account is there, or is made. Gives what the store gives to the pods, and nothing in its place
    /// when the store is not to be asked now, but what runs can still be kept as it is. `None` when it cannot.
    pub(super) async fn store(
        &mut self,
        datastore: &DataStore,
        hosted: &mut Hosted<'_>,
        observed: &Observed,
        moved_from: Option<String>,
    ) -> Option<Option<PodAccess>> {
        self.step = status::DATASTORE;
        let stopped = match store::not_ready(datastore) {
            Some(waiting) => Ok(Err(waiting)),
            None => self.ask(datastore, hosted, observed, moved_from.as_deref()).await,
        };
        match stopped {
            Ok(Ok(access)) => return Some(Some(access)),
            Ok(Err(waiting)) => self.stops.push(waiting),
            Err(error) => self.fail(error),
        }
        let known = self.ctx.tenants.account_in(self.tcp, &hosted.datastore);
        let known = known.or_else(|| self.agreed(observed, &hosted.datastore.name));
        hosted.account = known.filter(|_| moved_from.is_none())?;
        Some(None)
    }

    async fn ask(
        &mut self,
        datastore: &DataStore,
        hosted: &mut Hosted<'_>,
        observed: &Observed,
        moved_from: Option<&str>,
    ) -> Result<Result<PodAccess, Waiting>, Error> {
        let ctx = self.ctx;
        let facts = &hosted.datastore;
        let credentials = ctx.stores.credentials(&ctx.client, datastore).await?;
        let setup = self
            .tcp
            .status
            .as_ref()
            .and_then(|status| status.storage.as_ref()?.setup.as_ref());
        let done = setup.is_some_and(|setup| setup.checksum.is_some());
        if let Some(account) = ctx.tenants.account_in(self.tcp, facts).filter(|_| done) {
            self.record_password(datastore, &credentials.login).await?;
            hosted.account = account;
            self.account_ready = true;
            return Ok(Ok(credentials.pods.clone()));
        }
        let failed = |source| Error::Datastore {
            datastore: facts.name.clone(),
            source,
        };
        let recorded = Account::recorded(self.tcp);
        let mut store = store::open(datastore, &credentials.login).await?;
        let held = held(&mut store, self.tcp, recorded.as_ref()).await.map_err(failed)?;
        self.refuse_second(datastore, &held)?;
        self.refuse_known_password(&facts.name, &credentials.login, &held)?;
        if let Some(current) = moved_from.filter(|_| held == Held::default()) {
            let message = format!(
                "the data is in the DataStore {current}; moving it to {} is not served by this version",
                facts.name
            );
            return Ok(Err(Waiting::datastore("MigrationNotServed", message)));
        }
        let inherited = self
            .agreed(observed, &facts.name)
            .filter(|names| self.shares_names(names).is_none());
        let secrets = [account_secret(self.tcp), certificate_secret(self.tcp)].map(|name| observed.secrets.get(&name));
        let inherited = self
            .proven(&mut store, &credentials.pods, inherited, secrets)
            .await
            .map_err(failed)?;
        let (account, unrecorded) = settle(
            Account::asked(self.tcp, datastore.spec.driver),
            recorded.as_ref(),
            &held,
            inherited,
        );
        let is_held = held.schemas.contains(&account.schema) && held.users.contains(&account.user);
        if !is_held && unrecorded == Unrecorded::Refuse {
            self.refuse_taken_names(facts)?;
        }
        // The names are put on record before anything is made there, so that people see what is tried; and a store that
        // does not answer leaves no record.
        let claimed = status::claim(self.tcp, &account, facts);
        if self.tcp.status.as_ref() != Some(&claimed) {
            publish(ctx, self.tcp, &claimed).await?;
        }
        store
            .ensure(&claim(self.tcp, &account), unrecorded)
            .await
            .map_err(failed)?;
        self.record_password(datastore, &credentials.login).await?;
        ctx.tenants.remember_account(self.tcp, facts, &account);
        self.account_ready = true;
        hosted.account = account;
        Ok(Ok(credentials.pods.clone()))
    }

    /// The datastore that the status says the data is in, if it is another than the spec's and nothing shows that the status
    /// is wrong.
    pub(super) fn moved_from(&self, wanted: &DatastoreFacts) -> Option<String> {
        let recorded = store::recorded(self.tcp).filter(|recorded| *recorded != wanted.name)?;
        let known = self.ctx.tenants.account_in(self.tcp, wanted).is_some();
        (!known).then(|| recorded.to_owned())
    }

    /// The names that an operator has set up to its end in this very store, by the status and by the Secret that it gave to
    /// the pods. The Secret is the control plane's own, so this takes more than a forged status.
    pub(super) fn agreed(&self, observed: &Observed, datastore: &str) -> Option<Account> {
        self.agreed_with(observed.secrets.get(&account_secret(self.tcp))?, datastore)
    }

    pub(super) fn agreed_with(&self, secret: &Secret, datastore: &str) -> Option<Account> {
        if self.takes_one(datastore) {
            super::sole::agreed(self.tcp, secret, datastore)
        } else {
            agreed(self.tcp, secret, datastore)
        }
    }

    /// Admission has asked the same. It is asked again because this is where one control plane would get the data of
    /// another.
    pub(super) fn refuse_taken_names(&self, facts: &DatastoreFacts) -> Result<(), Error> {
        let others = self.ctx.watches.control_planes.store().state();
        let stores = self.ctx.watches.datastores.store().state();
        let denials = storage::names(
            self.tcp,
            &others,
            &stores,
            self.ctx.options.default_datastore.as_deref(),
        );
        match denials.into_iter().next() {
            None => Ok(()),
            Some(denial) => Err(Error::NamesRefused {
                datastore: facts.name.clone(),
                message: denial.message,
            }),
        }
    }

    /// Another control plane that has the same names on record, or such that contain or lie within ours.
    pub(super) fn shares_names(&self, account: &Account) -> Option<Key> {
        self.other_with(|other| {
            effective::schema(other).is_some_and(|schema| storage::schemas_collide(schema, &account.schema))
                || effective::user(other).is_some_and(|user| storage::users_collide(user, &account.user))
        })
    }

    /// Another control plane with a schema on record of which `test` holds.
    pub(super) fn other_with(&self, test: impl Fn(&TenantControlPlane) -> bool) -> Option<Key> {
        let others = self.ctx.watches.control_planes.store().state();
        let sharing = others.iter().find(|other| {
            other.metadata.uid != self.tcp.metadata.uid && Account::recorded(other).is_some() && test(other)
        });
        sharing.map(|other: &Arc<_>| Key::to(other))
    }
}

/// What the store has on record under this object's UID.
pub(super) async fn held(
    store: &mut Store,
    tcp: &TenantControlPlane,
    recorded: Option<&Account>,
) -> Result<Held, StoreError> {
    let named = recorded.map(|account| (account.schema.as_str(), account.user.as_str()));
    store.held(tcp.metadata.uid.as_deref().unwrap_or_default(), named).await
}

pub(super) fn claim(tcp: &TenantControlPlane, account: &Account) -> Claim {
    Claim {
        schema: account.schema.clone(),
        user: account.user.clone(),
        owner: tcp.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Name of the Secret that tells the pods their account.
pub(super) fn account_secret(tcp: &TenantControlPlane) -> String {
    format!("{}-datastore-config", tcp.name_any())
}

/// See [`Pass::agreed`].
fn agreed(tcp: &TenantControlPlane, secret: &Secret, datastore: &str) -> Option<Account> {
    if identity::ownership(tcp, &secret.metadata) != Ownership::Ours {
        return None;
    }
    let data = secret.data.as_ref()?;
    let given = Account {
        schema: text(data, "DB_SCHEMA")?.to_owned(),
        user: text(data, "DB_USER")?.to_owned(),
    };
    status::was_set_up(tcp, &given, datastore).then_some(given)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::tests::tcp;

    fn account(schema: &str, user: &str) -> Account {
        Account {
            schema: schema.to_owned(),
            user: user.to_owned(),
        }
    }

    fn held(schemas: &[&str], users: &[&str]) -> Held {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Held {
            schemas: owned(schemas),
            users: owned(users),
        }
    }

    #[test]
    fn the_stores_record_wins_over_everything_that_objects_say() {
        use Unrecorded::{Adopt, Refuse};
        let (uid, forged, old) = (
            account("uid", "uid"),
            account("theirs", "theirs"),
            account("old", "older"),
        );
        let rows = [
            ("new", None, held(&[], &[]), None, (uid.clone(), Refuse)),
            (
                "recorded",
                Some(&uid),
                held(&["uid"], &["uid"]),
                None,
                (uid.clone(), Refuse),
            ),
            (
                "forged on a new one",
                Some(&forged),
                held(&[], &[]),
                None,
                (uid.clone(), Refuse),
            ),
            (
                "forged on one that runs",
                Some(&forged),
                held(&["uid"], &["uid"]),
                None,
                (uid.clone(), Refuse),
            ),
            (
                "forged, to another of its own",
                Some(&old),
                held(&["a", "old"], &["b", "older"]),
                None,
                (old.clone(), Refuse),
            ),
            (
                "interrupted after the schema",
                Some(&uid),
                held(&["uid"], &[]),
                None,
                (uid.clone(), Refuse),
            ),
            (
                "an older operator's",
                Some(&old),
                held(&[], &[]),
                Some(old.clone()),
                (old.clone(), Adopt),
            ),
            (
                "taken over before",
                Some(&old),
                held(&["old"], &["older"]),
                Some(old.clone()),
                (old.clone(), Refuse),
            ),
            (
                "interrupted while taken over",
                Some(&old),
                held(&["old"], &[]),
                Some(old.clone()),
                (old.clone(), Adopt),
            ),
            (
                "inherited by forgery",
                Some(&forged),
                held(&["uid"], &["uid"]),
                Some(forged.clone()),
                (uid.clone(), Refuse),
            ),
        ];
        for (name, recorded, held, inherited, expected) in rows {
            assert_eq!(settle(uid.clone(), recorded, &held, inherited), expected, "{name}");
        }
    }

    #[test]
    fn an_older_operators_names_need_status_and_secret_to_agree() {
        let mut tcp = tcp();
        let setup = json!({"storage": {"dataStoreName": "default", "setup": {"schema": "old", "user": "older", "checksum": "1"}}});
        tcp.status = Some(serde_json::from_value(setup).unwrap());
        let secret = |schema: &str, user: &str, owner: &str| -> Secret {
            let secret = json!({
                "metadata": {"name": "demo-datastore-config", "ownerReferences": [
                    {"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "name": "demo", "uid": owner, "controller": true}]},
                "data": {"DB_SCHEMA": k8s_openapi::ByteString(schema.into()), "DB_USER": k8s_openapi::ByteString(user.into())},
            });
            serde_json::from_value(secret).unwrap()
        };
        let uid = tcp.metadata.uid.clone().unwrap();
        assert_eq!(
            agreed(&tcp, &secret("old", "older", &uid), "default"),
            Some(account("old", "older"))
        );
        assert_eq!(agreed(&tcp, &secret("old", "older", &uid), "other"), None);
        assert_eq!(agreed(&tcp, &secret("theirs", "older", &uid), "default"), None);
        assert_eq!(agreed(&tcp, &secret("old", "older", "another"), "default"), None);
        tcp.status
            .as_mut()
            .unwrap()
            .storage
            .as_mut()
            .unwrap()
            .setup
            .as_mut()
            .unwrap()
            .checksum = None;
        assert_eq!(
            agreed(&tcp, &secret("old", "older", &uid), "default"),
            None,
            "it was not set up to its end"
        );
    }
}
