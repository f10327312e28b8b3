//! Calls that stand for a loop.

use super::ast::{Call, Comprehension, Element, Expr, Kind, Literal, Select};

/// The value that a loop carries along. No source can name it.
const ACCUMULATOR: &str = "@result";
const SORT_INPUT: &str = "@__sortBy_input__";
const UNUSED: &str = "#unused";

pub(super) enum Expanded {
    /// No macro: the call as it was.
    No(Call),
    /// What it stands for, and how many parts it has of its own.
    Yes(Expr, usize),
}

type Refused = (usize, String);

/// Spells a call out, if it is one of Kubernetes' macros.
pub(super) fn expand(at: usize, mut call: Call) -> Result<Expanded, Refused> {
    let name = call.function.as_str();
    let expander: fn(&Make, Expr, Vec<Expr>) -> Result<Expr, Refused> =
        match (name, call.target.is_some(), call.args.len()) {
            ("has", false, 1) => return has(at, call.args.swap_remove(0)),
            ("all", true, 2 | 3) => all,
            ("exists", true, 2 | 3) => exists,
            ("exists_one", true, 2 | 3) | ("existsOne", true, 3) => exists_one,
            ("map", true, 2 | 3) => map,
            ("filter", true, 2) => filter,
            ("transformList", true, 3 | 4) => transform_list,
            ("transformMap", true, 3 | 4) => transform_map,
            ("transformMapEntry", true, 3 | 4) => transform_map_entry,
            ("sortBy", true, 2) => sort_by,
            ("optMap", true, 2) => opt_map,
            ("optFlatMap", true, 2) => opt_flat_map,
            _ => return Ok(Expanded::No(call)),
        };
    let Some(target) = call.target.take() else {
        return Ok(Expanded::No(call));
    };
    let copied = if matches!(name, "optMap" | "optFlatMap") {
        size(&target)
    } else {
        0
    };
    let expr = expander(&Make { at }, target, call.args)?;
    Ok(Expanded::Yes(expr, 12 + copied))
}

fn has(at: usize, arg: Expr) -> Result<Expanded, Refused> {
    match arg.kind {
        Kind::Select(select) => Ok(Expanded::Yes(
            Expr::new(at, Kind::Select(Box::new(Select { test: true, ..*select }))),
            1,
        )),
        _ => Err((arg.at, "has() asks for a field, such as has(object.spec)".to_owned())),
    }
}

fn size(expr: &Expr) -> usize {
    1 + match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => 0,
        Kind::Select(select) => size(&select.operand),
        Kind::Call(call) => call.args.iter().chain(&call.target).map(size).sum(),
        Kind::List(elements) => elements.iter().map(|element| size(&element.value)).sum(),
        Kind::Map(entries) => entries.iter().map(|entry| size(&entry.key) + size(&entry.value)).sum(),
        Kind::Comprehension(parts) => [&parts.range, &parts.init, &parts.condition, &parts.step, &parts.result]
            .into_iter()
            .map(size)
            .sum(),
    }
}

/// Makes nodes that all stand where the macro stands.
struct Make {
    at: usize,
}

impl Make {
    fn literal(&self, literal: Literal) -> Expr {
        Expr::new(self.at, Kind::Literal(literal))
    }

    fn ident(&self, name: &str) -> Expr {
        Expr::new(self.at, Kind::Ident(name.to_owned()))
    }

    fn accumulator(&self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&self, function: &str, args: Vec<Expr>) -> Expr {
        self.any_call(function, None, args)
    }

    fn any_call(&self, function: &str, target: Option<Expr>, args: Vec<Expr>) -> Expr {
        Expr::new(
            self.at,
            Kind::Call(Box::new(Call {
                function: function.to_owned(),
                target,
                args,
                overload: None,
            })),
        )
    }

    fn list(&self, values: Vec<Expr>) -> Expr {
        let elements = values.into_iter().map(|value| Element { optional: false, value });
        Expr::new(self.at, Kind::List(elements.collect()))
    }

    /// `accumulator + [value]`, if the filter says so.
    fn appended(&self, value: Expr, filter: Option<Expr>) -> Expr {
        let step = self.call("_+_", vec![self.accumulator(), self.list(vec![value])]);
        self.filtered(step, filter)
    }

    fn filtered(&self, step: Expr, filter: Option<Expr>) -> Expr {
        match filter {
            Some(filter) => self.call("_?_:_", vec![filter, step, self.accumulator()]),
            None => step,
        }
    }

    fn fold(
        &self,
        range: Expr,
        (variable, second): (String, Option<String>),
        init: Expr,
        condition: Expr,
        step: Expr,
        result: Expr,
    ) -> Expr {
        Expr::new(
            self.at,
            Kind::Comprehension(Box::new(Comprehension {
                range,
                variable,
                second,
                accumulator: ACCUMULATOR.to_owned(),
                init,
                condition,
                step,
                result,
            })),
        )
    }

    /// `let name = value in result`.
    fn bind(&self, name: &str, value: Expr, result: Expr) -> Expr {
        Expr::new(
            self.at,
            Kind::Comprehension(Box::new(Comprehension {
                range: self.list(Vec::new()),
                variable: UNUSED.to_owned(),
                second: None,
                accumulator: name.to_owned(),
                init: value,
                condition: self.literal(Literal::Bool(false)),
                step: self.ident(name),
                result,
            })),
        )
    }
}

fn simple_name(expr: &Expr) -> Result<String, Refused> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((expr.at, "the name of a loop's variable was expected".to_owned())),
    }
}

/// One variable, or two if there is one argument more than the loop has parts.
fn variables(args: &mut Vec<Expr>, two: bool) -> Result<(String, Option<String>), Refused> {
    let first = simple_name(&args.remove(0))?;
    if !two {
        return Ok((first, None));
    }
    let argument = args.remove(0);
    let second = simple_name(&argument)?;
    if first == second {
        return Err((argument.at, format!("two variables are called {first:?}")));
    }
    for name in [&first, &second] {
        if name == "__result__" {
            return Err((argument.at, format!("{name:?} is a reserved name")));
        }
    }
    Ok((first, Some(second)))
}

fn all(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let two = args.len() == 3;
    let names = variables(&mut args, two)?;
    let condition = make.call("@not_strictly_false", vec![make.accumulator()]);
    let step = make.call("_&&_", vec![make.accumulator(), args.swap_remove(0)]);
    Ok(make.fold(
        target,
        names,
        make.literal(Literal::Bool(true)),
        condition,
        step,
        make.accumulator(),
    ))
}

fn exists(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let two = args.len() == 3;
    let names = variables(&mut args, two)?;
    let not_yet = make.call("!_", vec![make.accumulator()]);
    let condition = make.call("@not_strictly_false", vec![not_yet]);
    let step = make.call("_||_", vec![make.accumulator(), args.swap_remove(0)]);
    Ok(make.fold(
        target,
        names,
        make.literal(Literal::Bool(false)),
        condition,
        step,
        make.accumulator(),
    ))
}

fn exists_one(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let two = args.len() == 3;
    let names = variables(&mut args, two)?;
    let one = || make.literal(Literal::Int(1));
    let step = make.call(
        "_?_:_",
        vec![
            args.swap_remove(0),
            make.call("_+_", vec![make.accumulator(), one()]),
            make.accumulator(),
        ],
    );
    let result = make.call("_==_", vec![make.accumulator(), one()]);
    let always = make.literal(Literal::Bool(true));
    Ok(make.fold(target, names, make.literal(Literal::Int(0)), always, step, result))
}

fn collected(make: &Make, target: Expr, names: (String, Option<String>), init: Expr, step: Expr) -> Expr {
    let always = make.literal(Literal::Bool(true));
    make.fold(target, names, init, always, step, make.accumulator())
}

/// The transformation, and the filter before it if there is one.
fn transformation(mut args: Vec<Expr>) -> Option<(Expr, Option<Expr>)> {
    let transform = args.pop()?;
    Some((transform, args.pop()))
}

fn map(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let names = variables(&mut args, false)?;
    let (value, filter) = transformation(args).ok_or((make.at, String::new()))?;
    let step = make.appended(value, filter);
    Ok(collected(make, target, names, make.list(Vec::new()), step))
}

fn filter(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let element = args[0].clone();
    let names = variables(&mut args, false)?;
    let step = make.appended(element, args.pop());
    Ok(collected(make, target, names, make.list(Vec::new()), step))
}

fn transform_list(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let names = variables(&mut args, true)?;
    let (value, filter) = transformation(args).ok_or((make.at, String::new()))?;
    let step = make.appended(value, filter);
    Ok(collected(make, target, names, make.list(Vec::new()), step))
}

fn transform_map(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let names = variables(&mut args, true)?;
    let (value, filter) = transformation(args).ok_or((make.at, String::new()))?;
    let insert = make.call("cel.@mapInsert", vec![make.accumulator(), make.ident(&names.0), value]);
    let init = Expr::new(make.at, Kind::Map(Vec::new()));
    Ok(collected(make, target, names, init, make.filtered(insert, filter)))
}

fn transform_map_entry(make: &Make, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    let names = variables(&mut args, true)?;
    let (entry, filter) = transformation(args).ok_or((make.at, String::new()))?;
    let insert = make.call("cel.@mapInsert", vec![make.accumulator(), entry]);
    let init = Expr::new(make.at, Kind::Map(Vec::new()));
    Ok(collected(make, target, names, init, make.filtered(insert, filter)))
}

fn sort_by(make: &Make, target: Expr, args: Vec<Expr>) -> Result<Expr, Refused> {
    if matches!(target.kind, Kind::Literal(_) | Kind::Map(_)) {
        return Err((target.at, "sortBy() sorts lists".to_owned()));
    }
    let keys = map(make, make.ident(SORT_INPUT), args)?;
    let sorted = make.any_call("@sortByAssociatedKeys", Some(make.ident(SORT_INPUT)), vec![keys]);
    Ok(make.bind(SORT_INPUT, target, sorted))
}

fn opt_map(make: &Make, target: Expr, args: Vec<Expr>) -> Result<Expr, Refused> {
    optional(make, target, args, |value| optional_call(make, "of", vec![value]))
}

fn opt_flat_map(make: &Make, target: Expr, args: Vec<Expr>) -> Result<Expr, Refused> {
    optional(make, target, args, |value| value)
}

fn optional_call(make: &Make, function: &str, args: Vec<Expr>) -> Expr {
    make.call(&format!("optional.{function}"), args)
}

fn optional(make: &Make, target: Expr, args: Vec<Expr>, wrap: impl Fn(Expr) -> Expr) -> Result<Expr, Refused> {
    let mut args = args.into_iter();
    let (Some(name), Some(result)) = (args.next(), args.next()) else {
        return Err((make.at, String::new()));
    };
    let name = simple_name(&name)?;
    let present = make.any_call("hasValue", Some(target.clone()), Vec::new());
    let value = make.any_call("value", Some(target), Vec::new());
    let bound = make.bind(&name, value, result);
    let none = optional_call(make, "none", Vec::new());
    Ok(make.call("_?_:_", vec![present, wrap(bound), none]))
}
