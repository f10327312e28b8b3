//! Roles that are not there, seen by an operator with the rights that the chart gives it: Kubernetes then looks up the role that
//! a RoleBinding names. An administrator of the cluster may bind what does not exist.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use std::time::Duration;

use api::capsule::v1beta2::Tenant;
use bed::{Controllers, connect, create_namespace, create_tenant, eventually, install, names, ready};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

const OPERATOR: &str = "operator";

/// Everything, and of roles those that the chart lets it bind.
async fn let_operate(client: &Client) {
    let everything = json!({"apiGroups": ["*"], "resources": ["*"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]});
    let bindable = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
        "resourceNames": ["admin", "capsule-namespace-deleter", "capsule-namespace-provisioner"]});
    let role = json!({"metadata": {"name": OPERATOR}, "rules": [everything, bindable]});
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = serde_json::from_value(role).unwrap();
    roles.create(&PostParams::default(), &role).await.unwrap();
    let binding = json!({"metadata": {"name": OPERATOR},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = serde_json::from_value(binding).unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
}

async fn bound(client: &Client, namespace: &str) -> Vec<String> {
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let found = bindings.list(&ListParams::default()).await.unwrap();
    let mut roles: Vec<String> = found.iter().map(|binding| binding.role_ref.name.clone()).collect();
    roles.sort();
    roles
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named_with_its_field_and_holds_nothing_else_up() {
    let server = testbed::ApiServer::start().await;
    let client = server.client().await;
    install(&client).await;
    let_operate(&client).await;
    let controllers = Controllers::start(connect(server.kubeconfig_for(OPERATOR, &[])).await, "default");

    let spec = json!({
        "owners": [
            {"kind": "User", "name": "olga"},
            {"kind": "User", "name": "otto", "clusterRoles": ["admin", "oil-driller"]},
        ],
        "resourceQuotas": {"items": [{"hard": {"pods": "20"}}]},
    });
    let oil = create_tenant(&client, "oil", spec).await;
    for name in ["oil-one", "oil-two"] {
        create_namespace(&client, name, &oil).await;
    }
    let expected = "ClusterRole \"oil-driller\", named in spec.owners[1].clusterRoles, does not exist: its RoleBindings are \
                    not made until it does, or until another role is named; everything else goes on";
    let tenants: Api<Tenant> = Api::all(client.clone());
    eventually("the tenant and its namespaces say so", || async {
        let status = tenants.get("oil").await.unwrap().status.unwrap_or_default();
        let conditions = status
            .conditions
            .iter()
            .chain(status.spaces.iter().flat_map(|space| &space.conditions));
        let said: Vec<&str> = conditions
            .filter(|condition| condition.type_ == "Ready" && condition.status == "False")
            .map(|condition| condition.message.as_str())
            .collect();
        if said == [expected; 3] {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    for namespace in ["oil-one", "oil-two"] {
        assert_eq!(
            bound(&client, namespace).await,
            ["admin", "admin", "capsule-namespace-deleter"],
            "{namespace}"
        );
        assert_eq!(names::<ResourceQuota>(&client, namespace).await, ["capsule-oil-0"]);
    }

    // Nobody tells the operator; it looks again by itself.
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "oil-driller"}, "rules": []})).unwrap();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.create(&PostParams::default(), &role).await.unwrap();
    let patience = Duration::from_secs(300);
    testbed::eventually(patience, "the role is bound", || async {
        let roles = bound(&client, "oil-two").await;
        roles
            .contains(&"oil-driller".to_owned())
            .then_some(())
            .ok_or(format!("{roles:?}"))
    })
    .await;
    ready(&client, "oil", 2).await;
    assert_eq!(
        bound(&client, "oil-two").await,
        ["admin", "admin", "capsule-namespace-deleter", "oil-driller"]
    );
    controllers.stop().await;
}
