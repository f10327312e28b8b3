//! Why a template was refused.

/// Where and why a template was refused. Messages quote the template and, where Go's do, values of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no template: found before any data is looked at.
    #[error("template {template:?}, line {line}: {message}")]
    Parse {
        /// Name given to [`crate::Template::parse`].
        template: String,
        /// Line of the text, from one.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template does not fit the data.
    #[error("template {template:?}, line {line}: {message}")]
    Render {
        /// Name given to [`crate::Template::parse`].
        template: String,
        /// Line of the action that failed, from one.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template asks for more than the [`crate::Limits`] grant.
    #[error("template {template:?}, line {line}: {message}")]
    Limit {
        /// Name given to [`crate::Template::parse`].
        template: String,
        /// Line of the action that went too far, from one.
        line: usize,
        /// Which limit.
        message: String,
    },
}

/// A failure inside of an action, before it is known where that action stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) is_limit: bool,
    /// Line of the innermost action.
    pub(crate) line: Option<usize>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_limit: false,
            line: None,
        }
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self {
            is_limit: true,
            ..Self::new(message)
        }
    }

    pub(crate) fn at(self, line: usize) -> Self {
        Self {
            line: self.line.or(Some(line)),
            ..self
        }
    }

    pub(crate) fn in_call(self, function: &str) -> Self {
        if self.is_limit {
            return self;
        }
        Self {
            message: format!("{function}: {}", self.message),
            ..self
        }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}
