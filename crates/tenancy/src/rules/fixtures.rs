//! Rules and requests in words, for the tests of this module.

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use super::{
    CompiledRules, Mode, Outcome,
    admission::{self, Content, Edits, Object, ObjectType, Request},
    audience::Requester,
    body,
};
use crate::{fixtures, index::KnownTenant, pattern::Cache, subject::User};

pub(super) const POD: ObjectType<'static> = ObjectType {
    group: "",
    version: "v1",
    kind: "Pod",
};
pub(super) const SERVICE: ObjectType<'static> = ObjectType { kind: "Service", ..POD };

/// Rules of tenant oil: what each of them enforces, in order.
pub(super) fn rules(enforce: Value) -> CompiledRules {
    let Value::Array(list) = enforce else { panic!("a list") };
    let list: Vec<_> = list.into_iter().map(|enforce| json!({"enforce": enforce})).collect();
    whole_rules(json!(list), Mode::Enforce)
}

/// Rules of tenant oil, as a Tenant holds them.
pub(super) fn whole_rules(list: Value, mode: Mode) -> CompiledRules {
    let oil = fixtures::tenant("oil").with(json!({"rules": list})).build();
    let bodies = body::for_namespace(&oil, &[].into(), |template| Ok(template.to_owned())).unwrap();
    CompiledRules::new("oil", mode, &bodies, &mut Cache::default())
}

pub(super) fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "main", "image": "example.com/app"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

pub(super) fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
}

/// Lets tenant user alice ask.
pub(super) fn as_alice<T>(ask: impl FnOnce(Requester<'_>) -> T) -> T {
    as_user("alice", ask)
}

/// Lets somebody ask: alice owns the tenant, root is an administrator.
pub(super) fn as_user<T>(name: &str, ask: impl FnOnce(Requester<'_>) -> T) -> T {
    let settings = fixtures::settings(json!({
        "userGroups": ["devs"],
        "administrators": [{"kind": "User", "name": "root"}],
    }));
    let oil = KnownTenant::new(fixtures::tenant("oil").owner("alice").into(), &mut Cache::default());
    let groups = fixtures::groups(&["devs"]);
    ask(Requester::new(User { name, groups: &groups }, &settings, &oil))
}

pub(super) fn validate_pod(rules: &CompiledRules, pod: &Pod) -> Outcome {
    as_alice(|requester| admission::validate(rules, &create(requester, POD, pod.into())))
}

pub(super) fn validate_service(rules: &CompiledRules, service: &Service) -> Outcome {
    as_alice(|requester| admission::validate(rules, &create(requester, SERVICE, service.into())))
}

pub(super) fn validate_json(rules: &CompiledRules, kind: ObjectType<'_>, object: &Value) -> Outcome {
    let metadata = metadata(object);
    as_alice(|requester| admission::validate(rules, &create(requester, kind, other(&metadata, object))))
}

pub(super) fn mutate_json(rules: &CompiledRules, kind: ObjectType<'_>, object: &Value) -> Edits {
    let metadata = metadata(object);
    as_alice(|requester| admission::mutate(rules, &create(requester, kind, other(&metadata, object))))
}

pub(super) fn metadata(object: &Value) -> ObjectMeta {
    serde_json::from_value(object.get("metadata").cloned().unwrap_or_else(|| json!({}))).unwrap()
}

pub(super) fn other<'a>(metadata: &'a ObjectMeta, object: &'a Value) -> Object<'a> {
    Object {
        metadata,
        content: Content::Other(object),
    }
}

pub(super) fn create<'a>(requester: Requester<'a>, kind: ObjectType<'a>, object: Object<'a>) -> Request<'a> {
    Request {
        requester,
        kind,
        subresource: "",
        object,
        old: None,
    }
}

/// Field and message of a refusal.
pub(super) fn refusal(outcome: &Outcome) -> Option<(&str, &str)> {
    let denial = outcome.refusal.as_ref()?;
    Some((&denial.field, &denial.message))
}

/// The field of a refusal.
pub(super) fn refused(outcome: &Outcome) -> Option<&str> {
    outcome.refusal.as_ref().map(|denial| denial.field.as_str())
}
