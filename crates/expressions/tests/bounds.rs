//! Whoever writes an expression is not trusted: none of them panics, hangs or takes much memory.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use expressions::{
    cel::{self, Condition, EvaluationError, UsageExpression},
    field_selector::FieldSelector,
    glob,
    jsonpath::{self, JsonPath},
    key::KeySelector,
    pattern::Pattern,
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn object() -> Value {
    let objects: Value = serde_json::from_str(include_str!("corpus/objects.json")).unwrap();
    objects["workload"].clone()
}

/// As small as the stacks of a server's threads are.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap();
    thread.join().unwrap();
}

#[rstest]
#[case::parentheses("(", "1", ")")]
#[case::lists("[", "1", "]")]
#[case::maps("{'a':", "1", "}")]
#[case::sums("1+", "1", "")]
#[case::fields("", "object", ".a")]
#[case::optional_fields("", "object", ".?a")]
#[case::indexes("", "object", "['a']")]
#[case::nested_indexes("object[", "0", "]")]
#[case::choices("true?1:", "1", "")]
#[case::nested_choices("(true?1:", "1", ")")]
#[case::negations("!", "true", "")]
#[case::minus("-", "1", "")]
#[case::loops("[1].all(x,", "true", ")")]
#[case::collections("[1].map(x,", "x", ")")]
#[case::chained_loops("", "[1]", ".map(x,[x])")]
#[case::doubled_lists("", "[1]", ".map(x,[x,x])")]
#[case::doubled_concatenations("[", "[1]", "].map(x,x+x)")]
#[case::doubled_maps("", "[1]", ".map(x,{x:x})")]
#[case::doubled_optionals("", "optional.of(1)", ".optMap(x,x)")]
#[case::calls("type(", "1", ")")]
#[case::dyns("dyn(", "1", ")")]
#[case::quotes("'", "", "")]
#[case::open("(", "", "")]
#[case::open_lists("[", "", "")]
#[case::conjunctions("true&&", "true", "")]
#[case::memberships("1 in ", "[1]", "")]
fn no_nesting_overflows_the_stack(
    #[case] before: &'static str,
    #[case] core: &'static str,
    #[case] after: &'static str,
) {
    on_a_small_stack(move || {
        let object = object();
        for depth in [10, 50, 100, 249, 250, 251, 400, 1000, 2000] {
            let source = format!("{}{core}{}", before.repeat(depth), after.repeat(depth));
            if let Ok(explanation) = cel::explain(&source, &object) {
                drop(explanation);
            }
            let _ = JsonPath::new(&source);
            let _ = Pattern::new(&source);
            let _ = FieldSelector::new(&source);
        }
    });
}

#[rstest]
#[case::a_range("lists.range(9223372036854775807).size() == 0")]
#[case::replaced(
    "lists.range(40000).map(i, 'a').join('').replace('', lists.range(40000).map(i, 'a').join('')).size() == 0"
)]
#[case::joined("lists.range(4000).map(i, lists.range(4000)).flatten().size() == 0")]
#[case::compared(
    "[1].map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x,[x,x]).map(x, x == [dyn(1)] || x == x)[0]"
)]
#[case::patterns("lists.range(50000).exists(i, 'a'.matches(string(i) + '[a-z]{1000}'))")]
fn what_takes_too_long_is_stopped(#[case] source: &str) {
    let stopped = Condition::new(source).unwrap().matches(&json!({})).unwrap_err();
    assert!(
        matches!(stopped, EvaluationError::Cost | EvaluationError::Work),
        "{stopped:?}"
    );
}

#[test]
fn a_path_that_looks_at_everything_again_and_again_is_stopped() {
    let mut deep = json!({"a": 1});
    for _ in 0..60 {
        deep = json!({"a": deep, "b": [1, 2, {"c": "d"}]});
    }
    let path = JsonPath::new(&".a..a..a..a..a..a".repeat(4)).unwrap();
    assert_eq!(path.find(&deep), Err(jsonpath::EvaluationError::TooMany));
}

#[test]
fn a_path_that_takes_everything_many_times_is_stopped() {
    let object = json!({"many": vec![1; 100_000]});
    let union = vec!["*"; 400].join(",");
    let path = JsonPath::new(&format!(".many[{union}]")).unwrap();
    assert_eq!(path.find(&object), Err(jsonpath::EvaluationError::TooMany));
    let names = vec!["'many'"; 50].join(",");
    let path = JsonPath::new(&format!(". ['x'][{names}]")).unwrap();
    assert_eq!(path.find(&json!({"x": object})).map(|found| found.len()), Ok(0));
    let path = JsonPath::new(&format!(".x[{names}][*]")).unwrap();
    assert_eq!(
        path.find(&json!({"x": object})),
        Err(jsonpath::EvaluationError::TooMany)
    );
}

#[test]
fn a_long_text_is_not_read_again_and_again_for_nothing() {
    let object = json!({"text": "ä".repeat(500_000), "url": format!("/?{}", "a=1&".repeat(200_000))});
    for source in [
        "lists.range(100000).all(i, object.text.size() > 0)",
        "lists.range(100000).all(i, bytes(object.text).size() > 0)",
        "lists.range(100000).all(i, object.text.charAt(400000) != '')",
        "[url(object.url)].all(u, lists.range(100000).all(i, u.getQuery().size() > 0))",
    ] {
        let stopped = Condition::new(source).unwrap().matches(&object).unwrap_err();
        assert!(
            matches!(stopped, EvaluationError::Cost | EvaluationError::Work),
            "{source}: {stopped:?}"
        );
    }
}

#[test]
fn errors_say_where_and_what() {
    let error = Condition::new("object.a &&\n  foo(1)").unwrap_err();
    assert_eq!((error.line, error.column), (2, 3));
    assert_eq!(error.reason, "there is no function \"foo\"");
    let error = Condition::new("object.spec.replicas + 1").unwrap_err();
    assert!(error.reason.starts_with("the result has to be a bool, not"), "{error}");
    let error = UsageExpression::new("object.spec.size").unwrap_err();
    assert!(error.reason.contains("quantity(…)"), "{error}");
    assert!(
        Condition::new(&format!("'{}' == ''", "a".repeat(5000)))
            .unwrap_err()
            .reason
            .contains("4096")
    );
}

#[rstest]
#[case("quantity('1Gi')", Some("1Gi"))]
#[case("[quantity('1Gi'), quantity('512Mi')]", Some("1536Mi"))]
#[case("object.list.map(i, quantity(i))", Some("3"))]
#[case("object.none.map(i, quantity(i))", None)]
#[case("[quantity('1')].filter(q, false)", None)]
fn usage_is_a_quantity_or_the_sum_of_several(#[case] source: &str, #[case] expected: Option<&str>) {
    let object = json!({"list": ["1", "2"], "none": []});
    let usage = UsageExpression::new(source).unwrap().of(&object).ok();
    assert_eq!(usage.map(|usage| usage.to_string()).as_deref(), expected);
}

#[rstest]
#[case("object.flag")]
#[case("1")]
#[case("quantity('1')")]
#[case("[true]")]
fn a_condition_has_to_be_a_bool_beforehand(#[case] source: &str) {
    assert!(Condition::new(source).is_err());
}

#[rstest]
#[case("object.size")]
#[case("'1'")]
#[case("[]")]
#[case("[1]")]
#[case("true")]
fn a_usage_has_to_be_quantities_beforehand(#[case] source: &str) {
    assert!(UsageExpression::new(source).is_err());
}

/// Pieces of the language, in any order.
fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 0..12).prop_map(|pieces| pieces.concat())
}

const CEL: &[&str] = &[
    "object",
    ".spec",
    ".?a",
    "[0]",
    "[?'a']",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "1",
    "-1",
    "1.5",
    "2u",
    "'a'",
    "b'a'",
    "true",
    "null",
    " && ",
    " || ",
    "!",
    "-",
    " + ",
    " == ",
    " < ",
    " in ",
    ".all(x, ",
    ".map(x, ",
    ".filter(x, x)",
    ".exists(i, v, ",
    "has(",
    "size(",
    "quantity('1')",
    ".add(",
    "optional.of(",
    ".orValue(",
    ".optMap(y, ",
    "x",
    "y",
    "dyn(",
    "type(",
    "duration('1h')",
    "timestamp(0)",
    ".format([",
    "'%s %d'",
    ".matches('a+')",
    "lists.range(3)",
    ".sort()",
    ".sortBy(z, z)",
    ".transformMap(k, v, ",
    "ip('::1')",
    "url('http://a/')",
    ".split('')",
    ".spec.containers",
    ".flatten()",
];

const PATHS: &[&str] = &[
    ".",
    "..",
    ".spec",
    ".a",
    "*",
    "[",
    "]",
    "[*]",
    "[0]",
    "[-1:]",
    "[?(",
    ")]",
    "@",
    "$",
    "==",
    "<",
    "'",
    "\"",
    "\\",
    "{",
    "}",
    "range ",
    "end",
    " ",
    ",",
    "1",
    "-",
    "true",
    ".containers",
    ".name",
    "=",
    "!",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_is_a_panic(text in ".{0,80}") {
        let object = object();
        let _ = cel::explain(&text, &object);
        let _ = JsonPath::new(&format!(".{text}")).map(|path| path.print(&object));
        let _ = FieldSelector::new(&format!(".{text}")).map(|selector| selector.matches(&object));
        let _ = KeySelector::new(&text).map(|selector| selector.matches("a"));
        let _ = Pattern::new(&text).map(|pattern| pattern.matches(&text));
        glob::matches(&text, &text);
    }

    #[test]
    fn no_pieces_of_an_expression_are_a_panic(text in pieces(CEL)) {
        let object = object();
        if let Ok(first) = cel::explain(&text, &object) {
            prop_assert_eq!(cel::explain(&text, &object).unwrap(), first);
        }
    }

    #[test]
    fn no_pieces_of_a_path_are_a_panic(text in pieces(PATHS)) {
        let object = object();
        if let Ok(path) = JsonPath::new(&format!(".{text}")) {
            prop_assert_eq!(path.print(&object), path.print(&object));
        }
        let _ = FieldSelector::new(&format!(".{text}")).map(|selector| selector.matches(&object));
    }
}
