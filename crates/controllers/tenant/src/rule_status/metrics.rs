//! What Prometheus reads about RuleStatuses, from the store at each scrape.

use std::fmt::{self, Debug};

use api::capsule::v1beta2::RuleStatus;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads the store when asked.
pub(super) struct Conditions {
    pub(super) objects: Store<RuleStatus>,
}

impl Debug for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conditions").finish_non_exhaustive()
    }
}

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let objects = self.objects.state();
        if objects.is_empty() {
            return Ok(());
        }
        let help = "Conditions of each RuleStatus, 1 when true";
        let mut metric = encoder.encode_descriptor("capsule_rulestatus_condition", help, None, MetricType::Gauge)?;
        for object in &objects {
            for condition in object.status.iter().flat_map(|status| &status.conditions) {
                let labels = vec![
                    ("name", object.name_any()),
                    ("target_namespace", object.namespace().unwrap_or_default()),
                    ("condition", condition.type_.clone()),
                ];
                let gauge = ConstGauge::new(if condition.status == "True" { 1.0 } else { 0.0 });
                gauge.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
