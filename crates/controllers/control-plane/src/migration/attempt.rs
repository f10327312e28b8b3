//! One attempt to move, from the first look to the switch. It runs beside the passes and tells them where it is.
//!
//! 1. Both stores are asked what they know; the second gets an account that may not write.
//! 2. All keys are copied as of one revision, then changes are followed until they are few. Reads and writes go on.
//! 3. The first store takes the right to write away; what is left is copied; every key and value is compared.
//! 4. The first store records the switch. From here on there is no return, before there always is.

use std::time::{Duration, Instant};

use api::kamaji::v1alpha1::Driver;
use kube::Client;

use crate::datastore::claim::{Claim, Unrecorded};
use crate::datastore::error::StoreError;
use crate::datastore::kine::Kine;
use crate::datastore::store::{Login, Store};
use crate::desired::Account;

use super::Shared;
use super::across::{Across, Named, Source, Target};
use super::copy::Transfer;
use super::error::Error;
use super::following::Following;
use super::keyspace::Keyspace;
use super::record::{Book, End, Record, Step};
use super::rest;
use super::stage::Stage;

/// Changes since the last look that are few enough to stop for.
const FEW: usize = 200;
/// Looks after which it is stopped for them anyway: a cluster that is written to all the time never comes to rest.
const LOOKS: usize = 20;
/// How long writes may be held up before they are let go again, to be tried once more later.
const FREEZE_WITHIN: Duration = Duration::from_secs(30);
/// Revisions that are made up for; some minutes of writing.
const RAISE_AT_MOST: i64 = 1_000_000;
/// By how much more than needed at least: for what is written until the switch.
pub(super) const RAISE_MARGIN: i64 = 1_000;

/// One of the two stores.
#[derive(Clone)]
pub(crate) struct Side {
    /// Name of the DataStore.
    pub(crate) name: String,
    pub(crate) login: Login,
    /// What the control plane's user logs in with, where users have passwords. `None`: nobody has it, so any will do.
    pub(crate) password: Option<String>,
}

/// It has passwords in it.
impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Side {
    pub(crate) fn driver(&self) -> Driver {
        match self.login {
            Login::Etcd(_) => Driver::Etcd,
            Login::Postgres(_) => Driver::PostgreSQL,
            Login::MySql(_) => Driver::MySQL,
            Login::Nats(_) => Driver::Nats,
        }
    }
}

/// What is to be moved.
#[derive(Debug)]
pub(crate) struct Order {
    /// UID of the TenantControlPlane.
    pub(crate) owner: String,
    pub(crate) source: Side,
    pub(crate) target: Side,
    /// Names that status and Secret agree on in the source, of a user who is proven by its certificate or password.
    pub(crate) agreed: Option<Account>,
    /// The names that a new control plane like this would be given in the target.
    pub(crate) asked: Account,
    /// What stands under these names in the target without a record is emptied.
    pub(crate) empty_target: bool,
}

/// How an attempt ended well.
pub(super) enum Outcome {
    /// See [`Stage::Switched`].
    Switched(Account),
    /// There is nothing to move: both names are of one store, or the data is in the target already.
    Settled,
}

/// An open store.
pub(super) struct Opened {
    store: Store,
    side: Side,
    owner: String,
}

impl Opened {
    pub(super) async fn connect(side: &Side, owner: &str) -> Result<Self, Error> {
        let store = Box::pin(Store::connect(&side.login)).await;
        Ok(Self {
            store: store.map_err(|source| failed(&side.name, source))?,
            side: side.clone(),
            owner: owner.to_owned(),
        })
    }

    pub(super) fn book(&mut self) -> Book<'_> {
        Book {
            name: &self.side.name,
            store: &mut self.store,
            owner: &self.owner,
        }
    }

    /// The account's keys, in an etcd.
    fn keys(&self, account: &Account) -> Option<Keyspace> {
        match &self.store {
            Store::Etcd(store) => Some(Keyspace::new(&self.side.name, store.client(), &account.schema)),
            _ => None,
        }
    }

    /// What kine keeps of the account, unless this is an etcd. The user's password is made the one that is given.
    async fn kine(&mut self, account: &Account, password: Option<&str>) -> Result<Option<Named>, Error> {
        if matches!(self.store, Store::Etcd(_)) {
            return Ok(None);
        }
        let claim = self.claim(account);
        let password = password.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let (store, login, name) = (&mut self.store, &self.side.login, &self.side.name);
        let opened = async {
            store.set_password(&claim, &password).await?;
            let mut kine = Kine::open(login, &claim, &password).await?;
            if let Some(kine) = &mut kine {
                kine.make().await?;
            }
            Ok(kine)
        };
        let kine = Box::pin(opened).await.map_err(|source| failed(name, source))?;
        Ok(kine.map(|kine| Named {
            store: name.clone(),
            kine,
        }))
    }

    /// The account that is on record here.
    pub(super) async fn account(&mut self, named: Option<&Account>) -> Result<Option<Account>, Error> {
        let names = named.map(|account| (account.schema.as_str(), account.user.as_str()));
        let held = self.store.held(&self.owner, names).await;
        let held = held.map_err(|source| failed(&self.side.name, source))?;
        let pick = |names: &[String], named: Option<&String>| {
            let known = named.filter(|named| names.contains(named));
            known.or(names.first()).cloned()
        };
        let (schema, user) = (
            pick(&held.schemas, named.map(|account| &account.schema)),
            pick(&held.users, named.map(|account| &account.user)),
        );
        Ok(schema.zip(user).map(|(schema, user)| Account { schema, user }))
    }

    async fn ensure(&mut self, account: &Account, unrecorded: Unrecorded) -> Result<(), Error> {
        let claim = self.claim(account);
        let made = self.store.ensure(&claim, unrecorded).await;
        made.map_err(|source| failed(&self.side.name, source))
    }

    /// Whether these names are of one account, whose user is certified or has this password.
    async fn proves(&mut self, account: &Account) -> Result<bool, Error> {
        let claim = self.claim(account);
        let password = self.side.password.as_deref().unwrap_or_default();
        let proven = self.store.proves(&claim, password, true).await;
        proven.map_err(|source| failed(&self.side.name, source))
    }

    /// Removes the account with its data.
    pub(super) async fn remove(&mut self, account: &Account) -> Result<(), Error> {
        let claim = self.claim(account);
        let removed = self.store.remove(&claim, Unrecorded::Refuse).await;
        removed.map_err(|source| failed(&self.side.name, source))
    }

    /// The account's data may be written to.
    pub(super) async fn thaw(&mut self, account: &Account) -> Result<(), Error> {
        if let Some(keys) = self.keys(account) {
            keys.thaw().await?;
            return keys.unmark().await;
        }
        let password = self.side.password.clone();
        if let Some(mut named) = self.kine(account, password.as_deref()).await? {
            let thawed = named.kine.thaw().await;
            thawed.map_err(|source| failed(&self.side.name, source))?;
        }
        Ok(())
    }

    fn claim(&self, account: &Account) -> Claim {
        Claim {
            schema: account.schema.clone(),
            user: account.user.clone(),
            owner: self.owner.clone(),
        }
    }
}

fn failed(store: &str, source: StoreError) -> Error {
    Error::Store {
        store: store.to_owned(),
        source,
    }
}

/// See the module.
pub(super) async fn attempt(order: &Order, tenant: Option<&Client>, shared: &Shared) -> Result<Outcome, Error> {
    let Some(mut ends) = Ends::open(order).await? else {
        return Ok(Outcome::Settled);
    };
    if let Some(committed) = ends.committed.take() {
        return ends.switch(order, &committed.attempt).await;
    }
    let attempt = jiff::Timestamp::now().as_nanosecond().to_string();
    if !ends.record(order, &attempt).await? {
        return Ok(Outcome::Settled);
    }
    let mut copy = Copy::begin(order, &mut ends).await?;
    let began = Instant::now();
    let keys = copy.bring().await?;
    for _ in 0..LOOKS {
        let (changes, _) = copy.follow().await?;
        copy.raise().await?;
        if changes <= FEW {
            break;
        }
    }
    tracing::info!(
        owner = order.owner,
        keys,
        elapsed_ms = began.elapsed().as_millis(),
        "copied a control plane's data"
    );
    if let Some(tenant) = tenant {
        copy.rest(tenant).await?;
    }
    if !shared.advance(&Stage::Copying, Stage::Frozen) {
        return Ok(Outcome::Settled);
    }
    let stood = tokio::time::timeout(FREEZE_WITHIN, stand(order, &mut copy)).await;
    if let Err(error) = stood.unwrap_or(Err(Error::TooSlow(FREEZE_WITHIN))) {
        // A connection that is in the middle of something keeps what it has locked.
        drop(copy);
        let left = record(&order.target, Step::Copying, &attempt);
        give_back(&mut ends.source, &ends.from, Some(&left)).await?;
        return Err(error);
    }
    if !shared.advance(&Stage::Frozen, Stage::Committing) {
        drop(copy);
        let left = record(&order.target, Step::Copying, &attempt);
        give_back(&mut ends.source, &ends.from, Some(&left)).await?;
        return Err(Error::GivenUp);
    }
    ends.switch(order, &attempt).await
}

/// Writes stop, what is left is copied, and all is compared.
async fn stand(order: &Order, copy: &mut Copy) -> Result<(), Error> {
    let frozen = Instant::now();
    copy.freeze().await?;
    let (changes, mark) = copy.follow().await?;
    let keys = copy.settle(mark).await?;
    tracing::info!(
        owner = order.owner,
        keys,
        changes,
        frozen_ms = frozen.elapsed().as_millis(),
        "compared a control plane's data"
    );
    Ok(())
}

fn record(other: &Side, step: Step, attempt: &str) -> Record {
    Record {
        other: other.name.clone(),
        step,
        attempt: attempt.to_owned(),
    }
}

/// Both stores, and the account in each.
struct Ends {
    source: Opened,
    target: Opened,
    from: Account,
    to: Account,
    /// What the first store says of a switch that it has recorded.
    committed: Option<Record>,
}

impl Ends {
    /// `None`: the data is in the second store, and nowhere else.
    async fn open(order: &Order) -> Result<Option<Self>, Error> {
        let mut source = Opened::connect(&order.source, &order.owner).await?;
        let left = source.book().read(End::Leaving).await?;
        let arrived = source.book().read(End::Arriving).await?;
        // Others still read from the store that an earlier move leaves, so nothing is copied there or changed.
        if arrived.is_some_and(|arrived| arrived.step == Step::Switched)
            || left
                .as_ref()
                .is_some_and(|left| left.step == Step::Switched && left.other != order.target.name)
        {
            return Err(Error::PastSwitch(order.source.name.clone()));
        }
        let here = source.account(order.agreed.as_ref()).await?;
        let connected = Opened::connect(&order.target, &order.owner).await;
        let mut target = match (connected, &here) {
            (Ok(target), _) => target,
            (Err(error), Some(account)) => {
                // Nobody has written to the target, so the data is still here.
                give_back(&mut source, account, left.as_ref()).await?;
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        let there = target.account(here.as_ref()).await?;
        let from = match (here, &there, &order.agreed) {
            (Some(here), _, _) => here,
            (None, Some(_), _) => return Ok(None),
            (None, None, Some(agreed)) => {
                if !source.proves(agreed).await? {
                    return Err(Error::NothingThere(order.source.name.clone()));
                }
                source.ensure(agreed, Unrecorded::Adopt).await?;
                agreed.clone()
            }
            (None, None, None) => return Err(Error::NothingThere(order.source.name.clone())),
        };
        let committed = left.filter(|left| left.other == order.target.name && left.step == Step::Switched);
        let to = match (&committed, there) {
            (Some(_), Some(there)) => there,
            _ if order.source.driver() == order.target.driver() => from.clone(),
            _ => order.asked.clone(),
        };
        Ok(Some(Self {
            source,
            target,
            from,
            to,
            committed,
        }))
    }

    /// Writes down in both that data is copied. `false`: they are one store under two names.
    async fn record(&mut self, order: &Order, attempt: &str) -> Result<bool, Error> {
        let (source, target) = (&mut self.source, &mut self.target);
        let arriving = record(&order.source, Step::Copying, attempt);
        target.book().write(End::Arriving, &arriving).await?;
        if source.book().read(End::Arriving).await?.as_ref() == Some(&arriving) {
            target.book().remove(End::Arriving).await?;
            return Ok(false);
        }
        // What an earlier move in the other direction has left.
        source.book().remove(End::Arriving).await?;
        target.book().remove(End::Leaving).await?;
        let leaving = record(&order.target, Step::Copying, attempt);
        source.book().write(End::Leaving, &leaving).await?;
        if target.keys(&self.to).is_none() {
            // What an interrupted attempt has left goes, and with it whoever has a password there. The record of this
            // attempt goes along.
            target.remove(&self.to).await?;
            target.book().write(End::Arriving, &arriving).await?;
        }
        Ok(true)
    }

    /// The point of no return, and what says the same beside it.
    async fn switch(mut self, order: &Order, attempt: &str) -> Result<Outcome, Error> {
        let leaving = record(&order.target, Step::Switched, attempt);
        self.source.book().write(End::Leaving, &leaving).await?;
        let arriving = record(&order.source, Step::Switched, attempt);
        self.target.book().write(End::Arriving, &arriving).await?;
        Ok(Outcome::Switched(self.to))
    }
}

/// The copying itself, which two etcds do in their own way.
enum Copy {
    Etcd {
        transfer: Box<Transfer>,
        following: Option<Box<Following>>,
    },
    Across(Box<Across>),
}

impl Copy {
    /// Both accounts are there; the first may be written to, the second may not, by nobody but us.
    async fn begin(order: &Order, ends: &mut Ends) -> Result<Self, Error> {
        let Ends {
            source,
            target,
            from,
            to,
            ..
        } = ends;
        let unrecorded = if order.empty_target && *to == order.asked && to.schema == order.owner {
            Unrecorded::Adopt
        } else {
            Unrecorded::Refuse
        };
        target.ensure(to, unrecorded).await?;
        if let Some(keys) = target.keys(to) {
            keys.close().await?;
        }
        source.thaw(from).await?;
        if let (Some(source), Some(target)) = (source.keys(from), target.keys(to)) {
            return Ok(Self::Etcd {
                transfer: Box::new(Transfer::new(source, target)),
                following: None,
            });
        }
        let password = source.side.password.clone();
        let first = match source.keys(from) {
            Some(keys) => Some(Source::Etcd(Box::new(keys))),
            None => source.kine(from, password.as_deref()).await?.map(Source::Kine),
        };
        let second = match target.keys(to) {
            Some(keys) => Some(Target::Etcd(Box::new(keys))),
            None => target.kine(to, None).await?.map(Target::Kine),
        };
        let (Some(first), Some(second)) = (first, second) else {
            return Err(Error::NothingThere(source.side.name.clone()));
        };
        Ok(Self::Across(Box::new(Across::new(first, second))))
    }

    async fn bring(&mut self) -> Result<usize, Error> {
        match self {
            Self::Etcd { transfer, following } => {
                let snapshot = transfer.source.revision().await?;
                let keys = transfer.bring(snapshot).await?;
                *following = Some(Box::new(Following::begin(&transfer.source, snapshot).await?));
                Ok(keys)
            }
            Self::Across(across) => Box::pin(across.bring()).await,
        }
    }

    /// Gives how much has changed, and the revision up to which it was copied.
    async fn follow(&mut self) -> Result<(usize, i64), Error> {
        match self {
            Self::Etcd { transfer, following } => match following {
                Some(following) => transfer.follow(following).await,
                None => Ok((0, 0)),
            },
            Self::Across(across) => Box::pin(across.follow()).await,
        }
    }

    /// Follows on until the tenant's controllers can bear a refused write.
    async fn rest(&mut self, tenant: &Client) -> Result<(), Error> {
        let until = Instant::now() + rest::AT_MOST;
        while Instant::now() < until && rest::is_beginning(tenant).await {
            tokio::time::sleep(rest::LOOK_AGAIN).await;
            self.follow().await?;
        }
        Ok(())
    }

    async fn raise(&mut self) -> Result<(), Error> {
        match self {
            Self::Etcd { transfer, .. } => raise(transfer.source.revision().await?, &transfer.target).await,
            Self::Across(across) => across.raise().await,
        }
    }

    async fn freeze(&mut self) -> Result<(), Error> {
        match self {
            Self::Etcd { transfer, .. } => transfer.source.freeze().await,
            Self::Across(across) => across.freeze().await,
        }
    }

    /// Makes the second store one that is only to be switched to. Gives how many keys were compared.
    async fn settle(&mut self, mark: i64) -> Result<usize, Error> {
        match self {
            Self::Etcd { transfer, .. } => {
                transfer.target.raise_revision(mark + 1).await?;
                let keys = transfer.compare(mark).await?;
                transfer.source.unmark().await?;
                Ok(keys)
            }
            Self::Across(across) => Box::pin(across.settle(mark)).await,
        }
    }
}

/// Brings an etcd's revision past the source's newest, and further if it was far behind: the source goes on meanwhile.
pub(super) async fn raise(newest: i64, target: &Keyspace) -> Result<(), Error> {
    let behind = newest - target.revision().await?;
    if behind + RAISE_MARGIN <= 0 {
        return Ok(());
    }
    if behind > RAISE_AT_MOST {
        return Err(Error::RevisionBehind {
            store: target.store.clone(),
            behind,
            limit: RAISE_AT_MOST,
        });
    }
    let to = newest + 2 * RAISE_MARGIN + behind.max(0) / 2;
    target.raise_revision(to).await
}

/// The data stays in the first store, which is written to again.
pub(super) async fn give_back(source: &mut Opened, account: &Account, left: Option<&Record>) -> Result<(), Error> {
    let Some(left) = left else { return Ok(()) };
    let record = Record {
        step: Step::Copying,
        ..left.clone()
    };
    source.book().write(End::Leaving, &record).await?;
    source.thaw(account).await
}
