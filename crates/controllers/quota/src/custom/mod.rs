//! CustomQuotas and GlobalCustomQuotas.
//!
//! What sources name is watched, as much of it as they read, for as long as a quota wants it ([`sources`], [`wants`]). A look at
//! a quota counts everything anew from memory ([`tenancy::quota::custom`]) and puts that into the quota's QuantityLedger, next
//! to what webhooks have promised to requests on their way, with the version that was read: webhooks of several replicas
//! write there as well. The status follows.
//!
//! A promise goes when its object is counted. One whose object does not come goes after its end, when a list of what is
//! stored does not have the object either: a watch that is behind releases nothing.

mod apply;
pub(crate) mod kinds;
mod metrics;
mod projection;
mod quota;
mod reconcile;
mod rests;
mod sources;
mod wants;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuantityLedger};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use runtime::shared::Change;
use runtime::{Controller, Queue, Shared};
use tenancy::quota::coverage;

use crate::{Context, Error};
use quota::{Quota, QuotaName};
use reconcile::Quotas;
use sources::{Sources, Target};
use wants::Wants;

/// Quotas looked at at a time.
const CONCURRENCY: usize = 4;
/// How long a count waits for more to be counted.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Runs the controller until the shutdown.
///
/// # Errors
/// When a watch ends before its first list.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let stores = Stores::of(&context).await?;
    context
        .registry
        .register_collector(Box::new(metrics::Quotas::new(&stores)));
    let queue = Queue::new();
    let wants = Arc::new(Mutex::new(Wants::default()));
    let sources = Sources::new(&context.client, wake(&queue, &wants));
    stores.trigger(&queue);
    let reconciler = Arc::new(Quotas::new(&context, stores, wants, sources));
    Controller::new("custom-quotas", &context.metrics)
        .concurrency(CONCURRENCY)
        .run(queue, context.shutdown.clone(), move |name: QuotaName| {
            let reconciler = reconciler.clone();
            async move { reconciler.reconcile(&name).await }
        })
        .await;
    Ok(())
}

/// Queues the quotas that a watch is for, a moment after it has shown something new.
fn wake(queue: &Queue<QuotaName>, wants: &Arc<Mutex<Wants>>) -> impl Fn(&Target) + Send + Sync + 'static {
    let (queue, wants) = (queue.clone(), wants.clone());
    move |target| {
        let quotas = wants.lock().unwrap_or_else(PoisonError::into_inner).quotas(target);
        for quota in quotas {
            queue.enqueue_after(quota, DEBOUNCE);
        }
    }
}

/// The watches of what is always there.
#[derive(Clone)]
struct Stores {
    namespaced: Shared<CustomQuota>,
    global: Shared<GlobalCustomQuota>,
    ledgers: Shared<QuantityLedger>,
    /// Where ledgers of quotas of the cluster are.
    place: String,
    namespaces: Shared<Namespace>,
}

impl Stores {
    async fn of(context: &Context) -> Result<Self, Error> {
        let stores = Self {
            namespaced: context.custom_quotas.clone(),
            global: context.global_custom_quotas.clone(),
            ledgers: context.quantity_ledgers.clone(),
            place: context.namespace.clone(),
            namespaces: context.namespaces.clone(),
        };
        let listed = stores.namespaced.ready().await
            && stores.global.ready().await
            && stores.ledgers.ready().await
            && stores.namespaces.ready().await;
        if listed {
            Ok(stores)
        } else {
            Err(Error::WatchEnded("CustomQuotas"))
        }
    }

    fn quota(&self, name: &QuotaName) -> Option<Quota> {
        match name.namespace.as_str() {
            "" => self.global.get(None, &name.name).map(Quota::Global),
            namespace => self.namespaced.get(Some(namespace), &name.name).map(Quota::Namespaced),
        }
    }

    /// Queues what a change concerns.
    fn trigger(&self, queue: &Queue<QuotaName>) {
        self.namespaced
            .trigger(queue, |change| [QuotaName::of(&**change.object())]);
        self.global.trigger(queue, |change| [QuotaName::of(&**change.object())]);
        self.follow_ledgers(queue);
        let known = self.global.store();
        self.namespaces.trigger(queue, move |change| {
            let namespace = change.object();
            let exists = matches!(change, Change::Applied(_));
            let all = known.state();
            let changed = all
                .iter()
                .filter(|quota| is_in(quota, namespace) != (exists && is_for(quota, namespace)));
            changed.map(|quota| QuotaName::of(&**quota)).collect::<Vec<_>>()
        });
    }

    /// What was promised is looked for a moment later; a ledger that is gone is made again at once.
    fn follow_ledgers(&self, queue: &Queue<QuotaName>) {
        let (queue, place) = (queue.clone(), self.place.clone());
        self.ledgers.observe(move |change| {
            let target = &change.object().spec.target_ref;
            let is_place = change.object().namespace().as_deref() == Some(place.as_str());
            let name = match target.kind.as_str() {
                "CustomQuota" => QuotaName::of(&**change.object()),
                "GlobalCustomQuota" if is_place => QuotaName {
                    namespace: String::new(),
                    name: target.name.clone(),
                },
                _ => return,
            };
            match change {
                Change::Applied(_) => queue.enqueue_after(name, DEBOUNCE),
                Change::Deleted(_) => queue.enqueue(name),
            }
        });
    }
}

fn is_in(quota: &GlobalCustomQuota, namespace: &Namespace) -> bool {
    let status = quota.status.as_ref();
    status.is_some_and(|status| status.namespaces.contains(&namespace.name_any()))
}

/// A quota that is about all namespaces, or whose selectors cannot be read, is looked at when it changes.
fn is_for(quota: &GlobalCustomQuota, namespace: &Namespace) -> bool {
    coverage::any_selects(&quota.spec.namespace_selectors, namespace.labels()).unwrap_or(false)
}
