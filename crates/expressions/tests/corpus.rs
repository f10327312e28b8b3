//! Every expression of the corpus says here what it says in Kubernetes. `tools/oracle/expressions` writes the corpus.
//!
//! A row that is marked `differs` names why it is meant to be answered differently; it is checked that it still is.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::collections::BTreeMap;

use expressions::{
    cel,
    jsonpath::{Item, JsonPath},
    pattern::Pattern,
    quantity::Quantity,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// All rows of a table, and what is different about each that is.
fn differences<Row>(table: &str, compare: impl Fn(&Row) -> Result<(), String>) -> (usize, Vec<String>)
where
    Row: DeserializeOwned + Marked,
{
    let mut count = 0;
    let mut found = Vec::new();
    for line in table.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        count += 1;
        match (compare(&row), row.differs()) {
            (Err(difference), "") => found.push(format!("{line}\n    {difference}")),
            (Ok(()), reason) if !reason.is_empty() => found.push(format!("{line}\n    does not differ any more")),
            _ => {}
        }
    }
    (count, found)
}

trait Marked {
    fn differs(&self) -> &str;
}

fn assert_none((count, found): (usize, Vec<String>), at_least: usize) {
    assert!(count >= at_least, "only {count} rows");
    assert!(
        found.is_empty(),
        "{} of {count} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is compared is made where it is compared"
)]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, here: T, there: T) -> Result<(), String> {
    if here == there {
        Ok(())
    } else {
        Err(format!("{what}: {here:?} here, {there:?} there"))
    }
}

fn objects() -> BTreeMap<String, Value> {
    serde_json::from_str(include_str!("corpus/objects.json")).unwrap()
}

#[derive(Deserialize)]
struct PathRow {
    path: String,
    object: String,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    results: Vec<Value>,
    printed: String,
    #[serde(default)]
    unordered: bool,
    #[serde(default)]
    differs: String,
}

impl Marked for PathRow {
    fn differs(&self) -> &str {
        &self.differs
    }
}

fn result(item: &Item<'_>) -> Value {
    match item {
        Item::Part(value) => normal(value),
        Item::Byte(byte) => Value::from(*byte),
        Item::Text(text) => Value::from(text.as_str()),
        Item::Integer(value) => Value::from(*value),
        Item::Float(value) => normal(&Value::from(*value)),
        Item::Bool(value) => Value::from(*value),
        Item::Nothing => Value::from("<no value>"),
    }
}

/// Go writes a float without a fraction as an integer.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation)]
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            Some(float) => Value::from(float),
            None => value.clone(),
        },
        Value::Array(values) => values.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn paths_lead_where_they_lead_in_kubernetes() {
    let objects = objects();
    let found = differences(include_str!("corpus/jsonpaths.jsonl"), |row: &PathRow| {
        let Ok(path) = JsonPath::new(&row.path) else {
            return same("refused", true, row.refused);
        };
        same("refused", false, row.refused)?;
        let object = &objects[&row.object];
        let (Ok(items), Ok(printed)) = (path.find(object), path.print(object)) else {
            return same("failed", true, row.failed);
        };
        same("failed", false, row.failed)?;
        let mut results: Vec<_> = items.iter().map(result).collect();
        let mut expected: Vec<_> = row.results.iter().map(normal).collect();
        if row.unordered {
            results.sort_by_key(Value::to_string);
            expected.sort_by_key(Value::to_string);
            return same("results", results, expected);
        }
        same("results", results, expected)?;
        same("printed", printed.as_str(), &row.printed)
    });
    assert_none(found, 200);
}

#[derive(Deserialize)]
struct CelRow {
    expression: String,
    object: String,
    #[serde(default)]
    refused: bool,
    #[serde(default, rename = "type")]
    type_name: String,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    expensive: bool,
    #[serde(default)]
    value: String,
    #[serde(default)]
    cost: u64,
    #[serde(default)]
    unordered: bool,
    #[serde(default)]
    differs: String,
}

impl Marked for CelRow {
    fn differs(&self) -> &str {
        &self.differs
    }
}

#[test]
fn expressions_say_what_they_say_in_kubernetes() {
    let objects = objects();
    let found = differences(include_str!("corpus/cel.jsonl"), |row: &CelRow| {
        let explanation = match cel::explain(&row.expression, &objects[&row.object]) {
            Ok(explanation) => explanation,
            Err(error) => return same("refused", (true, error.to_string()), (row.refused, error.to_string())),
        };
        same("refused", false, row.refused)?;
        same("type", explanation.type_name.as_str(), &row.type_name)?;
        match explanation.value {
            Err(error) => {
                same("failed", (true, error.to_string()), (row.failed, error.to_string()))?;
                same("expensive", error == cel::EvaluationError::Cost, row.expensive)
            }
            Ok(value) => {
                same("failed", (false, &value), (row.failed, &value))?;
                same("value", sorted_maps(&value), sorted_maps(&row.value))?;
                if row.unordered {
                    Ok(())
                } else {
                    same("cost", explanation.cost, row.cost)
                }
            }
        }
    });
    assert_none(found, 200);
}

/// Entries of a map come in any order there: the text is compared as a bag of characters where it has a map.
fn sorted_maps(text: &str) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let mut characters: Vec<_> = text.chars().collect();
    characters.sort_unstable();
    characters.into_iter().collect()
}

#[derive(Deserialize)]
struct QuantityRow {
    text: String,
    #[serde(default)]
    canonical: String,
    #[serde(default)]
    other: String,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    difference: String,
    #[serde(default)]
    order: i8,
    #[serde(default)]
    differs: String,
}

impl Marked for QuantityRow {
    fn differs(&self) -> &str {
        &self.differs
    }
}

#[test]
fn quantities_are_read_written_and_counted_as_in_kubernetes() {
    let found = differences(include_str!("corpus/quantities.jsonl"), |row: &QuantityRow| {
        let Ok(quantity) = row.text.parse::<Quantity>() else {
            return same("canonical", "", &row.canonical);
        };
        same("canonical", quantity.to_string(), row.canonical.clone())?;
        if row.other.is_empty() {
            return Ok(());
        }
        let other: Quantity = row.other.parse().unwrap();
        same("sum", quantity.plus(other).to_string(), row.sum.clone())?;
        same("difference", quantity.minus(other).to_string(), row.difference.clone())?;
        same("order", quantity.cmp(&other) as i8, row.order)
    });
    assert_none(found, 200);
}

#[derive(Deserialize)]
struct PatternRow {
    pattern: String,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    matches: Vec<String>,
    #[serde(default)]
    others: Vec<String>,
    #[serde(default)]
    differs: String,
}

impl Marked for PatternRow {
    fn differs(&self) -> &str {
        &self.differs
    }
}

#[test]
fn patterns_match_what_they_match_in_go() {
    let found = differences(include_str!("corpus/patterns.jsonl"), |row: &PatternRow| {
        let pattern = match Pattern::new(&row.pattern) {
            Ok(pattern) => pattern,
            Err(error) => return same("refused", (true, error.to_string()), (row.refused, error.to_string())),
        };
        same("refused", false, row.refused)?;
        for (values, expected) in [(&row.matches, true), (&row.others, false)] {
            for value in values {
                same(&format!("match of {value:?}"), pattern.matches(value), expected)?;
            }
        }
        Ok(())
    });
    assert_none(found, 100);
}
