//! `kamaji.clastix.io/v1alpha1`.

mod addons;
mod control_plane;
mod data_store;
mod kubeconfig_generator;
mod kubernetes;
mod network_profile;
mod status;
mod tenant_control_plane;

pub use addons::*;
pub use control_plane::*;
pub use data_store::*;
pub use kubeconfig_generator::*;
pub use kubernetes::*;
pub use network_profile::*;
pub use status::*;
pub use tenant_control_plane::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Labels and annotations that are added to an object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdditionalMetadata {
    /// Labels to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
