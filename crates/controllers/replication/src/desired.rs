//! What a replication wants: reads what it copies and what its templates look at, as whom it acts, and makes the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::capsule::v1beta2::{ItemReference, ReplicationBlock};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::TypeMeta;
use serde_json::{Map, Value};
use tenancy::replication::limits;
use tenancy::replication::object::{self, Reach, is_object_name, place};
use tenancy::replication::plan::{Full, Part, Wanted};
use tenancy::replication::produce::{self, Gathered, Produced};
use tenancy::selector::Selector;

use crate::error::words;
use crate::kinds::Kinds;
use crate::reads::{Answer, Reads, Scope};
use crate::task::{Round, Target, Task};

/// How long the making of objects for one tenant may take. Who asks for more gets what was made by then, and the reason.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where several tenants get something: for each of them, and for all.
const PATIENCE_OF_SEVERAL: Duration = Duration::from_secs(5);
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(30);
/// Objects that are read at a time. Each may have more than a MiB.
const PAGE: u32 = 20;

/// Reads for one replication.
pub(crate) struct Maker<'a> {
    task: &'a Task,
    target: &'a Target,
    kinds: &'a Kinds,
    /// Our own client, for discovery alone.
    operator: &'a Client,
    /// The client of whom the replication acts as.
    acting: &'a Client,
    reads: Reads,
}

/// A block, and which namespaces get it.
struct Block {
    index: usize,
    selector: Selector,
    content: Arc<ReplicationBlock>,
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
            reads: Reads::default(),
        }
    }

    /// Everything that is wanted, and what could not be made. A tenant that exceeds a limit gets no more; others do.
    pub(crate) async fn make(&mut self) -> Wanted {
        let target = self.target;
        let tenants: BTreeSet<_> = target.rounds.iter().map(|round| round.place().tags().tenant).collect();
        let mut wanted = Wanted::of(tenants.len());
        if let Err(problem) = limits::check(&self.task.replication) {
            wanted.note(Part::All, problem);
            return wanted;
        }
        let blocks = self.blocks(&mut wanted);
        let (patience, all) = if tenants.len() > 1 {
            (PATIENCE_OF_SEVERAL, PATIENCE_WITH_ALL)
        } else {
            (PATIENCE, PATIENCE)
        };
        let end = Instant::now() + all;
        let (mut taken, mut closed) = (BTreeMap::<&str, Duration>::new(), BTreeSet::new());
        let mut full = None::<String>;
        for round in &target.rounds {
            let place = round.place();
            let tenant = place.tags().tenant;
            if closed.contains(tenant) {
                continue;
            }
            let began = Instant::now();
            if full.is_none() && began > end {
                full = Some(too_late());
            }
            let before = taken.get(tenant).copied().unwrap_or_default();
            let late = end.min(began + patience.saturating_sub(before));
            let filled = match &full {
                Some(problem) => Err(Full::All(problem.clone())),
                None => self.fill_all(&blocks, round, late, &mut wanted).await,
            };
            taken.insert(tenant, before + began.elapsed());
            // Who had their turn before have everything; what of theirs is wanted no more may go.
            let problem = match filled {
                Ok(()) => continue,
                Err(Full::Tenant(problem)) => problem,
                Err(Full::All(problem)) => full.insert(problem).clone(),
            };
            wanted.note(Part::Tenant(tenant.to_owned()), problem);
            closed.insert(tenant);
        }
        wanted
    }

    fn blocks(&self, wanted: &mut Wanted) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (index, block) in self.task.replication.resources.iter().enumerate() {
            match block.namespace_selector.as_ref().map(Selector::new).transpose() {
                Ok(selector) => blocks.push(Block {
                    index,
                    selector: selector.unwrap_or_default(),
                    content: Arc::new(block.clone()),
                }),
                Err(error) => wanted.note(Part::All, format!("spec.resources[{index}].namespaceSelector: {error}")),
            }
        }
        blocks
    }

    /// All blocks in one place.
    async fn fill_all(
        &mut self,
        blocks: &[Block],
        round: &Round,
        late: Instant,
        wanted: &mut Wanted,
    ) -> Result<(), Full> {
        self.reads.next_place();
        let labels = round.namespace.as_ref().and_then(|it| it.metadata.labels.clone());
        let labels = labels.unwrap_or_default();
        for block in blocks {
            if round.namespace.is_some() && !block.selector.matches(&labels) {
                continue;
            }
            let mut filling = Filling {
                block,
                round,
                late,
                problems: Vec::new(),
            };
            let answer = self.fill(&mut filling, wanted).await;
            for problem in filling.problems {
                wanted.note(round.part(), problem);
            }
            answer?;
            if Instant::now() > late {
                return Err(Full::Tenant(too_late()));
            }
        }
        Ok(())
    }

    /// One block in one place.
    async fn fill(&mut self, filling: &mut Filling<'_>, wanted: &mut Wanted) -> Result<(), Full> {
        let index = filling.block.index;
        let mut gathered = Gathered::default();
        if let Err(problem) = self.gather(filling, &mut gathered).await {
            filling.problems.push(format!("spec.resources[{index}]: {problem}"));
            return Ok(());
        }
        let (round, late) = (filling.round, filling.late);
        let here = round.place();
        let tags = here.tags();
        let metadata = produce::additional_metadata(&filling.block.content, &tags);
        for produced in gathered.objects {
            if Instant::now() > late {
                return Err(Full::Tenant(too_late()));
            }
            let Produced { origin, object } = produced;
            let object = object::cleaned(object::with_metadata(object, &metadata));
            match self.placed(object, tags.namespace).await {
                Ok(placed) => wanted.add(tags.tenant, origin, placed)?,
                Err(problem) => filling.problems.push(format!("{origin}: {problem}")),
            }
        }
        Ok(())
    }

    /// The objects of a block for a place. `Err`: there are none.
    async fn gather(&mut self, filling: &mut Filling<'_>, gathered: &mut Gathered) -> Result<(), String> {
        let (round, block, late) = (filling.round, &filling.block.content, filling.late);
        let here = round.place();
        let tags = here.tags();
        for (number, raw) in block.namespaced_items.iter().enumerate() {
            let item = produce::reference(raw, &tags);
            match self.sources(raw, &item, tags.namespace, late).await {
                Ok(sources) => gathered.add_copies(&item, &sources, &here)?,
                Err(problem) => filling.note(&format!("namespacedItems[{number}]"), &problem),
            }
        }
        let Some(context) = self.context(filling).await else {
            return Ok(());
        };
        // Templates are work for a thread of its own: they may take a while, and reviews must not wait.
        let (index, parts, shared, now) = (filling.block.index, block.clone(), round.clone(), Timestamp::now());
        let mut collected = std::mem::take(gathered);
        let made = tokio::task::spawn_blocking(move || {
            let is_late = || Instant::now() > late;
            let answer = collected.add_made(index, &parts, &shared.place(), &context, now, is_late);
            (collected, answer)
        });
        let (collected, answer) = made.await.map_err(|_| "the templates failed".to_owned())?;
        *gathered = collected;
        filling.problems.extend(answer?);
        Ok(())
    }

    /// What the templates of a block can look at. `None`: not everything is there, and the templates are left out.
    async fn context(&mut self, filling: &mut Filling<'_>) -> Option<Map<String, Value>> {
        let (round, block, late) = (filling.round, &filling.block.content, filling.late);
        let here = round.place();
        let tags = here.tags();
        let (mut context, mut bytes) = (Map::new(), 0);
        for (number, entry) in block.context.iter().flat_map(|context| &context.resources).enumerate() {
            let item = produce::reference(&entry.item, &tags);
            let key = if entry.index.is_empty() {
                number.to_string()
            } else {
                entry.index.clone()
            };
            let field = format!("context.resources[{number}]");
            match self.sources(&entry.item, &item, tags.namespace, late).await {
                Ok(sources) => {
                    let list: Value = sources.iter().cloned().map(object::sanitised).collect();
                    bytes += list.to_string().len();
                    if bytes > limits::CONTEXT_BYTES {
                        let problem = format!("the context has more than {} bytes", limits::CONTEXT_BYTES);
                        filling.note(&field, &problem);
                        return None;
                    }
                    context.insert(key, list);
                }
                Err(problem) => {
                    filling.note(&field, &problem);
                    return None;
                }
            }
        }
        Some(context)
    }

    async fn placed(&self, wanted: Value, namespace: &str) -> Result<object::Placed, String> {
        let kind = object::Kind::of(&wanted)?;
        let served = self.kinds.exactly(self.operator, &kind).await?;
        place(wanted, served.is_cluster_scoped, self.task.reach(), namespace)
    }

    /// The objects that a reference names, as the replication's identity may read them. `raw` is the reference with its tags.
    async fn sources(&mut self, raw: &ItemReference, item: &ItemReference, here: &str, late: Instant) -> Answer {
        let own = self.task.name.namespace.as_deref();
        let namespace = match item.namespace.as_str() {
            "" => own.unwrap_or(here),
            given => given,
        };
        // What is the same for every place is read once, and counts once.
        let is_common = item == raw && (own.is_some() || !item.namespace.is_empty() || here.is_empty());
        let scope = if is_common { Scope::Common } else { Scope::Place };
        let asked = serde_json::to_string(item).map_err(|error| error.to_string())?;
        let asked = format!("{namespace} {asked}");
        if let Some(known) = self.reads.known(scope, &asked) {
            return known;
        }
        self.reads.check(scope)?;
        let left = late.saturating_duration_since(Instant::now());
        let found = match tokio::time::timeout(left, self.read(item, namespace, scope)).await {
            Ok(found) => found.map(Arc::new),
            Err(_) => return Err(too_late()),
        };
        self.reads.keep(scope, asked, found.clone());
        found
    }

    async fn read(&mut self, item: &ItemReference, namespace: &str, scope: Scope) -> Result<Vec<Value>, String> {
        let served = self.kinds.referred(self.operator, &item.kind).await?;
        let kind = &item.kind.kind;
        let is_of_a_tenant = self.task.reach() == Reach::OfTenant;
        if served.is_cluster_scoped && is_of_a_tenant {
            return Err(format!(
                "cluster-scoped kind {kind} is not allowed in a tenant's replication"
            ));
        }
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
        // Lists leave these out.
        let types = TypeMeta {
            api_version: served.resource.api_version.clone(),
            kind: served.resource.kind.clone(),
        };
        let none = BTreeMap::new();
        let (mut sources, mut seen, mut from) = (Vec::new(), 0, None::<String>);
        loop {
            let (page, more) = if item.name.is_empty() {
                let mut params = ListParams::default().limit(PAGE).labels(&in_words(item));
                params.continue_token = from.take();
                let list = api.list(&params).await.map_err(|error| words(&error))?;
                (list.items, list.metadata.continue_.filter(|token| !token.is_empty()))
            } else {
                if !is_object_name(&item.name) || (namespace.is_empty() && !served.is_cluster_scoped) {
                    return Err(format!("{:?} in namespace {namespace:?} names no object", item.name));
                }
                let found = api.get_opt(&item.name).await.map_err(|error| words(&error))?;
                (found.into_iter().collect(), None)
            };
            seen += page.len();
            for mut source in page {
                if !selector.matches(source.metadata.labels.as_ref().unwrap_or(&none)) {
                    continue;
                }
                source.types = Some(types.clone());
                let source = serde_json::to_value(source).map_err(|error| error.to_string())?;
                sources.push(self.reads.charge(scope, source)?);
            }
            let most = usize::try_from(limits::SOURCES).unwrap_or(usize::MAX);
            if seen > most || (seen == most && more.is_some()) {
                return Err(format!("more than {most} objects of kind {kind} are selected"));
            }
            match more {
                Some(token) => from = Some(token),
                None => break,
            }
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

/// One block in one place, while its objects are made.
struct Filling<'a> {
    block: &'a Block,
    round: &'a Round,
    late: Instant,
    problems: Vec<String>,
}

impl Filling<'_> {
    fn note(&mut self, field: &str, problem: &str) {
        let index = self.block.index;
        self.problems
            .push(format!("spec.resources[{index}].{field}: {problem}"));
    }
}

fn too_late() -> String {
    "making the objects takes too long; ask for less in one replication".to_owned()
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
