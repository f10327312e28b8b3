//! How objects of a replication or a quota name other objects and kinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The pattern of references to namespaces, as it has always been served: the doubled backslash lets no dotted name
/// through, and no name of a namespace has a dot.
pub(super) const NAMESPACE_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionKind {
    /// API group and version, as `group/version`; `group` alone means any of its versions, `*` any group. Empty is `v1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The kind.
    #[schemars(extend("minLength" = 1))]
    pub kind: String,
}

/// A ServiceAccount in the namespace of the object that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalServiceAccount {
    /// Its name.
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
}

/// A ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountReference {
    /// Its name.
    #[schemars(extend("maxLength" = 63, "pattern" = schema::LABEL_PATTERN))]
    pub name: String,
    /// Its namespace.
    #[schemars(extend("maxLength" = 253, "pattern" = NAMESPACE_PATTERN))]
    pub namespace: String,
}
