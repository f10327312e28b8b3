//! The order of what is decided before a datastore is asked. A pass acts on it, `explain` shows it.

use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::core::v1::Service;

use crate::Settings;
use crate::desired::{self, Hosted, VersionPlan, Waiting, exposure};
use crate::destinations::Services;
use crate::observe::Observed;
use crate::store::{self, Resolver};

/// What of the operator's settings decides about a control plane.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// See [`Settings::default_datastore`].
    pub(crate) default_datastore: Option<String>,
    /// See [`Settings::gogc`].
    pub(crate) gogc: Option<u32>,
}

impl Options {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            default_datastore: settings.default_datastore.clone(),
            gogc: settings.gogc,
        }
    }
}

/// A control plane as far as it is known without its datastore's answer.
pub(crate) struct Basis<'a> {
    pub(crate) hosted: Hosted<'a>,
    pub(crate) version: VersionPlan,
    pub(crate) datastore: Arc<DataStore>,
}

/// Decides where a control plane is reached, in which datastore it is, and which version it runs. `service` is its Service
/// as it now is, `datastore` finds a DataStore by its name.
///
/// # Errors
/// What is missing.
pub(crate) async fn basis<'a>(
    tcp: &'a TenantControlPlane,
    service: Option<&Service>,
    observed: &Observed,
    services: &(impl Services + ?Sized),
    datastore: impl FnOnce(&str) -> Option<Arc<DataStore>>,
    resolver: &Resolver,
    options: &Options,
) -> Result<Basis<'a>, Waiting> {
    let address = exposure::address(tcp, service)?;
    let name = store::name(tcp, options.default_datastore.as_deref());
    let datastore = store::chosen(name, name.and_then(datastore))?;
    let facts = resolver.locate(services, &datastore).await;
    let version = desired::version_of(tcp);
    let nodes: Vec<_> = observed.admin.nodes.iter().map(AsRef::as_ref).collect();
    let fronts = observed.services.iter().map(AsRef::as_ref);
    let exposure = exposure::exposure(tcp, address, fronts, &nodes);
    Ok(Basis {
        hosted: Hosted::new(tcp, version.run.clone(), exposure, facts, options.gogc),
        version,
        datastore,
    })
}
