//! A small object of every kind that can be in a namespace.

use serde_json::{Value, json};

/// Kinds in namespaces that have none here, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("/bindings", "is pods/binding by another name"),
    ("/events", "tells what happened and changes nothing"),
    ("events.k8s.io/events", "tells what happened and changes nothing"),
    ("coordination.k8s.io/leases", "changes nothing"),
    ("coordination.k8s.io/leasecandidates", "changes nothing"),
    ("authorization.k8s.io/localsubjectaccessreviews", "is a question"),
    (
        "kamaji.clastix.io/tenantcontrolplanes",
        "needs a store, and no two have the same of it: tests/control_planes.rs has some",
    ),
];

/// Resource and object; the name is given to each.
pub fn samples() -> Vec<(&'static str, Value)> {
    let labels = json!({"app": "web"});
    let selector = json!({"matchLabels": labels});
    let template = json!({"metadata": {"labels": labels}, "spec": {
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let workload = json!({"spec": {"replicas": 0, "selector": selector, "template": template}});
    let job = json!({"spec": {"suspend": true, "template": once}});
    let mut stateful = workload.clone();
    stateful["spec"]["serviceName"] = json!("web");
    vec![
        ("v1/configmaps", json!({})),
        ("v1/secrets", json!({})),
        ("v1/serviceaccounts", json!({})),
        ("v1/services", json!({"spec": {"ports": [{"port": 80}]}})),
        ("v1/endpoints", json!({})),
        ("v1/pods", json!({"spec": template["spec"]})),
        ("v1/podtemplates", json!({"template": template})),
        (
            "v1/replicationcontrollers",
            json!({"spec": {"replicas": 0, "selector": labels, "template": template}}),
        ),
        ("v1/limitranges", json!({"spec": {"limits": []}})),
        ("v1/resourcequotas", json!({"spec": {"hard": {"pods": "90"}}})),
        (
            "v1/persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "standard"}}),
        ),
        ("apps/v1/deployments", workload.clone()),
        ("apps/v1/replicasets", workload),
        ("apps/v1/statefulsets", stateful),
        (
            "apps/v1/daemonsets",
            json!({"spec": {"selector": selector, "template": template}}),
        ),
        (
            "apps/v1/controllerrevisions",
            json!({"revision": 1, "data": {"a": "b"}}),
        ),
        ("batch/v1/jobs", job.clone()),
        (
            "batch/v1/cronjobs",
            json!({"spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": job}}),
        ),
        (
            "autoscaling/v2/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}}),
        ),
        (
            "networking.k8s.io/v1/ingresses",
            json!({"spec": {"ingressClassName": "public",
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
        ),
        (
            "networking.k8s.io/v1/networkpolicies",
            json!({"spec": {"podSelector": {}}}),
        ),
        (
            "policy/v1/poddisruptionbudgets",
            json!({"spec": {"minAvailable": 0, "selector": selector}}),
        ),
        ("rbac.authorization.k8s.io/v1/roles", json!({"rules": []})),
        (
            "rbac.authorization.k8s.io/v1/rolebindings",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "dora"}]}),
        ),
        (
            "discovery.k8s.io/v1/endpointslices",
            json!({"addressType": "IPv4", "endpoints": []}),
        ),
        (
            "storage.k8s.io/v1/csistoragecapacities",
            json!({"storageClassName": "standard"}),
        ),
        ("resource.k8s.io/v1/resourceclaims", json!({"spec": {}})),
        (
            "resource.k8s.io/v1/resourceclaimtemplates",
            json!({"spec": {"spec": {}}}),
        ),
        (
            "capsule.clastix.io/v1beta2/tenantresources",
            json!({"spec": {"resyncPeriod": "60s", "resources": []}}),
        ),
        (
            "capsule.clastix.io/v1beta2/customquotas",
            // It selects none: what it counts is refused until a controller has counted what is there, and none runs here.
            json!({"spec": {"limit": "9", "sources": [{"apiVersion": "v1", "kind": "Secret", "op": "count"}],
                "scopeSelectors": [{"matchLabels": {"counted": "yes"}}]}}),
        ),
        (
            "capsule.clastix.io/v1beta2/resourcepoolclaims",
            json!({"spec": {"pool": "gold", "claim": {"cpu": "1"}}}),
        ),
        ("capsule.clastix.io/v1beta2/rulestatuses", json!({"spec": []})),
        (
            "capsule.clastix.io/v1beta2/quantityledgers",
            json!({"spec": {"targetRef": {"kind": "CustomQuota", "name": "sample"}}}),
        ),
    ]
}

/// The sample of one kind.
pub fn sample(resource: &str, name: &str) -> Value {
    let found = samples().into_iter().find(|(it, _)| *it == resource);
    let (_, mut object) = found.unwrap_or_else(|| panic!("{resource} has no sample"));
    object["metadata"] = json!({ "name": name });
    object
}
