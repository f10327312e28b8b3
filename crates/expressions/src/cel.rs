//! CEL in the dialect of Kubernetes 1.36's default compatibility version: which functions there are
//! (`cel/declarations.tsv`, written by the oracle out of the API server's own environment), what an expression's types have
//! to be, what it may cost.
//!
//! The expression is parsed, checked and evaluated here. The `cel` crate was looked at: its parser overflows the stack at
//! fifty parentheses, it has no type checker, and its evaluation cannot be counted or stopped. Tenants write these
//! expressions, so each of the three would be a way to take the operator down.
//!
//! An object is the one variable, `object`, of which nothing is known before the evaluation.

mod ast;
mod call;
mod check;
mod cost;
mod eval;
mod format;
mod lex;
mod lists;
mod macros;
mod named_format;
mod network;
mod parse;
mod quantity;
mod strings;
mod time;
mod types;
mod value;

use std::fmt::{self, Write};

use serde_json::Value as Json;

use crate::quantity::Quantity;
use eval::Failure;
use types::{QUANTITY, Type};
use value::Value;

/// No expression of a person is longer.
const MAX_LENGTH: usize = 4096;

/// An expression that cannot be used: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct InvalidExpression {
    /// Counted from 1, in characters, as editors do.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

impl InvalidExpression {
    fn at(source: &str, at: usize, reason: impl Into<String>) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
        }
    }
}

/// Why an expression says nothing about an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It would take more than Kubernetes allows an expression.
    #[error("the expression costs more than Kubernetes allows")]
    Cost,
    /// It would make more than this program allows.
    #[error("the expression makes values that are too large")]
    Work,
    #[error("{0}")]
    Failed(String),
    /// A usage that is an empty list.
    #[error("the expression did not resolve to any value")]
    Nothing,
}

impl From<Failure> for EvaluationError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Cost => Self::Cost,
            Failure::Work => Self::Work,
            Failure::Error(reason) => Self::Failed(reason.to_string()),
        }
    }
}

/// A checked expression.
#[derive(Clone, Debug, PartialEq)]
struct Expression {
    expr: ast::Expr,
    found: Type,
}

impl Expression {
    fn new(source: &str) -> Result<Self, InvalidExpression> {
        if source.len() > MAX_LENGTH {
            let reason = format!("the expression is longer than {MAX_LENGTH} bytes");
            return Err(InvalidExpression::at(source, 0, reason));
        }
        let mut expr = parse::parse(source)?;
        let found = check::check(source, &mut expr)?;
        constants(source, &expr)?;
        Ok(Self { expr, found })
    }
}

/// Conversions of literals are made once, beforehand: what cannot be converted is no expression.
fn constants(source: &str, expr: &ast::Expr) -> Result<(), InvalidExpression> {
    use ast::Kind;
    if expr.constant {
        return match eval::run(expr, &Json::Null).0 {
            Err(failure) if matches!(expr.kind, Kind::Call(_)) => {
                let reason = EvaluationError::from(failure).to_string();
                Err(InvalidExpression::at(source, expr.at, reason))
            }
            _ => Ok(()),
        };
    }
    let check = |expr: &ast::Expr| constants(source, expr);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => Ok(()),
        Kind::Select(select) => check(&select.operand),
        Kind::Call(call) => call.target.iter().chain(&call.args).try_for_each(check),
        Kind::List(elements) => elements.iter().try_for_each(|element| check(&element.value)),
        Kind::Map(entries) => entries
            .iter()
            .try_for_each(|entry| check(&entry.key).and_then(|()| check(&entry.value))),
        Kind::Comprehension(parts) => [&parts.range, &parts.init, &parts.condition, &parts.step, &parts.result]
            .into_iter()
            .try_for_each(check),
    }
}

/// An expression that says whether an object is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Expression);

impl Condition {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// If it is none, or not of type bool.
    pub fn new(source: &str) -> Result<Self, InvalidExpression> {
        let expression = Expression::new(source)?;
        if expression.found == Type::Bool {
            return Ok(Self(expression));
        }
        let reason = format!("the result has to be a bool, not {}", expression.found);
        Err(InvalidExpression::at(source, 0, reason))
    }

    /// Whether this object is meant.
    ///
    /// # Errors
    /// If the object is of another shape than the expression says, or it takes too long.
    pub fn matches(&self, object: &Json) -> Result<bool, EvaluationError> {
        self.weigh(object).0
    }

    /// The same, with what it took: in Kubernetes' units of cost, of which one expression has a million.
    pub fn weigh(&self, object: &Json) -> (Result<bool, EvaluationError>, u64) {
        let (value, meter) = eval::run(&self.0.expr, object);
        let holds = match value {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(other) => Err(EvaluationError::Failed(format!(
                "the result is {}, not a bool",
                other.type_name()
            ))),
            Err(failure) => Err(failure.into()),
        };
        (holds, meter.effort())
    }
}

/// An expression that says how much of a quota an object takes.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageExpression(Expression);

impl UsageExpression {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// If it is none, or neither a quantity nor a list of quantities.
    pub fn new(source: &str) -> Result<Self, InvalidExpression> {
        let expression = Expression::new(source)?;
        if expression.found == QUANTITY || expression.found == Type::list(QUANTITY) {
            return Ok(Self(expression));
        }
        let reason = format!(
            "the result has to be a quantity or a list of quantities, not {}; quantity(…) makes one of a text",
            expression.found
        );
        Err(InvalidExpression::at(source, 0, reason))
    }

    /// The quantity, or the sum of the quantities.
    ///
    /// # Errors
    /// If there is none, the object is of another shape than the expression says, or it takes too long.
    pub fn of(&self, object: &Json) -> Result<Quantity, EvaluationError> {
        self.weigh(object).0
    }

    /// The same, with what it took, as [`Condition::weigh`].
    pub fn weigh(&self, object: &Json) -> (Result<Quantity, EvaluationError>, u64) {
        let (value, meter) = eval::run(&self.0.expr, object);
        let sum = value.map_err(Into::into).and_then(|value| Self::sum(&value));
        (sum, meter.effort())
    }

    fn sum(value: &Value<'_>) -> Result<Quantity, EvaluationError> {
        let quantity = |value: &Value<'_>| match value {
            Value::Quantity(value) => Ok(value.quantity),
            other => Err(EvaluationError::Failed(format!(
                "the result is {}, not a quantity",
                other.type_name()
            ))),
        };
        match value {
            Value::List(list) => list
                .iter()
                .map(|value| quantity(&value))
                .reduce(|sum, next| Ok(sum?.plus(next?)))
                .unwrap_or(Err(EvaluationError::Nothing)),
            one => quantity(one),
        }
    }
}

/// What is known of an expression and its evaluation, for comparison with the API server's.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The type that was found before.
    pub type_name: String,
    /// The value as text, or why there is none.
    pub value: Result<String, EvaluationError>,
    /// In Kubernetes' units.
    pub cost: u64,
}

/// Checks and evaluates an expression of any type.
///
/// # Errors
/// If it is none.
#[doc(hidden)]
pub fn explain(source: &str, object: &Json) -> Result<Explanation, InvalidExpression> {
    let expression = Expression::new(source)?;
    let (value, meter) = eval::run(&expression.expr, object);
    let mut text = Limited(String::new());
    let value = value
        .map_err(Into::into)
        .and_then(|value| write!(text, "{value}").map_err(|_| EvaluationError::Work));
    Ok(Explanation {
        type_name: expression.found.to_string(),
        value: value.map(|()| text.0),
        cost: meter.cost,
    })
}

/// A text that stops growing at some point.
struct Limited(String);

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > 1 << 20 {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
