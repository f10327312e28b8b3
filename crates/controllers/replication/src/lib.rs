//! The controller of replication: TenantResources and GlobalTenantResources.
//!
//! **Watches** both kinds, Tenants, Namespaces and the CapsuleConfiguration. **Decides** with `tenancy::replication` which objects
//! are wanted where. **Writes** each object with server-side apply under a field manager of its own origin, marks it with labels,
//! and lists it in the replication's status. What is wanted no more is deleted if the replication made it, and released if not.
//!
//! Everything that a tenant can have a say in is read and written as a ServiceAccount ([`impersonation`]): what it may not do, the
//! replication may not. The operator's own rights are used for the replication objects themselves, for discovery, and for
//! GlobalTenantResources that name no ServiceAccount where the configuration names none either.
//!
//! An object that is as it should be is read once per resync and not written. Between two resyncs only what is wanted differently
//! is looked at, so that a new namespace costs what is in it, not what is in all others.

mod apply;
mod desired;
mod error;
mod impersonation;
mod kinds;
mod metrics;
mod task;
mod watches;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names;
use api::capsule::v1beta2::{CapsuleConfiguration, GlobalTenantResource, ProcessedItem, Tenant, TenantResource};
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::{Value, json};
use tenancy::replication::identity::ReplicationName;
use tenancy::replication::object::Placed;
use tenancy::replication::plan::{self, ItemKey, Wanted};
use tenancy::replication::{resync, status};

use apply::Writer;
use desired::Maker;
use kinds::Kinds;
use task::{Known, Surroundings, Target, Task};

pub use error::Error;

/// Replications at a time, and objects of one at a time.
const CONCURRENCY: usize = 4;
const OBJECTS_AT_A_TIME: usize = 8;
/// After a failure that may pass by itself.
const SOON: Duration = Duration::from_secs(2);
/// Items whose message is in the status; of a thousand failures one is like the other.
const MESSAGES: usize = 200;
/// Of all time, what the making of one replication's objects may take: one part in so many.
const SHARE: u32 = 20;

/// What the controller works with. The watches are shared with whoever else needs them.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
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
    let runner = Controller::new("replications", &context.metrics).concurrency(CONCURRENCY);
    let shutdown = context.shutdown.clone();
    let replications = Arc::new(Replications {
        surroundings: Surroundings {
            tenants: context.tenants.clone(),
            namespaces: context.namespaces.clone(),
        },
        context,
        kinds: Kinds::default(),
        checked: Mutex::default(),
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
    surroundings: Surroundings,
    kinds: Kinds,
    checked: Mutex<HashMap<ReplicationName, Checked>>,
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

impl Replications {
    async fn reconcile(&self, name: &ReplicationName) -> Result<Action, Error> {
        let Some(task) = self.read(name).await? else {
            self.checked().remove(name);
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
        let resync = resync::delay(period, jitter).max(started.elapsed() * SHARE);
        Ok(Action::RequeueAfter(if is_transient {
            SOON.max(started.elapsed() * SHARE)
        } else {
            resync
        }))
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
        let configuration = self.context.configurations.get(None, &self.context.configuration_name);
        let impersonation = configuration.as_ref().and_then(|it| it.spec.impersonation.as_ref());
        if impersonation.is_some_and(|it| !it.endpoint.is_empty()) {
            return Err(
                "spec.impersonation.endpoint of the CapsuleConfiguration is not acted upon; remove it".to_owned(),
            );
        }
        self.surroundings.target(task)
    }

    async fn carry_out(&self, task: &Task, target: &Target) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let acting = match impersonation::acting_as(&self.context.client, &task.identity) {
            Ok(acting) => acting,
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
        outcome.problems.clone_from(&wanted.problems);
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
            operator: &self.context.client,
            acting: &acting,
        };
        let (removals, kept) = plan::removals(&wanted, &task.known.items);
        outcome.items.extend(kept);
        let changed = task.known.account != task.identity.reference();
        self.apply(task, &writer, &wanted, &mut outcome).await;
        for removal in &removals {
            if let Some((item, fault)) = writer.give_up(removal).await {
                outcome.failed_prunes += 1;
                outcome.is_transient |= fault.is_transient;
                outcome.problems.push(fault.words);
                outcome.items.push(item);
            }
        }
        // A refusal after a change of the account may only mean that admission has not heard of it yet.
        outcome.is_transient |= changed && outcome.failed_applies + outcome.failed_prunes > 0;
        Ok(outcome)
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
        let before = self.checked().remove(&task.name).unwrap_or_default();
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
        self.checked().insert(task.name.clone(), checked);
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
            "observedGeneration": known.generation,
        });
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

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<ReplicationName, Checked>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// Drops from a TenantResource what no controller or rule reads.
pub fn trim_tenant_resource(object: &mut TenantResource) {
    object.annotations_mut().remove(names::LAST_APPLIED);
}

/// Drops from a GlobalTenantResource what no controller or rule reads.
pub fn trim_global_tenant_resource(object: &mut GlobalTenantResource) {
    object.annotations_mut().remove(names::LAST_APPLIED);
}
