//! Requests and limits that rules set on a new pod.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Wire,
};

use super::{Kind, Part, Policy, about, is_huge_page, is_supported_by_pods, says_anything};
use crate::{
    quantity::{Quantity, Unit},
    rules::compiled::Applicable,
};

/// The last policy about each request and limit of one part of a pod.
type Merged<'r> = BTreeMap<(Kind, &'r str), &'r Policy>;
type Amounts = BTreeMap<String, Wire>;

fn merged<'r>(rules: &Applicable<'r>, part: Part, pod: &PodSpec) -> Merged<'r> {
    about(rules, part, pod)
        .filter(|(held, ..)| held.is_clear)
        .map(|(_, kind, resource, policy)| ((kind, resource), policy))
        .collect()
}

/// The pod as the rules want it. `None` if it is as they want it.
pub(in crate::rules) fn settle(rules: &Applicable<'_>, pod: &PodSpec) -> Option<PodSpec> {
    if !says_anything(rules) {
        return None;
    }
    let init = merged(rules, Part::InitContainers, pod);
    let main = merged(rules, Part::Containers, pod);
    let whole = merged(rules, Part::Pod, pod);
    let is_settled = is_settled(&whole, pod.resources.as_ref())
        && pod.containers.iter().all(|of| is_settled(&main, of.resources.as_ref()))
        && pod
            .init_containers
            .iter()
            .flatten()
            .all(|of| is_settled(&init, of.resources.as_ref()));
    if is_settled {
        return None;
    }
    let mut settled = pod.clone();
    for container in settled.init_containers.iter_mut().flatten() {
        apply(&init, &mut container.resources);
    }
    for container in &mut settled.containers {
        apply(&main, &mut container.resources);
    }
    apply(&whole, &mut settled.resources);
    fill_in_requests_of_pod(&mut settled, &whole);
    // Limits follow the requests that have come in.
    apply(&whole, &mut settled.resources);
    Some(settled)
}

fn is_settled(policies: &Merged<'_>, resources: Option<&ResourceRequirements>) -> bool {
    let mut settled = resources.cloned();
    apply(policies, &mut settled);
    settled.as_ref() == resources
}

/// Requests come first, because limits follow them.
fn apply(policies: &Merged<'_>, resources: &mut Option<ResourceRequirements>) {
    for ((kind, resource), policy) in policies {
        let request = resources.as_ref().and_then(|of| amount(of.requests.as_ref(), resource));
        let current = resources.as_ref().and_then(|of| match kind {
            Kind::Request => of.requests.as_ref(),
            Kind::Limit => of.limits.as_ref(),
        });
        let current = current.and_then(|amounts| amounts.get(*resource));
        let wanted = match policy {
            Policy::Remove => None,
            Policy::Default(Ok(value)) if current.is_none() => Some(value.to_wire()),
            Policy::MatchRequest => match request {
                // Written anew only if it is another amount, not another spelling.
                Some(request) if current.and_then(|now| Quantity::parse(now).ok()) != Some(request) => {
                    Some(request.to_wire())
                }
                _ => continue,
            },
            Policy::Ratio(Ok(ratio)) if current.is_none() => match request {
                Some(request) if request > Quantity::ZERO => Some(request.times(*ratio, unit(resource)).to_wire()),
                _ => continue,
            },
            Policy::Preserve | Policy::Default(_) | Policy::Ratio(_) => continue,
        };
        set(resources, *kind, resource, wanted);
    }
}

/// The finest amount of a resource that is scheduled.
pub(super) fn unit(resource: &str) -> Unit {
    if resource == "cpu" {
        Unit::Thousandth
    } else {
        Unit::Whole
    }
}

fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<Quantity> {
    Quantity::parse(amounts?.get(resource)?).ok()
}

fn set(resources: &mut Option<ResourceRequirements>, kind: Kind, resource: &str, wanted: Option<Wire>) {
    let Some(wanted) = wanted else {
        let amounts = resources.as_mut().and_then(|of| amounts_of(of, kind).as_mut());
        if let Some(amounts) = amounts {
            amounts.remove(resource);
        }
        return;
    };
    let amounts = amounts_of(resources.get_or_insert_default(), kind);
    amounts.get_or_insert_default().insert(resource.to_owned(), wanted);
}

fn amounts_of(resources: &mut ResourceRequirements, kind: Kind) -> &mut Option<Amounts> {
    match kind {
        Kind::Request => &mut resources.requests,
        Kind::Limit => &mut resources.limits,
    }
}

/// Gives a pod with resources of its own the requests that it lacks: those of its containers together. The API server does
/// the same before it asks us (`defaultPodRequests` of `pkg/apis/core/v1`), with the containers as they were then.
fn fill_in_requests_of_pod(pod: &mut PodSpec, policies: &Merged<'_>) {
    let Some(mut own) = pod.resources.take() else { return };
    for (resource, total) in requests_of_containers(pod) {
        let is_removed = matches!(policies.get(&(Kind::Request, resource.as_str())), Some(Policy::Remove));
        // Huge pages cannot be promised beyond what is there: their request is their limit.
        if !is_removed && is_supported_by_pods(&resource) && !is_huge_page(&resource) {
            let requests = own.requests.get_or_insert_default();
            requests.entry(resource).or_insert_with(|| total.to_wire());
        }
    }
    pod.resources = Some(own);
}

/// What the containers of a pod need at the same time, as `AggregateContainerRequests` of Kubernetes
/// (`component-helpers/resource`) counts: the larger of what runs later and of what each init container needs beside those
/// before it that keep running.
fn requests_of_containers(pod: &PodSpec) -> BTreeMap<String, Quantity> {
    let mut running = BTreeMap::new();
    for container in &pod.containers {
        add(&mut running, container);
    }
    let (mut restartable, mut initial) = (BTreeMap::new(), BTreeMap::<String, Quantity>::new());
    for container in pod.init_containers.iter().flatten() {
        let needed = if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, container);
            add(&mut restartable, container);
            restartable.clone()
        } else {
            let mut needed = restartable.clone();
            add(&mut needed, container);
            needed
        };
        raise(&mut initial, needed);
    }
    raise(&mut running, initial);
    running
}

fn add(totals: &mut BTreeMap<String, Quantity>, container: &Container) {
    let requests = container
        .resources
        .iter()
        .filter_map(|of| of.requests.as_ref())
        .flatten();
    for (resource, value) in requests {
        // What cannot be read the API server refuses.
        let Ok(value) = Quantity::parse(value) else { continue };
        let total = totals.entry(resource.clone()).or_default();
        *total = total.plus(value);
    }
}

fn raise(totals: &mut BTreeMap<String, Quantity>, others: BTreeMap<String, Quantity>) {
    for (resource, other) in others {
        let total = totals.entry(resource).or_insert(other);
        *total = (*total).max(other);
    }
}
