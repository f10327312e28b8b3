//! How much the stores of a pool hold: asked now and then, and written down on the DataStore for whoever chooses one
//! ([`tenancy::control_plane::placement`]).
//!
//! Stores that are in no pool are left alone. Only etcd is asked: a size of one database is none of the store that holds it.

use std::time::Duration;

use api::kamaji::names::PAUSED_ANNOTATION;
use api::kamaji::v1alpha1::{DataStore, Driver};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use runtime::report::{chain, is_not_found};
use runtime::{Shared, Shutdown};
use serde_json::json;
use tenancy::control_plane::placement::{SIZE, pool_of};

use super::credentials::{self, Read};
use super::etcd::EtcdStore;
use super::store::Login;
use super::{Error, FIELD_MANAGER};

const ASK_AGAIN: Duration = Duration::from_mins(1);

/// Measures until the shutdown. A store that does not answer keeps the size that it had; its condition tells of it.
pub(crate) async fn keep(client: Client, stores: Shared<DataStore>, shutdown: Shutdown) {
    if !stores.ready().await {
        return;
    }
    let measuring = async {
        let mut ticks = tokio::time::interval(ASK_AGAIN);
        loop {
            ticks.tick().await;
            for store in stores.store().state() {
                if is_asked(&store) {
                    measure(&client, &store).await;
                }
            }
        }
    };
    // A store that does not answer holds up nobody who ends the process.
    tokio::select! {
        () = measuring => {}
        () = shutdown.cancelled() => {}
    }
}

fn is_asked(store: &DataStore) -> bool {
    pool_of(store).is_some()
        && store.spec.driver == Driver::Etcd
        && store.metadata.deletion_timestamp.is_none()
        && !store.annotations().contains_key(PAUSED_ANNOTATION)
}

async fn measure(client: &Client, store: &DataStore) {
    let Some(size) = size(client, store).await else { return };
    let known = store.annotations().get(SIZE).and_then(|text| text.parse().ok());
    if !is_news(known, size) {
        return;
    }
    let patch = json!({"metadata": {"uid": store.metadata.uid, "annotations": {SIZE: size.to_string()}}});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = Api::<DataStore>::all(client.clone())
        .patch(&store.name_any(), &parameters, &Patch::Merge(patch))
        .await;
    match written.map_err(Error::Publish) {
        Err(Error::Publish(source)) if is_not_found(&source) => {}
        Err(error) => {
            tracing::warn!(
                datastore = store.name_any(),
                error = chain(&error),
                "failed to write down a store's size"
            );
        }
        Ok(_) => {}
    }
}

/// Bytes that its database takes on disk, which is what etcd's own quota is about.
async fn size(client: &Client, store: &DataStore) -> Option<u64> {
    let Ok(Read::Complete(values)) = credentials::read(client, store).await else {
        return None;
    };
    let Ok(Login::Etcd(config)) = credentials::login(store, &values) else {
        return None;
    };
    let opened = EtcdStore::connect(&config).await.ok()?;
    let status = opened.client().status().await.ok()?;
    u64::try_from(status.db_size()).ok()
}

/// Whether a size is worth a write: the first, and one that is a sixteenth away from what is known.
fn is_news(known: Option<u64>, size: u64) -> bool {
    known.is_none_or(|known| known.abs_diff(size) > known / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_no_news() {
        assert!(is_news(None, 0) && is_news(Some(0), 1) && is_news(Some(1600), 1701) && is_news(Some(1600), 1499));
        assert!(!is_news(Some(0), 0) && !is_news(Some(1600), 1700) && !is_news(Some(1600), 1500));
    }
}
