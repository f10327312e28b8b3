//! Ingresses: class and hostnames.

use std::collections::HashMap;
use std::time::Instant;

use api::capsule::names;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt as _;
use tenancy::control_plane::hostname;
use tenancy::denial::{Decision, Denial};
use tenancy::index::KnownTenant;
use tenancy::{hostname_collision, ingress};

use super::objects::Asked;
use crate::decide::Input;

/// Gives an Ingress without a class the tenant's default.
pub fn default_class(input: &Input<'_, Ingress>) -> Decision<Ingress> {
    let Some(wanted) = input.object else {
        return Decision::Allow;
    };
    // What is wrong with the namespace, if it is that, is said by the validating rule.
    let Ok(Some(tenant)) = input.tenant() else {
        return Decision::Allow;
    };
    let classes = input.view.ingress_classes();
    let is_default = |value: Option<&String>| value.is_some_and(|value| value == "true");
    let cluster_default = classes
        .iter()
        .find(|class| is_default(class.annotations().get(names::DEFAULT_INGRESS_CLASS_ANNOTATION)))
        .map(|class| class.name_any());
    Ok(ingress::with_default_class(&tenant, wanted, cluster_default.as_deref())).into()
}

/// Refuses classes and hostnames that the tenant's lists do not contain, and what its rules do not allow.
pub fn validate(input: &Input<'_, Ingress>) -> Decision<Ingress> {
    let Some(wanted) = input.object else {
        return Decision::Allow;
    };
    // One on its way out is only losing its finalizers.
    if wanted.metadata.deletion_timestamp.is_some() && input.old.is_some_and(|old| old.spec == wanted.spec) {
        return Decision::Allow;
    }
    let tenant = match input.tenant() {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return Decision::Allow,
        Err(denial) => return Decision::Deny(denial),
    };
    let classes = input.view.ingress_classes();
    let labels: HashMap<_, _> = classes.iter().map(|class| (class.name_any(), class.labels())).collect();
    ingress::validate(&tenant, wanted, |name| labels.get(name).copied())
        .and_then(|()| Asked::of(input, &tenant).validate_json())
        .and_then(|()| {
            let refused = hostname::refused_ingress(wanted, input.old, &input.view.control_planes());
            refused.map_or(Ok(()), Err)
        })
        // Last: what it lets pass is remembered.
        .and_then(|()| admit_hostnames(input, &tenant, wanted))
        .into()
}

/// Refuses hostnames that are taken, where the tenant wants its own to be unique.
fn admit_hostnames(input: &Input<'_, Ingress>, tenant: &KnownTenant, wanted: &Ingress) -> Result<(), Denial> {
    let request = hostname_collision::Request {
        tenant,
        view: &input.view.known,
        namespace: input.request.namespace.as_deref().unwrap_or_default(),
        ingress: wanted,
        old: input.old,
        is_dry_run: input.request.dry_run == Some(true),
        now: Instant::now(),
    };
    input.view.hostnames().register().admit(&request)
}
