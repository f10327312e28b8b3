//! What dashboards of Kamaji read. Gauges are computed from the watches' stores when somebody asks, so a series ends with
//! its object; the times of steps are counted.

use std::collections::BTreeMap;
use std::time::Instant;

use api::kamaji::names::{
    COMPONENT_LABEL, DATASTORE_REACHABLE_CONDITION, DATASTORE_VALIDATION_CONDITION, LIFECYCLE_KUBECONFIG,
    LIFECYCLE_LABEL, NAME_LABEL,
};
use api::kamaji::v1alpha1::{Phase, TenantControlPlane, TenantControlPlaneStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use runtime::metrics::Registry;

use crate::Watches;

#[derive(Debug)]
struct ControlPlanes {
    watches: Watches,
    renewal_window: SignedDuration,
}

/// How long each kind of write to a control plane takes. Those that are not needed are not made, and not counted.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Family<Step, Histogram, fn() -> Histogram>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    handler: String,
}

impl Steps {
    pub(crate) fn register(registry: &Registry) -> Self {
        let family: Family<Step, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
            ])
        });
        let help = "How long a step of a control plane's reconciliation takes";
        registry.register("kamaji_handler_time_seconds", help, family.clone());
        Self(family)
    }

    /// Does the work of a step, and counts how long it took.
    pub(crate) async fn time<T>(&self, handler: &str, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = work.await;
        let step = Step {
            handler: handler.to_owned(),
        };
        self.0.get_or_create(&step).observe(begun.elapsed().as_secs_f64());
        done
    }
}

/// The step that makes an object, which its label of that meaning names.
pub(crate) fn step(object: &impl ResourceExt) -> &str {
    object
        .labels()
        .get(COMPONENT_LABEL)
        .map(String::as_str)
        .unwrap_or_default()
}

/// What is running. There is one series.
fn build_info(encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let known = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", option_env!("COTENANT_COMMIT").unwrap_or("unknown")),
        ("dirty", option_env!("COTENANT_DIRTY").unwrap_or("unknown")),
        ("repo", "https://cotenant.dev"),
        ("build_time", option_env!("COTENANT_BUILD_TIME").unwrap_or("unknown")),
    ];
    let labels = known.map(|(name, value)| (name, value.to_owned())).to_vec();
    family(encoder, "kamaji_build_info", "The program that runs", vec![(labels, 1)])
}

/// Registers the gauges.
pub(crate) fn register(registry: &Registry, watches: &Watches, renewal_window: SignedDuration) {
    registry.register_collector(Box::new(ControlPlanes {
        watches: watches.clone(),
        renewal_window,
    }));
}

type Labels = Vec<(&'static str, String)>;

impl Collector for ControlPlanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let control_planes = self.watches.control_planes.store().state();
        let (mut info, mut phases) = (Vec::new(), Vec::new());
        let mut current: BTreeMap<bool, i64> = [(true, 0), (false, 0)].into();
        for tcp in &control_planes {
            info.push((info_labels(tcp), 1));
            let phase = tcp.status.as_ref().and_then(TenantControlPlaneStatus::phase);
            let ready = phase == Some(Phase::Ready);
            *current.entry(ready).or_default() += 1;
            let mut labels = names(tcp);
            labels.push(("status", phase.map(Phase::as_str).unwrap_or_default().to_owned()));
            labels.push(("ready", ready.to_string()));
            phases.push((labels, 1));
        }
        let current = current
            .into_iter()
            .map(|(ready, count)| (vec![("ready", ready.to_string())], count))
            .collect();
        family(
            &mut encoder,
            "kamaji_tenant_control_plane_info",
            "What is known of a control plane",
            info,
        )?;
        family(
            &mut encoder,
            "kamaji_tenant_control_plane_status",
            "The phase of a control plane",
            phases,
        )?;
        family(
            &mut encoder,
            "kamaji_tenant_control_planes_current",
            "How many control planes there are",
            current,
        )?;
        build_info(&mut encoder)?;
        self.datastores(&mut encoder)?;
        self.certificates(&mut encoder)
    }
}

impl ControlPlanes {
    fn datastores(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (mut info, mut verdicts, mut current) = (Vec::new(), Vec::new(), Vec::new());
        let mut reachable = Vec::new();
        for datastore in self.watches.datastores.store().state() {
            let name = ("datastore_name", datastore.name_any());
            let driver = ("driver", datastore.spec.driver.as_str().to_owned());
            let status = datastore.status.as_ref();
            let ready = ("ready", status.is_some_and(|status| status.ready).to_string());
            let valid = status.and_then(|status| {
                status
                    .conditions
                    .iter()
                    .find(|one| one.type_ == DATASTORE_VALIDATION_CONDITION)
            });
            let valid = (
                "status",
                valid
                    .map_or("Unknown", |condition| condition.status.as_str())
                    .to_owned(),
            );
            let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
            let answers = conditions
                .iter()
                .find(|one| one.type_ == DATASTORE_REACHABLE_CONDITION && one.status != "Unknown");
            reachable.extend(answers.map(|one| (vec![name.clone()], i64::from(one.status == "True"))));
            info.push((vec![name.clone(), driver.clone()], 1));
            verdicts.push((vec![name.clone(), valid, ready.clone()], 1));
            current.push((vec![name, ready, driver], 1));
        }
        family(encoder, "kamaji_datastore_info", "What is known of a datastore", info)?;
        family(
            encoder,
            "kamaji_datastore_status",
            "Whether a datastore is valid",
            verdicts,
        )?;
        family(
            encoder,
            "cotenant_operator_datastore_reachable",
            "Whether a datastore answers to the operator",
            reachable,
        )?;
        family(
            encoder,
            "kamaji_datastores_current",
            "How many datastores there are",
            current,
        )
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = Timestamp::now();
        let mut counts: BTreeMap<Labels, i64> = BTreeMap::new();
        for secret in self.watches.secrets.store().state() {
            let labels = secret.labels();
            let (Some(strategy), Some(name)) = (labels.get(LIFECYCLE_LABEL), labels.get(NAME_LABEL)) else {
                continue;
            };
            let state = match certificate(&secret, strategy).and_then(|pem| pki::inspect(&pem).ok()) {
                None => "invalid",
                Some(info) if info.not_after <= now => "invalid",
                Some(info) if info.needs_renewal(now, self.renewal_window) => "expiring",
                Some(_) => "valid",
            };
            let labels = vec![
                ("tcp_namespace", secret.namespace().unwrap_or_default()),
                ("tcp_name", name.clone()),
                ("status", state.to_owned()),
                ("strategy", strategy.clone()),
            ];
            *counts.entry(labels).or_default() += 1;
        }
        let help = "How many Secrets hold a certificate, by its state";
        family(
            encoder,
            "kamaji_certificates_current",
            help,
            counts.into_iter().collect(),
        )
    }
}

/// The first certificate of a Secret, as PEM.
fn certificate(secret: &Secret, strategy: &str) -> Option<String> {
    let values = secret
        .data
        .iter()
        .flatten()
        .filter_map(|(_, value)| std::str::from_utf8(&value.0).ok());
    if strategy == LIFECYCLE_KUBECONFIG {
        values
            .into_iter()
            .find_map(|yaml| Some(pki::Kubeconfig::parse(yaml).ok()?.client.cert_pem))
    } else {
        values
            .into_iter()
            .find(|text| text.contains("BEGIN CERTIFICATE"))
            .map(str::to_owned)
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: Vec<(Labels, i64)>,
) -> Result<(), std::fmt::Error> {
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in series {
        ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn names(tcp: &TenantControlPlane) -> Labels {
    vec![
        ("tcp_namespace", tcp.namespace().unwrap_or_default()),
        ("tcp_name", tcp.name_any()),
    ]
}

fn info_labels(tcp: &TenantControlPlane) -> Labels {
    let status = tcp.status.as_ref();
    let driver = status.and_then(|status| status.storage.as_ref()?.driver.clone());
    let address = status.and_then(|status| status.control_plane_endpoint.as_ref());
    let exposure = if tcp.spec.control_plane.gateway.is_some() {
        "gateway"
    } else {
        "service"
    };
    let mut labels = names(tcp);
    labels.push(("kubernetes_version", tcp.spec.kubernetes.version.clone()));
    labels.push(("datastore_driver", driver.unwrap_or_else(|| "unknown".to_owned())));
    labels.push((
        "address",
        address.map(|address| format!("https://{address}")).unwrap_or_default(),
    ));
    labels.push(("exposure_strategy", exposure.to_owned()));
    labels
}
