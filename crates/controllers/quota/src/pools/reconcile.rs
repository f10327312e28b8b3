//! One look at a pool, and one at a claim.

use std::sync::Arc;
use std::time::Duration;

use api::capsule::names::{FINALIZER, READY_CONDITION};
use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim, ResourcePoolClaimStatus, ResourcePoolStatus};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::{Resource, ResourceExt};
use runtime::Action;
use runtime::events::Recorder;
use runtime::report::is_not_found;
use tenancy::quota::pool::{self, BOUND_CONDITION, EXHAUSTED_CONDITION, Letting, Plan};

use super::apply::Writer;
use super::desired::{Step, fences, steps};
use super::observe::{ClaimName, Observed, Stores};
use super::{association, status};
use crate::{Context, Error};

/// While a watch has not caught up with what was written.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Requests in flight for one pool.
const IN_FLIGHT: usize = 8;
/// More messages than this help nobody.
const MESSAGES: usize = 5;

pub(super) struct Pools {
    stores: Stores,
    writer: Writer,
    recorder: Recorder,
}

impl Pools {
    pub(super) fn new(context: &Context, stores: Stores) -> Self {
        Self {
            stores,
            writer: Writer::new(&context.client),
            recorder: context.recorder.clone(),
        }
    }

    pub(super) async fn pool(&self, name: &str) -> Result<Action, Error> {
        match self.stores.pools.get(None, name) {
            Some(pool) => again(self.serve(&pool).await),
            None => Ok(Action::AwaitChange),
        }
    }

    async fn serve(&self, pool: &Arc<ResourcePool>) -> Result<Action, Error> {
        let observed = match self.stores.observe(pool) {
            Ok(observed) => observed,
            // Nothing is given or taken on account of what cannot be read.
            Err(error) => return self.tell_unreadable(pool, &error.to_string()).await,
        };
        let owner = OwnerReference {
            block_owner_deletion: Some(true),
            ..pool.controller_owner_ref(&()).unwrap_or_default()
        };
        let plan = pool::plan(&observed.pool, &owner, &observed.claims, &observed.places());
        let steps = steps(&plan, &observed);

        let mut current = (**pool).clone();
        let is_needed = !observed.namespaces.is_empty() || !plan.given.is_empty();
        if is_needed && !current.finalizers().iter().any(|it| it == FINALIZER) {
            let mut finalizers = current.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            current = self.writer.set_finalizers(&current, &finalizers).await?;
        }
        let ledger = status::ledger(pool, &plan, &observed, Timestamp::now());
        let decides = current.status.as_ref() != Some(&ledger);
        if decides {
            let fenced = self.take_all(&fences(pool, &ledger, &observed, &steps)).await;
            if !fenced.is_good() {
                return fenced
                    .failed
                    .into_iter()
                    .next()
                    .map_or(Ok(Action::RequeueAfter(CATCH_UP)), Err);
            }
            current = self.writer.publish_pool(&current, &ledger).await?;
        } else if !steps.larger.is_empty() && !self.is_latest(&current).await? {
            // Somebody else decided since. What they took from one namespace must not be given to it again.
            return Ok(Action::RequeueAfter(CATCH_UP));
        }

        let mut outcome = self.take_all(&steps.smaller).await;
        if outcome.is_good() && !steps.larger.is_empty() {
            if decides && !self.is_latest(&current).await? {
                return Ok(Action::RequeueAfter(CATCH_UP));
            }
            outcome = self.take_all(&steps.larger).await;
        }
        outcome.is_behind |= steps.unfinished;
        outcome.add(self.tell_claims(&plan, &observed).await);
        self.finish(&current, ledger, is_needed, outcome).await
    }

    /// Whether nobody else has decided about the pool since.
    async fn is_latest(&self, pool: &ResourcePool) -> Result<bool, Error> {
        Ok(self.writer.version(pool).await? == pool.resource_version())
    }

    /// Says how it went, and lets the pool end if it is to.
    async fn finish(
        &self,
        current: &ResourcePool,
        ledger: ResourcePoolStatus,
        is_needed: bool,
        outcome: Outcome,
    ) -> Result<Action, Error> {
        if outcome.is_behind {
            return Ok(Action::RequeueAfter(CATCH_UP));
        }
        if outcome.failed.is_empty() && !is_needed && current.finalizers().iter().any(|it| it == FINALIZER) {
            let others: Vec<String> = current
                .finalizers()
                .iter()
                .filter(|it| *it != FINALIZER)
                .cloned()
                .collect();
            self.writer.set_finalizers(current, &others).await?;
            // Its own change is looked at next, if it is still there.
            return Ok(Action::AwaitChange);
        }
        let failures: Vec<String> = outcome.failed.iter().take(MESSAGES).map(Error::told).collect();
        let status = status::ready(ledger, current.metadata.generation, &failures, Timestamp::now());
        if current.status.as_ref() != Some(&status) {
            self.writer.publish_pool(current, &status).await?;
        }
        match outcome.failed.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(Action::AwaitChange),
        }
    }

    async fn tell_unreadable(&self, pool: &ResourcePool, message: &str) -> Result<Action, Error> {
        let before = pool.status.clone().unwrap_or_default();
        let status = status::ready(
            before,
            pool.metadata.generation,
            &[message.to_owned()],
            Timestamp::now(),
        );
        if pool.status.as_ref() != Some(&status) {
            self.writer.publish_pool(pool, &status).await?;
            self.recorder.warning(pool, "Failed", "Reconciled", message).await;
        }
        Ok(Action::AwaitChange)
    }

    async fn take_all(&self, steps: &[Step]) -> Outcome {
        let taken: Vec<_> = steps.iter().map(|step| self.writer.take(step)).collect();
        Outcome::of(stream::iter(taken).buffer_unordered(IN_FLIGHT)).await
    }

    /// Tells every claim what became of it.
    async fn tell_claims(&self, plan: &Plan, observed: &Observed) -> Outcome {
        let told: Vec<_> = observed
            .claims
            .iter()
            .map(|claim| self.tell_claim(claim, plan))
            .collect();
        Outcome::of(stream::iter(told).buffer_unordered(IN_FLIGHT)).await
    }

    async fn tell_claim(&self, claim: &ResourcePoolClaim, plan: &Plan) -> Result<(), Error> {
        let uid = claim.uid().unwrap_or_default();
        if let Some(letting) = plan.lets_go.iter().find(|letting| letting.uid == uid) {
            return self.let_go(claim, letting).await;
        }
        let Some(verdicts) = plan.verdicts.get(&uid) else {
            return Ok(());
        };
        self.publish_claim(claim, &status::of_claim(claim, verdicts, Timestamp::now()))
            .await
    }

    async fn let_go(&self, claim: &ResourcePoolClaim, letting: &Letting) -> Result<(), Error> {
        let owners = association::owners_without_pools(claim);
        let mut current = claim.clone();
        // First the reference: once the status names the pool no more, the pool may end, and take with it what refers to it.
        if !letting.keeps_owner && owners.len() < claim.owner_references().len() {
            current = self.writer.set_owners(claim, &owners, false).await?;
        }
        let next = status::of_let_go(claim, Timestamp::now());
        self.writer.publish_claim(&current, &next).await?;
        let note = "the claim gave back to the pool what it had";
        self.recorder
            .normal(claim, "Disassociated", "Disassociating", note)
            .await;
        Ok(())
    }

    pub(super) async fn claim(&self, (namespace, name): &ClaimName) -> Result<Action, Error> {
        let Some(claim) = self.stores.claims.get(Some(namespace), name) else {
            return Ok(Action::AwaitChange);
        };
        let pool = self.stores.pools.get(None, &claim.spec.pool);
        let Some(wanted) = association::of(&claim, pool.as_deref(), Timestamp::now()) else {
            return Ok(Action::AwaitChange);
        };
        again(self.associate(&claim, wanted).await.map(|()| Action::AwaitChange))
    }

    async fn associate(&self, claim: &ResourcePoolClaim, wanted: association::Association) -> Result<(), Error> {
        let mut current = claim.clone();
        if wanted.strips_release || wanted.owners != claim.owner_references() {
            let answer = self
                .writer
                .set_owners(claim, &wanted.owners, wanted.strips_release)
                .await;
            current = match answer {
                Err(error) if is_gone(&error) => return Ok(()),
                answer => answer?,
            };
        }
        self.publish_claim(&current, &wanted.status).await
    }

    /// Publishes what is new, and tells it as Events where people should look.
    async fn publish_claim(&self, claim: &ResourcePoolClaim, next: &ResourcePoolClaimStatus) -> Result<(), Error> {
        if claim.status.as_ref() == Some(next) {
            return Ok(());
        }
        match self.writer.publish_claim(claim, next).await {
            Err(error) if is_gone(&error) => return Ok(()),
            answer => answer?,
        };
        let before = claim.status.as_ref().map(|status| status.conditions.as_slice());
        for condition in news(before.unwrap_or_default(), &next.conditions) {
            let (reason, message) = (&condition.reason, &condition.message);
            if is_bad(condition) {
                self.recorder.warning(claim, reason, "Reconciled", message).await;
            } else {
                self.recorder.normal(claim, reason, "Reconciled", message).await;
            }
        }
        Ok(())
    }
}

/// What came of several writes.
#[derive(Default)]
struct Outcome {
    failed: Vec<Error>,
    /// Somebody else wrote first.
    is_behind: bool,
}

impl Outcome {
    async fn of(results: impl stream::Stream<Item = Result<(), Error>>) -> Self {
        let mut outcome = Self::default();
        futures::pin_mut!(results);
        while let Some(result) = results.next().await {
            match result {
                Ok(()) => {}
                Err(error) if error.is_conflict() => outcome.is_behind = true,
                Err(error) if is_gone(&error) => {}
                Err(error) => outcome.failed.push(error),
            }
        }
        outcome
    }

    fn is_good(&self) -> bool {
        self.failed.is_empty() && !self.is_behind
    }

    fn add(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.is_behind |= other.is_behind;
    }
}

/// A decision that came too late is made again.
fn again(result: Result<Action, Error>) -> Result<Action, Error> {
    match result {
        Err(error) if error.is_conflict() => Ok(Action::RequeueAfter(CATCH_UP)),
        // The end of it is on its way.
        Err(error) if is_gone(&error) => Ok(Action::AwaitChange),
        other => other,
    }
}

/// Whether what was to be written is not there any more.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Write { source, .. } | Error::PublishStatus { source, .. } => is_not_found(source),
        _ => false,
    }
}

fn is_bad(condition: &Condition) -> bool {
    let bad = match condition.type_.as_str() {
        EXHAUSTED_CONDITION => "True",
        READY_CONDITION => "False",
        _ => return false,
    };
    condition.status == bad
}

/// What is bad, or no longer as it was.
fn news<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |condition: &&Condition| {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        match known {
            Some(known) => (&known.status, &known.reason) != (&condition.status, &condition.reason),
            None => is_bad(condition) || (condition.type_ == BOUND_CONDITION && condition.status == "True"),
        }
    };
    after.iter().filter(is_news).collect()
}
