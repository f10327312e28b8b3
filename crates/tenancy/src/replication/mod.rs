//! Replication: what a TenantResource or GlobalTenantResource asks for, object by object.
//!
//! - Who asks, and under which names it is written: [`identity`].
//! - What objects are made of: [`fast`] templates, Go templates and their [`documents`], copies ([`object`]), all of it
//!   in [`produce`].
//! - What is written and what goes: [`plan`]; what became of it: [`status`].
//! - Who may change what was made: [`guard`].
//!
//! Authors of a TenantResource are tenants. They get what [`place`](object::place) allows: objects of namespaced kinds, in
//! namespaces of their tenant; and every production is bounded by [`limits`].

pub mod documents;
pub mod endpoint;
pub mod fast;
pub mod guard;
pub mod identity;
pub mod limits;
pub mod object;
pub mod plan;
pub mod produce;
pub mod resync;
pub mod status;
