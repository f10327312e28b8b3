//! Types of an expression, found before it is ever evaluated, by cel-go's rules (`checker`): a call needs an overload that
//! its arguments can be, where what comes out of the object can be anything.

use std::collections::HashMap;

use super::{
    InvalidExpression,
    ast::{Call, Comprehension, Element, Entry, Expr, Kind, Literal, Select},
    types::{FUNCTIONS, Overload, TYPE_NAMES, Type},
};

/// Parts of one type. Maps of maps of themselves grow twofold with each step.
const MAX_TYPE: usize = 1000;

/// Finds the type, and notes in the expression what was found out on the way.
pub(super) fn check(source: &str, expr: &mut Expr) -> Result<Type, InvalidExpression> {
    let mut checker = Checker {
        source,
        scopes: vec![HashMap::from([("object".to_owned(), Type::Dyn)])],
        params: Params::default(),
        literals: Vec::new(),
        formats: 0,
    };
    let found = checker.check(expr)?;
    checker.uniform_literals()?;
    Ok(checker.params.resolved(&found))
}

struct Checker<'s> {
    source: &'s str,
    scopes: Vec<HashMap<String, Type>>,
    params: Params,
    /// Of every list, of the keys and of the values of every map: where each is, and its type.
    literals: Vec<Vec<(usize, Type)>>,
    /// Calls of `format` around: their literals may mix types.
    formats: usize,
}

type Checked = Result<Type, InvalidExpression>;

impl Checker<'_> {
    fn error(&self, at: usize, reason: impl Into<String>) -> InvalidExpression {
        InvalidExpression::at(self.source, at, reason)
    }

    fn check(&mut self, expr: &mut Expr) -> Checked {
        let at = expr.at;
        let found = match &mut expr.kind {
            Kind::Literal(literal) => {
                expr.constant = true;
                literal_type(literal)
            }
            Kind::Ident(name) => self.ident(at, name)?,
            Kind::Select(_) => self.select_or_name(expr)?,
            Kind::Call(call) => self.call(at, call)?,
            Kind::List(elements) => self.list(elements)?,
            Kind::Map(entries) => self.map(entries)?,
            Kind::Comprehension(parts) => self.comprehension(parts)?,
        };
        expr.constant = is_constant(expr);
        if found.is_within(&mut MAX_TYPE.clone()) {
            Ok(found)
        } else {
            Err(self.error(at, "its type is too large"))
        }
    }

    fn lookup(&self, name: &str) -> Option<Type> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        found
            .cloned()
            .or_else(|| TYPE_NAMES.contains(&name).then_some(Type::Kind))
    }

    fn ident(&self, at: usize, name: &str) -> Checked {
        self.lookup(name)
            .ok_or_else(|| self.error(at, format!("{name:?} is not known; the object is called \"object\"")))
    }

    fn select_or_name(&mut self, expr: &mut Expr) -> Checked {
        let at = expr.at;
        if let Some(name) = expr.qualified_name()
            && let Some(found) = self.lookup(&name)
        {
            expr.kind = Kind::Ident(name);
            return Ok(found);
        }
        let Kind::Select(select) = &mut expr.kind else {
            return Err(self.error(at, "a field was expected"));
        };
        let found = self.select(at, select)?;
        Ok(if select.test { Type::Bool } else { found })
    }

    fn select(&mut self, at: usize, select: &mut Select) -> Checked {
        let operand = self.check(&mut select.operand)?;
        self.field(at, &operand, false)
    }

    /// The type of any field of this.
    fn field(&mut self, at: usize, operand: &Type, optional: bool) -> Checked {
        let operand = self.params.substituted(operand);
        let (target, was_optional) = match &operand {
            Type::Optional(value) => (value.as_ref(), true),
            other => (other, false),
        };
        let found = match target {
            Type::Map(entry) => entry.1.clone(),
            Type::Dyn => Type::Dyn,
            Type::Param(_) => {
                self.params.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            other => return Err(self.error(at, format!("{other} has no fields"))),
        };
        let found = self.params.substituted(&found);
        Ok(if optional || was_optional {
            Type::optional(found)
        } else {
            found
        })
    }

    fn call(&mut self, at: usize, call: &mut Call) -> Checked {
        if call.function == "_?._" {
            let operand = self.check(&mut call.args[0])?;
            call.overload = Some("select_optional_field");
            return self.field(at, &operand, true);
        }
        let formats = call.function == "format";
        self.formats += usize::from(formats);
        let mut types = Vec::with_capacity(call.args.len() + 1);
        for arg in &mut call.args {
            types.push(self.check(arg)?);
        }
        if let Some(target) = &mut call.target {
            let qualified = target.qualified_name().map(|name| format!("{name}.{}", call.function));
            if let Some(qualified) = qualified.filter(|name| FUNCTIONS.contains_key(name.as_str())) {
                call.function = qualified;
                call.target = None;
            } else {
                types.insert(0, self.check(target)?);
            }
        }
        self.formats -= usize::from(formats);
        let overloads = FUNCTIONS
            .get(call.function.as_str())
            .ok_or_else(|| self.error(at, format!("there is no function {:?}", call.function)))?;
        let found = self.resolve(at, call, overloads, &types)?;
        self.check_literal_arguments(call)?;
        self.check_format(call)?;
        Ok(found)
    }

    fn resolve(&mut self, at: usize, call: &mut Call, overloads: &'static [Overload], types: &[Type]) -> Checked {
        let mut found: Option<Type> = None;
        let mut matched = Vec::new();
        for overload in overloads
            .iter()
            .filter(|overload| overload.member == call.target.is_some())
        {
            let first = self.params.fresh(overload.params);
            let args: Vec<_> = overload.args.iter().map(|arg| shifted(arg, first)).collect();
            if !self.params.all_assignable(types, &args) {
                continue;
            }
            matched.push(overload.id);
            let result = self.params.substituted(&shifted(&overload.result, first));
            found = Some(match found {
                Some(before) if before != Type::Dyn && before != result => Type::Dyn,
                Some(before) => before,
                None => result,
            });
        }
        if let [only] = matched[..] {
            call.overload = Some(only);
        }
        found.ok_or_else(|| {
            let types: Vec<_> = types
                .iter()
                .map(|found| self.params.resolved(found).to_string())
                .collect();
            self.error(
                at,
                format!(
                    "{:?} cannot be applied to ({})",
                    shown(&call.function),
                    types.join(", ")
                ),
            )
        })
    }

    /// Texts that are a pattern, a duration or a point in time are checked as such.
    fn check_literal_arguments(&self, call: &Call) -> Result<(), InvalidExpression> {
        if call.function == "matches"
            && call.target.is_none()
            && let Some((at, pattern)) = call.args.get(1).and_then(literal_text)
            && let Err(error) = crate::pattern::Pattern::new(pattern)
        {
            return Err(self.error(at, error.to_string()));
        }
        let Some((at, text)) = call.args.first().and_then(literal_text) else {
            return Ok(());
        };
        let refused = match call.function.as_str() {
            "matches" | "find" | "findAll" if call.function == "matches" || call.target.is_some() => {
                crate::pattern::Pattern::new(text).err().map(|error| error.to_string())
            }
            "duration" => super::time::duration(text)
                .is_none()
                .then(|| "it is not a duration, such as 1h30m".to_owned()),
            "timestamp" => super::time::timestamp(text)
                .is_none()
                .then(|| "it is not a point in time (RFC 3339)".to_owned()),
            _ => None,
        };
        refused.map_or(Ok(()), |reason| Err(self.error(at, reason)))
    }

    /// A format that is written out, with its values in a list that is written out.
    fn check_format(&mut self, call: &mut Call) -> Result<(), InvalidExpression> {
        let (Some(target), [args]) = (&call.target, &mut call.args[..]) else {
            return Ok(());
        };
        let (Some((at, text)), "format", Kind::List(elements)) =
            (literal_text(target), &*call.function, &mut args.kind)
        else {
            return Ok(());
        };
        let mut types = Vec::with_capacity(elements.len());
        self.formats += 1;
        for element in elements {
            let found = self.check(&mut element.value)?;
            types.push(self.params.resolved(&found));
        }
        self.formats -= 1;
        super::format::check(text, &types).map_err(|reason| self.error(at, reason))
    }

    fn list(&mut self, elements: &mut [Element]) -> Checked {
        let mut joined = None;
        let mut types = Vec::new();
        for element in elements {
            let at = element.value.at;
            let found = self.check(&mut element.value)?;
            let found = self.unwrapped(at, found, element.optional)?;
            types.push((at, found.clone()));
            joined = Some(self.joined(joined, found));
        }
        if self.formats == 0 {
            self.literals.push(types);
        }
        Ok(Type::list(joined.unwrap_or_else(|| Type::Param(self.params.fresh(1)))))
    }

    fn map(&mut self, entries: &mut [Entry]) -> Checked {
        let (mut keys, mut values) = (None, None);
        let (mut key_types, mut value_types) = (Vec::new(), Vec::new());
        for entry in entries {
            let key = self.check(&mut entry.key)?;
            key_types.push((entry.key.at, key.clone()));
            keys = Some(self.joined(keys, key));
            let at = entry.value.at;
            let found = self.check(&mut entry.value)?;
            let value = self.unwrapped(at, found, entry.optional)?;
            value_types.push((at, value.clone()));
            values = Some(self.joined(values, value));
        }
        if self.formats == 0 {
            self.literals.extend([key_types, value_types]);
        }
        let (Some(key), Some(value)) = (keys, values) else {
            let first = self.params.fresh(2);
            return Ok(Type::map(Type::Param(first), Type::Param(first + 1)));
        };
        Ok(Type::map(key, value))
    }

    fn unwrapped(&self, at: usize, found: Type, optional: bool) -> Checked {
        match found {
            Type::Optional(value) if optional => Ok(value.as_ref().clone()),
            Type::Dyn => Ok(Type::Dyn),
            other if optional => Err(self.error(at, format!("it has to be an optional, not {other}"))),
            other => Ok(other),
        }
    }

    fn joined(&mut self, before: Option<Type>, found: Type) -> Type {
        match before {
            None => found,
            Some(before) if self.params.assignable(&before, &found) => most_general(&before, &found).clone(),
            Some(_) => Type::Dyn,
        }
    }

    fn comprehension(&mut self, parts: &mut Comprehension) -> Checked {
        let range = self.check(&mut parts.range)?;
        let accumulator = self.check(&mut parts.init)?;
        let range = self.params.substituted(&range);
        let (first, second) = match &range {
            Type::List(element) if parts.second.is_some() => (Type::Int, element.as_ref().clone()),
            Type::List(element) => (element.as_ref().clone(), Type::Dyn),
            Type::Map(entry) => (entry.0.clone(), entry.1.clone()),
            Type::Dyn | Type::Param(_) => {
                self.params.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => return Err(self.error(parts.range.at, format!("{other} is neither a list nor a map"))),
        };
        self.scopes
            .push(HashMap::from([(parts.accumulator.clone(), accumulator.clone())]));
        let mut variables = HashMap::from([(parts.variable.clone(), first)]);
        if let Some(name) = &parts.second {
            variables.insert(name.clone(), second);
        }
        self.scopes.push(variables);
        let condition = self.check(&mut parts.condition)?;
        self.expect(parts.condition.at, &Type::Bool, &condition)?;
        let step = self.check(&mut parts.step)?;
        self.expect(parts.step.at, &accumulator, &step)?;
        self.scopes.pop();
        let result = self.check(&mut parts.result)?;
        self.scopes.pop();
        Ok(self.params.substituted(&result))
    }

    fn expect(&mut self, at: usize, wanted: &Type, found: &Type) -> Result<(), InvalidExpression> {
        if self.params.assignable(wanted, found) {
            return Ok(());
        }
        let (wanted, found) = (self.params.resolved(wanted), self.params.resolved(found));
        Err(self.error(at, format!("{wanted} was expected, not {found}")))
    }

    /// Kubernetes refuses literals whose values are of several types, also where one is of a type not known before.
    fn uniform_literals(&self) -> Result<(), InvalidExpression> {
        for literal in &self.literals {
            let mut types = literal.iter().map(|(at, found)| (*at, self.params.resolved(found)));
            let Some((_, first)) = types.next() else { continue };
            if let Some((at, other)) = types.find(|(_, found)| *found != first) {
                return Err(self.error(at, mixed(&first, &other)));
            }
        }
        Ok(())
    }
}

fn literal_text(expr: &Expr) -> Option<(usize, &str)> {
    match &expr.kind {
        Kind::Literal(Literal::String(text)) => Some((expr.at, text)),
        _ => None,
    }
}

fn mixed(first: &Type, other: &Type) -> String {
    format!("a literal cannot mix {first} and {other}; dyn(…) around each value makes them one type")
}

fn shown(function: &str) -> &str {
    if function == "@in" {
        "in"
    } else if function.starts_with('_') || function.ends_with('_') {
        function.trim_matches('_')
    } else {
        function
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// What cel-go computes before the evaluation: literals of literals, and their conversions.
fn is_constant(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Literal(_) => true,
        Kind::Ident(name) => TYPE_NAMES.contains(&name.as_str()),
        Kind::List(elements) => elements.iter().all(|element| element.value.constant),
        Kind::Map(entries) => entries.iter().all(|entry| entry.key.constant && entry.value.constant),
        Kind::Call(call) => {
            const CONVERSIONS: [&str; 10] = [
                "bool",
                "bytes",
                "double",
                "dyn",
                "duration",
                "int",
                "string",
                "timestamp",
                "type",
                "uint",
            ];
            let conversion = call.target.is_none() && CONVERSIONS.contains(&call.function.as_str());
            conversion && call.args.iter().all(|arg| arg.constant)
                || call.overload == Some("in_list")
                    && matches!(&call.args[1].kind, Kind::List(elements) if elements.is_empty())
        }
        Kind::Select(_) | Kind::Comprehension(_) => false,
    }
}

fn shifted(declared: &Type, first: usize) -> Type {
    match declared {
        Type::Param(index) => Type::Param(first + index),
        Type::List(element) => Type::list(shifted(element, first)),
        Type::Optional(value) => Type::optional(shifted(value, first)),
        Type::Map(entry) => Type::map(shifted(&entry.0, first), shifted(&entry.1, first)),
        other => other.clone(),
    }
}

/// What is known of types to be found out.
#[derive(Default)]
struct Params {
    known: Vec<Option<Type>>,
    /// What was known before, to go back to when a trial fails.
    trail: Vec<(usize, Option<Type>)>,
}

impl Params {
    fn fresh(&mut self, count: usize) -> usize {
        let first = self.known.len();
        self.known.resize(first + count, None);
        first
    }

    fn set(&mut self, index: usize, found: Type) {
        let before = self.known[index].replace(found);
        self.trail.push((index, before));
    }

    fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.all_assignable(std::slice::from_ref(to), std::slice::from_ref(from))
    }

    /// All or nothing.
    fn all_assignable(&mut self, left: &[Type], right: &[Type]) -> bool {
        self.trail.clear();
        let possible = left.len() == right.len() && left.iter().zip(right).all(|(left, right)| self.unify(left, right));
        if !possible {
            while let Some((index, before)) = self.trail.pop() {
                self.known[index] = before;
            }
        }
        possible
    }

    fn unify(&mut self, left: &Type, right: &Type) -> bool {
        if let Type::Param(index) = right {
            let (valid, known) = self.stands_for(left, *index);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(index) = left {
            return self.stands_for(right, *index).0;
        }
        match (left, right) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Optional(_) | Type::Named(_) | Type::Duration | Type::Timestamp
            ),
            (Type::List(left), Type::List(right)) | (Type::Optional(left), Type::Optional(right)) => {
                self.unify(left, right)
            }
            (Type::Map(left), Type::Map(right)) => self.unify(&left.0, &right.0) && self.unify(&left.1, &right.1),
            _ => left == right,
        }
    }

    /// Whether a type can be what an open one stands for, and whether that was known already.
    fn stands_for(&mut self, found: &Type, index: usize) -> (bool, bool) {
        if *found == Type::Param(index) {
            return (true, true);
        }
        if let Some(known) = self.known[index].clone() {
            if *found == known {
                return (true, true);
            }
            if !self.unify(found, &known) {
                return (false, true);
            }
            let general = most_general(found, &known).clone();
            if self.is_free_of(index, &general) {
                self.set(index, general);
            }
            return (true, true);
        }
        if self.is_free_of(index, found) {
            self.set(index, found.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether an open type does not occur within another, which would make it endless.
    fn is_free_of(&self, index: usize, within: &Type) -> bool {
        match within {
            Type::Param(other) if *other == index => false,
            Type::Param(other) => self.known[*other]
                .as_ref()
                .is_none_or(|known| self.is_free_of(index, known)),
            Type::List(inner) | Type::Optional(inner) => self.is_free_of(index, inner),
            Type::Map(entry) => self.is_free_of(index, &entry.0) && self.is_free_of(index, &entry.1),
            _ => true,
        }
    }

    /// With all that is known put in.
    fn substituted(&self, found: &Type) -> Type {
        match found {
            Type::Param(index) => match &self.known[*index] {
                Some(known) => self.substituted(known),
                None => found.clone(),
            },
            Type::List(element) => Type::list(self.substituted(element)),
            Type::Optional(value) => Type::optional(self.substituted(value)),
            Type::Map(entry) => Type::map(self.substituted(&entry.0), self.substituted(&entry.1)),
            other => other.clone(),
        }
    }

    /// The same, and what is still open can be anything.
    fn resolved(&self, found: &Type) -> Type {
        fn closed(found: &Type) -> Type {
            match found {
                Type::Param(_) => Type::Dyn,
                Type::List(element) => Type::list(closed(element)),
                Type::Optional(value) => Type::optional(closed(value)),
                Type::Map(entry) => Type::map(closed(&entry.0), closed(&entry.1)),
                other => other.clone(),
            }
        }
        closed(&self.substituted(found))
    }
}

fn most_general<'t>(left: &'t Type, right: &'t Type) -> &'t Type {
    if is_equal_or_less_specific(left, right) {
        left
    } else {
        right
    }
}

fn is_equal_or_less_specific(left: &Type, right: &Type) -> bool {
    match (left, right) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(left), Type::List(right)) | (Type::Optional(left), Type::Optional(right)) => {
            is_equal_or_less_specific(left, right)
        }
        (Type::Map(left), Type::Map(right)) => {
            is_equal_or_less_specific(&left.0, &right.0) && is_equal_or_less_specific(&left.1, &right.1)
        }
        _ => left == right,
    }
}
