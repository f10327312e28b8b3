//! Writes: what a command sends to the API server, for good or as a dry run.
//!
//! Every one of them says which version of the object it was decided for. One that meets somebody else's write is refused
//! with a conflict, and decided anew from what is there then.

use anyhow::Context;
use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::world::World;

const FIELD_MANAGER: &str = "cotenant-cli";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    CreateTenant(Box<Tenant>),
    PatchTenant { name: String, patch: Value },
    PatchNamespace { name: String, patch: Value },
    DeleteTenant { name: String, uid: String, version: String },
}

/// The object as it is, or would be, afterwards.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Tenant(Box<Tenant>),
    Namespace(Box<Namespace>),
    /// The tenant is going away.
    Deleted(String),
}

impl Write {
    /// A merge patch of a tenant, for the version that was read.
    pub(super) fn patch_tenant(tenant: &Tenant, patch: Value) -> Self {
        Self::PatchTenant {
            name: tenant.name_any(),
            patch: preconditioned(tenant, patch),
        }
    }

    /// A merge patch of a namespace, for the version that was read.
    pub(super) fn patch_namespace(namespace: &Namespace, patch: Value) -> Self {
        Self::PatchNamespace {
            name: namespace.name_any(),
            patch: preconditioned(namespace, patch),
        }
    }

    /// What it does, for people: `("Tenant oil", "changed")`.
    pub(super) fn told(&self) -> (String, &'static str) {
        match self {
            Self::CreateTenant(tenant) => (format!("Tenant {}", tenant.name_any()), "created"),
            Self::PatchTenant { name, .. } => (format!("Tenant {name}"), "changed"),
            Self::PatchNamespace { name, .. } => (format!("Namespace {name}"), "changed"),
            Self::DeleteTenant { name, .. } => (format!("Tenant {name}"), "deleted"),
        }
    }

    pub(super) async fn send(&self, client: &Client, dry_run: bool) -> Result<Answer, kube::Error> {
        let params = PatchParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let tenants: Api<Tenant> = Api::all(client.clone());
        match self {
            Self::CreateTenant(tenant) => {
                let params = PostParams {
                    dry_run,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                };
                let answer = tenants.create(&params, tenant).await?;
                Ok(Answer::Tenant(Box::new(answer)))
            }
            Self::PatchTenant { name, patch } => {
                let answer = tenants.patch(name, &params, &Patch::Merge(patch)).await?;
                Ok(Answer::Tenant(Box::new(answer)))
            }
            Self::PatchNamespace { name, patch } => {
                let namespaces: Api<Namespace> = Api::all(client.clone());
                let answer = namespaces.patch(name, &params, &Patch::Merge(patch)).await?;
                Ok(Answer::Namespace(Box::new(answer)))
            }
            Self::DeleteTenant { name, uid, version } => {
                let params = DeleteParams {
                    dry_run,
                    preconditions: Some(Preconditions {
                        uid: Some(uid.clone()),
                        resource_version: Some(version.clone()),
                    }),
                    ..DeleteParams::default()
                };
                tenants.delete(name, &params).await?;
                Ok(Answer::Deleted(name.clone()))
            }
        }
    }
}

fn preconditioned<K: Resource>(object: &K, mut patch: Value) -> Value {
    patch["metadata"]["uid"] = json!(object.meta().uid);
    patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
    patch
}

impl World {
    /// With the answers to writes taken in.
    pub(super) fn after(&self, answers: Vec<Answer>) -> anyhow::Result<Self> {
        let mut after = self.clone();
        for answer in answers {
            match answer {
                Answer::Tenant(tenant) => {
                    after.tenants.insert(tenant.name_any(), *tenant);
                }
                Answer::Namespace(namespace) => {
                    after.namespaces.insert(namespace.name_any(), *namespace);
                }
                Answer::Deleted(name) => {
                    let tenant = after.tenants.get_mut(&name).context("only what was read is deleted")?;
                    tenant.metadata.deletion_timestamp = Some(end());
                }
            }
        }
        Ok(after)
    }
}

/// When a deletion happened does not matter to what follows from it.
fn end() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)
}
