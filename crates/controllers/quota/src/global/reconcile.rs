//! One look at a quota.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{GlobalResourceQuota, GlobalResourceQuotaStatus, QuantityLedger};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use runtime::Action;
use runtime::events::Recorder;
use runtime::report::is_not_found;
use tenancy::quota::arrivals::Arrivals;
use tenancy::quota::global::{Projection, project};
use tenancy::quota::ledger::Ledger;
use tenancy::quota::stored;
use tenancy::quota::verdict::Verdict;

use super::apply::Writer;
use super::desired::{Step, steps, to_be_counted_again};
use super::observe::{Observed, Stores};
use super::status;
use super::watches::Watches;
use crate::{Context, Error};

/// While a watch has not caught up with what was written.
const CATCH_UP: Duration = Duration::from_millis(100);
/// A request is over, for all that matters here, when its promise is this old.
const QUIET: Duration = Duration::from_millis(250);
/// The longest that requests without a pause hold up a pass.
const PATIENCE: Duration = Duration::from_secs(1);
/// What was promised this long ago and is not counted is overdue: its request was refused after all, or Kubernetes missed it.
const OVERDUE: Duration = Duration::from_secs(2);
/// How often a namespace is counted again for that.
const RECOUNT: Duration = Duration::from_secs(30);
/// Requests in flight for one quota.
const IN_FLIGHT: usize = 8;
/// Somebody else wrote the ledger first: that often it is read again within one look.
const ATTEMPTS: usize = 8;
/// More messages than this help nobody.
const MESSAGES: usize = 5;

/// Of one quota's ledger.
#[derive(Default)]
struct Known {
    arrivals: Arrivals,
    /// The version of the ledger that they were noted in: what a watch shows may be older.
    version: u64,
}

pub(super) struct Quotas {
    stores: Stores,
    writer: Writer,
    recorder: Recorder,
    watches: Watches,
    /// What is known of promised requests, by UID of the quota.
    arrivals: Mutex<HashMap<String, Known>>,
    /// Since when a count waits for requests on their way, by UID of the quota.
    waiting: Mutex<HashMap<String, Instant>>,
    /// When Kubernetes was made to count again, by UID of the quota and namespace.
    recounted: Mutex<HashMap<(String, String), Instant>>,
}

impl Quotas {
    pub(super) fn new(context: &Context, stores: Stores) -> Self {
        Self {
            stores,
            writer: Writer::new(&context.client, &context.namespace),
            recorder: context.recorder.clone(),
            watches: Watches::new(&context.client),
            arrivals: Mutex::default(),
            waiting: Mutex::default(),
            recounted: Mutex::default(),
        }
    }

    pub(super) async fn reconcile(&self, name: &str) -> Result<Action, Error> {
        let quota = self.stores.quotas.get(None, name);
        // What is made for a quota goes with it, by the API server's garbage collection.
        let Some(quota) = quota.filter(|quota| quota.metadata.deletion_timestamp.is_none()) else {
            self.forget();
            return Ok(Action::AwaitChange);
        };
        match self.serve(&quota).await {
            Err(error) if error.is_conflict() => Ok(Action::RequeueAfter(CATCH_UP)),
            // The end of it is on its way.
            Err(error) if is_gone(&error) => Ok(Action::AwaitChange),
            other => other,
        }
    }

    async fn serve(&self, quota: &GlobalResourceQuota) -> Result<Action, Error> {
        let now = Timestamp::now();
        let observed = match self.stores.observe(quota) {
            Ok(observed) => observed,
            // Nothing is given or taken on account of what cannot be read.
            Err(error) => {
                let ready = Verdict::no(READY_CONDITION, "Failed", error.to_string());
                self.publish(quota, status::unreadable(quota, &ready, now)).await?;
                return Ok(Action::AwaitChange);
            }
        };
        if let Some(wait) = self.wait(&observed, now) {
            return Ok(Action::RequeueAfter(wait));
        }
        let owner = OwnerReference {
            block_owner_deletion: Some(true),
            ..quota.controller_owner_ref(&()).unwrap_or_default()
        };
        let projection = project(&observed.quota, &owner, &observed.used());
        let ledger = match self.count(quota, &owner, &observed, &projection, now).await {
            Err(error) if !error.is_conflict() => {
                let ready = Verdict::no(READY_CONDITION, "Failed", error.told());
                self.publish(quota, status::unreadable(quota, &ready, now)).await?;
                return Err(error);
            }
            counted => counted?,
        };
        self.waiting().remove(&observed.uid);

        let mut failed = self.keep_children(&observed, &projection).await;
        failed.extend(self.recount(&observed, &projection, &ledger, now).await);
        let messages: Vec<String> = failed.iter().take(MESSAGES).map(Error::told).collect();
        let ready = if messages.is_empty() {
            projection.ready.clone()
        } else {
            Verdict::no(READY_CONDITION, "Failed", messages.join("; "))
        };
        let status = status::of(quota, &observed, &projection, &ready, now);
        self.publish(quota, status).await?;
        match failed.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(until_the_next_end(&ledger, now)),
        }
    }

    /// How long to wait for requests on their way. Nothing waits when other things than uses are new.
    fn wait(&self, observed: &Observed, now: Timestamp) -> Option<Duration> {
        let status = observed.ledger.as_ref()?.status.as_ref()?;
        let account = stored::global_account(status).ok()?;
        self.watches.follow(&account.ledger);
        let newest = account.ledger.reservations.iter().map(|it| it.updated_at).max()?;
        let age = Duration::try_from(now.duration_since(newest)).unwrap_or_default();
        let is_settled = account.initialized
            && account.observed_generation == observed.quota.generation
            && account.namespaces == observed.namespaces;
        if !is_settled || age >= QUIET {
            return None;
        }
        let mut waiting = self.waiting();
        let since = waiting.entry(observed.uid.clone()).or_insert_with(Instant::now);
        (since.elapsed() < PATIENCE).then(|| QUIET.saturating_sub(age).max(Duration::from_millis(1)))
    }

    /// Puts what was counted into the ledger, whatever was promised meanwhile.
    async fn count(
        &self,
        quota: &GlobalResourceQuota,
        owner: &OwnerReference,
        observed: &Observed,
        projection: &Projection,
        now: Timestamp,
    ) -> Result<Ledger, Error> {
        // Nobody else looks at this quota meanwhile.
        let mut known = self.arrivals().remove(&observed.uid).unwrap_or_default();
        let counted = self
            .count_upon(&mut known, quota, owner, observed, projection, now)
            .await;
        self.arrivals().insert(observed.uid.clone(), known);
        counted
    }

    async fn count_upon(
        &self,
        known: &mut Known,
        quota: &GlobalResourceQuota,
        owner: &OwnerReference,
        observed: &Observed,
        projection: &Projection,
        now: Timestamp,
    ) -> Result<Ledger, Error> {
        let shown = observed
            .ledger
            .as_ref()
            .filter(|ledger| version(ledger) >= known.version);
        let mut ledger = shown.map(|ledger| (**ledger).clone());
        for attempt in 1.. {
            let current = match ledger.take() {
                Some(shown) => shown,
                None => self.writer.ledger(quota, owner).await?,
            };
            let before = current.status.clone().unwrap_or_default();
            let account = stored::global_account(&before).map_err(|source| Error::UnreadableLedger {
                name: current.name_any(),
                source,
            })?;
            known.arrivals.look(&account.ledger, now);
            known.arrivals.delete(|uid| self.watches.deletions.has(uid));
            known.version = version(&current);
            let rise = account.rise(projection);
            let over = known.arrivals.over(&rise);
            let account = account.observe(&observed.quota, projection, &over, now);
            let next = stored::global_status(&account, &before);
            let written = if current.status.as_ref() == Some(&next) {
                Ok(current)
            } else {
                self.writer.publish_ledger(&current, &next).await
            };
            match written {
                Ok(written) => {
                    known.arrivals.write(&account.ledger, &rise);
                    known.version = version(&written);
                    return Ok(account.ledger);
                }
                // Read live from now on.
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Ledger::default())
    }

    async fn keep_children(&self, observed: &Observed, projection: &Projection) -> Vec<Error> {
        let steps = steps(projection, observed);
        let writes: Vec<_> = steps.iter().map(|step| self.writer.take(step)).collect();
        let results: Vec<Result<(), Error>> = stream::iter(writes).buffer_unordered(IN_FLIGHT).collect().await;
        results.into_iter().filter_map(Result::err).collect()
    }

    /// Makes Kubernetes count again where something is overdue: what it missed it would otherwise find in minutes, and the
    /// promise that stands for it may end before.
    async fn recount(
        &self,
        observed: &Observed,
        projection: &Projection,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Vec<Error> {
        let overdue: BTreeSet<&str> = ledger
            .reservations
            .iter()
            .filter(|it| now.duration_since(it.updated_at) >= SignedDuration::try_from(OVERDUE).unwrap_or_default())
            .map(|it| it.object.namespace.as_str())
            .collect();
        let mut failed = Vec::new();
        for child in &projection.children {
            let namespace = child.namespace().unwrap_or_default();
            if !overdue.contains(namespace.as_str()) || !self.may_recount(&observed.uid, &namespace) {
                continue;
            }
            let step = Step::Apply(Box::new(to_be_counted_again(child)));
            failed.extend(self.writer.take(&step).await.err());
        }
        failed
    }

    fn may_recount(&self, quota: &str, namespace: &str) -> bool {
        let mut recounted = self.recounted.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (quota.to_owned(), namespace.to_owned());
        if recounted.get(&place).is_some_and(|last| last.elapsed() < RECOUNT) {
            return false;
        }
        recounted.retain(|_, last| last.elapsed() < RECOUNT);
        recounted.insert(place, Instant::now());
        true
    }

    /// Publishes what is new, and tells people of what went wrong.
    async fn publish(&self, quota: &GlobalResourceQuota, next: GlobalResourceQuotaStatus) -> Result<(), Error> {
        if quota.status.as_ref() == Some(&next) {
            return Ok(());
        }
        self.writer.publish_quota(quota, &next).await?;
        let before = quota.status.iter().flat_map(|status| &status.conditions);
        let known: Vec<&str> = before.map(|condition| condition.message.as_str()).collect();
        for condition in &next.conditions {
            if condition.reason == "Failed" && !known.contains(&condition.message.as_str()) {
                self.recorder
                    .warning(quota, "Failed", "Reconciled", &condition.message)
                    .await;
            }
        }
        Ok(())
    }

    fn arrivals(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets quotas that are gone.
    fn forget(&self) {
        let quotas = self.stores.quotas.store().state();
        let is_there = |uid: &String| quotas.iter().any(|quota| quota.metadata.uid.as_ref() == Some(uid));
        self.waiting().retain(|uid, _| is_there(uid));
        self.arrivals().retain(|uid, _| is_there(uid));
    }
}

/// As API servers count the versions of objects.
fn version(ledger: &QuantityLedger) -> u64 {
    let version = ledger.metadata.resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// A promise is overdue, and whose request never came ends, without anybody saying so.
fn until_the_next_end(ledger: &Ledger, now: Timestamp) -> Action {
    let left = |end: Timestamp| Duration::try_from(end.duration_since(now)).unwrap_or_default() + QUIET;
    let ends = ledger.reservations.iter().map(|it| {
        let age = Duration::try_from(now.duration_since(it.updated_at)).unwrap_or_default();
        // A deletion may end it at any time.
        let overdue = OVERDUE.checked_sub(age).unwrap_or(OVERDUE);
        left(it.expires_at).min(overdue + QUIET)
    });
    ends.min().map_or(Action::AwaitChange, Action::RequeueAfter)
}

/// Whether what was to be written is not there any more.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Write { source, .. } | Error::PublishStatus { source, .. } => is_not_found(source),
        _ => false,
    }
}
