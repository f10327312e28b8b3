//! Requests and limits that rules hold a pod to.
//!
//! A deny or audit rule acts on what does not comply; of the allow rules about a resource one has to be complied with. A
//! later rule that preserves or defaults a resource takes back what earlier ones ask of it.

use std::collections::BTreeMap;

use api::capsule::v1beta2::RuleAction;
use k8s_openapi::{
    api::core::v1::{PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Wire,
};

use super::{Kind, Part, Policy, about, says_anything, settle::unit};
use crate::{
    denial::Denial,
    quantity::Quantity,
    rules::{
        compiled::{Applicable, Held},
        finding::{Findings, Set, Subject},
    },
};

const RESOURCE: Set = Set {
    name: "workload resource",
    allowed: "Allowed resources",
    reason: "ForbiddenPodResources",
};

/// What is asked of each request and limit of one part of a pod.
type Constraints<'r> = BTreeMap<(Kind, &'r str), Vec<(Held<'r>, &'r Policy)>>;

fn constraints<'r>(rules: &Applicable<'r>, part: Part, pod: &PodSpec) -> Constraints<'r> {
    let mut constraints = Constraints::new();
    for (held, kind, resource, policy) in about(rules, part, pod) {
        let of_resource = constraints.entry((kind, resource)).or_default();
        match policy {
            Policy::Preserve | Policy::Default(Ok(_)) if held.is_clear => of_resource.clear(),
            Policy::Preserve | Policy::Default(_) => {}
            Policy::Remove | Policy::MatchRequest | Policy::Ratio(_) => of_resource.push((held, policy)),
        }
    }
    constraints
}

/// Refuses requests and limits that do not comply.
pub(in crate::rules) fn validate(findings: &mut Findings, rules: &Applicable<'_>, pod: &PodSpec) -> Result<(), Denial> {
    if !says_anything(rules) {
        return Ok(());
    }
    let asked = constraints(rules, Part::InitContainers, pod);
    for (index, container) in pod.init_containers.iter().flatten().enumerate() {
        let path = format!("spec.initContainers[{index}].resources");
        check(findings, rules, &asked, &path, container.resources.as_ref())?;
    }
    let asked = constraints(rules, Part::Containers, pod);
    for (index, container) in pod.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}].resources");
        check(findings, rules, &asked, &path, container.resources.as_ref())?;
    }
    let asked = constraints(rules, Part::Pod, pod);
    check(findings, rules, &asked, "spec.resources", pod.resources.as_ref())
}

fn check(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    asked: &Constraints<'_>,
    path: &str,
    resources: Option<&ResourceRequirements>,
) -> Result<(), Denial> {
    for ((kind, resource), constraints) in asked {
        let amounts = Amounts {
            request: read(resources.and_then(|of| of.requests.as_ref()), resource),
            limit: read(resources.and_then(|of| of.limits.as_ref()), resource),
        };
        let path = format!("{path}.{}[{resource:?}]", kind.field());
        let subject = Subject::at(&RESOURCE, resource, &path);
        let sentence = |policy: &Policy, detail: &str, index| {
            format!(
                "{} {} {resource:?} at {path} violates policy {}: {detail}; {}",
                RESOURCE.name,
                kind.name(),
                policy.name(),
                rules.set_by(&[index])
            )
        };
        let (mut unmet, mut is_met) = (None, false);
        for (held, policy) in constraints {
            let violation = violation(policy, *kind, resource, &amounts);
            match (held.block.action, violation) {
                (RuleAction::Allow, None) => is_met |= held.is_clear,
                (RuleAction::Allow, Some(detail)) => unmet = Some(sentence(policy, &detail, held.block.index)),
                (_, None) => {}
                (RuleAction::Audit, Some(detail)) => {
                    findings.audit(&subject, || sentence(policy, &detail, held.block.index));
                }
                (RuleAction::Deny, Some(detail)) => {
                    findings.refuse(&subject, sentence(policy, &detail, held.block.index))?;
                }
            }
        }
        if let Some(message) = unmet.filter(|_| !is_met) {
            findings.refuse(&subject, message)?;
        }
    }
    Ok(())
}

/// An amount, if there is one, or why it cannot be read.
type Amount = Result<Option<Quantity>, String>;

struct Amounts {
    request: Amount,
    limit: Amount,
}

fn read(amounts: Option<&BTreeMap<String, Wire>>, resource: &str) -> Amount {
    let written = amounts.and_then(|amounts| amounts.get(resource));
    written
        .map(Quantity::parse)
        .transpose()
        .map_err(|error| error.to_string())
}

/// What is wrong, if anything.
fn violation(policy: &Policy, kind: Kind, resource: &str, amounts: &Amounts) -> Option<String> {
    let (request, limit) = match (&amounts.request, &amounts.limit) {
        (Ok(request), Ok(limit)) => (*request, *limit),
        (Err(why), _) | (_, Err(why)) => return Some(why.clone()),
    };
    match (policy, kind) {
        (Policy::Preserve | Policy::Default(_), _) => None,
        // The API server makes a limit the request where there is none: that cannot be removed.
        (Policy::Remove, Kind::Request) => request
            .filter(|_| request != limit)
            .map(|request| format!("request {request} must not be set")),
        (Policy::Remove, Kind::Limit) => limit.map(|limit| format!("limit {limit} must not be set")),
        (Policy::MatchRequest, _) => match (request, limit) {
            (None, None) => None,
            (Some(request), None) => Some(format!("limit must be set, to the request {request}")),
            (None, Some(limit)) => Some(format!("limit {limit} must not be set without a request")),
            (Some(request), Some(limit)) => {
                (request != limit).then(|| format!("limit {limit} must equal the request {request}"))
            }
        },
        (Policy::Ratio(Err(why)), _) => Some(format!("it cannot be evaluated, and is closed until it can: {why}")),
        (Policy::Ratio(Ok(ratio)), _) => {
            let request = request.unwrap_or_default();
            let largest = request.times(*ratio, unit(resource));
            let told = format!("{largest} (request {request} x ratio {ratio})");
            match limit {
                Some(limit) => (limit > largest).then(|| format!("limit {limit} must not exceed {told}")),
                None => (request > Quantity::ZERO).then(|| format!("limit must be set, and not exceed {told}")),
            }
        }
    }
}
