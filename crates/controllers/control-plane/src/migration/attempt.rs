//! One attempt to move, from the first look to the switch. It runs beside the passes and tells them where it is.
//!
//! 1. Both stores are asked what they know; the second gets an account that may not write.
//! 2. All keys are copied as of one revision, then changes are followed until they are few. Reads and writes go on.
//! 3. The first store takes the right to write away; what is left is copied; every key and value is compared.
//! 4. The first store records the switch. From here on there is no return, before there always is.

use std::time::{Duration, Instant};

use crate::datastore::etcd::{Claim, EtcdStore, StoreConfig, Unrecorded};
use crate::desired::Account;

use super::Shared;
use super::copy::Transfer;
use super::error::Error;
use super::keyspace::Keyspace;
use super::record::{Book, End, Record, Step};
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
const RAISE_MARGIN: i64 = 1_000;

/// One of the two stores.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Name of the DataStore.
    pub(crate) name: String,
    pub(crate) login: StoreConfig,
}

/// What is to be moved.
#[derive(Debug)]
pub(crate) struct Order {
    /// UID of the TenantControlPlane.
    pub(crate) owner: String,
    pub(crate) source: Side,
    pub(crate) target: Side,
    /// Names that status and Secret agree on in the source, of a user whose certificate is there.
    pub(crate) agreed: Option<Account>,
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
    pub(super) store: EtcdStore,
    name: String,
    owner: String,
}

impl Opened {
    pub(super) async fn connect(side: &Side, owner: &str) -> Result<Self, Error> {
        let store = EtcdStore::connect(&side.login).await;
        Ok(Self {
            store: store.map_err(|source| failed(&side.name, source))?,
            name: side.name.clone(),
            owner: owner.to_owned(),
        })
    }

    pub(super) fn book(&self) -> Book<'_> {
        Book {
            store: &self.name,
            client: self.store.client(),
            owner: &self.owner,
        }
    }

    pub(super) fn keys(&self, schema: &str) -> Keyspace {
        Keyspace::new(&self.name, self.store.client(), schema)
    }

    /// The account that is on record here.
    pub(super) async fn account(&mut self, named: Option<&Account>) -> Result<Option<Account>, Error> {
        let names = named.map(|account| (account.schema.as_str(), account.user.as_str()));
        let held = self.store.held(&self.owner, names).await;
        let held = held.map_err(|source| failed(&self.name, source))?;
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

    pub(super) async fn ensure(&mut self, account: &Account, unrecorded: Unrecorded) -> Result<(), Error> {
        let claim = self.claim(account);
        let made = self.store.ensure(&claim, unrecorded).await;
        made.map_err(|source| failed(&self.name, source))
    }

    /// Whether these names are of one account, whose user is certified.
    async fn proves(&mut self, account: &Account) -> Result<bool, Error> {
        let claim = self.claim(account);
        let proven = self.store.proves(&claim, true).await;
        proven.map_err(|source| failed(&self.name, source))
    }

    /// Removes the account with its data.
    pub(super) async fn remove(&mut self, account: &Account) -> Result<(), Error> {
        let claim = self.claim(account);
        let removed = self.store.remove(&claim, Unrecorded::Refuse).await;
        removed.map_err(|source| failed(&self.name, source))
    }

    fn claim(&self, account: &Account) -> Claim {
        Claim {
            schema: account.schema.clone(),
            user: account.user.clone(),
            owner: self.owner.clone(),
        }
    }
}

fn failed(store: &str, source: crate::datastore::etcd::StoreError) -> Error {
    Error::Store {
        store: store.to_owned(),
        source,
    }
}

/// See the module.
pub(super) async fn attempt(order: &Order, shared: &Shared) -> Result<Outcome, Error> {
    let mut source = Opened::connect(&order.source, &order.owner).await?;
    let left = source.book().read(End::Leaving).await?;
    let here = source.account(order.agreed.as_ref()).await?;
    let connected = Opened::connect(&order.target, &order.owner).await;
    let mut target = match (connected, &here) {
        (Ok(target), _) => target,
        (Err(error), Some(account)) => {
            // Nobody has written to the target, so the data is still here.
            give_back(&source, account, left.as_ref()).await?;
            return Err(error);
        }
        (Err(error), None) => return Err(error),
    };
    let there = target.account(here.as_ref()).await?;
    let account = match (here, there, &order.agreed) {
        (Some(here), _, _) => here,
        (None, Some(_), _) => return Ok(Outcome::Settled),
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
    if let Some(committed) = committed {
        return switch(order, &source, &target, &committed.attempt, account).await;
    }
    let attempt = jiff::Timestamp::now().as_nanosecond().to_string();
    let record = |other: &Side| Record {
        other: other.name.clone(),
        step: Step::Copying,
        attempt: attempt.clone(),
    };
    let arriving = record(&order.source);
    target.book().write(End::Arriving, &arriving).await?;
    if source.book().read(End::Arriving).await? == Some(arriving) {
        target.book().remove(End::Arriving).await?;
        return Ok(Outcome::Settled);
    }
    // What an earlier move in the other direction has left.
    source.book().remove(End::Arriving).await?;
    target.book().remove(End::Leaving).await?;
    source.book().write(End::Leaving, &record(&order.target)).await?;
    let unrecorded = if order.empty_target && account.schema == order.owner && account.user == order.owner {
        Unrecorded::Adopt
    } else {
        Unrecorded::Refuse
    };
    target.ensure(&account, unrecorded).await?;
    target.keys(&account.schema).freeze().await?;
    source.keys(&account.schema).thaw().await?;

    let mut copy = Transfer::new(source.keys(&account.schema), target.keys(&account.schema));
    let began = Instant::now();
    let snapshot = copy.source.revision().await?;
    let keys = copy.bring(snapshot).await?;
    let mut stream = copy.source.watch(snapshot).await?;
    for _ in 0..LOOKS {
        let (changes, _) = copy.follow(&mut stream).await?;
        raise(&copy).await?;
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

    if !shared.advance(&Stage::Copying, Stage::Frozen) {
        return Ok(Outcome::Settled);
    }
    let frozen = Instant::now();
    let standing = async {
        copy.source.freeze().await?;
        let (changes, mark) = copy.follow(&mut stream).await?;
        copy.target.raise_revision(mark + 1).await?;
        let keys = copy.compare(mark).await?;
        copy.source.unmark().await?;
        Ok::<_, Error>((changes, keys))
    };
    let stood = tokio::time::timeout(FREEZE_WITHIN, standing).await;
    let stood = stood.unwrap_or(Err(Error::TooSlow(FREEZE_WITHIN)));
    let committing = match stood {
        Ok((changes, keys)) => {
            tracing::info!(
                owner = order.owner,
                keys,
                changes,
                frozen_ms = frozen.elapsed().as_millis(),
                "compared a control plane's data"
            );
            shared.advance(&Stage::Frozen, Stage::Committing)
        }
        Err(error) => {
            let left = record(&order.target);
            give_back(&source, &account, Some(&left)).await?;
            return Err(error);
        }
    };
    if !committing {
        // Whoever gave it up gives the right to write back.
        return Ok(Outcome::Settled);
    }
    switch(order, &source, &target, &attempt, account).await
}

/// Brings the target's revision past the source's, and further if it was far behind: the source goes on meanwhile.
async fn raise(copy: &Transfer) -> Result<(), Error> {
    let (newest, known) = (copy.source.revision().await?, copy.target.revision().await?);
    let behind = newest - known;
    if behind + RAISE_MARGIN <= 0 {
        return Ok(());
    }
    if behind > RAISE_AT_MOST {
        return Err(Error::RevisionBehind {
            store: copy.target.store.clone(),
            behind,
            limit: RAISE_AT_MOST,
        });
    }
    let to = newest + 2 * RAISE_MARGIN + behind.max(0) / 2;
    copy.target.raise_revision(to).await
}

/// The point of no return, and what says the same beside it.
async fn switch(
    order: &Order,
    source: &Opened,
    target: &Opened,
    attempt: &str,
    account: Account,
) -> Result<Outcome, Error> {
    let record = |other: &Side| Record {
        other: other.name.clone(),
        step: Step::Switched,
        attempt: attempt.to_owned(),
    };
    source.book().write(End::Leaving, &record(&order.target)).await?;
    target.book().write(End::Arriving, &record(&order.source)).await?;
    Ok(Outcome::Switched(account))
}

/// The data stays in the first store, which is written to again.
pub(super) async fn give_back(source: &Opened, account: &Account, left: Option<&Record>) -> Result<(), Error> {
    let Some(left) = left else { return Ok(()) };
    let record = Record {
        step: Step::Copying,
        ..left.clone()
    };
    source.book().write(End::Leaving, &record).await?;
    let keys = source.keys(&account.schema);
    keys.thaw().await?;
    keys.unmark().await
}
