//! Writes. Statuses are written in the version of what they were decided from.

use api::capsule::names::{self, FIELD_MANAGER};
use api::capsule::v1beta2::{GlobalResourceQuota, LedgerTarget, QuantityLedger, QuantityLedgerSpec};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use runtime::report::is_not_found;
use serde::Serialize;
use tenancy::quota::global::{labels, ledger_name};

use super::desired::Step;
use crate::Error;
use crate::write::{delete, full_name, publish};

const CHILD: &str = "ResourceQuota";
const LEDGER: &str = "QuantityLedger";
const QUOTA: &str = "GlobalResourceQuota";

/// Writes what was decided. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    /// Where the ledgers are.
    place: String,
}

impl Writer {
    pub(super) fn new(client: &Client, place: &str) -> Self {
        Self {
            client: client.clone(),
            place: place.to_owned(),
        }
    }

    fn ledgers(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.client.clone(), &self.place)
    }

    /// The quota's ledger as it is in the API server now; an empty one is made if there is none.
    pub(super) async fn ledger(
        &self,
        quota: &GlobalResourceQuota,
        owner: &OwnerReference,
    ) -> Result<QuantityLedger, Error> {
        let (quota_name, uid) = (quota.name_any(), quota.uid().unwrap_or_default());
        let name = ledger_name(&quota_name, &uid);
        let read = |source| Error::Read {
            kind: LEDGER,
            name: name.clone(),
            source,
        };
        if let Some(found) = self.ledgers().get_opt(&name).await.map_err(read)? {
            return Ok(found);
        }
        let ledger = QuantityLedger {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.place.clone()),
                labels: Some(labels(&quota_name)),
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: QuantityLedgerSpec {
                target_ref: LedgerTarget {
                    api_group: names::GROUP.to_owned(),
                    kind: QUOTA.to_owned(),
                    namespace: String::new(),
                    name: quota_name,
                    uid,
                },
            },
            status: None,
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let made = self.ledgers().create(&params, &ledger).await;
        made.map_err(|source| Error::Write {
            kind: LEDGER,
            name,
            source,
        })
    }

    pub(super) async fn publish_ledger(
        &self,
        ledger: &QuantityLedger,
        status: &impl Serialize,
    ) -> Result<QuantityLedger, Error> {
        publish(&self.ledgers(), LEDGER, ledger, status).await
    }

    pub(super) async fn publish_quota(
        &self,
        quota: &GlobalResourceQuota,
        status: &impl Serialize,
    ) -> Result<GlobalResourceQuota, Error> {
        publish(&Api::all(self.client.clone()), QUOTA, quota, status).await
    }

    pub(super) async fn take(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Apply(child) => self.apply(child).await,
            Step::Delete(child) => delete(&self.children(child), CHILD, child).await,
        }
    }

    fn children(&self, child: &ResourceQuota) -> Api<ResourceQuota> {
        Api::namespaced(self.client.clone(), &child.namespace().unwrap_or_default())
    }

    async fn apply(&self, child: &ResourceQuota) -> Result<(), Error> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self
            .children(child)
            .patch(&child.name_any(), &params, &Patch::Apply(child))
            .await;
        match applied {
            Ok(_) => Ok(()),
            // The namespace is gone.
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(Error::Write {
                kind: CHILD,
                name: full_name(child),
                source,
            }),
        }
    }
}
