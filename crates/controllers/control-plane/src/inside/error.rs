use runtime::Report;
use runtime::events::shortened;
use runtime::report::{chain, is_transient_kube};
use tenancy::denial::Denial;

use super::object::Reference;

/// Most bytes of what a tenant's API server says that are handed on.
pub(crate) const MOST_SAID: usize = 1024;

/// An input that admission should have refused.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error("failed to make the kubelets' configuration")]
    KubeletPatch(#[source] Denial),
}

/// What was tried with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Read,
    Apply,
    Remove,
}

/// One object that could not be brought to what it should be.
#[derive(Debug)]
pub struct Failure {
    pub step: Step,
    pub object: Reference,
    pub source: kube::Error,
}

/// A pass that failed for some objects. All others were still looked at.
#[derive(Debug)]
pub struct Error {
    /// Never empty.
    pub failures: Vec<Failure>,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            let verb = match failure.step {
                Step::Read => "read",
                Step::Apply => "apply",
                Step::Remove => "remove",
            };
            // A tenant's API server says as much as it likes.
            let said = shortened(&chain(&failure.source), MOST_SAID);
            match index {
                0 => write!(f, "failed to {verb} the tenant's {}: {said}", failure.object)?,
                1..3 => write!(f, "; to {verb} {}: {said}", failure.object)?,
                _ => return write!(f, "; and {} more", self.failures.len() - index),
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self.failures.first().map(|failure| failure.step) {
            Some(Step::Read) | None => "TenantRead",
            Some(Step::Apply) => "TenantApply",
            Some(Step::Remove) => "TenantRemove",
        }
    }

    fn is_transient(&self) -> bool {
        self.failures.iter().any(|failure| is_transient_kube(&failure.source))
    }
}
