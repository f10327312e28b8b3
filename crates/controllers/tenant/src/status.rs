//! What a tenant's status says, from what was planned and what came of it.

use std::fmt::Write as _;

use api::capsule::names::{CORDONED_CONDITION, READY_CONDITION, TERMINATING_CONDITION};
use api::capsule::v1beta2::{Space, Tenant, TenantState, TenantStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::desired::Plan;

/// More messages than this help nobody.
const MESSAGES: usize = 5;

/// What went wrong while a plan was carried out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Namespace, if it concerns one, and what happened.
    pub failures: Vec<(Option<String>, String)>,
}

/// One condition's new content, before it is compared with the old one.
struct Said<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

/// Published before the work, when the spec is new: who owns the tenant, and that it is being looked at.
pub fn first(tenant: &Tenant, plan: &Plan, now: Timestamp) -> Option<TenantStatus> {
    let before = tenant.status.clone().unwrap_or_default();
    let seen = before.observed_generation == tenant.metadata.generation;
    // Once is enough: a failing tenant keeps its reason instead of flickering.
    let told = before
        .conditions
        .iter()
        .any(|c| c.type_ == READY_CONDITION && c.reason == "Reconciling");
    if seen || told || tenant.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let cordoned = tenant.spec.cordoned;
    let ready = Said {
        kind: READY_CONDITION,
        status: "Unknown",
        reason: "Reconciling",
        message: "processing",
    };
    let conditions = conditions(&before.conditions, &[ready, tenant_cordoned(cordoned)], now);
    Some(TenantStatus {
        state: state(tenant),
        owners: plan.owners.clone(),
        conditions,
        ..before
    })
}

/// Published after the work, also when it failed.
pub fn of(tenant: &Tenant, plan: &Plan, outcome: &Outcome, now: Timestamp) -> TenantStatus {
    let before = tenant.status.clone().unwrap_or_default();
    let failures: Vec<&str> = outcome.failures.iter().map(|(_, message)| message.as_str()).collect();
    let failed = joined(&failures);
    let ready = match &failed {
        None => Said {
            kind: READY_CONDITION,
            status: "True",
            reason: "Succeeded",
            message: "reconciled",
        },
        Some(message) => Said {
            kind: READY_CONDITION,
            status: "False",
            reason: "Failed",
            message,
        },
    };
    let spaces: Vec<Space> = plan
        .spaces
        .iter()
        .map(|planned| {
            let known = before
                .spaces
                .iter()
                .find(|space| space.name == planned.name && space.uid == planned.uid);
            let failures: Vec<&str> = outcome
                .failures
                .iter()
                .filter(|(namespace, _)| namespace.as_deref() == Some(planned.name.as_str()))
                .map(|(_, message)| message.as_str())
                .collect();
            let failed = joined(&failures);
            let ready = match (&planned.waits_for, &failed) {
                (Some(_), _) => Said {
                    kind: READY_CONDITION,
                    status: "False",
                    reason: "Terminating",
                    message: "Namespace is terminating",
                },
                (None, Some(message)) => Said {
                    kind: READY_CONDITION,
                    status: "False",
                    reason: "Failed",
                    message,
                },
                (None, None) => Said {
                    kind: READY_CONDITION,
                    status: "True",
                    reason: "Succeeded",
                    message: "reconciled",
                },
            };
            let cordoned = if planned.cordoned {
                Said {
                    kind: CORDONED_CONDITION,
                    status: "True",
                    reason: "Cordoned",
                    message: "Namespace is cordoned",
                }
            } else {
                Said {
                    kind: CORDONED_CONDITION,
                    status: "False",
                    reason: "Active",
                    message: "not cordoned",
                }
            };
            let mut said = vec![ready, cordoned];
            // The peer reports what a namespace waits for in a condition whose status stays False.
            let waits = planned.waits_for.as_ref();
            if let Some(message) = waits {
                said.push(Said {
                    kind: TERMINATING_CONDITION,
                    status: "False",
                    reason: "Terminating",
                    message,
                });
            }
            let conditions = conditions(
                known.map(|space| space.conditions.as_slice()).unwrap_or_default(),
                &said,
                now,
            );
            Space {
                name: planned.name.clone(),
                uid: planned.uid.clone(),
                conditions,
                metadata: planned.managed.clone(),
                enforce: known.and_then(|space| space.enforce.clone()),
            }
        })
        .collect();
    TenantStatus {
        state: state(tenant),
        size: i64::try_from(spaces.len()).unwrap_or(i64::MAX),
        namespaces: spaces.iter().map(|space| space.name.clone()).collect(),
        spaces,
        owners: plan.owners.clone(),
        promotions: plan.promotions.clone(),
        classes: plan.classes.clone(),
        observed_generation: tenant.metadata.generation,
        conditions: conditions(&before.conditions, &[ready, tenant_cordoned(tenant.spec.cordoned)], now),
    }
}

fn tenant_cordoned(cordoned: bool) -> Said<'static> {
    if cordoned {
        Said {
            kind: CORDONED_CONDITION,
            status: "True",
            reason: "Cordoned",
            message: "Tenant is cordoned",
        }
    } else {
        Said {
            kind: CORDONED_CONDITION,
            status: "False",
            reason: "Active",
            message: "not cordoned",
        }
    }
}

fn state(tenant: &Tenant) -> TenantState {
    if tenant.metadata.deletion_timestamp.is_some() {
        TenantState::Terminating
    } else if tenant.spec.cordoned {
        TenantState::Cordoned
    } else {
        TenantState::Active
    }
}

/// The messages as one text, the same ones once.
fn joined(messages: &[&str]) -> Option<String> {
    let mut distinct: Vec<&str> = Vec::new();
    for message in messages {
        if !distinct.contains(message) {
            distinct.push(message);
        }
    }
    if distinct.is_empty() {
        return None;
    }
    let mut text = distinct.iter().take(MESSAGES).copied().collect::<Vec<_>>().join("; ");
    if distinct.len() > MESSAGES {
        let _ = write!(text, "; and {} more", distinct.len() - MESSAGES);
    }
    Some(text)
}

/// The conditions said, each with the time since which it has its status. Conditions of types that nobody says any more go.
pub(crate) fn condition(
    before: &[Condition],
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Condition {
    let since = before
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: None,
    }
}

fn conditions(before: &[Condition], said: &[Said<'_>], now: Timestamp) -> Vec<Condition> {
    said.iter()
        .map(|said| condition(before, said.kind, said.status, said.reason, said.message, now))
        .collect()
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use crate::desired::SpacePlan;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const BEFORE: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn tenant(status: serde_json::Value) -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": "oil", "generation": 2}, "spec": {}, "status": status
        }))
        .unwrap()
    }

    fn words(conditions: &[Condition]) -> Vec<String> {
        conditions
            .iter()
            .map(|c| {
                let age = if c.last_transition_time.0 == NOW {
                    "now"
                } else {
                    "before"
                };
                format!("{} {} {} {} {age}", c.type_, c.status, c.reason, c.message)
            })
            .collect()
    }

    fn space(name: &str) -> SpacePlan {
        SpacePlan {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            ..SpacePlan::default()
        }
    }

    #[test]
    fn a_new_spec_is_announced_once() {
        let fresh = tenant(json!({"size": 0, "conditions": []}));
        let status = first(&fresh, &Plan::default(), NOW).unwrap();
        assert_eq!(
            words(&status.conditions),
            [
                "Ready Unknown Reconciling processing now",
                "Cordoned False Active not cordoned now"
            ]
        );
        let told = Tenant {
            status: Some(status),
            ..fresh
        };
        assert_eq!(first(&told, &Plan::default(), NOW), None);
    }

    #[test]
    fn a_seen_spec_is_not_announced() {
        let seen = tenant(json!({"size": 0, "observedGeneration": 2, "conditions": []}));
        assert_eq!(first(&seen, &Plan::default(), NOW), None);
    }

    #[test]
    fn success_keeps_the_time_of_a_condition_that_held_already() {
        let old = tenant(json!({"size": 1, "observedGeneration": 2, "conditions": [
            {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled", "lastTransitionTime": BEFORE.to_string()}
        ]}));
        let plan = Plan {
            spaces: vec![space("oil-one")],
            ..Plan::default()
        };
        let status = of(&old, &plan, &Outcome::default(), NOW);
        assert_eq!(
            words(&status.conditions),
            [
                "Ready True Succeeded reconciled before",
                "Cordoned False Active not cordoned now"
            ]
        );
        assert_eq!(
            (status.size, status.namespaces, status.observed_generation),
            (1, vec!["oil-one".to_owned()], Some(2))
        );
        assert_eq!(
            words(&status.spaces[0].conditions),
            [
                "Ready True Succeeded reconciled now",
                "Cordoned False Active not cordoned now"
            ]
        );
    }

    #[test]
    fn a_failure_is_told_where_it_happened_and_at_the_tenant() {
        let plan = Plan {
            spaces: vec![space("oil-one"), space("oil-two")],
            ..Plan::default()
        };
        let outcome = Outcome {
            failures: vec![(Some("oil-two".to_owned()), "failed to apply X: no".to_owned())],
        };
        let status = of(&tenant(json!({"size": 0, "conditions": []})), &plan, &outcome, NOW);
        assert_eq!(
            words(&status.conditions)[0],
            "Ready False Failed failed to apply X: no now"
        );
        assert_eq!(
            words(&status.spaces[0].conditions)[0],
            "Ready True Succeeded reconciled now"
        );
        assert_eq!(
            words(&status.spaces[1].conditions)[0],
            "Ready False Failed failed to apply X: no now"
        );
    }

    #[test]
    fn a_namespace_that_goes_away_says_what_it_waits_for() {
        let going = SpacePlan {
            waits_for: Some("waiting for namespace finalization".to_owned()),
            ..space("oil-one")
        };
        let plan = Plan {
            spaces: vec![going],
            ..Plan::default()
        };
        let status = of(
            &tenant(json!({"size": 0, "conditions": []})),
            &plan,
            &Outcome::default(),
            NOW,
        );
        assert_eq!(
            words(&status.spaces[0].conditions),
            [
                "Ready False Terminating Namespace is terminating now",
                "Cordoned False Active not cordoned now",
                "Terminating False Terminating waiting for namespace finalization now"
            ]
        );
    }

    #[test]
    fn many_failures_are_cut_and_the_same_ones_told_once() {
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["a", "a"]).as_deref(), Some("a"));
        assert_eq!(
            joined(&["1", "2", "3", "4", "5", "6", "7"]).as_deref(),
            Some("1; 2; 3; 4; 5; and 2 more")
        );
    }
}
