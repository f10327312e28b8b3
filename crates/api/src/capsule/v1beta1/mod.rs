//! `capsule.clastix.io/v1beta1`: what older manifests say. Served, and never stored.

mod tenant;

pub use tenant::*;
