//! Scopes of a quota: which pods and claims for volumes it is about.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuotaSpec, ResourceRequirements,
        ScopedResourceSelectorRequirement,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use crate::{
    quantity::Quantity,
    selector::{InvalidSelector, Selector},
};

const PRIORITY_CLASS: &str = "PriorityClass";
const VOLUME_ATTRIBUTES_CLASS: &str = "VolumeAttributesClass";

/// All scopes of a quota. The short form names a scope and means that it exists.
pub(super) fn requirements(
    quota: &ResourceQuotaSpec,
) -> impl Iterator<Item = ScopedResourceSelectorRequirement> + use<'_> {
    let short = quota
        .scopes
        .iter()
        .flatten()
        .map(|scope| ScopedResourceSelectorRequirement {
            scope_name: scope.clone(),
            operator: "Exists".to_owned(),
            values: None,
        });
    let selected = quota
        .scope_selector
        .iter()
        .flat_map(|selector| &selector.match_expressions);
    short.chain(selected.flatten().cloned())
}

/// A requirement as one about a label whose key is the scope and whose value is the class.
pub(super) fn selector(requirement: &ScopedResourceSelectorRequirement) -> Result<Selector, InvalidSelector> {
    let about_label = LabelSelectorRequirement {
        key: requirement.scope_name.clone(),
        operator: requirement.operator.clone(),
        values: requirement.values.clone(),
    };
    Selector::of(&BTreeMap::new(), &[about_label])
}

fn class_matches(
    requirement: &ScopedResourceSelectorRequirement,
    class: Option<&str>,
) -> Result<bool, InvalidSelector> {
    let labels = class.map(|class| (requirement.scope_name.clone(), class.to_owned()));
    Ok(selector(requirement)?.matches(&labels.into_iter().collect()))
}

pub(super) fn of_pod(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> Result<bool, InvalidSelector> {
    let spec = pod.spec.as_ref();
    Ok(match requirement.scope_name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        PRIORITY_CLASS => {
            let class = spec.and_then(|spec| spec.priority_class_name.as_deref());
            return class_matches(requirement, class.filter(|class| !class.is_empty()));
        }
        _ => false,
    })
}

pub(super) fn of_volume_claim(
    requirement: &ScopedResourceSelectorRequirement,
    claim: &PersistentVolumeClaim,
) -> Result<bool, InvalidSelector> {
    if requirement.scope_name != VOLUME_ATTRIBUTES_CLASS {
        return Ok(false);
    }
    // The class that is asked for, the one that it has, and the one on the way.
    let status = claim.status.as_ref();
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| {
        status
            .modify_volume_status
            .as_ref()?
            .target_volume_attributes_class_name
            .as_deref()
    });
    let mut classes = [wanted, current, target]
        .into_iter()
        .flatten()
        .filter(|class| !class.is_empty())
        .peekable();
    if classes.peek().is_none() {
        return class_matches(requirement, None);
    }
    for class in classes {
        if class_matches(requirement, Some(class))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a pod ends by itself.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    let deadline = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    deadline.is_some_and(|deadline| deadline >= 0)
}

/// Whether a pod is promised neither CPU nor memory. What the status says was worked out when the pod was created.
fn is_best_effort(pod: &Pod) -> bool {
    let said = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    if let Some(class) = said.filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    let Some(spec) = &pod.spec else { return true };
    if let Some(own) = &spec.resources {
        return !promises(own);
    }
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    !containers.any(|container| container.resources.as_ref().is_some_and(promises))
}

fn promises(resources: &ResourceRequirements) -> bool {
    let mut stated = resources.requests.iter().chain(&resources.limits).flatten();
    stated.any(|(resource, amount)| {
        matches!(resource.as_str(), "cpu" | "memory")
            && Quantity::parse(amount).is_ok_and(|amount| amount > Quantity::ZERO)
    })
}

/// Whether where a pod runs depends on pods of other namespaces.
fn reaches_other_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
        return false;
    };
    let reaches = |term: &PodAffinityTerm| {
        term.namespace_selector.is_some() || term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
    };
    let near = affinity.pod_affinity.iter().any(|affinity| {
        let preferred = affinity
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        required
            .chain(preferred.map(|term| &term.pod_affinity_term))
            .any(reaches)
    });
    near || affinity.pod_anti_affinity.iter().any(|affinity| {
        let preferred = affinity
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        required
            .chain(preferred.map(|term| &term.pod_affinity_term))
            .any(reaches)
    })
}
