//! Facts for one decision that a store does not hold, or may hold too late.
//!
//! A store is milliseconds behind the API server, and an attacker (or a hurried script) can be faster than that: a claim
//! follows its namespace at once, a namespace its tenant. What a rule would otherwise take for "there is none" is
//! therefore asked for live, and only then: in the common case nothing is requested here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::capsule::v1beta2::{HostnameCollisionScope, Tenant};
use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tenancy::caller::{self, Caller};
use tenancy::control_plane::deputy::Own;
use tenancy::control_plane::hostname::GatewayApi;
use tenancy::control_plane::network::TakenNodePort;
use tenancy::denial::Denial;
use tenancy::hostname_collision;
use tenancy::index;
use tenancy::linkage;
use tenancy::name::is_dns_subdomain;
use tenancy::quota::amounts::Amounts;
use tenancy::quota::pool::Deletion;
use tenancy::rules::reach;
use tenancy::subject::User;

use crate::live_classes;
use crate::live_custom_quotas;
use crate::live_gateway_api;
use crate::live_global_quotas;
use crate::live_namespace_quota;
use crate::live_pools;
use crate::live_tenant_quotas;
use crate::namespace_rules::Rules;
use crate::review::{Operation, Request};
use crate::rule::{Component, Need, Rule};
use crate::view::{Source, View};

/// What was collected besides what the view now holds. Fields that the rule did not ask for are empty.
#[derive(Debug, Default)]
pub struct Facts {
    /// The volume that a claim names.
    pub volume: Option<PartialObjectMeta<PersistentVolume>>,
    /// Labels of the classes that were read, by name.
    pub classes: live_classes::Classes,
    /// The rules that hold in the namespace, if its tenant has any.
    pub(crate) rules: Option<Rules>,
    /// The pool for a claim that names none.
    pub pool: Option<String>,
    /// Claims in the namespace of a new one.
    pub claims_beside: usize,
    /// What surrounds the deletion of a claim that is in use.
    pub end_of_claim: Deletion,
    /// Why a quota across namespaces, or a custom one, has not enough for the request; otherwise what it takes is promised.
    pub quota_refusal: Option<Denial>,
    /// What is taken of the GlobalResourceQuota that is changed.
    pub taken: Amounts,
    /// What is taken of the quotas of the tenant's rules, by the name in the rule.
    pub taken_of_rules: BTreeMap<String, Amounts>,
    /// What of a control plane's namespace carries its name. Claims are read when it names one.
    pub own: Own,
    /// Whether the routes that a control plane asks for can be made; read when it asks.
    pub gateway_api: GatewayApi,
    /// Who has the node port that the control plane wants.
    pub node_ports: Vec<TakenNodePort>,
}

/// How long a caller who seems to own nothing waits for the watch to show a tenant that was made just now.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {kind} {name}")]
    Read {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("failed to read all Ingresses in time")]
    Hostnames,
    #[error("failed to take a place for a namespace of Tenant {tenant} in time")]
    NamespaceLedger { tenant: String },
}

/// Collects what the rule needs for this request. What was read about tenants and namespaces goes into the view.
pub(crate) async fn collect(
    source: &Source,
    mut view: View,
    rule: &Rule,
    request: &Request,
) -> Result<(View, Facts), Error> {
    let mut facts = Facts::default();
    let Some(client) = &source.client else {
        return Ok((view, facts));
    };
    if rule.component == Component::NamespaceTenants
        && let Some(namespace) = request.namespace.as_deref().filter(|namespace| !namespace.is_empty())
        && !request.is_about_namespace()
        && !rule.needs.contains(&Need::CustomQuotas)
    {
        view.known = tenant_of_request(client, view.known, namespace).await?;
    }
    for need in rule.needs {
        match need {
            Need::TenantOfNamespace => view = tenants_of_object(client, source, view, request).await?,
            Need::NamespaceCount => {
                view = live_namespace_quota::take_place(client, source, view, (rule, request), &facts).await?;
            }
            Need::NamedVolume => {
                let claim: Option<PersistentVolumeClaim> = peek(request.object.as_deref());
                if let Some(name) = claim
                    .and_then(|claim| claim.spec?.volume_name)
                    .filter(|name| !name.is_empty())
                {
                    facts.volume = get(&Api::all(client.clone()), &name).await?;
                }
            }
            Need::GatewayClass => facts.classes = live_classes::of_gateway(client, &view, request).await?,
            Need::DeviceClasses => facts.classes = live_classes::of_devices(client, &view, request).await?,
            Need::PoolOfClaim => {
                facts.pool = live_pools::of_claim(client, source, request).await?;
            }
            Need::ClaimsBeside => {
                facts.claims_beside = live_pools::claims_beside(client, request).await?;
                facts.end_of_claim = live_pools::end_of_claim(client, request).await?;
            }
            Need::Hostnames => hostnames(client, source, &view, request).await?,
            Need::Rules => facts.rules = rules(client, source, &view, request).await?,
            Need::GlobalQuotas => facts.quota_refusal = live_global_quotas::reserve(client, source, request).await?,
            Need::TenantQuotas => facts.quota_refusal = live_tenant_quotas::reserve(source, &view, request).await,
            Need::CustomQuotas => facts.quota_refusal = live_custom_quotas::reserve(client, source, request).await?,
            Need::TakenOfGlobalQuota => facts.taken = live_global_quotas::taken_of_changed(source, request),
            Need::TakenOfRuleQuotas => facts.taken_of_rules = live_global_quotas::taken_of_rules(source, request),
            Need::SurroundingsOfControlPlane => surroundings(client, source, request, &mut facts).await?,
        }
    }
    Ok((view, facts))
}

/// The namespace of a namespaced object, and its tenant.
async fn tenant_of_request(client: &Client, mut known: index::View, name: &str) -> Result<index::View, Error> {
    if matches!(known.tenant_of(name), Ok(Some(_))) {
        return Ok(known);
    }
    // We are only asked about namespaces that carry the label: an index that does not know a tenant is behind, or the
    // namespace is in disorder.
    let Some(namespace) = get::<Namespace>(&Api::all(client.clone()), name).await? else {
        return Ok(known);
    };
    known = known.with_namespace(&namespace);
    if known.tenant_of(name).is_err()
        && let Some(reference) = linkage::references(&namespace).next()
        && let Some(tenant) = get::<Tenant>(&Api::all(client.clone()), &reference.name).await?
    {
        known = known.with_tenant(tenant);
    }
    Ok(known)
}

/// The tenants that a Namespace object names, and a little patience with a caller who seems to own nothing.
async fn tenants_of_object(client: &Client, source: &Source, mut view: View, request: &Request) -> Result<View, Error> {
    let (object, old) = (
        peek::<Namespace>(request.object.as_deref()),
        peek::<Namespace>(request.old_object.as_deref()),
    );
    let named: BTreeSet<String> = [&object, &old].into_iter().flatten().flat_map(named_tenants).collect();
    for name in &named {
        if view.known.tenant(name).is_none()
            && let Some(tenant) = get::<Tenant>(&Api::all(client.clone()), name).await?
        {
            view.known = view.known.with_tenant(tenant);
        }
    }
    if request.operation == Operation::Create && named.is_empty() {
        wait_for_a_tenant(source, &view, request).await;
    }
    Ok(view)
}

/// A tenant user without any tenant, who asks for a namespace, may be faster than the watch. Waiting costs us nothing, and
/// whoever really has no tenant a moment.
async fn wait_for_a_tenant(source: &Source, view: &View, request: &Request) {
    let user = User::of(&request.user_info);
    let mut ticks = source.follower.tenant_ticks();
    let owns_nothing = || view.known.owned_by(&user).is_empty();
    if !owns_nothing() || caller::classify(&user, &view.settings, &view.known) != Caller::TenantUser {
        return;
    }
    let waited = tokio::time::timeout(PATIENCE, async {
        while owns_nothing() && ticks.changed().await.is_ok() {}
    });
    // Whether something came or not, the rule decides by what is known then.
    let _ = waited.await;
}

/// Waits for the list of Ingresses, where the tenant's hostnames are to be unique.
async fn hostnames(client: &Client, source: &Source, view: &View, request: &Request) -> Result<(), Error> {
    let tenant = view.known.tenant_of(request.namespace.as_deref().unwrap_or_default());
    let Ok(Some(tenant)) = tenant else { return Ok(()) };
    if hostname_collision::scope(&tenant) == HostnameCollisionScope::Disabled || source.hostnames.ready(client).await {
        return Ok(());
    }
    Err(Error::Hostnames)
}

/// The rules of the namespace's tenant there. That the namespace does not say whose it is, is said by the rule that asked.
async fn rules(client: &Client, source: &Source, view: &View, request: &Request) -> Result<Option<Rules>, Error> {
    let name = request.namespace.as_deref().unwrap_or_default();
    let Ok(Some(tenant)) = view.known.tenant_of(name) else {
        return Ok(None);
    };
    if !reach::enforces(&tenant.object) {
        return Ok(None);
    }
    let stored = source.namespace(name).filter(|namespace| {
        let linked = linkage::linkage(namespace);
        matches!(linked, Ok(Some(reference)) if *reference.uid == *tenant.uid)
    });
    let namespace = match stored {
        Some(namespace) => Some(namespace),
        // Made or handed over just now.
        None => live_namespace(client, name).await?,
    };
    // One that is gone has nothing that could be refused any more.
    let Some(namespace) = namespace else {
        return Ok(None);
    };
    Ok(Some(source.rules.of(&tenant, &namespace)))
}

async fn surroundings(client: &Client, source: &Source, request: &Request, facts: &mut Facts) -> Result<(), Error> {
    let Some(namespace) = request.namespace.as_deref() else {
        return Ok(());
    };
    let wanted = peek::<TenantControlPlane>(request.object.as_deref());
    // A name that is not a label value has nothing of its own; the rule refuses it by itself.
    if !request.name.is_empty() && request.name.len() <= 63 {
        facts.own.secrets = own(&Api::<Secret>::namespaced(client.clone(), namespace), request).await?;
        let deployment = wanted.as_ref().map(|wanted| &wanted.spec.control_plane.deployment);
        let mut volumes = deployment
            .into_iter()
            .flat_map(|deployment| &deployment.additional_volumes);
        if volumes.any(|volume| volume.persistent_volume_claim.is_some()) {
            let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
            facts.own.claims = own(&claims, request).await?;
        }
    }
    if wanted
        .as_ref()
        .is_some_and(|wanted| wanted.spec.control_plane.gateway.is_some())
    {
        facts.gateway_api = live_gateway_api::served(client).await?;
    }
    let port = wanted
        .filter(|wanted| wanted.spec.control_plane.service.service_type == ServiceType::NodePort)
        .map(|wanted| wanted.spec.network_profile.port);
    if let Some((port, watches)) = port.zip(source.control_planes.as_ref()) {
        facts.node_ports = watches.node_ports.holders(port);
    }
    Ok(())
}

/// Names of the objects that carry the control plane's name.
async fn own<K>(api: &Api<K>, request: &Request) -> Result<BTreeSet<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let labelled = ListParams::default().labels(&format!("{}={}", api::kamaji::names::NAME_LABEL, request.name));
    let found = api.list_metadata(&labelled).await.map_err(|source| {
        read(
            &K::plural(&()),
            request.namespace.as_deref().unwrap_or_default(),
            source,
        )
    })?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

/// The names of tenants that the object's label and owner references hold.
fn named_tenants(object: &Namespace) -> Vec<String> {
    let label = linkage::label(object).map(str::to_owned);
    // No namespace has more of them in earnest, and each unknown one is a request.
    let references = linkage::references(object).take(4).map(|owner| owner.name.clone());
    label
        .into_iter()
        .chain(references)
        .filter(|name| !name.is_empty())
        .collect()
}

/// A namespace as the watch shows it, or as it is now if it was made just now.
pub(crate) async fn namespace(client: &Client, source: &Source, name: &str) -> Result<Option<Arc<Namespace>>, Error> {
    match source.namespace(name) {
        Some(namespace) => Ok(Some(namespace)),
        None => live_namespace(client, name).await,
    }
}

async fn live_namespace(client: &Client, name: &str) -> Result<Option<Arc<Namespace>>, Error> {
    Ok(get(&Api::all(client.clone()), name).await?.map(Arc::new))
}

/// The object, if it reads as `K`. The rule says what is wrong with one that does not.
pub(crate) fn peek<K: DeserializeOwned>(raw: Option<&RawValue>) -> Option<K> {
    serde_json::from_str(raw?.get()).ok()
}

pub(crate) async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    // Names in owner references and labels are written by tenants and become part of a path that is asked for with our
    // rights: what could not be the name of an object is not asked for.
    if !is_dns_subdomain(name) {
        return Ok(None);
    }
    api.get_opt(name)
        .await
        .map_err(|source| read(&K::kind(&()), name, source))
}

pub(crate) fn read(kind: &str, name: &str, source: kube::Error) -> Error {
    Error::Read {
        kind: kind.to_owned(),
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_tenants_come_from_label_and_references() {
        let namespace = serde_json::from_value(serde_json::json!({"metadata": {
            "name": "n", "labels": {"capsule.clastix.io/tenant": "oil"}, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Tenant", "name": "other", "uid": "1"},
                {"apiVersion": "capsule.clastix.io/v1beta1", "kind": "Tenant", "name": "gas", "uid": "2"}]}}))
        .expect("a namespace");
        assert_eq!(named_tenants(&namespace), ["oil", "gas"]);
    }
}
