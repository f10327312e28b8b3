//! RuleStatuses: what rules hold in a namespace, for people to read in it.
//!
//! Each namespace of a tenant that enforces anything by rules holds [`names::MANAGED_RULES`], which the tenant's reconcile keeps
//! like everything else that namespaces hold ([`managed`]). A tenant without such rules costs nothing: there the object is
//! missing. What the rules mean, normalised, is in the status, of this object and of those that people make themselves.
//!
//! Admission does not read them, it is answered from the Tenant: nothing that is written here gives or takes a right.

mod metrics;
mod status;

use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{RuleStatus, RuleStatusSpec, Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::json;
use tenancy::replicas;
use tenancy::rules::{reach, render};

use crate::apply::Writer;
use crate::error::Error;
use crate::observe::Written;
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
    let spec = RuleStatusSpec(bodies.iter().map(Into::into).collect());
    let mut object = RuleStatus::new(names::MANAGED_RULES, spec);
    let labels = replicas::labels(tenant, names::OBJECT_NAME_LABEL, names::MANAGED_RULES);
    object.metadata.namespace.clone_from(&namespace.metadata.name);
    object.metadata.labels = Some(labels);
    object.metadata.owner_references = Some(vec![replicas::controller_reference(tenant)]);
    Ok(Some(object))
}

/// Keeps the status of every RuleStatus.
pub(crate) struct RuleStatuses {
    objects: Shared<RuleStatus>,
    writer: Writer,
    written: Written,
}

/// Namespace and name.
type Place = (String, String);

impl RuleStatuses {
    pub(crate) fn start(context: &Context, writer: &Writer) -> Self {
        let api = Api::all(context.client.clone());
        let objects = Shared::start(api, watcher::Config::default(), |_| {}, &context.shutdown);
        context.registry.register_collector(Box::new(metrics::Conditions {
            objects: objects.store(),
        }));
        Self {
            objects,
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
        let status = status::of(&object, Timestamp::now());
        if object.status.as_ref() == Some(&status) {
            return Ok(Action::AwaitChange);
        }
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": object.uid()}, "status": status,
        });
        match self.writer.publish_rules(namespace, name, &body).await {
            Ok(answer) => self.written.note(&answer),
            // It went away meanwhile, or another one of its name is there: that is another change.
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            Err(source) => {
                let name = format!("{namespace}/{name}");
                return Err(Error::PublishStatus {
                    kind: KIND,
                    name,
                    source,
                });
            }
        }
        Ok(Action::AwaitChange)
    }
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
