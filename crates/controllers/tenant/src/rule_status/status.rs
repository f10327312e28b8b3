//! What the status of a RuleStatus says.

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{RuleBody, RuleStatus, RuleStatusStatus};
use jiff::Timestamp;
use tenancy::rules::{body, check};

use crate::status::condition;

/// The rules that enforce something, normalised, and whether they can.
pub(super) fn of(object: &RuleStatus, now: Timestamp) -> RuleStatusStatus {
    let before = object.status.iter().flat_map(|status| &status.conditions);
    let before: Vec<_> = before.cloned().collect();
    // Admission refuses these; they may have been stored before.
    let faults = check::check("", object.spec.0.iter().map(Into::into), None);
    let ready = match check::denial("spec", &faults) {
        None => condition(&before, READY_CONDITION, "True", "Succeeded", "reconciled", now),
        Some(denial) => condition(&before, READY_CONDITION, "False", "Failed", &denial.message, now),
    };
    RuleStatusStatus {
        rules: body::of_status(&object.spec.0).iter().map(RuleBody::from).collect(),
        rule: None,
        conditions: vec![ready],
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
        let first = of(&seen, NOW);
        seen.status = Some(first.clone());
        let later = Timestamp::constant(1_900_000_000, 0);
        assert_eq!(of(&seen, later), first);
    }
}
