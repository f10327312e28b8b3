//! What an object uses of a quota, counted as the API server's own quota admission counts it
//! (`k8s.io/kubernetes/pkg/quota/v1/evaluator/core` of Kubernetes 1.36, with its features at their defaults).
//!
//! Counting differently would let a budget over many namespaces and the quotas inside of them drift apart, so
//! `tests/quota_usage.rs` compares with answers recorded from Kubernetes. Claims of dynamic resource allocation are counted
//! as objects only; their devices are limited by the quota of each namespace.

mod pod;
mod scope;
mod service;
mod volume_claim;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuotaSpec, Service};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::amounts::{Amounts, InvalidAmount};
use crate::{quantity::Quantity, selector::InvalidSelector};

/// The kind of an object, as its path in the API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The group: empty for the core.
    pub group: String,
    /// The plural, such as `pods`.
    pub plural: String,
}

/// An object that is counted, as far as its kind matters.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A pod.
    Pod(Box<Pod>),
    /// A service.
    Service(Box<Service>),
    /// A claim for a volume.
    VolumeClaim(Box<PersistentVolumeClaim>),
    /// An object of any other kind: it is one object.
    Other,
}

/// An object that is not what its resource says.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the object as one of the resource {plural}")]
pub struct Unreadable {
    /// The resource.
    pub plural: String,
    /// What is wrong.
    #[source]
    pub source: serde_json::Error,
}

impl Object {
    /// Reads an object of a resource.
    ///
    /// # Errors
    /// If a pod, service or volume claim is none.
    pub fn read(resource: &Resource, object: &Value) -> Result<Self, Unreadable> {
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "pods") => read(resource, object).map(Self::Pod),
            ("", "services") => read(resource, object).map(Self::Service),
            ("", "persistentvolumeclaims") => read(resource, object).map(Self::VolumeClaim),
            _ => Ok(Self::Other),
        }
    }
}

fn read<K: DeserializeOwned>(resource: &Resource, object: &Value) -> Result<Box<K>, Unreadable> {
    K::deserialize(object).map(Box::new).map_err(|source| Unreadable {
        plural: resource.plural.clone(),
        source,
    })
}

/// What is used by an object of a resource.
///
/// # Errors
/// If the object states an amount that cannot be counted.
pub fn of(resource: &Resource, object: &Object, now: Timestamp) -> Result<Amounts, InvalidAmount> {
    let own = match object {
        Object::Pod(pod) => pod::usage(pod, now)?,
        Object::Service(service) => service::usage(service),
        Object::VolumeClaim(claim) => volume_claim::usage(claim)?,
        Object::Other => legacy_count(resource),
    };
    let count = match resource.group.as_str() {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    };
    Ok(own.plus(&Amounts::from_iter([(count, ONE)])))
}

const ONE: Quantity = Quantity::ONE;

/// Four kinds were counted by their plain name before there was `count/`.
fn legacy_count(resource: &Resource) -> Amounts {
    let known = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
    let counted = resource.group.is_empty() && known.contains(&resource.plural.as_str());
    counted.then(|| (resource.plural.clone(), ONE)).into_iter().collect()
}

/// Whether a quota is about an object: the object is in all of the quota's scopes. A quota without scopes is about all.
///
/// # Errors
/// If a scope selector cannot be evaluated.
pub fn in_scopes(quota: &ResourceQuotaSpec, object: &Object) -> Result<bool, InvalidSelector> {
    for requirement in scope::requirements(quota) {
        let inside = match object {
            Object::Pod(pod) => scope::of_pod(&requirement, pod)?,
            Object::VolumeClaim(claim) => scope::of_volume_claim(&requirement, claim)?,
            Object::Service(_) | Object::Other => false,
        };
        if !inside {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks the scopes of a quota: that [`in_scopes`] can evaluate them.
///
/// # Errors
/// What is wrong with the first that it cannot.
pub fn check_scopes(quota: &ResourceQuotaSpec) -> Result<(), InvalidSelector> {
    scope::requirements(quota).try_for_each(|requirement| scope::selector(&requirement).map(|_| ()))
}

/// What an object fails to specify: a quota of CPU or memory is only about pods that say how much they need.
/// `None` if it says all that is limited.
pub fn unspecified(object: &Object, hard: &Amounts) -> Option<String> {
    match object {
        Object::Pod(pod) => pod::unspecified(pod, hard),
        _ => None,
    }
}
