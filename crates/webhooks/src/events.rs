//! Events about what was refused, completed, or passed and is to be known, beside the object that it was about.
//!
//! An answer never waits for one: they go through a queue, and what does not fit into it, or cannot be written, is
//! dropped; so is what one tenant causes beyond its [pace](crate::event_pace). While few wait they are written
//! [slowly](LEISURE), so that many requests at once do not share the API server with what is told about them. The author has the same sentence in the
//! answer already; the Event is for whoever looks later, for example at a ReplicaSet whose pods do not come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names;
use jiff::Timestamp;
use json_patch::Patch;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use runtime::events::{NOTE_BYTES, shortened};
use serde_json::Value;
use tenancy::audit;
use tenancy::denial::Denial;
use tenancy::index;
use tenancy::rules::Outcome;
use tokio::sync::mpsc;

use crate::audit::{Passed, tenant_of_label};
use crate::event_pace::{Cause, Pace};
use crate::review::{NAME_BYTES, Operation, Request};

/// How many wait to be written.
const QUEUE: usize = 1024;
/// Between two that are written, while no more than half as many wait.
const LEISURE: Duration = Duration::from_millis(50);
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
    paces: Arc<Paces>,
}

/// What comes of refusals takes the place of nothing else, and nothing else takes theirs.
#[derive(Default)]
struct Paces {
    refusals: Mutex<Pace>,
    audits: Mutex<Pace>,
    completions: Mutex<Pace>,
}

impl Events {
    /// Begins to write. Must be called inside a tokio runtime; ends with the last clone.
    pub(crate) fn start(client: Client, home: Home) -> Self {
        let (sender, receiver) = mpsc::channel::<Event>(QUEUE);
        let write = move |event: Event| {
            let client = client.clone();
            async move {
                let namespace = event.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
                let events = Api::<Event>::namespaced(client, namespace);
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    // The namespace may be on its way out, or not there at all.
                    tracing::debug!(
                        namespace,
                        error = runtime::report::chain(&error),
                        "an Event was not written"
                    );
                }
            }
        };
        tokio::spawn(leisurely(receiver, write));
        Self {
            queue: Some(sender),
            home: Some(home),
            paces: Arc::default(),
        }
    }

    /// Tells that a request was refused, unless it was a dry run.
    pub(crate) fn refused(&self, request: &Request, denial: &Denial, known: &index::View) {
        let (tenant, cause) = cause(request, known);
        let news = News::refusal(denial);
        self.tell(&self.paces.refusals, cause, request, tenant.as_deref(), &news);
    }

    /// Tells that a request passed although a limit refuses it, unless it was a dry run.
    pub(crate) fn passed(&self, request: &Request, passed: &Passed) {
        let tenant = passed.tenant.metadata.name.as_deref();
        let cause = Cause::Tenant(tenant.unwrap_or_default().to_owned());
        self.tell(&self.paces.audits, cause, request, tenant, &News::passed(passed));
    }

    /// Tells what rules recorded of a request, unless it was a dry run.
    pub(crate) fn recorded(&self, request: &Request, outcome: &Outcome, tenant: &str) {
        let record = |note: &str| {
            let cause = Cause::Tenant(tenant.to_owned());
            self.tell(&self.paces.audits, cause, request, Some(tenant), &News::record(note));
        };
        for audit in &outcome.audits {
            record(&audit.message);
        }
        if outcome.more_audits > 0 {
            let more = format!(
                "namespace rules recorded {} more values of this request",
                outcome.more_audits
            );
            record(&more);
        }
    }

    /// Tells what a request was completed with, if that is for people to know, unless it was a dry run.
    pub(crate) fn completed(&self, path: &str, request: &Request, patch: &Patch, known: &index::View) {
        let (news, tenant, cause) = match path {
            "/namespaces/mutating" if request.operation == Operation::Create => {
                // Who may write the label may write anything there.
                let Some(tenant) = assigned(request, patch).filter(|tenant| known.tenant(tenant).is_some()) else {
                    return;
                };
                let news = News::completion(ASSIGNED, format!("assigned to Tenant {tenant}"));
                (news, Some(tenant.clone()), Cause::Tenant(tenant))
            }
            "/defaults" if !patch.0.is_empty() => {
                let places: Vec<String> = patch.0.iter().map(|step| step.path().to_string()).collect();
                let note = format!("set what the Tenant has as defaults: {}", places.join(", "));
                let (tenant, cause) = cause(request, known);
                (News::completion(DEFAULTED, note), tenant, cause)
            }
            _ => return,
        };
        self.tell(&self.paces.completions, cause, request, tenant.as_deref(), &news);
    }

    fn tell(&self, pace: &Mutex<Pace>, cause: Cause, request: &Request, tenant: Option<&str>, news: &News<'_>) {
        let Some(queue) = &self.queue else { return };
        if request.dry_run == Some(true) {
            return;
        }
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        if !pace.admits(cause, Instant::now()) {
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

/// Hands on one after the other; between two it rests, unless so many wait that some could be dropped.
async fn leisurely<Written: Future<Output = ()>>(mut queue: mpsc::Receiver<Event>, write: impl Fn(Event) -> Written) {
    while let Some(event) = queue.recv().await {
        write(event).await;
        if queue.len() <= queue.max_capacity() / 2 {
            tokio::time::sleep(LEISURE).await;
        }
    }
}

/// The tenant in whose namespace this is, if it is in one, and at whose cost it is told.
fn cause(request: &Request, known: &index::View) -> (Option<String>, Cause) {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    if let Some(tenant) = known.tenant_of(namespace).ok().flatten() {
        let tenant = tenant.name.as_str().to_owned();
        return (Some(tenant.clone()), Cause::Tenant(tenant));
    }
    let cause = if request.is_about_namespace() {
        let tenant = tenant_of_label(request, known);
        Cause::NamespaceFor(tenant.map(|tenant| tenant.name.as_str().to_owned()))
    } else {
        Cause::Namespace(namespace.to_owned())
    };
    (None, cause)
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
            "{} is audited and not enforced, by the annotation {} of the Tenant {:?}: {}",
            passed.limit.field(),
            audit::ANNOTATION,
            passed.tenant.metadata.name.as_deref().unwrap_or_default(),
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
        !namespace.is_empty() && !request.is_about_namespace()
    });
    let labels = tenant.map(|tenant| {
        let keys = [names::MANAGED_BY_TENANT, names::PROJECT_TENANT_LABEL];
        keys.map(|key| (key.to_owned(), tenant.to_owned())).into()
    });
    let user = shortened(request.user_info.username.as_deref().unwrap_or_default(), NOTE_BYTES);
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
        note: Some(shortened(&news.note, NOTE_BYTES)),
        reason: Some(news.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(request.kind.api_version()),
            kind: Some(request.kind.kind.clone()),
            name: Some(shortened(&request.name, NAME_BYTES)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Source;
    use api::capsule::v1beta2::Tenant;
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
        let known = known();
        events.completed("/persistentvolumeclaims/mutating", &request, &patch, &known);
        events.completed("/defaults", &request, &Patch(Vec::new()), &known);
        events.completed("/defaults", &request, &patch, &known);
        let event: Event = told.try_recv().unwrap();
        assert!(told.try_recv().is_err(), "one is told");
        let said = [event.type_, event.action, event.reason, event.note].map(Option::unwrap_or_default);
        let note = "set what the Tenant has as defaults: /spec/priorityClassName, /spec/priority";
        assert_eq!(said, ["Normal", "Mutated", "TenantDefaulted", note]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_written_at_leisure_until_too_many_wait_and_all_of_them() {
        let (sender, receiver) = mpsc::channel(8);
        for number in 0..7 {
            let mut event = Event::default();
            event.metadata.name = Some(number.to_string());
            sender.try_send(event).unwrap();
        }
        drop(sender);
        let (began, written) = (tokio::time::Instant::now(), Mutex::new(Vec::new()));
        leisurely(receiver, async |event| {
            let name = event.metadata.name.unwrap();
            written.lock().unwrap().push((name, began.elapsed().as_millis()));
        })
        .await;
        let written = written.into_inner().unwrap();
        let expected = [0, 0, 0, 50, 100, 150, 200];
        let expected: Vec<_> = (0..).map(|number: u32| number.to_string()).zip(expected).collect();
        assert_eq!(written, expected);
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
    }

    #[test]
    fn an_event_is_small_whatever_its_author_wrote() {
        let long = "ä".repeat(1 << 20);
        let mut request = request("Role", Some("oil-web"), &long);
        request.user_info.username = Some(long.clone());
        let denial = Denial::new("", "CannotOwn", long);
        let event = event(
            &request,
            &News::refusal(&denial),
            None,
            "default",
            Timestamp::UNIX_EPOCH,
        );
        assert!(event.note.as_deref().is_some_and(|note| note.ends_with('…')));
        assert!(serde_json::to_vec(&event).unwrap().len() < 4096);
    }

    /// Tenants oil and gas, and the namespace oil-web.
    fn known() -> index::View {
        let source = Source::empty();
        for name in ["oil", "gas"] {
            let tenant = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
                "metadata": {"name": name, "uid": name}, "spec": {}});
            let tenant: Tenant = serde_json::from_value(tenant).unwrap();
            source.index().put_tenant(Arc::new(tenant));
        }
        let namespace = json!({"metadata": {
            "name": "oil-web", "uid": "1", "resourceVersion": "1", "labels": {"capsule.clastix.io/tenant": "oil"},
            "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "oil"}]}});
        source
            .index()
            .put_namespace(&serde_json::from_value(namespace).unwrap());
        Arc::new(source).view().unwrap().known
    }

    fn new_namespace(name: &str, label: &str) -> Request {
        let object = json!({"metadata": {"name": name, "labels": {"capsule.clastix.io/tenant": label}}}).to_string();
        let mut request = request("Namespace", Some(name), name);
        request.object = Some(serde_json::value::RawValue::from_string(object).unwrap());
        request
    }

    #[test]
    fn nobody_gets_a_pace_by_a_name_of_their_own_choice() {
        let known = known();
        let of = |request: &Request| cause(request, &known);
        let oil = || Some("oil".to_owned());
        assert_eq!(
            of(&request("Pod", Some("oil-web"), "web-1")),
            (oil(), Cause::Tenant("oil".to_owned()))
        );
        assert_eq!(
            of(&request("Namespace", Some("oil-web"), "oil-web")),
            (oil(), Cause::Tenant("oil".to_owned()))
        );
        // What somebody says of a new namespace costs the tenant nothing of what is told of its own.
        assert_eq!(of(&new_namespace("a", "oil")), (None, Cause::NamespaceFor(oil())));
        assert_eq!(of(&new_namespace("b", "nobody")), (None, Cause::NamespaceFor(None)));
        assert_eq!(
            of(&request("Namespace", Some("c"), "c")),
            (None, Cause::NamespaceFor(None))
        );
        let free = request("Pod", Some("oil"), "web-1");
        assert_eq!(of(&free), (None, Cause::Namespace("oil".to_owned())));
    }

    #[tokio::test]
    async fn refused_namespaces_of_ever_new_names_are_told_at_one_pace() {
        let (sender, mut told) = mpsc::channel(1024);
        let events = Events {
            queue: Some(sender),
            ..Events::default()
        };
        let (known, denial) = (known(), Denial::new("", "CannotOwn", "no"));
        for number in 0..200 {
            let name = format!("new-{number}");
            events.refused(&new_namespace(&name, &name), &denial, &known);
        }
        assert_eq!(std::iter::from_fn(|| told.try_recv().ok()).count(), 25);
        events.refused(&request("Pod", Some("oil-web"), "web-1"), &denial, &known);
        assert!(told.try_recv().is_ok(), "a tenant has its own");
    }

    #[tokio::test]
    async fn refusals_audits_and_completions_take_no_place_of_each_other() {
        let (sender, mut told) = mpsc::channel(1024);
        let events = Events {
            queue: Some(sender),
            ..Events::default()
        };
        let (known, denial) = (known(), Denial::new("", "CannotOwn", "no"));
        let patch: Patch = serde_json::from_value(json!([{"op": "add", "path": "/spec/a", "value": 1}])).unwrap();
        let pod = request("Pod", Some("oil-web"), "web-1");
        let passed = Passed {
            tenant: known.tenant("oil").unwrap().object.clone(),
            limit: audit::Limit::StorageClasses,
            denial: denial.clone(),
        };
        let mut count = || std::iter::from_fn(|| told.try_recv().ok()).count();
        for _ in 0..100 {
            events.passed(&pod, &passed);
        }
        assert_eq!(count(), 25);
        for _ in 0..100 {
            events.completed("/defaults", &pod, &patch, &known);
        }
        assert_eq!(count(), 25);
        for _ in 0..100 {
            events.refused(&pod, &denial, &known);
        }
        assert_eq!(count(), 25);
    }

    #[tokio::test]
    async fn a_namespace_that_names_no_tenant_that_there_is_is_assigned_to_none() {
        let (sender, mut told) = mpsc::channel(8);
        let events = Events {
            queue: Some(sender),
            ..Events::default()
        };
        let path = "/namespaces/mutating";
        events.completed(path, &new_namespace("a", "nobody"), &Patch(Vec::new()), &known());
        assert!(told.try_recv().is_err());
        events.completed(path, &new_namespace("b", "oil"), &Patch(Vec::new()), &known());
        assert!(told.try_recv().is_ok());
    }
}
