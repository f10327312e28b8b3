//! Facts for one decision that a store does not hold, or may hold too late.
//!
//! A store is milliseconds behind the API server, and an attacker (or a hurried script) can be faster than that: a claim
//! follows its namespace at once, a namespace its tenant. What a rule would otherwise take for "there is none" is
//! therefore asked for live, and only then: in the common case nothing is requested here.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use api::capsule::names;
use api::capsule::v1beta2::Tenant;
use api::kamaji::v1alpha1::{ServiceType, TenantControlPlane};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Secret, Service};
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tenancy::caller::{self, Caller};
use tenancy::control_plane::network::TakenNodePort;
use tenancy::index;
use tenancy::linkage;
use tenancy::subject::User;

use crate::review::{Operation, Request};
use crate::rule::{Component, Need, Rule};
use crate::view::{Source, View};

/// What was collected besides what the view now holds. Fields that the rule did not ask for are empty.
#[derive(Debug, Default)]
pub struct Facts {
    /// Namespaces of the tenant that a new one is for, read live because its quota is nearly used up.
    pub counted: BTreeSet<String>,
    /// The volume that a claim names.
    pub volume: Option<PartialObjectMeta<PersistentVolume>>,
    /// Names of the Secrets in a control plane's namespace that carry its name.
    pub own_secrets: BTreeSet<String>,
    /// Node ports of the cluster's Services, when the control plane wants a certain one.
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
        && request.kind.kind != "Namespace"
    {
        view.known = tenant_of_request(client, view.known, namespace).await?;
    }
    for need in rule.needs {
        match need {
            Need::TenantOfNamespace => view = tenants_of_object(client, source, view, request).await?,
            Need::NamespaceCount => view = count_of_namespaces(client, source, view, request, &mut facts).await?,
            Need::NamedVolume => {
                let claim: Option<PersistentVolumeClaim> = peek(request.object.as_deref());
                if let Some(name) = claim
                    .and_then(|claim| claim.spec?.volume_name)
                    .filter(|name| !name.is_empty())
                {
                    facts.volume = get(&Api::all(client.clone()), &name).await?;
                }
            }
            Need::SurroundingsOfControlPlane => surroundings(client, request, &mut facts).await?,
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

/// How many namespaces the tenant of a new one has, and which, when that matters.
async fn count_of_namespaces(
    client: &Client,
    source: &Source,
    mut view: View,
    request: &Request,
    facts: &mut Facts,
) -> Result<View, Error> {
    let object = peek::<Namespace>(request.object.as_deref()).filter(|_| request.operation == Operation::Create);
    let Some(tenant) = object
        .as_ref()
        .and_then(linkage::label)
        .and_then(|name| view.known.tenant(name))
    else {
        return Ok(view);
    };
    let Some(quota) = tenant.namespace_quota() else {
        return Ok(view);
    };
    if source.index().count_others(&tenant.uid, &request.name) + 1 < quota {
        return Ok(view);
    }
    let labelled = ListParams::default().labels(&format!("{}={}", names::TENANT_LABEL, tenant.name));
    let api = Api::<Namespace>::all(client.clone());
    let found = api
        .list_metadata(&labelled)
        .await
        .map_err(|error| read("Namespaces", tenant.name.as_str(), error))?;
    let of_tenant = found.items.iter().filter(|found| {
        found
            .owner_references()
            .iter()
            .any(|owner| linkage::is_tenant(owner) && *owner.uid == *tenant.uid)
    });
    facts.counted = of_tenant
        .map(ResourceExt::name_any)
        .filter(|name| *name != request.name)
        .collect();
    view.known = view.known.with_namespace_count(&tenant.uid, facts.counted.len());
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

async fn surroundings(client: &Client, request: &Request, facts: &mut Facts) -> Result<(), Error> {
    let Some(namespace) = request.namespace.as_deref() else {
        return Ok(());
    };
    let labelled = ListParams::default().labels(&format!("{}={}", api::kamaji::names::NAME_LABEL, request.name));
    // A name that is not a label value has no Secrets; the rule refuses it by itself.
    if !request.name.is_empty() && request.name.len() <= 63 {
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        let found = secrets
            .list_metadata(&labelled)
            .await
            .map_err(|source| read("Secrets", namespace, source))?;
        facts.own_secrets = found.items.iter().map(ResourceExt::name_any).collect();
    }
    let wants_a_port = peek::<TenantControlPlane>(request.object.as_deref())
        .is_some_and(|wanted| wanted.spec.control_plane.service.service_type == ServiceType::NodePort);
    if wants_a_port {
        // Served from the API server's cache: a port that was taken this very moment is refused by the API server itself
        // when the Service is made.
        let any_version = ListParams::default().match_any();
        let services = Api::<Service>::all(client.clone());
        let found = services
            .list(&any_version)
            .await
            .map_err(|source| read("Services", "", source))?;
        facts.node_ports = found.items.iter().flat_map(node_ports).collect();
    }
    Ok(())
}

fn node_ports(service: &Service) -> Vec<TakenNodePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(TakenNodePort {
                port: port.node_port.filter(|port| *port != 0)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                namespace: service.namespace().unwrap_or_default(),
                name: service.name_any(),
            })
        })
        .collect()
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

/// The object, if it reads as `K`. The rule says what is wrong with one that does not.
fn peek<K: DeserializeOwned>(raw: Option<&RawValue>) -> Option<K> {
    serde_json::from_str(raw?.get()).ok()
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    // Names in owner references and labels are written by tenants and become part of a path that is asked for with our
    // rights: what could not be the name of an object is not asked for.
    if !is_object_name(name) {
        return Ok(None);
    }
    api.get_opt(name)
        .await
        .map_err(|source| read(&K::kind(&()), name, source))
}

/// A DNS-1123 subdomain.
fn is_object_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && label.bytes().next().is_some_and(|byte| byte != b'-')
                && label.bytes().last().is_some_and(|byte| byte != b'-')
        })
}

fn read(kind: &str, name: &str, source: kube::Error) -> Error {
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
    fn what_could_not_be_a_name_is_not_asked_for() {
        for name in ["oil", "a.b-c.d", "0"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a/b",
            "../secrets",
            "a..b",
            "-a",
            "a-",
            "A",
            "a?b",
            "a%2fb",
            &"a".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
    }

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
