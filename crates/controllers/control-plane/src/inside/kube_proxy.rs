//! What makes Services work on the tenant's nodes.

use api::kamaji::v1alpha1::AddonSpec;
use serde_json::{Value, json};

use super::object::{Kind, Object, Reference, cluster_role_binding, config_map_reader, group, service_account};
use super::{BOOTSTRAP_GROUP, Inputs};

const BINDING: &str = "kubeadm:node-proxier";
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-proxy";
const REPOSITORY: &str = "registry.k8s.io";

pub(super) fn references() -> Vec<Reference> {
    let in_namespace = [
        Kind::DaemonSet,
        Kind::ConfigMap,
        Kind::ServiceAccount,
        Kind::RoleBinding,
        Kind::Role,
    ]
    .map(|kind| Reference::new(kind, Some(NAMESPACE), NAME));
    let mut references = Vec::from(in_namespace);
    references.push(Reference::new(Kind::ClusterRoleBinding, None, BINDING));
    references
}

pub(super) fn objects(inputs: &Inputs<'_>, addon: &AddonSpec) -> Vec<Object> {
    let repository = addon
        .image_repository
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or(REPOSITORY);
    let tag = addon
        .image_tag
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or(inputs.version);
    let in_namespace = |kind, content| Object::new(kind, Some(NAMESPACE), NAME, content).labelled();
    // Joining nodes read the configuration too: kubeadm looks whether it can.
    let [role, role_binding] = config_map_reader(NAMESPACE, NAME, NAME, &[group(BOOTSTRAP_GROUP)]);
    let config_map = json!({
        "metadata": {"labels": {"app": NAME}},
        "data": {
            "config.conf": serde_norway::to_string(&configuration(inputs.pod_cidrs)).expect("JSON is YAML"),
            "kubeconfig.conf": kubeconfig(inputs.endpoint),
        },
    });
    vec![
        cluster_role_binding(BINDING, "system:node-proxier", &[service_account(NAME)]).labelled(),
        in_namespace(Kind::ServiceAccount, json!({})).owned_by(BINDING),
        role.labelled().owned_by(BINDING),
        role_binding.labelled().owned_by(BINDING),
        in_namespace(Kind::ConfigMap, config_map),
        in_namespace(Kind::DaemonSet, daemon_set(&format!("{repository}/kube-proxy:{tag}"))).owned_by(BINDING),
    ]
}

/// Its own token, and the address that nodes use: the `kubernetes` Service does not work before kube-proxy does.
fn kubeconfig(endpoint: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://{endpoint}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
"
    )
}

/// Zero values mean kube-proxy's defaults.
fn configuration(pod_cidrs: &[String]) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "",
            "burst": 0,
            "contentType": "",
            "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf",
            "qps": 0,
        },
        "clusterCIDR": pod_cidrs.join(","),
        "configSyncPeriod": "0s",
        "conntrack": {
            "maxPerCore": null,
            "min": null,
            "tcpBeLiberal": false,
            "tcpCloseWaitTimeout": null,
            "tcpEstablishedTimeout": null,
            "udpStreamTimeout": "0s",
            "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "",
        "enableProfiling": false,
        "healthzBindAddress": "",
        "hostnameOverride": "",
        "iptables": {
            "localhostNodePorts": null,
            "masqueradeAll": false,
            "masqueradeBit": null,
            "minSyncPeriod": "0s",
            "syncPeriod": "0s",
        },
        "ipvs": {
            "excludeCIDRs": null,
            "minSyncPeriod": "0s",
            "scheduler": "",
            "strictARP": false,
            "syncPeriod": "0s",
            "tcpFinTimeout": "0s",
            "tcpTimeout": "0s",
            "udpTimeout": "0s",
        },
        "kind": "KubeProxyConfiguration",
        "logging": {
            "flushFrequency": 0,
            "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}},
            "verbosity": 0,
        },
        "metricsBindAddress": "",
        "mode": "",
        "nftables": {"masqueradeAll": false, "masqueradeBit": null, "minSyncPeriod": "0s", "syncPeriod": "0s"},
        "nodePortAddresses": null,
        "oomScoreAdj": null,
        "portRange": "",
        "showHiddenMetricsForVersion": "",
        "winkernel": {
            "enableDSR": false,
            "forwardHealthCheckVip": false,
            "networkName": "",
            "rootHnsEndpointName": "",
            "sourceVip": "",
        },
    })
}

fn daemon_set(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"k8s-app": NAME}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": NAME}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"k8s-app": NAME}},
                "spec": {
                    "containers": [{
                        "name": NAME,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": [
                            "/usr/local/bin/kube-proxy",
                            "--config=/var/lib/kube-proxy/config.conf",
                            "--hostname-override=$(NODE_NAME)",
                        ],
                        "env": [{
                            "name": "NODE_NAME",
                            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
                        }],
                        "securityContext": {"privileged": true},
                        "volumeMounts": [
                            {"mountPath": "/var/lib/kube-proxy", "name": NAME},
                            {"mountPath": "/run/xtables.lock", "name": "xtables-lock"},
                            {"mountPath": "/lib/modules", "name": "lib-modules", "readOnly": true},
                        ],
                    }],
                    "hostNetwork": true,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": NAME,
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": [
                        {"name": NAME, "configMap": {"name": NAME}},
                        {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
                        {"name": "lib-modules", "hostPath": {"path": "/lib/modules", "type": ""}},
                    ],
                },
            },
        },
    })
}
