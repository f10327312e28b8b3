//! Labels and annotations of a tenant's namespaces: those that are forbidden, those that are required, and those that we keep.

use std::collections::BTreeMap;

use api::capsule::names;
use k8s_openapi::api::core::v1::Namespace;

use super::name_of;
use crate::{
    audit::Limit,
    caller::Caller,
    denial::Denial,
    index::KnownTenant,
    keys::{ForbiddenKeys, Missing, RequiredValues},
    metadata,
};

/// Keys that owners may not set, change or remove. Those that we keep ourselves are not theirs.
pub(super) fn check_forbidden(
    caller: Caller,
    tenant: &KnownTenant,
    object: &Namespace,
    old: Option<&Namespace>,
) -> Result<(), Denial> {
    let nothing_is_forbidden = tenant.forbidden_labels.is_empty() && tenant.forbidden_annotations.is_empty();
    if caller != Caller::TenantUser || nothing_is_forbidden {
        return Ok(());
    }
    let empty = BTreeMap::new();
    let labels = |namespace: Option<&'_ Namespace>| namespace.and_then(|namespace| namespace.metadata.labels.clone());
    let new_labels = labels(Some(object)).unwrap_or_default();
    let kept = metadata::managed(&tenant.object, name_of(object), &new_labels);
    let annotations = |namespace: &'_ Namespace| namespace.metadata.annotations.clone().unwrap_or_default();
    let parts = [
        (
            "labels",
            "ForbiddenLabel",
            &tenant.forbidden_labels,
            &kept.labels,
            new_labels,
            labels(old).unwrap_or_default(),
        ),
        (
            "annotations",
            "ForbiddenAnnotation",
            &tenant.forbidden_annotations,
            &kept.annotations,
            annotations(object),
            old.map_or(empty, annotations),
        ),
    ];
    for (what, reason, forbidden, kept, now, before) in parts {
        let changed = now
            .keys()
            .chain(before.keys())
            .filter(|key| now.get(*key) != before.get(*key));
        let own = |key: &&String| {
            !kept.contains_key(*key) && ![names::TENANT_LABEL, names::NAME_LABEL].contains(&key.as_str())
        };
        for key in changed.filter(own) {
            check_key(what, reason, key, forbidden, tenant)?;
        }
    }
    Ok(())
}

fn check_key(
    what: &str,
    reason: &'static str,
    key: &str,
    forbidden: &ForbiddenKeys,
    tenant: &KnownTenant,
) -> Result<(), Denial> {
    let field = format!("metadata.{what}[{key}]");
    let (option, limit) = if what == "labels" {
        ("forbiddenLabels", Limit::NamespaceLabels)
    } else {
        ("forbiddenAnnotations", Limit::NamespaceAnnotations)
    };
    let set_by = || tenant.field(&format!("spec.namespaceOptions.{option}"));
    match forbidden.hold(key) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!(
                "{field}: namespace {what} validation failed: {key} is forbidden for the current Tenant. {}; an administrator \
                 set this with {}",
                forbidden.describe(),
                set_by()
            );
            Err(Denial::new(field, reason, message).by(limit))
        }
        Err(error) => {
            let message = format!(
                "{field}: failed to tell whether the key is forbidden, because the pattern in {} cannot be \
                 compiled: {error}; an administrator has to correct it",
                set_by()
            );
            Err(Denial::new(field, "PatternInvalid", message).with_code(500))
        }
    }
}

/// What we keep on a namespace is not for tenant users to change: mutation has put it back on the namespace itself, so
/// this refuses what came by a subresource.
pub(super) fn check_kept(
    caller: Caller,
    tenant: &KnownTenant,
    object: &Namespace,
    old: &Namespace,
) -> Result<(), Denial> {
    if caller != Caller::TenantUser {
        return Ok(());
    }
    let (new, before) = (&object.metadata, &old.metadata);
    if new.labels == before.labels && new.annotations == before.annotations {
        return Ok(());
    }
    let empty = BTreeMap::new();
    let labels = new.labels.as_ref().unwrap_or(&empty);
    let kept = metadata::managed(&tenant.object, name_of(object), labels);
    let parts = [
        ("labels", kept.labels, &new.labels, &before.labels),
        ("annotations", kept.annotations, &new.annotations, &before.annotations),
    ];
    for (what, kept, now, before) in parts {
        let get =
            |map: &'_ Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key)).cloned();
        for (key, value) in kept {
            let has = get(now, &key);
            if has.as_deref() != Some(value.as_str()) && has != get(before, &key) {
                let field = format!("metadata.{what}[{key}]");
                let message = format!(
                    "{field}: it is kept at {value:?} for every namespace of the Tenant {:?}; an administrator can \
                     change that there",
                    tenant.name.as_str()
                );
                return Err(Denial::new(field, "ForbiddenMetadata", message));
            }
        }
    }
    Ok(())
}

/// The node selector of a tenant is nobody's to change but ours: pods would run on other tenants' nodes.
pub(super) fn check_node_selector(tenant: &KnownTenant, object: &Namespace, old: &Namespace) -> Result<(), Denial> {
    let selector = &tenant.object.spec.node_selector;
    if selector.is_empty() {
        return Ok(());
    }
    let key = names::NODE_SELECTOR_ANNOTATION;
    let value = |namespace: &'_ Namespace| {
        namespace
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
            .cloned()
    };
    let (now, before, wanted) = (value(object), value(old), metadata::node_selector(selector));
    if now == before || now.as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    let field = format!("metadata.annotations[{key}]");
    let message = format!(
        "{field}: it is kept at {wanted:?} and can neither be removed nor changed; an administrator set this with {}",
        tenant.field("spec.nodeSelector")
    );
    Err(Denial::new(field, "ForbiddenNodeSelectorUpdate", message))
}

pub(super) fn check_required(tenant: &KnownTenant, object: &Namespace, old: Option<&Namespace>) -> Result<(), Denial> {
    type Part = fn(&Namespace) -> Option<&BTreeMap<String, String>>;
    let parts: [(&str, &str, &RequiredValues, Part); 2] = [
        ("label", "labels", &tenant.required_labels, |namespace| {
            namespace.metadata.labels.as_ref()
        }),
        ("annotation", "annotations", &tenant.required_annotations, |namespace| {
            namespace.metadata.annotations.as_ref()
        }),
    ];
    for (what, plural, required, part) in parts {
        let is_changed = |key: &str, value: Option<&String>| {
            old.is_none_or(|old| part(old).and_then(|before| before.get(key)) != value)
        };
        let Some(missing) = required.missing(part(object), is_changed) else {
            continue;
        };
        let set_by = format!(
            "an administrator set this with {}",
            tenant.field(&format!("spec.namespaceOptions.requiredMetadata.{plural}"))
        );
        let (key, detail, code) = match missing {
            Missing::Absent { key } => (key, format!("required {what} {key:?} not present; {set_by}"), 403),
            Missing::Mismatch { key, value, pattern } => (
                key,
                format!("required {what} {key:?} has the value {value:?}, which does not match {pattern:?}; {set_by}"),
                403,
            ),
            Missing::Unknowable { key, error } => (
                key,
                format!("failed to check required {what} {key:?}: {error}; {set_by} and has to correct it"),
                500,
            ),
        };
        let field = format!("metadata.{plural}[{key}]");
        let message = format!("{field}: {detail}");
        return Err(Denial::new(field, "ForbiddenMetadata", message)
            .with_code(code)
            .by(Limit::RequiredMetadata));
    }
    Ok(())
}
