//! What an expression says, after its macros are spelt out.

use std::sync::Arc;

/// A node, and the byte of the source that it begins at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expr {
    pub(super) at: usize,
    /// Operators, selections and calls inside each other, this one included.
    pub(super) depth: usize,
    /// Its value is known before the evaluation, which then costs nothing.
    pub(super) constant: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(String),
    Select(Box<Select>),
    Call(Box<Call>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Comprehension(Box<Comprehension>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Select {
    pub(super) operand: Expr,
    pub(super) field: String,
    /// `has(…)`
    pub(super) test: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) target: Option<Expr>,
    pub(super) args: Vec<Expr>,
    /// The overload, if the types leave only one.
    pub(super) overload: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) optional: bool,
    pub(super) value: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) optional: bool,
    pub(super) key: Expr,
    pub(super) value: Expr,
}

/// A loop over a list or a map that carries one value along.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comprehension {
    pub(super) range: Expr,
    pub(super) variable: String,
    pub(super) second: Option<String>,
    pub(super) accumulator: String,
    pub(super) init: Expr,
    pub(super) condition: Expr,
    pub(super) step: Expr,
    pub(super) result: Expr,
}

impl Expr {
    pub(super) fn new(at: usize, kind: Kind) -> Self {
        let (own, inner) = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => (0, 0),
            Kind::Select(select) => (1, select.operand.depth),
            Kind::Call(call) => {
                let counted = !matches!(call.function.as_str(), "_&&_" | "_||_" | "!_" | "-_")
                    && (call.target.is_some() || call.function.starts_with('_') || call.function == "@in");
                let inner = call.args.iter().chain(&call.target).map(|arg| arg.depth).max();
                (usize::from(counted), inner.unwrap_or_default())
            }
            Kind::List(elements) => (
                0,
                elements
                    .iter()
                    .map(|element| element.value.depth)
                    .max()
                    .unwrap_or_default(),
            ),
            Kind::Map(entries) => {
                let deepest = entries.iter().map(|entry| entry.key.depth.max(entry.value.depth)).max();
                (0, deepest.unwrap_or_default())
            }
            Kind::Comprehension(loop_) => {
                let parts = [&loop_.range, &loop_.step, &loop_.result];
                (1, parts.iter().map(|part| part.depth).max().unwrap_or_default())
            }
        };
        Self {
            at,
            depth: own + inner,
            constant: false,
            kind,
        }
    }

    /// `a.b.c` as a name.
    pub(super) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select(select) if !select.test => {
                Some(format!("{}.{}", select.operand.qualified_name()?, select.field))
            }
            _ => None,
        }
    }
}
