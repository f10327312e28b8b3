use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::metrics::Metrics;
use crate::router::Router;
use crate::view::Source;

struct Case {
    rule: &'static str,
    /// Group, version, resource, subresource, kind.
    resource: (&'static str, &'static str, &'static str, &'static str, &'static str),
    operation: &'static str,
    user: &'static str,
    groups: &'static [&'static str],
    object: Value,
    old: Value,
    /// The answer's `allowed`, and a word of its message, its patch or nothing.
    expected: (bool, &'static str),
}

const TENANTS: &[&str] = &["projectcapsule.dev"];
const TENANT: (&str, &str, &str, &str, &str) = ("capsule.clastix.io", "v1beta2", "tenants", "", "Tenant");
const CONFIGURATION: (&str, &str, &str, &str, &str) = (
    "capsule.clastix.io",
    "v1beta2",
    "capsuleconfigurations",
    "",
    "CapsuleConfiguration",
);
const CONTROL_PLANE: (&str, &str, &str, &str, &str) = (
    "kamaji.clastix.io",
    "v1alpha1",
    "tenantcontrolplanes",
    "",
    "TenantControlPlane",
);
const GLOBAL_QUOTA: (&str, &str, &str, &str, &str) = (
    "capsule.clastix.io",
    "v1beta2",
    "globalresourcequotas",
    "",
    "GlobalResourceQuota",
);
const POOL: (&str, &str, &str, &str, &str) = ("capsule.clastix.io", "v1beta2", "resourcepools", "", "ResourcePool");
const POOL_CLAIM: (&str, &str, &str, &str, &str) = (
    "capsule.clastix.io",
    "v1beta2",
    "resourcepoolclaims",
    "",
    "ResourcePoolClaim",
);
const DATA_STORE: (&str, &str, &str, &str, &str) = ("kamaji.clastix.io", "v1alpha1", "datastores", "", "DataStore");
const TENANT_OWNER: (&str, &str, &str, &str, &str) =
    ("capsule.clastix.io", "v1beta2", "tenantowners", "", "TenantOwner");
const NAMESPACE: (&str, &str, &str, &str, &str) = ("", "v1", "namespaces", "", "Namespace");
const CLAIM: (&str, &str, &str, &str, &str) = ("", "v1", "persistentvolumeclaims", "", "PersistentVolumeClaim");
const POD: (&str, &str, &str, &str, &str) = ("", "v1", "pods", "", "Pod");
const GATEWAY: (&str, &str, &str, &str, &str) = ("gateway.networking.k8s.io", "v1", "gateways", "", "Gateway");
const DEVICES: (&str, &str, &str, &str, &str) = ("resource.k8s.io", "v1", "resourceclaims", "", "ResourceClaim");
const CONFIG_MAP: (&str, &str, &str, &str, &str) = ("", "v1", "configmaps", "", "ConfigMap");
const RULE_STATUS: (&str, &str, &str, &str, &str) = ("capsule.clastix.io", "v1beta2", "rulestatuses", "", "RuleStatus");
const INGRESS: (&str, &str, &str, &str, &str) = ("networking.k8s.io", "v1", "ingresses", "", "Ingress");

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Asked without any watch: nothing is known but the request and the default configuration. What rules say with tenants
/// around them is shown in `tests/`, against a real API server.
fn cases() -> Vec<Case> {
    let case = |rule, resource, object, expected| Case {
        rule,
        resource,
        operation: "CREATE",
        user: "alice",
        groups: TENANTS,
        object,
        old: Value::Null,
        expected,
    };
    let named = |more: Value| {
        let mut object = json!({"metadata": {"name": "thing"}});
        json_patch::merge(&mut object, &more);
        object
    };
    let tenant = |spec: Value| json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil"}, "spec": spec});
    let tenant_owner = |name: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner", "metadata": {"name": "thing"},
            "spec": {"kind": "ServiceAccount", "name": name}})
    };
    let configuration = |regex: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
            "spec": {"protectedNamespaceRegex": regex}})
    };
    let control_plane = json!({"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
        "metadata": {"name": "cp", "namespace": "ns"}, "spec": {
            "controlPlane": {"deployment": {}, "service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.3"}}});
    let mut root = control_plane.clone();
    root["spec"]["dataStoreUsername"] = json!("root");
    let store = |endpoint: &str| {
        json!({"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore", "metadata": {"name": "s"}, "spec": {
            "driver": "etcd", "endpoints": [endpoint], "tlsConfig": {"certificateAuthority": {"certificate": {"content": "YQ=="}}}}})
    };
    let rule_status = |pattern: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": "thing"},
            "spec": [{"enforce": {"workloads": {"schedulers": [{"exp": pattern}]}}}]})
    };
    let global_quota = |pods: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": "thing"},
            "spec": {"quota": {"hard": {"pods": pods}}, "namespaceSelectors": [{}]}})
    };
    let custom_quota = |limit: &str, cel: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "metadata": {"name": "q"},
            "spec": {"limit": limit, "sources": [{"apiVersion": "v1", "kind": "Pod", "cel": cel}]}})
    };
    let pool = |cpu: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "metadata": {"name": "gold"},
            "spec": {"quota": {"hard": {"cpu": cpu}}, "config": {"defaultsZero": true}}})
    };
    let pool_claim = |cpu: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim",
            "metadata": {"name": "one", "namespace": "ns", "annotations": {"projectcapsule.dev/release": "true"}},
            "spec": {"pool": "gold", "claim": {"cpu": cpu}}})
    };
    let foreign = json!({"metadata": {"name": "thing", "labels": {"capsule.clastix.io/tenant": "gas"}}});
    vec![
        case(
            "namespaces.mutating.projectcapsule.dev",
            NAMESPACE,
            named(json!({})),
            (false, "do not have any Tenant"),
        ),
        Case {
            user: "root",
            groups: &[],
            ..case(
                "namespaces.mutating.projectcapsule.dev",
                NAMESPACE,
                named(json!({})),
                (true, ""),
            )
        },
        Case {
            user: "root",
            groups: &[],
            ..case(
                "namespaces.validating.projectcapsule.dev",
                NAMESPACE,
                foreign.clone(),
                (false, "only tenant owners"),
            )
        },
        Case {
            operation: "UPDATE",
            user: "root",
            groups: &[],
            resource: ("", "v1", "namespaces", "status", "Namespace"),
            old: named(json!({})),
            ..case(
                "namespaces.validating.projectcapsule.dev",
                NAMESPACE,
                foreign,
                (false, "patched into a tenant"),
            )
        },
        case(
            "namespaces.validating.projectcapsule.dev",
            NAMESPACE,
            named(json!({})),
            (false, "not assigned"),
        ),
        case(
            "tenants.mutating.projectcapsule.dev",
            TENANT,
            tenant(json!({})),
            (true, "/metadata/labels"),
        ),
        case(
            "tenants.validating.projectcapsule.dev",
            TENANT,
            tenant(json!({"storageClasses": {"allowedRegex": "("}})),
            (false, "storageClasses"),
        ),
        case(
            "tenants.validating.projectcapsule.dev",
            TENANT,
            tenant(json!({})),
            (true, ""),
        ),
        case(
            "owners.validating.projectcapsule.dev",
            TENANT_OWNER,
            tenant_owner("robot"),
            (false, "spec.name"),
        ),
        case(
            "owners.validating.projectcapsule.dev",
            TENANT_OWNER,
            tenant_owner("system:serviceaccount:ci:robot"),
            (true, ""),
        ),
        case(
            "config.validating.projectcapsule.dev",
            CONFIGURATION,
            configuration("("),
            (false, "protectedNamespaceRegex"),
        ),
        case(
            "config.validating.projectcapsule.dev",
            CONFIGURATION,
            configuration("^kube-"),
            (true, ""),
        ),
        case(
            "cordoning.validating.projectcapsule.dev",
            ("apps", "v1", "deployments", "scale", "Scale"),
            named(json!({})),
            (false, "cordoned"),
        ),
        Case {
            user: "root",
            groups: &[],
            ..case(
                "cordoning.validating.projectcapsule.dev",
                ("", "v1", "pods", "", "Pod"),
                named(json!({})),
                (true, ""),
            )
        },
        case(
            "pvc.mutating.projectcapsule.dev",
            CLAIM,
            named(json!({"spec": {"volumeName": "v"}})),
            (true, ""),
        ),
        case(
            "storage.mutating.projectcapsule.dev",
            CLAIM,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "pvc.validating.projectcapsule.dev",
            CLAIM,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "pvc.validating.projectcapsule.dev",
            CLAIM,
            json!({"spec": 7}),
            (false, "failed to read"),
        ),
        case(
            "ingress.mutating.projectcapsule.dev",
            INGRESS,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "ingress.validating.projectcapsule.dev",
            INGRESS,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "pod.mutating.projectcapsule.dev",
            POD,
            named(json!({"spec": {"containers": []}})),
            (true, ""),
        ),
        case(
            "pods.validating.projectcapsule.dev",
            POD,
            named(json!({"spec": {"containers": []}})),
            (true, ""),
        ),
        case(
            "pods.validating.projectcapsule.dev",
            POD,
            json!({"spec": []}),
            (false, "failed to read"),
        ),
        Case {
            operation: "UPDATE",
            resource: ("", "v1", "pods", "ephemeralcontainers", "Pod"),
            old: named(json!({"spec": {"containers": []}})),
            ..case(
                "pods.validating.projectcapsule.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            )
        },
        case(
            "services.validating.projectcapsule.dev",
            ("", "v1", "services", "", "Service"),
            named(json!({"spec": {"type": "NodePort"}})),
            (true, ""),
        ),
        case(
            "gateway.mutating.projectcapsule.dev",
            GATEWAY,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "gateway.validating.projectcapsule.dev",
            GATEWAY,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        case(
            "devices.validating.projectcapsule.dev",
            DEVICES,
            named(json!({"spec": {}})),
            (true, ""),
        ),
        Case {
            operation: "UPDATE",
            old: named(json!({})),
            ..case(
                "nodes.validating.projectcapsule.dev",
                ("", "v1", "nodes", "", "Node"),
                named(json!({"metadata": {"labels": {"a": "b"}}})),
                (true, ""),
            )
        },
        case(
            "serviceaccounts.validating.projectcapsule.dev",
            ("", "v1", "serviceaccounts", "", "ServiceAccount"),
            named(json!({})),
            (true, ""),
        ),
        case(
            "generic.rules.mutating.projectcapsule.dev",
            CONFIG_MAP,
            named(json!({})),
            (true, ""),
        ),
        case(
            "generic.rules.validating.projectcapsule.dev",
            CONFIG_MAP,
            named(json!({})),
            (true, ""),
        ),
        case(
            "globalresourcequotas.validating.projectcapsule.dev",
            GLOBAL_QUOTA,
            global_quota("-1"),
            (false, "spec.quota.hard[pods]: -1 is less than nothing"),
        ),
        Case {
            user: "adam",
            groups: &[],
            ..case(
                "globalresourcequotas.validating.projectcapsule.dev",
                GLOBAL_QUOTA,
                global_quota("1"),
                (true, ""),
            )
        },
        case(
            "calculation.global-resource-quotas.validating.projectcapsule.dev",
            POD,
            named(json!({"spec": {"containers": []}})),
            (true, ""),
        ),
        case(
            "calculation.tenant-quotas.validating.cotenant.dev",
            POD,
            named(json!({"spec": {"containers": []}})),
            (true, ""),
        ),
        case(
            "calculation.custom-quotas.validating.projectcapsule.dev",
            POD,
            named(json!({"spec": {"containers": []}})),
            (true, ""),
        ),
        case(
            "namespaced.custom-quotas.validating.projectcapsule.dev",
            ("capsule.clastix.io", "v1beta2", "customquotas", "", "CustomQuota"),
            custom_quota("0", "object.spec.size"),
            (false, "spec.limit: quantity must not be negative or 0"),
        ),
        case(
            "cluster.custom-quotas.validating.projectcapsule.dev",
            (
                "capsule.clastix.io",
                "v1beta2",
                "globalcustomquotas",
                "",
                "GlobalCustomQuota",
            ),
            custom_quota("1", "1 +"),
            (false, "spec.sources[0].cel"),
        ),
        case(
            "rulestatus.validating.projectcapsule.dev",
            RULE_STATUS,
            rule_status("("),
            (false, "unable to compile"),
        ),
        case(
            "rulestatus.validating.projectcapsule.dev",
            RULE_STATUS,
            rule_status("^a"),
            (true, ""),
        ),
        case(
            "resourcepools.mutating.projectcapsule.dev",
            POOL,
            pool("1"),
            (true, "/spec/defaults"),
        ),
        case(
            "resourcepools.validating.projectcapsule.dev",
            POOL,
            pool("-1"),
            (false, "spec.quota.hard[cpu]"),
        ),
        case(
            "resourcepoolclaims.mutating.projectcapsule.dev",
            POOL_CLAIM,
            pool_claim("1"),
            (true, "/metadata/annotations"),
        ),
        case(
            "resourcepoolclaims.validating.projectcapsule.dev",
            POOL_CLAIM,
            pool_claim("much"),
            (false, "spec.claim[cpu]"),
        ),
        Case {
            operation: "UPDATE",
            old: named(json!({"spec": {"containers": []}})),
            ..case(
                "reports.pods.validating.projectcapsule.dev",
                ("", "v1", "pods", "status", "Pod"),
                named(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}})),
                (true, ""),
            )
        },
        case(
            "bindings.pods.validating.projectcapsule.dev",
            ("", "v1", "pods", "binding", "Binding"),
            named(json!({"metadata": {"labels": {"a": "b"}}, "target": {"name": "n"}})),
            (true, ""),
        ),
        Case {
            operation: "UPDATE",
            old: named(json!({"spec": {"replicas": 1}})),
            ..case(
                "scales.replications.validating.projectcapsule.dev",
                ("apps", "v1", "deployments", "scale", "Scale"),
                named(json!({"spec": {"replicas": 2}})),
                (true, ""),
            )
        },
        Case {
            operation: "DELETE",
            old: named(json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": "replications"}}})),
            ..case(
                "replications.validating.projectcapsule.dev",
                ("", "v1", "secrets", "", "Secret"),
                Value::Null,
                (true, ""),
            )
        },
        case(
            "mtenantcontrolplane.kb.io",
            CONTROL_PLANE,
            control_plane.clone(),
            (true, "dnsServiceIPs"),
        ),
        case(
            "vtenantcontrolplane.kb.io",
            CONTROL_PLANE,
            root,
            (false, "dataStoreUsername"),
        ),
        case(
            "vdatastore.kb.io",
            DATA_STORE,
            store("https://etcd"),
            (false, "spec.endpoints[0]"),
        ),
    ]
}

#[tokio::test]
async fn every_rule_answers_through_the_router() {
    let router = Router::new(RULES, Source::empty(), Metrics::default());
    let mut exercised = BTreeSet::new();
    for case in cases() {
        let rule = RULES.iter().find(|rule| rule.name == case.rule).expect(case.rule);
        exercised.insert(rule.name);
        let (group, version, resource, sub_resource, kind) = case.resource;
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": resource}, "subResource": sub_resource,
            "name": "thing", "namespace": "ns", "operation": case.operation,
            "userInfo": {"username": case.user, "groups": case.groups}, "object": case.object, "oldObject": case.old}});
        let reply = router
            .answer(rule.path, review.to_string().as_bytes(), soon())
            .await
            .expect("an answer");
        let reply: Value = serde_json::from_slice(&reply).expect("JSON");
        let response = &reply["response"];
        let patch = response["patch"].as_str().map(|patch| {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
            String::from_utf8(bytes).expect("text")
        });
        let said = response["status"]["message"]
            .as_str()
            .map(str::to_owned)
            .or(patch)
            .unwrap_or_default();
        assert_eq!(response["allowed"], case.expected.0, "{}: {said}", case.rule);
        assert!(said.contains(case.expected.1), "{}: {said}", case.rule);
        assert!(!case.expected.1.is_empty() || said.is_empty(), "{}: {said}", case.rule);
    }
    let all: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(exercised, all);
}

/// Rules that look at nothing of an object, or not at its metadata, before they know whose it is.
const LOOK_NO_FURTHER: [&str; 9] = [
    "bindings.pods.validating.projectcapsule.dev",
    "cordoning.validating.projectcapsule.dev",
    "devices.validating.projectcapsule.dev",
    "generic.rules.mutating.projectcapsule.dev",
    "generic.rules.validating.projectcapsule.dev",
    "calculation.global-resource-quotas.validating.projectcapsule.dev",
    "calculation.tenant-quotas.validating.cotenant.dev",
    "calculation.custom-quotas.validating.projectcapsule.dev",
    "scales.replications.validating.projectcapsule.dev",
];

/// As deep as no API server sends it: where it is looked at it is refused, elsewhere it does no harm.
#[tokio::test]
async fn what_is_nested_too_deep_is_refused() {
    let router = Router::new(RULES, Source::empty(), Metrics::default());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for case in cases() {
        let (group, version, resource, sub_resource, kind) = case.resource;
        let rule = RULES.iter().find(|rule| rule.name == case.rule).expect(case.rule);
        let operation = rule.targets[0].operations[0].as_str();
        for (field, is_looked_at) in [("metadata", true), ("other", false)] {
            let object = format!(r#"{{"{field}":{{"labels":{deep}}}}}"#);
            let review = format!(
                r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1",
                "kind":{{"group":"{group}","version":"{version}","kind":"{kind}"}},"name":"thing","namespace":"ns",
                "resource":{{"group":"{group}","version":"{version}","resource":"{resource}"}},"subResource":"{sub_resource}",
                "operation":"{operation}","userInfo":{{"username":"alice"}},"object":{object},"oldObject":{object}}}}}"#
            );
            let reply = router
                .answer(rule.path, review.as_bytes(), soon())
                .await
                .expect("an answer");
            let reply: Value = serde_json::from_slice(&reply).expect("JSON");
            let is_refused = reply["response"]["allowed"] == false;
            assert!(
                !is_looked_at || is_refused != LOOK_NO_FURTHER.contains(&rule.name),
                "{}: {reply}",
                rule.name
            );
        }
    }
}

#[test]
fn names_are_those_that_the_peers_registered_or_ours() {
    let names: Vec<_> = RULES.iter().map(|rule| (rule.name, rule.path)).collect();
    assert_eq!(
        names,
        [
            ("namespaces.mutating.projectcapsule.dev", "/namespaces/mutating"),
            ("namespaces.validating.projectcapsule.dev", "/namespaces/validating"),
            ("tenants.mutating.projectcapsule.dev", "/tenants/mutating"),
            ("tenants.validating.projectcapsule.dev", "/tenants/validating"),
            ("owners.validating.projectcapsule.dev", "/tenantowners/validating"),
            ("config.validating.projectcapsule.dev", "/config/validating"),
            ("cordoning.validating.projectcapsule.dev", "/generic/cordoning"),
            ("pvc.mutating.projectcapsule.dev", "/persistentvolumeclaims/mutating"),
            ("storage.mutating.projectcapsule.dev", "/defaults"),
            (
                "pvc.validating.projectcapsule.dev",
                "/persistentvolumeclaims/validating"
            ),
            ("ingress.mutating.projectcapsule.dev", "/defaults"),
            ("ingress.validating.projectcapsule.dev", "/ingresses/validating"),
            ("pod.mutating.projectcapsule.dev", "/defaults"),
            ("pods.validating.projectcapsule.dev", "/pods/validating"),
            ("reports.pods.validating.projectcapsule.dev", "/pods/reports/validating"),
            (
                "bindings.pods.validating.projectcapsule.dev",
                "/pods/bindings/validating"
            ),
            ("services.validating.projectcapsule.dev", "/services/validating"),
            ("gateway.mutating.projectcapsule.dev", "/defaults"),
            ("gateway.validating.projectcapsule.dev", "/gateways/validating"),
            ("devices.validating.projectcapsule.dev", "/devices/validating"),
            ("nodes.validating.projectcapsule.dev", "/nodes/validating"),
            (
                "serviceaccounts.validating.projectcapsule.dev",
                "/serviceaccounts/validating"
            ),
            ("generic.rules.mutating.projectcapsule.dev", "/rules/generic/mutating"),
            (
                "generic.rules.validating.projectcapsule.dev",
                "/rules/generic/validating"
            ),
            ("rulestatus.validating.projectcapsule.dev", "/rulestatus/validating"),
            ("resourcepools.mutating.projectcapsule.dev", "/resourcepools/mutating"),
            (
                "resourcepools.validating.projectcapsule.dev",
                "/resourcepools/validating"
            ),
            (
                "resourcepoolclaims.mutating.projectcapsule.dev",
                "/resourcepools/claim/mutating"
            ),
            (
                "resourcepoolclaims.validating.projectcapsule.dev",
                "/resourcepools/claim/validating"
            ),
            (
                "globalresourcequotas.validating.projectcapsule.dev",
                "/global-resource-quotas/validating"
            ),
            (
                "calculation.global-resource-quotas.validating.projectcapsule.dev",
                "/global-resource-quotas/calculations"
            ),
            (
                "calculation.tenant-quotas.validating.cotenant.dev",
                "/tenant-quotas/calculations"
            ),
            (
                "calculation.custom-quotas.validating.projectcapsule.dev",
                "/custom-quotas/calculations"
            ),
            (
                "namespaced.custom-quotas.validating.projectcapsule.dev",
                "/custom-quotas/namespaced/validating"
            ),
            (
                "cluster.custom-quotas.validating.projectcapsule.dev",
                "/custom-quotas/cluster/validating"
            ),
            ("replications.validating.projectcapsule.dev", "/generic/replications"),
            (
                "scales.replications.validating.projectcapsule.dev",
                "/generic/replications/scales"
            ),
            (
                "mtenantcontrolplane.kb.io",
                "/mutate-kamaji-clastix-io-v1alpha1-tenantcontrolplane"
            ),
            (
                "vtenantcontrolplane.kb.io",
                "/validate-kamaji-clastix-io-v1alpha1-tenantcontrolplane"
            ),
            ("vdatastore.kb.io", "/validate-kamaji-clastix-io-v1alpha1-datastore"),
        ]
    );
}

/// Whether every condition of this rule about kinds asks about an object of this group, plural and name. What is sent stands
/// below `object`, since that is all that expressions of quotas know.
fn asks(rule: &str, group: &str, plural: &str, name: &str) -> bool {
    let rule = RULES.iter().find(|it| it.name == rule).unwrap();
    let sent = json!({"resource": {"group": group, "resource": plural}, "metadata": {"name": name}});
    rule.conditions.iter().all(|condition| match condition {
        Condition::Expression {
            name: "ignore-upkeep" | "ignore-events",
            expression,
        } => {
            let expression = expression.replace("request.resource.", "object.resource.");
            expressions::cel::Condition::new(&expression)
                .unwrap()
                .matches(&sent)
                .unwrap()
        }
        _ => true,
    })
}

#[test]
fn upkeep_is_told_by_its_group_and_counts_where_quotas_limit_it() {
    let upkeep = [
        ("", "events", "a"),
        ("events.k8s.io", "events", "a"),
        ("coordination.k8s.io", "leases", "a"),
        ("", "endpoints", "a"),
        ("discovery.k8s.io", "endpointslices", "a"),
        ("", "configmaps", "kube-root-ca.crt"),
        ("", "serviceaccounts", "default"),
    ];
    let generic = [
        "generic.rules.mutating.projectcapsule.dev",
        "generic.rules.validating.projectcapsule.dev",
    ];
    for (group, plural, name) in upkeep {
        for rule in generic {
            assert!(!asks(rule, group, plural, name), "{rule}: {group}/{plural}");
            assert!(asks(rule, "example.com", plural, name), "{rule}: {plural}");
        }
        for rule in [GLOBAL_QUOTAS.name, TENANT_QUOTAS.name] {
            assert!(asks(rule, group, plural, name), "{rule}: {group}/{plural}");
        }
    }
    for rule in generic {
        assert!(asks(rule, "", "configmaps", "settings"), "{rule}");
    }
    let cordoning = "cordoning.validating.projectcapsule.dev";
    assert!(!asks(cordoning, "", "events", "a") && !asks(cordoning, "events.k8s.io", "events", "a"));
    assert!(asks(cordoning, "example.com", "events", "a"));
}

#[test]
fn no_rule_stands_before_pods_of_which_nothing_is_asked_or_before_namespaces_of_nobody() {
    for rule in RULES {
        for target in rule.targets {
            let is_asked_for = rule.namespaces.iter().any(|r| matches!(r, Requirement::In(_, _)));
            assert!(!target.resources.contains(&"pods") || is_asked_for, "{}", rule.name);
            let is_catch_all = target
                .resources
                .iter()
                .any(|resource| matches!(*resource, "*" | "*/*" | "*/status"));
            let is_in = |requirements: &[Requirement]| requirements.iter().any(|r| matches!(r, Requirement::In(_, _)));
            let is_narrow = is_in(rule.namespaces) || is_in(rule.objects);
            let is_opted_in = !(rule.wanted)(&api::capsule::v1beta2::CapsuleConfigurationSpec::default());
            assert!(
                !is_catch_all || is_narrow || is_opted_in,
                "{} would meet every write of a tenant",
                rule.name
            );
            let is_ours = target.groups.iter().all(|group| group.ends_with("clastix.io"));
            // Or what the operator itself has marked.
            let is_in_tenants = !rule.namespaces.is_empty() || !rule.objects.is_empty();
            let is_about_namespaces = target.resources.contains(&"namespaces");
            assert!(
                is_ours || is_in_tenants || is_about_namespaces || is_opted_in,
                "{} would meet namespaces of nobody",
                rule.name
            );
        }
    }
}
