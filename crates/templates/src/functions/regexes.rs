//! Regular expressions, in Go's syntax.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use expressions::pattern::Pattern;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::Type::{Int, Text};
use super::{Answer, Arguments, Context, Function, fixed};
use crate::error::Failure;
use crate::go::format::Text as Building;
use crate::limits::Budget;
use crate::value::{Elements, ITEM_BYTES, Value};

pub(super) const ROWS: &[Function] = &[
    fixed("regexMatch", &[Text, Text], |context, arguments| {
        // Hides what is wrong with a pattern, as sprig does, but never that a limit was met.
        is_match(context, arguments).or_else(|failure| {
            if failure.is_limit {
                Err(failure)
            } else {
                Ok(Value::Bool(false))
            }
        })
    }),
    fixed("mustRegexMatch", &[Text, Text], is_match),
    fixed("regexFind", &[Text, Text], find),
    fixed("mustRegexFind", &[Text, Text], find),
    fixed("regexFindAll", &[Text, Text, Int], find_all),
    fixed("mustRegexFindAll", &[Text, Text, Int], find_all),
    fixed("regexQuoteMeta", &[Text], quote_meta),
    fixed("regexReplaceAll", &[Text, Text, Text], |context, arguments| {
        replace_all(context, arguments, true)
    }),
    fixed("mustRegexReplaceAll", &[Text, Text, Text], |context, arguments| {
        replace_all(context, arguments, true)
    }),
    fixed("regexReplaceAllLiteral", &[Text, Text, Text], |context, arguments| {
        replace_all(context, arguments, false)
    }),
    fixed(
        "mustRegexReplaceAllLiteral",
        &[Text, Text, Text],
        |context, arguments| replace_all(context, arguments, false),
    ),
    fixed("regexSplit", &[Text, Text, Int], split),
    fixed("mustRegexSplit", &[Text, Text, Int], split),
];

/// Patterns that this rendering has compiled.
#[derive(Debug, Default)]
pub(crate) struct Patterns(RefCell<HashMap<Arc<str>, Regex>>);

/// More are compiled anew.
const MOST_KEPT: usize = 64;
/// Steps of compiling any pattern.
const COMPILING: u64 = 2_000;

impl Patterns {
    fn get(&self, source: &Arc<str>, budget: &Budget) -> Result<Regex, Failure> {
        if let Some(known) = self.0.borrow().get(source) {
            return Ok(known.clone());
        }
        budget.work(COMPILING)?;
        let pattern = Pattern::new(source).map_err(|error| error.to_string())?;
        let compiled = pattern.regex().clone();
        budget.allocate(compiled.memory_usage())?;
        let mut kept = self.0.borrow_mut();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(Arc::clone(source), compiled.clone());
        Ok(compiled)
    }
}

/// The pattern that is the first argument, once a search of the second is paid for: at worst it costs the product of
/// both.
fn prepared<'a>(context: &Context<'_>, arguments: Arguments<'a>) -> Result<(Regex, &'a str), Failure> {
    let pattern = context.patterns.get(arguments.text(0)?, context.budget)?;
    let text = arguments.text(1)?;
    let factor = 1 + pattern.memory_usage() / 256;
    context.budget.read(text.len().saturating_mul(factor))?;
    Ok((pattern, text))
}

/// Paid for each match, since a search may look ahead as far as the text goes.
fn pay_for_match(context: &Context<'_>, text: &str, from: usize) -> Result<(), Failure> {
    context.budget.read((text.len() - from) / 4)
}

fn is_match(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (pattern, text) = prepared(context, arguments)?;
    Ok(Value::Bool(pattern.is_match(text)))
}

fn find(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (pattern, text) = prepared(context, arguments)?;
    Ok(Value::text(pattern.find(text).map_or("", |found| &text[found.range()])))
}

/// Ranges of at most this many matches; a negative number is no bound.
fn ranges(
    context: &Context<'_>,
    pattern: &Regex,
    text: &str,
    most: i64,
) -> Result<Vec<std::ops::Range<usize>>, Failure> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut ranges = Vec::new();
    for found in pattern.find_iter(text).take(most) {
        pay_for_match(context, text, found.end())?;
        context.budget.allocate(ITEM_BYTES)?;
        ranges.push(found.range());
    }
    Ok(ranges)
}

fn texts(context: &Context<'_>, parts: Vec<&str>) -> Answer {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    context.budget.allocate(bytes)?;
    Ok(Value::typed_list(
        Elements::Texts,
        parts.into_iter().map(Value::text).collect(),
    ))
}

fn find_all(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (pattern, text) = prepared(context, arguments)?;
    let ranges = ranges(context, &pattern, text, arguments.int(2)?)?;
    if ranges.is_empty() {
        return Ok(Value::nil_list(Elements::Texts));
    }
    texts(context, ranges.into_iter().map(|range| &text[range]).collect())
}

/// Go's `Regexp.Split`.
fn split(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let (pattern, text) = prepared(context, arguments)?;
    let most = arguments.int(2)?;
    if most == 0 {
        return Ok(Value::nil_list(Elements::Texts));
    }
    if text.is_empty() && !arguments.text(0)?.is_empty() {
        return texts(context, vec![""]);
    }
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for found in ranges(context, &pattern, text, most)? {
        if usize::try_from(most).is_ok_and(|most| parts.len() + 1 == most) {
            break;
        }
        end = found.start;
        if found.end != 0 {
            parts.push(&text[start..end]);
        }
        start = found.end;
    }
    if end != text.len() {
        parts.push(&text[start..]);
    }
    texts(context, parts)
}

fn replace_all(context: &Context<'_>, arguments: Arguments<'_>, expands: bool) -> Answer {
    let (pattern, text) = prepared(context, arguments)?;
    let replacement = arguments.text(2)?;
    let mut out = Building::new(context.budget);
    let mut start = 0;
    for captures in pattern.captures_iter(text) {
        let Some(found) = captures.get_match() else {
            continue;
        };
        pay_for_match(context, text, found.end())?;
        out.push(&text[start..found.start()])?;
        if expands {
            out.push(&expanded(context, &captures, text, replacement)?)?;
        } else {
            out.push(replacement)?;
        }
        start = found.end();
    }
    out.push(&text[start..])?;
    Ok(Value::text(out.into_string()))
}

/// The replacement with `$1` and `${name}` filled in.
fn expanded(context: &Context<'_>, captures: &Captures, text: &str, replacement: &str) -> Result<String, Failure> {
    let references = replacement.matches('$').count();
    let longest = captures.iter().flatten().map(|span| span.len()).max().unwrap_or(0);
    context
        .budget
        .allocate(replacement.len().saturating_add(references.saturating_mul(longest)))?;
    let mut out = String::new();
    captures.interpolate_string_into(text, replacement, &mut out);
    Ok(out)
}

fn quote_meta(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    context.budget.allocate(text.len() * 2)?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if "\\.+*?()|[]{}^$".contains(char) {
            out.push('\\');
        }
        out.push(char);
    }
    Ok(Value::text(out))
}
