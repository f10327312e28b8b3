//! Both kinds of replication as one: what is asked for, by whom, and what is known of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{
    CapsuleConfiguration, GlobalTenantResource, ProcessedItem, Replication, ReplicationScope, ServiceAccountReference,
    Tenant, TenantResource,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use kube::ResourceExt;
use runtime::Shared;
use tenancy::linkage;
use tenancy::replication::identity::{Identity, ReplicationName};
use tenancy::replication::object::Reach;
use tenancy::replication::plan::Part;
use tenancy::replication::produce::Place;
use tenancy::selector::Selector;

/// A replication as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: ReplicationName,
    pub(crate) metadata: ObjectMeta,
    pub(crate) replication: Replication,
    pub(crate) identity: Identity,
    pub(crate) kind: TaskKind,
    pub(crate) known: Known,
}

/// What the two kinds do not share.
#[derive(Clone, Debug)]
pub(crate) enum TaskKind {
    Tenant,
    Global {
        tenants: LabelSelector,
        scope: ReplicationScope,
    },
}

/// The status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) selected: Vec<String>,
    pub(crate) size: i64,
    pub(crate) items: Vec<ProcessedItem>,
    pub(crate) account: Option<ServiceAccountReference>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) generation: Option<i64>,
}

impl Task {
    pub(crate) fn of_tenant(object: TenantResource, configuration: Option<&CapsuleConfiguration>) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let named = object.spec.service_account.as_ref().map(|it| it.name.as_str());
        let configured = configuration.and_then(|it| it.spec.impersonation.as_ref());
        let status = object.status.unwrap_or_default();
        Self {
            identity: Identity::of_tenant(&namespace, named, configured),
            name: ReplicationName {
                name: object.metadata.name.clone().unwrap_or_default(),
                namespace: Some(namespace),
            },
            metadata: object.metadata,
            replication: object.spec.replication,
            kind: TaskKind::Tenant,
            known: Known {
                selected: Vec::new(),
                size: status.size,
                items: status.processed_items,
                account: status.service_account,
                conditions: status.conditions,
                generation: status.observed_generation,
            },
        }
    }

    pub(crate) fn global(object: GlobalTenantResource, configuration: Option<&CapsuleConfiguration>) -> Self {
        let configured = configuration.and_then(|it| it.spec.impersonation.as_ref());
        let status = object.status.unwrap_or_default();
        Self {
            identity: Identity::global(object.spec.service_account.as_ref(), configured),
            name: ReplicationName {
                name: object.metadata.name.clone().unwrap_or_default(),
                namespace: None,
            },
            metadata: object.metadata,
            replication: object.spec.replication,
            kind: TaskKind::Global {
                tenants: object.spec.tenant_selector.unwrap_or_default(),
                scope: object.spec.scope,
            },
            known: Known {
                selected: status.selected_tenants,
                size: status.size,
                items: status.processed_items,
                account: status.service_account,
                conditions: status.conditions,
                generation: status.observed_generation,
            },
        }
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            TaskKind::Tenant => "TenantResource",
            TaskKind::Global { .. } => "GlobalTenantResource",
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn reach(&self) -> Reach {
        match self.kind {
            TaskKind::Tenant => Reach::OfTenant,
            TaskKind::Global { scope, .. } => Reach::global(scope),
        }
    }

    pub(crate) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().flatten().any(|it| it == finalizer)
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(names::RECONCILE_ANNOTATION))
    }
}

/// A place that blocks are made for.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) tenant: Option<Arc<Tenant>>,
    pub(crate) namespace: Option<Arc<Namespace>>,
}

impl Round {
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            tenant: self.tenant.as_deref(),
            namespace: self.namespace.as_deref(),
        }
    }

    /// What of the replication is made here.
    pub(crate) fn part(&self) -> Part {
        let (place, namespaces) = (self.place(), self.namespace.is_some());
        let tags = place.tags();
        if namespaces {
            Part::Namespace(tags.tenant.to_owned(), tags.namespace.to_owned())
        } else {
            Part::Tenant(tags.tenant.to_owned())
        }
    }
}

/// Where a replication goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) rounds: Vec<Round>,
    /// Names of the tenants, sorted.
    pub(crate) tenants: Vec<String>,
    /// Where a tenant's replication may read: the namespaces of its tenant.
    pub(crate) readable: BTreeSet<String>,
}

/// Tenants and namespaces as the watches have them.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) tenants: Shared<Tenant>,
    pub(crate) namespaces: Shared<Namespace>,
}

impl Surroundings {
    /// Where the replication goes.
    ///
    /// # Errors
    /// In words, if that cannot be said.
    pub(crate) fn target(&self, task: &Task) -> Result<Target, String> {
        match &task.kind {
            TaskKind::Tenant => self.of_tenant(task.name.namespace.as_deref().unwrap_or_default()),
            TaskKind::Global { tenants, scope } => self.global(tenants, *scope),
        }
    }

    /// The tenant of a namespace, if both know of each other.
    pub(crate) fn tenant_of(&self, namespace: &Namespace) -> Option<Arc<Tenant>> {
        let reference = linkage::linkage(namespace).ok()??;
        let tenant = self.tenants.get(None, reference.name)?;
        (tenant.metadata.uid.as_deref() == Some(reference.uid)).then_some(tenant)
    }

    fn of_tenant(&self, namespace: &str) -> Result<Target, String> {
        let own = self.namespaces.get(None, namespace);
        let tenant = own.and_then(|own| self.tenant_of(&own));
        let tenant = tenant.ok_or_else(|| format!("namespace {namespace} belongs to no tenant"))?;
        let members = self.members(&tenant);
        Ok(Target {
            tenants: vec![tenant.name_any()],
            readable: members.iter().map(|namespace| namespace.name_any()).collect(),
            rounds: rounds(&tenant, members),
        })
    }

    fn global(&self, selector: &LabelSelector, scope: ReplicationScope) -> Result<Target, String> {
        let selector = Selector::new(selector).map_err(|error| format!("spec.tenantSelector: {error}"))?;
        let mut tenants = self.tenants.store().state();
        tenants.retain(|tenant| tenant.metadata.deletion_timestamp.is_none() && selector.matches(tenant.labels()));
        tenants.sort_by_key(|tenant| tenant.name_any());
        let rounds = match scope {
            ReplicationScope::None => vec![Round {
                tenant: None,
                namespace: None,
            }],
            ReplicationScope::Tenant => tenants
                .iter()
                .map(|tenant| Round {
                    tenant: Some(tenant.clone()),
                    namespace: None,
                })
                .collect(),
            ReplicationScope::Namespace => tenants
                .iter()
                .flat_map(|tenant| rounds(tenant, self.members(tenant)))
                .collect(),
        };
        Ok(Target {
            rounds,
            tenants: tenants.iter().map(|tenant| tenant.name_any()).collect(),
            readable: BTreeSet::new(),
        })
    }

    /// The namespaces of a tenant, sorted, without those that are going away.
    fn members(&self, tenant: &Tenant) -> Vec<Arc<Namespace>> {
        let mut members = self.namespaces.store().state();
        members.retain(|namespace| {
            namespace.metadata.deletion_timestamp.is_none()
                && matches!(linkage::linkage(namespace), Ok(Some(reference)) if Some(reference.uid) == tenant.metadata.uid.as_deref())
        });
        members.sort_by_key(|namespace| namespace.name_any());
        members
    }

    /// Whether something can be written into a namespace, or deleted there.
    pub(crate) fn is_open(&self, namespace: &str) -> bool {
        namespace.is_empty()
            || self
                .namespaces
                .get(None, namespace)
                .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }
}

fn rounds(tenant: &Arc<Tenant>, namespaces: Vec<Arc<Namespace>>) -> Vec<Round> {
    namespaces
        .into_iter()
        .map(|namespace| Round {
            tenant: Some(tenant.clone()),
            namespace: Some(namespace),
        })
        .collect()
}
