//! What runs in a tenant's namespace and how it is reached, through a real API server: pods, Services, Ingresses, Gateways,
//! devices; and Nodes. Every refusal stands beside the lawful thing that it must not hinder, and names the hook that said it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::collections::BTreeMap;

use api::capsule::v1beta2::Tenant;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::{TENANTS, configure, establish, served};
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;

/// Creates an object that is in no namespace.
async fn made<K>(client: &Client, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

/// The message of a refusal by this hook.
fn refused_by<T: std::fmt::Debug>(hook: &str, result: Result<T, kube::Error>) -> String {
    let (code, message) = refusal(result);
    assert!(
        code == 403 && message.contains(&format!("\"{hook}.projectcapsule.dev\"")),
        "{code}: {message}"
    );
    message
}

/// A tenant in whose namespace pods can be created: Kubernetes has made the account that they run as.
async fn stage_for_pods(spec: Value) -> Stage {
    let stage = stage(spec).await;
    let accounts = Api::<ServiceAccount>::namespaced(stage.masters.clone(), &stage.namespace);
    until("the default account", async || {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    stage
}

fn pod(more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": unique("pod")}, "spec": {
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent"}]}});
    json_patch::merge(&mut pod["spec"], &more);
    pod
}

fn of_image(image: &str, policy: &str) -> Value {
    json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}]})
}

#[tokio::test]
async fn images_come_from_the_registries_of_the_tenant_by_every_way_into_a_pod() {
    let stage = stage_for_pods(json!({
        "containerRegistries": {"allowed": ["registry.k8s.io"]}, "imagePullPolicies": ["IfNotPresent"]}))
    .await;
    let foreign = "ghcr.io/a/b:1";
    // Whoever asks: pods of Deployments are made by Kubernetes' controllers.
    for client in [&stage.owner, &stage.masters] {
        let created = stage
            .create::<Pod>(client, pod(of_image(foreign, "IfNotPresent")))
            .await;
        let message = refused_by("pods.validating", created);
        assert!(
            message.contains("spec.containers[0].image: Container image ghcr.io/a/b:1 registry"),
            "{message}"
        );
    }
    let always = stage
        .create::<Pod>(&stage.owner, pod(of_image("registry.k8s.io/pause:3.10", "Always")))
        .await;
    let message = refused_by("pods.validating", always);
    assert!(message.contains("ImagePullPolicy Always for container c"), "{message}");
    let in_init = pod(json!({"initContainers": [{"name": "i", "image": foreign, "imagePullPolicy": "IfNotPresent"}]}));
    refused_by("pods.validating", stage.create::<Pod>(&stage.owner, in_init).await);
    let in_volume =
        pod(json!({"volumes": [{"name": "v", "image": {"reference": foreign, "pullPolicy": "IfNotPresent"}}]}));
    refused_by("pods.validating", stage.create::<Pod>(&stage.owner, in_volume).await);

    let lawful: Pod = stage.create(&stage.owner, pod(json!({}))).await.unwrap();
    let (api, name) = (
        Api::<Pod>::namespaced(stage.owner.clone(), &stage.namespace),
        lawful.name_any(),
    );
    let strategic = |spec: Value| Patch::Strategic(json!({"spec": spec}));
    let (image, params) = (
        json!({"containers": [{"name": "c", "image": foreign}]}),
        PatchParams::default(),
    );
    refused_by("pods.validating", api.patch(&name, &params, &strategic(image)).await);
    let image = json!({"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.9"}]});
    api.patch(&name, &params, &strategic(image)).await.unwrap();
    let ephemeral = |image: &str| {
        strategic(json!({"ephemeralContainers": [{"name": "e", "image": image, "imagePullPolicy": "IfNotPresent"}]}))
    };
    refused_by(
        "pods.validating",
        api.patch_ephemeral_containers(&name, &params, &ephemeral(foreign))
            .await,
    );
    let debugged = api
        .patch_ephemeral_containers(&name, &params, &ephemeral("registry.k8s.io/busybox:1"))
        .await;
    debugged.unwrap();

    let events = Api::<Event>::namespaced(stage.masters.clone(), &stage.namespace);
    let event = until("an Event", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        events
            .items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("ForbiddenContainerRegistry"))
    })
    .await;
    assert_eq!(
        event.reporting_controller.as_deref(),
        Some("controller.projectcapsule.dev")
    );
    assert_eq!(event.labels().get("projectcapsule.dev/tenant"), Some(&stage.tenant));
}

#[tokio::test]
async fn pods_of_a_tenant_that_asks_nothing_of_them_meet_no_hook() {
    let stage = stage_for_pods(json!({})).await;
    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    let marks = async || {
        let labels = namespaces.get(&stage.namespace).await.unwrap().labels().clone();
        let marks = labels.into_keys().filter(|key| key.starts_with("cotenant.dev/"));
        marks.collect::<Vec<_>>()
    };
    assert_eq!(marks().await, [""; 0]);
    stage
        .create::<Pod>(&stage.owner, pod(of_image("ghcr.io/a/b:1", "Always")))
        .await
        .unwrap();
    // Once it asks, the next write of the namespace marks it, and its owner cannot take the mark off.
    let asks = json!({"spec": {"containerRegistries": {"allowed": ["registry.k8s.io"]}}});
    Api::<Tenant>::all(stage.masters.clone())
        .patch(&stage.tenant, &PatchParams::default(), &Patch::Merge(asks))
        .await
        .unwrap();
    let write = || json!({"metadata": {"labels": {"cotenant.dev/pod-validation": null, "mine": unique("x")}}});
    until("the mark", async || {
        namespaces
            .patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(write()))
            .await
            .unwrap();
        (marks().await == ["cotenant.dev/pod-validation"]).then_some(())
    })
    .await;
    namespaces
        .patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(write()))
        .await
        .unwrap();
    assert_eq!(marks().await, ["cotenant.dev/pod-validation"]);
    until("a refusal", async || {
        let created = stage
            .create::<Pod>(&stage.owner, pod(of_image("ghcr.io/a/b:1", "Always")))
            .await;
        created
            .err()
            .map(|error| refused_by::<()>("pods.validating", Err(error)))
    })
    .await;
}

#[tokio::test]
async fn pods_have_the_classes_of_the_tenant() {
    let masters = served().await.server.client().await;
    let (usual, low, high) = (unique("usual"), unique("low"), unique("high"));
    for (name, value) in [(&usual, 10), (&low, 1), (&high, 100)] {
        let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"});
        made::<PriorityClass>(&masters, class).await;
    }
    let (kata, runc) = (unique("kata"), unique("runc"));
    for (name, memory) in [(&kata, "64Mi"), (&runc, "1Mi")] {
        let class = json!({"metadata": {"name": name, "labels": {"sandbox": name}}, "handler": "h",
            "overhead": {"podFixed": {"memory": memory}}});
        made::<RuntimeClass>(&masters, class).await;
    }
    let stage = stage_for_pods(json!({
        "priorityClasses": {"allowed": [&low], "default": &usual},
        "runtimeClasses": {"default": &kata, "matchLabels": {"sandbox": &kata}}}))
    .await;
    let defaulted: Pod = until("the classes", async || {
        stage.create(&stage.owner, pod(json!({}))).await.ok()
    })
    .await;
    let spec = defaulted.spec.unwrap();
    assert_eq!(
        (
            spec.priority_class_name.as_ref(),
            spec.priority,
            spec.preemption_policy.as_deref()
        ),
        (Some(&usual), Some(10), Some("Never"))
    );
    assert_eq!(spec.runtime_class_name.as_ref(), Some(&kata));
    assert_eq!(spec.overhead.unwrap()["memory"].0, "64Mi");

    let message = refused_by(
        "pods.validating",
        stage
            .create::<Pod>(&stage.owner, pod(json!({"priorityClassName": high})))
            .await,
    );
    assert!(
        message.contains("spec.priorityClassName: Pod Priority Class") && message.contains(&low),
        "{message}"
    );
    let message = refused_by(
        "pods.validating",
        stage
            .create::<Pod>(&stage.owner, pod(json!({"runtimeClassName": runc})))
            .await,
    );
    assert!(
        message.contains("spec.runtimeClassName: Pod Runtime Class"),
        "{message}"
    );
    let named: Pod = stage
        .create(&stage.owner, pod(json!({"priorityClassName": low})))
        .await
        .unwrap();
    assert_eq!(named.spec.unwrap().priority, Some(1));
}

#[tokio::test]
async fn a_default_priority_class_that_is_missing_is_the_administrators_fault() {
    let stage = stage_for_pods(json!({"priorityClasses": {"default": "there-is-none"}})).await;
    let (code, message) = refusal(stage.create::<Pod>(&stage.owner, pod(json!({}))).await);
    assert_eq!(code, 500);
    assert!(
        message.contains("there is no Priority Class \"there-is-none\""),
        "{message}"
    );
}

#[tokio::test]
async fn services_are_of_the_types_addresses_and_marks_of_the_tenant() {
    let stage = stage(json!({"serviceOptions": {
        "allowedServices": {"nodePort": false},
        "externalIPs": {"allowed": ["192.0.2.0/24"]},
        "forbiddenAnnotations": {"deniedRegex": "^lb\\."}}}))
    .await;
    let service = |metadata: Value, spec: Value| {
        let mut service = json!({"metadata": {"name": unique("service")}, "spec": {"ports": [{"port": 80}]}});
        json_patch::merge(&mut service["metadata"], &metadata);
        json_patch::merge(&mut service["spec"], &spec);
        service
    };
    let ports = service(json!({}), json!({"type": "NodePort"}));
    let message = refused_by(
        "services.validating",
        stage.create::<Service>(&stage.owner, ports).await,
    );
    assert!(
        message.contains("NodePort service types are forbidden for the tenant"),
        "{message}"
    );
    let address = service(json!({}), json!({"externalIPs": ["198.51.100.7"]}));
    let message = refused_by(
        "services.validating",
        stage.create::<Service>(&stage.owner, address).await,
    );
    assert!(
        message.contains("spec.externalIPs[0]") && message.contains("192.0.2.0/24"),
        "{message}"
    );
    let marked = service(json!({"annotations": {"lb.public": "true"}}), json!({}));
    let message = refused_by(
        "services.validating",
        stage.create::<Service>(&stage.owner, marked).await,
    );
    assert!(
        message.contains("lb.public is forbidden for the current Tenant"),
        "{message}"
    );

    let lawful = service(
        json!({"annotations": {"note": "x"}}),
        json!({"externalIPs": ["192.0.2.7"]}),
    );
    let made: Service = stage.create(&stage.owner, lawful).await.unwrap();
    let api = Api::<Service>::namespaced(stage.owner.clone(), &stage.namespace);
    let patch = async |patch: Value| {
        api.patch(&made.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
    };
    refused_by(
        "services.validating",
        patch(json!({"spec": {"type": "NodePort"}})).await,
    );
    patch(json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
}

fn ingress(name: &str, host: &str, path: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"rules": [{"host": host, "http": {"paths": [
        {"path": path, "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
}

#[tokio::test]
async fn a_hostname_is_there_once_in_the_scope_of_the_tenant() {
    let host = format!("{}.example.com", unique("a"));
    let other = stage(json!({})).await;
    other
        .create::<Ingress>(&other.owner, ingress("first", &host, "/"))
        .await
        .unwrap();
    let scoped = stage(json!({"ingressOptions": {"hostnameCollisionScope": "Cluster"}})).await;
    let message = refused_by(
        "ingress.validating",
        scoped
            .create::<Ingress>(&scoped.owner, ingress("second", &host, "/"))
            .await,
    );
    assert!(message.contains("is already used across the cluster"), "{message}");
    assert!(!message.contains(&other.tenant), "{message}");
    let made: Ingress = scoped
        .create(&scoped.owner, ingress("second", &host, "/api"))
        .await
        .unwrap();
    // Its own hostname is no obstacle to a change, another's is.
    let api = Api::<Ingress>::namespaced(scoped.owner.clone(), &scoped.namespace);
    let patch = async |patch: Value| {
        api.patch(&made.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
    };
    patch(json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    refused_by(
        "ingress.validating",
        patch(json!({"spec": ingress("x", &host, "/")["spec"]})).await,
    );
    // A namespace of its own is all that this one looks at.
    let small = stage(json!({"ingressOptions": {"hostnameCollisionScope": "Namespace"}})).await;
    small
        .create::<Ingress>(&small.owner, ingress("third", &host, "/"))
        .await
        .unwrap();
    refused_by(
        "ingress.validating",
        small
            .create::<Ingress>(&small.owner, ingress("fourth", &host, "/"))
            .await,
    );
}

#[tokio::test]
async fn of_many_ingresses_at_once_one_gets_the_hostname() {
    let stage = stage(json!({"ingressOptions": {"hostnameCollisionScope": "Tenant"}})).await;
    let host = format!("{}.example.com", unique("a"));
    let created = join_all((0..8).map(|number| {
        let (stage, host) = (&stage, &host);
        async move {
            stage
                .create::<Ingress>(&stage.owner, ingress(&format!("i{number}"), host, "/"))
                .await
        }
    }))
    .await;
    let passed = created.iter().filter(|created| created.is_ok()).count();
    assert_eq!(passed, 1);
    for refused in created.into_iter().filter(Result::is_err) {
        refused_by("ingress.validating", refused);
    }
}

#[tokio::test]
async fn devices_are_of_the_classes_of_the_tenant() {
    let masters = served().await.server.client().await;
    let (gpu, fpga) = (unique("gpu"), unique("fpga"));
    for name in [&gpu, &fpga] {
        made::<DeviceClass>(
            &masters,
            json!({"metadata": {"name": name, "labels": {"kind": name}}, "spec": {}}),
        )
        .await;
    }
    let stage = stage(json!({"deviceClasses": {"matchLabels": {"kind": &gpu}}})).await;
    let exactly = |class: &str| json!({"name": unique("r"), "exactly": {"deviceClassName": class}});
    let claim =
        |requests: Value| json!({"metadata": {"name": unique("claim")}, "spec": {"devices": {"requests": requests}}});
    let second = claim(json!([exactly(&gpu), exactly(&fpga)]));
    let message = refused_by(
        "devices.validating",
        stage.create::<ResourceClaim>(&stage.owner, second).await,
    );
    assert!(
        message.contains("spec.devices.requests[1].exactly.deviceClassName"),
        "{message}"
    );
    let alternative = json!([{"name": "r", "firstAvailable": [
        {"name": "a", "deviceClassName": gpu}, {"name": "b", "deviceClassName": fpga}]}]);
    refused_by(
        "devices.validating",
        stage.create::<ResourceClaim>(&stage.owner, claim(alternative)).await,
    );
    refused_by(
        "devices.validating",
        stage
            .create::<ResourceClaim>(&stage.owner, claim(json!([exactly("there-is-none")])))
            .await,
    );
    let template = |requests: Value| json!({"metadata": {"name": unique("t")}, "spec": {"spec": {"devices": {"requests": requests}}}});
    let foreign = template(json!([exactly(&fpga)]));
    refused_by(
        "devices.validating",
        stage.create::<ResourceClaimTemplate>(&stage.owner, foreign).await,
    );

    stage
        .create::<ResourceClaim>(&stage.owner, claim(json!([exactly(&gpu)])))
        .await
        .unwrap();
    stage
        .create::<ResourceClaimTemplate>(&stage.owner, template(json!([exactly(&gpu)])))
        .await
        .unwrap();
}

fn of_gateway_api(kind: &str, plural: &str, scope: &str) -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.gateway.networking.k8s.io"), "annotations": {
            "api-approved.kubernetes.io": "unapproved, as far as it goes in a test"}},
        "spec": {"group": "gateway.networking.k8s.io", "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}))
    .unwrap()
}

fn gateway_api(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

#[tokio::test]
async fn gateways_are_of_the_classes_of_the_tenant() {
    let masters = served().await.server.client().await;
    let classes = of_gateway_api("GatewayClass", "gatewayclasses", "Cluster");
    for definition in [classes, of_gateway_api("Gateway", "gateways", "Namespaced")] {
        establish(&masters, &definition).await;
    }
    let (resource, classes) = (
        gateway_api("Gateway", "gateways"),
        gateway_api("GatewayClass", "gatewayclasses"),
    );
    let (public, internal) = (unique("public"), unique("internal"));
    for name in [&public, &internal] {
        let class = DynamicObject::new(name, &classes).data(json!({"spec": {"controllerName": "example.com/none"}}));
        let api = Api::<DynamicObject>::all_with(masters.clone(), &classes);
        until("a class", async || {
            api.create(&PostParams::default(), &class).await.ok()
        })
        .await;
    }
    let stage =
        stage(json!({"gatewayOptions": {"allowedClasses": {"allowed": ["there-is-none"], "default": &public}}})).await;
    let api = Api::<DynamicObject>::namespaced_with(stage.owner.clone(), &stage.namespace, &resource);
    let create = async |class: Option<&str>| {
        let spec = class.map_or(
            json!({"listeners": []}),
            |class| json!({"gatewayClassName": class, "listeners": []}),
        );
        let gateway = DynamicObject::new(&unique("gateway"), &resource).data(json!({"spec": spec}));
        api.create(&PostParams::default(), &gateway).await
    };
    let message = refused_by("gateway.validating", create(Some(&internal)).await);
    assert!(
        message.contains("Gateway Class") && message.contains(&public),
        "{message}"
    );
    let message = refused_by("gateway.validating", create(Some("there-is-none")).await);
    assert!(message.contains("there is no Gateway Class there-is-none"), "{message}");
    let defaulted = create(None).await.unwrap();
    assert_eq!(defaulted.data["spec"]["gatewayClassName"], json!(public));
    let move_it = json!({"spec": {"gatewayClassName": internal}});
    let moved = api
        .patch(&defaulted.name_any(), &PatchParams::default(), &Patch::Merge(move_it))
        .await;
    refused_by("gateway.validating", moved);
    let note = json!({"metadata": {"labels": {"a": "b"}}});
    api.patch(&defaulted.name_any(), &PatchParams::default(), &Patch::Merge(note))
        .await
        .unwrap();
}

#[tokio::test]
async fn tenant_users_leave_the_marks_of_nodes_alone_that_are_not_theirs() {
    let server = served().await.server;
    let masters = server.client().await;
    let name = unique("node");
    made::<Node>(&masters, json!({"metadata": {"name": name, "labels": {"pool": "oil"}}})).await;
    let alice = server.client_for("alice", &TENANTS).await;
    let label = async |client: &Client, labels: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        Api::<Node>::all(client.clone())
            .patch(&name, &PatchParams::default(), &patch)
            .await
    };
    // Without a limit in the configuration nobody is asked.
    label(&alice, json!({"pool": "gas"})).await.unwrap();
    configure(
        &masters,
        json!({"nodeMetadata": {"forbiddenLabels": {"denied": ["pool"]}}}),
    )
    .await;
    let message = until("the hook", async || {
        let labelled = label(&alice, json!({"pool": unique("oil")})).await;
        labelled
            .err()
            .map(|error| refused_by::<()>("nodes.validating", Err(error)))
    })
    .await;
    assert!(
        message.contains("Unable to update node as some labels are marked as forbidden"),
        "{message}"
    );
    refused_by("nodes.validating", label(&alice, json!({"pool": null})).await);
    label(&alice, json!({"mine": "x"})).await.unwrap();
    label(&masters, json!({"pool": "sun"})).await.unwrap();
    let adam = server.client_for("adam", &["ordinary"]).await;
    label(&adam, json!({"pool": "wind"})).await.unwrap();
}

#[tokio::test]
async fn every_object_of_a_tenant_carries_its_name() {
    let stage = stage(json!({})).await;
    let labels = |map: &ConfigMap| {
        let of = |key: &str| map.labels().get(key).cloned();
        (of("capsule.clastix.io/managed-by"), of("projectcapsule.dev/tenant"))
    };
    let expected = (Some(stage.tenant.clone()), Some(stage.tenant.clone()));
    let forged =
        || json!({"metadata": {"name": unique("map"), "labels": {"projectcapsule.dev/tenant": "gas", "app": "web"}}});
    until("the policy", async || {
        let made: ConfigMap = stage.create(&stage.owner, forged()).await.unwrap();
        (labels(&made) == expected).then_some(())
    })
    .await;
    let plain: ConfigMap = stage
        .create(&stage.owner, json!({"metadata": {"name": "plain"}}))
        .await
        .unwrap();
    assert_eq!(labels(&plain), expected);
    let made: ConfigMap = stage.create(&stage.masters, forged()).await.unwrap();
    assert_eq!(labels(&made), expected);
    assert_eq!(made.labels().get("app").map(String::as_str), Some("web"));
    let take_off = json!({"metadata": {"labels": null}});
    let api = Api::<ConfigMap>::namespaced(stage.owner.clone(), &stage.namespace);
    let left = api
        .patch("plain", &PatchParams::default(), &Patch::Merge(take_off))
        .await
        .unwrap();
    assert_eq!(labels(&left), expected);
    // Of the kinds that the operator keeps, too, and what Kubernetes' own controllers make from tenants' templates: those
    // may mark things as kept.
    let names = |labels: &BTreeMap<String, String>| {
        ["capsule.clastix.io/managed-by", "projectcapsule.dev/tenant"].map(|key| labels.get(key).cloned())
    };
    let policy: NetworkPolicy = stage
        .create(
            &stage.owner,
            json!({"metadata": forged()["metadata"], "spec": {"podSelector": {}}}),
        )
        .await
        .unwrap();
    assert_eq!(names(policy.labels()), [expected.0.clone(), expected.1.clone()]);
    let controller = served().await.server;
    let controller = controller
        .client_for(
            "system:serviceaccount:kube-system:replicaset-controller",
            &["system:masters"],
        )
        .await;
    let mut marked = forged();
    marked["metadata"]["labels"]["projectcapsule.dev/managed-by"] = json!("controller");
    let made: ConfigMap = stage.create(&controller, marked).await.unwrap();
    assert_eq!(labels(&made), expected);
    let free: ConfigMap = serde_json::from_value(forged()).unwrap();
    let free = Api::<ConfigMap>::namespaced(stage.masters.clone(), "default")
        .create(&PostParams::default(), &free)
        .await
        .unwrap();
    assert_eq!(labels(&free), (None, Some("gas".to_owned())));
}
