//! When certificates end, for alerts: one gauge for each certificate of each control plane, authorities included.
//!
//! Names of objects are in its labels, because an alert that does not say which certificate helps nobody. A series ends
//! with its Secret.

use api::kamaji::names::{COMPONENT_LABEL, MANAGED_BY_LABEL, NAME_LABEL, PROJECT_LABEL};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use runtime::metrics::Registry;

use crate::Watches;

/// Registers the gauge.
pub(crate) fn register(registry: &Registry, watches: &Watches) {
    registry.register_collector(Box::new(Certificates(watches.clone())));
}

#[derive(Debug)]
struct Certificates(Watches);

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = Timestamp::now();
        let mut family = encoder.encode_descriptor(
            "cotenant_operator_certificate_expiry_days",
            "Days until a certificate of a control plane ends; negative once it has",
            None,
            MetricType::Gauge,
        )?;
        for secret in self.0.secrets.store().state() {
            let labels = secret.labels();
            let Some(control_plane) = labels.get(NAME_LABEL).filter(|_| labels.contains_key(PROJECT_LABEL)) else {
                continue;
            };
            let kind = labels.get(MANAGED_BY_LABEL).or_else(|| labels.get(COMPONENT_LABEL));
            for (key, days) in remaining(&secret, now) {
                let labels = [
                    ("tcp_namespace", secret.namespace().unwrap_or_default()),
                    ("tcp_name", control_plane.clone()),
                    ("certificate", kind.cloned().unwrap_or_default()),
                    ("key", key.to_owned()),
                ];
                ConstGauge::new(days).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Days until each certificate of a Secret ends, by the key that holds it. Copies and chains are left out: of a text with
/// several certificates the first is meant.
fn remaining(secret: &Secret, now: Timestamp) -> Vec<(&str, f64)> {
    let mut found: Vec<(&str, f64)> = Vec::new();
    let is_authority = secret.data.as_ref().is_some_and(|data| data.contains_key("ca.key"));
    for (key, value) in secret.data.iter().flatten() {
        let Ok(text) = std::str::from_utf8(&value.0) else {
            continue;
        };
        let copied = is_authority && key.starts_with("tls.");
        let bridge = key.ends_with("-cross.crt") || key.ends_with("-signing.crt");
        if copied || bridge {
            continue;
        }
        let kubeconfig = || Some(pki::Kubeconfig::parse(text).ok()?.client.cert_pem);
        let pem = if text.contains("BEGIN CERTIFICATE") {
            Some(text.to_owned())
        } else if text.contains("client-certificate-data") {
            kubeconfig()
        } else {
            None
        };
        if let Some(info) = pem.and_then(|pem| pki::inspect(&pem).ok()) {
            found.push((key, info.not_after.duration_since(now).as_secs_f64() / 86_400.0));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use k8s_openapi::ByteString;
    use pki::{Authority, Kubeconfig, LeafRequest};

    use super::*;

    #[test]
    fn days_are_counted_for_certificates_and_kubeconfigs_and_not_for_keys_and_copies() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let authority = Authority::new("kubernetes", &[], SignedDuration::from_hours(24 * 100), now).unwrap();
        let mut request = LeafRequest::client("ops", &[], now);
        request.not_after = now + SignedDuration::from_hours(36);
        let client = authority.issue(&request).unwrap();
        let secret = |data: &[(&str, &str)]| Secret {
            data: Some(
                data.iter()
                    .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        };
        let kubeconfig = Kubeconfig {
            cluster: "demo".to_owned(),
            server: "https://demo:6443".to_owned(),
            ca_pem: authority.cert_pem().to_owned(),
            user: "ops".to_owned(),
            client: client.clone(),
            namespace: None,
            tls_server_name: None,
        };
        let (cert, key) = (authority.cert_pem(), authority.key_pem());
        let of_authority = secret(&[("ca.crt", cert), ("ca.key", key), ("tls.crt", cert), ("tls.key", key)]);
        assert_eq!(remaining(&of_authority, now), [("ca.crt", 100.0)]);
        let of_leaf = secret(&[("tls.crt", &client.cert_pem), ("tls.key", &client.key_pem)]);
        assert_eq!(remaining(&of_leaf, now), [("tls.crt", 1.5)]);
        let of_user = secret(&[("value", &kubeconfig.to_yaml()), ("broken", "BEGIN CERTIFICATE")]);
        assert_eq!(
            remaining(&of_user, now + SignedDuration::from_hours(48)),
            [("value", -0.5)]
        );
    }
}
