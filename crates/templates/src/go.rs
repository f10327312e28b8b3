//! Parts of Go's standard library whose exact answers show in rendered text.

pub(crate) mod duration;
pub(crate) mod float;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod number;
pub(crate) mod quote;
pub(crate) mod url;
