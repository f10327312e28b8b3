//! GlobalResourceQuotas: which are about a request, what is promised to it, and what is taken of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{GlobalResourceQuota, LedgerObject, QuantityLedger, Tenant};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, ResourceExt as _};
use serde::Deserialize;
use tenancy::denial::Denial;
use tenancy::quota::amounts::Amounts;
use tenancy::quota::global::{self, GlobalQuota, admit, ledger_name};
use tenancy::quota::usage::{Object, Resource};
use tenancy::quota::{coverage, rule_quotas, stored};

use crate::facts::{self, Error, peek};
use crate::ledgers::Ledgers;
use crate::review::{Operation, Request};
use crate::view::Source;

/// Promises the request what it takes of every quota that is about it, or of none. The refusal comes back, if one has not
/// enough.
pub(crate) async fn reserve(client: &Client, source: &Source, request: &Request) -> Result<Option<Denial>, Error> {
    let (Some(watches), Some(ledgers)) = (&source.namespace_tenants, &source.ledgers) else {
        return Ok(None);
    };
    let name = request.namespace.as_deref().unwrap_or_default();
    // One that is gone takes nothing.
    let Some(namespace) = facts::namespace(client, source, name).await? else {
        return Ok(None);
    };
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let mut quotas = watches.global_resource_quotas.store().state();
    quotas.retain(|quota| {
        // One that cannot be read is refused where it is written, and not counted.
        quota.metadata.deletion_timestamp.is_none()
            && coverage::any_selects(&quota.spec.namespace_selectors, namespace.labels()).unwrap_or(false)
    });
    if quotas.is_empty() {
        return Ok(None);
    }
    quotas.sort_by_key(|quota| quota.name_any());
    let question = match Question::of(request) {
        Ok(Some(question)) => Arc::new(question),
        Ok(None) => return Ok(None),
        Err(denial) => return Ok(Some(denial)),
    };
    let dry_run = request.dry_run == Some(true);
    let mut promised = Vec::new();
    for quota in &quotas {
        let ledger = ledger_name(&quota.name_any(), &quota.uid().unwrap_or_default());
        let answer = match GlobalQuota::new(quota) {
            Ok(quota) => {
                ask(
                    ledgers,
                    source.own_namespace(),
                    &ledger,
                    quota,
                    question.clone(),
                    dry_run,
                )
                .await
            }
            Err(error) => Err(unreadable(quota, &error)),
        };
        if let Err(denial) = answer {
            if !dry_run {
                take_back(ledgers, source.own_namespace(), &promised).await;
            }
            return Ok(Some(denial));
        }
        promised.push((ledger, format!("{}/{}", request.uid, quota.name_any())));
    }
    Ok(None)
}

async fn ask(
    ledgers: &Ledgers,
    place: &str,
    ledger: &str,
    quota: GlobalQuota,
    question: Arc<Question>,
    dry_run: bool,
) -> Result<(), Denial> {
    // Most changes of what is there take nothing: then the ledger is not looked at.
    let name = ledger.to_owned();
    ledgers
        .change(place, ledger, dry_run, move |current| {
            let account = current.map(account).transpose()?;
            let promise = admit(&quota, account.as_ref(), &name, &question.review())?;
            let Some((ledger, account, current)) = promise
                .zip(account)
                .zip(current)
                .map(|((ledger, account), current)| (ledger, account, current))
            else {
                return Ok(None);
            };
            let before = current.status.clone().unwrap_or_default();
            Ok(Some(stored::global_status(
                &global::Account { ledger, ..account },
                &before,
            )))
        })
        .await
}

/// A ledger of which nothing was counted yet is none to rely on, and says so by itself.
pub(crate) fn account(ledger: &QuantityLedger) -> Result<global::Account, Denial> {
    let status = ledger.status.clone().unwrap_or_default();
    stored::global_account(&status).map_err(|error| {
        let message = format!("QuantityLedger {:?} cannot be read: {error}", ledger.name_any());
        Denial::new("", "QuotaNotReady", message).with_code(500)
    })
}

fn unreadable(quota: &GlobalResourceQuota, error: &impl std::fmt::Display) -> Denial {
    let message = format!(
        "GlobalResourceQuota {:?} cannot be read: {error}; an administrator of this cluster has to correct it",
        quota.name_any()
    );
    Denial::new("", "QuotaNotReady", message).with_code(500)
}

/// The request was refused by a later quota. What cannot be taken back now ends by itself.
async fn take_back(ledgers: &Ledgers, place: &str, promised: &[(String, String)]) {
    for (ledger, id) in promised {
        let id = id.clone();
        let taken = ledgers.change(place, ledger, false, move |current| {
            let Some(current) = current else { return Ok(None) };
            let before = account(current)?;
            let after = before.ledger.without(&id);
            if after == before.ledger {
                return Ok(None);
            }
            let status = current.status.clone().unwrap_or_default();
            Ok(Some(stored::global_status(
                &global::Account {
                    ledger: after,
                    ..before
                },
                &status,
            )))
        });
        if let Err(denial) = taken.await {
            tracing::warn!(ledger, error = %denial, "a promise to a request that was refused was not taken back");
        }
    }
}

/// The request as quotas look at it.
pub(crate) struct Question {
    uid: String,
    operation: global::Operation,
    resource: Resource,
    sub_resource: String,
    object: Object,
    old: Option<Object>,
    reference: LedgerObject,
    now: Timestamp,
}

#[derive(Deserialize)]
struct WithMetadata {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl Question {
    /// `None` if the request makes and changes nothing.
    pub(crate) fn of(request: &Request) -> Result<Option<Self>, Denial> {
        let operation = match request.operation {
            Operation::Create => global::Operation::Create,
            Operation::Update => global::Operation::Update,
            Operation::Delete | Operation::Connect => return Ok(None),
        };
        let resource = Resource {
            group: request.resource.group.clone(),
            plural: request.resource.resource.clone(),
        };
        let read = |raw: Option<&serde_json::value::RawValue>| {
            let value: Option<serde_json::Value> = peek(raw);
            let object = value.filter(|value| !value.is_null());
            object.map(|value| Object::read(&resource, &value)).transpose()
        };
        let unreadable = |error: tenancy::quota::usage::Unreadable| {
            Denial::new("", "Unreadable", runtime::report::chain(&error)).with_code(400)
        };
        let Some(object) = read(request.object.as_deref()).map_err(unreadable)? else {
            return Ok(None);
        };
        let old = read(request.old_object.as_deref()).map_err(unreadable)?;
        let metadata = peek::<WithMetadata>(request.object.as_deref())
            .map(|object| object.metadata)
            .unwrap_or_default();
        let kind = &request.kind;
        Ok(Some(Self {
            uid: request.uid.clone(),
            operation,
            sub_resource: request.sub_resource.clone().unwrap_or_default(),
            object,
            old,
            reference: LedgerObject {
                api_group: kind.group.clone(),
                api_version: kind.api_version(),
                kind: kind.kind.clone(),
                namespace: request.namespace.clone().unwrap_or_default(),
                name: metadata.name.unwrap_or_else(|| request.name.clone()),
                uid: metadata.uid.unwrap_or_default(),
            },
            resource,
            now: Timestamp::now(),
        }))
    }

    pub(crate) fn review(&self) -> global::Review<'_> {
        global::Review {
            uid: &self.uid,
            operation: self.operation,
            resource: &self.resource,
            subresource: &self.sub_resource,
            object: &self.object,
            old: self.old.as_ref(),
            reference: &self.reference,
            now: self.now,
        }
    }
}

/// What is used of a quota, or used and promised, the larger of both for each resource.
fn taken(source: &Source, quota: &GlobalResourceQuota) -> Amounts {
    let status = quota.status.as_ref();
    let used = Amounts::observed(status.map(|status| &status.total.used));
    let ledger = source.namespace_tenants.as_ref().and_then(|watches| {
        let name = ledger_name(&quota.name_any(), &quota.uid().unwrap_or_default());
        watches.quantity_ledgers.get(Some(source.own_namespace()), &name)
    });
    let status = ledger.as_ref().and_then(|ledger| ledger.status.as_ref());
    // One that cannot be read promises nothing either.
    let account = status.and_then(|status| stored::global_account(status).ok());
    account.map_or(used.clone(), |account| used.most(&account.ledger.allocated()))
}

/// What is taken of the quota that the request changes.
pub(crate) fn taken_of_changed(source: &Source, request: &Request) -> Amounts {
    let quota: Option<GlobalResourceQuota> = peek(request.old_object.as_deref());
    quota.map(|quota| taken(source, &quota)).unwrap_or_default()
}

/// What is taken of the quotas of the rules that a tenant has, by the name in the rule.
pub(crate) fn taken_of_rules(source: &Source, request: &Request) -> BTreeMap<String, Amounts> {
    let (Some(watches), Some(tenant)) = (&source.namespace_tenants, peek::<Tenant>(request.old_object.as_deref()))
    else {
        return BTreeMap::new();
    };
    let of_rules = tenant.spec.rules.iter().flat_map(|rule| &rule.quota);
    of_rules
        .filter_map(|quota| {
            let made = rule_quotas::name(&tenant.name_any(), &quota.name);
            let made = watches.global_resource_quotas.get(None, &made)?;
            let is_its_own = made
                .owner_references()
                .iter()
                .any(|owner| owner.kind == names::TENANT_KIND && Some(&owner.uid) == tenant.metadata.uid.as_ref());
            is_its_own.then(|| (quota.name.clone(), taken(source, &made)))
        })
        .collect()
}
