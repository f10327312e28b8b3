//! Carrying [`Desired`] out.

use std::collections::HashMap;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};
use runtime::apply::needed;
use serde_json::Value;

use super::error::{Error, Failure, Step};
use super::object::{Kind, Object, Reference};
use super::{Desired, FIELD_MANAGER};
use api::kamaji::names::{PROJECT_LABEL, PROJECT_VALUE};

/// Requests to one tenant at a time. Its API server has other things to do, and each takes a connection.
const AT_ONCE: usize = 4;
/// A tenant's API server that does not answer must not hold up a worker.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub applied: Vec<Reference>,
    pub removed: Vec<Reference>,
    /// Objects that were as they should be.
    pub unchanged: usize,
}

impl Outcome {
    /// Whether the pass wrote nothing.
    pub fn is_idle(&self) -> bool {
        self.applied.is_empty() && self.removed.is_empty()
    }
}

enum Done {
    Applied(Reference),
    Removed(Reference),
    Unchanged,
}

/// Brings the tenant to what is desired: reads every object, writes those that differ. Level-based: a second pass
/// writes nothing. `tenant` must be able to bind any role (`super-admin.conf`).
///
/// Objects are independent of each other but for the bindings that own an add-on, which come first. One that cannot be
/// written, because a webhook of the tenant refuses it for instance, does not keep the others from it.
///
/// # Errors
/// All objects that failed, after all were tried.
pub async fn reconcile(tenant: &Client, desired: &Desired) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let mut failures = Vec::new();
    let mut owners = HashMap::new();
    let (bindings, others): (Vec<&Object>, Vec<&Object>) = desired
        .apply
        .iter()
        .partition(|object| object.reference.kind == Kind::ClusterRoleBinding);

    // Futures are made before they are run: a stream's closure over references would not be `Send`.
    let bound = bindings.iter().map(|object| bring(tenant, object, None));
    let bound = at_once(bound.collect()).await;
    for (object, result) in bindings.into_iter().zip(bound) {
        match result {
            Ok((done, uid)) => {
                owners.insert(object.reference.name.clone(), uid);
                outcome.note(done);
            }
            Err(failure) => failures.push(failure),
        }
    }
    // Without its owner an object would be written twice, and removed by nobody.
    let ready = others
        .into_iter()
        .filter(|object| object.owner.is_none_or(|owner| owners.contains_key(owner)));
    let mut rest: Vec<&Object> = ready.collect();
    rest.sort_by_key(|object| object.reference.kind);
    let brought = rest.into_iter().map(|object| {
        let owner = object.owner.and_then(|owner| owners.get(owner));
        bring(tenant, object, owner.and_then(Option::as_deref))
    });
    let brought = at_once(brought.collect()).await;
    let brought = brought.into_iter().map(|result| result.map(|(done, _)| done));
    let removed = desired.remove.iter().map(|reference| remove(tenant, reference));
    let removed = at_once(removed.collect()).await;
    for result in brought.chain(removed) {
        match result {
            Ok(done) => outcome.note(done),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() {
        Ok(outcome)
    } else {
        Err(Error { failures })
    }
}

/// Runs all, a few at a time; results in the order of the futures.
async fn at_once<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    stream::iter(futures).buffered(AT_ONCE).collect().await
}

impl Outcome {
    fn note(&mut self, done: Done) {
        match done {
            Done::Applied(reference) => self.applied.push(reference),
            Done::Removed(reference) => self.removed.push(reference),
            Done::Unchanged => self.unchanged += 1,
        }
    }
}

/// The object as it should be, and its UID.
async fn bring(tenant: &Client, object: &Object, owner: Option<&str>) -> Result<(Done, Option<String>), Failure> {
    let reference = &object.reference;
    let failed = |step| {
        move |source| Failure {
            step,
            object: reference.clone(),
            source,
        }
    };
    let api = reference.api(tenant);
    let wanted = object.with_owner(owner);
    let live = within(api.get_opt(&reference.name)).await.map_err(failed(Step::Read))?;
    if let Some(live) = &live {
        let value = serde_json::to_value(live)
            .map_err(kube::Error::SerdeError)
            .map_err(failed(Step::Read))?;
        if !needed(&value, &wanted, FIELD_MANAGER) {
            return Ok((Done::Unchanged, live.uid()));
        }
    }
    let applied = match apply(&api, reference, &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 422 && reference.kind.is_replaceable() => {
            // Somebody made it with a field that cannot be changed, such as another role.
            let Some(live) = live else {
                return Err(failed(Step::Apply)(kube::Error::Api(status)));
            };
            delete(&api, &live).await.map_err(failed(Step::Remove))?;
            apply(&api, reference, &wanted).await
        }
        result => result,
    };
    let applied = applied.map_err(failed(Step::Apply))?;
    Ok((Done::Applied(reference.clone()), applied.uid()))
}

async fn apply(
    api: &kube::Api<DynamicObject>,
    reference: &Reference,
    wanted: &Value,
) -> Result<DynamicObject, kube::Error> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    within(api.patch(&reference.name, &parameters, &Patch::Apply(wanted))).await
}

async fn remove(tenant: &Client, reference: &Reference) -> Result<Done, Failure> {
    let failed = |step| {
        move |source| Failure {
            step,
            object: reference.clone(),
            source,
        }
    };
    let api = reference.api(tenant);
    let live = within(api.get_opt(&reference.name)).await.map_err(failed(Step::Read))?;
    match live {
        Some(live)
            if live
                .labels()
                .get(PROJECT_LABEL)
                .is_some_and(|value| value == PROJECT_VALUE) =>
        {
            delete(&api, &live).await.map_err(failed(Step::Remove))?;
            Ok(Done::Removed(reference.clone()))
        }
        _ => Ok(Done::Unchanged),
    }
}

/// Removes exactly the object that was looked at. One that is gone by now is no failure.
async fn delete(api: &kube::Api<DynamicObject>, live: &DynamicObject) -> Result<(), kube::Error> {
    let preconditions = Preconditions {
        uid: live.uid(),
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    match within(api.delete(&live.name_any(), &parameters)).await {
        Ok(_) => Ok(()),
        Err(error) if runtime::report::is_not_found(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service(Box::new(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the tenant's API server did not answer within 10 s",
        )))),
    }
}
