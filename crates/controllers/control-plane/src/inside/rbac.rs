//! Rights that the control plane's own certificates have, by group and user name.

use super::object::{Object, cluster_role_binding, group, user};

pub(super) fn objects() -> Vec<Object> {
    vec![
        // The administrators of `admin.conf`. Unlike those of `super-admin.conf` they can be removed here.
        cluster_role_binding(
            "kubeadm:cluster-admins",
            "cluster-admin",
            &[group("kubeadm:cluster-admins")],
        ),
        // The API server's client certificate for kubelets carries no group.
        cluster_role_binding(
            "kubeadm:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            &[user("kube-apiserver-kubelet-client")],
        ),
    ]
}
