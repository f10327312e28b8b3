//! What a status says about one condition.

/// The content of a condition; when it became so is for whoever publishes it to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The type of the condition.
    pub condition: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Verdict {
    /// A condition that holds.
    pub fn yes(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            condition,
            holds: true,
            reason,
            message: message.into(),
        }
    }

    /// A condition that does not hold.
    pub fn no(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            ..Self::yes(condition, reason, message)
        }
    }
}
