//! The order of what is decided before a datastore is asked. A pass acts on it, `explain` shows it.

use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::core::v1::Service;

use crate::Settings;
use crate::desired::overrides::Override;
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
    /// See [`Settings::kine_image`].
    pub(crate) kine_image: String,
    /// See [`Settings::own_image`].
    pub(crate) own_image: Option<String>,
}

impl Options {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            default_datastore: settings.default_datastore.clone(),
            gogc: settings.gogc,
            kine_image: settings.kine_image.clone(),
            own_image: settings.own_image.clone(),
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
    datastore: impl Fn(&str) -> Option<Arc<DataStore>>,
    resolver: &Resolver,
    options: &Options,
) -> Result<Basis<'a>, Waiting> {
    let address = exposure::address(tcp, service)?;
    desired::konnectivity::check_router(tcp, options.own_image.as_deref())?;
    let name = store::name(tcp, options.default_datastore.as_deref());
    let find = datastore;
    let datastore = store::chosen(name, name.and_then(&find))?;
    let facts = resolver.locate(services, &datastore).await;
    let mut overrides = Vec::new();
    for asked in &tcp.spec.data_store_overrides {
        let name = asked.data_store.as_str();
        let datastore = store::chosen(Some(name), find(name))?;
        overrides.push(Override {
            resource: asked.resource.clone(),
            datastore: resolver.locate(services, &datastore).await,
        });
    }
    let version = desired::version_of(tcp, observed.deployment.as_deref());
    let nodes: Vec<_> = observed.admin.nodes.iter().map(AsRef::as_ref).collect();
    let fronts = observed.services.iter().map(AsRef::as_ref);
    let exposure = exposure::exposure(tcp, address, fronts, &nodes);
    Ok(Basis {
        hosted: Hosted {
            kine_image: options.kine_image.clone(),
            own_image: options.own_image.clone(),
            overrides,
            ..Hosted::new(tcp, version.run.clone(), exposure, facts, options.gogc)
        },
        version,
        datastore,
    })
}
