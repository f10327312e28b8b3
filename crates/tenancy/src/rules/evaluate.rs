//! One value against the items of all rules: the last match decides.

use api::capsule::v1beta2::RuleAction;

use super::{
    compiled::{Applicable, Held},
    finding::{Findings, Subject},
    matching::{Answer, Item},
};
use crate::denial::Denial;

/// Descriptions of allowed items in one sentence.
const MAX_DESCRIBED: usize = 10;

/// The allow or deny item that decides so far.
enum Last<'r, I> {
    Nothing,
    Allow(&'r I),
    Deny(usize, &'r I, Option<String>),
}

/// Evaluates one value. Gives the allow item that decided, if one did.
///
/// # Errors
/// If the value is refused.
pub(super) fn evaluate<'r, V: ?Sized, I: Item<V> + 'r>(
    findings: &mut Findings,
    rules: &Applicable<'r>,
    subject: &Subject<'_>,
    value: &V,
    lists: impl Iterator<Item = (Held<'r>, &'r [I])> + Clone,
) -> Result<Option<&'r I>, Denial> {
    let mut last = Last::Nothing;
    let mut is_restricted = false;
    for (held, items) in lists.clone() {
        let block = held.block;
        match block.action {
            RuleAction::Audit => {
                for item in items {
                    record(findings, rules, subject, block.index, item, value);
                }
            }
            RuleAction::Deny => {
                let matched = items.iter().find_map(|item| match item.answer(value) {
                    Answer::Yes => Some((item, None)),
                    Answer::No => None,
                    Answer::Unknown(why) => Some((item, Some(why))),
                });
                if let Some((item, why)) = matched {
                    last = Last::Deny(block.index, item, why);
                }
            }
            RuleAction::Allow => {
                is_restricted |= !items.is_empty();
                let matched = items.iter().find(|item| item.answer(value) == Answer::Yes);
                if let Some(item) = matched.filter(|_| held.is_clear) {
                    last = Last::Allow(item);
                }
            }
        }
    }
    match last {
        Last::Allow(item) => return Ok(Some(item)),
        Last::Deny(index, item, why) => {
            let detail = match why {
                None => format!("matched denied rule {}", item.describe()),
                Some(why) => format!("a deny rule for it cannot be evaluated ({why}), and is closed until it can"),
            };
            let set_by = rules.set_by(&[index]);
            findings.refuse(
                subject,
                format!("{subject} is denied by namespace rule: {detail}; {set_by}"),
            )?;
        }
        Last::Nothing if is_restricted => refuse_unlisted(findings, rules, subject, lists)?,
        Last::Nothing => {}
    }
    Ok(None)
}

fn record<V: ?Sized, I: Item<V>>(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    subject: &Subject<'_>,
    index: usize,
    item: &I,
    value: &V,
) {
    let detail = match item.answer(value) {
        Answer::No => return,
        Answer::Yes => None,
        Answer::Unknown(why) => Some(why),
    };
    findings.audit(subject, || {
        let detail = match detail {
            None => format!("matched audit rule {}", item.describe()),
            Some(why) => format!("an audit rule for it cannot be evaluated ({why})"),
        };
        let set_by = rules.set_by(&[index]);
        format!("{subject} is recorded by namespace rule: {detail}; {set_by}")
    });
}

/// Refuses a value that no allow rule lists.
fn refuse_unlisted<'r, V: ?Sized, I: Item<V> + 'r>(
    findings: &mut Findings,
    rules: &Applicable<'r>,
    subject: &Subject<'_>,
    lists: impl Iterator<Item = (Held<'r>, &'r [I])>,
) -> Result<(), Denial> {
    let (mut indexes, mut described, mut more) = (Vec::new(), Vec::new(), 0);
    for (held, items) in lists.filter(|(held, _)| held.block.action == RuleAction::Allow) {
        if indexes.last() != Some(&held.block.index) {
            indexes.push(held.block.index);
        }
        for item in items {
            if described.len() < MAX_DESCRIBED {
                described.push(item.describe());
            } else {
                more += 1;
            }
        }
    }
    let mut allowed = described.join(", ");
    if more > 0 {
        allowed = format!("{allowed} and {more} more");
    }
    let message = format!(
        "{subject} is not allowed by namespace rule: value did not match any allowed rule. {}: {allowed}; {}",
        subject.set.allowed,
        rules.set_by(&indexes)
    );
    findings.refuse(subject, message)
}

#[cfg(test)]
mod tests {
    use crate::rules::{
        Mode, Outcome,
        fixtures::{pod, refusal, rules, validate_pod, whole_rules},
    };
    use rstest::rstest;
    use serde_json::{Value, json};

    /// One rule about schedulers.
    fn schedulers(action: &str, exact: &[&str]) -> Value {
        json!({"action": action, "workloads": {"schedulers": [{"exact": exact}]}})
    }

    fn schedule(list: Value, name: &str) -> Outcome {
        validate_pod(&rules(list), &pod(json!({"schedulerName": name})))
    }

    #[rstest]
    #[case::no_rule(json!([]), "a", true)]
    #[case::allowed(json!([schedulers("allow", &["a"])]), "a", true)]
    #[case::not_among_the_allowed(json!([schedulers("allow", &["a"])]), "b", false)]
    #[case::denied(json!([schedulers("deny", &["a"])]), "a", false)]
    #[case::not_denied(json!([schedulers("deny", &["a"])]), "b", true)]
    #[case::audited(json!([schedulers("audit", &["a"])]), "a", true)]
    #[case::audit_does_not_restrict(json!([schedulers("audit", &["a"])]), "b", true)]
    #[case::audit_does_not_allow(json!([schedulers("allow", &["a"]), schedulers("audit", &["b"])]), "b", false)]
    #[case::a_later_deny_wins(json!([schedulers("allow", &["a"]), schedulers("deny", &["a"])]), "a", false)]
    #[case::a_later_allow_wins(json!([schedulers("deny", &["a"]), schedulers("allow", &["a"])]), "a", true)]
    #[case::a_later_allow_of_another_value(json!([schedulers("allow", &["a"]), schedulers("allow", &["b"])]), "a", true)]
    #[case::empty(json!([schedulers("allow", &["a"])]), "", true)]
    #[case::blank(json!([schedulers("allow", &["a"])]), " ", true)]
    #[case::blanks_around_it(json!([schedulers("allow", &["a"])]), " a ", true)]
    #[case::deny_is_the_default(json!([{"workloads": {"schedulers": [{"exact": ["a"]}]}}]), "a", false)]
    #[case::a_block_without_items_allows_nothing_and_restricts_nothing(json!([{"action": "allow", "workloads": {}}]), "a", true)]
    fn the_last_match_decides(#[case] list: Value, #[case] name: &str, #[case] passes: bool) {
        assert_eq!(schedule(list, name).is_allowed(), passes);
    }

    #[test]
    fn a_refusal_says_what_where_why_and_who() {
        let denied = schedule(json!([schedulers("audit", &["x"]), schedulers("deny", &["a"])]), "a");
        assert_eq!(
            refusal(&denied),
            Some((
                "spec.schedulerName",
                "scheduler \"a\" at spec.schedulerName is denied by namespace rule: matched denied rule \"a\"; an \
                 administrator set this with spec.rules[1] of the Tenant \"oil\""
            ))
        );
        assert_eq!(denied.refusal.unwrap().reason, "ForbiddenScheduler");
        let unlisted = schedule(
            json!([
                schedulers("allow", &["a"]),
                {"action": "allow", "workloads": {"schedulers": [{"exp": "^b", "negate": true}]}},
            ]),
            "bee",
        );
        assert_eq!(
            refusal(&unlisted).unwrap().1,
            "scheduler \"bee\" at spec.schedulerName is not allowed by namespace rule: value did not match any allowed \
             rule. Allowed schedulers: \"a\", anything but what matches \"^b\"; an administrator set this with \
             spec.rules[0], spec.rules[1] of the Tenant \"oil\""
        );
    }

    #[test]
    fn ten_items_are_described_and_the_rest_is_counted() {
        let items: Vec<_> = (0..13).map(|number| json!({"exact": [format!("s{number}")]})).collect();
        let outcome = schedule(json!([{"action": "allow", "workloads": {"schedulers": items}}]), "x");
        let (_, message) = refusal(&outcome).unwrap();
        assert!(message.contains("\"s9\" and 3 more; an administrator"), "{message}");
        assert!(!message.contains("s10"), "{message}");
    }

    #[test]
    fn every_audit_match_is_recorded_also_before_a_refusal() {
        let list = json!([
            schedulers("audit", &["a"]),
            {"action": "audit", "workloads": {"schedulers": [{"exp": "a"}, {"exp": "b"}, {"exp": "."}]}},
            schedulers("deny", &["a"]),
        ]);
        let outcome = schedule(list, "a");
        assert!(!outcome.is_allowed());
        let messages: Vec<_> = outcome.audits.iter().map(|audit| audit.message.as_str()).collect();
        assert_eq!(messages.len(), 3);
        assert_eq!(
            messages[1],
            "scheduler \"a\" at spec.schedulerName is recorded by namespace rule: matched audit rule what matches \"a\"; an \
             administrator set this with spec.rules[1] of the Tenant \"oil\""
        );
        assert_eq!(outcome.audits[0].set, "scheduler");
        assert_eq!(outcome.audits[0].field, "spec.schedulerName");
    }

    #[rstest]
    #[case::deny_is_closed("deny", &[], false)]
    #[case::allow_frees_nobody("allow", &[], false)]
    #[case::audit_records("audit", &[], true)]
    #[case::a_later_allow_opens_a_broken_deny("deny", &["a"], true)]
    #[case::another_allow_opens_a_broken_allow("allow", &["a"], true)]
    fn a_broken_pattern_is_closed_for_what_it_guards(
        #[case] action: &str,
        #[case] allowed_later: &[&str],
        #[case] passes: bool,
    ) {
        let broken = json!({"action": action, "workloads": {"schedulers": [{"exp": "("}]}});
        let mut list = vec![broken];
        if !allowed_later.is_empty() {
            list.push(schedulers("allow", allowed_later));
        }
        let outcome = schedule(json!(list), "a");
        assert_eq!(outcome.is_allowed(), passes);
        assert_eq!(outcome.audits.len(), usize::from(action == "audit"));
        // What the rule does not guard is not touched.
        let other = validate_pod(&rules(json!(list)), &pod(json!({})));
        assert!(other.is_allowed());
    }

    #[test]
    fn in_audit_mode_a_refusal_is_recorded_and_evaluation_goes_on() {
        let list = json!([{"enforce": {"workloads": {
            "schedulers": [{"exact": ["a"]}],
            "registries": [{"exp": "."}],
        }}}]);
        let outcome = validate_pod(&whole_rules(list, Mode::Audit), &pod(json!({"schedulerName": "a"})));
        assert!(outcome.is_allowed());
        let fields: Vec<_> = outcome.audits.iter().map(|audit| audit.field.as_str()).collect();
        assert_eq!(fields, ["spec.schedulerName", "spec.containers[0].image"]);
        assert!(
            outcome.audits[0]
                .message
                .ends_with("because the Tenant has cotenant.dev/rule-mode=audit, or rules in cotenant.dev/audit")
        );
    }

    #[test]
    fn what_is_recorded_of_one_request_is_bounded() {
        let containers: Vec<_> = (0..100)
            .map(|number| json!({"name": format!("c{number}"), "image": "a"}))
            .collect();
        let list = json!([{"action": "audit", "workloads": {"registries": [{"exp": "."}]}}]);
        let outcome = validate_pod(&rules(list), &pod(json!({"containers": containers})));
        assert_eq!((outcome.audits.len(), outcome.more_audits), (32, 68));
    }

    #[test]
    fn long_values_and_patterns_are_shortened() {
        let exp = format!("^{}$", "a".repeat(1000));
        let list = json!([{"action": "allow", "workloads": {"schedulers": [{"exp": exp}]}}]);
        let outcome = schedule(list, &"ü".repeat(100_000));
        assert!(refusal(&outcome).unwrap().1.len() < 1000);
    }

    #[rstest]
    #[case::of_somebody_else(json!([{"kind": "User", "name": "bob"}]), "deny", true)]
    #[case::of_the_requester(json!([{"kind": "Custom", "name": "TenantOwner"}]), "deny", false)]
    #[case::an_unknown_one_restricts(json!([{"kind": "Custom", "name": "Friends"}]), "deny", false)]
    #[case::an_unknown_one_frees_nobody(json!([{"kind": "Custom", "name": "Friends"}]), "allow", false)]
    fn an_audience_decides_whom_a_rule_is_about(#[case] audience: Value, #[case] action: &str, #[case] passes: bool) {
        let list = json!([{"audience": audience, "enforce": schedulers(action, &["a"])}]);
        let outcome = validate_pod(&whole_rules(list, Mode::Enforce), &pod(json!({"schedulerName": "a"})));
        assert_eq!(outcome.is_allowed(), passes);
    }
}
