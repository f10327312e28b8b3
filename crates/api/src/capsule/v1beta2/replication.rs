//! What both kinds of replication say: the objects that tenants' namespaces get, and what became of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Metadata, VersionKind};
use crate::schema;

/// Objects to keep, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["resources", "resyncPeriod", "settings"]))]
pub struct Replication {
    /// The objects, in blocks that may differ in where they go.
    pub resources: Vec<ReplicationBlock>,
    /// How often the objects are written again even if nothing changed, as a Go duration.
    #[serde(default = "default_resync_period")]
    pub resync_period: String,
    /// Whether objects go when this object does, and when they are no longer asked for.
    #[serde(default = "yes")]
    pub pruning_on_delete: bool,
    /// Pauses: nothing is written or removed until this object is deleted.
    #[serde(default)]
    pub cordoned: bool,
    /// Objects of the same kind, here also in the same namespace, that must be ready first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// What happens to objects that are there already.
    #[serde(default)]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub settings: ReplicationSettings,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            resources: Vec::new(),
            resync_period: default_resync_period(),
            pruning_on_delete: yes(),
            cordoned: false,
            depends_on: Vec::new(),
            settings: ReplicationSettings::default(),
        }
    }
}

fn default_resync_period() -> String {
    "60s".into()
}

fn yes() -> bool {
    true
}

/// An object that must be ready first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Its name.
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
}

/// What happens to objects that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationSettings {
    /// Whether objects that something else made may be changed.
    #[serde(default)]
    pub adopt: bool,
    /// Whether fields that somebody else manages are taken from them.
    #[serde(default)]
    pub force: bool,
}

/// Objects to keep in some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationBlock {
    /// The namespaces of the tenant that get the objects. All, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Objects that are copied. Texts may contain `{{ tenant.name }}` and `{{ namespace }}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaced_items: Vec<ItemReference>,
    /// Objects as they are. Texts may contain `{{ tenant.name }}` and `{{ namespace }}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "raw_items")]
    pub raw_items: Vec<Map<String, Value>>,
    /// Templates that objects are made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generators: Vec<Generator>,
    /// What else templates can look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<TemplateContext>,
    /// Labels and annotations of every object. Texts may contain `{{ tenant.name }}` and `{{ namespace }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_metadata: Option<Metadata>,
}

/// Whole objects of any kind.
fn raw_items(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Existing objects: one by name, or some by labels.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemReference {
    /// Their kind.
    #[serde(flatten)]
    pub kind: VersionKind,
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
    /// Their namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The objects' labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Whether it is no failure if there is none.
    #[serde(default = "yes")]
    pub optional: bool,
}

impl Default for ItemReference {
    fn default() -> Self {
        Self {
            kind: VersionKind::default(),
            name: String::new(),
            namespace: String::new(),
            selector: None,
            optional: yes(),
        }
    }
}

/// A template that objects are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// A Go template of YAML documents, each an object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// What stands for a value that is not there.
    #[serde(default)]
    pub missing_key: MissingKey,
}

/// What stands for a value that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingKey {
    /// The text `<no value>`.
    Invalid,
    /// The zero value of its type.
    #[default]
    Zero,
    /// Nothing: the template fails.
    Error,
}

/// What templates can look at besides tenant and namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateContext {
    /// Existing objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ContextItem>,
}

/// Existing objects that templates can look at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextItem {
    /// The objects.
    #[serde(flatten)]
    pub item: ItemReference,
    /// The name under which templates find them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub index: String,
}

/// What became of one object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessedItem {
    /// Its API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its API version, without the group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The tenant that it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// What asks for it: `replica`, `<block>/raw-<index>` or `<block>/generator-<index>-<document>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ProcessedItemStatus>,
}

/// What became of an object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessedItemStatus {
    /// What `status` is about: `Ready`.
    #[schemars(extend("maxLength" = 316, "pattern" = schema::QUALIFIED_NAME_PATTERN))]
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("maxLength" = 32768))]
    pub message: String,
    /// Whether the replication made the object. If not, it adopted it.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub created: bool,
    /// Whether the object belongs to no namespace.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub cluster_scoped: bool,
    /// When the object was written last. Absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_apply: Option<Time>,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    #[default]
    Unknown,
}
