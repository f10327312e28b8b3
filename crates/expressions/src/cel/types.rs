//! Types, and the functions of Kubernetes' base environment.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

/// What a value can be, as far as it is known before it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Known at evaluation only.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Self>),
    Map(Arc<(Self, Self)>),
    Optional(Arc<Self>),
    /// The type of types.
    Kind,
    /// One that only a library's functions know, such as `kubernetes.Quantity`.
    Named(&'static str),
    /// To be found out.
    Param(usize),
}

pub(super) const QUANTITY: Type = Type::Named("kubernetes.Quantity");

impl Type {
    pub(super) fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    pub(super) fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub(super) fn optional(value: Self) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// Whether this type has at most so many parts.
    pub(super) fn is_within(&self, parts: &mut usize) -> bool {
        let Some(left) = parts.checked_sub(1) else {
            return false;
        };
        *parts = left;
        match self {
            Self::List(inner) | Self::Optional(inner) => inner.is_within(parts),
            Self::Map(inner) => inner.0.is_within(parts) && inner.1.is_within(parts),
            _ => true,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn | Self::Param(_) => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Self::Optional(value) => write!(f, "optional({value})"),
            Self::Kind => f.write_str("type"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// One way to call a function.
pub(super) struct Overload {
    pub(super) id: &'static str,
    pub(super) member: bool,
    pub(super) args: Vec<Type>,
    pub(super) result: Type,
    /// Types to be found out are numbered from 0 to this.
    pub(super) params: usize,
}

/// All functions, with their overloads in the order in which they are tried.
pub(super) static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut functions: HashMap<_, Vec<_>> = HashMap::new();
    for row in include_str!("declarations.tsv").lines() {
        let mut columns = row.split('\t');
        let mut column = || columns.next().unwrap_or_default();
        let (function, id, member, args, result) = (column(), column(), column() == "true", column(), column());
        let mut params = Vec::new();
        let args = args
            .split(';')
            .filter(|arg| !arg.is_empty())
            .map(|arg| read(arg, &mut params))
            .collect();
        let result = read(result, &mut params);
        functions.entry(function).or_default().push(Overload {
            id,
            member,
            args,
            result,
            params: params.len(),
        });
    }
    functions
});

/// Names that stand for types.
pub(super) const TYPE_NAMES: [&str; 15] = [
    "bool",
    "bytes",
    "double",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
    "int",
    "list",
    "map",
    "net.CIDR",
    "net.IP",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
];

fn read(text: &'static str, params: &mut Vec<&'static str>) -> Type {
    if let Some(name) = text.strip_prefix('?') {
        let index = params.iter().position(|param| *param == name).unwrap_or_else(|| {
            params.push(name);
            params.len() - 1
        });
        return Type::Param(index);
    }
    let (name, inside) = text.split_once('(').map_or((text, ""), |(name, rest)| {
        (name, rest.strip_suffix(')').unwrap_or(rest))
    });
    match name {
        "dyn" => Type::Dyn,
        "null_type" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "type" => Type::Kind,
        "list" => Type::list(read(inside, params)),
        "optional_type" => Type::optional(read(inside, params)),
        "map" => {
            let comma = inside.find(',').unwrap_or(inside.len());
            let key = read(&inside[..comma], params);
            Type::map(key, read(inside.get(comma + 1..).unwrap_or_default(), params))
        }
        named => Type::Named(named),
    }
}
