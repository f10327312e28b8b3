//! Namespace tenants: `capsule.clastix.io`.

pub mod definition;
pub mod names;
pub mod v1beta1;
pub mod v1beta2;
