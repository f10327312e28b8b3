//! JSONPath as `kubectl -o jsonpath` has it (`k8s.io/client-go/util/jsonpath`), with missing keys allowed.
//!
//! It is a dialect of its own: a template of text and `{actions}`, read by prefix rather than by grammar, with rules that
//! only its source tells. A path of ours is one action without its braces. Its rules are kept, also the odd ones, since
//! people's paths were written against them.

mod evaluate;
mod parse;
mod print;

use serde_json::Value;

pub use evaluate::EvaluationError;
pub use parse::SyntaxError;
pub(crate) use print::Printed;

/// No path of a person is longer, in characters.
pub(crate) const MAX_LENGTH: usize = 1024;
/// Printing is faster than looking, but not for nothing: an item can be a long text.
const BYTES_PER_UNIT: usize = 16;

/// A path that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("the path is longer than {MAX_LENGTH} characters")]
    Length,
    #[error("the field selector is longer than {MAX_LENGTH} characters")]
    SelectorLength,
    #[error("the path has to start with \".\", such as .spec.replicas")]
    Start,
    #[error("the path must not hold line breaks or tabs")]
    Control,
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// A path that can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    source: String,
    nodes: Vec<parse::Node>,
}

/// What a path leads to: a part of the object, or what the path itself says.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// A part of the object.
    Part(&'a Value),
    /// A part of a text: a wildcard takes texts apart into bytes.
    Byte(u8),
    /// A text in the path.
    Text(String),
    /// A whole number in the path.
    Integer(i64),
    /// A number in the path.
    Float(f64),
    /// A truth value in the path.
    Bool(bool),
    /// What a loop over nulls stands on.
    Nothing,
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(source: &str) -> Result<Self, InvalidPath> {
        if source.chars().count() > MAX_LENGTH {
            return Err(InvalidPath::Length);
        }
        if source.contains(['\r', '\n', '\t']) {
            return Err(InvalidPath::Control);
        }
        if !source.starts_with('.') {
            return Err(InvalidPath::Start);
        }
        Ok(Self {
            source: source.to_owned(),
            nodes: parse::template(&format!("{{{source}}}"))?,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Everything that it leads to. Of the members of a map the order is that of their keys.
    ///
    /// # Errors
    /// If the object is of another shape than the path says, or too large for it.
    pub fn find<'a>(&self, object: &'a Value) -> Result<Vec<Item<'a>>, EvaluationError> {
        Ok(evaluate::run(&self.nodes, object).0?.into_iter().flatten().collect())
    }

    /// The results as `kubectl` prints them, with blanks in between.
    ///
    /// # Errors
    /// As [`Self::find`], and if they are longer than 64 KiB.
    pub fn print(&self, object: &Value) -> Result<String, EvaluationError> {
        self.weigh(object).0
    }

    /// The same, with what it took: one for each item that was looked at, of which one path has a million, and one
    /// for each 16 bytes of what was printed.
    pub fn weigh(&self, object: &Value) -> (Result<String, EvaluationError>, u64) {
        let (printed, units) = self.weigh_printed(object);
        (printed.and_then(Printed::whole), units)
    }

    /// The same, but the beginning of a result that is too long is one, too.
    pub(crate) fn weigh_printed(&self, object: &Value) -> (Result<Printed, EvaluationError>, u64) {
        let (blocks, items) = evaluate::run(&self.nodes, object);
        let printed = blocks.map(|blocks| print::blocks(&blocks));
        let bytes = printed.as_ref().map_or(0, |printed| printed.text.len());
        (printed, (items + bytes / BYTES_PER_UNIT) as u64)
    }
}
