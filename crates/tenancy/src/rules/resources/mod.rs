//! Requests and limits of pods: what is set, removed and held to.
//!
//! Rules about requests and limits first change a new pod ([`settle`]) and then judge what became of it ([`validate`]).
//! The change does not depend on the action of a rule; of several rules about a resource the last one counts.
//!
//! A rule without targets is about containers and init containers, and about the pod itself where the pod has resources
//! of its own, or is given some by a rule that names it. Giving such to every pod would make a default for one container
//! the budget of all of them.

mod settle;
mod validate;

use std::collections::BTreeMap;

use api::capsule::v1beta2::{LimitPolicy, RequestPolicy, ResourceRules, WorkloadRule, WorkloadTarget};
use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::api::resource::Quantity as Wire};

use super::compiled::{Applicable, Held};
use crate::quantity::Quantity;

pub(super) use settle::settle;
pub(super) use validate::validate;

/// What a rule says about requests and limits.
#[derive(Clone, Debug)]
pub(super) struct ResourcePolicies {
    targets: Targets,
    requests: BTreeMap<Box<str>, Policy>,
    limits: BTreeMap<Box<str>, Policy>,
}

/// What is done about one request or limit. An amount that cannot be read is kept as the reason why.
#[derive(Clone, Debug)]
enum Policy {
    Preserve,
    Default(Result<Quantity, String>),
    Remove,
    MatchRequest,
    Ratio(Result<Quantity, String>),
}

impl Policy {
    fn name(&self) -> &'static str {
        match self {
            Self::Preserve => "Preserve",
            Self::Default(_) => "Default",
            Self::Remove => "Remove",
            Self::MatchRequest => "MatchRequest",
            Self::Ratio(_) => "Ratio",
        }
    }
}

impl ResourcePolicies {
    pub(super) fn new(source: &ResourceRules, workloads: Option<&WorkloadRule>) -> Self {
        let requests = source.requests.iter().map(|(name, rule)| {
            let policy = match rule.policy {
                RequestPolicy::Preserve => Policy::Preserve,
                RequestPolicy::Default => Policy::Default(amount(rule.value.as_ref())),
                RequestPolicy::Remove => Policy::Remove,
            };
            (name.as_str().into(), policy)
        });
        let limits = source.limits.iter().map(|(name, rule)| {
            let policy = match rule.policy {
                LimitPolicy::Preserve => Policy::Preserve,
                LimitPolicy::Default => Policy::Default(amount(rule.value.as_ref())),
                LimitPolicy::Remove => Policy::Remove,
                LimitPolicy::MatchRequest => Policy::MatchRequest,
                LimitPolicy::Ratio => Policy::Ratio(amount(rule.value.as_ref())),
            };
            (name.as_str().into(), policy)
        });
        Self {
            targets: Targets::new(workloads.map(|rule| rule.targets.as_slice()).unwrap_or_default()),
            requests: requests.collect(),
            limits: limits.collect(),
        }
    }

    fn of(&self, kind: Kind) -> &BTreeMap<Box<str>, Policy> {
        match kind {
            Kind::Request => &self.requests,
            Kind::Limit => &self.limits,
        }
    }
}

fn amount(value: Option<&Wire>) -> Result<Quantity, String> {
    let value = value.ok_or("its value is not set")?;
    Quantity::parse(value).map_err(|error| format!("its value cannot be used: {error}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Limit,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Limit => "limit",
        }
    }

    /// Name of the map that holds it.
    fn field(self) -> &'static str {
        match self {
            Self::Request => "requests",
            Self::Limit => "limits",
        }
    }
}

/// A part of a pod that has requests and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Pod,
    InitContainers,
    Containers,
}

impl Part {
    /// Whether the part can have this resource at all.
    fn supports(self, resource: &str) -> bool {
        self != Self::Pod || is_supported_by_pods(resource)
    }
}

/// The resources that a pod as a whole can have, as `IsSupportedPodLevelResource` of Kubernetes has them.
pub(super) fn is_supported_by_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || is_huge_page(resource)
}

fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

#[derive(Clone, Copy, Debug)]
struct Targets {
    pod: PodTarget,
    init_containers: bool,
    containers: bool,
}

#[derive(Clone, Copy, Debug)]
enum PodTarget {
    No,
    IfItHasResources,
    Yes,
}

impl Targets {
    fn new(targets: &[WorkloadTarget]) -> Self {
        if targets.is_empty() {
            return Self {
                pod: PodTarget::IfItHasResources,
                init_containers: true,
                containers: true,
            };
        }
        Self {
            pod: if targets.contains(&WorkloadTarget::Pod) {
                PodTarget::Yes
            } else {
                PodTarget::No
            },
            init_containers: targets.contains(&WorkloadTarget::InitContainers),
            containers: targets.contains(&WorkloadTarget::Containers),
        }
    }

    fn hold(self, part: Part, has_resources: bool) -> bool {
        match part {
            Part::InitContainers => self.init_containers,
            Part::Containers => self.containers,
            Part::Pod => match self.pod {
                PodTarget::No => false,
                PodTarget::IfItHasResources => has_resources,
                PodTarget::Yes => true,
            },
        }
    }
}

/// The policies about one part of a pod, in order: rule, request or limit, resource, policy.
fn about<'r>(
    rules: &Applicable<'r>,
    part: Part,
    pod: &PodSpec,
) -> impl Iterator<Item = (Held<'r>, Kind, &'r str, &'r Policy)> {
    let has_resources = pod.resources.is_some() || rules.blocks.iter().any(gives_resources_to_pods);
    let policies = rules.blocks.iter().filter_map(move |held| {
        let policies = held.block.resources.as_ref()?;
        policies.targets.hold(part, has_resources).then_some((*held, policies))
    });
    policies
        .flat_map(|(held, policies)| {
            [Kind::Request, Kind::Limit].into_iter().flat_map(move |kind| {
                let of_kind = policies.of(kind).iter();
                of_kind.map(move |(resource, policy)| (held, kind, &**resource, policy))
            })
        })
        .filter(move |(_, _, resource, _)| part.supports(resource))
}

/// Whether a pod that has no resources of its own gets some by this rule.
fn gives_resources_to_pods(held: &Held<'_>) -> bool {
    let Some(policies) = held.block.resources.as_ref().filter(|_| held.is_clear) else {
        return false;
    };
    let mut given = policies.requests.iter().chain(&policies.limits);
    matches!(policies.targets.pod, PodTarget::Yes)
        && given.any(|(resource, policy)| Part::Pod.supports(resource) && matches!(policy, Policy::Default(Ok(_))))
}

fn says_anything(rules: &Applicable<'_>) -> bool {
    rules.blocks.iter().any(|held| held.block.resources.is_some())
}

#[cfg(test)]
mod tests;
