//! Tenants against a real API server: what appears, what follows a change, what goes, and what is left alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant};
use bed::{bed, create_namespace, create_tenant, equal, eventually, names, patch_tenant, ready, tenant};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::unique;

fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

/// An object as people see it, without what every cluster writes differently.
fn bare(object: &impl serde::Serialize) -> Value {
    let mut value = json!(object);
    let metadata = value["metadata"].as_object_mut().unwrap();
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "namespace",
        "generation",
    ] {
        metadata.remove(key);
    }
    metadata["ownerReferences"][0]["uid"] = json!("<uid>");
    value.as_object_mut().unwrap().remove("status");
    value
}

async fn hard(client: &Client, namespace: &str, quota: &str) -> Value {
    let found = api::<ResourceQuota>(client, namespace).get_opt(quota).await.unwrap();
    found.map_or(Value::Null, |quota| json!(quota.spec.unwrap_or_default().hard))
}

#[tokio::test]
async fn a_namespace_gets_everything_that_its_tenant_promises() {
    let client = bed().await;
    let name = unique("oil");
    let namespace = format!("{name}-one");
    let oil = create_tenant(
        &client,
        &name,
        json!({
            "owners": [
                {"kind": "User", "name": "olga"}, {"kind": "Group", "name": "oil-admins"},
                {"kind": "ServiceAccount", "name": "system:serviceaccount:default:robot"}
            ],
            "additionalRoleBindings": [
                {"clusterRoleName": "view", "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "victor"}]}
            ],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}},
            "storageClasses": {"allowed": ["gold"], "default": "gold"},
            "namespaceOptions": {"quota": 5, "additionalMetadata": {"labels": {"env": "demo"}, "annotations": {"note": "a"}}},
            "limitRanges": {"items": [{"limits": [{"type": "Container", "default": {"cpu": "0.2"}, "defaultRequest": {"cpu": "100m"}}]}]},
            "networkPolicies": {"items": [{"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
                {"from": [{"namespaceSelector": {"matchLabels": {"capsule.clastix.io/tenant": name}}}, {"podSelector": {}}],
                 "ports": [{"port": 80}]}
            ]}]},
            "resourceQuotas": {"scope": "Tenant", "items": [
                {"hard": {"limits.cpu": "8", "limits.memory": "16Gi", "pods": "20"}},
                {"hard": {"persistentvolumeclaims": "5", "services": "10"}}
            ]}
        }),
    )
    .await;
    create_namespace(&client, &namespace, &oil).await;
    let oil = ready(&client, &name, 1).await;

    assert_eq!(
        names::<RoleBinding>(&client, &namespace).await,
        [
            "capsule:managed:1d10152c946d8b30",
            "capsule:managed:37579fd1111689f8",
            "capsule:managed:3a2ff968677acd60",
            "capsule:managed:3a96a8be047439f4",
            "capsule:managed:3e1bf7faf0e3bf17",
            "capsule:managed:9af39c378f60246f",
            "capsule:managed:cb9b7d74c4c392e8"
        ]
    );
    let owner = json!([{"apiVersion": "capsule.clastix.io/v1beta2", "blockOwnerDeletion": true, "controller": true,
        "kind": "Tenant", "name": name, "uid": "<uid>"}]);
    let robot = api::<RoleBinding>(&client, &namespace)
        .get("capsule:managed:3a2ff968677acd60")
        .await
        .unwrap();
    assert_eq!(
        bare(&robot),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "capsule:managed:3a2ff968677acd60", "ownerReferences": owner, "labels": {
                "capsule.clastix.io/role-binding": "3a2ff968677acd60",
                "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": name,
                "capsule.clastix.io/managed-by": name
            }},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
        })
    );
    let quota = api::<ResourceQuota>(&client, &namespace)
        .get(&format!("capsule-{name}-0"))
        .await
        .unwrap();
    assert_eq!(
        bare(&quota),
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": format!("capsule-{name}-0"), "ownerReferences": owner,
                "labels": {"capsule.clastix.io/resource-quota": "0",
                    "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": name,
                    "capsule.clastix.io/managed-by": name},
                "annotations": {
                    "quota.capsule.clastix.io/hard-limits.cpu": "8", "quota.capsule.clastix.io/used-limits.cpu": "0",
                    "quota.capsule.clastix.io/hard-limits.memory": "16Gi", "quota.capsule.clastix.io/used-limits.memory": "0",
                    "quota.capsule.clastix.io/hard-pods": "20", "quota.capsule.clastix.io/used-pods": "0"
                }},
            "spec": {"hard": {"limits.cpu": "8", "limits.memory": "16Gi", "pods": "20"}}
        })
    );
    let range = api::<LimitRange>(&client, &namespace)
        .get(&format!("capsule-{name}-0"))
        .await
        .unwrap();
    assert_eq!(
        bare(&range)["metadata"]["labels"]["capsule.clastix.io/limit-range"],
        "0"
    );
    assert_eq!(
        bare(&range)["spec"],
        json!({"limits": [{"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}}]})
    );
    let policy = api::<NetworkPolicy>(&client, &namespace)
        .get(&format!("capsule-{name}-0"))
        .await
        .unwrap();
    assert_eq!(
        bare(&policy)["metadata"]["labels"]["capsule.clastix.io/network-policy"],
        "0"
    );
    assert_eq!(
        bare(&policy)["spec"]["ingress"][0]["ports"],
        json!([{"port": 80, "protocol": "TCP"}])
    );

    let made = Api::<Namespace>::all(client.clone()).get(&namespace).await.unwrap();
    assert_eq!(
        json!(made.labels()),
        json!({"capsule.clastix.io/tenant": name, "env": "demo", "kubernetes.io/metadata.name": namespace})
    );
    assert_eq!(
        json!(made.annotations()),
        json!({"capsule.clastix.io/ingress-classes": "nginx", "capsule.clastix.io/storage-classes": "gold",
            "note": "a", "scheduler.alpha.kubernetes.io/node-selector": "kubernetes.io/os=linux"})
    );

    assert_eq!(oil.finalizers(), ["controller.projectcapsule.dev/finalize"]);
    assert_eq!(oil.labels()["kubernetes.io/metadata.name"], name);
    let status = oil.status.unwrap();
    assert_eq!((status.size, &status.namespaces), (1, &vec![namespace.clone()]));
    let owners: Vec<String> = status
        .owners
        .iter()
        .map(|owner| format!("{} {}", owner.user.kind, owner.user.name))
        .collect();
    assert_eq!(
        owners,
        [
            "User olga",
            "Group oil-admins",
            "ServiceAccount system:serviceaccount:default:robot"
        ]
    );
    assert_eq!(
        json!(status.spaces[0].metadata.as_ref().unwrap().labels),
        json!({"env": "demo"})
    );
}

#[tokio::test]
async fn a_raised_quota_and_a_new_owner_reach_every_namespace_and_a_removed_one_leaves() {
    let client = bed().await;
    let name = unique("raise");
    let spec = json!({
        "owners": [{"kind": "User", "name": "alice"}],
        "resourceQuotas": {"items": [{"hard": {"pods": "20"}}]}
    });
    let made = create_tenant(&client, &name, spec).await;
    let namespaces = [format!("{name}-a"), format!("{name}-b")];
    for namespace in &namespaces {
        create_namespace(&client, namespace, &made).await;
    }
    ready(&client, &name, 2).await;
    let quota = format!("capsule-{name}-0");
    patch_tenant(
        &client,
        &name,
        json!({"spec": {
            "owners": [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "bob"}],
            "resourceQuotas": {"items": [{"hard": {"pods": "30"}}]}
        }}),
    )
    .await;
    ready(&client, &name, 2).await;
    for namespace in &namespaces {
        assert_eq!(hard(&client, namespace, &quota).await, json!({"pods": "30"}));
        assert_eq!(names::<RoleBinding>(&client, namespace).await.len(), 4);
    }
    patch_tenant(
        &client,
        &name,
        json!({"spec": {"owners": [{"kind": "User", "name": "bob"}], "resourceQuotas": null}}),
    )
    .await;
    ready(&client, &name, 2).await;
    for namespace in &namespaces {
        let bindings = api::<RoleBinding>(&client, namespace)
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let subjects: Vec<String> = bindings
            .iter()
            .flat_map(|b| b.subjects.iter().flatten().map(|s| s.name.clone()))
            .collect();
        assert_eq!(subjects, ["bob", "bob"]);
        assert_eq!(names::<ResourceQuota>(&client, namespace).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_a_tenant_asks_for_no_more_leaves_the_objects_that_were_made_for_it() {
    let client = bed().await;
    let name = unique("less");
    let spec = |owner: Value, hard: Value| json!({"owners": [owner], "resourceQuotas": {"items": [{"hard": hard}]}});
    let much = spec(
        json!({"kind": "User", "name": "alice", "clusterRoles": ["admin"], "labels": {"team": "a"}, "annotations": {"note": "b"}}),
        json!({"pods": "20", "services": "5"}),
    );
    let made = create_tenant(&client, &name, much).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    let binding = async || {
        let bindings = api::<RoleBinding>(&client, &namespace);
        let list = bindings.list(&kube::api::ListParams::default()).await.unwrap();
        let [binding] = &list.items[..] else { panic!("{list:?}") };
        let (label, note) = (binding.labels().get("team"), binding.annotations().get("note"));
        (label.cloned(), note.cloned())
    };
    assert_eq!(binding().await, (Some("a".to_owned()), Some("b".to_owned())));
    let less = spec(
        json!({"kind": "User", "name": "alice", "clusterRoles": ["admin"]}),
        json!({"configmaps": "9"}),
    );
    patch_tenant(&client, &name, json!({"spec": less})).await;
    ready(&client, &name, 1).await;
    assert_eq!(binding().await, (None, None));
    let quota = format!("capsule-{name}-0");
    assert_eq!(hard(&client, &namespace, &quota).await, json!({"configmaps": "9"}));
}

/// How many ConfigMaps a quota has counted.
async fn used(client: &Client, namespace: &str, quota: &str) -> Value {
    let found = api::<ResourceQuota>(client, namespace).get_opt(quota).await.unwrap();
    let used = found.and_then(|quota| quota.status?.used?.remove("count/configmaps"));
    json!(used)
}

/// Makes a ConfigMap that the quota counts. One that comes before the API server's admission has heard of the quota would not
/// be counted for minutes.
async fn use_one(client: &Client, namespace: &str, quota: &str) {
    let maps = api::<ConfigMap>(client, namespace);
    eventually("a ConfigMap is counted", || async {
        let before = used(client, namespace, quota).await;
        let map = serde_json::from_value(json!({"metadata": {"generateName": "m-"}})).unwrap();
        let made = maps.create(&PostParams::default(), &map).await.unwrap();
        if used(client, namespace, quota).await != before {
            return Ok(());
        }
        maps.delete(&made.name_any(), &DeleteParams::default()).await.unwrap();
        Err("it was not counted".to_owned())
    })
    .await;
}

#[tokio::test]
async fn what_one_namespace_uses_is_taken_from_the_others() {
    let client = bed().await;
    let name = unique("share");
    let spec = json!({"resourceQuotas": {"items": [{"hard": {"count/configmaps": "10"}}]}});
    let made = create_tenant(&client, &name, spec).await;
    let (one, two) = (format!("{name}-a"), format!("{name}-b"));
    create_namespace(&client, &one, &made).await;
    create_namespace(&client, &two, &made).await;
    ready(&client, &name, 2).await;
    let quota = format!("capsule-{name}-0");
    // Each namespace has one already, the cluster's root certificate.
    for namespace in [&one, &two] {
        eventually("the certificate is counted", || async {
            equal(used(&client, namespace, &quota).await, &json!("1"))
        })
        .await;
    }
    for _ in 0..3 {
        use_one(&client, &one, &quota).await;
    }
    // 5 of 10 are used.
    eventually("the remainder is shared", || async {
        let found = (hard(&client, &one, &quota).await, hard(&client, &two, &quota).await);
        equal(
            found,
            &(json!({"count/configmaps": "9"}), json!({"count/configmaps": "6"})),
        )
    })
    .await;
    let copy = api::<ResourceQuota>(&client, &two).get(&quota).await.unwrap();
    assert_eq!(
        copy.annotations()["quota.capsule.clastix.io/used-count_configmaps"],
        "5"
    );
}

#[tokio::test]
async fn what_somebody_changes_or_deletes_comes_back() {
    let client = bed().await;
    let name = unique("drift");
    let spec = json!({
        "owners": [{"kind": "User", "name": "alice", "clusterRoles": ["admin"]}],
        "networkPolicies": {"items": [{"podSelector": {}, "policyTypes": ["Ingress"]}]},
        "resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"pods": "3"}}]}
    });
    let made = create_tenant(&client, &name, spec).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    let replica = format!("capsule-{name}-0");

    let binding = names::<RoleBinding>(&client, &namespace).await.remove(0);
    let bindings = api::<RoleBinding>(&client, &namespace);
    let old = bindings.get(&binding).await.unwrap().uid();
    bindings.delete(&binding, &DeleteParams::default()).await.unwrap();
    eventually("the binding is there again", || async {
        let found = bindings
            .get_opt(&binding)
            .await
            .unwrap()
            .and_then(|binding| binding.uid());
        if found.is_some() && found != old {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;

    let patch = json!({"spec": {"hard": {"pods": "99", "services": "1"}}});
    let quotas = api::<ResourceQuota>(&client, &namespace);
    quotas
        .patch(&replica, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("the quota says what the tenant says", || async {
        equal(hard(&client, &namespace, &replica).await, &json!({"pods": "3"}))
    })
    .await;

    // Without the label nobody would find it any more.
    let patch =
        json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": null}}, "spec": {"policyTypes": ["Egress"]}});
    let policies = api::<NetworkPolicy>(&client, &namespace);
    policies
        .patch(&replica, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("the policy is back", || async {
        let policy = policies.get(&replica).await.unwrap();
        let types = policy.spec.clone().unwrap_or_default().policy_types.unwrap_or_default();
        equal(
            (types, policy.labels().contains_key("projectcapsule.dev/managed-by")),
            &(vec!["Ingress".to_owned()], true),
        )
    })
    .await;
}

#[tokio::test]
async fn a_name_taken_beforehand_does_not_keep_a_policy_out() {
    let client = bed().await;
    let name = unique("squat");
    let namespace = format!("{name}-a");
    // Made before the tenant takes the namespace in: of our name, open to everybody, controlled by something else.
    let plain = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &plain).await.unwrap();
    let map = serde_json::from_value(json!({"metadata": {"name": "decoy"}})).unwrap();
    let decoy = api::<ConfigMap>(&client, &namespace)
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
    let squatter = json!({
        "metadata": {"name": format!("capsule-{name}-0"), "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "decoy", "uid": decoy.uid(), "controller": true}
        ]},
        "spec": {"podSelector": {"matchLabels": {"no": "pod"}}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]}
    });
    let policies = api::<NetworkPolicy>(&client, &namespace);
    policies
        .create(&PostParams::default(), &serde_json::from_value(squatter).unwrap())
        .await
        .unwrap();
    let spec = json!({"networkPolicies": {"items": [{"podSelector": {}, "policyTypes": ["Ingress"]}]}});
    let made = create_tenant(&client, &name, spec).await;
    let adopt = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": name, "uid": made.uid()}
    ]}});
    namespaces
        .patch(&namespace, &PatchParams::default(), &Patch::Merge(&adopt))
        .await
        .unwrap();
    ready(&client, &name, 1).await;
    let policy = policies.get(&format!("capsule-{name}-0")).await.unwrap();
    assert_eq!(
        json!(policy.spec),
        json!({"podSelector": {}, "policyTypes": ["Ingress"]})
    );
    assert_eq!(policy.owner_references()[0].uid, made.uid().unwrap());
    assert_eq!(
        namespaces.get(&namespace).await.unwrap().labels()["capsule.clastix.io/tenant"],
        name
    );
}

#[tokio::test]
async fn a_binding_of_our_name_for_another_role_is_reported_where_people_look() {
    let client = bed().await;
    let name = unique("role");
    let namespace = format!("{name}-a");
    let made = create_tenant(&client, &name, json!({})).await;
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    let squatter = json!({
        "metadata": {"name": "capsule:managed:3e1bf7faf0e3bf17"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    });
    let bindings = api::<RoleBinding>(&client, &namespace);
    bindings
        .create(&PostParams::default(), &serde_json::from_value(squatter).unwrap())
        .await
        .unwrap();
    let spec = json!({"spec": {"owners": [{"kind": "User", "name": "olga", "clusterRoles": ["admin"]}]}});
    patch_tenant(&client, &name, spec).await;
    let expected = format!(
        "failed to apply RoleBinding {namespace}/capsule:managed:3e1bf7faf0e3bf17: somebody else made one of this name for \
         ClusterRole view, delete it to let the tenant's be made"
    );
    eventually("the tenant says so", || async {
        let status = tenant(&client, &name).await.status.unwrap_or_default();
        let found: Vec<String> = [&status.conditions, &status.spaces[0].conditions]
            .iter()
            .flat_map(|conditions| conditions.iter())
            .filter(|condition| condition.type_ == "Ready" && condition.status == "False")
            .map(|condition| condition.message.clone())
            .collect();
        equal(found, &vec![expected.clone(), expected.clone()])
    })
    .await;
    bindings
        .delete("capsule:managed:3e1bf7faf0e3bf17", &DeleteParams::default())
        .await
        .unwrap();
    patch_tenant(
        &client,
        &name,
        json!({"metadata": {"annotations": {"reconcile.projectcapsule.dev/requestedAt": "now"}}}),
    )
    .await;
    ready(&client, &name, 1).await;
}

#[tokio::test]
async fn cordoning_marks_every_namespace_and_thawing_removes_only_our_mark() {
    let client = bed().await;
    let name = unique("cold");
    let made = create_tenant(&client, &name, json!({"cordoned": true})).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    let frozen = ready(&client, &name, 1).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(
        namespaces.get(&namespace).await.unwrap().labels()["projectcapsule.dev/cordoned"],
        "true"
    );
    let status = frozen.status.unwrap();
    assert_eq!(json!(status.state), "Cordoned");
    assert!(
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "Cordoned" && c.status == "True" && c.reason == "Cordoned")
    );

    let patch = json!({"metadata": {"labels": {"mine": "stays"}}});
    namespaces
        .patch(&namespace, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    patch_tenant(&client, &name, json!({"spec": {"cordoned": false}})).await;
    ready(&client, &name, 1).await;
    let labels = namespaces.get(&namespace).await.unwrap().labels().clone();
    assert!(!labels.contains_key("projectcapsule.dev/cordoned"), "{labels:?}");
    assert_eq!(labels["mine"], "stays");
}

#[tokio::test]
async fn what_others_made_is_left_alone() {
    let client = bed().await;
    let name = unique("mine");
    let made = create_tenant(&client, &name, json!({"owners": [{"kind": "User", "name": "alice"}]})).await;
    let (own, foreign) = (format!("{name}-own"), format!("{name}-foreign"));
    create_namespace(&client, &own, &made).await;
    let stranger = json!({"metadata": {"name": foreign, "labels": {"capsule.clastix.io/tenant": name}}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Only the label: the garbage collector removes what names an owner that never was.
    let stranger: Namespace = serde_json::from_value(stranger).unwrap();
    namespaces.create(&PostParams::default(), &stranger).await.unwrap();
    let lookalike = |name: &str| {
        serde_json::from_value::<RoleBinding>(json!({
            "metadata": {"name": name, "labels": {"projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": name}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
        }))
        .unwrap()
    };
    for namespace in [&own, &foreign] {
        api::<RoleBinding>(&client, namespace)
            .create(&PostParams::default(), &lookalike("lookalike"))
            .await
            .unwrap();
    }
    ready(&client, &name, 1).await;
    patch_tenant(&client, &name, json!({"spec": {"owners": []}})).await;
    ready(&client, &name, 1).await;
    eventually("our bindings are gone, the other is not", || async {
        equal(names::<RoleBinding>(&client, &own).await, &vec!["lookalike".to_owned()])
    })
    .await;
    assert_eq!(names::<RoleBinding>(&client, &foreign).await, ["lookalike"]);
}

#[tokio::test]
async fn a_namespace_that_leaves_its_tenant_keeps_nothing_of_it() {
    let client = bed().await;
    let name = unique("leave");
    let spec =
        json!({"owners": [{"kind": "User", "name": "alice"}], "networkPolicies": {"items": [{"podSelector": {}}]}});
    let made = create_tenant(&client, &name, spec).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    let patch = json!({"metadata": {"ownerReferences": null}});
    Api::<Namespace>::all(client.clone())
        .patch(&namespace, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    eventually("what the tenant kept there is gone", || async {
        let found = [
            names::<RoleBinding>(&client, &namespace).await,
            names::<NetworkPolicy>(&client, &namespace).await,
        ];
        equal(found, &[vec![], vec![]])
    })
    .await;
    let left = ready(&client, &name, 0).await;
    assert!(left.finalizers().is_empty());
}

#[tokio::test]
async fn a_deleted_tenant_takes_its_namespaces_and_no_others() {
    let client = bed().await;
    let (name, neighbour) = (unique("gone"), unique("stay"));
    let spec = json!({"owners": [{"kind": "User", "name": "alice"}]});
    let made = create_tenant(&client, &name, spec.clone()).await;
    let other = create_tenant(&client, &neighbour, spec).await;
    create_namespace(&client, &format!("{name}-a"), &made).await;
    create_namespace(&client, &format!("{name}-b"), &made).await;
    create_namespace(&client, &format!("{neighbour}-a"), &other).await;
    ready(&client, &name, 2).await;
    ready(&client, &neighbour, 1).await;
    let tenants: Api<Tenant> = Api::all(client.clone());
    tenants.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the tenant is gone", || async {
        let left = tenants.get_opt(&name).await.unwrap();
        left.map_or(Ok(()), |tenant| Err(format!("{:?}", tenant.status)))
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for gone in ["a", "b"] {
        assert!(namespaces.get_opt(&format!("{name}-{gone}")).await.unwrap().is_none());
    }
    assert_eq!(names::<RoleBinding>(&client, &format!("{neighbour}-a")).await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_the_rest_is_done() {
    let client = bed().await;
    let name = unique("half");
    // A port that does not exist: the API server refuses the copy, the bindings do not depend on it.
    let spec = json!({
        "owners": [{"kind": "User", "name": "alice"}],
        "networkPolicies": {"items": [{"podSelector": {}, "ingress": [{"ports": [{"port": 99999}]}]}]}
    });
    let made = create_tenant(&client, &name, spec).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    eventually("the tenant says what was refused", || async {
        let status = tenant(&client, &name).await.status.unwrap_or_default();
        let ready = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready");
        let ready = ready.ok_or("no condition")?;
        let told = ready.status == "False"
            && ready
                .message
                .contains(&format!("NetworkPolicy {namespace}/capsule-{name}-0"));
        if told && ready.message.contains("99999") {
            Ok(())
        } else {
            Err(ready.message)
        }
    })
    .await;
    assert_eq!(names::<RoleBinding>(&client, &namespace).await.len(), 2);
    patch_tenant(&client, &name, json!({"spec": {"networkPolicies": null}})).await;
    ready(&client, &name, 1).await;
}

#[tokio::test]
async fn a_promoted_service_account_owns_its_tenant_where_both_sides_allow_it() {
    let client = bed().await;
    let name = unique("robot");
    let made = create_tenant(&client, &name, json!({"permissions": {"allowOwnerPromotion": true}})).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    let robot = json!({"metadata": {"name": "robot", "labels": {"owner.projectcapsule.dev/promote": "true"}}});
    let accounts = api::<ServiceAccount>(&client, &namespace);
    accounts
        .create(&PostParams::default(), &serde_json::from_value(robot).unwrap())
        .await
        .unwrap();
    ready(&client, &name, 1).await;
    let owners = |tenant: &Tenant| -> Vec<String> {
        let owners = &tenant.status.as_ref().unwrap().owners;
        owners
            .iter()
            .map(|owner| format!("{} {}", owner.user.name, owner.cluster_roles.join(" ")))
            .collect()
    };
    let allow = |allowed: bool| {
        let patch = json!({"spec": {"allowServiceAccountPromotion": allowed}});
        let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
        async move {
            configurations
                .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap()
        }
    };
    assert_eq!(owners(&tenant(&client, &name).await), Vec::<String>::new());
    // The controller makes it when it is not there, and other tests of this server may just have begun.
    let configurations: Api<CapsuleConfiguration> = Api::all(client.clone());
    eventually("there is a configuration", || async {
        equal(configurations.get_opt("default").await.unwrap().is_some(), &true)
    })
    .await;
    allow(true).await;
    let expected =
        format!("system:serviceaccount:{namespace}:robot capsule-namespace-deleter capsule-namespace-provisioner");
    eventually("the ServiceAccount is an owner", || async {
        equal(owners(&tenant(&client, &name).await), &vec![expected.clone()])
    })
    .await;
    eventually("it may create namespaces, and its roles are bound", || async {
        let binding = Api::<ClusterRoleBinding>::all(client.clone())
            .get("capsule-namespace-provisioner")
            .await
            .unwrap();
        let granted = binding
            .subjects
            .iter()
            .flatten()
            .any(|s| s.namespace.as_deref() == Some(namespace.as_str()));
        equal(
            (granted, names::<RoleBinding>(&client, &namespace).await.len()),
            &(true, 2),
        )
    })
    .await;
    allow(false).await;
    eventually("it is none any more", || async {
        let found = (
            owners(&tenant(&client, &name).await),
            names::<RoleBinding>(&client, &namespace).await,
        );
        equal(found, &(vec![], vec![]))
    })
    .await;
}
