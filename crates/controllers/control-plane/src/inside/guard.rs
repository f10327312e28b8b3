//! Hearing of drift without polling.
//!
//! One watch per tenant for each kind and namespace of what is kept, of metadata only and without a store: a tenant that takes
//! its own add-ons or its nodes' rights away has them back within seconds, and nobody asks while nothing happens. They share the
//! tenant's one connection ([`runtime::client::untrusted`]) and last for an hour. The periodic pass ([`RECHECK`]) finds what a
//! watch cannot tell.
//!
//! What we write ourselves is not drift: an event whose newest manager is us is passed over. Neither is what only looks
//! like ours: names are compared with those that are kept, because whoever may write a tenant's objects could otherwise
//! have passes made at will. For the same reason whoever is told should wait [`SETTLE`] before a pass. Nor is the status
//! of a Deployment or DaemonSet, which moves with every node: while the generation stands, nobody has changed what is ours.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinHandle;

use super::{Desired, FIELD_MANAGER, Kind, Reference};

/// How often a tenant that nothing is heard of should be looked at.
pub const RECHECK: Duration = Duration::from_hours(1);

/// How long a drift should wait for others to join it, which is how seldom one tenant can ask for a pass.
pub const SETTLE: Duration = Duration::from_secs(2);

/// In seconds. A connection that is dead is noticed by TCP long before.
const WATCH_LASTS: u32 = 60 * 60;

/// Names whose change is drift, by kind and namespace, which is by watch. What is kept away counts like what is kept, so
/// that they are the same for every tenant, whichever add-ons it has, and a guard need not start again when those
/// change. It does when limits on writes come or go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Watched(BTreeMap<(Kind, Option<&'static str>), BTreeSet<String>>);

impl Watched {
    fn of(desired: &Desired) -> Self {
        let kept = desired.apply.iter().map(|object| &object.reference);
        // Few tenants have limits.
        let limits = [Kind::ValidatingAdmissionPolicy, Kind::ValidatingAdmissionPolicyBinding];
        let kept_away = desired.remove.iter().filter(|one| !limits.contains(&one.kind));
        let mut watched = Self::default();
        for Reference { kind, namespace, name } in kept.chain(kept_away) {
            watched.0.entry((*kind, *namespace)).or_default().insert(name.clone());
        }
        watched
    }
}

/// The watches of one tenant. They end with this value.
#[derive(Debug)]
pub struct Guard {
    watched: Watched,
    task: JoinHandle<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guard {
    /// Begins to watch. `drifted` is called for every change by others of what is desired, and must only put a key into
    /// a queue. Start it when the tenant answers, after the first pass: what is there at the start is not reported.
    pub fn start(tenant: &Client, desired: &Desired, drifted: impl Fn() + Send + 'static) -> Self {
        let watched = Watched::of(desired);
        let watches = watched.0.iter();
        let mut events = stream::select_all(
            watches.map(|((kind, namespace), names)| drift(tenant, *kind, *namespace, names.clone())),
        );
        let task = tokio::spawn(async move {
            while events.next().await.is_some() {
                drifted();
            }
        });
        Self { watched, task }
    }

    /// Whether its watches are those that this needs.
    pub fn covers(&self, desired: &Desired) -> bool {
        self.watched == Watched::of(desired)
    }
}

/// One item for every change by others of an object of these names.
fn drift(
    tenant: &Client,
    kind: Kind,
    namespace: Option<&'static str>,
    names: BTreeSet<String>,
) -> stream::BoxStream<'static, ()> {
    let resource = kind.resource();
    let api: Api<PartialObjectMeta<DynamicObject>> = match namespace {
        Some(namespace) => Api::namespaced_with(tenant.clone(), namespace, &resource),
        None => Api::all_with(tenant.clone(), &resource),
    };
    let mut config = watcher::Config::default().page_size(100).timeout(WATCH_LASTS);
    if let (1, Some(name)) = (names.len(), names.first()) {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut lists = 0_u32;
    let mut generations = HashMap::new();
    watcher(api, config)
        .default_backoff()
        .filter_map(move |event| {
            let drifted = match event {
                Ok(watcher::Event::Apply(object)) if names.contains(&object.name_any()) => {
                    let generation = object.metadata.generation;
                    let before = generations.insert(object.name_any(), generation);
                    let stands = generation.is_some() && before == Some(generation);
                    !stands && !written_by_us(&object)
                }
                Ok(watcher::Event::InitApply(object)) if names.contains(&object.name_any()) => {
                    generations.insert(object.name_any(), object.metadata.generation);
                    false
                }
                Ok(watcher::Event::Delete(object)) => {
                    generations.remove(&object.name_any());
                    names.contains(&object.name_any())
                }
                // A second list means that the watch was away for a while.
                Ok(watcher::Event::InitDone) => {
                    lists = lists.saturating_add(1);
                    lists > 1
                }
                Ok(watcher::Event::Apply(_) | watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_) => false,
            };
            std::future::ready(drifted.then_some(()))
        })
        .boxed()
}

/// Whether the latest entry of the managed fields is ours, and no other of the same second.
fn written_by_us(object: &PartialObjectMeta<DynamicObject>) -> bool {
    let entries = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let latest = entries
        .iter()
        .filter_map(|entry| entry.time.as_ref())
        .map(|time| time.0)
        .max();
    latest.is_some()
        && entries
            .iter()
            .filter(|entry| entry.time.as_ref().map(|time| time.0) == latest)
            .all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

#[cfg(test)]
mod tests {
    use api::kamaji::v1alpha1::WritePermissions;

    use super::super::{bootstrap, coredns, kube_proxy, rbac, write_permissions};
    use super::*;

    #[test]
    fn only_names_that_are_kept_are_heard_of() {
        let mut desired = Desired {
            apply: rbac::objects(),
            remove: coredns::references(),
        };
        desired.apply.extend(bootstrap::objects());
        desired.remove.extend(kube_proxy::references());
        let watched = Watched::of(&desired);
        let names = |kind, namespace| {
            let names = watched.0.get(&(kind, namespace)).into_iter().flatten();
            names.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Kind::ClusterRoleBinding, None),
            [
                "kubeadm:apiserver-kubelet-client",
                "kubeadm:cluster-admins",
                "kubeadm:get-nodes",
                "kubeadm:kubelet-bootstrap",
                "kubeadm:node-autoapprove-bootstrap",
                "kubeadm:node-autoapprove-certificate-rotation",
                "kubeadm:node-proxier",
                "system:coredns",
            ]
        );
        assert_eq!(names(Kind::ConfigMap, Some("kube-system")), ["coredns", "kube-proxy"]);
        assert_eq!(names(Kind::DaemonSet, Some("kube-system")), ["kube-proxy"]);
        assert_eq!(names(Kind::ConfigMap, Some("kube-public")), [""; 0]);
    }

    #[test]
    fn limits_on_writes_are_heard_of_while_there_are_any() {
        let mut desired = Desired::default();
        let policies = (Kind::ValidatingAdmissionPolicy, None);
        write_permissions::limit(&mut desired, &WritePermissions::default());
        assert!(!desired.remove.is_empty() && !Watched::of(&desired).0.contains_key(&policies));
        let mut limited = Desired::default();
        let limits = WritePermissions {
            block_creation: true,
            ..WritePermissions::default()
        };
        write_permissions::limit(&mut limited, &limits);
        assert!(Watched::of(&limited).0.contains_key(&policies));
    }
}
