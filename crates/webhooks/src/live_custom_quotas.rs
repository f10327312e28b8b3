//! Custom quotas: which count the object of a request, and what they promise to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use api::capsule::v1beta2::{
    CustomQuota, GlobalCustomQuota, LedgerObject, QuantityLedger, QuantityLedgerStatus, QuotaSource,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::ApiResource;
use kube::{Client, Resource, ResourceExt as _};
use runtime::Index;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tenancy::denial::Denial;
use tenancy::quota::coverage;
use tenancy::quota::custom::{Charge, Custom, Kinds, Measured, Review, Scaled, leaving, matching};
use tenancy::quota::ledger::Ledger;
use tenancy::quota::stored::{custom_ledger, custom_status};

use crate::facts::{self, Error, read};
use crate::ledgers::Ledgers;
use crate::review::{GroupVersionKind, Operation, Request};
use crate::view::{NamespaceTenants, Source};

/// What all expressions over one object may take: as much as Kubernetes gives all rules of a definition
/// (`RuntimeCELCostBudget`).
const MOST_UNITS: u64 = 10_000_000;

/// Quotas by what they count, so that a request costs nothing for those that do not count its object. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CustomQuotas {
    namespaced: Index<CustomQuota, Place>,
    global: Index<GlobalCustomQuota, Place>,
}

/// Namespace, empty for a quota of the cluster; group and kind as sources name them, `*` for any.
type Place = (String, String, String);

impl CustomQuotas {
    /// Follows the watches until they end.
    pub(crate) fn of(watches: &NamespaceTenants) -> Self {
        Self {
            namespaced: Index::of(&watches.custom_quotas, |quota| {
                let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
                let mut all = places(namespace, &quota.spec.sources);
                all.push(in_namespace(namespace));
                all
            }),
            global: Index::of(&watches.global_custom_quotas, |quota| places("", &quota.spec.sources)),
        }
    }

    /// How many there are in a namespace.
    pub(crate) fn count(&self, namespace: &str) -> usize {
        self.namespaced.get(&in_namespace(namespace)).len()
    }

    fn of_namespace(&self, namespace: &str, kind: &GroupVersionKind) -> Vec<Arc<CustomQuota>> {
        found(&self.namespaced, namespace, kind)
    }

    fn of_the_cluster(&self, kind: &GroupVersionKind) -> Vec<Arc<GlobalCustomQuota>> {
        found(&self.global, "", kind)
    }
}

/// Where a quota is found.
fn places(namespace: &str, sources: &[QuotaSource]) -> Vec<Place> {
    let named = sources.iter().filter_map(|source| Kinds::of(&source.kind));
    let places: BTreeSet<Place> = named
        .map(|kinds| (namespace.to_owned(), kinds.group, kinds.kind))
        .collect();
    places.into_iter().collect()
}

/// Where all quotas of a namespace are found: no kind is without a name.
fn in_namespace(namespace: &str) -> Place {
    (namespace.to_owned(), String::new(), String::new())
}

/// Where quotas are looked for.
fn asked(namespace: &str, kind: &GroupVersionKind) -> [Place; 4] {
    let (group, kind) = (kind.group.as_str(), kind.kind.as_str());
    [(group, kind), (group, "*"), ("*", kind), ("*", "*")]
        .map(|(group, kind)| (namespace.to_owned(), group.to_owned(), kind.to_owned()))
}

/// Each once, by name.
fn found<K>(index: &Index<K, Place>, namespace: &str, kind: &GroupVersionKind) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let all = asked(namespace, kind).into_iter().flat_map(|place| index.get(&place));
    let by_name: BTreeMap<String, Arc<K>> = all.map(|quota| (quota.name_any(), quota)).collect();
    by_name.into_values().collect()
}

/// Promises the request what it takes of every quota that counts its object, or of none. The refusal comes back, if one has
/// not enough.
pub(crate) async fn reserve(client: &Client, source: &Source, request: &Request) -> Result<Option<Denial>, Error> {
    let (Some(known), Some(ledgers)) = (&source.custom_quotas, &source.ledgers) else {
        return Ok(None);
    };
    let scaled = scaled(request);
    let kind = scaled.map_or_else(|| request.kind.clone(), |scaled| kind_of(&scaled));
    let quotas = match request.namespace.as_deref().filter(|name| !name.is_empty()) {
        None => of_the_cluster(known, &kind, None),
        Some(name) => {
            // One that is gone takes nothing.
            let Some(namespace) = facts::namespace(client, source, name).await? else {
                return Ok(None);
            };
            // What is in it goes; nothing may hold that up.
            if namespace.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let mut quotas = of_the_cluster(known, &kind, Some(&namespace));
            quotas.extend(of_namespace(known, &kind, name));
            quotas
        }
    };
    if quotas.is_empty() {
        return Ok(None);
    }
    let concerned = match scaled {
        Some(scaled) => of_scale(client, &scaled, request).await?,
        None => Concerned::of(request),
    };
    let charges = match concerned.and_then(|concerned| charges(source, &quotas, &concerned, &kind, request)) {
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
fn of_the_cluster(known: &CustomQuotas, kind: &GroupVersionKind, namespace: Option<&Namespace>) -> Vec<Custom> {
    let is_about = |quota: &GlobalCustomQuota| {
        let selectors = &quota.spec.namespace_selectors;
        let is_in = |namespace: &Namespace| coverage::any_selects(selectors, namespace.labels()).unwrap_or(false);
        selectors.is_empty() || namespace.is_none_or(is_in)
    };
    let all = known.of_the_cluster(kind);
    let live = all.iter().filter(|quota| is_kept(&***quota) && is_about(quota));
    live.filter_map(|quota| Custom::global(quota).ok()).collect()
}

fn of_namespace(known: &CustomQuotas, kind: &GroupVersionKind, name: &str) -> Vec<Custom> {
    let all = known.of_namespace(name, kind);
    let live = all.iter().filter(|quota| is_kept(&***quota));
    live.filter_map(|quota| Custom::namespaced(quota).ok()).collect()
}

fn is_kept<K: Resource>(quota: &K) -> bool {
    quota.meta().deletion_timestamp.is_none()
}

fn measured<'a>(document: &'a Document, kind: &'a GroupVersionKind) -> Measured<'a> {
    Measured {
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
        labels: &document.labels,
        object: &document.content,
    }
}

/// What the request does to each quota.
fn charges(
    source: &Source,
    quotas: &[Custom],
    Concerned { object, old }: &Concerned,
    kind: &GroupVersionKind,
    request: &Request,
) -> Result<Vec<Charge>, Denial> {
    let Some(concerned) = object.as_ref().or(old.as_ref()) else {
        return Ok(Vec::new());
    };
    let text = |field: &str| concerned.content["metadata"][field].as_str().unwrap_or_default();
    let reference = LedgerObject {
        api_group: kind.group.clone(),
        api_version: kind.api_version(),
        kind: kind.kind.clone(),
        namespace: request.namespace.clone().unwrap_or_default(),
        name: text("name").to_owned(),
        uid: text("uid").to_owned(),
    };
    let is_update = request.operation == Operation::Update;
    let review = Review {
        uid: &request.uid,
        subresource: request.sub_resource.as_deref().unwrap_or_default(),
        object: measured(concerned, kind),
        old: old.as_ref().filter(|_| is_update).map(|old| measured(old, kind)),
        reference: &reference,
        goes: !text("deletionTimestamp").is_empty(),
        now: Timestamp::now(),
    };
    // Quotas of the cluster come first: what a tenant wrote takes nothing from them.
    let languages = source.languages.metered(MOST_UNITS);
    if request.operation == Operation::Delete {
        return Ok(leaving(quotas, &review, &languages));
    }
    matching(quotas, &review, &languages)
}

/// What a request scales, if it is about the number of replicas alone.
fn scaled(request: &Request) -> Option<Scaled> {
    let is_scale = request.sub_resource.as_deref() == Some("scale") && request.kind.kind == "Scale";
    let resource = &request.resource;
    Scaled::of(&resource.group, &resource.resource).filter(|_| is_scale)
}

fn kind_of(scaled: &Scaled) -> GroupVersionKind {
    GroupVersionKind {
        group: scaled.group.to_owned(),
        version: scaled.version.to_owned(),
        kind: scaled.kind.to_owned(),
    }
}

/// The object that a Scale is of, as it would be and as it is. A Scale says nothing else of it that quotas go by.
async fn of_scale(client: &Client, scaled: &Scaled, request: &Request) -> Result<Result<Concerned, Denial>, Error> {
    let scales = match Concerned::of(request) {
        Ok(scales) => scales,
        Err(denial) => return Ok(Err(denial)),
    };
    let resource = ApiResource {
        group: scaled.group.to_owned(),
        version: scaled.version.to_owned(),
        api_version: kind_of(scaled).api_version(),
        kind: scaled.kind.to_owned(),
        plural: scaled.resource.to_owned(),
    };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    // What is counted may be listed, and that is all that the operator may.
    let named = ListParams::default().fields(&format!("metadata.name={}", request.name));
    let found = api.list(&named).await;
    let found = found.map_err(|error| read(scaled.kind, &request.name, error))?;
    // One that is gone cannot be scaled either.
    let Some(object) = found.items.into_iter().next() else {
        return Ok(Ok(Concerned::default()));
    };
    let mut object = serde_json::to_value(object).unwrap_or_default();
    // A list says this once for all.
    object["apiVersion"] = resource.api_version.into();
    object["kind"] = resource.kind.into();
    let with = |scale: Option<Document>| {
        let scale = scale.map(|scale| Scaled::scaled(object.clone(), &scale.content));
        scale.map(Document::of).transpose()
    };
    Ok(with(scales.object).and_then(|object| {
        Ok(Concerned {
            object,
            old: with(scales.old)?,
        })
    }))
}

/// What a request is about.
#[derive(Default)]
struct Concerned {
    /// `None` on delete.
    object: Option<Document>,
    /// `None` on create.
    old: Option<Document>,
}

impl Concerned {
    fn of(request: &Request) -> Result<Self, Denial> {
        Ok(Self {
            object: Document::read(request.object.as_deref())?,
            old: Document::read(request.old_object.as_deref())?,
        })
    }
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
        Self::of(serde_json::from_str(json).map_err(|error| illegible(&error))?).map(Some)
    }

    fn of(mut content: Value) -> Result<Self, Denial> {
        let metadata = content.get_mut("metadata").and_then(Value::as_object_mut);
        let mut labels = Value::Null;
        if let Some(metadata) = metadata {
            // Who wrote which field is nothing to be counted, and not there when the object is.
            metadata.remove("managedFields");
            labels = metadata.get("labels").cloned().unwrap_or_default();
        }
        let labels: Option<_> = serde_json::from_value(labels).map_err(|error| illegible(&error))?;
        Ok(Self {
            labels: labels.unwrap_or_default(),
            content,
        })
    }
}

fn illegible(error: &serde_json::Error) -> Denial {
    Denial::new("", "Unreadable", format!("failed to read the object: {error}")).with_code(400)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    fn source(api_version: &str, kind: &str) -> QuotaSource {
        serde_json::from_value(json!({"apiVersion": api_version, "kind": kind, "op": "count"})).unwrap()
    }

    fn kind(group: &str, kind: &str) -> GroupVersionKind {
        GroupVersionKind {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// How many lookups lead to a quota.
    fn hits(namespace: &str, sources: &[QuotaSource], asked_for: &GroupVersionKind) -> usize {
        let places: HashSet<Place> = places("web", sources).into_iter().collect();
        let asked = asked(namespace, asked_for);
        asked.iter().filter(|place| places.contains(place)).count()
    }

    #[test]
    fn a_quota_is_found_for_what_its_sources_name_in_its_namespace_alone() {
        let deployments = kind("apps", "Deployment");
        for (api_version, of) in [
            ("apps/v1", "Deployment"),
            ("apps", "*"),
            ("*", "Deployment"),
            ("*", "*"),
        ] {
            assert_eq!(
                hits("web", &[source(api_version, of)], &deployments),
                1,
                "{api_version} {of}"
            );
            assert_eq!(hits("other", &[source(api_version, of)], &deployments), 0);
        }
        assert_eq!(
            hits("web", &[source("v1", "Pod"), source("batch", "*")], &deployments),
            0
        );
        assert_eq!(
            hits("web", &[source("", "Pod"), source("v1", "Pod")], &kind("", "Pod")),
            1
        );
        assert_eq!(places("web", &[source("a b", "Pod")]), []);
    }

    /// The work that a request costs is four lookups and the quotas found there.
    #[test]
    fn ten_thousand_quotas_elsewhere_cost_nothing() {
        let mut lying: BTreeMap<Place, usize> = BTreeMap::new();
        for number in 0..10_000 {
            let all = [source("v1", "Pod"), source("*", "*"), source("apps/v1", "Deployment")];
            for place in places(&format!("n{number}"), &all) {
                *lying.entry(place).or_default() += 1;
            }
        }
        let looked_at = |namespace: &str| -> usize {
            let asked = asked(namespace, &kind("", "Pod"));
            asked.iter().filter_map(|place| lying.get(place)).sum()
        };
        assert_eq!((looked_at("web"), looked_at("n7")), (0, 2));
    }

    #[test]
    fn a_scale_is_of_the_kind_that_is_scaled() {
        let mut request: Request = serde_json::from_value(json!({
            "uid": "u", "kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "subResource": "scale",
            "operation": "UPDATE"}))
        .unwrap();
        assert_eq!(
            scaled(&request).map(|scaled| kind_of(&scaled)),
            Some(kind("apps", "Deployment"))
        );
        request.sub_resource = Some("status".to_owned());
        assert_eq!(scaled(&request), None);
    }
}
