//! Hosted control planes: the group `kamaji.clastix.io`.

pub mod names;
pub mod v1alpha1;
