//! `capsule.clastix.io/v1beta2`.

mod allowed;
mod capsule_configuration;
mod owner;
mod rules;
mod tenant;
mod tenant_owner;
mod tenant_status;

pub use allowed::*;
pub use capsule_configuration::*;
pub use owner::*;
pub use rules::*;
pub use tenant::*;
pub use tenant_owner::*;
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
