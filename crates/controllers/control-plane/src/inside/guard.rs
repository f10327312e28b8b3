//! Hearing of drift without polling.
//!
//! One watch per tenant for each kind and namespace of what is kept, of metadata only and without a store: a tenant that takes
//! its own add-ons or its nodes' rights away has them back within seconds, and nobody asks while nothing happens. They share the
//! tenant's one connection ([`runtime::client::untrusted`]) and last for an hour. The periodic pass ([`RECHECK`]) finds what a
//! watch cannot tell. [`drift`] says what counts.

mod drift;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::task::JoinHandle;

use super::{Desired, Kind, Reference};
use watch::Watch;

/// How often a tenant that nothing is heard of should be looked at.
pub const RECHECK: Duration = Duration::from_hours(1);

/// How long a drift should wait for others to join it, which is how seldom one tenant can ask for a pass.
pub const SETTLE: Duration = Duration::from_secs(2);

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
    pub fn start(tenant: &Client, desired: &Desired, drifted: impl Fn() + Send + Sync + 'static) -> Self {
        let watched = Watched::of(desired);
        let watches = watched.0.iter();
        let watches: Vec<Watch> = watches
            .map(|((kind, namespace), names)| Watch::new(tenant, *kind, *namespace, names.clone()))
            .collect();
        let task = tokio::spawn(async move {
            join_all(watches.into_iter().map(|watch| watch.run(&drifted))).await;
        });
        Self { watched, task }
    }

    /// Whether its watches are those that this needs.
    pub fn covers(&self, desired: &Desired) -> bool {
        self.watched == Watched::of(desired)
    }
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
