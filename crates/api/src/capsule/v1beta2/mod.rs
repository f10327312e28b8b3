//! `capsule.clastix.io/v1beta2`.

mod allowed;
mod capsule_configuration;
mod custom_quota;
mod global_resource_quota;
mod owner;
mod quantity_ledger;
mod reference;
mod replication;
mod resource_pool;
mod rule_status;
mod rules;
mod tenant;
mod tenant_owner;
mod tenant_resource;
mod tenant_status;

pub use allowed::*;
pub use capsule_configuration::*;
pub use custom_quota::*;
pub use global_resource_quota::*;
pub use owner::*;
pub use quantity_ledger::*;
pub use reference::*;
pub use replication::*;
pub use resource_pool::*;
pub use rule_status::*;
pub use rules::*;
pub use tenant::*;
pub use tenant_owner::*;
pub use tenant_resource::*;
pub use tenant_status::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A count is written without a format.
pub(super) fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "integer"})
}
