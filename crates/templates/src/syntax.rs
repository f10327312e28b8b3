//! A template once it is read.

use std::sync::Arc;

use crate::functions::Function;
use crate::go::number::Number;

#[derive(Debug)]
pub(crate) enum Node {
    Text(Arc<str>),
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// Calls a defined template; without a pipeline its dot is no value.
    Call {
        name: Arc<str>,
        argument: Option<Pipeline>,
        line: usize,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipeline: Pipeline,
    pub(crate) body: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) line: usize,
    /// Variables that the pipeline declares or, if it `assigns`, sets.
    pub(crate) variables: Vec<Arc<str>>,
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// An operand, or a function or method with its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) first: Operand,
    pub(crate) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    /// `.a.b`
    Field(Vec<Arc<str>>),
    /// `$a.b.c`
    Variable {
        name: Arc<str>,
        fields: Vec<Arc<str>>,
    },
    Function(&'static Function),
    Pipeline(Box<Pipeline>),
    /// `(a).b.c`, or a function's result and its fields
    Chain {
        of: Box<Operand>,
        fields: Vec<Arc<str>>,
    },
}
