//! The webhook configurations that follow from the rule table. Pure; [`crate::keeper`] carries them out.
//!
//! What is left out matters as much as what is in, because a hook that fails closed and cannot be reached stops what
//! it covers:
//! - Rules for namespaced objects select the tenant label, so kube-system, our own namespace and every namespace of an
//!   administrator are never covered: nodes, network plugins and this program itself start without us.
//! - The rules that could meet the cluster's own writers carry [`Condition::NotTheClusterItself`].
//! - The rules for Namespace objects let all-powerful administrators through as long as no tenant is concerned
//!   ([`Condition::TenantMatter`]), so that a broken installation can always be repaired by hand.
//!
//! Each configuration is replaced as a whole when it differs. Server-side apply would merge the list of hooks by name,
//! and hooks of a predecessor that carries the same object name would stay behind without anybody to answer them.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};

use std::collections::BTreeMap;

use api::capsule::definition;

use crate::rule::{Component, Condition, Failure, Phase, Requirement, Rule, SideEffects, Target};

/// Users that a cluster cannot do without. A tenant can be none of them: their names are reserved by Kubernetes.
const ORGANS: [&str; 3] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
];
/// Service accounts of the cluster's own controllers.
const ORGANS_PREFIX: &str = "system:serviceaccount:kube-system:";
const NODES: &str = "system:nodes";
/// Groups that RBAC cannot refuse anything to, by Kubernetes' and by kubeadm's convention.
const ALL_POWERFUL: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];

/// The label that marks what we made, so that configurations of an earlier name are found and removed.
pub const CREATED_BY: (&str, &str) = ("projectcapsule.dev/created-by", "controller");
/// A request in another version of the same kind is converted and asked about: a rule that can be avoided by writing
/// an older version guards nothing.
const MATCH_POLICY: &str = "Equivalent";
/// The half of the product that a configuration belongs to.
pub const COMPONENT_LABEL: &str = "cotenant.dev/component";
/// Long enough for a busy machine, short enough that a stuck replica is a delay and not an outage.
const TIMEOUT_SECONDS: i32 = 10;

/// How API servers reach us for one kind of hooks of one component, and what their configuration object looks like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// Name of the configuration object.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub endpoint: Endpoint,
    /// Authorities to trust, PEM.
    pub bundle: String,
    /// What the configuration ends with.
    pub owner: Option<OwnerReference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `https://host:port/prefix`
    Url(String),
    Service {
        name: String,
        namespace: String,
        port: i32,
        prefix: String,
    },
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Url(String::new())
    }
}

impl Endpoint {
    fn client_config(&self, path: &str, bundle: &str) -> WebhookClientConfig {
        let ca_bundle = Some(ByteString(bundle.as_bytes().to_vec()));
        match self {
            Self::Url(url) => WebhookClientConfig {
                url: Some(format!("{}{path}", url.trim_end_matches('/'))),
                ca_bundle,
                service: None,
            },
            Self::Service {
                name,
                namespace,
                port,
                prefix,
            } => WebhookClientConfig {
                service: Some(ServiceReference {
                    name: name.clone(),
                    namespace: namespace.clone(),
                    path: Some(format!("{}{path}", prefix.trim_end_matches('/'))),
                    port: Some(*port),
                }),
                ca_bundle,
                url: None,
            },
        }
    }
}

/// Who converts Tenants: whoever answers at this place, as hooks would be asked there.
pub fn conversion(placement: &Placement) -> apiextensions::CustomResourceConversion {
    let config = placement
        .endpoint
        .client_config(definition::CONVERSION_PATH, &placement.bundle);
    definition::conversion(apiextensions::WebhookClientConfig {
        ca_bundle: config.ca_bundle,
        service: config.service.map(|service| apiextensions::ServiceReference {
            name: service.name,
            namespace: service.namespace,
            path: service.path,
            port: service.port,
        }),
        url: config.url,
    })
}

/// The configuration of a component's mutating rules.
pub fn mutating(
    rules: &[Rule],
    component: Component,
    ourselves: &str,
    placement: &Placement,
) -> MutatingWebhookConfiguration {
    let webhooks = of(rules, component, Phase::Mutating)
        .map(|rule| MutatingWebhook {
            admission_review_versions: review_versions(),
            client_config: placement.endpoint.client_config(rule.path, &placement.bundle),
            failure_policy: Some(failure_policy(rule).to_owned()),
            match_conditions: match_conditions(rule, ourselves),
            match_policy: Some(MATCH_POLICY.to_owned()),
            name: rule.name.to_owned(),
            namespace_selector: Some(selector(rule.namespaces)),
            object_selector: Some(selector(rule.objects)),
            reinvocation_policy: Some("Never".to_owned()),
            rules: Some(rule.targets.iter().map(operations).collect()),
            side_effects: side_effects(rule).to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
        })
        .collect();
    MutatingWebhookConfiguration {
        metadata: metadata(component, placement),
        webhooks: Some(webhooks),
    }
}

/// The configuration of a component's validating rules.
pub fn validating(
    rules: &[Rule],
    component: Component,
    ourselves: &str,
    placement: &Placement,
) -> ValidatingWebhookConfiguration {
    let webhooks = of(rules, component, Phase::Validating)
        .map(|rule| validating_hook(rule, ourselves, placement))
        .collect();
    ValidatingWebhookConfiguration {
        metadata: metadata(component, placement),
        webhooks: Some(webhooks),
    }
}

/// One validating rule.
pub(crate) fn validating_hook(rule: &Rule, ourselves: &str, placement: &Placement) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: review_versions(),
        client_config: placement.endpoint.client_config(rule.path, &placement.bundle),
        failure_policy: Some(failure_policy(rule).to_owned()),
        match_conditions: match_conditions(rule, ourselves),
        match_policy: Some(MATCH_POLICY.to_owned()),
        name: rule.name.to_owned(),
        namespace_selector: Some(selector(rule.namespaces)),
        object_selector: Some(selector(rule.objects)),
        rules: Some(rule.targets.iter().map(operations).collect()),
        side_effects: side_effects(rule).to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

/// The rules of one configuration, sorted by name as API servers call them.
fn of(rules: &[Rule], component: Component, phase: Phase) -> impl Iterator<Item = &Rule> {
    let mut chosen: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.component == component && rule.phase == phase)
        .collect();
    chosen.sort_by_key(|rule| rule.name);
    chosen.into_iter()
}

fn metadata(component: Component, placement: &Placement) -> ObjectMeta {
    let mut labels = placement.labels.clone();
    labels.insert(COMPONENT_LABEL.to_owned(), component.as_str().to_owned());
    labels.insert(CREATED_BY.0.to_owned(), CREATED_BY.1.to_owned());
    ObjectMeta {
        name: Some(placement.name.clone()),
        labels: Some(labels),
        annotations: (!placement.annotations.is_empty()).then(|| placement.annotations.clone()),
        owner_references: placement.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn review_versions() -> Vec<String> {
    vec!["v1".to_owned(), "v1beta1".to_owned()]
}

fn failure_policy(rule: &Rule) -> &'static str {
    match rule.failure {
        Failure::Closed => "Fail",
        Failure::Open { .. } => "Ignore",
    }
}

fn side_effects(rule: &Rule) -> &'static str {
    match rule.side_effects {
        SideEffects::None => "None",
        SideEffects::NoneOnDryRun => "NoneOnDryRun",
    }
}

fn operations(target: &Target) -> RuleWithOperations {
    let owned = |list: &[&str]| Some(list.iter().map(|&item| item.to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(target.groups),
        api_versions: owned(target.versions),
        operations: Some(
            target
                .operations
                .iter()
                .map(|operation| operation.as_str().to_owned())
                .collect(),
        ),
        resources: owned(target.resources),
        scope: Some(target.scope.as_str().to_owned()),
    }
}

pub(crate) fn selector(requirements: &[Requirement]) -> LabelSelector {
    let expressions: Vec<_> = requirements
        .iter()
        .map(|requirement| match requirement {
            Requirement::Exists(key) => LabelSelectorRequirement {
                key: (*key).to_owned(),
                operator: "Exists".to_owned(),
                values: None,
            },
            Requirement::In(key, values) => LabelSelectorRequirement {
                key: (*key).to_owned(),
                operator: "In".to_owned(),
                values: Some(values.iter().map(|&value| value.to_owned()).collect()),
            },
        })
        .collect();
    LabelSelector {
        match_expressions: (!expressions.is_empty()).then_some(expressions),
        match_labels: None,
    }
}

fn match_conditions(rule: &Rule, ourselves: &str) -> Option<Vec<MatchCondition>> {
    let conditions: Vec<MatchCondition> = rule
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::NotTheClusterItself => MatchCondition {
                name: "not-the-cluster-itself".to_owned(),
                expression: not_the_cluster_itself(ourselves),
            },
            Condition::NotOurselves => MatchCondition {
                name: "not-the-operator".to_owned(),
                expression: format!("request.userInfo.username != {}", cel_string(ourselves)),
            },
            Condition::TenantMatter => MatchCondition {
                name: "tenant-matter".to_owned(),
                expression: tenant_matter(),
            },
            Condition::Expression { name, expression } => MatchCondition {
                name: (*name).to_owned(),
                expression: (*expression).to_owned(),
            },
        })
        .collect();
    (!conditions.is_empty()).then_some(conditions)
}

/// CEL: the caller is neither a part of the cluster nor this program.
pub(crate) fn not_the_cluster_itself(ourselves: &str) -> String {
    let users: Vec<&str> = ORGANS.into_iter().chain([ourselves]).collect();
    format!(
        "!(request.userInfo.username in {}) && !request.userInfo.username.startsWith({}) && !({} in request.userInfo.groups)",
        cel_list(&users),
        cel_string(ORGANS_PREFIX),
        cel_string(NODES),
    )
}

/// CEL: some tenant is concerned, or the caller is one whom RBAC could refuse.
fn tenant_matter() -> String {
    let powerful: Vec<String> = ALL_POWERFUL
        .iter()
        .map(|group| format!("{} in request.userInfo.groups", cel_string(group)))
        .collect();
    format!(
        "!({}) || {} || {}",
        powerful.join(" || "),
        belongs_to_a_tenant("object"),
        belongs_to_a_tenant("oldObject")
    )
}

/// CEL: the namespace carries a tenant's label or an owner reference to one.
pub(crate) fn belongs_to_a_tenant(variable: &str) -> String {
    format!(
        "({variable} != null && ((has({variable}.metadata.labels) && \"{TENANT_LABEL}\" in {variable}.metadata.labels) || \
         (has({variable}.metadata.ownerReferences) && {variable}.metadata.ownerReferences.exists(r, {IS_TENANT}))))"
    )
}

pub(crate) const TENANT_LABEL: &str = "capsule.clastix.io/tenant";
/// CEL over an owner reference `r`.
pub(crate) const IS_TENANT: &str = r#"r.kind == "Tenant" && r.apiVersion.startsWith("capsule.clastix.io/")"#;

/// A CEL string literal. Names of users come from objects that people write, so nothing is left unescaped.
pub(crate) fn cel_string(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 2);
    literal.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => {
                literal.push('\\');
                literal.push(character);
            }
            ' '..='~' => literal.push(character),
            other if u32::from(other) <= 0xffff => literal.extend(format!("\\u{:04x}", u32::from(other)).chars()),
            other => literal.extend(format!("\\U{:08x}", u32::from(other)).chars()),
        }
    }
    literal.push('"');
    literal
}

pub(crate) fn cel_list<S: AsRef<str>>(values: &[S]) -> String {
    let literals: Vec<String> = values.iter().map(|value| cel_string(value.as_ref())).collect();
    format!("[{}]", literals.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Verdict;
    use crate::review::Operation;
    use crate::rule::Scope;
    use serde_json::json;

    const US: &str = "system:serviceaccount:cotenant-system:cotenant";

    fn row() -> Rule {
        Rule {
            name: "b.validating.projectcapsule.dev",
            path: "/b",
            phase: Phase::Validating,
            component: Component::NamespaceTenants,
            targets: &[Target {
                groups: &["*"],
                versions: &["*"],
                resources: &["*/*"],
                operations: &[Operation::Create, Operation::Delete],
                scope: Scope::Namespaced,
            }],
            namespaces: &[Requirement::Exists("t"), Requirement::In("cordoned", &["true"])],
            objects: &[],
            conditions: &[
                Condition::NotTheClusterItself,
                Condition::Expression {
                    name: "x",
                    expression: "true",
                },
            ],
            wanted: |_| true,
            failure: Failure::Closed,
            side_effects: SideEffects::None,
            needs: &[],
            decide: |_| Verdict::Allow { warnings: Vec::new() },
        }
    }

    #[test]
    fn a_row_becomes_a_hook() {
        let rules = [
            row(),
            Rule {
                name: "a.validating.projectcapsule.dev",
                failure: Failure::Open { because: "a test" },
                ..row()
            },
            Rule {
                phase: Phase::Mutating,
                ..row()
            },
            Rule {
                component: Component::ControlPlanes,
                ..row()
            },
        ];
        let placement = Placement {
            name: "capsule-dynamic-webhook".to_owned(),
            endpoint: Endpoint::Service {
                name: "cotenant-webhook-service".to_owned(),
                namespace: "cotenant-system".to_owned(),
                port: 443,
                prefix: "/".to_owned(),
            },
            bundle: "PEM".to_owned(),
            ..Placement::default()
        };
        let made = validating(&rules, Component::NamespaceTenants, US, &placement);
        let made = serde_json::to_value(made).expect("JSON");
        assert_eq!(
            made["metadata"],
            json!({"name": "capsule-dynamic-webhook", "labels": {
                "projectcapsule.dev/created-by": "controller", "cotenant.dev/component": "namespace-tenants"}})
        );
        let names: Vec<_> = made["webhooks"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|hook| hook["name"].clone())
            .collect();
        assert_eq!(
            names,
            ["a.validating.projectcapsule.dev", "b.validating.projectcapsule.dev"]
        );
        assert_eq!(made["webhooks"][0]["failurePolicy"], "Ignore");
        assert_eq!(
            made["webhooks"][1],
            json!({
                "name": "b.validating.projectcapsule.dev",
                "admissionReviewVersions": ["v1", "v1beta1"],
                "clientConfig": {"caBundle": "UEVN", "service": {
                    "name": "cotenant-webhook-service", "namespace": "cotenant-system", "path": "/b", "port": 443}},
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "matchConditions": [
                    {"name": "not-the-cluster-itself", "expression":
                        "!(request.userInfo.username in [\"system:apiserver\", \"system:kube-controller-manager\", \
                         \"system:kube-scheduler\", \"system:serviceaccount:cotenant-system:cotenant\"]) && \
                         !request.userInfo.username.startsWith(\"system:serviceaccount:kube-system:\") && \
                         !(\"system:nodes\" in request.userInfo.groups)"},
                    {"name": "x", "expression": "true"}],
                "namespaceSelector": {"matchExpressions": [
                    {"key": "t", "operator": "Exists"}, {"key": "cordoned", "operator": "In", "values": ["true"]}]},
                "objectSelector": {},
                "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "DELETE"],
                    "resources": ["*/*"], "scope": "Namespaced"}],
                "sideEffects": "None",
                "timeoutSeconds": 10
            })
        );
    }

    #[test]
    fn an_endpoint_outside_the_cluster_is_called_by_url() {
        let placement = Placement {
            endpoint: Endpoint::Url("https://127.0.0.1:9443/hooks/".to_owned()),
            ..Placement::default()
        };
        let rules = [Rule {
            phase: Phase::Mutating,
            ..row()
        }];
        let made = mutating(&rules, Component::NamespaceTenants, US, &placement);
        let hook = &made.webhooks.expect("hooks")[0];
        assert_eq!(
            hook.client_config.url.as_deref(),
            Some("https://127.0.0.1:9443/hooks/b")
        );
        assert_eq!(hook.client_config.service, None);
        assert_eq!(hook.reinvocation_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn names_of_users_cannot_end_a_cel_literal() {
        assert_eq!(cel_string(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(cel_string("new\nline ä 🦀"), r#""new\u000aline \u00e4 \U0001f980""#);
        assert_eq!(cel_list(&["a", "b"]), r#"["a", "b"]"#);
    }
}
