//! A real API server takes the definitions, fills in defaults and applies the rules that are written in them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are here")]

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::ApiServer;

async fn client() -> Client {
    let client = ApiServer::shared().await.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        let mut crd = serde_json::to_value(crd).unwrap();
        crd["apiVersion"] = json!("apiextensions.k8s.io/v1");
        crd["kind"] = json!("CustomResourceDefinition");
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

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// As text, so that the API server sees what a person writes and not what our types make of it.
async fn create(client: &Client, kind: &str, object: &Value) -> Result<Value, String> {
    let (resource, namespaced) = match kind {
        "TenantControlPlane" => (ApiResource::erase::<TenantControlPlane>(&()), true),
        _ => (ApiResource::erase::<DataStore>(&()), false),
    };
    let api: Api<DynamicObject> = if namespaced {
        Api::namespaced_with(client.clone(), "default", &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    match api.create(&PostParams::default(), &object).await {
        Ok(created) => Ok(serde_json::to_value(created).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

fn control_plane(patch: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        "metadata": {"name": testbed::unique("tcp")},
        "spec": {
            "controlPlane": {"service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.0"},
            "addons": {"coreDNS": {}, "kubeProxy": {}},
        },
    });
    merge(&mut object["spec"], patch);
    object
}

#[tokio::test]
async fn a_manifest_of_many_years_is_accepted_and_filled_in() {
    let client = client().await;
    let created = create(&client, "TenantControlPlane", &control_plane(&json!({})))
        .await
        .unwrap();
    let spec = &created["spec"];
    assert_eq!(spec["controlPlane"]["deployment"]["replicas"], 2);
    assert_eq!(
        spec["controlPlane"]["deployment"]["registrySettings"]["registry"],
        "registry.k8s.io"
    );
    assert_eq!(
        spec["controlPlane"]["deployment"]["strategy"]["rollingUpdate"]["maxSurge"],
        "100%"
    );
    assert_eq!(spec["networkProfile"]["port"], 6443);
    assert_eq!(spec["networkProfile"]["serviceCidr"], "10.96.0.0/16");
    assert_eq!(spec["networkProfile"]["clusterDomain"], "cluster.local");
    assert_eq!(
        spec["kubernetes"]["kubelet"]["preferredAddressTypes"],
        json!(["InternalIP", "ExternalIP", "Hostname"])
    );
    assert_eq!(spec["kubernetes"]["admissionControllers"].as_array().unwrap().len(), 17);
    assert_eq!(spec["addons"], json!({"coreDNS": {}, "kubeProxy": {}}));
    let typed: TenantControlPlane = serde_json::from_value(created.clone()).unwrap();
    let mut back = serde_json::to_value(typed).unwrap();
    back["metadata"] = created["metadata"].clone();
    assert_eq!(back, created, "our types lose nothing");
}

#[tokio::test]
async fn fields_of_kubernetes_own_types_survive() {
    let client = client().await;
    let deployment = json!({
        "additionalContainers": [{
            "name": "audit", "image": "busybox", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
            "livenessProbe": {"httpGet": {"port": "http"}},
        }],
        "additionalVolumes": [{"name": "audit", "emptyDir": {"sizeLimit": "1Gi"}}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "role", "operator": "In", "values": ["hosting"]}]},
        ]}}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "resources": {"apiServer": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
    });
    let patch = json!({"controlPlane": {"deployment": deployment}});
    let created = create(&client, "TenantControlPlane", &control_plane(&patch))
        .await
        .unwrap();
    let mut expected = deployment;
    // The part of the key by which ports merge.
    expected["additionalContainers"][0]["ports"][0]["protocol"] = json!("TCP");
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&created["spec"]["controlPlane"]["deployment"][field], value, "{field}");
    }
}

#[tokio::test]
async fn what_the_schema_can_refuse_is_refused_in_the_known_words() {
    let client = client().await;
    let service = |type_: &str| json!({"controlPlane": {"service": {"serviceType": type_}}});
    let with = |mut patch: Value, more: Value| {
        merge(&mut patch, &more);
        patch
    };
    let rows = [
        (
            json!({"networkProfile": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
            "LoadBalancer source ranges are supported only with LoadBalancer service type",
        ),
        (
            json!({"networkProfile": {"loadBalancerClass": "metallb"}}),
            "LoadBalancerClass is supported only with LoadBalancer service type",
        ),
        (
            json!({"controlPlane": {"service": {"allocateLoadBalancerNodePorts": true}}}),
            "allocateLoadBalancerNodePorts is supported only with LoadBalancer service type",
        ),
        (
            with(
                service("LoadBalancer"),
                json!({"networkProfile": {"loadBalancerSourceRanges": ["10.0.0.0"]}}),
            ),
            "all LoadBalancer source range entries must be valid CIDR",
        ),
        (
            json!({"controlPlane": {"ingress": {}, "gateway": {}}}),
            "using both ingress and gateway is not supported",
        ),
        (
            json!({"networkProfile": {"advertiseAddress": "oil"}}),
            "advertiseAddress must be a valid IP address",
        ),
        (
            json!({"networkProfile": {"serviceCidr": "10.96.0.0"}}),
            "serviceCidr must be empty or a valid CIDR",
        ),
        (
            json!({"networkProfile": {"podCidr": "10.96.0.0/99"}}),
            "podCidr must be empty or a valid CIDR",
        ),
        (
            json!({"networkProfile": {"serviceCidrs": ["a"]}}),
            "all serviceCidrs entries must be valid CIDRs",
        ),
        (
            json!({"networkProfile": {"podCidrs": ["10.0.0.0/8", "b"]}}),
            "all podCidrs entries must be valid CIDRs",
        ),
        (
            json!({"networkProfile": {"podCidrs": []}}),
            "should have at least 1 items",
        ),
        (
            json!({"networkProfile": {"clusterDomain": "local"}}),
            "should match '.*\\..*'",
        ),
        (
            json!({"addons": {"konnectivity": {"agent": {"replicas": 2}}}}),
            "replicas must be 0 (or unset) when mode is DaemonSet",
        ),
        (
            json!({"addons": {"konnectivity": {"agent": {"mode": "Deployment", "replicas": 0}}}}),
            "replicas must be 0 (or unset) when mode is DaemonSet",
        ),
        (service("ExternalName"), "Unsupported value: \"ExternalName\""),
        (
            json!({"kubernetes": {"admissionControllers": ["Nonsense"]}}),
            "Unsupported value: \"Nonsense\"",
        ),
        (
            json!({"kubernetes": {"kubelet": {"preferredAddressTypes": ["Hostname", "Hostname"]}}}),
            "Duplicate value",
        ),
        (
            json!({"controlPlane": {"deployment": {"resources": {"kine": {"limits": {"cpu": "much"}}}}}}),
            "should match",
        ),
    ];
    for (patch, message) in rows {
        let refusal = create(&client, "TenantControlPlane", &control_plane(&patch))
            .await
            .unwrap_err();
        assert!(
            refusal.contains(message),
            "{patch}\nexpected: {message}\nanswered: {refusal}"
        );
    }
    for lawful in [
        with(
            service("LoadBalancer"),
            json!({"networkProfile": {"loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "metallb"}}),
        ),
        json!({"addons": {"konnectivity": {}}}),
        json!({"addons": {"konnectivity": {"agent": {"mode": "Deployment", "replicas": 2}}}}),
        json!({"networkProfile": {"advertiseAddress": "", "serviceCidr": "", "serviceCidrs": ["10.96.0.0/16"]}}),
    ] {
        create(&client, "TenantControlPlane", &control_plane(&lawful))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_must_not_change_does_not_change() {
    let client = client().await;
    let api: Api<TenantControlPlane> = Api::namespaced(client.clone(), "default");
    let given = json!({
        "dataStore": "default", "dataStoreSchema": "oil", "dataStoreUsername": "oil",
        "controlPlane": {"service": {"serviceType": "LoadBalancer"}},
    });
    let object = control_plane(&given);
    let name = object["metadata"]["name"].as_str().unwrap();
    create(&client, "TenantControlPlane", &object).await.unwrap();
    let rows = [
        (json!({"dataStore": null}), "unsetting the dataStore is not supported"),
        (
            json!({"dataStoreSchema": null}),
            "unsetting the dataStoreSchema is not supported",
        ),
        (
            json!({"dataStoreUsername": null}),
            "unsetting the dataStoreUsername is not supported",
        ),
        (
            json!({"dataStoreSchema": "gas"}),
            "changing the dataStoreSchema is not supported",
        ),
        (
            json!({"dataStoreUsername": "gas"}),
            "changing the dataStoreUsername is not supported",
        ),
        (
            json!({"networkProfile": {"clusterDomain": "oil.local"}}),
            "changing the cluster domain is not supported",
        ),
        (
            json!({"networkProfile": {"loadBalancerClass": "metallb"}}),
            "LoadBalancerClass cannot be set or unset at runtime",
        ),
    ];
    for (spec, message) in rows {
        let patch = Patch::Merge(json!({"spec": spec}));
        let refusal = api
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(message), "{spec}: {refusal}");
    }
    assert_eq!(api.get_scale(name).await.unwrap().spec.unwrap().replicas, Some(2));
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    api.patch_scale(name, &PatchParams::default(), &scale).await.unwrap();
    let lawful = json!({"spec": {"dataStore": "other"}});
    let asleep = api
        .patch(name, &PatchParams::default(), &Patch::Merge(lawful))
        .await
        .unwrap();
    assert_eq!(asleep.spec.control_plane.deployment.replicas, 0);
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn data_stores_say_how_they_are_logged_in_to() {
    let client = client().await;
    let secret = || json!({"secretReference": {"name": "etcd", "namespace": "default", "keyPath": "key"}});
    let store = |spec: Value| {
        json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
            "metadata": {"name": testbed::unique("store")}, "spec": spec,
        })
    };
    let etcd = json!({
        "driver": "etcd", "endpoints": ["etcd:2379"],
        "tlsConfig": {
            "certificateAuthority": {"certificate": secret(), "privateKey": secret()},
            "clientCertificate": {"certificate": {"content": "YQ=="}, "privateKey": secret()},
        },
    });
    let without = |pointer: &str| {
        let mut spec = etcd.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
        spec
    };
    let rows = [
        (
            without("/tlsConfig"),
            "certificateAuthority privateKey must have secretReference or content when driver is etcd",
        ),
        (
            without("/tlsConfig/certificateAuthority/privateKey"),
            "certificateAuthority privateKey must have",
        ),
        (
            without("/tlsConfig/clientCertificate"),
            "clientCertificate must have secretReference or content when driver is etcd",
        ),
        (
            without("/tlsConfig/clientCertificate/certificate/content"),
            "clientCertificate must have secretReference",
        ),
        (
            without("/tlsConfig/clientCertificate/privateKey/secretReference"),
            "clientCertificate privateKey must have",
        ),
        (
            json!({"driver": "MySQL", "endpoints": ["a:3306"]}),
            "When driver is not etcd, either tlsConfig or basicAuth must be provided",
        ),
        (
            json!({"driver": "MySQL", "endpoints": ["a:3306"], "basicAuth": {"username": {}, "password": secret()}}),
            "username must have secretReference or content",
        ),
        (
            json!({"driver": "MySQL", "endpoints": ["a:3306"], "basicAuth": {"username": secret(), "password": {}}}),
            "password must have secretReference or content",
        ),
        (
            json!({"driver": "MySQL", "endpoints": [], "basicAuth": {"username": secret(), "password": secret()}}),
            "should have at least 1 items",
        ),
        (
            json!({"driver": "Oracle", "endpoints": ["a:1"], "basicAuth": {"username": secret(), "password": secret()}}),
            "Unsupported value: \"Oracle\"",
        ),
    ];
    for (spec, message) in rows {
        let refusal = create(&client, "DataStore", &store(spec.clone())).await.unwrap_err();
        assert!(
            refusal.contains(message),
            "{spec}\nexpected: {message}\nanswered: {refusal}"
        );
    }
    let lawful = store(etcd.clone());
    let name = lawful["metadata"]["name"].as_str().unwrap();
    create(&client, "DataStore", &lawful).await.unwrap();
    let api: Api<DataStore> = Api::all(client);
    let change = Patch::Merge(json!({"spec": {"driver": "NATS"}}));
    let refusal = api
        .patch(name, &PatchParams::default(), &change)
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("Datastore driver is immutable"), "{refusal}");
    assert!(
        refusal.contains("driver is immutable and cannot be changed after creation"),
        "{refusal}"
    );
}
