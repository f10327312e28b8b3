//! Writes, each in the version of what it was decided from: what somebody else changed since is never overwritten.

use std::fmt::Debug;

use api::capsule::names::FIELD_MANAGER;
use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use runtime::report::is_conflict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tenancy::quota::pool::{POOL_LABEL, RELEASE_ANNOTATION};

use super::desired::Step;
use crate::Error;
use crate::write::{delete, full_name, params, publish};

const QUOTA: &str = "ResourceQuota";
const CLAIM: &str = "ResourcePoolClaim";
const POOL: &str = "ResourcePool";

/// Writes what was decided. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
}

impl Writer {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    fn pools(&self) -> Api<ResourcePool> {
        Api::all(self.client.clone())
    }

    fn claims(&self, claim: &ResourcePoolClaim) -> Api<ResourcePoolClaim> {
        Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default())
    }

    fn quotas(&self, quota: &ResourceQuota) -> Api<ResourceQuota> {
        Api::namespaced(self.client.clone(), &quota.namespace().unwrap_or_default())
    }

    /// The version of the pool that the API server has now. `None` if it is gone.
    pub(super) async fn version(&self, pool: &ResourcePool) -> Result<Option<String>, Error> {
        let name = pool.name_any();
        let found = self.pools().get_metadata_opt(&name).await;
        let found = found.map_err(|source| Error::Read {
            kind: POOL,
            name,
            source,
        })?;
        Ok(found.and_then(|found| found.resource_version()))
    }

    pub(super) async fn publish_pool(
        &self,
        pool: &ResourcePool,
        status: &impl Serialize,
    ) -> Result<ResourcePool, Error> {
        publish(&self.pools(), POOL, pool, status).await
    }

    pub(super) async fn publish_claim(
        &self,
        claim: &ResourcePoolClaim,
        status: &impl Serialize,
    ) -> Result<ResourcePoolClaim, Error> {
        publish(&self.claims(claim), CLAIM, claim, status).await
    }

    pub(super) async fn set_finalizers(
        &self,
        pool: &ResourcePool,
        finalizers: &[String],
    ) -> Result<ResourcePool, Error> {
        patch(&self.pools(), POOL, pool, json!({"finalizers": finalizers})).await
    }

    /// Sets a claim's owners; and takes the release off it, if it should go.
    pub(super) async fn set_owners(
        &self,
        claim: &ResourcePoolClaim,
        owners: &[OwnerReference],
        strips_release: bool,
    ) -> Result<ResourcePoolClaim, Error> {
        let mut metadata = json!({"ownerReferences": owners});
        if strips_release {
            metadata["annotations"] = json!({RELEASE_ANNOTATION: null});
        }
        patch(&self.claims(claim), CLAIM, claim, metadata).await
    }

    pub(super) async fn take(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Create(quota) => self.create(quota).await,
            Step::Patch { quota, patch } => self.patch_quota(quota, patch).await,
            Step::Delete(quota) => delete(&self.quotas(quota), QUOTA, quota).await,
        }
    }

    async fn create(&self, quota: &ResourceQuota) -> Result<(), Error> {
        let (api, failed) = (self.quotas(quota), |source| Error::Write {
            kind: QUOTA,
            name: full_name(quota),
            source,
        });
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let refused = match api.create(&params, quota).await {
            Ok(_) => return Ok(()),
            Err(error) if is_conflict(&error) => error,
            Err(error) => return Err(failed(error)),
        };
        // Ours, and our watch is behind; or made by somebody else under our name, who never gave it our label.
        let found = api.get_opt(&quota.name_any()).await.map_err(failed)?;
        match found {
            Some(found) if found.labels().get(POOL_LABEL) != quota.labels().get(POOL_LABEL) => {
                let patch = json!({"metadata": {
                    "uid": found.uid(), "resourceVersion": found.resource_version(), "labels": quota.labels()}});
                self.patch_quota(&found, &patch).await
            }
            _ => Err(failed(refused)),
        }
    }

    async fn patch_quota(&self, quota: &ResourceQuota, patch: &Value) -> Result<(), Error> {
        let patched = self
            .quotas(quota)
            .patch(&quota.name_any(), &params(), &Patch::Merge(patch))
            .await;
        patched.map(drop).map_err(|source| Error::Write {
            kind: QUOTA,
            name: full_name(quota),
            source,
        })
    }
}

async fn patch<K>(api: &Api<K>, kind: &'static str, object: &K, mut metadata: Value) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    metadata["uid"] = json!(object.uid());
    metadata["resourceVersion"] = json!(object.resource_version());
    let patch = json!({"metadata": metadata});
    api.patch(&object.name_any(), &params(), &Patch::Merge(&patch))
        .await
        .map_err(|source| Error::Write {
            kind,
            name: full_name(object),
            source,
        })
}
