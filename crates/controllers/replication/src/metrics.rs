//! Conditions of replications, computed from memory at each scrape.

use std::fmt;

use api::capsule::v1beta2::{GlobalTenantResource, TenantResource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads the watches' stores.
pub(crate) struct Replications {
    pub(crate) of_tenants: Store<TenantResource>,
    pub(crate) global: Store<GlobalTenantResource>,
}

impl fmt::Debug for Replications {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replications").finish_non_exhaustive()
    }
}

fn truth(condition: &Condition) -> f64 {
    if condition.status == "True" { 1.0 } else { 0.0 }
}

impl Collector for Replications {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "capsule_resource_condition",
            "Conditions of TenantResources, 1 if true.",
            None,
            MetricType::Gauge,
        )?;
        for object in self.of_tenants.state() {
            for condition in object.status.iter().flat_map(|status| &status.conditions) {
                let labels = [
                    ("name", object.name_any()),
                    ("target_namespace", object.namespace().unwrap_or_default()),
                    ("condition", condition.type_.clone()),
                ];
                ConstGauge::new(truth(condition)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "capsule_global_resource_condition",
            "Conditions of GlobalTenantResources, 1 if true.",
            None,
            MetricType::Gauge,
        )?;
        for object in self.global.state() {
            for condition in object.status.iter().flat_map(|status| &status.conditions) {
                let labels = [("name", object.name_any()), ("condition", condition.type_.clone())];
                ConstGauge::new(truth(condition)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
