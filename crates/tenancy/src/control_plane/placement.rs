//! Which DataStore of a pool takes a control plane whose author named none.
//!
//! DataStores are in a pool by their label [`POOL`]. The pool of the operator's default DataStore takes the control planes
//! that name no store; without a default, the pool named [`DEFAULT_POOL`] does. Who has no such labels has no pools, and
//! finds everything as it was. Authors may narrow the choice by annotations of a TenantControlPlane, operators by those
//! of a DataStore; a store that somebody names in `spec.dataStore` is his, whatever the pool says.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, Driver, TenantControlPlane};
use expressions::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::{effective, storage};
use crate::selector::Selector;

/// Label of a DataStore: the pool that it is in. Annotation of a TenantControlPlane: the pool that it is placed in.
pub const POOL: &str = "cotenant.dev/pool";
/// The pool of control planes that name none, where there is no default DataStore.
pub const DEFAULT_POOL: &str = "default";
/// Annotation of a DataStore: how many control planes it takes at most.
pub const MAX_CONTROL_PLANES: &str = "cotenant.dev/max-control-planes";
/// Annotation of a DataStore: from which size on it takes no more, as a quantity of bytes.
pub const MAX_SIZE: &str = "cotenant.dev/max-size";
/// Annotation of a DataStore, written by the operator: how much it holds, in bytes.
pub const SIZE: &str = "cotenant.dev/size";
/// Annotation of a TenantControlPlane: labels that its DataStore has to have, as `kubectl -l` takes them.
pub const SELECTOR: &str = "cotenant.dev/datastore-selector";
/// Annotation of a TenantControlPlane: a group whose members, within a namespace, are never in one DataStore.
pub const ANTI_AFFINITY: &str = "cotenant.dev/datastore-anti-affinity";
/// Annotation of a TenantControlPlane, written by the operator: why it is where it is.
pub const REASON: &str = "cotenant.dev/placement";

/// How many stores a message tells of.
const LISTED: usize = 10;
/// How much of an annotation a message repeats, in characters.
const NAME_LENGTH: usize = 63;

/// Everything that a choice is made from.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// All DataStores.
    pub data_stores: &'a [Arc<DataStore>],
    /// All control planes.
    pub control_planes: &'a [Arc<TenantControlPlane>],
    /// The DataStore of control planes that name none.
    pub default_data_store: Option<&'a str>,
}

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Name of the DataStore.
    pub data_store: String,
    /// A sentence: why this one, and why not the others.
    pub reason: String,
}

/// Whether a control plane waits to be placed: it names no store, is in none, and there is a pool for it.
pub fn is_wanted(tcp: &TenantControlPlane, stores: &[Arc<DataStore>], default: Option<&str>) -> bool {
    let storage = tcp.status.as_ref().and_then(|status| status.storage.as_ref());
    let recorded = storage.and_then(|storage| storage.data_store_name.as_deref());
    let mut named = [recorded, tcp.spec.data_store.as_deref()].into_iter().flatten();
    named.all(str::is_empty) && pool(tcp, stores, default).is_some()
}

/// Chooses a store for a control plane that [is to be placed](is_wanted).
///
/// Of the stores that take it, it is the one that is filled the least, compared with its own limits; among equals the one
/// with the fewest control planes awake, then the fewest at all, then the first by name.
///
/// # Errors
/// A sentence that says what is against each store.
pub fn place(tcp: &TenantControlPlane, around: &Around<'_>) -> Result<Placement, String> {
    let pool = pool(tcp, around.data_stores, around.default_data_store)
        .ok_or_else(|| "there is no pool of DataStores".to_owned())?;
    let selector = selector(tcp)?;
    let loads = loads(around);
    let members = around.data_stores.iter().filter(|store| pool_of(store) == Some(&pool));
    let (mut fits, mut against): (Vec<&Load>, Vec<String>) = (Vec::new(), Vec::new());
    for store in members {
        let Some(load) = loads.get(&store.metadata.name) else {
            continue;
        };
        match refusal(tcp, store, load, &selector, around) {
            None => fits.push(load),
            Some(reason) => against.push(format!("{} {reason}", load.name)),
        }
    }
    match fits.iter().min_by_key(|load| load.order()) {
        Some(best) => Ok(Placement {
            data_store: best.name.clone(),
            reason: format!(
                "{} of pool {}: {}, the least of {} that take it{}",
                best.name,
                short(&pool),
                best.told(),
                fits.len(),
                if against.is_empty() {
                    String::new()
                } else {
                    format!("; not {}", told(&against, ", not "))
                }
            ),
        }),
        None if against.is_empty() => Err(format!("no DataStore is in pool {} (label {POOL})", short(&pool))),
        None => Err(format!(
            "no DataStore of pool {} takes it: {}",
            short(&pool),
            told(&against, ", ")
        )),
    }
}

/// As many as people read; a message has an end.
fn told(against: &[String], between: &str) -> String {
    let listed = against.iter().take(LISTED).cloned().collect::<Vec<_>>().join(between);
    match against.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed}, and {more} more"),
    }
}

/// What an author wrote, as long as a name may be.
fn short(text: &str) -> String {
    match text.char_indices().nth(NAME_LENGTH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is against a store, as the end of a sentence that begins with its name.
fn refusal(
    tcp: &TenantControlPlane,
    store: &DataStore,
    load: &Load,
    selector: &Selector,
    around: &Around<'_>,
) -> Option<String> {
    if store.metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    if store.spec.driver == Driver::Nats && load.control_planes > 0 {
        return Some("takes one control plane and has it".to_owned());
    }
    if !store.status.as_ref().is_some_and(|status| status.ready) {
        return Some("is not ready".to_owned());
    }
    if !selector.matches(store.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())) {
        return Some(format!(
            "does not match {}",
            short(annotation(tcp, SELECTOR).unwrap_or_default())
        ));
    }
    if let Some(problem) = &load.problem {
        return Some(problem.clone());
    }
    if load.limit.is_some_and(|limit| load.control_planes >= limit) {
        return Some(format!("is full ({})", load.told()));
    }
    if load.size_limit.is_some_and(|limit| load.size.unwrap_or(0) >= limit) {
        return Some(format!("is full ({})", load.told()));
    }
    if let Some(group) = annotation(tcp, ANTI_AFFINITY) {
        let rival = around.control_planes.iter().find(|other| {
            !is_same(tcp, other)
                && other.metadata.namespace == tcp.metadata.namespace
                && annotation(other, ANTI_AFFINITY) == Some(group)
                && stores_of(other, around).contains(&load.name.as_str())
        });
        if let Some(rival) = rival {
            let name = rival.metadata.name.as_deref().unwrap_or_default();
            return Some(format!("holds {name}, also of group {}", short(group)));
        }
    }
    let mut there = tcp.clone();
    there.spec.data_store = Some(load.name.clone());
    let names = storage::names(
        &there,
        around.control_planes,
        around.data_stores,
        around.default_data_store,
    );
    names
        .first()
        .map(|denial| format!("has its names taken ({})", denial.field))
}

/// How much is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Name of the DataStore.
    pub name: String,
    /// Its pool.
    pub pool: Option<String>,
    /// Control planes that are in it, or on their way in or out.
    pub control_planes: u64,
    /// Those of them that want pods.
    pub awake: u64,
    /// How many it takes at most.
    pub limit: Option<u64>,
    /// How many bytes it holds, when that was last measured.
    pub size: Option<u64>,
    /// From how many bytes on it takes no more.
    pub size_limit: Option<u64>,
    /// What is wrong with its annotations. Such a store takes nobody: a limit that cannot be read is not no limit.
    pub problem: Option<String>,
}

impl Load {
    fn of(store: &DataStore) -> Self {
        let annotation = |key: &str| store.metadata.annotations.as_ref()?.get(key).map(String::as_str);
        let mut problem = None;
        let mut number = |key: &str, bytes: bool| {
            let written = annotation(key)?;
            let read = if bytes {
                let quantity: Option<Quantity> = written.parse().ok();
                quantity.and_then(|quantity| quantity.rounded_up().whole())
            } else {
                written.parse().ok()
            };
            let read = read.and_then(|number: i64| u64::try_from(number).ok());
            if read.is_none() {
                let right = if bytes {
                    "an amount of bytes, such as 2Gi"
                } else {
                    "a number, such as 40"
                };
                problem.get_or_insert(format!("has {key}: {:?}, which is not {right}", short(written)));
            }
            read
        };
        Self {
            limit: number(MAX_CONTROL_PLANES, false),
            size: number(SIZE, true),
            size_limit: number(MAX_SIZE, true),
            name: store.metadata.name.clone().unwrap_or_default(),
            pool: pool_of(store).map(str::to_owned),
            control_planes: 0,
            awake: 0,
            problem,
        }
    }

    /// How full it is, in thousandths of its own limits; 0 without limits.
    pub fn fullness(&self) -> u64 {
        let share = |used: u64, limit: Option<u64>| match limit {
            None => 0,
            Some(0) => u64::MAX,
            Some(limit) => used.saturating_mul(1000) / limit,
        };
        share(self.control_planes, self.limit).max(share(self.size.unwrap_or(0), self.size_limit))
    }

    fn order(&self) -> (u64, u64, u64, &str) {
        (self.fullness(), self.awake, self.control_planes, &self.name)
    }

    /// Whether it holds more than its limits allow.
    pub fn over(&self) -> bool {
        self.limit.is_some_and(|limit| self.control_planes > limit)
            || self.size_limit.is_some_and(|limit| self.size.unwrap_or(0) > limit)
    }

    /// `3 of 40 control planes, 2 awake, 12 of 2147483648 bytes`
    pub fn told(&self) -> String {
        let of = |used: u64, limit: Option<u64>| match limit {
            Some(limit) => format!("{used} of {limit}"),
            None => used.to_string(),
        };
        let bytes = match (self.size, self.size_limit) {
            (None, _) => String::new(),
            (Some(size), limit) => format!(", {} bytes", of(size, limit)),
        };
        let planes = of(self.control_planes, self.limit);
        format!("{planes} control planes, {} awake{bytes}", self.awake)
    }
}

/// How much is in each store, by its name.
pub fn loads(around: &Around<'_>) -> BTreeMap<Option<String>, Load> {
    let stores = around.data_stores.iter();
    let mut loads: BTreeMap<Option<String>, Load> = stores
        .map(|store| (store.metadata.name.clone(), Load::of(store)))
        .collect();
    for tcp in around.control_planes {
        let awake = tcp.spec.control_plane.deployment.replicas > 0;
        for name in stores_of(tcp, around) {
            if let Some(load) = loads.get_mut(&Some(name.to_owned())) {
                load.control_planes += 1;
                load.awake += u64::from(awake);
            }
        }
    }
    loads
}

/// The stores that a control plane is in or goes to; none while it waits to be placed.
fn stores_of<'a>(tcp: &'a TenantControlPlane, around: &Around<'a>) -> Vec<&'a str> {
    let waits = is_wanted(tcp, around.data_stores, around.default_data_store);
    let default = around.default_data_store.filter(|_| !waits);
    effective::data_stores(tcp, default)
}

/// The pool of a control plane that names no store.
fn pool(tcp: &TenantControlPlane, stores: &[Arc<DataStore>], default: Option<&str>) -> Option<String> {
    if let Some(asked) = annotation(tcp, POOL) {
        return Some(asked.to_owned());
    }
    let Some(default) = default.filter(|name| !name.is_empty()) else {
        let there = stores.iter().any(|store| pool_of(store) == Some(DEFAULT_POOL));
        return there.then(|| DEFAULT_POOL.to_owned());
    };
    let default = stores
        .iter()
        .find(|store| store.metadata.name.as_deref() == Some(default));
    default.and_then(|store| pool_of(store)).map(str::to_owned)
}

/// The pool that a store is in.
pub fn pool_of(store: &DataStore) -> Option<&str> {
    let pool = store.metadata.labels.as_ref()?.get(POOL)?;
    Some(pool.as_str()).filter(|pool| !pool.is_empty())
}

fn annotation<'a>(tcp: &'a TenantControlPlane, key: &str) -> Option<&'a str> {
    let value = tcp.metadata.annotations.as_ref()?.get(key)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

fn is_same(one: &TenantControlPlane, other: &TenantControlPlane) -> bool {
    one.metadata.namespace == other.metadata.namespace && one.metadata.name == other.metadata.name
}

/// `a=b,c!=d,e,!f`
fn selector(tcp: &TenantControlPlane) -> Result<Selector, String> {
    let Some(written) = annotation(tcp, SELECTOR) else {
        return Ok(Selector::default());
    };
    let requirement = |item: &str| {
        let (key, operator, value) = if let Some((key, value)) = item.split_once("!=") {
            (key, "NotIn", Some(value))
        } else if let Some((key, value)) = item.split_once('=') {
            (key, "In", Some(value.strip_prefix('=').unwrap_or(value)))
        } else if let Some(key) = item.strip_prefix('!') {
            (key, "DoesNotExist", None)
        } else {
            (item, "Exists", None)
        };
        LabelSelectorRequirement {
            key: key.trim().to_owned(),
            operator: operator.to_owned(),
            values: value.map(|value| vec![value.trim().to_owned()]),
        }
    };
    let requirements: Vec<_> = written.split(',').map(str::trim).map(requirement).collect();
    Selector::of(&BTreeMap::new(), &requirements).map_err(|error| {
        format!(
            "metadata.annotations[{SELECTOR}]: {}; write it as in disk=nvme,region!=eu",
            short(&error.to_string())
        )
    })
}

/// A control plane that would be better off in another store of its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The DataStore that it is in.
    pub from: String,
    /// The DataStore that takes it.
    pub to: String,
    /// Why.
    pub reason: String,
}

/// What evens out the pools: first out of stores that hold more than their limits allow, then from the fullest to the
/// emptiest while that makes them more equal. Control planes that sleep go first, because nobody notices.
///
/// Only whole control planes that are settled in one store of a pool move, only between etcds, because data moves between
/// no others, and only where they would be placed.
pub fn rebalance(around: &Around<'_>) -> Vec<Move> {
    let mut control_planes = around.control_planes.to_vec();
    let mut moves = Vec::new();
    // Every move lowers what is held beyond limits, or else how unequal stores are, so it ends; the bound says so as well.
    for _ in 0..around.control_planes.len().saturating_mul(around.data_stores.len()) {
        let now = Around {
            control_planes: &control_planes,
            ..*around
        };
        let Some((at, next)) = next_move(&now) else { break };
        let mut moved = control_planes[at].as_ref().clone();
        moved.spec.data_store = Some(next.to.clone());
        if let Some(storage) = moved.status.as_mut().and_then(|status| status.storage.as_mut()) {
            storage.data_store_name = Some(next.to.clone());
        }
        control_planes[at] = Arc::new(moved);
        moves.push(next);
    }
    moves
}

fn next_move(around: &Around<'_>) -> Option<(usize, Move)> {
    let loads = loads(around);
    let mut sources: Vec<&Load> = loads.values().filter(|load| load.pool.is_some()).collect();
    sources.sort_by(|a, b| (b.over(), b.order()).cmp(&(a.over(), a.order())));
    sources.into_iter().find_map(|source| {
        let mut movable: Vec<usize> = (0..around.control_planes.len())
            .filter(|at| settled_in(&around.control_planes[*at], around) == Some(&source.name))
            .collect();
        movable.sort_by_key(|at| {
            let tcp = &around.control_planes[*at];
            let awake = tcp.spec.control_plane.deployment.replicas > 0;
            (awake, tcp.metadata.namespace.clone(), tcp.metadata.name.clone())
        });
        movable
            .into_iter()
            .find_map(|at| Some((at, better(&around.control_planes[at], source, &loads, around)?)))
    })
}

/// The move of one control plane out of a store, if there is one that helps.
fn better(
    tcp: &TenantControlPlane,
    source: &Load,
    loads: &BTreeMap<Option<String>, Load>,
    around: &Around<'_>,
) -> Option<Move> {
    let (own, others): (Vec<_>, Vec<_>) = around
        .data_stores
        .iter()
        .filter(|store| store.spec.driver == Driver::Etcd)
        .cloned()
        .partition(|store| store.metadata.name.as_deref() == Some(&source.name));
    if own.is_empty() {
        return None;
    }
    let mut elsewhere = tcp.clone();
    elsewhere.spec.data_store = None;
    elsewhere.status = None;
    let annotations = elsewhere.metadata.annotations.get_or_insert_default();
    annotations.insert(POOL.to_owned(), source.pool.clone()?);
    let choice = place(
        &elsewhere,
        &Around {
            data_stores: &others,
            ..*around
        },
    )
    .ok()?;
    let target = loads.get(&Some(choice.data_store.clone()))?;
    let mut filled = target.clone();
    filled.control_planes += 1;
    let evens = filled.control_planes < source.control_planes && filled.fullness() <= source.fullness();
    if filled.over() || !(source.over() || evens) {
        return None;
    }
    let problem = if source.over() {
        "more than its limits allow"
    } else {
        "more than others"
    };
    Some(Move {
        namespace: tcp.metadata.namespace.clone().unwrap_or_default(),
        name: tcp.metadata.name.clone().unwrap_or_default(),
        from: source.name.clone(),
        to: target.name.clone(),
        reason: format!(
            "{} holds {}, {problem}; {} holds {}",
            source.name,
            source.told(),
            target.name,
            target.told()
        ),
    })
}

/// The one store that a control plane is in and stays in.
fn settled_in<'a>(tcp: &'a TenantControlPlane, around: &Around<'a>) -> Option<&'a str> {
    match stores_of(tcp, around).as_slice() {
        [only] if tcp.metadata.deletion_timestamp.is_none() && tcp.spec.data_store.is_some() => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
