//! YAML as values.
//!
//! YAML can say much with little: an alias repeats what it names. So every value is charged when it is built, aliases
//! unfolded, and what the parser holds before that is charged by the characters that it comes from.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{Answer, Arguments, Context};
use crate::error::Failure;
use crate::limits::Budget;
use crate::value::{ENTRY_BYTES, Entries, ITEM_BYTES, Value};

/// What the parser holds for one character of structure: up to two events.
const EVENT_BYTES: usize = 200;
/// The scanner takes time with the square of how many brackets are open, before its own limit of nesting counts.
const BRACKETS: usize = 1_000;

pub(super) fn from_yaml(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    check(text, context.budget)?;
    let failure = RefCell::new(None);
    let seed = Charged {
        budget: context.budget,
        failure: &failure,
        depth: 0,
    };
    let answer = seed.deserialize(serde_norway::Deserializer::from_str(text));
    answer.map_err(|error| failure.take().unwrap_or_else(|| error.to_string().into()))
}

fn check(text: &str, budget: &Budget) -> Result<(), Failure> {
    budget.allocate(text.len())?;
    let (mut open, mut structure) = (0_usize, 0_usize);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b',' | b':' | b'?' => {}
            b'-' if bytes.peek().is_none_or(|next| !next.is_ascii_graphic()) => {}
            _ => continue,
        }
        structure += 1;
        if open > BRACKETS {
            return Err(Failure::limit(format!(
                "the YAML has more than {BRACKETS} brackets open at once"
            )));
        }
    }
    budget.allocate(structure.saturating_mul(EVENT_BYTES))
}

/// Builds values, as JSON that says the same has them: keys are strings and numbers are floats.
#[derive(Clone, Copy)]
struct Charged<'a> {
    budget: &'a Budget,
    /// What failed here, which an error of the parser has no place for.
    failure: &'a RefCell<Option<Failure>>,
    depth: usize,
}

impl Charged<'_> {
    fn charge<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let budget = self.budget;
        self.noted(budget.check_depth(self.depth).and_then(|()| budget.allocate(bytes)))
    }

    fn noted<T, E: serde::de::Error>(self, result: Result<T, Failure>) -> Result<T, E> {
        result.map_err(|failure| {
            let error = E::custom(&failure.message);
            self.failure.replace(Some(failure));
            error
        })
    }

    fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

impl<'de> DeserializeSeed<'de> for Charged<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Charged<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.charge(0)?;
        Ok(Value::Nil)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.charge(0)?;
        Ok(Value::Bool(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "as JSON: numbers are floats")]
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "as JSON: numbers are floats")]
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "as JSON: numbers are floats")]
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "as JSON: numbers are floats")]
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.charge(0)?;
        Ok(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.charge(value.len())?;
        Ok(Value::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.charge(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper())? {
            self.charge(ITEM_BYTES)?;
            list.push(item);
        }
        Ok(Value::list(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        self.charge(0)?;
        let mut entries = Entries::new();
        while let Some(key) = fields.next_key_seed(Key)? {
            self.charge(ENTRY_BYTES + key.len())?;
            let value = fields.next_value_seed(self.deeper())?;
            if entries.insert(Arc::clone(&key), value).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
        }
        Ok(Value::map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, content) = tagged.variant::<String>()?;
        // The parser wants to be asked for what it offered.
        content.newtype_variant::<serde::de::IgnoredAny>()?;
        self.noted(Err(Failure::new(format!("the tag !{tag} means nothing here"))))
    }
}

/// A key: a text, or a scalar that stands for one.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Arc<str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Arc<str>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key, which is a string, a number or a boolean")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Arc<str>, E> {
        Ok(Arc::from(value))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Arc<str>, E> {
        Ok(Arc::from(value.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Arc<str>, E> {
        Ok(Arc::from(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Arc<str>, E> {
        Ok(Arc::from(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Arc<str>, E> {
        Ok(Arc::from(serde_norway::Number::from(value).to_string()))
    }
}
