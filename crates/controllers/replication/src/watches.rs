//! What wakes a replication up. Changes that nobody heeds (statuses, for the most part) do not.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use api::capsule::names;
use api::capsule::v1beta2::{Impersonation, ReplicationScope, Tenant};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt;
use runtime::Queue;
use runtime::shared::Change;
use tenancy::linkage;
use tenancy::replication::identity::ReplicationName;
use tenancy::replication::status::is_ready;

use crate::Context;

/// What of a replication's own change is heeded by itself, and by those who depend on it.
type Heeded = (Option<i64>, bool, bool, Option<String>);

fn heeded(metadata: &ObjectMeta, conditions: &[Condition], observed: Option<i64>) -> (Heeded, bool) {
    let annotations = metadata.annotations.as_ref();
    let own = (
        metadata.generation,
        metadata.deletion_timestamp.is_some(),
        metadata
            .finalizers
            .iter()
            .flatten()
            .any(|it| it == names::LEGACY_FINALIZER),
        annotations.and_then(|it| it.get(names::RECONCILE_ANNOTATION)).cloned(),
    );
    (own, is_ready(conditions, observed, metadata.generation))
}

/// Begins to put replications into the queue.
pub(crate) fn follow(context: &Context, queue: &Queue<ReplicationName>) {
    of_tenants(context, queue);
    global(context, queue);
    surroundings(context, queue);
}

fn of_tenants(context: &Context, queue: &Queue<ReplicationName>) {
    let (store, mut seen) = (context.tenant_resources.store(), HashMap::new());
    context.tenant_resources.trigger(queue, move |change| {
        let object = change.object();
        let (namespace, own) = (object.namespace(), object.name_any());
        let name = |name: String| ReplicationName {
            namespace: namespace.clone(),
            name,
        };
        let status = object.status.clone().unwrap_or_default();
        let now = heeded(&object.metadata, &status.conditions, status.observed_generation);
        let woken = woken(&mut seen, change, name(own.clone()), now);
        let mut names = Vec::new();
        if woken.dependents {
            let dependents = store.state().into_iter().filter(|other| {
                other.namespace() == namespace && other.spec.replication.depends_on.iter().any(|it| it.name == own)
            });
            names.extend(dependents.map(|other| name(other.name_any())));
        }
        if woken.itself {
            names.push(name(own.clone()));
        }
        names
    });
}

fn global(context: &Context, queue: &Queue<ReplicationName>) {
    let (store, mut seen) = (context.global_tenant_resources.store(), HashMap::new());
    context.global_tenant_resources.trigger(queue, move |change| {
        let object = change.object();
        let own = object.name_any();
        let name = |name: String| ReplicationName { namespace: None, name };
        let status = object.status.clone().unwrap_or_default();
        let now = heeded(&object.metadata, &status.conditions, status.observed_generation);
        let woken = woken(&mut seen, change, name(own.clone()), now);
        let mut names = Vec::new();
        if woken.dependents {
            let dependents = store
                .state()
                .into_iter()
                .filter(|other| other.spec.replication.depends_on.iter().any(|it| it.name == own));
            names.extend(dependents.map(|other| name(other.name_any())));
        }
        if woken.itself {
            names.push(name(own.clone()));
        }
        names
    });
}

struct Woken {
    itself: bool,
    dependents: bool,
}

fn woken<K>(
    seen: &mut HashMap<ReplicationName, (Heeded, bool)>,
    change: &Change<K>,
    name: ReplicationName,
    (heeded, ready): (Heeded, bool),
) -> Woken {
    if matches!(change, Change::Deleted(_)) {
        seen.remove(&name);
        return Woken {
            itself: true,
            dependents: true,
        };
    }
    let before = seen.insert(name, (heeded.clone(), ready));
    Woken {
        itself: before.as_ref().is_none_or(|before| before.0 != heeded),
        dependents: before.is_none_or(|before| before.1 != ready),
    }
}

/// Tenants and namespaces that come, change their labels, or go; and who replications act as by default.
fn surroundings(context: &Context, queue: &Queue<ReplicationName>) {
    // Of what is heeded a digest is kept: there may be many thousands.
    let hasher = RandomState::new();
    let (stores, mut seen, digests) = (context.clone(), HashMap::<String, u64>::new(), hasher.clone());
    context.tenants.trigger(queue, move |change| {
        let tenant = change.object();
        match change {
            Change::Applied(_) => {
                let now = digest_of_tenant(&digests, tenant);
                if seen.insert(tenant.name_any(), now) == Some(now) {
                    return Vec::new();
                }
            }
            Change::Deleted(_) => drop(seen.remove(&tenant.name_any())),
        }
        concerned(&stores, &tenant.name_any(), true)
    });
    let (stores, mut seen) = (context.clone(), HashMap::<String, NamespaceView>::new());
    context.namespaces.trigger(queue, move |change| {
        let namespace = change.object();
        let now = view_of_namespace(&hasher, namespace);
        let before = match change {
            Change::Applied(_) => seen.insert(namespace.name_any(), now.clone()),
            Change::Deleted(_) => {
                seen.remove(&namespace.name_any());
                None
            }
        };
        if before.as_ref() == Some(&now) {
            return Vec::new();
        }
        let tenants = [before.and_then(|it| it.tenant), now.tenant];
        let mut names: Vec<_> = tenants
            .into_iter()
            .flatten()
            .flat_map(|tenant| concerned(&stores, &tenant, false))
            .collect();
        names.dedup();
        names
    });
    let (stores, mut last) = (context.clone(), None::<Option<Impersonation>>);
    context.configurations.trigger(queue, move |change| {
        if change.object().name_any() != stores.configuration_name {
            return Vec::new();
        }
        let now = match change {
            Change::Applied(configuration) => configuration.spec.impersonation.clone(),
            Change::Deleted(_) => None,
        };
        if last.replace(now.clone()) == Some(now) {
            return Vec::new();
        }
        let of_tenants = stores
            .tenant_resources
            .store()
            .state()
            .into_iter()
            .map(|it| ReplicationName {
                namespace: it.namespace(),
                name: it.name_any(),
            });
        of_tenants.chain(all_global(&stores, true)).collect()
    });
}

/// Generation and labels; of the status only the owners reach a template, and those follow the spec.
fn digest_of_tenant(hasher: &RandomState, tenant: &Tenant) -> u64 {
    hasher.hash_one((
        tenant.labels(),
        tenant.metadata.generation,
        tenant.metadata.deletion_timestamp.is_some(),
        &tenant.metadata.uid,
    ))
}

#[derive(Clone, Debug, PartialEq)]
struct NamespaceView {
    tenant: Option<Box<str>>,
    /// Of labels, annotations, whether it is being deleted, and UID.
    digest: u64,
}

fn view_of_namespace(hasher: &RandomState, namespace: &Namespace) -> NamespaceView {
    NamespaceView {
        tenant: linkage::linkage(namespace).ok().flatten().map(|it| it.name.into()),
        digest: hasher.hash_one((
            namespace.labels(),
            namespace.annotations(),
            namespace.metadata.deletion_timestamp.is_some(),
            &namespace.metadata.uid,
        )),
    }
}

/// Replications that have to do with a tenant: those in its namespaces, and all global ones.
fn concerned(context: &Context, tenant: &str, also_once: bool) -> Vec<ReplicationName> {
    let own = context
        .tenant_resources
        .store()
        .state()
        .into_iter()
        .filter(|replication| {
            let place = context
                .namespaces
                .get(None, &replication.namespace().unwrap_or_default());
            place.is_some_and(|place| linkage::label(&place) == Some(tenant))
        });
    let own = own.map(|it| ReplicationName {
        namespace: it.namespace(),
        name: it.name_any(),
    });
    own.chain(all_global(context, also_once)).collect()
}

/// All global replications; those that fill no namespaces only if asked for.
fn all_global(context: &Context, also_once: bool) -> Vec<ReplicationName> {
    let all = context.global_tenant_resources.store().state().into_iter();
    all.filter(|it| also_once || it.spec.scope == ReplicationScope::Namespace)
        .map(|it| ReplicationName {
            namespace: None,
            name: it.name_any(),
        })
        .collect()
}
