//! Fields of our namespaced kinds that hold whole objects or parts of pods, found in the schemas: what a tenant writes there
//! is refused, or made in the tenant's own name and so held to what the tenant may do.

use std::collections::BTreeSet;

use api::capsule::v1beta2::ReplicationBlock;
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tenancy::replication::identity::Identity;
use tenancy::replication::object::{Kind, Reach, place};
use tenancy::replication::produce::{Gathered, Place, Produced};

use super::doors::Doors;
use super::request::{Refusal, send};
use super::samples::sample;
use super::scene::Scene;
use super::support::served::served;

/// Every such field. One that is new here needs somebody who holds it.
const FIELDS: [&str; 7] = [
    // The image of the tunnel, containers and volumes of a control plane: held when they are written, by `tenancy::control_plane::deputy`.
    "TenantControlPlane .spec.addons.konnectivity.server",
    "TenantControlPlane .spec.controlPlane.deployment.additionalContainers[]",
    "TenantControlPlane .spec.controlPlane.deployment.additionalInitContainers[]",
    "TenantControlPlane .spec.controlPlane.deployment.additionalVolumes[].ephemeral.volumeClaimTemplate",
    // Configuration of the kubelets that are the tenant's own.
    "TenantControlPlane .spec.kubernetes.kubelet.configurationJSONPatches[].value",
    // Objects of replications: below.
    "TenantResource .spec.resources[].generators[].template",
    "TenantResource .spec.resources[].rawItems[]",
];

#[test]
fn every_field_that_can_hold_an_object_is_known() {
    let mut found = BTreeSet::new();
    for definition in api::crds().into_iter().filter(|it| it.spec.scope == "Namespaced") {
        for version in &definition.spec.versions {
            let schema = serde_json::to_value(&version.schema.as_ref().unwrap().open_api_v3_schema).unwrap();
            let mut paths = Vec::new();
            collect(&schema, String::new(), &mut paths);
            found.extend(
                paths
                    .iter()
                    .map(|path| format!("{} {path}", definition.spec.names.kind)),
            );
        }
    }
    assert_eq!(found, FIELDS.map(str::to_owned).into());
}

/// Fields that take anything, that are whole objects, templates, or containers.
fn collect(schema: &Value, path: String, found: &mut Vec<String>) {
    let says = |key: &str| schema[key] == json!(true);
    let last = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let has = |name: &str| schema["properties"].get(name).is_some();
    if says("x-kubernetes-preserve-unknown-fields")
        || says("x-kubernetes-embedded-resource")
        || last.ends_with("template")
        || (has("image") && has("securityContext"))
    {
        found.push(path);
        return;
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(field, format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], format!("{path}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        collect(&schema["additionalProperties"], format!("{path}.<key>"), found);
    }
}

/// The objects that a block asks for, when this one is written into the field.
fn produced(field: &str, object: &Value) -> Vec<Produced> {
    let block = match field {
        "rawItems" => json!({"rawItems": [object]}),
        _ => json!({"generators": [{"template": object.to_string()}]}),
    };
    let block: ReplicationBlock = serde_json::from_value(block).unwrap();
    let nowhere = Place {
        tenant: None,
        namespace: None,
    };
    let mut gathered = Gathered::default();
    let problems = gathered.add_made(0, &block, &nowhere, &Map::new(), Timestamp::UNIX_EPOCH, || false);
    assert_eq!(problems, Ok(Vec::new()));
    gathered.objects
}

/// Writes an object as the replication of this namespace would.
async fn replicate(scene: &Scene, field: &str, object: &Value) -> Result<Value, Refusal> {
    let found = produced(field, object).remove(0).object;
    let (resource, is_namespaced) = served_as(&scene.doors, &found);
    let placed = place(found, !is_namespaced, Reach::OfTenant, &scene.namespace).map_err(|said| (0, said))?;
    let user = Identity::of_tenant(&scene.namespace, None, None).user().unwrap();
    let account = served()
        .await
        .server
        .client_for(&user, &["system:serviceaccounts"])
        .await;
    let path = format!("{}?fieldManager=replication", resource.path(Some(&placed.namespace)));
    send(&account, Method::POST, &path, "application/json", Some(placed.object)).await
}

fn served_as(doors: &Doors, object: &Value) -> (super::doors::Resource, bool) {
    let kind = Kind::of(object).unwrap();
    let mut all = doors.0.iter();
    let found =
        all.find(|(resource, doors)| resource.api_version() == kind.api_version() && doors[0].kind == kind.kind);
    let (resource, doors) = found.unwrap();
    (resource.clone(), doors[0].is_namespaced)
}

#[tokio::test]
async fn what_a_tenant_has_made_for_it_is_held_to_what_the_tenant_may_do() {
    let scene = Scene::new(json!({"containerRegistries": {"allowed": ["registry.k8s.io"]}})).await;
    let object = |api_version: &str, kind: &str, name: &str, more: Value| {
        let mut object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": testbed::unique(name), "namespace": "kube-system"}});
        json_patch::merge(&mut object, &more);
        object
    };
    let role =
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    let mut pod = sample("v1/pods", "");
    pod["spec"]["containers"][0]["image"] = json!("evil.example.com/miner:1");
    let own_pod = sample("v1/pods", "");
    for field in ["rawItems", "generators"] {
        for (attack, said) in [
            (
                object(
                    "rbac.authorization.k8s.io/v1",
                    "ClusterRoleBinding",
                    "root",
                    role.clone(),
                ),
                "cluster-scoped",
            ),
            (object("v1", "Namespace", "mine", json!({})), "cluster-scoped"),
            (
                object("v1", "Pod", "miner", json!({"spec": pod["spec"]})),
                "pods.validating",
            ),
            (
                object(
                    "capsule.clastix.io/v1beta2",
                    "TenantResource",
                    "more",
                    json!({"spec": {}}),
                ),
                "cannot make replications",
            ),
        ] {
            let (code, message) = replicate(&scene, field, &attack).await.unwrap_err();
            assert!(
                message.contains(said),
                "{field} of {}: {code} {message}",
                attack["kind"]
            );
        }
        // Not where its author says, and not as the operator's.
        let marks = json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": "controller"}}});
        for (kind, more) in [("ConfigMap", marks), ("Pod", json!({"spec": own_pod["spec"]}))] {
            let made = replicate(&scene, field, &object("v1", kind, "own", more))
                .await
                .unwrap();
            assert_eq!(made["metadata"]["namespace"], json!(scene.namespace));
            assert_eq!(made["metadata"]["labels"].get("projectcapsule.dev/managed-by"), None);
        }
    }
}
