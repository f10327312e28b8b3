//! What Prometheus reads about pools and claims: the peer's names and labels, computed from the stores at each scrape.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use api::capsule::v1beta2::{ResourcePool, ResourcePoolClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tenancy::quantity::Quantity;

use super::observe::Stores;

type Labels = Vec<(&'static str, String)>;

/// Every series, by name.
type Series = BTreeMap<&'static str, Vec<(Labels, f64)>>;

/// Reads the stores when asked.
pub(super) struct Pools {
    pools: Store<ResourcePool>,
    claims: Store<ResourcePoolClaim>,
}

impl Pools {
    pub(super) fn new(stores: &Stores) -> Self {
        Self {
            pools: stores.pools.store(),
            claims: stores.claims.store(),
        }
    }
}

impl Debug for Pools {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut series = Series::new();
        for pool in self.pools.state() {
            of_pool(&pool, &mut series);
        }
        for claim in self.claims.state() {
            of_claim(&claim, &mut series);
        }
        for (name, values) in series {
            let mut metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
            for (labels, value) in values {
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn of_pool(pool: &ResourcePool, series: &mut Series) {
    let Some(status) = &pool.status else { return };
    let name = pool.name_any();
    let mut tell = |metric, label: (&'static str, &str), value| {
        let labels = vec![("pool", name.clone()), (label.0, label.1.to_owned())];
        series.entry(metric).or_default().push((labels, value));
    };
    for condition in &status.conditions {
        tell(
            "capsule_pool_condition",
            ("condition", &condition.type_),
            truth(condition),
        );
    }
    let allocation = status.allocation.clone().unwrap_or_default();
    for (resource, limit) in &allocation.hard {
        let of = |amounts: &BTreeMap<String, Wire>| amounts.get(resource).map_or(0.0, number);
        let (limit, used) = (number(limit), of(&allocation.used));
        let (available, label) = (of(&allocation.available), ("resource", resource.as_str()));
        tell("capsule_pool_resource", label, 1.0);
        tell("capsule_pool_limit", label, limit);
        tell("capsule_pool_usage", label, used);
        tell("capsule_pool_usage_percentage", label, percentage(used, limit));
        tell("capsule_pool_available", label, available);
        let exhaustion = status.exhaustions.get(resource);
        if let Some(requesting) = exhaustion.and_then(|exhaustion| exhaustion.requesting.as_ref()) {
            let requesting = number(requesting);
            tell("capsule_pool_exhaustion", label, requesting);
            tell(
                "capsule_pool_exhaustion_percentage",
                label,
                percentage(requesting, limit),
            );
        }
    }
    for (namespace, claims) in &status.claims {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for (resource, amount) in claims.iter().flat_map(|claim| &claim.claims) {
            *sums.entry(resource).or_default() += number(amount);
        }
        for (resource, sum) in sums {
            let limit = allocation.hard.get(resource).map_or(0.0, number);
            let labels = || {
                let (namespace, resource) = (namespace.clone(), resource.to_owned());
                vec![
                    ("pool", name.clone()),
                    ("target_namespace", namespace),
                    ("resource", resource),
                ]
            };
            let mut tell = |metric, value| series.entry(metric).or_default().push((labels(), value));
            tell("capsule_pool_namespace_usage", sum);
            tell("capsule_pool_namespace_usage_percentage", percentage(sum, limit));
        }
    }
}

fn of_claim(claim: &ResourcePoolClaim, series: &mut Series) {
    let mut tell = |metric, label: Option<(&'static str, &str)>, value| {
        let mut labels = vec![
            ("name", claim.name_any()),
            ("target_namespace", claim.namespace().unwrap_or_default()),
        ];
        labels.extend(label.map(|(key, value)| (key, value.to_owned())));
        series.entry(metric).or_default().push((labels, value));
    };
    for (resource, amount) in &claim.spec.claim {
        tell(
            "capsule_claim_resource",
            Some(("resource", resource.as_str())),
            number(amount),
        );
    }
    let Some(status) = &claim.status else { return };
    if let Some(pool) = &status.pool {
        tell("capsule_claim_pool", Some(("pool", pool.name.as_str())), 1.0);
    }
    for condition in &status.conditions {
        let label = Some(("condition", condition.type_.as_str()));
        tell("capsule_claim_condition", label, truth(condition));
    }
}

fn truth(condition: &Condition) -> f64 {
    if condition.status == "True" { 1.0 } else { 0.0 }
}

fn number(amount: &Wire) -> f64 {
    Quantity::parse(amount).map_or(f64::NAN, Quantity::to_f64)
}

/// Of nothing, nothing is used.
fn percentage(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

fn help(name: &str) -> &'static str {
    match name {
        "capsule_pool_condition" => "Conditions of each pool, 1 when true",
        "capsule_pool_resource" => "Resources that a pool has a budget of",
        "capsule_pool_limit" => "The budget of a pool",
        "capsule_pool_usage" => "What is claimed of a pool",
        "capsule_pool_usage_percentage" => "What is claimed of a pool, of its budget",
        "capsule_pool_available" => "What is left of a pool",
        "capsule_pool_exhaustion" => "What claims wait for",
        "capsule_pool_exhaustion_percentage" => "What claims wait for, of the budget of the pool",
        "capsule_pool_namespace_usage" => "What a namespace has of a pool",
        "capsule_pool_namespace_usage_percentage" => "What a namespace has of a pool, of its budget",
        "capsule_claim_pool" => "The pool that serves a claim",
        "capsule_claim_resource" => "What a claim asks for",
        _ => "Conditions of each claim, 1 when true",
    }
}
