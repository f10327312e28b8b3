//! Field selectors of custom quotas: a path that has to lead to something, or to a certain text.

use serde_json::Value;

use crate::jsonpath::{EvaluationError, InvalidPath, JsonPath, MAX_LENGTH, Printed};

/// A selector that can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSelector {
    path: JsonPath,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    True,
    Equal(String),
    NotEqual(String),
}

impl FieldSelector {
    /// Reads `path`, `path==value`, `path=value` or `path!=value`.
    ///
    /// # Errors
    /// If what is before the comparison is not a path, or all of it is longer than a path may be.
    pub fn new(source: &str) -> Result<Self, InvalidPath> {
        if source.chars().count() > MAX_LENGTH {
            return Err(InvalidPath::SelectorLength);
        }
        let (path, test) = match operator(source) {
            None => (source, Test::True),
            Some((at, length)) => {
                let value = without_quotes(source[at + length..].trim()).to_owned();
                let equal = source.as_bytes()[at] == b'=';
                (
                    &source[..at],
                    if equal {
                        Test::Equal(value)
                    } else {
                        Test::NotEqual(value)
                    },
                )
            }
        };
        Ok(Self {
            path: JsonPath::new(path.trim())?,
            test,
        })
    }

    /// Whether the object is selected. A path alone selects it unless it leads to nothing, `false` or `0`.
    ///
    /// # Errors
    /// If the path cannot be followed in this object.
    pub fn matches(&self, object: &Value) -> Result<bool, EvaluationError> {
        self.weigh(object).0
    }

    /// The same, with what it took, as [`JsonPath::weigh`].
    pub fn weigh(&self, object: &Value) -> (Result<bool, EvaluationError>, u64) {
        let (printed, units) = self.path.weigh_printed(object);
        let is_selected = printed.and_then(|printed| {
            let text = comparable(&printed)?;
            Ok(match &self.test {
                Test::True => !text.is_empty() && text != "0" && !text.eq_ignore_ascii_case("false"),
                Test::Equal(value) => text == value,
                Test::NotEqual(value) => text != value,
            })
        });
        (is_selected, units)
    }
}

/// A text without the blanks around it. The beginning of one will do if it is longer than all that it is compared with:
/// it differs from that, whatever follows.
fn comparable(printed: &Printed) -> Result<&str, EvaluationError> {
    let text = printed.text.trim();
    if printed.is_cut && text.chars().count() <= MAX_LENGTH {
        return Err(EvaluationError::TooLong);
    }
    Ok(text)
}

/// The first comparison that is outside of brackets, braces, parentheses and quotations: where, and how long.
fn operator(source: &str) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in source.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match (quote, character) {
            (_, '\\') => escaped = true,
            (Some(open), _) => quote = (open != character).then_some(open),
            (None, '\'' | '"') => quote = Some(character),
            (None, '[' | '(' | '{') => depth += 1,
            (None, ']' | ')' | '}') => depth = depth.saturating_sub(1),
            (None, '=') if depth == 0 => return Some((index, 1 + usize::from(source[index + 1..].starts_with('=')))),
            (None, '!') if depth == 0 && source[index + 1..].starts_with('=') => return Some((index, 2)),
            _ => {}
        }
    }
    None
}

fn without_quotes(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(".spec.type", true)]
    #[case(".spec.none", false)]
    #[case(".spec.off", false)]
    #[case(".spec.zero", false)]
    #[case(".spec.wordFalse", false)]
    #[case(".spec.empty", false)]
    #[case(".spec.type==LoadBalancer", true)]
    #[case(".spec.type=LoadBalancer", true)]
    #[case(".spec.type == 'LoadBalancer' ", true)]
    #[case(".spec.type==\"LoadBalancer\"", true)]
    #[case(".spec.type!=LoadBalancer", false)]
    #[case(".spec.type!=NodePort", true)]
    #[case(".spec.none==", true)]
    #[case(".spec.none!=x", true)]
    #[case(".spec.ports[?(@.name==\"http\")].port", true)]
    #[case(".spec.ports[?(@.name==\"ftp\")].port", false)]
    #[case(".spec.ports[?(@.name==\"http\")].port==80", true)]
    #[case(".metadata.labels['a=b']", true)]
    #[case(".spec.ports[*].port == 80 443", true)]
    fn selectors(#[case] selector: &str, #[case] expected: bool) {
        let object = json!({
            "metadata": {"labels": {"a=b": "c"}},
            "spec": {
                "type": "LoadBalancer", "off": false, "zero": 0, "wordFalse": "FALSE", "empty": "",
                "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
            },
        });
        assert_eq!(
            FieldSelector::new(selector).unwrap().matches(&object).unwrap(),
            expected
        );
    }

    /// An object that is measured may be large; what is said of it does not depend on that.
    #[rstest]
    #[case(".text", Ok(true))]
    #[case(".text==xx", Ok(false))]
    #[case(".text!=xx", Ok(true))]
    #[case(".part", Ok(true))]
    #[case(".blanks!=xx", Err(EvaluationError::TooLong))]
    #[case(".blanks", Err(EvaluationError::TooLong))]
    #[case(".padded==gold", Err(EvaluationError::TooLong))]
    fn long_texts_are_compared_by_their_beginning(
        #[case] selector: &str,
        #[case] expected: Result<bool, EvaluationError>,
    ) {
        let object = json!({
            "text": "ä".repeat(1 << 20),
            "part": {"texts": vec!["x"; 1 << 20]},
            "blanks": " ".repeat(1 << 20),
            "padded": format!("{}gold", " ".repeat(1 << 17)),
        });
        let (is_selected, units) = FieldSelector::new(selector).unwrap().weigh(&object);
        assert_eq!(is_selected, expected);
        // 64 KiB are 4,096 units, and nothing is read far beyond.
        assert!((4_096..4_200).contains(&units), "{units}");
    }

    #[test]
    fn a_selector_is_as_long_as_a_path_at_most() {
        let of_length = |length: usize| FieldSelector::new(&format!(".a=={}", "ä".repeat(length - 4)));
        assert!(of_length(1_024).is_ok());
        assert_eq!(of_length(1_025), Err(InvalidPath::SelectorLength));
    }

    #[rstest]
    #[case("spec.type==x")]
    #[case("")]
    #[case("==x")]
    fn what_is_no_path_is_refused(#[case] selector: &str) {
        assert!(FieldSelector::new(selector).is_err());
    }
}
