//! The rules of a tenant, through a real API server. Every refusal stands beside the lawful thing that it must not hinder, and
//! names the hook that said it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::fmt::Debug;

use api::capsule::v1beta2::{RuleStatus, Tenant};
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::hijack::refusal;
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;

/// The message of a refusal by this hook.
fn refused_by<T: Debug>(hook: &str, result: Result<T, kube::Error>) -> String {
    let (code, message) = refusal(result);
    assert!(
        code == 403 && message.contains(&format!("\"{hook}.projectcapsule.dev\"")),
        "{code}: {message}"
    );
    message
}

/// A tenant with these rules, in whose namespace pods can be created: Kubernetes has made the account that they run as.
async fn stage_with(rules: Value) -> Stage {
    let stage = stage(json!({ "rules": rules })).await;
    let accounts = Api::<ServiceAccount>::namespaced(stage.masters.clone(), &stage.namespace);
    until("the default account", async || {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    stage
}

/// One rule that enforces this.
fn rule(enforce: Value) -> Value {
    json!([{ "enforce": enforce }])
}

fn pod(more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": unique("pod")}, "spec": {
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent"}]}});
    json_patch::merge(&mut pod, &more);
    pod
}

fn of_image(image: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]}})
}

fn scheduled_by(scheduler: &str) -> Value {
    pod(json!({"spec": {"schedulerName": scheduler}}))
}

fn with_cpu(request: &str, limit: &str) -> Value {
    pod(
        json!({"spec": {"containers": [{"name": "c", "image": "a", "resources": {
        "requests": {"cpu": request}, "limits": {"cpu": limit}}}]}}),
    )
}

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": unique("svc")}, "spec": {"ports": [{"port": 80}]}});
    json_patch::merge(&mut service["spec"], &spec);
    service
}

fn ingress(host: &str) -> Value {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    json!({"metadata": {"name": unique("ing")}, "spec": {"rules": [{"host": host, "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": backend}]}}]}})
}

fn map(labels: Value) -> Value {
    json!({"metadata": {"name": unique("map"), "labels": labels}})
}

/// The owner may not create the one, and may the other.
async fn one_and_not_the_other<K>(hook: &str, word: &str, rules: Value, refused: Value, lawful: Value)
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let stage = stage_with(rules).await;
    let message = refused_by(hook, stage.create::<K>(&stage.owner, refused).await);
    assert!(message.contains(word), "{message}");
    assert!(message.contains("spec.rules[0] of the Tenant"), "{message}");
    stage.create::<K>(&stage.owner, lawful).await.unwrap();
}

#[tokio::test]
async fn what_runs_is_held_to_the_rules_about_workloads() {
    let workloads = |action: &str, rules: Value| rule(json!({"action": action, "workloads": rules}));
    let hook = "pods.validating";
    join_all(vec![
        one_and_not_the_other::<Pod>(
            hook,
            "at containers[0]",
            workloads("allow", json!({"registries": [{"exp": "^registry.k8s.io/"}]})),
            pod(of_image("ghcr.io/a/b:1")),
            pod(json!({})),
        ),
        one_and_not_the_other::<Pod>(
            hook,
            "scheduler \"mine\" at spec.schedulerName",
            workloads("deny", json!({"schedulers": [{"exact": ["mine"]}]})),
            scheduled_by("mine"),
            scheduled_by("theirs"),
        ),
        one_and_not_the_other::<Pod>(
            hook,
            "QoS class \"BestEffort\"",
            workloads("deny", json!({"qosClasses": ["BestEffort"]})),
            pod(json!({})),
            with_cpu("1", "2"),
        ),
        one_and_not_the_other::<Pod>(
            hook,
            "limit 4 must not exceed 2 (request 1 x ratio 2)",
            workloads(
                "allow",
                json!({"resources": {"limits": {"cpu": {"policy": "Ratio", "value": "2"}}}}),
            ),
            with_cpu("1", "4"),
            with_cpu("1", "2"),
        ),
        one_and_not_the_other::<Pod>(
            hook,
            "metadata.labels[\"team\"]",
            rule(json!({"action": "allow", "metadata": [{"kinds": ["Pod"], "labels": {"team": {"required": true}}}]})),
            pod(json!({})),
            pod(json!({"metadata": {"labels": {"team": "a"}}})),
        ),
    ])
    .await;
}

#[tokio::test]
async fn services_and_hostnames_are_held_to_the_rules_about_them() {
    let services = |action: &str, rules: Value| rule(json!({"action": action, "services": rules}));
    let hook = "services.validating";
    join_all(vec![
        one_and_not_the_other::<Service>(
            hook,
            "service type \"NodePort\"",
            services("deny", json!({"types": ["NodePort"]})),
            service(json!({"type": "NodePort"})),
            service(json!({"type": "ClusterIP"})),
        ),
        one_and_not_the_other::<Service>(
            hook,
            "spec.loadBalancerSourceRanges[0]",
            services("allow", json!({"loadBalancers": {"cidrs": ["10.0.0.0/8"]}})),
            service(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]})),
            service(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.1.0.0/16"]})),
        ),
        one_and_not_the_other::<Service>(
            hook,
            "externalName hostname",
            services(
                "allow",
                json!({"externalNames": {"hostnames": [{"exp": "\\.example\\.com$"}]}}),
            ),
            service(json!({"type": "ExternalName", "externalName": "db.example.org"})),
            service(json!({"type": "ExternalName", "externalName": "db.example.com"})),
        ),
        one_and_not_the_other::<Service>(
            hook,
            "spec.ports",
            services("allow", json!({"nodePorts": {"ports": [{"from": 30000, "to": 30001}]}})),
            service(json!({"type": "NodePort"})),
            service(json!({"type": "ClusterIP"})),
        ),
    ])
    .await;
    one_and_not_the_other::<Ingress>(
        "ingress.validating",
        "ingress hostname \"a.example.org\" at spec.rules[0].host",
        rule(
            json!({"action": "allow", "ingress": {"types": ["Ingress"], "hostnames": [{"exp": "\\.example\\.com$"}]}}),
        ),
        ingress("a.example.org"),
        ingress("a.example.com"),
    )
    .await;
}

#[tokio::test]
async fn objects_of_any_kind_are_held_to_the_rules_about_labels_and_get_those_that_are_set() {
    let stage = stage_with(rule(json!({"action": "allow", "metadata": [
        {"kinds": ["ConfigMap"], "labels": {
            "team": {"required": true, "values": [{"exact": ["web", "{{ .tenant.metadata.name }}"]}]},
            "cost": {"default": "shared"},
            "origin": {"managed": "{{ .namespace.metadata.name }}"}}}]})))
    .await;
    let hook = "generic.rules.validating";
    let missing = refused_by(hook, stage.create::<ConfigMap>(&stage.owner, map(json!({}))).await);
    assert!(missing.contains("metadata.labels[\"team\"]"), "{missing}");
    let foreign = map(json!({"team": "gas"}));
    refused_by(hook, stage.create::<ConfigMap>(&stage.owner, foreign).await);
    let rendered = map(json!({"team": stage.tenant}));
    stage.create::<ConfigMap>(&stage.owner, rendered).await.unwrap();

    let made: ConfigMap = stage
        .create(&stage.owner, map(json!({"team": "web", "cost": "own"})))
        .await
        .unwrap();
    let labels = |map: &ConfigMap| [&map.labels()["cost"], &map.labels()["origin"]].map(Clone::clone);
    assert_eq!(labels(&made), ["own".to_owned(), stage.namespace.clone()]);
    let api = Api::<ConfigMap>::namespaced(stage.owner.clone(), &stage.namespace);
    let patch = |labels: Value| Patch::Merge(json!({"metadata": {"labels": labels}}));
    let changed = patch(json!({"cost": null, "origin": "elsewhere"}));
    let changed = api
        .patch(&made.name_any(), &PatchParams::default(), &changed)
        .await
        .unwrap();
    assert_eq!(labels(&changed), ["shared".to_owned(), stage.namespace.clone()]);
    let removed = patch(json!({"team": null}));
    refused_by(
        hook,
        api.patch(&made.name_any(), &PatchParams::default(), &removed).await,
    );
    // Other kinds are not meant.
    stage.create::<Pod>(&stage.owner, pod(json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_new_pod_gets_the_resources_and_labels_that_rules_set() {
    let stage = stage_with(json!([
        {"enforce": {"workloads": {"resources": {"requests": {"memory": {"policy": "Default", "value": "64Mi"}}}}}},
        {"enforce": {"metadata": [{"kinds": ["Pod"], "annotations": {"example.com/by": {"managed": "rules"}}}]}},
    ]))
    .await;
    let made: Pod = stage.create(&stage.owner, pod(json!({}))).await.unwrap();
    let container = &made.spec.as_ref().unwrap().containers[0];
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    assert_eq!(requests.map(|requests| requests["memory"].0.as_str()), Some("64Mi"));
    assert_eq!(made.annotations()["example.com/by"], "rules");
    // Also later.
    let api = Api::<Pod>::namespaced(stage.owner.clone(), &stage.namespace);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/by": "me"}}}));
    let changed = api
        .patch(&made.name_any(), &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(changed.annotations()["example.com/by"], "rules");
}

#[tokio::test]
async fn a_debug_container_is_held_to_the_rules_about_images() {
    let registries = json!({"registries": [{"exp": "^registry.k8s.io/"}]});
    let stage = stage_with(rule(json!({"action": "allow", "workloads": registries}))).await;
    let made: Pod = stage.create(&stage.owner, pod(json!({}))).await.unwrap();
    let api = Api::<Pod>::namespaced(stage.owner.clone(), &stage.namespace);
    let debug = async |image: &str| {
        let patch = json!({"spec": {"ephemeralContainers": [
            {"name": "e", "image": image, "imagePullPolicy": "IfNotPresent"}]}});
        let params = PatchParams::default();
        api.patch_ephemeral_containers(&made.name_any(), &params, &Patch::Strategic(patch))
            .await
    };
    let message = refused_by("pods.validating", debug("ghcr.io/a/b:1").await);
    assert!(message.contains("ephemeralContainers[0]"), "{message}");
    debug("registry.k8s.io/busybox:1").await.unwrap();
}

#[tokio::test]
async fn namespaces_are_held_to_the_rules_that_name_their_kind() {
    let stage = stage_with(rule(
        json!({"action": "allow", "metadata": [{"kinds": ["Namespace"], "labels": {
        "stage": {"default": "test", "values": [{"exact": ["test", "prod"]}]}}}]}),
    ))
    .await;
    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    assert_eq!(
        namespaces.get(&stage.namespace).await.unwrap().labels()["stage"],
        "test"
    );
    let create = async |value: &str| {
        let metadata = json!({"name": unique(&stage.tenant), "labels": {"stage": value}});
        let wanted: Namespace = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        namespaces.create(&PostParams::default(), &wanted).await
    };
    let message = refused_by("namespaces.validating", create("other").await);
    assert!(message.contains("metadata.labels[\"stage\"]"), "{message}");
    create("prod").await.unwrap();
    let patch = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"stage": value}}}));
    let params = PatchParams::default();
    let changed = namespaces.patch(&stage.namespace, &params, &patch("other")).await;
    refused_by("namespaces.validating", changed);
    let through_status = namespaces
        .patch_status(&stage.namespace, &params, &patch("other"))
        .await;
    refused_by("namespaces.validating", through_status);
    namespaces
        .patch(&stage.namespace, &params, &patch("prod"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rule_looks_at_those_whom_it_names_in_the_namespaces_that_it_selects() {
    let deny = json!({"workloads": {"schedulers": [{"exact": ["mine"]}]}});
    let stage = stage_with(json!([
        {"audience": [{"kind": "Custom", "name": "TenantOwner"}], "enforce": deny},
        {"namespaceSelector": {"matchLabels": {"stage": "prod"}},
         "enforce": {"workloads": {"schedulers": [{"exact": ["theirs"]}]}}},
    ]))
    .await;
    refused_by(
        "pods.validating",
        stage.create::<Pod>(&stage.owner, scheduled_by("mine")).await,
    );
    stage.create::<Pod>(&stage.masters, scheduled_by("mine")).await.unwrap();
    stage.create::<Pod>(&stage.owner, scheduled_by("theirs")).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"stage": "prod"}}}));
    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    namespaces
        .patch(&stage.namespace, &PatchParams::default(), &patch)
        .await
        .unwrap();
    let refused = until("the rule of the new stage", async || {
        stage.create::<Pod>(&stage.masters, scheduled_by("theirs")).await.err()
    })
    .await;
    refused_by::<Pod>("pods.validating", Err(refused));
}

async fn event(client: &Client, namespace: &str, reason: &str) -> Event {
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    until("an Event", async || {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|event| event.reason.as_deref() == Some(reason))
    })
    .await
}

#[tokio::test]
async fn what_is_only_recorded_passes_and_becomes_an_event() {
    let schedulers = json!({"schedulers": [{"exact": ["mine"]}]});
    let stage = stage_with(rule(json!({"action": "audit", "workloads": schedulers}))).await;
    let made: Pod = stage.create(&stage.owner, scheduled_by("mine")).await.unwrap();
    let event = event(&stage.masters, &stage.namespace, "NamespaceRuleAudit").await;
    let regarding = event.regarding.and_then(|object| object.name);
    assert_eq!(regarding, Some(made.name_any()));
    assert_eq!(
        (event.type_.as_deref(), event.action.as_deref()),
        (Some("Normal"), Some("RuleAudit"))
    );
    assert!(event.note.unwrap().contains("scheduler \"mine\""));
}

#[tokio::test]
async fn a_tenant_in_audit_mode_refuses_nothing_and_tells_everything() {
    let schedulers = json!({"schedulers": [{"exact": ["mine"]}]});
    let stage = stage_with(rule(json!({"workloads": schedulers}))).await;
    refused_by(
        "pods.validating",
        stage.create::<Pod>(&stage.owner, scheduled_by("mine")).await,
    );
    let refusal = event(&stage.masters, &stage.namespace, "ForbiddenScheduler").await;
    assert_eq!(refusal.type_.as_deref(), Some("Warning"));
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"cotenant.dev/rule-mode": "audit"}}}));
    let tenants = Api::<Tenant>::all(stage.masters.clone());
    tenants
        .patch(&stage.tenant, &PatchParams::default(), &patch)
        .await
        .unwrap();
    until("the mode", async || {
        stage.create::<Pod>(&stage.owner, scheduled_by("mine")).await.ok()
    })
    .await;
    let told = event(&stage.masters, &stage.namespace, "NamespaceRuleAudit").await;
    assert!(told.note.unwrap().contains("cotenant.dev/rule-mode=audit"));
}

#[tokio::test]
async fn a_changed_rule_is_in_force_as_soon_as_the_watch_has_shown_it() {
    let deny = |scheduler: &str| rule(json!({"workloads": {"schedulers": [{"exact": [scheduler]}]}}));
    let stage = stage_with(deny("first")).await;
    refused_by(
        "pods.validating",
        stage.create::<Pod>(&stage.owner, scheduled_by("first")).await,
    );
    let patch = Patch::Merge(json!({"spec": {"rules": deny("second")}}));
    let tenants = Api::<Tenant>::all(stage.masters.clone());
    tenants
        .patch(&stage.tenant, &PatchParams::default(), &patch)
        .await
        .unwrap();
    until("the new rule", async || {
        stage.create::<Pod>(&stage.owner, scheduled_by("second")).await.err()
    })
    .await;
    stage.create::<Pod>(&stage.owner, scheduled_by("first")).await.unwrap();
}

#[tokio::test]
async fn rules_that_cannot_be_told_refuse_and_say_what_to_correct() {
    let schedulers = json!({"schedulers": [{"exact": ["{{ .namespace.metadata.labels.team }}"]}]});
    let stage = stage_with(rule(json!({"workloads": schedulers}))).await;
    let (code, message) = refusal(stage.create::<Pod>(&stage.owner, pod(json!({}))).await);
    assert_eq!(code, 500, "{message}");
    assert!(
        message.contains("spec.rules[0].enforce.workloads.schedulers[0].exact[0] of the Tenant"),
        "{message}"
    );
    // What is not asked about goes on.
    stage.create::<ConfigMap>(&stage.owner, map(json!({}))).await.unwrap();
}

#[tokio::test]
async fn rules_are_read_when_they_are_written() {
    let stage = stage_with(json!([])).await;
    let written = |pattern: &str| {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": unique("own")},
            "spec": [{"enforce": {"workloads": {"schedulers": [{"exp": pattern}]}}}]})
    };
    let refused = stage.create::<RuleStatus>(&stage.owner, written("(")).await;
    let message = refused_by("rulestatus.validating", refused);
    assert!(
        message.contains("spec[0].enforce.workloads.schedulers[0].exp"),
        "{message}"
    );
    stage.create::<RuleStatus>(&stage.owner, written("^a")).await.unwrap();

    let tenants = Api::<Tenant>::all(stage.masters.clone());
    let patch = |pattern: &str| Patch::Merge(json!({"spec": {"rules": written(pattern)["spec"]}}));
    let params = PatchParams::default();
    refused_by(
        "tenants.validating",
        tenants.patch(&stage.tenant, &params, &patch("(")).await,
    );
    tenants.patch(&stage.tenant, &params, &patch("^a")).await.unwrap();
}

/// The labels that the hooks select by: without one nothing is asked.
#[tokio::test]
async fn a_tenant_without_rules_has_no_namespace_that_is_asked_about() {
    let asked = async |spec: Value| {
        let stage = stage(spec).await;
        let namespace = Api::<Namespace>::all(stage.masters.clone())
            .get(&stage.namespace)
            .await
            .unwrap();
        let mut keys: Vec<_> = namespace.labels().keys().cloned().collect();
        keys.retain(|key| key.starts_with("cotenant.dev/"));
        (stage, keys)
    };
    let (_, keys) = asked(json!({"rules": [{"permissions": {}}]})).await;
    assert!(keys.is_empty(), "{keys:?}");
    let (_, keys) = asked(json!({"rules": rule(json!({"services": {"types": ["NodePort"]}}))})).await;
    assert!(keys.is_empty(), "{keys:?}");
    let everything = rule(json!({"metadata": [{"kinds": ["*"], "labels": {"a": {"required": true}}}]}));
    let (stage, keys) = asked(json!({ "rules": everything })).await;
    assert_eq!(keys, ["cotenant.dev/object-validation", "cotenant.dev/pod-validation"]);
    // Its owner cannot take them off.
    let labels = json!({"cotenant.dev/object-validation": null, "cotenant.dev/pod-validation": "false"});
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let namespaces = Api::<Namespace>::all(stage.owner.clone());
    let changed = namespaces
        .patch(&stage.namespace, &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert!(
        keys.iter().all(|key| changed.labels()[key] == "true"),
        "{:?}",
        changed.labels()
    );
}
