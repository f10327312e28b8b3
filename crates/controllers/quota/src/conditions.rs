//! Conditions, from verdicts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tenancy::quota::verdict::Verdict;

/// The verdict as a condition. If it held, or did not hold, before, it does so since then.
pub(crate) fn condition(before: &[Condition], verdict: &Verdict, now: Timestamp) -> Condition {
    let status = if verdict.holds { "True" } else { "False" };
    let since = before
        .iter()
        .find(|condition| condition.type_ == verdict.condition && condition.status == status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    Condition {
        type_: verdict.condition.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
        last_transition_time: since,
        observed_generation: None,
    }
}

/// The conditions with those of the verdicts' types replaced, or added at the end.
pub(crate) fn with(before: &[Condition], verdicts: &[Verdict], now: Timestamp) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    for verdict in verdicts {
        let next = condition(before, verdict, now);
        match conditions.iter_mut().find(|condition| condition.type_ == next.type_) {
            Some(known) => *known = next,
            None => conditions.push(next),
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_since_which_it_holds() {
        let (then, now) = (
            Timestamp::constant(1_700_000_000, 0),
            Timestamp::constant(1_800_000_000, 0),
        );
        let before = with(&[], &[Verdict::yes("Ready", "Succeeded", "reconciled")], then);
        let other = Verdict::no("Bound", "Unused", "claim is unused");
        let after = with(&before, &[Verdict::yes("Ready", "Still", "so"), other], now);
        let said: Vec<_> = after
            .iter()
            .map(|it| {
                (
                    it.type_.as_str(),
                    it.status.as_str(),
                    it.reason.as_str(),
                    it.last_transition_time.0,
                )
            })
            .collect();
        assert_eq!(
            said,
            [("Ready", "True", "Still", then), ("Bound", "False", "Unused", now)]
        );
        let lost = with(&after, &[Verdict::no("Ready", "Failed", "no")], now);
        assert_eq!(lost[0].last_transition_time.0, now);
    }
}
