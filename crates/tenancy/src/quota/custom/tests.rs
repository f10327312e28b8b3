use std::collections::BTreeMap;

use api::capsule::v1beta2::{LedgerObject, QuotaSource};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    denial::Denial,
    quota::{
        ledger::Ledger,
        stored::{TOTAL, total},
    },
};

/// Paths are names of fields at the top of an object, CEL likewise.
pub(super) struct Fake;

impl Fake {
    fn field<'a>(name: &str, object: &'a Value) -> Option<&'a Value> {
        object.get(name.trim_start_matches('.'))
    }

    fn check(text: &str) -> Result<(), String> {
        if text.contains('!') {
            Err("unexpected '!'".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Expressions for Fake {
    fn path(&self, path: &str, object: &Value) -> Result<String, String> {
        Ok(Self::field(path, object).map_or_else(String::new, |value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))
    }

    fn selects(&self, selector: &str, object: &Value) -> Result<bool, String> {
        Ok(Self::field(selector, object).is_some())
    }

    fn quantities(&self, cel: &str, object: &Value) -> Result<Vec<Quantity>, String> {
        let text = self.path(cel, object)?;
        text.split_whitespace()
            .map(|part| part.parse().map_err(|_| format!("{part} is no quantity")))
            .collect()
    }

    fn holds(&self, cel: &str, object: &Value) -> Result<bool, String> {
        self.selects(cel, object)
    }

    fn check_path(&self, path: &str) -> Result<(), String> {
        Self::check(path)
    }

    fn check_selector(&self, selector: &str) -> Result<(), String> {
        Self::check(selector)
    }

    fn check_quantities(&self, cel: &str) -> Result<(), String> {
        Self::check(cel)
    }

    fn check_condition(&self, cel: &str) -> Result<(), String> {
        Self::check(cel)
    }
}

/// A quota of the namespace `oil-one` that is counted.
pub(super) fn quota(name: &str, limit: &str, sources: Value) -> Custom {
    Custom {
        kind: Kind::Namespaced,
        namespace: "oil-one".to_owned(),
        name: name.to_owned(),
        generation: 3,
        is_ready: true,
        limit: limit.parse().unwrap(),
        sources: serde_json::from_value(sources).unwrap(),
        scope_selectors: Vec::new(),
    }
}

fn global(name: &str, limit: &str, sources: Value) -> Custom {
    Custom {
        kind: Kind::Global,
        namespace: String::new(),
        ..quota(name, limit, sources)
    }
}

/// Labels of an object, and the object.
pub(super) fn object(object: Value) -> (BTreeMap<String, String>, Value) {
    let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
    (labels, object)
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Reviews a thing for some quotas, each with this ledger, and says what the last of them said.
fn review(
    quotas: &[Custom],
    ledger: Option<&Ledger>,
    old: Option<Value>,
    new: Value,
    change: impl FnOnce(&mut Review<'_>),
) -> Result<Vec<Option<Ledger>>, Denial> {
    let (labels, new) = object(new);
    let old = old.map(object);
    let measured = |(labels, object): (&'static BTreeMap<String, String>, &'static Value)| Measured {
        group: "",
        version: "v1",
        kind: "Thing",
        labels,
        object,
    };
    // Tests may leak.
    let reference: &LedgerObject = Box::leak(Box::new(LedgerObject {
        kind: "Thing".to_owned(),
        uid: "uid".to_owned(),
        ..LedgerObject::default()
    }));
    let leaked = |(labels, object): (BTreeMap<String, String>, Value)| {
        measured((Box::leak(Box::new(labels)), Box::leak(Box::new(object))))
    };
    let mut review = Review {
        uid: "review",
        subresource: "",
        object: leaked((labels, new)),
        old: old.map(leaked),
        reference,
        goes: false,
        now: NOW,
    };
    change(&mut review);
    matching(quotas, &review, &Fake)?
        .iter()
        .map(|charge| charge.admit(ledger))
        .collect()
}

fn counted(used: &str) -> Ledger {
    Ledger {
        used: total(used.parse().unwrap()),
        ..Ledger::default()
    }
}

fn size() -> Value {
    json!([{"kind": "Thing", "path": ".size"}])
}

#[test]
fn what_a_new_object_uses_is_promised() {
    let quotas = [quota("q", "10Gi", size())];
    let ledgers = review(&quotas, Some(&counted("4Gi")), None, json!({"size": "2Gi"}), |_| ()).unwrap();
    let [Some(ledger)] = ledgers.as_slice() else {
        unreachable!()
    };
    assert_eq!(ledger.reserved().get(TOTAL).to_string(), "2Gi");
    assert_eq!(ledger.reservations[0].id, "review/oil-one/q");
    assert_eq!(ledger.allocated().get(TOTAL).to_string(), "6Gi");
}

#[test]
fn a_refusal_has_all_the_numbers() {
    let quotas = [quota("q", "10", size())];
    let first = review(&quotas, Some(&counted("4")), None, json!({"size": "3"}), |review| {
        review.uid = "first";
    })
    .unwrap()
    .remove(0);
    let denial = review(&quotas, first.as_ref(), None, json!({"size": "5"}), |_| ()).unwrap_err();
    assert_eq!(
        denial.message,
        "creating resource exceeds limit for CustomQuota \"q\" (requested=5, currentUsed=4, available=3, limit=10, \
         inflightReserved=3); whoever wrote that quota in this namespace set the limit"
    );
    assert_eq!(denial.code, 403);
    // The same request once more is not counted twice.
    let again = review(&quotas, first.as_ref(), None, json!({"size": "6"}), |review| {
        review.uid = "first";
    });
    assert!(again.is_ok());
}

#[test]
fn an_update_takes_only_what_it_adds() {
    let quotas = [quota("q", "10", size())];
    let full = counted("10");
    let update = |old: &str, new: &str| {
        review(
            &quotas,
            Some(&full),
            Some(json!({"size": old})),
            json!({"size": new}),
            |_| (),
        )
    };
    assert_eq!(update("4", "4"), Ok(vec![]));
    let freed = update("4", "3").unwrap().remove(0).unwrap();
    assert_eq!(freed.pending_deletes.len(), 1);
    assert_eq!(freed.allocated(), full.allocated());
    let denial = update("4", "5").unwrap_err();
    assert!(
        denial
            .message
            .starts_with("updating resource exceeds limit for CustomQuota \"q\" (requested=1,")
    );
}

#[test]
fn an_object_that_leaves_the_quota_asks_for_a_count() {
    let sources = json!([{"kind": "Thing", "op": "count", "selectors": [{"matchLabels": {"in": "yes"}}]}]);
    let quotas = [quota("q", "1", sources)];
    let inside = json!({"metadata": {"labels": {"in": "yes"}}});
    let left = review(&quotas, Some(&counted("1")), Some(inside.clone()), json!({}), |_| ()).unwrap();
    assert_eq!(left[0].as_ref().unwrap().pending_deletes.len(), 1);
    let joins = review(&quotas, Some(&counted("1")), Some(json!({})), inside, |_| ());
    assert!(joins.is_err());
}

#[test]
fn what_cannot_be_measured_is_refused_unless_it_was_so_before() {
    let quotas = [quota("q", "10", size())];
    let denial = review(&quotas, Some(&counted("0")), None, json!({}), |_| ()).unwrap_err();
    assert_eq!(
        denial.message,
        "CustomQuota \"q\" cannot measure the object: spec.sources[0]: path \".size\" did not resolve to any value; an \
         object that is limited has to say what it uses"
    );
    assert_eq!(denial.code, 403);
    let relabelled = review(
        &quotas,
        Some(&counted("0")),
        Some(json!({})),
        json!({"other": 1}),
        |_| (),
    );
    assert_eq!(relabelled, Ok(vec![]));
    let spoiled = review(
        &quotas,
        Some(&counted("0")),
        Some(json!({"size": "1"})),
        json!({}),
        |_| (),
    );
    assert!(spoiled.is_err());
    let leaving = review(
        &quotas,
        Some(&counted("0")),
        Some(json!({"size": "1"})),
        json!({}),
        |review| review.goes = true,
    );
    assert_eq!(leaving, Ok(vec![]));
}

#[test]
fn a_quota_that_is_not_counted_refuses_what_takes_and_lets_pass_what_does_not() {
    let mut stale = quota("q", "10", size());
    stale.is_ready = false;
    let quotas = [stale];
    let denial = review(&quotas, Some(&counted("0")), None, json!({"size": "1"}), |_| ()).unwrap_err();
    assert_eq!(denial.message, "CustomQuota \"q\" is not ready for generation 3");
    assert_eq!(denial.code, 500);
    let quotas = [quota("q", "10", size())];
    for ledger in [None, Some(&Ledger::default())] {
        let denial = review(&quotas, ledger, None, json!({"size": "1"}), |_| ()).unwrap_err();
        assert_eq!(denial.code, 500);
    }
    let shrinks = review(&quotas, None, Some(json!({"size": "2"})), json!({"size": "1"}), |_| ());
    assert_eq!(shrinks, Ok(vec![None]));
}

#[test]
fn a_status_is_recorded_and_never_refused() {
    let quotas = [quota("q", "10", size())];
    let report = |ledger: Option<&Ledger>| {
        review(
            &quotas,
            ledger,
            Some(json!({"size": "1"})),
            json!({"size": "9"}),
            |review| review.subresource = "status",
        )
    };
    let recorded = report(Some(&counted("10"))).unwrap().remove(0).unwrap();
    assert_eq!(recorded.allocated().get(TOTAL).to_string(), "18");
    assert_eq!(report(None), Ok(vec![None]));
}

#[test]
fn the_smallest_limit_is_asked_first_and_then_the_cluster() {
    let count = json!([{"kind": "Thing", "op": "count"}]);
    let late = json!([{"kind": "Other", "op": "count"}, {"kind": "Thing", "op": "count"}]);
    let quotas = [
        quota("b", "5", count.clone()),
        quota("a", "5", late),
        global("g", "5", count.clone()),
        quota("z", "4", count.clone()),
        quota("c", "5", count),
    ];
    let (labels, thing) = object(json!({}));
    let reference = LedgerObject::default();
    let review = Review {
        uid: "review",
        subresource: "",
        object: Measured {
            group: "",
            version: "v1",
            kind: "Thing",
            labels: &labels,
            object: &thing,
        },
        old: None,
        reference: &reference,
        goes: false,
        now: NOW,
    };
    let charges = matching(&quotas, &review, &Fake).unwrap();
    let names: Vec<&str> = charges.iter().map(|charge| charge.quota.name.as_str()).collect();
    assert_eq!(names, ["z", "g", "b", "c", "a"]);
}

fn sources(value: Value) -> Vec<QuotaSource> {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_limit_is_more_than_nothing_and_expressions_are_checked() {
    let check = |limit: &str, value: Value| {
        validate(&Wire(limit.to_owned()), &sources(value), &[], &Fake).map_err(|denial| denial.message)
    };
    assert_eq!(check("5", size()).unwrap().to_string(), "5");
    for limit in ["0", "-1"] {
        assert!(
            check(limit, size())
                .unwrap_err()
                .contains("quantity must not be negative or 0")
        );
    }
    assert!(
        check("many", size())
            .unwrap_err()
            .starts_with("spec.limit: \"many\" is not a quantity")
    );
    assert_eq!(
        check("5", json!([{"kind": "Thing", "cel": "a!"}])),
        Err("spec.sources[0].cel: unexpected '!'".to_owned())
    );
    assert_eq!(
        check(
            "5",
            json!([{"kind": "Thing", "op": "count", "selectors": [{"celExpressions": ["a!"]}]}])
        ),
        Err("spec.sources[0].selectors[0].celExpressions: unexpected '!'".to_owned())
    );
    assert!(check("5", json!([{"kind": "Thing"}])).is_err());
    assert!(check("5", json!([{"kind": "Thing", "op": "count", "path": ".a"}])).is_err());
}

#[test]
fn a_quota_in_use_keeps_its_sources_and_at_least_what_is_used() {
    let quantity = |text: &str| text.parse::<Quantity>().unwrap();
    let (one, other) = (sources(size()), sources(json!([{"kind": "Thing", "path": ".other"}])));
    let selected = sources(json!([{"kind": "Thing", "path": ".size", "selectors": [{"fieldSelectors": [".a"]}]}]));
    let change = |new: &[QuotaSource], limit: &str, used: &str| {
        validate_change(&one, new, quantity(limit), quantity(used)).map_err(|denial| denial.message)
    };
    assert_eq!(change(&other, "5", "0"), Ok(()));
    assert_eq!(change(&one, "5", "5"), Ok(()));
    assert_eq!(change(&selected, "5", "5"), Ok(()));
    assert!(
        change(&other, "5", "1")
            .unwrap_err()
            .contains("cannot change while 1 is used")
    );
    assert_eq!(
        change(&one, "4", "5"),
        Err("spec.limit: 4 is less than 5, which is used; it has to be at least that".to_owned())
    );
}

fn counts(quota: &Custom, things: &[Value]) -> Recount {
    let things: Vec<_> = things.iter().cloned().map(object).collect();
    let measured = things.iter().map(|(labels, object)| Measured {
        group: "",
        version: "v1",
        kind: object["kind"].as_str().unwrap_or("Thing"),
        labels,
        object,
    });
    recount(quota, measured, &Fake)
}

#[test]
fn a_count_sums_sorts_and_names_what_it_could_not_measure() {
    let quota = quota(
        "q",
        "4",
        json!([{"kind": "Thing", "path": ".size"}, {"kind": "Relief", "op": "sub", "path": ".size"}]),
    );
    let thing = |kind: &str, name: &str, size: Value| json!({"kind": kind, "size": size, "metadata": {"name": name, "namespace": "oil-one", "uid": format!("uid-{name}")}});
    let things = [
        thing("Thing", "b", json!("4")),
        thing("Thing", "a", json!("2")),
        thing("Relief", "r", json!("1")),
        thing("Thing", "odd", json!("much")),
        thing("Other", "o", json!("1")),
    ];
    let all = counts(&quota, &things);
    let claims: Vec<_> = all
        .claims
        .iter()
        .map(|claim| (claim.name.as_str(), claim.usage.0.as_str()))
        .collect();
    assert_eq!(claims, [("r", "-1"), ("a", "2"), ("b", "4")]);
    assert_eq!(all.used.to_string(), "5");
    assert_eq!(all.usage.available, Some(Wire("0".to_owned())));
    assert!(!all.ready.holds);
    assert!(
        all.ready
            .message
            .starts_with("Thing oil-one/odd: spec.sources[0]: path \".size\" found something")
    );
    assert!(counts(&quota, &things[..3]).ready.holds);
    assert_eq!(counts(&quota, &things[2..3]).used.to_string(), "0");
}

proptest! {
    /// However objects come and go, and however often they are counted: what is there never exceeds the limit.
    #[test]
    fn what_is_admitted_never_exceeds_the_limit(
        steps in prop::collection::vec((0_u8..5, 0_usize..6, 0_u32..8), 1..120),
    ) {
        let quotas = [quota("q", "20", size())];
        let mut ledger = counted("0");
        let mut there: BTreeMap<usize, u32> = BTreeMap::new();
        let mut on_their_way: Vec<(usize, u32)> = Vec::new();
        // What a count has read, while nobody else wrote the ledger.
        let mut read: Option<(Vec<Value>, Ledger)> = None;
        for (number, (step, which, size)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let old = there.get(&which).map(|size| json!({"size": size.to_string()}));
                    let id = format!("review {number}");
                    let uid = format!("uid {which}");
                    let reference = LedgerObject { uid, ..LedgerObject::default() };
                    let asked = review(&quotas, Some(&ledger), old, json!({"size": size.to_string()}), |review| {
                        review.uid = Box::leak(id.into_boxed_str());
                        review.reference = Box::leak(Box::new(reference));
                    });
                    if let Ok(ledgers) = asked {
                        // An update is stored only on top of what it was reviewed against.
                        on_their_way.retain(|(other, _)| *other != which);
                        on_their_way.push((which, size));
                        if let Some(after) = ledgers.into_iter().flatten().next() {
                            ledger = after;
                        }
                    }
                }
                2 => if let Some((which, size)) = on_their_way.pop() {
                    there.insert(which, size);
                },
                3 => {
                    there.remove(&which);
                    on_their_way.retain(|(other, _)| *other != which);
                }
                _ => match read.take() {
                    Some((things, before)) if before == ledger => {
                        ledger = counts(&quotas[0], &things).observe(&ledger, NOW);
                    }
                    _ => {
                        let things = there.iter().map(|(which, size)| {
                            json!({"size": size.to_string(), "metadata": {"uid": format!("uid {which}")}})
                        });
                        read = Some((things.collect(), ledger.clone()));
                    }
                },
            }
            prop_assert!(there.values().sum::<u32>() <= 20, "{there:?}");
        }
        // Nothing is left behind when everything is counted after the end of all requests.
        let later = NOW + crate::quota::ledger::TTL;
        let nothing = counts(&quotas[0], &[]);
        let end = nothing.expire(&nothing.observe(&ledger, later), later);
        prop_assert!(end.reservations.is_empty() && end.allocated().is_zero());
    }

    #[test]
    fn the_order_of_objects_and_sources_does_not_matter(
        sizes in prop::collection::vec((0_u32..9, 0_u32..9, any::<bool>()), 0..8),
        turn in any::<bool>(),
    ) {
        let mut both = vec![
            json!({"kind": "Thing", "path": ".size"}),
            json!({"kind": "Thing", "op": "sub", "path": ".less"}),
            json!({"kind": "Relief", "op": "sub", "path": ".size"}),
        ];
        let mut things: Vec<Value> = sizes.iter().map(|(size, less, relief)| {
            json!({"kind": if *relief { "Relief" } else { "Thing" }, "size": size.to_string(), "less": less.to_string()})
        }).collect();
        let forwards = counts(&quota("q", "20", json!(both)), &things).used;
        if turn { both.reverse(); }
        things.reverse();
        prop_assert_eq!(counts(&quota("q", "20", json!(both)), &things).used, forwards);
        let by_hand: i64 = sizes.iter().map(|(size, less, relief)| {
            let (size, less) = (i64::from(*size), i64::from(*less));
            if *relief { -size } else { (size - less).max(0) }
        }).sum();
        prop_assert_eq!(forwards.to_string(), by_hand.max(0).to_string());
    }
}

#[test]
fn a_quota_has_an_end_of_what_it_says() {
    let quota = |sources: Value, scopes: usize| {
        let sources: Vec<QuotaSource> = serde_json::from_value(sources).unwrap();
        let scopes = vec![LabelSelector::default(); scopes];
        validate(&Wire("1".to_owned()), &sources, &scopes, &Fake).map_err(|denial| denial.message)
    };
    let many = |source: Value, number: usize| Value::Array(vec![source; number]);
    let count = || json!({"apiVersion": "v1", "kind": "Pod", "op": "count"});
    assert!(quota(many(count(), 32), 64).is_ok());
    assert!(
        quota(many(count(), 33), 0)
            .unwrap_err()
            .contains("there are 33 sources; a quota has at most 32")
    );
    assert!(
        quota(many(count(), 1), 65)
            .unwrap_err()
            .contains("there are 65 selectors")
    );
    let mut choosy = count();
    choosy["selectors"] = json!([{"celExpressions": vec!["yes"; 43], "fieldSelectors": [".a"]}]);
    assert!(quota(many(choosy.clone(), 2), 0).is_ok());
    assert!(
        quota(many(choosy, 3), 0)
            .unwrap_err()
            .contains("there are 132 expressions; a quota has at most 128")
    );
    assert_eq!(validate_number(49), Ok(()));
    assert!(validate_number(50).unwrap_err().message.contains("at most 50"));
}
