//! A real API server takes the definitions of namespace tenants, fills in the known defaults, and refuses in the known
//! words; and our types lose nothing of what it stores.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are here")]
#![recursion_limit = "256"]

use api::{
    capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner},
    schema,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use testbed::ApiServer;

async fn client() -> Client {
    let client = ApiServer::shared().await.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in [
        schema::crd::<CapsuleConfiguration>(),
        schema::crd::<Tenant>(),
        schema::crd::<TenantOwner>(),
    ] {
        let name = crd.metadata.name.clone().unwrap();
        definitions
            .patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd))
            .await
            .unwrap();
        await_condition(definitions.clone(), &name, conditions::is_crd_established())
            .await
            .unwrap();
    }
    client
}

/// As text, so that the API server sees what a person writes and not what our types make of it.
async fn create<K: Resource<DynamicType = ()>>(client: &Client, fields: &Value) -> Result<Value, String> {
    let resource = ApiResource::erase::<K>(&());
    let mut object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": testbed::unique("capsule")},
    });
    object
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match api.create(&PostParams::default(), &object).await {
        Ok(created) => Ok(serde_json::to_value(created).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
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
    for (spec, message) in rows {
        let refusal = create::<Tenant>(&client, &json!({"spec": spec})).await.unwrap_err();
        assert!(
            refusal.contains(message),
            "{spec}\nexpected: {message}\nanswered: {refusal}"
        );
    }
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
