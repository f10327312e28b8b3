//! Pods: what their containers may need at once, while they may run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Wire,
};

use super::{Amounts, InvalidAmount, ONE};
use crate::{name::is_qualified_name, quantity::Quantity, quota::amounts::amount};

/// Amounts by the name that a container gives the resource.
type List<'a> = BTreeMap<&'a str, Quantity>;

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// The amounts that a pod has to state where they are limited.
const STATED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// What a pod uses, apart from being an object.
pub(super) fn usage(pod: &Pod, now: Timestamp) -> Result<Amounts, InvalidAmount> {
    if has_ended(pod, now) {
        return Ok(Amounts::default());
    }
    let Some(spec) = &pod.spec else {
        return Ok(Amounts::from_iter([("pods".to_owned(), ONE)]));
    };
    let requests = Side::Requests.of_pod(pod, spec)?;
    let limits = Side::Limits.of_pod(pod, spec)?;
    Ok(named(&requests, &limits))
}

/// A pod that will never run again needs nothing, and neither does one that should be gone: its node may be lost.
fn has_ended(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return true;
    }
    let metadata = &pod.metadata;
    match (&metadata.deletion_timestamp, metadata.deletion_grace_period_seconds) {
        (Some(deleted), Some(grace)) => deleted
            .0
            .checked_add(SignedDuration::from_secs(grace))
            .is_ok_and(|gone| now > gone),
        _ => false,
    }
}

/// Under the names that quotas give them.
fn named(requests: &List<'_>, limits: &List<'_>) -> Amounts {
    let mut used = vec![("pods".to_owned(), ONE)];
    for (resource, amount) in requests {
        let plain = matches!(*resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with(HUGE_PAGES);
        if plain {
            used.push(((*resource).to_owned(), *amount));
        }
        if plain || is_extended(resource) {
            used.push((format!("{REQUESTS}{resource}"), *amount));
        }
    }
    for (resource, amount) in limits {
        if matches!(*resource, "cpu" | "memory" | "ephemeral-storage") {
            used.push((format!("limits.{resource}"), *amount));
        }
    }
    used.into_iter().collect()
}

/// A resource that somebody else than Kubernetes defines, or one that stands for a class of devices.
fn is_extended(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    let extended = !native && !resource.starts_with(REQUESTS) && is_qualified_name(&format!("{REQUESTS}{resource}"));
    extended || resource.starts_with(DEVICE_CLASS)
}

/// What a pod may state of its own, for all of its containers.
fn is_of_pod(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with(HUGE_PAGES)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Requests,
    Limits,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }

    fn of_pod<'a>(self, pod: &'a Pod, spec: &'a PodSpec) -> Result<List<'a>, InvalidAmount> {
        let mut total = self.of_containers(pod, spec)?;
        if let Some(resources) = &spec.resources {
            let own = match self {
                Self::Requests => &resources.requests,
                Self::Limits => &resources.limits,
            };
            let own = read(|| format!("spec.resources.{}", self.name()), own.as_ref())?;
            total.extend(own.into_iter().filter(|(resource, _)| is_of_pod(resource)));
        }
        for (resource, amount) in read(|| "spec.overhead".to_owned(), spec.overhead.as_ref())? {
            match self {
                Self::Requests => add(&mut total, resource, amount),
                // What is not limited does not become so by its overhead.
                Self::Limits => {
                    if let Some(limit) = total.get_mut(resource).filter(|limit| !limit.is_zero()) {
                        *limit = limit.plus(amount);
                    }
                }
            }
        }
        Ok(total)
    }

    /// What runs at once: all containers and sidecars, or an init container and the sidecars before it.
    fn of_containers<'a>(self, pod: &'a Pod, spec: &'a PodSpec) -> Result<List<'a>, InvalidAmount> {
        let actual = Actual::new(pod);
        let mut running = List::new();
        for container in &spec.containers {
            add_all(&mut running, &self.of_container(container, &actual, true)?);
        }
        let (mut sidecars, mut starting) = (List::new(), List::new());
        for container in spec.init_containers.iter().flatten() {
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            let own = self.of_container(container, &actual, is_sidecar)?;
            if is_sidecar {
                add_all(&mut running, &own);
                add_all(&mut sidecars, &own);
                raise_to(&mut starting, &sidecars);
            } else {
                let mut at_once = sidecars.clone();
                add_all(&mut at_once, &own);
                raise_to(&mut starting, &at_once);
            }
        }
        raise_to(&mut running, &starting);
        Ok(running)
    }

    /// What a container needs: what it asks for, and while it is resized what it was granted and has.
    fn of_container<'a>(
        self,
        container: &'a Container,
        actual: &Actual<'a>,
        can_be_resized: bool,
    ) -> Result<List<'a>, InvalidAmount> {
        let name = &container.name;
        let asked = container.resources.as_ref().and_then(|resources| match self {
            Self::Requests => resources.requests.as_ref(),
            Self::Limits => resources.limits.as_ref(),
        });
        let asked = read(|| format!("spec.containers[{name}].resources.{}", self.name()), asked)?;
        let status = actual.statuses.get(name.as_str()).filter(|_| can_be_resized);
        let Some((status, has)) = status.and_then(|status| Some((status, status.resources.as_ref()?))) else {
            return Ok(asked);
        };
        // An infeasible resize will not happen.
        let mut most = if actual.is_infeasible { List::new() } else { asked };
        let has = match self {
            Self::Requests => has.requests.as_ref(),
            Self::Limits => has.limits.as_ref(),
        };
        let field = || format!("status.containerStatuses[{name}].resources.{}", self.name());
        raise_to(&mut most, &read(field, has)?);
        if self == Self::Requests {
            let field = || format!("status.containerStatuses[{name}].allocatedResources");
            raise_to(&mut most, &read(field, status.allocated_resources.as_ref())?);
        }
        Ok(most)
    }
}

/// What the node says of a pod's containers.
struct Actual<'a> {
    statuses: BTreeMap<&'a str, &'a ContainerStatus>,
    /// Whether the node cannot do the resize that is asked for.
    is_infeasible: bool,
}

impl<'a> Actual<'a> {
    fn new(pod: &'a Pod) -> Self {
        let status = pod.status.as_ref();
        let containers = status.into_iter().flat_map(|status| &status.container_statuses);
        let init_containers = status.into_iter().flat_map(|status| &status.init_container_statuses);
        let resize = status
            .into_iter()
            .flat_map(|status| &status.conditions)
            .flatten()
            .find(|condition| condition.type_ == "PodResizePending");
        Self {
            statuses: containers
                .chain(init_containers)
                .flatten()
                .map(|status| (status.name.as_str(), status))
                .collect(),
            is_infeasible: resize.is_some_and(|resize| resize.reason.as_deref() == Some("Infeasible")),
        }
    }
}

fn read(field: impl Fn() -> String, wire: Option<&BTreeMap<String, Wire>>) -> Result<List<'_>, InvalidAmount> {
    wire.into_iter()
        .flatten()
        .map(|(resource, wire)| {
            let amount = amount(|| format!("{}[{resource}]", field()), wire)?;
            Ok((resource.as_str(), amount))
        })
        .collect()
}

fn add<'a>(list: &mut List<'a>, resource: &'a str, amount: Quantity) {
    let sum = list.entry(resource).or_default();
    *sum = sum.plus(amount);
}

fn add_all<'a>(list: &mut List<'a>, other: &List<'a>) {
    for (resource, amount) in other {
        add(list, resource, *amount);
    }
}

fn raise_to<'a>(list: &mut List<'a>, other: &List<'a>) {
    for (resource, amount) in other {
        let highest = list.entry(resource).or_default();
        *highest = (*highest).max(*amount);
    }
}

/// What the containers of a pod fail to state of what is limited, in Kubernetes' words. A pod that states its own is
/// excused.
pub(super) fn unspecified(pod: &Pod, hard: &Amounts) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let states_its_own = spec.resources.as_ref().is_some_and(|own| {
        let mut named = own.requests.iter().chain(&own.limits).flatten();
        named.any(|(resource, _)| is_of_pod(resource))
    });
    if states_its_own {
        return None;
    }
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut limited: Vec<&str> = STATED.into_iter().filter(|resource| hard.names(resource)).collect();
    limited.sort_unstable();
    let missing: Vec<String> = limited
        .into_iter()
        .filter_map(|resource| {
            let silent: BTreeSet<&str> = containers()
                .filter(|container| !states(container, resource))
                .map(|container| container.name.as_str())
                .collect();
            let silent: Vec<&str> = silent.into_iter().collect();
            (!silent.is_empty()).then(|| format!("{resource} for: {}", silent.join(",")))
        })
        .collect();
    (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
}

fn states(container: &Container, resource: &str) -> bool {
    let Some(resources) = &container.resources else {
        return false;
    };
    let (list, resource) = match resource.strip_prefix("limits.") {
        Some(resource) => (&resources.limits, resource),
        None => (&resources.requests, resource.strip_prefix(REQUESTS).unwrap_or(resource)),
    };
    list.as_ref().is_some_and(|list| list.contains_key(resource))
}
