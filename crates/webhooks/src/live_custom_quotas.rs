//! Custom quotas: which count the object of a request, and what they promise to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::capsule::v1beta2::{GlobalCustomQuota, LedgerObject, QuantityLedger, QuantityLedgerStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::{Client, Resource, ResourceExt as _};
use serde_json::Value;
use serde_json::value::RawValue;
use tenancy::denial::Denial;
use tenancy::quota::coverage;
use tenancy::quota::custom::{Charge, Custom, Measured, Review, leaving, matching};
use tenancy::quota::ledger::Ledger;
use tenancy::quota::stored::{custom_ledger, custom_status};

use crate::facts::{Error, get};
use crate::ledgers::Ledgers;
use crate::review::{Operation, Request};
use crate::view::{NamespaceTenants, Source};

/// Promises the request what it takes of every quota that counts its object, or of none. The refusal comes back, if one has
/// not enough.
pub(crate) async fn reserve(client: &Client, source: &Source, request: &Request) -> Result<Option<Denial>, Error> {
    let (Some(watches), Some(ledgers)) = (&source.namespace_tenants, &source.ledgers) else {
        return Ok(None);
    };
    let quotas = match request.namespace.as_deref().filter(|name| !name.is_empty()) {
        None => of_the_cluster(watches, None),
        Some(name) => {
            let namespace = match source.namespace(name) {
                Some(namespace) => namespace,
                // Made just now. One that is gone takes nothing.
                None => match get::<Namespace>(&Api::all(client.clone()), name).await? {
                    Some(namespace) => Arc::new(namespace),
                    None => return Ok(None),
                },
            };
            // What is in it goes; nothing may hold that up.
            if namespace.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let mut quotas = of_the_cluster(watches, Some(&namespace));
            quotas.extend(of_namespace(watches, name));
            quotas
        }
    };
    if quotas.is_empty() {
        return Ok(None);
    }
    let charges = match charges(source, &quotas, request) {
        Ok(charges) => charges,
        Err(denial) => return Ok(Some(denial)),
    };
    let desk = Desk {
        ledgers,
        place: source.own_namespace(),
        is_dry_run: request.dry_run == Some(true),
    };
    if request.operation == Operation::Delete {
        // A hint, which nothing depends on.
        for charge in charges {
            desk.ask(charge).await.unwrap_or_else(|denial| {
                tracing::debug!(error = %denial, "a ledger was not told of a deletion");
            });
        }
        return Ok(None);
    }
    Ok(desk.ask_all(charges).await.err())
}

/// Quotas of the cluster that are about a namespace, or about what is in none. Selectors that cannot be evaluated select
/// nothing; where they were written the quota says so.
fn of_the_cluster(watches: &NamespaceTenants, namespace: Option<&Namespace>) -> Vec<Custom> {
    let is_about = |quota: &GlobalCustomQuota| {
        let selectors = &quota.spec.namespace_selectors;
        let is_in = |namespace: &Namespace| coverage::any_selects(selectors, namespace.labels()).unwrap_or(false);
        selectors.is_empty() || namespace.is_none_or(is_in)
    };
    let all = watches.global_custom_quotas.store().state();
    let live = all.iter().filter(|quota| is_kept(&***quota) && is_about(quota));
    live.filter_map(|quota| Custom::global(quota).ok()).collect()
}

fn of_namespace(watches: &NamespaceTenants, name: &str) -> Vec<Custom> {
    let all = watches.custom_quotas.store().state();
    let live = all
        .iter()
        .filter(|quota| quota.metadata.namespace.as_deref() == Some(name) && is_kept(&***quota));
    live.filter_map(|quota| Custom::namespaced(quota).ok()).collect()
}

fn is_kept<K: Resource>(quota: &K) -> bool {
    quota.meta().deletion_timestamp.is_none()
}

fn measured<'a>(document: &'a Document, request: &'a Request) -> Measured<'a> {
    Measured {
        group: &request.kind.group,
        version: &request.kind.version,
        kind: &request.kind.kind,
        labels: &document.labels,
        object: &document.content,
    }
}

/// What the request does to each quota.
fn charges(source: &Source, quotas: &[Custom], request: &Request) -> Result<Vec<Charge>, Denial> {
    let (object, old) = (
        Document::read(request.object.as_deref())?,
        Document::read(request.old_object.as_deref())?,
    );
    let kind = &request.kind;
    let Some(concerned) = object.as_ref().or(old.as_ref()) else {
        return Ok(Vec::new());
    };
    let text = |field: &str| concerned.content["metadata"][field].as_str().unwrap_or_default();
    let reference = LedgerObject {
        api_group: kind.group.clone(),
        api_version: match kind.group.as_str() {
            "" => kind.version.clone(),
            group => format!("{group}/{}", kind.version),
        },
        kind: kind.kind.clone(),
        namespace: request.namespace.clone().unwrap_or_default(),
        name: text("name").to_owned(),
        uid: text("uid").to_owned(),
    };
    let is_update = request.operation == Operation::Update;
    let review = Review {
        uid: &request.uid,
        subresource: request.sub_resource.as_deref().unwrap_or_default(),
        object: measured(concerned, request),
        old: old.as_ref().filter(|_| is_update).map(|old| measured(old, request)),
        reference: &reference,
        goes: !text("deletionTimestamp").is_empty(),
        now: Timestamp::now(),
    };
    if request.operation == Operation::Delete {
        return Ok(leaving(quotas, &review, &*source.languages));
    }
    matching(quotas, &review, &*source.languages)
}

/// An object of any kind.
struct Document {
    labels: BTreeMap<String, String>,
    content: Value,
}

impl Document {
    fn read(raw: Option<&RawValue>) -> Result<Option<Self>, Denial> {
        let Some(json) = raw.map(RawValue::get).filter(|json| *json != "null") else {
            return Ok(None);
        };
        let unreadable = |error: serde_json::Error| {
            Denial::new("", "Unreadable", format!("failed to read the object: {error}")).with_code(400)
        };
        let mut content: Value = serde_json::from_str(json).map_err(unreadable)?;
        let metadata = content.get_mut("metadata").and_then(Value::as_object_mut);
        let mut labels = Value::Null;
        if let Some(metadata) = metadata {
            // Who wrote which field is nothing to be counted, and not there when the object is.
            metadata.remove("managedFields");
            labels = metadata.get("labels").cloned().unwrap_or_default();
        }
        let labels: Option<_> = serde_json::from_value(labels).map_err(unreadable)?;
        Ok(Some(Self {
            labels: labels.unwrap_or_default(),
            content,
        }))
    }
}

/// Where promises are made.
struct Desk<'a> {
    ledgers: &'a Ledgers,
    /// Where the ledgers of quotas of the cluster are.
    place: &'a str,
    is_dry_run: bool,
}

impl Desk<'_> {
    async fn ask_all(&self, charges: Vec<Charge>) -> Result<(), Denial> {
        let mut asked = Vec::with_capacity(charges.len());
        for charge in charges {
            asked.push(charge.clone());
            if let Err(denial) = self.ask(charge).await {
                self.take_back(asked).await;
                return Err(denial);
            }
        }
        Ok(())
    }

    async fn ask(&self, charge: Charge) -> Result<(), Denial> {
        self.change(charge, tenancy::quota::custom::Charge::admit).await
    }

    /// A quota refused: what others promised is free again. What cannot be taken back now ends by itself.
    async fn take_back(&self, asked: Vec<Charge>) {
        for charge in asked {
            let taken = self.change(charge, |charge, ledger| {
                let after = ledger.map(|ledger| ledger.without(&charge.id));
                Ok(after.filter(|after| Some(after) != ledger))
            });
            if let Err(denial) = taken.await {
                tracing::warn!(error = %denial, "a promise to a request that was refused was not taken back");
            }
        }
    }

    async fn change(
        &self,
        charge: Charge,
        decide: impl Fn(&Charge, Option<&Ledger>) -> Result<Option<Ledger>, Denial> + Send + 'static,
    ) -> Result<(), Denial> {
        let (name, namespace) = (charge.quota.name.clone(), charge.quota.namespace.clone());
        let place = if namespace.is_empty() { self.place } else { &namespace };
        let change = move |stored: Option<&QuantityLedger>| -> Result<Option<QuantityLedgerStatus>, Denial> {
            let before = stored.and_then(|stored| stored.status.clone()).unwrap_or_default();
            let read = |_| custom_ledger(&before).map_err(|error| unreadable(&charge, &error));
            let ledger = stored.map(read).transpose()?;
            let after = decide(&charge, ledger.as_ref())?;
            Ok(after.map(|after| custom_status(&after, &before)))
        };
        self.ledgers.change(place, &name, self.is_dry_run, change).await
    }
}

fn unreadable(charge: &Charge, error: &impl std::fmt::Display) -> Denial {
    let message = format!(
        "{} {:?} is not ready: its QuantityLedger cannot be read: {error}; when the ledger is deleted, it is begun again",
        charge.quota.kind.as_str(),
        charge.quota.name
    );
    Denial::new("", "QuotaNotReady", message).with_code(500)
}
