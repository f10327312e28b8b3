//! Stores that take one control plane only, because all that log in may read everything: NATS.
//!
//! The store has written down whose it is, unless an older operator has set it up. Then what the status of the control plane
//! in it says keeps others out until that one was taken over.

use api::kamaji::names::PASSWORD_KNOWN_ANNOTATION;
use api::kamaji::v1alpha1::{DataStore, Driver, TenantControlPlane};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Pass;
use crate::apply::FIELD_MANAGER;
use crate::datastore::claim::Held;
use crate::datastore::known_password::KnownPassword;
use crate::datastore::nats::NatsError;
use crate::datastore::store::Login;
use crate::desired::Account;
use crate::desired::identity::{self, Ownership};
use crate::desired::secrets::text;
use crate::error::Error;
use crate::{status, store};

impl Pass<'_> {
    /// Whether the DataStore of this name is such a store.
    pub(super) fn takes_one(&self, datastore: &str) -> bool {
        let found = self.ctx.watches.datastores.get(None, datastore);
        found.is_some_and(|found| found.spec.driver == Driver::Nats)
    }

    /// Fails if the store has a control plane, which is another.
    pub(super) fn refuse_second(&self, datastore: &DataStore, held: &Held) -> Result<(), Error> {
        let name = datastore.name_any();
        let is_in = |other: &TenantControlPlane| store::recorded(other) == Some(&name) && is_set_up(other);
        if datastore.spec.driver != Driver::Nats || *held != Held::default() || is_in(self.tcp) {
            return Ok(());
        }
        match self.other_with(is_in) {
            None => Ok(()),
            Some(_) => Err(Error::Datastore {
                datastore: name,
                source: NatsError::InUse.into(),
            }),
        }
    }
}

impl Pass<'_> {
    /// Fails if a control plane that is not in the store any more was given its password. Who has something in it keeps that.
    pub(super) fn refuse_known_password(&self, name: &str, login: &Login, held: &Held) -> Result<(), Error> {
        let Some(password) = own_password(login).filter(|_| *held == Held::default()) else {
            return Ok(());
        };
        let uid = self.tcp.metadata.uid.as_deref().unwrap_or_default();
        // The same server may have had a DataStore of another name.
        let stores = self.ctx.watches.datastores.store().state();
        let is_known =
            |store: &DataStore| known_password(store).is_some_and(|known| known.owner != uid && known.is(password));
        match stores.iter().find(|store| is_known(store)) {
            None => Ok(()),
            Some(known) => Err(Error::Datastore {
                datastore: name.to_owned(),
                source: NatsError::PasswordKnown {
                    annotation: PASSWORD_KNOWN_ANNOTATION,
                    datastore: known.name_any(),
                }
                .into(),
            }),
        }
    }

    /// Writes down that this control plane is given the store's password, before its pods are.
    pub(super) async fn record_password(&self, datastore: &DataStore, login: &Login) -> Result<(), Error> {
        let Some(password) = own_password(login) else {
            return Ok(());
        };
        let ctx = self.ctx;
        let written = datastore.annotations().get(PASSWORD_KNOWN_ANNOTATION);
        if written.is_some_and(|written| ctx.tenants.was_given(self.tcp, written, password)) {
            return Ok(());
        }
        let uid = self.tcp.metadata.uid.as_deref().unwrap_or_default();
        let known = known_password(datastore).filter(|known| known.owner == uid && known.is(password));
        if let Some(known) = known {
            ctx.tenants.remember_given(self.tcp, &known.to_string(), password);
            return Ok(());
        }
        let given = KnownPassword::of(uid, password).to_string();
        let patch = json!({"metadata": {"annotations": {PASSWORD_KNOWN_ANNOTATION: given}}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let datastores: Api<DataStore> = Api::all(ctx.client.clone());
        let name = datastore.name_any();
        match datastores.patch(&name, &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => {
                ctx.tenants.remember_given(self.tcp, &given, password);
                Ok(())
            }
            Err(source) => Err(Error::Apply {
                kind: "DataStore",
                name,
                source,
            }),
        }
    }
}

/// The password that the store gives to whoever is in it.
fn own_password(login: &Login) -> Option<&str> {
    match login {
        Login::Nats(login) => Some(&login.login.password),
        _ => None,
    }
}

fn known_password(datastore: &DataStore) -> Option<KnownPassword> {
    KnownPassword::parse(datastore.annotations().get(PASSWORD_KNOWN_ANNOTATION)?)
}

fn is_set_up(tcp: &TenantControlPlane) -> bool {
    let storage = tcp.status.as_ref().and_then(|status| status.storage.as_ref());
    let setup = storage.and_then(|storage| storage.setup.as_ref());
    setup.is_some_and(|setup| setup.checksum.is_some())
}

/// What [`super::account`] calls by this name, where the Secret has the store's user and not the control plane's.
pub(super) fn agreed(tcp: &TenantControlPlane, secret: &Secret, datastore: &str) -> Option<Account> {
    let recorded = Account::recorded(tcp)?;
    let ours = identity::ownership(tcp, &secret.metadata) == Ownership::Ours;
    let schema = text(secret.data.as_ref()?, "DB_SCHEMA")?;
    let agreed = ours && schema == recorded.schema && status::was_set_up(tcp, &recorded, datastore);
    agreed.then_some(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::tcp;

    #[test]
    fn the_schema_has_to_agree_and_the_user_is_the_stores() {
        let mut tcp = tcp();
        let setup =
            json!({"storage": {"dataStoreName": "nats", "setup": {"schema": "old", "user": "older", "checksum": "1"}}});
        tcp.status = Some(serde_json::from_value(setup).unwrap());
        let secret = |schema: &str, owner: &str| -> Secret {
            let secret = json!({
                "metadata": {"name": "demo-datastore-config", "ownerReferences": [
                    {"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "name": "demo", "uid": owner, "controller": true}]},
                "data": {"DB_SCHEMA": k8s_openapi::ByteString(schema.into()), "DB_USER": k8s_openapi::ByteString("root".into())},
            });
            serde_json::from_value(secret).unwrap()
        };
        let uid = tcp.metadata.uid.clone().unwrap();
        let names = agreed(&tcp, &secret("old", &uid), "nats").unwrap();
        assert_eq!((names.schema.as_str(), names.user.as_str()), ("old", "older"));
        assert_eq!(agreed(&tcp, &secret("theirs", &uid), "nats"), None);
        assert_eq!(agreed(&tcp, &secret("old", "another"), "nats"), None);
        assert_eq!(agreed(&tcp, &secret("old", &uid), "another"), None);
    }
}
