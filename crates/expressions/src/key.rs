//! Selectors of label and annotation keys in rules: a key, or a pattern for several.
//!
//! A `*` stands for any text, but for one that a `.` precedes, which already is a regular expression's. What comes out
//! is such an expression (RE2 syntax) over the whole key. So a `.` matches any character, in a plain key too: a rule about
//! `example.com/team` also speaks of `example-com/team`.

use crate::pattern::{InvalidPattern, Pattern};

/// A selector of metadata keys. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySelector {
    source: String,
    pattern: Pattern,
}

impl KeySelector {
    /// Compiles a selector.
    ///
    /// # Errors
    /// If it is no regular expression once its stars are spelt out.
    pub fn new(source: &str) -> Result<Self, InvalidPattern> {
        let expression = with_stars(source);
        // On its own first: a text may not close the group that anchors it.
        Pattern::new(&expression)?;
        Ok(Self {
            source: source.to_owned(),
            pattern: Pattern::new(&format!("^(?:{expression})$"))?,
        })
    }

    /// Whether it speaks of this key.
    pub fn matches(&self, key: &str) -> bool {
        self.pattern.matches(key)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it is one key, spelt out. Only those can be given a default or a managed value.
    pub fn is_literal(&self) -> bool {
        self.source
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    }
}

fn with_stars(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 4);
    let mut before = None;
    for character in source.chars() {
        if character == '*' && before != Some('.') {
            out.push('.');
        }
        out.push(character);
        before = Some(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("team", "team", true)]
    #[case("team", "teams", false)]
    #[case("team", "my-team", false)]
    #[case("example.com/*", "example.com/team", true)]
    #[case("example.com/*", "example.com/", true)]
    #[case("example.com/*", "other.com/team", false)]
    #[case::a_dot_is_any_character("example.com/team", "example-com/team", true)]
    #[case::already_an_expression("example.com/.*", "example.com/team", true)]
    #[case("*", "anything", true)]
    #[case("(a|b)-[0-9]+", "b-12", true)]
    #[case("a|b", "ab", false)]
    #[case("*.io/*", "a.io/b", true)]
    fn keys(#[case] selector: &str, #[case] key: &str, #[case] expected: bool) {
        assert_eq!(KeySelector::new(selector).unwrap().matches(key), expected);
    }

    #[rstest]
    #[case("app.kubernetes.io/name", true)]
    #[case("example.com/*", false)]
    #[case("a+", false)]
    fn literal_keys_have_nothing_but_the_characters_of_a_key(#[case] selector: &str, #[case] expected: bool) {
        assert_eq!(KeySelector::new(selector).unwrap().is_literal(), expected);
    }

    #[rstest]
    #[case("(")]
    #[case("a)b(")]
    #[case("[")]
    fn what_is_no_pattern_is_refused(#[case] selector: &str) {
        assert!(KeySelector::new(selector).is_err());
    }
}
