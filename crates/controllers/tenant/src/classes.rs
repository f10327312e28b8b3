//! The classes that exist in the cluster, for the lists of what each tenant may use.

mod optional;

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use runtime::{Queue, Shared, Shutdown};

use crate::desired::{Class, Existing};
use optional::Optional;

/// One watch per kind of class; there are few classes and they rarely change. Cheap to clone.
#[derive(Clone)]
pub struct Classes {
    pub storage: Shared<StorageClass>,
    pub priority: Shared<PriorityClass>,
    pub runtime: Shared<RuntimeClass>,
    gateway: Optional,
    device: Optional,
    /// Of all of them, until one changes.
    known: Arc<Mutex<Option<Existing>>>,
}

impl Classes {
    /// Begins to watch. Must be called inside a tokio runtime.
    pub fn start(client: &Client, shutdown: &Shutdown) -> Self {
        let config = watcher::Config::default;
        let optional = |group, kind, plural| {
            let kind = GroupVersionKind::gvk(group, "v1", kind);
            Optional::start(client, ApiResource::from_gvk_with_plural(&kind, plural), shutdown)
        };
        Self {
            storage: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            priority: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            runtime: Shared::start(Api::all(client.clone()), config(), |_| {}, shutdown),
            gateway: optional("gateway.networking.k8s.io", "GatewayClass", "gatewayclasses"),
            device: optional("resource.k8s.io", "DeviceClass", "deviceclasses"),
            known: Arc::default(),
        }
    }

    pub(crate) async fn ready(&self) -> bool {
        self.storage.ready().await
            && self.priority.ready().await
            && self.runtime.ready().await
            && self.gateway.ready().await
            && self.device.ready().await
    }

    /// Those that exist now.
    pub(crate) fn existing(&self) -> Existing {
        // Made under the lock: what is made from older stores is forgotten after they have changed, never before.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let made = known.get_or_insert_with(|| Existing {
            storage: listed(&self.storage),
            priority: listed(&self.priority),
            runtime: listed(&self.runtime),
            gateway: self.gateway.listed(),
            device: self.device.listed(),
        });
        made.clone()
    }

    /// Puts what `concerned` says into `queue` for every change.
    pub(crate) fn trigger(&self, queue: &Queue<String>, concerned: impl Fn() -> Vec<String> + Clone + Send + 'static) {
        let changed = || {
            let (known, concerned) = (self.known.clone(), concerned.clone());
            move || {
                *known.lock().unwrap_or_else(PoisonError::into_inner) = None;
                concerned()
            }
        };
        let (storage, priority, runtime) = (changed(), changed(), changed());
        self.storage.trigger(queue, move |_| storage());
        self.priority.trigger(queue, move |_| priority());
        self.runtime.trigger(queue, move |_| runtime());
        for optional in [&self.gateway, &self.device] {
            let (queue, changed) = (queue.clone(), changed());
            optional.on_change(move || changed().into_iter().for_each(|tenant| queue.enqueue(tenant)));
        }
    }
}

fn listed<K>(classes: &Shared<K>) -> Arc<[Class]>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    classes
        .store()
        .state()
        .iter()
        .map(|class| (class.name_any(), class.labels().clone()))
        .collect()
}
