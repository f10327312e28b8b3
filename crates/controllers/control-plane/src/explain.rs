//! What would be decided about a control plane, for people. The same functions, over what the API server has now;
//! nothing is written.

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane, TenantControlPlaneStatus};
use jiff::Timestamp;
use kube::{Api, Client};
use serde::Serialize;

use crate::desired::secrets::Clock;
use crate::desired::{self, Hosted, Plan, Waiting, exposure};
use crate::error::Error;
use crate::{Settings, observe, store};

/// A plan, or what it waits for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Explanation {
    /// Everything is known.
    Plan(Box<Plan>),
    /// Something is missing.
    Waiting(Waiting),
}

/// Decides about a control plane without acting. Needs the right to read its Secrets and those of its DataStore.
pub async fn explain(client: &Client, tcp: &TenantControlPlane) -> Result<Explanation, Error> {
    let settings = Settings::default();
    let (observed, services) = observe::observe_live(client, tcp, &settings.admin_networks).await?;
    let address = match exposure::address(tcp, observed.service.as_deref()) {
        Ok(address) => address,
        Err(waiting) => return Ok(Explanation::Waiting(waiting)),
    };
    let recorded = tcp
        .status
        .as_ref()
        .and_then(|status| status.storage.as_ref()?.data_store_name.as_deref());
    let Some(name) = recorded.or(observe::datastore_name(tcp, None)) else {
        let message = "spec.dataStore names no DataStore, and the operator has not given it its default one".to_owned();
        return Ok(Explanation::Waiting(Waiting::datastore("DataStoreUnset", message)));
    };
    let found = Api::<DataStore>::all(client.clone()).get_opt(name).await;
    let found = found.map_err(|source| Error::Read {
        kind: "DataStore",
        name: name.to_owned(),
        source,
    })?;
    let Some(datastore) = found else {
        let message = format!("the DataStore {name} does not exist");
        return Ok(Explanation::Waiting(Waiting::datastore("DataStoreMissing", message)));
    };
    let resolved = store::read(client, &services, &datastore).await?;
    let nodes: Vec<_> = observed.nodes.iter().map(AsRef::as_ref).collect();
    let exposure = exposure::exposure(tcp, address, observed.services.iter().map(AsRef::as_ref), &nodes);
    let installed = tcp
        .status
        .as_ref()
        .and_then(TenantControlPlaneStatus::installed_version);
    let version = desired::version(&tcp.spec.kubernetes.version, installed);
    let hosted = Hosted::new(tcp, version.run, exposure, resolved.facts, settings.gogc);
    let clock = Clock {
        now: Timestamp::now(),
        renewal_window: settings.renewal_window,
    };
    let (plan, _) = desired::plan(
        &hosted,
        version.refused,
        &observed.secrets,
        Some(resolved.authority),
        &observed.admin,
        &observed.dns_labels,
        clock,
    )?;
    Ok(Explanation::Plan(Box::new(plan)))
}
