//! What the decisions about pools are made from, kept by watches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::shared::Change;
use runtime::{Index, Queue, Shared};
use tenancy::quota::amounts::InvalidAmount;
use tenancy::quota::coverage;
use tenancy::quota::pool::{Allowance, POOL_LABEL, Place, Pool, RELEASE_ANNOTATION, child_name};
use tenancy::selector::{InvalidSelector, Selector};

use crate::{Context, Error};

/// Namespace and name.
pub(super) type ClaimName = (String, String);

/// By what claims are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Of {
    /// The UID of the pool that serves it.
    Serving(String),
    /// The name of the pool that it asks.
    Asked(String),
}

/// The watches.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) pools: Shared<ResourcePool>,
    pub(super) claims: Shared<ResourcePoolClaim>,
    namespaces: Shared<Namespace>,
    claims_of: Index<ResourcePoolClaim, Of>,
    /// By the name of the pool that the label says.
    quotas_of: Index<ResourceQuota, String>,
    quotas: Shared<ResourceQuota>,
}

/// A pool that cannot be decided about as it is written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Amount(#[from] InvalidAmount),
    #[error("spec.selectors[{index}]: {problem}")]
    Selector { index: usize, problem: InvalidSelector },
}

/// What concerns one pool.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) pool: Pool,
    /// Those whose status names the pool.
    pub(super) claims: Vec<ResourcePoolClaim>,
    /// Those that may claim.
    pub(super) namespaces: BTreeSet<String>,
    /// Those that are being deleted.
    pub(super) ending: BTreeSet<String>,
    /// The pool's ResourceQuotas, by namespace.
    pub(super) quotas: BTreeMap<String, Arc<ResourceQuota>>,
}

impl Observed {
    /// The namespaces, with what their quotas say.
    pub(super) fn places(&self) -> BTreeMap<String, Place> {
        let place = |namespace: &String| Place {
            is_ending: self.ending.contains(namespace),
            allowance: self.quotas.get(namespace).map(|quota| Allowance::of(quota)),
        };
        let all = self.namespaces.iter().chain(&self.ending);
        all.map(|namespace| (namespace.clone(), place(namespace))).collect()
    }
}

impl Stores {
    /// Starts to watch, and waits for the first lists.
    pub(super) async fn start(context: &Context) -> Result<Self, Error> {
        let (client, shutdown) = (&context.client, &context.shutdown);
        let pools = Shared::start(Api::all(client.clone()), watcher::Config::default(), trim, shutdown);
        let claims = Shared::start(
            Api::all(client.clone()),
            watcher::Config::default(),
            trim_claim,
            shutdown,
        );
        let labelled = watcher::Config::default().labels(POOL_LABEL);
        let quotas = Shared::start(Api::all(client.clone()), labelled, trim_quota, shutdown);
        let stores = Self {
            claims_of: Index::of(&claims, keys),
            quotas_of: Index::of(&quotas, |quota: &ResourceQuota| {
                quota.labels().get(POOL_LABEL).cloned().into_iter().collect()
            }),
            namespaces: context.namespaces.clone(),
            pools,
            claims,
            quotas,
        };
        let listed = stores.pools.ready().await
            && stores.claims.ready().await
            && stores.quotas.ready().await
            && stores.namespaces.ready().await;
        if listed {
            Ok(stores)
        } else {
            Err(Error::WatchEnded("ResourcePools"))
        }
    }

    /// What concerns a pool. One that is being deleted has no namespaces.
    pub(super) fn observe(&self, pool: &ResourcePool) -> Result<Observed, Unreadable> {
        let name = pool.name_any();
        let quota_name = child_name(&name);
        let quotas = self.quotas_of.get(&name).into_iter();
        let (namespaces, ending) = self.namespaces_of(pool)?;
        Ok(Observed {
            pool: read(pool)?,
            claims: self
                .claims_of
                .get(&Of::Serving(pool.uid().unwrap_or_default()))
                .iter()
                .map(|claim| (**claim).clone())
                .collect(),
            namespaces,
            ending,
            quotas: quotas
                .filter(|quota| quota.name_any() == quota_name)
                .filter_map(|quota| Some((quota.namespace()?, quota)))
                .collect(),
        })
    }

    /// The namespaces that a pool selects: those that stay, and those that are being deleted.
    fn namespaces_of(&self, pool: &ResourcePool) -> Result<(BTreeSet<String>, BTreeSet<String>), Unreadable> {
        if is_ending(pool) {
            return Ok((BTreeSet::new(), BTreeSet::new()));
        }
        let checked =
            |(index, selector)| Selector::new(selector).map_err(|problem| Unreadable::Selector { index, problem });
        let selectors = pool.spec.selectors.iter().enumerate().map(checked);
        let selectors: Vec<Selector> = selectors.collect::<Result<_, _>>()?;
        let namespaces = self.namespaces.store().state();
        let is_selected = |namespace: &&Arc<Namespace>| {
            let labels = namespace.labels();
            selectors.iter().any(|selector| selector.matches(labels))
        };
        let selected = namespaces.iter().filter(is_selected);
        let (staying, ending): (Vec<_>, Vec<_>) =
            selected.partition(|namespace| namespace.metadata.deletion_timestamp.is_none());
        let names = |of: Vec<&Arc<Namespace>>| of.iter().map(|namespace| namespace.name_any()).collect();
        Ok((names(staying), names(ending)))
    }

    /// Queues what a change concerns.
    pub(super) fn trigger(&self, pools: &Queue<String>, claims: &Queue<ClaimName>) {
        self.pools.trigger(pools, |change| [change.object().name_any()]);
        let (index, mut heeded) = (self.claims_of.clone(), HashMap::new());
        self.pools.trigger(claims, move |change| {
            let pool = change.object();
            let (name, now) = (pool.name_any(), Heeded::of(change));
            if now.is_some() && heeded.get(&name) == now.as_ref() {
                return Vec::new();
            }
            let of = [Of::Asked(name.clone()), Of::Serving(pool.uid().unwrap_or_default())];
            match now {
                Some(now) => heeded.insert(name, now),
                None => heeded.remove(&name),
            };
            of.iter()
                .flat_map(|of| index.get(of))
                .map(|claim| claim_name(&claim))
                .collect()
        });
        self.claims.trigger(claims, |change| [claim_name(change.object())]);
        let mut served_by: HashMap<ClaimName, String> = HashMap::new();
        self.claims.trigger(pools, move |change| {
            let claim = change.object();
            let now = match change {
                Change::Applied(claim) => claim.status.as_ref().and_then(|status| status.pool.as_ref()),
                Change::Deleted(_) => None,
            };
            let before = match now {
                Some(pool) => served_by.insert(claim_name(claim), pool.name.clone()),
                None => served_by.remove(&claim_name(claim)),
            };
            now.map(|pool| pool.name.clone()).into_iter().chain(before)
        });
        self.quotas
            .trigger(pools, |change| change.object().labels().get(POOL_LABEL).cloned());
        let known = self.pools.store();
        self.namespaces.trigger(pools, move |change| {
            let namespace = change.object();
            let exists = matches!(change, Change::Applied(_)) && namespace.metadata.deletion_timestamp.is_none();
            known
                .state()
                .iter()
                .filter(|pool| is_in(pool, namespace) != (exists && is_for(pool, namespace)))
                .map(|pool| pool.name_any())
                .collect::<Vec<_>>()
        });
    }
}

/// What claims heed of a pool. Its status changes with each of them, and that is no reason to look at the others.
#[derive(PartialEq)]
struct Heeded {
    uid: Option<String>,
    generation: Option<i64>,
    is_ending: bool,
    namespaces: Vec<String>,
}

impl Heeded {
    /// `None` when the pool is gone.
    fn of(change: &Change<ResourcePool>) -> Option<Self> {
        let Change::Applied(pool) = change else { return None };
        let status = pool.status.as_ref();
        Some(Self {
            uid: pool.uid(),
            generation: pool.metadata.generation,
            is_ending: is_ending(pool),
            namespaces: status.map(|status| status.namespaces.clone()).unwrap_or_default(),
        })
    }
}

fn is_ending(pool: &ResourcePool) -> bool {
    pool.metadata.deletion_timestamp.is_some()
}

/// A pool that ends has nothing to give, and amounts that cannot be read do not hold it up.
fn read(pool: &ResourcePool) -> Result<Pool, InvalidAmount> {
    match Pool::new(pool) {
        Err(_) if is_ending(pool) => Ok(Pool {
            name: pool.name_any(),
            uid: pool.uid().unwrap_or_default(),
            config: pool.spec.config,
            ..Pool::default()
        }),
        read => read,
    }
}

fn keys(claim: &ResourcePoolClaim) -> Vec<Of> {
    let serving = claim.status.as_ref().and_then(|status| status.pool.as_ref());
    let serving = serving.map(|pool| Of::Serving(pool.uid.clone()));
    serving
        .into_iter()
        .chain([Of::Asked(claim.spec.pool.clone())])
        .collect()
}

pub(super) fn claim_name(claim: &ResourcePoolClaim) -> ClaimName {
    (claim.namespace().unwrap_or_default(), claim.name_any())
}

/// Whether a pool counts something of a namespace, which it does of one that ends until it is gone.
fn is_in(pool: &ResourcePool, namespace: &Namespace) -> bool {
    let (status, name) = (pool.status.as_ref(), namespace.name_any());
    status.is_some_and(|status| status.namespaces.contains(&name) || status.claims.contains_key(&name))
}

/// A pool whose selectors cannot be read is looked at when it changes.
fn is_for(pool: &ResourcePool, namespace: &Namespace) -> bool {
    coverage::any_selects(&pool.spec.selectors, namespace.labels()).unwrap_or(false)
}

/// Drops what no decision reads.
fn trim<K: ResourceExt>(object: &mut K) {
    object.annotations_mut().clear();
}

fn trim_claim(claim: &mut ResourcePoolClaim) {
    claim.annotations_mut().retain(|key, _| key == RELEASE_ANNOTATION);
    claim.labels_mut().clear();
}

fn trim_quota(quota: &mut ResourceQuota) {
    trim(quota);
    quota.finalizers_mut().clear();
}
