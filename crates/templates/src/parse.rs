//! Reads a template's tokens, as `text/template/parse/parse.go` does.

use std::collections::HashMap;
use std::sync::Arc;

use crate::functions;
use crate::go::number::Number;
use crate::go::quote;
use crate::lex::{Kind, Token, lex};
use crate::limits::Limits;
use crate::syntax::{Branch, Command, Node, Operand, Pipeline};

/// Why a text is no template.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) line: usize,
    pub(crate) message: String,
    pub(crate) is_limit: bool,
}

/// A variable is looked for among all that can be seen, so there cannot be many.
const MOST_VARIABLES: usize = 1_000;

/// Templates by name.
pub(crate) type Templates = HashMap<Arc<str>, Vec<Node>>;

/// The template itself has the name that is given; others are those that it defines.
pub(crate) fn parse(name: &str, source: &str, limits: &Limits) -> Result<Templates> {
    if source.len() > limits.source_bytes {
        return Err(Refusal {
            line: 1,
            message: format!("is longer than {} bytes", limits.source_bytes),
            is_limit: true,
        });
    }
    let mut parser = Parser {
        tokens: lex(source),
        at: 0,
        templates: HashMap::new(),
        scope: Scope::new(),
        depth: 0,
        limit: limits.depth,
    };
    let root = parser.root()?;
    parser.add(Arc::from(name), root)?;
    Ok(parser.templates)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    templates: Templates,
    scope: Scope<'a>,
    depth: usize,
    limit: usize,
}

/// What one template's body can refer to.
struct Scope<'a> {
    variables: Vec<&'a str>,
    ranges: usize,
}

impl Scope<'_> {
    fn new() -> Self {
        Self {
            variables: vec!["$"],
            ranges: 0,
        }
    }
}

/// What a list of nodes ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    End,
    Else,
}

enum Read {
    Node(Node),
    End(End),
}

/// Control actions, for what their pipelines may declare and how they may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    If,
    With,
    Range,
}

type Result<T> = std::result::Result<T, Refusal>;

impl<'a> Parser<'a> {
    fn peek_any(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next_any(&mut self) -> Token<'a> {
        let token = self.peek_any();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek_any().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Token<'a> {
        self.skip_space();
        self.peek_any()
    }

    fn next(&mut self) -> Token<'a> {
        self.skip_space();
        self.next_any()
    }

    fn refusal(&self, message: impl Into<String>) -> Refusal {
        let at = self.at.saturating_sub(1).min(self.tokens.len() - 1);
        Refusal {
            line: self.tokens[at].line,
            message: message.into(),
            is_limit: false,
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'a>> {
        let token = self.next();
        if token.kind == kind {
            Ok(token)
        } else {
            Err(unexpected(token, context))
        }
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > self.limit {
            return Err(Refusal {
                is_limit: true,
                ..self.refusal(format!("is nested deeper than {}", self.limit))
            });
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn add(&mut self, name: Arc<str>, body: Vec<Node>) -> Result<()> {
        match self.templates.get(&name) {
            Some(earlier) if !is_blank(earlier) => {
                if is_blank(&body) {
                    return Ok(());
                }
                Err(self.refusal(format!("multiple definition of template {name:?}")))
            }
            _ => {
                self.templates.insert(name, body);
                Ok(())
            }
        }
    }

    fn root(&mut self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek_any().kind != Kind::End {
            let start = self.at;
            if self.next_any().kind == Kind::LeftDelimiter {
                let token = self.next();
                if (token.kind, token.text) == (Kind::Keyword, "define") {
                    self.definition()?;
                    continue;
                }
            }
            self.at = start;
            match self.text_or_action()? {
                Read::Node(node) => nodes.push(node),
                Read::End(end) => return Err(self.refusal(format!("unexpected {{{{{}}}}}", name_of(end)))),
            }
        }
        Ok(nodes)
    }

    fn definition(&mut self) -> Result<()> {
        const CONTEXT: &str = "define clause";
        let name = self.template_name(CONTEXT)?;
        self.expect(Kind::RightDelimiter, CONTEXT)?;
        let body = self.body(CONTEXT)?;
        self.add(name, body)
    }

    /// The body of a template of its own, up to its end.
    fn body(&mut self, context: &str) -> Result<Vec<Node>> {
        let outer = std::mem::replace(&mut self.scope, Scope::new());
        let (body, end) = self.nested(Self::list)?;
        self.scope = outer;
        if end != End::End {
            return Err(self.refusal(format!("unexpected {{{{else}}}} in {context}")));
        }
        Ok(body)
    }

    fn list(&mut self) -> Result<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            match self.text_or_action()? {
                Read::Node(node) => nodes.push(node),
                Read::End(end) => return Ok((nodes, end)),
            }
        }
        let token = self.peek();
        Err(unexpected(token, "an action that has no {{end}}"))
    }

    fn text_or_action(&mut self) -> Result<Read> {
        let token = self.next();
        match token.kind {
            Kind::Text => Ok(Read::Node(Node::Text(Arc::from(token.text)))),
            Kind::LeftDelimiter => self.action(),
            _ => Err(unexpected(token, "input")),
        }
    }

    fn action(&mut self) -> Result<Read> {
        let token = self.peek();
        if token.kind != Kind::Keyword {
            return Ok(Read::Node(Node::Action(self.pipeline(
                "command",
                Kind::RightDelimiter,
                None,
            )?)));
        }
        self.next();
        Ok(Read::Node(match token.text {
            "block" => self.block(token.line)?,
            "break" | "continue" => {
                self.expect(Kind::RightDelimiter, token.text)?;
                if self.scope.ranges == 0 {
                    return Err(self.refusal(format!("{{{{{}}}}} outside of {{{{range}}}}", token.text)));
                }
                if token.text == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }
            }
            "else" => {
                let next = self.peek();
                if next.kind != Kind::Keyword || !["if", "with"].contains(&next.text) {
                    self.expect(Kind::RightDelimiter, "else")?;
                }
                return Ok(Read::End(End::Else));
            }
            "end" => {
                self.expect(Kind::RightDelimiter, "end")?;
                return Ok(Read::End(End::End));
            }
            "if" => Node::If(self.control(Control::If)?),
            "with" => Node::With(self.control(Control::With)?),
            "range" => Node::Range(self.control(Control::Range)?),
            "template" => self.call(token.line)?,
            _ => return Err(unexpected(token, "command")),
        }))
    }

    fn control(&mut self, control: Control) -> Result<Branch> {
        self.nested(|parser| {
            let variables = parser.scope.variables.len();
            let branch = parser.branch(control)?;
            parser.scope.variables.truncate(variables);
            Ok(branch)
        })
    }

    fn branch(&mut self, control: Control) -> Result<Branch> {
        let name = match control {
            Control::If => "if",
            Control::With => "with",
            Control::Range => "range",
        };
        let pipeline = self.pipeline(name, Kind::RightDelimiter, Some(control))?;
        let is_range = control == Control::Range;
        self.scope.ranges += usize::from(is_range);
        let (body, end) = self.list()?;
        self.scope.ranges -= usize::from(is_range);
        let mut otherwise = Vec::new();
        if end == End::Else {
            let token = self.peek_any();
            // "else if" and "else with" share the end of what they belong to.
            if token.kind == Kind::Keyword && token.text == name && !is_range {
                self.next_any();
                let branch = self.control(control)?;
                otherwise.push(if control == Control::If {
                    Node::If(branch)
                } else {
                    Node::With(branch)
                });
            } else {
                let (list, end) = self.list()?;
                if end != End::End {
                    return Err(self.refusal("expected {{end}}; found {{else}}"));
                }
                otherwise = list;
            }
        }
        Ok(Branch {
            pipeline,
            body,
            otherwise,
        })
    }

    fn block(&mut self, line: usize) -> Result<Node> {
        const CONTEXT: &str = "block clause";
        let name = self.template_name(CONTEXT)?;
        let argument = self.pipeline(CONTEXT, Kind::RightDelimiter, None)?;
        let body = self.body(CONTEXT)?;
        self.add(Arc::clone(&name), body)?;
        Ok(Node::Call {
            name,
            argument: Some(argument),
            line,
        })
    }

    fn call(&mut self, line: usize) -> Result<Node> {
        const CONTEXT: &str = "template clause";
        let name = self.template_name(CONTEXT)?;
        let argument = if self.peek().kind == Kind::RightDelimiter {
            self.next();
            None
        } else {
            Some(self.pipeline(CONTEXT, Kind::RightDelimiter, None)?)
        };
        Ok(Node::Call { name, argument, line })
    }

    fn template_name(&mut self, context: &str) -> Result<Arc<str>> {
        let token = self.next();
        match token.kind {
            Kind::Quoted | Kind::RawQuoted => self.unquote(token),
            _ => Err(unexpected(token, context)),
        }
    }

    fn unquote(&self, token: Token<'_>) -> Result<Arc<str>> {
        quote::unquote(token.text)
            .map(Arc::from)
            .ok_or_else(|| self.refusal(format!("{} is no valid string", shorten(token.text))))
    }

    fn pipeline(&mut self, context: &str, end: Kind, control: Option<Control>) -> Result<Pipeline> {
        let line = self.peek().line;
        let mut pipeline = Pipeline {
            line,
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipeline, context, control)?;
        loop {
            let token = self.next();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::LeftParenthesis
                | Kind::Nil
                | Kind::Number
                | Kind::Quoted
                | Kind::RawQuoted
                | Kind::Variable => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipeline.commands.push(command);
                }
                _ => return Err(unexpected(token, context)),
            }
        }
        if pipeline.commands.is_empty() {
            return Err(self.refusal(format!("missing value for {context}")));
        }
        for (at, command) in pipeline.commands.iter().enumerate().skip(1) {
            if matches!(
                command.first,
                Operand::Bool(_) | Operand::Dot | Operand::Nil | Operand::Number(_) | Operand::Text(_)
            ) {
                return Err(self.refusal(format!("non executable command in pipeline stage {}", at + 1)));
            }
        }
        Ok(pipeline)
    }

    /// `$a :=`, `$a =` or, in a range, `$a, $b :=`.
    fn declarations(&mut self, pipeline: &mut Pipeline, context: &str, control: Option<Control>) -> Result<()> {
        loop {
            let variable = self.peek();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            let start = self.at;
            self.next();
            let next = self.peek();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipeline.assigns = next.kind == Kind::Assign;
                    self.next();
                    return self.declare(pipeline, variable.text);
                }
                Kind::Comma => {
                    self.next();
                    self.declare(pipeline, variable.text)?;
                    if control != Some(Control::Range) || pipeline.variables.len() >= 2 {
                        return Err(self.refusal(format!("too many declarations in {context}")));
                    }
                    if !matches!(
                        self.peek().kind,
                        Kind::Variable | Kind::RightDelimiter | Kind::RightParenthesis
                    ) {
                        return Err(self.refusal("range can only initialize variables"));
                    }
                }
                _ => {
                    self.at = start;
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, pipeline: &mut Pipeline, name: &'a str) -> Result<()> {
        pipeline.variables.push(Arc::from(name));
        self.scope.variables.push(name);
        if self.scope.variables.len() > MOST_VARIABLES {
            return Err(Refusal {
                is_limit: true,
                ..self.refusal(format!("declares more than {MOST_VARIABLES} variables at once"))
            });
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let token = self.next_any();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelimiter | Kind::RightParenthesis => {
                    self.at -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return Err(unexpected(token, "operand")),
            }
        }
        let mut operands = operands.into_iter();
        match operands.next() {
            Some(first) => Ok(Command {
                first,
                arguments: operands.collect(),
            }),
            None => Err(self.refusal("empty command")),
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        if self.peek_any().kind != Kind::Field {
            return Ok(Some(operand));
        }
        let mut chain = Vec::new();
        while self.peek_any().kind == Kind::Field {
            chain.push(field(self.next_any()));
        }
        match &mut operand {
            Operand::Field(fields) | Operand::Variable { fields, .. } => {
                fields.append(&mut chain);
                Ok(Some(operand))
            }
            Operand::Bool(_) | Operand::Text(_) | Operand::Number(_) | Operand::Nil | Operand::Dot => {
                Err(self.refusal("unexpected . after a literal"))
            }
            _ => Ok(Some(Operand::Chain {
                of: Box::new(operand),
                fields: chain,
            })),
        }
    }

    fn term(&mut self) -> Result<Option<Operand>> {
        let token = self.next();
        Ok(Some(match token.kind {
            Kind::Identifier => match functions::find(token.text) {
                Ok(function) => Operand::Function(function),
                Err(message) => return Err(self.refusal(message)),
            },
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::Field => Operand::Field(vec![field(token)]),
            Kind::Variable => {
                if !self.scope.variables.contains(&token.text) {
                    return Err(self.refusal(format!("undefined variable {:?}", token.text)));
                }
                Operand::Variable {
                    name: Arc::from(token.text),
                    fields: Vec::new(),
                }
            }
            Kind::Char => match quote::unquote_char(token.text) {
                Some(char) => Operand::Number(Number::of_char(char)),
                None => return Err(self.refusal(format!("malformed character constant: {}", token.text))),
            },
            Kind::Number => match Number::parse(token.text) {
                Ok(number) => Operand::Number(number),
                Err(message) => return Err(self.refusal(message)),
            },
            Kind::Quoted | Kind::RawQuoted => Operand::Text(self.unquote(token)?),
            Kind::LeftParenthesis => {
                let pipeline =
                    self.nested(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParenthesis, None))?;
                Operand::Pipeline(Box::new(pipeline))
            }
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        }))
    }
}

fn unexpected(token: Token<'_>, context: &str) -> Refusal {
    let message = match token.kind {
        Kind::Error => token.text.to_owned(),
        Kind::End => format!("unexpected end of the template in {context}"),
        _ => format!("unexpected {:?} in {context}", shorten(token.text)),
    };
    Refusal {
        line: token.line,
        message,
        is_limit: false,
    }
}

fn field(token: Token<'_>) -> Arc<str> {
    Arc::from(token.text.strip_prefix('.').unwrap_or(token.text))
}

fn name_of(end: End) -> &'static str {
    match end {
        End::End => "end",
        End::Else => "else",
    }
}

/// Blank templates may be defined again, as when a file holds nothing but definitions.
fn is_blank(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| match node {
        Node::Text(text) => text.trim().is_empty(),
        _ => false,
    })
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(20).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
