//! What has to be written for a quota. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::ResourceExt;
use tenancy::quantity::Quantity;
use tenancy::quota::amounts::Amounts;
use tenancy::quota::global::Projection;

use super::observe::Observed;

/// One write of a ResourceQuota.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Apply(Box<ResourceQuota>),
    Delete(Arc<ResourceQuota>),
}

/// Compares the ResourceQuotas that should be with those that are.
pub(super) fn steps(projection: &Projection, observed: &Observed) -> Vec<Step> {
    let surplus = observed.children.iter().filter(|(namespace, child)| {
        !observed.namespaces.contains(*namespace) && child.metadata.deletion_timestamp.is_none()
    });
    let mut steps: Vec<Step> = surplus.map(|(_, child)| Step::Delete(child.clone())).collect();
    for wanted in &projection.children {
        let place = wanted.metadata.namespace.as_deref().unwrap_or_default();
        match observed.children.get(place) {
            // Its end, and then its successor, are looked at when they come.
            Some(live) if live.metadata.deletion_timestamp.is_some() => {}
            // The API server takes no others.
            Some(live) if scopes(live) != scopes(wanted) => steps.push(Step::Delete(live.clone())),
            Some(live) if is_as(live, wanted) => {}
            _ => steps.push(Step::Apply(Box::new(wanted.clone()))),
        }
    }
    steps
}

/// A ResourceQuota with one more of everything. Kubernetes counts again when limits change, and only then; the next look puts
/// them right.
pub(super) fn to_be_counted_again(child: &ResourceQuota) -> ResourceQuota {
    let mut next = child.clone();
    if let Some(spec) = &mut next.spec {
        let hard = hard_of(child);
        let more = hard
            .iter()
            .map(|(resource, amount)| (resource.to_owned(), amount.plus(Quantity::ONE)));
        spec.hard = Some(more.collect::<Amounts>().to_wire());
    }
    next
}

fn hard_of(quota: &ResourceQuota) -> Amounts {
    Amounts::observed(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

fn scopes(quota: &ResourceQuota) -> (BTreeSet<&str>, String) {
    let spec = quota.spec.as_ref();
    let scopes = spec.into_iter().flat_map(|spec| spec.scopes.iter().flatten());
    let selector = spec.and_then(|spec| spec.scope_selector.as_ref());
    (scopes.map(String::as_str).collect(), format!("{selector:?}"))
}

fn is_as(live: &ResourceQuota, wanted: &ResourceQuota) -> bool {
    let labels = live.labels();
    let is_labelled = wanted
        .labels()
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    is_labelled && live.owner_references() == wanted.owner_references() && hard_of(live) == hard_of(wanted)
}
