//! What Prometheus reads about tenants: the peer's names and labels, computed from the stores at each scrape.
//!
//! Nothing is counted up or down while reconciling, so series end with their objects and cost no memory in between.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use runtime::metrics::Registry;
use tenancy::quantity::Quantity;
use tenancy::quotas;

use crate::observe::Membership;
use crate::owned::{Kind, Owned};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    kind: &'static str,
}

/// Requests that change something, by verb and kind. Reads do not happen outside watches.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    requests: Family<WriteLabels, Counter>,
}

impl Writes {
    pub fn register(registry: &Registry) -> Self {
        let writes = Self::default();
        registry.register(
            "cotenant_operator_tenant_writes",
            "Requests by which the tenant controllers changed something",
            writes.requests.clone(),
        );
        writes
    }

    pub fn count(&self, verb: &'static str, kind: &'static str) {
        self.requests.get_or_create(&WriteLabels { verb, kind }).inc();
    }
}

type Labels = Vec<(&'static str, String)>;

/// Reads the stores when asked.
pub struct Tenants {
    pub tenants: Store<Tenant>,
    pub tenant_owners: Store<TenantOwner>,
    pub configurations: Store<CapsuleConfiguration>,
    pub membership: Membership,
    pub owned: Owned,
}

impl Debug for Tenants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tenants").finish_non_exhaustive()
    }
}

impl Collector for Tenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tenants = self.tenants.state();
        let mut series: BTreeMap<&'static str, Vec<(Labels, f64)>> = BTreeMap::new();
        for tenant in &tenants {
            self.describe(tenant, &mut |name, labels, value| {
                series.entry(name).or_default().push((labels, value));
            });
        }
        let mut named = |metric: &'static str, name: String, condition: &Condition| {
            let labels = vec![("name", name), ("condition", condition.type_.clone())];
            series.entry(metric).or_default().push((labels, truth(condition)));
        };
        for configuration in self.configurations.state() {
            for condition in configuration.status.iter().flat_map(|status| &status.conditions) {
                named("capsule_config_condition", configuration.name_any(), condition);
            }
        }
        for owner in self.tenant_owners.state() {
            for condition in owner.status.iter().flat_map(|status| &status.conditions) {
                named("capsule_tenantowner_condition", owner.name_any(), condition);
            }
        }
        for (name, values) in series {
            let mut metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
            for (labels, value) in values {
                let gauge = ConstGauge::new(value);
                gauge.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Tenants {
    fn describe(&self, tenant: &Tenant, tell: &mut impl FnMut(&'static str, Labels, f64)) {
        let name = tenant.name_any();
        let with = |more: &[(&'static str, &str)]| -> Labels {
            let mut labels = vec![("tenant", name.clone())];
            labels.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
            labels
        };
        let Some(status) = &tenant.status else { return };
        for condition in &status.conditions {
            tell(
                "capsule_tenant_condition",
                with(&[("condition", &condition.type_)]),
                truth(condition),
            );
        }
        tell("capsule_tenant_namespace_count", with(&[]), count(status.spaces.len()));
        for space in &status.spaces {
            let namespace = ("target_namespace", space.name.as_str());
            tell("capsule_tenant_namespace_relationship", with(&[namespace]), 1.0);
            for condition in &space.conditions {
                let labels = with(&[namespace, ("condition", &condition.type_)]);
                tell("capsule_tenant_namespace_condition", labels, truth(condition));
            }
        }
        let resource = |resource: &str, index: &str| with(&[("resource", resource), ("resourcequotaindex", index)]);
        let quota = tenant.spec.namespace_options.as_ref().and_then(|options| options.quota);
        if let Some(quota) = quota {
            tell(
                "capsule_tenant_resource_limit",
                resource("namespaces", ""),
                f64::from(quota),
            );
            tell(
                "capsule_tenant_resource_usage",
                resource("namespaces", ""),
                count(status.spaces.len()),
            );
        }
        let used = self.used(tenant);
        for (index, (_, item)) in quotas::budgets(tenant).iter().enumerate() {
            let quota = format!("capsule-{name}-{index}");
            let index = index.to_string();
            for (key, limit) in item.hard.iter().flatten() {
                let limit = limit.0.parse::<Quantity>().map_or(f64::NAN, Quantity::to_f64);
                let usage = used.get(&(quota.clone(), key.clone())).copied().unwrap_or_default();
                tell("capsule_tenant_resource_limit", resource(key, &index), limit);
                tell("capsule_tenant_resource_usage", resource(key, &index), usage);
            }
        }
    }

    /// Sums over the tenant's namespaces, by quota and resource.
    fn used(&self, tenant: &Tenant) -> BTreeMap<(String, String), f64> {
        let mut sums = BTreeMap::new();
        for namespace in self.membership.of_tenant(&tenant.uid().unwrap_or_default()) {
            for record in self.owned.in_namespace(&namespace) {
                if record.kind != Kind::ResourceQuota {
                    continue;
                }
                for (resource, amount) in record.used.iter() {
                    let sum = sums.entry((record.name.to_string(), resource.to_owned()));
                    *sum.or_insert(0.0) += amount.to_f64();
                }
            }
        }
        sums
    }
}

fn truth(condition: &Condition) -> f64 {
    if condition.status == "True" { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a number of namespaces")]
fn count(number: usize) -> f64 {
    number as f64
}

fn help(name: &str) -> &'static str {
    match name {
        "capsule_tenant_condition" => "Conditions of each tenant, 1 when true",
        "capsule_tenant_namespace_condition" => "Conditions of each namespace of a tenant, 1 when true",
        "capsule_tenant_namespace_relationship" => "Namespaces by tenant",
        "capsule_tenant_namespace_count" => "How many namespaces a tenant has",
        "capsule_tenant_resource_limit" => "What the quotas of a tenant allow",
        "capsule_tenant_resource_usage" => "What the namespaces of a tenant use of its quotas",
        "capsule_tenantowner_condition" => "Conditions of each TenantOwner, 1 when true",
        _ => "Conditions of each configuration, 1 when true",
    }
}
