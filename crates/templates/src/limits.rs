//! What one rendering may cost. The author of a template is not trusted: whatever it says, parsing and rendering end
//! soon, in bounded memory and on a bounded stack.

use std::cell::Cell;

use crate::error::Failure;

/// The bounds of one template, for parsing and for each rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of the template's text, in bytes.
    pub source_bytes: usize,
    /// Length of the rendered text, in bytes.
    pub output_bytes: usize,
    /// Bytes of all strings, lists and dicts that functions build during one rendering, whether still held or not.
    pub value_bytes: usize,
    /// Units of work: an action, an operand or a visited element is one, a byte that a function reads is a small part
    /// of one.
    pub steps: u64,
    /// Nesting of actions, parentheses, template calls and values. A level takes up to 5 KiB of stack without
    /// optimisation.
    pub depth: usize,
    /// Rounds of one `range`, and elements that `until` and its kin make at once.
    pub range_length: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes: 256 * 1024,
            output_bytes: 2 * 1024 * 1024,
            value_bytes: 16 * 1024 * 1024,
            steps: 1_000_000,
            depth: 100,
            range_length: 100_000,
        }
    }
}

/// What several renderings may cost together, beside the limits of each. What one took is gone, also if it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Units of work.
    pub steps: u64,
    /// Bytes of all values that functions build.
    pub value_bytes: usize,
    /// Bytes of all rendered texts.
    pub output_bytes: usize,
}

impl Allowance {
    pub(crate) fn within(&self, limits: Limits) -> Limits {
        Limits {
            steps: limits.steps.min(self.steps),
            value_bytes: limits.value_bytes.min(self.value_bytes),
            output_bytes: limits.output_bytes.min(self.output_bytes),
            ..limits
        }
    }

    pub(crate) fn take(&mut self, budget: &Budget, output_bytes: usize) {
        self.steps -= budget.limits.steps - budget.steps.get();
        self.value_bytes -= budget.limits.value_bytes - budget.value_bytes.get();
        self.output_bytes -= output_bytes;
    }
}

/// What is left of the limits during one rendering.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    steps: Cell<u64>,
    value_bytes: Cell<usize>,
}

/// Bytes that a function may read for one step.
const BYTES_A_STEP: usize = 64;

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            steps: Cell::new(limits.steps),
            value_bytes: Cell::new(limits.value_bytes),
        }
    }

    /// Takes steps; to be asked before the work is done.
    pub(crate) fn work(&self, steps: u64) -> Result<(), Failure> {
        match self.steps.get().checked_sub(steps) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err(Failure::limit(format!("takes more than {} steps", self.limits.steps))),
        }
    }

    /// Takes the steps of reading a text of this length.
    pub(crate) fn read(&self, bytes: usize) -> Result<(), Failure> {
        self.work(1 + (bytes / BYTES_A_STEP) as u64)
    }

    /// Takes memory, and the steps of filling it; to be asked before it is allocated.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<(), Failure> {
        self.read(bytes)?;
        match self.value_bytes.get().checked_sub(bytes) {
            Some(left) => {
                self.value_bytes.set(left);
                Ok(())
            }
            None => Err(Failure::limit(format!(
                "builds values of more than {} bytes",
                self.limits.value_bytes
            ))),
        }
    }

    pub(crate) fn check_output(&self, bytes: usize) -> Result<(), Failure> {
        if bytes > self.limits.output_bytes {
            return Err(Failure::limit(format!(
                "renders more than {} bytes",
                self.limits.output_bytes
            )));
        }
        Ok(())
    }

    pub(crate) fn check_length(&self, elements: usize) -> Result<(), Failure> {
        if elements > self.limits.range_length {
            return Err(Failure::limit(format!(
                "goes over {elements} elements; at most {} are allowed",
                self.limits.range_length
            )));
        }
        Ok(())
    }

    pub(crate) fn check_depth(&self, depth: usize) -> Result<(), Failure> {
        if depth > self.limits.depth {
            return Err(Failure::limit(format!("is nested deeper than {}", self.limits.depth)));
        }
        Ok(())
    }
}
