//! What a replication says about itself.

use api::capsule::names::{CORDONED_CONDITION, READY_CONDITION};
use api::capsule::v1beta2::{ConditionStatus, ProcessedItem, ProcessedItemStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::limits;

/// How many sentences one message has.
const SENTENCES: usize = 5;

/// A condition, of which the time of the last transition stays while its status does.
pub fn condition(
    before: &[Condition],
    kind: &str,
    fault: Option<(&str, &str)>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let is_cordoned = kind == CORDONED_CONDITION;
    let (status, reason, message) = match (is_cordoned, fault) {
        (false, None) => ("True", "Succeeded", "reconciled".to_owned()),
        (false, Some((reason, message))) => ("False", reason, message.to_owned()),
        (true, None) => ("False", "Active", "not cordoned".to_owned()),
        (true, Some(_)) => ("True", "Cordoned", "is cordoned".to_owned()),
    };
    let old = before.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: old.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

/// Both conditions. `fault` is the reason and the words for not being ready; a cordoned replication stays as ready as it was.
pub fn conditions(
    before: &[Condition],
    is_cordoned: bool,
    fault: Option<(&str, &str)>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let cordoned = is_cordoned.then_some(("", ""));
    let cordoned = condition(before, CORDONED_CONDITION, cordoned, generation, now);
    let ready = if is_cordoned {
        before.iter().find(|old| old.type_ == READY_CONDITION).cloned()
    } else {
        Some(condition(before, READY_CONDITION, fault, generation, now))
    };
    ready.into_iter().chain([cordoned]).collect()
}

/// Whether a replication is ready: what others that depend on it ask.
pub fn is_ready(conditions: &[Condition], observed: Option<i64>, generation: Option<i64>) -> bool {
    observed == generation
        && conditions
            .iter()
            .any(|condition| condition.type_ == READY_CONDITION && condition.status == "True")
}

/// What became of an item.
pub fn processed(mut item: ProcessedItem, fault: Option<&str>, more: ProcessedItemStatus) -> ProcessedItem {
    item.status = Some(ProcessedItemStatus {
        r#type: READY_CONDITION.to_owned(),
        status: if fault.is_none() {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        message: fault.map(limits::shorten).unwrap_or_default(),
        ..more
    });
    item
}

/// The sentences of a fault, none twice, the first few of many. `None` if there are none.
pub fn told(problems: &[String], applies: usize, prunes: usize) -> Option<String> {
    let mut sentences: Vec<String> = Vec::new();
    if applies > 0 {
        sentences.push(format!("applying of {applies} resources failed"));
    }
    if prunes > 0 {
        sentences.push(format!("pruning of {prunes} resources failed"));
    }
    for problem in problems {
        let problem = limits::shorten(problem);
        if !sentences.contains(&problem) {
            sentences.push(problem);
        }
    }
    let more = sentences.len().saturating_sub(SENTENCES);
    sentences.truncate(SENTENCES);
    if more > 0 {
        sentences.push(format!("and {more} more"));
    }
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let (one, other) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let first = conditions(&[], false, Some(("Failed", "no")), Some(1), one);
        let words: Vec<_> = first
            .iter()
            .map(|it| (it.type_.as_str(), it.status.as_str(), it.message.as_str()))
            .collect();
        assert_eq!(words, [("Ready", "False", "no"), ("Cordoned", "False", "not cordoned")]);
        let again = conditions(&first, false, Some(("Failed", "still no")), Some(1), other);
        assert_eq!(again[0].last_transition_time, Time(one));
        let better = conditions(&again, false, None, Some(2), other);
        assert_eq!(better[0].last_transition_time, Time(other));
        assert!(is_ready(&better, Some(2), Some(2)) && !is_ready(&better, Some(1), Some(2)));
        let cordoned = conditions(&better, true, None, Some(3), other);
        assert_eq!(cordoned[0], better[0]);
        assert_eq!(
            (cordoned[1].status.as_str(), cordoned[1].message.as_str()),
            ("True", "is cordoned")
        );
    }

    #[test]
    fn many_problems_are_a_few_sentences() {
        assert_eq!(told(&[], 0, 0), None);
        let problems: Vec<_> = (0..9).map(|n| format!("p{}", n % 6)).collect();
        assert_eq!(
            told(&problems, 2, 1).unwrap(),
            "applying of 2 resources failed; pruning of 1 resources failed; p0; p1; p2; and 3 more"
        );
    }
}
