//! Objects of two clusters, field by field; what `inside.rs` and `kubeadm.rs` share.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{AddonSpec, CgroupDriver, KonnectivityAgentSpec, KubeletSpec};
use control_plane_controller::inside::{self, Desired, Inputs, Tunnel};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// What the control plane that was observed holds, at a version.
pub(crate) fn control_plane(version: &str, core_dns: bool, kube_proxy: bool) -> Desired {
    let kubelet = KubeletSpec {
        cgroupfs: Some(CgroupDriver::Cgroupfs),
        ..KubeletSpec::default()
    };
    let addon = AddonSpec::default();
    let tunnel = Tunnel {
        agent: KonnectivityAgentSpec {
            // Kamaji's default; ours is 2, because 8 logs every packet of every connection.
            extra_args: strings(&["-v=8"]),
            ..KonnectivityAgentSpec::default()
        },
        host: "10.99.0.1".to_owned(),
        port: 31078,
        shared: false,
    };
    inside::desired(&Inputs {
        name: "demo",
        version,
        endpoint: "10.99.0.1:31077",
        advertise: Some(([10, 99, 0, 1].into(), 31077)),
        ca_pem: "CA\n",
        server_names: &strings(&[
            "127.0.0.1",
            "localhost",
            "demo",
            "demo.default.svc",
            "demo.default.svc.cluster.local",
            "10.99.0.1",
            "demo.example.test",
        ]),
        service_cidrs: &strings(&["10.116.0.0/16"]),
        pod_cidrs: &strings(&["10.36.0.0/16"]),
        dns_service_ips: &strings(&["10.116.0.10"]),
        cluster_domain: "cluster.local",
        etcd_endpoints: &strings(&["10.99.0.1:12379"]),
        etcd_prefix: Some("0e2f9a54-6b1e-4d6f-9d52-1a7b3f8c9e10"),
        registry: "registry.k8s.io",
        kubelet: &kubelet,
        core_dns: core_dns.then_some(&addon),
        kube_proxy: kube_proxy.then_some(&addon),
        tunnel: (core_dns || kube_proxy).then_some(&tunnel),
    })
    .unwrap()
}

pub(crate) async fn tenant() -> testbed::ApiServer {
    testbed::ApiServer::with_flags(strings(&[
        "--service-cluster-ip-range=10.116.0.0/16",
        // Where the `kubernetes` Service leads is ours to write, as in every hosted API server.
        "--endpoint-reconciler-type=none",
    ]))
    .await
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let plural = match kind {
        "Endpoints" => "endpoints".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural,
    }
}

pub(crate) fn api(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource(api_version, kind)),
        None => Api::all_with(client.clone(), &resource(api_version, kind)),
    }
}

pub(crate) async fn live(client: &Client, reference: &Value) -> Option<Value> {
    let text = |pointer: &str| reference.pointer(pointer).and_then(Value::as_str);
    let api = api(
        client,
        text("/apiVersion")?,
        text("/kind")?,
        text("/metadata/namespace"),
    );
    let object = api.get_opt(text("/metadata/name")?).await.unwrap()?;
    Some(comparable(serde_json::to_value(object).unwrap()))
}

/// Without what differs from run to run.
pub(crate) fn comparable(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for key in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for key in [
            "deployment.kubernetes.io/revision",
            "deprecated.daemonset.template.generation",
        ] {
            annotations.remove(key);
        }
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    for owner in metadata
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        owner.as_object_mut().unwrap().remove("uid");
    }
    // The documents inside of ConfigMaps are compared as documents; indentation is nobody's contract.
    if object["kind"] == "ConfigMap" {
        for (key, text) in object["data"].as_object_mut().unwrap() {
            if key != "Corefile" {
                *text = serde_norway::from_str(text.as_str().unwrap()).unwrap();
            }
        }
    }
    object
}

pub(crate) fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut BTreeMap<String, (Value, Value)>) {
    match (theirs, ours) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()) {
                let (one, other) = (
                    one.get(key).unwrap_or(&Value::Null),
                    other.get(key).unwrap_or(&Value::Null),
                );
                differences(&format!("{path}/{key}"), one, other, found);
            }
        }
        _ if theirs != ours => {
            found.insert(path.to_owned(), (theirs.clone(), ours.clone()));
        }
        _ => {}
    }
}

/// Every difference is a row of the table, and every row is still a difference.
pub(crate) fn only_known(found: &BTreeMap<String, (Value, Value)>, known: &[(&str, &str)]) {
    let unknown: Vec<_> = found
        .iter()
        .filter(|(path, _)| !known.iter().any(|(known, _)| path.starts_with(known)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    for (row, reason) in known {
        assert!(
            found.keys().any(|path| path.starts_with(row)),
            "no longer a difference: {row} ({reason})"
        );
    }
}
