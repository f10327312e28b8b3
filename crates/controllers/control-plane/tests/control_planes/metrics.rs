//! What a scrape shows of control planes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::bed::{World, eventually, when};

/// Names and labels as dashboards know them.
const KNOWN: &[(&str, &str)] = &[
    ("kamaji_build_info", "build_time,commit,dirty,repo,version"),
    (
        "kamaji_tenant_control_plane_info",
        "address,datastore_driver,exposure_strategy,kubernetes_version,tcp_name,tcp_namespace",
    ),
    (
        "kamaji_tenant_control_plane_status",
        "ready,status,tcp_name,tcp_namespace",
    ),
    ("kamaji_tenant_control_planes_current", "ready"),
    ("kamaji_datastore_info", "datastore_name,driver"),
    ("kamaji_datastore_status", "datastore_name,ready,status"),
    ("kamaji_datastores_current", "datastore_name,driver,ready"),
    ("kamaji_certificates_current", "status,strategy,tcp_name,tcp_namespace"),
    ("kamaji_handler_time_seconds_bucket", "handler,le"),
    ("kamaji_handler_time_seconds_sum", "handler"),
    ("kamaji_handler_time_seconds_count", "handler"),
];

/// A line `name{a="b",c="d"} value`, labels by name.
fn series(line: &str) -> Option<(&str, BTreeMap<&str, &str>, &str)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{')?;
    let labels = labels.strip_suffix("\"}")?.split("\",");
    Some((
        name,
        labels.filter_map(|label| label.split_once("=\"")).collect(),
        value,
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_has_its_name_labels_and_value() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    world.create_at("seen", 31311, json!({})).await;
    world.until_ready("seen").await;

    let ready = "kamaji_tenant_control_planes_current{ready=\"true\"} 1";
    let text = eventually("the control plane is counted", || async {
        let text = operator.registry.encode();
        when(text.lines().any(|line| line == ready), || text.clone()).map(|()| text)
    })
    .await;
    let lines: Vec<_> = text.lines().filter_map(series).collect();
    for (name, expected) in KNOWN {
        let of_name: BTreeSet<String> = lines
            .iter()
            .filter(|(found, ..)| found == name)
            .map(|(_, labels, _)| labels.keys().copied().collect::<Vec<_>>().join(","))
            .collect();
        assert_eq!(of_name, [(*expected).to_owned()].into(), "{name}\n{text}");
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        lines
            .iter()
            .find(|(found, all, _)| *found == name && labels.iter().all(|(key, value)| all.get(key) == Some(value)))
            .unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{text}"))
            .2
    };
    let plane = [("tcp_name", "seen"), ("tcp_namespace", world.namespace.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&plane[..], more].concat();
    let info = with(&[
        ("kubernetes_version", "v1.36.3"),
        ("datastore_driver", "etcd"),
        ("address", "https://192.0.2.10:31311"),
        ("exposure_strategy", "service"),
    ]);
    assert_eq!(value("kamaji_tenant_control_plane_info", &info), "1");
    assert_eq!(
        value(
            "kamaji_tenant_control_plane_status",
            &with(&[("status", "Ready"), ("ready", "true")])
        ),
        "1"
    );
    assert_eq!(
        value(
            "kamaji_datastore_status",
            &[("datastore_name", "default"), ("status", "True"), ("ready", "true")]
        ),
        "1"
    );
    assert_eq!(
        value(
            "cotenant_operator_datastore_reachable",
            &[("datastore_name", "default")]
        ),
        "1"
    );
    // Three of the control plane's own leaves and the store's; three Secrets with kubeconfigs.
    for (strategy, count) in [("x509", "4"), ("kubeconfig", "3")] {
        let labels = with(&[("strategy", strategy), ("status", "valid")]);
        assert_eq!(value("kamaji_certificates_current", &labels), count, "{strategy}");
    }
    for handler in [
        "service",
        "kubeadmconfig",
        "ca",
        "admin-kubeconfig",
        "datastore-setup",
        "datastore-config",
        "deployment",
    ] {
        assert_ne!(
            value("kamaji_handler_time_seconds_count", &[("handler", handler)]),
            "0",
            "{handler}"
        );
        for bucket in ["0.005", "60.0", "+Inf"] {
            value(
                "kamaji_handler_time_seconds_bucket",
                &[("handler", handler), ("le", bucket)],
            );
        }
    }
    operator.kill().await;
}
