//! Evaluates pipelines, commands and operands.

use std::sync::Arc;

use super::Run;
use crate::MissingKey;
use crate::error::Failure;
use crate::functions::{self, Arguments, Function, Type};
use crate::go::number::Ideal;
use crate::syntax::{Command, Operand, Pipeline};
use crate::value::Value;

type Result<T> = std::result::Result<T, Failure>;

impl Run<'_> {
    pub(super) fn pipeline(&mut self, dot: &Value, pipeline: &Pipeline) -> Result<Value> {
        self.commands(dot, pipeline)
            .map_err(|failure| failure.at(pipeline.line))
    }

    fn commands(&mut self, dot: &Value, pipeline: &Pipeline) -> Result<Value> {
        let mut last = None;
        for command in &pipeline.commands {
            self.context.budget.work(1)?;
            // The result of one command is the last argument of the next.
            last = Some(self.command(dot, command, last)?.concrete());
        }
        let value = last.unwrap_or(Value::Missing);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.context.budget.allocate(size_of::<(Arc<str>, Value)>())?;
                self.variables.push((Arc::clone(name), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &Command, last: Option<Value>) -> Result<Value> {
        let arguments = command.arguments.as_slice();
        match &command.first {
            Operand::Field(fields) => self.field_chain(dot, dot.clone(), fields, arguments, last),
            Operand::Chain { of, fields } => {
                let receiver = self.chained(dot, of)?;
                self.field_chain(dot, receiver, fields, arguments, last)
            }
            Operand::Variable { name, fields } if !fields.is_empty() => {
                let receiver = self.variable(name)?.clone();
                self.field_chain(dot, receiver, fields, arguments, last)
            }
            Operand::Function(function) => self.call(dot, function, None, arguments, last),
            other => {
                if !arguments.is_empty() || last.is_some() {
                    return Err("can't give argument to non-function".into());
                }
                match other {
                    Operand::Nil => Err("nil is not a command".into()),
                    other => self.operand(dot, other),
                }
            }
        }
    }

    /// An operand where no type is asked for.
    fn operand(&mut self, dot: &Value, operand: &Operand) -> Result<Value> {
        self.context.budget.work(1)?;
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Nil,
            Operand::Bool(bool) => Value::Bool(*bool),
            Operand::Text(text) => Value::Text(Arc::clone(text)),
            Operand::Number(number) => match number.ideal {
                Ideal::Int(int) => Value::Int(int),
                Ideal::Float(float) => Value::Float(float),
                Ideal::TooLarge => return Err(format!("{} overflows int", number.float).into()),
            },
            Operand::Field(fields) => self.field_chain(dot, dot.clone(), fields, &[], None)?,
            Operand::Variable { name, fields } => {
                let value = self.variable(name)?.clone();
                if fields.is_empty() {
                    return Ok(value);
                }
                self.field_chain(dot, value, fields, &[], None)?
            }
            Operand::Function(function) => self.call(dot, function, None, &[], None)?,
            Operand::Pipeline(pipeline) => self.nested(|run| run.pipeline(dot, pipeline))?,
            Operand::Chain { of, fields } => {
                let receiver = self.chained(dot, of)?;
                self.field_chain(dot, receiver, fields, &[], None)?
            }
        })
    }

    fn chained(&mut self, dot: &Value, of: &Operand) -> Result<Value> {
        if matches!(of, Operand::Nil) {
            return Err("indirection through explicit nil".into());
        }
        self.operand(dot, of)
    }

    /// Fields one after the other; the last may be a method, which takes the arguments.
    fn field_chain(
        &mut self,
        dot: &Value,
        receiver: Value,
        fields: &[Arc<str>],
        arguments: &[Operand],
        last: Option<Value>,
    ) -> Result<Value> {
        let Some((final_field, before)) = fields.split_last() else {
            return Ok(receiver);
        };
        let mut receiver = receiver;
        for field in before {
            receiver = self.field(dot, receiver, field, &[], None)?;
        }
        self.field(dot, receiver, final_field, arguments, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        field: &str,
        arguments: &[Operand],
        last: Option<Value>,
    ) -> Result<Value> {
        self.context.budget.work(1)?;
        match &receiver {
            Value::Missing if self.missing_key == MissingKey::Error => {
                return Err(format!("nil data; no entry for key {field:?}").into());
            }
            Value::Missing => return Ok(Value::Missing),
            Value::Nil => return Err(format!("nil pointer evaluating interface {{}}.{field}").into()),
            _ => {}
        }
        if let Some(method) = functions::method(&receiver, field) {
            return self.call(dot, method, Some(receiver), arguments, last);
        }
        let Value::Map(map) = &receiver else {
            return Err(format!("can't evaluate field {field} in type {}", receiver.type_name()).into());
        };
        if !arguments.is_empty() || last.is_some() {
            return Err(format!("{field} is not a method but has arguments").into());
        }
        match (map.get(field), self.missing_key) {
            (Some(value), _) => Ok(value),
            (None, MissingKey::Invalid) => Ok(Value::Missing),
            (None, MissingKey::Zero) if map.of_texts => Ok(Value::text("")),
            (None, MissingKey::Zero) => Ok(Value::Nil),
            (None, MissingKey::Error) => Err(format!("map has no entry for key {field:?}").into()),
        }
    }

    /// Calls a function, or a method with its receiver.
    fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        operands: &[Operand],
        last: Option<Value>,
    ) -> Result<Value> {
        self.context.budget.work(1)?;
        let own = usize::from(receiver.is_some());
        let count = own + operands.len() + usize::from(last.is_some());
        let wanted = function.takes.len();
        if count < wanted || (count > wanted && function.rest.is_none()) {
            return Err(format!(
                "wrong number of args for {}: want {}{} got {}",
                function.name,
                if function.rest.is_some() { "at least " } else { "" },
                wanted - own,
                count - own,
            )
            .into());
        }
        if function.name == "and" || function.name == "or" {
            return self.short_circuit(dot, function.name == "or", operands, last);
        }
        self.context.budget.allocate(count * size_of::<Value>())?;
        let type_at = |at: usize| function.takes.get(at).copied().or(function.rest).unwrap_or(Type::Any);
        let mut values = Vec::with_capacity(count);
        values.extend(receiver);
        for operand in operands {
            let value = self.argument(dot, type_at(values.len()), operand)?;
            values.push(value);
        }
        if let Some(last) = last {
            values.push(accept(last, type_at(values.len()))?);
        }
        (function.call)(&self.context, Arguments(&values)).map_err(|failure| failure.in_call(function.name))
    }

    /// `and` and `or` answer the argument that decides, and evaluate none after it.
    fn short_circuit(&mut self, dot: &Value, is_or: bool, operands: &[Operand], last: Option<Value>) -> Result<Value> {
        let mut value = Value::Missing;
        for operand in operands {
            value = self.argument(dot, Type::Raw, operand)?;
            if value.truth() == is_or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// An argument of this type.
    fn argument(&mut self, dot: &Value, wanted: Type, operand: &Operand) -> Result<Value> {
        let mismatch = |found: &str| Err(format!("expected {}; found {found}", wanted.name()).into());
        match (operand, wanted) {
            (Operand::Nil, Type::Raw) => Ok(Value::Missing),
            (Operand::Nil, Type::Any) => Ok(Value::Nil),
            (Operand::Nil, Type::Dict) => Ok(Value::nil_map()),
            (Operand::Nil, _) => Err(format!("cannot assign nil to {}", wanted.name()).into()),
            (Operand::Number(number), Type::Int) => match number.int {
                Some(int) => Ok(Value::Int(int)),
                None => mismatch("a number that is no integer"),
            },
            (Operand::Number(number), Type::Float) => Ok(Value::Float(number.float)),
            (Operand::Bool(_), Type::Bool | Type::Any | Type::Raw)
            | (Operand::Text(_), Type::Text | Type::Any | Type::Raw)
            | (Operand::Number(_), Type::Any | Type::Raw) => self.operand(dot, operand),
            (Operand::Bool(_), _) => mismatch("a boolean"),
            (Operand::Text(_), _) => mismatch("a string"),
            (Operand::Number(_), _) => mismatch("a number"),
            (operand, wanted) => accept(self.operand(dot, operand)?, wanted),
        }
    }
}

/// The value as an argument of this type, if Go would accept it.
fn accept(value: Value, wanted: Type) -> Result<Value> {
    match (wanted, &value) {
        (Type::Raw, _)
        | (Type::Text, Value::Text(_))
        | (Type::Int, Value::Int(_))
        | (Type::Float, Value::Float(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Time, Value::Time(_)) => Ok(value),
        (Type::Any, _) => Ok(value.into_any()),
        (Type::Dict, Value::Map(map)) if !map.of_texts => Ok(value),
        (Type::Dict, Value::Missing) => Ok(Value::nil_map()),
        (wanted, Value::Missing) => Err(format!("invalid value; expected {}", wanted.name()).into()),
        (wanted, Value::Nil) => {
            Err(format!("wrong type for value; expected {}; got interface {{}}", wanted.name()).into())
        }
        (wanted, other) => Err(format!(
            "wrong type for value; expected {}; got {}",
            wanted.name(),
            other.type_name()
        )
        .into()),
    }
}
