//! Regular expressions that people write into tenants and the configuration.
//!
//! They were written for Go's RE2, whose syntax the `regex` crate shares but for a few corners, which [`translate`]
//! takes care of. Both match in linear time, so a pattern cannot stall a webhook; what it can do is be large, so length,
//! nesting and compiled size are limited. A match anywhere in the value counts: nothing is anchored.
//!
//! Compiling takes longer than a whole decision may, so patterns are compiled when an object enters the index, and
//! equal patterns of many tenants are compiled once ([`Cache`]).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use regex::{Regex, RegexBuilder};

/// No pattern of a person is longer.
const MAX_LENGTH: usize = 4096;
/// Of a compiled pattern, and of the cache that one search may build up.
const MAX_BYTES: usize = 1 << 20;
const MAX_NESTING: u32 = 64;

/// A pattern that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidPattern {
    reason: String,
}

/// A pattern that can be matched. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    compiled: Arc<Regex>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If it is not a regular expression, or too large a one.
    pub fn new(source: &str) -> Result<Self, InvalidPattern> {
        if source.len() > MAX_LENGTH {
            return Err(InvalidPattern {
                reason: format!("the pattern is longer than {MAX_LENGTH} bytes"),
            });
        }
        let compiled = RegexBuilder::new(&translate(source))
            .size_limit(MAX_BYTES)
            .dfa_size_limit(MAX_BYTES)
            .nest_limit(MAX_NESTING)
            .build()
            .map_err(|error| InvalidPattern { reason: reason(&error) })?;
        Ok(Self {
            source: source.into(),
            compiled: Arc::new(compiled),
        })
    }

    /// Whether any part of the value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.compiled.is_match(value)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// What is wrong, in one line: the crate's own message draws the pattern and an arrow below.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large once its repetitions are spelt out".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

/// From RE2's syntax to that of the `regex` crate, where they differ: `\Q…\E` quotes, `\<` and `\>` are those
/// characters, `\d`, `\w`, `\s` and `\b` are about ASCII, and in a class `[`, `&` and `~` are nothing but themselves.
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut class = Class::Outside;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let was = class;
        if first == '\\' {
            if let Some(quoted) = after.strip_prefix('Q') {
                let (text, left) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                out.push_str(&regex::escape(text));
                rest = left;
            } else if after.starts_with(['<', '>']) {
                out.push_str(&after[..1]);
                rest = &after[1..];
            } else if let Some(translated) = ascii_class(after, class != Class::Outside) {
                out.push_str(translated);
                rest = &after[1..];
            } else {
                out.push(first);
                let escaped = after.chars().next();
                out.extend(escaped);
                rest = &after[escaped.map_or(0, char::len_utf8)..];
            }
            if class == Class::Start {
                class = Class::Inside;
            }
            continue;
        }
        match (class, first) {
            (Class::Outside, '[') => {
                class = Class::Start;
                out.push('[');
                if let Some(negated) = after.strip_prefix('^') {
                    out.push('^');
                    rest = negated;
                    continue;
                }
            }
            (Class::Start, ']') => {
                // First in a class it is itself.
                out.push_str("\\]");
            }
            (Class::Inside, ']') => {
                class = Class::Outside;
                out.push(']');
            }
            (Class::Start | Class::Inside, '[') => match after.strip_prefix(':').and_then(|name| name.find(":]")) {
                Some(end) => {
                    let length = end + ":".len() + ":]".len();
                    out.push('[');
                    out.push_str(&after[..length]);
                    rest = &after[length..];
                    class = Class::Inside;
                    continue;
                }
                None => out.push_str("\\["),
            },
            (Class::Start | Class::Inside, '&' | '~') => {
                out.push('\\');
                out.push(first);
            }
            _ => out.push(first),
        }
        if was == Class::Start {
            class = Class::Inside;
        }
        rest = after;
    }
    out
}

/// What begins with this letter after a backslash, for ASCII only.
fn ascii_class(escape: &str, in_class: bool) -> Option<&'static str> {
    let (alone, within) = match escape.chars().next()? {
        'd' => ("[0-9]", "0-9"),
        'D' => ("[^0-9]", "[^0-9]"),
        'w' => ("[0-9A-Za-z_]", "0-9A-Za-z_"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        's' => (r"[\t\n\x0C\r ]", r"\t\n\x0C\r "),
        'S' => (r"[^\t\n\x0C\r ]", r"[^\t\n\x0C\r ]"),
        'b' if !in_class => (r"(?-u:\b)", ""),
        _ => return None,
    };
    Some(if in_class { within } else { alone })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Outside,
    /// Just after `[` or `[^`.
    Start,
    Inside,
}

/// Compiled patterns by their source, as long as somebody uses them.
#[derive(Debug, Default)]
pub struct Cache {
    known: HashMap<Arc<str>, Weak<Regex>>,
    /// Unused entries are dropped when there are this many.
    sweep_at: usize,
}

impl Cache {
    /// The compiled pattern, compiled now if nobody uses it yet.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn get(&mut self, source: &str) -> Result<Pattern, InvalidPattern> {
        if let Some((source, compiled)) = self.known.get_key_value(source)
            && let Some(compiled) = compiled.upgrade()
        {
            return Ok(Pattern {
                source: source.clone(),
                compiled,
            });
        }
        let pattern = Pattern::new(source)?;
        if self.known.len() >= self.sweep_at.max(64) {
            self.known.retain(|_, compiled| compiled.strong_count() > 0);
            self.sweep_at = self.known.len() * 2;
        }
        self.known
            .insert(pattern.source.clone(), Arc::downgrade(&pattern.compiled));
        Ok(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::anywhere("ol", "gold", true)]
    #[case::anchored("^gold$", "golden", false)]
    #[case::alternatives("^(a|b)-.*", "b-1", true)]
    #[case::quoted(r"^\Qa.b\E$", "a.b", true)]
    #[case::quoted_is_literal(r"^\Qa.b\E$", "axb", false)]
    #[case::quoted_to_the_end(r"\Q[", "[", true)]
    #[case::a_bracket_in_a_class("^[[a]$", "[", true)]
    #[case::a_closing_bracket_first_in_a_class("^[]a]$", "]", true)]
    #[case::a_negated_class("^[^]a]$", "b", true)]
    #[case::no_intersections("^[a&&b]$", "&", true)]
    #[case::named_classes("^[[:digit:]x]+$", "1x2", true)]
    #[case::digits_are_ascii(r"^\d$", "\u{661}", false)]
    #[case::letters_are_ascii(r"^[\w]$", "ö", false)]
    #[case::what_is_no_letter(r"^[a\W]+$", "aö-", true)]
    #[case::punctuation_is_itself(r"^\<a\>$", "<a>", true)]
    #[case::flags("(?i)^GOLD$", "gold", true)]
    #[case::empty_matches_all("", "anything", true)]
    fn matches_as_re2_does(#[case] pattern: &str, #[case] value: &str, #[case] expected: bool) {
        assert_eq!(Pattern::new(pattern).unwrap().matches(value), expected);
    }

    #[test]
    fn what_cannot_be_compiled_says_why_in_one_line() {
        assert_eq!(Pattern::new("a(").unwrap_err().to_string(), "unclosed group");
        assert_eq!(
            Pattern::new("((a{1000}){1000}){1000}").unwrap_err().to_string(),
            "the pattern is too large once its repetitions are spelt out"
        );
        assert!(Pattern::new(&"(".repeat(2000)).is_err());
        assert!(
            Pattern::new(&"a".repeat(5000))
                .unwrap_err()
                .to_string()
                .contains("longer than 4096")
        );
    }

    #[test]
    fn equal_patterns_are_compiled_once_and_forgotten_after_use() {
        let mut cache = Cache::default();
        let (one, two) = (cache.get("^a").unwrap(), cache.get("^a").unwrap());
        assert!(Arc::ptr_eq(&one.compiled, &two.compiled));
        drop((one, two));
        for number in 0..200 {
            cache.get(&format!("^{number}$")).unwrap();
        }
        assert!(cache.known.len() <= 65, "{}", cache.known.len());
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(source in ".{0,60}", value in ".{0,20}") {
            if let Ok(pattern) = Pattern::new(&source) {
                pattern.matches(&value);
            }
        }

        #[test]
        fn nested_brackets_and_quotes_do_not_panic(source in r"[\[\]\\QE:^&~a-c]{0,12}") {
            if let Ok(pattern) = Pattern::new(&source) {
                pattern.matches("a[b]c");
            }
        }
    }
}
