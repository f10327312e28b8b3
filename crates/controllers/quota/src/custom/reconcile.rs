//! One look at a quota.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{QuantityLedger, QuotaTarget};
use jiff::Timestamp;
use kube::ResourceExt;
use runtime::Action;
use runtime::report::is_not_found;
use tenancy::quota::custom::{Custom, Kind, Kinds, Languages, Measured, Recount, recount};
use tenancy::quota::ledger::{Ledger, PENDING_DELETE_TTL};
use tenancy::quota::stored::{custom_ledger, custom_status};
use tenancy::quota::verdict::Verdict;
use tenancy::selector::{InvalidSelector, Selector};

use super::Stores;
use super::apply::{Writer, is_of};
use super::kinds::{LOOK_AGAIN, Served, ServedKinds};
use super::projection::Projection;
use super::quota::{Quota, QuotaName, Status};
use super::rests::Rests;
use super::sources::{Counted, Shown, Sources};
use super::wants::{Want, Wants};
use crate::{Context, Error};

/// While a watch has not caught up with what was written.
const CATCH_UP: Duration = Duration::from_millis(100);
/// When a first list is looked for that nobody announced.
const FIRST_LIST: Duration = Duration::from_secs(5);
/// When a watch that fails is looked at again.
const FAILING: Duration = Duration::from_secs(30);
/// How long after the end of a promise it is looked for.
const GRACE: Duration = Duration::from_secs(1);
/// What all expressions of a tenant's quota may take in one count.
const MOST_UNITS: u64 = 20_000_000;
/// Somebody else wrote the ledger first: that often it is read again within one look.
const ATTEMPTS: usize = 8;

pub(super) struct Quotas {
    stores: Stores,
    writer: Writer,
    kinds: ServedKinds,
    wants: Arc<Mutex<Wants>>,
    sources: Sources,
    languages: Languages,
    rests: Rests,
    recorder: runtime::events::Recorder,
}

/// The kinds that a quota's sources name.
struct Named {
    /// As in the status.
    targets: Vec<QuotaTarget>,
    want: Want,
    /// Whether a kind is not served, or any is meant: then what is served is asked for again.
    is_open: bool,
}

/// Objects, each with its kind.
type Objects = Vec<(Served, Arc<Counted>)>;

/// Namespaces that a quota is about; `None` for all.
type Namespaces = Option<BTreeSet<String>>;

impl Quotas {
    pub(super) fn new(context: &Context, stores: Stores, wants: Arc<Mutex<Wants>>, sources: Sources) -> Self {
        Self {
            stores,
            writer: Writer::new(&context.client, &context.namespace),
            kinds: ServedKinds::new(&context.client),
            wants,
            sources,
            languages: Languages::default(),
            rests: Rests::default(),
            recorder: context.recorder.clone(),
        }
    }

    pub(super) async fn reconcile(&self, name: &QuotaName) -> Result<Action, Error> {
        let quota = self.stores.quota(name);
        // The ledger goes with its quota, by the API server's garbage collection.
        let Some(quota) = quota.filter(|quota| quota.metadata().deletion_timestamp.is_none()) else {
            self.rests.forget(name);
            let mut wants = self.wants();
            if wants.forget(name) {
                self.sources.keep(&wants.targets());
            }
            return Ok(Action::AwaitChange);
        };
        if let Some(left) = self.rests.left(name, Instant::now()) {
            return Ok(Action::RequeueAfter(left));
        }
        match self.serve(name, &quota).await {
            Err(error) if error.is_conflict() => Ok(Action::RequeueAfter(CATCH_UP)),
            // The end of it is on its way.
            Err(error) if is_gone(&error) => Ok(Action::AwaitChange),
            other => other,
        }
    }

    async fn serve(&self, name: &QuotaName, quota: &Quota) -> Result<Action, Error> {
        let now = Timestamp::now();
        let custom = match quota.custom() {
            Ok(custom) => custom,
            Err(error) => {
                return self
                    .fail(quota, error.to_string(), now)
                    .await
                    .map(|()| Action::AwaitChange);
            }
        };
        let namespaces = match self.namespaces(quota) {
            Ok(namespaces) => namespaces,
            Err(error) => {
                let problem = format!("spec.namespaceSelectors: {error}");
                return self.fail(quota, problem, now).await.map(|()| Action::AwaitChange);
            }
        };
        let named = match self.named(quota).await {
            Ok(Ok(named)) => named,
            Ok(Err(problem)) => return self.fail(quota, problem, now).await.map(|()| Action::AwaitChange),
            Err(error) => {
                self.fail(quota, error.told(), now).await?;
                return Err(error);
            }
        };
        self.want(name, &named.want);
        let objects = match self.objects(name, &named, namespaces.as_ref()) {
            Shows::All(objects) => objects,
            Shows::NotYet => return Ok(Action::RequeueAfter(FIRST_LIST)),
            Shows::Failed(problem) => {
                self.fail(quota, problem, now).await?;
                return Ok(Action::RequeueAfter(FAILING));
            }
        };
        let began = Instant::now();
        let count = self.recount(&custom, &objects);
        self.rests.begin(name, Instant::now(), began.elapsed());
        let ledger = match self
            .count(quota, &custom, &named, namespaces.as_ref(), &count, now)
            .await
        {
            Err(error) if !error.is_conflict() => {
                self.fail(quota, error.told(), now).await?;
                return Err(error);
            }
            counted => counted?,
        };
        let names = namespaces.map(|names| names.into_iter().collect());
        let status = quota.counted(&count, named.targets, names, now);
        self.publish(quota, &status).await?;
        let next = until_the_next_end(&ledger, now);
        Ok(if named.is_open {
            next.or(Action::RequeueAfter(LOOK_AGAIN))
        } else {
            next
        })
    }

    /// Says that nothing could be counted, and why.
    async fn fail(&self, quota: &Quota, problem: String, now: Timestamp) -> Result<(), Error> {
        let ready = Verdict::no(READY_CONDITION, "Failed", problem);
        self.publish(quota, &quota.uncounted(&ready, now)).await
    }

    /// The namespaces that a quota is about.
    fn namespaces(&self, quota: &Quota) -> Result<Namespaces, InvalidSelector> {
        let Quota::Global(quota) = quota else {
            return Ok(Some(quota.metadata().namespace.clone().into_iter().collect()));
        };
        let selectors = &quota.spec.namespace_selectors;
        if selectors.is_empty() {
            return Ok(None);
        }
        let selectors: Vec<Selector> = selectors.iter().map(Selector::new).collect::<Result<_, _>>()?;
        let all = self.stores.namespaces.store().state();
        let selected = all
            .iter()
            .filter(|namespace| selectors.iter().any(|selector| selector.matches(namespace.labels())));
        Ok(Some(selected.map(|namespace| namespace.name_any()).collect()))
    }

    /// The kinds that the sources name; or a sentence about one that cannot be counted.
    async fn named(&self, quota: &Quota) -> Result<Result<Named, String>, Error> {
        let mut named = Named {
            targets: Vec::new(),
            want: Want::new(),
            is_open: false,
        };
        for (index, source) in quota.sources().iter().enumerate() {
            let Some(kinds) = Kinds::of(&source.kind) else {
                return Ok(Err(format!("spec.sources[{index}]: no kind has such a name")));
            };
            let found = self.kinds.named(&kinds).await.map_err(|source| Error::Read {
                kind: "APIResourceList",
                name: kinds.group.clone(),
                source,
            })?;
            named.is_open |= found.is_empty() || kinds.kind == "*" || kinds.group == "*";
            for served in found {
                if matches!(quota, Quota::Namespaced(_)) && !served.is_namespaced {
                    if kinds.kind == "*" {
                        continue;
                    }
                    return Ok(Err(format!(
                        "spec.sources[{index}].kind: {} is not in namespaces; what a CustomQuota counts has to be in its own \
                         namespace, a GlobalCustomQuota counts the others",
                        served.kind
                    )));
                }
                named.targets.push(QuotaTarget {
                    group: served.group.clone(),
                    version: served.version.clone(),
                    kind: served.kind.clone(),
                    op: source.op,
                    path: source.path.clone(),
                    cel: source.cel.clone(),
                    selectors: source.selectors.clone(),
                    scope: if served.is_namespaced { "namespace" } else { "root" }.to_owned(),
                });
                let all = named.want.remove(&served).unwrap_or(Projection::Labels);
                named.want.insert(served, all.and(Projection::of(source)));
            }
        }
        Ok(Ok(named))
    }

    fn want(&self, name: &QuotaName, want: &Want) {
        let mut wants = self.wants();
        if wants.set(name, want.clone()) {
            self.sources.keep(&wants.targets());
        }
    }

    /// What the watches show of the objects that a quota is about.
    fn objects(&self, name: &QuotaName, named: &Named, namespaces: Option<&BTreeSet<String>>) -> Shows {
        let mut objects = Vec::new();
        for served in named.want.keys() {
            let target = self.wants().target(served, &name.namespace);
            match self.sources.show(&target) {
                Shown::All(all) => objects.extend(all.into_iter().map(|object| (served.clone(), object))),
                Shown::NotYet => return Shows::NotYet,
                Shown::Failed(failure) => {
                    return Shows::Failed(format!("failed to watch {}: {failure}", served.plural));
                }
            }
        }
        Shows::All(concerned(objects, namespaces))
    }

    /// Puts what was counted into the ledger, whatever was promised meanwhile.
    async fn count(
        &self,
        quota: &Quota,
        custom: &Custom,
        named: &Named,
        namespaces: Option<&BTreeSet<String>>,
        count: &Recount,
        now: Timestamp,
    ) -> Result<Ledger, Error> {
        let (namespace, name) = self.writer.ledger_of(quota);
        let known = self.stores.ledgers.get(Some(&namespace), &name);
        let mut known = known
            .filter(|ledger| is_of(ledger, quota))
            .map(|ledger| (*ledger).clone());
        let mut stored: Option<(Recount, Timestamp)> = None;
        for attempt in 1.. {
            let current = match known.take() {
                Some(known) => known,
                None => self.writer.ledger(quota).await?,
            };
            let promised = read(&current)?.without_deleted(|uid| self.sources.deletions.has(uid));
            let mut ledger = count.observe(&promised, now);
            if ledger.has_expired(now) {
                let (stored, began) = match &stored {
                    Some(stored) => stored,
                    None => stored.insert(self.read(custom, named, namespaces).await?),
                };
                ledger = stored.expire(&ledger, *began);
            }
            let before = current.status.clone().unwrap_or_default();
            let next = custom_status(&ledger, &before);
            if current.status.as_ref() == Some(&next) {
                return Ok(ledger);
            }
            match self.writer.publish_ledger(&current, &next).await {
                Ok(_) => return Ok(ledger),
                // Read live from now on.
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Ledger::default())
    }

    /// Counts what is stored now, and says when that began.
    async fn read(
        &self,
        custom: &Custom,
        named: &Named,
        namespaces: Option<&BTreeSet<String>>,
    ) -> Result<(Recount, Timestamp), Error> {
        let began = Timestamp::now();
        let mut objects = Vec::new();
        for served in named.want.keys() {
            let target = self.wants().target(served, &custom.namespace);
            let all = self.sources.read(&target).await.map_err(|source| Error::Read {
                kind: "objects of kind",
                name: served.kind.clone(),
                source,
            })?;
            objects.extend(all.into_iter().map(|object| (served.clone(), object)));
        }
        let objects = concerned(objects, namespaces);
        Ok((self.recount(custom, &objects), began))
    }

    /// What administrators wrote has no end but that of each expression.
    fn recount(&self, custom: &Custom, objects: &Objects) -> Recount {
        match custom.kind {
            Kind::Namespaced => recount(custom, measured(objects), &self.languages.metered(MOST_UNITS)),
            Kind::Global => recount(custom, measured(objects), &self.languages),
        }
    }

    /// Publishes what is new, and tells people of what went wrong.
    async fn publish(&self, quota: &Quota, next: &Status) -> Result<(), Error> {
        if quota.says(next) {
            return Ok(());
        }
        self.writer.publish(quota, next).await?;
        let conditions = match next {
            Status::Namespaced(status) => &status.conditions,
            Status::Global(status) => &status.conditions,
        };
        let is_known = |message: &str| quota.conditions().iter().any(|condition| condition.message == message);
        for failure in conditions.iter().filter(|condition| condition.reason == "Failed") {
            if !is_known(&failure.message) {
                match quota {
                    Quota::Namespaced(quota) => {
                        self.recorder
                            .warning(&**quota, "Failed", "Reconciled", &failure.message)
                            .await;
                    }
                    Quota::Global(quota) => {
                        self.recorder
                            .warning(&**quota, "Failed", "Reconciled", &failure.message)
                            .await;
                    }
                }
            }
        }
        Ok(())
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What watches show of a quota.
enum Shows {
    All(Objects),
    NotYet,
    Failed(String),
}

/// Those that a quota is about; what is in no namespace is. An object that two watches show is one.
fn concerned(mut objects: Objects, namespaces: Option<&BTreeSet<String>>) -> Objects {
    let mut seen = BTreeSet::new();
    objects.retain(|(_, object)| {
        let is_in = match (&object.namespace, namespaces) {
            (Some(namespace), Some(namespaces)) => namespaces.contains(namespace),
            _ => true,
        };
        is_in && seen.insert(object.uid.clone())
    });
    objects
}

fn measured(objects: &Objects) -> impl Iterator<Item = Measured<'_>> {
    objects.iter().map(|(served, object)| Measured {
        group: &served.group,
        version: &served.version,
        kind: &served.kind,
        labels: &object.labels,
        object: &object.content,
    })
}

fn read(ledger: &QuantityLedger) -> Result<Ledger, Error> {
    let status = ledger.status.clone().unwrap_or_default();
    custom_ledger(&status).map_err(|source| Error::UnreadableLedger {
        name: ledger.name_any(),
        source,
    })
}

/// A promise whose request never came ends without anybody saying so, and so does a hint.
fn until_the_next_end(ledger: &Ledger, now: Timestamp) -> Action {
    let promises = ledger.reservations.iter().map(|promise| promise.expires_at);
    let hints = ledger.pending_deletes.iter();
    let hints = hints.filter_map(|hint| hint.created_at.checked_add(PENDING_DELETE_TTL).ok());
    promises.chain(hints).min().map_or(Action::AwaitChange, |end| {
        let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        Action::RequeueAfter(left + GRACE)
    })
}

/// Whether what was to be written is not there any more.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Write { source, .. } | Error::PublishStatus { source, .. } => is_not_found(source),
        _ => false,
    }
}
