//! Webhooks called as kube-apiserver calls them, with objects as the API server shows them: what a request costs the operator,
//! and how long it takes.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Client, ResourceExt,
    api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    bed::{Bed, CLUSTER},
    namespaces::GROUP,
    processes, report,
};

/// Of each kind and each number in flight.
const REQUESTS: usize = 6_400;
const IN_FLIGHT: [usize; 2] = [1, 32];

/// Of the tenant `bench-0`.
const NAMESPACE: &str = "bench-0-0";

struct Case {
    name: &'static str,
    path: &'static str,
    api_version: &'static str,
    plural: &'static str,
    object: Value,
}

/// With the tenants and namespaces of `namespaces` present.
pub(crate) async fn run(bed: &Bed) -> anyhow::Result<()> {
    // Something to decide about each.
    let limits = json!({"spec": {
        "containerRegistries": {"allowed": ["docker.io", "registry.example"], "allowedRegex": "^ghcr\\.io$"},
        "ingressOptions": {"allowedHostnames": {"allowedRegex": "^.*\\.example\\.com$"}, "hostnameCollisionScope": "Tenant"},
        "serviceOptions": {"allowedServices": {"nodePort": false}},
        "storageClasses": {"allowed": ["fast"]},
        "priorityClasses": {"allowed": ["usual"]},
    }});
    Api::<Tenant>::all(bed.admin.clone())
        .patch("bench-0", &PatchParams::default(), &Patch::Merge(&limits))
        .await?;
    let place = tempfile::tempdir()?;
    let server = published(&bed.admin, place.path()).await?;
    let owner = bed.as_user("owner-0", GROUP)?;
    for case in cases() {
        let review = review(&owner, &case).await?;
        let file = place.path().join(case.name);
        std::fs::write(&file, review.to_string())?;
        for in_flight in IN_FLIGHT {
            measure(bed, &case, &server, place.path(), &file, in_flight)?;
        }
    }
    Ok(())
}

fn measure(bed: &Bed, case: &Case, server: &str, place: &Path, review: &Path, in_flight: usize) -> anyhow::Result<()> {
    let replicas = processes::find(CLUSTER, &["cotenant", "operator"]);
    let replica = replicas.first().context("the operator runs")?;
    let before = replica.cpu_seconds();
    let output = Command::new("nsenter")
        .args(["-t", &replica.pid.to_string(), "-n"])
        .arg(std::env::current_exe()?)
        .arg("bench-load")
        .arg("--authority")
        .arg(place.join("authority.pem"))
        .args(["--server", server, "--path", case.path])
        .arg("--review")
        .arg(review)
        .args([
            "--in-flight",
            &in_flight.to_string(),
            "--requests",
            &REQUESTS.to_string(),
        ])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cpu = replica.cpu_seconds() - before;
    let mut figures: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(figures["allowed"] == true, "the {} is refused", case.name);
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let each = cpu * 1e6 / REQUESTS as f64;
    figures["review"] = json!(case.name);
    figures["review_bytes"] = json!(std::fs::metadata(review)?.len());
    figures["in_flight"] = json!(in_flight);
    figures["operator_cpu_us_each"] = json!(each);
    report(bed, "reviews", &figures);
    Ok(())
}

/// Writes the authority of the webhooks, and says which name their certificate has.
async fn published(admin: &Client, place: &Path) -> anyhow::Result<String> {
    let published = Api::<ValidatingWebhookConfiguration>::all(admin.clone())
        .get("capsule-dynamic-webhook")
        .await?;
    let hook = published.webhooks.into_iter().flatten().next();
    let client = hook.context("webhooks are registered")?.client_config;
    let service = client.service.context("they are called through a Service")?;
    let bundle = client.ca_bundle.context("they are published with their authority")?;
    std::fs::write(place.join("authority.pem"), bundle.0)?;
    Ok(format!("{}.{}.svc", service.name, service.namespace))
}

/// The review of a create, with the object as the API server would store it.
async fn review(owner: &Client, case: &Case) -> anyhow::Result<Value> {
    let kind = case.object["kind"].as_str().unwrap_or_default();
    let (group, version) = case.api_version.split_once('/').unwrap_or(("", case.api_version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: case.api_version.to_owned(),
        kind: kind.to_owned(),
        plural: case.plural.to_owned(),
    };
    let api = if case.name == "namespace" {
        Api::<DynamicObject>::all_with(owner.clone(), &resource)
    } else {
        Api::namespaced_with(owner.clone(), NAMESPACE, &resource)
    };
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object = api.create(&dry, &serde_json::from_value(case.object.clone())?).await?;
    let (kind, resource) = (
        json!({"group": group, "version": version, "kind": kind}),
        json!({"group": group, "version": version, "resource": case.plural}),
    );
    Ok(
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "7f0e2c5e-3a10-4a6c-9a2e-6f0f5e0f9f11", "kind": kind, "resource": resource, "requestKind": kind,
        "requestResource": resource, "name": object.name_any(), "namespace": object.namespace().unwrap_or(object.name_any()),
        "operation": "CREATE", "dryRun": true, "oldObject": null, "object": object,
        "userInfo": {"username": "owner-0", "groups": [GROUP, "system:authenticated"]},
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}}}),
    )
}

fn cases() -> Vec<Case> {
    let case = |name, path, api_version, plural, object| Case {
        name,
        path,
        api_version,
        plural,
        object,
    };
    vec![
        case(
            "namespace",
            "/namespaces/validating",
            "v1",
            "namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench-0-reviewed"}}),
        ),
        case(
            "pod",
            "/pods/validating",
            "v1",
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reviewed", "labels": {"app": "web"}}, "spec": {
                "initContainers": [{"name": "init", "image": "registry.example/init:1"}],
                "containers": [
                    {"name": "web", "image": "docker.io/library/nginx:1", "ports": [{"containerPort": 80}],
                     "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}, "env": [{"name": "A", "value": "b"}],
                     "readinessProbe": {"httpGet": {"path": "/", "port": 80}}},
                    {"name": "side", "image": "ghcr.io/a/side:1"}]}}),
        ),
        case(
            "ingress",
            "/ingresses/validating",
            "networking.k8s.io/v1",
            "ingresses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "reviewed"}, "spec": {
                "rules": [{"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}}),
        ),
        case(
            "persistentvolumeclaim",
            "/persistentvolumeclaims/validating",
            "v1",
            "persistentvolumeclaims",
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "reviewed"}, "spec": {
                "storageClassName": "fast", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        case(
            "service",
            "/services/validating",
            "v1",
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "reviewed"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        ),
    ]
}
