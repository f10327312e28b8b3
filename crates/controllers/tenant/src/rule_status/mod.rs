//! RuleStatuses: what rules hold in a namespace, for people to read in it.
//!
//! Each namespace of a tenant that enforces anything by rules holds [`names::MANAGED_RULES`], which the tenant's reconcile keeps
//! like everything else that namespaces hold ([`managed`]). A tenant without such rules costs nothing: there the object is
//! missing. What the rules mean, normalised, is in the status, of this object and of those that people make themselves.
//!
//! Admission does not read them, it is answered from the Tenant: nothing that is written here gives or takes a right.
//!
//! Labels and annotations that rules manage are brought to what is in the namespace already ([`rollout`]), for the tenant's rules
//! only: a RuleStatus that somebody in the namespace wrote is no reason to write anything with our rights.

mod metrics;
mod rollout;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::capsule::names;
use api::capsule::v1beta2::{RuleStatus, RuleStatusSpec, RuleStatusStatus, Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::json;
use tenancy::rules::body::{self, Body};
use tenancy::rules::managed::{field_manager, left};
use tenancy::rules::{reach, render};
use tenancy::{metadata, pods, replicas};

use self::rollout::Rollout;
use self::status::Progress;
use crate::apply::Writer;
use crate::error::Error;
use crate::observe::{self, Written};
use crate::{CATCH_UP, Context};

const KIND: &str = "RuleStatus";

/// The rules of the tenant in a namespace, written out. `None` if it has none.
///
/// # Errors
/// One sentence, if nobody can say what they are.
pub(crate) fn managed(tenant: &Tenant, namespace: &Namespace) -> Result<Option<RuleStatus>, String> {
    if !reach::enforces(tenant) {
        return Ok(None);
    }
    let bodies = render::in_namespace(tenant, namespace).map_err(|unrendered| unrendered.to_string())?;
    Ok(Some(object(tenant, namespace, &bodies)))
}

/// What a tenant has that has no rules any more, or that another operator kept before: an object that says nothing. It stays,
/// because what rules once managed is taken off objects by its status.
pub(crate) fn empty(tenant: &Tenant, namespace: &Namespace) -> RuleStatus {
    object(tenant, namespace, &[])
}

fn object(tenant: &Tenant, namespace: &Namespace, bodies: &[Body]) -> RuleStatus {
    let spec = RuleStatusSpec(bodies.iter().map(Into::into).collect());
    let mut object = RuleStatus::new(names::MANAGED_RULES, spec);
    let labels = replicas::labels(tenant, names::OBJECT_NAME_LABEL, names::MANAGED_RULES);
    object.metadata.namespace.clone_from(&namespace.metadata.name);
    object.metadata.labels = Some(labels);
    object.metadata.owner_references = Some(vec![replicas::controller_reference(tenant)]);
    object
}

/// While the tenant, its namespace and the object do not say the same yet.
const RECHECK: Duration = Duration::from_secs(1);
/// Failures that the condition tells.
const MOST_TOLD: usize = 5;

/// Keeps the status of every RuleStatus, and what rules manage on objects.
pub(crate) struct RuleStatuses {
    objects: Shared<RuleStatus>,
    tenants: Shared<Tenant>,
    namespaces: Shared<Namespace>,
    writer: Writer,
    written: Written,
}

/// Namespace and name.
type Place = (String, String);

/// Whose rules an object holds.
enum Origin {
    /// Somebody wrote it: nothing follows from it.
    Own,
    /// It is the tenant's, and says what the tenant says.
    Tenant(Arc<Tenant>, Arc<Namespace>),
    /// It is the tenant's, and another change is to come.
    Outdated,
}

impl RuleStatuses {
    pub(crate) fn start(context: &Context, writer: &Writer) -> Self {
        let api = Api::all(context.client.clone());
        let objects = Shared::start(api, watcher::Config::default(), trim, &context.shutdown);
        context.registry.register_collector(Box::new(metrics::Conditions {
            objects: objects.store(),
        }));
        Self {
            objects,
            tenants: context.tenants.clone(),
            namespaces: context.namespaces.clone(),
            writer: writer.clone(),
            written: Written::default(),
        }
    }

    pub(crate) async fn run(self, controller: Controller, shutdown: Shutdown) {
        let queue: Queue<Place> = Queue::new();
        if !self.objects.ready().await {
            return;
        }
        self.objects.trigger(&queue, |change| {
            let object = change.object();
            [(object.namespace().unwrap_or_default(), object.name_any())]
        });
        let this = Arc::new(self);
        let reconcile = move |(namespace, name): Place| {
            let this = this.clone();
            async move { this.reconcile(&namespace, &name).await }
        };
        controller.run(queue, shutdown, reconcile).await;
    }

    async fn reconcile(&self, namespace: &str, name: &str) -> Result<Action, Error> {
        let Some(object) = self.objects.get(Some(namespace), name) else {
            return Ok(Action::AwaitChange);
        };
        if !self.written.is_current(&*object) {
            return Ok(Action::RequeueAfter(CATCH_UP));
        }
        let done = status::of(&object, Progress::Done, Timestamp::now());
        if object.status.as_ref() == Some(&done) {
            return Ok(Action::AwaitChange);
        }
        match self.origin(&object) {
            Origin::Own => {}
            Origin::Outdated => return Ok(Action::RequeueAfter(RECHECK)),
            Origin::Tenant(tenant, namespace) => {
                if !self.carry_out(&object, &tenant, &namespace).await? {
                    return Ok(Action::AwaitChange);
                }
            }
        }
        self.publish(&object, &done).await?;
        Ok(Action::AwaitChange)
    }

    fn origin(&self, object: &RuleStatus) -> Origin {
        if object.name_any() != names::MANAGED_RULES || object.metadata.deletion_timestamp.is_some() {
            return Origin::Own;
        }
        let Some(namespace) = self.namespaces.get(None, &object.namespace().unwrap_or_default()) else {
            return Origin::Own;
        };
        let tenant = observe::owner(&namespace).and_then(|(name, uid)| {
            let tenant = self.tenants.get(None, name)?;
            (tenant.metadata.uid.as_deref() == Some(uid)).then_some(tenant)
        });
        let Some(tenant) = tenant else { return Origin::Own };
        let Ok(wanted) = managed(&tenant, &namespace) else {
            return Origin::Outdated;
        };
        let wanted = wanted.unwrap_or_else(|| empty(&tenant, &namespace));
        if body::of_status(&wanted.spec.0) == body::of_status(&object.spec.0) && is_marked(&tenant, &namespace) {
            Origin::Tenant(tenant, namespace)
        } else {
            Origin::Outdated
        }
    }

    /// Brings what the rules manage to what is there. Whether that is done; it is not if the object is not there any more.
    async fn carry_out(&self, object: &RuleStatus, tenant: &Tenant, namespace: &Namespace) -> Result<bool, Error> {
        let before = object.status.iter().flat_map(|status| &status.rules);
        let before = body::of_status(&before.cloned().collect::<Vec<_>>());
        let now = body::of_status(&object.spec.0);
        let uid = object.uid().unwrap_or_default();
        let rollout = Rollout {
            writer: &self.writer,
            tenant,
            namespace,
            manager: &field_manager(&namespace.name_any(), &object.name_any(), &uid),
            before: &before,
            now: &now,
        };
        if !rollout.is_needed() {
            return Ok(true);
        }
        // Before anything is written it is on record what may be on objects from then on.
        let left = left(&before, &now);
        let under_way = status::of(object, Progress::UnderWay { left: &left }, Timestamp::now());
        let is_told = object
            .status
            .as_ref()
            .is_some_and(|status| status.rules == under_way.rules);
        if !is_told && !self.publish(object, &under_way).await? {
            return Ok(false);
        }
        let Err(mut failures) = rollout.run().await else {
            return Ok(true);
        };
        let told: Vec<String> = failures.iter().take(MOST_TOLD).map(Error::told).collect();
        let failed = Progress::Failed {
            left: &left,
            message: &told.join("; "),
        };
        let status = status::of(object, failed, Timestamp::now());
        if object.status.as_ref() != Some(&status) {
            self.publish(object, &status).await?;
        }
        Err(failures.swap_remove(0))
    }

    /// Whether the object was there to take the status.
    async fn publish(&self, object: &RuleStatus, status: &RuleStatusStatus) -> Result<bool, Error> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": object.uid()}, "status": status,
        });
        let api: Api<RuleStatus> = Api::namespaced(self.writer.client().clone(), &namespace);
        match self.writer.publish(&api, &name, &body).await {
            Ok(answer) => {
                self.written.note(&answer);
                Ok(true)
            }
            // It went away meanwhile, or another one of its name is there: that is another change.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(false),
            Err(source) => {
                let name = format!("{namespace}/{name}");
                Err(Error::PublishStatus {
                    kind: KIND,
                    name,
                    source,
                })
            }
        }
    }
}

/// Drops what no decision reads. Every namespace has one of these.
fn trim(object: &mut RuleStatus) {
    object.metadata.labels = None;
    object.metadata.annotations = None;
    object.metadata.owner_references = None;
}

/// Whether admission is asked about what is made in the namespace: what is made before that is looked for afterwards.
fn is_marked(tenant: &Tenant, namespace: &Namespace) -> bool {
    let kept = metadata::managed(tenant, &namespace.name_any(), namespace.labels());
    let mut marks = [pods::DEFAULTS_LABEL, reach::OBJECT_DEFAULTS_LABEL].into_iter();
    marks.all(|mark| !kept.labels.contains_key(mark) || namespace.labels().contains_key(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managed_object_is_named_labelled_and_owned_as_the_peers_is() {
        let tenant: Tenant = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil", "uid": "u1"},
        "spec": {"rules": [
            {"quota": [{"name": "a", "hard": {"cpu": "1"}}]},
            {"namespaceSelector": {"matchLabels": {"env": "prod"}}, "enforce": {"action": "audit"}},
            {"audience": [{"kind": "Custom", "name": "TenantOwner"}], "enforce": {"action": "allow", "metadata": [
                {"kinds": ["Pod"], "labels": {"{{ .namespace.metadata.name }}/team": {"required": true}}}]}},
        ]}}))
        .unwrap();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "oil-web"}})).unwrap();
        let object = managed(&tenant, &namespace).unwrap();
        assert_eq!(
            serde_json::to_value(object).unwrap(),
            json!({
                "apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus",
                "metadata": {
                    "name": "capsule-managed-rules", "namespace": "oil-web",
                    "labels": {
                        "capsule.clastix.io/managed-by": "oil",
                        "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": "oil",
                        "projectcapsule.dev/name": "capsule-managed-rules"},
                    "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil",
                        "uid": "u1", "controller": true, "blockOwnerDeletion": true}],
                },
                "spec": [{"audience": [{"kind": "Custom", "name": "TenantOwner"}], "enforce": {"action": "allow", "metadata": [
                    {"kinds": ["Pod"], "apiGroups": ["v1"], "labels": {"oil-web/team": {"required": true}}}]}}],
            })
        );
    }
}
