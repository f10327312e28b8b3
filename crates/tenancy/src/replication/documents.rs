//! The objects in what a generator rendered: YAML documents.
//!
//! YAML can say much with little: an alias repeats what it names, also inside of what another alias names. So values are counted
//! while they are built, aliases unfolded, and the reader stops at a limit instead of filling the memory.

use std::cell::Cell;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Values of all documents that share a budget: fields, items, scalars.
const VALUES: usize = 100_000;
/// Bytes of all texts in them.
const BYTES: usize = 4 * 1024 * 1024;
/// Characters of structure in one text: the parser reads a whole document before it hands out a value, and keeps up to two events
/// for each of them.
const STRUCTURE: usize = 100_000;
/// Brackets open at once. The scanner takes time with the square of them.
const BRACKETS: usize = 200;

/// The objects in a text of YAML documents, as long as the budget lasts. Documents that are no object, or say neither `apiVersion` nor `kind`, are not counted.
///
/// # Errors
/// What is wrong with the text.
pub fn read(text: &str, budget: &Budget) -> Result<Vec<Map<String, Value>>, String> {
    check(text)?;
    let mut found = Vec::new();
    for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let value = Bounded(budget)
            .deserialize(document)
            .map_err(|error| format!("document {index} is no YAML: {error}"))?;
        match value {
            Value::Object(object) if object.contains_key("apiVersion") || object.contains_key("kind") => {
                found.push(object);
            }
            _ => {}
        }
    }
    Ok(found)
}

fn check(text: &str) -> Result<(), String> {
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
            return Err(format!("the YAML has more than {BRACKETS} brackets open at once"));
        }
        if structure > STRUCTURE {
            return Err(format!("the YAML has more than {STRUCTURE} fields and items"));
        }
    }
    Ok(())
}

/// What is left for documents that are read for one purpose.
#[derive(Debug)]
pub struct Budget {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            values: Cell::new(VALUES),
            bytes: Cell::new(BYTES),
        }
    }
}

impl Budget {
    fn take<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = (self.values.get().checked_sub(1), self.bytes.get().checked_sub(bytes));
        let (Some(values), Some(left)) = left else {
            return Err(E::custom(format!(
                "more than {VALUES} values or {BYTES} bytes, aliases unfolded"
            )));
        };
        self.values.set(values);
        self.bytes.set(left);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.take(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<Key>()? {
            self.0.take(key.0.len())?;
            let value = entries.next_value_seed(self)?;
            if fields.insert(key.0.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {:?} is there twice", key.0)));
            }
        }
        Ok(Value::Object(fields))
    }
}

/// A key of an object: a text, or a scalar that stands for one.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Key;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text as key")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Key, E> {
                Ok(Key(value.to_owned()))
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Vec<Map<String, Value>>, String> {
        super::read(text, &Budget::default())
    }

    #[test]
    fn documents_share_a_budget() {
        let (text, budget) = (format!("a: [{}]\n", "x, ".repeat(40_000)), Budget::default());
        let answers: Vec<bool> = (0..3).map(|_| super::read(&text, &budget).is_ok()).collect();
        assert_eq!(answers, [true, true, false]);
    }

    #[test]
    fn what_the_parser_would_hold_is_bounded() {
        for text in [
            "-\n".repeat(150_000),
            format!("[{}]", ",".repeat(150_000)),
            "[],".repeat(60_000),
        ] {
            assert!(read(&text).unwrap_err().contains("fields and items"));
        }
        let long = format!("kind: X\ntext: {}\n", "a-b ".repeat(150_000));
        assert_eq!(read(&long).unwrap().len(), 1);
    }

    #[test]
    fn documents_that_are_no_objects_are_not_counted() {
        let text = "---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\ndata: {a: b, 1: c}\n---\njust: text\n---\n- 1\n---\nkind: Half\n";
        let found: Vec<Value> = read(text).unwrap().into_iter().map(Value::Object).collect();
        assert_eq!(
            found,
            [
                json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b", "1": "c"}}),
                json!({"kind": "Half"})
            ]
        );
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn aliases_that_unfold_without_end_are_refused() {
        let level = |level: usize| {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            format!("a{level}: &a{level} [{aliases}]\n")
        };
        let text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n") + &(1..9).map(level).collect::<String>();
        let refused = read(&text).unwrap_err();
        assert!(
            refused.contains("aliases unfolded") || refused.contains("repetition"),
            "{refused}"
        );
        let wide = format!(
            "a: &a {:?}\nb: [{}]\n",
            "x".repeat(100_000),
            vec!["*a"; 1000].join(", ")
        );
        assert!(read(&wide).unwrap_err().contains("aliases unfolded"));
    }

    #[test]
    fn what_is_nested_too_deep_or_no_yaml_is_refused() {
        assert!(read(&"[".repeat(100_000)).unwrap_err().contains("brackets"));
        assert!(read("a: b: c").is_err());
        assert!(read("a: 1\na: 2").unwrap_err().contains("twice"));
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "[-\\[\\]{}&*a-c:,# \n!|>'\"]{0,200}") {
            let _ = read(&text);
        }
    }
}
