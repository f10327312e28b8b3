//! A tenant with an owner and a namespace, for tests of what is in a namespace.

use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::unique;

use super::served::{TENANTS, served};
use super::until;

/// A tenant with an owner and a namespace.
#[derive(Clone)]
pub struct Stage {
    pub masters: Client,
    pub owner: Client,
    pub tenant: String,
    pub namespace: String,
}

/// Makes one; `more` goes into the tenant's spec.
pub async fn stage(more: Value) -> Stage {
    let server = served().await.server;
    let masters = server.client().await;
    let (tenant, owner) = (unique("oil"), unique("alice"));
    let mut object = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": tenant},
        "spec": {"owners": [{"kind": "User", "name": owner}]}});
    json_patch::merge(&mut object["spec"], &more);
    let object: Tenant = serde_json::from_value(object).unwrap();
    Api::all(masters.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let owner = server.client_for(&owner, &TENANTS).await;
    let mut stage = Stage {
        masters,
        owner,
        tenant,
        namespace: String::new(),
    };
    stage.namespace = stage.join("web").await;
    stage
}

impl Stage {
    /// Makes a namespace of the tenant whose name ends so, and gives its name.
    pub async fn join(&self, suffix: &str) -> String {
        let name = format!("{}-{suffix}", self.tenant);
        let wanted: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::all(self.owner.clone());
        until("the namespace", async || {
            api.create(&PostParams::default(), &wanted).await.ok()
        })
        .await;
        name
    }

    /// Waits until pods in the namespace have the account that they run as.
    pub async fn has_account(&self) {
        let accounts = Api::<ServiceAccount>::namespaced(self.masters.clone(), &self.namespace);
        until("the default account", async || {
            accounts.get_opt("default").await.unwrap()
        })
        .await;
    }

    /// Creates an object in the namespace at once, as a script would: nothing waits for a watch.
    pub async fn create<K>(&self, client: &Client, object: Value) -> Result<K, kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        Api::namespaced(client.clone(), &self.namespace)
            .create(&PostParams::default(), &object)
            .await
    }
}
