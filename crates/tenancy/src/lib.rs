//! Decisions about tenants: who owns what, what a tenant may do, and what its namespaces should contain.
//!
//! Everything here is a function from values to a value. Webhooks, controllers, the gateway and the command line ask the same
//! functions, so they cannot disagree; nothing here reads a clock, the environment, a socket or a random number.
//!
//! - What decisions look things up in: [`index`], [`settings`].
//! - Who is who: [`subject`], [`caller`], [`ownership`], [`tenant_owners`], [`linkage`].
//! - What a namespace should carry and contain: [`metadata`], [`bindings`], [`replicas`], [`quotas`], [`object_quotas`],
//!   and what the objects in it carry: [`object_metadata`];
//!   and what of a budget over many namespaces is used and promised: [`quota`].
//! - What rules of a tenant say about what is in its namespaces: [`rules`].
//! - What may be written: [`namespace_admission`], [`tenant_admission`], [`configuration_admission`], [`cordon`],
//!   [`classes`], [`claims`], [`ingress`], [`hostname_collision`], [`promotion`], [`pods`] and their [`images`],
//!   [`services`], [`gateways`], [`devices`], [`nodes`]; what is served and not acted upon yet: [`not_yet`];
//!   and which limits are only tried out: [`audit`].
//! - What older versions of the API say: [`conversion`].
//! - Tools: [`denial`], [`name`], [`pattern`], [`quantity`], [`selector`].
//! - What TenantResources and GlobalTenantResources make: [`replication`].
//! - Hosted control planes: [`control_plane`].

#![warn(missing_docs)]
// Fixtures take the JSON that a test writes down on the spot.
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod audit;
pub mod bindings;
pub mod caller;
pub mod claims;
pub mod classes;
pub mod configuration_admission;
pub mod control_plane;
pub mod conversion;
pub mod cordon;
pub mod denial;
pub mod devices;
pub mod gateways;
pub mod hostname_collision;
pub mod images;
pub mod index;
pub mod ingress;
mod keys;
pub mod linkage;
pub mod metadata;
pub mod name;
pub mod namespace_admission;
pub mod nodes;
pub mod not_yet;
pub mod object_metadata;
pub mod object_quotas;
pub mod ownership;
pub mod pods;
pub mod promotion;
pub mod quota;
pub mod quotas;
pub mod replicas;
pub mod replication;
pub mod role_sources;
pub mod rules;
pub mod selector;
pub mod services;
pub mod settings;
pub mod subject;
pub mod tenant_admission;
pub mod tenant_owners;

#[cfg(test)]
mod fixtures;

// Their home is with the other small languages; they are as much ours.
pub use expressions::{pattern, quantity};
