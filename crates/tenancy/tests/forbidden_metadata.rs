//! Labels and annotations that a tenant's users may not set: decisions beside a second opinion, which knows the patterns as
//! functions of a key.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant};
use k8s_openapi::api::core::v1::{Namespace, Service};
use proptest::{collection::btree_map, prelude::*, sample::select};
use serde_json::{Value, json};
use tenancy::{
    index::{Index, View},
    namespace_admission::{self, Operation, Request},
    services,
    settings::Settings,
    subject::User,
};

type Map = BTreeMap<String, String>;

const KEYS: [&str; 8] = [
    "team",
    "team-secret",
    "secret/team",
    "x.internal",
    "internal",
    "pod-security.kubernetes.io/enforce",
    "A",
    "a.b",
];

/// A pattern, and what it means.
type Meaning = (&'static str, fn(&str) -> bool);

const PATTERNS: [Meaning; 7] = [
    ("", |_| false),
    ("^secret", |key| key.starts_with("secret")),
    ("internal$", |key| key.ends_with("internal")),
    ("secret", |key| key.contains("secret")),
    ("^pod-security\\.kubernetes\\.io/", |key| {
        key.starts_with("pod-security.kubernetes.io/")
    }),
    ("[A-Z]", |key| key.chars().any(|it| it.is_ascii_uppercase())),
    (".*", |_| true),
];

/// A list as a Tenant holds it, and what it means.
#[derive(Clone, Debug)]
struct Forbidden {
    denied: Vec<&'static str>,
    pattern: usize,
}

impl Forbidden {
    fn list(&self) -> Value {
        json!({"denied": self.denied, "deniedRegex": PATTERNS[self.pattern].0})
    }

    fn holds(&self, key: &str) -> bool {
        self.denied.contains(&key) || PATTERNS[self.pattern].1(key)
    }

    fn holds_one_of<'a>(&self, mut keys: impl Iterator<Item = &'a String>) -> bool {
        keys.any(|key| self.holds(key))
    }
}

fn forbidden() -> impl Strategy<Value = Forbidden> {
    let denied = proptest::collection::vec(select(KEYS.to_vec()), 0..3);
    (denied, 0..PATTERNS.len()).prop_map(|(denied, pattern)| Forbidden { denied, pattern })
}

fn map() -> impl Strategy<Value = Map> {
    let key = select(KEYS.to_vec()).prop_map(str::to_owned);
    btree_map(key, select(vec!["1", "2"]).prop_map(str::to_owned), 0..4)
}

fn maps() -> impl Strategy<Value = (Map, Map)> {
    (map(), map())
}

fn tenant(spec: &Value) -> Tenant {
    let mut tenant = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
        "metadata": {"name": "oil", "uid": "uid-of-oil"}, "spec": {"owners": [{"kind": "User", "name": "alice"}]}});
    json_patch::merge(&mut tenant["spec"], spec);
    serde_json::from_value(tenant).unwrap()
}

fn namespace((labels, annotations): &(Map, Map)) -> Namespace {
    let mut labels = labels.clone();
    labels.insert("capsule.clastix.io/tenant".to_owned(), "oil".to_owned());
    let metadata = json!({"name": "oil-web", "labels": labels, "annotations": annotations, "ownerReferences": [
        {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil"}]});
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn service((labels, annotations): &(Map, Map)) -> Service {
    let metadata = json!({"name": "web", "labels": labels, "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}})).unwrap()
}

/// Keys whose value is not what it was: set, changed, and where `removed` counts taken away.
fn changed<'a>(old: &'a Map, new: &'a Map, removed: bool) -> impl Iterator<Item = &'a String> {
    let gone = old.keys().filter(move |key| removed && !new.contains_key(*key));
    let set = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    set.map(|(key, _)| key).chain(gone)
}

proptest! {
    #[test]
    fn owners_set_change_and_remove_what_is_not_forbidden_on_namespaces(labels in forbidden(), annotations in forbidden(), old in maps(), new in maps()) {
        let index = Index::default();
        let spec = json!({"namespaceOptions": {"forbiddenLabels": labels.list(), "forbiddenAnnotations": annotations.list()}});
        index.put_tenant(tenant(&spec).into());
        let (before, after) = (namespace(&old), namespace(&new));
        index.put_namespace(&before);
        let configuration: CapsuleConfiguration = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
            "spec": {"users": [{"kind": "User", "name": "alice"}]}})).unwrap();
        let settings = Settings::new(Some(&configuration), "cotenant-system", "cotenant");
        let decide = |user: &str| {
            let view = View::new(&index);
            let request = Request {
                operation: Operation::Update,
                subresource: "",
                user: User { name: user, groups: &[] },
                object: Some(&after),
                old: Some(&before),
                settings: &settings,
                view: &view,
            };
            namespace_admission::validate(&request).denial().is_none()
        };
        let is_refused = labels.holds_one_of(changed(&old.0, &new.0, true))
            || annotations.holds_one_of(changed(&old.1, &new.1, true));
        prop_assert_eq!(decide("alice"), !is_refused);
        prop_assert!(decide("an-administrator-of-the-cluster"));
    }

    #[test]
    fn services_get_no_forbidden_key_that_they_did_not_have(labels in forbidden(), annotations in forbidden(), old in maps(), new in maps()) {
        let index = Index::default();
        let spec = json!({"serviceOptions": {"forbiddenLabels": labels.list(), "forbiddenAnnotations": annotations.list()}});
        index.put_tenant(tenant(&spec).into());
        let oil = index.tenant("oil").unwrap();
        let (before, after) = (service(&old), service(&new));
        let created = services::validate(&oil, &after, None).is_ok();
        prop_assert_eq!(created, !(labels.holds_one_of(new.0.keys()) || annotations.holds_one_of(new.1.keys())));
        let updated = services::validate(&oil, &after, Some(&before)).is_ok();
        let is_refused = labels.holds_one_of(changed(&old.0, &new.0, false))
            || annotations.holds_one_of(changed(&old.1, &new.1, false));
        prop_assert_eq!(updated, !is_refused);
    }
}
