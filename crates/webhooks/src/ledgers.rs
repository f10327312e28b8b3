//! Promises out of budgets that many namespaces share, written into QuantityLedgers before a request is admitted.
//!
//! # Flow
//! A hook hands in what it asks of a ledger as a function, [`Ledgers::change`]. All that ask the same ledger at a moment are
//! decided one after the other upon what is known of it, and written together, with the version that was read: whoever else
//! wrote meanwhile, another replica or the controller, makes the API server refuse that, and all are decided again upon what
//! is there. So a promise is in etcd before anybody is told that it was made, and fifty requests cost about two writes.
//!
//! What is known comes from the watch. It may be behind, which costs a second try and never a wrong promise. A refusal is
//! decided upon what the API server has, so that what was freed a moment ago is not refused.
//!
//! # Caveats
//! A request that ends after its promise was written leaves it behind; it ends as [`tenancy::quota::ledger`] says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::capsule::names::FIELD_MANAGER;
use api::capsule::v1beta2::{QuantityLedger, QuantityLedgerStatus};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use runtime::Shared;
use runtime::report::{chain, is_conflict, is_not_found};
use tenancy::denial::Denial;
use tokio::sync::oneshot;

/// How long a request waits for its ledger: less than API servers wait for us.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a hook asks of a ledger: the status to be written, or `None` if nothing changes. It is asked again whenever somebody
/// else was faster. A ledger that is not there is `None`, and nothing can be written to it.
type Change = Box<dyn FnMut(Option<&QuantityLedger>) -> Result<Option<QuantityLedgerStatus>, Denial> + Send>;

/// Namespace and name of a ledger.
type Place = (String, String);

struct Job {
    change: Change,
    is_dry_run: bool,
    answer: oneshot::Sender<Result<(), Denial>>,
}

/// All ledgers. Cheap to clone; clones share the queues.
#[derive(Clone)]
pub(crate) struct Ledgers {
    client: Client,
    known: Shared<QuantityLedger>,
    /// Whoever waits, by ledger. A ledger that is here has a task that works for it.
    waiting: Arc<Mutex<HashMap<Place, Vec<Job>>>>,
}

impl Ledgers {
    pub(crate) fn new(client: &Client, known: &Shared<QuantityLedger>) -> Self {
        Self {
            client: client.clone(),
            known: known.clone(),
            waiting: Arc::default(),
        }
    }

    /// Changes a ledger as `change` says, and returns when that is in etcd. A dry run decides and writes nothing.
    ///
    /// # Errors
    /// What `change` says, or that the ledger was not to be had in time (500).
    pub(crate) async fn change(
        &self,
        namespace: &str,
        name: &str,
        is_dry_run: bool,
        change: impl FnMut(Option<&QuantityLedger>) -> Result<Option<QuantityLedgerStatus>, Denial> + Send + 'static,
    ) -> Result<(), Denial> {
        let place = (namespace.to_owned(), name.to_owned());
        let (answer, answered) = oneshot::channel();
        let job = Job {
            change: Box::new(change),
            is_dry_run,
            answer,
        };
        {
            let mut waiting = self.waiting();
            if let Some(jobs) = waiting.get_mut(&place) {
                jobs.push(job);
            } else {
                waiting.insert(place.clone(), vec![job]);
                tokio::spawn(self.clone().work(place));
            }
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(unavailable(name)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Place, Vec<Job>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works for a ledger until nobody waits for it.
    async fn work(self, place: Place) {
        let mut desk = Desk {
            ledgers: self,
            place,
            is_over: false,
        };
        // What this task wrote is newer than what the watch shows.
        let mut written = None;
        while let Some(jobs) = desk.next() {
            written = desk.ledgers.settle(&desk.place, jobs, written.take()).await;
        }
    }

    /// Decides about all, writes once, and answers. What is known of the ledger then comes back.
    async fn settle(&self, place: &Place, mut jobs: Vec<Job>, known: Option<QuantityLedger>) -> Option<QuantityLedger> {
        let mut known = known.or_else(|| {
            let seen = self.known.get(Some(&place.0), &place.1);
            seen.map(|seen| seen.as_ref().clone())
        });
        let mut is_live = false;
        loop {
            jobs.retain(|job| !job.answer.is_closed());
            let (next, answers) = decide(known.as_ref(), &mut jobs);
            if jobs.is_empty() {
                return known;
            }
            let is_refused = answers.iter().any(Result::is_err);
            let written = match next {
                _ if is_refused && !is_live => None,
                None => {
                    answer(jobs, answers);
                    return known;
                }
                Some(next) => match write(&self.api(&place.0), &next).await {
                    Ok(Some(written)) => {
                        answer(jobs, answers);
                        return Some(written);
                    }
                    written => Some(written),
                },
            };
            let read = match written {
                Some(Err(error)) => Err(error),
                Some(Ok(_)) | None => self.api(&place.0).get_opt(&place.1).await,
            };
            match read {
                Ok(read) => (known, is_live) = (read, true),
                Err(error) => {
                    tracing::warn!(
                        ledger = %format!("{}/{}", place.0, place.1),
                        error = chain(&error),
                        "a ledger could not be used"
                    );
                    let answers = jobs.iter().map(|_| Err(unavailable(&place.1))).collect();
                    answer(jobs, answers);
                    return None;
                }
            }
        }
    }

    fn api(&self, namespace: &str) -> Api<QuantityLedger> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Writes a ledger's status in the version that was read. `None` if somebody else was faster.
pub(crate) async fn write(
    api: &Api<QuantityLedger>,
    ledger: &QuantityLedger,
) -> Result<Option<QuantityLedger>, kube::Error> {
    match api.replace_status(&ledger.name_any(), &params(), ledger).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Where one task works for one ledger. A task that ends, whatever the reason, leaves the place free for another.
struct Desk {
    ledgers: Ledgers,
    place: Place,
    is_over: bool,
}

impl Desk {
    /// All who wait. `None`, and over, if nobody does.
    fn next(&mut self) -> Option<Vec<Job>> {
        let mut waiting = self.ledgers.waiting();
        let jobs = waiting.get_mut(&self.place).map(std::mem::take).unwrap_or_default();
        if jobs.is_empty() {
            waiting.remove(&self.place);
            drop(waiting);
            self.is_over = true;
            return None;
        }
        Some(jobs)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !self.is_over {
            self.ledgers.waiting().remove(&self.place);
        }
    }
}

/// Decides one after the other. The ledger to be written comes back, if something changes.
fn decide(known: Option<&QuantityLedger>, jobs: &mut [Job]) -> (Option<QuantityLedger>, Vec<Result<(), Denial>>) {
    let mut next: Option<QuantityLedger> = None;
    let answers = jobs.iter_mut().map(|job| {
        let current = next.as_ref().or(known);
        if let Some(status) = (job.change)(current)?
            && !job.is_dry_run
            && let Some(mut ledger) = current.cloned()
        {
            ledger.status = Some(status);
            next = Some(ledger);
        }
        Ok(())
    });
    let answers = answers.collect();
    (next, answers)
}

fn answer(jobs: Vec<Job>, answers: Vec<Result<(), Denial>>) {
    for (job, answer) in jobs.into_iter().zip(answers) {
        // Whoever has gone away does not want to know.
        let _ = job.answer.send(answer);
    }
}

fn unavailable(name: &str) -> Denial {
    let message = format!("QuantityLedger {name:?} could not be written in time; please retry");
    Denial::new("", "QuotaNotReady", message).with_code(500)
}
