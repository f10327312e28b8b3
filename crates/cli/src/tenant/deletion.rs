//! What goes with a tenant, what holds that up, and whether somebody means it.

use anyhow::Context;
use api::capsule::names;
use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenant_controller::desired;

use super::world::{Contents, World};
use crate::plain::section;

/// Everything that a deletion takes along.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Going {
    tenant: String,
    namespaces: Vec<Space>,
    /// What the deletion will wait for, in sentences.
    blocks: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Space {
    name: String,
    pods: usize,
    volume_claims: usize,
}

impl Going {
    /// Reads what is in the tenant's namespaces.
    pub(super) async fn read(client: &Client, world: &World, tenant: &Tenant) -> anyhow::Result<Self> {
        let mut namespaces = Vec::new();
        for namespace in world.namespaces_of(tenant) {
            let name = namespace.name_any();
            namespaces.push(Space {
                pods: count::<Pod>(client, &name).await?,
                volume_claims: count::<PersistentVolumeClaim>(client, &name).await?,
                name,
            });
        }
        Ok(Self {
            tenant: tenant.name_any(),
            namespaces,
            blocks: blocks(world, tenant),
        })
    }

    pub(super) fn told(&self) -> String {
        let mut text = if self.namespaces.is_empty() {
            format!("Tenant {} goes. It has no namespaces.\n", self.tenant)
        } else {
            String::new()
        };
        let heading = format!(
            "Tenant {} goes, and with it these namespaces and everything in them:",
            self.tenant
        );
        section(&mut text, &heading, &self.namespaces, |space| {
            let pods = counted(space.pods, "pod");
            let claims = counted(space.volume_claims, "volume claim");
            format!("{}: {pods}, {claims}", space.name)
        });
        section(&mut text, "What holds it up:", &self.blocks, Clone::clone);
        text
    }
}

fn counted(count: usize, what: &str) -> String {
    let more = if count == 1 { "" } else { "s" };
    format!("{count} {what}{more}")
}

async fn count<K>(client: &Client, namespace: &str) -> anyhow::Result<usize>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let found = Api::<K>::namespaced(client.clone(), namespace)
        .list_metadata(&ListParams::default())
        .await
        .with_context(|| format!("failed to count what {namespace} holds"))?;
    Ok(found.items.len())
}

/// Finalizers of others, and namespaces that are going already and cannot end.
fn blocks(world: &World, tenant: &Tenant) -> Vec<String> {
    let name = tenant.name_any();
    let foreign = tenant
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != names::FINALIZER);
    let mut blocks: Vec<String> = foreign
        .map(|finalizer| format!("Tenant {name} has the finalizer {finalizer}, which its owner has to take off"))
        .collect();
    for namespace in world.namespaces_of(tenant) {
        blocks.extend(namespace.finalizers().iter().map(|finalizer| {
            let namespace = namespace.name_any();
            format!("Namespace {namespace} has the finalizer {finalizer}, which its owner has to take off")
        }));
    }
    let plan = desired::plan(
        tenant,
        &world.observe(tenant, &Contents::default()),
        &Contents::default().owned,
    );
    let waiting = plan
        .spaces
        .iter()
        .filter_map(|space| Some((&space.name, space.waits_for.as_ref()?)));
    blocks.extend(waiting.map(|(namespace, waits_for)| format!("Namespace {namespace} is going already: {waits_for}")));
    blocks
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::json;

    use super::*;

    #[test]
    fn finalizers_of_others_and_namespaces_that_cannot_end_are_named() {
        let tenant: Tenant = serde_json::from_value(json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": "oil", "uid": "u1", "finalizers": [names::FINALIZER, "example.com/hold"]}, "spec": {}}))
        .unwrap();
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "web", "uid": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"capsule.clastix.io/tenant": "oil"}, "ownerReferences": [
                    {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "u1"}]},
            "status": {"conditions": [{"type": "NamespaceFinalizersRemaining", "status": "True",
                "message": "some pods remain"}]}}))
        .unwrap();
        let world = World::of(vec![tenant.clone()], vec![namespace]);
        assert_eq!(
            blocks(&world, &tenant),
            [
                "Tenant oil has the finalizer example.com/hold, which its owner has to take off",
                "Namespace web is going already: waiting for namespace finalization: some pods remain"
            ]
        );
    }
}
