//! What Prometheus reads about quotas: the peer's names and labels, computed from the store at each scrape.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use api::capsule::v1beta2::GlobalResourceQuota;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
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

/// Reads the store when asked.
pub(super) struct Quotas {
    quotas: Store<GlobalResourceQuota>,
}

impl Quotas {
    pub(super) fn new(stores: &Stores) -> Self {
        Self {
            quotas: stores.quotas.store(),
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
        for quota in self.quotas.state() {
            of_quota(&quota, &mut series);
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

fn of_quota(quota: &GlobalResourceQuota, series: &mut Series) {
    let Some(status) = &quota.status else { return };
    let name = quota.name_any();
    let mut tell = |metric, more: &[(&'static str, &str)], value| {
        let mut labels = vec![("global_resource_quota", name.clone())];
        labels.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        series.entry(metric).or_default().push((labels, value));
    };
    for condition in &status.conditions {
        let holds = if condition.status == "True" { 1.0 } else { 0.0 };
        let label = [("condition", condition.type_.as_str())];
        tell("capsule_global_resource_quota_condition", &label, holds);
    }
    let limit = |resource: &str| status.total.hard.get(resource).map_or(0.0, number);
    for resource in status.total.hard.keys() {
        let of = |amounts: &BTreeMap<String, Wire>| amounts.get(resource).map_or(0.0, number);
        let label = [("resource", resource.as_str())];
        let (limit, used) = (limit(resource), of(&status.total.used));
        tell("capsule_global_resource_quota_limit", &label, limit);
        tell("capsule_global_resource_quota_usage", &label, used);
        tell(
            "capsule_global_resource_quota_available",
            &label,
            of(&status.total.available),
        );
        let percentage = percentage(used, limit);
        tell("capsule_global_resource_quota_usage_percentage", &label, percentage);
    }
    for (namespace, usage) in &status.namespace_usage {
        for (resource, used) in &usage.used {
            let labels = [
                ("target_namespace", namespace.as_str()),
                ("resource", resource.as_str()),
            ];
            let used = number(used);
            tell("capsule_global_resource_quota_namespace_usage", &labels, used);
            let percentage = percentage(used, limit(resource));
            tell(
                "capsule_global_resource_quota_namespace_usage_percentage",
                &labels,
                percentage,
            );
        }
    }
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
        "capsule_global_resource_quota_condition" => "Conditions of each quota, 1 when true",
        "capsule_global_resource_quota_limit" => "What namespaces may use together",
        "capsule_global_resource_quota_usage" => "What namespaces use together",
        "capsule_global_resource_quota_available" => "What is left for namespaces together",
        "capsule_global_resource_quota_usage_percentage" => "What namespaces use together, of what they may",
        "capsule_global_resource_quota_namespace_usage" => "What a namespace uses",
        _ => "What a namespace uses, of what all may",
    }
}
