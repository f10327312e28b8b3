//! Events about what was refused, completed, or passed and is to be known, beside the object that it was about.
//!
//! An answer never waits for one: they go through a queue, and what does not fit into it, or cannot be written, is
//! dropped; so is what one tenant causes beyond its [pace](crate::event_pace). The author has the same sentence in the
//! answer already; the Event is for whoever looks later, for example at a ReplicaSet whose pods do not come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use api::capsule::names;
use jiff::Timestamp;
use json_patch::Patch;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::Value;
use tenancy::audit;
use tenancy::denial::Denial;
use tenancy::rules::Outcome;
use tokio::sync::mpsc;

use crate::audit::Passed;
use crate::event_pace::Pace;
use crate::review::{Operation, Request};

/// How many wait to be written.
const QUEUE: usize = 1024;
/// The API server's limit on `note`, in bytes.
const NOTE_BYTES: usize = 1024;
/// Where Events about objects in no namespace are, unless the configuration says otherwise.
const DEFAULT_NAMESPACE: &str = "default";
/// Namespaces in which the API server takes Events that name no namespace.
const HOMES: [&str; 2] = [DEFAULT_NAMESPACE, "kube-system"];
const CONTROLLER: &str = "controller.projectcapsule.dev";
const INSTANCE: &str = "capsule-admission";
const DENIED: &str = "ValidationDenied";
const PASSED: &str = "ValidationAudited";
const AUDITED: &str = "RuleAudit";
const AUDIT: &str = "NamespaceRuleAudit";
const MUTATED: &str = "Mutated";
const ASSIGNED: &str = "TenantAssigned";
const DEFAULTED: &str = "TenantDefaulted";
const REQUEST_ANNOTATION: &str = "audit.projectcapsule.dev/request-uid";
const USER_ANNOTATION: &str = "audit.projectcapsule.dev/username";

/// The namespace of Events about objects in no namespace, as it is configured now.
pub(crate) type Home = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Where Events are put. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Events {
    /// `None`: nobody writes them.
    queue: Option<mpsc::Sender<Event>>,
    home: Option<Home>,
    pace: Arc<Mutex<Pace>>,
}

impl Events {
    /// Begins to write. Must be called inside a tokio runtime; ends with the last clone.
    pub(crate) fn start(client: Client, home: Home) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Event>(QUEUE);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                let namespace = event.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
                let events = Api::<Event>::namespaced(client.clone(), namespace);
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    // The namespace may be on its way out, or not there at all.
                    tracing::debug!(
                        namespace,
                        error = runtime::report::chain(&error),
                        "an Event was not written"
                    );
                }
            }
        });
        Self {
            queue: Some(sender),
            home: Some(home),
            pace: Arc::default(),
        }
    }

    /// Tells that a request was refused, unless it was a dry run.
    pub(crate) fn refused(&self, request: &Request, denial: &Denial, tenant: Option<&str>) {
        self.tell(request, tenant, &News::refusal(denial));
    }

    /// Tells that a request passed although a limit refuses it, unless it was a dry run.
    pub(crate) fn passed(&self, request: &Request, passed: &Passed) {
        let tenant = passed.tenant.metadata.name.as_deref();
        let whose = pace_of_audits(tenant.unwrap_or_default());
        self.tell_at_pace(&whose, request, tenant, &News::passed(passed));
    }

    /// Tells what rules recorded of a request, unless it was a dry run.
    pub(crate) fn recorded(&self, request: &Request, outcome: &Outcome, tenant: &str) {
        let whose = pace_of_audits(tenant);
        for audit in &outcome.audits {
            self.tell_at_pace(&whose, request, Some(tenant), &News::record(&audit.message));
        }
        if outcome.more_audits > 0 {
            let more = format!(
                "namespace rules recorded {} more values of this request",
                outcome.more_audits
            );
            self.tell_at_pace(&whose, request, Some(tenant), &News::record(&more));
        }
    }

    /// Tells what a request was completed with, if that is for people to know, unless it was a dry run. A tenant's completions
    /// have a pace of their own: they never take the place of a refusal.
    pub(crate) fn completed(&self, path: &str, request: &Request, patch: &Patch, tenant: Option<&str>) {
        let assigned = || assigned(request, patch);
        let (news, tenant) = match path {
            "/namespaces/mutating" if request.operation == Operation::Create => {
                let Some(tenant) = assigned() else { return };
                (
                    News::completion(ASSIGNED, format!("assigned to Tenant {tenant}")),
                    Some(tenant),
                )
            }
            "/defaults" if !patch.0.is_empty() => {
                let places: Vec<String> = patch.0.iter().map(|step| step.path().to_string()).collect();
                let note = format!("set what the Tenant has as defaults: {}", places.join(", "));
                (News::completion(DEFAULTED, note), tenant.map(str::to_owned))
            }
            _ => return,
        };
        let whose = format!("completions of {}", tenant.as_deref().unwrap_or_default());
        self.tell_at_pace(&whose, request, tenant.as_deref(), &news);
    }

    fn tell(&self, request: &Request, tenant: Option<&str>, news: &News<'_>) {
        let whose = tenant.or(request.namespace.as_deref()).unwrap_or_default();
        self.tell_at_pace(whose, request, tenant, news);
    }

    fn tell_at_pace(&self, whose: &str, request: &Request, tenant: Option<&str>, news: &News<'_>) {
        let Some(queue) = &self.queue else { return };
        if request.dry_run == Some(true) {
            return;
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if !pace.admits(whose, Instant::now()) {
            return;
        }
        drop(pace);
        let home = self.home.as_ref().and_then(|home| home());
        let home = home
            .as_deref()
            .filter(|home| !home.is_empty())
            .unwrap_or(DEFAULT_NAMESPACE);
        if queue
            .try_send(event(request, news, tenant, home, Timestamp::now()))
            .is_err()
        {
            tracing::debug!("an Event was dropped, because too many wait to be written");
        }
    }
}

/// Beside that of refusals, whose place audits never take.
fn pace_of_audits(tenant: &str) -> String {
    format!("audits of {tenant}")
}

/// What an Event says.
struct News<'a> {
    kind: &'static str,
    action: &'static str,
    reason: &'static str,
    note: Cow<'a, str>,
}

impl<'a> News<'a> {
    fn refusal(denial: &'a Denial) -> Self {
        Self {
            kind: "Warning",
            action: DENIED,
            reason: denial.reason,
            note: Cow::Borrowed(&denial.message),
        }
    }

    fn passed(passed: &Passed) -> Self {
        let note = format!(
            "{} is audited and not enforced, by the annotation {} of the Tenant: {}",
            passed.limit.field(),
            audit::ANNOTATION,
            passed.denial.message
        );
        Self {
            kind: "Normal",
            action: PASSED,
            reason: passed.denial.reason,
            note: Cow::Owned(note),
        }
    }

    fn record(note: &'a str) -> Self {
        Self {
            kind: "Normal",
            action: AUDITED,
            reason: AUDIT,
            note: Cow::Borrowed(note),
        }
    }

    fn completion(reason: &'static str, note: String) -> Self {
        Self {
            kind: "Normal",
            action: MUTATED,
            reason,
            note: Cow::Owned(note),
        }
    }
}

/// The tenant that a new namespace has with this patch.
fn assigned(request: &Request, patch: &Patch) -> Option<String> {
    let mut object: Value = serde_json::from_str(request.object.as_deref()?.get()).ok()?;
    json_patch::patch(&mut object, patch).ok()?;
    let tenant = object.get("metadata")?.get("labels")?.get(names::TENANT_LABEL)?;
    tenant.as_str().map(str::to_owned)
}

/// `home` is the namespace of Events about objects in no namespace.
fn event(request: &Request, news: &News<'_>, tenant: Option<&str>, home: &str, now: Timestamp) -> Event {
    let namespace = request.namespace.as_deref().filter(|namespace| {
        // A Namespace's request names itself; its Event is about an object in no namespace.
        !namespace.is_empty() && request.kind.kind != "Namespace"
    });
    let (group, version) = (&request.kind.group, &request.kind.version);
    let api_version = if group.is_empty() {
        version.clone()
    } else {
        format!("{group}/{version}")
    };
    let labels = tenant.map(|tenant| {
        let keys = [names::MANAGED_BY_TENANT, names::PROJECT_TENANT_LABEL];
        keys.map(|key| (key.to_owned(), tenant.to_owned())).into()
    });
    let user = request.user_info.username.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            generate_name: Some(prefix(request)),
            namespace: Some(namespace.unwrap_or(home).to_owned()),
            labels,
            annotations: Some(BTreeMap::from([
                (REQUEST_ANNOTATION.to_owned(), request.uid.clone()),
                (USER_ANNOTATION.to_owned(), user),
            ])),
            ..ObjectMeta::default()
        },
        action: Some(news.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(shortened(&news.note)),
        reason: Some(news.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version),
            kind: Some(request.kind.kind.clone()),
            name: Some(request.name.clone()),
            // Only two namespaces may have Events about what is in none.
            namespace: namespace
                .or(Some(home).filter(|home| !HOMES.contains(home)))
                .map(str::to_owned),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(INSTANCE.to_owned()),
        type_: Some(news.kind.to_owned()),
        ..Event::default()
    }
}

/// The object's name, as far as it can begin the name of an Event.
fn prefix(request: &Request) -> String {
    let name = if request.name.is_empty() {
        &request.kind.kind
    } else {
        &request.name
    };
    let fitting = name.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '-') => letter,
        _ => '-',
    });
    let fitting: String = fitting.skip_while(|letter| *letter == '-').take(200).collect();
    if fitting.is_empty() {
        "refused-".to_owned()
    } else {
        format!("{fitting}-")
    }
}

fn shortened(note: &str) -> String {
    let mut end = note.len().min(NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(kind: &str, namespace: Option<&str>, name: &str) -> Request {
        serde_json::from_value(json!({
            "uid": "7", "kind": {"group": "", "version": "v1", "kind": kind},
            "resource": {"group": "", "version": "v1", "resource": "x"}, "operation": "CREATE",
            "name": name, "namespace": namespace, "userInfo": {"username": "alice"}}))
        .unwrap()
    }

    #[test]
    fn an_event_says_what_was_refused_to_whom() {
        let denial = Denial::new("spec.priorityClassName", "ForbiddenPriorityClass", "no");
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let event = event(
            &request("Pod", Some("oil-web"), "web-1"),
            &News::refusal(&denial),
            Some("oil"),
            "default",
            now,
        );
        assert_eq!(
            serde_json::to_value(event).unwrap(),
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": {
                    "generateName": "web-1-", "namespace": "oil-web",
                    "labels": {"capsule.clastix.io/managed-by": "oil", "projectcapsule.dev/tenant": "oil"},
                    "annotations": {"audit.projectcapsule.dev/request-uid": "7", "audit.projectcapsule.dev/username": "alice"},
                },
                "action": "ValidationDenied", "reason": "ForbiddenPriorityClass", "note": "no", "type": "Warning",
                "eventTime": "2026-01-02T03:04:05.000000Z",
                "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "web-1", "namespace": "oil-web"},
                "reportingController": "controller.projectcapsule.dev", "reportingInstance": "capsule-admission",
            })
        );
    }

    #[test]
    fn an_audit_is_no_warning() {
        let recorded = News::record("seen");
        let event = event(
            &request("Pod", Some("oil-web"), "web-1"),
            &recorded,
            Some("oil"),
            "default",
            Timestamp::UNIX_EPOCH,
        );
        let said = [event.type_, event.action, event.reason, event.note].map(Option::unwrap_or_default);
        assert_eq!(said, ["Normal", "RuleAudit", "NamespaceRuleAudit", "seen"]);
    }

    #[test]
    fn events_about_objects_in_no_namespace_are_where_the_configuration_says() {
        let denial = Denial::new("", "CannotOwn", "no");
        for (home, regarding) in [
            ("default", None),
            ("kube-system", None),
            // The API server would refuse it otherwise.
            ("capsule-system", Some("capsule-system")),
        ] {
            let request = request("Namespace", Some("web"), "web");
            let event = event(&request, &News::refusal(&denial), None, home, Timestamp::UNIX_EPOCH);
            assert_eq!(event.metadata.namespace.as_deref(), Some(home));
            assert_eq!(event.regarding.unwrap().namespace.as_deref(), regarding);
        }
    }

    #[test]
    fn a_new_namespace_is_told_about_with_the_tenant_that_it_gets() {
        let patch: Patch = serde_json::from_value(json!([
            {"op": "add", "path": "/metadata/labels", "value": {"capsule.clastix.io/tenant": "oil"}}]))
        .unwrap();
        let mut request = request("Namespace", Some("web"), "web");
        assert_eq!(assigned(&request, &patch), None, "there is no object");
        let object = json!({"metadata": {"name": "web"}}).to_string();
        request.object = Some(serde_json::value::RawValue::from_string(object).unwrap());
        assert_eq!(assigned(&request, &patch).as_deref(), Some("oil"));
        assert_eq!(assigned(&request, &Patch(Vec::new())), None, "nobody's");
    }

    #[tokio::test]
    async fn of_completions_those_that_people_ask_about_are_told() {
        let (sender, mut told) = mpsc::channel(8);
        let events = Events {
            queue: Some(sender),
            ..Events::default()
        };
        let patch: Patch = serde_json::from_value(json!([
            {"op": "add", "path": "/spec/priorityClassName", "value": "low"}, {"op": "add", "path": "/spec/priority", "value": 1}]))
        .unwrap();
        let request = request("Pod", Some("oil-web"), "web-1");
        events.completed("/persistentvolumeclaims/mutating", &request, &patch, Some("oil"));
        events.completed("/defaults", &request, &Patch(Vec::new()), Some("oil"));
        events.completed("/defaults", &request, &patch, Some("oil"));
        let event: Event = told.try_recv().unwrap();
        assert!(told.try_recv().is_err(), "one is told");
        let said = [event.type_, event.action, event.reason, event.note].map(Option::unwrap_or_default);
        let note = "set what the Tenant has as defaults: /spec/priorityClassName, /spec/priority";
        assert_eq!(said, ["Normal", "Mutated", "TenantDefaulted", note]);
    }

    #[test]
    fn any_name_of_an_object_makes_a_name_of_an_event() {
        for (name, expected) in [
            ("web", "web-"),
            ("system:Admin", "system-admin-"),
            ("", "pod-"),
            ("::", "refused-"),
        ] {
            assert_eq!(prefix(&request("Pod", None, name)), expected);
        }
        assert_eq!(prefix(&request("Pod", None, &"a".repeat(253))).len(), 201);
        assert!(shortened(&"ä".repeat(600)).len() <= NOTE_BYTES);
    }
}
