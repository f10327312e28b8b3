//! Counts of decisions, by rule and outcome, and how long they took; counts of conversions.

use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use runtime::metrics::Registry;

use crate::rule::Rule;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    Allowed,
    Denied,
    /// Let pass, although something refuses it that its tenant only tries out.
    Audited,
    /// Something that the decision needs could not be read.
    Failed,
    /// Asked before the watches were complete.
    NotReady,
}

/// What became of a conversion review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Conversion {
    Converted,
    /// Something in the objects stood against it.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConversion {
    outcome: Conversion,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    rule: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    rule: &'static str,
}

/// The metrics of the admission server.
#[derive(Clone)]
pub struct Metrics {
    decisions: Family<Decision, Counter>,
    duration: Family<OfRule, Histogram>,
    conversions: Family<OfConversion, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = || Histogram::new([0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0]);
        Self {
            decisions: Family::default(),
            duration: Family::new_with_constructor(buckets),
            conversions: Family::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &Registry) {
        registry.register(
            "cotenant_webhooks_decisions",
            "Admission decisions",
            self.decisions.clone(),
        );
        registry.register(
            "cotenant_webhooks_decision_duration_seconds",
            "From the parsed request to the decision",
            self.duration.clone(),
        );
        registry.register(
            "cotenant_webhooks_conversions",
            "Conversion reviews of Tenants",
            self.conversions.clone(),
        );
    }

    pub(crate) fn count_conversion(&self, outcome: Conversion) {
        self.conversions.get_or_create(&OfConversion { outcome }).inc();
    }

    pub(crate) fn count(&self, rule: &Rule, outcome: Outcome, started: Instant) {
        self.decisions
            .get_or_create(&Decision {
                rule: rule.name,
                outcome,
            })
            .inc();
        self.duration
            .get_or_create(&OfRule { rule: rule.name })
            .observe(started.elapsed().as_secs_f64());
    }
}
