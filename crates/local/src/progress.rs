//! How long work tells how far it is, to whoever shows it: bars, plain lines, JSON, or nobody.
//!
//! Steps are named by their text, may run side by side, and end exactly once, also when they fail.

use std::time::Duration;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// There was nothing to do.
    Kept,
    /// It failed; the error tells why.
    Failed,
}

/// Who is told.
pub trait Progress: Send + Sync {
    /// A step begins; `expected` is what it took last time or elsewhere.
    fn begin(&self, step: &str, expected: Option<Duration>);
    /// What a running step is doing just now.
    fn note(&self, step: &str, text: &str);
    /// A step ended.
    fn end(&self, step: &str, outcome: Outcome);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str, _expected: Option<Duration>) {}
    fn note(&self, _step: &str, _text: &str) {}
    fn end(&self, _step: &str, _outcome: Outcome) {}
}

/// A line on standard error where a step that takes a while begins or fails. For tests, which have nobody watching but
/// may have to wait for a first build.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Progress for Lines {
    fn begin(&self, step: &str, expected: Option<Duration>) {
        match expected {
            Some(expected) if expected.as_secs() > 0 => eprintln!("{step} (about {} s)", expected.as_secs()),
            _ => eprintln!("{step}"),
        }
    }

    fn note(&self, step: &str, text: &str) {
        eprintln!("{step}: {text}");
    }

    fn end(&self, step: &str, outcome: Outcome) {
        if outcome == Outcome::Failed {
            eprintln!("{step}: failed");
        }
    }
}

/// Runs `work` as a step and tells how it ended.
pub fn step<T, E>(
    progress: &dyn Progress,
    name: &str,
    expected: Option<Duration>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    progress.begin(name, expected);
    let result = work();
    progress.end(name, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
    result
}
