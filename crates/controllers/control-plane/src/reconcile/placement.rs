//! Placing a control plane that names no DataStore into one of a pool.
//!
//! The choice is written into the spec, where whoever asks finds it and nothing that changes later moves it. One is made at
//! a time: what was chosen counts from then on, also before the watch has seen it, so that a store's last place is given
//! away once.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tenancy::control_plane::placement::{self, Around, Placement};
use tokio::sync::Mutex;

use super::Pass;
use crate::apply::FIELD_MANAGER;
use crate::desired::Waiting;
use crate::error::Error;

/// Reason of the condition while what was chosen begins.
pub(super) const PLACED: &str = "Placed";
/// Reason of the condition while there is room nowhere.
pub(crate) const NO_PLACE: &str = "NoPlace";

/// Stores that were chosen and that the watch does not know of yet, by the UID of the control plane.
#[derive(Debug, Default)]
pub(crate) struct Choices(Mutex<BTreeMap<String, String>>);

impl Pass<'_> {
    /// Chooses a store if there is one to be chosen. Gives why the pass does not go on: the store is full, or what was
    /// written begins a new one.
    pub(super) async fn place(&self) -> Result<Option<Waiting>, Error> {
        let default = self.ctx.options.default_datastore.as_deref();
        let stores: Vec<Arc<DataStore>> = self.ctx.watches.datastores.store().state();
        if !placement::is_wanted(self.tcp, &stores, default) {
            return Ok(None);
        }
        let mut choices = self.ctx.choices.0.lock().await;
        let known = self.ctx.watches.control_planes.store().state();
        choices.retain(|uid, _| known.iter().any(|tcp| is_unplaced(tcp, uid)));
        let control_planes: Vec<_> = known.into_iter().map(|tcp| with_choice(tcp, &choices)).collect();
        let around = Around {
            data_stores: &stores,
            control_planes: &control_planes,
            default_data_store: default,
        };
        let Placement { data_store, reason } = match placement::place(self.tcp, &around) {
            Ok(placement) => placement,
            Err(message) => return Ok(Some(Waiting::datastore(NO_PLACE, message))),
        };
        self.write_choice(&data_store, &reason).await?;
        if let Some(uid) = self.tcp.uid() {
            choices.insert(uid, data_store);
        }
        Ok(Some(Waiting::datastore(PLACED, reason)))
    }

    /// For the version that was read: an author who names a store meanwhile is asked first.
    async fn write_choice(&self, data_store: &str, reason: &str) -> Result<(), Error> {
        let patch = json!({
            "metadata": {
                "uid": self.tcp.metadata.uid,
                "resourceVersion": self.tcp.resource_version(),
                "annotations": {placement::REASON: reason},
            },
            "spec": {"dataStore": data_store},
        });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.api()
            .patch(&self.tcp.name_any(), &parameters, &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(|source| Error::Publish {
                what: "choice of a DataStore",
                source,
            })
    }
}

fn is_unplaced(tcp: &TenantControlPlane, uid: &str) -> bool {
    tcp.metadata.uid.as_deref() == Some(uid) && tcp.spec.data_store.as_deref().unwrap_or_default().is_empty()
}

fn with_choice(tcp: Arc<TenantControlPlane>, choices: &BTreeMap<String, String>) -> Arc<TenantControlPlane> {
    let chosen = tcp.metadata.uid.as_ref().and_then(|uid| choices.get(uid));
    let Some(chosen) = chosen else { return tcp };
    let mut placed = tcp.as_ref().clone();
    placed.spec.data_store = Some(chosen.clone());
    Arc::new(placed)
}
