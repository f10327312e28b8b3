//! The rules of a tenant, asked about one request.
//!
//! Pods, Services, Ingresses and Gateways are asked about in their own hooks, so that each costs one call; every other kind
//! comes here, where a tenant has rules about it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::Value;
use serde_json::value::RawValue;
use tenancy::denial::{Decision, Denial};
use tenancy::index::KnownTenant;
use tenancy::rules::admission::{self, Content, Edits, Object, ObjectType};
use tenancy::rules::audience::Requester;
use tenancy::rules::reach;
use tenancy::subject::User;

use crate::decide::{Input, Question, Records, Verdict};
use crate::facts::Facts;
use crate::namespace_rules::Rules;
use crate::patch;
use crate::review::{Operation, Request};
use crate::view::View;

/// Who asks for what, and where.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    request: &'a Request,
    view: &'a View,
    rules: Option<&'a Rules>,
    tenant: &'a KnownTenant,
    records: &'a Records,
}

impl<'a> Asked<'a> {
    /// About an object in a namespace of the tenant.
    pub(super) fn of<K>(input: &Input<'a, K>, tenant: &'a KnownTenant) -> Self {
        Self::new(input.request, input.view, input.facts, input.records, tenant)
    }

    /// The same, asked without the object.
    fn about(question: &'a Question<'_>, tenant: &'a KnownTenant) -> Self {
        Self::new(
            question.request,
            question.view,
            question.facts,
            question.records,
            tenant,
        )
    }

    fn new(
        request: &'a Request,
        view: &'a View,
        facts: &'a Facts,
        records: &'a Records,
        tenant: &'a KnownTenant,
    ) -> Self {
        let rules = facts.rules.as_ref();
        Self {
            request,
            view,
            rules,
            tenant,
            records,
        }
    }

    /// Refuses what the rules refuse, and keeps what they record.
    pub(super) fn validate(&self, object: Object<'_>, old: Option<Object<'_>>) -> Result<(), Denial> {
        self.judge(&self.request(object, old))
    }

    /// The same for labels and annotations that a pod gets in addition to its own.
    fn validate_brought(&self, metadata: &ObjectMeta) -> Result<(), Denial> {
        let none = ObjectMeta::default();
        let of_pod = |metadata| Object {
            metadata,
            content: Content::Other(&Value::Null),
        };
        self.judge(&admission::Request {
            kind: ObjectType {
                group: "",
                version: "v1",
                kind: "Pod",
            },
            subresource: admission::BINDING,
            old: Some(of_pod(&none)),
            ..self.request(of_pod(metadata), None)
        })
    }

    fn judge(&self, request: &admission::Request<'_>) -> Result<(), Denial> {
        let Some(rules) = self.rules else { return Ok(()) };
        let rules = rules.as_ref().map_err(Clone::clone)?;
        let mut outcome = admission::validate(rules, request);
        let refusal = outcome.refusal.take();
        if !outcome.audits.is_empty() {
            self.records.add(self.tenant, outcome);
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The same for a kind that only its JSON is looked at of.
    pub(super) fn validate_json(&self) -> Result<(), Denial> {
        if self.rules.is_none() {
            return Ok(());
        }
        let Some(new) = Document::read(self.request.object.as_deref())? else {
            return Ok(());
        };
        let old = Document::read(self.request.old_object.as_deref())?;
        self.validate(new.object(), old.as_ref().map(Document::object))
    }

    /// What the rules set. What is wrong with them is said by the validating hook.
    pub(super) fn settle(&self, object: Object<'_>, old: Option<Object<'_>>) -> Edits {
        match self.rules {
            Some(Ok(rules)) => admission::mutate(rules, &self.request(object, old)),
            _ => Edits::default(),
        }
    }

    fn request<'b>(&'b self, object: Object<'b>, old: Option<Object<'b>>) -> admission::Request<'b> {
        let kind = &self.request.kind;
        admission::Request {
            requester: Requester::new(User::of(&self.request.user_info), &self.view.settings, self.tenant),
            kind: ObjectType {
                group: &kind.group,
                version: &kind.version,
                kind: &kind.kind,
            },
            subresource: self.request.sub_resource.as_deref().unwrap_or_default(),
            object,
            old: old.filter(|_| self.request.operation == Operation::Update),
        }
    }
}

/// An object of any kind.
struct Document {
    metadata: ObjectMeta,
    content: Value,
}

impl Document {
    fn read(raw: Option<&RawValue>) -> Result<Option<Self>, Denial> {
        let read = |json: &str| -> Result<Self, serde_json::Error> {
            let content: Value = serde_json::from_str(json)?;
            let metadata = content.get("metadata").cloned();
            let metadata = metadata.map(serde_json::from_value).transpose()?.unwrap_or_default();
            Ok(Self { metadata, content })
        };
        match raw.map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(json) => read(json).map(Some).map_err(|error| {
                Denial::new("", "Unreadable", format!("failed to read the object: {error}")).with_code(400)
            }),
        }
    }

    fn object(&self) -> Object<'_> {
        Object {
            metadata: &self.metadata,
            content: Content::Other(&self.content),
        }
    }
}

/// Refuses what the rules do not allow, of any kind that has no hook of its own.
pub fn validate(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    let tenant = match view.known.tenant_of(request.namespace.as_deref().unwrap_or_default()) {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return pass(),
        Err(denial) => return Verdict::Deny(denial),
    };
    match Asked::about(question, &tenant).validate_json() {
        Ok(()) => pass(),
        Err(denial) => Verdict::Deny(denial),
    }
}

/// Refuses labels and annotations that a Binding must not bring to its pod.
pub fn validate_binding(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    let tenant = match view.known.tenant_of(request.namespace.as_deref().unwrap_or_default()) {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return pass(),
        Err(denial) => return Verdict::Deny(denial),
    };
    let binding = match Document::read(request.object.as_deref()) {
        Ok(Some(binding)) => binding,
        Ok(None) => return pass(),
        Err(denial) => return Verdict::Deny(denial),
    };
    match Asked::about(question, &tenant).validate_brought(&binding.metadata) {
        Ok(()) => pass(),
        Err(denial) => Verdict::Deny(denial),
    }
}

/// Sets the labels and annotations that the rules want, on any kind but Pods.
pub fn mutate(question: &Question<'_>) -> Verdict {
    let (request, view) = (question.request, question.view);
    let tenant = view.known.tenant_of(request.namespace.as_deref().unwrap_or_default());
    // What is wrong with the namespace, if it is that, is said by the validating rule.
    let (Ok(Some(tenant)), Some(_)) = (tenant, &question.facts.rules) else {
        return pass();
    };
    match settled(&Asked::about(question, &tenant)) {
        Ok(verdict) => verdict,
        Err(denial) => Verdict::Deny(denial),
    }
}

fn settled(asked: &Asked<'_>) -> Result<Verdict, Denial> {
    let Some(new) = Document::read(asked.request.object.as_deref())? else {
        return Ok(pass());
    };
    let old = Document::read(asked.request.old_object.as_deref())?;
    let edits = asked.settle(new.object(), old.as_ref().map(Document::object));
    if edits.is_empty() {
        return Ok(pass());
    }
    let before = new.metadata;
    let mut after = before.clone();
    edits.apply_to(&mut after);
    let of = |metadata: &ObjectMeta| serde_json::json!({ "metadata": metadata });
    let patch = patch::between(asked.request.object.as_deref(), Some(&of(&before)), &of(&after));
    let patch = patch.map_err(|error| {
        Denial::new("", "Unreadable", format!("failed to change the object: {error}")).with_code(400)
    })?;
    Ok(Verdict::Patch {
        patch,
        warnings: Vec::new(),
    })
}

fn pass() -> Verdict {
    Verdict::Allow { warnings: Vec::new() }
}

/// The tenant of a Namespace itself and the rules that hold in it, where these may be about Namespaces and the request
/// changes what they are about.
fn rules_about(input: &Input<'_, Namespace>, namespace: &Namespace) -> Option<(Arc<KnownTenant>, Rules)> {
    let is_changed = input
        .old
        .is_none_or(|old| old.labels() != namespace.labels() || old.annotations() != namespace.annotations());
    let name = tenancy::linkage::label(namespace).filter(|_| is_changed)?;
    let tenant = input.view.known.tenant(name)?;
    if !reach::names_namespaces(&tenant.object) {
        return None;
    }
    let rules = input.view.rules().compile(&tenant, namespace);
    Some((tenant, rules))
}

/// Sets the labels and annotations that the rules want on a Namespace, after what the decision before did to it.
pub(super) fn settle_namespace(input: &Input<'_, Namespace>, decision: Decision<Namespace>) -> Decision<Namespace> {
    let (mut namespace, warnings) = match (decision, input.object) {
        (Decision::Change(changed, warnings), _) => (changed, warnings),
        (Decision::Allow, Some(object)) => (Box::new(object.clone()), Vec::new()),
        (Decision::Warn(warnings), Some(object)) => (Box::new(object.clone()), warnings),
        (decision, _) => return decision,
    };
    if let Some((tenant, rules)) = rules_about(input, &namespace) {
        let asked = asked_about(input, &tenant, &rules);
        let edits = asked.settle(object(&namespace), input.old.map(object));
        edits.apply_to(&mut namespace.metadata);
    }
    if input.object == Some(&*namespace) {
        return if warnings.is_empty() {
            Decision::Allow
        } else {
            Decision::Warn(warnings)
        };
    }
    Decision::Change(namespace, warnings)
}

/// Refuses what the rules do not allow of a Namespace.
pub(super) fn validate_namespace(input: &Input<'_, Namespace>) -> Result<(), Denial> {
    let Some(namespace) = input.object else { return Ok(()) };
    let Some((tenant, rules)) = rules_about(input, namespace) else {
        return Ok(());
    };
    asked_about(input, &tenant, &rules).validate(object(namespace), input.old.map(object))
}

fn asked_about<'a>(input: &Input<'a, Namespace>, tenant: &'a KnownTenant, rules: &'a Rules) -> Asked<'a> {
    Asked {
        rules: Some(rules),
        ..Asked::of(input, tenant)
    }
}

/// Rules look at the metadata of a Namespace and at nothing else of it.
fn object(namespace: &Namespace) -> Object<'_> {
    Object {
        metadata: &namespace.metadata,
        content: Content::Other(&Value::Null),
    }
}
