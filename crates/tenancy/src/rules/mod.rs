//! The rules of a tenant: what its users may put into its namespaces.
//!
//! A rule says what it looks at (registries, hostnames, labels and so on) and what follows (allow, deny, audit). Rules are
//! an ordered list. For each value of an object, in this order:
//!
//! 1. An empty value is not looked at.
//! 2. Every audit item that matches is recorded; of the allow and deny items that match, the last one decides.
//! 3. If none matches and some rule allows values of this kind, the value is refused.
//!
//! The first value that is refused ends the evaluation.
//!
//! Flow: [`reach`] says which requests are asked about at all, [`render::in_namespace`] picks and renders the rules that
//! select a namespace, [`CompiledRules::new`] compiles them
//! once, [`admission::mutate`] and [`admission::validate`] answer requests, [`check`] says what is wrong with rules that
//! somebody writes.
//!
//! What cannot be evaluated (a pattern that does not compile, an address that cannot be read) is closed for what it guards
//! and for nothing else: a deny item of that sort matches everything, an allow item nothing.
//!
//! An update is asked about what it changes: one that leaves the spec as it was is not held to rules about the spec, one
//! that leaves labels and annotations is not held to rules about these. Otherwise a rule that is tightened would keep
//! controllers from taking finalizers off finished pods and deleted Services.

pub mod admission;
pub mod audience;
pub mod body;
pub mod check;
mod compiled;
mod evaluate;
pub mod finding;
#[cfg(test)]
mod fixtures;
mod hostnames;
mod images;
pub mod managed;
mod matching;
mod metadata;
mod placement;
mod ranges;
pub mod reach;
pub mod render;
mod resources;
mod services;

pub use compiled::CompiledRules;
pub use finding::{Audit, Mode, Outcome};

#[cfg(test)]
mod properties;
