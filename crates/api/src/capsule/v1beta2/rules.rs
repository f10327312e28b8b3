//! Rules of a tenant, which may hold in some of its namespaces only.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ScopeSelector,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RoleBindingSpec;
use crate::schema;

/// A rule of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantRule {
    /// The namespaces of the tenant in which the rule holds. All, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Roles that the rule gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<RulePermissions>,
    /// Whose requests `enforce` looks at. Everybody's, if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Audience>,
    /// Budgets that the selected namespaces share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub quota: Vec<RuleQuota>,
    /// What is allowed, denied or recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Enforcement>,
}

/// What a rule says in a namespace: a rule of a tenant without what only the tenant needs to know.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleBody {
    /// Whose requests `enforce` looks at. Everybody's, if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Audience>,
    /// Budgets that the namespaces share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub quota: Vec<RuleQuota>,
    /// What is allowed, denied or recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Enforcement>,
}

/// Roles that a rule gives.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulePermissions {
    /// RoleBindings to keep in the selected namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<RoleBindingSpec>,
    /// Roles for ServiceAccounts that are labelled for promotion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promotions: Vec<PromotionRule>,
}

/// Roles for ServiceAccounts that are labelled for promotion.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionRule {
    /// The ClusterRoles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_roles: Vec<String>,
    /// Which of the labelled ServiceAccounts. All, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A subject whose requests a rule looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audience {
    /// What the name stands for.
    pub kind: AudienceKind,
    /// The name; with kind `Custom` one of `CapsuleUser`, `Administrator`, `TenantOwner`, `Controller`.
    pub name: String,
}

/// What the name of an audience stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AudienceKind {
    #[default]
    User,
    Group,
    ServiceAccount,
    Custom,
}

/// A budget that namespaces share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleQuota {
    /// Name of the budget, unique in the tenant.
    #[schemars(extend("minLength" = 1, "maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// What may be used, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hard: BTreeMap<String, Quantity>,
    /// Counts only objects to which all of these apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub scopes: Vec<String>,
    /// Counts only objects that this selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_selector: Option<ScopeSelector>,
}

/// What is allowed, denied or recorded.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// What happens to a request that matches.
    #[serde(default)]
    pub action: RuleAction,
    /// Hostnames of Ingresses and routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressRule>,
    /// Labels and annotations of objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataRule>,
    /// Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceRule>,
    /// Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadRule>,
}

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Passes; what matches nothing is refused.
    Allow,
    /// Is refused.
    #[default]
    Deny,
    /// Passes, and is recorded as an Event.
    Audit,
}

/// Hostnames of Ingresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// The kinds of object that are looked at. Goes together with `hostnames`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub types: Vec<IngressKind>,
    /// The hostnames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub hostnames: Vec<ExprMatch>,
}

/// Kinds of object that carry hostnames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum IngressKind {
    Ingress,
    Route,
    ListenerSet,
    HTTPRoute,
    Gateway,
    TLSRoute,
    GRPCRoute,
}

/// Values, given exactly or by a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = at_least_one_match()))]
pub struct ExprMatch {
    /// The values, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub exact: Vec<String>,
    /// A regular expression; a value matches if any part of it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("minLength" = 1))]
    pub exp: String,
    /// Turns the answer round.
    #[serde(default)]
    pub negate: bool,
}

fn at_least_one_match() -> serde_json::Value {
    schema::rules(&[(
        "has(self.exact) || has(self.exp)",
        "at least one of exact or exp must be set",
    )])
}

/// Labels and annotations that objects must, may or may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("has(self.labels) || has(self.annotations)", "at least one of labels or annotations must be set"),
])))]
pub struct MetadataRule {
    /// Kinds of object, `*` standing for any part of a name. A Namespace has to be named in full.
    #[schemars(extend("minItems" = 1), inner(length(min = 1)))]
    pub kinds: Vec<String>,
    /// API groups of the kinds: `group`, `group/version`, `v1`, or with `*`. The core group, if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Labels by key, which may be a pattern.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, MetadataValueRule>,
    /// Annotations by key, which may be a pattern.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, MetadataValueRule>,
}

/// What the value of a label or annotation must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetadataValueRule {
    /// Whether the key has to be there.
    #[serde(default)]
    pub required: bool,
    /// The values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ExprMatch>,
    /// Set where the key is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Always set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<String>,
}

/// Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRule {
    /// Types of Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<ServiceType>,
    /// Services of type LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancers: Option<LoadBalancerRule>,
    /// Services of type ExternalName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_names: Option<ExternalNameRule>,
    /// Ports on nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ports: Option<NodePortRule>,
}

/// Types of Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ServiceType {
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Addresses of load balancers and of those who may reach them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerRule {
    /// Addresses and ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

/// Names that Services of type ExternalName stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalNameRule {
    /// The names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<ExprMatch>,
}

/// Ports on nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePortRule {
    /// Ranges of ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    /// The first port.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub from: i32,
    /// The last port.
    #[schemars(extend("minimum" = 1, "maximum" = 65535))]
    pub to: i32,
}

/// Pods.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRule {
    /// The parts of a pod that `registries` and `resources` look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<WorkloadTarget>,
    /// Image references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistryMatch>,
    /// Schedulers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedulers: Vec<ExprMatch>,
    /// Quality of service classes: `Guaranteed`, `Burstable`, `BestEffort`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qos_classes: Vec<String>,
    /// Requests and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRules>,
}

/// Parts of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WorkloadTarget {
    #[serde(rename = "pod")]
    Pod,
    #[serde(rename = "pod/initcontainers")]
    InitContainers,
    #[serde(rename = "pod/ephemeralcontainers")]
    EphemeralContainers,
    #[serde(rename = "pod/containers")]
    Containers,
    #[serde(rename = "pod/volumes")]
    Volumes,
}

/// Image references, and how they may be pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = at_least_one_match()))]
pub struct RegistryMatch {
    /// The references, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1))]
    pub exact: Vec<String>,
    /// A regular expression; a reference matches if any part of it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("minLength" = 1))]
    pub exp: String,
    /// Turns the answer round.
    #[serde(default)]
    pub negate: bool,
    /// Pull policies that are allowed with these images: `Always`, `Never`, `IfNotPresent`. Any, if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<String>,
}

/// Requests and limits of pods, by resource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("has(self.requests) || has(self.limits)", "at least one of requests or limits must be set"),
])))]
pub struct ResourceRules {
    /// Requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1))]
    pub requests: BTreeMap<String, RequestRule>,
    /// Limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1))]
    pub limits: BTreeMap<String, LimitRule>,
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    ("has(self.value) == (self.policy == 'Default')", "value must be set only for the Default policy"),
])))]
pub struct RequestRule {
    /// What is done.
    pub policy: RequestPolicy,
    /// The amount, with `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RequestPolicy {
    /// Nothing.
    #[default]
    Preserve,
    /// Set where it is absent.
    Default,
    /// Removed.
    Remove,
}

/// What becomes of a limit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[(
    "has(self.value) == (self.policy == 'Default' || self.policy == 'Ratio')",
    "value must be set only for the Default and Ratio policies",
)])))]
pub struct LimitRule {
    /// What is done.
    pub policy: LimitPolicy,
    /// The amount with `Default`, the factor with `Ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
}

/// What is done with a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitPolicy {
    /// Nothing.
    #[default]
    Preserve,
    /// Set where it is absent.
    Default,
    /// Removed.
    Remove,
    /// Made equal to the request.
    MatchRequest,
    /// At most so many times the request.
    Ratio,
}
