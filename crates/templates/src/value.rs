//! Values as a template sees them: Go's, as far as templates can tell them apart.
//!
//! Strings are UTF-8, where Go's are any bytes. A function that would cut a character in half fails instead.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Zoned;

use crate::Numbers;
use crate::error::Failure;
use crate::functions::versions::Version;
use crate::limits::Budget;

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// No value at all, as of a key that is not there; Go's zero `reflect.Value`.
    Missing,
    /// A nil that was found in the data or given as an argument; Go's nil interface.
    Nil,
    Bool(bool),
    Int(i64),
    Int64(i64),
    Uint8(u8),
    Uint64(u64),
    Float(f64),
    Text(Arc<str>),
    List(Rc<List>),
    Map(Rc<Map>),
    Time(Rc<Zoned>),
    Version(Rc<Version>),
}

/// The static type of a list's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    Any,
    Texts,
    Ints,
    Lists,
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) elements: Elements,
    /// A nil slice: empty, but `null` in JSON.
    pub(crate) is_nil: bool,
    pub(crate) items: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct Map {
    /// Values have the static type string; a missing key then is the empty string.
    pub(crate) of_texts: bool,
    /// A nil map: empty, and cannot be written to.
    pub(crate) is_nil: bool,
    /// `set`, `unset` and `merge` write to a dict in place, as in Go.
    entries: RefCell<BTreeMap<Arc<str>, Value>>,
}

pub(crate) type Entries = BTreeMap<Arc<str>, Value>;

/// What an element of a list and an entry of a dict cost, beside their text.
pub(crate) const ITEM_BYTES: usize = size_of::<Value>();
pub(crate) const ENTRY_BYTES: usize = 3 * size_of::<Value>();

impl Value {
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Arc::from(text.as_ref()))
    }

    pub(crate) fn list(items: Vec<Value>) -> Self {
        Self::typed_list(Elements::Any, items)
    }

    pub(crate) fn typed_list(elements: Elements, items: Vec<Value>) -> Self {
        Self::List(Rc::new(List {
            elements,
            is_nil: false,
            items,
        }))
    }

    pub(crate) fn nil_list(elements: Elements) -> Self {
        Self::List(Rc::new(List {
            elements,
            is_nil: true,
            items: Vec::new(),
        }))
    }

    pub(crate) fn map(entries: Entries) -> Self {
        Self::Map(Rc::new(Map::new(entries)))
    }

    pub(crate) fn text_map(entries: Entries) -> Self {
        Self::Map(Rc::new(Map {
            of_texts: true,
            is_nil: false,
            entries: RefCell::new(entries),
        }))
    }

    pub(crate) fn nil_map() -> Self {
        Self::Map(Rc::new(Map {
            of_texts: false,
            is_nil: true,
            entries: RefCell::default(),
        }))
    }

    /// JSON as Go decodes it into `any`.
    pub(crate) fn from_json(
        json: &serde_json::Value,
        numbers: Numbers,
        budget: &Budget,
        depth: usize,
    ) -> Result<Self, Failure> {
        budget.check_depth(depth)?;
        budget.work(1)?;
        Ok(match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(bool) => Self::Bool(*bool),
            serde_json::Value::Number(number) => match (numbers, number.as_i64()) {
                (Numbers::Integers, Some(integer)) => Self::Int64(integer),
                _ => Self::Float(number.as_f64().ok_or("a number is out of range")?),
            },
            serde_json::Value::String(text) => {
                budget.read(text.len())?;
                Self::text(text)
            }
            serde_json::Value::Array(items) => Self::list(
                items
                    .iter()
                    .map(|item| Self::from_json(item, numbers, budget, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            serde_json::Value::Object(entries) => Self::map(
                entries
                    .iter()
                    .map(|(key, value)| {
                        Ok((
                            Arc::from(key.as_str()),
                            Self::from_json(value, numbers, budget, depth + 1)?,
                        ))
                    })
                    .collect::<Result<_, Failure>>()?,
            ),
        })
    }

    /// Forgets that a nil was an interface: what remains is no value.
    pub(crate) fn concrete(self) -> Self {
        match self {
            Self::Nil => Self::Missing,
            other => other,
        }
    }

    /// As an argument of type `any`: no value is nil.
    pub(crate) fn into_any(self) -> Self {
        match self {
            Self::Missing => Self::Nil,
            other => other,
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => true,
            Self::List(list) => list.is_nil,
            Self::Map(map) => map.is_nil,
            _ => false,
        }
    }

    /// As `if` sees it.
    pub(crate) fn truth(&self) -> bool {
        !self.is_empty()
    }

    /// As sprig's `empty` sees it: the opposite of truth, for every kind that there is here.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => true,
            Self::Bool(bool) => !bool,
            Self::Int(int) | Self::Int64(int) => *int == 0,
            Self::Uint8(uint) => *uint == 0,
            Self::Uint64(uint) => *uint == 0,
            Self::Float(float) => *float == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.items.is_empty(),
            Self::Map(map) => map.entries.borrow().is_empty(),
            Self::Time(_) | Self::Version(_) => false,
        }
    }

    /// Any of the integer kinds.
    pub(crate) fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(int) | Self::Int64(int) => Some(i128::from(*int)),
            Self::Uint8(uint) => Some(i128::from(*uint)),
            Self::Uint64(uint) => Some(i128::from(*uint)),
            _ => None,
        }
    }

    /// Go's name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Uint8(_) => "uint8",
            Self::Uint64(_) => "uint64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(list) => match list.elements {
                Elements::Any => "[]interface {}",
                Elements::Texts => "[]string",
                Elements::Ints => "[]int",
                Elements::Lists => "[][]interface {}",
            },
            Self::Map(map) if map.of_texts => "map[string]string",
            Self::Map(_) => "map[string]interface {}",
            Self::Time(_) => "time.Time",
            Self::Version(_) => "*semver.Version",
        }
    }

    /// Go's name of the kind.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Time(_) => "struct",
            Self::Version(_) => "ptr",
            other => other.type_name(),
        }
    }

    /// Go's `reflect.DeepEqual`: types count.
    pub(crate) fn deep_equal(&self, other: &Self, budget: &Budget, depth: usize) -> Result<bool, Failure> {
        budget.work(1)?;
        budget.check_depth(depth)?;
        Ok(match (self, other) {
            (Self::Missing | Self::Nil, Self::Missing | Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::Int64(a), Self::Int64(b)) => a == b,
            (Self::Uint8(a), Self::Uint8(b)) => a == b,
            (Self::Uint64(a), Self::Uint64(b)) => a == b,
            // Go compares floats with ==, and so that NaN differs from itself.
            #[allow(clippy::float_cmp)]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                budget.read(a.len().min(b.len()))?;
                a == b
            }
            (Self::List(a), Self::List(b)) => {
                if a.elements != b.elements || a.is_nil != b.is_nil || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.deep_equal(b, budget, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(a), Self::Map(b)) => {
                let (left, right) = (a.entries(), b.entries());
                if a.of_texts != b.of_texts || a.is_nil != b.is_nil || left.len() != right.len() {
                    return Ok(false);
                }
                for ((left_key, left), (right_key, right)) in left.iter().zip(right.iter()) {
                    if left_key != right_key || !left.deep_equal(right, budget, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Version(a), Self::Version(b)) => a == b,
            _ => false,
        })
    }

    /// A copy that shares no dict with this one.
    pub(crate) fn deep_copy(&self, budget: &Budget, depth: usize) -> Result<Self, Failure> {
        budget.work(1)?;
        budget.check_depth(depth)?;
        Ok(match self {
            Self::List(list) => {
                budget.allocate(list.items.len() * ITEM_BYTES)?;
                Self::List(Rc::new(List {
                    elements: list.elements,
                    is_nil: list.is_nil,
                    items: list
                        .items
                        .iter()
                        .map(|item| item.deep_copy(budget, depth + 1))
                        .collect::<Result<_, _>>()?,
                }))
            }
            Self::Map(map) => {
                budget.allocate(map.len() * ENTRY_BYTES)?;
                let copy = map
                    .entries()
                    .iter()
                    .map(|(key, value)| Ok((Arc::clone(key), value.deep_copy(budget, depth + 1)?)))
                    .collect::<Result<_, Failure>>()?;
                Self::Map(Rc::new(Map {
                    of_texts: map.of_texts,
                    is_nil: map.is_nil,
                    entries: RefCell::new(copy),
                }))
            }
            other => other.clone(),
        })
    }
}

impl Map {
    pub(crate) fn new(entries: Entries) -> Self {
        Self {
            of_texts: false,
            is_nil: false,
            entries: RefCell::new(entries),
        }
    }

    pub(crate) fn entries(&self) -> Ref<'_, Entries> {
        self.entries.borrow()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        self.entries.borrow().get(key).cloned()
    }

    pub(crate) fn remove(&self, key: &str) {
        let removed = self.entries.borrow_mut().remove(key);
        drop(removed);
    }

    /// Writes an entry. Go lets a dict be put into itself and crashes when that is printed; here it is refused, which
    /// also keeps the reference counts honest.
    pub(crate) fn insert(self: &Rc<Self>, key: &Arc<str>, value: Value, budget: &Budget) -> Result<(), Failure> {
        if self.is_nil {
            return Err("a nil dict cannot be written to".into());
        }
        if holds(&value, self, budget)? {
            return Err(format!("key {key:?}: a dict cannot hold itself").into());
        }
        budget.allocate(ENTRY_BYTES + key.len())?;
        let replaced = self.entries.borrow_mut().insert(Arc::clone(key), value);
        drop(replaced);
        Ok(())
    }
}

/// Whether a dict is the value or somewhere in it.
fn holds(value: &Value, wanted: &Rc<Map>, budget: &Budget) -> Result<bool, Failure> {
    let mut ahead = vec![value.clone()];
    while let Some(value) = ahead.pop() {
        budget.work(1)?;
        match value {
            Value::Map(map) => {
                if Rc::ptr_eq(&map, wanted) {
                    return Ok(true);
                }
                budget.work(map.len() as u64)?;
                ahead.extend(map.entries().values().filter(|value| is_container(value)).cloned());
            }
            Value::List(list) => {
                budget.work(list.items.len() as u64)?;
                ahead.extend(list.items.iter().filter(|value| is_container(value)).cloned());
            }
            _ => {}
        }
    }
    Ok(false)
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::List(_) | Value::Map(_))
}

// A template can nest lists as deep as it has steps, so values are taken apart in a loop: dropping them one inside the
// other would exhaust the stack.
impl Drop for List {
    fn drop(&mut self) {
        if self.items.iter().any(is_container) {
            take_apart(std::mem::take(&mut self.items));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let entries = std::mem::take(self.entries.get_mut());
        if entries.values().any(is_container) {
            take_apart(entries.into_values().collect());
        }
    }
}

fn take_apart(mut ahead: Vec<Value>) {
    while let Some(value) = ahead.pop() {
        match value {
            Value::List(list) => {
                if let Ok(mut list) = Rc::try_unwrap(list) {
                    ahead.append(&mut list.items);
                }
            }
            Value::Map(map) => {
                if let Ok(mut map) = Rc::try_unwrap(map) {
                    ahead.extend(std::mem::take(map.entries.get_mut()).into_values());
                }
            }
            _ => {}
        }
    }
}
