//! Limits that a tenant only tries out, through a real API server: each is refused, then audited, then told and counted, while
//! another one goes on refusing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::served::{TENANTS, establish, served};
use support::stage::Stage;
use support::until;
use tenancy::audit::Limit;
use testbed::unique;

/// What somebody does that a limit refuses.
enum Attempt {
    /// Creates an object in the namespace: group, kind, plural, and the object but for its name.
    Make(&'static str, &'static str, &'static str, Value),
    /// Changes the metadata of the namespace.
    Mark(Value),
    /// Creates another namespace.
    Space,
}

use Attempt::{Make, Mark, Space};

struct Row {
    limit: Limit,
    hook: &'static str,
    attempt: Attempt,
}

fn row(limit: Limit, hook: &'static str, attempt: Attempt) -> Row {
    Row { limit, hook, attempt }
}

fn host(name: &str) -> Value {
    json!({"host": name, "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}})
}

/// One for each limit. The class of pods and that of runtimes exist, and are not the tenant's.
fn rows(class: &str) -> Vec<Row> {
    let pod = |more: Value| {
        let container = json!({"name": "c", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent"});
        let mut pod = json!({"spec": {"containers": [container]}});
        json_patch::merge(&mut pod["spec"], &more);
        Make("", "Pod", "pods", pod)
    };
    let image = |image: &str, policy: &str| {
        pod(json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}]}))
    };
    let service = |metadata: Value, more: Value| {
        let mut service = json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
        json_patch::merge(&mut service["spec"], &more);
        Make("", "Service", "services", service)
    };
    let ingress = |class: &str, host_name: &str| {
        let spec = json!({"ingressClassName": class, "rules": [host(host_name)]});
        Make("networking.k8s.io", "Ingress", "ingresses", json!({"spec": spec}))
    };
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "slow"}});
    let device = json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "fpga"}}]}}});
    let gateway = json!({"spec": {"gatewayClassName": "private", "listeners": []}});
    let (pods, ingresses) = ("pods.validating", "ingress.validating");
    let (services, namespaces) = ("services.validating", "namespaces.validating");
    vec![
        row(Limit::Rules, pods, pod(json!({"schedulerName": "mine"}))),
        row(Limit::ContainerRegistries, pods, image("ghcr.io/a/b:1", "IfNotPresent")),
        row(
            Limit::ImagePullPolicies,
            pods,
            image("registry.k8s.io/pause:3.10", "Always"),
        ),
        row(Limit::PriorityClasses, pods, pod(json!({"priorityClassName": class}))),
        row(Limit::RuntimeClasses, pods, pod(json!({"runtimeClassName": class}))),
        row(
            Limit::StorageClasses,
            "pvc.validating",
            Make("", "PersistentVolumeClaim", "persistentvolumeclaims", claim),
        ),
        row(
            Limit::DeviceClasses,
            "devices.validating",
            Make("resource.k8s.io", "ResourceClaim", "resourceclaims", device),
        ),
        row(
            Limit::GatewayClasses,
            "gateway.validating",
            Make("gateway.networking.k8s.io", "Gateway", "gateways", gateway),
        ),
        row(Limit::IngressClasses, ingresses, ingress("traefik", "b.oil.example")),
        row(Limit::Hostnames, ingresses, ingress("nginx", "a.gas.example")),
        row(Limit::WildcardHostnames, ingresses, ingress("nginx", "*.oil.example")),
        row(
            Limit::HostnameCollisions,
            ingresses,
            ingress("nginx", "taken.oil.example"),
        ),
        row(
            Limit::ServiceTypes,
            services,
            service(json!({}), json!({"type": "NodePort"})),
        ),
        row(
            Limit::ExternalIps,
            services,
            service(json!({}), json!({"externalIPs": ["198.51.100.7"]})),
        ),
        row(
            Limit::ServiceLabels,
            services,
            service(json!({"labels": {"bad": "x"}}), json!({})),
        ),
        row(
            Limit::ServiceAnnotations,
            services,
            service(json!({"annotations": {"bad": "x"}}), json!({})),
        ),
        row(
            Limit::NamespaceLabels,
            namespaces,
            Mark(json!({"labels": {"bad": "x"}})),
        ),
        row(
            Limit::NamespaceAnnotations,
            namespaces,
            Mark(json!({"annotations": {"bad": "x"}})),
        ),
        row(
            Limit::RequiredMetadata,
            namespaces,
            Mark(json!({"labels": {"team": "gas"}})),
        ),
        row(Limit::NamespaceQuota, namespaces, Space),
    ]
}

fn every_limit() -> Value {
    let denied = json!({"denied": ["bad"]});
    json!({
        "containerRegistries": {"allowed": ["registry.k8s.io"]},
        "imagePullPolicies": ["IfNotPresent"],
        "priorityClasses": {"allowed": ["low"]},
        "runtimeClasses": {"allowed": ["kata"]},
        "storageClasses": {"allowed": ["fast"]},
        "deviceClasses": {"allowed": ["gpu"]},
        "gatewayOptions": {"allowedClasses": {"allowed": ["public"]}},
        "ingressOptions": {
            "allowedClasses": {"allowed": ["nginx"]}, "allowedHostnames": {"allowedRegex": r"^[^.]+\.oil\.example$"},
            "hostnameCollisionScope": "Tenant"},
        "serviceOptions": {
            "allowedServices": {"nodePort": false}, "externalIPs": {"allowed": ["192.0.2.0/24"]},
            "forbiddenLabels": denied, "forbiddenAnnotations": denied},
        "namespaceOptions": {
            "quota": 1, "forbiddenLabels": denied, "forbiddenAnnotations": denied,
            "requiredMetadata": {"labels": {"team": "^oil$"}}},
        "rules": [{"enforce": {"workloads": {"schedulers": [{"exact": ["mine"]}]}}}],
    })
}

/// A tenant with every limit, and a namespace of it in which pods can be created.
async fn stage_with_every_limit() -> Stage {
    let server = served().await.server;
    let masters = server.client().await;
    let (tenant, owner) = (unique("oil"), unique("alice"));
    let mut object = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": tenant},
        "spec": every_limit()});
    object["spec"]["owners"] = json!([{"kind": "User", "name": owner}]);
    let object: Tenant = serde_json::from_value(object).unwrap();
    let tenants = Api::<Tenant>::all(masters.clone());
    tenants.create(&PostParams::default(), &object).await.unwrap();
    let stage = Stage {
        owner: server.client_for(&owner, &TENANTS).await,
        namespace: format!("{tenant}-web"),
        masters,
        tenant,
    };
    until("the namespace", async || {
        make_namespace(&stage.owner, &stage.namespace).await.ok()
    })
    .await;
    let accounts = Api::<ServiceAccount>::namespaced(stage.masters.clone(), &stage.namespace);
    until("the default account", async || {
        accounts.get_opt("default").await.unwrap()
    })
    .await;
    stage
}

async fn make_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespace = json!({"metadata": {"name": name, "labels": {"team": "oil"}}});
    let namespace: Namespace = serde_json::from_value(namespace).unwrap();
    let namespaces = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.map(drop)
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

async fn make(stage: &Stage, group: &str, kind: &str, plural: &str, object: &Value) -> Result<(), kube::Error> {
    let resource = resource(group, kind, plural);
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(unique("web"));
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let objects = Api::<DynamicObject>::namespaced_with(stage.owner.clone(), &stage.namespace, &resource);
    objects.create(&PostParams::default(), &object).await.map(drop)
}

async fn attempt(stage: &Stage, row: &Row) -> Result<(), kube::Error> {
    match &row.attempt {
        Make(group, kind, plural, object) => make(stage, group, kind, plural, object).await,
        Mark(metadata) => {
            let patch = Patch::Merge(json!({"metadata": metadata}));
            let namespaces = Api::<Namespace>::all(stage.owner.clone());
            let params = PatchParams::default();
            namespaces.patch(&stage.namespace, &params, &patch).await.map(drop)
        }
        Space => make_namespace(&stage.owner, &unique(&stage.tenant)).await,
    }
}

async fn refused(stage: &Stage, row: &Row) {
    let (code, message) = refusal(attempt(stage, row).await);
    assert!(
        code == 403 && message.contains(&format!("\"{}.projectcapsule.dev\"", row.hook)),
        "{:?}: {code}: {message}",
        row.limit
    );
}

async fn annotate(stage: &Stage, audit: &str) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"cotenant.dev/audit": audit}}}));
    let tenants = Api::<Tenant>::all(stage.masters.clone());
    let params = PatchParams::default();
    tenants.patch(&stage.tenant, &params, &patch).await.map(drop)
}

/// Waits for the Event that says that the request passed, and by which limit it would not have.
async fn event(stage: &Stage, row: &Row) {
    let namespace = match row.attempt {
        Make(..) => stage.namespace.as_str(),
        Mark(_) | Space => "default",
    };
    let events = Api::<Event>::namespaced(stage.masters.clone(), namespace);
    let of_tenant = ListParams::default().labels(&format!("projectcapsule.dev/tenant={}", stage.tenant));
    let (action, said) = match row.limit {
        Limit::Rules => ("RuleAudit", "rules in cotenant.dev/audit".to_owned()),
        limit => (
            "ValidationAudited",
            format!(
                "{} is audited and not enforced, by the annotation cotenant.dev/audit",
                limit.field()
            ),
        ),
    };
    until("an Event", async || {
        let events = events.list(&of_tenant).await.unwrap().items;
        let is_it = |event: &Event| {
            event.action.as_deref() == Some(action)
                && event.type_.as_deref() == Some("Normal")
                && event.note.as_deref().is_some_and(|note| note.contains(&said))
        };
        events.iter().any(is_it).then_some(())
    })
    .await;
}

async fn report(stage: &Stage, limit: Limit) -> (ConfigMap, String) {
    let reports = Api::<ConfigMap>::namespaced(stage.masters.clone(), "cotenant-system");
    let name = format!("cotenant-audit-{}", stage.tenant);
    until("the report", async || {
        let report = reports.get_opt(&name).await.unwrap()?;
        let lines = report.data.as_ref()?.get(limit.field())?.clone();
        Some((report, lines))
    })
    .await
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

/// Makes what the rows name and is not the tenant's. The name is that of a class of pods and of runtimes.
async fn prepare(masters: &Client) -> String {
    for definition in [
        of_gateway_api("GatewayClass", "gatewayclasses", "Cluster"),
        of_gateway_api("Gateway", "gateways", "Namespaced"),
    ] {
        establish(masters, &definition).await;
    }
    let classes = resource("gateway.networking.k8s.io", "GatewayClass", "gatewayclasses");
    let private = DynamicObject::new("private", &classes).data(json!({"spec": {"controllerName": "example.com/none"}}));
    let classes = Api::<DynamicObject>::all_with(masters.clone(), &classes);
    until("a class", async || {
        classes.create(&PostParams::default(), &private).await.ok()
    })
    .await;
    let class = unique("class");
    let priority: PriorityClass = serde_json::from_value(json!({"metadata": {"name": class}, "value": 10})).unwrap();
    let runtime: RuntimeClass = serde_json::from_value(json!({"metadata": {"name": class}, "handler": "h"})).unwrap();
    let params = PostParams::default();
    Api::all(masters.clone()).create(&params, &priority).await.unwrap();
    Api::all(masters.clone()).create(&params, &runtime).await.unwrap();
    class
}

#[tokio::test]
async fn each_limit_is_refused_and_then_audited_while_another_goes_on_refusing() {
    let stage = stage_with_every_limit().await;
    let rows = rows(&prepare(&stage.masters).await);
    let taken = json!({"spec": {"ingressClassName": "nginx", "rules": [host("taken.oil.example")]}});
    until("the class and the kind", async || {
        make(&stage, "networking.k8s.io", "Ingress", "ingresses", &taken)
            .await
            .ok()
    })
    .await;
    let mut met: Vec<_> = rows.iter().map(|row| row.limit).collect();
    met.sort_unstable();
    let mut all = Limit::ALL;
    all.sort_unstable();
    assert_eq!(met, all, "one row for each limit");
    for (place, row) in rows.iter().enumerate() {
        refused(&stage, row).await;
        annotate(&stage, row.limit.field()).await.unwrap();
        until(row.limit.field(), async || attempt(&stage, row).await.ok()).await;
        refused(&stage, &rows[(place + 1) % rows.len()]).await;
        event(&stage, row).await;
    }
    for row in &rows {
        let (report, lines) = report(&stage, row.limit).await;
        assert!(lines.contains("requests: 1\n"), "{lines}");
        let is_elsewhere = matches!(row.attempt, Space);
        assert!(
            is_elsewhere || lines.contains(&format!("- namespace: {}\n", stage.namespace)),
            "{lines}"
        );
        assert!(lines.contains("user: alice"), "{lines}");
        let owner = &report.owner_references()[0];
        assert_eq!((owner.kind.as_str(), &owner.name), ("Tenant", &stage.tenant));
    }
    // All at once, and the report goes on counting.
    let all = "*, ingressOptions.hostnameCollisionScope, serviceOptions.externalIPs";
    annotate(&stage, all).await.unwrap();
    until("everything to be audited", async || {
        let mut passed = true;
        for row in rows.iter().filter(|row| matches!(row.attempt, Make(..))) {
            passed &= attempt(&stage, row).await.is_ok();
        }
        passed.then_some(())
    })
    .await;
    until("the sum", async || {
        let (_, lines) = report(&stage, Limit::DeviceClasses).await;
        (!lines.contains("requests: 1\n")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_annotation_that_names_no_limit_is_refused() {
    let stage = stage_with_every_limit().await;
    let (code, message) = refusal(annotate(&stage, "rules, cordoned").await);
    assert_eq!(code, 403);
    assert!(
        message.contains("metadata.annotations[cotenant.dev/audit]: \"cordoned\" is no limit that can be audited"),
        "{message}"
    );
}
