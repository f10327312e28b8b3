//! Go's `text/template` with sprig's functions, as Capsule's rules and generators use them.
//!
//! A template renders to the same text as in Go, and fails where it fails in Go; a corpus of cases that Go answered
//! says so (`tests/corpus`). Where the answers differ, the case is listed with its reason in `tests/corpus.rs`.
//!
//! Why not a crate: `gtmpl` and its forks stopped years ago; they lack assignment, `break`, `missingkey` and most of
//! Go's formatting, and have no limits. Template engines that are kept (minijinja, tera, handlebars) are other
//! languages.
//!
//! Templates are written by people who may not be trusted. Nothing here reads a clock, a random number, the
//! environment, a file but time zones, or the network; functions that would are refused by name when the template is
//! parsed, and so are those that make keys and passwords. [`Limits`] bound time, memory and stack.
//!
//! What differs from Go on purpose:
//! - strings are UTF-8: what would cut a character in half, or decode to other bytes, fails;
//! - a dict cannot be put into itself, which makes Go crash when it is printed;
//! - `keys` and `values` are in order, where Go's are in none;
//! - `b64dec` and `b32dec` fail on what is not encoded, where sprig answers the error's message as if it were the text;
//! - complex numbers, hexadecimal floats and `%p` are refused.

mod error;
mod execute;
mod functions;
mod go;
mod lex;
mod limits;
mod parse;
mod syntax;
mod value;

pub use error::Error;
pub use limits::{Allowance, Limits};

use jiff::Timestamp;
use std::sync::Arc;

/// What a key that is not there is; Go's option `missingkey`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// No value, which prints as `<no value>` and whose fields are no value either. Go's `default` and `invalid`.
    #[default]
    Invalid,
    /// The zero of the value type: a nil for most data, whose fields are an error.
    Zero,
    /// An error.
    Error,
}

/// How the numbers of the data look to the template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Numbers {
    /// All are floats, as `encoding/json` decodes them: a million prints as `1e+06`.
    #[default]
    Floats,
    /// Whole numbers are integers, as in Kubernetes' unstructured objects.
    Integers,
}

/// How to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What a key that is not there is.
    pub missing_key: MissingKey,
    /// How the numbers of the data look.
    pub numbers: Numbers,
    /// What `now` answers.
    pub now: Timestamp,
}

/// A template that has been read.
#[derive(Debug)]
pub struct Template {
    name: Arc<str>,
    templates: parse::Templates,
    limits: Limits,
}

impl Template {
    /// Reads a template. The name shows in errors, and other templates in the text can be told apart from it.
    ///
    /// # Errors
    /// If the text is no template, calls a function that is not there, or exceeds the limits.
    pub fn parse(name: &str, source: &str, limits: Limits) -> Result<Self, Error> {
        let templates = parse::parse(name, source, &limits).map_err(|refusal| {
            let template = name.to_owned();
            let (line, message) = (refusal.line, shorten(refusal.message));
            if refusal.is_limit {
                Error::Limit {
                    template,
                    line,
                    message,
                }
            } else {
                Error::Parse {
                    template,
                    line,
                    message,
                }
            }
        })?;
        Ok(Self {
            name: Arc::from(name),
            templates,
            limits,
        })
    }

    /// The text that the template makes of the data.
    ///
    /// # Errors
    /// If the template does not fit the data, or exceeds the limits. Nothing is answered of what was rendered before.
    pub fn render(&self, data: &serde_json::Value, settings: &Settings) -> Result<String, Error> {
        self.render_with(&limits::Budget::new(self.limits), data, settings)
    }

    /// The same, within what is left for this and other templates, which gets less by what was used.
    ///
    /// # Errors
    /// As [`Self::render`]; also if the template exceeds the allowance.
    pub fn render_within(
        &self,
        allowance: &mut Allowance,
        data: &serde_json::Value,
        settings: &Settings,
    ) -> Result<String, Error> {
        let budget = limits::Budget::new(allowance.within(self.limits));
        let answer = self.render_with(&budget, data, settings);
        allowance.take(&budget, answer.as_ref().map_or(0, String::len));
        answer
    }

    fn render_with(
        &self,
        budget: &limits::Budget,
        data: &serde_json::Value,
        settings: &Settings,
    ) -> Result<String, Error> {
        execute::render(&self.name, &self.templates, budget, data, settings).map_err(|failure| {
            let template = self.name.to_string();
            let (line, message) = (failure.line.unwrap_or(1), shorten(failure.message));
            if failure.is_limit {
                Error::Limit {
                    template,
                    line,
                    message,
                }
            } else {
                Error::Render {
                    template,
                    line,
                    message,
                }
            }
        })
    }
}

/// Messages quote what they are about, which can be long; they end up in conditions and Events.
fn shorten(message: String) -> String {
    const MOST: usize = 500;
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message,
    }
}
