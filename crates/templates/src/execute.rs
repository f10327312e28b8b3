//! Renders a template, as `text/template/exec.go` does.

use std::rc::Rc;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::error::Failure;
use crate::functions::{Context, Patterns};
use crate::go::format;
use crate::limits::Budget;
use crate::parse::Templates;
use crate::syntax::{Branch, Node, Pipeline};
use crate::value::Value;
use crate::{MissingKey, Settings};

mod evaluate;

pub(crate) fn render(
    name: &str,
    templates: &Templates,
    budget: &Budget,
    data: &serde_json::Value,
    settings: &Settings,
) -> Result<String, Failure> {
    let patterns = Patterns::default();
    let now = Rc::new(settings.now.to_zoned(TimeZone::UTC));
    let data = Value::from_json(data, settings.numbers, budget, 0)?.concrete();
    let body = templates.get(name).ok_or("is empty")?;
    let mut run = Run {
        templates,
        missing_key: settings.missing_key,
        context: Context {
            budget,
            now: &now,
            patterns: &patterns,
        },
        variables: vec![(Arc::from("$"), data.clone())],
        // Variables below belong to templates that called this one.
        first_variable: 0,
        depth: 0,
        out: String::new(),
    };
    run.walk_all(&data, body)?;
    Ok(run.out)
}

struct Run<'r> {
    templates: &'r Templates,
    missing_key: MissingKey,
    context: Context<'r>,
    variables: Vec<(Arc<str>, Value)>,
    first_variable: usize,
    depth: usize,
    out: String,
}

/// What follows after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Run<'_> {
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.context.budget.read(text.len())?;
        self.context.budget.check_output(self.out.len() + text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.depth += 1;
        self.context.budget.check_depth(self.depth)?;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn walk_all(&mut self, dot: &Value, nodes: &[Node]) -> Result<Flow, Failure> {
        for node in nodes {
            let flow = self.walk(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn walk(&mut self, dot: &Value, node: &Node) -> Result<Flow, Failure> {
        self.context.budget.work(1)?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipeline) => {
                // A variable that is declared here lives on after the action.
                let value = self.pipeline(dot, pipeline)?;
                if pipeline.variables.is_empty() {
                    self.print(&value).map_err(|failure| failure.at(pipeline.line))?;
                }
            }
            Node::If(branch) => return self.nested(|run| run.branch(dot, branch, false)),
            Node::With(branch) => return self.nested(|run| run.branch(dot, branch, true)),
            Node::Range(branch) => return self.nested(|run| run.range(dot, branch)),
            Node::Call { name, argument, line } => {
                self.nested(|run| run.call_template(dot, name, argument.as_ref()))
                    .map_err(|failure| failure.at(*line))?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<(), Failure> {
        match value {
            Value::Text(text) => self.write(&Arc::clone(text)),
            value => {
                let text = format::display(value, self.context.budget)?;
                self.write(&text)
            }
        }
    }

    fn branch(&mut self, dot: &Value, branch: &Branch, sets_dot: bool) -> Result<Flow, Failure> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipeline)?;
        let flow = if value.truth() {
            self.walk_all(if sets_dot { &value } else { dot }, &branch.body)
        } else {
            self.walk_all(dot, &branch.otherwise)
        };
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, dot: &Value, branch: &Branch) -> Result<Flow, Failure> {
        let mark = self.variables.len();
        let over = self.pipeline(dot, &branch.pipeline)?;
        let flow = self
            .rounds(&over, branch)
            .map_err(|failure| failure.at(branch.pipeline.line));
        let flow = match flow? {
            None => self.walk_all(dot, &branch.otherwise)?,
            Some(()) => Flow::Next,
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    /// Goes through the body for each element; `None` if there is none.
    fn rounds(&mut self, over: &Value, branch: &Branch) -> Result<Option<()>, Failure> {
        match over {
            Value::Missing | Value::Nil => Ok(None),
            Value::Int(_) | Value::Int64(_) | Value::Uint8(_) | Value::Uint64(_) => self.count(over, branch),
            Value::List(list) => {
                self.context.budget.check_length(list.items.len())?;
                for (at, item) in list.items.iter().enumerate() {
                    let at = i64::try_from(at).unwrap_or(i64::MAX);
                    if self.round(&branch.pipeline, Value::Int(at), item, branch)? == Flow::Break {
                        break;
                    }
                }
                Ok((!list.items.is_empty()).then_some(()))
            }
            Value::Map(map) => {
                self.context.budget.check_length(map.len())?;
                // The body may change the dict.
                self.context.budget.allocate(map.len() * crate::value::ENTRY_BYTES)?;
                let entries: Vec<_> = map
                    .entries()
                    .iter()
                    .map(|(key, value)| (Arc::clone(key), value.clone()))
                    .collect();
                for (key, value) in &entries {
                    let key = Value::Text(Arc::clone(key));
                    if self.round(&branch.pipeline, key, value, branch)? == Flow::Break {
                        break;
                    }
                }
                Ok((!entries.is_empty()).then_some(()))
            }
            other => Err(format!("range can't iterate over {}", other.type_name()).into()),
        }
    }

    /// Numbers from zero to before this one.
    fn count(&mut self, stop: &Value, branch: &Branch) -> Result<Option<()>, Failure> {
        let length = stop.integer().and_then(|stop| u64::try_from(stop).ok()).unwrap_or(0);
        if branch.pipeline.variables.len() > 1 {
            return Err("a number cannot be iterated over with more than one variable".into());
        }
        self.context
            .budget
            .check_length(usize::try_from(length).unwrap_or(usize::MAX))?;
        for number in 0..length {
            let int = number.cast_signed();
            let item = match stop {
                Value::Int64(_) => Value::Int64(int),
                Value::Uint64(_) => Value::Uint64(number),
                Value::Uint8(_) => Value::Uint8(u8::try_from(number).unwrap_or(u8::MAX)),
                _ => Value::Int(int),
            };
            if self.round(&branch.pipeline, Value::Missing, &item, branch)? == Flow::Break {
                break;
            }
        }
        Ok((length > 0).then_some(()))
    }

    fn round(&mut self, pipeline: &Pipeline, index: Value, item: &Value, branch: &Branch) -> Result<Flow, Failure> {
        self.context.budget.work(1)?;
        let values = match pipeline.variables.len() {
            0 => vec![],
            1 => vec![item.clone()],
            _ => vec![index, item.clone()],
        };
        let declared = self.variables.len() - values.len().min(self.variables.len());
        for (at, value) in values.into_iter().enumerate() {
            if pipeline.assigns {
                self.assign(&pipeline.variables[at], value)?;
            } else if let Some(variable) = self.variables.get_mut(declared + at) {
                variable.1 = value;
            }
        }
        let mark = self.variables.len();
        let flow = self.walk_all(item, &branch.body)?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn call_template(&mut self, dot: &Value, name: &str, argument: Option<&Pipeline>) -> Result<(), Failure> {
        let templates = self.templates;
        let body = templates
            .get(name)
            .ok_or_else(|| format!("template {name:?} not defined"))?;
        let dot = match argument {
            Some(pipeline) => self.pipeline(dot, pipeline)?,
            None => Value::Missing,
        };
        let (mark, first) = (self.variables.len(), self.first_variable);
        self.variables.push((Arc::from("$"), dot.clone()));
        self.first_variable = mark;
        self.walk_all(&dot, body)?;
        self.variables.truncate(mark);
        self.first_variable = first;
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Value, Failure> {
        let visible = &mut self.variables[self.first_variable..];
        self.context.budget.work(1 + visible.len() as u64 / 64)?;
        visible
            .iter_mut()
            .rev()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| value)
            .ok_or_else(|| format!("undefined variable: {name}").into())
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), Failure> {
        *self.variable(name)? = value;
        Ok(())
    }
}
