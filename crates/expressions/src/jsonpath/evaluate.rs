//! Nodes over an object.

use serde_json::{Number, Value};

use super::{
    Item,
    parse::{Node, Slice},
    print::{self, MAX_TEXT},
};

/// Items that one evaluation may look at: `..` several times over would look at an object more often than anybody waits.
const MAX_ITEMS: usize = 1_000_000;

/// Why a path cannot be followed in an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("{0} is not a list")]
    NotAList(String),
    #[error("index {index} is not in a list of {length}")]
    OutOfBounds { index: i64, length: usize },
    #[error("a slice cannot start at {start} and end at {end}")]
    SliceOrder { start: i64, end: i64 },
    #[error("the step of a slice has to be more than 0")]
    Step,
    #[error("a filter can compare one value only")]
    ManyValues,
    #[error("{0} and {1} cannot be compared")]
    Comparison(String, String),
    #[error("{0:?} is not a comparison")]
    Operator(String),
    #[error("{0:?} is not a word of the path language")]
    Identifier(String),
    #[error("\"end\" without \"range\"")]
    End,
    #[error("the path looks at more than {MAX_ITEMS} items of this object")]
    TooMany,
    #[error("the path leads to more than {MAX_TEXT} bytes of text in this object")]
    TooLong,
}

/// What there was when an error came up: a filter that only asks for existence looks at it.
struct Failure<'a> {
    error: EvaluationError,
    items: Vec<Item<'a>>,
}

type Walked<'a> = Result<Vec<Item<'a>>, Failure<'a>>;

fn failed<'a>(error: EvaluationError, items: &[Item<'a>]) -> Failure<'a> {
    Failure {
        error,
        items: items.to_vec(),
    }
}

/// Blocks of results, one per action.
pub(super) type Blocks<'a> = Vec<Vec<Item<'a>>>;

/// All blocks, and how many items were looked at.
pub(super) fn run<'a>(nodes: &[Node], object: &'a Value) -> (Result<Blocks<'a>, EvaluationError>, usize) {
    let mut evaluation = Evaluation {
        begun: 0,
        inside: 0,
        ended: 0,
        last_end: None,
        left: MAX_ITEMS,
    };
    let blocks = evaluation.blocks(nodes, 0, Item::Part(object));
    (blocks, MAX_ITEMS - evaluation.left)
}

struct Evaluation {
    /// Loops begun and not yet entered.
    begun: usize,
    /// Loops that we are in.
    inside: usize,
    /// Ends seen and not yet acted upon.
    ended: usize,
    /// Where the last loop ended, in the whole template.
    last_end: Option<usize>,
    left: usize,
}

impl Evaluation {
    fn blocks<'a>(
        &mut self,
        nodes: &[Node],
        offset: usize,
        input: Item<'a>,
    ) -> Result<Vec<Vec<Item<'a>>>, EvaluationError> {
        let input = [input];
        let mut blocks = Vec::new();
        let mut index = offset;
        while index < nodes.len() {
            let results = self.walk(&input, &nodes[index]).map_err(|failure| failure.error)?;
            if self.ended > 0 && self.ended <= self.inside {
                self.ended -= 1;
                self.last_end = Some(index);
                break;
            }
            if self.begun > 0 {
                self.begun -= 1;
                self.inside += 1;
                if results.is_empty() {
                    // What is in the loop is still read, to find its end.
                    self.blocks(nodes, index + 1, Item::Nothing)?;
                }
                for item in results {
                    let item = if item == Item::Part(&Value::Null) {
                        Item::Nothing
                    } else {
                        item
                    };
                    blocks.extend(self.blocks(nodes, index + 1, item)?);
                }
                self.inside -= 1;
                if let Some(end) = self.last_end.filter(|end| *end > index) {
                    index = end;
                }
            } else {
                blocks.push(results);
            }
            index += 1;
        }
        Ok(blocks)
    }

    fn spend(&mut self, items: usize) -> Result<(), EvaluationError> {
        self.left = self.left.checked_sub(items).ok_or(EvaluationError::TooMany)?;
        Ok(())
    }

    fn list<'a>(&mut self, input: &[Item<'a>], nodes: &[Node]) -> Walked<'a> {
        let mut current = input.to_vec();
        for node in nodes {
            current = self.walk(&current, node)?;
        }
        Ok(current)
    }

    fn walk<'a>(&mut self, input: &[Item<'a>], node: &Node) -> Walked<'a> {
        self.spend(input.len() + 1).map_err(|error| failed(error, &[]))?;
        match node {
            Node::List(nodes) => self.list(input, nodes),
            Node::Text(text) => Ok(vec![Item::Text(text.clone())]),
            Node::Field(name) => Ok(fields(input, name)),
            Node::Slice(slice) => self.slices(input, *slice),
            Node::Filter { left, right, operator } => self.filter(input, left, right, operator),
            Node::Integer(value) => Ok(input.iter().map(|_| Item::Integer(*value)).collect()),
            Node::Float(value) => Ok(input.iter().map(|_| Item::Float(*value)).collect()),
            Node::Bool(value) => Ok(input.iter().map(|_| Item::Bool(*value)).collect()),
            Node::Wildcard => {
                let mut found = Vec::new();
                for item in input {
                    let below = members(item);
                    self.spend(below.len()).map_err(|error| failed(error, &[]))?;
                    found.extend(below);
                }
                Ok(found)
            }
            Node::Recursive => {
                let mut found = Vec::new();
                for item in input {
                    self.descend(item, &mut found).map_err(|error| failed(error, &[]))?;
                }
                Ok(found)
            }
            Node::Union(parts) => {
                let mut found = Vec::new();
                for part in parts {
                    found.extend(self.list(input, part).map_err(|failure| failed(failure.error, input))?);
                }
                Ok(found)
            }
            Node::Identifier(name) => self.identifier(input, name),
        }
    }

    fn identifier<'a>(&mut self, input: &[Item<'a>], name: &str) -> Walked<'a> {
        match name {
            "range" => {
                self.begun += 1;
                Ok(input.to_vec())
            }
            "end" if self.inside > 0 => {
                self.ended += 1;
                Ok(Vec::new())
            }
            "end" => Err(failed(EvaluationError::End, &[])),
            _ => Err(failed(EvaluationError::Identifier(name.to_owned()), input)),
        }
    }

    fn slices<'a>(&mut self, input: &[Item<'a>], slice: Slice) -> Walked<'a> {
        let mut found = Vec::new();
        for item in input {
            match item {
                Item::Part(Value::Null) => {}
                Item::Part(Value::Array(elements)) => match sliced(elements, slice) {
                    Ok(Some(part)) => {
                        let before = found.len();
                        found.extend(part);
                        self.spend(found.len() - before).map_err(|error| failed(error, &[]))?;
                    }
                    // An empty one ends the search, whatever else there is.
                    Ok(None) => return Ok(found),
                    Err(error) => return Err(failed(error, input)),
                },
                other => return Err(failed(EvaluationError::NotAList(print::described(other)), input)),
            }
        }
        Ok(found)
    }

    /// An item and all below it, but for those that have nothing below them.
    fn descend<'a>(&mut self, item: &Item<'a>, found: &mut Vec<Item<'a>>) -> Result<(), EvaluationError> {
        let below = members(item);
        if below.is_empty() {
            return Ok(());
        }
        self.spend(below.len())?;
        found.push(item.clone());
        below.iter().try_for_each(|item| self.descend(item, found))
    }

    fn filter<'a>(&mut self, input: &[Item<'a>], left: &[Node], right: &[Node], operator: &str) -> Walked<'a> {
        let mut passed = Vec::new();
        for item in input {
            let Item::Part(Value::Array(elements)) = item else {
                return Err(failed(EvaluationError::NotAList(print::described(item)), input));
            };
            for element in elements {
                let one = [Item::Part(element)];
                let lefts = self.list(&one, left);
                if operator == "exists" {
                    let exists = match lefts {
                        Err(failure) if failure.error == EvaluationError::TooMany => return Err(failure),
                        Err(failure) => !failure.items.is_empty(),
                        Ok(items) => !items.is_empty(),
                    };
                    if exists {
                        passed.push(Item::Part(element));
                    }
                    continue;
                }
                let Some(left) = single(lefts.map_err(|failure| failed(failure.error, input))?, input)? else {
                    continue;
                };
                let rights = self.list(&one, right).map_err(|failure| failed(failure.error, input))?;
                let Some(right) = single(rights, input)? else { continue };
                if compare(&left, &right, operator).map_err(|error| failed(error, &passed))? {
                    passed.push(Item::Part(element));
                }
            }
        }
        Ok(passed)
    }
}

fn single<'a>(mut items: Vec<Item<'a>>, input: &[Item<'a>]) -> Result<Option<Item<'a>>, Failure<'a>> {
    let item = items.pop();
    if items.is_empty() {
        Ok(item)
    } else {
        Err(failed(EvaluationError::ManyValues, input))
    }
}

fn fields<'a>(input: &[Item<'a>], name: &str) -> Vec<Item<'a>> {
    input
        .iter()
        .filter_map(|item| match item {
            Item::Part(Value::Object(map)) => map.get(name).map(Item::Part),
            _ => None,
        })
        .collect()
}

fn members<'a>(item: &Item<'a>) -> Vec<Item<'a>> {
    match item {
        Item::Part(Value::Object(map)) => map.values().map(Item::Part).collect(),
        Item::Part(Value::Array(elements)) => elements.iter().map(Item::Part).collect(),
        Item::Part(Value::String(text)) | Item::Text(text) => text.bytes().map(Item::Byte).collect(),
        _ => Vec::new(),
    }
}

fn sliced(elements: &[Value], slice: Slice) -> Result<Option<impl Iterator<Item = Item<'_>>>, EvaluationError> {
    let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
    let out_of_bounds = |index| EvaluationError::OutOfBounds {
        index,
        length: elements.len(),
    };
    let mut start = slice.start.unwrap_or_default();
    if start < 0 {
        start += length;
    }
    let mut end = slice.end.unwrap_or(length);
    if end < 0 || (end == 0 && slice.one) {
        end += length;
    }
    if start == end {
        return Ok(None);
    }
    let first = usize::try_from(start).map_err(|_| out_of_bounds(start))?;
    if start >= length {
        return Err(out_of_bounds(start));
    }
    if end > length || end < 0 {
        return Err(out_of_bounds(end.saturating_sub(1)));
    }
    let last = usize::try_from(end).map_err(|_| out_of_bounds(end))?;
    let part = elements
        .get(first..last)
        .ok_or(EvaluationError::SliceOrder { start, end })?;
    let step = usize::try_from(slice.step.unwrap_or(1)).map_err(|_| EvaluationError::Step)?;
    if step == 0 {
        return Err(EvaluationError::Step);
    }
    Ok(Some(part.iter().step_by(step).map(Item::Part)))
}

/// A value that can be compared, as Go's templates compare: kinds have to be the same, but for the two of integers.
enum Basic<'a> {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

fn basic<'a>(item: &'a Item<'_>) -> Option<Basic<'a>> {
    Some(match item {
        Item::Part(Value::Bool(value)) | Item::Bool(value) => Basic::Bool(*value),
        Item::Part(Value::Number(number)) => match integer(number) {
            Some(integer) => Basic::Integer(integer),
            None => Basic::Float(number.as_f64()?),
        },
        Item::Byte(byte) => Basic::Integer(i64::from(*byte)),
        Item::Integer(value) => Basic::Integer(*value),
        Item::Float(value) => Basic::Float(*value),
        Item::Part(Value::String(text)) | Item::Text(text) => Basic::Text(text),
        Item::Part(Value::Null | Value::Array(_) | Value::Object(_)) | Item::Nothing => return None,
    })
}

/// Kubernetes reads a number without a point as an integer if it is one of 64 bits.
pub(super) fn integer(number: &Number) -> Option<i64> {
    number.as_i64()
}

fn compare(left: &Item<'_>, right: &Item<'_>, operator: &str) -> Result<bool, EvaluationError> {
    let refused = || EvaluationError::Comparison(print::described(left), print::described(right));
    let test: fn(bool, bool) -> bool = match operator {
        "==" => |_, equal| equal,
        "!=" => |_, equal| !equal,
        "<" => |less, _| less,
        "<=" => |less, equal| less || equal,
        ">" => |less, equal| !less && !equal,
        ">=" => |less, _| !less,
        _ => return Err(EvaluationError::Operator(operator.to_owned())),
    };
    let ordered = !matches!(operator, "==" | "!=");
    let (less, equal) = match (basic(left).ok_or_else(refused)?, basic(right).ok_or_else(refused)?) {
        (Basic::Bool(left), Basic::Bool(right)) if !ordered => (false, left == right),
        (Basic::Integer(left), Basic::Integer(right)) => (left < right, left == right),
        #[allow(clippy::float_cmp)]
        (Basic::Float(left), Basic::Float(right)) => (left < right, left == right),
        (Basic::Text(left), Basic::Text(right)) => (left < right, left == right),
        _ => return Err(refused()),
    };
    Ok(test(less, equal))
}
