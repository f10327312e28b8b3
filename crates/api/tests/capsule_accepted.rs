//! A real API server takes the definitions of namespace tenants, fills in the known defaults, and refuses in the known
//! words; and our types lose nothing of what it stores.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are here")]
#![recursion_limit = "256"]

use api::{
    capsule::{
        v1beta1,
        v1beta2::{
            CapsuleConfiguration, CustomQuota, GlobalCustomQuota, GlobalResourceQuota, GlobalTenantResource,
            QuantityLedger, ResourcePool, ResourcePoolClaim, RuleStatus, Tenant, TenantOwner, TenantResource,
        },
    },
    schema,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::crd::merge_crds,
    runtime::wait::{await_condition, conditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use testbed::ApiServer;

/// Every kind, also those that nothing acts upon yet.
fn definitions() -> Vec<CustomResourceDefinition> {
    let tenants = vec![schema::crd::<v1beta1::Tenant>(), schema::crd::<Tenant>()];
    vec![
        merge_crds(tenants, "v1beta2").unwrap(),
        schema::crd::<CapsuleConfiguration>(),
        schema::crd::<CustomQuota>(),
        schema::crd::<GlobalCustomQuota>(),
        schema::crd::<GlobalResourceQuota>(),
        schema::crd::<GlobalTenantResource>(),
        schema::crd::<QuantityLedger>(),
        schema::crd::<ResourcePool>(),
        schema::crd::<ResourcePoolClaim>(),
        schema::crd::<RuleStatus>(),
        schema::crd::<TenantOwner>(),
        schema::crd::<TenantResource>(),
    ]
}

async fn client() -> Client {
    let client = ApiServer::shared().await.client().await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = definitions();
    for crd in &definitions {
        let name = crd.metadata.name.as_deref().unwrap();
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(crd))
            .await
            .unwrap();
    }
    for crd in &definitions {
        let name = crd.metadata.name.as_deref().unwrap();
        await_condition(api.clone(), name, conditions::is_crd_established())
            .await
            .unwrap();
    }
    client
}

fn api_of<K: Resource<DynamicType = ()> + CustomResourceExt>(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    match K::crd().spec.scope.as_str() {
        "Namespaced" => Api::namespaced_with(client.clone(), "default", &resource),
        _ => Api::all_with(client.clone(), &resource),
    }
}

/// As text, so that the API server sees what a person writes and not what our types make of it.
async fn create<K: Resource<DynamicType = ()> + CustomResourceExt>(
    client: &Client,
    fields: &Value,
) -> Result<Value, String> {
    let resource = ApiResource::erase::<K>(&());
    let mut object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": testbed::unique("capsule")},
    });
    object
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    answer(api_of::<K>(client).create(&PostParams::default(), &object).await)
}

async fn write_status<K: Resource<DynamicType = ()> + CustomResourceExt>(
    client: &Client,
    stored: &Value,
    status: &Value,
) -> Result<Value, String> {
    let mut object = stored.clone();
    object["status"] = status.clone();
    let name = object["metadata"]["name"].as_str().unwrap();
    let body: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let api = api_of::<K>(client);
    answer(api.replace_status(name, &PostParams::default(), &body).await)
}

fn answer(result: kube::Result<DynamicObject>) -> Result<Value, String> {
    match result {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Creates an object with every part of its spec and of its status: both are stored as they are, and our type reads and
/// writes all of it.
async fn assert_survives<K>(client: &Client, spec: &Value, status: &Value)
where
    K: Resource<DynamicType = ()> + CustomResourceExt + DeserializeOwned + Serialize,
{
    let stored = create::<K>(client, &json!({"spec": spec})).await.unwrap();
    assert_eq!(&stored["spec"], spec, "the API server prunes and adds nothing");
    let stored = write_status::<K>(client, &stored, status).await.unwrap();
    assert_eq!(&stored["status"], status, "the API server prunes and adds nothing");
    assert_nothing_is_lost::<K>(&stored);
}

async fn assert_refused<K: Resource<DynamicType = ()> + CustomResourceExt>(client: &Client, rows: &[(Value, &str)]) {
    for (spec, message) in rows {
        let refusal = create::<K>(client, &json!({"spec": spec})).await.unwrap_err();
        assert!(
            refusal.contains(message),
            "{spec}\nexpected: {message}\nanswered: {refusal}"
        );
    }
}

fn assert_nothing_is_lost<K: DeserializeOwned + Serialize>(stored: &Value) {
    let typed: K = serde_json::from_value(stored.clone()).unwrap();
    let mut back = serde_json::to_value(typed).unwrap();
    back["metadata"] = stored["metadata"].clone();
    assert_eq!(&back, stored);
}

#[tokio::test]
async fn a_tenant_is_filled_in_with_the_known_defaults() {
    let client = client().await;
    let empty = create::<Tenant>(&client, &json!({})).await.unwrap();
    assert_eq!(empty["spec"], json!({"cordoned": false, "preventDeletion": false}));
    assert_nothing_is_lost::<Tenant>(&empty);

    let given = json!({"spec": {
        "owners": [{"kind": "User", "name": "alice"}],
        "permissions": {},
        "namespaceOptions": {"quota": 3},
        "ingressOptions": {},
        "serviceOptions": {"allowedServices": {}},
        "resourceQuotas": {"items": [{"hard": {"pods": 20}}]},
        "rules": [{"enforce": {"workloads": {"registries": [{"exp": "^docker.io/"}]}}}],
        "data": {"any": ["thing", 1]},
    }});
    let stored = create::<Tenant>(&client, &given).await.unwrap();
    let spec = &stored["spec"];
    assert_eq!(
        spec["owners"][0]["clusterRoles"],
        json!(["admin", "capsule-namespace-deleter"])
    );
    assert_eq!(spec["permissions"]["allowOwnerPromotion"], true);
    assert_eq!(spec["namespaceOptions"]["managedMetadataOnly"], false);
    assert_eq!(spec["ingressOptions"]["hostnameCollisionScope"], "Disabled");
    assert_eq!(
        spec["serviceOptions"]["allowedServices"],
        json!({"nodePort": true, "externalName": true, "loadBalancer": true})
    );
    assert_eq!(spec["resourceQuotas"]["scope"], "Tenant");
    assert_eq!(spec["rules"][0]["enforce"]["action"], "deny");
    assert_eq!(
        spec["rules"][0]["enforce"]["workloads"]["registries"][0]["negate"],
        false
    );
    assert_eq!(spec["data"], json!({"any": ["thing", 1]}));
    let tenant: Tenant = serde_json::from_value(stored).unwrap();
    assert_eq!(
        tenant.spec.resource_quotas.unwrap().items[0].hard.as_ref().unwrap()["pods"].0,
        "20"
    );
}

#[tokio::test]
async fn a_tenant_with_every_part_survives() {
    let selector =
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]});
    let classes = json!({
        "allowed": ["gold"], "allowedRegex": "^g", "default": "gold",
        "matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}],
    });
    let metadata = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}});
    let spec = json!({
        "owners": [{
            "kind": "ServiceAccount", "name": "system:serviceaccount:a:b", "clusterRoles": [], "labels": {"a": "b"},
            "annotations": {"c": "d"}, "proxySettings": [{"kind": "RuntimeClasses", "operations": ["List", "Update", "Delete"]}],
        }],
        "permissions": {"matchOwners": [selector], "allowOwnerPromotion": false},
        "additionalRoleBindings": [{
            "clusterRoleName": "view", "subjects": [{"kind": "Group", "name": "g", "apiGroup": "rbac.authorization.k8s.io"}],
            "labels": {"a": "b"}, "annotations": {"c": "d"},
        }],
        "cordoned": true, "preventDeletion": true, "forceTenantPrefix": false, "nodeSelector": {"a": "b"},
        "namespaceOptions": {
            "quota": 1, "managedMetadataOnly": true, "additionalMetadata": metadata,
            "additionalMetadataList": [{"namespaceSelector": selector, "labels": {"a": "b"}, "annotations": {"c": "d"}}],
            "requiredMetadata": metadata, "forbiddenLabels": {"denied": ["a"], "deniedRegex": "b"},
            "forbiddenAnnotations": {"denied": ["a"]},
        },
        "storageClasses": classes, "priorityClasses": classes, "runtimeClasses": classes,
        "deviceClasses": {"allowed": ["gpu"], "matchLabels": {"a": "b"}},
        "gatewayOptions": {"allowedClasses": classes},
        "ingressOptions": {
            "allowedClasses": classes, "allowedHostnames": {"allowed": ["a.b"], "allowedRegex": "c"},
            "hostnameCollisionScope": "Cluster", "allowWildcardHostnames": true,
        },
        "serviceOptions": {
            "additionalMetadata": metadata, "allowedServices": {"nodePort": false, "externalName": false, "loadBalancer": false},
            "externalIPs": {"allowed": ["10.0.0.0/8"]}, "forbiddenLabels": {"denied": ["a"]},
            "forbiddenAnnotations": {"deniedRegex": "b"},
        },
        "podOptions": {"additionalMetadata": metadata},
        "containerRegistries": {"allowed": ["docker.io"]}, "imagePullPolicies": ["Always", "IfNotPresent"],
        "networkPolicies": {"items": [{
            "podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 53, "protocol": "UDP"}, {"port": "dns"}]}],
        }]},
        "limitRanges": {"items": [{"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"memory": "1Gi"}}]}]},
        "resourceQuotas": {"scope": "Namespace", "items": [{
            "hard": {"pods": "20", "requests.cpu": "500m"}, "scopes": ["NotTerminating"],
            "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]},
        }]},
        "rules": [{
            "namespaceSelector": selector,
            "permissions": {
                "bindings": [{"clusterRoleName": "view", "subjects": [{"kind": "User", "name": "u"}]}],
                "promotions": [{"clusterRoles": ["edit"], "selector": selector}],
            },
            "audience": [{"kind": "Custom", "name": "TenantOwner"}],
            "quota": [{"name": "small", "hard": {"pods": "1"}}],
            "enforce": {
                "action": "audit",
                "ingress": {"types": ["HTTPRoute", "TLSRoute"], "hostnames": [{"exact": ["a.b"], "negate": true}]},
                "metadata": [{
                    "kinds": ["Pod*"], "apiGroups": ["apps/v1"],
                    "labels": {"env": {"required": true, "values": [{"exp": "^p", "negate": false}], "default": "x", "managed": "y"}},
                }],
                "services": {
                    "types": ["ClusterIP"], "loadBalancers": {"cidrs": ["10.0.0.0/8"]},
                    "externalNames": {"hostnames": [{"exp": "a", "negate": false}]},
                    "nodePorts": {"ports": [{"from": 30000, "to": 30010}]},
                },
                "workloads": {
                    "targets": ["pod/initcontainers", "pod/volumes"],
                    "registries": [{"exact": ["a"], "exp": "b", "negate": false, "policy": ["Always"]}],
                    "schedulers": [{"exact": ["s"], "negate": false}], "qosClasses": ["Burstable"],
                    "resources": {
                        "requests": {"cpu": {"policy": "Default", "value": "100m"}},
                        "limits": {"cpu": {"policy": "Ratio", "value": "2"}, "memory": {"policy": "MatchRequest"}},
                    },
                },
            },
        }],
    });
    let stored = create::<Tenant>(&client().await, &json!({"spec": spec})).await.unwrap();
    assert_eq!(stored["spec"], spec, "the API server prunes nothing");
    assert_nothing_is_lost::<Tenant>(&stored);
}

#[tokio::test]
async fn what_the_schema_can_refuse_is_refused_in_the_known_words() {
    let client = client().await;
    let workloads = |workloads: Value| json!({"rules": [{"enforce": {"workloads": workloads}}]});
    let rows = [
        (
            json!({"owners": [{"kind": "Robot", "name": "r"}]}),
            "Unsupported value: \"Robot\"",
        ),
        (
            json!({"owners": [{"kind": "User"}]}),
            "spec.owners[0].name: Required value",
        ),
        (json!({"namespaceOptions": {"quota": 0}}), "greater than or equal to 1"),
        (
            json!({"resourceQuotas": {"scope": "Cluster"}}),
            "Unsupported value: \"Cluster\"",
        ),
        (
            json!({"resourceQuotas": {"items": [{"hard": {"pods": "many"}}]}}),
            "should match",
        ),
        (
            json!({"additionalRoleBindings": [{"clusterRoleName": "view", "subjects": []}]}),
            "should have at least 1 items",
        ),
        (
            json!({"imagePullPolicies": ["Sometimes"]}),
            "Unsupported value: \"Sometimes\"",
        ),
        (
            json!({"serviceOptions": {"externalIPs": {"allowed": ["everywhere"]}}}),
            "should match",
        ),
        (
            workloads(json!({"registries": [{}]})),
            "at least one of exact or exp must be set",
        ),
        (
            workloads(json!({"resources": {}})),
            "at least one of requests or limits must be set",
        ),
        (
            workloads(json!({"resources": {"requests": {"cpu": {"policy": "Remove", "value": "1"}}}})),
            "value must be set only for the Default policy",
        ),
        (
            workloads(json!({"resources": {"limits": {"cpu": {"policy": "Ratio"}}}})),
            "value must be set only for the Default and Ratio policies",
        ),
        (
            json!({"rules": [{"enforce": {"metadata": [{"kinds": ["Pod"]}]}}]}),
            "at least one of labels or annotations must be set",
        ),
        (
            json!({"rules": [{"quota": [{"name": "a"}, {"name": "a"}]}]}),
            "Duplicate value",
        ),
    ];
    assert_refused::<Tenant>(&client, &rows).await;
}

#[tokio::test]
async fn a_configuration_is_filled_in_with_the_known_defaults() {
    let client = client().await;
    let stored = create::<CapsuleConfiguration>(&client, &json!({"spec": {}}))
        .await
        .unwrap();
    assert_eq!(
        stored["spec"],
        json!({
            "allowServiceAccountPromotion": false,
            "cacheInvalidation": "24h",
            "enableTLSReconciler": false,
            "events": {"namespace": "default"},
            "forceTenantPrefix": false,
            "overrides": {
                "TLSSecretName": "capsule-tls",
                "mutatingWebhookConfigurationName": "capsule-mutating-webhook-configuration",
                "validatingWebhookConfigurationName": "capsule-validating-webhook-configuration",
            },
            "rbac": {
                "administrationClusterRoles": ["capsule-namespace-deleter"],
                "deleter": "capsule-namespace-deleter",
                "promotionClusterRoles": ["capsule-namespace-provisioner", "capsule-namespace-deleter"],
                "provisioner": "capsule-namespace-provisioner",
            },
        })
    );
    assert_nothing_is_lost::<CapsuleConfiguration>(&stored);

    let hook = json!({
        "name": "pods.validating.projectcapsule.dev", "path": "/pods/validating", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "opts": {"capsuleUsers": true, "administrators": false},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "*"}],
        "matchConditions": [{"name": "a", "expression": "true"}], "timeoutSeconds": 3,
    });
    let admission = |client: Value| json!({"spec": {"admission": {"serviceName": "hooks", "validating": {"name": "hooks", "client": client, "webhooks": [hook]}}}});
    let service = json!({"service": {"name": "a", "namespace": "b", "port": 443}, "caBundle": "YQ=="});
    let stored = create::<CapsuleConfiguration>(&client, &admission(service))
        .await
        .unwrap();
    assert_eq!(stored["spec"]["admission"]["validating"]["webhooks"][0], hook);
    assert_nothing_is_lost::<CapsuleConfiguration>(&stored);
    for wrong in [
        json!({}),
        json!({"url": "https://a", "service": {"name": "a", "namespace": "b"}}),
    ] {
        let refusal = create::<CapsuleConfiguration>(&client, &admission(wrong))
            .await
            .unwrap_err();
        assert!(
            refusal.contains("client must configure exactly one of url or service"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn a_tenant_owner_is_filled_in_with_the_known_defaults() {
    let given = json!({"spec": {"kind": "User", "name": "alice"}});
    let stored = create::<TenantOwner>(&client().await, &given).await.unwrap();
    assert_eq!(
        stored["spec"],
        json!({
            "kind": "User", "name": "alice", "aggregate": true, "clusterRoles": ["admin", "capsule-namespace-deleter"],
        })
    );
    assert_nothing_is_lost::<TenantOwner>(&stored);
}

fn conditions() -> Value {
    json!([{
        "type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
    }])
}

fn selector() -> Value {
    json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]})
}

fn quota() -> Value {
    json!({
        "hard": {"pods": "20", "requests.cpu": "500m"}, "scopes": ["NotTerminating"],
        "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]},
    })
}

fn allocation() -> Value {
    json!({"hard": {"pods": "20"}, "used": {"pods": "5"}, "available": {"pods": "15"}})
}

#[tokio::test]
async fn an_older_tenant_is_filled_in_and_refused_as_ever() {
    let client = client().await;
    let given = json!({"spec": {
        "owners": [{"kind": "User", "name": "alice", "proxySettings": [{"kind": "Nodes", "operations": ["List"]}]}],
        "namespaceOptions": {"quota": 3, "additionalMetadata": {"labels": {"a": "b"}}},
        "storageClasses": {"allowed": ["gold"], "allowedRegex": "^g"}, "priorityClasses": {"allowed": ["low"]},
        "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "allowedHostnames": {"allowedRegex": "a"}},
        "serviceOptions": {"allowedServices": {"nodePort": false}}, "nodeSelector": {"a": "b"},
        "containerRegistries": {"allowed": ["docker.io"]}, "imagePullPolicies": ["Always"],
        "networkPolicies": {"items": [{"podSelector": {}}]}, "limitRanges": {"items": [{"limits": [{"type": "Pod"}]}]},
        "resourceQuotas": {"items": [{"hard": {"pods": "1"}}]},
        "additionalRoleBindings": [{"clusterRoleName": "view", "subjects": [{"kind": "User", "name": "u"}]}],
    }});
    let stored = create::<v1beta1::Tenant>(&client, &given).await.unwrap();
    let mut expected = given["spec"].clone();
    expected["ingressOptions"]["hostnameCollisionScope"] = json!("Disabled");
    expected["serviceOptions"]["allowedServices"] =
        json!({"nodePort": false, "externalName": true, "loadBalancer": true});
    expected["resourceQuotas"]["scope"] = json!("Tenant");
    assert_eq!(stored["spec"], expected);
    let status = json!({"state": "Cordoned", "size": 1, "namespaces": ["a"]});
    let stored = write_status::<v1beta1::Tenant>(&client, &stored, &status)
        .await
        .unwrap();
    assert_nothing_is_lost::<v1beta1::Tenant>(&stored);

    let proxied = |kind: &str| json!({"owners": [{"kind": "User", "name": "a", "proxySettings": [{"kind": kind, "operations": []}]}]});
    let rows = [
        (json!({}), "spec.owners: Required value"),
        (proxied("RuntimeClasses"), "Unsupported value: \"RuntimeClasses\""),
        (
            json!({"owners": [], "namespaceOptions": {"quota": 0}}),
            "greater than or equal to 1",
        ),
    ];
    assert_refused::<v1beta1::Tenant>(&client, &rows).await;
}

fn replication() -> Value {
    let item = json!({
        "apiVersion": "v1", "kind": "Secret", "name": "registry", "namespace": "oil-one", "selector": selector(), "optional": false,
    });
    let mut context = item.clone();
    context["index"] = json!("secrets");
    json!({
        "resources": [{
            "namespaceSelector": selector(),
            "namespacedItems": [item],
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"{{ namespace }}": "b"}}],
            "generators": [{"template": "kind: ConfigMap", "missingKey": "error"}],
            "context": {"resources": [context]},
            "additionalMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        }],
        "resyncPeriod": "5m", "pruningOnDelete": false, "cordoned": true, "dependsOn": [{"name": "first"}],
        "settings": {"adopt": true, "force": true}, "serviceAccount": {"name": "robot"},
    })
}

fn replicated() -> Value {
    json!({
        "size": 1,
        "processedItems": [{
            "group": "apps", "version": "v1", "kind": "Deployment", "name": "a", "namespace": "oil-one", "tenant": "oil",
            "origin": "0/raw-0",
            "status": {
                "type": "Ready", "status": "False", "message": "no", "created": true, "clusterScoped": true,
                "lastApply": "2026-01-02T03:04:05Z",
            },
        }],
        "serviceAccount": {"name": "robot", "namespace": "oil-one"},
        "conditions": conditions(), "observedGeneration": 1,
    })
}

#[tokio::test]
async fn replications_are_filled_in_with_the_known_defaults() {
    let client = client().await;
    let given = json!({"spec": {"resources": [{
        "namespacedItems": [{"kind": "Secret"}], "generators": [{"template": "a: b"}],
        "context": {"resources": [{"kind": "Secret"}]},
    }]}});
    let expected = json!({
        "resources": [{
            "namespacedItems": [{"kind": "Secret", "optional": true}],
            "generators": [{"template": "a: b", "missingKey": "zero"}],
            "context": {"resources": [{"kind": "Secret", "optional": true}]},
        }],
        "resyncPeriod": "60s", "pruningOnDelete": true, "cordoned": false, "settings": {"adopt": false, "force": false},
    });
    let stored = create::<TenantResource>(&client, &given).await.unwrap();
    assert_eq!(stored["spec"], expected);
    assert_nothing_is_lost::<TenantResource>(&stored);

    let stored = create::<GlobalTenantResource>(&client, &given).await.unwrap();
    let mut expected = expected;
    expected["scope"] = json!("Namespace");
    assert_eq!(stored["spec"], expected);
    assert_nothing_is_lost::<GlobalTenantResource>(&stored);
}

#[tokio::test]
async fn replications_with_every_part_survive() {
    let client = client().await;
    assert_survives::<TenantResource>(&client, &replication(), &replicated()).await;

    let mut spec = replication();
    spec["serviceAccount"]["namespace"] = json!("robots");
    spec["tenantSelector"] = selector();
    spec["scope"] = json!("None");
    let mut status = replicated();
    status["selectedTenants"] = json!(["gas", "oil"]);
    assert_survives::<GlobalTenantResource>(&client, &spec, &status).await;
}

#[tokio::test]
async fn replications_are_refused_in_the_known_words() {
    let client = client().await;
    let block = |block: Value| json!({"resources": [block]});
    let rows = [
        (json!({}), "spec.resources: Required value"),
        (
            block(json!({"namespacedItems": [{"name": "a"}]})),
            "namespacedItems[0].kind: Required value",
        ),
        (
            block(json!({"namespacedItems": [{"kind": ""}]})),
            "should be at least 1 chars long",
        ),
        (
            block(json!({"generators": [{"missingKey": "maybe"}]})),
            "Unsupported value: \"maybe\"",
        ),
        (
            json!({"resources": [], "dependsOn": [{"name": "Not_A_Name"}]}),
            "should match",
        ),
        (
            json!({"resources": [], "serviceAccount": {}}),
            "spec.serviceAccount.name: Required value",
        ),
        (
            json!({"resources": [], "serviceAccount": {"name": "Robot"}}),
            "should match",
        ),
    ];
    assert_refused::<TenantResource>(&client, &rows).await;
    let rows = [
        (
            json!({"resources": [], "serviceAccount": {"name": "robot"}}),
            "spec.serviceAccount.namespace: Required value",
        ),
        (
            json!({"resources": [], "scope": "Cluster"}),
            "Unsupported value: \"Cluster\"",
        ),
    ];
    assert_refused::<GlobalTenantResource>(&client, &rows).await;
}

#[tokio::test]
async fn resource_pools_and_their_claims_are_filled_in_survive_and_are_refused() {
    let client = client().await;
    let stored = create::<ResourcePool>(&client, &json!({"spec": {"quota": {}}}))
        .await
        .unwrap();
    let config = json!({"defaultsZero": false, "deleteBoundResources": false, "orderedQueue": false});
    assert_eq!(stored["spec"], json!({"quota": {}, "config": config}));
    assert_nothing_is_lost::<ResourcePool>(&stored);
    let stored = write_status::<ResourcePool>(&client, &stored, &json!({"conditions": []}))
        .await
        .unwrap();
    assert_eq!(
        stored["status"],
        json!({"conditions": [], "claimCount": 0, "namespaceCount": 0})
    );

    let spec = json!({
        "quota": quota(), "defaults": {"pods": "1"}, "selectors": [selector(), {}],
        "config": {"defaultsZero": true, "deleteBoundResources": true, "orderedQueue": true},
    });
    let status = json!({
        "allocation": allocation(),
        "claims": {"oil-one": [{"name": "a", "namespace": "oil-one", "uid": "1", "claims": {"pods": "5"}}]},
        "claimCount": 1, "namespaceCount": 1, "namespaces": ["oil-one"],
        "exhaustions": {"pods": {"available": "15", "requesting": "16"}},
        "conditions": conditions(), "observedGeneration": 1,
    });
    assert_survives::<ResourcePool>(&client, &spec, &status).await;
    let status = json!({
        "pool": {"name": "a", "uid": "1"}, "allocation": allocation(), "condition": conditions()[0],
        "conditions": conditions(), "observedGeneration": 1,
    });
    let spec = json!({"pool": "", "claim": {"pods": "5"}});
    assert_survives::<ResourcePoolClaim>(&client, &spec, &status).await;

    let rows = [
        (json!({}), "spec.quota: Required value"),
        (json!({"quota": {"hard": {"pods": "many"}}}), "should match"),
        (json!({"quota": {}, "defaults": {"pods": true}}), "Invalid value"),
    ];
    assert_refused::<ResourcePool>(&client, &rows).await;
    let rows = [
        (json!({"pool": "a"}), "spec.claim: Required value"),
        (json!({"claim": {}}), "spec.pool: Required value"),
        (json!({"pool": "a", "claim": {"pods": "many"}}), "should match"),
    ];
    assert_refused::<ResourcePoolClaim>(&client, &rows).await;
}

fn custom_quota() -> Value {
    json!({
        "limit": "10Gi", "options": {"emitMetricPerClaimUsage": true}, "scopeSelectors": [selector()],
        "sources": [
            {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "op": "sub", "path": ".spec.resources.requests.storage",
                "selectors": [{
                    "matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}],
                    "fieldSelectors": [".status.phase==Bound"], "celExpressions": ["has(object.spec)"],
                }],
            },
            {"apiVersion": "apps/v1", "kind": "Deployment", "op": "add", "cel": "quantity('1')"},
            {"kind": "Pod", "op": "count"},
        ],
    })
}

fn custom_quota_status() -> Value {
    json!({
        "targets": [{
            "group": "", "version": "v1", "kind": "Pod", "op": "count", "path": ".a", "cel": "b",
            "selectors": [{"fieldSelectors": [".a"]}], "scope": "namespace",
        }],
        "usage": {"used": "1Gi", "available": "9Gi"},
        "claims": [{
            "group": "", "version": "v1", "kind": "Pod", "name": "a", "namespace": "oil-one", "uid": "1", "usage": "1",
        }],
        "conditions": conditions(), "observedGeneration": 1,
    })
}

#[tokio::test]
async fn custom_quotas_are_filled_in_and_survive() {
    let client = client().await;
    let given = json!({"spec": {"limit": 10, "sources": [{"kind": "Pod", "cel": "quantity('1')"}]}});
    let stored = create::<CustomQuota>(&client, &given).await.unwrap();
    assert_eq!(
        stored["spec"],
        json!({
            "limit": 10, "options": {"emitMetricPerClaimUsage": false},
            "sources": [{"kind": "Pod", "op": "add", "cel": "quantity('1')"}],
        })
    );
    let quota: CustomQuota = serde_json::from_value(stored).unwrap();
    assert_eq!(quota.spec.limit.0, "10");

    assert_survives::<CustomQuota>(&client, &custom_quota(), &custom_quota_status()).await;
    let mut spec = custom_quota();
    spec["namespaceSelectors"] = json!([selector()]);
    let mut status = custom_quota_status();
    status["namespaces"] = json!(["oil-one"]);
    assert_survives::<GlobalCustomQuota>(&client, &spec, &status).await;
}

#[tokio::test]
async fn custom_quotas_are_refused_in_the_known_words() {
    let client = client().await;
    let source = |fields: Value| {
        let mut source = json!({"kind": "Pod"});
        source
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"limit": "1", "sources": [source]})
    };
    let one =
        "path and cel must be empty when op is 'count'; otherwise exactly one of path or cel must be set and non-empty";
    let long = "a".repeat(4097);
    let selectors = |selector: Value| source(json!({"op": "count", "selectors": [selector]}));
    let rows = [
        (json!({"sources": []}), "spec.limit: Required value"),
        (json!({"limit": "1"}), "spec.sources: Required value"),
        (json!({"limit": "much", "sources": []}), "should match"),
        (source(json!({})), one),
        (source(json!({"path": "", "cel": ""})), one),
        (source(json!({"path": ".a", "cel": "a"})), one),
        (source(json!({"op": "sub"})), one),
        (source(json!({"op": "count", "path": ".a"})), one),
        (source(json!({"op": "count", "cel": "a"})), one),
        (source(json!({"op": "max", "path": ".a"})), "Unsupported value: \"max\""),
        (
            source(json!({"kind": "", "op": "count"})),
            "should be at least 1 chars long",
        ),
        (source(json!({"cel": long})), "may not be more than 4096"),
        (
            selectors(json!({"celExpressions": [""]})),
            "should be at least 1 chars long",
        ),
        (
            selectors(json!({"celExpressions": [long]})),
            "may not be more than 4096",
        ),
        (
            selectors(json!({"celExpressions": vec!["a"; 65]})),
            "must have at most 64 items",
        ),
    ];
    assert_refused::<CustomQuota>(&client, &rows).await;
    assert_refused::<GlobalCustomQuota>(&client, &rows).await;
    for lawful in [
        source(json!({"op": "count", "path": "", "cel": ""})),
        source(json!({"path": ".a", "cel": ""})),
        source(json!({"op": "sub", "path": "", "cel": "a"})),
    ] {
        create::<CustomQuota>(&client, &json!({"spec": lawful})).await.unwrap();
    }
}

#[tokio::test]
async fn a_global_resource_quota_survives_and_is_refused() {
    let client = client().await;
    let spec = json!({"quota": quota(), "namespaceSelectors": [selector(), {}]});
    let status = json!({
        "namespaces": ["oil-one"], "namespaceCount": 1, "namespaceUsage": {"oil-one": {"used": {"pods": "5"}}},
        "total": allocation(), "conditions": conditions(), "observedGeneration": 1,
    });
    assert_survives::<GlobalResourceQuota>(&client, &spec, &status).await;
    let rows = [
        (json!({}), "spec.quota: Required value"),
        (
            json!({"quota": {}, "namespaceSelectors": [{"matchExpressions": [{"key": "a"}]}]}),
            "operator: Required value",
        ),
    ];
    assert_refused::<GlobalResourceQuota>(&client, &rows).await;

    let stored = create::<GlobalResourceQuota>(&client, &json!({"spec": {"quota": {}}}))
        .await
        .unwrap();
    let refusal = write_status::<GlobalResourceQuota>(&client, &stored, &json!({"conditions": []})).await;
    assert!(refusal.unwrap_err().contains("status.total: Required value"));
}

#[tokio::test]
async fn a_ledger_survives_and_is_refused() {
    let client = client().await;
    let target =
        json!({"apiGroup": "capsule.clastix.io", "kind": "CustomQuota", "name": "a", "namespace": "b", "uid": "1"});
    let object = json!({"apiGroup": "apps", "apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "namespace": "b", "uid": "1"});
    let time = "2026-01-02T03:04:05Z";
    let reservation = json!({
        "id": "1/a", "usage": "2", "delta": "1", "objectRef": object, "createdAt": time, "updatedAt": time, "expiresAt": time,
    });
    let mut amounts = reservation.clone();
    amounts["usage"] = json!({"pods": "2"});
    amounts["delta"] = json!({"pods": "1"});
    let status = json!({
        "reserved": "1", "allocated": "3", "reservations": [reservation],
        "pendingDeletes": [{"id": "1/a", "objectRef": object, "createdAt": time}], "conditions": conditions(),
        "resourceQuota": {
            "observedGeneration": 1, "initialized": true, "namespaces": ["b"], "used": {"pods": "1"}, "reserved": {"pods": "1"},
            "allocated": {"pods": "2"}, "reservations": [amounts],
        },
    });
    assert_survives::<QuantityLedger>(&client, &json!({"targetRef": target}), &status).await;

    let rows = [
        (json!({}), "spec.targetRef: Required value"),
        (
            json!({"targetRef": {"kind": "a"}}),
            "spec.targetRef.name: Required value",
        ),
        (
            json!({"targetRef": {"kind": "", "name": "a"}}),
            "should be at least 1 chars long",
        ),
    ];
    assert_refused::<QuantityLedger>(&client, &rows).await;
    let refusal = create::<QuantityLedger>(&client, &json!({})).await.unwrap_err();
    assert!(refusal.contains("spec: Required value"), "{refusal}");

    let stored = create::<QuantityLedger>(&client, &json!({"spec": {"targetRef": {"kind": "a", "name": "b"}}}))
        .await
        .unwrap();
    let nameless =
        json!({"reservations": [{"id": "", "usage": "1", "objectRef": object, "createdAt": time, "updatedAt": time}]});
    let refusal = write_status::<QuantityLedger>(&client, &stored, &nameless)
        .await
        .unwrap_err();
    assert!(refusal.contains("should be at least 1 chars long"), "{refusal}");
}

#[tokio::test]
async fn a_rule_status_is_filled_in_survives_and_is_refused() {
    let client = client().await;
    let empty = create::<RuleStatus>(&client, &json!({})).await.unwrap();
    assert_eq!(empty["spec"], json!([]));
    assert_nothing_is_lost::<RuleStatus>(&empty);
    let stored = create::<RuleStatus>(&client, &json!({"spec": [{"enforce": {}}]}))
        .await
        .unwrap();
    assert_eq!(stored["spec"], json!([{"enforce": {"action": "deny"}}]));

    let body = json!({
        "audience": [{"kind": "Group", "name": "a"}], "quota": [{"name": "small", "hard": {"pods": "1"}}],
        "enforce": {
            "action": "allow",
            "workloads": {"targets": ["pod"], "registries": [{"exp": "a", "negate": true, "policy": ["Always"]}]},
        },
    });
    let status = json!({"rules": [body], "rule": body, "conditions": conditions(), "observedGeneration": 1});
    assert_survives::<RuleStatus>(&client, &json!([body, {}]), &status).await;

    let rows = [
        (json!({"rules": []}), "must be of type array"),
        (json!([{"enforce": {"action": "ask"}}]), "Unsupported value: \"ask\""),
        (
            json!([{"enforce": {"workloads": {"registries": [{}]}}}]),
            "at least one of exact or exp must be set",
        ),
        (json!([{"quota": [{"name": "a"}, {"name": "a"}]}]), "Duplicate value"),
    ];
    assert_refused::<RuleStatus>(&client, &rows).await;
}
