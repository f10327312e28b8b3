//! kubeadm's description of the cluster, which `kubeadm join` and `kubeadm upgrade node` read.

use serde_json::{Value, json};

use super::Inputs;
use super::object::{Kind, Object};

/// The first minor whose kubeadm reads `v1beta4`. Older ones refuse it.
const V1BETA4: u32 = 31;

pub(super) fn object(inputs: &Inputs<'_>) -> Object {
    let text = serde_norway::to_string(&configuration(inputs)).expect("JSON is YAML");
    let data = json!({"data": {"ClusterConfiguration": text}});
    Object::new(Kind::ConfigMap, Some("kube-system"), "kubeadm-config", data)
}

fn configuration(inputs: &Inputs<'_>) -> Value {
    let mut extra_args = Vec::new();
    if let Some(prefix) = inputs.etcd_prefix {
        extra_args.push(("etcd-compaction-interval", "0s".to_owned()));
        extra_args.push(("etcd-prefix", format!("/{prefix}")));
    }
    let mut configuration = json!({
        "apiServer": {"certSANs": inputs.server_names},
        "certificatesDir": "/etc/kubernetes/pki",
        "clusterName": inputs.name,
        "controlPlaneEndpoint": inputs.endpoint,
        "controllerManager": {},
        "dns": {},
        "etcd": {"external": {"caFile": "", "certFile": "", "endpoints": inputs.etcd_endpoints, "keyFile": ""}},
        "imageRepository": inputs.registry,
        "kind": "ClusterConfiguration",
        "kubernetesVersion": inputs.version,
        "networking": {
            "dnsDomain": inputs.cluster_domain,
            "podSubnet": inputs.pod_cidrs.join(","),
            "serviceSubnet": inputs.service_cidrs.join(","),
        },
        "scheduler": {},
    });
    if inputs.minor() >= V1BETA4 {
        configuration["apiVersion"] = json!("kubeadm.k8s.io/v1beta4");
        configuration["caCertificateValidityPeriod"] = json!("87600h0m0s");
        configuration["certificateValidityPeriod"] = json!("8760h0m0s");
        configuration["encryptionAlgorithm"] = json!("ECDSA-P256");
        configuration["proxy"] = json!({});
        if !extra_args.is_empty() {
            let list: Vec<Value> = extra_args
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            configuration["apiServer"]["extraArgs"] = json!(list);
        }
    } else {
        configuration["apiVersion"] = json!("kubeadm.k8s.io/v1beta3");
        for (name, value) in extra_args {
            configuration["apiServer"]["extraArgs"][name] = json!(value);
        }
    }
    configuration
}
