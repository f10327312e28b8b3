//! Which replica runs the controllers: leader election by `coordination.k8s.io` Leases, in the manner of client-go, so
//! that the Leases can be shared with programs that use it.
//!
//! Several Leases may be needed at once: a release that stands in for a peer holds that peer's Lease too, so that a
//! forgotten peer cannot write beside it. They are taken in the given order and one after the other, which keeps two
//! of our own replicas from each holding half.
//!
//! Other machines' clocks are not trusted: a Lease counts as abandoned when it has not changed for its duration by our
//! own clock. Every write names the resource version it is based on, so of two that try, one wins. A leader that
//! cannot renew within the deadline, which is shorter than the duration, has lost, and its process must end: nothing
//! else stops what is under way for certain.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::report;
use crate::shutdown::Shutdown;

/// Which Leases, and how patiently.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of names without one.
    pub namespace: String,
    /// `name` or `namespace/name`, in the order in which they are taken.
    pub names: Vec<String>,
    /// Who we are. Never the same in two processes.
    pub identity: String,
    /// How long a Lease that is not renewed stays ours in the eyes of others.
    pub duration: Duration,
    /// How long we go on leading without a successful renewal. Shorter than the duration.
    pub renew_deadline: Duration,
    /// Between tries, and between renewals.
    pub retry: Duration,
}

impl Config {
    /// client-go's times: 15 s, 10 s, 2 s.
    pub fn new(namespace: impl Into<String>, names: &[&str], identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// The pod's name and something that tells this run of it from the one before, which may still be listed as holder.
pub fn identity(pod_name: &str) -> String {
    format!("{pod_name}_{}", uuid::Uuid::new_v4())
}

/// Held Leases. They are renewed by a task until [`Leader::release`] or the loss.
#[derive(Debug)]
pub struct Leader {
    lost: Shutdown,
    stop: Shutdown,
    renewing: JoinHandle<Vec<Held>>,
}

impl Leader {
    /// Waits until all Leases are ours. `None` if the shutdown came first; what was taken until then is given back.
    pub async fn acquire(client: &Client, config: Config, shutdown: &Shutdown) -> Option<Self> {
        let mut held: Vec<Held> = config
            .names
            .iter()
            .map(|name| Held::new(client, &config, name))
            .collect();
        tracing::info!(leases = ?config.names, identity = config.identity, "waiting for leadership");
        loop {
            let mut all = true;
            for lease in &mut held {
                if !lease.step(&config).await {
                    all = false;
                    break;
                }
            }
            if all {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(config.retry) => {}
                () = shutdown.cancelled() => {
                    give_back(held, &config).await;
                    return None;
                }
            }
        }
        tracing::info!(leases = ?config.names, identity = config.identity, "became leader");
        let (lost, stop) = (Shutdown::new(), Shutdown::new());
        let renewing = tokio::spawn(renew(held, config, lost.clone(), stop.clone()));
        Some(Self { lost, stop, renewing })
    }

    /// Triggered when leadership is lost. Controllers stop with it (give it to them), and the process must then end
    /// with an error: somebody else leads.
    pub fn lost(&self) -> &Shutdown {
        &self.lost
    }

    /// Gives the Leases back, so that the next one need not wait them out. Only after the controllers have stopped.
    pub async fn release(self) {
        self.stop.trigger();
        // The task gives the Leases back and ends; it cannot fail but by a panic, and then they expire by themselves.
        let _ = self.renewing.await;
    }
}

async fn renew(mut held: Vec<Held>, config: Config, lost: Shutdown, stop: Shutdown) -> Vec<Held> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(config.retry) => {}
            () = stop.cancelled() => {
                give_back(held, &config).await;
                return Vec::new();
            }
        }
        for lease in &mut held {
            let ours = tokio::time::timeout(config.retry.max(config.renew_deadline / 2), lease.step(&config)).await;
            let lease_lost = match ours {
                Ok(true) => false,
                // Somebody else's name is in it.
                Ok(false) if lease.taken_by_other(&config.identity) => true,
                Ok(false) | Err(_) => lease
                    .renewed
                    .is_none_or(|renewed| renewed.elapsed() >= config.renew_deadline),
            };
            if lease_lost {
                tracing::error!(lease = lease.name, identity = config.identity, "lost leadership");
                lost.trigger();
                return held;
            }
        }
    }
}

async fn give_back(held: Vec<Held>, config: &Config) {
    for mut lease in held.into_iter().rev() {
        lease.release(config).await;
    }
}

/// One Lease as we last saw it.
#[derive(Debug)]
struct Held {
    api: Api<Lease>,
    name: String,
    /// `None`: unknown or absent, to be read.
    last: Option<Lease>,
    /// When `last` was first seen like that.
    seen: Instant,
    /// When we last wrote our name into it. `None`: it is not ours.
    renewed: Option<Instant>,
}

impl Held {
    fn new(client: &Client, config: &Config, name: &str) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or((&config.namespace, name));
        Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            last: None,
            seen: Instant::now(),
            renewed: None,
        }
    }

    fn taken_by_other(&self, identity: &str) -> bool {
        self.last
            .as_ref()
            .and_then(holder)
            .is_some_and(|holder| holder != identity)
    }

    /// Tries to take or renew; whether the Lease is ours afterwards. Failures are logged, the caller tries again.
    async fn step(&mut self, config: &Config) -> bool {
        match self.try_step(config).await {
            Ok(ours) => ours,
            Err(error) => {
                // Our picture of it is out of date or the API server is away; read it anew next time.
                let (lease, conflict) = (&self.name, report::is_conflict(&error));
                if !conflict {
                    tracing::warn!(lease, error = report::chain(&error), "failed to write the Lease");
                }
                if let (true, Ok(Some(fresh))) = (conflict, self.api.get_opt(lease).await) {
                    self.observe(fresh);
                }
                false
            }
        }
    }

    async fn try_step(&mut self, config: &Config) -> Result<bool, kube::Error> {
        let ours = self.last.as_ref().and_then(holder) == Some(&config.identity);
        if !ours {
            match self.api.get_opt(&self.name).await? {
                Some(fresh) => self.observe(fresh),
                None => self.last = None,
            }
        }
        let now = Timestamp::now();
        match decide(
            self.last.as_ref().map(|lease| (lease, self.seen.elapsed())),
            &config.identity,
        ) {
            Decision::Wait => {
                self.renewed = None;
                return Ok(false);
            }
            Decision::Create => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(ours_from(None, config, now)),
                };
                self.last = Some(self.api.create(&PostParams::default(), &lease).await?);
            }
            Decision::Take | Decision::Renew => {
                let mut lease = self.last.clone().expect("decided on a Lease");
                lease.spec = Some(ours_from(lease.spec, config, now));
                lease.metadata.managed_fields = None;
                self.last = Some(self.api.replace(&self.name, &PostParams::default(), &lease).await?);
            }
        }
        (self.seen, self.renewed) = (Instant::now(), Some(Instant::now()));
        Ok(true)
    }

    fn observe(&mut self, fresh: Lease) {
        let same = self
            .last
            .as_ref()
            .is_some_and(|last| last.metadata.resource_version == fresh.metadata.resource_version);
        if !same {
            self.seen = Instant::now();
        }
        self.last = Some(fresh);
    }

    async fn release(&mut self, config: &Config) {
        let Some(mut lease) = self.last.take().filter(|lease| holder(lease) == Some(&config.identity)) else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        lease.metadata.managed_fields = None;
        let parameters = PostParams::default();
        let released = self.api.replace(&self.name, &parameters, &lease);
        if let Ok(Err(error)) = tokio::time::timeout(config.retry, released).await {
            tracing::warn!(
                lease = self.name,
                error = report::chain(&error),
                "failed to give the Lease back"
            );
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Take,
    Renew,
    Wait,
}

/// `lease` with the time since it last changed under our eyes; `None` when it does not exist.
fn decide(lease: Option<(&Lease, Duration)>, identity: &str) -> Decision {
    let Some((lease, unchanged)) = lease else {
        return Decision::Create;
    };
    let Some(holder) = holder(lease) else {
        return Decision::Take;
    };
    if holder == identity {
        return Decision::Renew;
    }
    let duration = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_duration_seconds)
        .unwrap_or(0);
    let duration = Duration::from_secs(u64::try_from(duration).unwrap_or(0));
    if unchanged >= duration {
        Decision::Take
    } else {
        Decision::Wait
    }
}

fn ours_from(previous: Option<LeaseSpec>, config: &Config, now: Timestamp) -> LeaseSpec {
    let mut spec = previous.unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(&config.identity) {
        spec.acquire_time = Some(MicroTime(now));
        // client-go counts the first holder as no transition.
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        spec.holder_identity = Some(config.identity.clone());
    }
    spec.lease_duration_seconds = Some(i32::try_from(config.duration.as_secs().max(1)).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    #[test]
    fn what_to_do_with_a_lease() {
        let second = Duration::from_secs;
        assert_eq!(decide(None, "me"), Decision::Create);
        assert_eq!(decide(Some((&held_by(None), second(0))), "me"), Decision::Take);
        assert_eq!(
            decide(Some((&held_by(Some("")), second(0))), "me"),
            Decision::Take,
            "given back"
        );
        assert_eq!(decide(Some((&held_by(Some("me")), second(99))), "me"), Decision::Renew);
        assert_eq!(decide(Some((&held_by(Some("you")), second(14))), "me"), Decision::Wait);
        assert_eq!(decide(Some((&held_by(Some("you")), second(15))), "me"), Decision::Take);
        assert_eq!(decide(Some((&Lease::default(), second(0))), "me"), Decision::Take);
    }

    #[test]
    fn transitions_count_changes_of_the_holder_only() {
        let config = Config::new("ns", &["a"], "me");
        let now: Timestamp = "2026-11-05T12:00:00Z".parse().unwrap();
        assert_eq!(ours_from(None, &config, now).lease_transitions, Some(0));
        let taken = ours_from(held_by(Some("you")).spec, &config, now);
        assert_eq!(
            (taken.lease_transitions, taken.acquire_time.clone()),
            (Some(4), Some(MicroTime(now)))
        );
        let later: Timestamp = "2026-11-05T12:00:02Z".parse().unwrap();
        let renewed = ours_from(Some(taken), &config, later);
        assert_eq!(renewed.lease_transitions, Some(4));
        assert_eq!(renewed.acquire_time, Some(MicroTime(now)));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    }
}
