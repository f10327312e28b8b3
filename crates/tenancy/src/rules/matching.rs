//! How rules name values, kinds and keys: patterns, globs and key selectors.
//!
//! Regular expressions come from [`crate::pattern`]; nothing else here knows how they work.

use std::borrow::Cow;

use api::capsule::v1beta2::ExprMatch;

use super::finding::quoted;
use crate::{
    name::is_qualified_name,
    pattern::{Cache, InvalidPattern, Pattern},
};

/// Whether an item of a rule matches a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// It cannot be known, and why.
    Unknown(String),
}

impl Answer {
    pub(super) fn is(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

/// One item of a rule about values of type `V`.
pub(super) trait Item<V: ?Sized> {
    fn answer(&self, value: &V) -> Answer;
    /// The item for people.
    fn describe(&self) -> String;
}

/// Values, given exactly or by a pattern that any part of them may match.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    exact: Vec<Box<str>>,
    pattern: Option<Result<Pattern, InvalidPattern>>,
    negate: bool,
}

impl Expression {
    pub(super) fn new(exact: &[String], exp: &str, negate: bool, patterns: &mut Cache) -> Self {
        Self {
            exact: exact.iter().map(|value| value.as_str().into()).collect(),
            pattern: (!exp.is_empty()).then(|| patterns.get(exp)),
            negate,
        }
    }

    pub(super) fn of(source: &ExprMatch, patterns: &mut Cache) -> Self {
        Self::new(&source.exact, &source.exp, source.negate, patterns)
    }

    /// Of names in the DNS, whose spelling varies: see [`canonical_name`].
    pub(super) fn of_names(source: &ExprMatch, patterns: &mut Cache) -> Self {
        let mut expression = Self::of(source, patterns);
        for name in &mut expression.exact {
            *name = canonical_name(name).as_ref().into();
        }
        expression
    }
}

impl Item<str> for Expression {
    /// A value among the exact ones is decided without a look at the pattern, also when the answer is turned round.
    fn answer(&self, value: &str) -> Answer {
        let is_exact = self.exact.iter().any(|exact| **exact == *value);
        let hit = match &self.pattern {
            _ if is_exact => true,
            None if self.exact.is_empty() => return Answer::Unknown("neither exact nor exp is set".to_owned()),
            None => false,
            Some(Ok(pattern)) => pattern.matches(value),
            Some(Err(error)) => return Answer::Unknown(format!("its pattern cannot be used: {error}")),
        };
        Answer::is(hit != self.negate)
    }

    fn describe(&self) -> String {
        let exact = self.exact.iter().take(10).map(|value| quoted(value));
        let mut parts: Vec<_> = exact.collect();
        if self.exact.len() > 10 {
            parts.push(format!("{} more", self.exact.len() - 10));
        }
        if let Some(Ok(pattern)) = &self.pattern {
            parts.push(format!("what matches {}", quoted(pattern.as_str())));
        }
        let all = parts.join(" or ");
        if self.negate {
            format!("anything but {all}")
        } else {
            all
        }
    }
}

/// A name in the DNS as resolvers compare it: without blanks around it and the dot of the root, in lower case.
pub(super) fn canonical_name(name: &str) -> Cow<'_, str> {
    let trimmed = name.trim();
    let trimmed = trimmed.strip_suffix('.').unwrap_or(trimmed);
    if trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(trimmed.to_ascii_lowercase())
    } else {
        Cow::Borrowed(trimmed)
    }
}

/// A name of a thing, exactly.
#[derive(Clone, Debug)]
pub(super) struct Name(pub(super) Box<str>);

impl Item<str> for Name {
    fn answer(&self, value: &str) -> Answer {
        Answer::is(*self.0 == *value)
    }

    fn describe(&self) -> String {
        quoted(&self.0)
    }
}

/// Whether a glob matches the whole text: each `*` stands for any characters, also none.
pub(super) fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = left.split_once(part) else {
            return false;
        };
        left = after;
    }
    left.ends_with(last)
}

/// Which keys of labels or annotations a rule is about.
///
/// A key that could be one itself stands for itself. Anything else is a pattern for the whole key, in which a `*` that
/// does not follow a dot stands for any characters.
#[derive(Clone, Debug)]
pub(super) enum KeySelector {
    Literal(Box<str>),
    Pattern(Box<str>, Result<Pattern, InvalidPattern>),
}

impl KeySelector {
    pub(super) fn new(source: &str, patterns: &mut Cache) -> Self {
        if is_literal_key(source) {
            Self::Literal(source.into())
        } else {
            Self::Pattern(source.into(), patterns.get(&key_pattern(source)))
        }
    }

    pub(super) fn answer(&self, key: &str) -> Answer {
        match self {
            Self::Literal(literal) => Answer::is(**literal == *key),
            Self::Pattern(_, Ok(pattern)) => Answer::is(pattern.matches(key)),
            Self::Pattern(source, Err(error)) => {
                Answer::Unknown(format!("the key {} is no usable pattern: {error}", quoted(source)))
            }
        }
    }

    pub(super) fn source(&self) -> &str {
        match self {
            Self::Literal(source) | Self::Pattern(source, _) => source,
        }
    }
}

/// Whether a key of a rule stands for itself alone.
pub(super) fn is_literal_key(key: &str) -> bool {
    is_qualified_name(key)
}

/// The regular expression that a key selector stands for.
pub(super) fn key_pattern(source: &str) -> String {
    let mut pattern = String::with_capacity(source.len() + 8);
    pattern.push_str("^(?:");
    let mut before = None;
    for letter in source.chars() {
        if letter == '*' && before != Some('.') {
            pattern.push('.');
        }
        pattern.push(letter);
        before = Some(letter);
    }
    pattern.push_str(")$");
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn expression(exact: &[&str], exp: &str, negate: bool) -> Expression {
        let exact: Vec<_> = exact.iter().map(|value| (*value).to_owned()).collect();
        Expression::new(&exact, exp, negate, &mut Cache::default())
    }

    /// Section 1.1 of what is served: exact first, then the pattern, and `negate` turns the answer of either.
    #[rstest]
    #[case::exact(&["a"], "", false, "a", true)]
    #[case::not_exact(&["a"], "", false, "ab", false)]
    #[case::by_the_pattern(&["x"], "b", false, "abc", true)]
    #[case::neither(&["x"], "^b", false, "abc", false)]
    #[case::negated_exact(&["a"], "", true, "a", false)]
    #[case::negated_not_exact(&["a"], "", true, "b", true)]
    #[case::negated_exact_does_not_ask_the_pattern(&["a"], "^z$", true, "a", false)]
    #[case::negated_pattern(&["a"], "^b$", true, "b", false)]
    #[case::negated_neither(&["a"], "^b$", true, "c", true)]
    #[case::a_broken_pattern_is_not_asked_about_an_exact_value(&["a"], "(", false, "a", true)]
    fn an_expression_matches(
        #[case] exact: &[&str],
        #[case] exp: &str,
        #[case] negate: bool,
        #[case] value: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(expression(exact, exp, negate).answer(value), Answer::is(expected));
    }

    #[rstest]
    #[case::broken(&["a"], "(", false)]
    #[case::broken_and_negated(&["a"], "(", true)]
    #[case::empty(&[], "", false)]
    #[case::empty_and_negated(&[], "", true)]
    fn what_cannot_be_evaluated_is_unknown(#[case] exact: &[&str], #[case] exp: &str, #[case] negate: bool) {
        assert!(matches!(expression(exact, exp, negate).answer("b"), Answer::Unknown(_)));
    }

    #[rstest]
    #[case("Pod", "Pod", true)]
    #[case("Pod", "Pods", false)]
    #[case("*", "", true)]
    #[case("*", "anything", true)]
    #[case("*Route", "HTTPRoute", true)]
    #[case("*Route", "HTTPRouteList", false)]
    #[case("HTTP*", "HTTPRoute", true)]
    #[case("H*R*e", "HTTPRoute", true)]
    #[case("a*a", "a", false)]
    #[case("a*a", "aa", true)]
    #[case("*ab*ab", "abab", true)]
    #[case("*ab*ab", "ab", false)]
    #[case("a**b", "ab", true)]
    #[case("*.example.com/v*", "a.example.com/v1", true)]
    #[case("", "", true)]
    #[case("", "a", false)]
    fn a_glob_matches(#[case] glob: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(glob_matches(glob, text), expected);
    }

    #[rstest]
    #[case::literal("example.com/team", "example.com/team", true)]
    #[case::a_dot_of_a_literal_is_a_dot("example.com/team", "exampleXcom/team", false)]
    #[case::a_star("example.com/*", "example.com/team", true)]
    #[case::a_star_stands_for_slashes("*", "example.com/team", true)]
    #[case::the_whole_key("team-*", "my-team-a", false)]
    #[case::a_star_after_a_dot_is_the_pattern_s_own("team.*", "team-a", true)]
    #[case::a_regular_expression("(env|stage)", "stage", true)]
    #[case::a_regular_expression_is_anchored("(env|stage)", "stages", false)]
    fn a_key_selector_matches(#[case] source: &str, #[case] key: &str, #[case] expected: bool) {
        let selector = KeySelector::new(source, &mut Cache::default());
        assert_eq!(selector.answer(key), Answer::is(expected));
    }

    #[rstest]
    #[case("a.example.com", "a.example.com")]
    #[case(" A.Example.com. ", "a.example.com")]
    #[case("*.example.com", "*.example.com")]
    #[case(".", "")]
    fn names_have_one_spelling(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(canonical_name(name), expected);
    }

    proptest! {
        #[test]
        fn a_glob_of_stars_matches_as_its_regular_expression(glob in "[ab*]{0,8}", text in "[ab]{0,8}") {
            let parts: Vec<_> = glob.split('*').map(regex::escape).collect();
            let oracle = regex::Regex::new(&format!("^(?s:{})$", parts.join(".*"))).unwrap();
            prop_assert_eq!(glob_matches(&glob, &text), oracle.is_match(&text));
        }

        #[test]
        fn no_key_selector_panics(source in ".{0,30}", key in ".{0,20}") {
            KeySelector::new(&source, &mut Cache::default()).answer(&key);
        }
    }
}
