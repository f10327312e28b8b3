//! The ledgers of what tenants limit for all their namespaces together ([`tenancy::quota::tenant`]): what is used is counted
//! here, from what the ResourceQuotas in the namespaces report, and what was promised to requests goes when it has arrived.
//!
//! # What is counted
//! Kubernetes counts a ResourceQuota again from its own watches whenever its limits are written or something in the namespace
//! ends, and forgets an object for a while that is stored in that very moment. So a rise counts when it has [stood](Window)
//! for a second, and until then the promise stands for it; what falls counts at once. And limits are not written while uses
//! change, for a few seconds at most: the ledger keeps the sum, the limits only show what is left. Nor is the ledger, since
//! what is promised must pass the limit in its namespace as well. What was reported and
//! vanished within the second, or is promised for longer than requests usually take, makes Kubernetes count that namespace
//! again when things are quiet, long before the promise ends.
//!
//! # Two who count
//! Only the holder of the lease counts. A ledger is written with the version that was read, and on a conflict a count is
//! repeated only upon a ledger that nobody else has counted in: one that was held up for long does not put an older
//! count over a newer one. Its watch begins after its predecessor's last count, and does not go back.
//!
//! # Ends
//! A promise whose request never came ends when its time is past and a list from the API server shows the uses as they are
//! counted: a watch that has stopped lets nothing go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names::{self, FIELD_MANAGER};
use api::capsule::v1beta2::{QuantityLedger, QuantityLedgerStatus, Tenant};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Index, Queue, Shared};
use tenancy::quantity::Quantity;
use tenancy::quota::amounts::Amounts;
use tenancy::quota::global::Account;
use tenancy::quota::ledger::Reservation;
use tenancy::quota::tenant::{self, Budget};
use tenancy::quota::{credit, ledger, stored};
use tenancy::replicas;

use crate::Context;
use crate::apply::{Object, only};
use crate::desired::{Observed, Plan, resource_quota};
use crate::error::Error;
use crate::observe::Written;
use crate::owned::Kind;

/// How long a rise has to stand.
const SETTLED: Duration = Duration::from_secs(1);
/// The longest that limits are not written because uses change.
const BUSY: Duration = Duration::from_secs(5);
/// What was promised this long ago and is not counted is overdue: its request failed, or Kubernetes forgot it.
const OVERDUE: SignedDuration = SignedDuration::from_secs(3);
/// How often a namespace is counted again for that.
const RECOUNT: Duration = Duration::from_secs(60);
/// While a watch has not caught up, or somebody else writes.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Somebody else wrote the ledger first: that often it is read again within one look.
const ATTEMPTS: usize = 8;
const LEDGER: &str = "QuantityLedger";

/// What one ResourceQuota has reported over the last one or two seconds.
#[derive(Debug)]
struct Window {
    /// The least of the second before [`Self::began`].
    before: Amounts,
    /// The least since.
    since: Amounts,
    last: Amounts,
    began: Instant,
    changed: Option<Instant>,
    /// Whether Kubernetes may have forgotten something.
    is_suspect: bool,
    /// When it was made to count again.
    recounted: Option<Instant>,
}

impl Window {
    fn new(used: Amounts, now: Instant) -> Self {
        Self {
            before: used.clone(),
            since: used.clone(),
            last: used,
            began: now,
            changed: None,
            is_suspect: false,
            recounted: None,
        }
    }

    fn note(&mut self, used: Amounts, now: Instant) {
        // Something else is limited, or reported for the first time.
        if !(used.names_all_of(&self.last) && self.last.names_all_of(&used)) {
            *self = Self::new(used, now);
            return;
        }
        let age = now.duration_since(self.began);
        if age >= SETTLED {
            let is_long_ago = age >= 2 * SETTLED;
            let least = std::mem::replace(&mut self.since, self.last.clone());
            self.before = if is_long_ago { self.last.clone() } else { least };
            self.began = now;
        }
        if used != self.last {
            self.changed = Some(now);
            // More than had stood is less now.
            let stood = self.stood();
            let mut fallen = self.last.iter().filter(|(resource, last)| used.get(resource) < *last);
            self.is_suspect |= fallen.any(|(resource, last)| last > stood.get(resource));
        }
        self.since = self.since.least(&used);
        self.last = used;
    }

    /// What has stood.
    fn stood(&self) -> Amounts {
        self.before.least(&self.since)
    }

    fn is_changing(&self, now: Instant) -> bool {
        self.changed
            .is_some_and(|changed| now.duration_since(changed) < SETTLED)
    }

    /// Whether Kubernetes is to count again, which is not asked for again soon.
    fn take_suspicion(&mut self, now: Instant) -> bool {
        let is_due = self.recounted.is_none_or(|last| now.duration_since(last) >= RECOUNT);
        let is_asked = std::mem::take(&mut self.is_suspect) && is_due;
        if is_asked {
            self.recounted = Some(now);
        }
        is_asked
    }
}

/// One budget, and what its namespaces report.
#[derive(Debug)]
pub(crate) struct Look {
    budget: Budget,
    /// By namespace, what has stood.
    reported: BTreeMap<String, Amounts>,
    /// The same as it is now.
    latest: BTreeMap<String, Amounts>,
    /// Whether uses change at the moment.
    is_busy: bool,
    /// Whether limits wait for that.
    is_held: bool,
    /// Namespaces that Kubernetes is to count again.
    again: BTreeSet<String>,
}

impl Look {
    fn is_settled(&self) -> bool {
        !self.is_busy && self.reported == self.latest
    }
}

/// Of one ledger.
#[derive(Debug, Default)]
struct Windows {
    by_namespace: HashMap<String, Window>,
    /// Since when limits wait for uses that change.
    held_since: Option<Instant>,
}

/// The ledgers of all tenants.
pub(crate) struct Budgets {
    client: Client,
    /// Where ledgers are: the operator's own namespace.
    place: String,
    ledgers: Shared<QuantityLedger>,
    /// By UID of the tenant.
    of_tenant: Index<QuantityLedger, String>,
    written: Written,
    /// By the names of tenant and ledger.
    windows: Mutex<HashMap<String, HashMap<String, Windows>>>,
}

impl Budgets {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            place: context.namespace.clone(),
            ledgers: context.quantity_ledgers.clone(),
            of_tenant: Index::of(&context.quantity_ledgers, |ledger| {
                let tenant = tenant::tenant_of(ledger);
                tenant.map(|(_, uid)| uid.to_owned()).into_iter().collect()
            }),
            written: Written::default(),
            windows: Mutex::default(),
        }
    }

    /// Looks at a tenant again when something is promised.
    pub(crate) fn trigger(&self, queue: &Queue<String>) {
        self.ledgers.trigger(queue, |change| {
            tenant::tenant_of(change.object()).map(|(name, _)| name.to_owned())
        });
    }

    /// What the namespaces of a tenant report. From memory alone.
    pub(crate) fn look(&self, tenant: &Tenant, observed: &Observed) -> Vec<Look> {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = windows.remove(&tenant.name_any()).unwrap_or_default();
        let mut after = HashMap::new();
        let budgets = tenant::budgets(tenant).into_iter();
        let looks = budgets.map(|budget| {
            let mut known = before.remove(&budget.ledger).unwrap_or_default();
            let mut look = Look {
                budget,
                reported: BTreeMap::new(),
                latest: BTreeMap::new(),
                is_busy: false,
                is_held: false,
                again: BTreeSet::new(),
            };
            let mut seen = HashMap::with_capacity(observed.namespaces.len());
            for namespace in &observed.namespaces {
                let namespace = namespace.name_any();
                let used = reported_in(observed, tenant, &namespace, &look.budget);
                let window = match known.by_namespace.remove(&namespace) {
                    Some(mut window) => {
                        window.note(used, now);
                        window
                    }
                    None => Window::new(used, now),
                };
                look.reported.insert(namespace.clone(), window.stood());
                look.latest.insert(namespace.clone(), window.last.clone());
                look.is_busy |= window.is_changing(now);
                seen.insert(namespace, window);
            }
            if look.is_settled() {
                for (namespace, window) in &mut seen {
                    if window.take_suspicion(now) {
                        look.again.insert(namespace.clone());
                    }
                }
            }
            let mut held_since = known.held_since.filter(|_| look.is_busy);
            if look.is_busy {
                let since = *held_since.get_or_insert(now);
                look.is_held = now.duration_since(since) < BUSY;
                held_since = held_since.filter(|_| look.is_held);
            }
            let seen = Windows {
                by_namespace: seen,
                held_since,
            };
            after.insert(look.budget.ledger.clone(), seen);
            look
        });
        let looks: Vec<Look> = looks.collect();
        if !after.is_empty() {
            windows.insert(tenant.name_any(), after);
        }
        looks
    }

    /// A tenant of this name is gone.
    pub(crate) fn forget(&self, tenant: &str) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.remove(tenant);
    }

    /// Leaves out limits that show what is left while uses change, and adds those that make Kubernetes count again.
    pub(crate) fn hold(looks: &[Look], tenant: &Tenant, observed: &Observed, plan: &mut Plan) {
        for space in &mut plan.spaces {
            let records = observed.records.get(&space.name);
            let exists = |name: &str| {
                let mut records = records.into_iter().flatten();
                records.any(|record| record.kind == Kind::ResourceQuota && *record.name == *name)
            };
            for look in looks {
                let name = look.budget.quota.name.as_str();
                let is_its = |object: &Object| object.kind() == Kind::ResourceQuota && object.name() == name;
                if look.is_held && exists(name) {
                    space.applies.retain(|object| !is_its(object));
                }
                if look.again.contains(&space.name)
                    && let Some(quota) = to_be_counted_again(tenant, observed, &space.name, name)
                {
                    space.applies.retain(|object| !is_its(object));
                    space.applies.push(quota);
                }
            }
        }
    }

    /// Writes what was counted, and removes ledgers of budgets that are no more.
    pub(crate) async fn keep(&self, tenant: &Tenant, looks: &[Look]) -> Result<Action, Error> {
        let mut action = Action::AwaitChange;
        // What is kept for a tenant goes with it.
        if tenant.metadata.deletion_timestamp.is_some() {
            return Ok(action);
        }
        for look in looks.iter().filter(|look| !look.reported.is_empty()) {
            action = action.or(self.count(tenant, look).await?);
            if !look.is_settled() {
                action = action.or(Action::RequeueAfter(SETTLED));
            }
        }
        for ledger in self.of_tenant.get(&tenant.uid().unwrap_or_default()) {
            let name = ledger.name_any();
            if looks.iter().any(|look| look.budget.ledger == name) {
                continue;
            }
            match self.api().delete(&name, &only(&ledger.uid().unwrap_or_default())).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(source) => {
                    return Err(Error::Delete {
                        kind: LEDGER,
                        namespace: self.place.clone(),
                        name,
                        source,
                    });
                }
            }
        }
        Ok(action)
    }

    fn api(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.client.clone(), &self.place)
    }

    /// Takes one count into its ledger.
    async fn count(&self, tenant: &Tenant, look: &Look) -> Result<Action, Error> {
        let name = &look.budget.ledger;
        let mut ledger = match self.ledgers.get(Some(&self.place), name) {
            Some(known) if !self.written.is_current(&*known) => return Ok(Action::RequeueAfter(CATCH_UP)),
            Some(known) => QuantityLedger::clone(&known),
            None => match self.make(tenant, &look.budget).await? {
                Some(made) => made,
                None => return Ok(Action::RequeueAfter(CATCH_UP)),
            },
        };
        let counted_upon = account(&ledger);
        // What has become free is not free while the limits of namespaces do not say so. A namespace that joins is not held up.
        let is_known = |(namespace, used): (&String, &Amounts)| {
            *used == Amounts::default() || counted_upon.namespaces.contains(namespace)
        };
        if look.is_held && look.reported.iter().all(is_known) {
            return Ok(Action::RequeueAfter(SETTLED));
        }
        for _ in 0..ATTEMPTS {
            let before = account(&ledger);
            if (&before.ledger.used, &before.namespaces) != (&counted_upon.ledger.used, &counted_upon.namespaces) {
                break;
            }
            let now = Timestamp::now();
            let may_end = before.ledger.has_expired(now) && self.is_shown_live(tenant, look).await?;
            let reported = look.reported.iter().map(|(name, used)| (name.as_str(), used.clone()));
            let next = tenant::count(&before, &look.budget.quota.hard, &reported.collect(), now, may_end);
            let status = stored::global_status(&next, &ledger.status.clone().unwrap_or_default());
            if ledger.status.as_ref() == Some(&status) {
                return Ok(self.suspect(tenant, look, &next.ledger, now));
            }
            ledger.status = Some(status);
            match self.api().replace_status(name, &params(), &ledger).await {
                Ok(answer) => {
                    self.written.note(&answer);
                    return Ok(self.suspect(tenant, look, &next.ledger, now));
                }
                Err(error) if is_conflict(&error) => {}
                // It comes again, or the tenant goes.
                Err(error) if is_not_found(&error) => break,
                Err(source) => {
                    return Err(Error::PublishStatus {
                        kind: LEDGER,
                        name: name.clone(),
                        source,
                    });
                }
            }
            let read = self.api().get_opt(name).await;
            let Some(live) = read.map_err(|source| Error::Read {
                what: format!("{LEDGER} {name}"),
                source,
            })?
            else {
                break;
            };
            ledger = live;
        }
        Ok(Action::RequeueAfter(CATCH_UP))
    }

    /// Remembers where something is overdue. When to look again comes back.
    fn suspect(&self, tenant: &Tenant, look: &Look, ledger: &ledger::Ledger, now: Timestamp) -> Action {
        let age = |it: &Reservation| now.duration_since(it.updated_at);
        let mut action = until_the_next_end(ledger, now);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = windows.get_mut(&tenant.name_any());
        let Some(windows) = of_tenant.and_then(|windows| windows.get_mut(&look.budget.ledger)) else {
            return action;
        };
        for reservation in ledger.reservations.iter().filter(|it| credit::can_be_overdue(it)) {
            if age(reservation) < OVERDUE || !look.is_settled() {
                action = action.or(Action::RequeueAfter(SETTLED));
                continue;
            }
            for (namespace, window) in &mut windows.by_namespace {
                // What was lent was for any of them.
                let is_concerned = credit::is_for_any(reservation) || *namespace == reservation.object.namespace;
                let is_recent = window.recounted.is_some_and(|last| last.elapsed() < RECOUNT);
                if is_concerned && !is_recent && !window.is_suspect {
                    window.is_suspect = true;
                    action = action.or(Action::RequeueAfter(CATCH_UP));
                }
            }
        }
        action
    }

    /// `None` if it is there and the watch has not shown it.
    async fn make(&self, tenant: &Tenant, budget: &Budget) -> Result<Option<QuantityLedger>, Error> {
        let empty = tenant::ledger(tenant, budget, &self.place);
        match self.api().create(&params(), &empty).await {
            Ok(made) => Ok(Some(made)),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(source) => Err(Error::Apply {
                kind: LEDGER,
                namespace: self.place.clone(),
                name: budget.ledger.clone(),
                source,
            }),
        }
    }

    /// Whether the API server has the uses that were counted.
    async fn is_shown_live(&self, tenant: &Tenant, look: &Look) -> Result<bool, Error> {
        let labelled = ListParams::default().labels(&format!(
            "{}={},{}={}",
            names::PROJECT_TENANT_LABEL,
            tenant.name_any(),
            names::RESOURCE_QUOTA_LABEL,
            look.budget.index
        ));
        let found = Api::<ResourceQuota>::all(self.client.clone()).list(&labelled).await;
        let found = found.map_err(|source| Error::Read {
            what: format!("ResourceQuotas of Tenant {}", tenant.name_any()),
            source,
        })?;
        let live: BTreeMap<String, Amounts> = found
            .items
            .into_iter()
            .filter(|quota| quota.name_any() == look.budget.quota.name)
            .map(|quota| {
                let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
                let used = Amounts::observed(used).only(&look.budget.quota.hard);
                (quota.namespace().unwrap_or_default(), used)
            })
            .collect();
        let is_as_live = |(namespace, used): (&String, &Amounts)| live.get(namespace) == Some(used);
        Ok(look.is_settled() && look.latest.iter().all(is_as_live))
    }
}

/// A namespace's ResourceQuota with one more of everything. Kubernetes counts again when limits change, and only then; the next
/// look puts them right.
fn to_be_counted_again(tenant: &Tenant, observed: &Observed, namespace: &str, name: &str) -> Option<Object> {
    let mut quota = resource_quota(tenant, observed, namespace, name)?;
    let spec = quota.spec.as_mut()?;
    let hard = Amounts::observed(spec.hard.as_ref());
    let more = hard
        .iter()
        .map(|(resource, amount)| (resource.to_owned(), amount.plus(Quantity::ONE)));
    spec.hard = Some(more.collect::<Amounts>().to_wire());
    Some(Object::ResourceQuota(quota))
}

/// What one namespace's ResourceQuota says is used; nothing before it is there.
fn reported_in(observed: &Observed, tenant: &Tenant, namespace: &str, budget: &Budget) -> Amounts {
    let name = replicas::name(&tenant.name_any(), budget.index);
    let mut records = observed.records.get(namespace).into_iter().flatten();
    let record = records.find(|record| record.kind == Kind::ResourceQuota && *record.name == *name);
    record
        .map(|record| record.used.only(&budget.quota.hard))
        .unwrap_or_default()
}

/// A ledger that cannot be read is counted from the start.
fn account(ledger: &QuantityLedger) -> Account {
    let none = QuantityLedgerStatus::default();
    stored::global_account(ledger.status.as_ref().unwrap_or(&none)).unwrap_or_else(|denial| {
        tracing::warn!(ledger = ledger.name_any(), error = %denial, "a QuantityLedger cannot be read and is counted anew");
        Account::default()
    })
}

fn until_the_next_end(ledger: &ledger::Ledger, now: Timestamp) -> Action {
    let ends = ledger.reservations.iter().map(|reservation| {
        let left = Duration::try_from(reservation.expires_at.duration_since(now)).unwrap_or_default();
        left.max(SETTLED)
    });
    ends.min().map_or(Action::AwaitChange, Action::RequeueAfter)
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(number: usize) -> Amounts {
        Amounts::from_iter([("pods".to_owned(), Quantity::count(number))])
    }

    #[test]
    fn a_rise_counts_when_it_has_stood_for_a_second_and_a_fall_at_once() {
        let began = Instant::now();
        let at = |millis: u64| began + Duration::from_millis(millis);
        let mut window = Window::new(pods(1), began);
        let mut stood = |millis: u64, number: usize| {
            window.note(pods(number), at(millis));
            window.stood()
        };
        assert_eq!(stood(100, 3), pods(1));
        assert_eq!(stood(900, 3), pods(1));
        // Forgotten for a moment, and found again.
        assert_eq!(stood(1100, 2), pods(1));
        assert_eq!(stood(1200, 3), pods(1));
        assert_eq!(stood(2200, 3), pods(2));
        assert_eq!(stood(3300, 3), pods(3));
        assert_eq!(stood(3400, 1), pods(1));
        assert_eq!(stood(9000, 5), pods(1));
        assert_eq!(stood(12_000, 5), pods(5));
    }

    #[test]
    fn what_is_reported_for_the_first_time_counts_at_once() {
        let now = Instant::now();
        let mut window = Window::new(Amounts::default(), now);
        window.note(pods(4), now);
        assert_eq!(window.stood(), pods(4));
    }

    #[test]
    fn what_vanishes_before_it_has_stood_is_suspect() {
        let began = Instant::now();
        let at = |millis: u64| began + Duration::from_millis(millis);
        let mut window = Window::new(pods(5), began);
        window.note(pods(3), at(100));
        window.note(pods(4), at(3000));
        window.note(pods(4), at(6000));
        window.note(pods(3), at(6100));
        assert!(!window.take_suspicion(at(6200)), "what had stood has gone");
        window.note(pods(6), at(9000));
        window.note(pods(5), at(9100));
        assert!(window.take_suspicion(at(9200)) && !window.take_suspicion(at(9300)));
        window.note(pods(6), at(9400));
        window.note(pods(5), at(9500));
        assert!(!window.take_suspicion(at(9600)), "a moment ago it was counted again");
    }
}
