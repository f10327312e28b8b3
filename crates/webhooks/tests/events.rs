//! Events of admission, through a real API server: each refusal has the reason by which people find it, and stands where the
//! configuration says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::{configure, served};
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;

/// A tenant in whose namespace pods can be created.
async fn stage_for_pods(spec: Value) -> Stage {
    let stage = stage(spec).await;
    stage.has_account().await;
    stage
}

/// Creates an object that says its kind, in the namespace.
async fn try_to_create(client: &Client, namespace: &str, object: &Value) -> Result<DynamicObject, kube::Error> {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    Api::namespaced_with(client.clone(), namespace, &resource)
        .create(&PostParams::default(), &object)
        .await
}

/// Reasons of Events in a namespace about this tenant, of one type.
async fn reasons(client: &Client, namespace: &str, tenant: &str, kind: &str) -> BTreeSet<String> {
    let labelled = ListParams::default().labels(&format!("projectcapsule.dev/tenant={tenant}"));
    let events = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&labelled)
        .await;
    let events = events.unwrap().items.into_iter();
    let ours = events.filter(|event| event.reporting_controller.as_deref() == Some("controller.projectcapsule.dev"));
    ours.filter(|event| event.type_.as_deref() == Some(kind))
        .filter_map(|event| event.reason)
        .collect()
}

/// Each of these is refused to the owner, and told about with its reason.
async fn are_refused_with_reasons(stage: &Stage, attempts: &[(&str, Value)]) {
    for (reason, object) in attempts {
        let attempt = try_to_create(&stage.owner, &stage.namespace, object).await;
        assert!(matches!(attempt, Err(kube::Error::Api(_))), "{reason}: {attempt:?}");
    }
    let expected: BTreeSet<String> = attempts.iter().map(|(reason, _)| (*reason).to_owned()).collect();
    let mut last = BTreeSet::new();
    until(&format!("the reasons {expected:?}"), async || {
        let found = reasons(&stage.masters, &stage.namespace, &stage.tenant, "Warning").await;
        if found != last {
            eprintln!("told so far: {found:?}");
            last.clone_from(&found);
        }
        (found == expected).then_some(())
    })
    .await;
}

fn pod(spec: Value) -> Value {
    let container = json!([{"name": "c", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent"}]);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": unique("pod")}, "spec": {"containers": container}});
    json_patch::merge(&mut pod["spec"], &spec);
    pod
}

fn of_image(image: &str, policy: &str) -> Value {
    pod(json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}]}))
}

fn service(metadata: Value, spec: Value) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": unique("service")},
        "spec": {"ports": [{"port": 80}]}});
    json_patch::merge(&mut service["metadata"], &metadata);
    json_patch::merge(&mut service["spec"], &spec);
    service
}

fn ingress(class: Option<&str>, host: &str) -> Value {
    let path =
        json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": unique("ingress")},
        "spec": {"ingressClassName": class, "rules": [{"host": host, "http": {"paths": [path]}}]}})
}

fn claim(more: Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": unique("claim")},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    json_patch::merge(&mut claim["spec"], &more);
    claim
}

#[tokio::test]
async fn refusals_in_a_namespace_are_told_with_the_reasons_that_people_know() {
    let masters = served().await.server.client().await;
    let runc = unique("runc");
    let class: RuntimeClass = serde_json::from_value(json!({"metadata": {"name": runc}, "handler": "h"})).unwrap();
    Api::all(masters).create(&PostParams::default(), &class).await.unwrap();
    let workloads = stage_for_pods(json!({
        "containerRegistries": {"allowed": ["registry.k8s.io"]}, "imagePullPolicies": ["IfNotPresent"],
        "priorityClasses": {"allowed": ["low"]}, "runtimeClasses": {"allowed": ["kata"]},
        "storageClasses": {"allowed": ["gold"]}, "deviceClasses": {"allowed": ["gpu"]}}))
    .await;
    let device = |class: &str| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": unique("claim")},
            "spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": class}}]}}})
    };
    let attempts = [
        ("ForbiddenContainerRegistry", of_image("ghcr.io/a/b:1", "IfNotPresent")),
        ("ForbiddenPullPolicy", of_image("registry.k8s.io/pause:3.10", "Always")),
        (
            "ForbiddenPriorityClass",
            pod(json!({"priorityClassName": "system-node-critical"})),
        ),
        ("ForbiddenRuntimeClass", pod(json!({"runtimeClassName": runc}))),
        ("MissingStorageClass", claim(json!({}))),
        ("ForbiddenStorageClass", claim(json!({"storageClassName": "iron"}))),
        (
            "CrossTenantReference",
            claim(json!({"storageClassName": "gold", "volumeName": "there-is-none"})),
        ),
        ("MissingDeviceClass", device("there-is-none")),
    ];
    are_refused_with_reasons(&workloads, &attempts).await;

    let traffic = stage(json!({
        "serviceOptions": {
            "allowedServices": {"nodePort": false, "externalName": false, "loadBalancer": false},
            "externalIPs": {"allowed": []}, "forbiddenLabels": {"denied": ["bad"]},
            "forbiddenAnnotations": {"denied": ["bad"]}},
        "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "allowedHostnames": {"allowedRegex": "example.com$"}}}))
    .await;
    let attempts = [
        ("ForbiddenNodePort", service(json!({}), json!({"type": "NodePort"}))),
        (
            "ForbiddenLoadBalancer",
            service(json!({}), json!({"type": "LoadBalancer"})),
        ),
        (
            "ForbiddenExternalName",
            service(json!({}), json!({"type": "ExternalName", "externalName": "a.b"})),
        ),
        (
            "ForbiddenExternalServiceIP",
            service(json!({}), json!({"externalIPs": ["192.0.2.1"]})),
        ),
        ("ForbiddenLabel", service(json!({"labels": {"bad": "x"}}), json!({}))),
        (
            "ForbiddenAnnotation",
            service(json!({"annotations": {"bad": "x"}}), json!({})),
        ),
        ("MissingIngressClass", ingress(None, "a.example.com")),
        ("ForbiddenIngressClass", ingress(Some("traefik"), "a.example.com")),
        ("IngressHostnameNotValid", ingress(Some("nginx"), "example.org")),
        ("IngressHostnameEmpty", ingress(Some("nginx"), "")),
        ("WildcardDenied", ingress(Some("nginx"), "*.example.com")),
        (
            "ReasonPromotionDenied",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot",
                "labels": {"owner.projectcapsule.dev/promote": "true"}}}),
        ),
    ];
    are_refused_with_reasons(&traffic, &attempts).await;
}

#[tokio::test]
async fn rules_are_told_about_with_the_reasons_that_people_know() {
    let deny = |enforce: Value| {
        let mut rule = json!({"action": "deny"});
        json_patch::merge(&mut rule, &enforce);
        json!({ "enforce": rule })
    };
    let stage = stage_for_pods(json!({"rules": [
        deny(json!({"workloads": {"schedulers": [{"exact": ["bad"]}]}})),
        deny(json!({"workloads": {"qosClasses": ["Guaranteed"]}})),
        deny(json!({"services": {"types": ["NodePort"]}})),
        deny(json!({"ingress": {"types": ["Ingress"], "hostnames": [{"exact": ["bad.example.com"]}]}})),
        deny(json!({"metadata": [{"kinds": ["ConfigMap"], "labels": {"team": {"values": [{"exact": ["bad"]}]}}}]})),
        {"enforce": {"action": "audit", "workloads": {"schedulers": [{"exact": ["odd"]}]}}},
    ]}))
    .await;
    let even = json!({"cpu": "1", "memory": "1Mi"});
    let guaranteed = json!([{"name": "c", "image": "a", "resources": {"requests": even, "limits": even}}]);
    let attempts = [
        ("ForbiddenScheduler", pod(json!({"schedulerName": "bad"}))),
        ("ForbiddenQoSClass", pod(json!({"containers": guaranteed}))),
        ("ForbiddenServiceType", service(json!({}), json!({"type": "NodePort"}))),
        ("ForbiddenIngressHostname", ingress(None, "bad.example.com")),
        (
            "ForbiddenMetadata",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map", "labels": {"team": "bad"}}}),
        ),
    ];
    are_refused_with_reasons(&stage, &attempts).await;
    try_to_create(&stage.owner, &stage.namespace, &pod(json!({"schedulerName": "odd"})))
        .await
        .unwrap();
    until("the record", async || {
        let told = reasons(&stage.masters, &stage.namespace, &stage.tenant, "Normal").await;
        (told == BTreeSet::from(["NamespaceRuleAudit".to_owned()])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_about_namespaces_are_where_the_configuration_says() {
    let stage = stage(json!({
        "namespaceOptions": {"quota": 1}, "forceTenantPrefix": true, "nodeSelector": {"pool": "oil"},
        "storageClasses": {"default": "gold"}}))
    .await;
    // The namespace was made before: where Events are is asked anew for each.
    let assigned = |home: &'static str| {
        let stage = &stage;
        async move {
            until(&format!("the Event in {home}"), async || {
                let told = reasons(&stage.masters, home, &stage.tenant, "Normal").await;
                told.contains("TenantAssigned").then_some(())
            })
            .await;
        }
    };
    assigned("default").await;
    configure(&stage.masters, json!({"events": {"namespace": "cotenant-system"}})).await;

    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    let create = async |name: String| {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        refusal(namespaces.create(&PostParams::default(), &namespace).await)
    };
    let events = Api::<Event>::namespaced(stage.masters.clone(), "cotenant-system");
    let event = until("an Event in the namespace that is configured", async || {
        // Until the hooks have heard of it, Events are still in the other one.
        create(format!("{}-more", stage.tenant)).await;
        let found = events.list(&ListParams::default()).await.unwrap().items;
        found
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("Overprovisioned"))
    })
    .await;
    let regarding = event.regarding.unwrap();
    assert_eq!(
        (regarding.kind.as_deref(), regarding.namespace.as_deref()),
        (Some("Namespace"), Some("cotenant-system"))
    );
    assert_eq!(event.action.as_deref(), Some("ValidationDenied"));
    assert_eq!(event.reporting_instance.as_deref(), Some("capsule-admission"));

    create(unique("without-prefix")).await;
    let patch = async |metadata: Value| {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        refusal(
            namespaces
                .patch(&stage.namespace, &PatchParams::default(), &patch)
                .await,
        )
    };
    patch(json!({"labels": {"capsule.clastix.io/tenant": null}, "ownerReferences": null})).await;
    // A default is a change that nobody asked for, so it is told as well, beside its object.
    try_to_create(&stage.owner, &stage.namespace, &claim(json!({})))
        .await
        .unwrap();
    until("the reasons", async || {
        let told = reasons(&stage.masters, "cotenant-system", &stage.tenant, "Warning").await;
        let unnamed = events.list(&ListParams::default()).await.unwrap().items;
        let all: BTreeSet<String> = unnamed
            .into_iter()
            .filter_map(|event| event.reason)
            .chain(told)
            .collect();
        let expected = ["Overprovisioned", "InvalidTenantPrefix", "ReasonNamespacePatch"];
        expected.iter().all(|reason| all.contains(*reason)).then_some(())
    })
    .await;
    until("the default", async || {
        let told = reasons(&stage.masters, &stage.namespace, &stage.tenant, "Normal").await;
        (told == BTreeSet::from(["TenantDefaulted".to_owned()])).then_some(())
    })
    .await;
    configure(&stage.masters, json!({})).await;
}
