//! What a Tenant limits for all its namespaces together: what is promised to a request, before it is admitted.
//!
//! Far from a limit a request is admitted from a credit that this replica holds, from memory. Near it the promise is written
//! into the budget's ledger first, with those of the requests beside it ([`crate::ledgers`]). The reasons why the sum never
//! exceeds the limit are with the decisions: [`tenancy::quota::credit`] and [`tenancy::quota::tenant`]. What is known of the
//! use comes from the ledger in either case, in the version that is written back, so a replica whose watches lag finds
//! out when it writes; and it never admits from memory what was not written before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::v1beta2::{QuantityLedger, QuantityLedgerStatus};
use jiff::Timestamp;
use runtime::Shared;
use tenancy::denial::Denial;
use tenancy::quota::amounts::Amounts;
use tenancy::quota::global::{self, Account};
use tenancy::quota::ledger::{Ledger, Request as Asked};
use tenancy::quota::stored;
use tenancy::quota::tenant::{self, Answer, Budget};

use crate::credits::{Credit, Credits};
use crate::ledgers::Ledgers;
use crate::live_global_quotas::{Question, account};
use crate::review::Request;
use crate::view::{Source, View};

/// How long a request waits for a ledger, or for its namespace to be counted: less than API servers wait for us.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a request waits for what other replicas were lent.
const RECALL: Duration = Duration::from_secs(2);
/// How often is looked whether what somebody waits for has come.
const LOOK: Duration = Duration::from_millis(100);
/// The reason where nothing is to be taken back.
const NOTHING: &str = "NothingPromised";
/// Not yet: what will be in a moment.
const NOT_READY: u16 = 500;

/// Promises the request what it takes of every budget of the namespace's tenant, or of none. The refusal comes back, if one has
/// not enough.
pub(crate) async fn reserve(source: &Source, view: &View, request: &Request) -> Option<Denial> {
    let (watches, ledgers) = (source.namespace_tenants.as_ref()?, source.ledgers.as_ref()?);
    let tenant = match view.known.tenant_of(request.namespace.as_deref().unwrap_or_default()) {
        Ok(tenant) => tenant?,
        Err(denial) => return Some(denial),
    };
    if tenant.budgets.is_empty() {
        return None;
    }
    let question = match Question::of(request) {
        Ok(question) => question?,
        Err(denial) => return Some(denial),
    };
    let mut asked = Vec::new();
    for budget in &tenant.budgets {
        match global::charge(&budget.quota, &question.review()) {
            Ok(Some(request)) => asked.push((budget.clone(), request)),
            Ok(None) => {}
            Err(denial) => return Some(denial),
        }
    }
    let is_dry_run = request.dry_run == Some(true);
    let mut promises: Vec<(Promise, Amounts)> = Vec::new();
    for (budget, asked) in asked {
        let delta = asked.delta.clone();
        let desk = Desk {
            ledgers: ledgers.clone(),
            credits: source.credits.clone(),
            known: watches.quantity_ledgers.clone(),
            place: source.own_namespace().to_owned(),
            budget,
            asked,
            is_dry_run,
        };
        match desk.promise().await {
            Ok(promise) => promises.push((promise, delta)),
            Err(denial) => {
                for (promise, delta) in promises {
                    promise.take_back(delta, ledgers, source.own_namespace()).await;
                }
                return Some(denial);
            }
        }
    }
    None
}

/// Where a request has its promise from.
enum Promise {
    Credit(Arc<tokio::sync::Mutex<Credit>>),
    Ledger(String),
    /// A dry run has none.
    None,
}

impl Promise {
    /// The request was refused by a later budget. What cannot be taken back now ends by itself.
    async fn take_back(self, delta: Amounts, ledgers: &Ledgers, place: &str) {
        match self {
            Self::Credit(credit) => credit.lock().await.put_back(&delta),
            Self::Ledger(name) => change_and_forget(ledgers, place, &name, move |ledger| ledger.deduct(&delta)).await,
            Self::None => {}
        }
    }
}

/// One request before one budget.
#[derive(Clone)]
struct Desk {
    ledgers: Ledgers,
    credits: Arc<Credits>,
    known: Shared<QuantityLedger>,
    /// Namespace of the ledgers.
    place: String,
    budget: Arc<Budget>,
    asked: Asked,
    is_dry_run: bool,
}

impl Desk {
    /// Waits for as long as it can not be known yet.
    async fn promise(self) -> Result<Promise, Denial> {
        let mut latest = None;
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.try_promise().await {
                    Err(denial) if denial.code == NOT_READY => latest = Some(denial),
                    other => return other,
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(latest.unwrap_or_else(|| {
                let message = format!(
                    "QuantityLedger {:?} was not to be had in time; please retry",
                    self.budget.ledger
                );
                Denial::new("", "QuotaNotReady", message).with_code(NOT_READY)
            })),
        }
    }

    async fn try_promise(&self) -> Result<Promise, Denial> {
        let held = self.credits.of(&self.budget.ledger);
        let mut credit = held.lock().await;
        if credit.covers(&self.asked.delta, Instant::now()) {
            if self.is_dry_run {
                return Ok(Promise::None);
            }
            credit.take(&self.asked.delta);
            drop(credit);
            return Ok(Promise::Credit(held));
        }
        if self.is_dry_run {
            drop(credit);
            return self.ask().await;
        }
        if credit.is_over(Instant::now())
            && let Some(unused) = credit.drain().filter(|unused| !unused.is_zero())
        {
            self.give_back(unused).await;
        }
        if self.is_far(&credit) {
            self.borrow(&mut credit).await?;
            if !credit.is_kept {
                credit.is_kept = true;
                tokio::spawn(self.clone().keep(held.clone()));
            }
            if credit.covers(&self.asked.delta, Instant::now()) {
                credit.take(&self.asked.delta);
                drop(credit);
                return Ok(Promise::Credit(held));
            }
        }
        // What we hold is in the way of our own requests now.
        let unused = credit.drain();
        drop(credit);
        if let Some(unused) = unused {
            self.give_back(unused).await;
        }
        self.ask().await
    }

    /// Whether something would be lent to us by what the watch shows. If that is late, a write finds out.
    fn is_far(&self, credit: &Credit) -> bool {
        let ledger = self.known.get(Some(&self.place), &self.budget.ledger);
        let account = ledger.and_then(|ledger| account(&ledger).ok());
        let Ok(ledger) = tenant::ready(&self.budget, account.as_ref(), &self.asked) else {
            return false;
        };
        self.lend(ledger, &credit.held(Instant::now())).is_some()
    }

    fn lend(&self, ledger: &Ledger, held: &Amounts) -> Option<tenancy::quota::credit::Credit> {
        let hard = &self.budget.quota.hard;
        ledger.lend(&self.credits.replica, &self.asked, held, hard, Timestamp::now())
    }

    /// Adds what is lent to us, if anything is.
    async fn borrow(&self, credit: &mut Credit) -> Result<(), Denial> {
        let began = Instant::now();
        let lent = Arc::new(Mutex::new(None));
        let (desk, held, into) = (self.clone(), credit.held(began), lent.clone());
        self.change(move |account, before| {
            let put = |amounts: Option<Amounts>| *into.lock().unwrap_or_else(PoisonError::into_inner) = amounts;
            // Whatever an earlier try was lent was not written.
            put(None);
            let ledger = tenant::ready(&desk.budget, account, &desk.asked)?;
            let Some(credit) = desk.lend(ledger, &held) else {
                return Ok(None);
            };
            put(Some(credit.amounts));
            Ok(written(account, before, credit.ledger))
        })
        .await?;
        let lent = lent.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lent) = lent {
            credit.add(&lent, began);
        }
        Ok(())
    }

    /// A promise in the ledger. While others hold what could be enough, it is waited for.
    async fn ask(&self) -> Result<Promise, Denial> {
        let give_up = Instant::now() + RECALL;
        let mut has_waited = false;
        loop {
            let waits = Arc::new(AtomicBool::new(false));
            let (desk, waiting, may_wait) = (self.clone(), waits.clone(), Instant::now() < give_up);
            let asked = self.change(move |account, before| {
                waiting.store(false, Ordering::Relaxed);
                let ledger = tenant::ready(&desk.budget, account, &desk.asked)?;
                let replica = (desk.credits.replica.as_str(), may_wait);
                match tenant::promise(&desk.budget, ledger, &desk.asked, replica, Timestamp::now())? {
                    Answer::Promised(next) => Ok(written(account, before, next)),
                    Answer::Waits(next) => {
                        waiting.store(true, Ordering::Relaxed);
                        let is_new = next != *ledger;
                        Ok(is_new.then(|| written(account, before, next)).flatten())
                    }
                }
            });
            let asked = asked.await;
            if let Err(denial) = asked {
                if has_waited {
                    let id = self.asked.id.clone();
                    let gone = move |ledger: &Ledger| ledger.without(&id);
                    change_and_forget(&self.ledgers, &self.place, &self.budget.ledger, gone).await;
                }
                return Err(denial);
            }
            match (waits.load(Ordering::Relaxed), self.is_dry_run) {
                // There may be enough when replicas have given back; nobody is to do that for a dry run.
                (_, true) => return Ok(Promise::None),
                (false, false) => return Ok(Promise::Ledger(self.budget.ledger.clone())),
                (true, false) => has_waited = true,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn change(
        &self,
        mut change: impl FnMut(Option<&Account>, &QuantityLedgerStatus) -> Result<Option<QuantityLedgerStatus>, Denial>
        + Send
        + 'static,
    ) -> Result<(), Denial> {
        let (name, is_dry_run) = (&self.budget.ledger, self.is_dry_run);
        self.ledgers
            .change(&self.place, name, is_dry_run, move |current| {
                let account = current.map(account).transpose()?;
                let before = current.and_then(|current| current.status.clone()).unwrap_or_default();
                change(account.as_ref(), &before)
            })
            .await
    }

    /// Also when nothing is left: then others hear that there is nothing to wait for.
    async fn give_back(&self, unused: Amounts) {
        let replica = self.credits.replica.clone();
        let given_back = move |ledger: &Ledger| ledger.give_back(&replica, &unused);
        change_and_forget(&self.ledgers, &self.place, &self.budget.ledger, given_back).await;
    }

    /// Gives back what is not used when its time is over, or somebody waits for it.
    async fn keep(self, held: Arc<tokio::sync::Mutex<Credit>>) {
        let mut looked_at: Option<Arc<QuantityLedger>> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let ledger = self.known.get(Some(&self.place), &self.budget.ledger);
            let is_new = match (&looked_at, &ledger) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                (before, now) => before.is_some() != now.is_some(),
            };
            let is_waited_for = is_new
                && ledger.as_ref().is_some_and(|ledger| {
                    account(ledger).is_ok_and(|account| account.ledger.is_waited_for(Timestamp::now()))
                });
            looked_at = ledger;
            let mut credit = held.lock().await;
            let is_over = credit.is_over(Instant::now());
            if !is_over && !is_waited_for {
                continue;
            }
            let unused = credit.drain();
            credit.is_kept = false;
            drop(credit);
            if let Some(unused) = unused.filter(|unused| is_waited_for || !unused.is_zero()) {
                self.give_back(unused).await;
            }
            return;
        }
    }
}

/// The status with another ledger in the account.
fn written(account: Option<&Account>, before: &QuantityLedgerStatus, ledger: Ledger) -> Option<QuantityLedgerStatus> {
    let account = account?.clone();
    Some(stored::global_status(&Account { ledger, ..account }, before))
}

/// A change that nobody waits for. If it fails, what it would have let go ends by itself.
async fn change_and_forget(
    ledgers: &Ledgers,
    place: &str,
    name: &str,
    mut change: impl FnMut(&Ledger) -> Ledger + Send + 'static,
) {
    let changed = ledgers.change(place, name, false, move |current| {
        let Some(current) = current else { return Ok(None) };
        let account = account(current)?;
        let next = change(&account.ledger);
        if next == account.ledger {
            // By a watch that is behind: then the API server is asked.
            return Err(Denial::new("", NOTHING, "there is nothing to take back"));
        }
        let before = current.status.clone().unwrap_or_default();
        Ok(written(Some(&account), &before, next))
    });
    if let Err(denial) = changed.await
        && denial.reason != NOTHING
    {
        tracing::warn!(ledger = name, error = %denial, "what was promised was not taken back");
    }
}
