//! The chart as Helm renders it: which objects a release has, what values do, which are refused. No cluster is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod capsule;
mod helm;
mod kamaji;
mod monitoring;

use std::collections::BTreeSet;

use helm::{Rendered, render, render_with};

/// Names that belong to the release, without what comes and goes with values.
#[test]
fn a_release_of_our_own_has_our_names() {
    let rendered = render("cotenant", "cotenant-system", &[]);
    let names: BTreeSet<_> = rendered.names().into_iter().collect();
    let expected: BTreeSet<_> = [
        "CapsuleConfiguration/default",
        "ClusterRole/cotenant:control-planes",
        "ClusterRole/cotenant:namespace-tenants",
        "ClusterRole/cotenant:operator",
        "ClusterRoleBinding/cotenant:control-planes",
        "ClusterRoleBinding/cotenant:namespace-tenants",
        "ClusterRoleBinding/cotenant:operator",
        "DataStore/default",
        "Deployment/cotenant",
        "PodDisruptionBudget/cotenant",
        "Role/cotenant",
        "RoleBinding/cotenant",
        "Service/cotenant-etcd",
        "Service/cotenant-metrics-service",
        "Service/cotenant-webhook-service",
        "ServiceAccount/cotenant",
        "StatefulSet/cotenant-etcd",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names, expected);
}

#[test]
fn values_of_capsules_chart_change_nothing_about_a_release_of_our_own() {
    let ours = render("cotenant", "cotenant-system", &[]);
    let theirs = render_with("cotenant", "cotenant-system", &[], Some(capsule::VALUES));
    assert_eq!(ours, theirs);
}

#[test]
fn one_half_is_left_out_with_all_that_belongs_to_it() {
    let rendered = render("cotenant", "cotenant-system", &["components={namespace-tenants}"]);
    let of_control_planes: Vec<_> = rendered
        .names()
        .into_iter()
        .filter(|name| name.contains("etcd") || name.contains("control-planes") || name.starts_with("DataStore"))
        .collect();
    assert!(of_control_planes.is_empty(), "{of_control_planes:?}");
    assert!(
        Rendered::flags(&rendered.object("Deployment/cotenant")).contains(&"--components=namespace-tenants".to_owned())
    );
}
