//! The kubeconfigs of a control plane, as recipes.

use api::kamaji::names::LIFECYCLE_KUBECONFIG;

use super::exposure::Exposure;
use super::secrets::{KubeconfigRecipe, Recipe, SecretRecipe};

/// Groups of the tenant's administrators: bound to `cluster-admin` by an object that they can take away.
const ADMINS: &[&str] = &["kubeadm:cluster-admins"];
/// Group that no object can take rights from.
const MASTERS: &[&str] = &["system:masters"];

/// Kubeconfigs for people, and for the components beside the API server.
pub fn recipes(tcp_name: &str, namespace: &str, exposure: &Exposure) -> Vec<SecretRecipe> {
    let outside = exposure.server();
    let service = format!("https://{tcp_name}.{namespace}.svc:{}", exposure.port);
    let local = format!("https://127.0.0.1:{}", exposure.port);
    let entry = |key, server: &str, user, groups| KubeconfigRecipe {
        key,
        server: server.to_owned(),
        user,
        groups,
    };
    let secret = |component: &'static str, entries| SecretRecipe {
        name: format!("{tcp_name}-{component}"),
        component,
        lifecycle: Some(LIFECYCLE_KUBECONFIG),
        finalizer: None,
        recipe: Recipe::Kubeconfigs {
            cluster: tcp_name.to_owned(),
            entries,
        },
    };
    vec![
        secret(
            "admin-kubeconfig",
            vec![
                entry("admin.conf", &outside, "kubernetes-admin", ADMINS),
                entry("admin.svc", &service, "kubernetes-admin", ADMINS),
                entry("super-admin.conf", &outside, "kubernetes-super-admin", MASTERS),
                entry("super-admin.svc", &service, "kubernetes-super-admin", MASTERS),
            ],
        ),
        secret(
            "controller-manager-kubeconfig",
            vec![entry(
                "controller-manager.conf",
                &local,
                "system:kube-controller-manager",
                &[],
            )],
        ),
        secret(
            "scheduler-kubeconfig",
            vec![entry("scheduler.conf", &local, "system:kube-scheduler", &[])],
        ),
    ]
}
