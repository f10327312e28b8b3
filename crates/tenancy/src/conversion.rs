//! Tenants of `v1beta1` and `v1beta2`, one made from the other.
//!
//! `v1beta2` is what is stored. `v1beta1` is a view of it for older manifests and clients, and it can say less. Some of
//! the rest has annotations of its own ([`annotations`]), which older manifests use as well. All that is left travels in
//! one annotation, `cotenant.dev/v1beta2` ([`carried`]): without it, a client that reads a Tenant in `v1beta1`, changes
//! it and writes it back would erase rules, selectors and half of the status.
//!
//! - A Tenant that goes to `v1beta1` and back is the same as before.
//! - What a client changes in `v1beta1` counts; what it cannot see there stays. A list of classes that it removes is
//!   removed with all that belongs to it.
//! - The annotation is made at each read and taken out at each write. One that does not belong to the Tenant as it is
//!   now, because it comes from a manifest, is refused: it would put an older state back in silence.
//! - What does not fit into annotations can be read in `v1beta1`, and not written: the answer says so.
//! - A write that has no such annotation says everything: what only `v1beta2` can say is gone, as with any replacement.
//! - What comes out of the annotation has types and no more: the API server validates what is written in the version in
//!   which it is written. The rules of admission hold for it as for every Tenant.

mod annotations;
mod carried;
mod status;

use api::capsule::{names, v1beta1, v1beta2};

use self::{annotations::Roles, carried::Carried};

/// Why a Tenant of `v1beta1` has no equal in `v1beta2`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The annotation is none of ours.
    #[error(
        "metadata.annotations[{annotation}] cannot be read ({0}). It is made when a Tenant is read as v1beta1 and has to stay as \
         it was made: read the Tenant again and repeat the change, or write the Tenant as v1beta2",
        annotation = names::CARRIED_ANNOTATION
    )]
    Unreadable(String),
    /// What only `v1beta2` can say is more than annotations can hold.
    #[error(
        "metadata.annotations[{annotation}] has no room for all that only v1beta2 can say about this Tenant, and a \
         change in v1beta1 would erase it: write the Tenant as v1beta2",
        annotation = names::CARRIED_ANNOTATION
    )]
    TooLarge,
    /// The annotation was made from an older state of the Tenant.
    #[error(
        "metadata.annotations[{annotation}] is from generation {carried} of a Tenant that has changed since (generation \
         {current}), so its rules and what else only v1beta2 can say would be put back to what they were: read the \
         Tenant again and repeat the change, or write the Tenant as v1beta2",
        annotation = names::CARRIED_ANNOTATION
    )]
    Stale {
        /// The generation that the annotation was made from.
        carried: i64,
        /// The generation of the Tenant that has the annotation.
        current: i64,
    },
}

/// How many bytes the annotations of a Tenant in `v1beta1` may have. The API server refuses more than 256 KiB, at reads
/// as well, and a client may want to add some.
/// Source: `TotalAnnotationSizeLimitB` in `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.
const ROOM: usize = 240 * 1024;

/// A Tenant as `v1beta1` shows it, with all that it cannot say in annotations.
pub fn to_v1beta1(tenant: &v1beta2::Tenant) -> v1beta1::Tenant {
    let mut metadata = tenant.metadata.clone();
    let mut shown = metadata.annotations.take().unwrap_or_default();
    annotations::show(&tenant.spec, &mut shown);
    let spec = shown_spec(&tenant.spec);
    let carried = if annotations::size(&shown) > ROOM {
        shown.retain(|key, _| !annotations::is_taken_in(key));
        Some(Carried::too_large())
    } else {
        Carried::of(tenant, &spec).map(|carried| carried.within(ROOM - annotations::size(&shown)))
    };
    if let Some(carried) = carried {
        shown.insert(names::CARRIED_ANNOTATION.into(), carried.text());
    }
    metadata.annotations = Some(shown);
    v1beta1::Tenant {
        metadata,
        spec,
        status: tenant.status.as_ref().map(status::shown),
    }
}

/// A Tenant of `v1beta1` as it is stored.
///
/// # Errors
/// If the annotation `cotenant.dev/v1beta2` cannot be read, is out of date, or had no room for all that it should hold.
pub fn to_v1beta2(tenant: &v1beta1::Tenant) -> Result<v1beta2::Tenant, Error> {
    let carried = Carried::read(tenant)?.unwrap_or_default();
    let mut metadata = tenant.metadata.clone();
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    let spec = said_spec(&tenant.spec, &annotations, carried.spec, &carried.owners);
    annotations.retain(|key, _| !annotations::is_taken_in(key));
    annotations.extend(carried.annotations);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Ok(v1beta2::Tenant {
        metadata,
        spec,
        status: tenant
            .status
            .as_ref()
            .map(|status| status::said(status, carried.status)),
    })
}

/// The part of a spec that has fields in `v1beta1`.
fn shown_spec(spec: &v1beta2::TenantSpec) -> v1beta1::TenantSpec {
    v1beta1::TenantSpec {
        owners: spec.owners.iter().map(shown_owner).collect(),
        additional_role_bindings: spec.additional_role_bindings.clone(),
        node_selector: spec.node_selector.clone(),
        namespace_options: spec
            .namespace_options
            .as_ref()
            .map(|options| v1beta1::NamespaceOptions {
                quota: options.quota,
                additional_metadata: options.additional_metadata.clone(),
            }),
        storage_classes: spec.storage_classes.as_ref().map(shown_classes),
        priority_classes: spec.priority_classes.as_ref().map(shown_classes),
        ingress_options: spec.ingress_options.as_ref().map(|options| v1beta1::IngressOptions {
            allowed_classes: options.allowed_classes.as_ref().map(shown_classes),
            allowed_hostnames: options.allowed_hostnames.clone(),
            hostname_collision_scope: options.hostname_collision_scope,
        }),
        service_options: spec.service_options.clone(),
        container_registries: spec.container_registries.clone(),
        image_pull_policies: spec.image_pull_policies.clone(),
        network_policies: spec.network_policies.clone(),
        limit_ranges: spec.limit_ranges.clone(),
        resource_quotas: spec.resource_quotas.clone(),
    }
}

/// What a Tenant of `v1beta1` says, in its fields and annotations, on top of what was carried.
fn said_spec(
    spec: &v1beta1::TenantSpec,
    annotations: &annotations::Annotations,
    carried: v1beta2::TenantSpec,
    owners: &[v1beta2::Owner],
) -> v1beta2::TenantSpec {
    let roles = Roles::new(annotations, &spec.owners, owners);
    let mut said = v1beta2::TenantSpec {
        owners: spec
            .owners
            .iter()
            .enumerate()
            .map(|(index, owner)| said_owner(owner, roles.of(index, &owner.user), roles.known(index, &owner.user)))
            .collect(),
        additional_role_bindings: spec.additional_role_bindings.clone(),
        node_selector: spec.node_selector.clone(),
        namespace_options: said_namespace_options(spec.namespace_options.as_ref(), carried.namespace_options),
        storage_classes: said_classes(spec.storage_classes.as_ref(), carried.storage_classes),
        priority_classes: said_classes(spec.priority_classes.as_ref(), carried.priority_classes),
        ingress_options: spec
            .ingress_options
            .as_ref()
            .map(|options| said_ingress_options(options, carried.ingress_options)),
        service_options: spec.service_options.clone(),
        container_registries: spec.container_registries.clone(),
        image_pull_policies: spec.image_pull_policies.clone(),
        network_policies: spec.network_policies.clone(),
        limit_ranges: spec.limit_ranges.clone(),
        resource_quotas: spec.resource_quotas.clone(),
        ..carried
    };
    annotations::take_in(annotations, &mut said);
    said
}

fn shown_classes(list: &v1beta2::DefaultAllowedList) -> v1beta2::AllowedList {
    v1beta2::AllowedList {
        allowed: list.allowed.clone(),
        allowed_regex: list.allowed_regex.clone(),
    }
}

fn said_classes(
    list: Option<&v1beta2::AllowedList>,
    carried: Option<v1beta2::DefaultAllowedList>,
) -> Option<v1beta2::DefaultAllowedList> {
    let list = list?;
    Some(v1beta2::DefaultAllowedList {
        allowed: list.allowed.clone(),
        allowed_regex: list.allowed_regex.clone(),
        ..carried.unwrap_or_default()
    })
}

/// What is carried restricts namespaces in ways that `v1beta1` cannot see, so it stays although the block may be gone.
fn said_namespace_options(
    options: Option<&v1beta1::NamespaceOptions>,
    carried: Option<v1beta2::NamespaceOptions>,
) -> Option<v1beta2::NamespaceOptions> {
    let Some(options) = options else { return carried };
    Some(v1beta2::NamespaceOptions {
        quota: options.quota,
        additional_metadata: options.additional_metadata.clone(),
        ..carried.unwrap_or_default()
    })
}

fn said_ingress_options(
    options: &v1beta1::IngressOptions,
    carried: Option<v1beta2::IngressOptions>,
) -> v1beta2::IngressOptions {
    let carried = carried.unwrap_or_default();
    v1beta2::IngressOptions {
        allowed_classes: said_classes(options.allowed_classes.as_ref(), carried.allowed_classes),
        allowed_hostnames: options.allowed_hostnames.clone(),
        hostname_collision_scope: options.hostname_collision_scope,
        allow_wildcard_hostnames: false,
    }
}

fn shown_owner(owner: &v1beta2::Owner) -> v1beta1::Owner {
    v1beta1::Owner {
        user: owner.core.user.clone(),
        proxy_settings: owner.proxy_settings.iter().filter_map(shown_proxy_setting).collect(),
    }
}

/// `known` is the same owner as it was shown.
fn said_owner(owner: &v1beta1::Owner, cluster_roles: Vec<String>, known: Option<&v1beta2::Owner>) -> v1beta2::Owner {
    let known = known.cloned().unwrap_or_default();
    let is_shown = |setting: &v1beta2::ProxySetting| shown_proxy_setting(setting).is_some();
    let shown = known.proxy_settings.iter().filter_map(shown_proxy_setting);
    let proxy_settings = if shown.eq(owner.proxy_settings.iter().cloned()) {
        known.proxy_settings
    } else {
        let said = owner.proxy_settings.iter().map(said_proxy_setting);
        let hidden = known.proxy_settings.into_iter().filter(|setting| !is_shown(setting));
        said.chain(hidden).collect()
    };
    v1beta2::Owner {
        core: v1beta2::CoreOwner {
            user: owner.user.clone(),
            cluster_roles,
        },
        labels: known.labels,
        annotations: known.annotations,
        proxy_settings,
    }
}

fn shown_proxy_setting(setting: &v1beta2::ProxySetting) -> Option<v1beta1::ProxySetting> {
    let kind = match setting.kind {
        v1beta2::ProxyKind::Nodes => v1beta1::ProxyKind::Nodes,
        v1beta2::ProxyKind::StorageClasses => v1beta1::ProxyKind::StorageClasses,
        v1beta2::ProxyKind::IngressClasses => v1beta1::ProxyKind::IngressClasses,
        v1beta2::ProxyKind::PriorityClasses => v1beta1::ProxyKind::PriorityClasses,
        v1beta2::ProxyKind::RuntimeClasses | v1beta2::ProxyKind::PersistentVolumes => return None,
    };
    Some(v1beta1::ProxySetting {
        kind,
        operations: setting.operations.clone(),
    })
}

fn said_proxy_setting(setting: &v1beta1::ProxySetting) -> v1beta2::ProxySetting {
    v1beta2::ProxySetting {
        kind: match setting.kind {
            v1beta1::ProxyKind::Nodes => v1beta2::ProxyKind::Nodes,
            v1beta1::ProxyKind::StorageClasses => v1beta2::ProxyKind::StorageClasses,
            v1beta1::ProxyKind::IngressClasses => v1beta2::ProxyKind::IngressClasses,
            v1beta1::ProxyKind::PriorityClasses => v1beta2::ProxyKind::PriorityClasses,
        },
        operations: setting.operations.clone(),
    }
}

#[cfg(test)]
mod tests;
