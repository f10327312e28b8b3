//! Writes. Statuses are written in the version of what they were decided from.

use api::capsule::names::{self, FIELD_MANAGER};
use api::capsule::v1beta2::{
    CustomQuota, GlobalCustomQuota, LedgerTarget, QuantityLedger, QuantityLedgerSpec, QuantityLedgerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::quota::{Quota, Status};
use crate::Error;
use crate::write::{delete, full_name, publish};

const LEDGER: &str = "QuantityLedger";
/// What marks a ledger as ours.
const MANAGED_BY: (&str, &str) = ("capsule.clastix.io/managed-by", "controller");

/// Writes what was decided. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    /// Where the ledgers of quotas of the cluster are.
    place: String,
}

impl Writer {
    pub(super) fn new(client: &Client, place: &str) -> Self {
        Self {
            client: client.clone(),
            place: place.to_owned(),
        }
    }

    /// Namespace and name of a quota's ledger.
    pub(super) fn ledger_of(&self, quota: &Quota) -> (String, String) {
        let metadata = quota.metadata();
        let namespace = metadata.namespace.clone().unwrap_or_else(|| self.place.clone());
        (namespace, metadata.name.clone().unwrap_or_default())
    }

    /// The quota's ledger as it is in the API server now; an empty one is made if there is none.
    pub(super) async fn ledger(&self, quota: &Quota) -> Result<QuantityLedger, Error> {
        let (namespace, name) = self.ledger_of(quota);
        let api = Api::<QuantityLedger>::namespaced(self.client.clone(), &namespace);
        let found = api.get_opt(&name).await.map_err(|source| Error::Read {
            kind: LEDGER,
            name: format!("{namespace}/{name}"),
            source,
        })?;
        match found {
            Some(found) if is_of(&found, quota) => return Ok(found),
            // Of a quota that had the name before.
            Some(other) => delete(&api, LEDGER, &other).await?,
            None => {}
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let wanted = ledger(quota, &namespace, &name);
        api.create(&params, &wanted).await.map_err(|source| Error::Write {
            kind: LEDGER,
            name: full_name(&wanted),
            source,
        })
    }

    pub(super) async fn publish_ledger(
        &self,
        ledger: &QuantityLedger,
        status: &QuantityLedgerStatus,
    ) -> Result<QuantityLedger, Error> {
        let namespace = ledger.namespace().unwrap_or_default();
        let api = Api::<QuantityLedger>::namespaced(self.client.clone(), &namespace);
        publish(&api, LEDGER, ledger, status).await
    }

    pub(super) async fn publish(&self, quota: &Quota, status: &Status) -> Result<(), Error> {
        match (quota, status) {
            (Quota::Namespaced(quota), Status::Namespaced(status)) => {
                let namespace = quota.namespace().unwrap_or_default();
                let api = Api::<CustomQuota>::namespaced(self.client.clone(), &namespace);
                publish(&api, "CustomQuota", quota.as_ref(), status).await.map(drop)
            }
            (Quota::Global(quota), Status::Global(status)) => {
                let api = Api::<GlobalCustomQuota>::all(self.client.clone());
                publish(&api, "GlobalCustomQuota", quota.as_ref(), status)
                    .await
                    .map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// Whether a ledger is this quota's, and not that of one which had its name before.
pub(super) fn is_of(ledger: &QuantityLedger, quota: &Quota) -> bool {
    Some(&ledger.spec.target_ref.uid) == quota.metadata().uid.as_ref()
        && ledger.spec.target_ref.kind == quota.kind()
        && ledger.metadata.deletion_timestamp.is_none()
}

fn ledger(quota: &Quota, namespace: &str, name: &str) -> QuantityLedger {
    let metadata = quota.metadata();
    QuantityLedger {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
            owner_references: Some(vec![quota.owner()]),
            ..ObjectMeta::default()
        },
        spec: QuantityLedgerSpec {
            target_ref: LedgerTarget {
                api_group: names::GROUP.to_owned(),
                kind: quota.kind().to_owned(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: name.to_owned(),
                uid: metadata.uid.clone().unwrap_or_default(),
            },
        },
        status: None,
    }
}
