//! Upper and lower case, and names written as one word.

use std::sync::LazyLock;

use regex::Regex;

use super::Type::Text;
use super::{Answer, Arguments, Context, Function, fixed};
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    fixed("camelcase", &[Text], |context, arguments| {
        changed(context, arguments, pascal_case)
    }),
    fixed("initials", &[Text], |context, arguments| {
        changed(context, arguments, initials)
    }),
    fixed("kebabcase", &[Text], |context, arguments| {
        changed(context, arguments, |text| joined_words(text, '-'))
    }),
    fixed("lower", &[Text], |context, arguments| {
        changed(context, arguments, |text| text.chars().map(lower).collect())
    }),
    fixed("nospace", &[Text], |context, arguments| {
        changed(context, arguments, |text| {
            text.chars().filter(|char| !char.is_whitespace()).collect()
        })
    }),
    fixed("snakecase", &[Text], |context, arguments| {
        changed(context, arguments, |text| joined_words(text, '_'))
    }),
    fixed("swapcase", &[Text], |context, arguments| {
        changed(context, arguments, swap_case)
    }),
    fixed("title", &[Text], |context, arguments| {
        changed(context, arguments, title)
    }),
    fixed("untitle", &[Text], |context, arguments| {
        changed(context, arguments, untitle)
    }),
    fixed("upper", &[Text], |context, arguments| {
        changed(context, arguments, |text| text.chars().map(upper).collect())
    }),
];

fn changed(context: &Context<'_>, arguments: Arguments<'_>, change: fn(&str) -> String) -> Answer {
    let text = arguments.text(0)?;
    context.budget.allocate(text.len() * 2)?;
    Ok(Value::text(change(text)))
}

/// Go maps one character to one: what would become two stays as it is.
fn upper(char: char) -> char {
    let mut upper = char.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => char,
    }
}

fn lower(char: char) -> char {
    char.to_lowercase().next().unwrap_or(char)
}

/// Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .map(|char| {
            let starts_word =
                !(before.is_alphanumeric() || before == '_') && (before.is_ascii() || before.is_whitespace());
            before = char;
            if starts_word { upper(char) } else { char }
        })
        .collect()
}

fn untitle(text: &str) -> String {
    let mut starts_word = true;
    text.chars()
        .map(|char| {
            let change = starts_word && !char.is_whitespace();
            starts_word = char.is_whitespace();
            if change { lower(char) } else { char }
        })
        .collect()
}

fn swap_case(text: &str) -> String {
    let mut after_space = true;
    text.chars()
        .map(|char| {
            if char.is_uppercase() {
                after_space = false;
                lower(char)
            } else if char.is_lowercase() {
                after_space = false;
                upper(char)
            } else {
                after_space = char.is_whitespace();
                char
            }
        })
        .collect()
}

fn initials(text: &str) -> String {
    text.split_whitespace().filter_map(|word| word.chars().next()).collect()
}

fn is_connector(char: char) -> bool {
    char == '-' || char == '_' || char.is_whitespace()
}

/// As `ToPascalCase` of the `xstrings` library, which sprig uses. Connectors at the head are kept, and all but one in a
/// row.
fn pascal_case(text: &str) -> String {
    let head = text.len() - text.trim_start_matches(is_connector).len();
    let mut out = text[..head].to_owned();
    let mut chars = text[head..].chars();
    let Some(first) = chars.next() else {
        return doubled_last(text);
    };
    let mut in_upper_run = first.is_uppercase();
    let mut before = upper(first);
    for char in chars {
        let mut char = char;
        if is_connector(before) {
            if is_connector(char) {
                out.push(before);
                before = char;
                continue;
            }
            in_upper_run = char.is_uppercase();
            char = upper(char);
        } else {
            if in_upper_run {
                if char.is_uppercase() {
                    char = lower(char);
                } else if !is_connector(char) || !char.is_uppercase() {
                    in_upper_run = false;
                }
            }
            out.push(before);
        }
        before = char;
    }
    out.push(before);
    out
}

/// A text of nothing but connectors gains one more of its last.
fn doubled_last(text: &str) -> String {
    let mut out = text.to_owned();
    out.extend(text.chars().next_back());
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Invalid,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punctuation,
    Other,
}

static PUNCTUATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{P}$").ok());

/// Unicode's category: ASCII's signs of arithmetic and currency are symbols.
fn is_punctuation(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_punctuation() && !"$+<=>^`|~".contains(char);
    }
    PUNCTUATION
        .as_ref()
        .is_some_and(|pattern| pattern.is_match(char.encode_utf8(&mut [0; 4])))
}

fn is_alphabet(char: char) -> bool {
    char.is_alphabetic() && (char.is_uppercase() || char.is_lowercase())
}

/// The next word, its kind, and what follows it.
fn next_word(text: &str) -> (Word, &str, &str) {
    let Some(first) = text.chars().next() else {
        return (Word::Invalid, "", "");
    };
    let run = |from: usize, belongs: &dyn Fn(char) -> bool| {
        let rest = &text[from..];
        from + (rest.len() - rest.trim_start_matches(belongs).len())
    };
    let after_first = first.len_utf8();
    let (kind, length) = if is_connector(first) {
        (Word::Connector, run(0, &is_connector))
    } else if is_punctuation(first) {
        (Word::Punctuation, run(0, &is_punctuation))
    } else if first.is_uppercase() {
        (Word::Upper, upper_word(text, after_first))
    } else if is_alphabet(first) {
        (
            Word::Alphabet,
            run(after_first, &|char| is_alphabet(char) && !char.is_uppercase()),
        )
    } else if first.is_numeric() {
        (Word::Number, run(0, &char::is_numeric))
    } else {
        let belongs = |char| !(is_connector(char) || is_alphabet(char) || char.is_numeric() || is_punctuation(char));
        (Word::Other, run(after_first, &belongs))
    };
    (kind, &text[..length], &text[length..])
}

/// Length of a word that begins with an upper case letter: `HTTP` of `HTTPStatus`, `Status` of `StatusCode`.
fn upper_word(text: &str, after_first: usize) -> usize {
    let rest = &text[after_first..];
    let Some(second) = rest.chars().next() else {
        return after_first;
    };
    if second.is_uppercase() {
        let uppers: Vec<_> = rest.chars().take_while(|char| char.is_uppercase()).collect();
        let length: usize = uppers.iter().map(|char| char.len_utf8()).sum();
        let follows = rest[length..].chars().next();
        let given_back = match (follows, uppers.last()) {
            (Some(next), Some(last)) if is_alphabet(next) => last.len_utf8(),
            _ => 0,
        };
        after_first + length - given_back
    } else {
        let word: usize = rest
            .chars()
            .take_while(|&char| is_alphabet(char) && !char.is_uppercase())
            .map(char::len_utf8)
            .sum();
        after_first + word
    }
}

fn push_word(out: &mut String, kind: Word, word: &str, connector: char) {
    if !matches!(kind, Word::Upper | Word::Connector) {
        out.push_str(word);
        return;
    }
    out.extend(
        word.chars()
            .map(|char| if is_connector(char) { connector } else { lower(char) }),
    );
}

/// As `ToSnakeCase` and `ToKebabCase` of `xstrings`.
fn joined_words(text: &str, connector: char) -> String {
    let mut out = String::new();
    let (mut kind, mut word, mut rest) = next_word(text);
    while !rest.is_empty() {
        if kind != Word::Connector {
            push_word(&mut out, kind, word, connector);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match before {
            Word::Number => {
                while matches!(kind, Word::Alphabet | Word::Number) {
                    push_word(&mut out, kind, word, connector);
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, Word::Invalid | Word::Punctuation | Word::Connector) {
                    out.push(connector);
                }
            }
            Word::Connector => push_word(&mut out, before, last, connector),
            Word::Punctuation => {}
            _ if kind != Word::Number => {
                if !matches!(kind, Word::Connector | Word::Punctuation) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next_word(rest);
                // A number belongs to the word before it, but for one that lower case letters follow.
                if kind != Word::Alphabet {
                    push_word(&mut out, Word::Number, number, connector);
                    if !matches!(kind, Word::Connector | Word::Punctuation) {
                        out.push(connector);
                    }
                    continue;
                }
                out.push(connector);
                push_word(&mut out, Word::Number, number, connector);
                while matches!(kind, Word::Alphabet | Word::Number) {
                    push_word(&mut out, kind, word, connector);
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, Word::Invalid | Word::Connector | Word::Punctuation) {
                    out.push(connector);
                }
            }
        }
    }
    push_word(&mut out, kind, word, connector);
    out
}
