//! Tokens into an expression. Precedence climbing: the language has six levels of operators and no more.

use super::{
    InvalidExpression,
    ast::{Call, Element, Entry, Expr, Kind, Literal, Select},
    lex::{self, Token},
    macros,
};

/// Operators and selections in a chain: as cel-go limits them.
const MAX_DEPTH: usize = 250;
/// Parentheses, lists, arguments and loops inside each other. cel-go takes 250, on a stack that grows; a server's thread
/// has one of 2 MiB, and nobody nests half as deep as this.
const MAX_NESTING: usize = 128;
/// Macros copy what they are applied to, so a text of this length may mean a larger expression.
const MAX_NODES: usize = 20_000;

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

pub(super) fn parse(source: &str) -> Result<Expr, InvalidExpression> {
    let tokens = lex::tokens(source)?;
    let mut parser = Parser {
        source,
        tokens,
        next: 0,
        depth: 0,
        nodes: 0,
    };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
}

type Parsed = Result<Expr, InvalidExpression>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        // The end stays where it is.
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn accept(&mut self, symbol: &'static str) -> bool {
        let found = *self.peek() == Token::Symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), InvalidExpression> {
        if self.accept(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{symbol:?}")))
        }
    }

    fn unexpected(&self, wanted: &str) -> InvalidExpression {
        let end = self.tokens.get(self.next + 1).map_or(self.source.len(), |(at, _)| *at);
        let found = match self.peek() {
            Token::End => "the end".to_owned(),
            _ => format!(
                "{:?}",
                self.source[self.at()..end]
                    .trim_end()
                    .chars()
                    .take(20)
                    .collect::<String>()
            ),
        };
        self.error(self.at(), format!("{wanted} was expected, not {found}"))
    }

    fn error(&self, at: usize, reason: impl Into<String>) -> InvalidExpression {
        InvalidExpression::at(self.source, at, reason)
    }

    fn node(&mut self, at: usize, kind: Kind) -> Parsed {
        let expr = Expr::new(at, kind);
        self.count(1)?;
        if expr.depth > MAX_DEPTH {
            return Err(self.error(at, format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(expr)
    }

    fn count(&mut self, nodes: usize) -> Result<(), InvalidExpression> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(self.error(
                self.at(),
                format!("it has more than {MAX_NODES} parts once its macros are spelt out"),
            ));
        }
        Ok(())
    }

    fn expr(&mut self) -> Parsed {
        if self.depth >= MAX_NESTING {
            return Err(self.error(self.at(), format!("it is nested deeper than {MAX_NESTING} levels")));
        }
        self.depth += 1;
        let condition = self.binary(0)?;
        let at = self.at();
        let expr = if self.accept("?") {
            let yes = self.binary(0)?;
            self.expect(":")?;
            let no = self.expr()?;
            self.call(at, "_?_:_", vec![condition, yes, no])?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn call(&mut self, at: usize, function: &str, args: Vec<Expr>) -> Parsed {
        self.node(
            at,
            Kind::Call(Box::new(Call {
                function: function.to_owned(),
                target: None,
                args,
                overload: None,
            })),
        )
    }

    fn binary(&mut self, level: u8) -> Parsed {
        let mut left = self.unary()?;
        // Of a chain of && or ||: all its parts, to become a balanced tree.
        while let Some((found, function)) = operator(self.peek()).filter(|(found, _)| *found >= level) {
            let at = self.at();
            self.advance();
            let right = self.binary(found + 1)?;
            if matches!(function, "_&&_" | "_||_") {
                let mut parts = vec![left, right];
                while operator(self.peek()) == Some((found, function)) {
                    self.advance();
                    parts.push(self.binary(found + 1)?);
                }
                left = self.balanced(at, function, parts)?;
            } else {
                left = self.call(at, function, vec![left, right])?;
            }
        }
        Ok(left)
    }

    fn balanced(&mut self, at: usize, function: &str, mut parts: Vec<Expr>) -> Parsed {
        if parts.len() > 2 {
            let right = parts.split_off(parts.len().div_ceil(2));
            let left = if parts.len() == 1 {
                parts.remove(0)
            } else {
                self.balanced(at, function, parts)?
            };
            let right = if right.len() == 1 {
                right.into_iter().next()
            } else {
                Some(self.balanced(at, function, right)?)
            };
            parts = vec![left];
            parts.extend(right);
        }
        self.call(at, function, parts)
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let at = self.at();
            let mut count = 0_usize;
            while *self.peek() == Token::Symbol(symbol) && !(symbol == "-" && count == 0 && self.number_follows()) {
                self.advance();
                count += 1;
            }
            if count > 0 {
                let operand = self.member()?;
                return if count.is_multiple_of(2) {
                    Ok(operand)
                } else {
                    self.call(at, function, vec![operand])
                };
            }
        }
        self.member()
    }

    /// Whether what comes is a minus with its number.
    fn number_follows(&self) -> bool {
        matches!(
            self.tokens.get(self.next + 1).map(|(_, token)| token),
            Some(Token::Integer(_) | Token::Literal(Literal::Double(_)))
        )
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            let at = self.at();
            if self.accept(".") {
                operand = self.select(at, operand)?;
            } else if self.accept("[") {
                let function = if self.accept("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(at, function, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn select(&mut self, at: usize, operand: Expr) -> Parsed {
        let optional = self.accept("?");
        let Token::Ident(field) = self.peek().clone() else {
            return Err(self.unexpected("a name"));
        };
        self.advance();
        if optional {
            let field = self.node(at, Kind::Literal(Literal::String(field.into())))?;
            return self.call(at, "_?._", vec![operand, field]);
        }
        if self.accept("(") {
            let args = self.arguments()?;
            return self.expanded(at, field, Some(operand), args);
        }
        self.node(
            at,
            Kind::Select(Box::new(Select {
                operand,
                field,
                test: false,
            })),
        )
    }

    fn expanded(&mut self, at: usize, function: String, target: Option<Expr>, args: Vec<Expr>) -> Parsed {
        let call = Call {
            function,
            target,
            args,
            overload: None,
        };
        let expanded = macros::expand(at, call).map_err(|(at, reason)| self.error(at, reason))?;
        let kind = match expanded {
            macros::Expanded::No(call) => Kind::Call(Box::new(call)),
            macros::Expanded::Yes(expr, nodes) => {
                self.count(nodes)?;
                expr.kind
            }
        };
        self.node(at, kind)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, InvalidExpression> {
        let mut args = Vec::new();
        if self.accept(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.accept(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.advance() {
            Token::Literal(literal) => self.node(at, Kind::Literal(literal)),
            Token::Integer(text) => self.integer(at, &text, false),
            Token::Symbol("-") => match self.advance() {
                Token::Integer(text) => self.integer(at, &text, true),
                Token::Literal(Literal::Double(value)) => self.node(at, Kind::Literal(Literal::Double(-value))),
                _ => Err(self.error(at, "a value was expected, not \"-\"")),
            },
            Token::Symbol("(") => {
                let expr = self.expr()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Symbol("[") => self.list(at),
            Token::Symbol("{") => self.map(at),
            Token::Symbol(".") => match self.advance() {
                Token::Ident(name) => self.name(at, name),
                _ => Err(self.error(at, "a name was expected after \".\"")),
            },
            Token::Ident(name) => self.name(at, name),
            _ => {
                // Of the token that was taken.
                self.next = self
                    .tokens
                    .iter()
                    .position(|(start, _)| *start == at)
                    .unwrap_or(self.next);
                Err(self.unexpected("a value"))
            }
        }
    }

    fn integer(&mut self, at: usize, text: &str, negative: bool) -> Parsed {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
        let sign = if negative { "-" } else { "" };
        let value = i64::from_str_radix(&format!("{sign}{digits}"), radix)
            .map_err(|_| self.error(at, format!("{sign}{text} is too large for an int")))?;
        self.node(at, Kind::Literal(Literal::Int(value)))
    }

    fn name(&mut self, at: usize, name: String) -> Parsed {
        if self.accept("(") {
            if RESERVED.contains(&name.as_str()) {
                return Err(self.error(at, format!("{name:?} is a reserved word")));
            }
            let args = self.arguments()?;
            return self.expanded(at, name, None, args);
        }
        if let Some(message) = self.message(&name) {
            return Err(self.error(at, format!("{message:?} is not a type that an expression can make")));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(self.error(at, format!("{name:?} is a reserved word")));
        }
        self.node(at, Kind::Ident(name))
    }

    /// `a.b.C{`: the name, if that is what comes.
    fn message(&self, first: &str) -> Option<String> {
        let mut name = first.to_owned();
        let mut rest = self.tokens[self.next..].iter().map(|(_, token)| token);
        loop {
            match rest.next()? {
                Token::Symbol("{") => return Some(name),
                Token::Symbol(".") => match rest.next()? {
                    Token::Ident(part) => {
                        name.push('.');
                        name.push_str(part);
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut elements = Vec::new();
        loop {
            if !elements.is_empty() && self.accept("]") {
                break;
            }
            if elements.is_empty() {
                let comma = self.accept(",");
                if self.accept("]") {
                    break;
                }
                if comma {
                    return Err(self.unexpected("\"]\""));
                }
            }
            let optional = self.accept("?");
            elements.push(Element {
                optional,
                value: self.expr()?,
            });
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Kind::List(elements))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        loop {
            if !entries.is_empty() && self.accept("}") {
                break;
            }
            if entries.is_empty() {
                let comma = self.accept(",");
                if self.accept("}") {
                    break;
                }
                if comma {
                    return Err(self.unexpected("\"}\""));
                }
            }
            let optional = self.accept("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push(Entry {
                optional,
                key,
                value: self.expr()?,
            });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Map(entries))
    }
}

/// How tight a binary operator binds, and its function.
fn operator(token: &Token) -> Option<(u8, &'static str)> {
    let Token::Symbol(symbol) = token else {
        return None;
    };
    Some(match *symbol {
        "||" => (0, "_||_"),
        "&&" => (1, "_&&_"),
        "==" => (2, "_==_"),
        "!=" => (2, "_!=_"),
        "<" => (2, "_<_"),
        "<=" => (2, "_<=_"),
        ">" => (2, "_>_"),
        ">=" => (2, "_>=_"),
        "in" => (2, "@in"),
        "+" => (3, "_+_"),
        "-" => (3, "_-_"),
        "*" => (4, "_*_"),
        "/" => (4, "_/_"),
        "%" => (4, "_%_"),
        _ => return None,
    })
}
