//! What would be decided about a control plane, for people. The same functions, over what the API server has now;
//! nothing is written.

use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::basis::{Basis, Options, basis};
use crate::desired::secrets::Clock;
use crate::desired::{self, Plan, Waiting};
use crate::error::Error;
use crate::store::Resolver;
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

/// Decides about a control plane without acting. `settings` are the operator's. Needs the right to read its Secrets and
/// those of its DataStore.
pub async fn explain(client: &Client, tcp: &TenantControlPlane, settings: &Settings) -> Result<Explanation, Error> {
    let (observed, services) = observe::observe_live(client, tcp, &settings.admin_networks).await?;
    if let Some(refusal) = desired::refusal(tcp, &observed.own, &settings.trust) {
        return Ok(Explanation::Waiting(refusal));
    }
    let datastores = Api::<DataStore>::all(client.clone()).list(&ListParams::default()).await;
    let datastores = datastores.map_err(|source| Error::Read {
        kind: "list of",
        name: "datastores".to_owned(),
        source,
    })?;
    let (resolver, options) = (Resolver::default(), Options::of(settings));
    let find = |name: &str| {
        datastores
            .items
            .iter()
            .find(|one| one.name_any() == name)
            .map(|found| Arc::new(found.clone()))
    };
    let service = observed.service.as_deref();
    let Basis {
        hosted,
        version,
        datastore,
    } = match basis(tcp, service, &observed, &services[..], find, &resolver, &options).await {
        Ok(basis) => basis,
        Err(waiting) => return Ok(Explanation::Waiting(waiting)),
    };
    if let Some(waiting) = store::not_ready(&datastore) {
        return Ok(Explanation::Waiting(waiting));
    }
    let credentials = resolver.credentials(client, &datastore).await?;
    let clock = Clock {
        now: Timestamp::now(),
        renewal_window: settings.renewal_window,
    };
    let (plan, _) = desired::plan(
        &hosted,
        version.refused,
        &observed.secrets,
        Some(&credentials.pods),
        &observed.admin.network,
        clock,
    )?;
    Ok(Explanation::Plan(Box::new(plan)))
}
