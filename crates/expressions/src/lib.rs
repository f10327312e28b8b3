//! The small languages in which people say what rules and quotas are about: regular expressions, globs, keys with stars,
//! JSONPath, CEL, quantities.
//!
//! Tenants write these, and wrote them against Go's and Kubernetes' libraries. So each is read as those read it, compared
//! case by case with what they say (`tests/corpus`, recorded by `tools/oracle/expressions`); and each is bounded, in
//! length, nesting, memory and steps, since whoever writes it is not trusted. Everything is a function of its arguments.
//!
//! Where an answer differs, the row of the corpus says `differs` and why:
//! - CEL: no messages (`google.protobuf.Duration{}`), no keys of maps but bools, whole numbers and texts; an equality of a
//!   quantity with a sum or with something else has an answer, where Kubernetes fails; a text without a digit is no quantity.
//! - Bounds that only ours have: 128 levels of nesting and a budget of work in CEL, a million items in JSONPath and 32 levels
//!   of filters, a mebibyte for a compiled pattern.
//!
//! Texts and objects go in, typed values or typed errors come out. Where a language is compiled, compiling and using are
//! apart, so that what was admitted can be used.

pub mod cel;
pub mod field_selector;
pub mod glob;
mod go;
pub mod jsonpath;
pub mod key;
pub mod pattern;
pub mod quantity;
mod re2;
pub mod usage;
