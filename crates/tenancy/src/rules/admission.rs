//! The rules asked about one request: what is changed, and whether it passes.
//!
//! Order of a validation: labels and annotations; of a pod resources, scheduler, quality of service class, images; of a
//! Service its type, load balancers, external names, node ports; hostnames of Ingresses, routes and gateways. By a subresource
//! labels and annotations may change as well; all else that comes by one, and deletions, are not asked about.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{
    CompiledRules, Outcome,
    audience::Requester,
    compiled::Applicable,
    finding::Findings,
    hostnames, images,
    metadata::{self, Metadata},
    placement, resources, services,
};
use crate::denial::Denial;

/// The subresource of a pod that brings labels and annotations to those that it has.
pub const BINDING: &str = "binding";

/// Group, version and kind of an object. The core group is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectType<'a> {
    /// Such as `apps`.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Such as `Deployment`.
    pub kind: &'a str,
}

/// What an object holds besides its metadata.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Of a Pod.
    Pod(&'a Pod),
    /// Of a Service.
    Service(&'a Service),
    /// Of any other kind: the object as JSON. Its metadata may be missing here.
    Other(&'a Value),
}

/// An object of a request.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its metadata.
    pub metadata: &'a ObjectMeta,
    /// The rest.
    pub content: Content<'a>,
}

impl<'a> From<&'a Pod> for Object<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self {
            metadata: &pod.metadata,
            content: Content::Pod(pod),
        }
    }
}

impl<'a> From<&'a Service> for Object<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            metadata: &service.metadata,
            content: Content::Service(service),
        }
    }
}

impl Object<'_> {
    /// Whether labels and annotations are those of the other.
    fn has_metadata_of(&self, old: &Self) -> bool {
        let none = BTreeMap::new();
        let (new, old) = (metadata_of(self, &none), metadata_of(old, &none));
        new.labels == old.labels && new.annotations == old.annotations
    }

    /// Whether the spec is that of the other.
    fn has_spec_of(&self, old: &Self) -> bool {
        match (self.content, old.content) {
            (Content::Pod(new), Content::Pod(old)) => new.spec == old.spec,
            (Content::Service(new), Content::Service(old)) => new.spec == old.spec,
            (Content::Other(new), Content::Other(old)) => new.get("spec") == old.get("spec"),
            _ => false,
        }
    }
}

/// A request to create or update an object.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub requester: Requester<'a>,
    /// The type of the object.
    pub kind: ObjectType<'a>,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The object as it is to be.
    pub object: Object<'a>,
    /// The object as it is. `None` on create.
    pub old: Option<Object<'a>>,
}

impl Request<'_> {
    fn is_main(&self) -> bool {
        self.subresource.is_empty()
    }

    /// What is created by a subresource is not the object.
    fn changes_metadata(&self) -> bool {
        match self.old {
            Some(old) => !self.object.has_metadata_of(&old),
            None => self.is_main() || is_namespace(&self.kind),
        }
    }

    fn changes_spec(&self) -> bool {
        self.old.is_none_or(|old| !self.object.has_spec_of(&old))
    }
}

/// What is changed in an object before it is looked at. Empty if nothing is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// The spec of a new pod, as a whole.
    pub pod: Option<Box<PodSpec>>,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty() && self.pod.is_none()
    }

    /// Sets the labels and annotations. Gives back the spec of the pod, if that is to be set too.
    pub fn apply_to(self, metadata: &mut ObjectMeta) -> Option<Box<PodSpec>> {
        if !self.labels.is_empty() {
            metadata.labels.get_or_insert_default().extend(self.labels);
        }
        if !self.annotations.is_empty() {
            metadata.annotations.get_or_insert_default().extend(self.annotations);
        }
        self.pod
    }
}

/// What the rules change in the object of a request.
pub fn mutate(rules: &CompiledRules, request: &Request<'_>) -> Edits {
    let mut edits = Edits::default();
    if rules.is_empty() || !request.is_main() {
        return edits;
    }
    let rules = rules.looking_at(&request.requester);
    let none = BTreeMap::new();
    let metadata = metadata_of(&request.object, &none);
    if request.changes_metadata() && !is_kept_for_the_tenant(request, metadata.labels) {
        let settled = metadata::settle(&rules, &request.kind, metadata);
        edits.labels = settled.labels;
        edits.annotations = settled.annotations;
    }
    if let (None, Content::Pod(pod)) = (request.old, request.object.content)
        && let Some(spec) = &pod.spec
    {
        edits.pod = resources::settle(&rules, spec).map(Box::new);
    }
    edits
}

/// Whether the rules let a request pass, and what they record.
pub fn validate(rules: &CompiledRules, request: &Request<'_>) -> Outcome {
    if rules.is_empty() {
        return Outcome::default();
    }
    let mut findings = Findings::new(rules.mode());
    let result = judge(&mut findings, &rules.looking_at(&request.requester), request);
    findings.into_outcome(result)
}

/// A namespace is nobody's to keep for its tenant, whatever label its owner puts on it.
fn is_kept_for_the_tenant(request: &Request<'_>, labels: &BTreeMap<String, String>) -> bool {
    !is_namespace(&request.kind) && metadata::is_kept_object(labels, request.requester.keeps_objects())
}

fn is_namespace(kind: &ObjectType<'_>) -> bool {
    kind.kind == "Namespace" && kind.group.is_empty()
}

fn judge(findings: &mut Findings, rules: &Applicable<'_>, request: &Request<'_>) -> Result<(), Denial> {
    if request.changes_metadata() {
        let none = BTreeMap::new();
        let metadata = metadata_of(&request.object, &none);
        if !is_kept_for_the_tenant(request, metadata.labels) {
            if let Some(old) = request.old.filter(|_| !request.is_main()) {
                metadata::check_settled(findings, rules, &request.kind, metadata, metadata_of(&old, &none))?;
            }
            metadata::validate(findings, rules, &request.kind, metadata, request.subresource != BINDING)?;
        }
    }
    if !request.changes_spec() {
        return Ok(());
    }
    match request.object.content {
        Content::Pod(pod) => judge_pod(findings, rules, request.subresource, pod),
        Content::Service(service) if request.is_main() => services::validate(findings, rules, service),
        Content::Other(object) if request.is_main() => match hostnames::kind(&request.kind) {
            Some(kind) => hostnames::validate(findings, rules, kind, object),
            None => Ok(()),
        },
        Content::Service(_) | Content::Other(_) => Ok(()),
    }
}

/// A resize changes requests and limits like any other way, so it is held to the same.
fn judge_pod(findings: &mut Findings, rules: &Applicable<'_>, subresource: &str, pod: &Pod) -> Result<(), Denial> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if matches!(subresource, "" | "resize") {
        resources::validate(findings, rules, spec)?;
    }
    if matches!(subresource, "" | "ephemeralcontainers") {
        placement::scheduler(findings, rules, spec)?;
        placement::qos_class(findings, rules, pod)?;
        images::validate(findings, rules, spec)?;
    }
    Ok(())
}

fn metadata_of<'a>(object: &Object<'a>, none: &'a BTreeMap<String, String>) -> Metadata<'a> {
    Metadata {
        labels: object.metadata.labels.as_ref().unwrap_or(none),
        annotations: object.metadata.annotations.as_ref().unwrap_or(none),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixtures::{POD, SERVICE, as_alice, create, metadata, other, pod, refused, rules, service};
    use rstest::rstest;
    use serde_json::json;

    /// A rule of each sort that everything below breaks.
    fn all() -> CompiledRules {
        rules(json!([{"action": "allow",
            "metadata": [{"kinds": ["*", "Namespace"], "apiGroups": ["*"], "labels": {"env": {"required": true}}}],
            "ingress": {"types": ["Ingress"], "hostnames": [{"exact": ["a"]}]},
            "services": {
                "types": ["LoadBalancer"],
                "loadBalancers": {"cidrs": ["10.0.0.0/8"]},
                "nodePorts": {"ports": [{"from": 1, "to": 2}]},
            },
            "workloads": {
                "resources": {"limits": {"cpu": {"policy": "Remove"}}},
                "schedulers": [{"exact": ["a"]}],
                "qosClasses": ["Guaranteed"],
                "registries": [{"exact": ["a"]}],
            },
        }]))
    }

    /// Field after field is put right: what is refused next is the order.
    #[test]
    fn a_pod_is_asked_about_in_order() {
        let rules = all();
        let mut object = pod(json!({
            "schedulerName": "b",
            "containers": [{"name": "m", "image": "b", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        }));
        let ask = |pod: &Pod| {
            let outcome = as_alice(|requester| validate(&rules, &create(requester, POD, pod.into())));
            refused(&outcome).map(str::to_owned)
        };
        assert_eq!(ask(&object).as_deref(), Some("metadata.labels[\"env\"]"));
        object.metadata.labels = Some([("env".to_owned(), "prod".to_owned())].into());
        assert_eq!(
            ask(&object).as_deref(),
            Some("spec.containers[0].resources.limits[\"cpu\"]")
        );
        let spec = object.spec.as_mut().unwrap();
        spec.containers[0].resources = None;
        assert_eq!(ask(&object).as_deref(), Some("spec.schedulerName"));
        object.spec.as_mut().unwrap().scheduler_name = Some("a".into());
        assert_eq!(ask(&object).as_deref(), Some("status.qosClass"));
        object.status.get_or_insert_default().qos_class = Some("Guaranteed".into());
        assert_eq!(ask(&object).as_deref(), Some("spec.containers[0].image"));
        object.spec.as_mut().unwrap().containers[0].image = Some("a".into());
        assert_eq!(ask(&object), None);
    }

    #[test]
    fn a_service_is_asked_about_in_order() {
        let rules = all();
        let ask = |spec: serde_json::Value| {
            let mut object = service(spec);
            object.metadata.labels = Some([("env".to_owned(), "prod".to_owned())].into());
            let outcome = as_alice(|requester| validate(&rules, &create(requester, SERVICE, (&object).into())));
            refused(&outcome).map(str::to_owned)
        };
        assert_eq!(ask(json!({"type": "NodePort"})).as_deref(), Some("spec.type"));
        let balancer = json!({"type": "LoadBalancer", "ports": [{"port": 1}]});
        assert_eq!(ask(balancer).as_deref(), Some("spec.loadBalancerSourceRanges"));
        let balancer = json!({"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1", "ports": [{"port": 1}]});
        assert_eq!(ask(balancer).as_deref(), Some("spec.ports[0].nodePort"));
    }

    #[rstest]
    #[case::the_object("", Some("metadata.labels[\"env\"]"))]
    #[case::a_debug_container("ephemeralcontainers", Some("spec.schedulerName"))]
    #[case::the_status("status", None)]
    #[case::a_binding("binding", None)]
    fn subresources_of_a_pod(#[case] subresource: &str, #[case] expected: Option<&str>) {
        let object = pod(json!({"schedulerName": "b"}));
        let outcome = as_alice(|requester| {
            let request = Request {
                subresource,
                ..create(requester, POD, (&object).into())
            };
            validate(&all(), &request)
        });
        assert_eq!(refused(&outcome), expected);
    }

    #[rstest]
    #[case::a_namespace_in_every_way("Namespace", "status", false)]
    #[case::a_service_only_itself("Service", "status", true)]
    fn subresources_of_others(#[case] kind: &str, #[case] subresource: &str, #[case] passes: bool) {
        let object = json!({"metadata": {}, "spec": {}});
        let metadata = metadata(&object);
        let outcome = as_alice(|requester| {
            let request = Request {
                subresource,
                ..create(requester, ObjectType { kind, ..POD }, other(&metadata, &object))
            };
            validate(&all(), &request)
        });
        assert_eq!(outcome.is_allowed(), passes);
    }

    #[rstest]
    #[case::a_value_that_is_not_allowed(json!({"env": "test", "team": "oil"}), Some("metadata.labels[\"env\"]"))]
    #[case::what_is_required_is_removed(json!({"team": "oil"}), Some("metadata.labels[\"env\"]"))]
    #[case::what_is_kept_is_changed(json!({"env": "prod", "team": "gas"}), Some("metadata.labels[\"team\"]"))]
    #[case::what_is_kept_is_removed(json!({"env": "prod"}), Some("metadata.labels[\"team\"]"))]
    #[case::another_value_that_is_allowed(json!({"env": "stage", "team": "oil"}), None)]
    #[case::nothing_but_the_status(json!({"env": "prod", "team": "oil"}), None)]
    fn labels_that_change_by_a_subresource(#[case] labels: Value, #[case] expected: Option<&str>) {
        let rules = rules(
            json!([{"action": "allow", "metadata": [{"kinds": ["Deployment"], "apiGroups": ["apps"], "labels": {
            "env": {"required": true, "values": [{"exact": ["prod", "stage"]}]}, "team": {"managed": "oil"}}}]}]),
        );
        let kind = ObjectType {
            group: "apps",
            version: "v1",
            kind: "Deployment",
        };
        let before = json!({"metadata": {"labels": {"env": "prod", "team": "oil"}}});
        let after = json!({"metadata": {"labels": labels}, "status": {"replicas": 1}});
        let (old, new) = (metadata(&before), metadata(&after));
        let outcome = as_alice(|requester| {
            let request = Request {
                subresource: "status",
                old: Some(other(&old, &before)),
                ..create(requester, kind, other(&new, &after))
            };
            validate(&rules, &request)
        });
        assert_eq!(refused(&outcome), expected);
    }

    #[rstest]
    #[case::what_the_operator_made("RoleBinding", true)]
    #[case::a_namespace_that_its_owner_labels_so("Namespace", false)]
    fn what_is_kept_for_the_tenant_is_not_the_tenants_to_label(#[case] kind: &str, #[case] passes: bool) {
        let object = json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": "controller"}}});
        let metadata = metadata(&object);
        let rules = rules(
            json!([{"action": "allow", "metadata": [{"kinds": ["RoleBinding", "Namespace"],
            "labels": {"env": {"required": true}, "team": {"managed": "oil"}}}]}]),
        );
        as_alice(|requester| {
            let request = create(requester, ObjectType { kind, ..POD }, other(&metadata, &object));
            assert_eq!(validate(&rules, &request).is_allowed(), passes);
            assert_eq!(mutate(&rules, &request).is_empty(), passes);
        });
    }

    #[test]
    fn an_update_is_asked_about_what_it_changes() {
        let rules = all();
        let old = pod(json!({"schedulerName": "b"}));
        let ask = |change: &dyn Fn(&mut Pod)| {
            let mut new = old.clone();
            change(&mut new);
            let outcome = as_alice(|requester| {
                let request = Request {
                    old: Some((&old).into()),
                    ..create(requester, POD, (&new).into())
                };
                validate(&rules, &request)
            });
            refused(&outcome).map(str::to_owned)
        };
        let released = ask(&|pod| pod.metadata.finalizers = Some(Vec::new()));
        assert_eq!(released, None);
        let empty = ask(&|pod| pod.metadata.labels = Some(BTreeMap::new()));
        assert_eq!(empty, None);
        let labelled = ask(&|pod| pod.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into()));
        assert_eq!(labelled.as_deref(), Some("metadata.labels[\"env\"]"));
        let placed = ask(&|pod| pod.spec.as_mut().unwrap().scheduler_name = Some("c".into()));
        assert_eq!(placed.as_deref(), Some("spec.schedulerName"));
    }

    #[test]
    fn no_rule_no_question() {
        let object = pod(json!({"schedulerName": "b"}));
        let rules = rules(json!([]));
        as_alice(|requester| {
            let request = create(requester, POD, (&object).into());
            assert_eq!(validate(&rules, &request), Outcome::default());
            assert!(mutate(&rules, &request).is_empty());
        });
    }

    #[test]
    fn edits_leave_the_other_labels() {
        let mut metadata = ObjectMeta {
            labels: Some([("team".to_owned(), "a".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let edits = Edits {
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..Edits::default()
        };
        assert_eq!(edits.apply_to(&mut metadata), None);
        let labels: Vec<_> = metadata.labels.unwrap().into_iter().collect();
        assert_eq!(
            labels,
            [
                ("env".to_owned(), "prod".to_owned()),
                ("team".to_owned(), "a".to_owned())
            ]
        );
        assert_eq!(metadata.annotations, None);
    }
}
