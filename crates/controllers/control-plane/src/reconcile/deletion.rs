//! The end of a control plane: its account is dropped, then the object may go. Pods and Secrets are collected through
//! their owner.
//!
//! What is dropped is what the store has on record under this UID, whatever the status says by now, and names of an older
//! operator that status and Secret agree on. Names that are another's in the store are none of this control plane's
//! business: they are neither dropped nor waited for.

use std::collections::BTreeSet;

use api::kamaji::names::{DATASTORE_FINALIZER, DATASTORE_SECRET_FINALIZER, SOOT_FINALIZER};
use api::kamaji::v1alpha1::{DataStore, Driver};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use runtime::report::is_not_found;
use tenancy::control_plane::{effective, storage};

use super::account::{account_secret, claim, held};
use super::password::certificate_secret;
use super::{Pass, Progress};
use crate::apply::FIELD_MANAGER;
use crate::datastore::claim::{Held, Unrecorded};
use crate::desired::identity::{self, Ownership};
use crate::desired::{Account, Waiting};
use crate::error::Error;
use crate::{status, store};

impl Pass<'_> {
    /// Frees what is in the datastore, then lets the object go.
    pub(super) async fn delete(&mut self) -> Result<Progress, Error> {
        self.step = status::DATASTORE;
        let known = self.ctx.tenants.account(self.tcp).map(|(store, _)| store);
        self.ctx.tenants.stop(self.tcp);
        let ours = |finalizer: &String| finalizer == DATASTORE_FINALIZER || finalizer == SOOT_FINALIZER;
        if !self.tcp.finalizers().iter().any(ours) {
            return Ok(Progress::Gone);
        }
        let secrets: Api<Secret> = Api::namespaced(self.ctx.client.clone(), &self.tcp.namespace().unwrap_or_default());
        let read = async |name: String| {
            secrets.get_opt(&name).await.map_err(|source| Error::Read {
                kind: "Secret",
                name,
                source,
            })
        };
        let secret = read(account_secret(self.tcp)).await?;
        let certificate = read(certificate_secret(self.tcp)).await?;
        let recorded = Account::recorded(self.tcp)
            .and(store::recorded(self.tcp))
            .map(str::to_owned);
        let wanted = store::name(self.tcp, self.ctx.options.default_datastore.as_deref()).map(str::to_owned);
        let overrides = self.tcp.spec.data_store_overrides.iter();
        let overrides: Vec<String> = overrides.map(|one| one.data_store.clone()).collect();
        // One that nothing says an account was made in is asked too, but not waited for.
        let made_in: BTreeSet<String> = known.iter().chain(&recorded).cloned().collect();
        let mut all: BTreeSet<String> = made_in.iter().chain(&wanted).chain(&overrides).cloned().collect();
        // It would write where everything is removed.
        if let Some(waiting) = self.give_up() {
            return Ok(self.wait(waiting));
        }
        let other_ends = self.other_ends(&all).await;
        all.extend(other_ends);
        for name in &all {
            match self.free(name, [secret.as_ref(), certificate.as_ref()]).await {
                Ok(Ok(())) => {}
                Ok(Err(waiting)) if waiting.reason == NAMES_SHARED || made_in.contains(name) => {
                    return Ok(self.wait(waiting));
                }
                Err(error) if made_in.contains(name) || secret.is_some() => return Err(error),
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(object.r#ref = %crate::Key::to(self.tcp), datastore = name, "let a control plane go without asking a datastore");
                }
            }
        }
        // An override that was taken out of the spec has left its account in a store that nothing names any more.
        let stores = self.ctx.watches.datastores.store().state();
        let is_etcd = |one: &DataStore| one.spec.driver == Driver::Etcd && store::not_ready(one).is_none();
        for name in stores.iter().filter(|one| is_etcd(one)).map(|one| one.name_any()) {
            if !all.contains(&name) && !matches!(self.free(&name, [None, None]).await, Ok(Ok(()))) {
                tracing::warn!(object.r#ref = %crate::Key::to(self.tcp), datastore = name, "let a control plane go without asking a datastore");
            }
        }
        if let Some(secret) = secret {
            self.release_secret(&secrets, &secret).await?;
        }
        let kept: Vec<String> = self
            .tcp
            .finalizers()
            .iter()
            .filter(|finalizer| !ours(finalizer))
            .cloned()
            .collect();
        self.write_finalizers(&kept).await?;
        self.ctx
            .memory
            .forget(self.tcp.metadata.uid.as_deref().unwrap_or_default());
        Ok(Progress::Gone)
    }

    async fn free(&self, name: &str, secrets: [Option<&Secret>; 2]) -> Result<Result<(), Waiting>, Error> {
        let ctx = self.ctx;
        let Some(datastore) = ctx.watches.datastores.get(None, name) else {
            let message = format!(
                "the data of this control plane is in the DataStore {name}, which does not exist; make it again, or give \
                 the data up by removing the finalizer {DATASTORE_FINALIZER}"
            );
            return Ok(Err(Waiting::datastore("DataStoreMissing", message)));
        };
        let credentials = ctx.stores.credentials(&ctx.client, &datastore).await?;
        let failed = |source| Error::Datastore {
            datastore: name.to_owned(),
            source,
        };
        let mut store = store::open(&datastore, &credentials.login).await?;
        let recorded = Account::recorded(self.tcp);
        let held = held(&mut store, self.tcp, recorded.as_ref()).await.map_err(failed)?;
        let inherited = secrets[0]
            .and_then(|secret| self.agreed_with(secret, name))
            .filter(|account| !held.schemas.contains(&account.schema) || !held.users.contains(&account.user));
        let inherited = self
            .proven(&mut store, &credentials.pods, inherited, secrets)
            .await
            .map_err(failed)?;
        let shared = inherited.as_ref().and_then(|account| self.shares_names(account));
        if let Some(other) = shared.or_else(|| self.nests(&held)) {
            let message = format!(
                "the names of this control plane in the DataStore {name} are on record for {other} too; nothing is \
                 deleted until that is put right"
            );
            return Ok(Err(Waiting::datastore(NAMES_SHARED, message)));
        }
        for account in accounts(&held, &Account::asked(self.tcp, datastore.spec.driver)) {
            store
                .remove(&claim(self.tcp, &account), Unrecorded::Refuse)
                .await
                .map_err(failed)?;
        }
        if let Some(account) = inherited {
            let claim = claim(self.tcp, &account);
            // A pass that comes once more finds nothing, and must not write down that it will remove it.
            if store.has(&claim).await.map_err(failed)? {
                store.remove(&claim, Unrecorded::Adopt).await.map_err(failed)?;
            }
        }
        Ok(Ok(()))
    }

    /// Another control plane whose schema, from a time when names were not compared, lies within one of ours or around it:
    /// to drop the one would drop the other.
    fn nests(&self, held: &Held) -> Option<crate::Key> {
        self.other_with(|other| {
            effective::schema(other).is_some_and(|theirs| {
                held.schemas
                    .iter()
                    .any(|ours| !ours.eq_ignore_ascii_case(theirs) && storage::schemas_collide(ours, theirs))
            })
        })
    }

    /// Takes our finalizer off the Secret with the store's credentials, which are needed no more.
    async fn release_secret(&self, secrets: &Api<Secret>, secret: &Secret) -> Result<(), Error> {
        let ours = matches!(
            identity::ownership(self.tcp, &secret.metadata),
            Ownership::Ours | Ownership::Orphan
        );
        let kept: Vec<&String> = secret
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != DATASTORE_SECRET_FINALIZER)
            .collect();
        if !ours || kept.len() == secret.finalizers().len() {
            return Ok(());
        }
        let patch = serde_json::json!({"metadata": {"resourceVersion": secret.resource_version(), "finalizers": kept}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match secrets
            .patch(&secret.name_any(), &parameters, &Patch::Merge(&patch))
            .await
        {
            Err(error) if !is_not_found(&error) => Err(Error::Apply {
                kind: "Secret",
                name: secret.name_any(),
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

/// Reason of the condition while names are another's too.
const NAMES_SHARED: &str = "NamesShared";

/// Pairs of names that together are all that is held. The shorter list is filled up with what was asked for, of which the
/// store drops nothing that is not on record.
fn accounts(held: &Held, asked: &Account) -> Vec<Account> {
    let pairs = held.schemas.len().max(held.users.len());
    let name = |names: &[String], at: usize, asked: &String| names.get(at).unwrap_or(asked).clone();
    (0..pairs)
        .map(|at| Account {
            schema: name(&held.schemas, at, &asked.schema),
            user: name(&held.users, at, &asked.user),
        })
        .collect()
}
