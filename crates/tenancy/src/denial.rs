//! What a decision says.
//!
//! A denial is written for the tenant who reads it: it names the field, says what is wrong with it, what would be
//! right, and who set the limit. Context for operators does not belong in it, because it crosses the wire.

use std::fmt;

use crate::audit::Limit;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Path of the field that is at fault, such as `spec.storageClassName`. Empty if it is the whole request.
    pub field: String,
    /// One CamelCase word for programs, events and metrics.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// The HTTP status: 403 when a rule says no, 400 when the request cannot be understood, 500 when the answer cannot
    /// be known.
    pub code: u16,
    /// The limit of the Tenant that says no, if it is one that can be audited. `None`: the refusal stands.
    pub limit: Option<Limit>,
}

impl Denial {
    /// A refusal by a rule, with status 403.
    pub fn new(field: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason,
            message: message.into(),
            code: 403,
            limit: None,
        }
    }

    /// The same refusal with another HTTP status.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// The same refusal, by a limit that can be audited.
    #[must_use]
    pub fn by(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Denial {}

/// What a rule says about an object of type `K`.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<K> {
    /// The request passes.
    Allow,
    /// The request passes, with sentences for its author.
    Warn(Vec<String>),
    /// The request passes with this object instead, and with sentences for its author.
    Change(Box<K>, Vec<String>),
    /// The request is refused.
    Deny(Denial),
}

impl<K> Decision<K> {
    /// The refusal, if it is one.
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Deny(denial) => Some(denial),
            _ => None,
        }
    }
}

impl<K> From<Result<(), Denial>> for Decision<K> {
    fn from(result: Result<(), Denial>) -> Self {
        result.map_or_else(Self::Deny, |()| Self::Allow)
    }
}

impl<K> From<Result<Option<K>, Denial>> for Decision<K> {
    fn from(result: Result<Option<K>, Denial>) -> Self {
        match result {
            Ok(None) => Self::Allow,
            Ok(Some(changed)) => Self::Change(Box::new(changed), Vec::new()),
            Err(denial) => Self::Deny(denial),
        }
    }
}

impl<K> From<Result<Vec<String>, Denial>> for Decision<K> {
    fn from(result: Result<Vec<String>, Denial>) -> Self {
        match result {
            Ok(warnings) if warnings.is_empty() => Self::Allow,
            Ok(warnings) => Self::Warn(warnings),
            Err(denial) => Self::Deny(denial),
        }
    }
}
