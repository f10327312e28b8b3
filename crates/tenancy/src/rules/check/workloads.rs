//! Rules about pods: names that mean something, and requests and limits that can both be had.

use api::capsule::v1beta2::{LimitPolicy, LimitRule, RequestPolicy, ResourceRules, WorkloadRule, WorkloadTarget};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use super::{Checker, has_template};
use crate::{
    name::is_qualified_name,
    quantity::Quantity,
    rules::{finding::quoted, placement::QOS_CLASSES, resources::is_supported_by_pods},
};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
/// Resources whose limit may be a multiple of the request.
const SCALABLE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Checker<'_> {
    pub(super) fn workloads(&mut self, at: &str, workloads: &WorkloadRule) {
        for (index, registry) in workloads.registries.iter().enumerate() {
            let at = format!("{at}.registries[{index}]");
            self.expression(&at, &registry.exact, &registry.exp);
            self.one_of(&format!("{at}.policy"), &registry.policy, &PULL_POLICIES);
        }
        self.expressions(&format!("{at}.schedulers"), &workloads.schedulers);
        self.one_of(&format!("{at}.qosClasses"), &workloads.qos_classes, &QOS_CLASSES);
        if let Some(resources) = &workloads.resources {
            self.resources(at, &workloads.targets, resources);
        }
    }

    fn one_of(&mut self, list: &str, values: &[String], known: &[&str]) {
        for (index, value) in values.iter().enumerate() {
            if !known.contains(&value.trim()) && !has_template(value) {
                let known = known.join(", ");
                self.fault(
                    format!("{list}[{index}]"),
                    format!("{} is none of {known}", quoted(value)),
                );
            }
        }
    }

    fn resources(&mut self, at: &str, targets: &[WorkloadTarget], resources: &ResourceRules) {
        for (index, target) in targets.iter().enumerate() {
            let named = match target {
                WorkloadTarget::EphemeralContainers => "pod/ephemeralcontainers",
                WorkloadTarget::Volumes => "pod/volumes",
                _ => continue,
            };
            self.fault(
                format!("{at}.targets[{index}]"),
                format!("{named} has no requests and limits: put resources into a rule of their own, or leave the target out"),
            );
        }
        let at = format!("{at}.resources");
        if resources.requests.is_empty() && resources.limits.is_empty() {
            self.fault(at.as_str(), "at least one of requests or limits must be set");
        }
        let is_for_pods_only = !targets.is_empty() && targets.iter().all(|target| *target == WorkloadTarget::Pod);
        for (resource, rule) in &resources.requests {
            let at = format!("{at}.requests[{resource:?}]");
            self.resource(&at, resource, is_for_pods_only);
            self.amount(&at, rule.value.as_ref(), rule.policy == RequestPolicy::Default);
        }
        for (resource, rule) in &resources.limits {
            let at = format!("{at}.limits[{resource:?}]");
            self.resource(&at, resource, is_for_pods_only);
            self.limit(&at, resource, rule, resources);
        }
    }

    fn resource(&mut self, at: &str, resource: &str, is_for_pods_only: bool) {
        if has_template(resource) {
            return;
        }
        if !is_qualified_name(resource) {
            self.fault(at, format!("{} is not the name of a resource", quoted(resource)));
        } else if is_for_pods_only && !is_supported_by_pods(resource) {
            self.fault(
                at,
                format!("a pod as a whole has no {resource}, only cpu, memory and hugepages-*: add other targets"),
            );
        }
    }

    /// Reads an amount. Gives it if there is one and it is usable.
    fn amount(&mut self, at: &str, value: Option<&Wire>, is_wanted: bool) -> Option<Quantity> {
        let field = format!("{at}.value");
        let value = match (value, is_wanted) {
            (Some(value), true) => value,
            (None, false) => return None,
            (Some(_), false) => {
                self.fault(field, "the policy takes no value: leave it out");
                return None;
            }
            (None, true) => {
                self.fault(field, "the policy needs a value");
                return None;
            }
        };
        match Quantity::parse(value) {
            Err(_) if has_template(&value.0) => None,
            Err(error) => {
                self.fault(field, error.to_string());
                None
            }
            Ok(amount) if amount.is_negative() => {
                self.fault(field, format!("{amount} is negative"));
                None
            }
            Ok(amount) => Some(amount),
        }
    }

    fn limit(&mut self, at: &str, resource: &str, rule: &LimitRule, resources: &ResourceRules) {
        let is_ratio = rule.policy == LimitPolicy::Ratio;
        let amount = self.amount(at, rule.value.as_ref(), is_ratio || rule.policy == LimitPolicy::Default);
        if is_ratio {
            if let Some(ratio) = amount
                && ratio < Quantity::ONE
            {
                self.fault(
                    format!("{at}.value"),
                    format!("ratio {ratio} must be at least 1: a limit is never below its request"),
                );
            }
            if !SCALABLE.contains(&resource) && !has_template(resource) {
                let scalable = SCALABLE.join(", ");
                self.fault(at, format!("policy Ratio is for {scalable} only, not for {resource}"));
            }
        }
        let follows_request = is_ratio || rule.policy == LimitPolicy::MatchRequest;
        let request = resources.requests.get(resource).map(|rule| rule.policy);
        if follows_request && request == Some(RequestPolicy::Remove) {
            self.fault(
                at,
                format!(
                    "policy {:?} follows the request for {resource}, which the same rule removes",
                    rule.policy
                ),
            );
        }
    }
}
