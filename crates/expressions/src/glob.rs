//! Globs of API groups and kinds: `*` stands for any text, also none, and may occur several times.

/// Whether the whole of a value matches a pattern. Everything but `*` stands for itself.
///
/// Literal parts are searched in order, leftmost first, which decides a pattern of stars alone in linear time per part:
/// there is nothing to go back to.
pub fn matches(pattern: &str, value: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == value;
    };
    let Some(value) = value.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut value) = value.strip_suffix(end) else {
        return false;
    };
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = value.split_once(part) else {
            return false;
        };
        value = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("apps", "apps", true)]
    #[case("apps", "apps2", false)]
    #[case("*", "", true)]
    #[case("*", "apps/v1", true)]
    #[case("*.example.com", "a.example.com", true)]
    #[case("*.example.com", "example.com", false)]
    #[case("apps/*", "apps/v1", true)]
    #[case("apps/*", "batch/v1", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "acb", false)]
    #[case("a*a", "a", false)]
    #[case("a**a", "aa", true)]
    #[case("*set", "StatefulSet", false)]
    #[case("*Set", "StatefulSet", true)]
    #[case("", "", true)]
    #[case("", "v1", false)]
    #[case("*ab*ab*", "abab", true)]
    #[case("*ab*ab*", "aba", false)]
    fn stars_stand_for_any_text(#[case] pattern: &str, #[case] value: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, value), expected);
    }

    proptest! {
        #[test]
        fn it_is_the_regular_expression_with_dots(pattern in "[ab*.]{0,8}", value in "[ab.]{0,10}") {
            let oracle = format!("^(?s:{})$", regex::escape(&pattern).replace(r"\*", ".*"));
            prop_assert_eq!(matches(&pattern, &value), regex::Regex::new(&oracle).unwrap().is_match(&value));
        }
    }
}
