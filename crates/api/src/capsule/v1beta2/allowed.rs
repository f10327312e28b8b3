//! Lists of what is allowed and forbidden.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedList {
    /// The names, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Deprecated: a regular expression; a name is allowed if any part of it matches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub allowed_regex: String,
}

/// Objects that may be used: by name, or by their labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SelectorAllowedList {
    /// The names, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Deprecated: a regular expression; a name is allowed if any part of it matches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub allowed_regex: String,
    /// Labels that an allowed object carries, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that an allowed object's labels meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// Objects that may be used, and the one that is used when none is named.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct DefaultAllowedList {
    /// The names, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Deprecated: a regular expression; a name is allowed if any part of it matches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub allowed_regex: String,
    /// Labels that an allowed object carries, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that an allowed object's labels meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
    /// What is used when nothing is named. Always allowed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default: String,
}

/// Keys that may not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForbiddenList {
    /// The keys, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    /// A regular expression; a key is forbidden if any part of it matches.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub denied_regex: String,
}
