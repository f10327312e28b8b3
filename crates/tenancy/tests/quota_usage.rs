//! What objects use of a quota, compared with what Kubernetes says of them, recorded by `tools/oracle/quota`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ResourceQuotaSpec, ScopeSelector, ScopedResourceSelectorRequirement},
    apimachinery::pkg::api::resource::Quantity as Wire,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tenancy::{
    quantity::Quantity,
    quota::{
        amounts::Amounts,
        usage::{self, Object, Resource},
    },
};

#[derive(Deserialize)]
struct Recorded {
    now: Timestamp,
    selectors: Vec<ScopedResourceSelectorRequirement>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    kind: String,
    object: Value,
    usage: BTreeMap<String, Wire>,
    #[serde(default)]
    must_specify: Option<String>,
    scopes: String,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("recorded/quota_usage.json")).expect("what the recorder wrote")
}

fn resource(plural: &str) -> Resource {
    Resource {
        group: String::new(),
        plural: plural.to_owned(),
    }
}

fn resource_of(kind: &str) -> Resource {
    resource(&format!("{}s", kind.to_lowercase()))
}

/// The demand that the recording makes.
fn demanded() -> Amounts {
    let names = [
        "cpu",
        "memory",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
        "pods",
    ];
    names.into_iter().map(|name| (name.to_owned(), Quantity::ONE)).collect()
}

fn scoped(requirement: &ScopedResourceSelectorRequirement) -> ResourceQuotaSpec {
    ResourceQuotaSpec {
        scope_selector: Some(ScopeSelector {
            match_expressions: Some(vec![requirement.clone()]),
        }),
        ..ResourceQuotaSpec::default()
    }
}

#[test]
fn objects_use_what_kubernetes_says() {
    let recorded = recorded();
    assert!(recorded.cases.len() >= 300);
    let mut differences = Vec::new();
    for case in &recorded.cases {
        let resource = resource_of(&case.kind);
        let object = Object::read(&resource, &case.object).unwrap();
        let said = usage::of(&resource, &object, recorded.now).unwrap();
        let expected = Amounts::parse("", Some(&case.usage)).unwrap();
        if said != expected {
            differences.push(format!("{}: {said:?} here, {expected:?} there", case.name));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn objects_have_to_specify_what_kubernetes_demands() {
    let mut differences = Vec::new();
    for case in recorded().cases {
        let object = Object::read(&resource_of(&case.kind), &case.object).unwrap();
        let said = usage::unspecified(&object, &demanded());
        if said != case.must_specify {
            differences.push(format!("{}: {said:?} here, {:?} there", case.name, case.must_specify));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn objects_are_in_the_scopes_that_kubernetes_says() {
    let recorded = recorded();
    let mut differences = Vec::new();
    for case in &recorded.cases {
        let object = Object::read(&resource_of(&case.kind), &case.object).unwrap();
        let said: String = recorded
            .selectors
            .iter()
            .map(|requirement| {
                if usage::in_scopes(&scoped(requirement), &object).unwrap() {
                    'y'
                } else {
                    '-'
                }
            })
            .collect();
        if said != case.scopes {
            differences.push(format!("{}: {said} here, {} there", case.name, case.scopes));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn objects_of_other_kinds_are_counted_under_all_their_names() {
    let count = |group: &str, plural: &str| {
        let resource = Resource {
            group: group.to_owned(),
            plural: plural.to_owned(),
        };
        let object = Object::read(&resource, &json!({"anything": [1, {}]})).unwrap();
        let used = usage::of(&resource, &object, Timestamp::UNIX_EPOCH).unwrap();
        let used: Vec<String> = used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        used.join(" ")
    };
    assert_eq!(count("apps", "deployments"), "count/deployments.apps=1");
    assert_eq!(count("", "secrets"), "count/secrets=1 secrets=1");
    assert_eq!(count("", "configmaps"), "configmaps=1 count/configmaps=1");
    assert_eq!(count("", "resourcequotas"), "count/resourcequotas=1 resourcequotas=1");
    assert_eq!(
        count("", "replicationcontrollers"),
        "count/replicationcontrollers=1 replicationcontrollers=1"
    );
    assert_eq!(count("", "serviceaccounts"), "count/serviceaccounts=1");
    assert_eq!(count("example.com", "secrets"), "count/secrets.example.com=1");
    assert_eq!(count("example.com", "pods"), "count/pods.example.com=1");
}

#[test]
fn an_amount_that_cannot_be_counted_is_named() {
    let pod = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "-1"}}}]}});
    let pods = resource("pods");
    let error = usage::of(&pods, &Object::read(&pods, &pod).unwrap(), Timestamp::UNIX_EPOCH).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.containers[a].resources.requests[cpu]: -1 is less than nothing; it has to be 0 or more"
    );
}

/// Some JSON, with words that pods are made of.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "spec",
        "status",
        "containers",
        "resources",
        "requests",
        "limits",
        "cpu",
        "Always",
        "1Gi",
        "-1",
        "1e99",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "[ -~]{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Every place in some JSON.
fn places(value: &Value, here: &str, places: &mut Vec<String>) {
    places.push(here.to_owned());
    let mut visit = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        self::places(value, &format!("{here}/{key}"), places);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| visit(key, value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| visit(&index.to_string(), value)),
        _ => {}
    }
}

proptest! {
    /// Whatever is written into an object anywhere: there is an answer, the same every time.
    #[test]
    fn every_object_has_an_answer(case in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), odd in anything()) {
        let recorded = recorded();
        let case = &recorded.cases[case.index(recorded.cases.len())];
        let mut object = case.object.clone();
        let mut all = Vec::new();
        places(&object, "", &mut all);
        *object.pointer_mut(&all[place.index(all.len())]).unwrap() = odd;
        let resource = resource_of(&case.kind);
        let Ok(read) = Object::read(&resource, &object) else { return Ok(()) };
        prop_assert_eq!(
            usage::of(&resource, &read, recorded.now),
            usage::of(&resource, &Object::read(&resource, &object).unwrap(), recorded.now)
        );
        for requirement in &recorded.selectors {
            prop_assert!(usage::in_scopes(&scoped(requirement), &read).is_ok());
        }
        let _ = usage::unspecified(&read, &demanded());
    }
}
