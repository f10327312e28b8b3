//! Values of an evaluation. What is in the object is looked at where it is, not copied.

use std::{cmp::Ordering, collections::BTreeMap, fmt, net::IpAddr, ops::Deref, rc::Rc, sync::Arc};

use serde_json::{Map as JsonMap, Value as Json};

use super::{
    eval::{Failure, Meter},
    named_format::NamedFormat,
    network::{Cidr, Url},
    quantity::QuantityValue,
    time::Moment,
};

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    /// Billionths of a second.
    Duration(i64),
    Timestamp(Moment),
    Optional(Option<Rc<Self>>),
    Type(&'static str),
    Quantity(QuantityValue),
    Ip(IpAddr),
    Cidr(Cidr),
    Url(Rc<Url>),
    Semver(Rc<semver::Version>),
    Format(&'static NamedFormat),
}

#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text.into())
    }
}

#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Json(&'a [Json]),
    Made(Rc<Vec<Value<'a>>>),
}

#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Json(&'a JsonMap<String, Json>),
    Made(Rc<BTreeMap<Key, Value<'a>>>),
}

/// A key of a map. Numbers that are equal are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Int(i64),
    /// One that no int is.
    Uint(u64),
    String(String),
}

impl<'a> Value<'a> {
    pub(super) fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Self::Int(integer),
                None => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(elements) => Self::List(List::Json(elements)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::String(text.into().into())
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        Self::List(List::Made(Rc::new(values)))
    }

    pub(super) fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    /// What cel-go takes for the size of a value when it counts costs: 1 for those that have none.
    pub(super) fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(value)) => return value.size(),
            Self::Ip(ip) => ip_bytes(ip),
            Self::Cidr(cidr) => usize::from(cidr.prefix.div_ceil(8)),
            _ => 1,
        };
        size as u64
    }

    /// How much there is to read of a value that is read as a whole, in bytes.
    pub(super) fn length(&self) -> u64 {
        let length = match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Url(url) => url.length(),
            _ => 0,
        };
        length as u64
    }

    /// Whether it is what a value of its type is when nothing was said.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) | Self::Duration(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Optional(value) => value.is_none(),
            _ => false,
        }
    }

    /// Values of different types are not equal, but for numbers.
    pub(super) fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Failure> {
        meter.work(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) | (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::String(left), Self::String(right)) => {
                meter.work(left.len().min(right.len()) as u64 / 64)?;
                left[..] == right[..]
            }
            (Self::Bytes(left), Self::Bytes(right)) => left == right,
            (Self::Duration(left), Self::Duration(right)) => left == right,
            (Self::Timestamp(left), Self::Timestamp(right)) => left == right,
            (Self::Type(left), Self::Type(right)) => left == right,
            (Self::Quantity(left), Self::Quantity(right)) => left.quantity == right.quantity,
            (Self::Ip(left), Self::Ip(right)) => left == right,
            (Self::Cidr(left), Self::Cidr(right)) => left == right,
            (Self::Url(left), Self::Url(right)) => left == right,
            (Self::Semver(left), Self::Semver(right)) => left.cmp_precedence(right).is_eq(),
            (Self::Format(left), Self::Format(right)) => left.name == right.name,
            (Self::Optional(Some(left)), Self::Optional(Some(right))) => left.equals(right, meter)?,
            (Self::List(left), Self::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    if !left.equals(&right, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(left), Self::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (key, value) in left.entries() {
                    match right.get(&key) {
                        Some(found) if value.equals(&found, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    /// The order of two numbers, of whatever types. None if one is not a number at all.
    pub(super) fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(right)),
            (Self::Uint(left), Self::Uint(right)) => Some(left.cmp(right)),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(right),
            (Self::Int(left), Self::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
            (Self::Uint(left), Self::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
            (Self::Double(left), Self::Int(right)) => compare_float(*left, i128::from(*right)),
            (Self::Double(left), Self::Uint(right)) => compare_float(*left, i128::from(*right)),
            (Self::Int(left), Self::Double(right)) => compare_float(*right, i128::from(*left)).map(Ordering::reverse),
            (Self::Uint(left), Self::Double(right)) => compare_float(*right, i128::from(*left)).map(Ordering::reverse),
            _ => None,
        }
    }

    /// The order of two values that have one.
    pub(super) fn compare(&self, other: &Self) -> Result<Ordering, Failure> {
        Ok(match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::String(left), Self::String(right)) => left.as_bytes().cmp(right.as_bytes()),
            (Self::Bytes(left), Self::Bytes(right)) => left.cmp(right),
            (Self::Duration(left), Self::Duration(right)) => left.cmp(right),
            (Self::Timestamp(left), Self::Timestamp(right)) => left.cmp(right),
            (Self::Int(_) | Self::Uint(_) | Self::Double(_), Self::Int(_) | Self::Uint(_) | Self::Double(_)) => {
                let order = self.compare_numbers(other);
                return order.ok_or_else(|| Failure::error("what is not a number has no order"));
            }
            _ => return Err(Failure::overload("comparison", &[self, other])),
        })
    }
}

/// As JSON writes it where it can; for comparisons and errors.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| {
            let mut out = String::new();
            crate::go::json_string(text, &mut out);
            out
        };
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{}", crate::go::float(*value)),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::Bytes(bytes) => bytes.iter().try_fold((), |(), byte| write!(f, "{byte:02x}")),
            Self::List(list) => {
                f.write_str("[")?;
                for (index, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.entries().iter().enumerate() {
                    write!(f, "{}{}:{value}", if index > 0 { "," } else { "" }, key.value())?;
                }
                f.write_str("}")
            }
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Optional(Some(value)) => write!(f, "optional({value})"),
            Self::Type(name) => f.write_str(name),
            Self::Duration(nanos) => f.write_str(&super::time::duration_text(*nanos)),
            Self::Timestamp(time) => write!(f, "{time}"),
            Self::Quantity(quantity) => write!(f, "{}", quantity.quantity),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Cidr(cidr) => write!(f, "{cidr}"),
            Self::Url(_) => f.write_str("url"),
            Self::Semver(version) => write!(f, "{version}"),
            Self::Format(format) => f.write_str(format.name),
        }
    }
}

fn ip_bytes(ip: &IpAddr) -> usize {
    if ip.is_ipv4() { 4 } else { 16 }
}

/// As cel-go compares: both as floats, also where that loses digits.
#[allow(clippy::cast_precision_loss)]
fn compare_float(float: f64, integer: i128) -> Option<Ordering> {
    float.partial_cmp(&(integer as f64))
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(elements) => elements.len(),
            Self::Made(elements) => elements.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(elements) => elements.get(index).map(Value::of),
            Self::Made(elements) => elements.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map) => map.len(),
            Self::Made(map) => map.len(),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Json(map), Key::String(key)) => map.get(key).map(Value::of),
            (Self::Json(_), _) => None,
            (Self::Made(map), key) => map.get(key).cloned(),
        }
    }

    pub(super) fn get_text(&self, key: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(map) => map.get(key).map(Value::of),
            Self::Made(map) => map.get(&Key::String(key.to_owned())).cloned(),
        }
    }

    pub(super) fn entries(&self) -> Vec<(Key, Value<'a>)> {
        match self {
            Self::Json(map) => map
                .iter()
                .map(|(key, value)| (Key::String(key.clone()), Value::of(value)))
                .collect(),
            Self::Made(map) => map.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

impl Key {
    /// The key that a value is. Of a double only a whole one is.
    pub(super) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::String(text) => Self::String(text.to_string()),
            #[allow(clippy::cast_possible_truncation, clippy::float_cmp)]
            Value::Double(value) if value.trunc() == *value && value.abs() < 9e18 => Self::Int(*value as i64),
            _ => return None,
        })
    }

    pub(super) fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::text(text.clone()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            Self::String(text) => write!(f, "{:?}", text.chars().take(64).collect::<String>()),
        }
    }
}
