//! What comes out of an evaluation: perhaps a refusal, and what was recorded on the way.

use std::fmt::{self, Display};

use api::capsule::v1beta2::Tenant;
use kube_core::ResourceExt;

use crate::{
    audit::{ANNOTATION, Audited, Limit},
    denial::Denial,
};

/// On a Tenant: `audit` records what the tenant's rules would refuse instead of refusing it.
pub const MODE_ANNOTATION: &str = "cotenant.dev/rule-mode";

/// More records than these of one request tell nobody anything new, and a request may hold thousands of values.
const MAX_AUDITS: usize = 32;
/// Characters of a tenant's value, or of a rule's pattern, that a sentence repeats.
const MAX_QUOTED: usize = 128;

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The request is refused.
    #[default]
    Enforce,
    /// The refusal is recorded, and the request passes.
    Audit,
}

impl Mode {
    /// As the tenant's annotations say: [`MODE_ANNOTATION`], where anything but `audit` enforces, or that of all limits.
    pub fn of(tenant: &Tenant) -> Self {
        let said = tenant.annotations().get(MODE_ANNOTATION);
        if said.is_some_and(|mode| mode == "audit") || Audited::of(tenant).contains(Limit::Rules) {
            Self::Audit
        } else {
            Self::Enforce
        }
    }
}

/// Something that passed and is worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// What was looked at, such as `ingress hostname`.
    pub set: &'static str,
    /// Path of the value.
    pub field: String,
    /// One sentence for people.
    pub message: String,
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why the request is refused, if it is.
    pub refusal: Option<Denial>,
    /// What is to be recorded, in the order in which it was found.
    pub audits: Vec<Audit>,
    /// How many more records there would have been.
    pub more_audits: usize,
}

impl Outcome {
    /// Whether the request passes.
    pub fn is_allowed(&self) -> bool {
        self.refusal.is_none()
    }
}

/// A kind of value that rules are about.
#[derive(Debug)]
pub(super) struct Set {
    /// What one value is called in sentences.
    pub(super) name: &'static str,
    /// What the allowed ones are called.
    pub(super) allowed: &'static str,
    /// Reason of a refusal.
    pub(super) reason: &'static str,
}

/// What is being looked at.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) set: &'static Set,
    /// The value as it was written.
    pub(super) value: &'a str,
    /// Where it stands, as sentences say it.
    pub(super) place: &'a dyn Display,
    /// Where it stands, as a field path.
    pub(super) field: &'a dyn Display,
}

impl<'a> Subject<'a> {
    /// A value whose place is a field path.
    pub(super) fn at(set: &'static Set, value: &'a str, field: &'a dyn Display) -> Self {
        Self {
            set,
            value,
            place: field,
            field,
        }
    }
}

impl Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.set.name, quoted(self.value), self.place)
    }
}

/// Collects what an evaluation finds.
#[derive(Debug)]
pub(super) struct Findings {
    mode: Mode,
    outcome: Outcome,
}

impl Findings {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            outcome: Outcome::default(),
        }
    }

    /// Records what an audit rule matched. The sentence is made only if there is room for it.
    pub(super) fn audit(&mut self, subject: &Subject<'_>, sentence: impl FnOnce() -> String) {
        if self.outcome.audits.len() >= MAX_AUDITS {
            self.outcome.more_audits += 1;
            return;
        }
        self.outcome.audits.push(Audit {
            set: subject.set.name,
            field: subject.field.to_string(),
            message: sentence(),
        });
    }

    /// Refuses, or records that it would be refused.
    pub(super) fn refuse(&mut self, subject: &Subject<'_>, message: String) -> Result<(), Denial> {
        self.refuse_because(subject, subject.set.reason, message)
    }

    /// As [`Self::refuse`], with a reason other than that of the set.
    pub(super) fn refuse_because(
        &mut self,
        subject: &Subject<'_>,
        reason: &'static str,
        message: String,
    ) -> Result<(), Denial> {
        match self.mode {
            Mode::Enforce => Err(Denial::new(subject.field.to_string(), reason, message)),
            Mode::Audit => {
                self.audit(subject, || {
                    format!(
                        "{message}; it passes because the Tenant has {MODE_ANNOTATION}=audit, or rules in {ANNOTATION}"
                    )
                });
                Ok(())
            }
        }
    }

    pub(super) fn into_outcome(mut self, result: Result<(), Denial>) -> Outcome {
        self.outcome.refusal = result.err();
        self.outcome
    }
}

/// A text in quotes, shortened for a sentence.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().nth(MAX_QUOTED).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(MAX_QUOTED).collect();
    format!("{start:?}…")
}
