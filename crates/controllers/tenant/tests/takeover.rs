//! Over a cluster that another operator has kept so far: what it made is adopted as it stands, and what is no longer wanted
//! goes, though the other still owns it by its plain updates. An API server of its own, because writes are counted.
//!
//! The objects are those that were observed of the peer; here they are written as it writes them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

mod bed;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use api::capsule::v1beta2::{CapsuleConfiguration, RuleStatus, Tenant};
use bed::{Controllers, equal, eventually, install, patch_tenant, ready, tenant};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What the API server calls a program of this file name that does not say who it is.
const OTHER: &str = "manager";
const OTHER_BY_NAME: &str = "projectcapsule.dev/controller";
const ADMIN: &str = "capsule:managed:3e1bf7faf0e3bf17";
const DELETER: &str = "capsule:managed:9af39c378f60246f";
const VIEWER: &str = "capsule:managed:3a96a8be047439f4";
const NAMESPACES: [&str; 2] = ["oil-one", "oil-two"];

fn by(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}

/// Creates by a plain request.
async fn make<K>(api: &Api<K>, manager: &str, object: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    api.create(&by(manager), &serde_json::from_value(object).unwrap())
        .await
        .unwrap()
}

/// An object that is kept for the tenant, in one of its namespaces.
fn kept(oil: &Tenant, name: &str, label: (&str, &str), body: Value) -> Value {
    let mut object = json!({"metadata": {
        "name": name,
        "labels": {label.0: label.1, "capsule.clastix.io/managed-by": "oil", "projectcapsule.dev/managed-by": "controller",
            "projectcapsule.dev/tenant": "oil"},
        "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "blockOwnerDeletion": true, "controller": true,
            "kind": "Tenant", "name": "oil", "uid": oil.uid()}],
    }});
    json_patch::merge(&mut object, &body);
    object
}

fn binding(oil: &Tenant, hash: &str, role: &str, user: &str) -> Value {
    let rbac = "rbac.authorization.k8s.io";
    let body = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    });
    kept(
        oil,
        &format!("capsule:managed:{hash}"),
        ("capsule.clastix.io/role-binding", hash),
        body,
    )
}

fn hard() -> Value {
    json!({"limits.cpu": "8", "limits.memory": "16Gi", "pods": "20"})
}

/// The tenant as people wrote it and as the other operator completed it.
async fn make_tenant(client: &Client) -> Tenant {
    let api: Api<Tenant> = Api::all(client.clone());
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil"}, "spec": {
        "owners": [{"kind": "User", "name": "olga", "clusterRoles": ["admin", "capsule-namespace-deleter"]}],
        "additionalRoleBindings": [{"clusterRoleName": "view", "labels": {"site": "demo"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "victor"}]}],
        "containerRegistries": {"allowed": ["docker.io", "registry.k8s.io"]},
        "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "hostnameCollisionScope": "Tenant"},
        "limitRanges": {"items": [{"limits": [{"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}}]}]},
        "namespaceOptions": {"quota": 5, "additionalMetadata": {"annotations": {"note": "a"}, "labels": {"env": "demo"}}},
        "networkPolicies": {"items": [{"ingress": [{"from": [{"podSelector": {}}]}], "podSelector": {}, "policyTypes": ["Ingress"]}]},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "resourceQuotas": {"scope": "Tenant", "items": [{"hard": hard()}]},
    }});
    make(&api, "kubectl-create", object).await;
    let params = PatchParams {
        field_manager: Some(OTHER.to_owned()),
        ..PatchParams::default()
    };
    let completed = json!({"metadata": {
        "labels": {"kubernetes.io/metadata.name": "oil"}, "finalizers": ["controller.projectcapsule.dev/finalize"]}});
    api.patch("oil", &params, &Patch::Merge(&completed)).await.unwrap()
}

/// The status of the tenant as the other operator published it last.
async fn publish(client: &Client, namespaces: &[Namespace]) {
    let api: Api<Tenant> = Api::all(client.clone());
    let mut oil = api.get("oil").await.unwrap();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"lastTransitionTime": "2026-01-01T00:00:00Z", "message": message, "reason": reason, "status": status, "type": kind});
    let conditions = json!([
        condition("Ready", "True", "Succeeded", "reconciled"),
        condition("Cordoned", "False", "Active", "not cordoned")
    ]);
    let spaces = namespaces.iter().map(|namespace| {
        json!({"name": namespace.name_any(), "uid": namespace.uid(), "conditions": conditions, "metadata": {
            "annotations": namespace.annotations(), "labels": {"env": "demo"}}})
    });
    let status = json!({
        "classes": {"storage": ["gold"]}, "conditions": conditions, "namespaces": NAMESPACES, "size": 2, "state": "Active",
        "observedGeneration": oil.metadata.generation, "spaces": spaces.collect::<Vec<_>>(),
        "owners": [{"kind": "User", "name": "olga", "clusterRoles": ["admin", "capsule-namespace-deleter"]}],
    });
    oil.status = Some(serde_json::from_value(status).unwrap());
    api.replace_status("oil", &by(OTHER), &oil).await.unwrap();
}

/// Everything in one namespace, and the namespace.
async fn make_namespace(client: &Client, oil: &Tenant, name: &str) -> Namespace {
    let namespace = json!({"metadata": {
        "name": name, "labels": {"capsule.clastix.io/tenant": "oil", "env": "demo"},
        "annotations": {
            "capsule.clastix.io/allowed-registries": "docker.io,registry.k8s.io", "capsule.clastix.io/ingress-classes": "nginx",
            "note": "a", "scheduler.alpha.kubernetes.io/node-selector": "kubernetes.io/os=linux"},
        "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": oil.uid()}],
    }});
    let made = make(&Api::<Namespace>::all(client.clone()), "kubectl-create", namespace).await;

    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), name);
    make(&bindings, OTHER, binding(oil, "3e1bf7faf0e3bf17", "admin", "olga")).await;
    make(
        &bindings,
        OTHER,
        binding(oil, "9af39c378f60246f", "capsule-namespace-deleter", "olga"),
    )
    .await;
    let mut viewer = binding(oil, "3a96a8be047439f4", "view", "victor");
    viewer["metadata"]["labels"]["site"] = json!("demo");
    make(&bindings, OTHER, viewer).await;

    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": hard()}, "metadata": {"annotations": {
        "quota.capsule.clastix.io/hard-limits.cpu": "8", "quota.capsule.clastix.io/used-limits.cpu": "0",
        "quota.capsule.clastix.io/hard-limits.memory": "16Gi", "quota.capsule.clastix.io/used-limits.memory": "0",
        "quota.capsule.clastix.io/hard-pods": "20", "quota.capsule.clastix.io/used-pods": "0"}}});
    let quota = kept(oil, "capsule-oil-0", ("capsule.clastix.io/resource-quota", "0"), quota);
    make(&Api::<ResourceQuota>::namespaced(client.clone(), name), OTHER, quota).await;

    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}}]}});
    let range = kept(oil, "capsule-oil-0", ("capsule.clastix.io/limit-range", "0"), range);
    make(
        &Api::<LimitRange>::namespaced(client.clone(), name),
        OTHER_BY_NAME,
        range,
    )
    .await;

    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {
        "ingress": [{"from": [{"podSelector": {}}]}], "podSelector": {}, "policyTypes": ["Ingress"]}});
    let policy = kept(oil, "capsule-oil-0", ("capsule.clastix.io/network-policy", "0"), policy);
    Api::<NetworkPolicy>::namespaced(client.clone(), name)
        .patch(
            "capsule-oil-0",
            &PatchParams::apply(OTHER_BY_NAME),
            &Patch::Apply(policy),
        )
        .await
        .unwrap();

    let rules = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "spec": []});
    let label = ("projectcapsule.dev/name", "capsule-managed-rules");
    let rules = kept(oil, "capsule-managed-rules", label, rules);
    let api: Api<RuleStatus> = Api::namespaced(client.clone(), name);
    let mut rules = make(&api, OTHER_BY_NAME, rules).await;
    let status = json!({"conditions": [{"lastTransitionTime": "2026-01-01T00:00:00Z", "message": "reconciled", "reason": "Succeeded",
        "status": "True", "type": "Ready"}], "observedGeneration": 1});
    rules.status = Some(serde_json::from_value(status).unwrap());
    api.replace_status("capsule-managed-rules", &by(OTHER), &rules)
        .await
        .unwrap();
    made
}

/// What concerns the whole cluster.
async fn make_configuration(client: &Client) {
    let configuration = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"}, "spec": {"users": [{"kind": "Group", "name": "projectcapsule.dev"}]}});
    make(&Api::<CapsuleConfiguration>::all(client.clone()), "helm", configuration).await;
    let label = json!({"projectcapsule.dev/created-by": "rbac-controller"});
    for (name, verbs) in [
        ("capsule-namespace-provisioner", json!(["create", "patch"])),
        ("capsule-namespace-deleter", json!(["delete"])),
    ] {
        let role = json!({"metadata": {"name": name, "labels": label},
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": verbs}]});
        make(&Api::<ClusterRole>::all(client.clone()), OTHER, role).await;
    }
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": "capsule-namespace-provisioner", "labels": label},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "capsule-namespace-provisioner"},
        "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "projectcapsule.dev"}]});
    make(&Api::<ClusterRoleBinding>::all(client.clone()), OTHER, binding).await;
}

/// UID and version of each object that is there, by kind, namespace and name.
async fn snapshot(client: &Client) -> BTreeMap<String, (String, String)> {
    async fn add<K>(client: &Client, found: &mut BTreeMap<String, (String, String)>)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        for namespace in NAMESPACES {
            let api: Api<K> = Api::namespaced(client.clone(), namespace);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let name = format!("{} {namespace}/{}", K::kind(&()), object.name_any());
                found.insert(
                    name,
                    (object.meta().uid.clone().unwrap(), object.resource_version().unwrap()),
                );
            }
        }
    }
    let mut found = BTreeMap::new();
    add::<RoleBinding>(client, &mut found).await;
    add::<ResourceQuota>(client, &mut found).await;
    add::<LimitRange>(client, &mut found).await;
    add::<NetworkPolicy>(client, &mut found).await;
    add::<RuleStatus>(client, &mut found).await;
    found
}

fn api<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), "oil-one")
}

async fn cluster_roles(client: &Client) -> Vec<(String, Option<String>)> {
    let selector = ListParams::default().labels("projectcapsule.dev/created-by=rbac-controller");
    let roles = Api::<ClusterRole>::all(client.clone()).list(&selector).await.unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(client.clone())
        .list(&selector)
        .await
        .unwrap();
    let roles = roles.items.into_iter().map(|it| it.metadata);
    let all = roles.chain(bindings.items.into_iter().map(|it| it.metadata));
    all.map(|meta| (meta.uid.unwrap(), meta.resource_version)).collect()
}

/// Who owns fields of an object by plain updates, its status apart.
fn updaters(object: &impl ResourceExt) -> Vec<String> {
    let entries = object.managed_fields().iter();
    let plain = entries.filter(|entry| entry.operation.as_deref() == Some("Update") && entry.subresource.is_none());
    plain.filter_map(|entry| entry.manager.clone()).collect()
}

#[tokio::test]
async fn what_another_operator_made_is_adopted_and_goes_when_it_is_not_wanted_any_more() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    install(&client).await;
    make_configuration(&client).await;
    let oil = make_tenant(&client).await;
    let mut namespaces = Vec::new();
    for name in NAMESPACES {
        namespaces.push(make_namespace(&client, &oil, name).await);
    }
    publish(&client, &namespaces).await;
    // A person's own mark on what the operator keeps.
    let label = json!({"metadata": {"labels": {"seen-by": "victor"}}});
    let person = PatchParams {
        field_manager: Some("kubectl-label".to_owned()),
        ..PatchParams::default()
    };
    for name in ["oil-one", "oil-two"] {
        Api::<RoleBinding>::namespaced(client.clone(), name)
            .patch(VIEWER, &person, &Patch::Merge(&label))
            .await
            .unwrap();
        eventually("the quota is counted", || async {
            let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), name);
            let status = quotas.get("capsule-oil-0").await.unwrap().status.unwrap_or_default();
            equal(
                status.used.map(|used| json!(used)),
                &Some(json!({"limits.cpu": "0", "limits.memory": "0", "pods": "0"})),
            )
        })
        .await;
    }

    let (before, roles_before) = (snapshot(&client).await, cluster_roles(&client).await);
    let oil = tenant(&client, "oil").await;
    let controllers = Controllers::start(client.clone(), "default");
    eventually("everything was looked at", || async {
        let is_configured = Api::<CapsuleConfiguration>::all(client.clone())
            .get("default")
            .await
            .unwrap()
            .status
            .is_some_and(|status| status.tenants == ["oil"]);
        let label = Api::<Namespace>::all(client.clone()).get("oil-two").await.unwrap();
        let is_marked = label.labels().contains_key("cotenant.dev/pod-validation");
        equal((is_configured, is_marked), &(true, true))
    })
    .await;
    at_rest(&controllers).await;

    // Adopted: not one of them was written.
    let mut after = snapshot(&client).await;
    let marked = |name: &str| format!("RoleBinding {name}/{VIEWER}");
    for name in NAMESPACES {
        // But the one that says more than it should.
        let (old, new) = (&before[&marked(name)], after.remove(&marked(name)).unwrap());
        assert_eq!(old.0, new.0);
        after.insert(marked(name), old.clone());
    }
    assert_eq!(after, before);
    assert_eq!(cluster_roles(&client).await, roles_before);
    let adopted = tenant(&client, "oil").await;
    assert_eq!(
        (adopted.uid(), adopted.metadata.generation),
        (oil.uid(), oil.metadata.generation)
    );
    for namespace in &namespaces {
        let found = Api::<Namespace>::all(client.clone())
            .get(&namespace.name_any())
            .await
            .unwrap();
        let mut labels = namespace.labels().clone();
        labels.insert("cotenant.dev/pod-validation".to_owned(), "true".to_owned());
        assert_eq!((found.uid(), found.labels()), (namespace.uid(), &labels));
        assert_eq!(found.annotations(), namespace.annotations());
    }

    let quota_before = api::<ResourceQuota>(&client).get("capsule-oil-0").await.unwrap();
    patch_tenant(
        &client,
        "oil",
        json!({"spec": {
            "owners": [],
            "additionalRoleBindings": [{"clusterRoleName": "view",
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "victor"}]}],
            "limitRanges": {"items": [{"limits": [{"type": "Container", "default": {"cpu": "200m"}}]}]},
            "namespaceOptions": {"additionalMetadata": {"annotations": null, "labels": {"env": null, "site": "demo"}}},
            "resourceQuotas": {"items": [{"hard": {"pods": "10"}}]},
        }}),
    )
    .await;
    ready(&client, "oil", 2).await;
    eventually("the quota is lowered", || async {
        let quota = api::<ResourceQuota>(&client).get("capsule-oil-0").await.unwrap();
        equal(json!(quota.spec.unwrap().hard), &json!({"pods": "10"}))
    })
    .await;
    at_rest(&controllers).await;

    let quota = api::<ResourceQuota>(&client).get("capsule-oil-0").await.unwrap();
    assert_eq!(quota.uid(), quota_before.uid());
    assert_eq!(
        json!(quota.annotations()),
        json!({"quota.capsule.clastix.io/hard-pods": "10", "quota.capsule.clastix.io/used-pods": "0"})
    );
    assert_eq!(updaters(&quota), Vec::<String>::new());
    let range = api::<LimitRange>(&client).get("capsule-oil-0").await.unwrap();
    let limits = json!(range.spec.unwrap().limits);
    assert_eq!(limits[0]["default"], json!({"cpu": "200m"}));
    let bindings = bed::names::<RoleBinding>(&client, "oil-one").await;
    assert_eq!(bindings, [VIEWER], "{ADMIN} and {DELETER} are gone");
    let viewer = api::<RoleBinding>(&client).get(VIEWER).await.unwrap();
    assert_eq!(
        json!(viewer.labels()),
        json!({"capsule.clastix.io/role-binding": "3a96a8be047439f4", "capsule.clastix.io/managed-by": "oil",
            "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": "oil", "seen-by": "victor"})
    );
    assert_eq!(updaters(&viewer), ["kubectl-label"]);
    let namespace = Api::<Namespace>::all(client.clone()).get("oil-one").await.unwrap();
    assert_eq!(namespace.labels().get("env"), None);
    assert_eq!(namespace.labels().get("site").map(String::as_str), Some("demo"));
    assert_eq!(namespace.annotations().get("note"), None);
    // The status says what is, not what the other said.
    let oil = tenant(&client, "oil").await;
    let status = json!(oil.status);
    assert_eq!(status["classes"].get("storage"), None, "no class of that name is there");
    assert_eq!(status["spaces"][0]["metadata"]["labels"].get("env"), None);
    controllers.stop().await;
}

/// Lets what is on its way arrive: no write between two looks.
async fn at_rest(controllers: &Controllers) {
    eventually("the controllers are at rest", || async {
        let before = controllers.writes();
        tokio::time::sleep(Duration::from_secs(1)).await;
        equal(controllers.writes(), &before)
    })
    .await;
}
