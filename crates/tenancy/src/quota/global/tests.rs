use api::capsule::v1beta2::LedgerObject;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    denial::Denial,
    quota::{
        amounts::tests::amounts,
        ledger::{Ledger, TTL},
        usage::{Object, Resource},
    },
};

fn quota(spec: Value) -> GlobalQuota {
    let quota: ResourceQuotaSpec = serde_json::from_value(spec).unwrap();
    GlobalQuota {
        name: "q".to_owned(),
        whose: Whose::Quota,
        generation: 2,
        hard: Amounts::parse("", quota.hard.as_ref()).unwrap(),
        quota,
    }
}

fn pods(limit: u32) -> GlobalQuota {
    quota(json!({"hard": {"pods": limit.to_string()}}))
}

fn owner() -> OwnerReference {
    OwnerReference {
        kind: "GlobalResourceQuota".to_owned(),
        name: "q".to_owned(),
        ..OwnerReference::default()
    }
}

fn projected(quota: &GlobalQuota, used: &[(&str, Option<&str>)]) -> Projection {
    let wire: Vec<_> = used
        .iter()
        .map(|(name, used)| (*name, used.map(|used| amounts(used).to_wire())))
        .collect();
    project(
        quota,
        &owner(),
        &wire.iter().map(|(name, used)| (*name, used.as_ref())).collect(),
    )
}

#[test]
fn names_are_hashes_of_what_they_are_for() {
    // As `printf q | sha256sum` and `printf q/uid | sha256sum` begin.
    assert_eq!(child_name("q"), "capsule-global-quota-8e35c2cd3bf6641bdb0e");
    assert_eq!(
        ledger_name("q", "uid"),
        "global-resource-quota-bb851b2295e6ae4fe9ecce02e049477c"
    );
}

#[test]
fn each_namespace_may_use_what_it_has_and_all_that_is_left() {
    let quota = quota(json!({"hard": {"pods": "10", "requests.cpu": "4"}, "scopes": ["NotTerminating"]}));
    let projection = projected(
        &quota,
        &[
            ("a", Some("pods=3 requests.cpu=1 services=7")),
            ("b", Some("pods=2 requests.cpu=0")),
        ],
    );
    assert_eq!(
        serde_json::to_value(&projection.children[1]).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {
                "name": "capsule-global-quota-8e35c2cd3bf6641bdb0e",
                "namespace": "b",
                "labels": {"projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/global-resource-quota": "q"},
                "ownerReferences": [{"apiVersion": "", "kind": "GlobalResourceQuota", "name": "q", "uid": ""}],
            },
            "spec": {"hard": {"pods": "7", "requests.cpu": "3"}, "scopes": ["NotTerminating"]},
        })
    );
    assert_eq!(projection.total.used, amounts("pods=5 requests.cpu=1"));
    assert_eq!(projection.total.available, amounts("pods=5 requests.cpu=3"));
    assert!(projection.initialized && projection.ready.holds);
}

#[test]
fn a_namespace_that_reports_nothing_yet_makes_the_quota_wait() {
    let projection = projected(&pods(4), &[("a", Some("pods=5")), ("b", None)]);
    let hard: Vec<_> = projection
        .children
        .iter()
        .map(|child| child.spec.clone().unwrap().hard.unwrap())
        .collect();
    assert_eq!(hard[0], amounts("pods=5").to_wire());
    assert_eq!(hard[1], amounts("pods=0").to_wire());
    assert_eq!(
        projection.ready,
        Verdict::no("Ready", "Reconciling", "waiting for ResourceQuota usage initialization")
    );
}

#[test]
fn what_a_namespace_brings_along_did_not_arrive() {
    let quota = pods(9);
    let began = Timestamp::UNIX_EPOCH;
    let observe = |account: &Account, used: &[(&str, Option<&str>)]| {
        let projection = projected(&quota, used);
        account.observe(&quota, &projection, &account.rise(&projection), began)
    };
    let account = observe(&Account::default(), &[("a", Some("pods=1"))]);
    let request = crate::quota::ledger::Request {
        id: "a".to_owned(),
        object: LedgerObject::default(),
        usage: amounts("pods=1"),
        delta: amounts("pods=1"),
    };
    let ledger = account.ledger.reserve(&request, &quota.hard, began).unwrap();
    let account = Account { ledger, ..account };
    let joined = observe(&account, &[("a", Some("pods=1")), ("b", None)]);
    assert!(!joined.initialized && !joined.namespaces.contains("b"));
    let counted = observe(&joined, &[("a", Some("pods=1")), ("b", Some("pods=3"))]);
    assert!(counted.initialized && counted.namespaces.contains("b"));
    assert_eq!(counted.ledger.allocated(), amounts("pods=5"));
    let arrived = observe(&counted, &[("a", Some("pods=2")), ("b", Some("pods=3"))]);
    assert_eq!(arrived.ledger.allocated(), amounts("pods=5"));
    assert!(arrived.ledger.reservations.is_empty());
}

fn account(used: &str) -> Account {
    Account {
        observed_generation: 2,
        initialized: true,
        namespaces: ["oil".to_owned()].into(),
        ledger: Ledger {
            used: amounts(used),
            ..Ledger::default()
        },
    }
}

fn resource(plural: &str) -> Resource {
    Resource {
        group: String::new(),
        plural: plural.to_owned(),
    }
}

fn asked(
    quota: &GlobalQuota,
    account: Option<&Account>,
    resource: &Resource,
    objects: (Option<Value>, Value),
    subresource: &str,
) -> Result<Option<Ledger>, Denial> {
    let (old, new) = objects;
    let read = |object: Value| Object::read(resource, &object).unwrap();
    let (old, new) = (old.map(read), read(new));
    let reference = LedgerObject {
        namespace: "oil".to_owned(),
        ..LedgerObject::default()
    };
    let review = Review {
        uid: "review",
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        resource,
        subresource,
        object: &new,
        old: old.as_ref(),
        reference: &reference,
        now: Timestamp::UNIX_EPOCH,
    };
    admit(quota, account, "ledger-of-q", &review)
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[test]
fn a_refusal_has_all_the_numbers() {
    let denial = asked(
        &pods(5),
        Some(&account("pods=5")),
        &resource("pods"),
        (None, pod("1")),
        "",
    )
    .unwrap_err();
    assert_eq!(
        denial.message,
        "resource exceeds GlobalResourceQuota \"q\": pods (requested=1, current=5, projected=6, hard=5, exceededBy=1); an \
         administrator of this cluster set the limit, for all namespaces of the quota together"
    );
    assert_eq!(denial.code, 403);
}

#[test]
fn a_pod_that_fits_is_promised_what_it_takes() {
    let quota = quota(json!({"hard": {"pods": "5", "cpu": "4"}}));
    let ledger = asked(
        &quota,
        Some(&account("pods=4 cpu=3")),
        &resource("pods"),
        (None, pod("1")),
        "",
    )
    .unwrap();
    let reservation = ledger.unwrap().reservations.remove(0);
    assert_eq!(reservation.id, "review/q");
    assert_eq!(reservation.delta, amounts("cpu=1 pods=1"));
}

#[rstest]
#[case(
    "without a ledger",
    None,
    "GlobalResourceQuota \"q\" is not ready: QuantityLedger \"ledger-of-q\" does not exist"
)]
#[case("of an old generation", Some(Account { observed_generation: 1, ..account("pods=0") }),
    "GlobalResourceQuota \"q\" is not ready: it is counted for generation 1, not yet for generation 2")]
#[case("before all are counted", Some(Account { initialized: false, ..account("pods=0") }),
    "GlobalResourceQuota \"q\" is not ready: waiting for ResourceQuota usage initialization")]
#[case("of other namespaces", Some(Account { namespaces: ["gas".to_owned()].into(), ..account("pods=0") }),
    "GlobalResourceQuota \"q\" is not ready: namespace \"oil\" is not counted yet")]
fn an_account_that_cannot_be_relied_on_refuses_for_the_moment(
    #[case] which: &str,
    #[case] account: Option<Account>,
    #[case] message: &str,
) {
    let denial = asked(&pods(5), account.as_ref(), &resource("pods"), (None, pod("1")), "").unwrap_err();
    assert_eq!((denial.message.as_str(), denial.code), (message, 500), "{which}");
    // What takes nothing of the quota passes.
    assert_eq!(
        asked(&pods(5), account.as_ref(), &resource("secrets"), (None, json!({})), ""),
        Ok(None),
        "{which}"
    );
    let same = (Some(pod("1")), pod("1"));
    assert_eq!(
        asked(&pods(5), account.as_ref(), &resource("pods"), same, ""),
        Ok(None),
        "{which}"
    );
    // And so does what has happened.
    let ended = json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}});
    let revived = (Some(ended), pod("1"));
    assert_eq!(
        asked(&pods(5), account.as_ref(), &resource("pods"), revived, "status"),
        Ok(None),
        "{which}"
    );
}

#[test]
fn a_report_is_recorded_even_if_it_exceeds() {
    let ended = json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}});
    let report = (Some(ended), pod("1"));
    let ledger = asked(&pods(5), Some(&account("pods=5")), &resource("pods"), report, "status")
        .unwrap()
        .unwrap();
    assert_eq!(ledger.allocated(), amounts("pods=6"));
}

#[test]
fn a_resize_takes_what_it_adds() {
    let quota = quota(json!({"hard": {"requests.cpu": "4"}}));
    let grows = |to: &str| {
        let resize = (Some(pod("1")), pod(to));
        asked(
            &quota,
            Some(&account("requests.cpu=3")),
            &resource("pods"),
            resize,
            "resize",
        )
    };
    assert_eq!(grows("2").unwrap().unwrap().reserved(), amounts("requests.cpu=1"));
    assert!(grows("3").is_err());
    assert_eq!(grows("500m"), Ok(None));
}

#[test]
fn only_what_can_change_the_use_is_looked_at() {
    let quota = quota(json!({"hard": {"count/deployments.apps": "1"}}));
    let deployments = Resource {
        group: "apps".to_owned(),
        plural: "deployments".to_owned(),
    };
    let full = account("count/deployments.apps=1");
    let deployment = json!({"spec": {"replicas": 3}});
    assert!(asked(&quota, Some(&full), &deployments, (None, deployment.clone()), "").is_err());
    for subresource in ["scale", "status", "anything"] {
        assert_eq!(
            asked(
                &quota,
                Some(&full),
                &deployments,
                (None, deployment.clone()),
                subresource
            ),
            Ok(None)
        );
        let update = (Some(deployment.clone()), deployment.clone());
        assert_eq!(asked(&quota, Some(&full), &deployments, update, subresource), Ok(None));
    }
}

#[test]
fn a_pod_that_enters_the_scope_takes_all_that_it_uses() {
    let quota = quota(json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]}));
    let full = account("pods=1");
    assert_eq!(
        asked(&quota, Some(&full), &resource("pods"), (None, pod("1")), ""),
        Ok(None)
    );
    let mut ends = pod("1");
    ends["spec"]["activeDeadlineSeconds"] = json!(30);
    assert!(
        asked(
            &quota,
            Some(&full),
            &resource("pods"),
            (Some(pod("1")), ends.clone()),
            ""
        )
        .is_err()
    );
    assert_eq!(
        asked(&quota, Some(&full), &resource("pods"), (Some(ends), pod("1")), ""),
        Ok(None)
    );
    // Objects of other kinds are in no scope.
    let services = self::quota(json!({"hard": {"services": "0"}, "scopes": ["BestEffort"]}));
    assert_eq!(
        asked(
            &services,
            Some(&account("services=0")),
            &resource("services"),
            (None, json!({})),
            ""
        ),
        Ok(None)
    );
}

#[test]
fn a_pod_has_to_say_what_is_limited() {
    let quota = quota(json!({"hard": {"memory": "1Gi", "pods": "9"}}));
    let denial = asked(
        &quota,
        Some(&account("memory=0 pods=0")),
        &resource("pods"),
        (None, pod("1")),
        "",
    )
    .unwrap_err();
    assert_eq!(
        denial.message,
        "failed GlobalResourceQuota \"q\": must specify memory for: a; the quota limits these resources, so every \
         container has to say how much of them it needs"
    );
    let labelled = (Some(pod("1")), pod("1"));
    assert_eq!(
        asked(
            &quota,
            Some(&account("memory=0 pods=0")),
            &resource("pods"),
            labelled,
            ""
        ),
        Ok(None)
    );
}

#[rstest]
#[case(json!({}), "spec.quota.hard: it is empty; it has to limit at least one resource")]
#[case(json!({"hard": {"pods": "-1"}}), "spec.quota.hard[pods]: -1 is less than nothing; it has to be 0 or more")]
#[case(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Is"}]}}),
    "spec.quota.scopeSelector: operator \"Is\" is unknown; known are In, NotIn, Exists and DoesNotExist")]
fn a_quota_that_makes_no_sense_is_refused(#[case] spec: Value, #[case] message: &str) {
    let spec: ResourceQuotaSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(validate(&spec, &[]).unwrap_err().message, message);
}

#[test]
fn selectors_are_checked() {
    let spec = pods(1).quota;
    let odd: LabelSelector =
        serde_json::from_value(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).unwrap();
    let denial = validate(&spec, &[LabelSelector::default(), odd]).unwrap_err();
    assert_eq!(denial.message, "spec.namespaceSelectors[1]: operator In needs values");
    assert_eq!(validate(&spec, &[]), Ok(amounts("pods=1")));
}

#[rstest]
#[case("pods=5", "pods=3", "pods=3", false, None)]
#[case(
    "pods=5",
    "pods=2",
    "pods=3",
    false,
    Some("spec.quota.hard[pods]: 5 cannot be reduced to 2 while 3 is allocated")
)]
#[case(
    "pods=5",
    "cpu=1",
    "pods=3",
    false,
    Some("spec.quota.hard[pods]: 5 cannot be removed while 3 is allocated")
)]
#[case("pods=5", "cpu=1", "pods=0", false, None)]
#[case("pods=2", "pods=2", "pods=3", false, None)]
#[case(
    "pods=5",
    "pods=4",
    "pods=0",
    true,
    Some(
        "spec.quota.hard[pods]: 5 cannot be reduced to 4 while \
    spec.namespaceSelectors changes; change the selectors first, then the limit"
    )
)]
#[case("pods=5", "pods=6 cpu=1", "pods=0", true, None)]
fn what_is_taken_stays_allowed(
    #[case] old: &str,
    #[case] new: &str,
    #[case] taken: &str,
    #[case] selectors_change: bool,
    #[case] expected: Option<&str>,
) {
    let said = validate_change(&amounts(old), &amounts(new), selectors_change, &amounts(taken));
    assert_eq!(said.err().map(|denial| denial.message).as_deref(), expected);
}

const NAMESPACES: [&str; 3] = ["a", "b", "oil"];

proptest! {
    /// However pods come, go and fail on their way, and however late and torn the counts are: never more than the limit.
    #[test]
    fn what_is_admitted_never_exceeds_the_limit(steps in prop::collection::vec((0_u8..7, 0_usize..3, 1_u32..4), 1..150)) {
        let quota = quota(json!({"hard": {"services.nodeports": "10"}}));
        let limited = "services.nodeports";
        let mut account = account(&format!("{limited}=0"));
        account.namespaces = NAMESPACES.map(str::to_owned).into();
        let mut used = [0_u32; 3];
        let mut on_their_way: Vec<(usize, u32)> = Vec::new();
        // A count reads one namespace after the other, and is written if nobody wrote meanwhile.
        let mut read: Vec<u32> = Vec::new();
        let mut read_of = account.clone();
        let began = Timestamp::UNIX_EPOCH;
        for (number, (step, which, ports)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let service = json!({"spec": {"type": "NodePort", "ports": vec![json!({"port": 1}); ports as usize]}});
                    let object = Object::read(&resource("services"), &service).unwrap();
                    let uid = format!("review {number}");
                    let reference = LedgerObject { namespace: NAMESPACES[which].to_owned(), ..LedgerObject::default() };
                    let review = Review {
                        uid: &uid,
                        operation: Operation::Create,
                        resource: &resource("services"),
                        subresource: "",
                        object: &object,
                        old: None,
                        reference: &reference,
                        now: began,
                    };
                    if let Ok(Some(ledger)) = admit(&quota, Some(&account), "", &review) {
                        account.ledger = ledger;
                        on_their_way.push((which, ports));
                    }
                }
                2 => if let Some((which, ports)) = on_their_way.pop() { used[which] += ports },
                3 => { on_their_way.pop(); },
                4 => used[which] = used[which].saturating_sub(ports),
                _ => {
                    if read.is_empty() || read_of != account {
                        read = vec![used[0]];
                        read_of = account.clone();
                    } else if read.len() < 3 {
                        read.push(used[read.len()]);
                    } else {
                        let wire: Vec<_> = read.iter().map(|used| amounts(&format!("{limited}={used}")).to_wire()).collect();
                        let observed = NAMESPACES.into_iter().zip(wire.iter().map(Some)).collect();
                        let projection = project(&quota, &owner(), &observed);
                        account = account.observe(&quota, &projection, &account.rise(&projection), began);
                        read.clear();
                    }
                }
            }
            prop_assert!(used.iter().sum::<u32>() <= 10, "{used:?}");
        }
        let wire: Vec<_> = used.iter().map(|used| amounts(&format!("{limited}={used}")).to_wire()).collect();
        let observed = NAMESPACES.into_iter().zip(wire.iter().map(Some)).collect();
        let projection = project(&quota, &owner(), &observed);
        let end = account.observe(&quota, &projection, &account.rise(&projection), began + TTL);
        prop_assert!(end.ledger.reservations.is_empty());
        prop_assert_eq!(end.ledger.allocated().get(limited).to_string(), used.iter().sum::<u32>().to_string());
    }
}
