//! Which requests the rules of a tenant are about, roughly: only these are asked about.
//!
//! A request costs a call of ours only where a rule may have something to say: namespaces carry a label for each sort of
//! call, kept as the other marks of a tenant's namespaces are ([`crate::metadata`]). What cannot be told for sure counts as
//! asked about.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{Enforcement, IngressKind, MetadataRule, Tenant};

use super::{body::TEMPLATE_MARK, matching::glob_matches};
use crate::selector::Selector;

/// On a namespace: rules look at objects besides those that are asked about for other reasons.
pub const OBJECT_VALIDATION_LABEL: &str = "cotenant.dev/object-validation";
/// On a namespace: rules set labels or annotations of objects.
pub const OBJECT_DEFAULTS_LABEL: &str = "cotenant.dev/object-defaults";

/// What the rules that hold in a namespace are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// They look at pods.
    pub pods: bool,
    /// They change pods.
    pub pod_defaults: bool,
    /// They look at objects other than pods, and other than by their kind's own hook.
    pub objects: bool,
    /// They change objects other than pods.
    pub object_defaults: bool,
}

/// What the rules of a tenant are about in a namespace with these labels.
pub fn in_namespace(tenant: &Tenant, labels: &BTreeMap<String, String>) -> Reach {
    let mut reach = Reach::default();
    for rule in &tenant.spec.rules {
        let Some(enforce) = &rule.enforce else { continue };
        let selector = rule.namespace_selector.as_ref().map(Selector::new);
        if selector.is_some_and(|selector| selector.is_ok_and(|selector| !selector.matches(labels))) {
            continue;
        }
        reach.add(enforce);
    }
    reach
}

/// Whether a tenant enforces anything by rules.
pub fn enforces(tenant: &Tenant) -> bool {
    tenant.spec.rules.iter().any(|rule| rule.enforce.is_some())
}

/// Whether rules of the tenant may be about Namespaces themselves.
pub fn names_namespaces(tenant: &Tenant) -> bool {
    let enforced = tenant.spec.rules.iter().filter_map(|rule| rule.enforce.as_ref());
    enforced
        .flat_map(|enforce| &enforce.metadata)
        .any(|policy| policy.kinds.iter().any(|kind| kind == "Namespace" || is_template(kind)))
}

impl Reach {
    fn add(&mut self, enforce: &Enforcement) {
        let workloads = enforce.workloads.as_ref();
        self.pods |= workloads.is_some();
        self.pod_defaults |= workloads.is_some_and(|workloads| workloads.resources.is_some());
        // Ingresses and Gateways are asked about in every namespace of a tenant.
        self.objects |= enforce.ingress.as_ref().is_some_and(|ingress| {
            let mut kinds = ingress.types.iter();
            kinds.any(|kind| !matches!(kind, IngressKind::Ingress | IngressKind::Gateway))
        });
        for policy in &enforce.metadata {
            let is_about_pods = policy
                .kinds
                .iter()
                .any(|kind| is_template(kind) || glob_matches(kind, "Pod"));
            // A rule about Namespaces is asked where Namespaces are.
            let is_about_others = policy.kinds.iter().any(|kind| kind != "Pod" && kind != "Namespace");
            self.pods |= is_about_pods;
            self.objects |= is_about_others;
            if sets_anything(policy) {
                self.pod_defaults |= is_about_pods;
                self.object_defaults |= is_about_others;
            }
        }
    }
}

fn sets_anything(policy: &MetadataRule) -> bool {
    let mut values = policy.labels.values().chain(policy.annotations.values());
    values.any(|value| value.default.is_some() || value.managed.is_some())
}

fn is_template(text: &str) -> bool {
    text.contains(TEMPLATE_MARK)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn reach(rules: Value, labels: &[(&str, &str)]) -> Reach {
        let oil = tenant("oil").with(json!({"rules": rules})).build();
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        in_namespace(&oil, &labels.collect())
    }

    const NOTHING: Reach = Reach {
        pods: false,
        pod_defaults: false,
        objects: false,
        object_defaults: false,
    };

    #[rstest]
    #[case::nothing(json!({}), NOTHING)]
    #[case::images(json!({"workloads": {"registries": [{"exact": ["a"]}]}}), Reach { pods: true, ..NOTHING })]
    #[case::resources(
        json!({"workloads": {"resources": {"limits": {"cpu": {"policy": "Remove"}}}}}),
        Reach { pods: true, pod_defaults: true, ..NOTHING }
    )]
    #[case::services_have_their_hook(json!({"services": {"types": ["ClusterIP"]}}), NOTHING)]
    #[case::ingresses_have_theirs(json!({"ingress": {"types": ["Ingress", "Gateway"], "hostnames": [{"exact": ["a"]}]}}), NOTHING)]
    #[case::routes_have_none(
        json!({"ingress": {"types": ["Ingress", "HTTPRoute"], "hostnames": [{"exact": ["a"]}]}}),
        Reach { objects: true, ..NOTHING }
    )]
    #[case::labels_of_pods(
        json!({"metadata": [{"kinds": ["Pod"], "labels": {"a": {"required": true}}}]}),
        Reach { pods: true, ..NOTHING }
    )]
    #[case::labels_of_config_maps(
        json!({"metadata": [{"kinds": ["ConfigMap"], "labels": {"a": {"default": "b"}}}]}),
        Reach { objects: true, object_defaults: true, ..NOTHING }
    )]
    #[case::labels_of_everything(
        json!({"metadata": [{"kinds": ["*"], "annotations": {"a": {"managed": "b"}}}]}),
        Reach { pods: true, pod_defaults: true, objects: true, object_defaults: true }
    )]
    #[case::labels_of_what_a_template_says(
        json!({"metadata": [{"kinds": ["{{ .namespace.metadata.labels.kind }}"], "labels": {"a": {"required": true}}}]}),
        Reach { pods: true, objects: true, ..NOTHING }
    )]
    #[case::namespaces_are_asked_about_anyway(
        json!({"metadata": [{"kinds": ["Namespace"], "labels": {"a": {"managed": "b"}}}]}),
        NOTHING
    )]
    fn a_namespace_is_asked_about_what_its_rules_are_about(#[case] enforce: Value, #[case] expected: Reach) {
        assert_eq!(reach(json!([{"enforce": enforce}]), &[]), expected);
    }

    #[test]
    fn rules_reach_the_namespaces_that_they_select() {
        let rule = |selector: Value| json!([{"namespaceSelector": selector, "enforce": {"workloads": {"schedulers": [{"exact": ["a"]}]}}}]);
        let of_prod = rule(json!({"matchLabels": {"env": "prod"}}));
        assert!(reach(of_prod.clone(), &[("env", "prod")]).pods);
        assert!(!reach(of_prod, &[("env", "test")]).pods);
        let unclear = rule(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}));
        assert!(reach(unclear, &[]).pods, "what cannot be evaluated is asked about");
    }

    #[test]
    fn namespaces_are_meant_only_in_full() {
        let names = |kind: &str| {
            let rule = json!({"enforce": {"metadata": [{"kinds": [kind], "labels": {"a": {"required": true}}}]}});
            names_namespaces(&tenant("oil").with(json!({"rules": [rule]})).build())
        };
        assert!(names("Namespace"));
        assert!(!names("*"));
    }
}
