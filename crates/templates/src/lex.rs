//! Splits a template into tokens, as `text/template/parse/lex.go` does.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text cannot be split further; the token's text is the message.
    Error,
    Assign,
    Bool,
    Char,
    Comma,
    Declare,
    Dot,
    End,
    Field,
    Identifier,
    Keyword,
    LeftDelimiter,
    LeftParenthesis,
    Nil,
    Number,
    Pipe,
    /// An ASCII character that means nothing here.
    Punctuation,
    Quoted,
    RawQuoted,
    RightDelimiter,
    RightParenthesis,
    Space,
    Text,
    Variable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Line on which the token begins, from one.
    pub(crate) line: usize,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
const TRIMMED_RIGHT: [&str; 4] = [" -}}", "\t-}}", "\r-}}", "\n-}}"];
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
const KEYWORDS: [&str; 10] = [
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with",
];

/// Ends with an `End` or an `Error` token.
pub(crate) fn lex(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        counted: 0,
        tokens: Vec::new(),
    };
    match lexer.run() {
        Ok(()) => lexer.emit(Kind::End, source.len(), source.len()),
        Err(message) => {
            let line = lexer.line_at(lexer.at);
            lexer.tokens.push(Token {
                kind: Kind::Error,
                text: message,
                line,
            });
        }
    }
    lexer.tokens
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    /// Line of the byte `counted`.
    line: usize,
    counted: usize,
    tokens: Vec<Token<'a>>,
}

type Step = Result<(), &'static str>;

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn line_at(&mut self, at: usize) -> usize {
        if at >= self.counted {
            self.line += self.source[self.counted..at].matches('\n').count();
            self.counted = at;
        }
        self.line
    }

    fn emit(&mut self, kind: Kind, from: usize, to: usize) {
        let line = self.line_at(from);
        self.tokens.push(Token {
            kind,
            text: &self.source[from..to],
            line,
        });
    }

    fn run(&mut self) -> Step {
        while let Some(length) = self.rest().find(LEFT) {
            let start = self.at;
            let delimiter = start + length;
            let inside = delimiter + LEFT.len();
            let trims = trims_left(&self.source[inside..]);
            let mut text = &self.source[start..delimiter];
            if trims {
                text = text.trim_end_matches(SPACES);
            }
            if !text.is_empty() {
                self.emit(Kind::Text, start, start + text.len());
            }
            self.at = inside + if trims { 2 } else { 0 };
            if self.rest().starts_with("/*") {
                self.comment()?;
            } else {
                self.emit(Kind::LeftDelimiter, delimiter, inside);
                self.action()?;
            }
        }
        if self.at < self.source.len() {
            self.emit(Kind::Text, self.at, self.source.len());
        }
        Ok(())
    }

    /// Length of a closing delimiter here, with its trim marker.
    fn right_delimiter(&self) -> Option<usize> {
        let rest = self.rest();
        if TRIMMED_RIGHT.iter().any(|delimiter| rest.starts_with(delimiter)) {
            return Some(TRIMMED_RIGHT[0].len());
        }
        rest.starts_with(RIGHT).then_some(RIGHT.len())
    }

    /// Goes past a closing delimiter of this length, and past the space that it trims.
    fn close(&mut self, length: usize) {
        self.at += length;
        if length > RIGHT.len() {
            self.at = self.source.len() - self.rest().trim_start_matches(SPACES).len();
        }
    }

    fn comment(&mut self) -> Step {
        let length = self.rest()[2..].find("*/").ok_or("unclosed comment")?;
        self.at += 2 + length + 2;
        let length = self.right_delimiter().ok_or("comment ends before closing delimiter")?;
        self.close(length);
        Ok(())
    }

    fn action(&mut self) -> Step {
        let mut open = 0_usize;
        loop {
            let start = self.at;
            if let Some(length) = self.right_delimiter() {
                if open > 0 {
                    return Err("unclosed left parenthesis");
                }
                self.emit(Kind::RightDelimiter, start, start + length);
                self.close(length);
                return Ok(());
            }
            let kind = match self.next().ok_or("unclosed action")? {
                ' ' | '\t' | '\r' | '\n' => {
                    self.spaces();
                    Kind::Space
                }
                '=' => Kind::Assign,
                ':' => {
                    if self.next() != Some('=') {
                        return Err("expected :=");
                    }
                    Kind::Declare
                }
                '|' => Kind::Pipe,
                ',' => Kind::Comma,
                '"' => self.quoted('"', "unterminated quoted string", Kind::Quoted)?,
                '\'' => self.quoted('\'', "unterminated character constant", Kind::Char)?,
                '`' => {
                    let length = self.rest().find('`').ok_or("unterminated raw quoted string")?;
                    self.at += length + 1;
                    Kind::RawQuoted
                }
                '$' => self.field_or_variable(Kind::Variable, Kind::Variable)?,
                '.' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => {
                    self.field_or_variable(Kind::Dot, Kind::Field)?
                }
                '.' | '+' | '-' | '0'..='9' => {
                    self.at = start;
                    self.number()?
                }
                first if is_word(first) => {
                    self.at = start;
                    self.word()?
                }
                '(' => {
                    open += 1;
                    Kind::LeftParenthesis
                }
                ')' => {
                    open = open.checked_sub(1).ok_or("unexpected right parenthesis")?;
                    Kind::RightParenthesis
                }
                other if other.is_ascii_graphic() => Kind::Punctuation,
                _ => return Err("unrecognized character in action"),
            };
            self.emit(kind, start, self.at);
        }
    }

    /// A space that belongs to a trimming delimiter is left to it.
    fn spaces(&mut self) {
        while self.peek().is_some_and(|next| SPACES.contains(&next)) {
            if self.right_delimiter().is_some() {
                break;
            }
            self.at += 1;
        }
    }

    fn quoted(&mut self, quote: char, unterminated: &'static str, kind: Kind) -> Result<Kind, &'static str> {
        loop {
            match self.next() {
                Some('\\') => {
                    if matches!(self.next(), None | Some('\n')) {
                        return Err(unterminated);
                    }
                }
                None | Some('\n') => return Err(unterminated),
                Some(next) if next == quote => return Ok(kind),
                Some(_) => {}
            }
        }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with(RIGHT),
        }
    }

    fn skip_word(&mut self) -> Step {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        if self.at_terminator() {
            Ok(())
        } else {
            Err("bad character after a word")
        }
    }

    fn field_or_variable(&mut self, alone: Kind, named: Kind) -> Result<Kind, &'static str> {
        if self.at_terminator() {
            return Ok(alone);
        }
        self.skip_word()?;
        Ok(named)
    }

    fn word(&mut self) -> Result<Kind, &'static str> {
        let start = self.at;
        self.skip_word()?;
        Ok(match &self.source[start..self.at] {
            "nil" => Kind::Nil,
            "true" | "false" => Kind::Bool,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        })
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.peek().is_some_and(|next| wanted.contains(next));
        if found {
            self.at += 1;
        }
        found
    }

    fn accept_run(&mut self, wanted: &str) {
        while self.accept(wanted) {}
    }

    fn number(&mut self) -> Result<Kind, &'static str> {
        const DECIMAL: &str = "0123456789_";
        const HEXADECIMAL: &str = "0123456789abcdefABCDEF_";
        self.accept("+-");
        let mut digits = DECIMAL;
        if self.accept("0") {
            if self.accept("xX") {
                digits = HEXADECIMAL;
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = if digits == DECIMAL {
            "eE"
        } else if digits == HEXADECIMAL {
            "pP"
        } else {
            ""
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run(DECIMAL);
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            return Err("bad number syntax");
        }
        if self.peek().is_some_and(|next| "+-".contains(next)) {
            return Err("complex numbers are not supported");
        }
        Ok(Kind::Number)
    }
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

fn trims_left(inside: &str) -> bool {
    let mut chars = inside.chars();
    chars.next() == Some('-') && chars.next().is_some_and(|next| SPACES.contains(&next))
}
