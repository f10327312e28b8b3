//! The controller of replication: TenantResources and GlobalTenantResources.
//!
//! **Watches** both kinds, Tenants, Namespaces and the CapsuleConfiguration. **Decides** with `tenancy::replication` which objects
//! are wanted where. **Writes** each object with server-side apply under a field manager of its own origin, marks it with labels,
//! and lists it in the replication's status. What is wanted no more is deleted if the replication made it, and released if not.
//!
//! Everything that a tenant can have a say in is read and written as a ServiceAccount ([`impersonation`]): what it may not do, the
//! replication may not. It goes to the API server that the configuration names ([`endpoint`]). The operator's own rights are used for the replication objects themselves, for discovery, and for
//! GlobalTenantResources that name no ServiceAccount where the configuration names none either.
//!
//! An object that is as it should be is read once per resync and not written. Between two resyncs only what is wanted differently
//! is looked at, so that a new namespace costs what is in it, not what is in all others.

mod apply;
mod desired;
mod endpoint;
mod error;
mod impersonation;
mod kinds;
mod metrics;
mod pauses;
mod reads;
mod siblings;
mod slots;
mod task;
mod watches;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names;
use api::capsule::v1beta2::{
    CapsuleConfiguration, GlobalTenantResource, ProcessedItem, ProcessedItemStatus, Replication, Tenant, TenantResource,
};
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, Config, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::{Value, json};
use tenancy::replication::identity::ReplicationName;
use tenancy::replication::object::Placed;
use tenancy::replication::plan::{self, ItemKey, Removal, Wanted};
use tenancy::replication::{resync, status};

use apply::{Fault, Writer};
use desired::Maker;
use endpoint::Endpoints;
use kinds::Kinds;
use pauses::Pauses;
use siblings::Siblings;
use slots::{Party, Slots};
use task::{Known, Surroundings, Target, Task};

pub use error::Error;

/// Objects of one replication at a time.
const OBJECTS_AT_A_TIME: usize = 8;
/// After a failure that may pass by itself.
const SOON: Duration = Duration::from_secs(2);
/// Items whose message is in the status; of a thousand failures one is like the other.
const MESSAGES: usize = 200;
/// When a replication asks again for a worker, if its tenant has all that it may have.
const TURN: Duration = Duration::from_secs(1);
/// How often giving an object up may be refused before a replication that is being deleted goes without.
const REFUSALS: u32 = 3;

/// What the controller works with. The watches are shared with whoever else needs them.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    /// How that client reaches the API server and who it is there, for endpoints that the CapsuleConfiguration names.
    pub config: Config,
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the CapsuleConfiguration that is read.
    pub configuration_name: String,
    pub tenants: Shared<Tenant>,
    pub namespaces: Shared<Namespace>,
    pub configurations: Shared<CapsuleConfiguration>,
    pub tenant_resources: Shared<TenantResource>,
    pub global_tenant_resources: Shared<GlobalTenantResource>,
    pub registry: runtime::metrics::Registry,
    /// Of all controllers of the process.
    pub metrics: runtime::controller::Metrics,
    pub shutdown: Shutdown,
}

/// Runs the controller until the shutdown. Only the holder of the lease may call it.
///
/// # Errors
/// When a watch ends before its first list is complete, which the shutdown causes as well.
pub async fn run(context: Context) -> Result<(), Error> {
    if !(context.tenants.ready().await && context.namespaces.ready().await && context.configurations.ready().await) {
        return Err(Error::WatchEnded("tenants"));
    }
    if !(context.tenant_resources.ready().await && context.global_tenant_resources.ready().await) {
        return Err(Error::WatchEnded("replications"));
    }
    context.registry.register_collector(Box::new(metrics::Replications {
        of_tenants: context.tenant_resources.store(),
        global: context.global_tenant_resources.store(),
    }));
    let queue = Queue::<ReplicationName>::new();
    watches::follow(&context, &queue);
    let runner = Controller::new("replications", &context.metrics).concurrency(slots::OF_TENANTS + slots::GLOBAL);
    let shutdown = context.shutdown.clone();
    let replications = Arc::new(Replications {
        surroundings: Surroundings {
            tenants: context.tenants.clone(),
            namespaces: context.namespaces.clone(),
        },
        endpoints: Endpoints::new(&context.client, &context.config, &context.namespace),
        siblings: Siblings::of(&context.tenant_resources, &context.global_tenant_resources),
        context,
        kinds: Kinds::default(),
        checked: Mutex::default(),
        pauses: Pauses::default(),
        refused: Mutex::default(),
        slots: Slots::default(),
    });
    let reconcile = move |name: ReplicationName| {
        let replications = replications.clone();
        async move { replications.reconcile(&name).await }
    };
    runner.run(queue, shutdown, reconcile).await;
    Ok(())
}

/// When an object was last found, or made, as it should be: a hash of what was wanted then.
type Checked = HashMap<ItemKey, (u64, Instant)>;

struct Replications {
    context: Context,
    endpoints: Endpoints,
    surroundings: Surroundings,
    siblings: Siblings,
    kinds: Kinds,
    checked: Mutex<HashMap<ReplicationName, Checked>>,
    pauses: Pauses,
    /// How often a replication that is being deleted was refused to give something up.
    refused: Mutex<HashMap<ReplicationName, u32>>,
    slots: Slots,
}

/// What came of one pass.
#[derive(Default)]
struct Outcome {
    items: Vec<ProcessedItem>,
    problems: Vec<String>,
    failed_applies: usize,
    failed_prunes: usize,
    is_transient: bool,
    /// Whether the finalizer was added in this pass.
    is_finalized: bool,
}

impl Outcome {
    /// An item that could not be given up.
    fn keep(&mut self, item: ProcessedItem, fault: Fault) {
        self.failed_prunes += 1;
        self.is_transient |= fault.is_transient;
        self.problems.push(fault.words);
        self.items.push(item);
    }
}

/// What the status of a replication says of an endpoint that cannot be used: how the operator reaches it is nothing for tenants.
fn told(task: &Task, problem: String) -> String {
    if task.name.namespace.is_none() {
        return problem;
    }
    tracing::warn!(
        name = task.name.to_string(),
        problem,
        "the impersonation endpoint cannot be used"
    );
    "the impersonation endpoint of the cluster cannot be used; an administrator has to look".to_owned()
}

impl Replications {
    /// When it is its turn.
    async fn reconcile(&self, name: &ReplicationName) -> Result<Action, Error> {
        let left = self.pauses.left(name, Instant::now());
        if let Some(left) = left.filter(|_| self.is_there(name)) {
            return Ok(Action::RequeueAfter(left));
        }
        let Some(_slot) = self.slots.take(self.party(name)) else {
            return Ok(Action::RequeueAfter(TURN));
        };
        let started = Instant::now();
        let answer = self.carry_through(name).await;
        if self.is_there(name) {
            self.pauses.begin(name, Instant::now(), started.elapsed());
        } else {
            self.pauses.forget(name);
        }
        answer
    }

    /// Whether it is neither gone nor being deleted, by what the watches know.
    fn is_there(&self, name: &ReplicationName) -> bool {
        let deleted = match &name.namespace {
            Some(namespace) => self
                .context
                .tenant_resources
                .get(Some(namespace), &name.name)
                .map(|it| it.metadata.deletion_timestamp.is_some()),
            None => self
                .context
                .global_tenant_resources
                .get(None, &name.name)
                .map(|it| it.metadata.deletion_timestamp.is_some()),
        };
        deleted == Some(false)
    }

    fn party(&self, name: &ReplicationName) -> Party {
        let Some(namespace) = &name.namespace else {
            return Party::Administrators;
        };
        let own = self.context.namespaces.get(None, namespace);
        let tenant = own.and_then(|own| self.surroundings.tenant_of(&own));
        Party::Tenant(tenant.map_or_else(String::new, |tenant| tenant.name_any()))
    }

    async fn carry_through(&self, name: &ReplicationName) -> Result<Action, Error> {
        let Some(task) = self.read(name).await? else {
            locked(&self.checked).remove(name);
            locked(&self.refused).remove(name);
            return Ok(Action::AwaitChange);
        };
        if task.replication.cordoned && !task.is_deleted() {
            let known = Known {
                conditions: status::conditions(
                    &task.known.conditions,
                    true,
                    None,
                    task.metadata.generation,
                    Timestamp::now(),
                ),
                ..task.known.clone()
            };
            self.publish(&task, known).await?;
            return Ok(Action::AwaitChange);
        }
        let started = Instant::now();
        let (outcome, target) = match self.target(&task) {
            Ok(target) => (self.carry_out(&task, &target).await?, target),
            Err(problem) => (
                Outcome {
                    items: task.known.items.clone(),
                    problems: vec![problem],
                    ..Outcome::default()
                },
                Target {
                    tenants: task.known.selected.clone(),
                    ..Target::default()
                },
            ),
        };
        let (is_transient, is_finalized) = (outcome.is_transient, outcome.is_finalized);
        let is_done = task.is_deleted() && outcome.items.is_empty();
        let known = judged(&task, target, outcome);
        if !is_done {
            self.publish(&task, known.clone()).await?;
        }
        self.settle(&task, &known, is_finalized || task.has_finalizer(names::FINALIZER))
            .await?;
        if is_done {
            return Ok(Action::AwaitChange);
        }
        let period = resync::parse(&task.replication.resync_period).unwrap_or(Duration::from_secs(60));
        let jitter = u8::try_from(Timestamp::now().subsec_nanosecond().rem_euclid(256)).unwrap_or(0);
        let next = if is_transient {
            SOON
        } else {
            resync::delay(period, jitter)
        };
        Ok(Action::RequeueAfter(next.max(pauses::after(started.elapsed()))))
    }

    async fn read(&self, name: &ReplicationName) -> Result<Option<Task>, Error> {
        let configuration = self.context.configurations.get(None, &self.context.configuration_name);
        let client = self.context.client.clone();
        // Read live: what was made is remembered in the status alone, and a watch may be behind our own writing of it.
        let failed = |kind| {
            move |source| Error::Read {
                kind,
                name: name.to_string(),
                source,
            }
        };
        if let Some(namespace) = &name.namespace {
            let found = Api::<TenantResource>::namespaced(client, namespace)
                .get_opt(&name.name)
                .await;
            let found = found.map_err(failed("TenantResource"))?;
            return Ok(found.map(|object| Task::of_tenant(object, configuration.as_deref())));
        }
        let found = Api::<GlobalTenantResource>::all(client).get_opt(&name.name).await;
        let found = found.map_err(failed("GlobalTenantResource"))?;
        Ok(found.map(|object| Task::global(object, configuration.as_deref())))
    }

    /// Where the replication goes, if everything is there that it asks for.
    fn target(&self, task: &Task) -> Result<Target, String> {
        if task.is_deleted() {
            return Ok(Target::default());
        }
        if resync::parse(&task.replication.resync_period).is_none() {
            let given = &task.replication.resync_period;
            return Err(format!(
                "spec.resyncPeriod: {given:?} is no duration, like 60s or 1h30m"
            ));
        }
        for dependency in &task.replication.depends_on {
            let (namespace, name) = (task.name.namespace.as_deref(), dependency.name.as_str());
            let ready = if namespace.is_some() {
                self.context.tenant_resources.get(namespace, name).map(|it| {
                    let status = it.status.clone().unwrap_or_default();
                    status::is_ready(&status.conditions, status.observed_generation, it.metadata.generation)
                })
            } else {
                self.context.global_tenant_resources.get(None, name).map(|it| {
                    let status = it.status.clone().unwrap_or_default();
                    status::is_ready(&status.conditions, status.observed_generation, it.metadata.generation)
                })
            };
            match ready {
                None => return Err(format!("dependency {name} not found")),
                Some(false) => return Err(format!("dependency {name} not ready")),
                Some(true) => {}
            }
        }
        self.surroundings.target(task)
    }

    async fn carry_out(&self, task: &Task, target: &Target) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let configuration = self.context.configurations.get(None, &self.context.configuration_name);
        let there = match self.endpoints.client(configuration.as_deref()).await {
            Ok(there) => there,
            Err(problem) => {
                outcome.items.clone_from(&task.known.items);
                outcome.problems.push(told(task, problem));
                outcome.is_transient = true;
                return Ok(outcome);
            }
        };
        let acting = match impersonation::acting_as(&there, &task.identity) {
            Ok(acting) => acting,
            // Nobody has such a name, so nothing was ever written.
            Err(_) if task.is_deleted() => return Ok(outcome),
            Err(problem) => {
                outcome.items.clone_from(&task.known.items);
                outcome.problems.push(problem);
                return Ok(outcome);
            }
        };
        let wanted = if task.is_deleted() {
            Wanted::default()
        } else {
            Maker::new(task, target, &self.kinds, &self.context.client, &acting)
                .make()
                .await
        };
        outcome.problems = wanted.problems().to_vec();
        if !wanted.items().is_empty() && !task.has_finalizer(names::FINALIZER) {
            let mut finalizers = task.metadata.finalizers.clone().unwrap_or_default();
            finalizers.push(names::FINALIZER.to_owned());
            self.patch_metadata(
                task,
                json!({"finalizers": finalizers, "resourceVersion": task.metadata.resource_version}),
            )
            .await?;
            outcome.is_finalized = true;
        }
        // Admission lets only the recorded account change what was made.
        let account = task.identity.reference();
        if task.known.account != account && !task.known.items.is_empty() && !task.is_deleted() {
            let known = Known {
                account,
                ..task.known.clone()
            };
            self.publish(task, known).await?;
            outcome.is_transient = true;
        }
        let writer = Writer {
            task,
            kinds: &self.kinds,
            surroundings: &self.surroundings,
            siblings: &self.siblings,
            operator: &self.context.client,
            acting: &acting,
        };
        let (removals, kept) = plan::removals(&wanted, &task.known.items);
        outcome.items.extend(kept);
        let changed = task.known.account != task.identity.reference();
        self.apply(task, &writer, &wanted, &mut outcome).await;
        self.give_up(task, &writer, &removals, &mut outcome).await;
        // A refusal after a change of the account may only mean that admission has not heard of it yet.
        outcome.is_transient |= changed && outcome.failed_applies + outcome.failed_prunes > 0;
        Ok(outcome)
    }

    /// Gives objects up. What may not be given up keeps nobody's namespace from going: a replication that is being deleted lets
    /// go of it after a few refusals.
    async fn give_up(&self, task: &Task, writer: &Writer<'_>, removals: &[Removal], outcome: &mut Outcome) {
        let mut refused = Vec::new();
        for removal in removals {
            let Some((item, fault)) = writer.give_up(removal).await else {
                continue;
            };
            if fault.is_refusal && task.is_deleted() {
                refused.push((item, fault));
            } else {
                outcome.keep(item, fault);
            }
        }
        let Some((_, first)) = refused.first() else { return };
        let tries = {
            let mut known = locked(&self.refused);
            let tries = known.entry(task.name.clone()).or_default();
            *tries += 1;
            *tries
        };
        if tries >= REFUSALS {
            let (kind, name) = (task.kind_name(), task.name.to_string());
            tracing::warn!(
                kind,
                name,
                objects = refused.len(),
                error = first.words,
                "left objects behind that could not be given up"
            );
            return;
        }
        for (item, fault) in refused {
            outcome.keep(item, fault);
        }
        outcome.is_transient = true;
    }

    /// Objects at a time, the origins of one object one after the other.
    async fn apply(&self, task: &Task, writer: &Writer<'_>, wanted: &Wanted, outcome: &mut Outcome) {
        let mut objects = BTreeMap::<_, Vec<_>>::new();
        for (key, placed) in wanted.items() {
            let object = (
                key.kind.group.as_str(),
                key.kind.kind.as_str(),
                key.namespace.as_str(),
                key.name.as_str(),
            );
            objects.entry(object).or_default().push((key, placed));
        }
        let known: HashMap<ItemKey, &ProcessedItem> =
            task.known.items.iter().map(|item| (ItemKey::of(item), item)).collect();
        let before = locked(&self.checked).remove(&task.name).unwrap_or_default();
        let period = resync::parse(&task.replication.resync_period).unwrap_or_default();
        let is_forced = task.is_requested() || task.known.generation != task.metadata.generation;
        let (before, known) = (&before, &known);
        let steps: Vec<_> = objects
            .into_values()
            .map(|origins| {
                async move {
                    let mut results = Vec::with_capacity(origins.len());
                    for (key, placed) in origins {
                        let hash = hash(task, placed);
                        let recent = before
                            .get(key)
                            .filter(|(of, at)| !is_forced && *of == hash && at.elapsed() < period);
                        if let (Some((_, at)), Some(item)) = (recent, known.get(key)) {
                            results.push((key.clone(), Some((hash, *at)), Some(((*item).clone(), None))));
                            continue;
                        }
                        let kept = writer.keep(key, placed).await;
                        let is_good = matches!(kept, Some((_, None)));
                        results.push((key.clone(), is_good.then(|| (hash, Instant::now())), kept));
                    }
                    results
                }
                .boxed()
            })
            .collect();
        let results: Vec<_> = stream::iter(steps).buffer_unordered(OBJECTS_AT_A_TIME).collect().await;
        let mut checked = Checked::new();
        for (key, good, kept) in results.into_iter().flatten() {
            if let Some(good) = good {
                checked.insert(key, good);
            }
            let Some((item, fault)) = kept else { continue };
            if let Some(fault) = fault {
                outcome.failed_applies += 1;
                outcome.is_transient |= fault.is_transient;
                outcome.problems.push(fault.words);
            }
            outcome.items.push(item);
        }
        locked(&self.checked).insert(task.name.clone(), checked);
    }

    /// Finalizers as they should be now, and the request to look at it taken off.
    async fn settle(&self, task: &Task, known: &Known, is_finalized: bool) -> Result<(), Error> {
        let is_kept = !known.items.is_empty();
        if is_kept == is_finalized && !task.has_finalizer(names::LEGACY_FINALIZER) && !task.is_requested() {
            return Ok(());
        }
        // Finalizers are replaced whole, so in the version that was looked at.
        let found = self.own(task).get_metadata_opt(&task.name.name).await;
        let found = found.map_err(|source| Error::Read {
            kind: task.kind_name(),
            name: task.name.to_string(),
            source,
        })?;
        let Some(found) = found.filter(|found| found.metadata.uid == task.metadata.uid) else {
            return Ok(());
        };
        let mut finalizers = found.finalizers().to_vec();
        finalizers.retain(|it| it != names::LEGACY_FINALIZER && (is_kept || it != names::FINALIZER));
        let mut metadata = json!({"resourceVersion": found.resource_version(), "finalizers": finalizers});
        if task.is_requested() {
            metadata["annotations"] = json!({names::RECONCILE_ANNOTATION: null});
        }
        self.patch_metadata(task, metadata).await
    }

    async fn patch_metadata(&self, task: &Task, mut metadata: Value) -> Result<(), Error> {
        metadata["uid"] = json!(task.metadata.uid);
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match self.own(task).patch(&task.name.name, &params, &patch).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(Error::UpdateMetadata {
                kind: task.kind_name(),
                name: task.name.to_string(),
                source,
            }),
        }
    }

    /// Writes the status, if it says something new.
    async fn publish(&self, task: &Task, known: Known) -> Result<(), Error> {
        if known == task.known {
            return Ok(());
        }
        let mut status = json!({
            "size": known.size, "processedItems": known.items, "conditions": known.conditions,
        });
        // One that is cordoned from the beginning has none, and the schema takes no null.
        if let Some(generation) = known.generation {
            status["observedGeneration"] = json!(generation);
        }
        if let Some(account) = &known.account {
            status["serviceAccount"] = json!(account);
        }
        if !known.selected.is_empty() {
            status["selectedTenants"] = json!(known.selected);
        }
        let body = json!({"apiVersion": names::API_VERSION, "kind": task.kind_name(),
            "metadata": {"name": task.name.name, "uid": task.metadata.uid}, "status": status});
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        match self
            .own(task)
            .patch_status(&task.name.name, &params, &Patch::Apply(&body))
            .await
        {
            Ok(_) => Ok(()),
            // It went away meanwhile, or another one of its name is there: nobody is left to tell.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::PublishStatus {
                kind: task.kind_name(),
                name: task.name.to_string(),
                source,
            }),
        }
    }

    fn own(&self, task: &Task) -> Api<DynamicObject> {
        let client = self.context.client.clone();
        match &task.name.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &ApiResource::erase::<TenantResource>(&())),
            None => Api::all_with(client, &ApiResource::erase::<GlobalTenantResource>(&())),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status after a pass.
fn judged(task: &Task, target: Target, mut outcome: Outcome) -> Known {
    outcome.items.sort_by_key(ItemKey::of);
    let told = status::told(&outcome.problems, outcome.failed_applies, outcome.failed_prunes);
    let fault = told.as_deref().map(|message| ("Failed", message));
    let faulty = outcome.items.iter_mut().filter_map(|item| item.status.as_mut());
    for quiet in faulty.filter(|status| !status.message.is_empty()).skip(MESSAGES) {
        quiet.message.clear();
    }
    Known {
        selected: match task.kind {
            task::TaskKind::Tenant => Vec::new(),
            task::TaskKind::Global { .. } => target.tenants,
        },
        size: i64::try_from(outcome.items.len()).unwrap_or(i64::MAX),
        items: outcome.items,
        account: task.identity.reference(),
        conditions: status::conditions(
            &task.known.conditions,
            false,
            fault,
            task.metadata.generation,
            Timestamp::now(),
        ),
        generation: task.metadata.generation,
    }
}

/// Of everything that decides how an object is written.
fn hash(task: &Task, placed: &Placed) -> u64 {
    let mut hasher = DefaultHasher::new();
    task.identity.hash(&mut hasher);
    placed.object.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Drops from a TenantResource what no controller or rule reads in the watch; this controller reads what it carries out anew.
pub fn trim_tenant_resource(object: &mut TenantResource) {
    trim(&mut object.metadata, &mut object.spec.replication);
    if let Some(status) = &mut object.status {
        keep_made(&mut status.processed_items);
    }
}

/// Drops from a GlobalTenantResource what no controller or rule reads in the watch.
pub fn trim_global_tenant_resource(object: &mut GlobalTenantResource) {
    trim(&mut object.metadata, &mut object.spec.replication);
    object.spec.tenant_selector = None;
    if let Some(status) = &mut object.status {
        status.selected_tenants = Vec::new();
        keep_made(&mut status.processed_items);
    }
}

fn trim(metadata: &mut ObjectMeta, replication: &mut Replication) {
    metadata.labels = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key == names::RECONCILE_ANNOTATION);
    }
    replication.resources = Vec::new();
}

/// What admission guards: objects that were made, by group, kind, namespace and name.
fn keep_made(items: &mut Vec<ProcessedItem>) {
    items.retain(|item| item.status.as_ref().is_some_and(|status| status.created));
    for item in items.iter_mut() {
        item.version = String::new();
        item.tenant = String::new();
        item.origin = String::new();
        item.status = Some(ProcessedItemStatus {
            created: true,
            ..ProcessedItemStatus::default()
        });
    }
    items.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_replication_keeps_what_triggers_and_what_admission_guards() {
        let item = |name: &str, created: bool| {
            json!({"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "oil-a", "tenant": "oil", "name": name,
                "origin": "replica", "status": {"type": "Ready", "status": "True", "created": created, "message": "m"}})
        };
        let mut object: TenantResource = serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "oil-a", "generation": 3, "labels": {"a": "b"}, "finalizers": ["f"],
                "annotations": {"note": "n", names::RECONCILE_ANNOTATION: "now"}},
            "spec": {"resyncPeriod": "60s", "dependsOn": [{"name": "first"}], "resources": [{"rawItems": [{"kind": "X"}]}]},
            "status": {"size": 2, "observedGeneration": 3, "conditions": [], "processedItems": [item("made", true), item("found", false)],
                "serviceAccount": {"name": "r", "namespace": "oil-a"}}}))
        .unwrap();
        trim_tenant_resource(&mut object);
        let kept = serde_json::to_value(&object).unwrap();
        assert_eq!(
            kept["metadata"]["annotations"],
            json!({names::RECONCILE_ANNOTATION: "now"})
        );
        assert_eq!(kept["metadata"]["generation"], 3);
        assert_eq!(kept["metadata"]["finalizers"], json!(["f"]));
        assert_eq!(kept["spec"]["resources"], json!([]));
        assert_eq!(kept["spec"]["dependsOn"], json!([{"name": "first"}]));
        assert_eq!(kept["status"]["serviceAccount"]["name"], "r");
        let items = object.status.unwrap().processed_items;
        assert_eq!(items.len(), 1);
        let (item, status) = (&items[0], items[0].status.as_ref().unwrap());
        assert_eq!(
            (
                item.group.as_str(),
                item.kind.as_str(),
                item.namespace.as_str(),
                item.name.as_str()
            ),
            ("apps", "Deployment", "oil-a", "made")
        );
        assert!(status.created && status.message.is_empty() && item.origin.is_empty());
    }
}
