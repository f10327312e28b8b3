//! Text that tenants had a hand in, for a terminal: subjects of their RoleBindings, values of annotations, messages.

use std::fmt::Write;

/// On one line, and with nothing in it that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().flat_map(escaped).collect()
}

/// The same on as many lines as it has: an error's text, which quotes what tenants wrote.
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

/// Control characters, and those that turn the direction of writing, by their escape.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let turns = matches!(c, '\u{061c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let obeyed = (c.is_control() || turns).then(|| c.escape_default());
    let kept = obeyed.is_none().then_some(c);
    obeyed.into_iter().flatten().chain(kept)
}

/// So many characters, and a sign where there were more.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    let mut told: String = text.chars().take(characters).collect();
    if told.len() < text.len() {
        told.push('…');
    }
    told
}

/// A heading with a line for each item, unless there are none.
pub(crate) fn section<T>(text: &mut String, heading: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    text.push_str(heading);
    text.push('\n');
    for item in items {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", plain(&line(item)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(plain("user:al\u{1b}[2Jice\n+ x"), "user:al\\u{1b}[2Jice\\n+ x");
        assert_eq!(plain_lines("a\u{1b}[2J\r\nb\u{7}\n"), "a\\u{1b}[2J\\r\nb\\u{7}\n");
        assert_eq!(plain("\u{202e}eve Zoë"), "\\u{202e}eve Zoë");
    }
}
