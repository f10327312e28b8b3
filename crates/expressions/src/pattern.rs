//! Regular expressions that people write into tenants and the configuration.
//!
//! They are Go's (RE2), read rule by rule as Go reads them and matched by the automata of the `regex` crate. Both match in
//! linear time, so a pattern cannot stall a webhook; what it can do is be large, so length, nesting and compiled size are
//! limited. A match anywhere in the value counts: nothing is anchored.
//!
//! Compiling takes longer than a whole decision may, so patterns are compiled when an object enters the index, and
//! equal patterns of many tenants are compiled once ([`Cache`]).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use regex_automata::meta::{self, Regex};

use crate::re2;

/// No pattern of a person is longer.
const MAX_LENGTH: usize = 4096;
/// Of a compiled pattern, and of the cache that one search may build up.
const MAX_BYTES: usize = 1 << 20;

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
    compiled: Arc<Compiled>,
}

struct Compiled {
    regex: Regex,
    /// How many states one character of a value may touch, at worst and roughly.
    weight: u64,
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
        let hir = re2::parse(source).map_err(|error| InvalidPattern {
            reason: error.to_string(),
        })?;
        let properties = hir.properties();
        let longest = properties.maximum_len().or(properties.minimum_len()).unwrap_or(0);
        let weight = 1 + longest as u64 / 16;
        let limits = meta::Config::new()
            .nfa_size_limit(Some(MAX_BYTES))
            .onepass_size_limit(Some(MAX_BYTES))
            .hybrid_cache_capacity(MAX_BYTES);
        let compiled = Regex::builder()
            .configure(limits)
            .build_from_hir(&hir)
            .map_err(|error| InvalidPattern { reason: reason(&error) })?;
        Ok(Self {
            source: source.into(),
            compiled: Arc::new(Compiled {
                regex: compiled,
                weight,
            }),
        })
    }

    /// Whether any part of the value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.compiled.regex.is_match(value)
    }

    /// The parts that match, leftmost first, none overlapping another.
    pub fn find_all<'v>(&self, value: &'v str) -> impl Iterator<Item = &'v str> {
        self.compiled.regex.find_iter(value).map(|found| &value[found.range()])
    }

    /// The compiled pattern, for searches that need groups or offsets.
    pub fn regex(&self) -> &Regex {
        &self.compiled.regex
    }

    /// How much there may be to do to match a value of this length, in characters that are looked at.
    pub(crate) fn work(&self, length: usize) -> u64 {
        (length as u64).saturating_mul(self.compiled.weight)
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

fn reason(error: &meta::BuildError) -> String {
    if error.size_limit().is_some() {
        "the pattern is too large once its repetitions are spelt out".to_owned()
    } else {
        error.to_string()
    }
}

/// Compiled patterns by their source, as long as somebody uses them.
#[derive(Default)]
pub struct Cache {
    known: HashMap<Arc<str>, Weak<Compiled>>,
    /// Unused entries are dropped when there are this many.
    sweep_at: usize,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("known", &self.known.keys())
            .finish_non_exhaustive()
    }
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
            Pattern::new(r"\pL{1000}").unwrap_err().to_string(),
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
