//! Quantities and patterns compared with what Kubernetes and Go say of them, recorded by `recorded/record.go`.

use tenancy::{pattern::Pattern, quantity::Quantity};

/// Rows of a table, without its header.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    table.lines().skip(1).map(|line| {
        line.split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .expect("as many columns as the header says")
    })
}

#[test]
fn quantities_are_read_and_written_as_kubernetes_does() {
    let mut differences = Vec::new();
    for [text, expected] in rows(include_str!("recorded/quantities.tsv")) {
        let said = text
            .parse::<Quantity>()
            .map_or_else(|_| "!".to_owned(), |quantity| quantity.to_string());
        if said != expected && !NO_NUMBERS.contains(&text) {
            differences.push(format!("{text:?}: {said} here, {expected} there"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn quantities_are_counted_as_kubernetes_does() {
    let mut differences = Vec::new();
    for [a, b, sum, difference, order] in rows(include_str!("recorded/sums.tsv")) {
        let (x, y): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        let said = [
            x.plus(y).to_string(),
            x.minus(y).to_string(),
            (x.cmp(&y) as i32).to_string(),
        ];
        if said != [sum, difference, order] {
            differences.push(format!(
                "{a} and {b}: {said:?} here, {:?} there",
                [sum, difference, order]
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Texts that Kubernetes takes for nothing. The schemas of all kinds refuse them, and so does this crate.
const NO_NUMBERS: [&str; 4] = ["-", "+", ".", "-."];

#[test]
fn patterns_match_as_in_go() {
    let mut differences = Vec::new();
    for [pattern, value, expected] in rows(include_str!("recorded/patterns.tsv")) {
        let said = Pattern::new(pattern).map_or_else(|_| "!".to_owned(), |pattern| pattern.matches(value).to_string());
        if said != expected {
            differences.push(format!("{pattern:?} on {value:?}: {said} here, {expected} there"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
