//! Long work, shown: bars for a person at a terminal, a plain line per step for a log, JSON lines for a program.

use std::{
    collections::HashMap,
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use local::progress::{Outcome, Progress};
use serde_json::json;

/// The form that suits where the output goes.
pub(crate) fn choose(json: bool) -> Box<dyn Progress> {
    if json {
        Box::new(Json::default())
    } else if stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines::default())
    }
}

/// When each running step began.
#[derive(Default)]
struct Begun(Mutex<HashMap<String, Instant>>);

impl Begun {
    fn begin(&self, step: &str) {
        self.lock().insert(step.to_owned(), Instant::now());
    }

    fn end(&self, step: &str) -> Duration {
        self.lock().remove(step).map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Kept => "present",
        Outcome::Failed => "failed",
    }
}

/// A spinner a step, with elapsed and expected time.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn begin(&self, step: &str, expected: Option<Duration>) {
        let template = match expected {
            Some(expected) => {
                format!(
                    "{{spinner}} {{prefix:44}} {{elapsed:>4}} of about {:>4}  {{wide_msg}}",
                    seconds(expected)
                )
            }
            None => "{spinner} {prefix:44} {elapsed:>4}                {wide_msg}".to_owned(),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.all.add(
            ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(step.to_owned()),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        self.lock().insert(step.to_owned(), bar);
    }

    fn note(&self, step: &str, text: &str) {
        if let Some(bar) = self.lock().get(step) {
            bar.set_message(text.to_owned());
        }
    }

    fn end(&self, step: &str, outcome: Outcome) {
        let Some(bar) = self.lock().remove(step) else { return };
        let elapsed = bar.elapsed();
        bar.finish_and_clear();
        let sign = if matches!(outcome, Outcome::Failed) {
            "✗"
        } else {
            "✓"
        };
        // A closed terminal is no reason to stop the work.
        let _ = self
            .all
            .println(format!("{sign} {step:44} {:>6}  {}", seconds(elapsed), word(outcome)));
    }
}

/// A line when a step ends, and one when a long one begins.
#[derive(Default)]
struct Lines(Begun);

impl Progress for Lines {
    fn begin(&self, step: &str, expected: Option<Duration>) {
        self.0.begin(step);
        if let Some(expected) = expected.filter(|expected| *expected >= Duration::from_secs(5)) {
            eprintln!("{step} ... (about {})", seconds(expected));
        }
    }

    fn note(&self, _step: &str, _text: &str) {}

    fn end(&self, step: &str, outcome: Outcome) {
        eprintln!("{step}: {} ({})", word(outcome), seconds(self.0.end(step)));
    }
}

/// One JSON object a line on standard output: `{"event", "step", …}`.
#[derive(Default)]
struct Json(Begun);

impl Progress for Json {
    fn begin(&self, step: &str, expected: Option<Duration>) {
        self.0.begin(step);
        println!(
            "{}",
            json!({"event": "begin", "step": step, "expected_seconds": expected.map(|e| e.as_secs_f64())})
        );
    }

    fn note(&self, step: &str, text: &str) {
        println!("{}", json!({"event": "note", "step": step, "text": text}));
    }

    fn end(&self, step: &str, outcome: Outcome) {
        println!(
            "{}",
            json!({"event": "end", "step": step, "outcome": word(outcome), "seconds": self.0.end(step).as_secs_f64()})
        );
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
