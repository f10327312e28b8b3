//! Moving a control plane's data from one store to another while it is read, and, but for a moment, written.
//!
//! `docs/design/migration.md` says what holds while that goes on, and what clients see. In short: an [`attempt`] copies, follows, has
//! writes refused by the store itself, where nobody gets around it, compares, and records the switch. Passes then lead the
//! pods over ([`crate::reconcile`]), let the second store be written to once all of them use it, and have the first emptied
//! ([`clean`]).
//!
//! The two stores say where a move is ([`record`]), so that an operator that ends at any point is taken up from by the next.
//! What is remembered here ([`Migrations`]) saves asking, and is where the attempt and the passes meet.
//!
//! Refused: a job in a pod, as Kamaji has it. It would need an image, the operator's credentials in a namespace, and a way to
//! say how far it is, for work that is nothing but requests. Refused: freezing with a webhook in the tenant. Components write
//! past it, whoever administers the tenant can remove it, and writes that it let through while the copy was made are lost.

mod across;
mod attempt;
mod clean;
mod copy;
mod error;
mod following;
mod keyspace;
mod leases;
mod record;
mod rest;
mod stage;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use runtime::report::chain;
use tokio::task::AbortHandle;

use self::attempt::{Opened, Outcome, give_back};
pub(crate) use self::attempt::{Order, Side};
pub(crate) use self::error::Error;
use self::record::End;
pub(crate) use self::record::Step;
pub(crate) use self::stage::Stage;
use crate::desired::Account;

/// How long to wait after an attempt that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// What an attempt and the passes share.
pub(crate) struct Shared {
    stage: Mutex<Stage>,
    /// Has a pass look.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stage: Stage) {
        *self.locked() = stage;
        (self.wake)();
    }

    /// Goes on to the next stage, unless the move was given up.
    fn advance(&self, from: &Stage, to: Stage) -> bool {
        let holds = {
            let mut stage = self.locked();
            let holds = *stage == *from;
            if holds {
                *stage = to;
            }
            holds
        };
        (self.wake)();
        holds
    }
}

/// One move. Its work ends with this value.
struct Move {
    source: Option<String>,
    target: String,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

impl Drop for Move {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What is known of the moves of all control planes, by UID.
#[derive(Default)]
pub(crate) struct Migrations {
    known: Mutex<HashMap<String, Move>>,
}

impl std::fmt::Debug for Migrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migrations").finish_non_exhaustive()
    }
}

impl Migrations {
    fn locked(&self) -> MutexGuard<'_, HashMap<String, Move>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the move to this DataStore is, and from where it comes; `None` if nothing is known.
    pub(crate) fn stage(&self, owner: &str, target: &str) -> Option<(Option<String>, Stage)> {
        let known = self.locked();
        let found = known.get(owner).filter(|found| found.target == target)?;
        let stage = found.shared.locked().clone();
        Some((found.source.clone(), stage))
    }

    /// Gives up whatever is under way. `false`: it has not ended yet, or cannot be given up now.
    pub(crate) fn give_up(&self, owner: &str) -> bool {
        let mut known = self.locked();
        let Some(found) = known.get(owner) else { return true };
        {
            let mut stage = found.shared.locked();
            // A store that was asked to refuse writes may do so after nobody waits for it any more. So the attempt hears the
            // answer, and has it taken back itself.
            if *stage == Stage::Frozen {
                *stage = Stage::Returning;
            }
            if !stage.may_end() {
                return false;
            }
            *stage = Stage::Settled;
        }
        known.remove(owner);
        true
    }

    /// A move past its switch that is not at its end, wherever it goes.
    pub(crate) fn past_switch(&self, owner: &str) -> Option<Found> {
        let known = self.locked();
        let found = known.get(owner)?;
        let stage = found.shared.locked().clone();
        let source = found.source.clone().filter(|_| matches!(stage, Stage::Switched(_)))?;
        Some(Found {
            source,
            target: found.target.clone(),
            stage,
        })
    }

    /// Nothing moves, the data is there.
    pub(crate) fn settle(&self, owner: &str, target: &str) {
        self.remember(owner, None, target, Stage::Settled);
    }

    /// The data is there, and the pods are to follow.
    pub(crate) fn switched(&self, owner: &str, source: &str, target: &str, account: Account) {
        self.remember(owner, Some(source.to_owned()), target, Stage::Switched(account));
    }

    fn remember(&self, owner: &str, source: Option<String>, target: &str, stage: Stage) {
        let known = Move {
            source,
            target: target.to_owned(),
            shared: Arc::new(Shared {
                stage: Mutex::new(stage),
                wake: Box::new(|| ()),
            }),
            task: None,
        };
        self.locked().insert(owner.to_owned(), known);
    }

    /// Gives up what has not come to the point where writes wait.
    pub(crate) fn pause(&self, owner: &str) {
        let copying = self.locked().get(owner).is_some_and(|found| {
            matches!(
                *found.shared.locked(),
                Stage::Copying | Stage::Failed(..) | Stage::Again
            )
        });
        if copying {
            self.give_up(owner);
        }
    }

    /// Begins an attempt; `wake` is called whenever a pass should look. The tenant, where it can be reached, is asked whether its
    /// controllers can bear refused writes.
    pub(crate) fn start(&self, order: Order, tenant: Option<Client>, wake: impl Fn() + Send + Sync + 'static) {
        let shared = Arc::new(Shared {
            stage: Mutex::new(Stage::Copying),
            wake: Box::new(wake),
        });
        let (owner, source, target) = (
            order.owner.clone(),
            order.source.name.clone(),
            order.target.name.clone(),
        );
        let running = shared.clone();
        let task = tokio::spawn(async move {
            match attempt::attempt(&order, tenant.as_ref(), &running).await {
                Ok(Outcome::Switched(account)) => running.enter(Stage::Switched(account)),
                Ok(Outcome::Settled) => running.enter(Stage::Settled),
                Err(error) => {
                    let message = chain(&error);
                    tracing::warn!(
                        owner = order.owner,
                        error = message,
                        "failed to move a control plane's data"
                    );
                    running.enter(Stage::Failed(error.category(), message));
                    tokio::time::sleep(AGAIN_AFTER).await;
                    running.enter(Stage::Again);
                }
            }
        });
        let started = Move {
            source: Some(source),
            target,
            shared,
            task: Some(task.abort_handle()),
        };
        self.locked().insert(owner, started);
    }

    /// Empties the store that was left, once nobody reads from it any more.
    pub(crate) fn clean(&self, order: Order, account: Account) {
        let (owner, target) = (order.owner.clone(), order.target.name.clone());
        let task = tokio::spawn(async move { clean::clean(&order, &account).await });
        let shared = Shared {
            stage: Mutex::new(Stage::Settled),
            wake: Box::new(|| ()),
        };
        let cleaning = Move {
            source: None,
            target,
            shared: Arc::new(shared),
            task: Some(task.abort_handle()),
        };
        self.locked().insert(owner, cleaning);
    }
}

/// A move: from where to where, and how far.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) stage: Stage,
}

/// What a store knows of moves that end or begin in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Of none.
    Nothing,
    /// The data comes from the other store.
    Arriving { from: String, step: Step },
    /// The data was to go to the other store.
    Leaving { to: String, step: Step },
}

/// Asks a store.
pub(crate) async fn look_up(side: &Side, owner: &str) -> Result<Known, Error> {
    let mut opened = Opened::connect(side, owner).await?;
    if let Some(arriving) = opened.book().read(End::Arriving).await? {
        return Ok(Known::Arriving {
            from: arriving.other,
            step: arriving.step,
        });
    }
    let leaving = opened.book().read(End::Leaving).await?;
    Ok(leaving.map_or(Known::Nothing, |leaving| Known::Leaving {
        to: leaving.other,
        step: leaving.step,
    }))
}

/// The account under which the data is in a store.
pub(crate) async fn account(side: &Side, owner: &str) -> Result<Option<Account>, Error> {
    Opened::connect(side, owner).await?.account(None).await
}

/// Writes that an attempt has left waiting are taken again. The next attempt begins anew.
pub(crate) async fn let_write(source: &Side, owner: &str) -> Result<(), Error> {
    match look_up(source, owner).await? {
        Known::Leaving {
            step: Step::Copying, ..
        } => stay(source, None, owner).await,
        _ => Ok(()),
    }
}

/// The data stays where it is: it is written again, and what was copied to the other store, if that can be reached, is
/// removed.
pub(crate) async fn stay(source: &Side, target: Option<&Side>, owner: &str) -> Result<(), Error> {
    let mut opened = Opened::connect(source, owner).await?;
    let left = opened.book().read(End::Leaving).await?;
    let Some(account) = opened.account(None).await? else {
        return Ok(());
    };
    give_back(&mut opened, &account, left.as_ref()).await?;
    let Some(target) = target else { return Ok(()) };
    match forsake(target, &account, owner).await {
        Ok(()) => opened.book().remove(End::Leaving).await,
        Err(error) => {
            // The record stays, and with it the reminder for whoever looks next.
            let error = chain(&error);
            tracing::warn!(owner, datastore = target.name, error, "left a copy in a datastore");
            Ok(())
        }
    }
}

/// Removes a copy that is not to become the original.
async fn forsake(target: &Side, account: &Account, owner: &str) -> Result<(), Error> {
    let mut copied = Opened::connect(target, owner).await?;
    let arriving = copied.book().read(End::Arriving).await?;
    // It is the original by now, whatever a status says.
    if arriving.is_none_or(|arriving| arriving.step == Step::Cleaning) {
        return Ok(());
    }
    if let Some(account) = copied.account(Some(account)).await? {
        copied.remove(&account).await?;
    }
    copied.book().remove(End::Arriving).await
}

/// Removes what a move has left, without waiting for pods that end.
pub(crate) async fn empty(order: &Order, account: &Account) -> Result<(), Error> {
    Box::pin(clean::empty(order, account)).await
}

/// All pods use the second store: it may be written to.
pub(crate) async fn release(target: &Side, account: &Account, owner: &str) -> Result<(), Error> {
    let mut opened = Opened::connect(target, owner).await?;
    opened.thaw(account).await?;
    let mut book = opened.book();
    if let Some(record) = book.read(End::Arriving).await? {
        let record = record::Record {
            step: Step::Cleaning,
            ..record
        };
        book.write(End::Arriving, &record).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(migrations: &Migrations) -> Option<Stage> {
        migrations.stage("owner", "second").map(|(_, stage)| stage)
    }

    #[test]
    fn while_writes_wait_an_attempt_is_told_to_return_and_is_not_ended() {
        let migrations = Migrations::default();
        migrations.remember("owner", Some("first".to_owned()), "second", Stage::Frozen);
        let attempt = migrations.locked()["owner"].shared.clone();
        for _ in 0..2 {
            assert!(!migrations.give_up("owner"));
            assert_eq!(at(&migrations), Some(Stage::Returning));
        }
        assert!(!attempt.advance(&Stage::Frozen, Stage::Committing), "it would switch");
        attempt.enter(Stage::Failed("Migrating", "it was given up".to_owned()));
        assert!(migrations.give_up("owner"));
        assert_eq!(at(&migrations), None);
    }

    #[test]
    fn a_switch_that_is_being_recorded_is_not_given_up_and_a_copy_is() {
        let migrations = Migrations::default();
        migrations.remember("owner", Some("first".to_owned()), "second", Stage::Committing);
        assert!(!migrations.give_up("owner"));
        assert_eq!(at(&migrations), Some(Stage::Committing));
        migrations.remember("owner", Some("first".to_owned()), "second", Stage::Copying);
        assert!(migrations.give_up("owner"));
        assert_eq!(at(&migrations), None);
    }
}
