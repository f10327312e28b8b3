//! What holds for every text, however little of a template it is. `fuzz/` asks the same for longer.

#![allow(clippy::unwrap_used, reason = "only tests are here")]

use proptest::prelude::*;
use serde_json::json;
use templates::{Limits, MissingKey, Numbers, Settings, Template};

fn small() -> Limits {
    Limits {
        source_bytes: 4096,
        output_bytes: 4096,
        value_bytes: 64 * 1024,
        steps: 10_000,
        depth: 50,
        range_length: 100,
    }
}

fn settings(missing_key: MissingKey) -> Settings {
    Settings {
        missing_key,
        numbers: Numbers::Floats,
        now: "2026-03-04T05:06:07Z".parse().unwrap(),
    }
}

/// Pieces of templates, so that many of the texts made of them are templates.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "(",
        ")",
        "|",
        ":=",
        "=",
        ",",
        ".",
        "$",
        "$x",
        ".a",
        ".a.b",
        "\"s\"",
        "`r`",
        "'c'",
        "1",
        "-2",
        "1.5",
        "0x1f",
        "nil",
        "true",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "template",
        "block",
        "break",
        "continue",
        "print",
        "printf",
        "\"%v%5d%q\"",
        "list",
        "dict",
        "index",
        "slice",
        "eq",
        "lt",
        "and",
        "or",
        "not",
        "len",
        "repeat",
        "until",
        "substr",
        "trunc",
        "wrap",
        "regexReplaceAll",
        "merge",
        "set",
        "date",
        "now",
        "toDate",
        "semver",
        "semverCompare",
        "urlParse",
        "toYaml",
        "fromYaml",
        "snakecase",
        "camelcase",
        "round",
        "divf",
        "chunk",
        "é",
        "\n",
        "{{/*",
        "*/}}",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => ".{0,5}",
    ]
}

/// A call of any function with arguments of any kind.
fn call() -> impl Strategy<Value = String> {
    let functions = [
        "abbrev",
        "abbrevboth",
        "add",
        "addf",
        "adler32sum",
        "ago",
        "append",
        "atoi",
        "b32dec",
        "b64dec",
        "base",
        "camelcase",
        "cat",
        "ceil",
        "chunk",
        "clean",
        "coalesce",
        "compact",
        "concat",
        "date",
        "dateInZone",
        "dateModify",
        "deepCopy",
        "deepEqual",
        "default",
        "dict",
        "dig",
        "div",
        "divf",
        "duration",
        "durationRound",
        "eq",
        "ext",
        "first",
        "float64",
        "fromJson",
        "fromToml",
        "fromYaml",
        "get",
        "has",
        "html",
        "htmlDate",
        "indent",
        "index",
        "initial",
        "initials",
        "int",
        "join",
        "js",
        "kebabcase",
        "keys",
        "last",
        "len",
        "lt",
        "max",
        "merge",
        "mergeOverwrite",
        "mod",
        "mul",
        "mulf",
        "mustToDate",
        "nindent",
        "omit",
        "pick",
        "plural",
        "pluck",
        "print",
        "printf",
        "quote",
        "regexFind",
        "regexFindAll",
        "regexReplaceAll",
        "regexSplit",
        "repeat",
        "replace",
        "rest",
        "reverse",
        "round",
        "semver",
        "semverCompare",
        "seq",
        "set",
        "slice",
        "snakecase",
        "sortAlpha",
        "split",
        "splitn",
        "squote",
        "substr",
        "swapcase",
        "ternary",
        "title",
        "toDate",
        "toDecimal",
        "toJson",
        "toPrettyJson",
        "toStrings",
        "toToml",
        "toYaml",
        "trimAll",
        "trunc",
        "uniq",
        "until",
        "untilStep",
        "urlJoin",
        "urlParse",
        "urlquery",
        "values",
        "without",
        "wrap",
        "wrapWith",
    ];
    let argument = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-10_i64..10).prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("a literal", |float| float.is_finite())
            .prop_map(|float| format!("{float:e}")),
        "[a-zA-Z0-9 ._*()\\[\\]{}$%:/@#?é日-]{0,12}".prop_map(|text| format!("`{text}`")),
        proptest::sample::select(vec![
            "nil",
            "true",
            ".a",
            ".b",
            ".c",
            ".missing",
            "(list)",
            "(list 1 nil `x`)",
            "(dict)",
            "(dict `a` (dict `b` 1))",
            "now",
            "(semver `1.2.3-a`)",
            "(until 3)",
            "(split `,` `a,b`)",
            "`2006-01-02 15:04:05.999 MST`",
            "`%[1]*.*v %#q %+d %x`",
        ])
        .prop_map(str::to_owned),
    ];
    (
        proptest::sample::select(functions.to_vec()),
        proptest::collection::vec(argument, 0..4),
    )
        .prop_map(|(function, arguments)| format!("{{{{ {function} {} }}}}", arguments.join(" ")))
}

fn answer(source: &str, missing_key: MissingKey) -> Result<String, String> {
    let data = json!({"a": {"b": [1, "x", null]}, "b": "héllo wörld", "c": 2.5});
    let template = Template::parse("t", source, small()).map_err(|error| error.to_string())?;
    template
        .render(&data, &settings(missing_key))
        .map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_gets_one_bounded_answer(pieces in proptest::collection::vec(piece(), 0..40)) {
        let source = pieces.concat();
        for missing_key in [MissingKey::Invalid, MissingKey::Zero, MissingKey::Error] {
            let first = answer(&source, missing_key);
            prop_assert_eq!(&first, &answer(&source, missing_key));
            if let Ok(rendered) = first {
                prop_assert!(rendered.len() <= small().output_bytes);
            }
        }
    }

    #[test]
    fn any_call_gets_one_bounded_answer(calls in proptest::collection::vec(call(), 1..4)) {
        let source = calls.concat();
        let first = answer(&source, MissingKey::Invalid);
        prop_assert_eq!(first, answer(&source, MissingKey::Invalid));
    }

    #[test]
    fn a_text_without_braces_is_its_own_rendering(text in "[^{]{0,200}") {
        prop_assert_eq!(answer(&text, MissingKey::Error), Ok(text));
    }

    #[test]
    fn a_quoted_text_prints_as_itself(text in "[^`\r]{0,50}") {
        let source = format!("{{{{ `{text}` }}}}");
        prop_assert_eq!(answer(&source, MissingKey::Error), Ok(text));
    }

    #[test]
    fn base64_reverses(text in "[^`\r]{0,50}") {
        let source = format!("{{{{ `{text}` | b64enc | b64dec }}}}");
        prop_assert_eq!(answer(&source, MissingKey::Error), Ok(text));
    }

    #[test]
    fn json_reverses(text in "[^`\r]{0,50}", number in -1e15_f64..1e15) {
        let source = format!("{{{{ $v := list `{text}` {number:e} nil (dict `k` true) }}}}{{{{ deepEqual $v (fromJson (toJson $v)) }}}}");
        prop_assert_eq!(answer(&source, MissingKey::Error), Ok("true".to_owned()));
    }
}
