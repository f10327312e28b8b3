//! The evaluation of a checked expression, step by step and counted.
//!
//! Kubernetes gives an expression a budget of a million units of cost, by a model of what each step costs. The same units
//! are counted here (`interpreter/runtimecost.go` and the API server's `library/cost.go`), so that what stops there
//! stops here. That model takes some steps for cheaper than they are: lists that double with every step, texts that are
//! replaced by longer ones. So work is counted as well, with a budget that no sensible expression comes near.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde_json::Value as Json;

use super::{
    ast::{Call, Comprehension, Expr, Kind, Literal},
    call, cost,
    types::TYPE_NAMES,
    value::{Key, List, Map, Text, Value},
};
use crate::pattern::Pattern;

/// Kubernetes' `PerCallLimit`.
const MAX_COST: u64 = 1_000_000;
/// Elements made, bytes written, values compared.
const MAX_WORK: u64 = 10_000_000;
/// What it takes to compile a pattern, in the same units.
const PATTERN_WORK: u64 = 100_000;

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Why there is no value.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The expression takes too long: nothing can go on.
    Cost,
    Work,
    /// An error that a `||` or `&&` around it may not care about.
    Error(Rc<str>),
}

impl Failure {
    pub(super) fn error(reason: impl Into<String>) -> Self {
        Self::Error(reason.into().into())
    }

    pub(super) fn overload(function: &str, args: &[&Value<'_>]) -> Self {
        let types: Vec<_> = args.iter().map(|arg| arg.type_name()).collect();
        Self::error(format!("{function} cannot be applied to ({})", types.join(", ")))
    }
}

/// What is left of the budgets.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) cost: u64,
    work: u64,
}

impl Meter {
    /// Cost, or the work in its units where that is more.
    pub(super) fn effort(&self) -> u64 {
        self.cost.max(self.work / (MAX_WORK / MAX_COST))
    }

    fn charge(&mut self, cost: u64) -> Result<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > MAX_COST {
            Err(Failure::Cost)
        } else {
            Ok(())
        }
    }

    pub(super) fn work(&mut self, units: u64) -> Result<()> {
        self.work = self.work.saturating_add(units);
        if self.work > MAX_WORK {
            Err(Failure::Work)
        } else {
            Ok(())
        }
    }
}

/// Evaluates over an object: the value, and what it took.
pub(super) fn run<'a>(expr: &Expr, object: &'a Json) -> (Result<Value<'a>>, Meter) {
    let mut evaluation = Evaluation {
        object: Value::of(object),
        bindings: Vec::new(),
        meter: Meter { cost: 0, work: 0 },
        patterns: HashMap::new(),
    };
    let value = evaluation.eval(expr);
    (value, evaluation.meter)
}

pub(super) struct Evaluation<'e, 'a> {
    object: Value<'a>,
    /// Variables of loops, innermost last. One that a loop carries along may be an error that does not matter yet.
    bindings: Vec<(&'e str, Result<Value<'a>>)>,
    pub(super) meter: Meter,
    patterns: HashMap<String, Pattern>,
}

/// A value on the way through fields and indexes.
struct Resolved<'a> {
    value: Value<'a>,
    /// An optional step was taken: what comes out is an optional.
    optional: bool,
    /// It led to nothing: no further step is taken.
    absent: bool,
}

impl<'a> Resolved<'a> {
    fn into_value(self) -> Value<'a> {
        match (self.absent, self.optional) {
            (true, _) => Value::Optional(None),
            (false, true) => Value::some(self.value),
            (false, false) => self.value,
        }
    }
}

impl<'e, 'a> Evaluation<'e, 'a> {
    pub(super) fn eval(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        if expr.constant {
            return self.constant(expr);
        }
        if is_attribute(expr) {
            let resolved = stopped(self.resolve(expr))?;
            match (root(expr).is_some_and(is_conditional), is_test(expr)) {
                (false, false) => self.meter.charge(1)?,
                (true, true) => self.meter.cost = self.meter.cost.saturating_sub(1),
                _ => {}
            }
            return resolved.map(Resolved::into_value);
        }
        match &expr.kind {
            Kind::Call(call) => self.call(call),
            Kind::List(_) => self.list(expr),
            Kind::Map(_) => self.map(expr),
            Kind::Comprehension(parts) => self.comprehension(parts),
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(_) | Kind::Select(_) => self.resolve(expr).map(Resolved::into_value),
        }
    }

    /// What costs nothing, since it is known beforehand.
    fn constant(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        let before = std::mem::take(&mut self.meter.cost);
        let value = match &expr.kind {
            Kind::Literal(literal) => Ok(literal_value(literal)),
            Kind::Ident(name) => {
                let name = TYPE_NAMES.iter().find(|known| *known == name);
                name.map(|name| Value::Type(name))
                    .ok_or_else(|| Failure::error("unknown type"))
            }
            Kind::List(_) => self.list(expr),
            Kind::Map(_) => self.map(expr),
            Kind::Call(call) if call.function == "@in" => Ok(Value::Bool(false)),
            Kind::Call(call) => self.call(call),
            _ => Err(Failure::error("not a constant")),
        };
        self.meter.cost = before;
        value
    }

    /// A variable, a field or an index, and what leads to it. Steps cost; the whole costs where it is used.
    fn resolve(&mut self, expr: &'e Expr) -> Result<Resolved<'a>> {
        let plain = |value| Resolved {
            value,
            optional: false,
            absent: false,
        };
        match &expr.kind {
            Kind::Ident(name) if !expr.constant => self.variable(name).map(plain),
            Kind::Select(select) => {
                let base = self.base(&select.operand)?;
                if select.test {
                    return self.test(&base, &select.field).map(plain);
                }
                self.step(base, &Member::Field(&select.field), false)
            }
            Kind::Call(call) if is_index(call) => self.index(call),
            Kind::Call(call) if call.function == "_?_:_" => match self.eval(&call.args[0])? {
                Value::Bool(yes) => {
                    let branch = &call.args[if yes { 1 } else { 2 }];
                    if is_attribute(branch) {
                        self.resolve(branch)
                    } else {
                        self.eval(branch).map(plain)
                    }
                }
                other => Err(Failure::overload("?:", &[&other])),
            },
            _ => self.eval(expr).map(plain),
        }
    }

    /// Where a chain of steps begins or goes on.
    fn base(&mut self, operand: &'e Expr) -> Result<Resolved<'a>> {
        let mut base = self.resolve(operand)?;
        // The first step looks into an optional; those after it are about what is in there.
        if let Value::Optional(value) = &base.value
            && !is_step(operand)
        {
            base.optional = true;
            match value.clone() {
                Some(value) => base.value = value.as_ref().clone(),
                None => base.absent = true,
            }
        }
        Ok(base)
    }

    fn index(&mut self, call: &'e Call) -> Result<Resolved<'a>> {
        let base = self.base(&call.args[0])?;
        let index = &call.args[1];
        if base.absent {
            return Ok(base);
        }
        let key = if is_attribute(index) {
            self.resolve(index).map(Resolved::into_value)
        } else {
            self.eval(index)
        };
        let key = stopped(key)?;
        if key.is_err() {
            self.meter.charge(1)?;
        }
        self.step(base, &Member::Index(&key?), call.function != "_[_]")
    }

    fn step(&mut self, base: Resolved<'a>, key: &Member<'_, 'a>, optional: bool) -> Result<Resolved<'a>> {
        if base.absent {
            return Ok(base);
        }
        let optional = optional || base.optional;
        let found = qualify(&base.value, key);
        if !(optional && matches!(found, Ok(None))) {
            self.meter.charge(1)?;
        }
        match found? {
            Some(value) => Ok(Resolved {
                value,
                optional,
                absent: false,
            }),
            None if optional => Ok(Resolved {
                value: Value::Null,
                optional,
                absent: true,
            }),
            None => Err(missing(&base.value, key)),
        }
    }

    fn test(&mut self, base: &Resolved<'a>, field: &str) -> Result<Value<'a>> {
        if base.absent {
            return Ok(Value::Bool(false));
        }
        self.meter.charge(1)?;
        match &base.value {
            Value::Map(map) => Ok(Value::Bool(map.get_text(field).is_some())),
            Value::List(_) => Err(Failure::error("a list has no fields")),
            _ => Ok(Value::Bool(false)),
        }
    }

    fn variable(&self, name: &str) -> Result<Value<'a>> {
        match self.bindings.iter().rev().find(|(bound, _)| *bound == name) {
            Some((_, value)) => value.clone(),
            None if name == "object" => Ok(self.object.clone()),
            None => Err(Failure::error(format!("{name} is not known"))),
        }
    }

    fn call(&mut self, call: &'e Call) -> Result<Value<'a>> {
        match call.function.as_str() {
            "_&&_" => return self.logical(call, false),
            "_||_" => return self.logical(call, true),
            "@not_strictly_false" => return self.not_strictly_false(&call.args[0]),
            "or" | "orValue" if call.args.len() == 1 => return self.alternative(call),
            _ => {}
        }
        if let Some(found) = self.constant_membership(call)? {
            return Ok(found);
        }
        let count = call.args.len() + usize::from(call.target.is_some());
        let mut args = Vec::with_capacity(count);
        let mut failure = None;
        for arg in call.target.iter().chain(&call.args) {
            match stopped(self.eval(arg))? {
                Ok(value) => args.push(value),
                // Of up to two arguments all are looked at, of more none after an error.
                Err(error) if count > 2 && args.len() + 1 < count => return Err(error),
                Err(error) => {
                    failure = failure.or(Some(error));
                    args.push(Value::Null);
                }
            }
        }
        let value = match failure {
            Some(failure) => Err(failure),
            None => stopped(call::call(&call.function, &args, self))?,
        };
        let result = value.as_ref().unwrap_or(&Value::Null);
        let cost = cost::of(&call.function, call.overload, &args, result, &mut self.meter)?;
        self.meter.charge(cost)?;
        value
    }

    /// A search in a list of literals is no search but a look-up, and costs nothing.
    fn constant_membership(&mut self, call: &'e Call) -> Result<Option<Value<'a>>> {
        let Some(("in_list", list)) = call.overload.zip(call.args.get(1)) else {
            return Ok(None);
        };
        let Kind::List(elements) = &list.kind else {
            return Ok(None);
        };
        let simple = |expr: &'e Expr| matches!(&expr.kind, Kind::Literal(literal) if !matches!(literal, Literal::Bytes(_) | Literal::Null));
        if !elements.iter().all(|element| simple(&element.value)) {
            return Ok(None);
        }
        let wanted = self.eval(&call.args[0])?;
        for element in elements {
            if self.eval(&element.value)?.equals(&wanted, &mut self.meter)? {
                return Ok(Some(Value::Bool(true)));
            }
        }
        Ok(Some(Value::Bool(false)))
    }

    /// `&&` and `||`: an error on one side does not matter if the other decides.
    fn logical(&mut self, call: &'e Call, decisive: bool) -> Result<Value<'a>> {
        let mut error = None;
        for arg in &call.args {
            match self.eval(arg) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(other) => error = error.or(Some(Failure::overload(&call.function, &[&other]))),
                Err(failure @ Failure::Error(_)) => error = error.or(Some(failure)),
                Err(stop) => return Err(stop),
            }
        }
        error.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn not_strictly_false(&mut self, arg: &'e Expr) -> Result<Value<'a>> {
        let value = match self.eval(arg) {
            Ok(Value::Bool(value)) => value,
            Ok(_) | Err(Failure::Error(_)) => true,
            Err(stop) => return Err(stop),
        };
        self.meter.charge(1)?;
        Ok(Value::Bool(value))
    }

    /// `a.or(b)` and `a.orValue(b)`: the other side is not looked at unless it is needed.
    fn alternative(&mut self, call: &'e Call) -> Result<Value<'a>> {
        let Some(target) = &call.target else {
            return Err(Failure::overload(&call.function, &[]));
        };
        match self.eval(target)? {
            Value::Optional(None) => self.eval(&call.args[0]),
            Value::Optional(Some(value)) if call.function == "orValue" => Ok(value.as_ref().clone()),
            present @ Value::Optional(_) => Ok(present),
            other => Err(Failure::overload(&call.function, &[&other])),
        }
    }

    fn list(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        let value = stopped(self.elements(expr))?;
        self.meter.charge(cost::LIST)?;
        value
    }

    fn elements(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        let Kind::List(elements) = &expr.kind else {
            return Err(Failure::error("not a list"));
        };
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.eval(&element.value)?;
            if !element.optional {
                values.push(value);
                continue;
            }
            match value {
                Value::Optional(value) => values.extend(value.map(|value| value.as_ref().clone())),
                other => return Err(Failure::overload("?", &[&other])),
            }
        }
        self.meter.work(1 + values.len() as u64)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        let value = stopped(self.entries(expr))?;
        self.meter.charge(cost::MAP)?;
        value
    }

    fn entries(&mut self, expr: &'e Expr) -> Result<Value<'a>> {
        let Kind::Map(entries) = &expr.kind else {
            return Err(Failure::error("not a map"));
        };
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = self.eval(&entry.value)?;
            let value = match value {
                Value::Optional(None) if entry.optional => continue,
                Value::Optional(Some(value)) if entry.optional => value.as_ref().clone(),
                other if entry.optional => return Err(Failure::overload("?", &[&other])),
                other => other,
            };
            let key = Key::of(&key).ok_or_else(|| Failure::overload("a key", &[&key]))?;
            map.insert(key, value);
        }
        self.meter.work(1 + map.len() as u64)?;
        Ok(Value::Map(Map::Made(Rc::new(map))))
    }

    fn comprehension(&mut self, parts: &'e Comprehension) -> Result<Value<'a>> {
        let range = self.eval(&parts.range)?;
        let two = parts.second.is_some();
        let items: Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + '_> = match &range {
            Value::List(list) if two => Box::new(
                list.iter()
                    .enumerate()
                    .map(|(index, value)| (Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), value)),
            ),
            Value::List(list) => Box::new(list.iter().map(|value| (value, Value::Null))),
            Value::Map(map) => {
                self.meter.work(map.len() as u64)?;
                Box::new(map.entries().into_iter().map(|(key, value)| (key.value(), value)))
            }
            other => return Err(Failure::overload("a loop", &[other])),
        };
        let depth = self.bindings.len();
        let value = self.fold(parts, items, depth);
        self.bindings.truncate(depth);
        value
    }

    fn fold(
        &mut self,
        parts: &'e Comprehension,
        items: Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + '_>,
        depth: usize,
    ) -> Result<Value<'a>> {
        let mut accumulator = stopped(self.eval(&parts.init))?;
        for (first, second) in items {
            self.meter.work(1)?;
            self.bindings.push((&*parts.accumulator, accumulator.clone()));
            self.bindings.push((&*parts.variable, Ok(first)));
            if let Some(name) = &parts.second {
                self.bindings.push((name, Ok(second)));
            }
            match self.eval(&parts.condition) {
                Ok(Value::Bool(false)) => break,
                Err(stop @ (Failure::Cost | Failure::Work)) => return Err(stop),
                _ => {}
            }
            if !self.collected(parts, &mut accumulator, depth)? {
                accumulator = stopped(self.eval(&parts.step))?;
            }
            self.bindings.truncate(depth);
        }
        self.bindings.truncate(depth);
        self.bindings.push((&*parts.accumulator, accumulator));
        self.eval(&parts.result)
    }

    /// A loop that collects makes its list or map anew with each round, which would take as long as it is long. So what
    /// is carried along is added to where it is, since nobody else holds it.
    fn collected(
        &mut self,
        parts: &'e Comprehension,
        accumulator: &mut Result<Value<'a>>,
        depth: usize,
    ) -> Result<bool> {
        let Some((filter, added)) = collection(parts) else {
            return Ok(false);
        };
        if !matches!(accumulator, Ok(Value::List(List::Made(_)) | Value::Map(Map::Made(_)))) {
            return Ok(false);
        }
        match filter.map_or(Ok(Value::Bool(true)), |filter| self.eval(filter)) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(true),
            Ok(other) => {
                *accumulator = Err(Failure::overload("?:", &[&other]));
                return Ok(true);
            }
            Err(failure) => {
                *accumulator = stopped(Err(failure))?;
                return Ok(true);
            }
        }
        // The carried value is read, as it would be.
        self.meter.charge(1)?;
        let mut values = Vec::with_capacity(added.len());
        for expr in added {
            match stopped(self.eval(expr))? {
                Ok(value) => values.push(value),
                failure => {
                    *accumulator = failure;
                    return Ok(true);
                }
            }
        }
        self.bindings.truncate(depth);
        self.meter.charge(1)?;
        self.meter.work(1)?;
        match (&mut *accumulator, &mut values[..]) {
            (Ok(Value::List(List::Made(made))), [Value::List(list)]) => Rc::make_mut(made).extend(list.iter()),
            (Ok(Value::Map(Map::Made(made))), added) => {
                let added = match added {
                    [Value::Map(map)] => map.entries(),
                    [key, value] => match Key::of(key) {
                        Some(key) => vec![(key, value.clone())],
                        None => {
                            return stopped(Err(Failure::overload("a key", &[key]))).map(|failure| {
                                *accumulator = failure;
                                true
                            });
                        }
                    },
                    _ => Vec::new(),
                };
                self.meter.work(added.len() as u64)?;
                let made = Rc::make_mut(made);
                for (key, value) in added {
                    if made.contains_key(&key) {
                        *accumulator = Err(Failure::error(format!("the key {key} comes twice")));
                        return Ok(true);
                    }
                    made.insert(key, value);
                }
            }
            (_, values) => {
                *accumulator = Err(Failure::overload("a collection", &values.iter().collect::<Vec<_>>()));
            }
        }
        Ok(true)
    }

    /// A pattern, compiled once in an evaluation.
    pub(super) fn pattern(&mut self, source: &str) -> Result<Pattern> {
        if let Some(known) = self.patterns.get(source) {
            return Ok(known.clone());
        }
        self.meter.work(PATTERN_WORK)?;
        let pattern = Pattern::new(source).map_err(|error| Failure::error(error.to_string()))?;
        self.patterns.insert(source.to_owned(), pattern.clone());
        Ok(pattern)
    }
}

/// Of a loop that collects: what decides whether there is something to collect, and that.
fn collection(parts: &Comprehension) -> Option<(Option<&Expr>, &[Expr])> {
    let carried = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if *name == parts.accumulator);
    let adds = |expr: &Expr| match &expr.kind {
        Kind::Call(call) => match (call.function.as_str(), &call.args[..]) {
            ("_+_", [first, added]) => carried(first) && matches!(added.kind, Kind::List(_)),
            ("cel.@mapInsert", [first, ..]) => carried(first),
            _ => false,
        },
        _ => false,
    };
    let Kind::Call(step) = &parts.step.kind else {
        return None;
    };
    if adds(&parts.step) {
        return Some((None, &step.args[1..]));
    }
    let Kind::Call(inner) = &step.args.get(1)?.kind else {
        return None;
    };
    let filtered = step.function == "_?_:_" && adds(&step.args[1]) && carried(&step.args[2]);
    filtered.then(|| (Some(&step.args[0]), &inner.args[1..]))
}

/// An error may not matter in the end, a stop does.
fn stopped<T>(value: Result<T>) -> Result<Result<T>> {
    match value {
        Err(stop @ (Failure::Cost | Failure::Work)) => Err(stop),
        other => Ok(other),
    }
}

fn literal_value<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Owned(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

fn is_index(call: &Call) -> bool {
    matches!(call.function.as_str(), "_[_]" | "_[?_]" | "_?._")
}

fn is_conditional(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Call(call) if call.function == "_?_:_")
}

fn is_test(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Select(select) if select.test)
}

fn is_step(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Select(select) => !select.test,
        Kind::Call(call) => is_index(call),
        _ => false,
    }
}

/// What cel-go calls an attribute: a variable, a choice, and steps from anywhere.
fn is_attribute(expr: &Expr) -> bool {
    !expr.constant && (matches!(expr.kind, Kind::Ident(_) | Kind::Select(_)) || is_step(expr) || is_conditional(expr))
}

/// Where a chain of steps begins.
fn root(expr: &Expr) -> Option<&Expr> {
    match &expr.kind {
        Kind::Select(select) => root(&select.operand),
        Kind::Call(call) if is_index(call) => root(call.args.first()?),
        _ => Some(expr),
    }
}

/// What a step asks for.
enum Member<'k, 'a> {
    Field(&'k str),
    Index(&'k Value<'a>),
}

/// A member of a value. None: there is none of this key.
fn qualify<'a>(value: &Value<'a>, key: &Member<'_, 'a>) -> Result<Option<Value<'a>>> {
    let field = match key {
        Member::Field(name) => Some(*name),
        Member::Index(Value::String(text)) => Some(&**text),
        Member::Index(_) => None,
    };
    match (value, field, key) {
        (Value::Map(map), Some(name), _) => Ok(map.get_text(name)),
        (Value::Map(map), None, Member::Index(key)) => match Key::of(key) {
            Some(key) => Ok(map.get(&key)),
            None if matches!(key, Value::Double(_)) => Ok(None),
            None => Err(Failure::overload("a key", &[key])),
        },
        (Value::List(list), None, Member::Index(key)) => list_index(list, key),
        (Value::List(_), Some(_), _) => Err(Failure::error("a list has indexes and no fields")),
        (
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_),
            Some(_),
            _,
        ) => Ok(None),
        (other, ..) => Err(Failure::overload("a field or an index", &[other])),
    }
}

fn list_index<'a>(list: &List<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>> {
    match key {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => match Key::of(key) {
            Some(Key::Int(index)) => Ok(usize::try_from(index).ok().and_then(|index| list.get(index))),
            Some(Key::Uint(_)) => Ok(None),
            _ => Err(Failure::overload("an index", &[key])),
        },
        other => Err(Failure::overload("an index", &[other])),
    }
}

fn missing(value: &Value<'_>, key: &Member<'_, '_>) -> Failure {
    let key = match key {
        Member::Field(name) => format!("{name:?}"),
        Member::Index(key) => Key::of(key).map_or_else(|| key.type_name().to_owned(), |key| key.to_string()),
    };
    Failure::error(match value {
        Value::List(list) => format!("index {key} is not in a list of {}", list.len()),
        Value::Map(_) => format!("there is no {key}"),
        other => format!("{} has no {key}", other.type_name()),
    })
}
