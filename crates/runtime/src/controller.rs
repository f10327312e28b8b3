//! The runner of controllers: a queue of keys and a bounded number of reconciliations at a time.
//!
//! Level-based: a key says only which object to look at. A key that is queued twice runs once; one that is triggered
//! while it runs runs again afterwards, never twice at a time. Failures of a key back off by themselves and do not
//! hold up others. What is next, and when, is decided in [`Schedule`], which knows no clock and no tasks.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::metrics::Registry;
use crate::report::{self, Report};
use crate::shutdown::Shutdown;

/// What identifies the thing to reconcile: a name, a namespace and name.
pub trait Key: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static {}
impl<T: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static> Key for T {}

/// When a key that was reconciled is looked at again without being triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// At the resync, if the controller has one.
    AwaitChange,
    /// After this long.
    RequeueAfter(Duration),
}

impl Action {
    /// The earlier of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::RequeueAfter(one), Self::RequeueAfter(another)) => Self::RequeueAfter(one.min(another)),
            (Self::AwaitChange, action) | (action, Self::AwaitChange) => action,
        }
    }
}

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_mins(1);
/// How soon a failure that only a change can cure is looked at all the same, in case the change went unseen.
const PERMANENT_BACKOFF: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Entry {
    /// `None`: nothing to do until triggered.
    due: Option<Instant>,
    running: bool,
    /// Failures in a row.
    failures: u32,
}

/// Which key runs next, and when.
#[derive(Debug)]
struct Schedule<K> {
    entries: HashMap<K, Entry>,
    /// The due times of keys that are not running.
    waiting: BTreeSet<(Instant, K)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well(Action),
    Transiently,
    Permanently,
}

impl<K: Key> Schedule<K> {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// Makes the key due at `at`, or leaves it if it is due earlier.
    fn add(&mut self, key: K, at: Instant) {
        let entry = self.entries.entry(key.clone()).or_insert(Entry {
            due: None,
            running: false,
            failures: 0,
        });
        if entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(previous) = entry.due.replace(at)
            && !entry.running
        {
            self.waiting.remove(&(previous, key.clone()));
        }
        if !entry.running {
            self.waiting.insert((at, key));
        }
    }

    /// The next key that is due; from now on it counts as running.
    fn next(&mut self, now: Instant) -> Option<K> {
        if self.waiting.first()?.0 > now {
            return None;
        }
        let (_, key) = self.waiting.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.due = None;
        entry.running = true;
        Some(key)
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// `jitter` in 0..=255 spreads retries over the last quarter of their delay. Keys that have nothing further to do
    /// are forgotten.
    fn ended(&mut self, key: K, how: Ended, now: Instant, resync: Option<Duration>, jitter: u8) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.running = false;
        let next = match how {
            Ended::Well(action) => {
                entry.failures = 0;
                match action {
                    Action::AwaitChange => resync,
                    Action::RequeueAfter(delay) => Some(delay),
                }
            }
            Ended::Transiently => {
                entry.failures = entry.failures.saturating_add(1);
                Some(backoff(entry.failures, jitter))
            }
            Ended::Permanently => {
                entry.failures = entry.failures.saturating_add(1);
                Some(PERMANENT_BACKOFF)
            }
        };
        let triggered = entry.due.take();
        let due = match (triggered, next.map(|delay| now + delay)) {
            // Triggered while it ran, and failing: the trigger may be of our own making, so do not run at once for ever.
            (Some(trigger), Some(retry)) if how == Ended::Transiently => Some(trigger.max(retry)),
            (Some(trigger), Some(later)) => Some(trigger.min(later)),
            (one, other) => one.or(other),
        };
        match due {
            Some(at) => {
                entry.due = Some(at);
                self.waiting.insert((at, key));
            }
            None => {
                self.entries.remove(&key);
            }
        }
    }

    fn due_count(&self, now: Instant) -> usize {
        self.waiting.iter().take_while(|(at, _)| *at <= now).count()
    }
}

fn backoff(failures: u32, jitter: u8) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let delay = doubled.min(LAST_BACKOFF);
    delay.saturating_sub(delay / 4 * u32::from(jitter) / 255)
}

/// Where triggers are put. Cheap to clone; usable from anywhere, also before the controller runs.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    schedule: Mutex<Schedule<K>>,
    changed: Notify,
    debounce: Duration,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<K> Debug for Queue<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<K: Key> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> Queue<K> {
    /// A queue that waits 20 ms after a trigger for others to join it: a tenant's objects rarely change one at a time.
    pub fn new() -> Self {
        Self::with_debounce(Duration::from_millis(20))
    }

    pub fn with_debounce(debounce: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                schedule: Mutex::new(Schedule::new()),
                changed: Notify::new(),
                debounce,
            }),
        }
    }

    pub fn enqueue(&self, key: K) {
        self.enqueue_after(key, self.inner.debounce);
    }

    pub fn enqueue_after(&self, key: K, delay: Duration) {
        self.with_schedule(|schedule| schedule.add(key, Instant::now() + delay));
        self.inner.changed.notify_one();
    }

    fn with_schedule<T>(&self, act: impl FnOnce(&mut Schedule<K>) -> T) -> T {
        act(&mut self.inner.schedule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabel {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    controller: &'static str,
    category: &'static str,
}

/// The metrics of all controllers of a process. Register once, hand clones to the controllers.
#[derive(Clone, Debug)]
pub struct Metrics {
    runs: Family<ControllerLabel, Counter>,
    failures: Family<FailureLabels, Counter>,
    duration: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    depth: Family<ControllerLabel, Gauge>,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self {
            runs: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
            }),
            depth: Family::default(),
        };
        let prefix = "cotenant_operator_controller";
        registry.register(
            &format!("{prefix}_runs"),
            "Reconciliations ended.",
            metrics.runs.clone(),
        );
        registry.register(
            &format!("{prefix}_failures"),
            "Reconciliations failed, by category.",
            metrics.failures.clone(),
        );
        registry.register(
            &format!("{prefix}_duration_seconds"),
            "How long reconciliations took.",
            metrics.duration.clone(),
        );
        registry.register(
            &format!("{prefix}_queue_depth"),
            "Keys that are due and wait.",
            metrics.depth.clone(),
        );
        metrics
    }
}

/// How a controller is run.
#[derive(Clone, Debug)]
pub struct Controller {
    /// In logs and metrics: `tenant`, `control-plane`.
    pub name: &'static str,
    /// Reconciliations at a time.
    pub concurrency: usize,
    /// How often a key that needs nothing is looked at anyway. `None`: never; watches are trusted.
    pub resync: Option<Duration>,
    pub metrics: Metrics,
    /// How long running reconciliations may go on after the shutdown before they are dropped.
    pub grace: Duration,
}

impl Controller {
    pub fn new(name: &'static str, metrics: &Metrics) -> Self {
        Self {
            name,
            concurrency: 4,
            resync: Some(Duration::from_hours(10)),
            metrics: metrics.clone(),
            grace: Duration::from_secs(10),
        }
    }

    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    #[must_use]
    pub fn resync(mut self, resync: Option<Duration>) -> Self {
        self.resync = resync;
        self
    }

    /// Reconciles what the queue gives until the shutdown; then begins nothing new, waits for what runs, and returns.
    ///
    /// A failed reconciliation is logged once here, counted by category, and retried: soon and ever slower when it is
    /// transient, after five minutes or a trigger when it is not. A panic counts as the latter.
    pub async fn run<K, F, E>(
        self,
        queue: Queue<K>,
        shutdown: Shutdown,
        reconcile: impl Fn(K) -> F + Send + Sync + 'static,
    ) where
        K: Key,
        F: Future<Output = Result<Action, E>> + Send + 'static,
        E: Report,
    {
        let label = ControllerLabel { controller: self.name };
        let (runs, duration, depth) = (
            self.metrics.runs.get_or_create_owned(&label),
            self.metrics.duration.get_or_create_owned(&label),
            self.metrics.depth.get_or_create_owned(&label),
        );
        let mut running: JoinSet<(Ended, Duration)> = JoinSet::new();
        let mut keys: HashMap<tokio::task::Id, K> = HashMap::new();
        while !shutdown.is_triggered() {
            let now = Instant::now();
            while running.len() < self.concurrency
                && let Some(key) = queue.with_schedule(|schedule| schedule.next(now))
            {
                let (name, failures, work) = (self.name, self.metrics.failures.clone(), reconcile(key.clone()));
                let logged = key.clone();
                let task = running.spawn(async move {
                    let started = Instant::now();
                    let ended = match work.await {
                        Ok(action) => Ended::Well(action),
                        Err(error) => {
                            let category = error.category();
                            failures
                                .get_or_create(&FailureLabels {
                                    controller: name,
                                    category,
                                })
                                .inc();
                            let (transient, text) = (error.is_transient(), report::chain(&error));
                            tracing::warn!(controller = name, object.r#ref = ?logged, category, transient, error = text,
                                "failed to reconcile");
                            if transient {
                                Ended::Transiently
                            } else {
                                Ended::Permanently
                            }
                        }
                    };
                    (ended, started.elapsed())
                });
                keys.insert(task.id(), key);
            }
            let (next_due, waiting) =
                queue.with_schedule(|schedule| (schedule.next_due(), schedule.due_count(Instant::now())));
            depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            let has_room = running.len() < self.concurrency;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = queue.inner.changed.notified() => {}
                () = sleep_until(next_due), if has_room => {}
                Some(joined) = running.join_next_with_id() => {
                    let (id, ended) = match joined {
                        Ok((id, (ended, took))) => {
                            duration.observe(took.as_secs_f64());
                            (id, ended)
                        }
                        Err(error) => {
                            let labels = FailureLabels { controller: self.name, category: "Panicked" };
                            self.metrics.failures.get_or_create(&labels).inc();
                            tracing::error!(controller = self.name, object.r#ref = ?keys.get(&error.id()), "reconciliation panicked");
                            (error.id(), Ended::Permanently)
                        }
                    };
                    runs.inc();
                    if let Some(key) = keys.remove(&id) {
                        let (now, jitter) = (Instant::now(), jitter());
                        queue.with_schedule(|schedule| schedule.ended(key, ended, now, self.resync, jitter));
                    }
                }
            }
        }
        let finish = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, finish).await.is_err() {
            tracing::warn!(
                controller = self.name,
                "dropped reconciliations that did not end in time"
            );
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Not secret, only different from one retry to the next.
fn jitter() -> u8 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish().to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_that_is_triggered_many_times_runs_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.add("a", start + SECOND);
        schedule.add("a", start + 2 * SECOND);
        schedule.add("b", start + 3 * SECOND);
        schedule.add("b", start);
        assert_eq!(schedule.next_due(), Some(start));
        assert_eq!(schedule.next(start), Some("b"));
        assert_eq!(schedule.next(start), None, "a is not due yet");
        assert_eq!(schedule.next(start + SECOND), Some("a"));
        assert_eq!(schedule.next(start + 9 * SECOND), None);
    }

    #[test]
    fn a_key_that_is_triggered_while_it_runs_runs_again_and_not_beside_itself() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.add("a", start);
        assert_eq!(schedule.next(start), Some("a"));
        schedule.add("a", start);
        assert_eq!(schedule.next(start), None);
        schedule.ended("a", Ended::Well(Action::AwaitChange), start, None, 0);
        assert_eq!(schedule.next(start), Some("a"));
        schedule.ended("a", Ended::Well(Action::AwaitChange), start, None, 0);
        assert!(schedule.entries.is_empty(), "nothing is remembered of what is settled");
    }

    #[test]
    fn failures_back_off_up_to_a_minute_and_success_forgets_them() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        let mut fail = |expected: Duration| {
            schedule.add("a", start);
            assert_eq!(schedule.next(start), Some("a"));
            schedule.ended("a", Ended::Transiently, start, None, 0);
            assert_eq!(schedule.next_due(), Some(start + expected));
        };
        for millis in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000] {
            fail(Duration::from_millis(millis));
        }
        schedule.add("a", start);
        schedule.next(start);
        schedule.ended("a", Ended::Well(Action::AwaitChange), start, None, 0);
        schedule.add("a", start);
        schedule.next(start);
        schedule.ended("a", Ended::Transiently, start, None, 255);
        assert_eq!(
            schedule.next_due(),
            Some(start + Duration::from_millis(150)),
            "a quarter less at full jitter"
        );
    }

    #[test]
    fn a_key_that_fails_and_triggers_itself_still_backs_off() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.add("a", start);
        schedule.next(start);
        schedule.add("a", start);
        schedule.ended("a", Ended::Transiently, start, None, 0);
        assert_eq!(schedule.next_due(), Some(start + Duration::from_millis(200)));
    }

    #[test]
    fn the_resync_and_the_requeue_give_way_to_a_trigger() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.add("a", start);
        schedule.next(start);
        schedule.ended(
            "a",
            Ended::Well(Action::RequeueAfter(60 * SECOND)),
            start,
            Some(3600 * SECOND),
            0,
        );
        assert_eq!(schedule.next_due(), Some(start + 60 * SECOND));
        schedule.add("a", start + SECOND);
        assert_eq!(schedule.next_due(), Some(start + SECOND));
        schedule.next(start + SECOND);
        schedule.ended("a", Ended::Well(Action::AwaitChange), start, Some(3600 * SECOND), 0);
        assert_eq!(schedule.next_due(), Some(start + 3600 * SECOND));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed to do it")]
    struct Failure {
        transient: bool,
    }

    impl Report for Failure {
        fn category(&self) -> &'static str {
            "Test"
        }

        fn is_transient(&self) -> bool {
            self.transient
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_runner_keeps_within_its_concurrency_and_runs_every_key() {
        let registry = Registry::new();
        let controller = Controller::new("test", &Metrics::register(&registry))
            .concurrency(3)
            .resync(None);
        let (queue, shutdown) = (Queue::new(), Shutdown::new());
        let (now, most, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        for key in 0..20 {
            queue.enqueue(key);
            queue.enqueue(key);
        }
        let (stop, counts) = (shutdown.clone(), (now, most.clone(), done.clone()));
        controller
            .run(queue, shutdown, move |_key: i32| {
                let (now, most, done) = counts.clone();
                let stop = stop.clone();
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(SECOND).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    if done.fetch_add(1, Ordering::SeqCst) + 1 == 20 {
                        stop.trigger();
                    }
                    Ok::<_, Failure>(Action::AwaitChange)
                }
            })
            .await;
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert_eq!(done.load(Ordering::SeqCst), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn one_keys_failures_do_not_hold_up_another_and_are_counted() {
        let registry = Registry::new();
        let controller = Controller::new("test", &Metrics::register(&registry))
            .concurrency(1)
            .resync(None);
        let (queue, shutdown) = (Queue::new(), Shutdown::new());
        queue.enqueue("bad");
        queue.enqueue("worse");
        queue.enqueue("good");
        let (stop, bad) = (shutdown.clone(), Arc::new(AtomicUsize::new(0)));
        let tries = bad.clone();
        controller
            .run(queue, shutdown, move |key: &'static str| {
                let (stop, bad) = (stop.clone(), bad.clone());
                async move {
                    match key {
                        "bad" if bad.fetch_add(1, Ordering::SeqCst) + 1 == 4 => stop.trigger(),
                        "bad" => return Err(Failure { transient: true }),
                        "worse" => return Err(Failure { transient: false }),
                        _ => {}
                    }
                    Ok(Action::AwaitChange)
                }
            })
            .await;
        assert_eq!(tries.load(Ordering::SeqCst), 4);
        let text = registry.encode();
        assert!(
            text.contains("cotenant_operator_controller_failures_total{controller=\"test\",category=\"Test\"} 4\n"),
            "{text}"
        );
    }
}
