//! What the status of a RuleStatus says.

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{RuleBody, RuleStatus, RuleStatusStatus};
use jiff::Timestamp;
use tenancy::rules::{body, check};

use crate::status::condition;

/// How far the rules are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress<'a> {
    /// What they manage is on the objects that are there.
    Done,
    /// It is being brought to them.
    UnderWay { left: &'a [RuleBody] },
    /// It could not be brought to all of them.
    Failed { left: &'a [RuleBody], message: &'a str },
}

/// The rules that enforce something, normalised, and whether they can. While what they manage is not on all objects, `left` of
/// former rules is among them, so that it is known what else may be there.
pub(super) fn of(object: &RuleStatus, progress: Progress<'_>, now: Timestamp) -> RuleStatusStatus {
    let before = object.status.iter().flat_map(|status| &status.conditions);
    let before: Vec<_> = before.cloned().collect();
    // Admission refuses these; they may have been stored before.
    let faults = check::check("", object.spec.0.iter().map(Into::into), None);
    let fault = check::denial("spec", &faults).map(|denial| denial.message);
    let (status, reason, message) = match (fault.as_deref(), progress) {
        (Some(message), _) | (None, Progress::Failed { message, .. }) => ("False", "Failed", message),
        (None, Progress::UnderWay { .. }) => ("Unknown", "Reconciling", "managed labels and annotations are being set"),
        (None, Progress::Done) => ("True", "Succeeded", "reconciled"),
    };
    let left = match progress {
        Progress::Done => &[],
        Progress::UnderWay { left } | Progress::Failed { left, .. } => left,
    };
    let rules = body::of_status(&object.spec.0);
    RuleStatusStatus {
        rules: rules.iter().map(RuleBody::from).chain(left.iter().cloned()).collect(),
        rule: None,
        conditions: vec![condition(&before, READY_CONDITION, status, reason, message, now)],
        observed_generation: object.metadata.generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn object(spec: &Value) -> RuleStatus {
        let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus",
            "metadata": {"name": "a", "namespace": "b", "generation": 3}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn rules_are_normalised_and_those_that_enforce_nothing_are_left_out() {
        let status = of(
            &object(&json!([
                {"quota": [{"name": "a", "hard": {"cpu": "1"}}]},
                {"quota": [{"name": "b", "hard": {"cpu": "1"}}],
                 "enforce": {"metadata": [{"kinds": ["Pod"], "labels": {"a": {"required": true}}}]}},
            ])),
            Progress::Done,
            NOW,
        );
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({
                "rules": [{"enforce": {"action": "deny", "metadata": [
                    {"kinds": ["Pod"], "apiGroups": ["v1"], "labels": {"a": {"required": true}}}]}}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled",
                    "lastTransitionTime": NOW.to_string()}],
                "observedGeneration": 3,
            })
        );
    }

    #[test]
    fn a_rule_that_cannot_be_carried_out_is_told() {
        let status = of(
            &object(&json!([{"enforce": {"workloads": {"schedulers": [{"exp": "("}]}}}])),
            Progress::Done,
            NOW,
        );
        let ready = &status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Failed"));
        assert!(
            ready.message.contains("spec[0].enforce.workloads.schedulers[0].exp"),
            "{}",
            ready.message
        );
    }

    #[test]
    fn a_second_look_says_the_same() {
        let mut seen = object(&json!([]));
        let first = of(&seen, Progress::Done, NOW);
        seen.status = Some(first.clone());
        let later = Timestamp::constant(1_900_000_000, 0);
        assert_eq!(of(&seen, Progress::Done, later), first);
    }

    #[test]
    fn what_is_left_of_former_rules_is_told_until_it_is_gone() {
        let left: Vec<RuleBody> = serde_json::from_value(json!([{"enforce": {"metadata": [
            {"kinds": ["Pod"], "apiGroups": ["v1"], "labels": {"a": {"managed": "b"}}}]}}]))
        .unwrap();
        let seen = object(&json!([]));
        let words = |progress: Progress<'_>| {
            let status = of(&seen, progress, NOW);
            let ready = &status.conditions[0];
            (status.rules.clone(), ready.status.clone(), ready.reason.clone())
        };
        let expected = |rules: &[RuleBody], status: &str, reason: &str| (rules.to_vec(), status.into(), reason.into());
        assert_eq!(
            words(Progress::UnderWay { left: &left }),
            expected(&left, "Unknown", "Reconciling")
        );
        let failed = Progress::Failed {
            left: &left,
            message: "no",
        };
        assert_eq!(words(failed), expected(&left, "False", "Failed"));
        assert_eq!(words(Progress::Done), expected(&[], "True", "Succeeded"));
    }
}
