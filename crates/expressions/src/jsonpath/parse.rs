//! Templates into nodes.

use std::sync::LazyLock;

use regex::Regex;

/// Actions inside actions: unions, filters, quoted keys. client-go has no limit but the stack.
const MAX_NESTING: usize = 32;

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    #[error("the path ends inside of an action")]
    Unclosed,
    #[error("{0:?} cannot stand here in a path")]
    Character(char),
    #[error("\"..\" twice in a row")]
    Recursive,
    #[error("{0:?} is not a number")]
    Number(String),
    #[error("\"[\" without \"]\"")]
    Array,
    #[error("[{0}] is not an index, a slice (such as [1:3]) or a quoted key")]
    Index(String),
    #[error("\"[?(\" without \")]\"")]
    Filter,
    #[error("a quotation without its end")]
    Quote,
    #[error("{0} has an escape that is not known")]
    Escape(String),
    #[error("filters and unions are nested deeper than {MAX_NESTING} levels")]
    Nesting,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    List(Vec<Self>),
    Text(String),
    Field(String),
    Slice(Slice),
    Filter {
        left: Vec<Self>,
        right: Vec<Self>,
        operator: String,
    },
    Integer(i64),
    Float(f64),
    Bool(bool),
    Wildcard,
    Recursive,
    Union(Vec<Vec<Self>>),
    Identifier(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    /// The end follows from the start: one element.
    pub(super) one: bool,
    pub(super) step: Option<i64>,
}

static QUOTED_KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new("^'([^']*)'$").expect("a pattern of ours"));
static SLICE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^(-?[0-9]*)(:-?[0-9]*)?(:-?[0-9]*)?$").expect("a pattern of ours"));
static COMPARISON: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^([^!<>=]+)([!<>=]+)(.+?)$").expect("a pattern of ours"));

/// A template: texts as they are, actions as lists.
pub(super) fn template(text: &str) -> Result<Vec<Node>, SyntaxError> {
    parse(text, 0)
}

fn parse(text: &str, depth: usize) -> Result<Vec<Node>, SyntaxError> {
    if depth > MAX_NESTING {
        return Err(SyntaxError::Nesting);
    }
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        if open > 0 {
            nodes.push(Node::Text(rest[..open].to_owned()));
        }
        let mut action = Action {
            rest: &rest[open + 1..],
            nodes: Vec::new(),
            depth,
        };
        action.run()?;
        nodes.push(Node::List(action.nodes));
        rest = action.rest;
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.to_owned()));
    }
    Ok(nodes)
}

/// The first action of a text that is read as one.
fn action(text: &str, depth: usize) -> Result<Vec<Node>, SyntaxError> {
    Ok(parse(&format!("{{{text}}}"), depth + 1)?
        .into_iter()
        .find_map(|node| match node {
            Node::List(nodes) => Some(nodes),
            _ => None,
        })
        .unwrap_or_default())
}

struct Action<'a> {
    rest: &'a str,
    nodes: Vec<Node>,
    depth: usize,
}

impl<'a> Action<'a> {
    /// Up to and with the closing brace.
    fn run(&mut self) -> Result<(), SyntaxError> {
        loop {
            if let Some(after) = self.rest.strip_prefix('}') {
                self.rest = after;
                return Ok(());
            }
            if let Some(after) = self.rest.strip_prefix("[?(") {
                self.filter(after)?;
                continue;
            }
            if let Some(after) = self.rest.strip_prefix("..") {
                self.recursive(after)?;
                continue;
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(SyntaxError::Unclosed);
            };
            let after = &self.rest[first.len_utf8()..];
            match first {
                '\r' | '\n' => return Err(SyntaxError::Unclosed),
                ' ' | '@' | '$' => self.rest = after,
                '[' => self.array()?,
                '"' | '\'' => self.quote(first)?,
                '.' => {
                    self.rest = after;
                    self.field();
                }
                '+' | '-' => self.number()?,
                _ if is_digit(first) => self.number()?,
                _ if is_alphanumeric(first) => self.identifier(),
                _ => return Err(SyntaxError::Character(first)),
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn identifier(&mut self) {
        let length = self.rest.find(is_terminator).unwrap_or(self.rest.len());
        let node = match self.take(length) {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            name => Node::Identifier(name.to_owned()),
        };
        self.nodes.push(node);
    }

    fn recursive(&mut self, after: &'a str) -> Result<(), SyntaxError> {
        if self.nodes.last() == Some(&Node::Recursive) {
            return Err(SyntaxError::Recursive);
        }
        self.nodes.push(Node::Recursive);
        self.rest = after;
        if after.chars().next().is_some_and(is_alphanumeric) {
            self.field();
        }
        Ok(())
    }

    fn field(&mut self) {
        let mut length = self.rest.len();
        let mut escaped = false;
        for (index, character) in self.rest.char_indices() {
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if is_terminator(character) {
                length = index;
                break;
            }
        }
        let name = self.take(length);
        self.nodes.push(if name == "*" {
            Node::Wildcard
        } else {
            Node::Field(name.replace('\\', ""))
        });
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let digits = self.rest[sign..]
            .find(|character| character != '.' && !is_digit(character))
            .unwrap_or(self.rest.len() - sign);
        let text = self.take(sign + digits);
        let refused = || SyntaxError::Number(text.to_owned());
        if !text.is_ascii() || !text.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        self.nodes.push(match text.parse() {
            Ok(integer) => Node::Integer(integer),
            Err(_) => Node::Float(
                text.parse()
                    .ok()
                    .filter(|float: &f64| float.is_finite())
                    .ok_or_else(refused)?,
            ),
        });
        Ok(())
    }

    fn array(&mut self) -> Result<(), SyntaxError> {
        let end = self.rest.find(['\n', ']']).ok_or(SyntaxError::Array)?;
        if self.rest[end..].starts_with('\n') {
            return Err(SyntaxError::Array);
        }
        let text = self.take(end + 1);
        let inside = match &text[1..end] {
            "*" => ":",
            other => other,
        };
        if inside.contains(',') {
            let parts = inside
                .split(',')
                .map(|part| action(&format!("[{}]", part.trim_matches(' ')), self.depth))
                .collect::<Result<_, _>>()?;
            self.nodes.push(Node::Union(parts));
        } else if let Some(key) = QUOTED_KEY.captures(inside) {
            self.nodes.extend(action(&format!(".{}", &key[1]), self.depth)?);
        } else {
            self.nodes.push(Node::Slice(slice(inside)?));
        }
        Ok(())
    }

    /// `[?(left operator right)]`, or `[?(path)]`.
    fn filter(&mut self, text: &'a str) -> Result<(), SyntaxError> {
        let end = filter_end(text)?;
        let (inside, rest) = (&text[..end], &text[end + 1..]);
        self.rest = rest.strip_prefix(']').ok_or(SyntaxError::Filter)?;
        self.nodes.push(match COMPARISON.captures(inside) {
            None => Node::Filter {
                left: action(inside, self.depth)?,
                right: Vec::new(),
                operator: "exists".to_owned(),
            },
            Some(parts) => Node::Filter {
                left: action(&parts[1], self.depth)?,
                right: action(&parts[3], self.depth)?,
                operator: parts[2].to_owned(),
            },
        });
        Ok(())
    }

    fn quote(&mut self, quote: char) -> Result<(), SyntaxError> {
        let inside = &self.rest[1..];
        let end = inside
            .char_indices()
            .take_while(|(_, character)| *character != '\n')
            .find(|(index, character)| {
                *character == quote && inside.as_bytes().get(index.wrapping_sub(1)) != Some(&b'\\')
            })
            .map(|(index, _)| index)
            .ok_or(SyntaxError::Quote)?;
        let text = self.take(end + 2);
        let unquoted = unquoted(&text[1..=end], quote).ok_or_else(|| SyntaxError::Escape(text.to_owned()))?;
        self.nodes.push(Node::Text(unquoted));
        Ok(())
    }
}

/// Where the parenthesis of a filter closes: at the first one that is outside of the quotation, of which there is at most
/// one to look at.
fn filter_end(text: &str) -> Result<usize, SyntaxError> {
    let mut quote = None;
    let mut closed = false;
    for (index, character) in text.char_indices() {
        match character {
            '\n' => break,
            '"' | '\'' => match quote {
                None => quote = Some(character),
                Some(pair) => {
                    if character == pair && !text[..index].ends_with('\\') {
                        closed = true;
                    }
                }
            },
            ')' if quote.is_some() == closed => return Ok(index),
            _ => {}
        }
    }
    Err(SyntaxError::Filter)
}

fn slice(text: &str) -> Result<Slice, SyntaxError> {
    let refused = || SyntaxError::Index(text.to_owned());
    let parts = SLICE.captures(text).ok_or_else(refused)?;
    let number = |part: usize| match parts.get(part).map(|part| part.as_str()).unwrap_or_default() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| refused()),
    };
    let after_colon = |part: usize| match parts.get(part).map_or("", |part| part.as_str()).strip_prefix(':') {
        None | Some("") => Ok(None),
        Some(digits) => digits.parse().map(Some).map_err(|_| refused()),
    };
    let start: Option<i64> = number(1)?;
    let one = parts.get(2).is_none_or(|part| part.is_empty());
    Ok(Slice {
        start,
        end: if one {
            Some(start.unwrap_or_default().wrapping_add(1))
        } else {
            after_colon(2)?
        },
        one,
        step: after_colon(3)?,
    })
}

/// Go's escapes (`strconv.UnquoteChar`).
fn unquoted(text: &str, quote: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut after = &rest[first.len_utf8()..];
        if first == quote {
            return None;
        }
        if first == '\\' {
            let escape = after.chars().next()?;
            after = &after[escape.len_utf8()..];
            let mut digits = |length: usize, radix: u32| {
                let digits = after.get(..length)?;
                after = &after[length..];
                let plain = digits.chars().all(|digit| digit.is_digit(radix));
                plain.then(|| u32::from_str_radix(digits, radix).ok())?
            };
            match escape {
                'a' => bytes.push(7),
                'b' => bytes.push(8),
                'f' => bytes.push(0xC),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'v' => bytes.push(0xB),
                '\\' => bytes.push(b'\\'),
                '\'' | '"' if escape == quote => bytes.push(u8::try_from(escape).ok()?),
                'x' => bytes.push(u8::try_from(digits(2, 16)?).ok()?),
                'u' => bytes.extend(char::from_u32(digits(4, 16)?)?.to_string().bytes()),
                'U' => bytes.extend(char::from_u32(digits(8, 16)?)?.to_string().bytes()),
                '0'..='7' => {
                    let value = escape.to_digit(8)? * 64 + digits(2, 8)?;
                    bytes.push(u8::try_from(value).ok()?);
                }
                _ => return None,
            }
        } else {
            bytes.extend(first.to_string().bytes());
        }
        rest = after;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_terminator(character: char) -> bool {
    matches!(
        character,
        ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'
    )
}

fn is_digit(character: char) -> bool {
    static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").expect("a pattern of ours"));
    character.is_ascii_digit() || !character.is_ascii() && DIGIT.is_match(character.encode_utf8(&mut [0; 4]))
}

fn is_alphanumeric(character: char) -> bool {
    static LETTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{L}$").expect("a pattern of ours"));
    character == '_'
        || character.is_ascii_alphabetic()
        || is_digit(character)
        || !character.is_ascii() && LETTER.is_match(character.encode_utf8(&mut [0; 4]))
}
