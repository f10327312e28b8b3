//! What became of the attacks.

use std::collections::{BTreeMap, BTreeSet};

use runtime::metrics::Registry;
use serde_json::Value;

use super::request::Refusal;
use super::scene::Actor;

/// What became of one request.
#[derive(Debug)]
pub enum Outcome {
    /// Refused by what is there for it: its name.
    Guarded(&'static str),
    /// Refused by the API server, which knows of no such request or takes no such object.
    Impossible,
    /// Taken, and nothing that matters is different.
    Harmless,
    /// Refused by somebody else.
    Elsewhere(String),
    /// It got through.
    Done(String),
}

impl Outcome {
    pub fn of(answer: Result<Value, Refusal>, guards: &[&'static str]) -> Self {
        let Err((code, message)) = answer else {
            return Self::Harmless;
        };
        match guards.iter().find(|guard| message.contains(**guard)) {
            Some(guard) => Self::Guarded(guard),
            None if matches!(code, 400 | 404 | 405 | 415 | 422) => Self::Impossible,
            None => Self::Elsewhere(format!("{code} {message}")),
        }
    }
}

#[derive(Default)]
struct Counts {
    guarded: usize,
    impossible: usize,
    harmless: usize,
    twins: usize,
    impossible_twins: usize,
}

/// Counts by intent, and everything that should not be.
#[derive(Default)]
pub struct Report {
    counts: BTreeMap<&'static str, Counts>,
    held: BTreeSet<(&'static str, Actor)>,
    by_guard: BTreeMap<&'static str, usize>,
    faults: Vec<String>,
}

impl Report {
    pub fn add(&mut self, intent: &'static str, actor: Actor, case: &str, outcome: Outcome) {
        let counts = self.counts.entry(intent).or_default();
        match outcome {
            Outcome::Guarded(guard) => {
                counts.guarded += 1;
                self.held.insert((intent, actor));
                *self.by_guard.entry(guard).or_default() += 1;
            }
            Outcome::Impossible => counts.impossible += 1,
            Outcome::Harmless => counts.harmless += 1,
            Outcome::Elsewhere(said) => self
                .faults
                .push(format!("{intent}: {actor:?} by {case} refused elsewhere: {said}")),
            Outcome::Done(said) => self
                .faults
                .push(format!("{intent}: {actor:?} by {case} got through: {said}")),
        }
    }

    pub fn add_twin(&mut self, intent: &'static str, case: &str, answer: Result<Value, Refusal>) {
        let counts = self.counts.entry(intent).or_default();
        match answer {
            Ok(_) => counts.twins += 1,
            // The API server takes no such request from anybody.
            Err((404 | 405 | 415, _)) => counts.impossible_twins += 1,
            Err((code, message)) => self.faults.push(format!("{intent}: lawful {case}: {code} {message}")),
        }
    }

    /// An intent is over: its guard has shown itself to everybody.
    pub fn close(&mut self, intent: &'static str, actors: &[Actor]) {
        for actor in actors {
            if !self.held.contains(&(intent, *actor)) {
                self.faults.push(format!("{intent}: nothing refused {actor:?}"));
            }
        }
        if self.counts.get(intent).is_none_or(|counts| counts.twins == 0) {
            self.faults.push(format!("{intent}: no lawful twin"));
        }
    }

    /// Prints the table, and fails if anything is wrong. Hooks have counted as many refusals as they are said to have made.
    pub fn conclude(mut self, registry: &Registry) {
        println!(
            "{:>8} {:>10} {:>8} {:>6}  attack",
            "guarded", "impossible", "harmless", "lawful"
        );
        for (intent, it) in &self.counts {
            println!(
                "{:>8} {:>10} {:>8} {:>6}  {intent}",
                it.guarded, it.impossible, it.harmless, it.twins
            );
        }
        let metrics = registry.encode();
        for (guard, seen) in &self.by_guard {
            println!("{seen:>8} by {guard}");
            let is_hook = guard.ends_with("validating") || guard.ends_with("mutating");
            if is_hook && denials(&metrics, guard) < *seen {
                self.faults
                    .push(format!("{guard} was called less often than it refused"));
            }
        }
        assert!(
            self.faults.is_empty(),
            "{} faults:\n{}",
            self.faults.len(),
            self.faults.join("\n")
        );
    }
}

/// How many requests the hook refused, by its own count.
fn denials(metrics: &str, guard: &str) -> usize {
    let start = format!("cotenant_webhooks_decisions_total{{rule=\"{guard}.projectcapsule.dev\",outcome=\"Denied\"}} ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&start));
    found.map_or(0, |count| count.parse().unwrap())
}
