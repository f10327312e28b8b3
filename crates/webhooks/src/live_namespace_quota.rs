//! A place in its tenant's quota for a namespace that is about to be made, taken before it is admitted.
//!
//! Places are kept in a QuantityLedger in the operator's own namespace ([`tenancy::quota::places`] says why that is exact), not
//! in the Tenant: what a tool compares with its repository stays as it was written, and a status that is written at every
//! create would wake everybody who watches Tenants.
//!
//! Creates for one tenant wait for each other here, so that only replicas race, not requests. Far from the quota a create costs
//! one write. Near it, one read and one list more when somebody else has written in between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names;
use api::capsule::v1beta2::QuantityLedger;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use runtime::Shared;
use runtime::report::is_conflict;
use runtime::shared::Change;
use tenancy::index::KnownTenant;
use tenancy::linkage;
use tenancy::quota::places::{self, Wanted};
use tenancy::quota::stored;

use crate::audit;
use crate::decide::Verdict;
use crate::facts::{Error, Facts, peek, read};
use crate::ledgers;
use crate::review::{Operation, Request};
use crate::rule::Rule;
use crate::view::{Source, View};

/// How long a create waits for its place: less than API servers wait for us.
const PATIENCE: Duration = Duration::from_secs(8);

/// Whose turn it is, by UID of the tenant, and the ledger as it was written last: newer than what the watch shows.
type Desks = HashMap<String, Arc<tokio::sync::Mutex<Option<QuantityLedger>>>>;

/// The tenants that creates are under way for.
#[derive(Debug, Default)]
pub(crate) struct Places {
    desks: Mutex<Desks>,
    /// UIDs of namespaces that went a moment ago, and when: what was promised to them is over.
    gone: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Places {
    /// Remembers which namespaces end, until the watch does.
    pub(crate) fn follow(&self, namespaces: &Shared<Namespace>) {
        let gone = self.gone.clone();
        namespaces.observe(move |change| {
            let Change::Deleted(namespace) = change else { return };
            let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.retain(|_, at| at.elapsed() < places::TTL.unsigned_abs());
            gone.insert(namespace.uid().unwrap_or_default(), Instant::now());
        });
    }

    fn is_gone(&self, uid: &str) -> bool {
        self.gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(uid)
    }

    fn desk(&self, tenant_uid: &str) -> Arc<tokio::sync::Mutex<Option<QuantityLedger>>> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody waits at is forgotten: the watch has shown it by now, or a write finds out.
        desks.retain(|uid, desk| uid == tenant_uid || Arc::strong_count(desk) > 1);
        desks.entry(tenant_uid.to_owned()).or_default().clone()
    }
}

/// Takes a place for a new namespace in the quota of the tenant that it names. The view comes back with the number of
/// namespaces that the tenant has besides. Nothing is taken for what would be refused anyway, or for a dry run.
pub(crate) async fn take_place(
    client: &Client,
    source: &Source,
    mut view: View,
    (rule, request): (&Rule, &Request),
    facts: &Facts,
) -> Result<View, Error> {
    let object = peek::<Namespace>(request.object.as_deref()).filter(|_| request.operation == Operation::Create);
    let Some(object) = object else { return Ok(view) };
    // One that does not say clearly whose it is, is refused.
    let Ok(Some(reference)) = linkage::linkage(&object) else {
        return Ok(view);
    };
    let tenant = view.known.tenant(reference.name);
    let Some(tenant) = tenant.filter(|tenant| *tenant.uid == *reference.uid) else {
        return Ok(view);
    };
    let Some(quota) = tenant.namespace_quota() else {
        return Ok(view);
    };
    let others = view.known.count_others(&tenant, &request.name);
    view.known = view.known.with_namespace_count(&tenant.uid, 0);
    if matches!(
        audit::decide(rule, request, &mut view.clone(), facts).verdict,
        Verdict::Deny(_)
    ) {
        return Ok(view);
    }
    let name = object.metadata.name.unwrap_or_else(|| request.name.clone());
    let uid = object.metadata.uid.unwrap_or_default();
    let desk = Desk {
        client,
        known: &source.places,
        place: source.own_namespace(),
        tenant: &tenant,
        quota,
        seen: others,
        wanted: Wanted {
            id: &request.uid,
            namespace: &name,
            uid: &uid,
        },
        is_dry_run: request.dry_run == Some(true),
    };
    let turn = source.places.desk(&tenant.uid);
    let taken = tokio::time::timeout(PATIENCE, async {
        let mut known = turn.lock().await;
        let latest = known.take().or_else(|| desk.shown(source));
        let (others, latest) = desk.take(latest).await?;
        *known = latest;
        Ok(others)
    });
    let others = match taken.await {
        Ok(others) => others?,
        Err(_) => {
            return Err(Error::NamespaceLedger {
                tenant: tenant.name.to_string(),
            });
        }
    };
    view.known = view.known.with_namespace_count(&tenant.uid, others);
    Ok(view)
}

/// One create, and where its place is.
struct Desk<'a> {
    client: &'a Client,
    known: &'a Places,
    /// Namespace of the ledgers.
    place: &'a str,
    tenant: &'a KnownTenant,
    quota: usize,
    /// How many other namespaces the watch has shown.
    seen: usize,
    wanted: Wanted<'a>,
    is_dry_run: bool,
}

impl Desk<'_> {
    fn ledgers(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.client.clone(), self.place)
    }

    /// The ledger as the watch shows it.
    fn shown(&self, source: &Source) -> Option<QuantityLedger> {
        let watches = source.namespace_tenants.as_ref()?;
        let ledger = watches
            .quantity_ledgers
            .get(Some(self.place), &places::ledger_name(&self.tenant.uid))?;
        Some(QuantityLedger::clone(&ledger))
    }

    /// How many other namespaces there are, or may still be; if that leaves a place, it is taken in etcd when this returns.
    /// The ledger comes back as it is known then.
    async fn take(&self, known: Option<QuantityLedger>) -> Result<(usize, Option<QuantityLedger>), Error> {
        let (mut ledger, mut is_live) = match known {
            Some(known) => (known, false),
            None => (self.read().await?, true),
        };
        loop {
            let before = ledger.status.clone().unwrap_or_default();
            let places = stored::places(&before).without(|uid| self.known.is_gone(uid));
            let far = places.take_far(self.wanted, self.quota, self.seen, Timestamp::now());
            let counted = match far {
                Some(far) => far,
                None => places.take_counted(self.wanted, self.quota, &self.count().await?, Timestamp::now()),
            };
            match counted.places {
                // A place may have become free since.
                None if !is_live => {}
                None => return Ok((counted.others, Some(ledger))),
                Some(_) if self.is_dry_run => return Ok((counted.others, Some(ledger))),
                Some(next) => {
                    ledger.status = Some(stored::places_status(&next, &before));
                    let written = ledgers::write(&self.ledgers(), &ledger).await;
                    let failed = |error| read("QuantityLedger", &ledger.name_any(), error);
                    if let Some(written) = written.map_err(failed)? {
                        return Ok((counted.others, Some(written)));
                    }
                }
            }
            (ledger, is_live) = (self.read().await?, true);
        }
    }

    /// The ledger as it is now; an empty one is made if there is none.
    async fn read(&self) -> Result<QuantityLedger, Error> {
        let name = places::ledger_name(&self.tenant.uid);
        let failed = |error| read("QuantityLedger", &name, error);
        loop {
            if let Some(found) = self.ledgers().get_opt(&name).await.map_err(failed)? {
                return Ok(found);
            }
            let empty = places::ledger(&self.tenant.object, self.place);
            if self.is_dry_run {
                return Ok(empty);
            }
            match self.ledgers().create(&ledgers::params(), &empty).await {
                Ok(made) => return Ok(made),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// The tenant's namespaces, names to UIDs, as they are stored now.
    async fn count(&self) -> Result<BTreeMap<String, String>, Error> {
        let labelled = ListParams::default().labels(&format!("{}={}", names::TENANT_LABEL, self.tenant.name));
        let found = Api::<Namespace>::all(self.client.clone())
            .list_metadata(&labelled)
            .await
            .map_err(|error| read("Namespaces", self.tenant.name.as_str(), error))?;
        let of_tenant = found.items.iter().filter(|found| {
            found
                .owner_references()
                .iter()
                .any(|owner| linkage::is_tenant(owner) && *owner.uid == *self.tenant.uid)
        });
        Ok(of_tenant
            .map(|found| (found.name_any(), found.uid().unwrap_or_default()))
            .collect())
    }
}
