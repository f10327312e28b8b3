//! What a Tenant object may say.
//!
//! Whoever writes Tenants administers them; the point here is that what is admitted is usable: every pattern, selector and
//! amount is read by the same code that will use it.

mod amounts;
mod deprecations;
mod labels;
mod matchers;
mod subjects;
#[cfg(test)]
mod tests;

use api::capsule::{names, v1beta2::Tenant};
use kube_core::ResourceExt;

use crate::{
    audit,
    denial::{Decision, Denial},
    name::TenantName,
    not_yet, object_quotas,
    quota::rule_quotas,
    rules, services,
    settings::Settings,
};
use amounts::check_quotas;
use deprecations::deprecations;
use labels::{check_additional_metadata, check_node_selector, check_object_metadata};
use matchers::{check_patterns, check_selectors};
use subjects::{check_bindings, check_owners, check_promotions};

pub(crate) use subjects::{check_role, check_subject};

/// Kubernetes keeps names of namespaces that begin so for itself.
const SYSTEM_PREFIX: &str = "kube-";

/// Gives the Tenant the label that selectors find it by.
pub fn mutate(tenant: &Tenant) -> Decision<Tenant> {
    let Some(name) = tenant.metadata.name.as_ref() else {
        return Decision::Allow;
    };
    if tenant.labels().get(names::NAME_LABEL) == Some(name) {
        return Decision::Allow;
    }
    let mut changed = tenant.clone();
    changed.labels_mut().insert(names::NAME_LABEL.to_owned(), name.clone());
    Decision::Change(Box::new(changed), Vec::new())
}

/// Refuses a Tenant that could not be served as it is written.
pub fn validate_create(tenant: &Tenant, settings: &Settings) -> Decision<Tenant> {
    check_name(tenant, settings).and_then(|()| check(tenant, None)).into()
}

/// Refuses a change to a Tenant that could not be served. What was there before and is left as it is, is not looked at
/// again where that would keep an administrator from repairing the rest.
pub fn validate_update(tenant: &Tenant, old: &Tenant) -> Decision<Tenant> {
    // While it ends, finalizers come off and nothing else matters.
    if tenant.metadata.deletion_timestamp.is_some() {
        return Decision::Allow;
    }
    check(tenant, Some(old)).into()
}

/// Refuses the deletion of a Tenant that is protected.
pub fn validate_delete(tenant: &Tenant) -> Decision<Tenant> {
    if !tenant.spec.prevent_deletion {
        return Decision::Allow;
    }
    let message = format!(
        "spec.preventDeletion: tenant is protected and cannot be deleted; set spec.preventDeletion of the Tenant {:?} to false first",
        tenant.name_any()
    );
    Decision::Deny(Denial::new("spec.preventDeletion", "DeletionPrevented", message))
}

fn check_name(tenant: &Tenant, settings: &Settings) -> Result<(), Denial> {
    let (field, name) = ("metadata.name", tenant.name_any());
    // With generateName the API server makes up the rest, which is letters and digits.
    let name = if name.is_empty() {
        tenant
            .metadata
            .generate_name
            .as_deref()
            .unwrap_or_default()
            .trim_end_matches(['-', '.'])
            .to_owned()
    } else {
        name
    };
    TenantName::new(&name).map_err(|error| {
        Denial::new(
            field,
            "NameInvalid",
            format!("{field}: tenant name has forbidden characters: {error}"),
        )
    })?;
    let reserved = |by: &str| {
        let message = format!(
            "{field}: {name:?} is reserved: {by}; choose a name that no namespace of the cluster itself is called or begins with"
        );
        Err(Denial::new(field, "NameReserved", message))
    };
    if name == "default" || name == "kube" || name.starts_with(SYSTEM_PREFIX) {
        return reserved("Kubernetes keeps \"default\" and names that begin with \"kube-\" for itself");
    }
    if name == settings.operator_namespace {
        return reserved("it is the name of the operator's namespace");
    }
    Ok(())
}

/// Refuses rules that could not be carried out. Rules that an update leaves as they are are not looked at again.
fn check_rules(tenant: &Tenant, old: Option<&Tenant>) -> Result<(), Denial> {
    let written = &tenant.spec.rules;
    if old.is_some_and(|old| old.spec.rules == *written) {
        return Ok(());
    }
    let faults = rules::check::check(&tenant.name_any(), written.iter().map(Into::into), None);
    rules::check::denial("spec.rules", &faults).map_or(Ok(()), Err)?;
    rule_quotas::validate(tenant)
}

fn check(tenant: &Tenant, old: Option<&Tenant>) -> Result<Vec<String>, Denial> {
    let spec = &tenant.spec;
    let before = old.map(|old| &old.spec);
    check_owners(spec)?;
    check_additional_metadata(spec)?;
    check_object_metadata(spec)?;
    check_bindings(spec)?;
    check_promotions(spec)?;
    check_patterns(spec, before)?;
    check_selectors(spec)?;
    check_quotas(spec)?;
    services::check_external_ips(spec)?;
    check_rules(tenant, old)?;
    audit::check(tenant, old)?;
    object_quotas::budget(tenant)?;
    check_node_selector(spec)?;
    let mut warnings = not_yet::warnings(not_yet::TENANT, tenant);
    warnings.extend(deprecations(spec));
    warnings.extend(audit::warnings(tenant));
    Ok(warnings)
}
