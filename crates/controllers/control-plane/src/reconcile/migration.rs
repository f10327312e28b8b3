//! A control plane whose data moves from one DataStore to another: where the passes find it meanwhile, and how the pods are
//! led over. The work itself, and why it is safe, is in [`crate::migration`].
//!
//! Until the switch a pass does what it always does, with the first store: certificates are renewed and somebody's hand is
//! undone also while a large store is copied. After it a pass does the same with the second. In between there is nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use api::kamaji::names::CLEANUP_PRIOR_MIGRATION_ANNOTATION;
use api::kamaji::v1alpha1::{DataStore, Driver};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use runtime::report::chain;

use super::Pass;
use super::account::account_secret;
use super::password::{certificate_secret, is_certified};
use crate::datastore::pod_access::PodAccess;
use crate::datastore::store::Login;
use crate::desired::identity::{self, Ownership};
use crate::desired::secrets::text;
use crate::desired::{Account, Hosted, Waiting};
use crate::error::Error;
use crate::migration::{self, Found, Known, Order, Side, Stage, Step};
use crate::observe::Observed;
use crate::{Key, status, store};

/// How soon to look again at what nobody tells of.
const SOON: Duration = Duration::from_secs(5);

/// Reason of the condition while all goes well.
pub(super) const MIGRATING: &str = "Migrating";

/// What a pass has to know.
pub(super) enum Moving {
    /// Nothing moves.
    No,
    /// `hosted` names the store and the account where the data is. What that store gives to pods, unless it is not to be had.
    Here(Option<PodAccess>),
    /// The pass cannot go on; why has been said.
    Unclear,
}

impl Pass<'_> {
    /// Finds or begins the move to the store that is asked for.
    pub(super) async fn moving(
        &mut self,
        datastore: &DataStore,
        hosted: &mut Hosted<'_>,
        observed: &Observed,
    ) -> Result<Moving, Error> {
        self.step = status::DATASTORE;
        let Found { source, target, stage } = match self.find(hosted, observed).await? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Moving::No),
            Err(waiting) => {
                self.stops.push(waiting);
                self.look_again = Some(SOON);
                return Ok(Moving::Unclear);
            }
        };
        let message = match stage {
            Stage::Settled => return Ok(Moving::No),
            Stage::Switched(account) if target == hosted.datastore.name => {
                return self.switched(&source, account, datastore, hosted).await;
            }
            Stage::Switched(account) => {
                return self.past_switch(&source, &target, account, hosted).await;
            }
            Stage::Failed(reason, message) => {
                self.look_again = Some(SOON);
                let message = format!("the data stays in the DataStore {source} for now: {message}");
                self.stops.push(Waiting::datastore(reason, message));
                return self.at_source(&source, hosted, observed).await;
            }
            Stage::Copying | Stage::Again => {
                format!("the data is being copied from the DataStore {source} to {target}; reads and writes go on")
            }
            Stage::Frozen | Stage::Returning | Stage::Committing => {
                format!("what changed last is moved from the DataStore {source} to {target}; reads go on, writes wait")
            }
        };
        self.migrating = true;
        self.stops.push(Waiting::datastore(MIGRATING, message));
        self.at_source(&source, hosted, observed).await
    }

    async fn find(&self, hosted: &Hosted<'_>, observed: &Observed) -> Result<Result<Option<Found>, Waiting>, Error> {
        let (owner, target) = (self.owner(), hosted.datastore.name.as_str());
        match self.ctx.migrations.stage(owner, target) {
            Some((Some(source), Stage::Again)) => return Box::pin(self.begin(source, target, observed)).await,
            Some((source, stage)) => {
                let target = target.to_owned();
                return Ok(Ok(source.map(|source| Found { source, target, stage })));
            }
            None => {}
        }
        if let Some(found) = self.ctx.migrations.past_switch(owner) {
            return Ok(Ok(Some(found)));
        }
        if let Some(waiting) = self.give_up() {
            return Ok(Err(waiting));
        }
        if let Some(source) = self.moved_from(&hosted.datastore) {
            return Box::pin(self.begin(source, target, observed)).await;
        }
        // A store that cannot be asked is reported on by whoever needs it.
        let datastore = self.ctx.watches.datastores.get(None, target);
        if datastore.is_some_and(|datastore| store::silence(&datastore).is_some()) {
            return Ok(Ok(None));
        }
        let Ok(Some(side)) = self.side(target).await else {
            return Ok(Ok(None));
        };
        let Ok(known) = migration::look_up(&side, owner).await else {
            return Ok(Ok(None));
        };
        match self.resumed(&side, &known).await {
            Ok(None) => {}
            Ok(Some(found)) => return Ok(Ok(Some(found))),
            Err(error) => return Ok(Err(waiting(&error))),
        }
        match known {
            // Nobody else knows of this switch, so there was none.
            Known::Nothing
            | Known::Arriving {
                step: Step::Switched, ..
            } => {}
            Known::Arriving {
                from,
                step: Step::Copying,
            } => return Box::pin(self.begin(from, target, observed)).await,
            Known::Arriving {
                from,
                step: Step::Cleaning,
            } => match migration::account(&side, owner).await {
                Ok(Some(account)) => {
                    self.clean(&from, side, account).await;
                    return Ok(Ok(None));
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(waiting(&error))),
            },
            Known::Leaving { to, .. } => {
                let other = self.side(&to).await.ok().flatten();
                if let Err(error) = migration::stay(&side, other.as_ref(), owner).await {
                    return Ok(Err(waiting(&error)));
                }
            }
        }
        self.ctx.migrations.settle(owner, target);
        Ok(Ok(None))
    }

    /// Ends the attempt that is under way, or says what to wait for.
    pub(super) fn give_up(&self) -> Option<Waiting> {
        let given_up = self.ctx.migrations.give_up(self.owner());
        let message = "the move to another DataStore is at its end and cannot be given up now";
        (!given_up).then(|| Waiting::datastore(MIGRATING, message.to_owned()))
    }

    async fn begin(
        &self,
        source: String,
        target: &str,
        observed: &Observed,
    ) -> Result<Result<Option<Found>, Waiting>, Error> {
        let refused = |reason, message| Ok(Err(Waiting::datastore(reason, message)));
        if !self.tcp.spec.data_store_overrides.is_empty() {
            let message = format!(
                "spec.dataStore: with spec.dataStoreOverrides the data stays in the DataStore {source}; moving to \
                 {target} needs all kinds in one store"
            );
            self.let_write(&source).await;
            return refused("MigrationNotServed", message);
        }
        let to = match self.side(target).await {
            Ok(Some(to)) => to,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => {
                self.let_write(&source).await;
                return Err(error);
            }
        };
        let Some(from) = self.side(&source).await? else {
            // A status may say anything. Only what is half copied must not be taken for all of it.
            let known = migration::look_up(&to, self.owner()).await;
            if let Ok(Known::Arriving {
                step: Step::Copying, ..
            }) = known
            {
                let message = format!(
                    "the data of this control plane is in the DataStore {source}, which does not exist; make it again, and \
                     the data moves to {target}"
                );
                return refused("DataStoreMissing", message);
            }
            return Ok(Ok(None));
        };
        let known = migration::look_up(&from, self.owner()).await;
        // An attempt resumes what has switched to where it goes.
        let known = known
            .ok()
            .filter(|known| !matches!(known, Known::Leaving { to, .. } if to == target));
        if let Some(known) = known {
            match self.resumed(&from, &known).await {
                Ok(None) => {}
                Ok(Some(found)) => return Ok(Ok(Some(found))),
                Err(error) => return Ok(Err(waiting(&error))),
            }
        }
        if let Err(error) = self.refuse_occupied(&to).await {
            self.let_write(&source).await;
            let reason = match &error {
                Error::Datastore { source, .. } => source.category(),
                _ => "MigrationRefused",
            };
            return Ok(Ok(Some(Found {
                source,
                target: to.name,
                stage: Stage::Failed(reason, chain(&error)),
            })));
        }
        Box::pin(self.leave_third(&from, target)).await;
        let annotation = self.tcp.annotations().get(CLEANUP_PRIOR_MIGRATION_ANNOTATION);
        let agreed = self.agreed_and_certified(observed, &from);
        let order = Order {
            owner: self.owner().to_owned(),
            source: from,
            target: to,
            agreed: agreed.filter(|names| self.shares_names(names).is_none()),
            asked: self.asked(target),
            empty_target: annotation.is_some_and(|value| value == "true"),
        };
        let (queue, key) = (self.ctx.queue.clone(), Key::to(self.tcp));
        let tenant = self.ctx.tenants.reached(self.tcp);
        self.ctx
            .migrations
            .start(order, tenant, move || queue.enqueue(key.clone()));
        Ok(Ok(Some(Found {
            source,
            target: target.to_owned(),
            stage: Stage::Copying,
        })))
    }

    /// The move that this store says is past its switch, which an operator before this one has begun.
    async fn resumed(&self, side: &Side, known: &Known) -> Result<Option<Found>, migration::Error> {
        let (source, target) = match known {
            Known::Arriving {
                from,
                step: Step::Switched,
            } if self.agrees(side, from).await? => (from, &side.name),
            Known::Leaving {
                to,
                step: Step::Switched,
            } => (&side.name, to),
            _ => return Ok(None),
        };
        let there = match self.side(target).await {
            Ok(Some(there)) => migration::account(&there, self.owner()).await?,
            Ok(None) | Err(_) => None,
        };
        let account = there.ok_or_else(|| migration::Error::NothingThere(target.clone()))?;
        self.ctx
            .migrations
            .switched(self.owner(), source, target, account.clone());
        Ok(Some(Found {
            source: source.clone(),
            target: target.clone(),
            stage: Stage::Switched(account),
        }))
    }

    /// Whether a store is believed that data has come from another one. In a NATS tenants can write what they like: there the
    /// other has to say the same, because pods are let out to it.
    async fn agrees(&self, side: &Side, from: &str) -> Result<bool, migration::Error> {
        if side.driver() != Driver::Nats {
            return Ok(true);
        }
        let Ok(Some(other)) = self.side(from).await else {
            return Ok(false);
        };
        let known = migration::look_up(&other, self.owner()).await?;
        Ok(matches!(known, Known::Leaving { to, step: Step::Switched } if to == side.name))
    }

    /// Where no attempt can be made, none is waited for.
    async fn let_write(&self, source: &str) {
        let Ok(Some(side)) = self.side(source).await else {
            return;
        };
        if let Err(error) = migration::let_write(&side, self.owner()).await {
            let error = chain(&error);
            tracing::warn!(object.r#ref = %Key::to(self.tcp), datastore = source, error, "left writes waiting");
        }
    }

    /// Fails if the store takes one control plane, and has or had another.
    async fn refuse_occupied(&self, to: &Side) -> Result<(), Error> {
        let Some(datastore) = self.ctx.watches.datastores.get(None, &to.name) else {
            return Ok(());
        };
        if !self.takes_one(&to.name) {
            return Ok(());
        }
        let failed = |source| Error::Datastore {
            datastore: to.name.clone(),
            source,
        };
        let mut store = store::open(&datastore, &to.login).await?;
        let held = store.held(self.owner(), None).await.map_err(failed)?;
        self.refuse_second(&datastore, &held)?;
        self.refuse_known_password(&to.name, &to.login, &held)
    }

    /// What earlier moves have begun or left in a third store is removed there.
    async fn leave_third(&self, source: &Side, target: &str) {
        let owner = self.owner();
        let (third, left) = match migration::look_up(source, owner).await {
            Ok(Known::Leaving { to, .. }) if to != target => {
                let other = self.side(&to).await.ok().flatten();
                (to, migration::stay(source, other.as_ref(), owner).await)
            }
            Ok(Known::Arriving {
                from,
                step: Step::Cleaning,
            }) if from != target => {
                let left = self.empty(&from, source.clone()).await;
                (from, left)
            }
            _ => return,
        };
        if let Err(error) = left {
            let error = chain(&error);
            tracing::warn!(object.r#ref = %Key::to(self.tcp), datastore = third, error, "left a copy in a datastore");
        }
    }

    async fn empty(&self, source: &str, target: Side) -> Result<(), migration::Error> {
        let side = self.side(source).await.ok().flatten();
        let Some((source, account)) = side.zip(migration::account(&target, self.owner()).await?) else {
            return Ok(());
        };
        let order = Order {
            owner: self.owner().to_owned(),
            source,
            target,
            agreed: None,
            asked: account.clone(),
            empty_target: false,
        };
        migration::empty(&order, &account).await
    }

    /// The pods stay with the first store.
    async fn at_source(&mut self, source: &str, hosted: &mut Hosted<'_>, observed: &Observed) -> Result<Moving, Error> {
        let ctx = self.ctx;
        let Some(datastore) = ctx.watches.datastores.get(None, source) else {
            return Ok(Moving::Unclear);
        };
        let facts = ctx.stores.locate(&ctx.watches, &datastore).await;
        let mut account = ctx.tenants.account_in(self.tcp, &facts);
        if account.is_none()
            && let Some(side) = self.side(source).await?
        {
            account = self.agreed_and_certified(observed, &side);
        }
        let Some(account) = account else {
            return Ok(Moving::Unclear);
        };
        hosted.datastore = facts;
        hosted.account = account;
        self.account_ready = true;
        let credentials = ctx.stores.credentials(&ctx.client, &datastore).await?;
        Ok(Moving::Here(Some(credentials.pods.clone())))
    }

    /// Another store is asked for since the switch. Pods read from both ends of the move and may have written to its second,
    /// so it goes to its end before the data moves on, or back.
    async fn past_switch(
        &mut self,
        source: &str,
        target: &str,
        account: Account,
        hosted: &mut Hosted<'_>,
    ) -> Result<Moving, Error> {
        let ctx = self.ctx;
        let message = format!(
            "the data is in the DataStore {target}, to which the pods are led over; the DataStore {} is moved to when that is \
             done",
            hosted.datastore.name
        );
        self.stops.push(Waiting::datastore(MIGRATING, message));
        let Some(datastore) = ctx.watches.datastores.get(None, target) else {
            self.stops
                .push(waiting(&migration::Error::NothingThere(target.to_owned())));
            return Ok(Moving::Unclear);
        };
        hosted.datastore = ctx.stores.locate(&ctx.watches, &datastore).await;
        self.switched(source, account, &datastore, hosted).await
    }

    /// The pods follow to the second store. Those that have not yet may go on reading from the first.
    async fn switched(
        &mut self,
        source: &str,
        account: Account,
        datastore: &DataStore,
        hosted: &mut Hosted<'_>,
    ) -> Result<Moving, Error> {
        let ctx = self.ctx;
        if let Some(left) = ctx.watches.datastores.get(None, source) {
            let left = ctx.stores.locate(&ctx.watches, &left).await;
            hosted.datastore.destinations.extend(left.destinations);
        }
        let message = format!(
            "the data is in the DataStore {}, to which the pods are led over; reads go on, writes wait",
            hosted.datastore.name
        );
        self.stops.push(Waiting::datastore(MIGRATING, message));
        hosted.account = account;
        self.account_ready = true;
        self.migrating = true;
        self.left = Some(source.to_owned());
        self.look_again = Some(SOON);
        let credentials = ctx.stores.credentials(&ctx.client, datastore).await?;
        self.record_password(datastore, &credentials.login).await?;
        Ok(Moving::Here(Some(credentials.pods.clone())))
    }

    /// Once all pods use the second store, it may be written to, and the first is emptied.
    pub(super) async fn lead_over(&mut self, hosted: &Hosted<'_>, wanted: &Deployment) -> Result<(), Error> {
        let Some(source) = self.left.clone() else { return Ok(()) };
        let target = hosted.datastore.name.as_str();
        let there = self
            .deployment
            .as_ref()
            .is_some_and(|live| status::settled(live) && same_template(live, wanted));
        if !there || store::recorded(self.tcp) != Some(target) {
            return Ok(());
        }
        self.step = status::DATASTORE;
        let Some(side) = self.side(target).await? else {
            return Ok(());
        };
        if let Err(error) = migration::release(&side, &hosted.account, self.owner()).await {
            self.stops.push(waiting(&error));
            self.look_again = Some(SOON);
            return Ok(());
        }
        self.ctx
            .tenants
            .remember_account(self.tcp, &hosted.datastore, &hosted.account);
        self.clean(&source, side, hosted.account.clone()).await;
        self.stops.retain(|stop| stop.reason != MIGRATING);
        self.migrating = false;
        // Once more, without the first store.
        self.ctx.queue.enqueue(Key::to(self.tcp));
        Ok(())
    }

    /// A store that is not there any more needs no cleaning.
    async fn clean(&self, source: &str, target: Side, account: Account) {
        let (owner, name) = (self.owner().to_owned(), target.name.clone());
        match self.side(source).await {
            Ok(Some(source)) => {
                let order = Order {
                    owner,
                    source,
                    target,
                    agreed: None,
                    asked: account.clone(),
                    empty_target: false,
                };
                self.ctx.migrations.clean(order, account);
            }
            Ok(None) => self.ctx.migrations.settle(&owner, &name),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(object.r#ref = %Key::to(self.tcp), datastore = source, error, "left data in a datastore");
                self.ctx.migrations.settle(&owner, &name);
            }
        }
    }

    /// Stores beside the present one in which something of this control plane may be: those at the other end of a move.
    pub(super) async fn other_ends(&self, names: &BTreeSet<String>) -> Vec<String> {
        let mut others = Vec::new();
        for name in names {
            let Ok(Some(side)) = self.side(name).await else {
                continue;
            };
            match migration::look_up(&side, self.owner()).await {
                Ok(Known::Arriving { from: other, .. } | Known::Leaving { to: other, .. }) => others.push(other),
                Ok(Known::Nothing) | Err(_) => {}
            }
        }
        others
    }

    /// Names that status and Secret agree on; in an etcd, of a user whose certificate is there. Pods are given another one
    /// of this user before the store was asked. Elsewhere the password is tried before anything is made or read.
    fn agreed_and_certified(&self, observed: &Observed, side: &Side) -> Option<Account> {
        let certificate = observed.secrets.get(&certificate_secret(self.tcp));
        self.agreed(observed, &side.name).filter(|names| match &side.login {
            Login::Etcd(login) => is_certified(certificate, &login.ca_pem, &names.user),
            _ => true,
        })
    }

    /// The names that this control plane would be given in a DataStore if it were new.
    fn asked(&self, datastore: &str) -> Account {
        let found = self.ctx.watches.datastores.get(None, datastore);
        Account::asked(self.tcp, found.map_or(Driver::Etcd, |found| found.spec.driver))
    }

    /// How to get into a store. `None`: there is no such DataStore.
    async fn side(&self, name: &str) -> Result<Option<Side>, Error> {
        let ctx = self.ctx;
        let Some(datastore) = ctx.watches.datastores.get(None, name) else {
            return Ok(None);
        };
        let credentials = ctx.stores.credentials(&ctx.client, &datastore).await?;
        let password = match &credentials.login {
            Login::Etcd(_) => None,
            _ => self.password().await?,
        };
        Ok(Some(Side {
            name: name.to_owned(),
            login: credentials.login.clone(),
            password,
        }))
    }

    /// What the pods log in with, where they do with a password.
    async fn password(&self) -> Result<Option<String>, Error> {
        let secrets: Api<Secret> = Api::namespaced(self.ctx.client.clone(), &self.tcp.namespace().unwrap_or_default());
        let name = account_secret(self.tcp);
        let secret = secrets.get_opt(&name).await.map_err(|source| Error::Read {
            kind: "Secret",
            name,
            source,
        })?;
        let ours = secret.filter(|secret| identity::ownership(self.tcp, &secret.metadata) == Ownership::Ours);
        let password = ours
            .as_ref()
            .and_then(|secret| text(secret.data.as_ref()?, "DB_PASSWORD"));
        Ok(password.filter(|password| !password.is_empty()).map(str::to_owned))
    }

    fn owner(&self) -> &str {
        self.tcp.metadata.uid.as_deref().unwrap_or_default()
    }
}

fn waiting(error: &migration::Error) -> Waiting {
    Waiting::datastore(error.category(), chain(error))
}

/// Whether what runs has been made from this template, as far as it is ours.
fn same_template(live: &Deployment, wanted: &Deployment) -> bool {
    let annotations = |deployment: &Deployment| {
        let template = deployment.spec.as_ref()?.template.metadata.clone()?;
        template.annotations
    };
    let live = annotations(live).unwrap_or_default();
    annotations(wanted)
        .unwrap_or_default()
        .iter()
        .all(|(name, value)| live.get(name) == Some(value))
}
