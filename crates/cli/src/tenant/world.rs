//! What is read before something is decided: tenants, their namespaces, and what those hold.
//!
//! A [`World`] is plain data. The one before a change and the one after it go through the same functions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use api::capsule::names;
use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tenancy::linkage;
use tenancy::promotion::full_name;
use tenancy::settings::Settings;
use tenancy::subject::User;
use tenant_controller::desired::{Existing, Observed};
use tenant_controller::observe::owner;
use tenant_controller::owned::{Kept, Kind, Owned};

use crate::operator_flags::OperatorFlags;
use crate::stopped::Stopped;

/// Namespace, kind and name of an object in a namespace.
pub(super) type Place = (String, Kind, String);

/// The tenants that a command is about, with their namespaces.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) settings: Arc<Settings>,
    pub(super) tenants: BTreeMap<String, Tenant>,
    /// Those of the tenants, and others that the command names.
    pub(super) namespaces: BTreeMap<String, Namespace>,
    /// All of them: which tenants select is theirs to say.
    tenant_owners: Vec<Arc<TenantOwner>>,
}

/// What is in the namespaces, as the controller looks at it.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) owned: Owned,
    pub(super) objects: BTreeMap<Place, Value>,
    pub(super) quotas: Vec<ResourceQuota>,
    /// Full names of the ServiceAccounts that carry the label of promoted owners.
    promoted: Vec<String>,
    /// ServiceAccounts that carry the label by which rules promote.
    promotable: Vec<Arc<ServiceAccount>>,
}

/// Who asks, as the API server sees it.
#[derive(Debug, Default)]
pub(super) struct Me {
    name: String,
    groups: Vec<String>,
}

impl World {
    /// The configuration, and nothing else yet.
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let flags = OperatorFlags::read(client).await.unwrap_or_default();
        let configuration = Api::<CapsuleConfiguration>::all(client.clone())
            .get_opt(flags.configuration_name())
            .await
            .context("failed to read the CapsuleConfiguration")?;
        Ok(Self {
            settings: Arc::new(Settings::new(configuration.as_ref(), "", "")),
            tenants: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            tenant_owners: tenant_owners(client).await?.into_iter().map(Arc::new).collect(),
        })
    }

    /// Adds a tenant with its namespaces, unless it is not there.
    pub(super) async fn look_for_tenant(&mut self, client: &Client, name: &str) -> anyhow::Result<()> {
        if self.tenants.contains_key(name) {
            return Ok(());
        }
        let found = Api::<Tenant>::all(client.clone())
            .get_opt(name)
            .await
            .with_context(|| format!("failed to read Tenant {name}"))?;
        if let Some(tenant) = found {
            for namespace in namespaces_of(client, &tenant).await? {
                self.namespaces.insert(namespace.name_any(), namespace);
            }
            self.tenants.insert(name.to_owned(), tenant);
        }
        Ok(())
    }

    /// The same, of one that has to be there.
    pub(super) async fn add_tenant(&mut self, client: &Client, name: &str) -> anyhow::Result<()> {
        self.look_for_tenant(client, name).await?;
        self.tenant(name).map(|_| ())
    }

    /// Adds a namespace, and the tenant that it says it belongs to.
    pub(super) async fn add_namespace(&mut self, client: &Client, name: &str) -> anyhow::Result<()> {
        let found = Api::<Namespace>::all(client.clone())
            .get_opt(name)
            .await
            .with_context(|| format!("failed to read Namespace {name}"))?;
        let namespace = found.ok_or_else(|| Stopped::NotFound(format!("no namespace {name:?}")))?;
        let named = owner(&namespace).map(|(tenant, _)| tenant.to_owned());
        if let Some(tenant) = named.or_else(|| linkage::label(&namespace).map(str::to_owned)) {
            self.look_for_tenant(client, &tenant).await?;
        }
        self.namespaces.insert(name.to_owned(), namespace);
        Ok(())
    }

    pub(super) fn tenant(&self, name: &str) -> anyhow::Result<&Tenant> {
        self.tenants.get(name).ok_or_else(|| Stopped::no_tenant(name))
    }

    /// The tenant's namespaces by the UID in their owner references, sorted by name.
    pub(super) fn namespaces_of(&self, tenant: &Tenant) -> Vec<&Namespace> {
        let uid = tenant.uid().unwrap_or_default();
        let is_its = |namespace: &&Namespace| owner(namespace).is_some_and(|(_, of)| of == uid);
        self.namespaces.values().filter(is_its).collect()
    }

    /// What the controller would see of one of the tenants.
    pub(super) fn observe(&self, tenant: &Tenant, contents: &Contents) -> Observed {
        let namespaces: Vec<Arc<Namespace>> = self.namespaces_of(tenant).into_iter().cloned().map(Arc::new).collect();
        let mut places: BTreeSet<String> = namespaces.iter().map(|namespace| namespace.name_any()).collect();
        let promoted = contents.promoted.iter().filter(|name| {
            tenancy::subject::service_account(name).is_some_and(|(namespace, _)| places.contains(namespace))
        });
        let promoted = promoted.cloned().collect();
        let promotable = contents
            .promotable
            .iter()
            .filter(|account| account.namespace().is_some_and(|namespace| places.contains(&namespace)));
        let promotable = promotable.cloned().collect();
        let uid = tenant.uid().unwrap_or_default();
        places.extend(contents.owned.namespaces_of(&uid).iter().map(ToString::to_string));
        Observed {
            settings: self.settings.clone(),
            promoted,
            promotable,
            tenant_owners: self.tenant_owners.clone(),
            namespaces,
            behind: BTreeSet::new(),
            records: places
                .into_iter()
                .map(|place| {
                    let records = contents.owned.in_namespace(&place);
                    (place, records)
                })
                .collect(),
            classes: Existing::default(),
        }
    }
}

async fn namespaces_of(client: &Client, tenant: &Tenant) -> anyhow::Result<Vec<Namespace>> {
    let selector = format!("{}={}", names::TENANT_LABEL, tenant.name_any());
    let found = Api::<Namespace>::all(client.clone())
        .list(&ListParams::default().labels(&selector))
        .await
        .with_context(|| format!("failed to list the namespaces of Tenant {}", tenant.name_any()))?;
    let uid = tenant.uid().unwrap_or_default();
    let its = found.items.into_iter();
    Ok(its
        .filter(|namespace| owner(namespace).is_some_and(|(_, of)| of == uid))
        .collect())
}

/// All TenantOwners; none where the kind is not served.
pub(crate) async fn tenant_owners(client: &Client) -> anyhow::Result<Vec<TenantOwner>> {
    let owners = Api::<TenantOwner>::all(client.clone());
    match owners.list(&ListParams::default()).await {
        Ok(found) => Ok(found.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error).context("failed to list TenantOwners"),
    }
}

/// ServiceAccounts that carry a label of promotion.
async fn labelled(client: &Client, label: &str) -> anyhow::Result<Vec<ServiceAccount>> {
    let accounts = Api::<ServiceAccount>::all(client.clone());
    let found = accounts
        .list(&ListParams::default().labels(&format!("{label}=true")))
        .await;
    Ok(found.context("failed to list promoted ServiceAccounts")?.items)
}

impl Contents {
    /// Of all namespaces of the world.
    pub(super) async fn read(client: &Client, world: &World) -> anyhow::Result<Self> {
        let mut contents = Self::default();
        for namespace in world.namespaces.keys() {
            contents.add::<NetworkPolicy>(client, namespace).await?;
            contents.add::<LimitRange>(client, namespace).await?;
            contents.add::<RoleBinding>(client, namespace).await?;
            let quotas = contents.add::<ResourceQuota>(client, namespace).await?;
            contents.quotas.extend(quotas);
        }
        let accounts = labelled(client, names::OWNER_PROMOTION_LABEL).await?;
        contents.promoted = accounts.iter().map(full_name).collect();
        contents.promoted.sort_unstable();
        let accounts = labelled(client, names::PROMOTION_LABEL).await?;
        contents.promotable = accounts.into_iter().map(Arc::new).collect();
        Ok(contents)
    }

    async fn add<K: Kept>(&mut self, client: &Client, namespace: &str) -> anyhow::Result<Vec<K>> {
        let found = Api::<K>::namespaced(client.clone(), namespace)
            .list(&ListParams::default())
            .await
            .with_context(|| format!("failed to list what {namespace} holds of kind {}", K::KIND.name()))?;
        for object in &found.items {
            if object
                .labels()
                .get(names::MANAGED_BY_LABEL)
                .is_some_and(|by| by == names::MANAGED_BY_CONTROLLER)
            {
                self.owned.seen(object);
            }
            let place = (namespace.to_owned(), K::KIND, object.name_any());
            self.objects.insert(place, serde_json::to_value(object)?);
        }
        Ok(found.items)
    }
}

impl Me {
    pub(super) async fn ask(client: &Client) -> anyhow::Result<Self> {
        let answer = Api::<SelfSubjectReview>::all(client.clone())
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .context("failed to ask the API server who you are")?;
        let user = answer.status.and_then(|status| status.user_info).unwrap_or_default();
        Ok(Self {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        })
    }

    pub(super) fn user(&self) -> User<'_> {
        User {
            name: &self.name,
            groups: &self.groups,
        }
    }
}

#[cfg(test)]
impl World {
    pub(super) fn of(tenants: Vec<Tenant>, namespaces: Vec<Namespace>) -> Self {
        Self {
            settings: Arc::new(Settings::new(None, "", "")),
            tenants: tenants.into_iter().map(|tenant| (tenant.name_any(), tenant)).collect(),
            namespaces: namespaces
                .into_iter()
                .map(|namespace| (namespace.name_any(), namespace))
                .collect(),
            tenant_owners: Vec::new(),
        }
    }

    /// Of a cluster that is configured.
    pub(super) fn configured(mut self, spec: &Value) -> Self {
        let configuration: CapsuleConfiguration = serde_json::from_value(serde_json::json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
            "spec": spec}))
        .expect("a configuration");
        self.settings = Arc::new(Settings::new(Some(&configuration), "", ""));
        self
    }
}

#[cfg(test)]
impl Me {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: Vec::new(),
        }
    }
}
