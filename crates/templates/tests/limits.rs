//! What a template cannot do to whoever renders it.

#![allow(clippy::unwrap_used, reason = "only tests are here")]

use serde_json::json;
use templates::{Allowance, Error, Limits, MissingKey, Numbers, Settings, Template};

fn settings() -> Settings {
    Settings {
        missing_key: MissingKey::Invalid,
        numbers: Numbers::Floats,
        now: "2026-03-04T05:06:07Z".parse().unwrap(),
    }
}

fn render(source: &str) -> Result<String, Error> {
    Template::parse("t", source, Limits::default())?.render(&json!({"names": ["a", "b"]}), &settings())
}

fn assert_limited(source: &str) {
    let answer = render(source);
    assert!(matches!(answer, Err(Error::Limit { .. })), "{source}: {answer:?}");
}

#[test]
fn loops_end() {
    assert_limited("{{ range 1000000000 }}{{ end }}");
    assert_limited("{{ range until 1000000000 }}{{ end }}");
    assert_limited("{{ range 99999 }}{{ range 99999 }}{{ end }}{{ end }}");
    assert_limited("{{ seq 1000000000 }}");
    assert_limited("{{ untilStep 0 9223372036854775807 1 }}");
}

#[test]
fn renderings_share_an_allowance() {
    let limits = Limits::default();
    let mut allowance = Allowance {
        steps: 10_000,
        value_bytes: limits.value_bytes,
        output_bytes: limits.output_bytes,
    };
    let template = Template::parse("t", "{{ range 500 }}{{ . }}{{ end }}", limits).unwrap();
    let data = json!({});
    let answers: Vec<bool> = (0..10)
        .map(|_| template.render_within(&mut allowance, &data, &settings()).is_ok())
        .collect();
    assert!(answers[0] && !answers[9], "{answers:?}");
    assert!(allowance.output_bytes < limits.output_bytes);
}

#[test]
fn recursion_ends() {
    assert_limited(r#"{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}"#);
    assert_limited(
        r#"{{ define "r" }}{{ if 1 }}{{ with 1 }}{{ template "r" . }}{{ end }}{{ end }}{{ end }}{{ template "r" }}"#,
    );
}

#[test]
fn nesting_of_the_text_is_bounded() {
    assert_limited(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)));
    assert_limited(&"{{ if 1 }}".repeat(20_000));
    let chain = "{{ else if 1 }}".repeat(10_000);
    assert_limited(&format!("{{{{ if 1 }}}}{chain}{{{{ end }}}}"));
    assert_limited(&"a".repeat(300_000));
}

#[test]
fn variables_are_few() {
    let many: Vec<_> = (0..2_000).map(|number| format!("{{{{ $v{number} := 1 }}}}")).collect();
    assert_limited(&many.concat());
}

#[test]
fn messages_are_short() {
    let error = render(r#"{{ urlParse (repeat 100000 "%zz") }}"#).unwrap_err();
    assert!(error.to_string().len() < 1_000);
}

#[test]
fn memory_is_bounded() {
    assert_limited(r#"{{ repeat 1000000000000 "a" }}"#);
    assert_limited(r#"{{ $s := "ab" }}{{ range 60 }}{{ $s = print $s $s }}{{ end }}"#);
    assert_limited(r#"{{ $s := "ab" }}{{ range 60 }}{{ $s = cat $s $s }}{{ end }}"#);
    assert_limited(r#"{{ $s := "ab" }}{{ range 60 }}{{ $s = replace "a" $s $s }}{{ end }}"#);
    assert_limited(r#"{{ $s := "ab" }}{{ range 60 }}{{ $s = regexReplaceAll "(.*)" $s "$1$1" }}{{ end }}"#);
    assert_limited(r#"{{ $s := "ab\n" }}{{ range 60 }}{{ $s = indent 1000000 $s }}{{ end }}"#);
    assert_limited(r"{{ $l := list 1 }}{{ range 60 }}{{ $l = concat $l $l }}{{ end }}");
    assert_limited(r#"{{ range 99999 }}{{ printf "%1000000d" 1 }}{{ end }}"#);
    assert_limited(r#"{{ range 99999 }}{{ printf "%.1000000f" 1.0 }}{{ end }}"#);
    assert_limited(r#"{{ indent 9223372036854775807 "a\nb" }}"#);
    assert_limited(r#"{{ range 99999 }}{{ repeat 100 "0123456789" }}{{ end }}"#);
}

/// A list that holds one list twice, and so on, is small in memory and huge once it is written.
#[test]
fn what_is_shared_is_paid_for_each_time_it_is_read() {
    let shared = "{{ $l := list 1 }}{{ range 60 }}{{ $l = list $l $l }}{{ end }}";
    for use_of_it in [
        "{{ $l }}",
        "{{ toJson $l }}",
        "{{ toYaml $l }}",
        "{{ deepCopy $l }}",
        "{{ deepEqual $l (deepCopy $l) }}",
        r#"{{ printf "%d" $l }}"#,
        "{{ html $l }}",
        r#"{{ $d := dict }}{{ set $d "l" $l }}"#,
    ] {
        assert_limited(&format!("{shared}{use_of_it}"));
    }
}

#[test]
fn deep_values_neither_print_nor_overflow_the_stack() {
    let deep = "{{ $l := list 1 }}{{ range 50000 }}{{ $l = list $l }}{{ end }}";
    assert_eq!(render(deep).unwrap(), "");
    assert_limited(&format!("{deep}{{{{ $l }}}}"));
    assert_limited(&format!("{deep}{{{{ toJson $l }}}}"));
    assert_limited(&format!("{deep}{{{{ deepCopy $l }}}}"));
    assert_limited(&format!("{deep}{{{{ deepEqual $l $l }}}}"));
    let dicts = r#"{{ $top := dict }}{{ $d := $top }}{{ range 20000 }}{{ $n := dict }}{{ $_ := set $d "n" $n }}{{ $d = $n }}{{ end }}"#;
    assert_eq!(render(dicts).unwrap(), "");
    assert_limited(&format!("{dicts}{{{{ $top }}}}"));
}

#[test]
fn a_dict_cannot_hold_itself() {
    for source in [
        r#"{{ $d := dict }}{{ set $d "d" $d }}"#,
        r#"{{ $d := dict }}{{ set $d "d" (list 1 (dict "x" $d)) }}"#,
        r#"{{ $d := dict }}{{ $e := dict "d" $d }}{{ merge $d (dict "e" $e) }}"#,
    ] {
        let message = render(source).unwrap_err().to_string();
        assert!(message.contains("cannot hold itself"), "{message}");
    }
}

#[test]
fn searches_end() {
    let long = r#"{{ $s := repeat 100000 "a" }}"#;
    assert_limited(&format!(
        r#"{long}{{{{ range 99999 }}}}{{{{ regexMatch "(a|b)*a(a|b){{500}}b$" $s }}}}{{{{ end }}}}"#
    ));
    assert_limited(&format!(
        r#"{long}{{{{ range 99999 }}}}{{{{ regexMatch "^a+$" $s }}}}{{{{ end }}}}"#
    ));
    assert_limited(&format!(r#"{long}{{{{ regexFindAll ".*[^a]|a" $s -1 }}}}"#));
    assert_limited(&format!(
        r"{long}{{{{ range 99999 }}}}{{{{ sha512sum $s }}}}{{{{ end }}}}"
    ));
    assert_limited(&format!(
        r#"{long}{{{{ range 99999 }}}}{{{{ contains "b" $s }}}}{{{{ end }}}}"#
    ));
    let too_large = render(r#"{{ regexFind "((a{1000}){1000}){1000}" "a" }}"#);
    assert!(matches!(too_large, Err(Error::Render { .. })), "{too_large:?}");
}

#[test]
fn deep_json_yaml_and_toml_are_refused() {
    for source in [
        r#"{{ $s := repeat 100000 "[" }}{{ mustFromJson $s }}"#,
        r#"{{ $s := repeat 10000 "[" }}{{ fromYaml $s }}"#,
        r#"{{ $s := repeat 500000 "[" }}{{ fromYaml $s }}"#,
        r#"{{ $s := repeat 500000 "- " }}{{ fromYaml $s }}"#,
        r#"{{ $s := repeat 10000 "[" }}{{ fromToml (print "a = " $s) }}"#,
        r#"{{ $s := repeat 100000 "a." }}{{ fromToml (print $s "a = 1") }}"#,
        r#"{{ $s := repeat 100000 "a." }}{{ fromToml (print "[" $s "a]") }}"#,
        r#"{{ fromYaml "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n" }}"#,
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn aliases_are_charged_for_what_they_repeat() {
    // A list of many items, and as many aliases of it, in a text that is small.
    assert_limited(r#"{{ fromYaml (print "a: &a [" (repeat 20000 "x,") "]\nb: [" (repeat 20000 "*a,") "]") }}"#);
    assert_limited(r#"{{ fromYaml (print "a: &a " (repeat 100000 "x") "\nb: [" (repeat 1000 "*a,") "]") }}"#);
}

#[test]
fn yaml_is_charged_before_it_is_parsed() {
    for source in [
        r#"{{ fromYaml (repeat 300000 "-\n") }}"#,
        r#"{{ fromYaml (print "[" (repeat 500000 ",") "]") }}"#,
        r#"{{ fromYaml (print "{" (repeat 250000 "?,") "}") }}"#,
        r#"{{ fromYaml (repeat 200000 "[],") }}"#,
    ] {
        assert_limited(source);
    }
}

/// Stacks of worker threads are 2 MiB; the deepest nesting has to fit in half of one, also without optimisation.
#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(|| {
        for (open, close) in [
            ("{{ if 1 }}", "{{ end }}"),
            ("{{ with 1 }}", "{{ end }}"),
            ("{{ range 1 }}", "{{ end }}"),
        ] {
            let source = format!("{}x{}", open.repeat(100), close.repeat(100));
            assert_eq!(render(&source).unwrap(), "x");
        }
        let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(100), ")".repeat(100));
        assert_eq!(render(&parentheses).unwrap(), "1");
        let calls = format!("{{{{ {}1{} }}}}", "(add 1 ".repeat(99), ")".repeat(99));
        assert_eq!(render(&calls).unwrap(), "100");
        assert_limited(r#"{{ define "r" }}{{ template "r" (print (print (print .))) }}{{ end }}{{ template "r" 1 }}"#);
        let list = "{{ $l := list }}{{ range 98 }}{{ $l = list $l }}{{ end }}{{ toJson $l | len }}{{ len (print $l) }}";
        assert_eq!(render(list).unwrap(), "198198");
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn what_reaches_out_is_refused_by_name() {
    for (source, reason) in [
        (r#"{{ env "HOME" }}"#, "environment"),
        (r#"{{ expandenv "$HOME" }}"#, "environment"),
        (r#"{{ getHostByName "example.org" }}"#, "network"),
        (r#"{{ genPrivateKey "rsa" }}"#, "keys"),
        ("{{ genCA \"ca\" 365 }}", "keys"),
        ("{{ randAlphaNum 5 }}", "each time"),
        ("{{ uuidv4 }}", "each time"),
        ("{{ if false }}{{ env \"HOME\" }}{{ end }}", "environment"),
    ] {
        match render(source) {
            Err(Error::Parse { message, .. }) => assert!(message.contains(reason), "{message}"),
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn errors_say_where() {
    let error = render("a\n{{ if true }}\n  {{ .names.x }}\n{{ end }}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "template \"t\", line 3: can't evaluate field x in type []interface {}"
    );
    let error = Template::parse("t", "a\n\n{{ nosuch }}", Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template \"t\", line 3: function \"nosuch\" not defined"
    );
    let error = render("{{ range .names }}\n{{ trunc 1 \"é\" }}{{ end }}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "template \"t\", line 2: trunc: cutting at bytes 0 and 1 would cut a character in half"
    );
}
