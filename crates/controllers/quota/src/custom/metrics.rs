//! What Prometheus reads about quotas: the peer's names and labels, computed from the stores at each scrape.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuotaClaim, QuotaUsage};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tenancy::quantity::Quantity;

use super::Stores;

type Labels = Vec<(&'static str, String)>;

/// Every series, by name.
type Series = BTreeMap<&'static str, Vec<(Labels, f64)>>;

/// Reads the stores when asked.
pub(super) struct Quotas {
    namespaced: Store<CustomQuota>,
    global: Store<GlobalCustomQuota>,
}

impl Quotas {
    pub(super) fn new(stores: &Stores) -> Self {
        Self {
            namespaced: stores.namespaced.store(),
            global: stores.global.store(),
        }
    }
}

impl Debug for Quotas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Quotas").finish_non_exhaustive()
    }
}

impl Collector for Quotas {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut series = Series::new();
        for quota in self.namespaced.state() {
            let Some(status) = &quota.status else { continue };
            let told = Told {
                names: &NAMESPACED,
                labels: vec![
                    ("custom_quota", quota.name_any()),
                    ("target_namespace", quota.namespace().unwrap_or_default()),
                ],
                limit: &quota.spec.limit,
                usage: &status.usage,
                conditions: &status.conditions,
                claims: Some(&*status.claims).filter(|_| quota.spec.options.emit_metric_per_claim_usage),
            };
            told.tell(&mut series);
        }
        for quota in self.global.state() {
            let Some(status) = &quota.status else { continue };
            let told = Told {
                names: &GLOBAL,
                labels: vec![("custom_quota", quota.name_any())],
                limit: &quota.spec.limit,
                usage: &status.usage,
                conditions: &status.conditions,
                claims: Some(&*status.claims).filter(|_| quota.spec.options.emit_metric_per_claim_usage),
            };
            told.tell(&mut series);
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

/// The names of one kind's series.
struct Names {
    condition: &'static str,
    usage: &'static str,
    usage_percentage: &'static str,
    limit: &'static str,
    available: &'static str,
    item_usage: &'static str,
}

static NAMESPACED: Names = Names {
    condition: "capsule_custom_quota_condition",
    usage: "capsule_custom_quota_resource_usage",
    usage_percentage: "capsule_custom_quota_resource_usage_percentage",
    limit: "capsule_custom_quota_resource_limit",
    available: "capsule_custom_quota_resource_available",
    item_usage: "capsule_custom_quota_resource_item_usage",
};

static GLOBAL: Names = Names {
    condition: "capsule_global_custom_quota_condition",
    usage: "capsule_global_custom_quota_resource_usage",
    usage_percentage: "capsule_global_custom_quota_resource_usage_percentage",
    limit: "capsule_global_custom_quota_resource_limit",
    available: "capsule_global_custom_quota_resource_available",
    item_usage: "capsule_global_custom_quota_resource_item_usage",
};

/// What is told about one quota.
struct Told<'a> {
    names: &'static Names,
    labels: Labels,
    limit: &'a Wire,
    usage: &'a QuotaUsage,
    conditions: &'a [Condition],
    /// If each object is told about.
    claims: Option<&'a [QuotaClaim]>,
}

impl Told<'_> {
    fn tell(&self, series: &mut Series) {
        let mut put = |name, more: Labels, value| {
            let mut labels = self.labels.clone();
            for (key, value) in more {
                // The namespace of an object is told once.
                labels.retain(|(known, _)| *known != key);
                labels.push((key, value));
            }
            series.entry(name).or_default().push((labels, value));
        };
        for condition in self.conditions {
            let holds = if condition.status == "True" { 1.0 } else { 0.0 };
            put(
                self.names.condition,
                vec![("condition", condition.type_.clone())],
                holds,
            );
        }
        let of = |amount: Option<&Wire>| amount.map_or(0.0, number);
        let (limit, used) = (number(self.limit), of(self.usage.used.as_ref()));
        put(self.names.limit, Labels::new(), limit);
        put(self.names.usage, Labels::new(), used);
        put(self.names.available, Labels::new(), of(self.usage.available.as_ref()));
        let percentage = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
        put(self.names.usage_percentage, Labels::new(), percentage);
        for claim in self.claims.into_iter().flatten() {
            let labels = vec![
                ("name", claim.name.clone()),
                ("target_namespace", claim.namespace.clone()),
                ("kind", claim.kind.clone()),
                ("group", claim.group.clone()),
            ];
            put(self.names.item_usage, labels, number(&claim.usage));
        }
    }
}

fn number(amount: &Wire) -> f64 {
    Quantity::parse(amount).map_or(f64::NAN, Quantity::to_f64)
}

fn help(name: &str) -> &'static str {
    if name.ends_with("_condition") {
        "Conditions of each quota, 1 when true"
    } else if name.ends_with("_item_usage") {
        "What an object counts"
    } else if name.ends_with("_percentage") {
        "What objects add up to, of the limit"
    } else if name.ends_with("_limit") {
        "What objects may add up to"
    } else if name.ends_with("_available") {
        "What is left"
    } else {
        "What objects add up to"
    }
}
