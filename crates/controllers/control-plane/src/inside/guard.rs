//! Hearing of drift without polling.
//!
//! Three watches per tenant, of metadata only and without a store: ConfigMaps of kube-system and cluster-info (what
//! joining nodes read) and ClusterRoleBindings (who may join, and the owners of the add-ons). While writes are limited,
//! there are two more, of the policy and its binding. Everything else is found by the periodic pass ([`RECHECK`]). More
//! watches would cost a connection each, on both sides, for every tenant.
//!
//! What we write ourselves is not drift: an event whose newest manager is us is passed over. Neither is what only looks
//! like ours: names are compared with those that are kept, because whoever may write a tenant's objects could otherwise
//! have passes made at will. For the same reason whoever is told should wait [`SETTLE`] before a pass.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::task::JoinHandle;

use super::{Desired, FIELD_MANAGER, Kind, Object, write_permissions};

/// How often a tenant that nothing is heard of should be looked at.
pub const RECHECK: Duration = Duration::from_mins(5);

/// How long a drift should wait for others to join it, which is how seldom one tenant can ask for a pass.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Names whose change is drift, by watch. What is kept away counts like what is kept, so that they are the same for
/// every tenant, whichever add-ons it has, and a guard need not start again when those change. It does when limits on
/// writes come or go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    system: BTreeSet<String>,
    public: BTreeSet<String>,
    bindings: BTreeSet<String>,
    policies: BTreeSet<String>,
}

impl Names {
    fn of(desired: &Desired) -> Self {
        let mut names = Self::default();
        let applied = desired.apply.iter().map(|object| &object.reference);
        for reference in applied.chain(&desired.remove) {
            let watched = match (reference.kind, reference.namespace) {
                (Kind::ConfigMap, Some("kube-system")) => &mut names.system,
                (Kind::ConfigMap, Some("kube-public")) => &mut names.public,
                (Kind::ClusterRoleBinding, _) => &mut names.bindings,
                _ => continue,
            };
            watched.insert(reference.name.clone());
        }
        let limited = |object: &&Object| object.reference.kind == Kind::ValidatingAdmissionPolicy;
        let policies = desired.apply.iter().filter(limited);
        names.policies = policies.map(|object| object.reference.name.clone()).collect();
        names
    }
}

/// The watches of one tenant. They end with this value.
#[derive(Debug)]
pub struct Guard {
    names: Names,
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
    pub fn start(tenant: Client, desired: &Desired, drifted: impl Fn() + Send + 'static) -> Self {
        let names = Names::of(desired);
        let watched = names.clone();
        let task = tokio::spawn(async move {
            let system = Api::<PartialObjectMeta<ConfigMap>>::namespaced(tenant.clone(), "kube-system");
            let public = Api::<PartialObjectMeta<ConfigMap>>::namespaced(tenant.clone(), "kube-public");
            let bindings = Api::<PartialObjectMeta<ClusterRoleBinding>>::all(tenant.clone());
            let cluster_info = watcher::Config::default().fields("metadata.name=cluster-info");
            let mut events = stream::select_all([
                drift(system, watcher::Config::default(), names.system),
                drift(public, cluster_info, names.public),
                drift(bindings, watcher::Config::default(), names.bindings),
            ]);
            if !names.policies.is_empty() {
                let policies = Api::<PartialObjectMeta<ValidatingAdmissionPolicy>>::all(tenant.clone());
                let policy_bindings = Api::<PartialObjectMeta<ValidatingAdmissionPolicyBinding>>::all(tenant);
                let named = watcher::Config::default().fields(&format!("metadata.name={}", write_permissions::NAME));
                events.push(drift(policies, named.clone(), names.policies.clone()));
                events.push(drift(policy_bindings, named, names.policies));
            }
            while events.next().await.is_some() {
                drifted();
            }
        });
        Self { names: watched, task }
    }

    /// Whether its watches are those that this needs.
    pub fn covers(&self, desired: &Desired) -> bool {
        self.names == Names::of(desired)
    }
}

/// One item for every change by others of an object of these names.
fn drift<K>(
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
    names: BTreeSet<String>,
) -> stream::BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut lists = 0_u32;
    watcher(api, config.page_size(100))
        .default_backoff()
        .filter_map(move |event| {
            let drifted = match event {
                Ok(watcher::Event::Apply(object)) => names.contains(&object.name_any()) && !written_by_us(&object),
                Ok(watcher::Event::Delete(object)) => names.contains(&object.name_any()),
                // A second list means that the watch was away for a while.
                Ok(watcher::Event::InitDone) => {
                    lists = lists.saturating_add(1);
                    lists > 1
                }
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_) => false,
            };
            std::future::ready(drifted.then_some(()))
        })
        .boxed()
}

/// Whether the latest entry of the managed fields is ours, and no other of the same second.
fn written_by_us<K>(object: &PartialObjectMeta<K>) -> bool
where
    K: Resource,
{
    let entries = object.meta().managed_fields.as_deref().unwrap_or_default();
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
    use super::super::{bootstrap, coredns, kube_proxy, rbac};
    use super::*;

    #[test]
    fn only_names_that_are_kept_are_heard_of() {
        let mut desired = Desired {
            apply: rbac::objects(),
            remove: coredns::references(),
        };
        desired.apply.extend(bootstrap::objects());
        desired.remove.extend(kube_proxy::references());
        let names = Names::of(&desired);
        let bindings: Vec<&str> = names.bindings.iter().map(String::as_str).collect();
        assert_eq!(
            bindings,
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
        let system: Vec<&str> = names.system.iter().map(String::as_str).collect();
        assert_eq!(system, ["coredns", "kube-proxy"]);
        assert!(names.public.is_empty());
    }
}
