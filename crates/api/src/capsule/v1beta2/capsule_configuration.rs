use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MatchCondition, RuleWithOperations},
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector},
};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ForbiddenList, UserSpec, reference::NAMESPACE_PATTERN};
use crate::{capsule::names, schema};

/// How namespace tenants are served in this cluster. The object that the operator was started with is read, by default
/// `default`; changes act at once.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "CapsuleConfiguration",
    plural = "capsuleconfigurations",
    singular = "capsuleconfiguration",
    doc = "How namespace tenants are served in this cluster. The object that the operator was started with is read, by default `default`; changes act at once.",
    status = "CapsuleConfigurationStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the configuration is in force"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is wrong with it"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["cacheInvalidation", "enableTLSReconciler", "rbac"]))]
pub struct CapsuleConfigurationSpec {
    /// Tenant users: they create namespaces of tenants, and only they are held to what tenants may do with namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserSpec>,
    /// Deprecated: use `users`. Names of users who are tenant users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_names: Vec<String>,
    /// Deprecated: use `users`. Groups whose members are tenant users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_groups: Vec<String>,
    /// Who owns every tenant and is held to nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub administrators: Vec<UserSpec>,
    /// Members of any of these groups are neither tenant users nor administrators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_user_with_groups: Vec<String>,
    /// Whether ServiceAccounts may be given roles, or ownership, by a label.
    pub allow_service_account_promotion: bool,
    /// Whether names of tenants' namespaces have to begin with the tenant's name and `-`, where the tenant does not say.
    pub force_tenant_prefix: bool,
    /// A regular expression that names of tenants' namespaces may not match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protected_namespace_regex: String,
    /// Labels and annotations of Nodes that tenant users may not touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_metadata: Option<NodeMetadata>,
    /// Whether the operator keeps its own CA and certificates.
    #[serde(rename = "enableTLSReconciler")]
    pub enable_tls_reconciler: bool,
    /// Names of objects.
    pub overrides: Overrides,
    /// Roles of users, administrators and promoted ServiceAccounts.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub rbac: RbacSettings,
    /// How often caches are made anew, as a Go duration.
    pub cache_invalidation: String,
    /// Where Events go.
    pub events: EventSettings,
    /// As whom replicated objects are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonation: Option<Impersonation>,
    /// The registration of webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionSettings>,
}

impl Default for CapsuleConfigurationSpec {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            user_names: Vec::new(),
            user_groups: Vec::new(),
            administrators: Vec::new(),
            ignore_user_with_groups: Vec::new(),
            allow_service_account_promotion: false,
            force_tenant_prefix: false,
            protected_namespace_regex: String::new(),
            node_metadata: None,
            enable_tls_reconciler: false,
            overrides: Overrides::default(),
            rbac: RbacSettings::default(),
            cache_invalidation: "24h".into(),
            events: EventSettings::default(),
            impersonation: None,
            admission: None,
        }
    }
}

/// Labels and annotations of Nodes that tenant users may not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_labels: Option<ForbiddenList>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_annotations: Option<ForbiddenList>,
}

/// Names of objects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["TLSSecretName", "mutatingWebhookConfigurationName", "validatingWebhookConfigurationName"]))]
pub struct Overrides {
    /// The Secret with the webhooks' CA and certificate.
    #[serde(rename = "TLSSecretName")]
    pub tls_secret_name: String,
    /// Deprecated: use `admission.mutating.name`.
    pub mutating_webhook_configuration_name: String,
    /// Deprecated: use `admission.validating.name`.
    pub validating_webhook_configuration_name: String,
}

impl Default for Overrides {
    fn default() -> Self {
        Self {
            tls_secret_name: "capsule-tls".into(),
            mutating_webhook_configuration_name: "capsule-mutating-webhook-configuration".into(),
            validating_webhook_configuration_name: "capsule-validating-webhook-configuration".into(),
        }
    }
}

/// Roles of users, administrators and promoted ServiceAccounts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RbacSettings {
    /// The ClusterRole that lets tenant users create namespaces, and its ClusterRoleBinding.
    pub provisioner: String,
    /// The ClusterRole that lets owners delete their namespaces.
    pub deleter: String,
    /// ClusterRoles of administrators in every namespace of every tenant.
    pub administration_cluster_roles: Vec<String>,
    /// ClusterRoles of ServiceAccounts that were made owners.
    pub promotion_cluster_roles: Vec<String>,
}

impl Default for RbacSettings {
    fn default() -> Self {
        let (provisioner, deleter) = (names::PROVISIONER_CLUSTER_ROLE, names::DELETER_CLUSTER_ROLE);
        Self {
            provisioner: provisioner.into(),
            deleter: deleter.into(),
            administration_cluster_roles: vec![deleter.into()],
            promotion_cluster_roles: vec![provisioner.into(), deleter.into()],
        }
    }
}

/// Where Events go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSettings {
    /// The namespace of Events about objects that are in none.
    pub namespace: String,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
        }
    }
}

/// As whom replicated objects are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Impersonation {
    /// Another address of the API server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The Secret with the CA of that address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub ca_secret_name: String,
    /// The Secret's namespace. The operator's own, if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 253, "pattern" = NAMESPACE_PATTERN))]
    pub ca_secret_namespace: String,
    /// The Secret's key.
    #[serde(default = "default_ca_key")]
    pub ca_secret_key: String,
    /// Does not verify the API server's certificate.
    #[serde(default)]
    pub skip_tls_verify: bool,
    /// The ServiceAccount for cluster-wide replication that names none. Goes together with its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub global_default_service_account: String,
    /// The namespace of that ServiceAccount.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 253, "pattern" = NAMESPACE_PATTERN))]
    pub global_default_service_account_namespace: String,
    /// The ServiceAccount, in the object's own namespace, for a tenant's replication that names none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub tenant_default_service_account: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// The registration of webhooks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionSettings {
    /// The Service in front of the webhooks; the certificate is made out for it.
    #[serde(default = "default_service_name")]
    pub service_name: String,
    /// Webhooks that change objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutating: Option<MutatingAdmission>,
    /// Webhooks that refuse objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validating: Option<ValidatingAdmission>,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            service_name: default_service_name(),
            mutating: None,
            validating: None,
        }
    }
}

fn default_service_name() -> String {
    "capsule-webhook-service".into()
}

fn one_client() -> serde_json::Value {
    schema::rules(&[(
        "has(self.client.url) != has(self.client.service)",
        "client must configure exactly one of url or service",
    )])
}

/// Webhooks that change objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = one_client()))]
pub struct MutatingAdmission {
    /// Name of the webhook configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// Labels of the webhook configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the webhook configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where the webhooks are reached.
    pub client: AdmissionClient,
    /// The webhooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<MutatingWebhook>,
}

/// Webhooks that refuse objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = one_client()))]
pub struct ValidatingAdmission {
    /// Name of the webhook configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// Labels of the webhook configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the webhook configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where the webhooks are reached.
    pub client: AdmissionClient,
    /// The webhooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<ValidatingWebhook>,
}

/// Where webhooks are reached: an address, or a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionClient {
    /// The address; each webhook's path is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<AdmissionService>,
    /// Certificates of the CA that signed the webhooks' certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bytes")]
    pub ca_bundle: Option<ByteString>,
}

/// A Service in front of webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Begins the path of each webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its port. 443, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A webhook that changes objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutatingWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub hook: ValidatingWebhook,
    /// Whether it is asked again after another webhook changed the object: `Never`, `IfNeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinvocation_policy: Option<String>,
}

/// A webhook that refuses objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidatingWebhook {
    /// Its name, qualified.
    pub name: String,
    /// Its path on the server.
    pub path: String,
    /// Versions of AdmissionReview that it understands.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub admission_review_versions: Vec<String>,
    /// `None` or `NoneOnDryRun`.
    pub side_effects: String,
    /// Whose requests it is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opts: Option<WebhookOptions>,
    /// What it is asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<RuleWithOperations>,
    /// What happens when it does not answer: `Fail` or `Ignore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<String>,
    /// Whether it is asked about other versions of the same objects: `Exact` or `Equivalent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_policy: Option<String>,
    /// Labels of the namespaces that it is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels of the objects that it is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
    /// CEL expressions that must hold for it to be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub match_conditions: Vec<MatchCondition>,
    /// How long an answer may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

/// Whose requests a webhook is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["administrators", "capsuleUsers"]))]
pub struct WebhookOptions {
    /// Those of tenant users.
    pub capsule_users: bool,
    /// Those of administrators.
    pub administrators: bool,
}

/// What is known of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapsuleConfigurationStatus {
    /// Everybody who is a tenant user, wherever that comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserSpec>,
    /// Names of all tenants, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub tenants: Vec<String>,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
