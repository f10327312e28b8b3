//! The syntax of Go's regular expressions (`regexp/syntax` with Perl's flags), read into what the `regex` crates compile.
//!
//! The two languages look alike and differ in corners: what a class may hold, what `\Q…\E` quotes, which names and escapes
//! there are, that `\d`, `\w`, `\s`, `\b` are about ASCII, that repetitions cannot be stacked or exceed a thousand. So
//! the text is read here, rule by rule as Go reads it, and nothing is left to be read twice.

use std::collections::HashSet;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, Look, Repetition};

/// Groups inside each other. Go takes a thousand; nobody writes ten.
const MAX_NESTING: usize = 250;
/// The largest count of a repetition, and the largest product of nested ones.
const MAX_REPEAT: u32 = 1000;

/// What is wrong, and in which part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error("unclosed group")]
    UnclosedGroup,
    #[error("unopened group: \")\" without \"(\"")]
    UnopenedGroup,
    #[error("groups are nested deeper than {MAX_NESTING} levels")]
    Nesting,
    #[error("{0:?} has nothing to repeat")]
    NothingToRepeat(String),
    #[error("{0:?} repeats a repetition")]
    NestedRepeat(String),
    #[error("a repetition of more than {MAX_REPEAT}, or of a range whose end is below its start")]
    RepeatSize,
    #[error("unclosed class: \"[\" without \"]\"")]
    UnclosedClass,
    #[error("{0:?} is not a range of characters or the name of a class")]
    ClassRange(String),
    #[error("{0:?} is not an escape of this syntax (RE2)")]
    Escape(String),
    #[error("a backslash at the end")]
    TrailingBackslash,
    #[error("{0:?} is not the start of a group in this syntax (RE2); look-around is not part of it")]
    Group(String),
    #[error("{0:?} is not the name of a group")]
    GroupName(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
struct Flags {
    fold_case: bool,
    many_lines: bool,
    dot_is_all: bool,
    lazy: bool,
}

/// A part that was read, with what later rules ask about it.
struct Part {
    hir: Hir,
    /// The product of repetition counts inside, of the worst path.
    repeats: u32,
}

/// A group that is open, or the whole.
struct Level {
    alternatives: Vec<Part>,
    current: Vec<Part>,
    /// What holds again after the group.
    outer: Flags,
    /// What the group is known as, if it is one to refer to.
    capture: Option<(u32, Option<Box<str>>)>,
}

impl Level {
    fn new(outer: Flags, capture: Option<(u32, Option<Box<str>>)>) -> Self {
        Self {
            alternatives: Vec::new(),
            current: Vec::new(),
            outer,
            capture,
        }
    }

    fn end_alternative(&mut self) {
        let parts = std::mem::take(&mut self.current);
        self.alternatives.push(joined(parts, Hir::concat));
    }

    fn close(mut self) -> Part {
        self.end_alternative();
        let part = joined(self.alternatives, Hir::alternation);
        match self.capture {
            Some((index, name)) => Part {
                hir: Hir::capture(Capture {
                    index,
                    name,
                    sub: Box::new(part.hir),
                }),
                ..part
            },
            None => part,
        }
    }
}

fn joined(parts: Vec<Part>, join: fn(Vec<Hir>) -> Hir) -> Part {
    Part {
        repeats: parts.iter().map(|part| part.repeats).max().unwrap_or(1),
        hir: join(parts.into_iter().map(|part| part.hir).collect()),
    }
}

/// Reads a pattern.
pub(crate) fn parse(source: &str) -> Result<Hir, SyntaxError> {
    let mut parser = Parser {
        rest: source,
        flags: Flags {
            fold_case: false,
            many_lines: false,
            dot_is_all: false,
            lazy: false,
        },
        levels: Vec::new(),
        captures: 0,
        names: HashSet::new(),
    };
    parser.levels.push(Level::new(parser.flags, None));
    parser.run()
}

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    levels: Vec<Level>,
    captures: u32,
    names: HashSet<&'a str>,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Hir, SyntaxError> {
        let mut after_repeat = false;
        while let Some(first) = self.rest.chars().next() {
            let repeated = std::mem::take(&mut after_repeat);
            match first {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.level().end_alternative();
                }
                '^' => {
                    self.skip(1);
                    self.push(Hir::look(if self.flags.many_lines {
                        Look::StartLF
                    } else {
                        Look::Start
                    }));
                }
                '$' => {
                    self.skip(1);
                    self.push(Hir::look(if self.flags.many_lines { Look::EndLF } else { Look::End }));
                }
                '.' => {
                    self.skip(1);
                    self.push(Hir::dot(if self.flags.dot_is_all {
                        Dot::AnyChar
                    } else {
                        Dot::AnyCharExceptLF
                    }));
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    let bounds = match first {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(1, bounds, repeated)?;
                    after_repeat = true;
                }
                '{' => match counts(self.rest) {
                    Some((length, bounds)) => {
                        let (least, most) = bounds.ok_or(SyntaxError::RepeatSize)?;
                        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
                            return Err(SyntaxError::RepeatSize);
                        }
                        self.repeat(length, (least, most), repeated)?;
                        after_repeat = true;
                    }
                    None => self.literal(),
                },
                '\\' => self.backslash()?,
                _ => self.literal(),
            }
        }
        let level = self.levels.pop().ok_or(SyntaxError::UnopenedGroup)?;
        if self.levels.is_empty() {
            Ok(level.close().hir)
        } else {
            Err(SyntaxError::UnclosedGroup)
        }
    }

    fn level(&mut self) -> &mut Level {
        self.levels
            .last_mut()
            .expect("the outermost level is popped only at the end")
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, hir: Hir) {
        self.level().current.push(Part { hir, repeats: 1 });
    }

    fn push_char(&mut self, character: char) {
        let hir = if self.flags.fold_case {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
            class.case_fold_simple();
            Hir::class(Class::Unicode(class))
        } else {
            Hir::literal(character.to_string().into_bytes())
        };
        self.push(hir);
    }

    fn literal(&mut self) {
        if let Some(character) = self.rest.chars().next() {
            self.skip(character.len_utf8());
            self.push_char(character);
        }
    }

    fn open(&mut self) -> Result<(), SyntaxError> {
        if self.levels.len() > MAX_NESTING {
            return Err(SyntaxError::Nesting);
        }
        let Some(after) = self.rest.strip_prefix("(?") else {
            self.skip(1);
            self.open_capture(None);
            return Ok(());
        };
        let named = after
            .strip_prefix("P<")
            .filter(|rest| !rest.is_empty())
            .or_else(|| after.strip_prefix('<'));
        if let Some(named) = named {
            let (name, rest) = named
                .split_once('>')
                .ok_or_else(|| SyntaxError::GroupName(shortened(named)))?;
            if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                return Err(SyntaxError::GroupName(shortened(name)));
            }
            self.rest = rest;
            self.open_capture(Some(name));
            return Ok(());
        }
        self.flags_or_group(after)
    }

    fn open_capture(&mut self, name: Option<&'a str>) {
        self.captures += 1;
        // Go lets two groups have one name; the first one keeps it.
        let name = name.filter(|name| self.names.insert(name)).map(Into::into);
        let level = Level::new(self.flags, Some((self.captures, name)));
        self.levels.push(level);
    }

    /// `(?flags)` holds until the group around it ends, `(?flags:` until the one that it opens ends.
    fn flags_or_group(&mut self, text: &'a str) -> Result<(), SyntaxError> {
        let refused = || SyntaxError::Group(shortened(&format!("(?{text}")));
        let mut flags = self.flags;
        let (mut value, mut seen) = (true, true);
        for (index, character) in text.char_indices() {
            match character {
                'i' => flags.fold_case = value,
                'm' => flags.many_lines = value,
                's' => flags.dot_is_all = value,
                'U' => flags.lazy = value,
                '-' if value => {
                    value = false;
                    seen = false;
                    continue;
                }
                ':' | ')' if seen => {
                    if character == ':' {
                        let level = Level::new(self.flags, None);
                        self.levels.push(level);
                    }
                    self.flags = flags;
                    self.rest = &text[index + 1..];
                    return Ok(());
                }
                _ => return Err(refused()),
            }
            seen = true;
        }
        Err(refused())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        if self.levels.len() < 2 {
            return Err(SyntaxError::UnopenedGroup);
        }
        self.skip(1);
        if let Some(level) = self.levels.pop() {
            self.flags = level.outer;
            let part = level.close();
            self.level().current.push(part);
        }
        Ok(())
    }

    fn repeat(&mut self, length: usize, (min, max): (u32, Option<u32>), repeated: bool) -> Result<(), SyntaxError> {
        let lazy = self.rest[length..].starts_with('?');
        let operator = &self.rest[..length + usize::from(lazy)];
        if repeated {
            return Err(SyntaxError::NestedRepeat(operator.to_owned()));
        }
        let Some(part) = self.level().current.pop() else {
            return Err(SyntaxError::NothingToRepeat(operator.to_owned()));
        };
        let counted = operator.starts_with('{');
        let repeats = if counted {
            part.repeats.saturating_mul(max.unwrap_or(min).max(1))
        } else {
            part.repeats
        };
        // Once nothing is left of a repetition, neither is its count.
        let repeats = if counted && max == Some(0) { 1 } else { repeats };
        if counted && (min >= 2 || max.is_some_and(|max| max >= 2)) && repeats > MAX_REPEAT {
            return Err(SyntaxError::RepeatSize);
        }
        self.skip(operator.len());
        let greedy = self.flags.lazy == lazy;
        self.level().current.push(Part {
            hir: Hir::repetition(Repetition {
                min,
                max,
                greedy,
                sub: Box::new(part.hir),
            }),
            repeats,
        });
        Ok(())
    }

    fn backslash(&mut self) -> Result<(), SyntaxError> {
        let after = &self.rest[1..];
        let look = match after.chars().next() {
            Some('A') => Some(Look::Start),
            Some('z') => Some(Look::End),
            Some('b') => Some(Look::WordAscii),
            Some('B') => Some(Look::WordAsciiNegate),
            Some('Q') => {
                let (quoted, rest) = after[1..].split_once("\\E").unwrap_or((&after[1..], ""));
                quoted.chars().for_each(|character| self.push_char(character));
                self.rest = rest;
                return Ok(());
            }
            _ => None,
        };
        if let Some(look) = look {
            self.skip(2);
            self.push(Hir::look(look));
            return Ok(());
        }
        if let Some((class, rest)) = named_class(self.rest, self.flags.fold_case)? {
            self.rest = rest;
            self.push(Hir::class(Class::Unicode(class)));
            return Ok(());
        }
        let (character, rest) = escaped(self.rest)?;
        self.rest = rest;
        match char::from_u32(character) {
            Some(character) => self.push_char(character),
            // Half of a surrogate pair: no text holds one.
            None => self.push(Hir::fail()),
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), SyntaxError> {
        let mut rest = &self.rest[1..];
        let negated = rest.strip_prefix('^');
        rest = negated.unwrap_or(rest);
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if let Some((named, after)) = posix_class(rest, self.flags.fold_case)? {
                class.union(&named);
                rest = after;
                continue;
            }
            if let Some((named, after)) = named_class(rest, self.flags.fold_case)? {
                class.union(&named);
                rest = after;
                continue;
            }
            let range = rest;
            let (low, after) = class_character(rest)?;
            rest = after;
            let mut high = low;
            if let Some(end) = rest
                .strip_prefix('-')
                .filter(|end| !end.is_empty() && !end.starts_with(']'))
            {
                (high, rest) = class_character(end)?;
                if high < low {
                    return Err(SyntaxError::ClassRange(shortened(&range[..range.len() - rest.len()])));
                }
            }
            if let Some(characters) = characters(low, high) {
                let mut one = ClassUnicode::new([characters]);
                if self.flags.fold_case {
                    one.case_fold_simple();
                }
                class.union(&one);
            }
        }
        if negated.is_some() {
            class.negate();
        }
        self.rest = &rest[1..];
        self.push(Hir::class(Class::Unicode(class)));
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the start: its length, and its bounds if they can be counted. None: it stands for itself.
#[allow(clippy::type_complexity)]
fn counts(text: &str) -> Option<(usize, Option<(u32, Option<u32>)>)> {
    let inside = text.strip_prefix('{')?;
    let inside = &inside[..inside.find('}')?];
    let length = inside.len() + 2;
    let number = |digits: &str| {
        let plain = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        plain.then(|| digits.parse::<u32>().ok())
    };
    let (least, most) = match inside.split_once(',') {
        None => {
            let count = number(inside)?;
            (count, count.map(Some))
        }
        Some((least, "")) => (number(least)?, Some(None)),
        Some((least, most)) => (number(least)?, number(most)?.map(Some)),
    };
    Some((length, least.zip(most)))
}

fn characters(low: u32, high: u32) -> Option<ClassUnicodeRange> {
    // Surrogates are no characters: the range ends before them or begins after them.
    let low = char::from_u32(low).or(char::from_u32(0xE000))?;
    let high = char::from_u32(high).or(char::from_u32(0xD7FF))?;
    (low <= high).then(|| ClassUnicodeRange::new(low, high))
}

fn class_character(text: &str) -> Result<(u32, &str), SyntaxError> {
    match text.chars().next() {
        None => Err(SyntaxError::UnclosedClass),
        Some('\\') => escaped(text),
        Some(character) => Ok((u32::from(character), &text[character.len_utf8()..])),
    }
}

/// A backslash and what it stands for.
fn escaped(text: &str) -> Result<(u32, &str), SyntaxError> {
    let after = text.strip_prefix('\\').unwrap_or(text);
    let Some(character) = after.chars().next() else {
        return Err(SyntaxError::TrailingBackslash);
    };
    let rest = &after[character.len_utf8()..];
    let refused = || SyntaxError::Escape(format!("\\{character}"));
    let octal = |text: &str, limit: usize| {
        text.bytes()
            .take(limit)
            .take_while(|byte| (b'0'..=b'7').contains(byte))
            .count()
    };
    match character {
        'a' => Ok((7, rest)),
        'f' => Ok((0xC, rest)),
        'n' => Ok((0xA, rest)),
        'r' => Ok((0xD, rest)),
        't' => Ok((9, rest)),
        'v' => Ok((0xB, rest)),
        // One digit alone would be a back-reference.
        '1'..='7' if octal(rest, 1) == 0 => Err(refused()),
        '0'..='7' => {
            let length = 1 + octal(rest, 2);
            let value = u32::from_str_radix(&after[..length], 8).map_err(|_| refused())?;
            Ok((value, &after[length..]))
        }
        'x' => hexadecimal(rest).ok_or_else(refused),
        _ if character.is_ascii() && !character.is_ascii_alphanumeric() => Ok((u32::from(character), rest)),
        _ => Err(refused()),
    }
}

fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => (text.get(..2)?, &text[2..]),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = plain.then(|| {
        u32::from_str_radix(digits.trim_start_matches('0'), 16)
            .or(if digits.bytes().all(|b| b == b'0') {
                Ok(0)
            } else {
                Err(())
            })
            .ok()
    })??;
    (value <= u32::from(char::MAX)).then_some((value, rest))
}

/// `\d`, `\pN`, `\p{Greek}` and the like at the start.
fn named_class(text: &str, fold_case: bool) -> Result<Option<(ClassUnicode, &str)>, SyntaxError> {
    let Some(after) = text.strip_prefix('\\') else {
        return Ok(None);
    };
    let Some(letter) = after.chars().next() else {
        return Ok(None);
    };
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        'p' => return property(text, fold_case).map(Some),
        _ => return Ok(None),
    };
    if !letter.is_ascii() {
        return Ok(None);
    }
    Ok(Some((
        class_of(ranges, letter.is_ascii_uppercase(), fold_case),
        &after[1..],
    )))
}

fn class_of(ranges: &[(char, char)], negated: bool, fold_case: bool) -> ClassUnicode {
    let mut class = ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)));
    if fold_case {
        class.case_fold_simple();
    }
    if negated {
        class.negate();
    }
    class
}

/// `[:alpha:]` or `[:^alpha:]` at the start.
fn posix_class(text: &str, fold_case: bool) -> Result<Option<(ClassUnicode, &str)>, SyntaxError> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inside| inside.split_once(":]")) else {
        return Ok(None);
    };
    let plain = name.strip_prefix('^');
    let ranges: &[(char, char)] = match plain.unwrap_or(name) {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err(SyntaxError::ClassRange(shortened(&format!("[:{name}:]")))),
    };
    Ok(Some((class_of(ranges, plain.is_some(), fold_case), rest)))
}

/// Properties that Go knows by name (case, blanks, `_` and `-` do not matter): categories, and scripts of one word.
const PROPERTIES: &str = " adlam ahom any arabic armenian ascii assigned avestan balinese bamum batak bengali bhaiksuki \
    bopomofo brahmi braille buginese buhid c carian casedletter cc cf chakma cham cherokee chorasmian closepunctuation cn \
    cntrl co combiningmark common connectorpunctuation control coptic cs cuneiform currencysymbol cypriot cyrillic \
    dashpunctuation decimalnumber deseret devanagari digit dogra duployan elbasan elymaic enclosingmark ethiopic \
    finalpunctuation format georgian glagolitic gothic grantha greek gujarati gurmukhi han hangul hanunoo hatran hebrew \
    hiragana inherited initialpunctuation javanese kaithi kannada katakana kawi kharoshthi khmer khojki khudawadi l lao \
    latin lc lepcha letter letternumber limbu lineseparator lisu ll lm lo lowercaseletter lt lu lycian lydian m mahajani \
    makasar malayalam mandaic manichaean marchen mark mathsymbol mc me medefaidrin miao mn modi modifierletter \
    modifiersymbol mongolian mro multani myanmar n nabataean nandinagari nd newa nko nl no nonspacingmark number nushu \
    ogham openpunctuation oriya osage osmanya other otherletter othernumber otherpunctuation othersymbol p palmyrene \
    paragraphseparator pc pd pe pf phoenician pi po privateuse ps punct punctuation rejang runic s samaritan saurashtra sc \
    separator sharada shavian siddham sinhala sk sm so sogdian soyombo spaceseparator spacingmark sundanese surrogate \
    symbol syriac tagalog tagbanwa takri tamil tangsa tangut telugu thaana thai tibetan tifinagh tirhuta titlecaseletter \
    toto ugaritic unassigned uppercaseletter vai vithkuqi wancho yezidi yi z zl zp zs ";

fn property(text: &str, fold_case: bool) -> Result<(ClassUnicode, &str), SyntaxError> {
    let refused = || SyntaxError::ClassRange(shortened(text));
    let after = &text[2..];
    let (name, rest) = match after.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or_else(refused)?,
        None => after.split_at(after.chars().next().ok_or_else(refused)?.len_utf8()),
    };
    let positive = name.strip_prefix('^');
    let negated = text.starts_with("\\P") != positive.is_some();
    let plain: String = positive
        .unwrap_or(name)
        .chars()
        .filter(|character| !matches!(character, ' ' | '_' | '-'))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if plain.is_empty() || !PROPERTIES.contains(&format!(" {plain} ")) {
        return Err(refused());
    }
    let known = match plain.as_str() {
        // No text holds half a surrogate pair.
        "cs" | "surrogate" => return Ok((class_of(&[], negated, false), rest)),
        "punct" => "punctuation",
        "digit" => "nd",
        "cntrl" => "cc",
        "combiningmark" => "mark",
        other => other,
    };
    let hir = regex_syntax::Parser::new()
        .parse(&format!(r"\p{{{known}}}"))
        .map_err(|_| refused())?;
    let hir_class = hir.into_kind();
    let mut class = match hir_class {
        regex_syntax::hir::HirKind::Class(Class::Unicode(class)) => class,
        regex_syntax::hir::HirKind::Class(Class::Bytes(bytes)) => bytes.to_unicode_class().ok_or_else(refused)?,
        _ => return Err(refused()),
    };
    if fold_case {
        class.case_fold_simple();
    }
    if negated {
        class.negate();
    }
    Ok((class, rest))
}

/// A text in an error is for people.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
