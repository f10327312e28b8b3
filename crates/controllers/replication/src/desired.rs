//! What a replication wants: reads what it copies and what its templates look at, as whom it acts, and makes the objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::capsule::v1beta2::{ItemReference, ReplicationBlock};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Map, Value};
use tenancy::replication::limits;
use tenancy::replication::object::{self, Reach, is_object_name, place};
use tenancy::replication::plan::Wanted;
use tenancy::replication::produce::{self, Place, Produced};
use tenancy::selector::Selector;

use crate::error::words;
use crate::kinds::Kinds;
use crate::task::{Round, Target, Task};

/// How long the making of one replication's objects may take. Who asks for more gets what was made by then, and the reason.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads for one replication.
pub(crate) struct Maker<'a> {
    pub(crate) task: &'a Task,
    pub(crate) target: &'a Target,
    pub(crate) kinds: &'a Kinds,
    /// Our own client, for discovery alone.
    pub(crate) operator: &'a Client,
    /// The client of whom the replication acts as.
    pub(crate) acting: &'a Client,
    /// What was read already, by what was asked.
    read: HashMap<String, Result<Arc<Vec<Value>>, String>>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(
        task: &'a Task,
        target: &'a Target,
        kinds: &'a Kinds,
        operator: &'a Client,
        acting: &'a Client,
    ) -> Self {
        Self {
            task,
            target,
            kinds,
            operator,
            acting,
            read: HashMap::new(),
        }
    }

    /// Everything that is wanted, and what could not be made.
    pub(crate) async fn make(&mut self) -> Wanted {
        let (mut wanted, started) = (Wanted::default(), Instant::now());
        let (task, target) = (self.task, self.target);
        for (index, block) in task.replication.resources.iter().enumerate() {
            let selector = match block.namespace_selector.as_ref().map(Selector::new).transpose() {
                Ok(selector) => selector.unwrap_or_default(),
                Err(error) => {
                    let problem = format!("spec.resources[{index}].namespaceSelector: {error}");
                    wanted.problems.push(problem);
                    continue;
                }
            };
            let block = Arc::new(block.clone());
            for round in &target.rounds {
                let labels = round.namespace.as_ref().and_then(|it| it.metadata.labels.clone());
                if round.namespace.is_some() && !selector.matches(&labels.unwrap_or_default()) {
                    continue;
                }
                if started.elapsed() > PATIENCE {
                    let problem =
                        format!("making the objects takes more than {PATIENCE:?}; ask for less in one replication");
                    wanted.problems.push(problem);
                    return wanted;
                }
                if let Err(problem) = self.fill(index, &block, round, &mut wanted).await {
                    wanted.problems.push(problem);
                    return wanted;
                }
            }
        }
        wanted
    }

    /// One block in one place.
    async fn fill(
        &mut self,
        index: usize,
        block: &Arc<ReplicationBlock>,
        round: &Round,
        wanted: &mut Wanted,
    ) -> Result<(), String> {
        let here = Place {
            tenant: round.tenant.as_deref(),
            namespace: round.namespace.as_deref(),
        };
        let tags = here.tags();
        let mut found: Vec<Produced> = Vec::new();
        for (number, item) in block.namespaced_items.iter().enumerate() {
            let item = produce::reference(item, &tags);
            match self.sources(&item, tags.namespace).await {
                Ok(sources) => found.extend(produce::copies(&item, &sources, &here)),
                Err(problem) => wanted
                    .problems
                    .push(format!("spec.resources[{index}].namespacedItems[{number}]: {problem}")),
            }
        }
        let (mut context, mut context_bytes) = (Map::new(), 0);
        for (number, entry) in block.context.iter().flat_map(|context| &context.resources).enumerate() {
            let item = produce::reference(&entry.item, &tags);
            let key = if entry.index.is_empty() {
                number.to_string()
            } else {
                entry.index.clone()
            };
            let field = format!("spec.resources[{index}].context.resources[{number}]");
            match self.sources(&item, tags.namespace).await {
                Ok(sources) => {
                    let list: Value = sources.iter().cloned().map(object::sanitised).collect();
                    context_bytes += list.to_string().len();
                    if context_bytes > limits::CONTEXT_BYTES {
                        wanted.problems.push(format!(
                            "{field}: the context has more than {} bytes",
                            limits::CONTEXT_BYTES
                        ));
                        return Ok(());
                    }
                    context.insert(key, list);
                }
                Err(problem) => {
                    wanted.problems.push(format!("{field}: {problem}"));
                    return Ok(());
                }
            }
        }
        // Templates are work for a thread of its own: they may take a while, and reviews must not wait.
        let (parts, shared, now) = (block.clone(), round.clone(), Timestamp::now());
        let made = tokio::task::spawn_blocking(move || {
            let here = Place {
                tenant: shared.tenant.as_deref(),
                namespace: shared.namespace.as_deref(),
            };
            produce::made(index, &parts, &here, &context, now)
        });
        match made.await {
            Ok((made, problems)) => {
                found.extend(made);
                wanted.problems.extend(problems);
            }
            Err(_) => wanted
                .problems
                .push(format!("spec.resources[{index}]: the templates failed")),
        }
        if found.len() > limits::OBJECTS_OF_A_BLOCK {
            return Err(format!(
                "spec.resources[{index}]: {} objects in one place; at most {} are allowed",
                found.len(),
                limits::OBJECTS_OF_A_BLOCK
            ));
        }
        let metadata = produce::additional_metadata(block, &tags);
        for produced in found {
            let Produced { origin, object } = produced;
            let object = object::cleaned(object::with_metadata(object, &metadata));
            match self.placed(object, tags.namespace).await {
                Ok(placed) => wanted.add(tags.tenant, origin, placed)?,
                Err(problem) => wanted.problems.push(format!("{origin}: {problem}")),
            }
        }
        Ok(())
    }

    async fn placed(&self, wanted: Value, namespace: &str) -> Result<object::Placed, String> {
        let kind = object::Kind::of(&wanted)?;
        let served = self.kinds.exactly(self.operator, &kind).await?;
        place(wanted, served.is_cluster_scoped, self.task.reach(), namespace)
    }

    /// The objects that a reference names, as the replication's identity may read them.
    async fn sources(&mut self, item: &ItemReference, namespace: &str) -> Result<Arc<Vec<Value>>, String> {
        let key = format!(
            "{namespace} {}",
            serde_json::to_string(item).map_err(|error| error.to_string())?
        );
        if let Some(known) = self.read.get(&key) {
            return known.clone();
        }
        let found = self.read(item, namespace).await.map(Arc::new);
        self.read.insert(key, found.clone());
        found
    }

    async fn read(&self, item: &ItemReference, here: &str) -> Result<Vec<Value>, String> {
        let served = self.kinds.referred(self.operator, &item.kind).await?;
        let kind = &item.kind.kind;
        let is_of_a_tenant = self.task.reach() == Reach::OfTenant;
        if served.is_cluster_scoped && is_of_a_tenant {
            return Err(format!(
                "cluster-scoped kind {kind} is not allowed in a tenant's replication"
            ));
        }
        let own = self.task.name.namespace.as_deref().unwrap_or(here);
        let namespace = if item.namespace.is_empty() {
            own
        } else {
            &item.namespace
        };
        if is_of_a_tenant && !self.target.readable.contains(namespace) {
            return Err(format!(
                "cross-namespace selection is not allowed outside of the tenant: {namespace:?} is none of its namespaces"
            ));
        }
        if !namespace.is_empty() && !tenancy::name::is_dns_subdomain(namespace) {
            return Err(format!("{namespace:?} is no namespace"));
        }
        let api: Api<DynamicObject> = if served.is_cluster_scoped || namespace.is_empty() {
            Api::all_with(self.acting.clone(), &served.resource)
        } else {
            Api::namespaced_with(self.acting.clone(), namespace, &served.resource)
        };
        let selector = item.selector.as_ref().map(Selector::new).transpose();
        let selector = selector
            .map_err(|error| format!("selector: {error}"))?
            .unwrap_or_default();
        let found = if item.name.is_empty() {
            let page = ListParams::default().limit(limits::SOURCES).labels(&in_words(item));
            let list = api.list(&page).await.map_err(|error| words(&error))?;
            if list.metadata.continue_.is_some_and(|token| !token.is_empty()) {
                return Err(format!(
                    "more than {} objects of kind {kind} are selected",
                    limits::SOURCES
                ));
            }
            list.items
        } else {
            if !is_object_name(&item.name) || (namespace.is_empty() && !served.is_cluster_scoped) {
                return Err(format!("{:?} in namespace {namespace:?} names no object", item.name));
            }
            let found = api.get_opt(&item.name).await.map_err(|error| words(&error))?;
            found.into_iter().collect()
        };
        let none = std::collections::BTreeMap::new();
        let mut sources = Vec::with_capacity(found.len());
        for mut source in found {
            if !selector.matches(source.metadata.labels.as_ref().unwrap_or(&none)) {
                continue;
            }
            // Lists leave these out.
            source.types = Some(kube::core::TypeMeta {
                api_version: served.resource.api_version.clone(),
                kind: served.resource.kind.clone(),
            });
            sources.push(serde_json::to_value(source).map_err(|error| error.to_string())?);
        }
        if sources.is_empty() && !item.optional {
            return Err(format!(
                "{kind} {:?} is not found in namespace {namespace:?}",
                item.name
            ));
        }
        Ok(sources)
    }
}

/// The part of a selector that the API server answers; the rest is looked at here.
fn in_words(item: &ItemReference) -> String {
    let labels = item
        .selector
        .iter()
        .flat_map(|selector| selector.match_labels.iter().flatten());
    let equal: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    equal.join(",")
}
