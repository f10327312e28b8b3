//! The functions that templates can call, by name: Go's own, sprig's, and those for YAML and TOML that Helm made usual.
//!
//! Each has Go's parameter types, since a template that passes the wrong type fails in Go.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use jiff::Zoned;

use crate::error::Failure;
use crate::limits::Budget;
use crate::value::{Map, Value};

mod builtins;
mod comparison;
mod data;
mod dates;
mod dicts;
mod lists;
mod logic;
mod numbers;
mod paths;
mod regexes;
mod strings;
mod urls;
pub(crate) mod versions;
mod words;
mod yaml;

/// Go's type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Takes values as they are: Go's `reflect.Value`.
    Raw,
    /// `interface {}`
    Any,
    Text,
    Int,
    Float,
    Bool,
    /// `map[string]interface {}`
    Dict,
    Time,
}

impl Type {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "reflect.Value",
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Dict => "map[string]interface {}",
            Self::Time => "time.Time",
        }
    }
}

pub(crate) type Answer = Result<Value, Failure>;

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) takes: &'static [Type],
    /// Type of any number of further arguments.
    pub(crate) rest: Option<Type>,
    /// Called with arguments of these types and this number.
    pub(crate) call: fn(&Context<'_>, Arguments<'_>) -> Answer,
}

/// What a function may use besides its arguments.
pub(crate) struct Context<'r> {
    pub(crate) budget: &'r Budget,
    /// The time that the caller says it is.
    pub(crate) now: &'r Rc<Zoned>,
    pub(crate) patterns: &'r regexes::Patterns,
}

pub(crate) use regexes::Patterns;

const fn fixed(
    name: &'static str,
    takes: &'static [Type],
    call: fn(&Context<'_>, Arguments<'_>) -> Answer,
) -> Function {
    Function {
        name,
        takes,
        rest: None,
        call,
    }
}

const fn variadic(
    name: &'static str,
    takes: &'static [Type],
    rest: Type,
    call: fn(&Context<'_>, Arguments<'_>) -> Answer,
) -> Function {
    Function {
        name,
        takes,
        rest: Some(rest),
        call,
    }
}

/// Where two have the same name the later one counts: sprig's `slice` is not Go's.
const TABLES: [&[Function]; 14] = [
    builtins::ROWS,
    comparison::ROWS,
    data::ROWS,
    dates::ROWS,
    dicts::ROWS,
    lists::ROWS,
    logic::ROWS,
    numbers::ROWS,
    paths::ROWS,
    regexes::ROWS,
    strings::ROWS,
    urls::ROWS,
    versions::ROWS,
    words::ROWS,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
    TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|function| (function.name, function))
        .collect()
});

/// Functions that sprig has and that are not served, with the reason.
const REFUSED: [(&[&str], &str); 4] = [
    (&["env", "expandenv"], "it would read the environment of this program"),
    (&["getHostByName"], "it would use the network of this program"),
    (
        &[
            "randAlphaNum",
            "randAlpha",
            "randAscii",
            "randNumeric",
            "randInt",
            "randBytes",
            "shuffle",
            "uuidv4",
        ],
        "its result would be another one each time the template is rendered",
    ),
    (
        &[
            "bcrypt",
            "buildCustomCert",
            "decryptAES",
            "derivePassword",
            "encryptAES",
            "genCA",
            "genCAWithKey",
            "genPrivateKey",
            "genSelfSignedCert",
            "genSelfSignedCertWithKey",
            "genSignedCert",
            "genSignedCertWithKey",
            "generateAgeKey",
            "generateAgePQKey",
            "htpasswd",
        ],
        "keys and passwords are not made by templates",
    ),
];

/// The function, or why there is none.
pub(crate) fn find(name: &str) -> Result<&'static Function, String> {
    if let Some(function) = BY_NAME.get(name) {
        return Ok(function);
    }
    match REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        Some((_, reason)) => Err(format!("function {name:?} is not available: {reason}")),
        None => Err(format!("function {name:?} not defined")),
    }
}

/// A method of a value.
pub(crate) fn method(receiver: &Value, name: &str) -> Option<&'static Function> {
    let methods = match receiver {
        Value::Time(_) => dates::METHODS,
        Value::Version(_) => versions::METHODS,
        _ => return None,
    };
    methods.iter().find(|method| method.name == name)
}

/// Arguments that have the types the function asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments<'a>(pub(crate) &'a [Value]);

impl<'a> Arguments<'a> {
    fn value(self, at: usize) -> Result<&'a Value, Failure> {
        self.0
            .get(at)
            .ok_or_else(|| format!("argument {} is missing", at + 1).into())
    }

    fn from(self, at: usize) -> &'a [Value] {
        self.0.get(at..).unwrap_or_default()
    }

    fn text(self, at: usize) -> Result<&'a Arc<str>, Failure> {
        match self.value(at)? {
            Value::Text(text) => Ok(text),
            other => Err(mismatch(at, Type::Text, other)),
        }
    }

    fn int(self, at: usize) -> Result<i64, Failure> {
        match self.value(at)? {
            Value::Int(int) => Ok(*int),
            other => Err(mismatch(at, Type::Int, other)),
        }
    }

    fn float(self, at: usize) -> Result<f64, Failure> {
        match self.value(at)? {
            Value::Float(float) => Ok(*float),
            other => Err(mismatch(at, Type::Float, other)),
        }
    }

    fn bool(self, at: usize) -> Result<bool, Failure> {
        match self.value(at)? {
            Value::Bool(bool) => Ok(*bool),
            other => Err(mismatch(at, Type::Bool, other)),
        }
    }

    fn dict(self, at: usize) -> Result<&'a Rc<Map>, Failure> {
        match self.value(at)? {
            Value::Map(map) => Ok(map),
            other => Err(mismatch(at, Type::Dict, other)),
        }
    }

    fn time(self, at: usize) -> Result<&'a Rc<Zoned>, Failure> {
        match self.value(at)? {
            Value::Time(time) => Ok(time),
            other => Err(mismatch(at, Type::Time, other)),
        }
    }
}

fn mismatch(at: usize, wanted: Type, got: &Value) -> Failure {
    format!(
        "argument {}: expected {}; got {}",
        at + 1,
        wanted.name(),
        got.type_name()
    )
    .into()
}

/// The text of a value as sprig makes one.
fn string_of(value: &Value, budget: &Budget) -> Result<Arc<str>, Failure> {
    match value {
        Value::Text(text) => Ok(Arc::clone(text)),
        other => Ok(Arc::from(crate::go::format::display(other, budget)?)),
    }
}

/// A part of a text between two byte offsets.
fn cut(text: &str, from: usize, to: usize) -> Result<&str, Failure> {
    if from > to || to > text.len() {
        return Err(format!("slice bounds out of range [{from}:{to}] with length {}", text.len()).into());
    }
    text.get(from..to)
        .ok_or_else(|| format!("cutting at bytes {from} and {to} would cut a character in half").into())
}

/// A count that may not be negative.
fn count(number: i64, what: &str) -> Result<usize, Failure> {
    usize::try_from(number).map_err(|_| format!("{what} {number} is negative").into())
}
