//! Rights of nodes that join. No bootstrap token is made: those come from `kubeadm token create`.

use serde_json::json;

use super::BOOTSTRAP_GROUP;
use super::object::{Kind, Object, cluster_role_binding, config_map_reader, group, user};

pub(super) fn objects() -> Vec<Object> {
    let joining = [group(BOOTSTRAP_GROUP)];
    let mut objects = vec![
        Object::new(
            Kind::ClusterRole,
            None,
            "kubeadm:get-nodes",
            json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]}),
        ),
        cluster_role_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &joining),
        cluster_role_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &joining),
        cluster_role_binding(
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &joining,
        ),
        cluster_role_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            &[group("system:nodes")],
        ),
    ];
    let readers = [
        config_map_reader(
            "kube-public",
            "kubeadm:bootstrap-signer-clusterinfo",
            "cluster-info",
            &[user("system:anonymous")],
        ),
        config_map_reader(
            "kube-system",
            "kubeadm:nodes-kubeadm-config",
            "kubeadm-config",
            &[group(BOOTSTRAP_GROUP), group("system:nodes")],
        ),
        config_map_reader(
            "kube-system",
            "kubeadm:kubelet-config",
            "kubelet-config",
            &[group("system:nodes"), group(BOOTSTRAP_GROUP)],
        ),
    ];
    objects.extend(readers.into_iter().flatten());
    objects
}
