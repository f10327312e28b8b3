//! One watch per kind for the whole process: admission and controllers look at the same stores.

use api::{
    capsule::v1beta2::{
        CapsuleConfiguration, CustomQuota, GlobalCustomQuota, GlobalResourceQuota, GlobalTenantResource,
        QuantityLedger, ResourcePool, Tenant, TenantOwner, TenantResource,
    },
    kamaji::v1alpha1::{DataStore, TenantControlPlane},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    networking::v1::IngressClass,
};
use kube::{Api, Client, runtime::watcher};
use runtime::{Shared, Shutdown};
use tenant_controller::classes::Classes;

/// What the chosen components watch. Every replica holds these; what only controllers need is watched by the leader.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) namespace_tenants: Option<NamespaceTenants>,
    pub(crate) control_planes: Option<ControlPlanes>,
}

#[derive(Clone)]
pub(crate) struct NamespaceTenants {
    pub(crate) tenants: Shared<Tenant>,
    pub(crate) tenant_owners: Shared<TenantOwner>,
    pub(crate) namespaces: Shared<Namespace>,
    pub(crate) configurations: Shared<CapsuleConfiguration>,
    pub(crate) classes: Classes,
    pub(crate) ingress_classes: Shared<IngressClass>,
    pub(crate) tenant_resources: Shared<TenantResource>,
    pub(crate) global_tenant_resources: Shared<GlobalTenantResource>,
    pub(crate) custom_quotas: Shared<CustomQuota>,
    pub(crate) global_custom_quotas: Shared<GlobalCustomQuota>,
    pub(crate) global_resource_quotas: Shared<GlobalResourceQuota>,
    pub(crate) quantity_ledgers: Shared<QuantityLedger>,
    pub(crate) pools: Shared<ResourcePool>,
}

#[derive(Clone)]
pub(crate) struct ControlPlanes {
    pub(crate) planes: Shared<TenantControlPlane>,
    pub(crate) datastores: Shared<DataStore>,
    pub(crate) services: Shared<Service>,
}

impl Watches {
    pub(crate) fn start(client: &Client, namespace_tenants: bool, control_planes: bool, shutdown: &Shutdown) -> Self {
        Self {
            namespace_tenants: namespace_tenants.then(|| NamespaceTenants {
                tenants: Shared::start(
                    Api::all(client.clone()),
                    all(),
                    tenant_controller::trim_tenant,
                    shutdown,
                ),
                namespaces: Shared::start(
                    Api::all(client.clone()),
                    all(),
                    tenant_controller::trim_namespace,
                    shutdown,
                ),
                tenant_owners: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                configurations: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                classes: Classes::start(client, shutdown),
                ingress_classes: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                tenant_resources: Shared::start(
                    Api::all(client.clone()),
                    large(),
                    replication_controller::trim_tenant_resource,
                    shutdown,
                ),
                global_tenant_resources: Shared::start(
                    Api::all(client.clone()),
                    large(),
                    replication_controller::trim_global_tenant_resource,
                    shutdown,
                ),
                custom_quotas: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                global_custom_quotas: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                global_resource_quotas: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                quantity_ledgers: Shared::start(Api::all(client.clone()), all(), |_| {}, shutdown),
                pools: Shared::start(Api::all(client.clone()), large(), trim_pool, shutdown),
            }),
            control_planes: control_planes.then(|| ControlPlanes {
                planes: control_plane_controller::Watches::control_planes(client, shutdown),
                datastores: control_plane_controller::Watches::datastores(client, shutdown),
                services: control_plane_controller::Watches::services(client, shutdown),
            }),
        }
    }
}

/// Drops of a pool all but what it is for and what is left: what each claim has may be most of a MiB.
fn trim_pool(pool: &mut ResourcePool) {
    pool.metadata.annotations = None;
    pool.metadata.labels = None;
    if let Some(status) = &mut pool.status {
        status.claims.clear();
        status.exhaustions.clear();
        status.conditions.clear();
    }
}

fn all() -> watcher::Config {
    watcher::Config::default()
}

/// Of objects that may each have more than a MiB before they are trimmed: few at a time.
fn large() -> watcher::Config {
    watcher::Config::default().page_size(20)
}
