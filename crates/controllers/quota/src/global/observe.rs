//! What the decisions about quotas are made from, kept by watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{GlobalResourceQuota, QuantityLedger};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::shared::Change;
use runtime::{Index, Queue, Shared};
use tenancy::quota::amounts::InvalidAmount;
use tenancy::quota::coverage;
use tenancy::quota::global::{GlobalQuota, QUOTA_LABEL, child_name, ledger_name};
use tenancy::selector::{InvalidSelector, Selector};

use crate::{Context, Error};

/// The watches.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) quotas: Shared<GlobalResourceQuota>,
    ledgers: Shared<QuantityLedger>,
    /// Where the ledgers are.
    place: String,
    namespaces: Shared<Namespace>,
    children: Shared<ResourceQuota>,
    /// By the name of the quota that the label says.
    children_of: Index<ResourceQuota, String>,
}

/// A quota that cannot be decided about as it is written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Amount(#[from] InvalidAmount),
    #[error("spec.namespaceSelectors[{index}]: {problem}")]
    Selector { index: usize, problem: InvalidSelector },
}

/// What concerns one quota.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) quota: GlobalQuota,
    pub(super) uid: String,
    /// Those that it selects.
    pub(super) namespaces: BTreeSet<String>,
    /// Its ResourceQuotas, by namespace.
    pub(super) children: BTreeMap<String, Arc<ResourceQuota>>,
    pub(super) ledger: Option<Arc<QuantityLedger>>,
}

impl Observed {
    /// The quota's namespaces, each with what its ResourceQuota says is used.
    pub(super) fn used(&self) -> BTreeMap<&str, Option<&BTreeMap<String, Quantity>>> {
        let used = |namespace: &String| self.children.get(namespace)?.status.as_ref()?.used.as_ref();
        self.namespaces
            .iter()
            .map(|namespace| (namespace.as_str(), used(namespace)))
            .collect()
    }
}

impl Stores {
    /// Starts to watch, and waits for the first lists.
    pub(super) async fn start(context: &Context) -> Result<Self, Error> {
        let (client, shutdown) = (&context.client, &context.shutdown);
        let labelled = || watcher::Config::default().labels(QUOTA_LABEL);
        let place = context.namespace.clone();
        let children = Shared::start(Api::all(client.clone()), labelled(), trim, shutdown);
        let stores = Self {
            quotas: Shared::start(Api::all(client.clone()), watcher::Config::default(), trim, shutdown),
            ledgers: Shared::start(Api::namespaced(client.clone(), &place), labelled(), trim, shutdown),
            place,
            namespaces: context.namespaces.clone(),
            children_of: Index::of(&children, |quota: &ResourceQuota| {
                quota.labels().get(QUOTA_LABEL).cloned().into_iter().collect()
            }),
            children,
        };
        let listed = stores.quotas.ready().await
            && stores.ledgers.ready().await
            && stores.children.ready().await
            && stores.namespaces.ready().await;
        if listed {
            Ok(stores)
        } else {
            Err(Error::WatchEnded("GlobalResourceQuotas"))
        }
    }

    /// What concerns a quota.
    pub(super) fn observe(&self, quota: &GlobalResourceQuota) -> Result<Observed, Unreadable> {
        let name = quota.name_any();
        let (own_name, uid) = (child_name(&name), quota.uid().unwrap_or_default());
        let children = self.children_of.get(&name).into_iter();
        Ok(Observed {
            quota: GlobalQuota::new(quota)?,
            namespaces: self.namespaces_of(quota)?,
            children: children
                .filter(|child| child.name_any() == own_name)
                .filter_map(|child| Some((child.namespace()?, child)))
                .collect(),
            ledger: self.ledgers.get(Some(&self.place), &ledger_name(&name, &uid)),
            uid,
        })
    }

    fn namespaces_of(&self, quota: &GlobalResourceQuota) -> Result<BTreeSet<String>, Unreadable> {
        let checked =
            |(index, selector)| Selector::new(selector).map_err(|problem| Unreadable::Selector { index, problem });
        let selectors = quota.spec.namespace_selectors.iter().enumerate().map(checked);
        let selectors: Vec<Selector> = selectors.collect::<Result<_, _>>()?;
        let namespaces = self.namespaces.store().state();
        let selected = namespaces.iter().filter(|namespace| {
            is_active(namespace) && selectors.iter().any(|selector| selector.matches(namespace.labels()))
        });
        Ok(selected.map(|namespace| namespace.name_any()).collect())
    }

    /// Queues what a change concerns.
    pub(super) fn trigger(&self, queue: &Queue<String>) {
        self.quotas.trigger(queue, |change| [change.object().name_any()]);
        self.ledgers
            .trigger(queue, |change| change.object().labels().get(QUOTA_LABEL).cloned());
        self.children
            .trigger(queue, |change| change.object().labels().get(QUOTA_LABEL).cloned());
        let known = self.quotas.store();
        self.namespaces.trigger(queue, move |change| {
            let namespace = change.object();
            let exists = matches!(change, Change::Applied(_)) && is_active(namespace);
            known
                .state()
                .iter()
                .filter(|quota| is_in(quota, namespace) != (exists && is_for(quota, namespace)))
                .map(|quota| quota.name_any())
                .collect::<Vec<_>>()
        });
    }
}

/// What ends takes no new objects, and what is in it goes.
fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

fn is_in(quota: &GlobalResourceQuota, namespace: &Namespace) -> bool {
    let status = quota.status.as_ref();
    status.is_some_and(|status| status.namespaces.contains(&namespace.name_any()))
}

/// A quota whose selectors cannot be read is looked at when it changes.
fn is_for(quota: &GlobalResourceQuota, namespace: &Namespace) -> bool {
    coverage::any_selects(&quota.spec.namespace_selectors, namespace.labels()).unwrap_or(false)
}

/// Drops what no decision reads.
fn trim<K: ResourceExt>(object: &mut K) {
    object.annotations_mut().remove(names::LAST_APPLIED);
}
