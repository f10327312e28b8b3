//! The cluster's DNS.

use std::net::IpAddr;

use api::kamaji::v1alpha1::AddonSpec;
use serde_json::{Value, json};

use super::Inputs;
use super::object::{Kind, Object, Reference, cluster_role_binding, service_account};

const BINDING: &str = "system:coredns";
const NAMESPACE: Option<&str> = Some("kube-system");
const REPOSITORY: &str = "registry.k8s.io/coredns";
/// What kubeadm installs, by the minor from which on it does. Tenants older than the oldest of `tests/kubeadm` get what that one
/// has.
const TAGS: [(u32, &str); 3] = [(36, "v1.14.2"), (35, "v1.13.1"), (0, "v1.12.1")];

pub(super) fn references() -> Vec<Reference> {
    vec![
        Reference::new(Kind::Deployment, NAMESPACE, "coredns"),
        Reference::new(Kind::Service, NAMESPACE, "kube-dns"),
        Reference::new(Kind::ConfigMap, NAMESPACE, "coredns"),
        Reference::new(Kind::ServiceAccount, NAMESPACE, "coredns"),
        Reference::new(Kind::ClusterRole, None, BINDING),
        Reference::new(Kind::ClusterRoleBinding, None, BINDING),
    ]
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
        .unwrap_or_else(|| tag(inputs.minor()));
    let owned =
        |kind, namespace, name, content| Object::new(kind, namespace, name, content).labelled().owned_by(BINDING);
    let rules = json!([
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    let mut objects = vec![
        cluster_role_binding(BINDING, BINDING, &[service_account("coredns")]).labelled(),
        owned(Kind::ClusterRole, None, BINDING, json!({"rules": rules})),
        owned(Kind::ServiceAccount, NAMESPACE, "coredns", json!({})),
        owned(
            Kind::ConfigMap,
            NAMESPACE,
            "coredns",
            json!({"data": {"Corefile": corefile(inputs.cluster_domain)}}),
        ),
        owned(
            Kind::Deployment,
            NAMESPACE,
            "coredns",
            deployment(&format!("{repository}/coredns:{tag}")),
        ),
    ];
    objects.extend(service(inputs.dns_service_ips).map(|content| owned(Kind::Service, NAMESPACE, "kube-dns", content)));
    objects
}

fn tag(minor: u32) -> &'static str {
    let of_minor = TAGS.iter().find(|(first, _)| minor >= *first);
    of_minor.expect("the last one is from zero on").1
}

fn corefile(domain: &str) -> String {
    format!(
        ".:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"
    )
}

/// No Service without an address: one that the cluster picked could never be moved to the right one.
fn service(addresses: &[String]) -> Option<Value> {
    let first = addresses.first()?;
    let port = |name, port, protocol| json!({"name": name, "port": port, "protocol": protocol, "targetPort": port});
    let mut spec = json!({
        "clusterIP": first,
        "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
        "selector": {"k8s-app": "kube-dns"},
    });
    let family = |address: &str| {
        address
            .parse::<IpAddr>()
            .ok()
            .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
    };
    let second = addresses.iter().find(|address| family(address) != family(first));
    if let Some(second) = second {
        spec["clusterIPs"] = json!([first, second]);
        spec["ipFamilies"] = json!([family(first), family(second)]);
        spec["ipFamilyPolicy"] = json!("PreferDualStack");
    }
    Some(json!({
        "metadata": {
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": spec,
    }))
}

fn deployment(image: &str) -> Value {
    let probe = |path: &str, port: &str| json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}});
    let mut liveness = probe("/health", "liveness-probe");
    liveness["initialDelaySeconds"] = json!(60);
    liveness["timeoutSeconds"] = json!(5);
    liveness["failureThreshold"] = json!(5);
    json!({
        "metadata": {"labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                        "weight": 100,
                        "podAffinityTerm": {
                            "labelSelector": {"matchExpressions": [
                                {"key": "k8s-app", "operator": "In", "values": ["kube-dns"]},
                            ]},
                            "topologyKey": "kubernetes.io/hostname",
                        },
                    }]}},
                    "containers": [{
                        "name": "coredns",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "livenessProbe": liveness,
                        "readinessProbe": probe("/ready", "readiness-probe"),
                        "ports": [
                            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
                            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
                            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
                            {"containerPort": 8080, "name": "liveness-probe", "protocol": "TCP"},
                            {"containerPort": 8181, "name": "readiness-probe", "protocol": "TCP"},
                        ],
                        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                            "readOnlyRootFilesystem": true,
                        },
                        "volumeMounts": [{"mountPath": "/etc/coredns", "name": "config-volume", "readOnly": true}],
                    }],
                    "dnsPolicy": "Default",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": "coredns",
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"},
                    ],
                    "volumes": [{
                        "name": "config-volume",
                        "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]},
                    }],
                },
            },
        },
    })
}
