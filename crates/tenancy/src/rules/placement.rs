//! Who schedules a pod, and in which quality of service class it is.

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Wire,
};
use std::collections::BTreeMap;

use super::{
    compiled::Applicable,
    evaluate::evaluate,
    finding::{Findings, Set, Subject},
};
use crate::{denial::Denial, quantity::Quantity};

const SCHEDULER: Set = Set {
    name: "scheduler",
    allowed: "Allowed schedulers",
    reason: "ForbiddenScheduler",
};
const QOS_CLASS: Set = Set {
    name: "QoS class",
    allowed: "Allowed QoS classes",
    reason: "ForbiddenQoSClass",
};

/// The classes, best first.
pub(super) const QOS_CLASSES: [&str; 3] = [GUARANTEED, BURSTABLE, BEST_EFFORT];
const GUARANTEED: &str = "Guaranteed";
const BURSTABLE: &str = "Burstable";
const BEST_EFFORT: &str = "BestEffort";
/// The resources that the class depends on.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Refuses a scheduler that the rules do not allow.
pub(super) fn scheduler(findings: &mut Findings, rules: &Applicable<'_>, pod: &PodSpec) -> Result<(), Denial> {
    let name = pod.scheduler_name.as_deref().unwrap_or_default().trim();
    if name.is_empty() {
        return Ok(());
    }
    let subject = Subject::at(&SCHEDULER, name, &"spec.schedulerName");
    let lists = rules.lists(|block| block.schedulers.as_slice());
    evaluate(findings, rules, &subject, name, lists)?;
    Ok(())
}

/// Refuses a class that the rules do not allow.
pub(super) fn qos_class(findings: &mut Findings, rules: &Applicable<'_>, pod: &Pod) -> Result<(), Denial> {
    let lists = rules.lists(|block| block.qos_classes.as_slice());
    if lists.clone().next().is_none() {
        return Ok(());
    }
    let recorded = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    let class = match recorded.filter(|class| !class.is_empty()) {
        Some(class) => class,
        None => pod.spec.as_ref().map_or(BEST_EFFORT, computed_class),
    };
    let subject = Subject::at(&QOS_CLASS, class, &"status.qosClass");
    evaluate(findings, rules, &subject, class, lists)?;
    Ok(())
}

/// The class, as `ComputePodQOS` of Kubernetes (`pkg/apis/core/v1/helper/qos`) has it.
fn computed_class(pod: &PodSpec) -> &'static str {
    let mut totals = Totals {
        is_limited: true,
        ..Totals::default()
    };
    if let Some(resources) = &pod.resources {
        totals.add(resources);
        return totals.class();
    }
    let none = ResourceRequirements::default();
    let main = pod.containers.iter().map(|container| &container.resources);
    let init = pod.init_containers.iter().flatten();
    let init = init.map(|container| &container.resources);
    // The API server refuses resources of ephemeral containers; one that has some all the same counts.
    let ephemeral = pod.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral
        .map(|container| &container.resources)
        .filter(|of| of.is_some());
    for resources in main.chain(init).chain(ephemeral) {
        totals.add(resources.as_ref().unwrap_or(&none));
    }
    totals.class()
}

#[derive(Default)]
struct Totals {
    requests: BTreeMap<&'static str, Quantity>,
    limits: BTreeMap<&'static str, Quantity>,
    /// Whether everything so far has a limit for each of the resources.
    is_limited: bool,
}

impl Totals {
    fn add(&mut self, resources: &ResourceRequirements) {
        let positive = |map: &Option<BTreeMap<String, Wire>>, name| {
            let quantity = Quantity::parse(map.as_ref()?.get(name)?).ok()?;
            (quantity > Quantity::ZERO).then_some(quantity)
        };
        for name in COMPUTE {
            if let Some(request) = positive(&resources.requests, name) {
                let total = self.requests.entry(name).or_default();
                *total = total.plus(request);
            }
            match positive(&resources.limits, name) {
                Some(limit) => {
                    let total = self.limits.entry(name).or_default();
                    *total = total.plus(limit);
                }
                None => self.is_limited = false,
            }
        }
    }

    fn class(&self) -> &'static str {
        if self.requests.is_empty() && self.limits.is_empty() {
            BEST_EFFORT
        } else if self.is_limited && self.requests == self.limits {
            GUARANTEED
        } else {
            BURSTABLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixtures::{pod, refusal, rules, validate_pod};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn resources(requests: Value, limits: Value) -> Value {
        json!({"requests": requests, "limits": limits})
    }

    fn same(cpu: &str, memory: &str) -> Value {
        let amounts = json!({"cpu": cpu, "memory": memory});
        resources(amounts.clone(), amounts)
    }

    fn containers(list: &[Value]) -> Value {
        let list = list.iter().enumerate();
        let list = list.map(|(index, resources)| json!({"name": format!("c{index}"), "resources": resources}));
        json!({"containers": list.collect::<Vec<_>>()})
    }

    fn with(mut spec: Value, field: &str, value: Value) -> Value {
        spec[field] = value;
        spec
    }

    #[rstest]
    #[case::nothing(containers(&[json!({})]), BEST_EFFORT)]
    #[case::zeros(containers(&[same("0", "0")]), BEST_EFFORT)]
    #[case::other_resources(containers(&[resources(json!({"ephemeral-storage": "1Gi"}), json!({"example.com/gpu": "1"}))]), BEST_EFFORT)]
    #[case::equal(containers(&[same("1", "1Gi")]), GUARANTEED)]
    #[case::equal_in_other_words(containers(&[resources(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "1000m", "memory": "1024Mi"}))]), GUARANTEED)]
    #[case::equal_everywhere(containers(&[same("1", "1Gi"), same("2", "2Gi")]), GUARANTEED)]
    #[case::one_without(containers(&[same("1", "1Gi"), json!({})]), BURSTABLE)]
    #[case::no_memory(containers(&[resources(json!({"cpu": "1"}), json!({"cpu": "1"}))]), BURSTABLE)]
    #[case::less_requested(containers(&[resources(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "2", "memory": "1Gi"}))]), BURSTABLE)]
    #[case::requests_only(containers(&[resources(json!({"cpu": "1"}), json!({}))]), BURSTABLE)]
    #[case::limits_only(containers(&[resources(json!({}), json!({"cpu": "1", "memory": "1Gi"}))]), BURSTABLE)]
    #[case::an_init_container_without(with(containers(&[same("1", "1Gi")]), "initContainers", json!([{"name": "i"}])), BURSTABLE)]
    #[case::an_ephemeral_container_without(with(containers(&[same("1", "1Gi")]), "ephemeralContainers", json!([{"name": "e"}])), GUARANTEED)]
    #[case::of_the_pod(with(containers(&[json!({})]), "resources", same("1", "1Gi")), GUARANTEED)]
    #[case::of_the_pod_before_its_containers(with(containers(&[same("1", "1Gi")]), "resources", resources(json!({"cpu": "1"}), json!({"cpu": "2"}))), BURSTABLE)]
    fn the_class_is_computed_as_kubernetes_does(#[case] spec: Value, #[case] expected: &str) {
        let pod = pod(spec);
        assert_eq!(computed_class(pod.spec.as_ref().unwrap()), expected);
    }

    #[test]
    fn a_class_that_is_not_allowed_is_refused() {
        let list = json!([{"action": "allow", "workloads": {"qosClasses": ["Guaranteed", "Burstable"]}}]);
        let outcome = validate_pod(&rules(list.clone()), &pod(json!({})));
        assert_eq!(
            refusal(&outcome),
            Some((
                "status.qosClass",
                "QoS class \"BestEffort\" at status.qosClass is not allowed by namespace rule: value did not match any \
                 allowed rule. Allowed QoS classes: \"Guaranteed\", \"Burstable\"; an administrator set this with \
                 spec.rules[0] of the Tenant \"oil\""
            ))
        );
        let guaranteed = pod(containers(&[same("1", "1Gi")]));
        assert!(validate_pod(&rules(list.clone()), &guaranteed).is_allowed());
        let mut recorded = pod(json!({}));
        recorded.status.get_or_insert_default().qos_class = Some("Burstable".into());
        assert!(validate_pod(&rules(list), &recorded).is_allowed());
    }
}
